/* jinja_parse.c - statements, and the parser's own tools: tokens, nodes, names. Expressions are in jinja_parse_expr.c.
 *
 * Everything that is parsed lives in the template's arena; the parser itself owns only the name table.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "text/jinja.h"
#include "text/jinja_ast.h"

/* ---- tools ---- */

quern_status qn_jparser_advance(qn_jparser *p)
{
    if (p->has_ahead) {
        p->current = p->ahead;
        p->has_ahead = false;
        return QUERN_OK;
    }
    return qn_jlexer_next(&p->lexer, &p->current);
}

quern_status qn_jparser_peek(qn_jparser *p, const qn_jtoken **token)
{
    quern_status status = QUERN_OK;
    if (!p->has_ahead) {
        status = qn_jlexer_next(&p->lexer, &p->ahead);
        p->has_ahead = status == QUERN_OK;
    }
    *token = &p->ahead;
    return status;
}

static bool token_is_name(const qn_jtoken *token, const char *name)
{
    return token->kind == QN_TOK_NAME && token->len == strlen(name) && memcmp(token->text, name, token->len) == 0;
}

bool qn_jparser_at_name(const qn_jparser *p, const char *name) { return token_is_name(&p->current, name); }

quern_status qn_jparser_fail(qn_jparser *p, uint32_t pos, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return qn_jinja_syntax_error(p->template_, pos, p->err, "%s", text);
}

quern_status qn_jparser_unexpected(qn_jparser *p, const char *expected)
{
    char got[64];
    bool is_name = p->current.kind == QN_TOK_NAME;
    (void)snprintf(got, sizeof got, "%.*s", is_name ? (int)(p->current.len < 50 ? p->current.len : 50) : 50,
                   is_name ? p->current.text : qn_jtoken_describe(p->current.kind));
    if (expected == NULL) {
        return qn_jparser_fail(p, p->current.pos, "unexpected '%s'", got);
    }
    if (p->current.kind == QN_TOK_EOF) {
        return qn_jparser_fail(p, p->current.pos, "unexpected end of template, expected '%s'.", expected);
    }
    return qn_jparser_fail(p, p->current.pos, "expected token '%s', got '%s'", expected, got);
}

quern_status qn_jparser_expect(qn_jparser *p, qn_jtoken_kind kind)
{
    return p->current.kind == kind ? qn_jparser_advance(p) : qn_jparser_unexpected(p, qn_jtoken_describe(kind));
}

quern_status qn_jparser_expect_name(qn_jparser *p, const char *name)
{
    return qn_jparser_at_name(p, name) ? qn_jparser_advance(p) : qn_jparser_unexpected(p, name);
}

quern_status qn_jparser_alloc(qn_jparser *p, size_t bytes, void *out)
{
    void *memory = qn_arena_alloc(&p->template_->arena, bytes);
    memcpy(out, &memory, sizeof memory);
    if (memory == NULL) {
        return qn_error_set(p->err, QUERN_ERROR_MEMORY, "%s: out of memory: the syntax tree needs %zu more bytes", p->template_->name,
                            bytes);
    }
    return QUERN_OK;
}

/* Expressions are small and many; statements get a whole node, as their kind is known late. */
static size_t node_bytes(qn_jnode_kind kind)
{
    switch (kind) {
    case QN_N_CALL: return offsetof(qn_jnode, u) + sizeof((qn_jnode *)0)->u.call;
    case QN_N_FILTER:
    case QN_N_TEST: return offsetof(qn_jnode, u) + sizeof((qn_jnode *)0)->u.apply;
    case QN_N_CONST:
    case QN_N_DATA:
    case QN_N_NAME:
    case QN_N_NSREF:
    case QN_N_TUPLE:
    case QN_N_LIST:
    case QN_N_DICT:
    case QN_N_PAIR:
    case QN_N_CHAIN:
    case QN_N_LINK:
    case QN_N_AND:
    case QN_N_OR:
    case QN_N_NOT:
    case QN_N_NEG:
    case QN_N_POS:
    case QN_N_COMPARE:
    case QN_N_CONCAT:
    case QN_N_COND:
    case QN_N_GETATTR:
    case QN_N_GETITEM:
    case QN_N_SLICE:
    case QN_N_KEYWORD: return offsetof(qn_jnode, u) + sizeof((qn_jnode *)0)->u.nsref;
    default: return sizeof(qn_jnode);
    }
}

