/* verify_check.c - the integrity of an output's tensors: the tests of src/gate on each of them.
 *
 * A sample of its blocks tells which known encoder wrote a tensor. One in which much was changed no longer tells it. So a tensor that is not exactly a
 * known encoder's work is judged when all have been looked at: where one encoder made most of the others, it is held against that one, however
 * much of it is something else. What is another version of an encoder differs in the other tensors too, and is no fault.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "gate/known_encoders.h"
#include "gate/source_way.h"
#include "gate/verdict.h"
#include "quantize/source_finite.h"
#include "quantize/verify_output.h"

/* Against plain encoding, a block's squared error. An importance matrix trades the error of unimportant columns for that of important ones, so
 * that a block by itself may be some times worse. */
static const double limit_with_importance = 16;
/* Where that trade is seen it is seen in many blocks (2 to 4 in 100 of Q4_0 and IQ4_NL); where fewer than one in 200 exceed the usual limit, they
 * exceed it by less (llama.cpp's matrices: 5.4 at most). */
static const double limit_of_few = 8;
enum { FEW = 200 };

static quern_status report(const qn_verify_run *run, const char *what, uint64_t done, uint64_t total, quern_error *err)
{
    bool goes_on = run->on_progress == NULL || run->on_progress(run->user, what, done, total);
    return goes_on ? QUERN_OK : qn_error_set(err, QUERN_ERROR_CANCELLED, "interrupted");
}

static void release(const qn_checked_tensor *t, const qn_piece *p)
{
    for (size_t k = 0; k < 3 && t->streams[k] != NULL; k++) {
        qn_mapped_span_release(t->streams[k], t->row_bytes[k] * (size_t)(t->n_rows * t->n_parts));
    }
    for (size_t i = 0; i < p->n_parts; i++) {
        qn_mapped_span_release(p->parts[i]->data, p->parts[i]->n_bytes);
    }
}

/* Types of which llama.cpp's encoder with an importance matrix is not known here: codes that are the nearest under the stored scale (k-quants), or were
 * before it was rounded (IQ4), may be its; error feedback leaves many that are not. Of the other types its encoder is known, or takes no errors up
 * (ternary). */
static bool may_be_anothers(const qn_checked_tensor *t, const qn_tensor_figures *f)
{
    bool blocks = t->storage == QN_STORED_BLOCKS, iq4 = t->dtype == QN_DTYPE_IQ4_NL || t->dtype == QN_DTYPE_IQ4_XS;
    bool ternary = t->dtype == QN_DTYPE_TQ1_0 || t->dtype == QN_DTYPE_TQ2_0;
    if (!blocks || ternary || (!iq4 && qn_checked_tensor_block(t) != 256)) {
        return false;
    }
    return f->faults[iq4 ? QN_FAULT_NOT_ROUNDED : QN_FAULT_NOT_NEAREST].n_subs * 10 <= f->n_subs;
}

/* Whether a tensor looks as if it had been made with the built-in calibration: known encoders without calibration did not make it, codes look chosen
 * together, and it has no fault that such an encoder never leaves. */
static bool may_be_calibrated(const qn_checked_tensor *t, const qn_tensor_figures *f)
{
    bool broken = f->faults[QN_FAULT_ERROR].n_blocks > 0 || f->faults[QN_FAULT_NOT_FINITE].n_blocks > 0;
    return qn_checked_tensor_block(t) > 1 && f->encoder == QN_ENCODER_UNKNOWN && !broken && !may_be_anothers(t, f);
}

/* Whether tensors are compared with a calibrated encoding: from the first on if the user named the calibration; else from the first one that looks
 * like it, unless another encoder is known to have made one before. */
typedef struct recoding_state {
    qn_recoding recoding;
    bool is_ready, is_tried;
    bool searches_are_exact; /* known when all tensors have been looked at */
    size_t n_of_others;
} recoding_state;

static quern_status begin_recoding(const qn_verified *v, const qn_verify_run *run, recoding_state *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    s->is_tried = true;
    QN_TRY(qn_calibrated_open(run->calibrated, v->gguf != NULL, &s->is_ready, err));
    QN_TRY(s->is_ready ? qn_recoding_init(&s->recoding, run->calibrated, err) : QUERN_OK);
done:
    return status;
}

static size_t piece_of(const qn_verified *v, size_t i) { return (size_t)(v->rows[i].piece - v->job->source.pieces); }

static bool is_quantized(const qn_verified *v, size_t i) { return qn_checked_tensor_block(&v->tensors[i]) > 1; }

