/* verdict.c - see verdict.h. Every threshold of the integrity tests that is not about one block stands here, with its reason. */
#include "gate/verdict.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "gate/known_encoders.h"
#include "gate/sums.h"

/* Known encoders of these types choose the codes after the scales are stored, so that a sound file has no code that is not the nearest. Those
 * of other types may use the scale before it is rounded. */
static bool rounds_after_storing(const qn_checked_tensor *t)
{
    return t->storage == QN_STORED_BLOCKS && (t->dtype == QN_DTYPE_Q2_K || t->dtype == QN_DTYPE_Q3_K || t->dtype == QN_DTYPE_Q4_K ||
                                              t->dtype == QN_DTYPE_Q5_K || t->dtype == QN_DTYPE_Q6_K);
}

/* Types of which an encoder with unrounded scales leaves far more than one sub-block in two hundred inexact (Q4_0 one in eight), so that
 * fewer are faults of one that rounds after storing. */
static bool tells_unrounded_scales(const qn_checked_tensor *t)
{
    if (t->storage == QN_STORED_AFFINE) {
        return t->affine.bits >= 4 && t->dtype == QN_DTYPE_BF16;
    }
    return t->storage == QN_STORED_MXFP4 || t->dtype == QN_DTYPE_Q8_0 || t->dtype == QN_DTYPE_Q4_0 || t->dtype == QN_DTYPE_Q4_1 ||
           t->dtype == QN_DTYPE_Q5_0 || t->dtype == QN_DTYPE_Q5_1 || t->dtype == QN_DTYPE_MXFP4;
}

/* A few places among many are faults; many are how the encoder works: it rounded with another scale, or let codes make up for one another's
 * errors. */
static bool is_few(const qn_checked_tensor *t, uint64_t n, uint64_t of, qn_fault_kind kind)
{
    if (n == 0) {
        return false;
    }
    if (kind == QN_FAULT_NOT_NEAREST && !rounds_after_storing(t)) {
        return tells_unrounded_scales(t) && of >= 200 && n <= of / 200;
    }
    return n * 4 <= of && n <= (of / 50 > 4 ? of / 50 : 4);
}

static bool is_plain(const qn_checked_tensor *t) { return qn_checked_tensor_block(t) == 1; }

/* "row 17, values 512 to 767, sub-block 5"; rows of experts with their expert. */
static void describe_place(const qn_checked_tensor *t, const qn_fault_place *p, bool with_sub, char *out, size_t cap)
{
    size_t block = qn_checked_tensor_block(t);
    char expert[40] = "", where[64], sub[32] = "";
    if (t->n_parts > 1) {
        (void)snprintf(expert, sizeof expert, "expert %" PRIu64 ", ", p->row / t->n_rows);
    }
    if (block == 1) {
        (void)snprintf(where, sizeof where, "value %" PRIu64, p->block);
    } else {
        (void)snprintf(where, sizeof where, "values %" PRIu64 " to %" PRIu64, p->block * block, (p->block + 1) * block - 1);
    }
    if (with_sub && block == 256 && t->storage == QN_STORED_BLOCKS) {
        (void)snprintf(sub, sizeof sub, ", sub-block %zu", p->sub);
    }
    (void)snprintf(out, cap, "%srow %" PRIu64 ", %s%s", expert, p->row % t->n_rows, where, sub);
}

typedef struct judge {
    const qn_checked_tensor *all;
    size_t n_all, index;
    const qn_checked_tensor *t;
    const qn_tensor_figures *f;
    qn_findings *findings;
    quern_error *err;
    bool said; /* a reason was given */
} judge;

/* One sentence about a kind of fault; the figure stands between `before` and `after`. */
static quern_status fail_kind(judge *j, qn_fault_kind kind, const char *before, const char *after, uint64_t n, uint64_t of,
                              const char *unit)
{
    quern_status status = QUERN_OK;
    const qn_fault_count *c = &j->f->faults[kind];
    char place[160], story[200];
    bool codes = kind == QN_FAULT_NOT_NEAREST || kind == QN_FAULT_NOT_ROUNDED;
    describe_place(j->t, codes ? &c->worst : &c->first, codes, place, sizeof place);
    double figure = codes ? c->worst.figure : c->first.figure;
    QN_TRY(qn_diagnose(j->all, j->n_all, j->index, j->f, story, sizeof story, j->err));
    j->said = true;
    QN_TRY(qn_findings_fail(j->findings, j->t->name, j->err, "%s: %s%s%s: %s%.3g%s; %" PRIu64 " of %" PRIu64 " %s", j->t->name, story,
                            story[0] != '\0' ? "; " : "", place, before, figure, after, n, of, unit));
done:
    return status;
}