quern_status qn_jparser_node(qn_jparser *p, qn_jnode_kind kind, uint32_t pos, qn_jnode **out)
{
    quern_status status = qn_jparser_alloc(p, node_bytes(kind), out);
    if (status == QUERN_OK) {
        (*out)->kind = (uint8_t)kind;
        (*out)->pos = pos;
    }
    return status;
}

quern_status qn_jparser_string(qn_jparser *p, const char *text, size_t len, qn_jstr **out)
{
    quern_status status = qn_jparser_alloc(p, sizeof **out + len + 1, out);
    if (status == QUERN_OK) {
        qn_jstr *s = *out;
        s->head.refs = QN_JREFS_CONST;
        s->head.kind = QN_JV_STRING;
        s->len = len;
        memcpy(s->data, text, len);
        for (size_t i = 0; i < len; i++) {
            s->n_chars += ((uint8_t)text[i] & 0xc0u) != 0x80u;
        }
    }
    return status;
}

quern_status qn_jparser_intern(qn_jparser *p, const char *text, size_t len, qn_jname **out)
{
    quern_status status = QUERN_OK;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++) {
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    }
    qn_jname **bucket = &p->names[hash % QN_JNAME_BUCKETS];
    for (qn_jname *n = *bucket; n != NULL; n = n->chain) {
        if (n->str->len == len && memcmp(n->str->data, text, len) == 0) {
            *out = n;
            goto done;
        }
    }
    qn_jname *name;
    QN_TRY(qn_jparser_alloc(p, sizeof *name, &name));
    QN_TRY(qn_jparser_string(p, text, len, &name->str));
    name->chain = *bucket;
    *bucket = name;
    *out = name;
done:
    return status;
}

quern_status qn_jparser_raise(qn_jparser *p, qn_jnode *parent, const qn_jnode *child)
{
    if (child->height >= parent->height) {
        parent->height = (uint16_t)(child->height + 1);
    }
    if (parent->height > QN_JINJA_SYNTAX_DEPTH) {
        return qn_jparser_fail(p, parent->pos, "the syntax is nested deeper than %d levels", QN_JINJA_SYNTAX_DEPTH);
    }
    return QUERN_OK;
}

quern_status qn_jparser_descend(qn_jparser *p)
{
    if (p->depth >= QN_JINJA_SYNTAX_DEPTH) {
        return qn_jparser_fail(p, p->current.pos, "the syntax is nested deeper than %d levels", QN_JINJA_SYNTAX_DEPTH);
    }
    p->depth++;
    return QUERN_OK;
}

/* ---- targets of assignments ---- */

/* Turns an expression into something that is assigned to, or fails. */
static quern_status make_target(qn_jparser *p, qn_jnode *node, qn_jname_use use)
{
    quern_status status = QUERN_OK;
    if (node->kind == QN_N_NAME) {
        node->op = (uint8_t)use;
    } else if (node->kind == QN_N_TUPLE) {
        for (qn_jnode *item = node->u.list.items; item != NULL; item = item->next) {
            QN_TRY(make_target(p, item, use));
        }
    } else if (node->kind != QN_N_NSREF) {
        QN_TRY(qn_jparser_fail(p, node->pos, node->kind == QN_N_CONST ? "can't assign to 'const'" : "can't assign to this expression"));
    }
done:
    return status;
}

