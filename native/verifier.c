/* The verifier: a network that recognizes phones is asked whether a word can be read where the
   scanning network fires.

   One frame after the other, for each word:

       hold      the highest score of the last HOLD_FRAMES frames, and its boundaries: the last
                 phones may be recognized a little later than the word
       gate      only where that score reaches the gate; below it a score stays as it is
       phones    the recognizer reads on to this frame; its last CONTEXT_FRAMES frames count
       fuse      score odds times exp(-scale (ceiling - ratio)), ratio: likelihood.c, clipped

                       |<------------- CONTEXT_FRAMES ------------->|
       ----------------+--------------------------------+-----------+--> frames
       |<- receptive ->|                                | tolerance |
       |   field       |                                            n, the frame that is asked for

   The recognizer keeps its state between questions. It reads the gap since the last one, or starts
   anew a receptive field before the context, whichever is less; both give the same bits, as every
   frame of the context then depends on known audio alone. */

#include <math.h>

#include "internal.h"

#define HOLD_FRAMES 8
#define CONTEXT_FRAMES 100
#define END_TOLERANCE_FRAMES 25
#define HISTORY_SPARE 64 /* frames between two moves of the audio history */

typedef struct {
    int64_t frames;     /* seen */
    int64_t read_until; /* the recognizer's next frame */
    int64_t exact_from; /* its first frame of the present reading that depends on known audio */
    int64_t history_first; /* frame at the beginning of `history` */
} verifier_state;

/* Audio that is kept: of the context of the next frame, and a receptive field before it. */
static int history_frames(const kws_model *model) {
    return model->recognizer.receptive_field + CONTEXT_FRAMES - 2;
}

static int frame_samples(const kws_model *model) {
    return model->scan.hop * model->scan.stride;
}

/* The parts of a verifier's memory. */
typedef struct {
    verifier_state *state;
    float *gate;       /* [W] */
    float *pooled;     /* [HOLD_FRAMES - 1, W] of the latest frames */
    float *boundaries; /* [HOLD_FRAMES - 1, W, 2] */
    float *log_probs;  /* ring of [LOG_PROB_ROWS, L], frame f at row f % LOG_PROB_ROWS */
    float *history;    /* audio, from frame history_first */
    size_t bytes;
} parts;

#define LOG_PROB_ROWS 128 /* at least CONTEXT_FRAMES + BLOCK_FRAMES */

static parts parts_of(const kws_model *model, char *memory) {
    size_t words = model->scan.words, at = aligned(sizeof(verifier_state));
    parts p = {.state = (verifier_state *)memory};
#define PART(name, count) p.name = (float *)(memory + at), at += aligned((count) * sizeof(float))
    PART(gate, words);
    PART(pooled, (HOLD_FRAMES - 1) * words);
    PART(boundaries, (HOLD_FRAMES - 1) * words * 2);
    PART(log_probs, (size_t)LOG_PROB_ROWS * model->recognizer.phones);
    PART(history, (size_t)(history_frames(model) + BLOCK_FRAMES + HISTORY_SPARE) *
                      frame_samples(model));
#undef PART
    p.bytes = at;
    return p;
}

size_t kws_verifier_bytes(const kws_model *model) { return parts_of(model, NULL).bytes; }

void kws_verifier_init(const kws_model *model, char *memory, const float *gate) {
    parts p = parts_of(model, memory);
    memset(memory, 0, p.bytes);
    for (int word = 0; word < model->scan.words; word++) {
        int known = model->verify.first_pronunciation[word] <
                    model->verify.first_pronunciation[word + 1];
        p.gate[word] = known ? (gate ? gate[word] : 0.1f) : INFINITY;
    }
    /* Before the first frame there is silence, of which the recognizer has read nothing. */
    p.state->history_first = -history_frames(model);
    p.state->read_until = p.state->exact_from = INT32_MIN;
}

/* New samples go behind the history, whose oldest frames make room. */
static void remember(const kws_model *model, parts *p, const float *samples, int frames) {
    int size = frame_samples(model), keep = history_frames(model);
    int64_t end = p->state->frames - p->state->history_first; /* frames that lie there */
    if (end + frames > keep + BLOCK_FRAMES + HISTORY_SPARE) {
        memmove(p->history, p->history + (end - keep) * size, (size_t)keep * size * sizeof(float));
        p->state->history_first += end - keep;
        end = keep;
    }
    memcpy(p->history + end * size, samples, (size_t)frames * size * sizeof(float));
    p->state->frames += frames;
}

