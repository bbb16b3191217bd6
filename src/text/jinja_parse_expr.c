/* jinja_parse_expr.c - expressions, in the precedence of Jinja2's parser:
 * conditional, or, and, not, comparison, + -, ~, * / // %, **, unary, postfix, filters and tests.
 *
 * Operators of one level are kept as a flat chain, so that a long sum is not a deep tree; what is deep is refused.
 */
#include <string.h>

#include "text/jinja_ast.h"

/* Appends to a list that is chained through `next`. */
typedef struct node_list {
    qn_jnode *first, *last;
    uint32_t n;
} node_list;

static void push(node_list *list, qn_jnode *node)
{
    if (list->last == NULL) {
        list->first = node;
    } else {
        list->last->next = node;
    }
    list->last = node;
    list->n++;
}

static quern_status parse_unary(qn_jparser *p, bool with_filter, qn_jnode **out);

typedef struct level {
    quern_status (*operand)(qn_jparser *p, qn_jnode **out);
    qn_jop (*match)(qn_jtoken_kind kind, bool *found);
} level;

/* operand (op operand)* as one QN_N_CHAIN, or the operand alone. */
static quern_status parse_chain(qn_jparser *p, const level *l, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    qn_jnode *first, *chain = NULL;
    node_list links = {0};
    QN_TRY(l->operand(p, &first));
    for (;;) {
        bool found = false;
        qn_jop op = l->match(p->current.kind, &found);
        if (!found) {
            break;
        }
        if (chain == NULL) {
            QN_TRY(qn_jparser_node(p, QN_N_CHAIN, pos, &chain));
            chain->u.chain.first = first;
            QN_TRY(qn_jparser_raise(p, chain, first));
        }
        qn_jnode *link, *operand;
        QN_TRY(qn_jparser_node(p, QN_N_LINK, p->current.pos, &link));
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(l->operand(p, &operand));
        link->op = (uint8_t)op;
        link->u.unary.operand = operand;
        QN_TRY(qn_jparser_raise(p, chain, operand));
        push(&links, link);
    }
    if (chain != NULL) {
        chain->u.chain.links = links.first;
    }
    *out = chain != NULL ? chain : first;
done:
    return status;
}

static qn_jop match_pow(qn_jtoken_kind kind, bool *found)
{
    *found = kind == QN_TOK_POW;
    return QN_OP_POW;
}

static qn_jop match_math2(qn_jtoken_kind kind, bool *found)
{
    *found = kind == QN_TOK_MUL || kind == QN_TOK_DIV || kind == QN_TOK_FLOORDIV || kind == QN_TOK_MOD;
    return kind == QN_TOK_MUL ? QN_OP_MUL : kind == QN_TOK_DIV ? QN_OP_DIV : kind == QN_TOK_FLOORDIV ? QN_OP_FLOORDIV : QN_OP_MOD;
}

static qn_jop match_math1(qn_jtoken_kind kind, bool *found)
{
    *found = kind == QN_TOK_ADD || kind == QN_TOK_SUB;
    return kind == QN_TOK_ADD ? QN_OP_ADD : QN_OP_SUB;
}

static quern_status parse_operand(qn_jparser *p, qn_jnode **out) { return parse_unary(p, true, out); }
static quern_status parse_pow(qn_jparser *p, qn_jnode **out) { return parse_chain(p, &(level){parse_operand, match_pow}, out); }
static quern_status parse_math2(qn_jparser *p, qn_jnode **out) { return parse_chain(p, &(level){parse_pow, match_math2}, out); }

