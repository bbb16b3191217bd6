/* feedback.c - the factor. See feedback.h. */
#include "quant/feedback.h"

#include <math.h>

enum { FACTOR_ROWS = 16, FACTOR_TILE = 512 };

/* Subtracts from rows [first, end) what the finished rows from `end` on contribute: h[j][i] -= R_ik R_jk for k = end .. n - 1 in order. */
static void subtract_finished(float *h, size_t n, size_t first, size_t end)
{
    for (size_t tile = 0; tile < end; tile += FACTOR_TILE) {
        for (size_t k = end; k < n; k++) {
            const float *finished = h + k * n;
            for (size_t j = first; j < end; j++) {
                size_t stop = tile + FACTOR_TILE < j + 1 ? tile + FACTOR_TILE : j + 1;
                float factor = finished[j], *row = h + j * n;
                for (size_t i = tile; i < stop; i++) {
                    row[i] -= factor * finished[i];
                }
            }
        }
    }
}

/* Rows of one block, from its last on: the same sums, then divided by the root of the diagonal. */
static bool finish_rows(float *h, size_t n, size_t first, size_t end)
{
    for (size_t j = end; j-- > first;) {
        float *row = h + j * n;
        for (size_t k = j + 1; k < end; k++) {
            const float *finished = h + k * n;
            float factor = finished[j];
            for (size_t i = 0; i <= j; i++) {
                row[i] -= factor * finished[i];
            }
        }
        if (!(row[j] > 0) || !isfinite(row[j])) {
            return false;
        }
        float inverse = 1.0f / sqrtf(row[j]);
        for (size_t i = 0; i <= j; i++) {
            row[i] *= inverse;
        }
    }
    return true;
}

bool qn_feedback_factor(float *h, size_t n, float damping)
{
    double trace = 0;
    for (size_t j = 0; j < n; j++) {
        trace += (double)h[j * n + j];
    }
    if (!(trace > 0) || !isfinite(trace)) {
        return false;
    }
    double scale = (double)n / trace; /* the mean of the diagonal becomes 1 */
    for (size_t j = 0; j < n; j++) {
        for (size_t i = 0; i <= j; i++) {
            h[j * n + i] = (float)((double)h[j * n + i] * scale);
        }
        h[j * n + j] += damping;
    }
    for (size_t end = n; end > 0;) {
        size_t first = end > FACTOR_ROWS ? (end - 1) / FACTOR_ROWS * FACTOR_ROWS : 0;
        subtract_finished(h, n, first, end);
        if (!finish_rows(h, n, first, end)) {
            return false;
        }
        end = first;
    }
    for (size_t j = 0; j < n; j++) {
        float inverse = 1.0f / h[j * n + j];
        for (size_t i = 0; i < j; i++) {
            h[j * n + i] *= inverse;
        }
    }
    return true;
}
