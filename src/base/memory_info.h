/* memory_info.h - what the system says about this machine's memory, and how much of it this process may have. */
#ifndef QN_BASE_MEMORY_INFO_H
#define QN_BASE_MEMORY_INFO_H

#include <stddef.h>
#include <stdint.h>

typedef struct qn_memory_info {
    uint64_t total_bytes;
    uint64_t available_bytes; /* without swapping: free, or cached and clean; total_bytes where the system does not tell */
} qn_memory_info;

/* Zero where the system says nothing. */
qn_memory_info qn_memory_info_get(void);

/* Bytes that can be had without swapping: the machine's, or what a memory limit of its control groups leaves if that is less. UINT64_MAX where the
 * system does not tell. */
uint64_t qn_available_memory_bytes(void);

/* Of a page of the machine's ordinary size; 4096 where the system does not tell. */
size_t qn_page_bytes(void);

#endif
