/* Opens a model file: reads its tensors, checks every size before it is used, and lays the weights
   out as the layers want them. docs/reference/model-file.md names them. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "loader.h"

#define MAX_STEM_INPUTS 2048

/* As in the tensor "sizes". */
typedef struct {
    int hop, window, mels, stride, stem_kernel, channels, blocks, words, pool_frames, pooling,
        phones, band_channels, residuals;
} network_sizes;

static int rounded(int count, int step) { return (count + step - 1) / step * step; }

static int within(int value, int least, int most) { return value >= least && value <= most; }

/* W [outputs, inputs] as panels. index: of an input of W, for each of the `count` that the layer is
   given (-1: none, which is padding). */
static void pack_dense(loader *l, dense *layer, const numbers *weight, const numbers *bias,
                       int outputs, int inputs, const int *index, int count) {
    layer->inputs = count, layer->padded = rounded(outputs, PANEL);
    layer->weight = kws_claim(l, (size_t)layer->padded * count * sizeof(float));
    layer->bias = kws_claim(l, (size_t)layer->padded * sizeof(float));
    if (l->failed) return;
    for (int o = 0; o < outputs; o++) {
        float *row = layer->weight + o / PANEL * PANEL * count + o % PANEL;
        layer->bias[o] = kws_number(bias, (size_t)o);
        for (int i = 0; i < count; i++)
            if (index[i] >= 0)
                row[i * PANEL] = kws_number(weight, (size_t)o * inputs + index[i]);
    }
}

/* A layer whose inputs are `channels` channels, padded to rows of `width`. */
static void load_dense(loader *l, dense *layer, const char *name, int number, const char *part,
                       int outputs, int channels, int width) {
    char weight_part[32], bias_part[32];
    int index[MAX_CHANNELS];
    size_t shape[] = {(size_t)outputs, (size_t)channels};
    snprintf(weight_part, sizeof weight_part, "%s.weight", part);
    snprintf(bias_part, sizeof bias_part, "%s.bias", part);
    numbers weight = kws_numbers(l, kws_name(l, name, number, weight_part), 2, shape);
    numbers bias = kws_numbers(l, kws_name(l, name, number, bias_part), 1, shape);
    for (int i = 0; i < width; i++) index[i] = i < channels ? i : -1;
    pack_dense(l, layer, &weight, &bias, outputs, channels, index, width);
}

static void load_depthwise(loader *l, depthwise *layer, int number, int channels, int width) {
    tensor_name name = kws_name(l, "blocks", number, ".depthwise.weight");
    const tensor *t = kws_find_tensor(l->table, name.text);
    if (t && (t->dimensions != 2 || t->shape[1] < 2 || t->shape[1] > 256))
        kws_refuse_tensor(l, name.text, "has a kernel of less than 2 or more than 256 frames");
    size_t shape[] = {(size_t)channels, t && !l->failed ? t->shape[1] : 0};
    numbers weight = kws_numbers(l, name, 2, shape);
    numbers bias = kws_numbers(l, kws_name(l, "blocks", number, ".depthwise.bias"), 1, shape);
    layer->channels = width, layer->kernel = (int)shape[1];
    layer->weight = kws_claim(l, (size_t)layer->kernel * width * sizeof(float));
    layer->bias = kws_claim(l, (size_t)width * sizeof(float));
    if (l->failed) return;
    for (int c = 0; c < channels; c++) {
        layer->bias[c] = kws_number(&bias, (size_t)c);
        for (int k = 0; k < layer->kernel; k++)
            layer->weight[k * width + c] = kws_number(&weight, (size_t)(c * layer->kernel + k));
    }
}

