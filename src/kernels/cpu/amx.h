/* amx.h - the AMX instructions that kernels use, and the configuration of their registers.
 *
 * The compilers' own intrinsics tell nothing of the memory that they read and write (GCC 12: 8 bytes of a configuration of 64), so that stores
 * may move past them; these do. Register numbers are literals, hence macros.
 *
 * A register holds up to 16 rows of 64 bytes. AMX_DOT_*(c, a, b): c[m][n] += sum over k, i < 4 of a[m][4k + i] * b[k][n][i], a signed bytes, b
 * unsigned (US) or signed (SS) ones, c 32-bit integers that wrap; AMX_DOT_BF16 (AMX-BF16): pairs of bfloat16, c float32. Rows of c and a, bytes of
 * a row of a, and rows of b times four must agree.
 * Invariant: a thread that configured the registers releases them before it returns to its caller.
 */
#ifndef QN_KERNELS_AMX_H
#define QN_KERNELS_AMX_H

#include <stddef.h>
#include <stdint.h>

typedef struct amx_config {
    uint8_t palette; /* 1 */
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} amx_config;

static inline void amx_configure(const amx_config *c) { __asm__ volatile("ldtilecfg %0" : : "m"(*c) : "memory"); }
static inline void amx_release(void) { __asm__ volatile("tilerelease" : : : "memory"); }

/* stride: bytes from row to row. */
#define AMX_LOAD(r, p, stride) __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #r : : "r"(p), "r"((size_t)(stride)) : "memory")
#define AMX_STORE(r, p, stride) __asm__ volatile("tilestored %%tmm" #r ", (%0,%1,1)" : : "r"(p), "r"((size_t)(stride)) : "memory")
#define AMX_ZERO(r) __asm__ volatile("tilezero %%tmm" #r : :)
#define AMX_DOT_US(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#define AMX_DOT_BF16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#define AMX_DOT_SS(c, a, b) __asm__ volatile("tdpbssd %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)

#endif
