/* jinja_value.c - memory, budget and failure of a render; containers; truth, equality and order of values.
 *
 * Freeing is iterative: a dropped object waits in run->dead, so that a deeply nested value cannot overflow the stack.
 */
#include "text/jinja_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "text/jinja_run.h"
#include "text/jinja_string.h"

/* ---- failure and budget ---- */

static bool fail_v(qn_jrun *run, quern_status status, const char *format, va_list args)
{
    if (run->status != QUERN_OK) {
        return false; /* the first cause is the one that counts */
    }
    run->status = status;
    char text[QUERN_ERROR_MESSAGE_CAP];
    (void)vsnprintf(text, sizeof text, format, args);
    qn_jplace place = qn_jinja_locate(run->template_, run->pos);
    (void)qn_error_set(run->err, status, "%s: line %u, column %u: %s", qn_jinja_name(run->template_), place.line, place.column, text);
    return false;
}

bool qn_jfail(qn_jrun *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool result = fail_v(run, QUERN_ERROR_INVALID, format, args);
    va_end(args);
    return result;
}

bool qn_jfail_status(qn_jrun *run, quern_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool result = fail_v(run, status, format, args);
    va_end(args);
    return result;
}

bool qn_jfail_plain(qn_jrun *run, const char *message, size_t len)
{
    if (run->status == QUERN_OK) {
        int shown = len < QUERN_ERROR_MESSAGE_CAP ? (int)len : QUERN_ERROR_MESSAGE_CAP;
        run->status = qn_error_set(run->err, QUERN_ERROR_INVALID, "%.*s", shown, message);
    }
    return false;
}

bool qn_jcharge(qn_jrun *run, uint64_t n)
{
    if (n > run->steps_left) {
        run->steps_left = 0;
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "the template needs more than %llu steps", (unsigned long long)run->max_steps);
    }
    run->steps_left -= n;
    return true;
}

bool qn_jenter(qn_jrun *run)
{
    if (run->depth >= run->max_depth) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "calls or values are nested deeper than %u levels", run->max_depth);
    }
    run->depth++;
    return true;
}

static bool reserve_bytes(qn_jrun *run, size_t bytes)
{
    if (bytes > run->cap_bytes - run->used_bytes) {
        return qn_jfail_status(run, QUERN_ERROR_LIMIT, "rendering needs more than %zu bytes of memory", run->cap_bytes);
    }
    run->used_bytes += bytes;
    if (run->used_bytes > run->peak_bytes) {
        run->peak_bytes = run->used_bytes;
    }
    return true;
}

static void *out_of_memory(qn_jrun *run, size_t bytes)
{
    run->used_bytes -= bytes;
    (void)qn_jfail_status(run, QUERN_ERROR_MEMORY, "out of memory: rendering needs %zu more bytes", bytes);
    return NULL;
}

void *qn_jalloc(qn_jrun *run, size_t bytes)
{
    if (!reserve_bytes(run, bytes)) {
        return NULL;
    }
    void *p = qn_malloc(bytes);
    return p != NULL ? p : out_of_memory(run, bytes);
}

void *qn_jrealloc(qn_jrun *run, void *p, size_t old_bytes, size_t bytes)
{
    if (bytes > old_bytes && !reserve_bytes(run, bytes - old_bytes)) {
        return NULL;
    }
    void *q = qn_realloc(p, bytes);
    if (q == NULL) {
        return bytes > old_bytes ? out_of_memory(run, bytes - old_bytes) : out_of_memory(run, 0);
    }
    if (bytes < old_bytes) {
        run->used_bytes -= old_bytes - bytes;
    }
    return q;
}

void qn_jfree(qn_jrun *run, void *p, size_t bytes)
{
    if (p != NULL) {
        run->used_bytes -= bytes;
        qn_free(p);
    }
}

/* ---- objects ---- */

static void link_object(qn_jrun *run, qn_jobj *o)
{
    o->next = run->objects.next;
    o->prev = &run->objects;
    o->next->prev = o;
    run->objects.next = o;
}

