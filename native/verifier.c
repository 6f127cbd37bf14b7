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
#define DEFAULT_GATE 0.1f

typedef struct {
    int64_t frames;     /* seen */
    int64_t read_until; /* the recognizer's next frame */
    int64_t exact_from; /* its first frame of the present reading that depends on known audio */
} verifier_state;

/* The parts of a verifier's memory. Rings: frame f is at row f % rows. */
typedef struct {
    verifier_state *state;
    float *gate;       /* [W] */
    float *pooled;     /* [HOLD_FRAMES - 1, W] of the latest frames */
    float *boundaries; /* [HOLD_FRAMES - 1, W, 2] */
    float *log_probs;  /* ring [PHONE_ROWS, L] */
    float *levels;     /* ring [level_rows, level_width]: what the recognizer may have to read */
    int level_rows, level_width;
} parts;

enum { STATE, GATE, POOLED, BOUNDARIES, LOG_PROBS, LEVELS, PARTS };

static int level_rows(const kws_model *model) {
    return model->recognizer.receptive_field + CONTEXT_FRAMES + BLOCK_FRAMES;
}

static int level_width(const kws_model *model) {
    return model->recognizer.stride * model->recognizer.front.mels;
}

/* Where each part begins; returns where they end. */
static size_t lay_out(const kws_model *model, size_t offsets[PARTS]) {
    size_t words = (size_t)model->scan.words, at = 0;
    const size_t bytes[PARTS] = {
        [STATE] = sizeof(verifier_state),
        [GATE] = words * sizeof(float),
        [POOLED] = (HOLD_FRAMES - 1) * words * sizeof(float),
        [BOUNDARIES] = (HOLD_FRAMES - 1) * words * 2 * sizeof(float),
        [LOG_PROBS] = (size_t)PHONE_ROWS * model->recognizer.phones * sizeof(float),
        [LEVELS] = (size_t)level_rows(model) * level_width(model) * sizeof(float),
    };
    for (int i = 0; i < PARTS; i++) offsets[i] = at, at += aligned(bytes[i]);
    return at;
}

size_t kws_verifier_bytes(const kws_model *model) { return lay_out(model, (size_t[PARTS]){0}); }

static parts parts_of(const kws_model *model, char *stream) {
    size_t at[PARTS];
    char *memory = stream + model->verifier_offset;
    lay_out(model, at);
    return (parts){
        .state = (verifier_state *)(memory + at[STATE]),
        .gate = (float *)(memory + at[GATE]),
        .pooled = (float *)(memory + at[POOLED]),
        .boundaries = (float *)(memory + at[BOUNDARIES]),
        .log_probs = (float *)(memory + at[LOG_PROBS]),
        .levels = (float *)(memory + at[LEVELS]),
        .level_rows = level_rows(model),
        .level_width = level_width(model),
    };
}

/* Before the first frame there is silence, of which the recognizer has read nothing. */
void kws_verifier_init(const kws_model *model, char *memory) {
    const network *net = &model->recognizer;
    parts p = parts_of(model, memory);
    float silence[MAX_WINDOW + MAX_FRAME] = {0};
    model->instructions->log_mel(&net->front, silence + MAX_WINDOW, net->stride, p.levels);
    for (int row = 1; row < p.level_rows; row++)
        memcpy(p.levels + row * p.level_width, p.levels, p.level_width * sizeof *p.levels);
    p.state->frames = p.level_rows; /* so that no frame has a negative number */
    p.state->read_until = p.state->exact_from = INT32_MIN;
}

void kws_set_gates(const kws_model *model, char *memory, const float *gate) {
    parts p = parts_of(model, memory);
    const int *first = model->verifier.first_pronunciation;
    for (int word = 0; word < model->scan.words; word++) {
        int is_known = first[word] < first[word + 1];
        p.gate[word] = !is_known ? INFINITY : gate ? gate[word] : DEFAULT_GATE;
    }
}

