/* jinja_scope.c - binds every name of a template to a variable, filters and tests to their functions, as Jinja2's
 * compiler does.
 *
 * A scope is analysed in two walks. The first collects the names that its own statements use (without looking into
 * nested scopes) and decides what each holds when the scope is entered:
 *     used but never set      the outer scope's variable, or else the context's
 *     set, known outside      a copy of the outer value (so a loop's assignments end with the iteration)
 *     set, unknown outside    the context's value if it may be read before it is set, else nothing yet
 * The second walk writes the bindings into the nodes and analyses nested scopes.
 */
#include <string.h>

#include "text/jinja.h"
#include "text/jinja_ast.h"
#include "text/jinja_builtin.h"

typedef struct qn_jbinding {
    struct scope *scope;
    qn_jname *name;
    struct qn_jbinding *outer, *next; /* the same name further out; the next one of this scope */
    qn_jload *load;
    bool stored;
} binding;

typedef struct scope {
    struct scope *parent;
    qn_jfunction *function;
    uint32_t first_slot, n_slots;
    binding *bindings;
    qn_jload *loads;
    bool toplevel;
} scope;

typedef struct analysis {
    qn_jparser *p;
    uint32_t loops; /* for statements around, in any function */
} analysis;

typedef quern_status (*visit_fn)(analysis *a, scope *s, qn_jnode *node, bool flag);

/* ---- the children of a node, in the order of Jinja2's syntax tree ---- */

static quern_status visit_list(analysis *a, scope *s, qn_jnode *first, bool flag, visit_fn visit)
{
    quern_status status = QUERN_OK;
    for (qn_jnode *node = first; node != NULL; node = node->next) {
        QN_TRY(visit(a, s, node, flag));
    }
done:
    return status;
}

static quern_status visit_args(analysis *a, scope *s, const qn_jargs_ast *args, bool flag, visit_fn visit)
{
    quern_status status = QUERN_OK;
    QN_TRY(visit_list(a, s, args->args, flag, visit));
    QN_TRY(visit_list(a, s, args->keywords, flag, visit));
    QN_TRY(visit_list(a, s, args->star, flag, visit));
    QN_TRY(visit_list(a, s, args->star_star, flag, visit));
done:
    return status;
}

static quern_status visit_expression(analysis *a, scope *s, qn_jnode *node, bool flag, visit_fn visit)
{
    quern_status status = QUERN_OK;
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_TUPLE:
    case QN_N_LIST:
    case QN_N_DICT:
    case QN_N_AND:
    case QN_N_OR:
    case QN_N_CONCAT:
    case QN_N_OUTPUT: return visit_list(a, s, node->u.list.items, flag, visit);
    case QN_N_PAIR: QN_TRY(visit(a, s, node->u.pair.key, flag)); return visit(a, s, node->u.pair.value, flag);
    case QN_N_CHAIN:
    case QN_N_COMPARE: QN_TRY(visit(a, s, node->u.chain.first, flag)); return visit_list(a, s, node->u.chain.links, flag, visit);
    case QN_N_LINK:
    case QN_N_NOT:
    case QN_N_NEG:
    case QN_N_POS: return visit(a, s, node->u.unary.operand, flag);
    case QN_N_COND:
        QN_TRY(visit(a, s, node->u.cond.test, flag));
        QN_TRY(visit(a, s, node->u.cond.then, flag));
        return node->u.cond.otherwise != NULL ? visit(a, s, node->u.cond.otherwise, flag) : QUERN_OK;
    case QN_N_GETATTR: return visit(a, s, node->u.attr.object, flag);
    case QN_N_GETITEM: QN_TRY(visit(a, s, node->u.item.object, flag)); return visit(a, s, node->u.item.index, flag);
    case QN_N_SLICE:
        QN_TRY(visit_list(a, s, node->u.slice.start, flag, visit));
        QN_TRY(visit_list(a, s, node->u.slice.stop, flag, visit));
        return visit_list(a, s, node->u.slice.step, flag, visit);
    case QN_N_CALL: QN_TRY(visit(a, s, node->u.call.callee, flag)); return visit_args(a, s, &node->u.call.args, flag, visit);
    case QN_N_KEYWORD: return visit(a, s, node->u.keyword.value, flag);
    case QN_N_FILTER:
    case QN_N_TEST: QN_TRY(visit_list(a, s, node->u.apply.object, flag, visit)); return visit_args(a, s, &node->u.apply.args, flag, visit);
    default: break;
    }