/* `layer` has its sizes but those that follow from them. */
static void load_band_layer(loader *l, band_convolution *layer, int number, int inputs,
                            int outputs) {
    int bands = layer->output_bands = (layer->bands + layer->band_stride - 1) / layer->band_stride;
    int kernel = layer->kernel, band_kernel = layer->band_kernel;
    layer->margin = band_kernel / 2;
    layer->padded_bands = layer->bands + 2 * layer->margin + layer->band_stride - 1;
    layer->padded = rounded(outputs, PANEL);
    if (bands * layer->padded > MAX_BAND_ROW || layer->padded_bands * layer->inputs > MAX_BAND_ROW)
        kws_refuse(l, "the stem over bands is wider than this kernel allows");
    size_t shape[] = {(size_t)outputs, (size_t)inputs, (size_t)band_kernel, (size_t)kernel};
    size_t affine[] = {(size_t)outputs, (size_t)bands};
    numbers weight = kws_numbers(l, kws_name(l, "bands", number, ".weight"), 4, shape);
    numbers scale = kws_numbers(l, kws_name(l, "bands", number, ".scale"), 2, affine);
    numbers shift = kws_numbers(l, kws_name(l, "bands", number, ".shift"), 2, affine);
    int rows = kernel * band_kernel * layer->inputs; /* of a panel */
    layer->weight = kws_claim(l, (size_t)rows * layer->padded * sizeof(float));
    layer->scale = kws_claim(l, (size_t)(bands * layer->padded) * sizeof(float));
    layer->shift = kws_claim(l, (size_t)(bands * layer->padded) * sizeof(float));
    if (l->failed) return;
    for (int o = 0; o < outputs; o++) {
        float *panel = layer->weight + o / PANEL * PANEL * rows + o % PANEL;
        for (int i = 0; i < inputs; i++)
            for (int b = 0; b < band_kernel; b++)
                for (int t = 0; t < kernel; t++) {
                    int from = ((o * inputs + i) * band_kernel + b) * kernel + t;
                    int row = (t * band_kernel + b) * layer->inputs + i;
                    panel[row * PANEL] = kws_number(&weight, (size_t)from);
                }
        for (int b = 0; b < bands; b++) {
            layer->scale[b * layer->padded + o] = kws_number(&scale, (size_t)(o * bands + b));
            layer->shift[b * layer->padded + o] = kws_number(&shift, (size_t)(o * bands + b));
        }
    }
}

/* The roots of unity by which the passes of the FFT multiply, and those that take the transforms of
   even and odd samples apart. */
static void compute_roots(frontend *front) {
    const double turn = -6.283185307179586476925286766559;
    float *root = front->twiddle;
    for (int i = 0, length = front->window / 2; i < front->factors; i++) {
        int r = front->factor[i], m = length / r;
        for (int p = 0; p < m; p++)
            for (int k = 1; k < r; k++) {
                *root++ = (float)cos(turn * p * k / length);
                *root++ = (float)sin(turn * p * k / length);
            }
        length = m;
    }
    for (int k = 0; k <= front->window / 4; k++) {
        front->untangle[2 * k] = (float)cos(turn * k / front->window);
        front->untangle[2 * k + 1] = (float)sin(turn * k / front->window);
    }
}

/* The filters [bins, mels] without their zeros. */
static void pack_filters(frontend *front, const numbers *filters) {
    float *weight = front->filter;
    int mels = front->mels;
    for (int m = 0; m < mels; m++) {
        int first = 0, last = front->bins;
        while (first < last && kws_number(filters, (size_t)(first * mels + m)) == 0) first++;
        while (last > first && kws_number(filters, (size_t)((last - 1) * mels + m)) == 0) last--;
        front->first[m] = first, front->last[m] = last;
        for (int bin = first; bin < last; bin++)
            *weight++ = kws_number(filters, (size_t)(bin * mels + m));
    }
}

static void load_frontend(loader *l, frontend *front, const network_sizes *s, float floor) {
    static const int factors[] = {4, 5, 3, 2};
    int points = s->window / 2, left = points;
    size_t shape[] = {(size_t)points + 1, (size_t)s->mels};
    front->window = s->window, front->hop = s->hop, front->mels = s->mels, front->floor = floor;
    front->bins = points + 1;
    for (int i = 0; i < 4; i++)
        while (left % factors[i] == 0 && front->factors < MAX_FACTORS)
            front->factor[front->factors++] = factors[i], left /= factors[i];
    if (s->window % 2 || left != 1)
        kws_refuse(l, "the analysis window must be an even number with the factors 2, 3 and 5");
    front->taper = kws_vector(l, kws_name(l, "frontend.window", -1, ""), s->window);
    numbers filters = kws_numbers(l, kws_name(l, "frontend.mel", -1, ""), 2, shape);
    front->twiddle = kws_claim(l, (size_t)2 * points * MAX_FACTORS * sizeof(float));
    front->untangle = kws_claim(l, (size_t)2 * (points / 2 + 1) * sizeof(float));
    front->first = kws_claim(l, (size_t)s->mels * sizeof(int));
    front->last = kws_claim(l, (size_t)s->mels * sizeof(int));
    front->filter = kws_claim(l, (size_t)front->bins * s->mels * sizeof(float));
    if (l->failed) return;
    /* frontend.inc adds without halving */
    for (int i = 0; i < s->window; i++) front->taper[i] *= 0.5f;
    compute_roots(front);
    pack_filters(front, &filters);
}

