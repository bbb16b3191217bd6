/* vmath_exp64.h - the heart of double precision exp, stated once for vmath.c and for the loops over whole vocabularies in the files of each
 * instruction set. No fma in it, so that it is as fast where fma is a library call; with contraction off, scalar and vector form give
 * the same bits.
 */
#ifndef QN_KERNELS_VMATH_EXP64_H
#define QN_KERNELS_VMATH_EXP64_H

#include <stdint.h>
#include <string.h>

#define QN_EXP_MAGIC 0x1.8p52
/* ln 2: 42 bits, so that products with exponents are exact, and the next 53. */
#define QN_LN2_HIGH 0x1.62e42fefa38p-1
#define QN_LN2_LOW 0x1.ef35793c7673p-45

static inline double qn_f64_from_bits(uint64_t u)
{
    double d;
    memcpy(&d, &u, sizeof d);
    return d;
}

static inline uint64_t qn_f64_to_bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, sizeof u);
    return u;
}

/* p and t such that exp(high + low) = p * 2^n and t = n + QN_EXP_MAGIC; high within [-746, 710], |low| far below. V is double or a
 * vector of doubles (the attribute vector_size), high and low are names. */
#define QN_EXP_CORE(V, high, low, p, t) \
    do { \
        (t) = (high)*0x1.71547652b82fep+0 + QN_EXP_MAGIC; /* rounds to an integer */ \
        V core_n = (t)-QN_EXP_MAGIC; \
        V core_high = (high)-core_n * QN_LN2_HIGH; /* exact */ \
        V core_low = (low)-core_n * QN_LN2_LOW; \
        V core_r = core_high + core_low; \
        V core_c = (core_high - core_r) + core_low; /* what r lost */ \
        V core_q = core_r * 0x1.ad7f3bff5e838p-26 + 0x1.28ad9b8acd18fp-22; \
        core_q = core_q * core_r + 0x1.71df25b4ce703p-19; \
        core_q = core_q * core_r + 0x1.a01999e25d2b6p-16; \
        core_q = core_q * core_r + 0x1.a01a012a0e777p-13; \
        core_q = core_q * core_r + 0x1.6c16c18438b2cp-10; \
        core_q = core_q * core_r + 0x1.1111111127d1p-7; \
        core_q = core_q * core_r + 0x1.555555555083ep-5; \
        core_q = core_q * core_r + 0x1.55555555554f9p-3; \
        core_q = core_q * core_r + 0x1.000000000000ap-1; \
        (p) = 1.0 + (core_r + (core_r * core_r * core_q + (core_c + core_c * core_r))); \
    } while (0)

/* exp(z) for z <= 0, with 0 for everything below -700 (1e-304: nothing beside an exp(0) in the same sum). The result is never subnormal,
 * so one factor 2^n does. A NaN gives a NaN. */
static inline double qn_exp_term(double z)
{
    double t, p, zero = 0.0;
    QN_EXP_CORE(double, z, zero, p, t);
    double e = p * qn_f64_from_bits((qn_f64_to_bits(t) + 1023u) << 52); /* n stands in the low bits of t */
    return z < -700.0 ? 0.0 : e;
}

#endif
