/* jinja_attr.c - obj.name and obj[key], with the order of look-ups and the refusals of Jinja2's immutable sandbox.
 *
 * There are no host objects: every attribute is a member of a dict or namespace, or a row of a method table. Methods
 * that would change a list or dict exist only to be refused.
 */
#include <string.h>

#include "text/jinja_run.h"

/* What messages call an object: "dict object". */
static const char *describe(qn_jval v)
{
    switch ((qn_jkind)v.kind) {
    case QN_JV_NONE: return "None";
    case QN_JV_BOOL: return "bool object";
    case QN_JV_INT: return "int object";
    case QN_JV_FLOAT: return "float object";
    case QN_JV_STRING: return v.u.str->markup ? "markupsafe.Markup object" : "str object";
    case QN_JV_LIST: return "list object";
    case QN_JV_TUPLE: return "tuple object";
    case QN_JV_DICT: return "dict object";
    case QN_JV_RANGE: return "range object";
    case QN_JV_ITER: return "generator object";
    case QN_JV_NAMESPACE: return "jinja2.utils.Namespace object";
    case QN_JV_LOOP: return "jinja2.runtime.LoopContext object";
    case QN_JV_MACRO: return "jinja2.runtime.Macro object";
    case QN_JV_VIEW: return "dict view object";
    case QN_JV_BUILTIN:
    case QN_JV_METHOD: return "function object";
    case QN_JV_CYCLER: return "jinja2.utils.Cycler object";
    case QN_JV_JOINER: return "jinja2.utils.Joiner object";
    case QN_JV_BLOCK: return "jinja2.runtime.TemplateReference object";
    case QN_JV_UNDEFINED: return "Undefined object";
    case QN_JV_MISSING:
    case QN_JV_ENV: break;
    }
    return "object";
}

typedef enum found { NOTHING, VALUE, METHOD, UNSAFE, FAILED } found;

/* Names that every Python object has, then names that containers and functions have: all of them refused. */
static bool is_special(qn_jval obj, const qn_jstr *name)
{
    enum { OF_EVERY_OBJECT = 24 };
    static const char *const NAMES[] = {
        "__class__",    "__delattr__",  "__dir__",           "__doc__",          "__eq__",
        "__format__",   "__ge__",       "__getattribute__",  "__getstate__",     "__gt__",
        "__hash__",     "__init__",     "__init_subclass__", "__le__",           "__lt__",
        "__ne__",       "__new__",      "__reduce__",        "__reduce_ex__",    "__repr__",
        "__setattr__",  "__sizeof__",   "__str__",           "__subclasshook__", "__len__",
        "__contains__", "__getitem__",  "__iter__",          "__add__",          "__mul__",
        "__rmul__",     "__mod__",      "__rmod__",          "__getnewargs__",   "__setitem__",
        "__delitem__",  "__reversed__", "__class_getitem__", "__or__",           "__ror__",
        "__ior__",      "__iadd__",     "__imul__",          "__call__",         "__dict__",
        "__module__",   "__name__",     "__self__",          "__globals__",      "__code__",
        "__closure__",  "__func__",     "__mro__",           "__bases__",        "__subclasses__",
        "__html__",
    };
    if (name->len < 4 || name->data[0] != '_' || name->data[1] != '_') {
        return false;
    }
    size_t n = obj.kind == QN_JV_UNDEFINED ? OF_EVERY_OBJECT : sizeof NAMES / sizeof NAMES[0];
    for (size_t i = 0; i < n; i++) {
        if (qn_jstr_equals(name, NAMES[i])) {
            return true;
        }
    }
    return false;
}

