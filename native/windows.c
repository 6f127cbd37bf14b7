/* Where a stream keeps the past of each layer.

   A layer reads `past` rows of its input and then the new ones, in one run of memory. A window is
   that run, with spare rows. New rows go behind the older ones, in all windows in step, so that one
   number, `position`, says where:

       |<-- past -->|<---- SPARE_FRAMES * rate ---->|
       |############|##########|....................|
                               ^ past + position * rate: the next rows go here

   When the spare rows are used up, the last `past` rows move to the front, in all windows. */

#include "internal.h"

/* Few, so that a stream is small, and enough for two blocks, so that moving costs one part in a
   hundred of a step. */
#define SPARE_FRAMES 16

static void add(network *net, int width, int past, int rate) {
    net->windows[net->window_count++] = (window){width, past, rate, net->bytes};
    net->bytes += aligned((size_t)width * (past + rate * SPARE_FRAMES) * sizeof(float));
}

/* The memory of a network's stream: the position, and then the windows. A layer that reads its new
   rows alone has none. */
void kws_lay_out(network *net) {
    int mels = net->front.mels;
    net->window_count = 0;
    net->bytes = aligned(sizeof(int32_t));
    if (!net->band_layers) add(net, mels, net->stem.inputs / mels - net->stride, net->stride);
    for (int i = 0; i < net->band_layers; i++) {
        const band_convolution *layer = &net->bands[i];
        int past = layer->kernel - layer->stride;
        if (past) add(net, layer->padded_bands * layer->inputs, past, layer->stride);
    }
    for (int i = 0; i < net->blocks; i++) add(net, net->width, net->filters[i].kernel - 1, 1);
    if (net->words) add(net, net->words, net->pool_frames - 1, 1);
}

/* Makes room for `frames` new frames in all windows. Returns the position of the first. */
int kws_advance(const network *net, char *memory, int frames) {
    int32_t *position = (int32_t *)memory;
    if (*position + frames > SPARE_FRAMES) {
        for (const window *w = net->windows; w < net->windows + net->window_count; w++) {
            float *rows = (float *)(memory + w->offset);
            memmove(rows, rows + *position * w->rate * w->width,
                    (size_t)w->past * w->width * sizeof *rows);
        }
        *position = 0;
    }
    *position += frames;
    return *position - frames;
}

/* All zeros: a network of which nothing is known yet. */
void kws_clear(const network *net, char *memory) { memset(memory, 0, net->bytes); }
