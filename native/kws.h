/* kws: a scanning network hears one word, wherever it is said.

   The kernel in C11. It needs the C library's memory, string and mathematics functions and nothing
   else. It allocates when a model is opened and never afterwards, and it has no global state: a
   model serves any number of threads, a stream one at a time.

       char error[KWS_ERROR_BYTES];
       kws_model *model = kws_open(file_bytes, size, error);
       void *memory = aligned_alloc(64, kws_stream_bytes(model));
       kws_stream *stream = kws_stream_init(model, memory, NULL);
       size_t frames = kws_step(model, stream, samples, count, &output);

   A frame is `kws_frame_samples` samples of 16 kHz mono audio. Samples come in any number; what is
   short of a frame waits in the stream. Every output depends on the samples alone and not on how
   they are cut: the same bits for any chunks. */

#ifndef KWS_H
#define KWS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define KWS_API __declspec(dllexport)
#else
#define KWS_API __attribute__((visibility("default")))
#endif

#define KWS_ERROR_BYTES 256

typedef struct kws_model kws_model;
typedef struct kws_stream kws_stream;

/* Where a step writes: for F frames, W words, L phones and N streams (1, but of kws_step_many).
   NULL: not wanted. */
typedef struct {
    float *pooled;     /* [F, W] probability of the word, pooled and verified */
    float *frames;     /* [F, W] probability of the single frame */
    float *boundaries; /* [F, W, 2] seconds back to the word's start and end */
    float *phones;     /* [F, L] log probability of each phone; L is 0 without a phone head */
    size_t *invalid;   /* [N] samples of this call that were replaced */
} kws_output;

/* Opens a model file that lies in memory (docs/reference/model-file.md describes it) and checks its
   checksum. The bytes may go away afterwards. NULL for a damaged, hostile or unsupported file:
   `error` then says what is wrong. */
KWS_API kws_model *kws_open(const void *bytes, size_t size, char error[KWS_ERROR_BYTES]);
KWS_API void kws_close(kws_model *model);

KWS_API int kws_words(const kws_model *model);
KWS_API int kws_phones(const kws_model *model);
KWS_API int kws_frame_samples(const kws_model *model);
KWS_API int kws_has_verifier(const kws_model *model);
KWS_API const char *kws_instruction_set(const kws_model *model); /* "avx2" or "baseline" */

/* Bytes of one stream, a multiple of 64. A stream holds no pointers: it is copied with memcpy, and
   may be moved or stored. */
KWS_API size_t kws_stream_bytes(const kws_model *model);

/* A stream before its first sample, after endless silence, in memory aligned to 64 bytes. gate: for
   each word the score from which the verifier is asked (NULL: 0.1 for all); INFINITY: never. */
KWS_API kws_stream *kws_stream_init(const kws_model *model, void *memory, const float *gate);

/* Frames that `count` further samples complete. */
KWS_API size_t kws_ready_frames(const kws_model *model, const kws_stream *stream, size_t count);

/* Takes samples, and writes the outputs of the frames they complete; returns their number. float:
   from -1 to 1; one that is no finite number, or beyond a million, is replaced by 0 and counted. */
KWS_API size_t kws_step(const kws_model *model, kws_stream *stream, const float *samples,
                        size_t count, const kws_output *output);
KWS_API size_t kws_step_int16(const kws_model *model, kws_stream *stream, const int16_t *samples,
                              size_t count, const kws_output *output);

/* kws_step for n streams of one model in one call. `samples` (float, or else `samples16`; the other
   one is NULL) has the counts[0] samples of the first stream, then those of the second, and so on;
   the outputs lie likewise, all frames of the first stream first. frames [n]: of each stream.
   Returns their sum. */
KWS_API size_t kws_step_many(const kws_model *model, kws_stream *const *streams, size_t n,
                             const float *samples, const int16_t *samples16, const size_t *counts,
                             size_t *frames, const kws_output *output);

#ifdef __cplusplus
}
#endif
#endif
