/* Tensors of a safetensors file, found by name: eight bytes with the length of a JSON header, the
   header, the data. https://huggingface.co/docs/safetensors (format)

   The last tensor of a model file, `checksum`, holds the CRC-32 of all bytes before it. */

#ifndef KWS_SAFETENSORS_H
#define KWS_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#define MAX_TENSORS 512
#define MAX_NAME 64
#define MAX_DIMENSIONS 4

typedef enum { F32, F16, I8, I32 } element;

typedef struct {
    char name[MAX_NAME];
    element type;
    int dimensions;
    size_t shape[MAX_DIMENSIONS], count; /* count: elements in all */
    const unsigned char *data;
} tensor;

typedef struct {
    tensor tensors[MAX_TENSORS];
    int count;
} tensor_table;

/* Reads the header and checks the checksum. 0, or -1 with a sentence in `error` (of
   KWS_ERROR_BYTES). */
int kws_read_tensors(const unsigned char *bytes, size_t size, tensor_table *table, char *error);

const tensor *kws_find_tensor(const tensor_table *table, const char *name);

/* checksum.c: CRC-32 */
uint32_t kws_checksum(const unsigned char *bytes, size_t size);

#endif
