/* inspect_metadata.c - keys, configuration and tokenizer as JSON. */
#include <string.h>

#include "base/alloc.h"
#include "base/json_tokens.h"
#include "model/inspect_int.h"

enum { ARRAY_SHOWN_MAX = 8 };

/* ---- building ---- */

void qn_doc_put(qn_doc *d, qn_json *object, const char *key, qn_json *value)
{
    if (object == NULL || value == NULL) {
        qn_json_free(value);
        d->failed = true;
    } else if (!qn_json_set(object, key, value)) {
        d->failed = true;
    }
}

void qn_doc_append(qn_doc *d, qn_json *array, qn_json *value)
{
    if (array == NULL || value == NULL) {
        qn_json_free(value);
        d->failed = true;
    } else if (!qn_json_append(array, value)) {
        d->failed = true;
    }
}

/* What was just put under key; the document's own, so that it may be changed. */
static qn_json *put_container(qn_doc *d, qn_json *object, const char *key, qn_json *value)
{
    qn_doc_put(d, object, key, value);
    return d->failed ? NULL : (qn_json *)(uintptr_t)qn_json_get(object, key);
}

qn_json *qn_doc_put_object(qn_doc *d, qn_json *object, const char *key) { return put_container(d, object, key, qn_json_new_object()); }
qn_json *qn_doc_put_array(qn_doc *d, qn_json *object, const char *key) { return put_container(d, object, key, qn_json_new_array()); }
/* GGUF keeps settings as float32: shown as the decimal that was meant. */
static qn_json *decimal(double v) { return (double)(float)v == v ? qn_json_new_float((float)v) : qn_json_new_real(v); }

qn_json *qn_doc_u64(uint64_t v) { return v <= INT64_MAX ? qn_json_new_int((int64_t)v) : qn_json_new_real((double)v); }
qn_json *qn_doc_text_or_null(const char *s) { return s != NULL ? qn_json_new_string(s) : qn_json_new_null(); }

/* ---- metadata ---- */

/* Element i of a value; `cursor` walks the strings. */
static qn_json *element_json(const qn_gguf_value *v, uint64_t i, const uint8_t **cursor)
{
    int64_t integer;
    double real;
    if (v->element == QN_GGUF_STRING) {
        qn_span s = qn_gguf_next_string(cursor);
        return qn_json_new_string_n(s.data, s.len);
    }
    if (v->element == QN_GGUF_BOOL) {
        return qn_json_new_bool(v->data[i] != 0);
    }
    if (qn_gguf_element_i64(v, i, &integer)) {
        return qn_json_new_int(integer);
    }
    if (qn_gguf_element_f64(v, i, &real)) {
        return v->element == QN_GGUF_F32 ? qn_json_new_float((float)real) : qn_json_new_real(real);
    }
    return qn_json_new_real(18446744073709551615.0); /* a u64 above 2^63 */
}

void qn_inspect_gguf_metadata(qn_doc *d, const qn_gguf *g)
{
    qn_json *metadata = qn_doc_put_object(d, d->root, "metadata");
    for (size_t i = 0; i < qn_gguf_n_keys(g) && !d->failed; i++) {
        const qn_gguf_value *v = qn_gguf_key_at(g, i);
        const uint8_t *cursor = v->data;
        char *key = qn_strndup(v->key.data, v->key.len);
        if (key == NULL) {
            d->failed = true;
        } else if (v->type != QN_GGUF_ARRAY) {
            qn_doc_put(d, metadata, key, element_json(v, 0, &cursor));
        } else {
            qn_json *list;
            bool shortened = v->n > ARRAY_SHOWN_MAX;
            if (shortened) {
                qn_json *object = qn_doc_put_object(d, metadata, key);
                qn_doc_put(d, object, "type", qn_json_new_string(qn_gguf_type_name((uint32_t)v->element)));
                qn_doc_put(d, object, "n", qn_doc_u64(v->n));
                list = qn_doc_put_array(d, object, "first");
            } else {
                list = qn_doc_put_array(d, metadata, key);
            }
            for (uint64_t k = 0; k < (shortened ? (uint64_t)ARRAY_SHOWN_MAX : v->n); k++) {
                qn_doc_append(d, list, element_json(v, k, &cursor));
            }
        }
        qn_free(key);
    }
}

void qn_inspect_safetensors_metadata(qn_doc *d, qn_json *object, const qn_safetensors *s)
{
    const char *value;
    for (size_t i = 0; i < qn_safetensors_n_metadata(s); i++) {
        const char *key = qn_safetensors_metadata_at(s, i, &value);
        qn_doc_put(d, object, key, qn_json_new_string(value));
    }
}

/* ---- certificate ---- */

static qn_json *text_or_null(qn_span s) { return s.data != NULL ? qn_json_new_string_n(s.data, s.len) : qn_json_new_null(); }

