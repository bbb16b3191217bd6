/* variant.h - how a kernel's body is compiled: anew for every set of constants it is called with, so that its sums stay in registers.
 *
 * Sanitizers make minutes of compiling out of unrolled code in hundreds of variants: with them a body is compiled once, its constants are
 * arguments and its loops stay loops. What is computed is the same.
 */
#ifndef QN_KERNELS_VARIANT_H
#define QN_KERNELS_VARIANT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define QN_ONE_VARIANT
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define QN_ONE_VARIANT
#endif
#endif

/* Of a body whose every element would be checked many times: its caller has what it reads and writes checked as a whole instead (qn_watch), and its own
 * accesses go unchecked, also in functions that become part of it and have arrays of their own. Nothing but the speed of sanitized builds differs. */
#if defined(__SANITIZE_ADDRESS__)
#define QN_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define QN_ADDRESS_SANITIZER
#endif
#endif
#if defined(QN_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#define QN_WATCHED __attribute__((no_sanitize("address")))
static inline void qn_watch(const void *data, size_t size)
{
    const volatile char *poisoned = __asan_region_is_poisoned((void *)(uintptr_t)data, size);
    if (poisoned != NULL) {
        (void)*poisoned; /* AddressSanitizer's own report */
    }
}
#else
#define QN_WATCHED
static inline void qn_watch(const void *data, size_t size) { (void)data, (void)size; }
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