/* Nothing meets the embedding's columns: encoded plainly in any case. */
static bool is_looked_up(const qn_verified *v, size_t i) { return v->rows[i].piece->what.part == QN_PART_TOKEN_EMBD; }

/* Whether tensor i says something of who made the file. */
static bool tells_encoder(const qn_verified *v, size_t i) { return is_quantized(v, i) && !is_looked_up(v, i); }

/* Converters leave some tensors as they are; so whole tensors, bit for bit, of the one kind of weights or the other. */
static quern_status look_at_plain(qn_checked_tensor *t, const qn_check_options *options, const qn_verify_run *run, qn_tensor_figures *f,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_dtype way = t->by_way;
    t->by_way = QN_DTYPE_F32;
    QN_TRY(qn_tensor_check(t, options, run->pool, f, err));
    if (way != QN_DTYPE_F32 && f->faults[QN_FAULT_NOT_EQUAL].n_blocks > 0) {
        qn_tensor_figures rounded;
        t->by_way = way;
        QN_TRY(qn_tensor_check(t, options, run->pool, &rounded, err));
        *f = rounded.faults[QN_FAULT_NOT_EQUAL].n_blocks == 0 ? rounded : *f;
    }
done:
    return status;
}

/* Where two encoders give the same of nearly all blocks, as of values too small for any scale, the sample may have named the wrong one. */
static quern_status try_other_encoder(const qn_checked_tensor *t, const qn_check_options *options, const qn_verify_run *run,
                                      qn_tensor_figures *f, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_tensor_figures other;
    qn_check_options by_quern = *options;
    by_quern.encoder = QN_ENCODER_QUERN;
    if (f->encoder == QN_ENCODER_PLAIN && f->faults[QN_FAULT_NOT_ENCODER].n_blocks > 0) {
        QN_TRY(qn_tensor_check(t, &by_quern, run->pool, &other, err));
        *f = other.faults[QN_FAULT_NOT_ENCODER].n_blocks < f->faults[QN_FAULT_NOT_ENCODER].n_blocks ? other : *f;
    }
done:
    return status;
}

static quern_status look_at(qn_verified *v, const qn_verify_run *run, size_t i, recoding_state *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_check_options options = {.try_encoders = run->try_encoders,
                                      .error_limit = run->importance ? limit_with_importance : QN_ERROR_LIMIT};
    const qn_check_options strict = {.try_encoders = run->try_encoders, .error_limit = limit_of_few};
    qn_checked_tensor *t = &v->tensors[i];
    qn_tensor_figures *f = &v->figures[i];
    if (s->is_ready) {
        qn_recoding_set(&s->recoding, t, piece_of(v, i), v->rows[i].permute_dim, true);
    }
    QN_TRY(is_quantized(v, i) ? qn_tensor_check(t, &options, run->pool, f, err) : look_at_plain(t, &options, run, f, err));
    QN_TRY(try_other_encoder(t, &options, run, f, err));
    if (!isfinite(f->squared_source)) { /* finite floats do not overflow this sum */
        QN_TRY(qn_source_check_piece(&v->job->source, v->rows[i].piece, err));
    }
    s->n_of_others += !is_looked_up(v, i) && (f->encoder == QN_ENCODER_PLAIN || f->encoder == QN_ENCODER_QUERN);
    bool direct = v->source_way == QN_DTYPE_F32; /* Quern calibrates what it encodes */
    if (run->calibrated != NULL && direct && !s->is_tried && s->n_of_others == 0 && may_be_calibrated(t, f)) {
        QN_TRY(begin_recoding(v, run, s, err));
        if (s->is_ready) {
            qn_recoding_set(&s->recoding, t, piece_of(v, i), v->rows[i].permute_dim, true);
            QN_TRY(qn_tensor_check(t, &options, run->pool, f, err));
        }
    }
    if (f->n_relaxed > 0 && f->n_relaxed < f->n_blocks / FEW) {
        QN_TRY(qn_tensor_check(t, &strict, run->pool, f, err));
    }
done:
    t->recode = NULL;
    return status;
}

/* Nearly llama.cpp's work, but not in the arithmetic known here: then what differs is not for this encoder to judge, and the sums want all blocks. */
static quern_status look_again(qn_verified *v, const qn_verify_run *run, size_t i, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_tensor_figures *f = &v->figures[i];
    qn_check_options options = {.error_limit = run->importance ? limit_with_importance : QN_ERROR_LIMIT};
    QN_TRY(qn_tensor_check(&v->tensors[i], &options, run->pool, f, err));
    if (f->n_relaxed > 0 && f->n_relaxed < f->n_blocks / FEW) {
        options.error_limit = limit_of_few;
        QN_TRY(qn_tensor_check(&v->tensors[i], &options, run->pool, f, err));
    }
done:
    return status;
}

