/* rope.c - frequencies under each published scaling rule.
 *
 * llama3: Llama 3.1's rule, frequencies in three bands by wavelength. yarn: "YaRN: Efficient Context Window Extension of Large Language
 * Models" (Peng et al., 2023), equations 17 to 23. linear: "Extending Context Window of Large Language Models via Positional
 * Interpolation" (Chen et al., 2023). */
#include "model/rope.h"

#include <math.h>

#include "kernels/vmath.h"

#define TWO_PI 6.283185307179586476925286766559

static double llama3_frequency(const qn_rope_config *c, double inv_freq)
{
    double original = c->original_ctx, wavelength = TWO_PI / inv_freq;
    if (wavelength < original / c->high_freq_factor) {
        return inv_freq;
    }
    if (wavelength > original / c->low_freq_factor) {
        return inv_freq / c->factor;
    }
    double smooth = (original / wavelength - c->low_freq_factor) / (c->high_freq_factor - c->low_freq_factor);
    return (1.0 - smooth) * inv_freq / c->factor + smooth * inv_freq;
}

/* The (fractional) pair index whose wavelength fits `rotations` times into the original context. */
static double yarn_index(const qn_rope_config *c, double rotations)
{
    return (double)c->n_rot * qn_log((double)c->original_ctx / (rotations * TWO_PI)) / (2.0 * qn_log(c->theta));
}

static void yarn_range(const qn_rope_config *c, double *low, double *high)
{
    *low = yarn_index(c, c->beta_fast);
    *high = yarn_index(c, c->beta_slow);
    if (c->truncate) {
        *low = floor(*low);
        *high = ceil(*high);
    }
    *low = *low > 0.0 ? *low : 0.0;
    *high = *high < (double)c->n_rot - 1.0 ? *high : (double)c->n_rot - 1.0;
    if (*low == *high) {
        *high += 0.001; /* the reference avoids the division by zero with this very step */
    }
}

bool qn_rope_same_yarn_range(const qn_rope_config *a, const qn_rope_config *b)
{
    double low_a, high_a, low_b, high_b;
    yarn_range(a, &low_a, &high_a);
    yarn_range(b, &low_b, &high_b);
    return low_a == low_b && high_a == high_b;
}

quern_status qn_rope_init(qn_rope *rope, const qn_rope_config *c, const float *divisors, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint32_t half = c->n_rot / 2;
    double low = 0, high = 1;
    *rope = (qn_rope){.n_rot = c->n_rot, .magnitude = 1.0f, .inv_freq = qn_arena_alloc_array(arena, half, sizeof(float))};
    if (rope->inv_freq == NULL) {
        QN_FAIL_MEMORY(err, "rope frequencies", half * sizeof(float));
    }
    if (c->scaling == QN_ROPE_YARN) {
        yarn_range(c, &low, &high);
        double f = c->attention_factor > 0.0 ? c->attention_factor : c->factor <= 1.0 ? 1.0 : 0.1 * qn_log(c->factor) + 1.0;
        rope->magnitude = (float)f;
    }
    for (uint32_t i = 0; i < half; i++) {
        double inv = 1.0 / qn_pow(c->theta, (double)(2 * i) / (double)c->n_rot);
        if (divisors != NULL) {
            inv /= (double)divisors[i];
        } else if (c->scaling == QN_ROPE_LLAMA3) {
            inv = llama3_frequency(c, inv);
        } else if (c->scaling == QN_ROPE_YARN) {
            double ramp = ((double)i - low) / (high - low);
            ramp = ramp < 0.0 ? 0.0 : ramp > 1.0 ? 1.0 : ramp;
            inv = inv / c->factor * ramp + inv * (1.0 - ramp);
        } else if (c->scaling == QN_ROPE_LINEAR) {
            inv /= c->factor;
        }
        rope->inv_freq[i] = (float)inv;
    }
done:
    return status;
}

void qn_rope_fill(const qn_rope *rope, size_t position, float *cos_sin)
{
    uint32_t half = rope->n_rot / 2;
    for (uint32_t i = 0; i < half; i++) {
        double sine, cosine;
        float angle = (float)position * rope->inv_freq[i];
        qn_sincos((double)angle, &sine, &cosine);
        cos_sin[i] = (float)cosine * rope->magnitude;
        cos_sin[half + i] = (float)sine * rope->magnitude;
    }
}
