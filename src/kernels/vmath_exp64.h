/* vmath_exp64.h - the heart of double precision exp, stated once for vmath.c and for the loops over whole vocabularies, which compilers turn into
 * vector code. No fma in it, so that it is as fast where fma is a library call; with contraction off, scalar and vector form give the same bits.
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

/* Returns p, and t = n + QN_EXP_MAGIC, such that exp(high + low) = p * 2^n. high within [-746, 710], |low| far below. */
static inline double qn_exp_core(double high, double low, double *t_out)
{
    double t = high * 0x1.71547652b82fep+0 + QN_EXP_MAGIC; /* rounds to an integer */
    double n = t - QN_EXP_MAGIC;
    double r_high = high - n * QN_LN2_HIGH; /* exact */
    double r_low = low - n * QN_LN2_LOW;
    double r = r_high + r_low;
    double c = (r_high - r) + r_low; /* what r lost */
    double q = 0x1.ad7f3bff5e838p-26;
    q = q * r + 0x1.28ad9b8acd18fp-22;
    q = q * r + 0x1.71df25b4ce703p-19;
    q = q * r + 0x1.a01999e25d2b6p-16;
    q = q * r + 0x1.a01a012a0e777p-13;
    q = q * r + 0x1.6c16c18438b2cp-10;
    q = q * r + 0x1.1111111127d1p-7;
    q = q * r + 0x1.555555555083ep-5;
    q = q * r + 0x1.55555555554f9p-3;
    q = q * r + 0x1.000000000000ap-1;
    *t_out = t;
    return 1.0 + (r + (r * r * q + (c + c * r)));
}

/* exp(z) for z <= 0, with everything below -700 taken for -700 (1e-304: nothing beside an exp(0) in the same sum). The result is never subnormal, so one
 * factor 2^n does. */
static inline double qn_exp_term(double z)
{
    z = z < -700.0 ? -700.0 : z;
    double t, p = qn_exp_core(z, 0.0, &t);
    return p * qn_f64_from_bits((qn_f64_to_bits(t) + 1023u) << 52); /* n stands in the low bits of t */
}

#endif