static const qn_jbuiltin *find_method(qn_jval obj, const qn_jstr *name)
{
    const qn_jbuiltin *m = NULL;
    switch ((qn_jkind)obj.kind) {
    case QN_JV_STRING:
        m = qn_jtable_find(qn_jmethods_str, name->data, name->len);
        return m != NULL ? m : qn_jtable_find(qn_jmethods_str_more, name->data, name->len);
    case QN_JV_DICT: return qn_jtable_find(qn_jmethods_dict, name->data, name->len);
    case QN_JV_LIST: return qn_jtable_find(qn_jmethods_list, name->data, name->len);
    case QN_JV_TUPLE: return qn_jtable_find(qn_jmethods_tuple, name->data, name->len);
    case QN_JV_BOOL:
    case QN_JV_INT: return qn_jtable_find(qn_jmethods_int, name->data, name->len);
    case QN_JV_FLOAT: return qn_jtable_find(qn_jmethods_float, name->data, name->len);
    case QN_JV_LOOP: return qn_jtable_find(qn_jmethods_loop, name->data, name->len);
    case QN_JV_CYCLER: return qn_jtable_find(qn_jmethods_cycler, name->data, name->len);
    case QN_JV_RANGE: return qn_jtable_find(qn_jmethods_range, name->data, name->len);
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_UNDEFINED:
    case QN_JV_VIEW:
    case QN_JV_ITER:
    case QN_JV_NAMESPACE:
    case QN_JV_MACRO:
    case QN_JV_BUILTIN:
    case QN_JV_METHOD:
    case QN_JV_JOINER:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return NULL;
}

static found loop_length_attribute(qn_jrun *run, qn_jval obj, int64_t add_index, qn_jval *out)
{
    int64_t n;
    if (!qn_jloop_length(run, obj, &n)) {
        return FAILED;
    }
    *out = qn_jint(n + add_index);
    return VALUE;
}

static found loop_attribute(qn_jrun *run, qn_jval obj, const qn_jstr *name, qn_jval *out)
{
    qn_jloop *loop = (qn_jloop *)obj.u.obj;
    static const struct {
        const char *name;
        int which;
    } NUMBERS[] = {{"index0", 0}, {"index", 1}, {"depth0", 2}, {"depth", 3}};
    for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++) {
        if (qn_jstr_equals(name, NUMBERS[i].name)) {
            *out = qn_jint((NUMBERS[i].which < 2 ? loop->index0 : loop->depth0) + (NUMBERS[i].which & 1));
            return VALUE;
        }
    }
    if (qn_jstr_equals(name, "first")) {
        *out = qn_jbool(loop->index0 == 0);
        return VALUE;
    }
    if (qn_jstr_equals(name, "length")) {
        return loop_length_attribute(run, obj, 0, out);
    }
    if (qn_jstr_equals(name, "revindex")) {
        return loop_length_attribute(run, obj, -loop->index0, out);
    }
    if (qn_jstr_equals(name, "revindex0")) {
        return loop_length_attribute(run, obj, -loop->index0 - 1, out);
    }
    if (qn_jstr_equals(name, "previtem")) {
        if (loop->index0 == 0) {
            return qn_jundefined_new(run, "there is no previous item", NULL, qn_jmissing(), out) ? VALUE : FAILED;
        }
        *out = qn_jretain(loop->before);
        return VALUE;
    }
    bool last = qn_jstr_equals(name, "last");
    if (last || qn_jstr_equals(name, "nextitem")) {
        qn_jval next;
        int more = qn_jloop_peek(run, loop, &next);
        if (more < 0) {
            return FAILED;
        }
        if (last) {
            *out = qn_jbool(more == 0);
            return VALUE;
        }
        if (more == 0) {
            return qn_jundefined_new(run, "there is no next item", NULL, qn_jmissing(), out) ? VALUE : FAILED;
        }
        *out = qn_jretain(next);
        return VALUE;
    }
    return NOTHING;
}

