/* The outputs of a model for samples in pieces, written as they are, to compare machines:

       vectors MODEL SAMPLES OUTPUT PIECE [PIECE ...]

   SAMPLES: float32, 16 kHz. PIECE: samples of a step; the pieces follow in turn. OUTPUT: float32,
   pooled and frames [F, W], boundaries [F, W, 2], phones [F, L]. Prints the set of instructions. */

#include <stdio.h>
#include <stdlib.h>

#include "../kws.h"

static void *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (!file) return perror(path), exit(1), NULL;
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    void *bytes = malloc(*size + 1);
    if (fread(bytes, 1, *size, file) != *size) return perror(path), exit(1), NULL;
    fclose(file);
    return bytes;
}

int main(int count, char **arguments) {
    if (count < 5) return fprintf(stderr, "usage: vectors MODEL SAMPLES OUTPUT PIECE...\n"), 2;
    char error[KWS_ERROR_BYTES];
    size_t model_bytes, sample_bytes;
    void *file = read_file(arguments[1], &model_bytes);
    const float *samples = read_file(arguments[2], &sample_bytes);
    kws_model *model = kws_open(file, model_bytes, error);
    FILE *output = fopen(arguments[3], "wb");
    if (!model) return fprintf(stderr, "%s\n", error), 1;
    if (!output) return perror(arguments[3]), 1;
    void *memory = aligned_alloc(64, kws_stream_bytes(model));
    kws_stream *stream = kws_stream_init(model, memory, NULL);
    size_t words = (size_t)kws_words(model), phones = (size_t)kws_phones(model);
    size_t left = sample_bytes / sizeof *samples, frames = kws_ready_frames(model, stream, left);
    size_t size = frames * (4 * words + phones);
    float *numbers = malloc((size + 1) * sizeof *numbers);
    kws_output places = {numbers, numbers + frames * words, numbers + 2 * frames * words,
                         numbers + 4 * frames * words, NULL};
    for (int i = 4; left; i = i + 1 < count ? i + 1 : 4) {
        size_t piece = (size_t)atoi(arguments[i]);
        if (piece > left) piece = left;
        size_t done = kws_step(model, stream, samples, piece, &places);
        samples += piece, left -= piece;
        places.pooled += done * words, places.frames += done * words;
        places.boundaries += 2 * done * words, places.phones += done * phones;
    }
    fwrite(numbers, sizeof *numbers, size, output);
    puts(kws_instruction_set(model));
    return fclose(output) ? 1 : 0;
}
