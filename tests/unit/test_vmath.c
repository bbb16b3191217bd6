/* test_vmath.c - errors of exp, log, pow, sin and cos in units of the last place against the C library's long double; special values. */
#include "qn_test.h"

#include <float.h>
#include <math.h>

#include "base/half.h"
#include "kernels/vmath.h"

/* Distance of got from the true value in units of the last place of the true value (subnormals: of the smallest). */
static double ulps32(float got, long double want)
{
    int e;
    (void)frexpl(want, &e);
    return (double)fabsl(((long double)got - want) / ldexpl(1.0L, (e < -125 ? -125 : e) - 24));
}

static double ulps64(double got, long double want)
{
    int e;
    (void)frexpl(want, &e);
    return (double)fabsl(((long double)got - want) / ldexpl(1.0L, (e < -1021 ? -1021 : e) - 53));
}

static uint64_t random_state;
static uint64_t random_bits(void)
{
    random_state += 0x9e3779b97f4a7c15u;
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Uniform in [a, b). */
static double uniform(double a, double b) { return a + (b - a) * ((double)(random_bits() >> 11) * 0x1p-53); }

static void expf_error_over_all_floats(void **state)
{
    (void)state;
    double worst = 0.0;
    for (uint32_t sign = 0; sign < 2; sign++) {
        float last = 1.0f;
        for (uint32_t u = 0; u < 0x7f800000u; u += 211) { /* 10 million values from zero outwards */
            float x = qn_f32_from_bits(u | sign << 31), y = qn_expf(x);
            long double want = expl((long double)x);
            if (want > (long double)FLT_MAX * (1.0L + 0x1p-25L)) {
                assert_true(isinf(y) && y > 0.0f);
            } else if (x < -104.0f) {
                assert_int_equal(qn_f32_to_bits(y), 0);
            } else {
                double e = ulps32(y, want);
                worst = e > worst ? e : worst;
            }
            if (fabsf(x) < 0.25f) { /* monotone around zero, where rounding decides */
                assert_true(sign == 0 ? y >= last : y <= last);
                last = y;
            }
        }
    }
    print_message("qn_expf: %.3f ulp\n", worst);
    assert_true(worst < 1.0);
}

static void expf_special_values(void **state)
{
    (void)state;
    assert_true(qn_expf(0.0f) == 1.0f && qn_expf(-0.0f) == 1.0f);
    assert_true(qn_expf(INFINITY) == INFINITY && qn_expf(-INFINITY) == 0.0f);
    assert_true(isnan(qn_expf(NAN)) && isnan(qn_expf(-NAN)));
    assert_true(qn_expf(FLT_MAX) == INFINITY && qn_expf(-FLT_MAX) == 0.0f);
    assert_true(qn_expf(88.7f) < INFINITY && qn_expf(88.73f) == INFINITY);
    assert_true(qn_expf(-103.9f) == 0x1p-149f && qn_expf(-104.0f) == 0.0f && qn_expf(-104.1f) == 0.0f);
    assert_true(qn_expf(1.0f) == (float)M_E);
}

static void exp_error(void **state)
{
    (void)state;
    double worst = 0.0;
    for (int i = 0; i < 3000000; i++) {
        double x = i % 3 == 0   ? uniform(-745.0, 709.7)
                   : i % 3 == 1 ? uniform(-30.0, 30.0)
                                : ldexp(uniform(-1.0, 1.0), -(int)(random_bits() % 60));
        double e = ulps64(qn_exp(x), expl((long double)x));
        worst = e > worst ? e : worst;
    }
    print_message("qn_exp: %.3f ulp\n", worst);
    assert_true(worst < 1.0);
    assert_true(qn_exp(0.0) == 1.0 && qn_exp(-0.0) == 1.0 && qn_exp(1.0) == M_E);
    assert_true(qn_exp((double)INFINITY) == (double)INFINITY && qn_exp(-(double)INFINITY) == 0.0 && isnan(qn_exp((double)NAN)));
    assert_true(qn_exp(709.9) == (double)INFINITY && qn_exp(1e300) == (double)INFINITY && qn_exp(709.78) < (double)INFINITY);
    assert_true(qn_exp(-745.0) == 0x1p-1074 && qn_exp(-745.2) == 0.0 && qn_exp(-1e300) == 0.0);
}

static void log_error(void **state)
{
    (void)state;
    double worst = 0.0;
    for (int i = 0; i < 3000000; i++) {
        uint64_t u = random_bits() % 0x7ff0000000000000u;
        double x;
        memcpy(&x, &u, sizeof x);
        if (i % 3 == 1) {
            x = uniform(0.5, 2.0);
        } else if (i % 3 == 2) {
            x = 1.0 + ldexp(uniform(-1.0, 1.0), -(int)(random_bits() % 50));
        }
        if (x != 0.0 && x != 1.0) {
            double e = ulps64(qn_log(x), logl((long double)x));
            worst = e > worst ? e : worst;
        }
    }
    print_message("qn_log: %.3f ulp\n", worst);
    assert_true(worst < 0.6);
    assert_true(qn_log(1.0) == 0.0 && qn_log(2.0) == M_LN2 && qn_log(0x1p-1074) == -0x1.74385446d71c3p+9);
    assert_true(qn_log(0.0) == -(double)INFINITY && qn_log((double)INFINITY) == (double)INFINITY);
    assert_true(isnan(qn_log(-1.0)) && isnan(qn_log((double)NAN)) && isnan(qn_log(-(double)INFINITY)));
}

static void pow_error(void **state)
{
    (void)state;
    double worst = 0.0;
    static const double thetas[] = {10000.0, 1e6, 5e5, 1.5e5, 5e6, 1e7, 1e8};
    for (size_t t = 0; t < sizeof thetas / sizeof thetas[0]; t++) { /* every rope table one meets */
        for (int d = 16; d <= 512; d += 2) {
            for (int i = 0; i < d / 2; i++) {
                double y = -2.0 * i / d, e = ulps64(qn_pow(thetas[t], y), powl((long double)thetas[t], (long double)y));
                worst = e > worst ? e : worst;
            }
        }
    }
    for (int i = 0; i < 2000000; i++) {
        double base = i & 1 ? uniform(0.0, 4.0) : ldexp(uniform(1.0, 2.0), (int)(random_bits() % 2000) - 1000);
        double y = i & 2 ? uniform(-20.0, 20.0) : uniform(-500.0, 500.0);
        long double want = powl((long double)base, (long double)y);
        if (base > 0.0 && want < (long double)DBL_MAX && want > 0x1p-1074L) {
            double e = ulps64(qn_pow(base, y), want);
            worst = e > worst ? e : worst;
        }
    }
    print_message("qn_pow: %.3f ulp\n", worst);
    assert_true(worst < 1.0);
    assert_true(qn_pow(2.0, 10.0) == 1024.0 && qn_pow(2.0, -1074.0) == 0x1p-1074 && qn_pow(10.0, 22.0) == 1e22);
    assert_true(qn_pow(3.0, 0.0) == 1.0 && qn_pow(1.0, 1e300) == 1.0 && qn_pow(2.0, 1e300) == (double)INFINITY &&
                qn_pow(2.0, -1e300) == 0.0);
    assert_true(qn_pow(0.5, 1e300) == 0.0 && qn_pow(0.5, -(double)INFINITY) == (double)INFINITY && qn_pow(0.0, -1.0) == (double)INFINITY);
    assert_true(qn_pow((double)INFINITY, -2.0) == 0.0 && isnan(qn_pow(-2.0, 2.0)) && isnan(qn_pow(2.0, (double)NAN)));
}

static void sincos_error(void **state)
{
    (void)state;
    double worst = 0.0, s, c;
    for (int i = 0; i < 3000000; i++) {
        double x = i % 3 == 0 ? uniform(-0x1p31, 0x1p31) : i % 3 == 1 ? uniform(-10.0, 10.0) : uniform(-1e6, 1e6);
        if (i % 16 == 0) { /* next to multiples of pi/2, where the difference cancels */
            x = (double)((long double)(random_bits() % 1300000000u) * 1.57079632679489661923132169163975144L);
        }
        qn_sincos(x, &s, &c);
        /* long double sine reduces exactly; near a zero its 64 bits still leave the error of ours visible */
        double es = ulps64(s, sinl((long double)x)), ec = ulps64(c, cosl((long double)x));
        worst = es > worst ? es : worst;
        worst = ec > worst ? ec : worst;
    }
    print_message("qn_sincos: %.3f ulp\n", worst);
    assert_true(worst < 1.0);
    qn_sincos(0.0, &s, &c);
    assert_true(s == 0.0 && c == 1.0);
    qn_sincos(0x1p31, &s, &c);
    assert_true(s == (double)sinl(0x1p31L) && c == (double)cosl(0x1p31L));
    qn_sincos((double)INFINITY, &s, &c);
    assert_true(isnan(s) && isnan(c));
    qn_sincos((double)NAN, &s, &c);
    assert_true(isnan(s) && isnan(c));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expf_error_over_all_floats),
        cmocka_unit_test(expf_special_values),
        cmocka_unit_test(exp_error),
        cmocka_unit_test(log_error),
        cmocka_unit_test(pow_error),
        cmocka_unit_test(sincos_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
