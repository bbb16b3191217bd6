/* matmul_float_neon.c - products with F32, F16, BF16 and F8_E4M3 weights for NEON: v16_neon.h says what a vector is, the body says what is done. */
#include <stdbool.h>

#include "base/cpu.h"
#include "kernels/cpu/v16_neon.h"
#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"

#include "kernels/cpu/matmul_float_body.inc"
