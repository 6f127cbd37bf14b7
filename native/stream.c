/* Streams: samples in, scores out.

   A stream's memory holds, one after the other: its header; samples, the `past_samples` last ones
   that a frame has taken and then those short of a frame; the windows of the scanning network; and
   of models with a verifier, the verifier's state and the recognizer's windows. */

#include <math.h>

#include "internal.h"

#define MOST_SAMPLE 1e6f /* larger ones are no sound */

int kws_words(const kws_model *model) { return model->scan.words; }
int kws_phones(const kws_model *model) { return model->scan.phones; }
int kws_frame_samples(const kws_model *model) { return model->frame_samples; }
int kws_has_verifier(const kws_model *model) { return model->verifier.exists; }
const char *kws_instruction_set(const kws_model *model) { return model->instructions->name; }
size_t kws_stream_bytes(const kws_model *model) { return model->stream_bytes; }

/* The header and the samples. */
size_t kws_header_bytes(const kws_model *model) {
    size_t samples = (size_t)(model->past_samples + model->frame_samples - 1);
    return aligned(sizeof(kws_stream)) + aligned(samples * sizeof(float));
}

static float *stream_samples(kws_stream *stream) {
    return (float *)((char *)stream + aligned(sizeof *stream));
}

kws_stream *kws_stream_init(const kws_model *model, void *memory, const float *gate) {
    memcpy(memory, model->initial, model->recognizer_offset);
    if (model->verifier.exists) {
        kws_set_gates(model, memory, gate);
        kws_clear(&model->recognizer, (char *)memory + model->recognizer_offset);
    }
    return memory;
}

size_t kws_ready_frames(const kws_model *model, const kws_stream *stream, size_t count) {
    return (stream->pending + count) / (size_t)model->frame_samples;
}

/* Float or int16 samples; the one that is not NULL. */
typedef struct {
    const float *floats;
    const int16_t *integers;
} source;

/* The next `count` samples as floats. Returns how many were replaced. */
static size_t take(source *from, size_t count, float *to) {
    size_t invalid = 0;
    if (from->floats) {
        for (size_t i = 0; i < count; i++) {
            float sample = from->floats[i];
            int is_valid = fabsf(sample) <= MOST_SAMPLE; /* false for NaN */
            to[i] = is_valid ? sample : 0;
            invalid += !is_valid;
        }
        from->floats += count;
    } else {
        for (size_t i = 0; i < count; i++) to[i] = (float)from->integers[i] * (1.0f / 32768);
        if (count) from->integers += count;
    }
    return invalid;
}

/* Appends `count` rows of `width` numbers to an output (NULL: not wanted). */
static void put(float **to, const float *from, int count, int width) {
    if (!*to) return;
    memcpy(*to, from, (size_t)(count * width) * sizeof **to);
    *to += count * width;
}

/* One block through the network and the verifier. samples: its first; older ones lie before it. */
static void run_block(const kws_model *model, kws_stream *stream, const float *samples, int frames,
                      kws_output *output) {
    const network *net = &model->scan, *recognizer = &model->recognizer;
    const instructions *use = model->instructions;
    float levels[BLOCK_FRAMES * MAX_STRIDE * MAX_MELS];
    float single[BLOCK_FRAMES * MAX_WORDS], pooled[BLOCK_FRAMES * MAX_WORDS];
    float boundaries[BLOCK_FRAMES * MAX_WORDS * 2], phones[BLOCK_FRAMES * MAX_PHONES_OF_MODEL];
    network_output rows = {single, pooled, boundaries, phones};
    use->log_mel(&net->front, samples, frames * net->stride, levels);
    use->run(net, (char *)stream + model->scan_offset, levels, frames, &rows);
    if (model->verifier.exists) {
        if (model->verifier.has_own_frontend)
            use->log_mel(&recognizer->front, samples, frames * recognizer->stride, levels);
        kws_verify(model, stream, levels, frames, pooled, boundaries);
    }
    put(&output->pooled, pooled, frames, net->words);
    put(&output->frames, single, frames, net->words);
    put(&output->boundaries, boundaries, frames, 2 * net->words);
    put(&output->phones, phones, frames, net->phones);
}

/* Leaves `from` and `output` behind what it has taken and written. */
static size_t step(const kws_model *model, kws_stream *stream, source *from, size_t count,
                   kws_output *output) {
    float *kept = stream_samples(stream);
    size_t size = (size_t)model->frame_samples, past = (size_t)model->past_samples;
    size_t ready = kws_ready_frames(model, stream, count), left = ready, invalid = 0;
    while (left) {
        size_t frames = left < BLOCK_FRAMES ? left : BLOCK_FRAMES, samples = frames * size;
        size_t waiting = stream->pending, fresh = samples - waiting;
        float audio[MAX_WINDOW + BLOCK_FRAMES * MAX_FRAME];
        memcpy(audio, kept, (past + waiting) * sizeof *audio);
        invalid += take(from, fresh, audio + past + waiting);
        run_block(model, stream, audio + past, (int)frames, output);
        memcpy(kept, audio + samples, past * sizeof *audio);
        stream->pending = 0, count -= fresh, left -= frames;
    }
    invalid += take(from, count, kept + past + stream->pending);
    stream->pending += count;
    if (output->invalid) *output->invalid++ = invalid;
    return ready;
}

size_t kws_step(const kws_model *model, kws_stream *stream, const float *samples, size_t count,
                const kws_output *output) {
    return kws_step_many(model, &stream, 1, samples, NULL, &count, &(size_t){0}, output);
}

size_t kws_step_int16(const kws_model *model, kws_stream *stream, const int16_t *samples,
                      size_t count, const kws_output *output) {
    return kws_step_many(model, &stream, 1, NULL, samples, &count, &(size_t){0}, output);
}

size_t kws_step_many(const kws_model *model, kws_stream *const *streams, size_t n,
                     const float *samples, const int16_t *samples16, const size_t *counts,
                     size_t *frames, const kws_output *output) {
    source from = {samples, samples16};
    kws_output rest = *output;
    size_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += frames[i] = step(model, streams[i], &from, counts[i], &rest);
    return sum;
}
