/* settings.c - options to structs. */
#include "settings.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory_info.h"
#include "progress.h"
#include "prompt_input.h"

void qn_settings_float_kv(const qn_cli *cli, const quern_model *model, quern_engine_options *options)
{
    const char *weights = quern_model_get_info(model)->weights;
    bool is_float = strcmp(weights, "F32") == 0 || strcmp(weights, "F16") == 0 || strcmp(weights, "BF16") == 0;
    if (!qn_opts_given(&cli->opts, QN_OPT_KV_TYPE) && is_float) {
        options->kv_type = QUERN_KV_F32;
    }
}

const char *qn_settings_kv_name(quern_kv_type t)
{
    switch (t) {
    case QUERN_KV_F16: return "f16";
    case QUERN_KV_F32: return "f32";
    case QUERN_KV_Q8_0: return "q8_0";
    }
    return "unknown";
}

quern_status qn_settings_engine(qn_cli *cli, quern_engine_options *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const char *device = qn_opts_text(o, QN_OPT_DEVICE, "cpu");
    const char *kv = qn_opts_text(o, QN_OPT_KV_TYPE, "f16");
    if (strcmp(device, "cpu") != 0) {
        bool cuda = strncmp(device, "cuda", 4) == 0;
        QN_FAIL(err, cuda ? QUERN_ERROR_UNAVAILABLE : QUERN_ERROR_USAGE, "--device %s: this version computes on the cpu only", device);
    }
    if (qn_opts_count(o, QN_OPT_GPU_LAYERS, 0) > 0) {
        QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "-ngl %s: this version computes on the cpu only", qn_opts_text(o, QN_OPT_GPU_LAYERS, ""));
    }
    *out = (quern_engine_options){
        .n_threads = (size_t)qn_opts_count(o, QN_OPT_THREADS, 0),
        .isa = qn_opts_text(o, QN_OPT_ISA, NULL),
        .n_ctx = (size_t)qn_opts_count(o, QN_OPT_CTX, 0),
        .n_batch = (size_t)qn_opts_count(o, QN_OPT_BATCH, 0),
        .kv_type = strcmp(kv, "f32") == 0    ? QUERN_KV_F32
                   : strcmp(kv, "q8_0") == 0 ? QUERN_KV_Q8_0
                                             : QUERN_KV_F16,
        .arithmetic = strcmp(qn_opts_text(o, QN_OPT_ARITHMETIC, ""), "f32_activations") == 0 ? QUERN_ARITHMETIC_F32_ACTIVATIONS
                                                                                             : QUERN_ARITHMETIC_AS_RUN,
    };
done:
    return status;
}

static bool on_read_in(void *user, size_t done, size_t total)
{
    qn_progress_update(user, done, total);
    return true;
}

/* Weights from the disk, with a bar; what took a while is told. */
static quern_status read_in(qn_cli *cli, const quern_model *model, size_t n_threads, quern_read_in *out, quern_error *err)
{
    const double worth_telling_s = 0.5;
    quern_read_in own;
    qn_progress bar;
    qn_number bytes, seconds, rate;
    out = out != NULL ? out : &own;
    qn_progress_begin(&bar, &cli->err, !cli->quiet, "reading", QN_UNIT_BYTES);
    quern_status status = quern_model_read_in(model, n_threads, on_read_in, &bar, out, err);
    qn_progress_end(&bar);
    if (status != QUERN_OK) {
        return status;
    }
    if (out->skipped) {
        qn_cli_note(cli, "%s of the weights are on the disk and do not fit the free memory: steps wait for what they touch",
                    qn_format_bytes(bytes, out->cold_bytes));
    } else if (out->cold_bytes > 0 && (cli->verbose || (out->seconds > worth_telling_s && cli->err.is_terminal))) {
        qn_cli_note(cli, "read %s from the disk in %s (%s/s)", qn_format_bytes(bytes, out->cold_bytes),
                    qn_format_seconds(seconds, out->seconds), qn_format_bytes(rate, (uint64_t)((double)out->cold_bytes / out->seconds)));
    }
    if (out->moved_bytes > 0 && (cli->verbose || (out->seconds > worth_telling_s && cli->err.is_terminal))) {
        qn_cli_note(cli, "moved %s of the weights to the memory of the processors that read them (NUMA)",
                    qn_format_bytes(bytes, out->moved_bytes));
    }
    return QUERN_OK;
}

qn_json *qn_settings_read_in_json(const quern_read_in *r, bool *ok)
{
    qn_json *o = qn_json_new_object();
    qn_put_count(o, "bytes", r->bytes, ok);
    qn_put_count(o, "cold_bytes", r->cold_bytes, ok);
    qn_put_count(o, "moved_bytes", r->moved_bytes, ok);
    qn_put_measured(o, "seconds", r->seconds, ok);
    qn_put(o, "skipped", qn_json_new_bool(r->skipped), ok);
    return o;
}

