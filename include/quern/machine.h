/* quern/machine.h - what this machine can do, measured in a few seconds. */
#ifndef QUERN_MACHINE_H
#define QUERN_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quern/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_machine_options {
    const char *isa;                /* whose arithmetic is measured; NULL = QUERN_ISA, or the best of this machine. Memory is read by the best */
    size_t n_threads;               /* 0 = all */
    bool quick;                     /* shorter runs of arithmetic, and nothing of one thread alone: half a second, or where caches are hundreds of MiB
                                       one or two; to be repeated around other work */
    uint64_t working_set;           /* bytes that are read again and again; where they are fewer than the buffer's, what caches give is measured too */
    bool (*go_on)(void *user);      /* asked every few hundred milliseconds; false ends with QUERN_ERROR_CANCELLED. NULL = nobody asks */
    void *user;
} quern_machine_options;

/* Measured limits of all threads together, one thread's bandwidth excepted; 0 = not measured, or there is no such unit. */
typedef struct quern_machine_rates {
    double read_bandwidth_one;      /* bytes/s, one thread */
    double read_bandwidth_all;      /* bytes/s */
    uint64_t read_bytes;            /* of the buffer over which it was measured; larger working sets leave every cache too */
    double read_bandwidth_cached;   /* bytes/s over a working set that is smaller than the buffer, read again and again */
    double peak_fma_f32;            /* operations/s (a multiply-add is two) */
    double peak_avx2_int8;          /* of the instruction set's units; 0 where it has no such unit, or a better one for the same work */
    double peak_vnni_int8;
    double peak_amx_int8, peak_amx_bf16;
    double peak_neon_int8;          /* aarch64: SDOT */
    double peak_i8mm_int8;          /* aarch64: SMMLA */
} quern_machine_rates;

typedef struct quern_machine {
    char cpu[128];
    const char *isa_available[8];   /* names, strongest last */
    size_t n_isa_available;
    const char *isa_chosen;
    const char *isa_reading;        /* whose loads measure memory: the strongest, whatever was chosen */
    size_t n_cpus;                  /* that this process may use */
    size_t n_memory_nodes;          /* that have some of them (NUMA); 1 where all share one memory, or QUERN_NUMA is "off" */
    struct {
        int id;
        size_t n_cpus;
    } memory_nodes[64];             /* the first of them; none if n_memory_nodes is 1 */
    uint64_t memory_bytes, memory_available_bytes;
    uint64_t last_level_cache_bytes; /* that one processor reaches */
    size_t n_last_level_caches;      /* that the processors have which this process may use */
    quern_machine_rates rates;
} quern_machine;

/* Fills everything but the measured figures. isa: the one to be chosen, or NULL (QUERN_ISA, or the best). */
QUERN_API quern_status quern_machine_detect(quern_machine *out, const char *isa, quern_error *err);
/* Measures peaks, then bandwidth over a buffer of 4 x the last-level caches, at least 256 MiB; one thread's with pages that it touched first, all
 * threads' each over pages of its own. Where that is more than a quarter of the memory that can be had, or cannot be had, the buffer is smaller, but
 * never below 2 x those caches and 64 MiB: caches would be measured (QUERN_ERROR_MEMORY).
 * Where one thread reads faster than all, all are measured again, up to four times.
 * After an error, what was measured before it stays, and the rest is 0. `options` may be NULL. */
QUERN_API quern_status quern_machine_measure(quern_machine_rates *out, const quern_machine_options *options, quern_error *err);
enum { QUERN_MAPPING_TURNS = 9 };
/* Read bandwidth in bytes/s, all threads, of the mapped weights and of plain memory in huge pages, in turns: what the mapping's page layout costs
 * shows in these, and so does noise. */
typedef struct quern_mapping_turns {
    double mapped[QUERN_MAPPING_TURNS], plain[QUERN_MAPPING_TURNS];
    size_t n; /* 3 to 9; 0 for models below 256 MiB, where caches decide */
} quern_mapping_turns;

/* Read bandwidth in bytes/s over the mapped weights of a model, all threads, the best of a few runs; and, unless `turns` is NULL, in turns with plain
 * memory (a buffer as quern_machine_measure's). */
QUERN_API quern_status quern_machine_measure_mapping(const quern_model *model, const quern_machine_options *options, double *mapped,
                                                     quern_mapping_turns *turns, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