static quern_status parse_target(qn_jparser *p, bool with_namespace, const char *end_name, qn_jname_use use, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_jparse_tuple(p, QN_TUPLE_TARGET, with_namespace, end_name, out));
    QN_TRY(make_target(p, *out, use));
done:
    return status;
}

/* A plain name that is defined here: of a macro or a parameter. */
static quern_status parse_defined_name(qn_jparser *p, qn_jname **out)
{
    static const char *const CONSTANTS[] = {"true", "false", "none", "True", "False", "None"};
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < sizeof CONSTANTS / sizeof CONSTANTS[0]; i++) {
        if (qn_jparser_at_name(p, CONSTANTS[i])) {
            QN_TRY(qn_jparser_fail(p, p->current.pos, "can't assign to 'name'"));
        }
    }
    if (p->current.kind != QN_TOK_NAME) {
        QN_TRY(qn_jparser_unexpected(p, "name"));
    }
    QN_TRY(qn_jparser_intern(p, p->current.text, p->current.len, out));
    QN_TRY(qn_jparser_advance(p));
done:
    return status;
}

/* ---- statements: each begins behind its tag's name and ends before the closing of its last tag ---- */

static const char *const END_FOR[] = {"endfor", "else", NULL}, *const END_FOR_ELSE[] = {"endfor", NULL};
static const char *const END_IF[] = {"elif", "else", "endif", NULL}, *const END_IF_ELSE[] = {"endif", NULL};
static const char *const END_SET[] = {"endset", NULL}, *const END_MACRO[] = {"endmacro", NULL}, *const END_CALL[] = {"endcall", NULL};
static const char *const END_FILTER[] = {"endfilter", NULL}, *const END_WITH[] = {"endwith", NULL};
static const char *const END_BLOCK[] = {"endblock", NULL}, *const END_AUTOESCAPE[] = {"endautoescape", NULL};
static const char *const END_GENERATION[] = {"endgeneration", NULL};

static quern_status parse_body(qn_jparser *p, const char *const *ends, qn_jnode **first, qn_jnode *owner);

/* The rest of a tag, the body behind it, and the name of the tag that ends it. */
static quern_status parse_tag_body(qn_jparser *p, const char *const *ends, bool drop_end, qn_jnode **body, qn_jnode *owner)
{
    quern_status status = QUERN_OK;
    if (p->current.kind == QN_TOK_COLON) {
        QN_TRY(qn_jparser_advance(p));
    }
    QN_TRY(qn_jparser_expect(p, QN_TOK_BLOCK_END));
    QN_TRY(parse_body(p, ends, body, owner));
    if (drop_end) {
        QN_TRY(qn_jparser_advance(p));
    }
done:
    return status;
}

static quern_status parse_for(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    node->kind = QN_N_FOR;
    QN_TRY(parse_target(p, false, "in", QN_USE_STORE, &node->u.loop.target));
    QN_TRY(qn_jparser_expect_name(p, "in"));
    QN_TRY(qn_jparse_tuple(p, QN_TUPLE_NO_COND, false, "recursive", &node->u.loop.iterable));
    QN_TRY(qn_jparser_raise(p, node, node->u.loop.iterable));
    if (qn_jparser_at_name(p, "if")) {
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparse_expression(p, true, &node->u.loop.test));
        QN_TRY(qn_jparser_raise(p, node, node->u.loop.test));
    }
    if (qn_jparser_at_name(p, "recursive")) {
        QN_TRY(qn_jparser_advance(p));
        node->u.loop.recursive = true;
    }
    uint32_t loops = p->loops;
    p->loops = node->u.loop.recursive ? 1 : loops + 1;
    QN_TRY(parse_tag_body(p, END_FOR, false, &node->u.loop.body, node));
    p->loops = node->u.loop.recursive ? 0 : loops;
    bool has_else = qn_jparser_at_name(p, "else");
    QN_TRY(qn_jparser_advance(p));
    if (has_else) {
        QN_TRY(parse_tag_body(p, END_FOR_ELSE, true, &node->u.loop.otherwise, node));
    }
    p->loops = loops;