/* A flat list of operands between which `more` finds (and skips) an operator. */
static quern_status parse_flat(qn_jparser *p, qn_jnode_kind kind, quern_status (*operand)(qn_jparser *, qn_jnode **),
                               qn_jtoken_kind separator, const char *word, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    qn_jnode *node, *flat = NULL;
    node_list items = {0};
    QN_TRY(operand(p, &node));
    *out = node;
    while (word != NULL ? qn_jparser_at_name(p, word) : p->current.kind == separator) {
        if (flat == NULL) {
            QN_TRY(qn_jparser_node(p, kind, pos, &flat));
            QN_TRY(qn_jparser_raise(p, flat, node));
            push(&items, node);
        }
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(operand(p, &node));
        QN_TRY(qn_jparser_raise(p, flat, node));
        push(&items, node);
    }
    if (flat != NULL) {
        flat->u.list.items = items.first;
        flat->u.list.n = items.n;
        *out = flat;
    }
done:
    return status;
}

static quern_status parse_concat(qn_jparser *p, qn_jnode **out) { return parse_flat(p, QN_N_CONCAT, parse_math2, QN_TOK_TILDE, NULL, out); }
static quern_status parse_math1(qn_jparser *p, qn_jnode **out) { return parse_chain(p, &(level){parse_concat, match_math1}, out); }

/* Skips a comparison operator if there is one. */
static quern_status match_comparison(qn_jparser *p, bool *found, qn_jop *op)
{
    static const struct {
        qn_jtoken_kind kind;
        qn_jop op;
    } TABLE[] = {
        {QN_TOK_EQ, QN_OP_EQ},   {QN_TOK_NE, QN_OP_NE}, {QN_TOK_LT, QN_OP_LT},
        {QN_TOK_LTEQ, QN_OP_LE}, {QN_TOK_GT, QN_OP_GT}, {QN_TOK_GTEQ, QN_OP_GE},
    };
    quern_status status = QUERN_OK;
    *found = false;
    for (size_t i = 0; i < sizeof TABLE / sizeof TABLE[0]; i++) {
        if (p->current.kind == TABLE[i].kind) {
            *found = true;
            *op = TABLE[i].op;
        }
    }
    if (!*found && qn_jparser_at_name(p, "in")) {
        *found = true;
        *op = QN_OP_IN;
    } else if (!*found && qn_jparser_at_name(p, "not")) {
        const qn_jtoken *ahead;
        QN_TRY(qn_jparser_peek(p, &ahead));
        if (ahead->kind != QN_TOK_NAME || ahead->len != 2 || memcmp(ahead->text, "in", 2) != 0) {
            goto done;
        }
        *found = true;
        *op = QN_OP_NOT_IN;
        QN_TRY(qn_jparser_advance(p));
    }
    if (*found) {
        QN_TRY(qn_jparser_advance(p));
    }
done:
    return status;
}

static quern_status parse_compare(qn_jparser *p, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    qn_jnode *first, *chain = NULL;
    node_list links = {0};
    QN_TRY(parse_math1(p, &first));
    for (;;) {
        bool found;
        qn_jop op = QN_OP_EQ;
        uint32_t link_pos = p->current.pos;
        QN_TRY(match_comparison(p, &found, &op));
        if (!found) {
            break;
        }
        if (chain == NULL) {
            QN_TRY(qn_jparser_node(p, QN_N_COMPARE, pos, &chain));
            chain->u.chain.first = first;
            QN_TRY(qn_jparser_raise(p, chain, first));
        }
        qn_jnode *link, *operand;
        QN_TRY(qn_jparser_node(p, QN_N_LINK, link_pos, &link));
        QN_TRY(parse_math1(p, &operand));
        link->op = (uint8_t)op;
        link->u.unary.operand = operand;
        QN_TRY(qn_jparser_raise(p, chain, operand));
        push(&links, link);
    }
    if (chain != NULL) {
        chain->u.chain.links = links.first;
    }
    *out = chain != NULL ? chain : first;
done:
    return status;
}