/* A tensor without anything in it. Coarse types can hold zeros at little more than their usual error, so this is no question of errors. */
static quern_status judge_emptiness(judge *j)
{
    quern_status status = QUERN_OK;
    const qn_tensor_figures *f = j->f;
    bool constant = f->low == f->high && f->plain_low < f->plain_high && f->squared_error > 0.1 * f->squared_source;
    if (f->n_zero_parts == j->t->n_parts) {
        j->said = true;
        QN_TRY(qn_findings_fail(j->findings, j->t->name, j->err, "%s: all values are zero, the source's are not", j->t->name));
    } else if (f->n_zero_parts > 0) {
        j->said = true;
        QN_TRY(qn_findings_fail(j->findings, j->t->name, j->err,
                                "%s: all values of expert %zu are zero, the source's are not; %zu of %zu experts", j->t->name, f->zero_part,
                                f->n_zero_parts, j->t->n_parts));
    } else if (constant) {
        j->said = true;
        QN_TRY(qn_findings_fail(j->findings, j->t->name, j->err, "%s: all values are %.6g, the source's differ from one another",
                                j->t->name, (double)f->low));
    }
done:
    return status;
}

/* The limit for single blocks holds for all of them together, unweighted; more only by what few blocks scatter. Sound files have at most 1.003 times the
 * error of plain encoding, 0.96 those of llama.cpp's encoders that weigh values by their size. */
static double whole_limit(const qn_tensor_figures *f) { return f->error_limit * (1 + 2 / sqrt((double)f->n_tested + 1)); }

static quern_status judge_values(judge *j)
{
    quern_status status = QUERN_OK;
    const qn_tensor_figures *f = j->f;
    const qn_fault_count *faults = f->faults;
    if (faults[QN_FAULT_NOT_FINITE].n_blocks > 0) {
        QN_TRY(fail_kind(j, QN_FAULT_NOT_FINITE, "a value is not finite (", ")", faults[QN_FAULT_NOT_FINITE].n_blocks, j->f->n_blocks,
                         "blocks"));
    } else if (faults[QN_FAULT_NOT_EQUAL].n_blocks > 0) {
        QN_TRY(fail_kind(j, QN_FAULT_NOT_EQUAL, "differs from the rounded source by ", "", faults[QN_FAULT_NOT_EQUAL].n_subs,
                         j->f->n_blocks, "values"));
    } else if (faults[QN_FAULT_RANGE].n_blocks > 0) {
        QN_TRY(fail_kind(j, QN_FAULT_RANGE, "the source has ", ", more than the type can hold", faults[QN_FAULT_RANGE].n_subs,
                         j->f->n_blocks, "values"));
    } else if (faults[QN_FAULT_ERROR].n_blocks > 0) {
        QN_TRY(fail_kind(j, QN_FAULT_ERROR, "squared error is ", " times that of plain encoding", faults[QN_FAULT_ERROR].n_blocks,
                         j->f->n_blocks, "blocks"));
    } else if (f->n_tested == f->n_blocks && f->tested_error > whole_limit(f) * f->tested_plain) {
        j->said = true;
        QN_TRY(qn_findings_fail(j->findings, j->t->name, j->err,
                                "%s: the squared error of the whole tensor is %.3g times that of plain encoding (limit %.3g)", j->t->name,
                                f->tested_error / f->tested_plain, whole_limit(f)));
    }
done:
    return status;
}

