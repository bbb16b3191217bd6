/* vmath.c - scalar exp, log, pow, sin and cos.
 *
 * Owns the double precision functions and the scalar form of qn_expf; the vector forms come from vmath_exp.inc in each instruction set's
 * file. Uses nothing of the C library but fma, fmaf, rint and sqrt, which are correctly rounded everywhere. Polynomial coefficients are
 * minimax fits made for this file (Remez exchange at 220 bits), rounded to the working precision.
 *
 * Invariant: no result depends on the C library, the compiler's contraction or the instruction set.
 */
#include "kernels/vmath.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/half.h"
#include "kernels/vmath_exp64.h"

/* ---- single precision exp ---- */

/* p * 2^n in two exact-then-rounded steps, so that subnormal results are rounded once. t's low bits hold n, -151..129. */
static inline float scale_by_power(float p, float t)
{
    uint32_t n = qn_f32_to_bits(t) - 0x4b400000u + 256u; /* bits of EXP_MAGIC; +256 keeps it positive */
    uint32_t half = n >> 1;
    float a = qn_f32_from_bits(((half - 1u) & 0xffu) << 23);     /* 2^(half - 128) */
    float b = qn_f32_from_bits(((n - half - 1u) & 0xffu) << 23); /* 2^(n - half - 128) */
    return p * a * b;
}

#define EXP_V float
#define EXP_NAME expf_scalar
#define EXP_SET(c) (c)
#define EXP_FMA(a, b, c) fmaf(a, b, c)
#define EXP_ADD(a, b) ((a) + (b))
#define EXP_SUB(a, b) ((a) - (b))
#define EXP_MUL(a, b) ((a) * (b))
#define EXP_CLAMP(x, lo, hi) ((x) > (hi) ? (hi) : (x) < (lo) ? (lo) : (x))
#define EXP_SCALE(p, t) scale_by_power(p, t)
#include "kernels/vmath_exp.inc"

float qn_expf(float x) { return expf_scalar(x); }

/* ---- double precision ---- */

/* 2^n for -1022 <= n <= 1023. */
static double power_of_two(int n) { return qn_f64_from_bits((uint64_t)(n + 1023) << 52); }

/* exp(high + low), |low| far below high; high within [-746, 710]. */
static double exp_of_sum(double high, double low)
{
    double t, p;
    QN_EXP_CORE(double, high, low, p, t);
    int exponent = (int)(t - QN_EXP_MAGIC), half = exponent / 2;
    return p * power_of_two(half) * power_of_two(exponent - half); /* in two steps, so that a subnormal result is rounded once */
}

double qn_exp(double x)
{
    if (!(x > -746.0)) {
        return isnan(x) ? x : 0.0;
    }
    return x < 710.0 ? exp_of_sum(x, 0.0) : (double)INFINITY;
}

/* *sum + *error = a + b exactly. */
static void add_exactly(double a, double b, double *sum, double *error)
{
    double s = a + b, from_b = s - a;
    *error = (a - (s - from_b)) + (b - from_b);
    *sum = s;
}

/* ln x as an unevaluated sum with about 64 correct bits; x positive and finite.
 * x = 2^k m, m in [sqrt 1/2, sqrt 2); ln m = 2 atanh(s), s = (m - 1) / (m + 1); atanh(s) = s + s z (1/3 + z Q(z)), z = s^2. */
