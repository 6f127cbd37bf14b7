/* CRC-32, the cyclic redundancy check of zlib, PNG and Ethernet: the remainder of the message, read
   as a polynomial over GF(2), divided by x^32 + x^26 + x^23 + ... + 1 (bits reversed: EDB88320).

   Sixteen bytes at a time ("slicing", Kounavis and Berry, 2005): the remainder is linear, so that
   of sixteen bytes is the sum (exclusive or) of what each gives alone, with as many zeros behind it
   as bytes follow. table[z][b] has that of byte b and z zeros. 2 MB take half a millisecond. */

#include "safetensors.h"

#define SLICES 16

uint32_t kws_checksum(const unsigned char *bytes, size_t size) {
    uint32_t table[SLICES][256], rest = ~0u;
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t r = byte;
        for (int bit = 0; bit < 8; bit++) r = r >> 1 ^ (r & 1 ? 0xEDB88320u : 0);
        table[0][byte] = r;
    }
    for (int z = 1; z < SLICES; z++)
        for (int byte = 0; byte < 256; byte++)
            table[z][byte] = table[z - 1][byte] >> 8 ^ table[0][table[z - 1][byte] & 255];
    for (; size >= SLICES; bytes += SLICES, size -= SLICES) {
        uint32_t sum = 0;
        for (int i = 0; i < 4; i++) sum ^= table[SLICES - 1 - i][(rest >> 8 * i & 255) ^ bytes[i]];
        for (int i = 4; i < SLICES; i++) sum ^= table[SLICES - 1 - i][bytes[i]];
        rest = sum;
    }
    for (; size; size--) rest = rest >> 8 ^ table[0][(rest ^ *bytes++) & 255];
    return ~rest;
}
