/* jinja_ast.h - the syntax tree of a template, and how its parts are made: lexer -> parser -> scope analysis.
 *
 * All nodes and strings live in the template's arena and are never written to after qn_jinja_parse has returned, so a
 * template may be rendered by many threads at once. Lists of nodes are chained through `next`.
 *
 * Variables. As Jinja2 compiles templates to Python functions, every name is bound at parse time to a slot of a
 * function's variables: the root, each macro, call block, block and recursive loop is a function; `up` counts the
 * functions between use and binding. A scope (qn_jscope) is a range of slots inside a function with instructions that
 * give them their first values when it is entered.
 */
#ifndef QN_TEXT_JINJA_AST_H
#define QN_TEXT_JINJA_AST_H

#include "base/alloc.h"
#include "text/jinja.h"
#include "text/jinja_string.h"

typedef struct qn_jnode qn_jnode;

typedef enum qn_jtoken_kind {
    QN_TOK_EOF,
    QN_TOK_DATA,
    QN_TOK_VARIABLE_BEGIN,
    QN_TOK_VARIABLE_END,
    QN_TOK_BLOCK_BEGIN,
    QN_TOK_BLOCK_END,
    QN_TOK_NAME,
    QN_TOK_STRING,
    QN_TOK_INTEGER,
    QN_TOK_FLOAT,
    QN_TOK_ADD,
    QN_TOK_SUB,
    QN_TOK_MUL,
    QN_TOK_DIV,
    QN_TOK_FLOORDIV,
    QN_TOK_MOD,
    QN_TOK_POW,
    QN_TOK_TILDE,
    QN_TOK_EQ,
    QN_TOK_NE,
    QN_TOK_LT,
    QN_TOK_LTEQ,
    QN_TOK_GT,
    QN_TOK_GTEQ,
    QN_TOK_LPAREN,
    QN_TOK_RPAREN,
    QN_TOK_LBRACKET,
    QN_TOK_RBRACKET,
    QN_TOK_LBRACE,
    QN_TOK_RBRACE,
    QN_TOK_ASSIGN,
    QN_TOK_DOT,
    QN_TOK_COLON,
    QN_TOK_PIPE,
    QN_TOK_COMMA,
    QN_TOK_SEMICOLON
} qn_jtoken_kind;

typedef struct qn_jtoken {
    qn_jtoken_kind kind;
    uint32_t pos;
    const char *text; /* data and names: inside the source; strings: the literal with its quotes */
    size_t len;
    int64_t integer;
    double real;
} qn_jtoken;

/* An interned identifier or literal; `binding` is used by the scope analysis only. */
typedef struct qn_jname {
    struct qn_jname *chain;
    qn_jstr *str;
    struct qn_jbinding *binding;
} qn_jname;

typedef enum qn_jnode_kind {
    /* expressions */
    QN_N_CONST,
    QN_N_NAME,
    QN_N_NSREF,
    QN_N_TUPLE,
    QN_N_LIST,
    QN_N_DICT,
    QN_N_PAIR,
    QN_N_CHAIN,
    QN_N_LINK,
    QN_N_AND,
    QN_N_OR,
    QN_N_NOT,
    QN_N_NEG,
    QN_N_POS,
    QN_N_COMPARE,
    QN_N_CONCAT,
    QN_N_COND,
    QN_N_GETATTR,
    QN_N_GETITEM,
    QN_N_SLICE,
    QN_N_CALL,
    QN_N_KEYWORD,
    QN_N_FILTER,
    QN_N_TEST,
    /* text of the template, only in output statements */
    QN_N_DATA,
    /* statements */
    QN_N_OUTPUT,
    QN_N_FOR,
    QN_N_IF,
    QN_N_SET,
    QN_N_SET_BLOCK,
    QN_N_MACRO,
    QN_N_CALL_BLOCK,
    QN_N_GENERATION,
    QN_N_FILTER_BLOCK,
    QN_N_WITH,
    QN_N_AUTOESCAPE,
    QN_N_BLOCK,
    QN_N_BREAK,
    QN_N_CONTINUE
} qn_jnode_kind;

typedef enum qn_jop {
    QN_OP_ADD,
    QN_OP_SUB,
    QN_OP_MUL,
    QN_OP_DIV,
    QN_OP_FLOORDIV,
    QN_OP_MOD,
    QN_OP_POW,
    QN_OP_EQ,
    QN_OP_NE,
    QN_OP_LT,
    QN_OP_LE,
    QN_OP_GT,
    QN_OP_GE,
    QN_OP_IN,
    QN_OP_NOT_IN
} qn_jop;

typedef enum qn_jname_use { QN_USE_LOAD, QN_USE_STORE, QN_USE_PARAM } qn_jname_use;

/* How a slot gets its value when its scope is entered. */
typedef enum qn_jload_kind { QN_LOAD_PARAM, QN_LOAD_RESOLVE, QN_LOAD_ALIAS, QN_LOAD_MISSING } qn_jload_kind;

