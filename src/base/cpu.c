/* cpu.c - instruction sets, asked of the processor and of the operating system. */
#define _GNU_SOURCE
#include "base/cpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/affinity.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static const char *const isa_names[QN_ISA_COUNT] = {"scalar", "avx2", "avx512", "avx512vnni", "amx", "neon", "i8mm"};

const char *qn_isa_name(qn_isa isa) { return (unsigned)isa < QN_ISA_COUNT ? isa_names[isa] : "unknown"; }

bool qn_isa_from_name(const char *name, qn_isa *out)
{
    for (int i = 0; i < QN_ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) == 0) {
            *out = (qn_isa)i;
            return true;
        }
    }
    return false;
}

static struct {
    bool isa[QN_ISA_COUNT];
    char name[128];
    bool amx_bf16;
    size_t read_streams;
    bool half_registers;
} found;
static atomic_size_t chosen_read_streams;
static atomic_int chosen_half_registers = QN_AS_FOUND;
static pthread_once_t once = PTHREAD_ONCE_INIT;

#if defined(__x86_64__)
static uint64_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

/* Linux hands out the AMX tile state only on request: arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA). */
static bool amx_permitted(void)
{
#if defined(__linux__)
    enum { ARCH_REQ_XCOMP_PERM_CODE = 0x1023, XFEATURE_XTILEDATA_CODE = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM_CODE, XFEATURE_XTILEDATA_CODE) == 0;
#else
    return false;
#endif
}

static void detect_amd(void)
{
    enum { ZEN_3_AND_4 = 0x19 };
    unsigned most, vendor[3], a, b, c, d;
    if (!__get_cpuid(0, &most, &vendor[0], &vendor[2], &vendor[1]) || !__get_cpuid(1, &a, &b, &c, &d) ||
        (memcmp(vendor, "AuthenticAMD", sizeof vendor) != 0 && memcmp(vendor, "HygonGenuine", sizeof vendor) != 0)) {
        return;
    }
    found.read_streams = 2;
    found.half_registers = (a >> 8 & 15) + (a >> 20 & 255) == ZEN_3_AND_4;
}

static void detect_isa(void)
{
    unsigned a, b, c, d;
    detect_amd();
    if (!__get_cpuid(1, &a, &b, &c, &d)) {
        return;
    }
    bool osxsave = (c >> 27 & 1u) != 0, avx = (c >> 28 & 1u) != 0, fma = (c >> 12 & 1u) != 0, f16c = (c >> 29 & 1u) != 0;
    if (!osxsave || !avx || !fma || !f16c || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        return;
    }
    uint64_t xcr0 = read_xcr0();
    bool ymm = (xcr0 & 0x6) == 0x6, zmm = (xcr0 & 0xe6) == 0xe6, tiles = (xcr0 & 0x60000) == 0x60000;
    found.isa[QN_ISA_AVX2] = ymm && (b >> 5 & 1u) != 0;
    bool f = (b >> 16 & 1u) != 0, dq = (b >> 17 & 1u) != 0, bw = (b >> 30 & 1u) != 0, vl = (b >> 31 & 1u) != 0;
    found.isa[QN_ISA_AVX512] = found.isa[QN_ISA_AVX2] && zmm && f && dq && bw && vl;
    found.isa[QN_ISA_AVX512VNNI] = found.isa[QN_ISA_AVX512] && (c >> 11 & 1u) != 0;
    bool amx_tile = (d >> 24 & 1u) != 0, amx_int8 = (d >> 25 & 1u) != 0;
    found.isa[QN_ISA_AMX] = found.isa[QN_ISA_AVX512VNNI] && tiles && amx_tile && amx_int8 && amx_permitted();
    found.amx_bf16 = found.isa[QN_ISA_AMX] && (d >> 22 & 1u) != 0;
}
#elif defined(__aarch64__)
static void detect_isa(void)
{
#if defined(__linux__)
    found.isa[QN_ISA_NEON] = (getauxval(AT_HWCAP) & (1ul << 20)) != 0; /* HWCAP_ASIMDDP: our NEON kernels use the dot product */
    found.isa[QN_ISA_I8MM] = found.isa[QN_ISA_NEON] && (getauxval(AT_HWCAP2) & (1ul << 13)) != 0; /* HWCAP2_I8MM */
#endif
}
#else
static void detect_isa(void) {}
#endif

static void detect_name(void)
{
    (void)snprintf(found.name, sizeof found.name, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (f == NULL) {
        return;
    }
    char line[512];
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "model name", 10) == 0) {
            const char *colon = strchr(line, ':');
            if (colon != NULL) {
                colon += strspn(colon, ": \t");
                (void)snprintf(found.name, sizeof found.name, "%.*s", (int)strcspn(colon, "\n"), colon);
            }
            break;
        }
    }
    (void)fclose(f);
}

