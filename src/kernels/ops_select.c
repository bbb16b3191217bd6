/* ops_select.c - which qn_ops table serves which instruction set, and how often each was called. Holds no arithmetic.
 *
 * Invariant: a table is only handed out where its instructions exist. */
#include "kernels/ops.h"

#include <stdatomic.h>

#include "kernels/ops_int.h"

/* One cache line a slot, so that threads counting at the same time do not share lines. */
enum { N_SLOTS = 16 };
typedef struct counter_slot {
    _Alignas(64) _Atomic(uint64_t) calls[QN_ISA_COUNT];
} counter_slot;
static counter_slot counters[N_SLOTS];
static _Atomic(unsigned) next_slot;

void qn_ops_count_call(qn_isa isa)
{
    static _Thread_local unsigned slot_plus_one;
    if (slot_plus_one == 0) {
        slot_plus_one = atomic_fetch_add_explicit(&next_slot, 1u, memory_order_relaxed) % N_SLOTS + 1u;
    }
    (void)atomic_fetch_add_explicit(&counters[slot_plus_one - 1].calls[isa], 1u, memory_order_relaxed);
}

uint64_t qn_ops_calls(qn_isa isa)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < N_SLOTS; i++) {
        sum += atomic_load_explicit(&counters[i].calls[isa], memory_order_relaxed);
    }
    return sum;
}

const qn_ops *qn_ops_get(qn_isa isa)
{
#if defined(__x86_64__)
    if (isa >= QN_ISA_AVX512 && isa <= QN_ISA_AMX && qn_isa_available(QN_ISA_AVX512)) {
        return &qn_ops_avx512;
    }
    if (isa >= QN_ISA_AVX2 && isa <= QN_ISA_AMX && qn_isa_available(QN_ISA_AVX2)) {
        return &qn_ops_avx2;
    }
#elif defined(__aarch64__)
    if (isa >= QN_ISA_NEON && qn_isa_available(QN_ISA_NEON)) {
        return &qn_ops_neon;
    }
#endif
    (void)isa;
    return &qn_ops_scalar;
}
