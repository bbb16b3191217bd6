/* overrides.c - "--tensor-type REGEX=TYPE". See overrides.h. */
#include "quantize/overrides.h"

#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "quant/codec.h"
#include "text/regex_pcre2.h"

typedef struct override {
    const char *text; /* the caller's */
    qn_regex *regex;
    qn_dtype type;
} override;

struct qn_type_overrides {
    override *items;
    size_t n;
};

/* A type by name in any case, if it can be written into GGUF. */
static bool find_type(const char *name, qn_dtype *out)
{
    for (int t = 0; t < QN_DTYPE_COUNT; t++) {
        if (strcasecmp(qn_dtype_get((qn_dtype)t)->name, name) == 0 && qn_dtype_get((qn_dtype)t)->ggml_id >= 0 &&
            qn_encode_supported((qn_dtype)t)) {
            *out = (qn_dtype)t;
            return true;
        }
    }
    return false;
}

quern_status qn_type_overrides_create(qn_type_overrides **out, const char *const *texts, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_type_overrides *o = qn_calloc(1, sizeof *o);
    *out = NULL;
    if (o == NULL || (o->items = qn_calloc(n, sizeof *o->items)) == NULL) {
        QN_FAIL_MEMORY(err, "tensor types", n * sizeof *o->items);
    }
    for (size_t i = 0; i < n; i++) {
        const char *equals = strrchr(texts[i], '=');
        if (equals == NULL || equals == texts[i]) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "tensor type '%s': expected REGEX=TYPE", texts[i]);
        }
        if (!find_type(equals + 1, &o->items[i].type)) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "tensor type '%s': '%s' is no type that can be written, such as Q6_K", texts[i], equals + 1);
        }
        o->items[i].text = texts[i];
        quern_error why = {0};
        status = qn_regex_create(&o->items[i].regex, texts[i], (size_t)(equals - texts[i]), &why);
        if (status != QUERN_OK) {
            QN_FAIL(err, status == QUERN_ERROR_MEMORY ? status : QUERN_ERROR_USAGE, "tensor type '%s': %s", texts[i], why.message);
        }
        o->n = i + 1;
    }
    *out = o;
    o = NULL;
done:
    qn_type_overrides_destroy(o);
    return status;
}

void qn_type_overrides_destroy(qn_type_overrides *o)
{
    if (o == NULL) {
        return;
    }
    for (size_t i = 0; i < o->n; i++) {
        qn_regex_destroy(o->items[i].regex);
    }
    qn_free(o->items);
    qn_free(o);
}

size_t qn_type_overrides_count(const qn_type_overrides *o) { return o != NULL ? o->n : 0; }

const char *qn_type_overrides_text(const qn_type_overrides *o, size_t i) { return o->items[i].text; }

qn_dtype qn_type_overrides_type(const qn_type_overrides *o, size_t i) { return o->items[i].type; }

quern_status qn_type_overrides_match(const qn_type_overrides *o, size_t i, const char *name, bool *matches, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_regex_search *search = NULL;
    size_t begin;
    size_t end;
    *matches = false;
    QN_TRY(qn_regex_search_create(&search, o->items[i].regex, name, strlen(name), err));
    QN_TRY(qn_regex_search_next(search, matches, &begin, &end, err));
done:
    qn_regex_search_destroy(search);
    return status;
}

quern_status qn_type_overrides_find(const qn_type_overrides *o, const char *name, qn_dtype *out, bool *found, quern_error *err)
{
    quern_status status = QUERN_OK;
    *found = false;
    for (size_t i = 0; i < qn_type_overrides_count(o) && !*found; i++) {
        QN_TRY(qn_type_overrides_match(o, i, name, found, err));
        if (*found) {
            *out = o->items[i].type;
        }
    }
done:
    return status;
}
