/* Vectors of eight floats, by the vector extension of GCC and Clang: two SSE or NEON registers, or
   one of AVX2. Arithmetic on them is written as on numbers. */

#ifndef KWS_SIMD_H
#define KWS_SIMD_H

#include <stdint.h>
#include <string.h>

#define LANES 8
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(32)));
typedef int32_t ivec __attribute__((vector_size(32)));

INLINE vec load(const float *p) {
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store(float *p, vec x) { memcpy(p, &x, sizeof x); }

INLINE vec splat(float x) { return (vec){x, x, x, x, x, x, x, x}; }

INLINE vec relu(vec x) {
    ivec positive = x > splat(0);
    ivec bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= positive;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Natural logarithm of positive normal numbers, to 2e-7 relative: the mantissa's by a polynomial
   (Moshier's Cephes library, logf), the exponent's by a multiplication. */
INLINE vec logarithm(vec x) {
    ivec bits;
    memcpy(&bits, &x, sizeof bits);
    /* exponent such that the mantissa lies in [sqrt(1/2), sqrt(2)) */
    ivec exponent = ((bits - 0x3f3504f3) >> 23);
    bits -= exponent << 23;
    vec m;
    memcpy(&m, &bits, sizeof m);
    vec f = m - splat(1), z = f * f;
    vec e = __builtin_convertvector(exponent, vec);
    vec y = splat(7.0376836292e-2f);
    y = y * f + splat(-1.1514610310e-1f);
    y = y * f + splat(1.1676998740e-1f);
    y = y * f + splat(-1.2420140846e-1f);
    y = y * f + splat(1.4249322787e-1f);
    y = y * f + splat(-1.6668057665e-1f);
    y = y * f + splat(2.0000714765e-1f);
    y = y * f + splat(-2.4999993993e-1f);
    y = y * f + splat(3.3333331174e-1f);
    y = y * f * z;
    y = y + e * splat(-2.12194440e-4f) - z * splat(0.5f);
    return f + y + e * splat(0.693359375f);
}

#endif
