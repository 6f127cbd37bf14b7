/* Streams: samples in, scores out. */

#include <math.h>

#include "internal.h"

#define MOST_SAMPLE 1e6f /* larger ones are no sound */

int kws_words(const kws_model *model) { return model->scan.words; }
int kws_phones(const kws_model *model) { return model->scan.phones; }
int kws_frame_samples(const kws_model *model) { return model->scan.hop * model->scan.stride; }
int kws_has_verifier(const kws_model *model) { return model->verify.exists; }
const char *kws_instruction_set(const kws_model *model) { return model->instruction_set; }
size_t kws_stream_bytes(const kws_model *model) { return model->stream_bytes; }

kws_stream *kws_stream_init(const kws_model *model, void *memory, const float *gate) {
    memcpy(memory, model->initial, model->recognizer_offset);
    if (model->verify.exists) {
        kws_clear(&model->recognizer, (char *)memory + model->recognizer_offset);
        kws_verifier_init(model, (char *)memory + model->verifier_offset, gate);
    }
    return memory;
}

size_t kws_ready_frames(const kws_model *model, const kws_stream *stream, size_t count) {
    return (stream->pending + count) / (size_t)kws_frame_samples(model);
}

/* Of float or int16 samples; the one that is not NULL. */
typedef struct {
    const float *floats;
    const int16_t *integers;
} source;

/* Returns how many samples were replaced. */
static size_t copy(float *to, source from, size_t at, size_t count) {
    size_t invalid = 0;
    if (from.floats) {
        for (size_t i = 0; i < count; i++) {
            float sample = from.floats[at + i];
            int is_valid = fabsf(sample) <= MOST_SAMPLE; /* false for NaN */
            to[i] = is_valid ? sample : 0;
            invalid += !is_valid;
        }
    } else {
        for (size_t i = 0; i < count; i++) to[i] = (float)from.integers[at + i] * (1.0f / 32768);
    }
    return invalid;
}

static void put(float *to, const float *from, size_t at, size_t count, size_t width) {
    if (to) memcpy(to + at * width, from, count * width * sizeof *to);
}

/* One block through the network and the verifier; `at`: its first frame in the outputs. */
static void run_block(const kws_model *model, char *memory, const float *samples, int frames,
                      const kws_output *output, size_t at) {
    const network *net = &model->scan;
    float single[BLOCK_FRAMES * MAX_WORDS], pooled[BLOCK_FRAMES * MAX_WORDS];
    float boundaries[BLOCK_FRAMES * MAX_WORDS * 2], phones[BLOCK_FRAMES * MAX_PHONES_OF_MODEL];
    network_output rows = {single, pooled, boundaries, phones};
    model->run(net, memory + model->scan_offset, frames, &rows);
    if (model->verify.exists)
        kws_verify(model, memory, samples, frames, pooled, boundaries);
    put(output->pooled, pooled, at, (size_t)frames, (size_t)net->words);
    put(output->frames, single, at, (size_t)frames, (size_t)net->words);
    put(output->boundaries, boundaries, at, (size_t)frames, 2 * (size_t)net->words);
    put(output->phones, phones, at, (size_t)frames, (size_t)net->phones);
}

static size_t step(const kws_model *model, kws_stream *stream, source from, size_t count,
                   const kws_output *output) {
    const network *net = &model->scan;
    char *memory = (char *)stream;
    float *pending = (float *)(memory + pending_offset());
    size_t size = (size_t)kws_frame_samples(model), taken = 0, done = 0, invalid = 0;
    size_t ready = kws_ready_frames(model, stream, count);
    while (done < ready) {
        int frames = ready - done < BLOCK_FRAMES ? (int)(ready - done) : BLOCK_FRAMES;
        size_t waiting = (size_t)stream->pending, fresh = (size_t)frames * size - waiting;
        float *audio = kws_append(&net->audio, memory + model->scan_offset, frames * (int)size);
        memcpy(audio, pending, waiting * sizeof *audio);
        invalid += copy(audio + waiting, from, taken, fresh);
        stream->pending = 0;
        run_block(model, memory, audio, frames, output, done);
        taken += fresh, done += (size_t)frames;
    }
    invalid += copy(pending + stream->pending, from, taken, count - taken);
    stream->pending += count - taken;
    if (output->invalid) *output->invalid = invalid;
    return ready;
}

size_t kws_step(const kws_model *model, kws_stream *stream, const float *samples, size_t count,
                const kws_output *output) {
    return step(model, stream, (source){.floats = samples}, count, output);
}

size_t kws_step_int16(const kws_model *model, kws_stream *stream, const int16_t *samples,
                      size_t count, const kws_output *output) {
    return step(model, stream, (source){.integers = samples}, count, output);
}

size_t kws_step_many(const kws_model *model, kws_stream *const *streams, size_t n,
                     const float *samples, const int16_t *samples16, const size_t *counts,
                     size_t *frames, const kws_output *output) {
    size_t words = (size_t)model->scan.words, phones = (size_t)model->scan.phones, sum = 0;
    source from = {samples, samples16};
    kws_output rest = *output;
    for (size_t i = 0; i < n; i++) {
        size_t done = frames[i] = step(model, streams[i], from, counts[i], &rest);
        if (from.floats) from.floats += counts[i];
        if (from.integers) from.integers += counts[i];
        if (rest.pooled) rest.pooled += done * words;
        if (rest.frames) rest.frames += done * words;
        if (rest.boundaries) rest.boundaries += 2 * done * words;
        if (rest.phones) rest.phones += done * phones;
        if (rest.invalid) rest.invalid++;
        sum += done;
    }
    return sum;
}
