/* The layers for any processor: SSE2 on x86-64, NEON on ARM64, SIMD128 in WebAssembly, plain C
   elsewhere. */

#include "internal.h"

#if defined(__aarch64__) /* twice the registers */
#define MOST_ROWS 5
#else
#define MOST_ROWS 2
#endif
#include "isa.inc"

const instructions kws_baseline = {"baseline", log_mel, run};