done:
    return status;
}

static quern_status parse_if(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    qn_jnode *branch = node, **next_elif = &node->u.branch.elifs;
    node->kind = QN_N_IF;
    for (;;) {
        QN_TRY(qn_jparse_tuple(p, QN_TUPLE_NO_COND, false, NULL, &branch->u.branch.test));
        QN_TRY(qn_jparser_raise(p, branch, branch->u.branch.test));
        QN_TRY(parse_tag_body(p, END_IF, false, &branch->u.branch.body, branch));
        if (branch != node) {
            QN_TRY(qn_jparser_raise(p, node, branch));
        }
        if (!qn_jparser_at_name(p, "elif")) {
            break;
        }
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparser_node(p, QN_N_IF, p->current.pos, &branch));
        *next_elif = branch;
        next_elif = &branch->next;
    }
    bool has_else = qn_jparser_at_name(p, "else");
    QN_TRY(qn_jparser_advance(p));
    if (has_else) {
        QN_TRY(parse_tag_body(p, END_IF_ELSE, true, &node->u.branch.otherwise, node));
    }
done:
    return status;
}

static quern_status parse_set(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    qn_jnode *target;
    QN_TRY(parse_target(p, true, NULL, QN_USE_STORE, &target));
    if (p->current.kind == QN_TOK_ASSIGN) {
        node->kind = QN_N_SET;
        node->u.set.target = target;
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparse_tuple(p, QN_TUPLE_PLAIN, false, NULL, &node->u.set.value));
        QN_TRY(qn_jparser_raise(p, node, node->u.set.value));
        goto done;
    }
    node->kind = QN_N_SET_BLOCK;
    node->u.set_block.target = target;
    QN_TRY(qn_jparse_filters(p, NULL, false, &node->u.set_block.filter));
    if (node->u.set_block.filter != NULL) {
        QN_TRY(qn_jparser_raise(p, node, node->u.set_block.filter));
    }
    QN_TRY(parse_tag_body(p, END_SET, true, &node->u.set_block.body, node));
done:
    return status;
}

static quern_status parse_param(qn_jparser *p, qn_jnode *node, qn_jnode **last_param, qn_jnode **last_default)
{
    quern_status status = QUERN_OK;
    qn_jsignature *sig = &node->u.macro.signature;
    qn_jnode *param;
    if (sig->n_params >= QN_JINJA_NAMES_MAX) {
        QN_TRY(qn_jparser_fail(p, p->current.pos, "a macro has more than %d parameters", QN_JINJA_NAMES_MAX));
    }
    QN_TRY(qn_jparser_node(p, QN_N_NAME, p->current.pos, &param));
    QN_TRY(parse_defined_name(p, &param->u.name.name));
    param->op = QN_USE_PARAM;
    for (const qn_jnode *other = sig->params; other != NULL; other = other->next) {
        if (other->u.name.name == param->u.name.name) {
            QN_TRY(qn_jparser_fail(p, param->pos, "duplicate argument '%s' in macro definition", param->u.name.name->str->data));
        }
    }
    if (p->current.kind == QN_TOK_ASSIGN) {
        qn_jnode *value;
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparse_expression(p, true, &value));
        QN_TRY(qn_jparser_raise(p, node, value));
        *(*last_default == NULL ? &sig->defaults : &(*last_default)->next) = value;
        *last_default = value;
        sig->n_defaults++;
    } else if (sig->n_defaults > 0) {
        QN_TRY(qn_jparser_fail(p, p->current.pos, "non-default argument follows default argument"));
    }
    *(*last_param == NULL ? &sig->params : &(*last_param)->next) = param;
    *last_param = param;
    sig->n_params++;
done:
    return status;
}

