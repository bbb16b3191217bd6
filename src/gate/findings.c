/* findings.c - see findings.h. */
#include "gate/findings.h"

#include <stdio.h>
#include <string.h>

enum { SENTENCE_MAX = 640 };

void qn_findings_init(qn_findings *f)
{
    *f = (qn_findings){0};
    qn_arena_init(&f->arena, 0);
}

void qn_findings_deinit(qn_findings *f)
{
    qn_json_free(f->sampled);
    qn_arena_deinit(&f->arena);
    *f = (qn_findings){0};
}

static quern_status append(qn_findings *f, qn_text_list *list, const char *text, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (list->n == QN_FINDINGS_MAX) {
        list->n_left_out++;
        return QUERN_OK;
    }
    if (list->n == list->cap) {
        size_t cap = list->cap != 0 ? 2 * list->cap : 8;
        const char **items = qn_arena_alloc_array(&f->arena, cap, sizeof *items);
        if (items == NULL) {
            QN_FAIL_MEMORY(err, "findings", cap * sizeof *items);
        }
        if (list->n > 0) {
            memcpy(items, list->items, list->n * sizeof *items);
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n] = qn_arena_strndup(&f->arena, text, strlen(text));
    if (list->items[list->n] == NULL) {
        QN_FAIL_MEMORY(err, "findings", strlen(text) + 1);
    }
    list->n++;
done:
    return status;
}

static quern_status append_sentence(qn_findings *f, qn_text_list *list, quern_error *err, const char *format, va_list args) QN_PRINTF(4, 0);
static quern_status append_sentence(qn_findings *f, qn_text_list *list, quern_error *err, const char *format, va_list args)
{
    char text[SENTENCE_MAX];
    (void)vsnprintf(text, sizeof text, format, args);
    return append(f, list, text, err);
}

quern_status qn_findings_suspect(qn_findings *f, const char *tensor, quern_error *err)
{
    for (size_t i = 0; i < f->suspects.n; i++) {
        if (strcmp(f->suspects.items[i], tensor) == 0) {
            return QUERN_OK;
        }
    }
    return append(f, &f->suspects, tensor, err);
}

quern_status qn_findings_fail(qn_findings *f, const char *tensor, quern_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    f->failed = true;
    quern_status status = append_sentence(f, &f->reasons, err, format, args);
    va_end(args);
    return status == QUERN_OK && tensor != NULL ? qn_findings_suspect(f, tensor, err) : status;
}

quern_status qn_findings_lossy(qn_findings *f, quern_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    f->lossy = true;
    quern_status status = append_sentence(f, &f->reasons, err, format, args);
    va_end(args);
    return status;
}

quern_status qn_findings_unmeasured(qn_findings *f, quern_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    f->unmeasured = true;
    quern_status status = append_sentence(f, &f->reasons, err, format, args);
    va_end(args);
    return status;
}

quern_status qn_findings_note(qn_findings *f, quern_error *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    quern_status status = append_sentence(f, &f->notes, err, format, args);
    va_end(args);
    return status;
}

quern_status qn_findings_warn(qn_findings *f, quern_error *err, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    quern_status status = append_sentence(f, &f->notes, err, format, args);
    status = status == QUERN_OK ? append_sentence(f, &f->warnings, err, format, again) : status;
    va_end(again);
    va_end(args);
    return status;
}

qn_json *qn_text_list_to_json(const qn_text_list *list)
{
    qn_json *v = qn_json_new_array();
    bool fits = v != NULL;
    for (size_t i = 0; i < list->n && fits; i++) {
        fits = qn_json_append(v, qn_json_new_string(list->items[i]));
    }
    if (fits && list->n_left_out > 0) {
        char text[64];
        (void)snprintf(text, sizeof text, "and %zu more", list->n_left_out);
        fits = qn_json_append(v, qn_json_new_string(text));
    }
    if (!fits) {
        qn_json_free(v);
    }
    return fits ? v : NULL;
}