done:
    return status;
}

static quern_status visit_children(analysis *a, scope *s, qn_jnode *node, bool flag, visit_fn visit)
{
    quern_status status = QUERN_OK;
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_FOR:
        QN_TRY(visit(a, s, node->u.loop.target, flag));
        QN_TRY(visit(a, s, node->u.loop.iterable, flag));
        QN_TRY(visit_list(a, s, node->u.loop.body, flag, visit));
        QN_TRY(visit_list(a, s, node->u.loop.otherwise, flag, visit));
        return visit_list(a, s, node->u.loop.test, flag, visit);
    case QN_N_IF:
        QN_TRY(visit(a, s, node->u.branch.test, flag));
        QN_TRY(visit_list(a, s, node->u.branch.body, flag, visit));
        QN_TRY(visit_list(a, s, node->u.branch.elifs, flag, visit));
        return visit_list(a, s, node->u.branch.otherwise, flag, visit);
    case QN_N_SET: QN_TRY(visit(a, s, node->u.set.target, flag)); return visit(a, s, node->u.set.value, flag);
    case QN_N_SET_BLOCK:
        QN_TRY(visit(a, s, node->u.set_block.target, flag));
        QN_TRY(visit_list(a, s, node->u.set_block.filter, flag, visit));
        return visit_list(a, s, node->u.set_block.body, flag, visit);
    case QN_N_MACRO:
    case QN_N_CALL_BLOCK:
    case QN_N_GENERATION:
        QN_TRY(visit_list(a, s, node->u.macro.call, flag, visit));
        QN_TRY(visit_list(a, s, node->u.macro.signature.params, flag, visit));
        QN_TRY(visit_list(a, s, node->u.macro.signature.defaults, flag, visit));
        return visit_list(a, s, node->u.macro.body, flag, visit);
    case QN_N_FILTER_BLOCK:
        QN_TRY(visit_list(a, s, node->u.filter_block.body, flag, visit));
        return visit(a, s, node->u.filter_block.filter, flag);
    case QN_N_WITH:
        QN_TRY(visit_list(a, s, node->u.with.targets, flag, visit));
        QN_TRY(visit_list(a, s, node->u.with.values, flag, visit));
        return visit_list(a, s, node->u.with.body, flag, visit);
    case QN_N_AUTOESCAPE:
        QN_TRY(visit(a, s, node->u.autoescape.value, flag));
        return visit_list(a, s, node->u.autoescape.body, flag, visit);
    case QN_N_BLOCK: return visit_list(a, s, node->u.block.body, flag, visit);
    default: return visit_expression(a, s, node, flag, visit);
    }
done:
    return status;
}

/* ---- names that a body reads without setting them first ---- */

typedef struct wanted {
    analysis a; /* first member: the visitor gets a pointer to it */
    const char *names[3];
    bool active[3], found[3];
    bool scoped_block;
} wanted;

static quern_status find_wanted(analysis *a, scope *s, qn_jnode *node, bool flag)
{
    wanted *w = (wanted *)a;
    if (node->kind == QN_N_BLOCK) {
        w->scoped_block = w->scoped_block || node->u.block.scoped;
        return QUERN_OK;
    }
    if (node->kind != QN_N_NAME) {
        return visit_children(a, s, node, flag, find_wanted);
    }
    for (size_t i = 0; i < 3 && w->names[i] != NULL; i++) {
        if (w->active[i] && qn_jstr_equals(node->u.name.name->str, w->names[i])) {
            w->found[i] = w->found[i] || node->op == QN_USE_LOAD;
            w->active[i] = node->op == QN_USE_LOAD;
        }
    }
    return QUERN_OK;
}