static found macro_attribute(qn_jrun *run, qn_jval obj, const qn_jstr *name, qn_jval *out)
{
    const qn_jnode *node = ((const qn_jmacro *)obj.u.obj)->node;
    const qn_jsignature *sig = &node->u.macro.signature;
    if (qn_jstr_equals(name, "name")) {
        *out = node->kind == QN_N_MACRO ? qn_jobject(node->u.macro.name->str) : qn_jnone();
        return VALUE;
    }
    if (qn_jstr_equals(name, "arguments")) {
        if (!qn_jlist_new(run, QN_JV_TUPLE, sig->n_params, out)) {
            return FAILED;
        }
        for (const qn_jnode *param = sig->params; param != NULL; param = param->next) {
            out->u.list->items[out->u.list->n++] = qn_jobject(param->u.name.name->str);
        }
        return VALUE;
    }
    const struct {
        const char *name;
        bool value;
    } FLAGS[] = {
        {"catch_kwargs", sig->takes_kwargs},
        {"catch_varargs", sig->takes_varargs},
        {"caller", sig->takes_caller || sig->explicit_caller},
        {"explicit_caller", sig->explicit_caller},
    };
    for (size_t i = 0; i < sizeof FLAGS / sizeof FLAGS[0]; i++) {
        if (qn_jstr_equals(name, FLAGS[i].name)) {
            *out = qn_jbool(FLAGS[i].value);
            return VALUE;
        }
    }
    return NOTHING;
}

static found number_attribute(qn_jval obj, const qn_jstr *name, qn_jval *out)
{
    bool is_float = obj.kind == QN_JV_FLOAT;
    if (qn_jstr_equals(name, "real") || (!is_float && qn_jstr_equals(name, "numerator"))) {
        *out = is_float ? obj : qn_jmarked(qn_jint(qn_jas_int(obj)), obj.content);
        return VALUE;
    }
    if (qn_jstr_equals(name, "imag")) {
        *out = is_float ? qn_jfloat(0.0) : qn_jint(0);
        return VALUE;
    }
    if (!is_float && qn_jstr_equals(name, "denominator")) {
        *out = qn_jint(1);
        return VALUE;
    }
    return NOTHING;
}

static found object_attribute(qn_jrun *run, qn_jval obj, const qn_jstr *name, qn_jval *out)
{
    switch ((qn_jkind)obj.kind) {
    case QN_JV_NAMESPACE: {
        const qn_jval *v = qn_jdict_find_text(run, ((const qn_jnamespace *)obj.u.obj)->attributes, name->data, name->len);
        if (v == NULL) {
            return NOTHING;
        }
        *out = qn_jretain(*v);
        return VALUE;
    }
    case QN_JV_LOOP: return loop_attribute(run, obj, name, out);
    case QN_JV_MACRO: return macro_attribute(run, obj, name, out);
    case QN_JV_BOOL:
    case QN_JV_INT:
    case QN_JV_FLOAT: return number_attribute(obj, name, out);
    case QN_JV_TUPLE: {
        bool grouper = qn_jstr_equals(name, "grouper");
        if (!obj.u.list->is_group || (!grouper && !qn_jstr_equals(name, "list"))) {
            return NOTHING;
        }
        *out = qn_jretain(obj.u.list->items[grouper ? 0 : 1]);
        return VALUE;
    }
    case QN_JV_RANGE: {
        const qn_jrange *r = (const qn_jrange *)obj.u.obj;
        bool start = qn_jstr_equals(name, "start"), stop = qn_jstr_equals(name, "stop");
        if (!start && !stop && !qn_jstr_equals(name, "step")) {
            return NOTHING;
        }
        *out = qn_jint(start ? r->start : stop ? r->stop : r->step);
        return VALUE;
    }
    case QN_JV_CYCLER: {
        const qn_jcycler *c = (const qn_jcycler *)obj.u.obj;
        bool current = qn_jstr_equals(name, "current"), pos = qn_jstr_equals(name, "pos");
        if (!current && !pos && !qn_jstr_equals(name, "items")) {
            return NOTHING;
        }
        *out = current ? qn_jretain(c->items->items[c->position]) : pos ? qn_jint((int64_t)c->position) : qn_jretain(qn_jobject(c->items));
        return VALUE;
    }
    case QN_JV_BUILTIN: {
        if (obj.u.builtin != qn_jglobal_find("dict", 4) || !qn_jstr_equals(name, "fromkeys")) {
            return NOTHING;
        }
        *out = (qn_jval){.kind = QN_JV_BUILTIN, .u.builtin = qn_jglobal_find("dict.fromkeys", 13)};
        return VALUE;
    }
    case QN_JV_JOINER: {
        const qn_jjoiner *j = (const qn_jjoiner *)obj.u.obj;
        bool sep = qn_jstr_equals(name, "sep");
        if (!sep && !qn_jstr_equals(name, "used")) {
            return NOTHING;
        }
        *out = sep ? qn_jretain(j->separator) : qn_jbool(j->used);
        return VALUE;
    }
    case QN_JV_MISSING:
    case QN_JV_NONE:
    case QN_JV_UNDEFINED:
    case QN_JV_STRING:
    case QN_JV_LIST:
    case QN_JV_DICT:
    case QN_JV_VIEW:
    case QN_JV_ITER:
    case QN_JV_METHOD:
    case QN_JV_BLOCK:
    case QN_JV_ENV: break;
    }
    return NOTHING;
}

