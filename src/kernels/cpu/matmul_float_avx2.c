/* matmul_float_avx2.c - products with F32, F16, BF16 and F8_E4M3 weights for AVX2: v16_avx2.h says what a vector is, the body says what is done. */
#include <stdbool.h>

#include "base/cpu.h"
#include "kernels/cpu/v16_avx2.h"
#include "kernels/cpu/variant.h"
#include "kernels/matmul_kernels.h"

#include "kernels/cpu/matmul_float_body.inc"
