/* memory_use.h - how much memory this process has, of its own and of mapped files. */
#ifndef QN_CLI_MEMORY_USE_H
#define QN_CLI_MEMORY_USE_H

#include <stdint.h>

/* Resident bytes that are backed by no file; 0 where the system does not tell. */
uint64_t qn_private_memory_bytes(void);
/* Resident bytes of mapped files; 0 where the system does not tell. */
uint64_t qn_mapped_memory_bytes(void);

/* Readings around the opening of a model. */
typedef struct qn_memory_marks {
    uint64_t before_model, after_model;
} qn_memory_marks;

#endif
