/* The layers for x86 processors with AVX2 and FMA (Haswell, 2013, and later). */

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "internal.h"

#define MOST_ROWS 5
#include "isa.inc"

const instructions kws_avx2 = {"avx2", log_mel, run};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
