/* jinja_run.c - one rendering from start to end: limits, the context made from JSON, the marked output.
 *
 * Owns the qn_jrun; nothing of it outlives qn_jinja_render.
 */
#include "text/jinja_run.h"

#include <locale.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"

/* ---- JSON to values ---- */

static bool object_from_json(qn_jrun *run, const qn_json *v, bool trusted, bool (*trust)(const char *, size_t, const qn_json *),
                             qn_jval *out)
{
    qn_jval dict;
    if (!qn_jdict_new(run, &dict)) {
        return false;
    }
    for (qn_json_iterator *it = qn_json_iter(v); it != NULL; it = qn_json_next(v, it)) {
        size_t len;
        const char *name = qn_json_iter_key(it, &len);
        const qn_json *member = qn_json_iter_value(it);
        qn_jval key, value;
        bool member_trusted = trusted || (trust != NULL && trust(name, len, member));
        if (!qn_jstr_new(run, name, len, !trusted, &key)) {
            goto fail;
        }
        if (!qn_jfrom_json(run, member, member_trusted, &value)) {
            qn_jrelease(run, key);
            goto fail;
        }
        if (!qn_jdict_set(run, dict.u.dict, key, value)) {
            goto fail;
        }
    }
    *out = dict;
    return true;
fail:
    qn_jrelease(run, dict);
    return false;
}

static bool array_from_json(qn_jrun *run, const qn_json *v, bool trusted, bool (*trust)(const char *, size_t, const qn_json *),
                            qn_jval *out)
{
    qn_jval list;
    size_t n = qn_json_length(v);
    if (!qn_jlist_new(run, QN_JV_LIST, n, &list)) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const qn_json *item = qn_json_at(v, i);
        qn_jval value;
        bool ok = qn_json_get_kind(item) == QN_JSON_OBJECT ? object_from_json(run, item, trusted, trust, &value)
                                                           : qn_jfrom_json(run, item, trusted, &value);
        if (!ok || !qn_jlist_push(run, list.u.list, value)) {
            qn_jrelease(run, list);
            return false;
        }
    }
    *out = list;
    return true;
}

/* Recursion is bounded by the depth that qn_json_parse accepts. */
bool qn_jfrom_json(qn_jrun *run, const qn_json *v, bool trusted, qn_jval *out)
{
    switch (qn_json_get_kind(v)) {
    case QN_JSON_NULL: *out = qn_jmarked(qn_jnone(), !trusted); return true;
    case QN_JSON_BOOL: *out = qn_jmarked(qn_jbool(qn_json_bool(v, false)), !trusted); return true;
    case QN_JSON_INT: {
        int64_t i = 0;
        (void)qn_json_int(v, &i);
        *out = qn_jmarked(qn_jint(i), !trusted);
        return true;
    }
    case QN_JSON_REAL: {
        double d = 0;
        (void)qn_json_number(v, &d);
        *out = qn_jmarked(qn_jfloat(d), !trusted);
        return true;
    }
    case QN_JSON_STRING: {
        size_t len;
        const char *text = qn_json_string(v, &len);
        return qn_jstr_new(run, text, len, !trusted, out);
    }
    case QN_JSON_ARRAY: return array_from_json(run, v, trusted, NULL, out);
    case QN_JSON_OBJECT: return object_from_json(run, v, trusted, NULL, out);
    }
    return false;
}

static bool add_variable(qn_jrun *run, const qn_jinja_variable *variable)
{
    qn_jval key, value;
    if (!qn_jstr_new(run, variable->name, variable->name_len, !variable->trusted, &key)) {
        return false;
    }
    bool ok;
    if (variable->text != NULL) {
        ok = qn_jstr_new(run, variable->text, variable->text_len, !variable->trusted, &value);
    } else if (variable->trust_member != NULL && qn_json_get_kind(variable->value) == QN_JSON_ARRAY) {
        ok = array_from_json(run, variable->value, variable->trusted, variable->trust_member, &value);
    } else {
        ok = qn_jfrom_json(run, variable->value, variable->trusted, &value);
    }
    if (!ok) {
        qn_jrelease(run, key);
        return false;
    }
    return qn_jdict_set(run, run->globals, key, value);
}