static quern_status parse_signature(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    qn_jnode *last_param = NULL, *last_default = NULL;
    QN_TRY(qn_jparser_expect(p, QN_TOK_LPAREN));
    while (p->current.kind != QN_TOK_RPAREN) {
        if (last_param != NULL) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        QN_TRY(parse_param(p, node, &last_param, &last_default));
    }
    QN_TRY(qn_jparser_expect(p, QN_TOK_RPAREN));
done:
    return status;
}

/* A body that becomes a function of its own, where break and continue of outer loops do not reach. */
static quern_status parse_function_body(qn_jparser *p, const char *const *ends, qn_jnode **body, qn_jnode *node)
{
    uint32_t loops = p->loops;
    p->loops = 0;
    quern_status status = parse_tag_body(p, ends, true, body, node);
    p->loops = loops;
    return status;
}

static quern_status parse_macro(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    node->kind = QN_N_MACRO;
    QN_TRY(parse_defined_name(p, &node->u.macro.name));
    QN_TRY(parse_signature(p, node));
    QN_TRY(parse_function_body(p, END_MACRO, &node->u.macro.body, node));
done:
    return status;
}

static quern_status parse_call_block(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    node->kind = QN_N_CALL_BLOCK;
    if (p->current.kind == QN_TOK_LPAREN) {
        QN_TRY(parse_signature(p, node));
    }
    QN_TRY(qn_jparse_expression(p, true, &node->u.macro.call));
    QN_TRY(qn_jparser_raise(p, node, node->u.macro.call));
    if (node->u.macro.call->kind != QN_N_CALL) {
        QN_TRY(qn_jparser_fail(p, node->pos, "expected call"));
    }
    QN_TRY(parse_function_body(p, END_CALL, &node->u.macro.body, node));
done:
    return status;
}

/* {% generation %} of transformers: renders its body as a call block would. */
static quern_status parse_generation(qn_jparser *p, qn_jnode *node)
{
    node->kind = QN_N_GENERATION;
    return parse_function_body(p, END_GENERATION, &node->u.macro.body, node);
}

static quern_status parse_filter_block(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    node->kind = QN_N_FILTER_BLOCK;
    QN_TRY(qn_jparse_filters(p, NULL, true, &node->u.filter_block.filter));
    QN_TRY(qn_jparser_raise(p, node, node->u.filter_block.filter));
    QN_TRY(parse_tag_body(p, END_FILTER, true, &node->u.filter_block.body, node));
done:
    return status;
}

static quern_status parse_with(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    qn_jnode **next_target = &node->u.with.targets, **next_value = &node->u.with.values;
    node->kind = QN_N_WITH;
    while (p->current.kind != QN_TOK_BLOCK_END) {
        if (node->u.with.targets != NULL) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        QN_TRY(parse_target(p, false, NULL, QN_USE_PARAM, next_target));
        QN_TRY(qn_jparser_expect(p, QN_TOK_ASSIGN));
        QN_TRY(qn_jparse_expression(p, true, next_value));
        QN_TRY(qn_jparser_raise(p, node, *next_value));
        next_target = &(*next_target)->next;
        next_value = &(*next_value)->next;
    }
    QN_TRY(parse_tag_body(p, END_WITH, true, &node->u.with.body, node));
done:
    return status;
}

static quern_status parse_autoescape(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    node->kind = QN_N_AUTOESCAPE;
    QN_TRY(qn_jparse_expression(p, true, &node->u.autoescape.value));
    QN_TRY(qn_jparser_raise(p, node, node->u.autoescape.value));
    QN_TRY(parse_tag_body(p, END_AUTOESCAPE, true, &node->u.autoescape.body, node));
done:
    return status;
}

