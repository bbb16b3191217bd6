/* memory_info.h - what the system says about this machine's memory. */
#ifndef QN_BASE_MEMORY_INFO_H
#define QN_BASE_MEMORY_INFO_H

#include <stdint.h>

typedef struct qn_memory_info {
    uint64_t total_bytes;
    uint64_t available_bytes; /* without swapping: free, or cached and clean; total_bytes where the system does not tell */
} qn_memory_info;

/* Zero where the system says nothing. */
qn_memory_info qn_memory_info_get(void);

#endif
