/* What a model file holds, tensor by tensor, checked: the first thing that is wrong ends the
   loading, and everything after it does nothing. */

#ifndef KWS_LOADER_H
#define KWS_LOADER_H

#include "internal.h"
#include "safetensors.h"

typedef struct {
    tensor_table *table;
    kws_model *model;
    const char *prefix; /* of the names: "network" or "verifier" */
    char *error;
    int failed;
} loader;

/* Numbers of a tensor of float32, float16 or int8; the last times the step of their row, which the
   tensor "name.step" holds. */
typedef struct {
    const tensor *tensor, *steps;
    size_t row; /* numbers that share a step */
} numbers;

#define MAX_MEMORY_BLOCKS 512 /* that a model may claim */

/* Refuses the model with a sentence. */
void kws_refuse(loader *l, const char *what);

/* Refuses it for a tensor. */
void kws_refuse_tensor(loader *l, const char *name, const char *what);

/* Zeroed memory that the model owns, aligned to 64 bytes. NULL after a failure. */
void *kws_claim(loader *l, size_t bytes);

/* "prefix.name", and for layers in rows "prefix.name.number.part" (number -1: none). */
typedef struct {
    char text[MAX_NAME];
} tensor_name;
tensor_name kws_name(const loader *l, const char *name, int number, const char *part);

/* A tensor of this shape whose numbers are all finite. */
numbers kws_numbers(loader *l, tensor_name name, int dimensions, const size_t *shape);
float kws_number(const numbers *n, size_t index);

/* Tensors of one dimension, copied. NULL after a failure. */
float *kws_vector(loader *l, tensor_name name, int count);
int *kws_integers(loader *l, tensor_name name, size_t count);

#endif
