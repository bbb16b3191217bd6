/* generate.c - the loop from a prompt to an answer: prefill in chunks, sample, stop.
 *
 * A step runs the last token and perhaps guesses of what follows it (speculate.h). Tokens are sampled one after another all the same, each from
 * the logits behind the tokens before it, so guesses change nothing but the number of steps. Invariant: where a token is sampled, the first
 * n_sure tokens of the sequence are what was said; guesses that were wrong may stand behind them until the next step or the end.
 *
 * Text is given out only when it can no longer become part of a stop string. */
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "engine/engine_int.h"

enum { TEXT_BYTES_MAX = 1 << 28, STOP_STRINGS_MAX = 64, STOP_STRING_BYTES_MAX = 4096 };

const char *quern_finish_name(quern_finish f)
{
    static const char *const names[] = {"stop", "length", "tool_calls", "cancelled"};
    return (unsigned)f < sizeof names / sizeof names[0] ? names[f] : "stop";
}

void quern_generation_deinit(quern_generation *g)
{
    qn_free(g->text);
    quern_ids_deinit(&g->ids);
    *g = (quern_generation){0};
}

/* The state of one call. */
typedef struct run {
    quern_engine *engine;
    quern_sequence *sequence;
    const quern_generate_options *opt;
    quern_generation *out;
    quern_sampler *sampler;
    quern_decoder *decoder; /* NULL for a model without tokenizer */
    qn_speculation speculation;
    bool speculates;
    qn_draft draft;   /* of the last step: its first n_drafted guesses were run */
    float *logits;    /* (1 + n_drafted, n_vocab) of the last step */
    float *rows;      /* room for 1 + QN_DRAFT_MAX, once a guess is run */
    size_t n_drafted; /* rows of the last step but the first */
    bool noted;       /* how many of them were right is known */
    size_t at;        /* the row that the next token is sampled from: guesses before it were right */
    size_t n_sure;    /* tokens of the sequence that are not guesses, or right ones */
    qn_buf text;
    size_t sent;  /* bytes of text given out */
    bool stopped; /* a stop string was found; text ends before it */
} run;

static quern_status check_options(const quern_engine *e, const quern_sequence *s, size_t n_prompt, const quern_generate_options *opt,
                                  quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t used = s->n_tokens, fits = e->info.n_ctx - used;
    if (n_prompt == 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "the prompt is empty: at least one token is needed");
    }
    if (n_prompt > fits) {
        QN_FAIL(err, QUERN_ERROR_CONTEXT_FULL, "the prompt does not fit: %zu tokens in the context and %zu in the prompt, %zu fit (--ctx)",
                used, n_prompt, e->info.n_ctx);
    }
    /* The last chosen token is never fed back, hence one less. */
    if (opt->max_tokens > 0 && opt->max_tokens - 1 > fits - n_prompt) {
        QN_FAIL(err, QUERN_ERROR_CONTEXT_FULL,
                "prompt and answer do not fit: %zu tokens in the context, %zu in the prompt, %zu to generate, %zu fit (--ctx)", used,
                n_prompt, opt->max_tokens, e->info.n_ctx);
    }
    if (opt->forced != NULL && opt->max_tokens == 0) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "forced tokens without their number (max_tokens)");
    }
    for (size_t i = 0; opt->forced != NULL && i < opt->max_tokens; i++) {
        if (opt->forced[i] < 0 || (size_t)opt->forced[i] >= e->model->config.n_vocab) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "forced token %zu is %d, the vocabulary has %zu", i, (int)opt->forced[i],
                    (size_t)e->model->config.n_vocab);
        }
    }
    if (opt->n_stop > STOP_STRINGS_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%zu stop strings, at most %d", opt->n_stop, STOP_STRINGS_MAX);
    }
    for (size_t i = 0; i < opt->n_stop; i++) {
        size_t len = strlen(opt->stop[i]);
        if (len == 0 || len > STOP_STRING_BYTES_MAX) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "stop string %zu has %zu bytes, expected 1 to %d", i + 1, len, STOP_STRING_BYTES_MAX);
        }
    }
    QN_TRY(quern_sampling_check(&opt->sampling, e->model->config.n_vocab, err));