typedef struct qn_jref { /* where a name's variable is */
    uint16_t up;
    uint32_t slot;
} qn_jref;

typedef struct qn_jload {
    qn_jload_kind kind;
    uint32_t slot;
    qn_jref source;       /* ALIAS */
    const qn_jname *name; /* RESOLVE: of the context */
    struct qn_jload *next;
} qn_jload;

typedef struct qn_jscope {
    uint32_t first_slot, n_slots;
    const qn_jload *loads;
} qn_jscope;

typedef struct qn_jfunction {
    uint32_t n_slots;
    uint16_t level; /* functions around this one */
    qn_jscope scope;
} qn_jfunction;

typedef struct qn_jargs_ast {
    qn_jnode *args, *keywords; /* keywords: QN_N_KEYWORD */
    uint32_t n_args, n_keywords;
    qn_jnode *star, *star_star;
} qn_jargs_ast;

/* What a macro or a call block takes. */
typedef struct qn_jsignature {
    qn_jnode *params;   /* QN_N_NAME */
    qn_jnode *defaults; /* for the last n_defaults of them */
    uint32_t n_params, n_defaults;
    bool takes_caller, takes_kwargs, takes_varargs; /* uses the special variable without declaring it */
    bool explicit_caller;
    qn_jref caller, kwargs, varargs;
} qn_jsignature;

struct qn_jblock_local { /* a variable that a scoped block can see */
    const qn_jname *name;
    qn_jref ref;
    struct qn_jblock_local *next;
};

struct qn_jnode {
    uint8_t kind; /* qn_jnode_kind */
    uint8_t op;   /* qn_jop of a link, qn_jname_use of a name */
    uint16_t height;
    uint32_t pos;
    bool toplevel; /* set, set block, macro: also sets a context variable */
    qn_jnode *next;
    union { /* nodes are allocated only as large as their kind needs */
        qn_jval constant;
        struct {
            qn_jname *name;
            qn_jref ref;
        } name;
        struct {
            qn_jname *name;
            qn_jstr *attribute;
            qn_jref ref;
        } nsref;
        struct {
            qn_jnode *items;
            uint32_t n;
        } list; /* tuple, list, dict (of pairs), concat, and, or, output */
        struct {
            qn_jnode *key, *value;
        } pair;
        struct {
            qn_jnode *first, *links;
        } chain; /* chain and compare; links are QN_N_LINK */
        struct {
            qn_jnode *operand;
        } unary; /* also link */
        struct {
            qn_jnode *test, *then, *otherwise;
        } cond;
        struct {
            qn_jnode *object;
            qn_jstr *attribute;
        } attr;
        struct {
            qn_jnode *object, *index;
        } item;
        struct {
            qn_jnode *start, *stop, *step;
        } slice;
        struct {
            qn_jnode *callee;
            qn_jargs_ast args;
        } call;
        struct {
            qn_jstr *name;
            qn_jnode *value;
        } keyword;
        struct { /* filter and test; the definition is NULL for an unknown name in a branch that may never run */
            qn_jnode *object;
            const qn_jbuiltin *definition;
            qn_jstr *name;
            qn_jargs_ast args;
        } apply;
        struct {
            qn_jnode *target, *iterable, *test, *body, *otherwise;
            const qn_jfunction *function; /* recursive loops */
            const qn_jfunction *test_function;
            qn_jscope scope, else_scope;
            qn_jref loop;
            bool recursive, uses_loop;
        } loop;
        struct {
            qn_jnode *test, *body, *elifs, *otherwise;
        } branch;
        struct {
            qn_jnode *target, *value;
        } set;
        struct {
            qn_jnode *target, *filter, *body;
            qn_jscope scope;
        } set_block;
        struct {
            qn_jname *name;
            qn_jref ref;
            qn_jsignature signature;
            qn_jnode *body, *call;
            const qn_jfunction *function;
        } macro;
        struct {
            qn_jnode *filter, *body;
            qn_jscope scope;
        } filter_block;
        struct {
            qn_jnode *targets, *values, *body;
            qn_jscope scope;
        } with;
        struct {
            qn_jnode *value, *body;
            qn_jscope scope;
        } autoescape;
        struct {
            qn_jname *name;
            qn_jnode *body, *next_block;
            const qn_jfunction *function;
            struct qn_jblock_local *locals;
            qn_jref self;
            bool scoped, required, uses_self;
        } block;
    } u;
};

/* Deepest syntax: parentheses, brackets, operators and blocks inside each other. */
#define QN_JINJA_SYNTAX_DEPTH 200
/* Most parameters of a macro, keywords of a call and blocks of a template: each new one is compared with all before. */
#define QN_JINJA_NAMES_MAX 1000
/* Largest template source in bytes; the longest published one has 40 thousand. */
#define QN_JINJA_SOURCE_MAX ((size_t)1 << 20)

struct qn_jinja {
    char *name;
    char *source; /* with \n line ends and without one last newline */
    size_t len;
    qn_arena arena;
    qn_jnode *body;
    qn_jnode *blocks;
    const qn_jfunction *root;
    qn_jref self;
    bool uses_self;
    qn_jstr *caller_name; /* "caller" */
};