/* Python's getattr() behind the sandbox. */
static found find_attribute(qn_jrun *run, qn_jval obj, const qn_jstr *name, qn_jval *out, const qn_jbuiltin **method)
{
    const qn_jbuiltin *m = find_method(obj, name);
    if (m != NULL) {
        *method = m;
        return m->bound == NULL && m->raw == NULL ? UNSAFE : METHOD;
    }
    if (is_special(obj, name)) {
        return UNSAFE;
    }
    found f = object_attribute(run, obj, name, out);
    if (f == VALUE && name->len > 0 && name->data[0] == '_') {
        qn_jrelease(run, *out);
        return UNSAFE;
    }
    return f;
}

static bool bind_method(qn_jrun *run, qn_jval obj, const qn_jbuiltin *definition, qn_jval *out)
{
    qn_jmethod *m = qn_jobj_new(run, QN_JV_METHOD, sizeof *m);
    if (m == NULL) {
        return false;
    }
    m->self = qn_jretain(obj);
    m->definition = definition;
    *out = qn_jobject(m);
    return true;
}

static bool unsafe_undefined(qn_jrun *run, qn_jval obj, qn_jval name, qn_jval *out)
{
    if (!qn_jundefined_new(run, NULL, describe(obj), name, out)) {
        return false;
    }
    ((qn_jundefined *)out->u.obj)->unsafe = true;
    return true;
}

static const qn_jnode *find_block(const qn_jrun *run, const qn_jstr *name)
{
    for (const qn_jnode *b = run->template_->blocks; b != NULL; b = b->u.block.next_block) {
        if (b->u.block.name->str->len == name->len && memcmp(b->u.block.name->str->data, name->data, name->len) == 0) {
            return b;
        }
    }
    return NULL;
}

/* obj[key] where that raises neither TypeError nor LookupError; *out missing otherwise. */
static bool plain_item(qn_jrun *run, qn_jval obj, qn_jval key, qn_jval *out);

static bool hashable(qn_jval v)
{
    if (v.kind == QN_JV_TUPLE) {
        for (size_t i = 0; i < v.u.list->n; i++) {
            if (v.u.list->items[i].kind == QN_JV_TUPLE || !hashable(v.u.list->items[i])) {
                return false;
            }
        }
        return true;
    }
    return v.kind != QN_JV_LIST && v.kind != QN_JV_DICT && v.kind != QN_JV_VIEW;
}

static bool text_item(qn_jrun *run, qn_jstr *s, size_t i, qn_jval *out)
{
    size_t from = qn_jstr_offset(s, i), to = from + 1;
    while (to < s->len && ((uint8_t)s->data[to] & 0xc0u) == 0x80u) {
        to++;
    }
    return (qn_jstr_is_ascii(s) || qn_jcharge_bytes(run, s->len / 2)) && qn_jstr_slice(run, s, from, to, out);
}