done:
    return status;
}

/* Looks for the first stop string in what has not been sent; cuts the text there. */
static void find_stop(run *r)
{
    size_t cut = r->text.len;
    const char *text = qn_buf_text(&r->text);
    for (size_t i = 0; i < r->opt->n_stop; i++) {
        size_t len = strlen(r->opt->stop[i]);
        for (size_t at = r->sent; at + len <= r->text.len && at < cut; at++) {
            if (memcmp(text + at, r->opt->stop[i], len) == 0) {
                cut = at;
                r->stopped = true;
            }
        }
    }
    if (r->stopped) {
        r->text.len = cut;
        if (r->text.data != NULL) {
            r->text.data[cut] = '\0';
        }
    }
}

/* Bytes of unsent text that are certainly not the beginning of a stop string. */
static size_t sendable(const run *r)
{
    size_t unsent = r->text.len - r->sent;
    const char *text = qn_buf_text(&r->text) + r->sent;
    size_t hold = 0;
    for (size_t i = 0; i < r->opt->n_stop; i++) {
        size_t len = strlen(r->opt->stop[i]);
        for (size_t k = len - 1 < unsent ? len - 1 : unsent; k > hold; k--) {
            if (memcmp(text + unsent - k, r->opt->stop[i], k) == 0) {
                hold = k;
            }
        }
    }
    return unsent - hold;
}

/* Gives out what may be given out; false if the caller wants to stop. */
static bool send(run *r, int32_t id, size_t n)
{
    const char *text = qn_buf_text(&r->text) + r->sent;
    r->sent += n;
    return r->opt->on_token == NULL || r->opt->on_token(r->opt->user, id, text, n);
}

static quern_status append_text(run *r, int32_t id, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *text;
    size_t len;
    if (r->decoder != NULL) {
        QN_TRY(quern_decoder_push(r->decoder, id, &text, &len, err));
        if (!qn_buf_append(&r->text, text, len)) {
            QN_FAIL_MEMORY(err, "the answer", r->text.len + len);
        }
    }
    find_stop(r);
done:
    return status;
}

static bool is_stop_id(const run *r, int32_t id)
{
    const quern_model_info *info = &r->engine->model->info;
    for (size_t i = 0; i < info->n_stop_ids; i++) {
        if (info->stop_ids[i] == id) {
            return true;
        }
    }
    return false;
}

static quern_status remember_id(run *r, int32_t id, quern_error *err)
{
    quern_ids *ids = &r->out->ids;
    if (ids->len == ids->cap) {
        size_t cap = ids->cap < 64 ? 64 : ids->cap * 2;
        int32_t *data = qn_realloc_array(ids->data, cap, sizeof *data);
        if (data == NULL) {
            return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: %zu generated tokens", cap);
        }
        ids->data = data;
        ids->cap = cap;
    }
    ids->data[ids->len++] = id;
    return QUERN_OK;
}

/* Runs the prompt in chunks; *cancelled if on_progress said so. Logits of the last row are in engine->logits. */
static quern_status prefill(run *r, const int32_t *prompt, size_t n, bool *cancelled, quern_error *err)
{
    quern_status status = QUERN_OK;
    *cancelled = false;
    for (size_t done = 0; done < n && !*cancelled;) {
        size_t rows = n - done < r->engine->info.n_batch ? n - done : r->engine->info.n_batch;
        bool last = done + rows == n;
        const quern_step_item item = {
            .sequence = r->sequence, .ids = prompt + done, .n_ids = rows, .n_logits = last ? 1 : 0, .logits = r->engine->logits};
        QN_TRY(quern_engine_step(r->engine, &item, 1, err));
        done += rows;
        if (r->opt->on_progress != NULL && !r->opt->on_progress(r->opt->user, done, n)) {
            *cancelled = true;
        }
    }
done:
    return status;
}