void qn_inspect_claim(qn_doc *d, const qn_claim *claim)
{
    if (!claim->found) {
        return;
    }
    qn_json *o = qn_doc_put_object(d, d->root, "certificate");
    qn_doc_put(d, o, "status", qn_json_new_string("claimed by the file; quern verify measures it"));
    qn_doc_put(d, o, "verdict", text_or_null(claim->verdict));
    for (size_t i = 0; i < QN_CLAIM_FIGURES; i++) {
        qn_doc_put(d, o, qn_claim_figure_names[i], qn_json_new_real(claim->figures[i]));
    }
    qn_doc_put(d, o, "tokens", claim->tokens >= 0 && claim->tokens < 1e15 ? qn_json_new_int((int64_t)claim->tokens) : qn_json_new_null());
    qn_doc_put(d, o, "n_ctx", claim->n_ctx >= 0 && claim->n_ctx < 1e15 ? qn_json_new_int((int64_t)claim->n_ctx) : qn_json_new_null());
    qn_doc_put(d, o, "text_sha256", text_or_null(claim->text_sha256));
    qn_doc_put(d, o, "data_sha256", text_or_null(claim->data_sha256));
    qn_doc_put(d, o, "quern_version", text_or_null(claim->version));
}

/* ---- configuration ---- */

static void put_rope(qn_doc *d, qn_json *config, const qn_rope_config *rope)
{
    static const char *const kinds[] = {
        [QN_ROPE_NONE] = "none", [QN_ROPE_LINEAR] = "linear", [QN_ROPE_LLAMA3] = "llama3", [QN_ROPE_YARN] = "yarn"};
    qn_json *o = qn_doc_put_object(d, config, "rope");
    qn_doc_put(d, o, "theta", decimal(rope->theta));
    qn_doc_put(d, o, "dimensions", qn_doc_u64(rope->n_rot));
    qn_doc_put(d, o, "pairs", qn_json_new_string(rope->interleaved ? "interleaved" : "halves"));
    qn_doc_put(d, o, "scaling", qn_json_new_string(kinds[rope->scaling]));
    if (rope->scaling != QN_ROPE_NONE) {
        qn_doc_put(d, o, "factor", decimal(rope->factor));
    }
    if (rope->scaling == QN_ROPE_YARN || rope->scaling == QN_ROPE_LLAMA3) {
        qn_doc_put(d, o, "original_context", qn_doc_u64(rope->original_ctx));
    }
}

static void put_layers(qn_doc *d, qn_json *config, const qn_model_config *c)
{
    uint32_t n_windowed = 0;
    uint32_t window = 0;
    uint32_t n_experts = 0;
    uint32_t n_rope = 0;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        n_windowed += c->layers[i].window != 0;
        window = c->layers[i].window > window ? c->layers[i].window : window;
        n_experts += c->layers[i].experts;
        n_rope += c->layers[i].rope;
    }
    qn_doc_put(d, config, "rope_layers", qn_doc_u64(n_rope));
    if (n_windowed > 0) {
        qn_json *o = qn_doc_put_object(d, config, "window");
        qn_doc_put(d, o, "tokens", qn_doc_u64(window));
        qn_doc_put(d, o, "layers", qn_doc_u64(n_windowed));
    }
    if (c->n_experts > 0) {
        qn_json *o = qn_doc_put_object(d, config, "experts");
        qn_doc_put(d, o, "n", qn_doc_u64(c->n_experts));
        qn_doc_put(d, o, "used", qn_doc_u64(c->n_experts_used));
        qn_doc_put(d, o, "ffn_size", qn_doc_u64(c->expert_ffn_size));
        qn_doc_put(d, o, "layers", qn_doc_u64(n_experts));
    }
}

static void put_sampling(qn_doc *d, qn_json *config, const qn_model_config *c)
{
    if (!c->has_sampling) {
        qn_doc_put(d, config, "sampling", qn_json_new_null());
        return;
    }
    qn_json *o = qn_doc_put_object(d, config, "sampling");
    qn_doc_put(d, o, "temperature", qn_json_new_float(c->sampling.temperature));
    qn_doc_put(d, o, "top_k", qn_json_new_int(c->sampling.top_k));
    qn_doc_put(d, o, "top_p", qn_json_new_float(c->sampling.top_p));
    qn_doc_put(d, o, "min_p", qn_json_new_float(c->sampling.min_p));
    qn_doc_put(d, o, "repeat_penalty", qn_json_new_float(c->sampling.repeat_penalty));
}

static void put_quantization(qn_doc *d, qn_json *config, const qn_model_config *c)
{
    if (!c->mlx && c->quant_method == NULL) {
        qn_doc_put(d, config, "quantization", qn_json_new_null());
        return;
    }
    qn_json *o = qn_doc_put_object(d, config, "quantization");
    if (!c->mlx) {
        qn_doc_put(d, o, "method", qn_json_new_string(c->quant_method));
        if (c->fp8_block_rows != 0) {
            qn_json *block = qn_doc_put_array(d, o, "block");
            qn_doc_append(d, block, qn_doc_u64(c->fp8_block_rows));
            qn_doc_append(d, block, qn_doc_u64(c->fp8_block_cols));
        }
        return;
    }
    qn_doc_put(d, o, "method", qn_json_new_string(c->mxfp4 ? "mlx mxfp4" : "mlx affine"));
    qn_doc_put(d, o, "bits", qn_doc_u64(c->affine.bits));
    qn_doc_put(d, o, "group_size", qn_doc_u64(c->affine.group));
    qn_doc_put(d, o, "overrides", qn_doc_u64(c->n_overrides));
}