static bool plain_item(qn_jrun *run, qn_jval obj, qn_jval key, qn_jval *out)
{
    *out = qn_jmissing();
    if (obj.kind == QN_JV_DICT) {
        qn_jval *found_value;
        if (!hashable(key)) {
            return true;
        }
        if (!qn_jdict_find(run, obj.u.dict, key, &found_value)) {
            return false;
        }
        if (found_value != NULL) {
            *out = qn_jretain(*found_value);
        }
        return true;
    }
    if (obj.kind == QN_JV_BLOCK && key.kind == QN_JV_STRING && ((const qn_jblock *)obj.u.obj)->node == NULL) {
        const qn_jnode *node = find_block(run, key.u.str);
        if (node == NULL) {
            return true;
        }
        qn_jblock *block = qn_jobj_new(run, QN_JV_BLOCK, sizeof *block);
        if (block == NULL) {
            return false;
        }
        block->node = node;
        *out = qn_jobject(block);
        return true;
    }
    size_t n = 0;
    bool indexed = obj.kind == QN_JV_STRING || obj.kind == QN_JV_LIST || obj.kind == QN_JV_TUPLE || obj.kind == QN_JV_RANGE;
    if (!indexed || !qn_jis_int(key) || !qn_jlength(run, obj, &n)) {
        return true;
    }
    int64_t i = qn_jas_int(key);
    i = i < 0 ? i + (int64_t)n : i;
    if (i < 0 || i >= (int64_t)n) {
        return true;
    }
    if (obj.kind == QN_JV_STRING) {
        return text_item(run, obj.u.str, (size_t)i, out);
    }
    if (obj.kind == QN_JV_RANGE) {
        const qn_jrange *r = (const qn_jrange *)obj.u.obj;
        *out = qn_jint((int64_t)((uint64_t)r->start + (uint64_t)i * (uint64_t)r->step));
        return true;
    }
    *out = qn_jretain(obj.u.list->items[i]);
    return true;
}

bool qn_jgetattr(qn_jrun *run, qn_jval obj, qn_jstr *name, qn_jval *out, const qn_jbuiltin **method)
{
    const qn_jbuiltin *m = NULL;
    if (obj.kind == QN_JV_UNDEFINED && !is_special(obj, name)) {
        return qn_jundefined_fail(run, obj);
    }
    switch (find_attribute(run, obj, name, out, &m)) {
    case FAILED: return false;
    case VALUE: return true;
    case UNSAFE: return unsafe_undefined(run, obj, qn_jobject(name), out);
    case METHOD:
        if (method != NULL) {
            *method = m;
            return true;
        }
        return bind_method(run, obj, m, out);
    case NOTHING: break;
    }
    if (!plain_item(run, obj, qn_jobject(name), out)) {
        return false;
    }
    return out->kind != QN_JV_MISSING || qn_jundefined_new(run, NULL, describe(obj), qn_jobject(name), out);
}

bool qn_jgetattr_only(qn_jrun *run, qn_jval obj, qn_jstr *name, qn_jval *out)
{
    const qn_jbuiltin *m = NULL;
    if (obj.kind == QN_JV_UNDEFINED && !is_special(obj, name)) {
        return qn_jundefined_fail(run, obj);
    }
    switch (find_attribute(run, obj, name, out, &m)) {
    case FAILED: return false;
    case VALUE: return true;
    case UNSAFE: return unsafe_undefined(run, obj, qn_jobject(name), out);
    case METHOD: return bind_method(run, obj, m, out);
    case NOTHING: break;
    }
    return qn_jundefined_new(run, NULL, describe(obj), qn_jobject(name), out);
}

bool qn_jgetitem(qn_jrun *run, qn_jval obj, qn_jval key, qn_jval *out)
{
    if (obj.kind == QN_JV_UNDEFINED) {
        return qn_jundefined_fail(run, obj);
    }
    if (!plain_item(run, obj, key, out)) {
        return false;
    }
    if (out->kind != QN_JV_MISSING) {
        return true;
    }
    if (key.kind == QN_JV_STRING) {
        return qn_jgetattr_only(run, obj, key.u.str, out);
    }
    return qn_jundefined_new(run, NULL, describe(obj), key, out);
}
