/* mix.c - see mix.h. */
#include "quantize/mix.h"

#include <math.h>

#include "quantize/allocate.h"
#include "quantize/sensitivity.h"

enum { FORMS_MAX = 7 };

/* GGUF's types from small to large, and the one that is probed: coarse enough to be heard, not so coarse that the model breaks. */
static const qn_dtype gguf_types[FORMS_MAX] = {QN_DTYPE_Q2_K, QN_DTYPE_Q3_K, QN_DTYPE_IQ4_XS, QN_DTYPE_Q4_K,
                                               QN_DTYPE_Q5_K, QN_DTYPE_Q6_K, QN_DTYPE_Q8_0};
static const uint32_t mlx_bits[] = {2, 3, 4, 5, 6, 8};
enum { N_MLX = sizeof mlx_bits / sizeof mlx_bits[0], PROBED = 1 };

/* Up to this many parameters every matrix is probed alone. */
static const uint64_t alone_parameters = 500000000;

/* What is chosen from, one entry a piece that has a choice. */
typedef struct choice {
    const qn_job *job;
    qn_output *output;
    size_t n_forms, n_items;
    size_t *items; /* (n_items): pieces */
    size_t *group; /* (n_pieces) */
    size_t n_groups;
    qn_stored_form *forms;    /* (n_pieces, n_forms) */
    qn_stored_form *probe;    /* (n_pieces) */
    double *errors;           /* (n_items, n_forms) */
    double *divergence;       /* (n_groups) */
    qn_candidate *candidates; /* (n_items, n_forms) */
    size_t *chosen;           /* (n_items) */
    uint64_t fixed_bytes;     /* of pieces without a choice */
} choice;

static qn_stored_form form_of(const choice *c, const qn_piece *p, size_t k)
{
    if (c->output->target.gguf != NULL) {
        return (qn_stored_form){.dtype = qn_recipe_fallback(gguf_types[k], p->n_cols)};
    }
    return (qn_stored_form){.dtype = QN_DTYPE_MLX_AFFINE, .affine = {mlx_bits[k], c->output->target.group}, .plain = p->plain};
}

/* Whether a recipe would quantize the piece to its own type; if not, *bytes is what it takes. */
static quern_status has_choice(const choice *c, const qn_piece *p, const qn_type_overrides *overrides, bool *out, uint64_t *bytes,
                               quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_recipe_model m = qn_recipe_model_of(&c->job->source.config);
    const qn_target *t = &c->output->target;
    uint64_t rows = p->n_rows * p->n_parts;
    size_t row_bytes = 0;
    char name[96];
    bool named = false;
    if (t->gguf != NULL) {
        qn_dtype dtype = qn_recipe_gguf(t->gguf, &m, &p->what);
        *out = qn_recipe_applies(&p->what);
        qn_part_gguf_name(p->what.part, p->what.layer, p->what.bias, name, sizeof name);
        if (*out) {
            qn_dtype wanted;
            QN_TRY(qn_type_overrides_find(overrides, name, &wanted, &named, err));
            dtype = named ? qn_recipe_fallback(wanted, p->n_cols) : dtype;
        }
        if (!qn_dtype_row_bytes(dtype, p->n_cols, &row_bytes)) {
            QN_FAIL(err, QUERN_ERROR_LIMIT, "tensor %s is too large", name);
        }
        *out = *out && !named;
    } else {
        qn_affine a = qn_recipe_mlx(t->mlx, t->group, &m, &p->what);
        *out = a.bits != 0 && p->what.part != QN_PART_ROUTER;
        row_bytes = a.bits == 0 ? (size_t)p->n_cols * qn_dtype_get(p->plain)->block_bytes
                                : qn_stored_row_bytes(&(qn_stored_form){QN_DTYPE_MLX_AFFINE, a, p->plain}, (size_t)p->n_cols);
    }
    *bytes = rows * row_bytes;
done:
    return status;
}

/* Matrices of large models share a probe with their like in the same third of the layers. */
static size_t group_key(const qn_job *job, const qn_recipe_tensor *t)
{
    size_t n_layers = job->source.config.n_layers;
    bool alone = job->source.n_parameters <= alone_parameters;
    return (size_t)t->part * (n_layers + 3) + (alone ? t->layer : t->layer * 3 / n_layers);
}

static void number_groups(choice *c)
{
    const qn_piece *pieces = c->job->source.pieces;
    for (size_t i = 0; i < c->n_items; i++) {
        size_t piece = c->items[i], key = group_key(c->job, &pieces[piece].what);
        c->group[piece] = c->n_groups;
        for (size_t k = 0; k < i; k++) {
            if (group_key(c->job, &pieces[c->items[k]].what) == key) {
                c->group[piece] = c->group[c->items[k]];
                break;
            }
        }
        c->n_groups += c->group[piece] == c->n_groups ? 1 : 0;
    }
}

static quern_status allocate(choice *c, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t n = c->job->source.n_pieces;
    c->n_forms = c->output->target.gguf != NULL ? FORMS_MAX : N_MLX;
    c->items = qn_arena_alloc_array(arena, n, sizeof *c->items);
    c->group = qn_arena_alloc_array(arena, n, sizeof *c->group);
    c->forms = qn_arena_alloc_array(arena, n * c->n_forms, sizeof *c->forms);
    c->probe = qn_arena_alloc_array(arena, n, sizeof *c->probe);
    c->errors = qn_arena_alloc_array(arena, n * c->n_forms, sizeof *c->errors);
    c->divergence = qn_arena_alloc_array(arena, n, sizeof *c->divergence);
    c->candidates = qn_arena_alloc_array(arena, n * c->n_forms, sizeof *c->candidates);
    c->chosen = qn_arena_alloc_array(arena, n, sizeof *c->chosen);
    if (c->items == NULL || c->group == NULL || c->forms == NULL || c->probe == NULL || c->errors == NULL || c->divergence == NULL ||
        c->candidates == NULL || c->chosen == NULL) {
        QN_FAIL_MEMORY(err, "the choice of types", n * c->n_forms * (sizeof *c->forms + sizeof *c->errors + sizeof *c->candidates));
    }
done:
    return status;
}

