/* search_portable.c - the encoders' search compiled for this instruction set. The text is search_body.h. */
#include "quant/search_tables.h"

#define QN_SEARCH_TABLE qn_search_portable
#include "quant/search_body.h"
