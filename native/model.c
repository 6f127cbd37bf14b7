/* Opens a model file: reads its tensors, checks every size before it is used, and lays the weights
   out as the layers want them. kws/training/model/tensors.py names the tensors. */

#include <math.h>
#include <stdlib.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "internal.h"
#include "safetensors.h"

#define MAX_MEMORY_BLOCKS 512

typedef struct {
    const tensor_table *table;
    kws_model *model;
    const char *prefix;
    char *error;
    int failed;
} loader;

static int say(char *error, const char *a, const char *b, const char *c) {
    const char *parts[] = {a, b, c};
    size_t at = 0;
    for (int i = 0; i < 3; i++)
        for (const char *p = parts[i]; *p && at + 1 < KWS_ERROR_BYTES; p++) error[at++] = *p;
    error[at] = 0;
    return -1;
}

static void fail(loader *l, const char *name, const char *what) {
    if (!l->failed) say(l->error, "tensor ", name, what);
    l->failed = 1;
}

static void refuse(loader *l, const char *what) {
    if (!l->failed) say(l->error, what, "", "");
    l->failed = 1;
}

/* Zeroed memory that the model owns, aligned to 64 bytes. NULL after a failure. */
static void *claim(loader *l, size_t bytes) {
    kws_model *m = l->model;
    char *block = m->block_count < MAX_MEMORY_BLOCKS ? calloc(1, bytes + 128) : NULL;
    if (!block) return refuse(l, "there is not enough memory for the model"), NULL;
    m->blocks[m->block_count++] = block;
    return (void *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
}

static float half(const unsigned char *p) {
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8, sign = bits >> 15;
    uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float value = exponent == 31  ? NAN /* neither infinity nor NaN is a weight */
                  : exponent == 0 ? ldexpf((float)mantissa, -24)
                                  : ldexpf((float)(mantissa + 1024), (int)exponent - 25);
    return sign ? -value : value;
}

/* "prefix.name", and for layers in rows "prefix.name.number.part" */
static const char *full(const loader *l, char *buffer, const char *name, int number,
                        const char *part) {
    char digits[4] = {(char)('0' + number / 10), (char)('0' + number % 10), 0, 0};
    const char *pieces[] = {l->prefix, ".", name, number < 0 ? "" : ".",
                            number < 0 ? "" : number < 10 ? digits + 1 : digits, part};
    size_t at = 0;
    for (int i = 0; i < 6; i++)
        for (const char *p = pieces[i]; *p && at + 1 < MAX_NAME; p++) buffer[at++] = *p;
    buffer[at] = 0;
    return buffer;
}

static const tensor *expect(loader *l, const char *name, int dimensions, const size_t *shape) {
    const tensor *t = kws_find_tensor(l->table, name);
    if (!t) return fail(l, name, " is missing"), NULL;
    int fits = t->dimensions == dimensions;
    for (int i = 0; fits && i < dimensions; i++) fits = t->shape[i] == shape[i];
    if (!fits) return fail(l, name, " has another shape than the sizes say"), NULL;
    return t;
}

/* All numbers of a tensor of this shape as floats; int8 ones times the step of their row, which the
   tensor "name.step" holds. */
static float *floats(loader *l, const char *name, int dimensions, const size_t *shape) {
    char step_name[MAX_NAME + 8];
    const tensor *t = l->failed ? NULL : expect(l, name, dimensions, shape), *steps = NULL;
    if (!t) return NULL;
    float *values = claim(l, (t->count + LANES) * sizeof(float));
    if (!values) return NULL;
    if (t->type == I8) {
        strcpy(step_name, name);
        strcat(step_name, ".step");
        steps = expect(l, step_name, 1, shape);
        if (!steps) return NULL;
        if (steps->type != F32) return fail(l, step_name, " is not float32"), NULL;
    } else if (t->type == I32) {
        return fail(l, name, " holds integers"), NULL;
    }
    size_t row = shape[0] ? t->count / shape[0] : 0;
    for (size_t i = 0; i < t->count; i++) {
        float value = 0;
        if (t->type == F32) {
            memcpy(&value, t->data + 4 * i, 4);
        } else if (t->type == F16) {
            value = half(t->data + 2 * i);
        } else {
            float step;
            memcpy(&step, steps->data + 4 * (i / row), 4);
            value = (float)(int8_t)t->data[i] * step;
        }
        if (!isfinite(value)) return fail(l, name, " holds what is no number"), NULL;
        values[i] = value;
    }
    return values;
}

static float *vector_of(loader *l, const char *name, int count) {
    size_t shape[] = {(size_t)count};
    return floats(l, name, 1, shape);
}

static int *integers(loader *l, const char *name, size_t count) {
    size_t shape[] = {count};
    const tensor *t = l->failed ? NULL : expect(l, name, 1, shape);
    if (!t) return NULL;
    if (t->type != I32) return fail(l, name, " is not int32"), NULL;
    int *values = claim(l, (count + 1) * sizeof(int));
    if (values) memcpy(values, t->data, count * sizeof(int32_t));
    return values;
}

static int rounded(int count, int step) { return (count + step - 1) / step * step; }

/* W [outputs, inputs] as panels. index: of an input of W, for each that the layer is given (-1:
   none, which is padding). */
static void pack_dense(loader *l, dense *layer, const float *weight, const float *bias, int outputs,
                       int inputs, const int *index, int index_count) {
    if (l->failed) return;
    layer->inputs = index_count, layer->outputs = outputs, layer->padded = rounded(outputs, PANEL);
    layer->weight = claim(l, (size_t)layer->padded * index_count * sizeof(float));
    layer->bias = claim(l, (size_t)layer->padded * sizeof(float));
    if (l->failed) return;
    memcpy(layer->bias, bias, (size_t)outputs * sizeof(float));
    for (int o = 0; o < outputs; o++)
        for (int i = 0; i < index_count; i++)
            if (index[i] >= 0)
                layer->weight[((size_t)(o / PANEL) * index_count + i) * PANEL + o % PANEL] =
                    weight[(size_t)o * inputs + index[i]];
}

/* A layer whose inputs are `channels` channels, padded to rows of `width`. */
static void load_dense(loader *l, dense *layer, const char *name, int number, int outputs,
                       int channels, int width) {
    char weight_name[MAX_NAME], bias_name[MAX_NAME];
    size_t shape[] = {(size_t)outputs, (size_t)channels};
    int index[MAX_CHANNELS];
    float *weight = floats(l, full(l, weight_name, name, number, number < 0 ? ".weight" : ".pointwise.weight"), 2, shape);
    float *bias = vector_of(l, full(l, bias_name, name, number, number < 0 ? ".bias" : ".pointwise.bias"), outputs);
    for (int i = 0; i < width; i++) index[i] = i < channels ? i : -1;
    pack_dense(l, layer, weight, bias, outputs, channels, index, width);
}

static void load_depthwise(loader *l, depthwise *layer, int number, int channels, int width) {
    char name[MAX_NAME], bias_name[MAX_NAME];
    const tensor *t = kws_find_tensor(l->table, full(l, name, "blocks", number, ".depthwise.weight"));
    if (l->failed) return;
    if (!t || t->dimensions != 2) {
        fail(l, name, " is missing");
        return;
    }
    if (t->shape[1] < 2 || t->shape[1] > 256) {
        fail(l, name, " has a kernel of less than 2 or more than 256 frames");
        return;
    }
    size_t shape[] = {(size_t)channels, t->shape[1]};
    layer->channels = width, layer->kernel = (int)t->shape[1];
    float *weight = floats(l, name, 2, shape);
    float *bias = vector_of(l, full(l, bias_name, "blocks", number, ".depthwise.bias"), channels);
    if (l->failed) return;
    layer->weight = claim(l, (size_t)layer->kernel * width * sizeof(float));
    layer->bias = claim(l, (size_t)width * sizeof(float));
    if (l->failed) return;
    memcpy(layer->bias, bias, (size_t)channels * sizeof(float));
    for (int c = 0; c < channels; c++)
        for (int k = 0; k < layer->kernel; k++)
            layer->weight[(size_t)k * width + c] = weight[(size_t)c * layer->kernel + k];
}

static void load_band_layer(loader *l, band_convolution *layer, int number, int inputs,
                            int padded_inputs, int outputs, int bands, int band_kernel,
                            int band_stride, int kernel, int stride) {
    char name[MAX_NAME];
    size_t shape[] = {(size_t)outputs, (size_t)inputs, (size_t)band_kernel, (size_t)kernel};
    int output_bands = (bands + band_stride - 1) / band_stride, padded = rounded(outputs, LANES);
    size_t affine[] = {(size_t)outputs, (size_t)output_bands};
    *layer = (band_convolution){.inputs = padded_inputs, .outputs = outputs, .padded = padded,
                                .bands = bands, .margin = band_kernel / 2,
                                .padded_bands = bands + band_kernel / 2 * 2 + band_stride - 1,
                                .output_bands = output_bands,
                                .band_kernel = band_kernel, .band_stride = band_stride,
                                .kernel = kernel, .stride = stride};
    float *weight = floats(l, full(l, name, "bands", number, ".weight"), 4, shape);
    float *scale = floats(l, full(l, name, "bands", number, ".scale"), 2, affine);
    float *shift = floats(l, full(l, name, "bands", number, ".shift"), 2, affine);
    if (l->failed) return;
    if (output_bands * padded > MAX_CHANNELS || layer->padded_bands * padded_inputs > MAX_CHANNELS) {
        refuse(l, "the stem over bands is wider than this kernel allows");
        return;
    }
    layer->weight = claim(l, (size_t)kernel * band_kernel * padded_inputs * padded * sizeof(float));
    layer->scale = claim(l, (size_t)output_bands * padded * sizeof(float));
    layer->shift = claim(l, (size_t)output_bands * padded * sizeof(float));
    if (l->failed) return;
    for (int o = 0; o < outputs; o++) {
        for (int i = 0; i < inputs; i++)
            for (int b = 0; b < band_kernel; b++)
                for (int t = 0; t < kernel; t++)
                    layer->weight[(((size_t)t * band_kernel + b) * padded_inputs + i) * padded + o] =
                        weight[(((size_t)o * inputs + i) * band_kernel + b) * kernel + t];
        for (int b = 0; b < output_bands; b++) {
            layer->scale[(size_t)b * padded + o] = scale[(size_t)o * output_bands + b];
            layer->shift[(size_t)b * padded + o] = shift[(size_t)o * output_bands + b];
        }
    }
}

/* The factors of the FFT, its roots, and the filters of the mel bands without their zeros. */
static void load_frontend(loader *l, frontend *front, int window, int hop, int mels, float floor) {
    char name[MAX_NAME];
    int n = window / 2, bins = n + 1, left = n;
    size_t shape[] = {(size_t)bins, (size_t)mels};
    front->window = window, front->hop = hop, front->mels = mels, front->floor = floor;
    front->bins = bins, front->factors = 0;
    static const int factors[] = {4, 5, 3, 2};
    for (int i = 0; i < 4; i++)
        while (left % factors[i] == 0 && front->factors < MAX_FACTORS)
            front->factor[front->factors++] = factors[i], left /= factors[i];
    if (window % 2 || left != 1) {
        refuse(l, "the analysis window must be an even number with the factors 2, 3 and 5");
        return;
    }
    front->taper = vector_of(l, full(l, name, "frontend.window", -1, ""), window);
    float *mel = floats(l, full(l, name, "frontend.mel", -1, ""), 2, shape);
    front->twiddle = claim(l, (size_t)2 * n * MAX_FACTORS * sizeof(float));
    front->untangle = claim(l, (size_t)2 * bins * sizeof(float));
    front->first = claim(l, (size_t)mels * sizeof(int));
    front->last = claim(l, (size_t)mels * sizeof(int));
    front->filter = claim(l, (size_t)bins * mels * sizeof(float));
    if (l->failed) return;
    const double turn = -6.283185307179586476925286766559;
    float *root = front->twiddle, *filter = front->filter;
    for (int i = 0, length = n; i < front->factors; i++) {
        int r = front->factor[i], m = length / r;
        for (int p = 0; p < m; p++)
            for (int k = 1; k < r; k++) {
                *root++ = (float)cos(turn * p * k / length);
                *root++ = (float)sin(turn * p * k / length);
            }
        length = m;
    }
    for (int k = 0; k < bins; k++) {
        front->untangle[2 * k] = (float)cos(turn * k / window);
        front->untangle[2 * k + 1] = (float)sin(turn * k / window);
    }
    for (int m = 0; m < mels; m++) {
        int first = 0, last = bins;
        while (first < last && mel[(size_t)first * mels + m] == 0) first++;
        while (last > first && mel[(size_t)(last - 1) * mels + m] == 0) last--;
        front->first[m] = first, front->last[m] = last;
        for (int bin = first; bin < last; bin++) *filter++ = mel[(size_t)bin * mels + m];
    }
}

enum { HOP, WINDOW, MELS, STRIDE, STEM_KERNEL, CHANNELS, BLOCKS, WORDS, POOL_FRAMES, POOLING,
       PHONES, BAND_CHANNELS, RESIDUALS, SIZES };

static int within(int value, int least, int most) { return value >= least && value <= most; }

static void load_network(loader *l, network *net, int is_recognizer) {
    char name[MAX_NAME];
    const int *s = integers(l, full(l, name, "sizes", -1, ""), SIZES);
    const float *scalars = vector_of(l, full(l, name, "scalars", -1, ""), 2);
    if (l->failed) return;
    int words = s[WORDS], phones = s[PHONES], has_bands = s[BAND_CHANNELS] != 0;
    if (!within(s[WINDOW], 8, MAX_WINDOW) || !within(s[HOP], 1, s[WINDOW]) ||
        !within(s[MELS], 1, MAX_MELS) || !within(s[STRIDE], 1, MAX_STRIDE) ||
        !within(s[STEM_KERNEL], s[STRIDE] + 1, 32) || !within(s[CHANNELS], 1, MAX_CHANNELS) ||
        !within(s[BLOCKS], 0, MAX_BLOCKS) || !within(phones, 0, MAX_PHONES_OF_MODEL) ||
        !within(s[POOL_FRAMES], 2, 64) || !within(s[POOLING], POOL_MAX, POOL_NEWEST) ||
        !within(s[RESIDUALS], 0, MAX_RESIDUALS) || !within(s[BAND_CHANNELS], 0, 64) ||
        !(is_recognizer ? phones > 0 : within(words, 1, MAX_WORDS)) || !(scalars[0] > 0) ||
        !(scalars[1] > 0 && scalars[1] < 1e4f)) {
        refuse(l, "its sizes are not those of a network that this kernel runs");
        return;
    }
    int width = rounded(s[CHANNELS], PANEL);
    net->hop = s[HOP], net->stride = s[STRIDE], net->channels = s[CHANNELS];
    net->blocks = s[BLOCKS], net->words = words, net->phones = phones;
    net->pool_frames = s[POOL_FRAMES], net->pool = (pooling)s[POOLING];
    net->exponent = scalars[1], net->padded_channels = width, net->is_recognizer = is_recognizer;
    if (width > MAX_CHANNELS || rounded(3 * words, PANEL) > MAX_CHANNELS) {
        refuse(l, "it is wider than this kernel allows");
        return;
    }
    load_frontend(l, &net->front, s[WINDOW], s[HOP], s[MELS], scalars[0]);
    int stem_inputs, index[MAX_CHANNELS * 4], index_count, stem_kernel = 1;
    if (has_bands) {
        int channels = s[BAND_CHANNELS], padded = rounded(channels, LANES), bands = s[MELS];
        net->band_layers = 2 + s[RESIDUALS];
        net->input_scale = vector_of(l, full(l, name, "input.scale", -1, ""), bands);
        net->input_shift = vector_of(l, full(l, name, "input.shift", -1, ""), bands);
        load_band_layer(l, &net->bands[0], 0, 1, 1, channels, bands, 5, 2, s[STEM_KERNEL], s[STRIDE]);
        bands = (bands + 1) / 2;
        load_band_layer(l, &net->bands[1], 1, channels, padded, channels, bands, 3, 2, 1, 1);
        bands = (bands + 1) / 2;
        for (int i = 0; i < s[RESIDUALS]; i++)
            load_band_layer(l, &net->bands[2 + i], 2 + i, channels, padded, channels, bands, 3, 1, 3, 1);
        /* torch numbers the stem's inputs channel by channel, the rows here band by band */
        stem_inputs = channels * bands, index_count = bands * padded;
        if (l->failed) return;
        for (int i = 0; i < index_count; i++)
            index[i] = i % padded < channels ? (i % padded) * bands + i / padded : -1;
    } else {
        stem_kernel = s[STEM_KERNEL];
        stem_inputs = s[MELS] * stem_kernel, index_count = stem_inputs;
        if (stem_inputs > MAX_CHANNELS * 4) {
            refuse(l, "its stem is wider than this kernel allows");
            return;
        }
        /* torch numbers them mel by mel, the rows here frame by frame */
        for (int i = 0; i < index_count; i++)
            index[i] = (i % s[MELS]) * stem_kernel + i / s[MELS];
    }
    size_t shape[] = {(size_t)s[CHANNELS], (size_t)(stem_inputs / stem_kernel), (size_t)stem_kernel};
    float *weight = floats(l, full(l, name, "stem.weight", -1, ""), 3, shape);
    float *bias = vector_of(l, full(l, name, "stem.bias", -1, ""), s[CHANNELS]);
    pack_dense(l, &net->stem, weight, bias, s[CHANNELS], stem_inputs, index, index_count);
    int frames = 0;
    for (int i = 0; i < net->blocks && !l->failed; i++) {
        load_depthwise(l, &net->filters[i], i, s[CHANNELS], width);
        load_dense(l, &net->pointwise[i], "blocks", i, s[CHANNELS], s[CHANNELS], width);
        frames += net->filters[i].kernel - 1;
    }
    if (!is_recognizer) load_dense(l, &net->head, "head", -1, 3 * words, s[CHANNELS], width);
    if (phones) load_dense(l, &net->phone_head, "phones", -1, phones, s[CHANNELS], width);
    if (l->failed) return;
    if (has_bands) frames += 2 * s[RESIDUALS];
    int samples = s[WINDOW] + (s[STEM_KERNEL] - 1 + s[STRIDE] * frames) * s[HOP];
    int frame = s[HOP] * s[STRIDE];
    net->receptive_field = (samples + frame - 1) / frame;
    kws_lay_out(net);
}

static void load_verifier(loader *l) {
    kws_model *m = l->model;
    verifier *v = &m->verify;
    const tensor *all = kws_find_tensor(l->table, "verifier.phone_numbers");
    const tensor *starts = kws_find_tensor(l->table, "verifier.first_phone");
    load_network(l, &m->recognizer, 1);
    if (l->failed) return;
    if (!all || !starts || all->dimensions != 1 || starts->dimensions != 1 || !starts->count) {
        refuse(l, "the pronunciations of its verifier are missing");
        return;
    }
    if (m->recognizer.hop * m->recognizer.stride != m->scan.hop * m->scan.stride) {
        refuse(l, "its two networks have frames of different lengths");
        return;
    }
    v->first_pronunciation = integers(l, "verifier.first_pronunciation", (size_t)m->scan.words + 1);
    v->first_phone = integers(l, "verifier.first_phone", starts->count);
    v->phone = integers(l, "verifier.phone_numbers", all->count);
    float *fusion = vector_of(l, "verifier.fusion", 3);
    if (l->failed) return;
    int count = (int)starts->count - 1, is_sound = v->first_pronunciation[0] == 0 &&
        v->first_pronunciation[m->scan.words] == count && v->first_phone[0] == 0 &&
        v->first_phone[count] == (int)all->count && fusion[1] >= fusion[2] && fusion[0] >= 0;
    for (int i = 0; i < m->scan.words; i++)
        is_sound = is_sound && v->first_pronunciation[i] <= v->first_pronunciation[i + 1];
    for (int i = 0; i < count; i++)
        is_sound = is_sound && within(v->first_phone[i + 1] - v->first_phone[i], 1, MAX_PHONES);
    for (size_t i = 0; i < all->count; i++)
        is_sound = is_sound && within(v->phone[i], 0, m->recognizer.phones - 1);
    if (!is_sound) {
        refuse(l, "the pronunciations of its verifier are damaged");
        return;
    }
    v->scale = fusion[0], v->ceiling = fusion[1], v->floor = fusion[2];
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

static void choose_instructions(kws_model *model) {
    model->run = kws_run_baseline;
    model->instruction_set = "baseline";
#if defined(__x86_64__)
    if (has_avx2()) model->run = kws_run_avx2, model->instruction_set = "avx2";
#endif
}

/* The network after endless digital silence: what stands before every stream. */
static void prepare_initial_state(loader *l) {
    kws_model *m = l->model;
    const network *net = &m->scan;
    size_t scan_offset = pending_offset() + aligned((size_t)net->hop * net->stride * sizeof(float));
    m->recognizer_offset = scan_offset + net->bytes;
    m->verifier_offset = m->recognizer_offset + (m->verify.exists ? m->recognizer.bytes : 0);
    m->stream_bytes = m->verifier_offset + (m->verify.exists ? kws_verifier_bytes(m) : 0);
    m->scan_offset = scan_offset;
    m->initial = claim(l, m->recognizer_offset);
    if (l->failed) return;
    char *memory = m->initial + scan_offset;
    float frames[BLOCK_FRAMES * MAX_WORDS], pooled[BLOCK_FRAMES * MAX_WORDS];
    float boundaries[BLOCK_FRAMES * MAX_WORDS * 2];
    network_output output = {frames, pooled, boundaries, NULL};
    for (int done = 0; done < net->receptive_field + net->pool_frames; done += BLOCK_FRAMES) {
        int samples = BLOCK_FRAMES * net->hop * net->stride;
        memset(kws_append(&net->audio, memory, samples), 0, (size_t)samples * sizeof(float));
        m->run(net, memory, BLOCK_FRAMES, &output);
    }
}

kws_model *kws_open(const void *bytes, size_t size, char error[KWS_ERROR_BYTES]) {
    tensor_table *table = malloc(sizeof *table);
    kws_model *model = calloc(1, sizeof *model);
    if (model) model->blocks = calloc(MAX_MEMORY_BLOCKS, sizeof *model->blocks);
    loader l = {.table = table, .model = model, .prefix = "network", .error = error};
    if (!table || !model || !model->blocks) {
        refuse(&l, "there is not enough memory for the model");
    } else if (kws_read_tensors(bytes, size, table, error)) {
        l.failed = 1;
    } else {
        load_network(&l, &model->scan, 0);
        if (!l.failed && kws_find_tensor(table, "verifier.sizes")) {
            l.prefix = "verifier";
            load_verifier(&l);
        }
        choose_instructions(model);
        if (!l.failed) prepare_initial_state(&l);
    }
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