static quern_status parse_not(qn_jparser *p, qn_jnode **out)
{
    if (!qn_jparser_at_name(p, "not")) {
        return parse_compare(p, out);
    }
    quern_status status = QUERN_OK;
    qn_jnode *operand;
    QN_TRY(qn_jparser_node(p, QN_N_NOT, p->current.pos, out));
    QN_TRY(qn_jparser_advance(p));
    QN_TRY(qn_jparser_descend(p));
    QN_TRY(parse_not(p, &operand));
    p->depth--;
    (*out)->u.unary.operand = operand;
    QN_TRY(qn_jparser_raise(p, *out, operand));
done:
    return status;
}

static quern_status parse_and(qn_jparser *p, qn_jnode **out) { return parse_flat(p, QN_N_AND, parse_not, QN_TOK_EOF, "and", out); }
static quern_status parse_or(qn_jparser *p, qn_jnode **out) { return parse_flat(p, QN_N_OR, parse_and, QN_TOK_EOF, "or", out); }

quern_status qn_jparse_expression(qn_jparser *p, bool with_condexpr, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_jparser_descend(p));
    QN_TRY(parse_or(p, out));
    while (with_condexpr && qn_jparser_at_name(p, "if")) {
        qn_jnode *cond;
        QN_TRY(qn_jparser_node(p, QN_N_COND, (*out)->pos, &cond));
        QN_TRY(qn_jparser_advance(p));
        cond->u.cond.then = *out;
        QN_TRY(qn_jparser_raise(p, cond, *out));
        QN_TRY(parse_or(p, &cond->u.cond.test));
        QN_TRY(qn_jparser_raise(p, cond, cond->u.cond.test));
        if (qn_jparser_at_name(p, "else")) {
            QN_TRY(qn_jparser_advance(p));
            QN_TRY(qn_jparse_expression(p, true, &cond->u.cond.otherwise));
            QN_TRY(qn_jparser_raise(p, cond, cond->u.cond.otherwise));
        }
        *out = cond;
    }
    p->depth--;
done:
    return status;
}

/* ---- primary expressions ---- */

static quern_status constant(qn_jparser *p, qn_jval value, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_jparser_node(p, QN_N_CONST, p->current.pos, out));
    (*out)->u.constant = value;
    QN_TRY(qn_jparser_advance(p));
done:
    return status;
}

/* String literals that follow each other are one. */
static quern_status parse_strings(qn_jparser *p, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, QN_JINJA_SOURCE_MAX * 4);
    qn_jname *name;
    QN_TRY(qn_jparser_node(p, QN_N_CONST, p->current.pos, out));
    while (p->current.kind == QN_TOK_STRING) {
        QN_TRY(qn_jlexer_unescape(&p->lexer, &p->current, &text));
        QN_TRY(qn_jparser_advance(p));
    }
    QN_TRY(qn_jparser_intern(p, qn_buf_text(&text), text.len, &name));
    (*out)->u.constant = (qn_jval){.kind = QN_JV_STRING, .u.str = name->str};
done:
    qn_buf_deinit(&text);
    return status;
}

static quern_status parse_list(qn_jparser *p, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    node_list items = {0};
    QN_TRY(qn_jparser_node(p, QN_N_LIST, p->current.pos, out));
    QN_TRY(qn_jparser_advance(p));
    while (p->current.kind != QN_TOK_RBRACKET) {
        if (items.n > 0) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        if (p->current.kind == QN_TOK_RBRACKET) {
            break;
        }
        qn_jnode *item;
        QN_TRY(qn_jparse_expression(p, true, &item));
        QN_TRY(qn_jparser_raise(p, *out, item));
        push(&items, item);
    }
    QN_TRY(qn_jparser_advance(p));
    (*out)->u.list.items = items.first;
    (*out)->u.list.n = items.n;
done:
    return status;
}