static quern_status parse_block(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    node->kind = QN_N_BLOCK;
    QN_TRY(parse_defined_name(p, &node->u.block.name));
    if (qn_jparser_at_name(p, "scoped")) {
        node->u.block.scoped = true;
        QN_TRY(qn_jparser_advance(p));
    }
    if (qn_jparser_at_name(p, "required")) {
        node->u.block.required = true;
        QN_TRY(qn_jparser_advance(p));
    }
    if (++p->n_blocks > QN_JINJA_NAMES_MAX) {
        QN_TRY(qn_jparser_fail(p, node->pos, "a template has more than %d blocks", QN_JINJA_NAMES_MAX));
    }
    for (const qn_jnode *other = p->template_->blocks; other != NULL; other = other->u.block.next_block) {
        if (other->u.block.name == node->u.block.name) {
            QN_TRY(qn_jparser_fail(p, node->pos, "block '%s' defined twice", node->u.block.name->str->data));
        }
    }
    QN_TRY(parse_function_body(p, END_BLOCK, &node->u.block.body, node));
    if (p->current.kind == QN_TOK_NAME && p->current.len == node->u.block.name->str->len &&
        memcmp(p->current.text, node->u.block.name->str->data, p->current.len) == 0) {
        QN_TRY(qn_jparser_advance(p));
    }
    node->u.block.next_block = p->template_->blocks;
    p->template_->blocks = node;
done:
    return status;
}

static quern_status parse_print(qn_jparser *p, qn_jnode *node)
{
    quern_status status = QUERN_OK;
    qn_jnode **next = &node->u.list.items;
    node->kind = QN_N_OUTPUT;
    while (p->current.kind != QN_TOK_BLOCK_END) {
        if (node->u.list.n > 0) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        QN_TRY(qn_jparse_expression(p, true, next));
        QN_TRY(qn_jparser_raise(p, node, *next));
        next = &(*next)->next;
        node->u.list.n++;
    }
done:
    return status;
}

static quern_status parse_loop_control(qn_jparser *p, qn_jnode *node, qn_jnode_kind kind)
{
    node->kind = (uint8_t)kind;
    if (p->loops == 0) {
        return qn_jparser_fail(p, node->pos, "'%s' outside loop", kind == QN_N_BREAK ? "break" : "continue");
    }
    return QUERN_OK;
}
static quern_status parse_break(qn_jparser *p, qn_jnode *node) { return parse_loop_control(p, node, QN_N_BREAK); }
static quern_status parse_continue(qn_jparser *p, qn_jnode *node) { return parse_loop_control(p, node, QN_N_CONTINUE); }

/* Templates that need other templates: refused where they stand, as there is nothing to load from. */
static quern_status parse_no_loader(qn_jparser *p, qn_jnode *node)
{
    return qn_jparser_fail(p, node->pos, "a chat template cannot import, include or extend other templates");
}

/* What the parser waits for, for messages about a tag that does not fit (NULL: about the end of the template). */
static quern_status wrong_tag(qn_jparser *p, const qn_jtoken *tag)
{
    char text[400] = "Unexpected end of template.", expected[128] = "", innermost[96] = "";
    const qn_jend_tags *ends = p->end_tags;
    bool nesting = false;
    if (tag != NULL) {
        (void)snprintf(text, sizeof text, "Encountered unknown tag '%.*s'.", tag->len < 100 ? (int)tag->len : 100, tag->text);
    }
    for (size_t i = 0; ends != NULL && ends->names[i] != NULL; i++) {
        size_t used = strlen(expected);
        (void)snprintf(expected + used, sizeof expected - used, "%s'%s'", i > 0 ? " or " : "", ends->names[i]);
    }
    for (const qn_jend_tags *e = ends; tag != NULL && e != NULL; e = e->outer) {
        for (size_t i = 0; e->names[i] != NULL; i++) {
            nesting = nesting || token_is_name(tag, e->names[i]);
        }
    }
    if (ends != NULL) {
        (void)snprintf(innermost, sizeof innermost, " The innermost block that needs to be closed is '%.*s'.",
                       ends->tag->len < 40 ? (int)ends->tag->len : 40, ends->tag->text);
        nesting = nesting && tag != NULL;
    }
    return qn_jparser_fail(p, tag != NULL ? tag->pos : p->current.pos, "%s%s%s%s%s", text,
                           ends == NULL ? ""
                           : nesting    ? " You probably made a nesting mistake. Jinja is expecting this tag, but currently looking for "
                                        : " Jinja was looking for the following tags: ",
                           expected, ends != NULL ? "." : "", innermost);
}