/* Of a tensor that says itself who wrote it, more than a few mean another version of the encoder, which is no fault. *knows: its word is enough. */
static quern_status judge_encoder(judge *j, bool *knows)
{
    const qn_fault_count *c = &j->f->faults[QN_FAULT_NOT_ENCODER];
    uint64_t few = j->f->n_blocks / 200 > 3 ? j->f->n_blocks / 200 : 3;
    bool rounds_otherwise = j->f->encoder == QN_ENCODER_PLAIN && qn_known_is_searched(j->t); /* some builds do; only the whole file tells */
    *knows = j->f->encoder != QN_ENCODER_UNKNOWN && (j->f->is_held || c->n_blocks == 0 || (!rounds_otherwise && c->n_blocks <= few));
    if (j->said || !*knows || c->n_blocks == 0) {
        return QUERN_OK;
    }
    static const char *const names[] = {[QN_ENCODER_UNKNOWN] = "no",
                                        [QN_ENCODER_QUERN] = "Quern's",
                                        [QN_ENCODER_PLAIN] = "llama.cpp's",
                                        [QN_ENCODER_RECODE] = "Quern's calibrated"};
    char before[120];
    const char *name = j->f->encoder == QN_ENCODER_PLAIN && j->t->storage != QN_STORED_BLOCKS ? "mlx's" : names[j->f->encoder];
    (void)snprintf(before, sizeof before, "not what %s encoder, which wrote the other %s, makes of the source (", name,
                   c->n_blocks > few ? "tensors" : "blocks");
    return fail_kind(j, QN_FAULT_NOT_ENCODER, before, " times its error)", c->n_blocks, j->f->n_blocks, "blocks");
}

static quern_status judge_sums(judge *j, bool chosen_together)
{
    static const char *const words[][2] = {[QN_SUMS_SOUND] = {"", ""},
                                           [QN_SUMS_LEVEL] = {"the codes of the whole tensor ask for scales ", " times the stored ones"},
                                           [QN_SUMS_VALUE] = {"the source is ", " times the values of the whole tensor"},
                                           [QN_SUMS_BIAS] = {"the values of the whole tensor are ", " steps off in the mean"}};
    qn_sums_verdict v = qn_sums_judge(j->f, chosen_together);
    if (v.fault == QN_SUMS_SOUND) {
        return QUERN_OK;
    }
    j->said = true;
    return qn_findings_fail(j->findings, j->t->name, j->err, "%s: %s%.4f%s (limit %g +- %.4f)", j->t->name, words[v.fault][0], v.figure,
                            words[v.fault][1], v.expected, v.limit);
}

static quern_status judge_codes(judge *j)
{
    static const char before[] = "under its stored scale a code is ", after[] = " steps farther from the source than the nearest one";
    quern_status status = QUERN_OK;
    const qn_tensor_figures *f = j->f;
    uint64_t n_inexact = f->faults[QN_FAULT_NOT_NEAREST].n_subs, n_unexplained = f->faults[QN_FAULT_NOT_ROUNDED].n_subs;
    if (j->said) {
        return QUERN_OK;
    }
    /* Unrounded scales of bfloat16 move codes of many bits by steps; beside them error feedback moves some by more, and is no fault. */
    bool joint = j->t->storage == QN_STORED_AFFINE && n_inexact * 10 > f->n_subs;
    bool alone = n_inexact > 0 && f->others_are_nearest && rounds_after_storing(j->t);
    /* With an importance matrix llama.cpp chooses codes of these types under a scale that it then fits to them. */
    bool fitted_after = f->error_limit > QN_ERROR_LIMIT && !rounds_after_storing(j->t);
    if (fitted_after) {
        QN_TRY(judge_sums(j, true));
    } else if (alone || is_few(j->t, n_inexact, f->n_subs, QN_FAULT_NOT_NEAREST)) {
        QN_TRY(fail_kind(j, QN_FAULT_NOT_NEAREST, before, after, n_inexact, f->n_subs, "sub-blocks"));
    } else if (!joint && is_few(j->t, n_unexplained, f->n_subs, QN_FAULT_NOT_ROUNDED)) {
        QN_TRY(fail_kind(j, QN_FAULT_NOT_ROUNDED, before, after, n_unexplained, f->n_subs, "sub-blocks"));
    } else {
        bool chosen_together = joint || n_unexplained > 0;
        j->findings->n_joint_tensors += chosen_together;
        QN_TRY(judge_sums(j, chosen_together));
    }
done:
    return status;
}

quern_status qn_verdict_tensor(const qn_checked_tensor *all, size_t n_all, size_t index, const qn_tensor_figures *f, qn_findings *findings,
                               quern_error *err)
{
    quern_status status = QUERN_OK;
    judge j = {.all = all, .n_all = n_all, .index = index, .t = &all[index], .f = f, .findings = findings, .err = err};
    QN_TRY(judge_emptiness(&j));
    QN_TRY(j.said ? QUERN_OK : judge_values(&j));
    if (!is_plain(j.t)) {
        bool knows;
        QN_TRY(judge_encoder(&j, &knows));
        QN_TRY(knows ? QUERN_OK : judge_codes(&j));
    }
done:
    return status;
}