typedef struct qn_jplace {
    uint32_t line, column; /* from 1; columns in characters */
} qn_jplace;
qn_jplace qn_jinja_locate(const qn_jinja *t, uint32_t pos);

/* ---- lexer (jinja_lex.c) ---- */

typedef struct qn_jlexer {
    const qn_jinja *template_;
    quern_error *err;
    size_t at;
    enum { QN_LEX_ROOT, QN_LEX_BLOCK, QN_LEX_VARIABLE } state;
    bool line_starting;                       /* the last token ended with a newline */
    char brackets[QN_JINJA_SYNTAX_DEPTH + 8]; /* closing brackets that are expected, innermost last */
    size_t n_brackets;
} qn_jlexer;

void qn_jlexer_init(qn_jlexer *lexer, const qn_jinja *template_, quern_error *err);
quern_status qn_jlexer_next(qn_jlexer *lexer, qn_jtoken *token);
/* Decodes the escapes of a string token into out. */
quern_status qn_jlexer_unescape(const qn_jlexer *lexer, const qn_jtoken *token, qn_buf *out);
/* A syntax error at a place of the source; returns QUERN_ERROR_INVALID. */
quern_status qn_jinja_syntax_error(const qn_jinja *t, uint32_t pos, quern_error *err, const char *format, ...) QN_PRINTF(4, 5);
/* "begin of print statement", "name", "%": what Jinja calls a kind of token. */
const char *qn_jtoken_describe(qn_jtoken_kind kind);

/* ---- parser (jinja_parse.c: statements; jinja_parse_expr.c: expressions) ---- */

enum { QN_JNAME_BUCKETS = 1024 };

/* The tags that may end the bodies which are being parsed, innermost first; only for messages. */
typedef struct qn_jend_tags {
    const struct qn_jend_tags *outer;
    const char *const *names; /* NULL-terminated */
    const qn_jtoken *tag;     /* that opened the body */
} qn_jend_tags;

typedef struct qn_jparser {
    qn_jinja *template_;
    quern_error *err;
    qn_jlexer lexer;
    qn_jtoken current, ahead;
    bool has_ahead;
    uint32_t depth;
    uint32_t loops; /* loops around in the same function: break and continue are allowed */
    uint32_t n_blocks;
    const qn_jend_tags *end_tags;
    const qn_jtoken *tag; /* of the statement that is being parsed */
    qn_jname **names;     /* buckets */
} qn_jparser;

quern_status qn_jparser_advance(qn_jparser *p);
quern_status qn_jparser_peek(qn_jparser *p, const qn_jtoken **token);
bool qn_jparser_at_name(const qn_jparser *p, const char *name);
quern_status qn_jparser_expect(qn_jparser *p, qn_jtoken_kind kind);
quern_status qn_jparser_expect_name(qn_jparser *p, const char *name); /* NULL: any */
quern_status qn_jparser_fail(qn_jparser *p, uint32_t pos, const char *format, ...) QN_PRINTF(3, 4);
quern_status qn_jparser_unexpected(qn_jparser *p, const char *expected);
quern_status qn_jparser_node(qn_jparser *p, qn_jnode_kind kind, uint32_t pos, qn_jnode **out);
quern_status qn_jparser_intern(qn_jparser *p, const char *text, size_t len, qn_jname **out);
/* A constant string in the template's arena. */
quern_status qn_jparser_string(qn_jparser *p, const char *text, size_t len, qn_jstr **out);
quern_status qn_jparser_alloc(qn_jparser *p, size_t bytes, void *out); /* out: T **; zeroed */
/* Notes that `child` hangs below `parent`; fails if the tree becomes too high. */
quern_status qn_jparser_raise(qn_jparser *p, qn_jnode *parent, const qn_jnode *child);
quern_status qn_jparser_descend(qn_jparser *p); /* one recursion deeper; p->depth-- on the way out */

/* expressions; with_condexpr: `a if b else c` is allowed */
quern_status qn_jparse_expression(qn_jparser *p, bool with_condexpr, qn_jnode **out);
typedef enum qn_jtuple_mode { QN_TUPLE_PLAIN, QN_TUPLE_NO_COND, QN_TUPLE_PARENTHESES, QN_TUPLE_TARGET } qn_jtuple_mode;
/* end_name: a name that ends the tuple, or NULL. */
quern_status qn_jparse_tuple(qn_jparser *p, qn_jtuple_mode mode, bool with_namespace, const char *end_name, qn_jnode **out);
quern_status qn_jparse_call_args(qn_jparser *p, qn_jargs_ast *args, qn_jnode *owner);
/* `object|f(..)|g`; start_inline: the first name follows without a pipe. *out may be NULL when there is no filter. */
quern_status qn_jparse_filters(qn_jparser *p, qn_jnode *object, bool start_inline, qn_jnode **out);

/* ---- scope analysis (jinja_scope.c) ---- */

quern_status qn_jscope_analyze(qn_jparser *p);

#endif
