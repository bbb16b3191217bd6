/* levels.h - tables of code values for VPSHUFB and TBL, with an offset added that makes them unsigned. */
#ifndef QN_KERNELS_CPU_LEVELS_H
#define QN_KERNELS_CPU_LEVELS_H

#include <stdint.h>

/* qn_iq4_levels plus 128. */
static const int8_t iq4_levels_plus_128[16] = {1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15};
/* qn_fp4_doubled plus 12. */
static const int8_t fp4_doubled_plus_12[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

#endif
