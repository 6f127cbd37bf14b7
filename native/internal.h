/* What the files of the kernel share: a model as it lies in memory, prepared for its instructions,
   and where a stream keeps what it needs of the past. */

#ifndef KWS_INTERNAL_H
#define KWS_INTERNAL_H

#include "kws.h"
#include "simd.h"

/* The largest model. Rows of a block lie on the stack: these bound what a step takes, 120 kB. */
#define MAX_BLOCKS 16
#define MAX_RESIDUALS 8
#define MAX_WINDOW 512         /* samples of an analysis window */
#define MAX_FRAME 640          /* samples of a frame */
#define MAX_STRIDE 4           /* hops of a frame */
#define MAX_MELS 128
#define MAX_CHANNELS 512       /* of the layers behind the stem */
#define MAX_BAND_ROW 768       /* bands times channels */
#define MAX_WORDS 64
#define MAX_PHONES_OF_MODEL 64
#define MAX_PHONES 64          /* of a pronunciation */
#define MAX_FACTORS 12         /* of the FFT */

/* At most so many frames pass through all layers together. Four, 80 ms, use the registers well;
   with eight the weights of a layer come from the second-level cache half as often. */
#define BLOCK_FRAMES 8

/* Frames of phones that a verifier keeps; a power of two. */
#define PHONE_ROWS 128

/* Output channels whose weights lie together: two vectors. */
#define PANEL (2 * LANES)

/* Parts of a stream's memory begin at multiples of 64 bytes, a cache line. */
INLINE size_t aligned(size_t bytes) { return (bytes + 63) & ~(size_t)63; }

/* Log-mel energies by a real FFT. */
typedef struct {
    int window, hop, bins, mels, factors, factor[MAX_FACTORS];
    float floor;
    float *taper;      /* [window], halved */
    float *twiddle;    /* for each factor the roots that it multiplies by: re, im in turn */
    float *untangle;   /* [window / 4 + 1, 2]: roots that take the two halves apart */
    int *first, *last; /* [mels] bins of each filter */
    float *filter;     /* weights, one filter after the other */
} frontend;

/* y = W x + b. Weights lie in panels of 16 outputs, input by input, so that they are read once, in
   order; outputs are padded to whole panels with zeros. */
typedef struct {
    int inputs, padded; /* padded: outputs */
    float *weight; /* [padded / 16, inputs, 16] */
    float *bias;   /* [padded] */
} dense;

/* One filter over time for each channel. */
typedef struct {
    int channels, kernel; /* channels: padded */
    float *weight;        /* [kernel, channels] */
    float *bias;          /* [channels] */
} depthwise;

/* A convolution over bands and frames, with a scale and a shift for each channel and band. Its
   input rows have `margin` bands of zeros on either side. */
typedef struct {
    int inputs, padded; /* channels, padded: `padded` of the outputs */
    int bands, margin, padded_bands, output_bands, band_kernel, band_stride, kernel, stride;
    float *weight; /* [padded / 16, kernel, band_kernel, inputs, 16] */
    float *scale;  /* [output_bands, padded] */
    float *shift;  /* [output_bands, padded] */
} band_convolution;

/* Rows of a layer's input in a stream: `past` rows, then the new ones, `rate` of each frame. */
typedef struct {
    int width, past, rate; /* floats, rows, rows */
    size_t offset;         /* in the network's memory */
} window;

#define MAX_WINDOWS (2 + MAX_RESIDUALS + MAX_BLOCKS + 1)

typedef enum { POOL_MAX, POOL_MEAN, POOL_GEM, POOL_POWER, POOL_NEWEST } pooling;

typedef struct {
    int stride, width, blocks, words, phones, pool_frames; /* width: channels, padded */
    int band_layers;                                       /* 0: no convolution over bands */
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
    window windows[MAX_WINDOWS]; /* in the order in which the layers use them */
    int window_count;
    size_t bytes; /* of a stream */
} network;

typedef struct {
    int exists, has_own_frontend; /* one that differs from the scanning network's */
    int *first_pronunciation;     /* [words + 1] */
    int *first_phone;             /* [pronunciations + 1] */
    int *phone;                   /* the phones of all pronunciations */
    float scale, ceiling, floor;
} verifier;

/* Of one network and a block of frames, row by row. NULL: not wanted. A network without words, the
   verifier's recognizer, writes phones alone. */
typedef struct {
    float *frames, *pooled, *boundaries, *phones;
} network_output;

/* What is compiled for each set of instructions (isa.inc). */
typedef struct {
    const char *name;
    /* Rows [hops, mels] of log energies of the hops that begin at `samples`; the analysis windows
       reach back from the ends of their hops. */
    void (*log_mel)(const frontend *front, const float *samples, int hops, float *rows);
    /* The layers, from rows of log energies [frames * stride, mels] on. */
    void (*run)(const network *net, char *memory, const float *rows, int frames,
                const network_output *output);
} instructions;

extern const instructions kws_baseline, kws_avx2;

/* A stream's memory holds its header, its samples, and then the parts at these offsets. */
struct kws_model {
    network scan, recognizer;
    verifier verifier;
    const instructions *instructions;
    int frame_samples, past_samples; /* past: what the analysis windows need of older frames */
    char *initial;                   /* a stream before its first sample */
    size_t scan_offset, verifier_offset, recognizer_offset, stream_bytes;
    void **blocks; /* everything that was allocated */
    int block_count;
};

struct kws_stream {
    uint64_t pending; /* samples short of a frame */
};

/* windows.c */
void kws_lay_out(network *net);
int kws_advance(const network *net, char *memory, int frames);
void kws_clear(const network *net, char *memory);

/* stream.c */
size_t kws_header_bytes(const kws_model *model);

/* verifier.c */
size_t kws_verifier_bytes(const kws_model *model);
void kws_verifier_init(const kws_model *model, char *memory);
void kws_set_gates(const kws_model *model, char *memory, const float *gate);
void kws_verify(const kws_model *model, kws_stream *stream, const float *levels, int frames,
                float *pooled, float *boundaries);

/* likelihood.c: of a word of `count` phones in the frames first, first + 1, ... Frame f of the ring
   is at row f % PHONE_ROWS. */
double kws_likelihood_ratio(const float *ring, int64_t first, int frames, int phones,
                            const int *phone, int count, int end_tolerance);

#endif