static quern_status parse_dict(qn_jparser *p, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    node_list pairs = {0};
    QN_TRY(qn_jparser_node(p, QN_N_DICT, p->current.pos, out));
    QN_TRY(qn_jparser_advance(p));
    while (p->current.kind != QN_TOK_RBRACE) {
        if (pairs.n > 0) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        if (p->current.kind == QN_TOK_RBRACE) {
            break;
        }
        qn_jnode *pair;
        QN_TRY(qn_jparser_node(p, QN_N_PAIR, p->current.pos, &pair));
        QN_TRY(qn_jparse_expression(p, true, &pair->u.pair.key));
        QN_TRY(qn_jparser_expect(p, QN_TOK_COLON));
        QN_TRY(qn_jparse_expression(p, true, &pair->u.pair.value));
        QN_TRY(qn_jparser_raise(p, *out, pair->u.pair.key));
        QN_TRY(qn_jparser_raise(p, *out, pair->u.pair.value));
        push(&pairs, pair);
    }
    QN_TRY(qn_jparser_advance(p));
    (*out)->u.list.items = pairs.first;
    (*out)->u.list.n = pairs.n;
done:
    return status;
}

/* A name, one of the constants' names, or (in targets) `namespace.attribute`. */
static quern_status parse_name(qn_jparser *p, bool with_namespace, qn_jnode **out)
{
    static const struct {
        const char *name;
        uint8_t kind;
        bool value;
    } CONSTANTS[] = {
        {"true", QN_JV_BOOL, true},   {"True", QN_JV_BOOL, true},  {"false", QN_JV_BOOL, false},
        {"False", QN_JV_BOOL, false}, {"none", QN_JV_NONE, false}, {"None", QN_JV_NONE, false},
    };
    for (size_t i = 0; i < sizeof CONSTANTS / sizeof CONSTANTS[0]; i++) {
        if (qn_jparser_at_name(p, CONSTANTS[i].name)) {
            return constant(p, (qn_jval){.kind = CONSTANTS[i].kind, .u.b = CONSTANTS[i].value}, out);
        }
    }
    quern_status status = QUERN_OK;
    qn_jname *name, *attribute;
    uint32_t pos = p->current.pos;
    QN_TRY(qn_jparser_intern(p, p->current.text, p->current.len, &name));
    QN_TRY(qn_jparser_advance(p));
    if (with_namespace && p->current.kind == QN_TOK_DOT) {
        QN_TRY(qn_jparser_advance(p));
        if (p->current.kind != QN_TOK_NAME) {
            QN_TRY(qn_jparser_unexpected(p, "name"));
        }
        QN_TRY(qn_jparser_intern(p, p->current.text, p->current.len, &attribute));
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparser_node(p, QN_N_NSREF, pos, out));
        (*out)->u.nsref.name = name;
        (*out)->u.nsref.attribute = attribute->str;
    } else {
        QN_TRY(qn_jparser_node(p, QN_N_NAME, pos, out));
        (*out)->u.name.name = name;
    }
done:
    return status;
}

static quern_status parse_primary(qn_jparser *p, bool with_namespace, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    switch (p->current.kind) {
    case QN_TOK_NAME: return parse_name(p, with_namespace, out);
    case QN_TOK_STRING: return parse_strings(p, out);
    case QN_TOK_INTEGER: return constant(p, qn_jint(p->current.integer), out);
    case QN_TOK_FLOAT: return constant(p, qn_jfloat(p->current.real), out);
    case QN_TOK_LBRACKET: return parse_list(p, out);
    case QN_TOK_LBRACE: return parse_dict(p, out);
    case QN_TOK_LPAREN:
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparse_tuple(p, QN_TUPLE_PARENTHESES, false, NULL, out));
        QN_TRY(qn_jparser_expect(p, QN_TOK_RPAREN));
        break;
    default: return qn_jparser_unexpected(p, NULL);
    }
done:
    return status;
}