void qn_inspect_config(qn_doc *d, const qn_model_config *c)
{
    qn_json *o = qn_doc_put_object(d, d->root, "config");
    qn_doc_put(d, o, "layers", qn_doc_u64(c->n_layers));
    qn_doc_put(d, o, "hidden_size", qn_doc_u64(c->hidden_size));
    qn_doc_put(d, o, "heads", qn_doc_u64(c->n_heads));
    qn_doc_put(d, o, "kv_heads", qn_doc_u64(c->n_kv_heads));
    qn_doc_put(d, o, "head_dim", qn_doc_u64(c->head_dim));
    qn_doc_put(d, o, "ffn_size", qn_doc_u64(c->ffn_size));
    qn_doc_put(d, o, "vocab", c->n_vocab > 0 ? qn_doc_u64(c->n_vocab) : qn_json_new_null());
    qn_doc_put(d, o, "context", qn_doc_u64(c->n_ctx_train));
    qn_doc_put(d, o, "rms_eps", decimal(c->rms_eps));
    qn_doc_put(d, o, "tied_embeddings", qn_json_new_bool(c->tied_embeddings));
    put_rope(d, o, &c->rope);
    put_layers(d, o, c);
    qn_json *stop = qn_doc_put_array(d, o, "stop_ids");
    for (size_t i = 0; i < c->n_stop_ids; i++) {
        qn_doc_append(d, stop, qn_json_new_int(c->stop_ids[i]));
    }
    put_sampling(d, o, c);
    put_quantization(d, o, c);
}

/* ---- tokenizer ---- */

/* The last token is an object's '{'. Steps to the value of `name`; false if it is not there. */
static bool find_member(qn_json_tokens *s, const char *name)
{
    while (qn_json_tokens_next(s) == QN_JSON_TOKEN_STRING) {
        bool found = s->end - s->begin == strlen(name) && memcmp(s->data + s->begin, name, strlen(name)) == 0;
        if (qn_json_tokens_next(s) != QN_JSON_TOKEN_COLON) {
            return false;
        }
        (void)qn_json_tokens_next(s);
        if (found) {
            return true;
        }
        if (!qn_json_tokens_skip(s) || qn_json_tokens_next(s) != QN_JSON_TOKEN_COMMA) {
            return false;
        }
    }
    return false;
}

int64_t qn_inspect_count_merges(const char *json, size_t len)
{
    qn_json_tokens s;
    int64_t n = 0;
    qn_json_tokens_init(&s, json, len);
    if (qn_json_tokens_next(&s) != QN_JSON_TOKEN_OBJECT || !find_member(&s, "model") || s.token != QN_JSON_TOKEN_OBJECT ||
        !find_member(&s, "merges") || s.token != QN_JSON_TOKEN_ARRAY) {
        return -1;
    }
    (void)qn_json_tokens_next(&s);
    while (s.token != QN_JSON_TOKEN_ARRAY_END) {
        if (!qn_json_tokens_skip(&s)) {
            return -1;
        }
        n++;
        if (qn_json_tokens_next(&s) == QN_JSON_TOKEN_COMMA) {
            (void)qn_json_tokens_next(&s);
        }
    }
    return n;
}

void qn_inspect_tokenizer(qn_doc *d, const quern_tokenizer *t, int64_t n_merges)
{
    if (t == NULL) {
        qn_doc_put(d, d->root, "tokenizer", qn_json_new_null());
        return;
    }
    const quern_tokenizer_info *info = quern_tokenizer_get_info(t);
    qn_json *o = qn_doc_put_object(d, d->root, "tokenizer");
    qn_doc_put(d, o, "model", qn_doc_text_or_null(info->model));
    qn_doc_put(d, o, "pre", qn_doc_text_or_null(info->pre_tokenizer));
    qn_doc_put(d, o, "tokens", qn_doc_u64(info->n_tokens));
    qn_doc_put(d, o, "merges", n_merges >= 0 ? qn_json_new_int(n_merges) : qn_json_new_null());
    qn_doc_put(d, o, "added", qn_doc_u64(info->n_added));
    qn_doc_put(d, o, "bos_id", qn_json_new_int(info->bos_id));
    qn_doc_put(d, o, "eos_id", qn_json_new_int(info->eos_id));
    qn_doc_put(d, o, "unk_id", qn_json_new_int(info->unk_id));
    qn_doc_put(d, o, "pad_id", qn_json_new_int(info->pad_id));
}