/* What the weights went through before they were quantized. Who has just encoded them knows. */
static quern_status find_way(qn_verified *v, const qn_verify_run *run, quern_error *err)
{
    quern_status status = QUERN_OK;
    v->source_way = QN_DTYPE_F32;
    QN_TRY(run->try_encoders ? qn_source_way_find(v->tensors, v->n_tensors, run->pool, &v->source_way, err) : QUERN_OK);
    for (size_t i = 0; i < v->n_tensors; i++) {
        v->tensors[i].by_way = v->source_way;
    }
    if (v->source_way != QN_DTYPE_F32) {
        QN_TRY(qn_findings_note(&v->findings, err,
                                "the weights went through %s before they were quantized: the file is what encoders make of the source "
                                "rounded to that, and not of the source itself; its tensors are judged against the rounded source",
                                qn_dtype_get(v->source_way)->name));
    }
done:
    return status;
}

/* ---- held against the encoder of the others ---- */

static bool is_exact(const qn_tensor_figures *f)
{
    return f->encoder != QN_ENCODER_UNKNOWN && f->faults[QN_FAULT_NOT_ENCODER].n_blocks == 0;
}

static bool same_type(const qn_checked_tensor *a, const qn_checked_tensor *b)
{
    return a->storage == b->storage && a->dtype == b->dtype && a->affine.bits == b->affine.bits && a->affine.group == b->affine.group;
}

/* The encoder whose exact work most of the other quantized tensors are, of which there must be three: those of the same type as tensor i, or all. */
static qn_encoder encoder_of_others(const qn_verified *v, size_t i, bool of_its_type)
{
    enum { THREE = 3 };
    size_t n = 0, n_exact[QN_ENCODER_RECODE + 1] = {0};
    for (size_t k = 0; k < v->n_tensors; k++) {
        if (k != i && tells_encoder(v, k) && (!of_its_type || same_type(&v->tensors[k], &v->tensors[i]))) {
            n++;
            n_exact[is_exact(&v->figures[k]) ? v->figures[k].encoder : QN_ENCODER_UNKNOWN]++;
        }
    }
    for (qn_encoder e = QN_ENCODER_QUERN; e <= QN_ENCODER_RECODE; e++) {
        if (n_exact[e] >= THREE && 2 * n_exact[e] > n) {
            return e;
        }
    }
    return QN_ENCODER_UNKNOWN;
}

static quern_status check_as(qn_verified *v, const qn_verify_run *run, size_t i, recoding_state *s, qn_encoder encoder, bool fed_back,
                             qn_tensor_figures *f, quern_error *err)
{
    const qn_check_options options = {.encoder = encoder, .error_limit = run->importance ? limit_with_importance : QN_ERROR_LIMIT};
    qn_checked_tensor *t = &v->tensors[i];
    if (encoder == QN_ENCODER_RECODE) {
        qn_recoding_set(&s->recoding, t, piece_of(v, i), v->rows[i].permute_dim, fed_back);
    }
    quern_status status = qn_tensor_check(t, &options, run->pool, f, err);
    t->recode = NULL;
    return status;
}

/* Whether llama.cpp's searches were done in the arithmetic that is known here: exact in all tensors but a few, which may have faults, and with blocks
 * among them that a compiler which joins multiplications and additions would have made otherwise; none of the others is what such a one makes. */
static bool searches_are_exact(const qn_verified *v)
{
    enum { A_FEW = 8, TELLING_MIN = 8 };
    size_t n = 0, n_other = 0;
    uint64_t n_telling = 0, n_joined = 0;
    for (size_t k = 0; k < v->n_tensors; k++) {
        const qn_tensor_figures *f = &v->figures[k];
        if (is_quantized(v, k) && qn_known_is_searched(&v->tensors[k])) {
            bool exact = f->encoder == QN_ENCODER_PLAIN && is_exact(f);
            n++;
            n_other += !exact;
            n_telling += exact ? f->n_telling : 0;
            n_joined += f->n_joined;
        }
    }
    return n_other * A_FEW <= n && n_telling >= TELLING_MIN && n_joined == 0;
}