static void detect(void)
{
    found.isa[QN_ISA_SCALAR] = true;
    found.read_streams = QN_CPU_STREAMS_MAX;
    detect_isa();
    detect_name();
}

size_t qn_cpu_read_streams(void)
{
    const size_t chosen = atomic_load_explicit(&chosen_read_streams, memory_order_relaxed);
    (void)pthread_once(&once, detect);
    return chosen > 0 ? chosen : found.read_streams;
}

void qn_cpu_set_read_streams(size_t n)
{
    const bool possible = n == 1 || n == 2 || n == QN_CPU_STREAMS_MAX;
    atomic_store_explicit(&chosen_read_streams, possible ? n : 0, memory_order_relaxed);
}

bool qn_cpu_has_half_registers(void)
{
    const int chosen = atomic_load_explicit(&chosen_half_registers, memory_order_relaxed);
    (void)pthread_once(&once, detect);
    return chosen == QN_AS_FOUND ? found.half_registers : chosen == QN_YES;
}

void qn_cpu_set_half_registers(qn_cpu_choice choice) { atomic_store_explicit(&chosen_half_registers, (int)choice, memory_order_relaxed); }

bool qn_cpu_has_amx_bf16(void)
{
    (void)pthread_once(&once, detect);
    return found.amx_bf16;
}

bool qn_isa_available(qn_isa isa)
{
    (void)pthread_once(&once, detect);
    return (unsigned)isa < QN_ISA_COUNT && found.isa[isa];
}

qn_isa qn_isa_best(void)
{
    qn_isa best = QN_ISA_SCALAR;
    for (int i = 0; i < QN_ISA_COUNT; i++) {
        if (qn_isa_available((qn_isa)i)) {
            best = (qn_isa)i;
        }
    }
    return best;
}

const char *qn_cpu_name(void)
{
    (void)pthread_once(&once, detect);
    return found.name;
}

size_t qn_cpu_bytes_beyond(size_t cache_bytes)
{
    const size_t least = (size_t)256 << 20;
    return cache_bytes > least / 4 ? 4 * cache_bytes : least;
}

/* Opens cpuN/cache/index3/`what`; NULL if there is no such file. */
static FILE *open_cache_file(const char *folder, size_t cpu, const char *what)
{
    char path[4096 + 64];
    const int length = snprintf(path, sizeof path, "%s/cpu%zu/cache/index3/%s", folder, cpu, what);
    return length > 0 && (size_t)length < sizeof path ? fopen(path, "re") : NULL;
}

/* The C library multiplies what AMD's processors tell it: 320 MiB were said of 32 in a virtual machine. So the kernel is asked first. */
size_t qn_cpu_last_level_cache_bytes(const char *folder)
{
    FILE *f = open_cache_file(folder, 0, "size"); /* "32768K" */
    if (f != NULL) {
        unsigned long size = 0;
        char unit = 0;
        const bool known = fscanf(f, "%8lu%c", &size, &unit) >= 1 && size > 0;
        (void)fclose(f);
        if (known) {
            return (size_t)size << (unit == 'K' ? 10 : unit == 'M' ? 20 : 0);
        }
    }
    long l3 = -1;
#ifdef _SC_LEVEL3_CACHE_SIZE
    l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    return l3 > 0 ? (size_t)l3 : (size_t)32 << 20;
}

size_t qn_cpu_last_level_cache_count(const char *folder)
{
    char list[4096];
    size_t n = 0;
    qn_processors own, left, shared;
    if (!qn_affinity_get(&own) || !qn_processors_init(&left, &own)) {
        qn_processors_deinit(&own);
        return 1;
    }
    (void)qn_processors_common(&own, &own, &left);
    for (size_t i = 0; qn_processors_count(&left) > 0; i++) { /* each cache is counted at the first of its processors */
        if (!qn_processors_has(&left, i)) {
            continue;
        }
        FILE *f = open_cache_file(folder, i, "shared_cpu_list");
        const bool known = f != NULL && fgets(list, sizeof list, f) != NULL;
        if (f != NULL) {
            (void)fclose(f);
        }
        if (!known || !qn_processors_from_list(list, &left, &shared)) {
            n = 0;
            break;
        }
        const bool has_itself = qn_processors_has(&shared, i);
        qn_processors_remove(&left, &shared);
        qn_processors_deinit(&shared);
        if (!has_itself) { /* the list says nothing of the processor that it is about */
            n = 0;
            break;
        }
        n++;
    }
    qn_processors_deinit(&own);
    qn_processors_deinit(&left);
    return n > 0 ? n : 1;
}
