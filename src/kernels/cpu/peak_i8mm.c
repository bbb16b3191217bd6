/* peak_i8mm.c - the SMMLA loop: the limit that integer prefill is measured against. */
#include "kernels/cpu/peak_neon.h"

NEON_PEAK_INT8(qn_peak_int8_i8mm, vmmlaq_s32, 32)
