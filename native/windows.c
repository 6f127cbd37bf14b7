/* Where a stream keeps the past of each layer. */

#include "internal.h"

/* Rows behind the kept ones: enough for many blocks, so that moving them is seldom. */
#define SPARE_ROWS 64

static void place(network *net, window *w, int width, int keep, int most_new) {
    w->width = width;
    w->keep = keep;
    w->capacity = keep + (most_new > SPARE_ROWS ? most_new : SPARE_ROWS);
    w->offset = net->bytes;
    w->slot = net->slots++;
    net->bytes += aligned((size_t)w->capacity * width * sizeof(float));
}

/* The memory of a network's stream: first the numbers of first rows, then the rows themselves. */
void kws_lay_out(network *net) {
    const frontend *front = &net->front;
    int hops = BLOCK_FRAMES * net->stride;
    net->slots = 0;
    net->bytes = aligned((5 + MAX_BLOCKS + MAX_RESIDUALS) * sizeof(int32_t));
    place(net, &net->audio, 1, front->window - front->hop, hops * front->hop);
    if (net->band_layers) {
        for (int i = 0; i < net->band_layers; i++) {
            const band_convolution *layer = &net->bands[i];
            int rows = i == 0 ? hops : BLOCK_FRAMES;
            int width = layer->padded_bands * layer->inputs;
            place(net, &net->band_inputs[i], width, layer->kernel - layer->stride, rows);
        }
    } else {
        int kernel = net->stem.inputs / front->mels;
        place(net, &net->mels, front->mels, kernel - net->stride, hops);
    }
    for (int i = 0; i < net->blocks; i++)
        place(net, &net->inputs[i], net->padded_channels, net->filters[i].kernel - 1, BLOCK_FRAMES);
    if (!net->is_recognizer)
        place(net, &net->log_p, net->words, net->pool_frames - 1, BLOCK_FRAMES);
}

/* Room for `rows` new rows: returns where they go, behind the `keep` rows before them. */
float *kws_append(const window *w, char *memory, int rows) {
    int32_t *first = (int32_t *)memory + w->slot;
    float *data = (float *)(memory + w->offset);
    if (*first + w->keep + rows > w->capacity) {
        memmove(data, data + (size_t)*first * w->width, (size_t)w->keep * w->width * sizeof *data);
        *first = 0;
    }
    float *place = data + (size_t)(*first + w->keep) * w->width;
    *first += rows;
    return place;
}

/* All zeros: a network of which nothing is known yet. */
void kws_clear(const network *net, char *memory) { memset(memory, 0, net->bytes); }
