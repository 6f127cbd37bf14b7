/* The layers for x86 processors with AVX2 and FMA (Haswell, 2013, and later). */

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#endif

#include "internal.h"

#define ROWS_AT_ONCE 4
#define BANDS_AT_ONCE 5
#define RUN kws_run_avx2
#include "isa.inc"

#if defined(__x86_64__) && defined(__clang__)
#pragma clang attribute pop
#endif