/* Where too few others have the type of this tensor to tell, an encoder of Quern's that made most of the file, and most of the tensor, will do. (What other
 * programs make of one type says nothing about how exactly their encoder of another one is known here.) */
static quern_status hold(qn_verified *v, const qn_verify_run *run, size_t i, recoding_state *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_tensor_figures held;
    qn_encoder of_type = encoder_of_others(v, i, true), encoder;
    if (qn_known_is_searched(&v->tensors[i])) {
        of_type = s->searches_are_exact ? QN_ENCODER_PLAIN : of_type == QN_ENCODER_PLAIN ? QN_ENCODER_UNKNOWN : of_type;
    }
    encoder = of_type != QN_ENCODER_UNKNOWN ? of_type : encoder_of_others(v, i, false);
    if (encoder == QN_ENCODER_UNKNOWN || (of_type == QN_ENCODER_UNKNOWN && encoder == QN_ENCODER_PLAIN)) {
        return QUERN_OK;
    }
    QN_TRY(check_as(v, run, i, s, encoder, true, &held, err));
    if (!is_exact(&held) && encoder == QN_ENCODER_RECODE) { /* quantize had no memory for its second moments? */
        qn_tensor_figures without;
        QN_TRY(check_as(v, run, i, s, encoder, false, &without, err));
        held = is_exact(&without) ? without : held;
    }
    held.is_held = true;
    if (run->importance && encoder != QN_ENCODER_RECODE && 10 * held.faults[QN_FAULT_NOT_ENCODER].n_blocks >= 9 * held.n_blocks) {
        return QUERN_OK; /* a matrix may have entries for some tensors only */
    }
    if (of_type != QN_ENCODER_UNKNOWN || 2 * held.faults[QN_FAULT_NOT_ENCODER].n_blocks <= held.n_blocks) {
        v->figures[i] = held;
    }
done:
    return status;
}

/* Of scales that are powers of two, and of types with so many levels that hardly any scale is wrong, encoders often agree (calibrated Q8_0 and MLX 8bit of the
 * demo model in up to three blocks of four); of the others calibrated ones do in a tenth of the blocks of some tensors. */
static bool made_in_part(const qn_checked_tensor *t, const qn_tensor_figures *f)
{
    bool many_levels = t->storage == QN_STORED_AFFINE ? t->affine.bits > 4 : t->dtype == QN_DTYPE_Q8_0;
    return f->share >= 0.15 && !many_levels && !qn_checked_tensor_has_powers_of_two(t);
}

/* Of the encoder of Quern's that made part of the blocks of three quarters of the tensors, exactly, the rest of them must be too: what is a little off in every
 * tensor alike is no version of it. Only where the certificate names another version, that one is believed. */
static qn_encoder encoder_of_file(const qn_verified *v)
{
    size_t n = 0, n_of[QN_ENCODER_RECODE + 1] = {0};
    for (size_t k = 0; k < v->n_tensors; k++) {
        const qn_tensor_figures *f = &v->figures[k];
        if (tells_encoder(v, k)) {
            n++;
            n_of[f->encoder == QN_ENCODER_UNKNOWN && made_in_part(&v->tensors[k], f) ? f->of : f->encoder]++;
        }
    }
    for (qn_encoder e = QN_ENCODER_QUERN; e <= QN_ENCODER_RECODE; e++) {
        if (e != QN_ENCODER_PLAIN && n_of[e] >= 3 && 4 * n_of[e] >= 3 * n) {
            return e;
        }
    }
    return QN_ENCODER_UNKNOWN;
}

static bool all_exact(const qn_verified *v)
{
    for (size_t i = 0; i < v->n_tensors; i++) {
        if (is_quantized(v, i) && !is_exact(&v->figures[i])) {
            return false;
        }
    }
    return true;
}

static quern_status hold_file(qn_verified *v, const qn_verify_run *run, qn_encoder encoder, recoding_state *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < v->n_tensors; i++) {
        const qn_tensor_figures *f = &v->figures[i];
        if (tells_encoder(v, i) && !is_exact(f) && !f->is_held &&
            (f->encoder == encoder ||
             (f->encoder == QN_ENCODER_UNKNOWN && !run->importance && made_in_part(&v->tensors[i], f) && f->of == encoder))) {
            QN_TRY(check_as(v, run, i, s, encoder, true, &v->figures[i], err));
            v->figures[i].is_held = true;
            release(&v->tensors[i], v->rows[i].piece);
        }
    }
done:
    return status;
}