static void log_as_sum(double x, double *high, double *low)
{
    uint64_t u = qn_f64_to_bits(x);
    int k = 0;
    if (u < 0x0010000000000000u) { /* subnormal */
        u = qn_f64_to_bits(x * 0x1p54);
        k = -54;
    }
    uint64_t from_root = u - 0x3fe6a09e667f3bcdu; /* sqrt(1/2): the exponent field of the difference is k */
    k += (int)((int64_t)from_root >> 52);
    double m = qn_f64_from_bits((from_root & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);

    double f = m - 1.0, d, d_low;
    add_exactly(1.0, m, &d, &d_low);
    double s = f / d;
    double s_low = (fma(-s, d, f) - s * d_low) / d;
    double z = s * s;
    double z_low = fma(s, s, -z) + 2.0 * s * s_low;
    double q = 0x1.eb31603adeee9p-5;
    q = fma(q, z, 0x1.de2f920c9f16ap-5);
    q = fma(q, z, 0x1.1120ce04faff4p-4);
    q = fma(q, z, 0x1.3b136213d4126p-4);
    q = fma(q, z, 0x1.745d1834b3369p-4);
    q = fma(q, z, 0x1.c71c71c57b735p-4);
    q = fma(q, z, 0x1.249249249305fp-3);
    q = fma(q, z, 0x1.9999999999995p-3);
    double zq = z * q; /* below 0.006: its own rounding is far enough down */
    double t = 0x1.5555555555555p-2 + zq;
    double t_low = (0x1.5555555555555p-2 - t) + zq + 0x1.5555555555555p-56;
    double w = z * t;
    double w_low = fma(z, t, -w) + (z * t_low + z_low * t);
    double v = s * w;
    double v_low = fma(s, w, -v) + (s * w_low + s_low * w);
    double a = s + v;
    double a_low = ((s - a) + v) + (s_low + v_low);

    double sum, error;
    add_exactly((double)k * QN_LN2_HIGH, 2.0 * a, &sum, &error);
    error += 2.0 * a_low + (double)k * QN_LN2_LOW;
    *high = sum + error;
    *low = (sum - *high) + error;
}

double qn_log(double x)
{
    if (!(x > 0.0) || isinf(x)) {
        return x == 0.0 ? -(double)INFINITY : x < 0.0 ? (double)NAN : x;
    }
    double high, low;
    log_as_sum(x, &high, &low);
    return high;
}

double qn_pow(double base, double exponent)
{
    if (base == 1.0 || exponent == 0.0) {
        return 1.0;
    }
    if (isnan(base) || isnan(exponent) || base < 0.0) {
        return (double)NAN;
    }
    if (base == 0.0 || isinf(base) || isinf(exponent)) {
        bool large = (base > 1.0) == (exponent > 0.0);
        return large ? (double)INFINITY : 0.0;
    }
    double high, low;
    log_as_sum(base, &high, &low);
    double p = exponent * high;
    if (!(p > -746.0)) {
        return 0.0;
    }
    if (!(p < 710.0)) {
        return (double)INFINITY;
    }
    double p_low = fma(exponent, high, -p) + exponent * low;
    return exp_of_sum(p, p_low);
}

void qn_sincos(double x, double *sine, double *cosine)
{
    if (!(x >= -0x1p31 && x <= 0x1p31)) {
        *sine = *cosine = (double)NAN;
        return;
    }
    /* r = x - n pi/2 with pi/2 in three parts of 53 bits. The first step is exact: x (unless n is 0) and n * part are multiples of 2^-53
     * and the difference is below 1. Of all doubles up to 2^31 none lies nearer than about 2^-60 to a multiple of pi/2, and what is
     * dropped is below 2^-130. */
    double n = rint(x * 0x1.45f306dc9c883p-1);
    double a = fma(-n, 0x1.921fb54442d18p+0, x);
    double b = -n * 0x1.1a62633145c07p-54;
    double b_low = fma(-n, 0x1.1a62633145c07p-54, -b);
    double sum, error;
    add_exactly(a, b, &sum, &error);
    error += b_low - n * -0x1.f1976b7ed8fbcp-110;
    double r = sum + error;
    double c = (sum - r) + error; /* the true remainder is r + c */

    double z = r * r;
    double p = -0x1.aaa545892d47dp-41;
    p = fma(p, z, 0x1.612092b3eadaep-33);
    p = fma(p, z, -0x1.ae64529845108p-26);
    p = fma(p, z, 0x1.71de3a5339715p-19);
    p = fma(p, z, -0x1.a01a01a018ae4p-13);
    p = fma(p, z, 0x1.111111111110bp-7);
    p = fma(p, z, -0x1.5555555555555p-3);
    double s = r + fma(r * z, p, c * (1.0 - 0.5 * z));

    double g = 0x1.aac5a9e8e2636p-45;
    g = fma(g, z, -0x1.9393383a2c3a7p-37);
    g = fma(g, z, 0x1.1eed8ca3a2a3bp-29);
    g = fma(g, z, -0x1.27e4fb75fd6f1p-22);
    g = fma(g, z, 0x1.a01a01a018de9p-16);
    g = fma(g, z, -0x1.6c16c16c16c1p-10);
    g = fma(g, z, 0x1.5555555555555p-5);
    double half_z = 0.5 * z, one_less = 1.0 - half_z;
    double k = one_less + (((1.0 - one_less) - half_z) + (z * z * g - r * c));

    switch ((uint64_t)(int64_t)n & 3u) {
    case 0: *sine = s, *cosine = k; break;
    case 1: *sine = k, *cosine = -s; break;
    case 2: *sine = -s, *cosine = -k; break;
    default: *sine = -k, *cosine = s; break;
    }
}