/* ---- first walk ---- */

static quern_status define(analysis *a, scope *s, qn_jname *name, qn_jload_kind kind, binding **out)
{
    quern_status status = QUERN_OK;
    binding *b;
    QN_TRY(qn_jparser_alloc(a->p, sizeof *b, &b));
    QN_TRY(qn_jparser_alloc(a->p, sizeof *b->load, &b->load));
    b->scope = s;
    b->name = name;
    b->outer = name->binding;
    b->next = s->bindings;
    b->load->kind = kind;
    b->load->slot = s->first_slot + s->n_slots++;
    b->load->name = name;
    b->load->next = s->loads;
    s->loads = b->load;
    s->bindings = b;
    name->binding = b;
    if (out != NULL) {
        *out = b;
    }
done:
    return status;
}

static qn_jref ref_to(const scope *s, const binding *b)
{
    return (qn_jref){.up = (uint16_t)(s->function->level - b->scope->function->level), .slot = b->load->slot};
}

static quern_status declare_parameter(analysis *a, scope *s, qn_jname *name, binding **out)
{
    binding *b = name->binding;
    if (b == NULL || b->scope != s) {
        quern_status status = define(a, s, name, QN_LOAD_PARAM, &b);
        if (status != QUERN_OK) {
            return status;
        }
    }
    b->stored = true;
    b->load->kind = QN_LOAD_PARAM;
    if (out != NULL) {
        *out = b;
    }
    return QUERN_OK;
}

static quern_status load_name(analysis *a, scope *s, qn_jname *name)
{
    return name->binding != NULL ? QUERN_OK : define(a, s, name, QN_LOAD_RESOLVE, NULL);
}

/* conditional: inside an if statement of this scope, so that the name may still be unset afterwards. */
static quern_status store_name(analysis *a, scope *s, qn_jname *name, bool conditional)
{
    quern_status status = QUERN_OK;
    binding *b = name->binding;
    if (b == NULL || b->scope != s) {
        const binding *outer = b;
        QN_TRY(define(a, s, name, outer != NULL ? QN_LOAD_ALIAS : conditional ? QN_LOAD_RESOLVE : QN_LOAD_MISSING, &b));
        if (outer != NULL) {
            b->load->source = ref_to(s, outer);
        }
    }
    b->stored = true;
done:
    return status;
}

static quern_status collect(analysis *a, scope *s, qn_jnode *node, bool conditional)
{
    quern_status status = QUERN_OK;
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_NAME:
        return node->op == QN_USE_LOAD    ? load_name(a, s, node->u.name.name)
               : node->op == QN_USE_STORE ? store_name(a, s, node->u.name.name, conditional)
                                          : declare_parameter(a, s, node->u.name.name, NULL);
    case QN_N_NSREF: return load_name(a, s, node->u.nsref.name);
    case QN_N_IF:
        QN_TRY(collect(a, s, node->u.branch.test, conditional));
        QN_TRY(visit_list(a, s, node->u.branch.body, true, collect));
        QN_TRY(visit_list(a, s, node->u.branch.elifs, true, collect));
        return visit_list(a, s, node->u.branch.otherwise, true, collect);
    case QN_N_SET: QN_TRY(collect(a, s, node->u.set.value, conditional)); return collect(a, s, node->u.set.target, conditional);
    case QN_N_MACRO: return store_name(a, s, node->u.macro.name, conditional);
    /* nested scopes: only what is evaluated in this one */
    case QN_N_FOR: return collect(a, s, node->u.loop.iterable, conditional);
    case QN_N_CALL_BLOCK: return collect(a, s, node->u.macro.call, conditional);
    case QN_N_FILTER_BLOCK: return collect(a, s, node->u.filter_block.filter, conditional);
    case QN_N_WITH: return visit_list(a, s, node->u.with.values, conditional, collect);
    case QN_N_SET_BLOCK: return collect(a, s, node->u.set_block.target, conditional);
    case QN_N_GENERATION:
    case QN_N_AUTOESCAPE:
    case QN_N_BLOCK: return QUERN_OK;
    default: return visit_expression(a, s, node, conditional, collect);
    }
