/* select.c - which matrix kernel serves a product, and how often each did.
 *
 * Owns the table made from matmul.inc and its call counters (relaxed atomics: a statistic, never a decision). Invariant: the choice depends
 * on (isa, type, number of tokens) alone, and since all kernels of a type give the same bits it never shows in a result.
 */
#include <stdatomic.h>

#include "kernels/matmul_kernels.h"

static const qn_matmul_kernel kernels[] = {
#define X(fn, isa, dtype, mlx_bits, min_tokens) {#fn, QN_ISA_##isa, QN_DTYPE_##dtype, mlx_bits, min_tokens, fn},
#include "kernels/matmul.inc"
#undef X
};
enum { N_KERNELS = sizeof kernels / sizeof kernels[0] };
static _Atomic uint64_t calls[N_KERNELS];

size_t qn_matmul_kernel_count(void) { return N_KERNELS; }

const qn_matmul_kernel *qn_matmul_kernel_at(size_t i) { return &kernels[i]; }

uint64_t qn_matmul_kernel_calls(size_t i) { return atomic_load_explicit(&calls[i], memory_order_relaxed); }

static bool serves(const qn_matmul_kernel *k, qn_dtype t, uint32_t mlx_bits)
{
    return k->dtype == t && (t != QN_DTYPE_MLX_AFFINE || k->mlx_bits == mlx_bits);
}

bool qn_matmul_supported(qn_dtype t, qn_affine affine)
{
    if (t == QN_DTYPE_MLX_AFFINE && affine.group != 32 && affine.group != 64 && affine.group != 128) {
        return false;
    }
    for (size_t i = 0; i < N_KERNELS; i++) {
        if (serves(&kernels[i], t, affine.bits)) {
            return true;
        }
    }
    return false;
}

void qn_matmul(qn_isa isa, const qn_matrix *w, size_t r0, size_t r1, const qn_act *a, size_t t0, size_t t1, float *y, size_t y_stride,
               void *scratch)
{
    size_t best = N_KERNELS;
    for (size_t i = 0; i < N_KERNELS; i++) {
        const qn_matmul_kernel *k = &kernels[i];
        if (k->isa > isa || k->min_tokens > t1 - t0 || !serves(k, w->dtype, w->affine.bits)) {
            continue;
        }
        if (best == N_KERNELS || k->isa > kernels[best].isa || (k->isa == kernels[best].isa && k->min_tokens > kernels[best].min_tokens)) {
            best = i;
        }
    }
    if (best == N_KERNELS || r0 >= r1 || t0 >= t1) { /* no such type: load.c refused it with qn_matmul_supported */
        return;
    }
    atomic_fetch_add_explicit(&calls[best], 1, memory_order_relaxed);
    kernels[best].fn(w, r0, r1, a, t0, t1, y, y_stride, scratch);
}
