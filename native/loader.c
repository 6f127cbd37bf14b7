/* The tensors of a model file as numbers. Files and this kernel are little-endian. */

#include "loader.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>



void kws_refuse(loader *l, const char *what) {
    if (!l->failed) snprintf(l->error, KWS_ERROR_BYTES, "%s", what);
    l->failed = 1;
}

void kws_refuse_tensor(loader *l, const char *name, const char *what) {
    if (!l->failed) snprintf(l->error, KWS_ERROR_BYTES, "tensor %s %s", name, what);
    l->failed = 1;
}

void *kws_claim(loader *l, size_t bytes) {
    kws_model *m = l->model;
    char *block = NULL;
    if (!l->failed && m->block_count < MAX_MEMORY_BLOCKS) block = calloc(1, bytes + 64);
    if (!block) return kws_refuse(l, "there is not enough memory for the model"), NULL;
    m->blocks[m->block_count++] = block;
    return (void *)(((uintptr_t)block + 63) & ~(uintptr_t)63);
}

tensor_name kws_name(const loader *l, const char *name, int number, const char *part) {
    tensor_name full;
    if (number < 0)
        snprintf(full.text, MAX_NAME, "%s.%s%s", l->prefix, name, part);
    else
        snprintf(full.text, MAX_NAME, "%s.%s.%d%s", l->prefix, name, number, part);
    return full;
}

static const tensor *expect(loader *l, const char *name, int dimensions, const size_t *shape) {
    const tensor *t = l->failed ? NULL : kws_find_tensor(l->table, name);
    if (!t) return kws_refuse_tensor(l, name, "is missing"), NULL;
    int fits = t->dimensions == dimensions;
    for (int i = 0; fits && i < dimensions; i++) fits = t->shape[i] == shape[i];
    if (!fits) return kws_refuse_tensor(l, name, "has another shape than the sizes say"), NULL;
    return t;
}

/* IEEE 754 half precision. */
static float from_half(const unsigned char *p) {
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8, sign = bits >> 15;
    uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
    float value;
    if (exponent == 31) return NAN; /* neither infinity nor NaN is a weight */
    if (exponent == 0) return (float)mantissa * (sign ? -0x1p-24f : 0x1p-24f);
    bits = sign << 31 | (exponent + 112) << 23 | mantissa << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

float kws_number(const numbers *n, size_t index) {
    const unsigned char *data = n->tensor->data;
    float value;
    if (n->tensor->type == F16) return from_half(data + 2 * index);
    if (n->tensor->type == F32) return memcpy(&value, data + 4 * index, 4), value;
    memcpy(&value, n->steps->data + 4 * (index / n->row), 4);
    return (float)(int8_t)data[index] * value;
}

numbers kws_numbers(loader *l, tensor_name name, int dimensions, const size_t *shape) {
    const tensor *t = expect(l, name.text, dimensions, shape);
    numbers n = {t, NULL, 1};
    if (!t) return n;
    if (t->type == I32) return kws_refuse_tensor(l, name.text, "holds integers"), n;
    if (t->type == I8) {
        char step_name[MAX_NAME + 8];
        snprintf(step_name, sizeof step_name, "%s.step", name.text);
        n.steps = expect(l, step_name, 1, shape);
        if (n.steps && n.steps->type != F32) kws_refuse_tensor(l, step_name, "is not float32");
        if (l->failed) return n;
        n.row = shape[0] ? t->count / shape[0] : 1;
    }
    for (size_t i = 0; i < t->count; i++)
        if (!isfinite(kws_number(&n, i)))
            return kws_refuse_tensor(l, name.text, "holds what is no number"), n;
    return n;
}

float *kws_vector(loader *l, tensor_name name, int count) {
    size_t shape[] = {(size_t)count};
    numbers n = kws_numbers(l, name, 1, shape);
    float *values = kws_claim(l, shape[0] * sizeof *values);
    for (int i = 0; !l->failed && i < count; i++) values[i] = kws_number(&n, (size_t)i);
    return values;
}

int *kws_integers(loader *l, tensor_name name, size_t count) {
    const tensor *t = expect(l, name.text, 1, &count);
    if (t && t->type != I32) kws_refuse_tensor(l, name.text, "is not int32");
    int *values = kws_claim(l, count * sizeof *values);
    if (values && count) memcpy(values, t->data, count * sizeof *values);
    return values;
}
