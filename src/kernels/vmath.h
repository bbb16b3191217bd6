/* vmath.h - exp, log, sin, cos, pow: the project's own, so that bits do not depend on a C library or an instruction set.
 *
 * Single precision qn_expf is the form that kernels vectorise (vmath_exp.inc states the operations once); the double forms serve tables
 * computed at load (rope) and sampling. Errors: qn_expf at most 2 ulp over [-104, 88.7], exactly 0 below, infinity above, NaN stays NaN;
 * the double ones at most 2 ulp.
 */
#ifndef QN_KERNELS_VMATH_H
#define QN_KERNELS_VMATH_H

float qn_expf(float x);
double qn_exp(double x);
double qn_log(double x);
double qn_pow(double base, double exponent);            /* base > 0 */
void qn_sincos(double x, double *sine, double *cosine); /* |x| up to 2^31, full argument reduction */

#endif