static quern_status parse_statement(qn_jparser *p, qn_jnode **out)
{
    static const struct {
        const char *tag;
        quern_status (*parse)(qn_jparser *, qn_jnode *);
    } STATEMENTS[] = {
        {"for", parse_for},
        {"if", parse_if},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"block", parse_block},
        {"print", parse_print},
        {"break", parse_break},
        {"continue", parse_continue},
        {"generation", parse_generation},
        {"autoescape", parse_autoescape},
        {"import", parse_no_loader},
        {"include", parse_no_loader},
        {"extends", parse_no_loader},
        {"from", parse_no_loader},
    };
    quern_status status = QUERN_OK;
    qn_jtoken tag = p->current;
    const qn_jtoken *outer_tag = p->tag;
    if (tag.kind != QN_TOK_NAME) {
        QN_TRY(qn_jparser_fail(p, tag.pos, "tag name expected"));
    }
    for (size_t i = 0; i < sizeof STATEMENTS / sizeof STATEMENTS[0]; i++) {
        if (token_is_name(&tag, STATEMENTS[i].tag)) {
            QN_TRY(qn_jparser_node(p, QN_N_OUTPUT, tag.pos, out));
            QN_TRY(qn_jparser_advance(p));
            QN_TRY(qn_jparser_descend(p));
            p->tag = &tag;
            QN_TRY(STATEMENTS[i].parse(p, *out));
            p->tag = outer_tag;
            p->depth--;
            goto done;
        }
    }
    QN_TRY(wrong_tag(p, &tag));
done:
    p->tag = outer_tag;
    return status;
}

/* Template data or a print statement, added to the current output node. */
static quern_status parse_output(qn_jparser *p, qn_jnode *output, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    if (p->current.kind == QN_TOK_DATA) {
        qn_jstr *text;
        QN_TRY(qn_jparser_string(p, p->current.text, p->current.len, &text));
        QN_TRY(qn_jparser_node(p, QN_N_DATA, p->current.pos, out));
        (*out)->u.constant = (qn_jval){.kind = QN_JV_STRING, .u.str = text};
        QN_TRY(qn_jparser_advance(p));
    } else {
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparse_tuple(p, QN_TUPLE_PLAIN, false, NULL, out));
        QN_TRY(qn_jparser_expect(p, QN_TOK_VARIABLE_END));
    }
    output->u.list.n++;
    QN_TRY(qn_jparser_raise(p, output, *out));
done:
    return status;
}

static bool at_end_tag(const qn_jparser *p, const char *const *ends)
{
    for (size_t i = 0; ends != NULL && ends[i] != NULL; i++) {
        if (qn_jparser_at_name(p, ends[i])) {
            return true;
        }
    }
    return false;
}

/* Parses the statements up to a tag that begins with one of the names in `ends`, which is current then.
 * ends == NULL: to the end of the template. owner: the statement they belong to, or NULL. */