void qn_settings_warn_length(qn_cli *cli, const quern_model *model, size_t n_tokens)
{
    const quern_model_info *info = quern_model_get_info(model);
    qn_number context;
    if (info->n_ctx_train > 0 && n_tokens > info->n_ctx_train) {
        qn_cli_warn(cli, "the model was made for a context of %s tokens: beyond them its answers get worse",
                    qn_format_grouped(context, info->n_ctx_train));
    }
}

quern_status qn_settings_create_engine(qn_cli *cli, const quern_model *model, const quern_engine_options *options, quern_engine **out,
                                       quern_read_in *read, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_engine_plan plan;
    qn_number context, kv, buffers, have;
    uint64_t available = qn_available_memory_bytes();
    *out = NULL;
    QN_TRY(quern_engine_make_plan(model, options, &plan, err));
    if (plan.activations > available || plan.kv > available - plan.activations) {
        uint64_t fits = plan.activations < available && plan.kv_per_token > 0 ? (available - plan.activations) / plan.kv_per_token : 0;
        if (fits >= 64) {
            qn_cli_hint(cli, "a context of %s tokens (-c) would fit", qn_format_grouped(context, fits / 64 * 64));
        }
        QN_FAIL(err, QUERN_ERROR_LIMIT,
                "does not fit: a context of %s tokens needs %s for its KV cache and %s for buffers; %s of memory are available",
                qn_format_grouped(context, plan.kv_per_token > 0 ? plan.kv / plan.kv_per_token : 0), qn_format_bytes(kv, plan.kv),
                qn_format_bytes(buffers, plan.activations), qn_format_bytes(have, available));
    }
    QN_TRY(read_in(cli, model, options->n_threads, read, err));
    QN_TRY(quern_engine_create(out, model, options, err));
done:
    return status;
}

quern_status qn_settings_check_answer(qn_cli *cli, quern_error *err)
{
    const qn_opts *o = &cli->opts;
    if (qn_opts_count(o, QN_OPT_BEAMS, 1) != 1) {
        return qn_error_set(err, QUERN_ERROR_UNAVAILABLE, "--beams %s: not available in this version yet",
                            qn_opts_text(o, QN_OPT_BEAMS, ""));
    }
    if (qn_opts_given(o, QN_OPT_JSON_SCHEMA)) {
        return qn_error_set(err, QUERN_ERROR_UNAVAILABLE, "--json-schema: not available in this version yet");
    }
    return QUERN_OK;
}

/* 32 bits: every JSON reader keeps them, and they are short enough to type. */
static uint64_t random_seed(void)
{
    uint32_t v = 0;
    if (getentropy(&v, sizeof v) != 0) {
        v = (uint32_t)(qn_clock_ns() * 2654435761u >> 7) ^ (uint32_t)getpid();
    }
    return v;
}

/* "ID=X" */
static quern_status parse_bias(const char *text, quern_logit_bias *out, quern_error *err)
{
    char *end;
    const char *equals = strchr(text, '=');
    uint64_t id = 0;
    char number[24];
    bool ok = equals != NULL && equals > text && (size_t)(equals - text) < sizeof number;
    if (ok) {
        memcpy(number, text, (size_t)(equals - text));
        number[equals - text] = '\0';
        ok = qn_opts_parse_count(number, &id) && id <= INT32_MAX;
    }
    double x = ok ? strtod(equals + 1, &end) : 0;
    if (!ok || end == equals + 1 || *end != '\0' || isnan(x) || (isinf(x) && x > 0)) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--logit-bias %s: expected ID=X with a token id and a number (or -inf)", text);
    }
    *out = (quern_logit_bias){.id = (int32_t)id, .bias = (float)x};
    return QUERN_OK;
}

static void take_real(const qn_opts *o, qn_opt_id id, float *field)
{
    if (qn_opts_given(o, id)) {
        *field = (float)qn_opts_real(o, id, 0);
    }
}