static int is_same_frontend(const frontend *a, const frontend *b) {
    size_t mels = (size_t)a->mels, bins = (size_t)a->bins;
    return a->window == b->window && a->hop == b->hop && a->mels == b->mels &&
           a->floor == b->floor && !memcmp(a->taper, b->taper, a->window * sizeof(float)) &&
           !memcmp(a->first, b->first, mels * sizeof(int)) &&
           !memcmp(a->last, b->last, mels * sizeof(int)) &&
           !memcmp(a->filter, b->filter, bins * mels * sizeof(float));
}

/* The layers over bands. Returns the bands that they leave. */
static int load_bands(loader *l, network *net, const network_sizes *s) {
    int channels = s->band_channels, padded = rounded(channels, PANEL), bands = s->mels;
    band_convolution *layer = net->bands;
    net->band_layers = 2 + s->residuals;
    net->input_scale = kws_vector(l, kws_name(l, "input.scale", -1, ""), bands);
    net->input_shift = kws_vector(l, kws_name(l, "input.shift", -1, ""), bands);
    for (int i = 0; i < net->band_layers; i++, layer++) {
        *layer = (band_convolution){.inputs = padded, .bands = bands, .band_kernel = 3,
                                    .band_stride = i < 2 ? 2 : 1, .kernel = i == 1 ? 1 : 3,
                                    .stride = 1};
        if (i == 0) {
            layer->inputs = 1, layer->band_kernel = 5;
            layer->kernel = s->stem_kernel, layer->stride = s->stride;
        }
        load_band_layer(l, layer, i, i ? channels : 1, channels);
        bands = layer->output_bands;
    }
    return bands;
}

/* Inputs of the stem, as torch numbers them and as rows hold them: over mels, mel by mel and hop by
   hop; over bands, channel by channel and band by band. */
static void load_stem(loader *l, network *net, const network_sizes *s, int bands) {
    int index[MAX_STEM_INPUTS], channels = s->band_channels, padded = rounded(channels, PANEL);
    int kernel = channels ? 1 : s->stem_kernel;
    int parts = channels ? channels * bands : s->mels; /* inputs of one row */
    int count = channels ? padded * bands : s->mels * kernel;
    if (count > MAX_STEM_INPUTS) kws_refuse(l, "its stem is wider than this kernel allows");
    size_t shape[] = {(size_t)s->channels, (size_t)parts, (size_t)kernel};
    numbers weight = kws_numbers(l, kws_name(l, "stem.weight", -1, ""), 3, shape);
    numbers bias = kws_numbers(l, kws_name(l, "stem.bias", -1, ""), 1, shape);
    if (l->failed) return;
    for (int i = 0; i < count; i++)
        if (channels)
            index[i] = i % padded < channels ? i % padded * bands + i / padded : -1;
        else
            index[i] = i % parts * kernel + i / parts;
    pack_dense(l, &net->stem, &weight, &bias, s->channels, parts * kernel, index, count);
}

static int is_network(const network_sizes *s, const float *scalars, int is_recognizer) {
    return within(s->window, 8, MAX_WINDOW) && within(s->hop, 1, s->window) &&
           within(s->mels, 1, MAX_MELS) && within(s->stride, 1, MAX_STRIDE) &&
           within(s->stem_kernel, s->stride + 1, 32) && s->hop * s->stride <= MAX_FRAME &&
           within(s->channels, 1, MAX_CHANNELS) && within(s->blocks, 0, MAX_BLOCKS) &&
           within(s->phones, is_recognizer, MAX_PHONES_OF_MODEL) &&
           within(s->words, !is_recognizer, is_recognizer ? 0 : MAX_WORDS) &&
           within(s->pool_frames, 2, 64) && within(s->pooling, POOL_MAX, POOL_NEWEST) &&
           within(s->residuals, 0, MAX_RESIDUALS) && within(s->band_channels, 0, 64) &&
           scalars[0] > 0 && scalars[1] > 0 && scalars[1] < 1e4f;
}

