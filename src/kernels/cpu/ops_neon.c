/* ops_neon.c - qn_ops for NEON: v16_neon.h says what a vector is, the bodies say what is done. Owns nothing else. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/cpu/v16_neon.h"
#include "kernels/cpu/variant.h"
#include "kernels/kv_q8_0.h"
#include "kernels/ops_int.h"
#include "kernels/vmath_exp64.h"

#include "kernels/cpu/attention_body.inc"
#include "kernels/cpu/ops_body.inc"