/* The recognizer reads to the end of frame `last`. */
static void read_phones(const kws_model *model, parts *p, char *recognizer, int64_t first_asked,
                        int64_t last) {
    const network *net = &model->recognizer;
    int size = frame_samples(model), phones = net->phones;
    int64_t context = first_asked - CONTEXT_FRAMES + 1;
    int64_t start = context - net->receptive_field + 1;
    if (p->state->read_until < start || p->state->exact_from > context) {
        kws_clear(net, recognizer);
        p->state->read_until = start;
        p->state->exact_from = context;
    }
    while (p->state->read_until <= last) {
        int64_t next = p->state->read_until, left = last + 1 - next;
        int frames = left < BLOCK_FRAMES ? (int)left : BLOCK_FRAMES;
        float rows[BLOCK_FRAMES * MAX_CHANNELS];
        network_output output = {.phones = rows};
        float *audio = kws_append(&net->audio, recognizer, frames * size);
        memcpy(audio, p->history + (next - p->state->history_first) * size,
               (size_t)frames * size * sizeof(float));
        model->run(net, recognizer, frames, &output);
        for (int f = 0; f < frames; f++) {
            const float *row = rows + (size_t)f * phones;
            float *kept = p->log_probs + (size_t)((next + f) & (LOG_PROB_ROWS - 1)) * phones;
            float most = row[0];
            for (int i = 1; i < phones; i++)
                if (row[i] > most) most = row[i];
            for (int i = 0; i < phones; i++) kept[i] = row[i] - most;
        }
        p->state->read_until += frames;
    }
}

/* The best of a word's pronunciations at frame n. */
static double word_ratio(const kws_model *model, const parts *p, int word, int64_t n) {
    const verifier *v = &model->verify;
    int phones = model->recognizer.phones;
    float context[CONTEXT_FRAMES * MAX_PHONES_OF_MODEL];
    double best = -INFINITY;
    for (int f = 0; f < CONTEXT_FRAMES; f++) {
        int64_t frame = n - CONTEXT_FRAMES + 1 + f;
        memcpy(context + (size_t)f * phones,
               p->log_probs + (size_t)(frame & (LOG_PROB_ROWS - 1)) * phones,
               (size_t)phones * sizeof(float));
    }
    for (int i = v->first_pronunciation[word]; i < v->first_pronunciation[word + 1]; i++) {
        int first = v->first_phone[i], count = v->first_phone[i + 1] - first;
        double ratio = kws_likelihood_ratio(context, CONTEXT_FRAMES, phones, v->phone + first,
                                            count, END_TOLERANCE_FRAMES);
        if (ratio > best) best = ratio;
    }
    return best;
}

static float fuse(const verifier *v, float score, double ratio) {
    double clipped = ratio < v->floor ? v->floor : ratio > v->ceiling ? v->ceiling : ratio;
    double penalty = exp(v->scale * (v->ceiling - clipped));
    return (float)(score / (score + (1.0 - score) * penalty));
}

/* pooled [frames, W] and boundaries [frames, W, 2] are rescored in place. */
void kws_verify(const kws_model *model, char *memory, const float *samples, int frames,
                float *pooled, float *boundaries) {
    parts p = parts_of(model, memory + model->verifier_offset);
    int words = model->scan.words, rows = HOLD_FRAMES - 1;
    float seconds = (float)frame_samples(model) / 16000;
    float scores[(HOLD_FRAMES - 1 + BLOCK_FRAMES) * MAX_WORDS];
    float places[(HOLD_FRAMES - 1 + BLOCK_FRAMES) * MAX_WORDS * 2];
    int held[BLOCK_FRAMES * MAX_WORDS]; /* row in `scores`, or -1: not asked */
    int first_asked = -1, last_asked = -1;
    int64_t first = p.state->frames;
    memcpy(scores, p.pooled, (size_t)rows * words * sizeof(float));
    memcpy(places, p.boundaries, (size_t)rows * words * 2 * sizeof(float));
    memcpy(scores + rows * words, pooled, (size_t)frames * words * sizeof(float));
    memcpy(places + rows * words * 2, boundaries, (size_t)frames * words * 2 * sizeof(float));
    remember(model, &p, samples, frames);
    for (int f = 0; f < frames; f++)
        for (int word = 0; word < words; word++) {
            int best = f;
            for (int row = f + 1; row < f + HOLD_FRAMES; row++)
                if (scores[row * words + word] > scores[best * words + word]) best = row;
            int is_asked = scores[best * words + word] >= p.gate[word];
            held[f * words + word] = is_asked ? best : -1;
            if (is_asked) last_asked = f, first_asked = first_asked < 0 ? f : first_asked;
        }
    if (last_asked >= 0)
        read_phones(model, &p, memory + model->recognizer_offset, first + first_asked,
                    first + last_asked);
    for (int f = 0; f < frames; f++)
        for (int word = 0; word < words; word++) {
            int row = held[f * words + word], at = f * words + word;
            if (row < 0) continue;
            float hold_seconds = (float)(f + HOLD_FRAMES - 1 - row) * seconds;
            double ratio = word_ratio(model, &p, word, first + f);
            pooled[at] = fuse(&model->verify, scores[row * words + word], ratio);
            for (int i = 0; i < 2; i++)
                boundaries[2 * at + i] = places[2 * (row * words + word) + i] + hold_seconds;
        }
    memcpy(p.pooled, scores + frames * words, (size_t)rows * words * sizeof(float));
    memcpy(p.boundaries, places + frames * words * 2, (size_t)rows * words * 2 * sizeof(float));
}