quern_status qn_jparse_tuple(qn_jparser *p, qn_jtuple_mode mode, bool with_namespace, const char *end_name, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    node_list items = {0};
    bool is_tuple = false;
    for (;;) {
        if (items.n > 0) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        qn_jtoken_kind kind = p->current.kind;
        if (kind == QN_TOK_VARIABLE_END || kind == QN_TOK_BLOCK_END || kind == QN_TOK_RPAREN ||
            (end_name != NULL && qn_jparser_at_name(p, end_name))) {
            break;
        }
        qn_jnode *item;
        if (mode == QN_TUPLE_TARGET) {
            QN_TRY(parse_primary(p, with_namespace, &item));
        } else {
            QN_TRY(qn_jparse_expression(p, mode != QN_TUPLE_NO_COND, &item));
        }
        push(&items, item);
        if (p->current.kind != QN_TOK_COMMA) {
            break;
        }
        is_tuple = true;
    }
    if (!is_tuple && items.n > 0) {
        *out = items.first;
        goto done;
    }
    if (!is_tuple && mode != QN_TUPLE_PARENTHESES) {
        QN_TRY(qn_jparser_fail(p, p->current.pos, "Expected an expression, got '%s'", qn_jtoken_describe(p->current.kind)));
    }
    QN_TRY(qn_jparser_node(p, QN_N_TUPLE, pos, out));
    for (const qn_jnode *item = items.first; item != NULL; item = item->next) {
        QN_TRY(qn_jparser_raise(p, *out, item));
    }
    (*out)->u.list.items = items.first;
    (*out)->u.list.n = items.n;
done:
    return status;
}

/* ---- calls, subscripts, filters, tests ---- */

static quern_status parse_keyword(qn_jparser *p, qn_jargs_ast *args, node_list *keywords, qn_jnode *owner)
{
    quern_status status = QUERN_OK;
    qn_jnode *keyword;
    qn_jname *name;
    if (args->n_keywords >= QN_JINJA_NAMES_MAX) {
        QN_TRY(qn_jparser_fail(p, p->current.pos, "a call has more than %d keyword arguments", QN_JINJA_NAMES_MAX));
    }
    QN_TRY(qn_jparser_node(p, QN_N_KEYWORD, p->current.pos, &keyword));
    QN_TRY(qn_jparser_intern(p, p->current.text, p->current.len, &name));
    for (const qn_jnode *k = args->keywords; k != NULL; k = k->next) {
        if (k->u.keyword.name == name->str) {
            QN_TRY(qn_jparser_fail(p, p->current.pos, "keyword argument repeated: %s", name->str->data));
        }
    }
    QN_TRY(qn_jparser_advance(p));
    QN_TRY(qn_jparser_advance(p));
    keyword->u.keyword.name = name->str;
    QN_TRY(qn_jparse_expression(p, true, &keyword->u.keyword.value));
    QN_TRY(qn_jparser_raise(p, owner, keyword->u.keyword.value));
    push(keywords, keyword);
    args->keywords = keywords->first;
    args->n_keywords = keywords->n;
done:
    return status;
}

static quern_status parse_argument(qn_jparser *p, qn_jargs_ast *args, node_list *positional, node_list *keywords, qn_jnode *owner)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    qn_jtoken_kind kind = p->current.kind;
    bool allowed = args->star_star == NULL;
    if (kind == QN_TOK_MUL || kind == QN_TOK_POW) {
        qn_jnode **slot = kind == QN_TOK_MUL ? &args->star : &args->star_star;
        allowed = allowed && *slot == NULL;
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparse_expression(p, true, slot));
        QN_TRY(qn_jparser_raise(p, owner, *slot));
    } else {
        const qn_jtoken *ahead = &p->current;
        if (kind == QN_TOK_NAME) {
            QN_TRY(qn_jparser_peek(p, &ahead));
        }
        if (kind == QN_TOK_NAME && ahead->kind == QN_TOK_ASSIGN) {
            QN_TRY(parse_keyword(p, args, keywords, owner));
        } else {
            qn_jnode *arg;
            allowed = allowed && args->star == NULL && keywords->n == 0;
            QN_TRY(qn_jparse_expression(p, true, &arg));
            QN_TRY(qn_jparser_raise(p, owner, arg));
            push(positional, arg);
        }
    }
    if (!allowed) {
        QN_TRY(qn_jparser_fail(p, pos, "invalid syntax for function call expression"));
    }