static quern_status list_items(choice *c, const qn_type_overrides *overrides, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_source *source = &c->job->source;
    for (size_t i = 0; i < source->n_pieces; i++) {
        bool chooses = false;
        uint64_t bytes = 0;
        c->group[i] = QN_NO_GROUP;
        QN_TRY(has_choice(c, &source->pieces[i], overrides, &chooses, &bytes, err));
        if (chooses) {
            c->items[c->n_items++] = i;
        } else {
            c->fixed_bytes += bytes;
        }
        for (size_t k = 0; k < c->n_forms && chooses; k++) {
            c->forms[i * c->n_forms + k] = form_of(c, &source->pieces[i], k);
        }
        c->probe[i] = c->forms[i * c->n_forms + PROBED];
    }
    number_groups(c);
done:
    return status;
}

/* A group's divergence is shared among its members by their squared error; other types' by the ratio of errors. Noise of the measurement must
 * not make a tensor free, hence the floor. */
static quern_status weigh(choice *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    const double floor_share = 1e-3;
    double total = 0;
    for (size_t g = 0; g < c->n_groups; g++) {
        total += c->divergence[g] > 0 ? c->divergence[g] : 0;
    }
    for (size_t i = 0; i < c->n_items; i++) {
        QN_TRY(qn_stored_errors(&c->job->source.pieces[c->items[i]], &c->forms[c->items[i] * c->n_forms], c->n_forms,
                                &c->errors[i * c->n_forms], err));
    }
    for (size_t i = 0; i < c->n_items; i++) {
        const qn_piece *p = &c->job->source.pieces[c->items[i]];
        size_t g = c->group[c->items[i]];
        double group_error = 0, least = floor_share * total / (double)c->n_groups;
        for (size_t k = 0; k < c->n_items; k++) {
            group_error += c->group[c->items[k]] == g ? c->errors[k * c->n_forms + PROBED] : 0;
        }
        double divergence = c->divergence[g] > least ? c->divergence[g] : least;
        for (size_t k = 0; k < c->n_forms; k++) {
            const qn_stored_form *f = &c->forms[c->items[i] * c->n_forms + k];
            double share = group_error > 0 ? c->errors[i * c->n_forms + k] / group_error : 0;
            c->candidates[i * c->n_forms + k] = (qn_candidate){p->n_rows * p->n_parts * qn_stored_row_bytes(f, (size_t)p->n_cols),
                                                               divergence * share};
        }
    }
done:
    return status;
}

/* Bytes of all choices together at most; before anything is measured, so that what cannot be is said at once. */
static quern_status find_limit(const choice *c, uint64_t *limit, quern_error *err)
{
    quern_status status = QUERN_OK;
    const double parameters = (double)c->job->source.n_parameters, wanted = c->output->target.bits_per_weight;
    uint64_t all = (uint64_t)(wanted / 8.0 * parameters), least = c->fixed_bytes;
    for (size_t i = 0; i < c->n_items; i++) {
        const qn_piece *p = &c->job->source.pieces[c->items[i]];
        size_t row = SIZE_MAX;
        for (size_t k = 0; k < c->n_forms; k++) {
            size_t bytes = qn_stored_row_bytes(&c->forms[c->items[i] * c->n_forms + k], (size_t)p->n_cols);
            row = bytes < row ? bytes : row;
        }
        least += p->n_rows * p->n_parts * row;
    }
    if (least > all) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "--target-bpw %.2f: the smallest types of this format give %.2f bits per weight", wanted,
                8.0 * (double)least / parameters);
    }
    *limit = all - c->fixed_bytes;
done:
    return status;
}

static quern_status choose(choice *c, uint64_t limit, quern_error *err)
{
    quern_status status = QUERN_OK;
    QN_TRY(qn_allocate(c->candidates, c->n_items, c->n_forms, limit, c->chosen, err));
    for (size_t i = 0; i < c->n_items; i++) {
        const qn_stored_form *f = &c->forms[c->items[i] * c->n_forms + c->chosen[i]];
        c->output->mix[c->items[i]] = (qn_mix_entry){.is_chosen = true, .dtype = f->dtype, .affine = f->affine};
    }
done:
    return status;
}

quern_status qn_mix_choose(qn_job *job, qn_output *o, const qn_type_overrides *overrides, qn_report *report, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_arena arena;
    choice c = {.job = job, .output = o};
    uint64_t limit = 0;
    qn_arena_init(&arena, 0);
    if (job->source.as_other) {
        QN_FAIL(err, QUERN_ERROR_UNSUPPORTED, "--target-bpw runs the source, which --as cannot");
    }
    o->mix = qn_arena_alloc_array(&job->arena, job->source.n_pieces, sizeof *o->mix);
    if (o->mix == NULL) {
        QN_FAIL_MEMORY(err, "the types of an output", job->source.n_pieces * sizeof *o->mix);
    }
    QN_TRY(allocate(&c, &arena, err));
    QN_TRY(list_items(&c, overrides, err));
    QN_TRY(find_limit(&c, &limit, err));
    QN_TRY(qn_sensitivity_measure(job, c.group, c.n_groups, c.probe, c.divergence, report, err));
    QN_TRY(weigh(&c, err));
    QN_TRY(choose(&c, limit, err));
done:
    qn_arena_deinit(&arena);
    return status;
}