done:
    return status;
}

/* The targets of a loop are parameters of its scope. */
static quern_status collect_target(analysis *a, scope *s, qn_jnode *node, bool flag)
{
    return node->kind == QN_N_NAME ? declare_parameter(a, s, node->u.name.name, NULL) : visit_expression(a, s, node, flag, collect_target);
}

/* ---- second walk ---- */

static quern_status resolve(analysis *a, scope *s, qn_jnode *node, bool soft);

static void open_scope(scope *s, scope *parent, qn_jfunction *function)
{
    *s = (scope){.parent = parent, .function = function};
    if (parent != NULL && parent->function == function) {
        s->first_slot = parent->first_slot + parent->n_slots;
    }
}

/* Ends a scope: its names are no longer visible, and *out says how to enter it. */
static void close_scope(scope *s, qn_jscope *out)
{
    for (binding *b = s->bindings; b != NULL; b = b->next) {
        b->name->binding = b->outer;
    }
    *out = (qn_jscope){.first_slot = s->first_slot, .n_slots = s->n_slots, .loads = s->loads};
    if (s->first_slot + s->n_slots > s->function->n_slots) {
        s->function->n_slots = s->first_slot + s->n_slots;
    }
}

static quern_status new_function(analysis *a, const scope *outer, qn_jfunction **out)
{
    quern_status status = qn_jparser_alloc(a->p, sizeof **out, out);
    if (status == QUERN_OK) {
        (*out)->level = outer != NULL ? (uint16_t)(outer->function->level + 1) : 0;
    }
    return status;
}

static quern_status intern(analysis *a, const char *name, qn_jname **out) { return qn_jparser_intern(a->p, name, strlen(name), out); }

/* The function that yields the items of a loop that pass its test. */
static quern_status resolve_loop_test(analysis *a, scope *s, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    scope test;
    qn_jfunction *function;
    QN_TRY(new_function(a, s, &function));
    open_scope(&test, s, function);
    QN_TRY(collect_target(a, &test, node->u.loop.target, false));
    QN_TRY(collect(a, &test, node->u.loop.test, false));
    QN_TRY(resolve(a, &test, node->u.loop.test, false));
    close_scope(&test, &function->scope);
    node->u.loop.test_function = function;
done:
    return status;
}

static quern_status resolve_loop_body(analysis *a, scope *s, qn_jnode *node, qn_jfunction *function)
{
    quern_status status = QUERN_OK;
    scope body;
    wanted w = {.a = *a, .names = {"loop"}, .active = {true}};
    QN_TRY(visit_list(&w.a, s, node->u.loop.body, false, find_wanted));
    node->u.loop.uses_loop = node->u.loop.recursive || w.found[0] || w.scoped_block;
    open_scope(&body, s, function);
    if (node->u.loop.uses_loop) {
        qn_jname *name;
        binding *b;
        QN_TRY(intern(a, "loop", &name));
        QN_TRY(declare_parameter(a, &body, name, &b));
        node->u.loop.loop = ref_to(&body, b);
    }
    QN_TRY(collect_target(a, &body, node->u.loop.target, false));
    QN_TRY(visit_list(a, &body, node->u.loop.body, false, collect));
    QN_TRY(resolve(a, &body, node->u.loop.target, false));
    QN_TRY(visit_list(a, &body, node->u.loop.body, false, resolve));
    close_scope(&body, &node->u.loop.scope);
done:
    return status;
}