static quern_status parse_body(qn_jparser *p, const char *const *ends, qn_jnode **first, qn_jnode *owner)
{
    quern_status status = QUERN_OK;
    qn_jnode **next = first, *output = NULL, **next_item = NULL;
    const qn_jend_tags *outer_ends = p->end_tags;
    const qn_jend_tags own = {.outer = outer_ends, .names = ends, .tag = p->tag};
    p->end_tags = ends != NULL ? &own : NULL;
    *first = NULL;
    while (p->current.kind != QN_TOK_EOF) {
        if (p->current.kind == QN_TOK_BLOCK_BEGIN) {
            output = NULL;
            QN_TRY(qn_jparser_advance(p));
            if (at_end_tag(p, ends)) {
                goto done;
            }
            QN_TRY(parse_statement(p, next));
            QN_TRY(qn_jparser_expect(p, QN_TOK_BLOCK_END));
        } else {
            if (output == NULL) {
                QN_TRY(qn_jparser_node(p, QN_N_OUTPUT, p->current.pos, &output));
                *next = output;
                next_item = &output->u.list.items;
            }
            QN_TRY(parse_output(p, output, next_item));
            next_item = &(*next_item)->next;
        }
        if (owner != NULL) {
            QN_TRY(qn_jparser_raise(p, owner, *next));
        }
        if (p->current.kind == QN_TOK_BLOCK_BEGIN || output == NULL) {
            next = &(*next)->next;
        }
    }
    if (ends != NULL) {
        QN_TRY(wrong_tag(p, NULL));
    }
done:
    p->end_tags = outer_ends;
    return status;
}

/* ---- whole templates ---- */

/* Copies the source with \n for every line end and without one line end at the very end. */
static quern_status take_source(qn_jinja *t, const char *source, size_t len, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (len > QN_JINJA_SOURCE_MAX) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: the template has %zu bytes, at most %zu are allowed", t->name, len, QN_JINJA_SOURCE_MAX);
    }
    if (!qn_utf8_valid(source, len)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: the template is not UTF-8", t->name);
    }
    t->source = qn_malloc(len + 1);
    if (t->source == NULL) {
        QN_FAIL_MEMORY(err, "a template", len + 1);
    }
    for (size_t i = 0; i < len; i++) {
        if (source[i] == '\r') {
            t->source[t->len++] = '\n';
            i += i + 1 < len && source[i + 1] == '\n';
        } else {
            t->source[t->len++] = source[i];
        }
    }
    if (t->len > 0 && t->source[t->len - 1] == '\n') {
        t->len--;
    }
    t->source[t->len] = '\0';
done:
    return status;
}

quern_status qn_jinja_create(qn_jinja **out, const char *source, size_t len, const char *name, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_jparser p = {.err = err};
    *out = NULL;
    qn_jinja *t = qn_calloc(1, sizeof *t);
    if (t == NULL) {
        QN_FAIL_MEMORY(err, "a template", sizeof *t);
    }
    qn_arena_init(&t->arena, 0);
    t->name = qn_strdup(name != NULL ? name : "template");
    p.names = qn_calloc(QN_JNAME_BUCKETS, sizeof(qn_jname *));
    if (t->name == NULL || p.names == NULL) {
        QN_FAIL_MEMORY(err, "a template", QN_JNAME_BUCKETS * sizeof(qn_jname *));
    }
    QN_TRY(take_source(t, source, len, err));
    p.template_ = t;
    qn_jlexer_init(&p.lexer, t, err);
    QN_TRY(qn_jparser_advance(&p));
    QN_TRY(parse_body(&p, NULL, &t->body, NULL));
    QN_TRY(qn_jscope_analyze(&p));
    *out = t;
    t = NULL;
done:
    qn_free(p.names);
    qn_jinja_destroy(t);
    return status;
}

void qn_jinja_destroy(qn_jinja *t)
{
    if (t != NULL) {
        qn_arena_deinit(&t->arena);
        qn_free(t->source);
        qn_free(t->name);
        qn_free(t);
    }
}

const char *qn_jinja_name(const qn_jinja *t) { return t->name; }

qn_jplace qn_jinja_locate(const qn_jinja *t, uint32_t pos)
{
    qn_jplace place = {1, 1};
    for (size_t i = 0; i < pos && i < t->len; i++) {
        if (t->source[i] == '\n') {
            place.line++;
            place.column = 1;
        } else {
            place.column += ((uint8_t)t->source[i] & 0xc0u) != 0x80u;
        }
    }
    return place;
}