done:
    return status;
}

quern_status qn_jparse_call_args(qn_jparser *p, qn_jargs_ast *args, qn_jnode *owner)
{
    quern_status status = QUERN_OK;
    node_list positional = {0}, keywords = {0};
    bool comma = false;
    QN_TRY(qn_jparser_expect(p, QN_TOK_LPAREN));
    while (p->current.kind != QN_TOK_RPAREN) {
        if (comma) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
            if (p->current.kind == QN_TOK_RPAREN) {
                break;
            }
        }
        QN_TRY(parse_argument(p, args, &positional, &keywords, owner));
        comma = true;
    }
    QN_TRY(qn_jparser_expect(p, QN_TOK_RPAREN));
    args->args = positional.first;
    args->n_args = positional.n;
done:
    return status;
}

static quern_status parse_call(qn_jparser *p, qn_jnode *callee, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_jparser_node(p, QN_N_CALL, p->current.pos, out));
    (*out)->u.call.callee = callee;
    QN_TRY(qn_jparser_raise(p, *out, callee));
    QN_TRY(qn_jparse_call_args(p, &(*out)->u.call.args, *out));
done:
    return status;
}

/* One part of a slice: an expression, or nothing before `:`, `]` and `,`. */
static quern_status parse_slice_part(qn_jparser *p, qn_jnode *slice, qn_jnode **part)
{
    quern_status status = QUERN_OK;
    qn_jtoken_kind kind = p->current.kind;
    if (kind != QN_TOK_COLON && kind != QN_TOK_RBRACKET && kind != QN_TOK_COMMA) {
        QN_TRY(qn_jparse_expression(p, true, part));
        QN_TRY(qn_jparser_raise(p, slice, *part));
    }
done:
    return status;
}

static quern_status parse_subscribed(qn_jparser *p, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    qn_jnode *start = NULL, *slice;
    if (p->current.kind != QN_TOK_COLON) {
        QN_TRY(qn_jparse_expression(p, true, &start));
        if (p->current.kind != QN_TOK_COLON) {
            *out = start;
            goto done;
        }
    }
    QN_TRY(qn_jparser_node(p, QN_N_SLICE, pos, &slice));
    slice->u.slice.start = start;
    if (start != NULL) {
        QN_TRY(qn_jparser_raise(p, slice, start));
    }
    QN_TRY(qn_jparser_advance(p));
    QN_TRY(parse_slice_part(p, slice, &slice->u.slice.stop));
    if (p->current.kind == QN_TOK_COLON) {
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(parse_slice_part(p, slice, &slice->u.slice.step));
    }
    *out = slice;
done:
    return status;
}

static quern_status parse_dot(qn_jparser *p, qn_jnode *object, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    uint32_t pos = p->current.pos;
    QN_TRY(qn_jparser_advance(p));
    if (p->current.kind == QN_TOK_NAME) {
        qn_jname *name;
        QN_TRY(qn_jparser_intern(p, p->current.text, p->current.len, &name));
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparser_node(p, QN_N_GETATTR, pos, out));
        (*out)->u.attr.object = object;
        (*out)->u.attr.attribute = name->str;
    } else if (p->current.kind == QN_TOK_INTEGER) {
        qn_jnode *index;
        QN_TRY(constant(p, qn_jint(p->current.integer), &index));
        QN_TRY(qn_jparser_node(p, QN_N_GETITEM, pos, out));
        (*out)->u.item.object = object;
        (*out)->u.item.index = index;
    } else {
        QN_TRY(qn_jparser_fail(p, p->current.pos, "expected name or number"));
    }
    QN_TRY(qn_jparser_raise(p, *out, object));