static void remember(parts *p, const float *levels, int frames) {
    for (int f = 0; f < frames; f++, p->state->frames++)
        memcpy(p->levels + p->state->frames % p->level_rows * p->level_width,
               levels + f * p->level_width, (size_t)p->level_width * sizeof *levels);
}

/* The ratios of probabilities to the frame's largest, into the ring. */
static void keep_phones(parts *p, const float *rows, int frames, int phones) {
    for (int f = 0; f < frames; f++, rows += phones) {
        float *kept = p->log_probs + (p->state->read_until + f) % PHONE_ROWS * phones;
        float most = rows[0];
        for (int i = 1; i < phones; i++)
            if (rows[i] > most) most = rows[i];
        for (int i = 0; i < phones; i++) kept[i] = rows[i] - most;
    }
}

/* The recognizer reads to the end of frame `last`. */
static void read_phones(const kws_model *model, parts *p, char *memory, int64_t first_asked,
                        int64_t last) {
    const network *net = &model->recognizer;
    int64_t context = first_asked - CONTEXT_FRAMES + 1, start = context - net->receptive_field + 1;
    if (p->state->read_until < start || p->state->exact_from > context) {
        kws_clear(net, memory);
        p->state->read_until = start;
        p->state->exact_from = context;
    }
    while (p->state->read_until <= last) {
        int64_t next = p->state->read_until, left = last + 1 - next;
        int row = (int)(next % p->level_rows), frames = p->level_rows - row; /* to the ring's end */
        float phones[BLOCK_FRAMES * MAX_PHONES_OF_MODEL];
        if (frames > left) frames = (int)left;
        if (frames > BLOCK_FRAMES) frames = BLOCK_FRAMES;
        model->instructions->run(net, memory, p->levels + row * p->level_width, frames,
                         &(network_output){.phones = phones});
        keep_phones(p, phones, frames, net->phones);
        p->state->read_until += frames;
    }
}

/* The best of a word's pronunciations at frame n. */
static double word_ratio(const kws_model *model, const parts *p, int word, int64_t n) {
    const verifier *v = &model->verifier;
    double best = -INFINITY;
    for (int i = v->first_pronunciation[word]; i < v->first_pronunciation[word + 1]; i++) {
        int first = v->first_phone[i], count = v->first_phone[i + 1] - first;
        double ratio = kws_likelihood_ratio(p->log_probs, n - CONTEXT_FRAMES + 1, CONTEXT_FRAMES,
                                            model->recognizer.phones, v->phone + first, count,
                                            END_TOLERANCE_FRAMES);
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
void kws_verify(const kws_model *model, kws_stream *stream, const float *levels, int frames,
                float *pooled, float *boundaries) {
    char *memory = (char *)stream;
    parts p = parts_of(model, memory);
    int words = model->scan.words, rows = HOLD_FRAMES - 1;
    float seconds = (float)model->frame_samples / 16000;
    float scores[(HOLD_FRAMES - 1 + BLOCK_FRAMES) * MAX_WORDS];
    float places[(HOLD_FRAMES - 1 + BLOCK_FRAMES) * MAX_WORDS * 2];
    int held[BLOCK_FRAMES * MAX_WORDS]; /* row in `scores`, or -1: not asked */
    int first_asked = -1, last_asked = -1;
    int64_t first = p.state->frames;
    memcpy(scores, p.pooled, (size_t)rows * words * sizeof(float));
    memcpy(places, p.boundaries, (size_t)rows * words * 2 * sizeof(float));
    memcpy(scores + rows * words, pooled, (size_t)frames * words * sizeof(float));
    memcpy(places + rows * words * 2, boundaries, (size_t)frames * words * 2 * sizeof(float));
    remember(&p, levels, frames);
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
            pooled[at] = fuse(&model->verifier, scores[row * words + word], ratio);
            for (int i = 0; i < 2; i++)
                boundaries[2 * at + i] = places[2 * (row * words + word) + i] + hold_seconds;
        }
    memcpy(p.pooled, scores + frames * words, (size_t)rows * words * sizeof(float));
    memcpy(p.boundaries, places + frames * words * 2, (size_t)rows * words * 2 * sizeof(float));
}