/* ---- names ---- */

bool qn_jresolve(qn_jrun *run, const qn_jstr *name, qn_jval *out)
{
    const qn_jval *found = qn_jdict_find_text(run, run->vars, name->data, name->len);
    if (found == NULL) {
        found = qn_jdict_find_text(run, run->globals, name->data, name->len);
    }
    if (found != NULL) {
        *out = qn_jretain(*found);
        return true;
    }
    const qn_jbuiltin *builtin = qn_jglobal_find(name->data, name->len);
    *out = builtin != NULL ? (qn_jval){.kind = QN_JV_BUILTIN, .u.builtin = builtin} : qn_jmissing();
    return run->status == QUERN_OK;
}

/* ---- objects of a running template ---- */

void qn_jrun_release_children(qn_jrun *run, qn_jobj *o)
{
    if (o->kind == QN_JV_ENV) {
        qn_jenv *env = (qn_jenv *)o;
        for (uint32_t i = 0; i < env->function->n_slots; i++) {
            qn_jrelease(run, env->slots[i]);
        }
        if (env->parent != NULL) {
            qn_jobj_release(run, &env->parent->head);
        }
    } else if (o->kind == QN_JV_MACRO) {
        qn_jobj_release(run, &((qn_jmacro *)o)->env->head);
    } else if (o->kind == QN_JV_METHOD) {
        qn_jrelease(run, ((qn_jmethod *)o)->self);
    } else if (o->kind == QN_JV_LOOP) {
        qn_jloop *loop = (qn_jloop *)o;
        const qn_jval values[] = {loop->iterable, loop->iterator, loop->after, loop->current, loop->before, loop->changed};
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            qn_jrelease(run, values[i]);
        }
        if (loop->test_env != NULL) {
            qn_jobj_release(run, &loop->test_env->head);
        }
        qn_jobj_release(run, &loop->env->head);
    } else if (o->kind == QN_JV_ITER) {
        qn_jiter *it = (qn_jiter *)o;
        const qn_jval values[] = {it->source, it->parts, it->fallback, it->args, it->keywords, it->seen};
        for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
            qn_jrelease(run, values[i]);
        }
    }
}

/* ---- rendering ---- */

static bool run_root(qn_jrun *run)
{
    qn_jenv *env;
    if (!qn_jenv_new(run, run->template_->root, NULL, &env)) {
        return false;
    }
    bool ok = qn_jscope_enter(run, env, &run->template_->root->scope);
    if (ok && run->template_->uses_self) {
        qn_jblock *self = qn_jobj_new(run, QN_JV_BLOCK, sizeof *self);
        ok = self != NULL;
        if (ok) {
            qn_jassign(run, qn_jenv_slot(env, run->template_->self), qn_jobject(self));
        }
    }
    ok = ok && qn_jexec_body(run, env, run->template_->body) != QN_FLOW_FAIL;
    qn_jscope_leave(run, env, &run->template_->root->scope);
    qn_jenv_end(run, env);
    return ok;
}

static quern_status take_prompt(qn_jrun *run, const qn_jstr *s, quern_prompt *out)
{
    quern_status status = QUERN_OK;
    size_t n = s->len == 0 ? 0 : s->n_runs == 0 ? 1 : s->n_runs;
    out->text = qn_malloc(s->len + 1);
    out->segments = qn_malloc_array(n, sizeof *out->segments);
    if (out->text == NULL || out->segments == NULL) {
        QN_FAIL_MEMORY(run->err, "the rendered prompt", s->len + n * sizeof *out->segments);
    }
    memcpy(out->text, s->data, s->len + 1);
    out->len = s->len;
    out->n_segments = n;
    size_t from = 0;
    for (size_t i = 0; i < n; i++) {
        bool content;
        size_t end = qn_jstr_run(s, from, &content);
        out->segments[i] = (quern_segment){.text = out->text + from, .len = end - from, .trusted = !content};
        from = end;
    }
done:
    if (status != QUERN_OK) {
        quern_prompt_deinit(out);
    }
    return status;
}