static quern_status begin_speculation(run *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    r->logits = r->engine->logits;
    r->n_sure = r->sequence->n_tokens;
    r->speculates = r->opt->speculation != QUERN_SPECULATE_OFF && r->engine->info.n_batch > 1;
    if (r->speculates) {
        QN_TRY(qn_speculation_init(&r->speculation, &r->engine->speculation, r->engine->info.n_ctx, err));
        qn_speculation_push(&r->speculation, r->sequence->ids, r->sequence->n_tokens);
    }
done:
    return status;
}

/* Guesses for what follows `id`, as many as pay and fit; n_drafted = 0 where there is no room for their logits. */
static void draft_after(run *r, int32_t id)
{
    const quern_engine_info *info = &r->engine->info;
    size_t room = info->n_ctx - r->n_sure - 1, wanted = r->opt->max_tokens != 0 ? r->opt->max_tokens - r->out->ids.len - 1 : room;
    r->draft.n = r->n_drafted = 0;
    if (!r->speculates) {
        return;
    }
    room = room < wanted ? room : wanted;
    room = room < info->n_batch - 1 ? room : info->n_batch - 1;
    qn_speculation_push(&r->speculation, &id, 1);
    qn_speculation_find(&r->speculation, room, &r->draft);
    r->n_drafted = r->opt->speculation == QUERN_SPECULATE_ALWAYS ? r->draft.n : qn_speculation_choose(&r->engine->speculation, &r->draft);
    if (r->n_drafted > 0 && r->rows == NULL) {
        r->rows = qn_malloc_aligned((QN_DRAFT_MAX + 1) * r->engine->model->config.n_vocab * sizeof *r->rows);
        r->speculates = r->rows != NULL;
        r->n_drafted = r->speculates ? r->n_drafted : 0;
    }
}

/* Runs `id` and the guesses behind it. */
static quern_status step(run *r, int32_t id, quern_error *err)
{
    quern_status status = QUERN_OK;
    int32_t ids[1 + QN_DRAFT_MAX] = {id};
    uint64_t begin = qn_clock_ns();
    QN_TRY(quern_sequence_truncate(r->sequence, r->n_sure, err));
    draft_after(r, id);
    r->logits = r->n_drafted > 0 ? r->rows : r->engine->logits;
    memcpy(ids + 1, r->draft.ids, r->n_drafted * sizeof *ids);
    quern_step_item item = {
        .sequence = r->sequence, .ids = ids, .n_ids = 1 + r->n_drafted, .n_logits = 1 + r->n_drafted, .logits = r->logits};
    status = quern_engine_step(r->engine, &item, 1, err);
    if (status == QUERN_ERROR_CONTEXT_FULL && r->n_drafted > 0) { /* other sequences hold pages: without guesses, then */
        r->n_drafted = 0;
        item.n_ids = item.n_logits = 1;
        status = quern_engine_step(r->engine, &item, 1, err);
    }
    QN_TRY(status);
    r->at = 0;
    r->noted = false;
    r->n_sure++;
    r->out->n_steps++;
    r->out->n_guessed += r->n_drafted;
    qn_speculation_note_cost(&r->engine->speculation, 1 + r->n_drafted, qn_clock_seconds(begin, qn_clock_ns()));
done:
    return status;
}

/* Whether the sampled token is the guess that has been run behind the last one: its logits are there already. */
static bool was_guessed(run *r, int32_t id)
{
    bool right = r->at < r->n_drafted && r->draft.ids[r->at] == id;
    if (right) {
        r->at++;
        r->n_sure++;
        r->out->n_right++;
        qn_speculation_push(&r->speculation, &id, 1);
    }
    if (r->n_drafted > 0 && !r->noted && (!right || r->at == r->n_drafted)) {
        qn_speculation_note_result(&r->engine->speculation, &r->draft, r->n_drafted, r->at);
        r->noted = true;
    }
    return right;
}