static quern_status resolve_for(analysis *a, scope *s, qn_jnode *node, bool soft)
{
    quern_status status = QUERN_OK;
    qn_jfunction *function = s->function;
    QN_TRY(resolve(a, s, node->u.loop.iterable, soft));
    a->loops++;
    if (node->u.loop.recursive) {
        QN_TRY(new_function(a, s, &function));
        node->u.loop.function = function;
    }
    if (node->u.loop.test != NULL) {
        QN_TRY(resolve_loop_test(a, s, node));
    }
    QN_TRY(resolve_loop_body(a, s, node, function));
    if (node->u.loop.otherwise != NULL) {
        scope otherwise;
        open_scope(&otherwise, s, function);
        QN_TRY(visit_list(a, &otherwise, node->u.loop.otherwise, false, collect));
        QN_TRY(visit_list(a, &otherwise, node->u.loop.otherwise, false, resolve));
        close_scope(&otherwise, &node->u.loop.else_scope);
    }
    a->loops--;
done:
    return status;
}

/* caller, kwargs and varargs are parameters if the body uses them without setting them. */
static quern_status declare_special(analysis *a, scope *s, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    qn_jsignature *sig = &node->u.macro.signature;
    wanted w = {.a = *a, .names = {"caller", "kwargs", "varargs"}, .active = {true, true, true}};
    bool declared[3] = {false, false, false};
    QN_TRY(visit_list(&w.a, s, node->u.macro.body, false, find_wanted));
    uint32_t index = 0;
    for (const qn_jnode *param = sig->params; param != NULL; param = param->next, index++) {
        for (size_t i = 0; i < 3; i++) {
            declared[i] = declared[i] || qn_jstr_equals(param->u.name.name->str, w.names[i]);
        }
        if (w.found[0] && qn_jstr_equals(param->u.name.name->str, "caller")) {
            sig->explicit_caller = true;
            if (index < sig->n_params - sig->n_defaults) {
                QN_TRY(qn_jparser_fail(a->p, node->pos,
                                       "When defining macros or call blocks the special \"caller\" argument must be "
                                       "omitted or be given a default."));
            }
        }
    }
    qn_jref *refs[3] = {&sig->caller, &sig->kwargs, &sig->varargs};
    bool *takes[3] = {&sig->takes_caller, &sig->takes_kwargs, &sig->takes_varargs};
    for (size_t i = 0; i < 3; i++) {
        if (w.found[i] && !declared[i]) {
            qn_jname *name;
            binding *b;
            QN_TRY(intern(a, w.names[i], &name));
            QN_TRY(declare_parameter(a, s, name, &b));
            *refs[i] = ref_to(s, b);
            *takes[i] = true;
        }
    }
done:
    return status;
}

static quern_status resolve_macro_body(analysis *a, scope *s, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    scope inner;
    qn_jfunction *function;
    QN_TRY(new_function(a, s, &function));
    open_scope(&inner, s, function);
    QN_TRY(visit_list(a, &inner, node->u.macro.signature.params, false, collect));
    QN_TRY(declare_special(a, &inner, node));
    QN_TRY(visit_list(a, &inner, node->u.macro.signature.defaults, false, collect));
    QN_TRY(visit_list(a, &inner, node->u.macro.body, false, collect));
    QN_TRY(visit_list(a, &inner, node->u.macro.signature.params, false, resolve));
    QN_TRY(visit_list(a, &inner, node->u.macro.signature.defaults, false, resolve));
    QN_TRY(visit_list(a, &inner, node->u.macro.body, false, resolve));
    close_scope(&inner, &function->scope);
    node->u.macro.function = function;
done:
    return status;
}

