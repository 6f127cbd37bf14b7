/* No file crashes the kernel, and no samples: model files are damaged, opened, and what opens is
   run with samples in pieces of any length. Files that are refused give a reason; outputs do not
   depend on the pieces.

   With libFuzzer, which looks for inputs that reach new code; it stops at the first crash:

       python tests/support/fuzz_seeds.py seeds
       (cd native && clang -std=c11 -g -O1 -DLIBFUZZER -fsanitize=fuzzer,address,undefined \
           -fno-sanitize-recover=all -Wno-psabi *.c tests/fuzz.c -lm -o ../fuzz)
       ./fuzz -max_total_time=60 -max_len=30000 seeds

   With any compiler, damage at random:

       (cd native && cc -std=c11 -g -O1 -fsanitize=address,undefined \
           -fno-sanitize-recover=all -Wno-psabi *.c tests/fuzz.c -lm -o ../fuzz)
       ./fuzz MODEL [rounds [seed]] */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kws.h"
#include "../safetensors.h"

#define PIECES 8
#define MOST_SAMPLES 2048 /* of a piece */

static uint64_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* Sound, with a few samples that are none. */
static void fill(float *samples, size_t count) {
    static const float none[] = {NAN, INFINITY, -1e30f, 1e-40f};
    for (size_t i = 0; i < count; i++)
        samples[i] = draw(500) ? (float)draw(65536) / 32768 - 1 : none[draw(4)];
}

typedef struct {
    float *numbers;
    size_t frames, invalid;
} outputs;

static outputs run(const kws_model *model, const float *samples, const size_t *counts, int pieces) {
    static const float asked_always[64] = {0};
    size_t words = (size_t)kws_words(model), phones = (size_t)kws_phones(model), all = 0;
    for (int i = 0; i < pieces; i++) all += counts[i];
    size_t most = all / (size_t)kws_frame_samples(model);
    void *memory = aligned_alloc(64, (kws_stream_bytes(model) + 63) / 64 * 64);
    kws_stream *stream = kws_stream_init(model, memory, asked_always);
    outputs o = {calloc(most * (4 * words + phones) + 1, sizeof(float)), 0, 0};
    size_t invalid = 0;
    kws_output places = {o.numbers, o.numbers + most * words, o.numbers + 2 * most * words,
                         o.numbers + 4 * most * words, &invalid};
    for (int i = 0; i < pieces; i++) {
        /* exactly so many, so that reading beyond them is noticed */
        float *piece = malloc(counts[i] * sizeof *piece + 1);
        memcpy(piece, samples, counts[i] * sizeof *piece);
        size_t ready = kws_ready_frames(model, stream, counts[i]);
        size_t done = kws_step(model, stream, piece, counts[i], &places);
        free(piece);
        if (done != ready) abort();
        places.pooled += done * words, places.frames += done * words;
        places.boundaries += 2 * done * words, places.phones += done * phones;
        samples += counts[i], o.frames += done, o.invalid += invalid;
    }
    if (o.frames != most) abort();
    free(memory);
    return o;
}

/* Whether a model opened. */
static int check(const unsigned char *bytes, size_t size, const size_t counts[PIECES]) {
    static float samples[PIECES * MOST_SAMPLES];
    char error[KWS_ERROR_BYTES] = "";
    kws_model *model = kws_open(bytes, size, error);
    if (!model) return error[0] ? 0 : (abort(), 0);
    size_t all = 0, numbers = 4 * (size_t)kws_words(model) + (size_t)kws_phones(model);
    for (int i = 0; i < PIECES; i++) all += counts[i];
    fill(samples, all);
    outputs pieces = run(model, samples, counts, PIECES), whole = run(model, samples, &all, 1);
    if (pieces.invalid != whole.invalid) abort();
    for (size_t i = 0; i < whole.frames * numbers; i++) {
        float a = pieces.numbers[i], b = whole.numbers[i];
        if (memcmp(&a, &b, sizeof a) && !(isnan(a) && isnan(b))) abort();
    }
    free(pieces.numbers);
    free(whole.numbers);
    kws_close(model);
    return 1;
}

/* Writes the checksum at the end, without which nothing is read. */
static void seal(unsigned char *bytes, size_t size) {
    if (size < 4) return;
    uint32_t sum = kws_checksum(bytes, size - 4);
    for (int i = 0; i < 4; i++) bytes[size - 4 + i] = (unsigned char)(sum >> 8 * i);
}

#ifdef LIBFUZZER

/* An input is a model file; then the lengths of the pieces, two bytes each; then one byte: whether
   the file's checksum is left as it is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { REST = 2 * PIECES + 1 };
    size_t counts[PIECES];
    if (size < REST) return 0;
    const uint8_t *rest = data + size - REST;
    for (int i = 0; i < PIECES; i++)
        counts[i] = ((size_t)rest[2 * i] | (size_t)rest[2 * i + 1] << 8) % MOST_SAMPLES;
    size_t left = size - REST;
    unsigned char *bytes = malloc(left + 1);
    memcpy(bytes, data, left);
    if (rest[2 * PIECES] % 8) seal(bytes, left);
    state = 1;
    check(bytes, left, counts);
    free(bytes);
    return 0;
}

#else

/* A few changes, most of them in the header, whose sizes decide what is read. */
static size_t damage(unsigned char *bytes, size_t size, size_t header) {
    int changes = 1 + (int)draw(4);
    for (int i = 0; i < changes && size >= 16; i++) {
        size_t at = draw((uint32_t)(draw(4) && header < size ? header : size));
        switch (draw(5)) {
        case 0: bytes[at] ^= (unsigned char)(1u << draw(8)); break;
        case 1: bytes[at] = (unsigned char)draw(256); break;
        case 2: bytes[at] = (unsigned char)('0' + draw(10)); break;
        case 3: memset(bytes + at, (int)draw(2) * 255, size - at < 4 ? size - at : 4); break;
        default: size = at ? at : 1;
        }
    }
    return size;
}

int main(int count, char **arguments) {
    FILE *file = count > 1 ? fopen(arguments[1], "rb") : NULL;
    int rounds = count > 2 ? atoi(arguments[2]) : 1000, opened = 0;
    if (!file) return fprintf(stderr, "usage: fuzz MODEL [rounds [seed]]\n"), 2;
    state = count > 3 ? strtoull(arguments[3], NULL, 10) : 1;
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    unsigned char *whole = malloc(size);
    if (fread(whole, 1, size, file) != size) return 2;
    fclose(file);
    size_t header = 8 + (size_t)whole[0] + ((size_t)whole[1] << 8) + ((size_t)whole[2] << 16);
    for (int i = 0; i < rounds; i++) {
        size_t counts[PIECES], left = size;
        unsigned char *bytes = malloc(size);
        memcpy(bytes, whole, size);
        if (i) left = damage(bytes, size, header);
        if (draw(8)) seal(bytes, left);
        bytes = realloc(bytes, left); /* exactly so many, so that reading beyond them is noticed */
        for (int piece = 0; piece < PIECES; piece++) counts[piece] = draw(MOST_SAMPLES);
        opened += check(bytes, left, counts);
        free(bytes);
    }
    printf("%d rounds, %d models opened\n", rounds, opened);
    free(whole);
    return opened ? 0 : 1;
}

#endif