static void load_network(loader *l, network *net, int is_recognizer) {
    const int *size =
        kws_integers(l, kws_name(l, "sizes", -1, ""), sizeof(network_sizes) / sizeof(int));
    const float *scalars = kws_vector(l, kws_name(l, "scalars", -1, ""), 2);
    network_sizes s;
    if (l->failed) return;
    memcpy(&s, size, sizeof s);
    if (!is_network(&s, scalars, is_recognizer)) {
        kws_refuse(l, "its sizes are not those of a network that this kernel runs");
        return;
    }
    net->stride = s.stride, net->width = rounded(s.channels, PANEL), net->blocks = s.blocks;
    net->words = s.words, net->phones = s.phones;
    net->pool_frames = s.pool_frames, net->pool = (pooling)s.pooling, net->exponent = scalars[1];
    load_frontend(l, &net->front, &s, scalars[0]);
    load_stem(l, net, &s, s.band_channels ? load_bands(l, net, &s) : 0);
    int frames = s.band_channels ? 2 * s.residuals : 0; /* of the past that the layers see */
    for (int i = 0; i < net->blocks && !l->failed; i++) {
        load_depthwise(l, &net->filters[i], i, s.channels, net->width);
        load_dense(l, &net->pointwise[i], "blocks", i, ".pointwise", s.channels, s.channels,
                   net->width);
        frames += net->filters[i].kernel - 1;
    }
    if (s.words) load_dense(l, &net->head, "head", -1, "", 3 * s.words, s.channels, net->width);
    if (s.phones)
        load_dense(l, &net->phone_head, "phones", -1, "", s.phones, s.channels, net->width);
    if (l->failed) return;
    net->receptive_field = frames + (s.stem_kernel + s.stride - 1) / s.stride;
    kws_lay_out(net);
}

/* Whether `starts` [count + 1] cuts `total` into pieces of at least `least` and at most `most`. */
static int cuts(const int *starts, size_t count, int total, int least, int most) {
    int is_sound = starts[0] == 0 && starts[count] == total;
    for (size_t i = 0; i < count; i++)
        is_sound = is_sound && within(starts[i + 1], starts[i] + least, total) &&
                   starts[i + 1] - starts[i] <= most;
    return is_sound;
}

static void load_pronunciations(loader *l, verifier *v, size_t words, int phones) {
    tensor_name phone_name = kws_name(l, "phone_numbers", -1, "");
    tensor_name first_name = kws_name(l, "first_phone", -1, "");
    const tensor *all = kws_find_tensor(l->table, phone_name.text);
    const tensor *first = kws_find_tensor(l->table, first_name.text);
    if (!all || !first || !first->count) {
        kws_refuse(l, "the pronunciations of its verifier are missing");
        return;
    }
    size_t pronunciations = first->count - 1;
    v->first_pronunciation = kws_integers(l, kws_name(l, "first_pronunciation", -1, ""), words + 1);
    v->first_phone = kws_integers(l, first_name, first->count);
    v->phone = kws_integers(l, phone_name, all->count);
    if (l->failed) return;
    int count = (int)pronunciations;
    int is_sound = cuts(v->first_pronunciation, words, count, 0, count) &&
                   cuts(v->first_phone, pronunciations, (int)all->count, 1, MAX_PHONES);
    for (size_t i = 0; i < all->count; i++)
        is_sound = is_sound && within(v->phone[i], 0, phones - 1);
    if (!is_sound) kws_refuse(l, "the pronunciations of its verifier are damaged");
}