static quern_status resolve_with(analysis *a, scope *s, qn_jnode *node, bool soft)
{
    quern_status status = QUERN_OK;
    scope inner;
    QN_TRY(visit_list(a, s, node->u.with.values, soft, resolve));
    open_scope(&inner, s, s->function);
    QN_TRY(visit_list(a, &inner, node->u.with.targets, false, collect));
    QN_TRY(visit_list(a, &inner, node->u.with.body, false, collect));
    QN_TRY(visit_list(a, &inner, node->u.with.targets, false, resolve));
    QN_TRY(visit_list(a, &inner, node->u.with.body, false, resolve));
    close_scope(&inner, &node->u.with.scope);
done:
    return status;
}

/* A body with a scope of its own in the same function, and a filter or value that belongs to that scope. */
static quern_status resolve_inner(analysis *a, scope *s, qn_jnode *body, qn_jnode *extra, qn_jscope *out)
{
    quern_status status = QUERN_OK;
    scope inner;
    open_scope(&inner, s, s->function);
    QN_TRY(visit_list(a, &inner, body, false, collect));
    QN_TRY(visit_list(a, &inner, extra, false, collect));
    QN_TRY(visit_list(a, &inner, body, false, resolve));
    QN_TRY(visit_list(a, &inner, extra, false, resolve));
    close_scope(&inner, out);
done:
    return status;
}

/* The variables around a scoped block, which its context gets. */
static quern_status note_block_locals(analysis *a, const scope *s, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    for (const scope *around = s; around != NULL; around = around->parent) {
        for (const binding *b = around->bindings; b != NULL; b = b->next) {
            if (b->stored && b->name->binding == b) {
                struct qn_jblock_local *local;
                QN_TRY(qn_jparser_alloc(a->p, sizeof *local, &local));
                local->name = b->name;
                local->ref = ref_to(s, b);
                local->next = node->u.block.locals;
                node->u.block.locals = local;
            }
        }
    }
done:
    return status;
}

/* Finds the function of a filter or test. An unknown one may stand where it may never run: in a branch. */
static quern_status bind_definition(analysis *a, qn_jnode *node, bool soft)
{
    const qn_jstr *name = node->u.apply.name;
    bool is_filter = node->kind == QN_N_FILTER;
    node->u.apply.definition = is_filter ? qn_jfilter_find(name->data, name->len) : qn_jtest_find(name->data, name->len);
    if (node->u.apply.definition != NULL || soft) {
        return QUERN_OK;
    }
    return qn_jparser_fail(a->p, node->pos, "No %s named '%.100s'.", is_filter ? "filter" : "test", name->data);
}

static quern_status resolve_name(analysis *a, scope *s, qn_jnode *node, qn_jname *name, qn_jref *ref)
{
    if (a->loops > 0 && node->kind == QN_N_NAME && node->op == QN_USE_STORE && qn_jstr_equals(name->str, "loop")) {
        return qn_jparser_fail(a->p, node->pos, "Can't assign to special loop variable in for-loop target");
    }
    *ref = ref_to(s, name->binding);
    return QUERN_OK;
}

