/* Damages a model file at random, opens it, and runs what opens: no file crashes the kernel.

       cc -fsanitize=address,undefined ... native/*.c native/tests/fuzz.c -lm -o fuzz
       ./fuzz MODEL [rounds [seed]] */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../kws.h"
#include "../safetensors.h"

static uint64_t state = 1;

static uint32_t draw(uint32_t below) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % below;
}

/* A few changes, most of them in the header, whose sizes decide what is read. */
static size_t damage(unsigned char *bytes, size_t size, size_t header) {
    int changes = 1 + (int)draw(4);
    for (int i = 0; i < changes; i++) {
        size_t at = draw(4) ? draw((uint32_t)(header < size ? header : size)) : draw((uint32_t)size);
        switch (draw(5)) {
        case 0: bytes[at] ^= (unsigned char)(1u << draw(8)); break;
        case 1: bytes[at] = (unsigned char)draw(256); break;
        case 2: bytes[at] = (unsigned char)('0' + draw(10)); break;
        case 3: memset(bytes + at, (int)draw(2) * 255, size - at < 4 ? size - at : 4); break;
        default: size = at ? at : 1;
        }
        if (size < 16) break;
    }
    return size;
}

/* Writes the checksum, at the end. */
static void seal(unsigned char *bytes, size_t size) {
    if (size < 4) return;
    uint32_t sum = kws_checksum(bytes, size - 4);
    for (int i = 0; i < 4; i++) bytes[size - 4 + i] = (unsigned char)(sum >> 8 * i);
}

static void run(const kws_model *model) {
    static float samples[16000];
    void *memory = aligned_alloc(64, (kws_stream_bytes(model) + 63) / 64 * 64);
    kws_stream *stream = kws_stream_init(model, memory, NULL);
    for (int i = 0; i < 16000; i++) samples[i] = (float)draw(65536) / 32768 - 1;
    for (size_t at = 0; at < 16000;) {
        size_t count = draw(3000);
        if (count > 16000 - at) count = 16000 - at;
        size_t frames = kws_ready_frames(model, stream, count);
        size_t words = (size_t)kws_words(model), phones = (size_t)kws_phones(model);
        float *out = malloc((frames * (4 * words + phones) + 1) * sizeof *out);
        kws_output output = {out, out + frames * words, out + 2 * frames * words,
                             out + 4 * frames * words};
        kws_step(model, stream, samples + at, count, &output);
        free(out);
        at += count;
    }
    free(memory);
}

int main(int count, char **arguments) {
    char error[KWS_ERROR_BYTES];
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
        unsigned char *bytes = malloc(size);
        memcpy(bytes, whole, size);
        size_t left = i ? damage(bytes, size, header) : size;
        if (draw(8)) seal(bytes, left); /* else the checksum is all that is read */
        /* exactly `left` bytes, so that reading beyond them is noticed */
        unsigned char *exact = malloc(left);
        memcpy(exact, bytes, left);
        kws_model *model = kws_open(exact, left, error);
        free(exact);
        free(bytes);
        if (!model && !error[0]) return fprintf(stderr, "round %d: no reason given\n", i), 1;
        if (model) run(model), kws_close(model), opened++;
    }
    printf("%d rounds, %d models opened\n", rounds, opened);
    free(whole);
    return opened ? 0 : 1;
}