static void init_limits(qn_jrun *run, const quern_template_limits *limits)
{
    const quern_template_limits none = {0};
    const quern_template_limits *l = limits != NULL ? limits : &none;
    run->max_steps = run->steps_left = l->max_steps != 0 ? l->max_steps : 50000000u;
    run->max_output_bytes = l->max_output_bytes != 0 ? l->max_output_bytes : (size_t)64 << 20;
    if (run->max_output_bytes > QN_JSTR_MAX) {
        run->max_output_bytes = QN_JSTR_MAX;
    }
    uint32_t depth = l->max_depth != 0 ? l->max_depth : 200u;
    run->max_calls = depth < 500u ? depth : 500u; /* the C stack bears this many */
    run->max_depth = run->max_calls * 8u;
    run->cap_bytes = ((size_t)128 << 20) + run->max_output_bytes * 4;
}

/* Sets up the context and renders into a string; everything it made is freed by the sweep of the caller. */
static bool render(qn_jrun *run, const qn_jinja_variable *variables, size_t n_variables, qn_jval *text)
{
    qn_jval globals, vars;
    qn_jbuf out;
    qn_jbuf_init(&out, run);
    out.max_len = run->max_output_bytes;
    if (!qn_jdict_new(run, &globals) || !qn_jdict_new(run, &vars)) {
        return false;
    }
    run->globals = globals.u.dict;
    run->vars = vars.u.dict;
    run->out = &out;
    bool ok = true;
    for (size_t i = 0; ok && i < n_variables; i++) {
        ok = add_variable(run, &variables[i]);
    }
    ok = ok && run_root(run) && qn_jbuf_finish(&out, text);
    qn_jbuf_deinit(&out);
    qn_jrelease(run, globals);
    qn_jrelease(run, vars);
    return ok;
}

quern_status qn_jinja_render(const qn_jinja *t, const qn_jinja_variable *variables, size_t n_variables, int64_t now,
                             const quern_template_limits *limits, quern_prompt *out, qn_jinja_stats *stats, quern_error *err)
{
    *out = (quern_prompt){0};
    qn_jrun run = {.template_ = t, .err = err, .now = now};
    run.objects.next = run.objects.prev = &run.objects;
    /* Keys chosen to collide cost steps anyway; an address and the clock only make them harder to choose. */
    run.hash_seed = (uint64_t)(uintptr_t)&run ^ qn_clock_ns();
    init_limits(&run, limits);
    /* Numbers are written with a decimal point whatever the program's locale is. */
    locale_t c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (c_locale == (locale_t)0) {
        return qn_error_set(err, QUERN_ERROR_MEMORY, "out of memory: a locale is needed");
    }
    locale_t before = uselocale(c_locale);
    qn_jval text = qn_jmissing();
    quern_status status = QUERN_OK;
    if (render(&run, variables, n_variables, &text)) {
        status = take_prompt(&run, text.u.str, out);
        qn_jrelease(&run, text);
    } else {
        status = run.status != QUERN_OK ? run.status : QUERN_ERROR_INTERNAL;
    }
    size_t n_cyclic = qn_jrun_sweep(&run);
    if (stats != NULL) {
        *stats = (qn_jinja_stats){.steps = run.max_steps - run.steps_left, .peak_bytes = run.peak_bytes, .n_cyclic = n_cyclic};
    }
    (void)uselocale(before);
    freelocale(c_locale);
    return status;
}