static void load_verifier(loader *l) {
    kws_model *m = l->model;
    verifier *v = &m->verifier;
    load_network(l, &m->recognizer, 1);
    load_pronunciations(l, v, (size_t)m->scan.words, m->recognizer.phones);
    const float *fusion = kws_vector(l, kws_name(l, "fusion", -1, ""), 3);
    if (l->failed) return;
    if (m->recognizer.front.hop * m->recognizer.stride != m->frame_samples)
        kws_refuse(l, "its two networks have frames of different lengths");
    if (!(fusion[0] >= 0 && fusion[1] >= fusion[2]))
        kws_refuse(l, "the fusion of its verifier is damaged");
    v->scale = fusion[0], v->ceiling = fusion[1], v->floor = fusion[2];
    v->has_own_frontend = !is_same_frontend(&m->scan.front, &m->recognizer.front);
    v->exists = 1;
}

#if defined(__x86_64__)
/* Whether processor and system know AVX2 and FMA (Intel's manual, volume 1, 14.3). */
static int has_avx2(void) {
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_FMA) || !(c & bit_OSXSAVE)) return 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX2);
}
#endif

static const instructions *choose_instructions(void) {
#if defined(__x86_64__)
    if (has_avx2()) return &kws_avx2;
#endif
    return &kws_baseline;
}

/* Where the parts of a stream lie. */
static void lay_out_stream(kws_model *m) {
    int past = m->scan.front.window - m->scan.front.hop;
    int other = m->recognizer.front.window - m->recognizer.front.hop;
    m->past_samples = past > other ? past : other;
    m->scan_offset = kws_header_bytes(m);
    m->verifier_offset = m->scan_offset + m->scan.bytes;
    m->recognizer_offset = m->verifier_offset + (m->verifier.exists ? kws_verifier_bytes(m) : 0);
    m->stream_bytes = m->recognizer_offset + m->recognizer.bytes;
}

/* What stands before every stream: the state after endless digital silence. Of the recognizer's,
   which reads when it is asked, it is all zeros, and not part of it. */
static void prepare_initial_state(loader *l) {
    kws_model *m = l->model;
    const network *net = &m->scan;
    m->initial = kws_claim(l, m->recognizer_offset);
    if (l->failed) return;
    float silence[MAX_WINDOW + BLOCK_FRAMES * MAX_FRAME] = {0};
    float levels[BLOCK_FRAMES * MAX_STRIDE * MAX_MELS];
    float frames[BLOCK_FRAMES * MAX_WORDS], pooled[BLOCK_FRAMES * MAX_WORDS];
    float boundaries[BLOCK_FRAMES * MAX_WORDS * 2];
    network_output output = {frames, pooled, boundaries, NULL};
    m->instructions->log_mel(&net->front, silence + MAX_WINDOW, BLOCK_FRAMES * net->stride, levels);
    for (int done = 0; done < net->receptive_field + net->pool_frames; done += BLOCK_FRAMES)
        m->instructions->run(net, m->initial + m->scan_offset, levels, BLOCK_FRAMES, &output);
    if (m->verifier.exists) kws_verifier_init(m, m->initial);
}

static void load_model(loader *l) {
    kws_model *m = l->model;
    load_network(l, &m->scan, 0);
    m->frame_samples = m->scan.front.hop * m->scan.stride;
    if (!l->failed && kws_find_tensor(l->table, "verifier.sizes")) {
        l->prefix = "verifier";
        load_verifier(l);
    }
    if (l->failed) return;
    m->instructions = choose_instructions();
    lay_out_stream(m);
    prepare_initial_state(l);
}

kws_model *kws_open(const void *bytes, size_t size, char error[KWS_ERROR_BYTES]) {
    tensor_table *table = malloc(sizeof *table);
    kws_model *model = calloc(1, sizeof *model);
    if (model) model->blocks = calloc(MAX_MEMORY_BLOCKS, sizeof *model->blocks);
    loader l = {table, model, "network", error, 0};
    if (!table || !model || !model->blocks)
        kws_refuse(&l, "there is not enough memory for the model");
    else if (kws_read_tensors(bytes, size, table, error))
        l.failed = 1;
    else
        load_model(&l);
    free(table);
    if (!l.failed) return model;
    kws_close(model);
    return NULL;
}

void kws_close(kws_model *model) {
    if (!model) return;
    for (int i = 0; i < model->block_count; i++) free(model->blocks[i]);
    free(model->blocks);
    free(model);
}
