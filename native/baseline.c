/* The layers for any processor: SSE2 on x86-64, NEON on ARM64, plain C elsewhere. */

#include "internal.h"

#define ROWS_AT_ONCE 2
#define BANDS_AT_ONCE 2
#define RUN kws_run_baseline
#include "isa.inc"
