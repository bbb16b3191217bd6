/* variant.h - how a kernel's body is compiled: anew for every set of constants it is called with, so that its sums stay in registers.
 *
 * Sanitizers make minutes of compiling out of unrolled code in hundreds of variants: with them a body is compiled once, its constants are
 * arguments and its loops stay loops. What is computed is the same.
 */
#ifndef QN_KERNELS_VARIANT_H
#define QN_KERNELS_VARIANT_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QN_ONE_VARIANT
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define QN_ONE_VARIANT
#endif
#endif

#if defined(QN_ONE_VARIANT)
#define QN_UNROLL
#define QN_VARIANT static __attribute__((noinline))
#elif defined(__clang__)
#define QN_UNROLL _Pragma("clang loop unroll(full)")
#define QN_VARIANT static inline __attribute__((always_inline))
#else
#define QN_UNROLL _Pragma("GCC unroll 32")
#define QN_VARIANT static inline __attribute__((always_inline))
#endif

#endif
