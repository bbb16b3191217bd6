/* search.c - chooses the form of the search for a machine. */
#include "quant/search.h"

#include "quant/search_tables.h"

const qn_search *qn_search_get(qn_isa isa)
{
#if defined(__x86_64__)
    if (isa >= QN_ISA_AVX512 && isa <= QN_ISA_AMX && qn_isa_available(QN_ISA_AVX512)) {
        return &qn_search_avx512;
    }
    if (isa >= QN_ISA_AVX2 && isa <= QN_ISA_AMX && qn_isa_available(QN_ISA_AVX2)) {
        return &qn_search_avx2;
    }
#endif
    (void)isa;
    return &qn_search_portable;
}