done:
    return status;
}

static quern_status parse_brackets(qn_jparser *p, qn_jnode *object, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    node_list args = {0};
    qn_jnode *arg = NULL;
    QN_TRY(qn_jparser_node(p, QN_N_GETITEM, p->current.pos, out));
    uint32_t pos = p->current.pos;
    QN_TRY(qn_jparser_advance(p));
    while (p->current.kind != QN_TOK_RBRACKET) {
        if (args.n > 0) {
            QN_TRY(qn_jparser_expect(p, QN_TOK_COMMA));
        }
        QN_TRY(parse_subscribed(p, &arg));
        if (arg->kind == QN_N_SLICE && (args.n > 0 || p->current.kind == QN_TOK_COMMA)) {
            QN_TRY(qn_jparser_fail(p, arg->pos, "a slice cannot be part of a tuple"));
        }
        push(&args, arg);
    }
    QN_TRY(qn_jparser_advance(p));
    if (args.n != 1) {
        QN_TRY(qn_jparser_node(p, QN_N_TUPLE, pos, &arg));
        arg->u.list.items = args.first;
        arg->u.list.n = args.n;
        for (const qn_jnode *item = args.first; item != NULL; item = item->next) {
            QN_TRY(qn_jparser_raise(p, arg, item));
        }
    }
    (*out)->u.item.object = object;
    (*out)->u.item.index = arg;
    QN_TRY(qn_jparser_raise(p, *out, object));
    QN_TRY(qn_jparser_raise(p, *out, arg));
done:
    return status;
}

static quern_status parse_postfix(qn_jparser *p, qn_jnode **node)
{
    quern_status status = QUERN_OK;
    for (;;) {
        qn_jnode *next;
        if (p->current.kind == QN_TOK_DOT) {
            QN_TRY(parse_dot(p, *node, &next));
        } else if (p->current.kind == QN_TOK_LBRACKET) {
            QN_TRY(parse_brackets(p, *node, &next));
        } else if (p->current.kind == QN_TOK_LPAREN) {
            QN_TRY(parse_call(p, *node, &next));
        } else {
            break;
        }
        *node = next;
    }
done:
    return status;
}

/* The name of a filter or test; dots may be part of it. */
static quern_status parse_dotted_name(qn_jparser *p, qn_jstr **out)
{
    quern_status status = QUERN_OK;
    qn_buf text;
    qn_buf_init(&text, QN_JINJA_SOURCE_MAX);
    qn_jname *name;
    for (;;) {
        if (p->current.kind != QN_TOK_NAME) {
            QN_TRY(qn_jparser_unexpected(p, "name"));
        }
        if (!qn_buf_append(&text, p->current.text, p->current.len)) {
            QN_FAIL(p->err, QUERN_ERROR_MEMORY, "%s: out of memory", p->template_->name);
        }
        QN_TRY(qn_jparser_advance(p));
        if (p->current.kind != QN_TOK_DOT) {
            break;
        }
        (void)qn_buf_append_char(&text, '.');
        QN_TRY(qn_jparser_advance(p));
    }
    QN_TRY(qn_jparser_intern(p, qn_buf_text(&text), text.len, &name));
    *out = name->str;
done:
    qn_buf_deinit(&text);
    return status;
}

quern_status qn_jparse_filters(qn_jparser *p, qn_jnode *object, bool start_inline, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    while (p->current.kind == QN_TOK_PIPE || start_inline) {
        qn_jnode *filter;
        if (!start_inline) {
            QN_TRY(qn_jparser_advance(p));
        }
        start_inline = false;
        QN_TRY(qn_jparser_node(p, QN_N_FILTER, p->current.pos, &filter));
        QN_TRY(parse_dotted_name(p, &filter->u.apply.name));
        filter->u.apply.object = object;
        if (object != NULL) {
            QN_TRY(qn_jparser_raise(p, filter, object));
        }
        if (p->current.kind == QN_TOK_LPAREN) {
            QN_TRY(qn_jparse_call_args(p, &filter->u.apply.args, filter));
        }
        object = filter;
    }
    *out = object;
done:
    return status;
}

