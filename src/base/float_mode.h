/* float_mode.h - arithmetic as IEEE 754 starts it: to the nearest, subnormals kept, no traps. A caller's thread may have another mode (fesetround; a
 * library built with -ffast-math turns subnormals off when it is loaded), and results must not depend on that. */
#ifndef QN_BASE_FLOAT_MODE_H
#define QN_BASE_FLOAT_MODE_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

typedef uint64_t qn_float_mode;

/* Sets the mode of this thread; what it was, for qn_float_mode_leave. */
static inline qn_float_mode qn_float_mode_enter(void)
{
#if defined(__x86_64__)
    enum { MXCSR_DEFAULT = 0x1f80 };
    qn_float_mode before = _mm_getcsr();
    _mm_setcsr(MXCSR_DEFAULT);
    return before;
#elif defined(__aarch64__)
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, xzr" ::: "memory");
    return before;
#else
    return 0;
#endif
}

static inline void qn_float_mode_leave(qn_float_mode before)
{
#if defined(__x86_64__)
    _mm_setcsr((unsigned)before);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" ::"r"(before) : "memory");
#else
    (void)before;
#endif
}

#endif