/* Samples, gives out, steps, until something ends it. */
static quern_status decode(run *r, uint64_t start_ns, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_generation *out = r->out;
    size_t n_vocab = r->engine->model->config.n_vocab;
    for (;;) {
        int32_t id;
        QN_TRY(quern_sampler_sample(r->sampler, r->logits + r->at * n_vocab, &id, NULL, err));
        id = r->opt->forced != NULL ? r->opt->forced[out->ids.len] : id;
        if (out->ids.len == 0) {
            out->ttft_seconds = qn_clock_seconds(start_ns, qn_clock_ns());
        }
        QN_TRY(remember_id(r, id, err));
        if (!r->opt->ignore_eos && is_stop_id(r, id)) {
            out->finish = QUERN_FINISH_STOP;
            break;
        }
        QN_TRY(append_text(r, id, err));
        if (!send(r, id, r->stopped ? r->text.len - r->sent : sendable(r))) {
            out->finish = QUERN_FINISH_CANCELLED;
            break;
        }
        if (r->stopped) {
            out->finish = QUERN_FINISH_STOP;
            break;
        }
        if (out->ids.len == r->opt->max_tokens || r->n_sure == r->engine->info.n_ctx) {
            out->finish = QUERN_FINISH_LENGTH;
            break;
        }
        if (was_guessed(r, id)) {
            continue;
        }
        status = step(r, id, err);
        if (status == QUERN_ERROR_CONTEXT_FULL && r->opt->max_tokens == 0) {
            status = QUERN_OK; /* other sequences hold the rest of the pages */
            out->finish = QUERN_FINISH_LENGTH;
            break;
        }
        QN_TRY(status);
    }
done:
    (void)quern_sequence_truncate(r->sequence, r->n_sure, NULL); /* guesses go; it is never shorter */
    return status;
}

/* What the decoder still holds becomes text; everything held back is given out. */
static quern_status flush_text(run *r, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *text;
    size_t len;
    if (r->decoder != NULL && !r->stopped) {
        QN_TRY(quern_decoder_finish(r->decoder, &text, &len, err));
        if (!qn_buf_append(&r->text, text, len)) {
            QN_FAIL_MEMORY(err, "the answer", r->text.len + len);
        }
        find_stop(r);
        if (r->stopped && r->out->finish == QUERN_FINISH_LENGTH) {
            r->out->finish = QUERN_FINISH_STOP;
        }
    }
    if (r->text.len > r->sent) {
        (void)send(r, -1, r->text.len - r->sent);
    }
    r->out->text = qn_buf_take(&r->text, &r->out->len);
    if (r->out->text == NULL) {
        QN_FAIL_MEMORY(err, "the answer", r->sent);
    }
done:
    return status;
}

quern_status quern_generate(quern_engine *e, quern_sequence *s, const int32_t *prompt, size_t n_prompt, const quern_generate_options *opt,
                            quern_generation *out, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t start = qn_clock_ns();
    bool cancelled = false;
    run r = {.engine = e, .sequence = s, .opt = opt, .out = out};
    qn_buf_init(&r.text, TEXT_BYTES_MAX);
    *out = (quern_generation){.n_prompt_tokens = n_prompt};
    QN_TRY(check_options(e, s, n_prompt, opt, err));
    QN_TRY(quern_sampler_create(&r.sampler, &opt->sampling, e->model->config.n_vocab, err));
    QN_TRY(quern_sampler_accept_prompt(r.sampler, prompt, n_prompt, err));
    if (e->model->tokenizer != NULL) {
        QN_TRY(quern_decoder_create(&r.decoder, e->model->tokenizer, false, err));
    }
    QN_TRY(prefill(&r, prompt, n_prompt, &cancelled, err));
    QN_TRY(begin_speculation(&r, err));
    uint64_t prefilled = qn_clock_ns();
    out->prefill_seconds = qn_clock_seconds(start, prefilled);
    if (cancelled) {
        out->finish = QUERN_FINISH_CANCELLED;
    } else {
        QN_TRY(decode(&r, start, err));
        out->decode_seconds = qn_clock_seconds(prefilled, qn_clock_ns());
    }
    QN_TRY(flush_text(&r, err));
done:
    qn_buf_deinit(&r.text);
    qn_speculation_deinit(&r.speculation);
    qn_free_aligned(r.rows);
    quern_decoder_destroy(r.decoder);
    quern_sampler_destroy(r.sampler);
    if (status != QUERN_OK) {
        quern_generation_deinit(out);
    }
    return status;
}