void *qn_jobj_new(qn_jrun *run, qn_jkind kind, size_t bytes)
{
    qn_jobj *o = qn_jalloc(run, bytes);
    if (o == NULL) {
        return NULL;
    }
    memset(o, 0, bytes);
    o->bytes = bytes;
    o->refs = 1;
    o->kind = (uint8_t)kind;
    link_object(run, o);
    return o;
}

void qn_jobj_adopt(qn_jrun *run, qn_jobj *o, size_t bytes)
{
    o->bytes = bytes;
    o->refs = 1;
    link_object(run, o);
}

/* Frees the memory of an object but none of the references it holds. */
static void free_storage(qn_jrun *run, qn_jobj *o)
{
    switch ((qn_jkind)o->kind) {
    case QN_JV_STRING: {
        qn_jstr *s = (qn_jstr *)o;
        qn_jfree(run, s->ends, s->n_runs * sizeof *s->ends);
        break;
    }
    case QN_JV_LIST:
    case QN_JV_TUPLE: {
        qn_jlist *list = (qn_jlist *)o;
        qn_jfree(run, list->items, list->cap * sizeof *list->items);
        break;
    }
    case QN_JV_DICT: {
        qn_jdict *d = (qn_jdict *)o;
        qn_jfree(run, d->entries, d->cap * sizeof *d->entries);
        qn_jfree(run, d->index, d->index_cap * sizeof *d->index);
        break;
    }
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_BUILTIN:
    case QN_JV_UNDEFINED:
    case QN_JV_VIEW:
    case QN_JV_RANGE:
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_LOOP:
    case QN_JV_MACRO:
    case QN_JV_METHOD:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    qn_jfree(run, o, o->bytes);
}

static void release_children(qn_jrun *run, qn_jobj *o)
{
    switch ((qn_jkind)o->kind) {
    case QN_JV_UNDEFINED: qn_jrelease(run, ((qn_jundefined *)o)->name); break;
    case QN_JV_LIST:
    case QN_JV_TUPLE: {
        const qn_jlist *list = (qn_jlist *)o;
        for (size_t i = 0; i < list->n; i++) {
            qn_jrelease(run, list->items[i]);
        }
        break;
    }
    case QN_JV_DICT: {
        const qn_jdict *d = (qn_jdict *)o;
        for (size_t i = 0; i < d->n; i++) {
            qn_jrelease(run, d->entries[i].key);
            qn_jrelease(run, d->entries[i].value);
        }
        break;
    }
    case QN_JV_VIEW: qn_jobj_release(run, &((qn_jview *)o)->dict->head); break;
    case QN_JV_NAMESPACE: qn_jobj_release(run, &((qn_jnamespace *)o)->attributes->head); break;
    case QN_JV_CYCLER: qn_jobj_release(run, &((qn_jcycler *)o)->items->head); break;
    case QN_JV_JOINER: qn_jrelease(run, ((qn_jjoiner *)o)->separator); break;
    case QN_JV_ITER:
    case QN_JV_LOOP:
    case QN_JV_MACRO:
    case QN_JV_METHOD:
    case QN_JV_BLOCK:
    case QN_JV_ENV: qn_jrun_release_children(run, o); break;
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_BUILTIN:
    case QN_JV_STRING:
    case QN_JV_RANGE: break;
    }
}

void qn_jobj_drop(qn_jrun *run, qn_jobj *o)
{
    o->next->prev = o->prev;
    o->prev->next = o->next;
    o->next = run->dead;
    run->dead = o;
    if (run->freeing) {
        return; /* the loop below, further up the stack, gets to it */
    }
    run->freeing = true;
    while (run->dead != NULL) {
        qn_jobj *dead = run->dead;
        run->dead = dead->next;
        release_children(run, dead);
        free_storage(run, dead);
    }
    run->freeing = false;
}

size_t qn_jrun_sweep(qn_jrun *run)
{
    size_t n = 0;
    qn_jobj *o = run->objects.next;
    while (o != &run->objects) {
        qn_jobj *next = o->next;
        free_storage(run, o);
        o = next;
        n++;
    }
    run->objects.next = run->objects.prev = &run->objects;
    return n;
}

/* ---- undefined ---- */

bool qn_jundefined_new(qn_jrun *run, const char *hint, const char *type_name, qn_jval name, qn_jval *out)
{
    qn_jundefined *u = qn_jobj_new(run, QN_JV_UNDEFINED, sizeof *u);
    if (u == NULL) {
        return false;
    }
    u->hint = hint;
    u->type_name = type_name;
    u->name = qn_jretain(name);
    *out = qn_jobject(u);
    return true;
}

bool qn_jundefined_fail(qn_jrun *run, qn_jval v)
{
    const qn_jundefined *u = (const qn_jundefined *)v.u.obj;
    if (u->hint != NULL) {
        return qn_jfail(run, "%s", u->hint);
    }
    if (u->name.kind == QN_JV_STRING) {
        const char *name = u->name.u.str->data;
        int len = u->name.u.str->len < 200 ? (int)u->name.u.str->len : 200;
        if (u->not_provided) {
            return qn_jfail(run, "parameter '%.*s' was not provided", len, name);
        }
        if (u->unsafe) {
            int type_len = (int)strcspn(u->type_name, " ");
            return qn_jfail(run, "access to attribute '%.*s' of '%.*s' object is unsafe.", len, name, type_len, u->type_name);
        }
        return u->type_name == NULL ? qn_jfail(run, "'%.*s' is undefined", len, name)
                                    : qn_jfail(run, "'%s' has no attribute '%.*s'", u->type_name, len, name);
    }
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    qn_jval text = qn_jmissing();
    if (qn_jbuf_append_repr(&b, u->name) && qn_jbuf_finish(&b, &text)) {
        (void)qn_jfail(run, "%s has no element %.200s", u->type_name != NULL ? u->type_name : "object", text.u.str->data);
        qn_jrelease(run, text);
    }
    qn_jbuf_deinit(&b);
    return false;
}

/* ---- lists ---- */

bool qn_jlist_new(qn_jrun *run, qn_jkind kind, size_t cap, qn_jval *out)
{
    qn_jlist *list = qn_jobj_new(run, kind, sizeof *list);
    if (list == NULL) {
        return false;
    }
    size_t bytes;
    if (cap > 0) {
        if (!qn_size_mul(cap, sizeof *list->items, &bytes)) {
            bytes = SIZE_MAX;
        }
        list->items = qn_jalloc(run, bytes);
        if (list->items == NULL) {
            qn_jobj_release(run, &list->head);
            return false;
        }
        list->cap = cap;
    }
    *out = qn_jobject(list);
    return true;
}

bool qn_jlist_push(qn_jrun *run, qn_jlist *list, qn_jval v)
{
    if (list->n == list->cap) {
        size_t cap = list->cap < 4 ? 4 : list->cap + list->cap / 2;
        qn_jval *items = qn_jrealloc(run, list->items, list->cap * sizeof *items, cap * sizeof *items);
        if (items == NULL) {
            qn_jrelease(run, v);
            return false;
        }
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = v;
    return true;
}

bool qn_jpair_new(qn_jrun *run, qn_jval a, qn_jval b, qn_jval *out)
{
    if (!qn_jlist_new(run, QN_JV_TUPLE, 2, out)) {
        return false;
    }
    out->u.list->items[0] = qn_jretain(a);
    out->u.list->items[1] = qn_jretain(b);
    out->u.list->n = 2;
    return true;
}

bool qn_jrange_new(qn_jrun *run, int64_t start, int64_t stop, int64_t step, qn_jval *out)
{
    qn_jrange *r = qn_jobj_new(run, QN_JV_RANGE, sizeof *r);
    if (r == NULL) {
        return false;
    }
    uint64_t width = 0;
    if (step > 0 && stop > start) {
        width = ((uint64_t)stop - (uint64_t)start - 1) / (uint64_t)step + 1;
    } else if (step < 0 && stop < start) {
        width = ((uint64_t)start - (uint64_t)stop - 1) / (0 - (uint64_t)step) + 1;
    }
    r->start = start;
    r->stop = stop;
    r->step = step;
    r->n = width > INT64_MAX ? INT64_MAX : (int64_t)width;
    *out = qn_jobject(r);
    return true;
}

bool qn_jview_new(qn_jrun *run, qn_jdict *d, qn_jview_kind what, qn_jval *out)
{
    qn_jview *v = qn_jobj_new(run, QN_JV_VIEW, sizeof *v);
    if (v == NULL) {
        return false;
    }
    qn_jobj_retain(&d->head);
    v->dict = d;
    v->what = what;
    *out = qn_jobject(v);
    return true;
}

/* ---- truth and length ---- */

bool qn_jtruth(qn_jval v)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_UNDEFINED: return false;
    case QN_JV_BOOL: return v.u.b;
    case QN_JV_INT: return v.u.i != 0;
    case QN_JV_FLOAT: return !(v.u.d == 0.0);
    case QN_JV_STRING: return v.u.str->len != 0;
    case QN_JV_LIST:
    case QN_JV_TUPLE: return v.u.list->n != 0;
    case QN_JV_DICT: return v.u.dict->n != 0;
    case QN_JV_VIEW: return ((const qn_jview *)v.u.obj)->dict->n != 0;
    case QN_JV_RANGE: return ((const qn_jrange *)v.u.obj)->n != 0;
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_LOOP:
    case QN_JV_MACRO:
    case QN_JV_BUILTIN:
    case QN_JV_METHOD:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return true;
}

bool qn_jlength(qn_jrun *run, qn_jval v, size_t *n)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_UNDEFINED: *n = 0; return true;
    case QN_JV_STRING: *n = v.u.str->n_chars; return true;
    case QN_JV_LIST:
    case QN_JV_TUPLE: *n = v.u.list->n; return true;
    case QN_JV_DICT: *n = v.u.dict->n; return true;
    case QN_JV_VIEW: *n = ((const qn_jview *)v.u.obj)->dict->n; return true;
    case QN_JV_RANGE: *n = (size_t)((const qn_jrange *)v.u.obj)->n; return true;
    case QN_JV_LOOP: {
        int64_t length;
        if (!qn_jloop_length(run, v, &length)) {
            return false;
        }
        *n = (size_t)length;
        return true;
    }
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT:
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_MACRO:
    case QN_JV_BUILTIN:
    case QN_JV_METHOD:
    case QN_JV_CYCLER:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return false;
}

