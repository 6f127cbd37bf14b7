/* Vectors of eight floats, by the vector extension of GCC and Clang: two SSE or NEON registers, or
   one of AVX2. Arithmetic on them is written as on numbers. */

#ifndef KWS_SIMD_H
#define KWS_SIMD_H

#include <stddef.h>
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

/* Half a vector. */
typedef float quad __attribute__((vector_size(16)));

INLINE quad load_quad(const float *p) {
    quad x;
    memcpy(&x, p, sizeof x);
    return x;
}

INLINE void store_quad(float *p, quad x) { memcpy(p, &x, sizeof x); }

INLINE quad splat_quad(float x) { return (quad){x, x, x, x}; }

/* Numbers of two quads: 0 to 3 are those of a, 4 to 7 those of b. */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t iquad __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (iquad){__VA_ARGS__})
#endif

/* Rows become columns. */
INLINE void transpose(quad q[4]) {
    quad a = SHUFFLE(q[0], q[1], 0, 4, 1, 5), b = SHUFFLE(q[0], q[1], 2, 6, 3, 7);
    quad c = SHUFFLE(q[2], q[3], 0, 4, 1, 5), d = SHUFFLE(q[2], q[3], 2, 6, 3, 7);
    q[0] = SHUFFLE(a, c, 0, 1, 4, 5), q[1] = SHUFFLE(a, c, 2, 3, 6, 7);
    q[2] = SHUFFLE(b, d, 0, 1, 4, 5), q[3] = SHUFFLE(b, d, 2, 3, 6, 7);
}

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