static quern_status resolve_statement(analysis *a, scope *s, qn_jnode *node, bool soft)
{
    quern_status status = QUERN_OK;
    node->toplevel = s->toplevel;
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_FOR: return resolve_for(a, s, node, soft);
    case QN_N_IF: return visit_children(a, s, node, true, resolve);
    case QN_N_SET: QN_TRY(resolve(a, s, node->u.set.target, soft)); return resolve(a, s, node->u.set.value, soft);
    case QN_N_SET_BLOCK:
        QN_TRY(resolve_inner(a, s, node->u.set_block.body, node->u.set_block.filter, &node->u.set_block.scope));
        return resolve(a, s, node->u.set_block.target, soft);
    case QN_N_MACRO: QN_TRY(resolve_macro_body(a, s, node)); return resolve_name(a, s, node, node->u.macro.name, &node->u.macro.ref);
    case QN_N_CALL_BLOCK: QN_TRY(resolve_macro_body(a, s, node)); return resolve(a, s, node->u.macro.call, soft);
    case QN_N_GENERATION: return resolve_macro_body(a, s, node);
    case QN_N_FILTER_BLOCK: return resolve_inner(a, s, node->u.filter_block.body, node->u.filter_block.filter, &node->u.filter_block.scope);
    case QN_N_WITH: return resolve_with(a, s, node, soft);
    case QN_N_AUTOESCAPE: return resolve_inner(a, s, node->u.autoescape.body, node->u.autoescape.value, &node->u.autoescape.scope);
    case QN_N_BLOCK: return node->u.block.scoped ? note_block_locals(a, s, node) : QUERN_OK; /* the body: resolve_block */
    default: break;
    }
done:
    return status;
}

static quern_status resolve(analysis *a, scope *s, qn_jnode *node, bool soft)
{
    quern_status status = QUERN_OK;
    switch ((qn_jnode_kind)node->kind) {
    case QN_N_NAME: return resolve_name(a, s, node, node->u.name.name, &node->u.name.ref);
    case QN_N_NSREF: return resolve_name(a, s, node, node->u.nsref.name, &node->u.nsref.ref);
    case QN_N_COND: return visit_expression(a, s, node, true, resolve);
    case QN_N_FILTER:
    case QN_N_TEST: QN_TRY(bind_definition(a, node, soft)); return visit_expression(a, s, node, soft, resolve);
    case QN_N_FOR:
    case QN_N_IF:
    case QN_N_SET:
    case QN_N_SET_BLOCK:
    case QN_N_MACRO:
    case QN_N_CALL_BLOCK:
    case QN_N_GENERATION:
    case QN_N_FILTER_BLOCK:
    case QN_N_WITH:
    case QN_N_AUTOESCAPE:
    case QN_N_BLOCK: return resolve_statement(a, s, node, soft);
    default: return visit_expression(a, s, node, soft, resolve);
    }
done:
    return status;
}

/* The root, and each block, is a function without surroundings; `self` is a parameter of it if it is used. */
static quern_status resolve_isolated(analysis *a, qn_jnode *body, bool toplevel, const qn_jfunction **out, bool *uses_self, qn_jref *self)
{
    quern_status status = QUERN_OK;
    scope s;
    qn_jfunction *function;
    wanted w = {.a = *a, .names = {"self"}, .active = {true}};
    QN_TRY(new_function(a, NULL, &function));
    open_scope(&s, NULL, function);
    s.toplevel = toplevel;
    QN_TRY(visit_list(&w.a, &s, body, false, find_wanted));
    *uses_self = w.found[0];
    if (w.found[0]) {
        qn_jname *name;
        binding *b;
        QN_TRY(intern(a, "self", &name));
        QN_TRY(declare_parameter(a, &s, name, &b));
        *self = ref_to(&s, b);
    }
    QN_TRY(visit_list(a, &s, body, false, collect));
    QN_TRY(visit_list(a, &s, body, false, resolve));
    close_scope(&s, &function->scope);
    *out = function;
done:
    return status;
}

quern_status qn_jscope_analyze(qn_jparser *p)
{
    quern_status status = QUERN_OK;
    qn_jinja *t = p->template_;
    analysis a = {.p = p};
    qn_jname *caller;
    QN_TRY(intern(&a, "caller", &caller));
    t->caller_name = caller->str;
    QN_TRY(resolve_isolated(&a, t->body, true, &t->root, &t->uses_self, &t->self));
    for (qn_jnode *block = t->blocks; block != NULL; block = block->u.block.next_block) {
        QN_TRY(resolve_isolated(&a, block->u.block.body, false, &block->u.block.function, &block->u.block.uses_self, &block->u.block.self));
    }
done:
    return status;
}