/* No encoder is known, but what it does can be seen: it leaves no code of this type that is not the nearest in three quarters of the other tensors, of which
 * there must be three. Then many such codes in one tensor are not its choice. */
static bool others_are_nearest(const qn_verified *v, size_t i)
{
    size_t n = 0, n_nearest = 0;
    for (size_t k = 0; k < v->n_tensors; k++) {
        if (k != i && tells_encoder(v, k) && same_type(&v->tensors[k], &v->tensors[i])) {
            n++;
            n_nearest += v->figures[k].faults[QN_FAULT_NOT_NEAREST].n_subs == 0;
        }
    }
    return n_nearest >= 3 && 4 * n_nearest >= 3 * n;
}

static quern_status judge_all(qn_verified *v, const qn_verify_run *run, recoding_state *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    s->searches_are_exact = searches_are_exact(v);
    for (size_t i = 0; i < v->n_tensors; i++) {
        bool nearly = v->figures[i].encoder == QN_ENCODER_PLAIN && !is_exact(&v->figures[i]);
        if (run->try_encoders && !s->searches_are_exact && is_quantized(v, i) && qn_known_is_searched(&v->tensors[i]) && nearly) {
            QN_TRY(look_again(v, run, i, err));
        }
        if (run->try_encoders && is_quantized(v, i) && !is_exact(&v->figures[i])) {
            QN_TRY(hold(v, run, i, s, err));
            release(&v->tensors[i], v->rows[i].piece);
        }
    }
    qn_encoder of_file = run->try_encoders ? encoder_of_file(v) : QN_ENCODER_UNKNOWN;
    if (of_file != QN_ENCODER_UNKNOWN && run->other_version && !all_exact(v)) {
        QN_TRY(qn_findings_warn(
            &v->findings, err,
            "the tensors are in part what this version's encoder makes; the rest is not held against it, since the certificate "
            "names another version, which nothing proves"));
    } else if (of_file != QN_ENCODER_UNKNOWN && !run->other_version) {
        QN_TRY(hold_file(v, run, of_file, s, err));
    }
    for (size_t i = 0; i < v->n_tensors; i++) {
        v->figures[i].others_are_nearest = v->figures[i].faults[QN_FAULT_NOT_NEAREST].n_subs > 0 && others_are_nearest(v, i);
        QN_TRY(qn_verdict_tensor(v->tensors, v->n_tensors, i, &v->figures[i], &v->findings, err));
    }
done:
    return status;
}

quern_status qn_verified_check(qn_verified *v, const qn_verify_run *run, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t done = 0, total = v->job->source.n_parameters, n_relaxed = 0;
    size_t n_relaxed_tensors = 0;
    recoding_state recoding = {0};
    if (run->calibrated != NULL && qn_calibrated_is_given(run->calibrated)) {
        QN_TRY(begin_recoding(v, run, &recoding, err));
    }
    QN_TRY(find_way(v, run, err));
    for (size_t i = 0; i < v->n_tensors; i++) {
        QN_TRY(report(run, v->tensors[i].name, done, total, err));
        QN_TRY(look_at(v, run, i, &recoding, err));
        release(&v->tensors[i], v->rows[i].piece);
        done += v->tensors[i].n_parts * v->tensors[i].n_rows * v->tensors[i].n_cols;
        done = done < total ? done : total;
    }
    QN_TRY(judge_all(v, run, &recoding, err));
    for (size_t i = 0; i < v->n_tensors; i++) {
        n_relaxed += v->figures[i].n_relaxed;
        n_relaxed_tensors += v->figures[i].n_relaxed > 0;
    }
    if (run->importance) {
        QN_TRY(
            qn_findings_note(&v->findings, err,
                             "the file says that it was made with an importance matrix, so a block's error is limited to %g times that of "
                             "plain encoding instead of %g: %" PRIu64 " blocks in %zu of %zu tensors needed that",
                             limit_with_importance, QN_ERROR_LIMIT, n_relaxed, n_relaxed_tensors, v->n_tensors));
    }
    if (v->findings.n_joint_tensors > 0) {
        QN_TRY(qn_findings_note(
            &v->findings, err,
            "in %zu of %zu tensors many codes are not the nearest: their encoder chose them together (error feedback, importance), "
            "so the test for single codes does not apply to them",
            v->findings.n_joint_tensors, v->n_tensors));
    }
    QN_TRY(report(run, "SHA-256", total, total, err));
    QN_TRY(qn_verified_hash(v, err));
done:
    qn_recoding_deinit(&recoding.recoding);
    return status;
}