const char *qn_jtype_name(qn_jval v)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_MISSING:
    case QN_JV_NONE: return "NoneType";
    case QN_JV_BOOL: return "bool";
    case QN_JV_INT: return "int";
    case QN_JV_FLOAT: return "float";
    case QN_JV_UNDEFINED: return "Undefined";
    case QN_JV_STRING: return v.u.str->markup ? "Markup" : "str";
    case QN_JV_LIST: return "list";
    case QN_JV_TUPLE: return v.u.list->is_group ? "_GroupTuple" : "tuple";
    case QN_JV_DICT: return "dict";
    case QN_JV_VIEW: {
        qn_jview_kind what = ((const qn_jview *)v.u.obj)->what;
        return what == QN_VIEW_KEYS ? "dict_keys" : what == QN_VIEW_VALUES ? "dict_values" : "dict_items";
    }
    case QN_JV_RANGE: return "range";
    case QN_JV_ITER: return qn_jiter_type_name(v);
    case QN_JV_NAMESPACE: return "Namespace";
    case QN_JV_LOOP: return "LoopContext";
    case QN_JV_MACRO: return "Macro";
    case QN_JV_BUILTIN: return "function";
    case QN_JV_METHOD: return "builtin_function_or_method";
    case QN_JV_CYCLER: return "Cycler";
    case QN_JV_JOINER: return "Joiner";
    case QN_JV_BLOCK: return "BlockReference";
    case QN_JV_ENV: break;
    }
    return "object";
}
