/* sums.c - see sums.h. */
#include "gate/sums.h"

#include <math.h>

typedef struct gains {
    double level, value, bias;
} gains;

static gains gains_of(const qn_tensor_sums *s)
{
    return (gains){.level = s->level_by_level > 0 ? s->source_by_level / s->level_by_level : 1,
                   .value = s->squared_value > 0 ? s->source_by_value / s->squared_value : 1,
                   .bias = s->n_steps > 0 ? s->error_steps / (double)s->n_steps : 0};
}

/* Against what is expected. */
static qn_sums_verdict judge_as(const qn_tensor_sums *s, const gains *expected, bool chosen_together)
{
    double noise = s->squared_source > 0 ? s->squared_error / s->squared_source : 0;
    gains own = gains_of(s);
    qn_sums_verdict level = {QN_SUMS_LEVEL, own.level, expected->level, 0.003 + (chosen_together ? 0.5 : 1) * noise},
                    value = {QN_SUMS_VALUE, own.value, expected->value, 0.003 + noise},
                    bias = {QN_SUMS_BIAS, own.bias, expected->bias, 0.02 + 4 / sqrt((double)(s->n_steps + 1))};
    const qn_sums_verdict *all[] = {&level, &value, &bias};
    for (size_t i = 0; i < 3; i++) {
        if (fabs(all[i]->figure - all[i]->expected) > all[i]->limit) {
            return *all[i];
        }
    }
    return (qn_sums_verdict){0};
}

/* Every scale or every min a step off leaves too many codes that are not the nearest to be told from error feedback, but it moves sums over the
 * tensor: the least squares gain of the levels, that of the values (both scales of a type with mins together move only this one), and the mean
 * error in steps. Error feedback and importance move none of them. A gain of 1 is met up to the noise of quantization itself, whose share of the
 * tensor's energy is `noise`; nearest codes move the first, and encoders that weigh by |x| the second, by up to
 * three quarters of it; codes that were chosen together do not move the first.
 * What the source itself does to them (scales that are powers of two, levels that are not symmetric under values that are), it does to plain encoding and
 * to Quern's as well: within the same limits around what one of these gives, they are sound too. */
qn_sums_verdict qn_sums_judge(const qn_tensor_figures *f, bool chosen_together)
{
    const gains none = {.level = 1, .value = 1};
    qn_sums_verdict first = judge_as(&f->sums, &none, chosen_together);
    for (size_t k = 0; k < QN_SCALE_RULES && first.fault != QN_SUMS_SOUND; k++) {
        gains expected = gains_of(&f->rules[k]);
        expected.level = f->rules[k].level_by_level > 0 ? expected.level : expected.value;
        if (f->rules[k].n_steps > 0 && judge_as(&f->sums, &expected, chosen_together).fault == QN_SUMS_SOUND) {
            return (qn_sums_verdict){0};
        }
    }
    return first;
}
