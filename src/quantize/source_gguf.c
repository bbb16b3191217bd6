/* source_gguf.c - a GGUF file as source: configuration, tokenizer, chat templates, rope's divisors. See source.h. */
#include <string.h>

#include "model/gguf_tokenizer.h"
#include "quant/codec.h"
#include "quantize/source.h"

static quern_status read_template(const qn_gguf *g, const char *key, char **out, size_t *len, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_span text;
    bool found;
    QN_TRY(qn_gguf_get_string(g, key, &text, &found, err));
    if (found) {
        *out = qn_strndup(text.data, text.len);
        if (*out == NULL) {
            QN_FAIL_MEMORY(err, key, text.len + 1);
        }
        *len = text.len;
    }
done:
    return status;
}

/* llama3's scaling of rope is a tensor and not metadata. */
static quern_status read_rope_divisors(qn_source *s, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_tensor *t = qn_gguf_find_tensor(s->gguf, "rope_freqs.weight");
    size_t n = s->config.rope.n_rot / 2;
    if (t == NULL) {
        return QUERN_OK;
    }
    if (t->dtype != QN_DTYPE_F32 || t->n_dims != 1 || t->shape[0] != n) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor rope_freqs.weight is no F32 vector of %zu elements", s->path, n);
    }
    float *divisors = qn_arena_alloc_array(&s->arena, n, sizeof *divisors);
    if (divisors == NULL) {
        QN_FAIL_MEMORY(err, t->name, n * sizeof *divisors);
    }
    qn_decode_row(t->dtype, t->data, divisors, n);
    for (size_t i = 0; i < n; i++) {
        if (!(divisors[i] > 0) || qn_find_non_finite(&divisors[i], 1) == 0) {
            QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor rope_freqs.weight: divisor %zu is %g, expected a positive number", s->path, i,
                    (double)divisors[i]);
        }
    }
    s->rope_divisors = divisors;
done:
    return status;
}

quern_status qn_source_open_gguf(qn_source *s, const char *as, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_gguf_open(&s->gguf, s->path, false, err));
    QN_TRY(qn_config_read_gguf_as(&s->config, &s->arena, s->gguf, as, err));
    QN_TRY(read_rope_divisors(s, err));
    QN_TRY(qn_gguf_read_tokenizer(&s->tokenizer, s->gguf, err));
    QN_TRY(read_template(s->gguf, "tokenizer.chat_template", &s->templates.plain, &s->templates.plain_len, err));
    QN_TRY(read_template(s->gguf, "tokenizer.chat_template.tool_use", &s->templates.tool_use, &s->templates.tool_use_len, err));
done:
    return status;
}