quern_status qn_settings_sampling(qn_cli *cli, const quern_model *model, qn_sampling_settings *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const qn_opt_value *biases = &o->values[QN_OPT_LOGIT_BIAS];
    *out = (qn_sampling_settings){.sampling = quern_model_get_sampling(model)};
    quern_sampling *s = &out->sampling;
    take_real(o, QN_OPT_TEMP, &s->temperature);
    take_real(o, QN_OPT_TOP_P, &s->top_p);
    take_real(o, QN_OPT_MIN_P, &s->min_p);
    take_real(o, QN_OPT_TYPICAL, &s->typical_p);
    if (qn_opts_given(o, QN_OPT_TEMP) && s->temperature == 0) {
        s->repeat_penalty = 1; /* temperature 0: penalties off unless given */
        s->presence_penalty = s->frequency_penalty = 0;
    }
    take_real(o, QN_OPT_REPEAT_PENALTY, &s->repeat_penalty);
    take_real(o, QN_OPT_PRESENCE_PENALTY, &s->presence_penalty);
    take_real(o, QN_OPT_FREQUENCY_PENALTY, &s->frequency_penalty);
    if (qn_opts_given(o, QN_OPT_TOP_K)) {
        uint64_t k = qn_opts_count(o, QN_OPT_TOP_K, 0);
        s->top_k = k > INT32_MAX ? INT32_MAX : (int32_t)k;
    }
    out->random_seed = !qn_opts_given(o, QN_OPT_SEED) && s->temperature > 0;
    s->seed = out->random_seed ? random_seed() : qn_opts_count(o, QN_OPT_SEED, 0);
    if (biases->n_list > 0) {
        out->bias = qn_malloc_array(biases->n_list, sizeof *out->bias);
        if (out->bias == NULL) {
            QN_FAIL_MEMORY(err, "--logit-bias", biases->n_list * sizeof *out->bias);
        }
        for (size_t i = 0; i < biases->n_list; i++) {
            QN_TRY(parse_bias(biases->list[i], &out->bias[i], err));
        }
        s->logit_bias = out->bias;
        s->n_logit_bias = biases->n_list;
    }
    QN_TRY(quern_sampling_check(s, quern_model_get_info(model)->n_vocab, err));
done:
    if (status != QUERN_OK) {
        qn_settings_sampling_deinit(out);
    }
    return status;
}

void qn_settings_sampling_deinit(qn_sampling_settings *s)
{
    qn_free(s->bias);
    *s = (qn_sampling_settings){0};
}

void qn_settings_next_seed(qn_sampling_settings *s)
{
    if (s->random_seed) {
        s->sampling.seed = random_seed();
    }
}

void qn_settings_describe(const quern_sampling *s, qn_buf *out)
{
    if (s->temperature == 0) {
        (void)qn_buf_append_str(out, "temperature 0 (always the likeliest token)");
    } else {
        (void)qn_buf_printf(out, "temperature %g", (double)s->temperature);
        if (s->top_k > 0) {
            (void)qn_buf_printf(out, ", top-k %d", (int)s->top_k);
        }
        if (s->typical_p < 1) {
            (void)qn_buf_printf(out, ", typical %g", (double)s->typical_p);
        }
        if (s->top_p < 1) {
            (void)qn_buf_printf(out, ", top-p %g", (double)s->top_p);
        }
        if (s->min_p > 0) {
            (void)qn_buf_printf(out, ", min-p %g", (double)s->min_p);
        }
    }
    if (s->repeat_penalty < 1 || s->repeat_penalty > 1) {
        (void)qn_buf_printf(out, ", repeat penalty %g", (double)s->repeat_penalty);
    }
    if (s->presence_penalty < 0 || s->presence_penalty > 0) {
        (void)qn_buf_printf(out, ", presence penalty %g", (double)s->presence_penalty);
    }
    if (s->frequency_penalty < 0 || s->frequency_penalty > 0) {
        (void)qn_buf_printf(out, ", frequency penalty %g", (double)s->frequency_penalty);
    }
    if (s->temperature > 0) {
        (void)qn_buf_printf(out, ", seed %" PRIu64, s->seed);
    }
}

quern_status qn_settings_gate(const qn_opts *o, quern_gate_policy *policy, size_t *sample_layers, quern_error *err)
{
    const char *text = qn_opts_text(o, QN_OPT_GATE, "default");
    if (!quern_gate_policy_parse(text, policy, sample_layers)) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "--gate %s: expected default, strict, off, or sample:LAYERS", text);
    }
    return QUERN_OK;
}

quern_status qn_settings_calibration(const qn_opts *o, qn_calibration_settings *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_opt_source by_text = o->values[QN_OPT_CALIBRATE].source, by_matrix = o->values[QN_OPT_IMATRIX].source;
    const char *text = by_text >= by_matrix ? qn_opts_text(o, QN_OPT_CALIBRATE, NULL) : NULL;
    *out = (qn_calibration_settings){.calibrate = QUERN_CALIBRATE_AUTO,
                                     .imatrix_path = by_matrix >= by_text ? qn_opts_text(o, QN_OPT_IMATRIX, NULL) : NULL};
    if (text != NULL && out->imatrix_path != NULL) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "--calibrate and --imatrix: one of the two");
    }
    if (out->imatrix_path != NULL) {
        out->calibrate = QUERN_CALIBRATE_IMATRIX;
    } else if (text != NULL && strcmp(text, "none") == 0) {
        out->calibrate = QUERN_CALIBRATE_NONE;
    } else if (text != NULL && strcmp(text, "builtin") == 0) {
        out->calibrate = QUERN_CALIBRATE_BUILTIN;
    } else if (text != NULL) {
        out->calibrate = QUERN_CALIBRATE_TEXT;
        out->text_name = strcmp(text, "-") == 0 ? "standard input" : text;
        QN_TRY(qn_input_read(text, &out->text, &out->len, err));
    }
done:
    return status;
}
