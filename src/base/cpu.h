/* cpu.h - which instruction sets this machine and its operating system offer. Found once, at first use. */
#ifndef QN_BASE_CPU_H
#define QN_BASE_CPU_H

#include <stdbool.h>
#include <stddef.h>

#define QN_CPU_PROCESSORS "/sys/devices/system/cpu" /* "cpuN/cache/index3/shared_cpu_list" */

/* Instruction sets that kernels are written for, weakest first. Each x86 level includes those before it
 * (avx512vnni = F, BW, VL, DQ, VNNI; amx = avx512vnni + AMX-INT8 with the kernel's permission). neon includes the dot product (FEAT_DotProd),
 * i8mm = neon + FEAT_I8MM. */
typedef enum qn_isa {
    QN_ISA_SCALAR,
    QN_ISA_AVX2,
    QN_ISA_AVX512,
    QN_ISA_AVX512VNNI,
    QN_ISA_AMX,
    QN_ISA_NEON,
    QN_ISA_I8MM,
    QN_ISA_COUNT
} qn_isa;

/* "scalar", "avx2", "avx512", "avx512vnni", "amx", "neon", "i8mm": the names of --isa and QUERN_ISA. */
const char *qn_isa_name(qn_isa isa);
bool qn_isa_from_name(const char *name, qn_isa *out);
/* True if kernels of this level run here. QN_ISA_SCALAR always. */
bool qn_isa_available(qn_isa isa);
/* The strongest available level. */
qn_isa qn_isa_best(void);

/* True if this level runs here and the processor's tiles multiply bfloat16 too (AMX-BF16). No kernel does, for its products are rounded otherwise. */
bool qn_cpu_has_amx_bf16(void);

/* From how many places side by side a core best reads what it reads once, such as weights: QN_CPU_STREAMS_MAX, or 2 on AMD's and Hygon's
 * processors, of which one was measured (Zen 4: docs/decisions.md, "Decode: weights from four places side by side"). Results do not depend on it. */
enum { QN_CPU_STREAMS_MAX = 4 };
size_t qn_cpu_read_streams(void);
/* Sets it, to 1, 2 or 4, for tests and measurements; not while other threads compute. Anything else: as found. */
void qn_cpu_set_read_streams(size_t n);

/* True where a register of 64 bytes is taken in two halves, so that registers of 32 bytes do as much: Zen 4, as far as it was measured. Decides which
 * decode kernels run (kernels/cpu/matmul_lanes.h); results do not depend on it. */
bool qn_cpu_has_half_registers(void);
typedef enum qn_cpu_choice { QN_AS_FOUND, QN_NO, QN_YES } qn_cpu_choice;
/* Sets it for tests and measurements; not while other threads compute. */
void qn_cpu_set_half_registers(qn_cpu_choice choice);

/* The processor's name as the system reports it, or "unknown". */
const char *qn_cpu_name(void);
/* Size in bytes of the last-level cache that the first core reaches; 32 MiB when the system does not say. `folder`: QN_CPU_PROCESSORS, or a
 * test's own. */
size_t qn_cpu_last_level_cache_bytes(const char *folder);
/* How much memory is read to measure it, so that nothing stays in caches of so many bytes: four times as much, at least 256 MiB. */
size_t qn_cpu_bytes_beyond(size_t cache_bytes);
/* How many of them the processors have that the calling thread may use; 1 when the system does not say. */
size_t qn_cpu_last_level_cache_count(const char *folder);

#endif
