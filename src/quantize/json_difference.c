/* json_difference.c - see json_difference.h. Recursion is as deep as the parser lets values be. */
#include "quantize/json_difference.h"

#include <stdio.h>
#include <string.h>

enum { PATH_MAX_BYTES = 160, PLACES_SHOWN = 6 };

static void add_place(const char *path, qn_json_places *out)
{
    size_t len = strlen(out->text), n = strlen(path);
    if (out->n++ < PLACES_SHOWN && len + n + 32 < sizeof out->text) {
        (void)snprintf(out->text + len, sizeof out->text - len, "%s%s", len > 0 ? ", " : "", n > 0 ? path : "the whole");
    }
}

static bool same_scalar(const qn_json *a, const qn_json *b)
{
    double x, y;
    int64_t i, k;
    size_t a_len = 0, b_len = 0;
    if (qn_json_int(a, &i) && qn_json_int(b, &k)) {
        return i == k;
    }
    if (qn_json_number(a, &x) && qn_json_number(b, &y)) {
        return x == y;
    }
    if (qn_json_get_kind(a) != qn_json_get_kind(b)) {
        return false;
    }
    const char *s = qn_json_string(a, &a_len), *t = qn_json_string(b, &b_len);
    if (s != NULL && t != NULL) {
        return a_len == b_len && memcmp(s, t, a_len) == 0;
    }
    return qn_json_bool(a, false) == qn_json_bool(b, false);
}

static void find(const qn_json *a, const qn_json *b, const char *path, qn_json_places *out);

/* Members of `of` against those of `other`; only_new: those that `other` has not. */
static void find_in_members(const qn_json *of, const qn_json *other, bool only_new, const char *path, qn_json_places *out)
{
    for (qn_json_iterator *it = qn_json_iter(of); it != NULL; it = qn_json_next(of, it)) {
        const char *key = qn_json_iter_key(it, NULL);
        const qn_json *there = qn_json_get(other, key);
        char inner[PATH_MAX_BYTES];
        if (only_new && there != NULL) {
            continue;
        }
        (void)snprintf(inner, sizeof inner, "%s%s%.60s", path, path[0] != '\0' ? "." : "", key);
        find(qn_json_iter_value(it), there, inner, out);
    }
}

static void find(const qn_json *a, const qn_json *b, const char *path, qn_json_places *out)
{
    qn_json_kind kind = qn_json_get_kind(a);
    bool both = kind == qn_json_get_kind(b);
    if (both && kind == QN_JSON_OBJECT) {
        find_in_members(a, b, false, path, out);
        find_in_members(b, a, true, path, out);
    } else if (both && kind == QN_JSON_ARRAY && qn_json_length(a) == qn_json_length(b)) {
        for (size_t i = 0; i < qn_json_length(a); i++) {
            char inner[PATH_MAX_BYTES];
            (void)snprintf(inner, sizeof inner, "%.100s[%zu]", path, i);
            find(qn_json_at(a, i), qn_json_at(b, i), inner, out);
        }
    } else if ((both && kind == QN_JSON_ARRAY) || !same_scalar(a, b)) {
        add_place(path, out);
    }
}

void qn_json_find_places(const qn_json *a, const qn_json *b, const char *under, qn_json_places *out) { find(a, b, under, out); }

void qn_json_end_places(qn_json_places *p)
{
    size_t len = strlen(p->text), shown = p->n > 0 ? 1 : 0;
    for (const char *c = p->text; *c != '\0'; c++) {
        shown += c[0] == ',' && c[1] == ' ';
    }
    if (p->n > shown) {
        (void)snprintf(p->text + len, sizeof p->text - len, " and %zu more", p->n - shown);
    }
}

bool qn_json_same(const qn_json *a, const qn_json *b)
{
    qn_json_places places = {0};
    find(a, b, "", &places);
    return places.n == 0;
}
