/* What the files of the kernel share: a model as it lies in memory, prepared for its instructions,
   and where a stream keeps what it needs of the past. */

#ifndef KWS_INTERNAL_H
#define KWS_INTERNAL_H

#include "kws.h"
#include "simd.h"

#define MAX_BLOCKS 16
#define MAX_RESIDUALS 8
#define MAX_FACTORS 12
#define MAX_WINDOW 512    /* samples of an analysis window */
#define MAX_CHANNELS 512  /* of any layer */
#define MAX_WORDS 64
#define MAX_MELS 128
#define MAX_STRIDE 4
#define MAX_PHONES_OF_MODEL 64
#define MAX_PHONES 64     /* of a pronunciation */
#define BLOCK_FRAMES 8    /* at most so many frames pass through all layers together */
#define PANEL (2 * LANES) /* output channels whose weights lie together */

/* Parts of a stream's memory begin at multiples of 64 bytes. */
INLINE size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* y = W x + b. Weights lie in panels of 16 outputs, input by input, so that they are read once, in
   order; outputs are padded to whole panels with zeros. */
typedef struct {
    int inputs, outputs, padded;
    float *weight; /* [padded / 16, inputs, 16] */
    float *bias;   /* [padded] */
} dense;

/* One filter over time for each channel. */
typedef struct {
    int channels, kernel; /* padded channels */
    float *weight;        /* [kernel, channels] */
    float *bias;          /* [channels] */
} depthwise;

/* A convolution over bands and frames, with a scale and a shift for each channel and band. Its input
   rows have `margin` bands of zeros on either side. */
typedef struct {
    int inputs, outputs, padded; /* channels; outputs padded to vectors */
    int bands, margin, padded_bands, output_bands, band_kernel, band_stride, kernel, stride;
    float *weight; /* [kernel, band_kernel, inputs, padded] */
    float *scale;  /* [output_bands, padded] */
    float *shift;  /* [output_bands, padded] */
} band_convolution;

/* Log-mel energies by a real FFT. */
typedef struct {
    int window, hop, bins, mels, factors, factor[MAX_FACTORS];
    float floor;
    float *taper;      /* [window] */
    float *twiddle;    /* for each factor the roots that it multiplies by: re, im in turn */
    float *untangle;   /* [window / 2 + 1, 2] */
    int *first, *last; /* [mels] bins of each filter */
    float *filter;     /* weights, one filter after the other */
} frontend;

/* Rows of a layer's input, the oldest first: `keep` rows of the past, then the new ones. They are
   moved to the front when the room behind them is used up, not in every step. */
typedef struct {
    int width, keep, capacity; /* floats, rows, rows */
    size_t offset;             /* of the rows in the stream's memory */
    int slot;                  /* of the number of the first row */
} window;

typedef enum { POOL_MAX, POOL_MEAN, POOL_GEM, POOL_POWER, POOL_NEWEST } pooling;

typedef struct {
    int hop, stride, channels, blocks, words, phones, pool_frames;
    int padded_channels, band_layers; /* 0: no convolution over bands */
    int is_recognizer;                /* phones only: what a verifier reads */
    pooling pool;
    float exponent;
    int receptive_field; /* frames */
    frontend front;
    float *input_scale, *input_shift; /* [mels], before a convolution over bands */
    band_convolution bands[2 + MAX_RESIDUALS];
    dense stem;
    depthwise filters[MAX_BLOCKS];
    dense pointwise[MAX_BLOCKS];
    dense head, phone_head;
    /* Where a stream keeps the past of each layer. */
    window audio, mels, band_inputs[2 + MAX_RESIDUALS], inputs[MAX_BLOCKS], log_p;
    int slots;
    size_t bytes;
} network;

typedef struct {
    int exists, phones;
    int *first_pronunciation; /* [words + 1] */
    int *first_phone;         /* [pronunciations + 1] */
    int *phone;               /* the phones of all pronunciations */
    float scale, ceiling, floor;
} verifier;

/* Of one network and a block of frames. */
typedef struct {
    float *frames, *pooled, *boundaries, *phones; /* row by row; NULL: not wanted */
} network_output;

typedef void (*network_function)(const network *net, char *memory, int frames,
                                 const network_output *output);

struct kws_model {
    network scan, recognizer;
    verifier verify;
    network_function run;
    const char *instruction_set;
    char *initial; /* a stream before its first sample */
    size_t stream_bytes, scan_offset, recognizer_offset, verifier_offset;
    void **blocks; /* everything that was allocated */
    int block_count;
};

/* The state of a stream, before the rows of its layers. */
struct kws_stream {
    uint64_t pending; /* samples short of a frame */
};

/* Where the samples short of a frame wait in a stream: behind its header. */
INLINE size_t pending_offset(void) { return aligned(sizeof(kws_stream)); }

/* network.inc, once for each set of instructions */
void kws_run_baseline(const network *net, char *memory, int frames, const network_output *output);
void kws_run_avx2(const network *net, char *memory, int frames, const network_output *output);

/* windows.c */
void kws_lay_out(network *net);
float *kws_append(const window *w, char *memory, int rows);
void kws_clear(const network *net, char *memory);

/* verifier.c */
size_t kws_verifier_bytes(const kws_model *model);
void kws_verifier_init(const kws_model *model, char *memory, const float *gate);
void kws_verify(const kws_model *model, char *memory, const float *samples, int frames,
                float *pooled, float *boundaries);

/* likelihood.c */
double kws_likelihood_ratio(const float *log_probs, int frames, int phones, const int *phone,
                            int count, int end_tolerance);

#endif
