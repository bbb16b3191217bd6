/* search_tables.h - the compiled forms of the search, one an instruction set. Only search.c chooses among them. */
#ifndef QN_QUANT_SEARCH_TABLES_H
#define QN_QUANT_SEARCH_TABLES_H

#include "quant/search.h"

extern const qn_search qn_search_portable;
#if defined(__x86_64__)
extern const qn_search qn_search_avx2;
extern const qn_search qn_search_avx512;
#endif

#endif
