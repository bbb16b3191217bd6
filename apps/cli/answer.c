/* answer.c - quern_generate with a screen and a Ctrl-C. */
#include "answer.h"

#include <math.h>
#include <string.h>

#include "progress.h"
#include "signals.h"

typedef struct watch {
    qn_cli *cli;
    qn_progress progress;
    bool stream;
    bool broken; /* stdout cannot be written */
} watch;

static bool on_token(void *user, int32_t id, const char *text, size_t len)
{
    watch *w = user;
    (void)id;
    qn_progress_end(&w->progress);
    if (w->stream && len > 0 && !w->broken) {
        qn_term_write(&w->cli->out, text, len);
        w->broken = fflush(w->cli->out.file) != 0 || ferror(w->cli->out.file) != 0;
    }
    return !w->broken && !qn_signals_stopped();
}

static bool on_progress(void *user, size_t done, size_t total)
{
    watch *w = user;
    qn_progress_update(&w->progress, done, total);
    return !qn_signals_stopped();
}

quern_status qn_answer(qn_cli *cli, const qn_answer_request *request, quern_generation *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_opts *o = &cli->opts;
    const char *speculate = qn_opts_text(o, QN_OPT_SPECULATE, "auto");
    watch w = {.cli = cli, .stream = request->stream};
    quern_generate_options options = {
        .max_tokens = (size_t)qn_opts_count(o, QN_OPT_MAX_TOKENS, 0),
        .sampling = *request->sampling,
        .stop = o->values[QN_OPT_STOP].list,
        .n_stop = o->values[QN_OPT_STOP].n_list,
        .ignore_eos = qn_opts_flag(o, QN_OPT_IGNORE_EOS),
        .speculation = strcmp(speculate, "off") == 0      ? QUERN_SPECULATE_OFF
                       : strcmp(speculate, "always") == 0 ? QUERN_SPECULATE_ALWAYS
                                                          : QUERN_SPECULATE_AUTO,
        .on_token = on_token,
        .on_progress = on_progress,
        .user = &w,
    };
    *out = (quern_generation){0};
    qn_progress_begin(&w.progress, &cli->err, !cli->quiet, "reading", QN_UNIT_TOKENS);
    qn_signals_begin_stoppable();
    status = quern_generate(request->engine, request->sequence, request->ids, request->n_ids, &options, out, err);
    qn_signals_end_stoppable();
    qn_progress_end(&w.progress);
    if (status == QUERN_ERROR_CANCELLED) {
        out->finish = QUERN_FINISH_CANCELLED; /* stopped while the prompt was read: an answer of nothing */
        out->n_prompt_tokens = request->n_ids;
        status = QUERN_OK;
    }
    if (status == QUERN_OK && w.broken) {
        status = qn_cli_flush(err);
    }
    return status;
}

double qn_answer_prefill_rate(const quern_generation *g)
{
    return g->prefill_seconds > 0 ? (double)g->n_prompt_tokens / g->prefill_seconds : NAN;
}

/* The first token comes out of the prefill; decoding makes the others. */
double qn_answer_decode_rate(const quern_generation *g)
{
    return g->ids.len > 1 && g->decode_seconds > 0 ? (double)(g->ids.len - 1) / g->decode_seconds : NAN;
}

void qn_answer_describe(const quern_generation *g, qn_buf *out)
{
    qn_number a, b;
    double decode = qn_answer_decode_rate(g), prefill = qn_answer_prefill_rate(g);
    (void)qn_buf_printf(out, "%s token%s", qn_format_grouped(a, g->ids.len), g->ids.len == 1 ? "" : "s");
    if (!isnan(decode)) {
        (void)qn_buf_printf(out, ", %s tok/s", qn_format_rate(a, decode));
    }
    (void)qn_buf_printf(out, "; prompt %s tokens", qn_format_grouped(a, g->n_prompt_tokens));
    if (!isnan(prefill)) {
        (void)qn_buf_printf(out, ", %s tok/s", qn_format_rate(a, prefill));
    }
    if (g->n_right > 0) {
        (void)qn_buf_printf(out, "; %zu of %zu guesses right, %zu steps", g->n_right, g->n_guessed, g->n_steps);
    }
    if (g->ids.len > 0) {
        (void)qn_buf_printf(out, ", first token after %s", qn_format_seconds(b, g->ttft_seconds));
    }
}

qn_json *qn_answer_timings(const quern_generation *g, double load_s, bool *ok)
{
    qn_json *t = qn_json_new_object();
    if (load_s >= 0) {
        qn_put_measured(t, "load_s", load_s, ok);
    }
    qn_put_measured(t, "ttft_ms", g->ids.len > 0 ? g->ttft_seconds * 1e3 : NAN, ok);
    qn_put_measured(t, "prefill_tokens_per_s", qn_answer_prefill_rate(g), ok);
    qn_put_measured(t, "decode_tokens_per_s", qn_answer_decode_rate(g), ok);
    qn_put_measured(t, "total_ms", (g->prefill_seconds + g->decode_seconds) * 1e3, ok);
    return t;
}

static qn_json *measured(bool known, uint64_t bytes) { return known ? qn_json_new_int((int64_t)bytes) : qn_json_new_null(); }

qn_json *qn_answer_memory(const quern_engine *engine, const qn_memory_marks *marks, bool *ok)
{
    const quern_engine_plan *plan = &quern_engine_get_info(engine)->plan;
    qn_json *m = qn_json_new_object();
    qn_put_count(m, "weights_mapped", plan->weights_mapped, ok);
    qn_put_count(m, "kv", plan->kv, ok);
    qn_put_count(m, "activations", plan->activations, ok);
    qn_put_count(m, "prefix", 0, ok); /* no prefix cache in this version */
    bool known = marks->before_model > 0 && marks->after_model >= marks->before_model;
    qn_put(m, "tokenizer", measured(known, marks->after_model - marks->before_model), ok);
    qn_put(m, "other", measured(known, marks->before_model), ok);
    return m;
}