/* The argument of a test without parentheses: `is divisibleby 3`. */
static quern_status parse_test_argument(qn_jparser *p, qn_jnode *test)
{
    quern_status status = QUERN_OK;
    switch (p->current.kind) {
    case QN_TOK_NAME:
    case QN_TOK_STRING:
    case QN_TOK_INTEGER:
    case QN_TOK_FLOAT:
    case QN_TOK_LBRACKET:
    case QN_TOK_LBRACE: break;
    default: return QUERN_OK;
    }
    if (qn_jparser_at_name(p, "else") || qn_jparser_at_name(p, "or") || qn_jparser_at_name(p, "and")) {
        return QUERN_OK;
    }
    if (qn_jparser_at_name(p, "is")) {
        QN_TRY(qn_jparser_fail(p, p->current.pos, "You cannot chain multiple tests with is"));
    }
    QN_TRY(parse_primary(p, false, &test->u.apply.args.args));
    QN_TRY(parse_postfix(p, &test->u.apply.args.args));
    QN_TRY(qn_jparser_raise(p, test, test->u.apply.args.args));
    test->u.apply.args.n_args = 1;
done:
    return status;
}

static quern_status parse_test(qn_jparser *p, qn_jnode *object, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    qn_jnode *test;
    uint32_t pos = p->current.pos;
    QN_TRY(qn_jparser_node(p, QN_N_TEST, pos, &test));
    QN_TRY(qn_jparser_advance(p));
    bool negated = qn_jparser_at_name(p, "not");
    if (negated) {
        QN_TRY(qn_jparser_advance(p));
    }
    QN_TRY(parse_dotted_name(p, &test->u.apply.name));
    test->u.apply.object = object;
    QN_TRY(qn_jparser_raise(p, test, object));
    if (p->current.kind == QN_TOK_LPAREN) {
        QN_TRY(qn_jparse_call_args(p, &test->u.apply.args, test));
    } else {
        QN_TRY(parse_test_argument(p, test));
    }
    *out = test;
    if (negated) {
        QN_TRY(qn_jparser_node(p, QN_N_NOT, pos, out));
        (*out)->u.unary.operand = test;
        QN_TRY(qn_jparser_raise(p, *out, test));
    }
done:
    return status;
}

static quern_status parse_unary(qn_jparser *p, bool with_filter, qn_jnode **out)
{
    quern_status status = QUERN_OK;
    qn_jtoken_kind kind = p->current.kind;
    if (kind == QN_TOK_SUB || kind == QN_TOK_ADD) {
        qn_jnode *operand;
        QN_TRY(qn_jparser_node(p, kind == QN_TOK_SUB ? QN_N_NEG : QN_N_POS, p->current.pos, out));
        QN_TRY(qn_jparser_advance(p));
        QN_TRY(qn_jparser_descend(p));
        QN_TRY(parse_unary(p, false, &operand));
        p->depth--;
        (*out)->u.unary.operand = operand;
        QN_TRY(qn_jparser_raise(p, *out, operand));
    } else {
        QN_TRY(parse_primary(p, false, out));
    }
    QN_TRY(parse_postfix(p, out));
    while (with_filter) {
        qn_jnode *next;
        if (p->current.kind == QN_TOK_PIPE) {
            QN_TRY(qn_jparse_filters(p, *out, false, &next));
        } else if (qn_jparser_at_name(p, "is")) {
            QN_TRY(parse_test(p, *out, &next));
        } else if (p->current.kind == QN_TOK_LPAREN) {
            QN_TRY(parse_call(p, *out, &next));
        } else {
            break;
        }
        *out = next;
    }
done:
    return status;
}
