/* verify_output.c - see verify_output.h. */
#include "quantize/verify_output.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "gate/sample.h"
#include "gate/suspects.h"
#include "quant/codec.h"
#include "quantize/slices.h"

void qn_verified_init(qn_verified *v, const qn_job *job, const qn_output *output, const char *path)
{
    *v = (qn_verified){.job = job, .output = output, .path = path};
    qn_findings_init(&v->findings);
}

void qn_verified_deinit(qn_verified *v)
{
    qn_free(v->tensors);
    qn_free(v->figures);
    qn_free(v->rows);
    qn_findings_deinit(&v->findings);
}

/* ---- rows of the source ---- */

/* A vector in GGUF's order of rope, in place. */
static void interleave_vector(float *x, size_t n, size_t dim)
{
    float head[QN_CONFIG_HEAD_DIM_MAX];
    for (size_t i = 0; i + dim <= n; i += dim) {
        memcpy(head, x + i, dim * sizeof *head);
        qn_interleave_rows(head, dim, 1, dim, x + i);
    }
}

static void read_rows(const void *user, size_t part, uint64_t first, uint64_t n, float *x)
{
    const qn_piece_rows *rows = user;
    const qn_piece *p = rows->piece;
    uint64_t dim = rows->permute_dim;
    if (dim == 0 || p->what.n_dims == 1) {
        qn_piece_decode(p, part, first, n, x);
        if (dim != 0) {
            interleave_vector(x, (size_t)p->n_cols, (size_t)dim);
        }
        return;
    }
    for (uint64_t r = first; r < first + n; r++) {
        qn_piece_decode(p, part, qn_interleaved_from(r, dim), 1, x + (r - first) * p->n_cols);
    }
}

/* ---- binding ---- */

/* Tensors of a file lie in one array, whatever its number of shards: their places are differences of pointers. */
static size_t n_file_tensors(const qn_verified *v)
{
    return v->gguf != NULL ? qn_gguf_n_tensors(v->gguf) : qn_safetensors_n_tensors(v->safetensors);
}

static const qn_tensor *file_tensor(const qn_verified *v, size_t i)
{
    return v->gguf != NULL ? qn_gguf_tensor_at(v->gguf, i) : qn_safetensors_tensor_at(v->safetensors, i);
}

static const qn_tensor *find(const qn_verified *v, const char *name)
{
    return v->gguf != NULL ? qn_gguf_find_tensor(v->gguf, name) : qn_safetensors_find(v->safetensors, name);
}

static void format_shape(const uint64_t *shape, uint32_t n_dims, char *out, size_t cap)
{
    size_t n = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < n_dims && n < cap; i++) {
        int written = snprintf(out + n, cap - n, "%s%" PRIu64, i > 0 ? ", " : "", shape[i]);
        n += written > 0 ? (size_t)written : 0;
    }
}

/* Whether a stored tensor has the piece's dimensions with rows of `cols` elements; a fault otherwise. */
static quern_status check_shape(qn_verified *v, const qn_tensor *t, const qn_piece *p, uint64_t cols, bool *fits, quern_error *err)
{
    uint64_t shape[3] = {p->n_parts, p->n_rows, cols};
    uint32_t n_dims = p->what.n_dims;
    *fits = t->n_dims == n_dims && memcmp(t->shape, shape + (3 - n_dims), n_dims * sizeof *shape) == 0;
    if (*fits) {
        return QUERN_OK;
    }
    char own[96], expected[96];
    format_shape(t->shape, t->n_dims, own, sizeof own);
    format_shape(shape + (3 - n_dims), n_dims, expected, sizeof expected);
    return qn_findings_fail(&v->findings, t->name, err, "%s has shape (%s), the source gives (%s)", t->name, own, expected);
}

typedef struct binding {
    qn_verified *v;
    const qn_model_config *config; /* of the folder */
    bool *used;                    /* which tensors of the file have their place */
    quern_error *err;
} binding;

static void mark_used(const binding *b, const qn_tensor *t)
{
    b->used[t - file_tensor(b->v, 0)] = true;
    b->v->tensor_bytes += t->n_bytes;
}

static void add_stream(qn_checked_tensor *c, size_t k, const qn_tensor *t)
{
    c->streams[k] = t->data;
    c->row_bytes[k] = t->n_bytes / (size_t)(c->n_rows * c->n_parts);
}

/* Of the innermost dimension; a single value has none. */
static uint64_t row_elements(const qn_tensor *t) { return t->n_dims > 0 ? t->shape[t->n_dims - 1] : 0; }

/* The folder's words for a quantized module: bits and group from the shapes, which config.json must confirm. */
static quern_status bind_module(binding *b, const qn_piece *p, const qn_tensor *weight, qn_checked_tensor *c, bool *fits)
{
    quern_status status = QUERN_OK;
    qn_verified *v = b->v;
    char module[160], name[176];
    size_t len = strlen(weight->name) - strlen(".weight");
    (void)snprintf(module, sizeof module, "%.*s", (int)len, weight->name);
    (void)snprintf(name, sizeof name, "%s.scales", module);
    const qn_tensor *scales = find(v, name);
    (void)snprintf(name, sizeof name, "%s.biases", module);
    const qn_tensor *biases = find(v, name);
    uint64_t words = row_elements(weight), groups = scales != NULL ? row_elements(scales) : 0;
    *fits = false;
    if (scales == NULL || words == 0 || groups == 0 || p->n_cols % groups != 0 || words * 32 % p->n_cols != 0) {
        QN_TRY(qn_findings_fail(&v->findings, weight->name, b->err, "%s: packed words without scales of a fitting shape", weight->name));
        goto done;
    }
    c->affine = (qn_affine){.bits = (uint32_t)(words * 32 / p->n_cols), .group = (uint32_t)(p->n_cols / groups)};
    qn_affine said = qn_config_affine_for(b->config, module);
    bool known = c->affine.bits >= 1 && c->affine.bits <= 8 && c->affine.bits != 7 &&
                 (c->affine.group == 32 || c->affine.group == 64 || c->affine.group == 128);
    if (!known || said.bits != c->affine.bits || said.group != c->affine.group) {
        QN_TRY(qn_findings_fail(&v->findings, weight->name, b->err, "%s is stored with %u bits in groups of %u, config.json says %u and %u",
                                weight->name, c->affine.bits, c->affine.group, said.bits, said.group));
        goto done;
    }
    QN_TRY(check_shape(v, weight, p, words, fits, b->err));
    if (*fits) {
        QN_TRY(check_shape(v, scales, p, groups, fits, b->err));
    }
    if (*fits && biases != NULL) {
        QN_TRY(check_shape(v, biases, p, groups, fits, b->err));
    }
    bool mxfp4 = biases == NULL && scales->dtype == QN_DTYPE_U8 && c->affine.bits == 4 && c->affine.group == 32;
    bool affine = biases != NULL && biases->dtype == scales->dtype &&
                  (scales->dtype == QN_DTYPE_F32 || scales->dtype == QN_DTYPE_F16 || scales->dtype == QN_DTYPE_BF16);
    if (*fits && !mxfp4 && !affine) {
        *fits = false;
        QN_TRY(qn_findings_fail(&v->findings, weight->name, b->err, "%s: scales of type %s %s biases are no form of MLX", weight->name,
                                qn_dtype_get(scales->dtype)->name, biases != NULL ? "with" : "without"));
    }
    bool said_mxfp4 = qn_config_is_mxfp4(b->config, module);
    if (*fits && said_mxfp4 != mxfp4) {
        *fits = false;
        QN_TRY(qn_findings_fail(&v->findings, weight->name, b->err, "%s is stored in mode %s, config.json says mode %s", weight->name,
                                mxfp4 ? "mxfp4" : "affine", said_mxfp4 ? "mxfp4" : "affine"));
    }
    if (*fits) {
        c->storage = mxfp4 ? QN_STORED_MXFP4 : QN_STORED_AFFINE;
        c->dtype = scales->dtype;
        add_stream(c, 0, weight);
        add_stream(c, 1, scales);
        if (biases != NULL) {
            add_stream(c, 2, biases);
            mark_used(b, biases);
        }
        mark_used(b, scales);
    }
done:
    return status;
}

/* Readers make a quantized module of every one that config.json names with bits of its own. */
static quern_status check_unquantized(binding *b, const qn_tensor *t)
{
    char module[160];
    size_t len = strlen(t->name), end = strlen(".weight");
    if (b->config == NULL || len <= end || strcmp(t->name + len - end, ".weight") != 0) {
        return QUERN_OK;
    }
    (void)snprintf(module, sizeof module, "%.*s", (int)(len - end), t->name);
    for (size_t i = 0; i < b->config->n_overrides; i++) {
        const qn_affine_override *o = &b->config->overrides[i];
        if (o->affine.bits != 0 && strcmp(o->module, module) == 0) {
            return qn_findings_fail(&b->v->findings, t->name, b->err, "%s is stored as %s, config.json says %u bits in groups of %u",
                                    t->name, qn_dtype_get(t->dtype)->name, o->affine.bits, o->affine.group);
        }
    }
    return QUERN_OK;
}

static quern_status bind_tensor(binding *b, const qn_tensor *t, const qn_piece *p, uint32_t permute_dim)
{
    quern_status status = QUERN_OK;
    qn_verified *v = b->v;
    bool fits;
    qn_checked_tensor *c = &v->tensors[v->n_tensors];
    qn_piece_rows *rows = &v->rows[v->n_tensors];
    *rows = (qn_piece_rows){.piece = p, .permute_dim = permute_dim};
    *c = (qn_checked_tensor){.name = t->name,
                             .storage = QN_STORED_BLOCKS,
                             .dtype = t->dtype,
                             .n_parts = p->n_parts,
                             .n_rows = p->n_rows,
                             .n_cols = p->n_cols,
                             .source_dtype = p->plain,
                             .read = read_rows,
                             .user = rows,
                             .rows_together = p->what.n_dims > 1 ? permute_dim : 0};
    mark_used(b, t);
    if (v->safetensors != NULL && t->dtype == QN_DTYPE_U32) {
        QN_TRY(bind_module(b, p, t, c, &fits));
    } else {
        QN_TRY(check_shape(v, t, p, p->n_cols, &fits, b->err));
        if (fits && (!qn_decode_supported(t->dtype) || !qn_encode_supported(t->dtype))) {
            QN_FAIL(b->err, QUERN_ERROR_UNSUPPORTED, "%s: tensor %s has type %s, which this version cannot judge", v->path, t->name,
                    qn_dtype_get(t->dtype)->name);
        }
        if (fits) {
            QN_TRY(check_unquantized(b, t));
            add_stream(c, 0, t);
        }
    }
    v->n_tensors += fits ? 1 : 0;
done:
    return status;
}

/* rope_freqs.weight: the divisors that quantize would write. */
static quern_status check_divisors(binding *b, const qn_tensor *t)
{
    const qn_verified *v = b->v;
    const qn_output *o = v->output;
    size_t n = v->job->source.config.rope.n_rot / 2;
    if (t->dtype != QN_DTYPE_F32 || t->n_elements != n) {
        return qn_findings_fail(&b->v->findings, t->name, b->err, "%s has type %s and %" PRIu64 " values, the source gives F32 and %zu",
                                t->name, qn_dtype_get(t->dtype)->name, t->n_elements, n);
    }
    for (size_t i = 0; i < n; i++) {
        float own;
        qn_decode_row(QN_DTYPE_F32, t->data + 4 * i, &own, 1);
        if (!(fabsf(own - o->rope_divisors[i]) <= 1e-5f * fabsf(o->rope_divisors[i]))) {
            return qn_findings_fail(&b->v->findings, t->name, b->err, "%s: value %zu is %.7g, the source gives %.7g", t->name, i,
                                    (double)own, (double)o->rope_divisors[i]);
        }
    }
    return QUERN_OK;
}

/* Tensors that no piece asked for. */
static quern_status bind_rest(binding *b)
{
    quern_status status = QUERN_OK;
    qn_verified *v = b->v;
    /* A copy of the embedding; first, for its scales and biases have their place with it. */
    const qn_tensor *head = find(v, v->gguf != NULL ? "output.weight" : "lm_head.weight");
    if (head != NULL && v->job->source.config.tied_embeddings && !b->used[head - file_tensor(v, 0)]) {
        QN_TRY(bind_tensor(b, head, &v->job->source.pieces[0], 0));
    }
    for (size_t i = 0; i < n_file_tensors(v); i++) {
        const qn_tensor *t = file_tensor(v, i);
        if (b->used[i]) {
            continue;
        }
        if (v->gguf != NULL && strcmp(t->name, "rope_freqs.weight") == 0 && v->output->rope_divisors != NULL) {
            mark_used(b, t);
            QN_TRY(check_divisors(b, t));
        } else {
            QN_TRY(qn_findings_fail(&v->findings, t->name, b->err, "%s is in the file and has no place in the source", t->name));
        }
    }
    if (v->output->rope_divisors != NULL && find(v, "rope_freqs.weight") == NULL) {
        QN_TRY(qn_findings_fail(&v->findings, NULL, b->err, "rope_freqs.weight is missing: the source scales rope by llama3"));
    }
done:
    return status;
}

quern_status qn_verified_bind(qn_verified *v, const qn_model_config *config, quern_error *err)
{
    quern_status status = QUERN_OK;
    const qn_source *s = &v->job->source;
    binding b = {.v = v, .config = config, .err = err};
    v->cap_tensors = s->n_pieces + 1; /* a copy of a tied head */
    v->tensors = qn_calloc(v->cap_tensors, sizeof *v->tensors);
    v->figures = qn_calloc(v->cap_tensors, sizeof *v->figures);
    v->rows = qn_calloc(v->cap_tensors, sizeof *v->rows);
    b.used = qn_calloc(n_file_tensors(v) + 1, sizeof *b.used);
    if (v->tensors == NULL || v->figures == NULL || v->rows == NULL || b.used == NULL) {
        QN_FAIL_MEMORY(err, "the list of tensors", v->cap_tensors * (sizeof *v->tensors + sizeof *v->figures));
    }
    for (size_t i = 0; i < s->n_pieces; i++) {
        const qn_sink *sink = &v->output->sinks[i];
        const qn_tensor *t = find(v, sink->name);
        if (t == NULL) {
            QN_TRY(qn_findings_fail(&v->findings, sink->name, err, "%s is missing", sink->name));
        } else {
            QN_TRY(bind_tensor(&b, t, &s->pieces[i], sink->permute_dim));
        }
    }
    QN_TRY(bind_rest(&b));
done:
    qn_free(b.used);
    return status;
}

/* ---- hashes ---- */

quern_status qn_verified_hash(qn_verified *v, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_sha256 *h = NULL;
    QN_TRY(qn_sha256_create(&h, err));
    for (size_t i = 0; i < n_file_tensors(v); i++) {
        const qn_tensor *t = file_tensor(v, i);
        qn_sha256_update(h, t->data, t->n_bytes);
        qn_mapped_span_release(t->data, t->n_bytes);
    }
    qn_sha256_finish(h, v->data_sha256);
done:
    return status;
}

quern_status qn_verified_check_claim(qn_verified *v, const char *claim, size_t len, quern_error *err)
{
    if (claim == NULL || (len == 64 && memcmp(claim, v->data_sha256, 64) == 0)) {
        return QUERN_OK;
    }
    v->findings.certificate = QN_CERTIFICATE_DIFFERS;
    return qn_findings_fail(&v->findings, NULL, err,
                            "the certificate is of other data: quern.quality.data_sha256 is '%.*s', the tensors have %s",
                            qn_name_shown(claim, len), claim, v->data_sha256);
}

/* ---- suspects ---- */

/* A tied source's embedding has two places in a file that holds a copy of it as its head. */
static bool is_place(const qn_verified *v, size_t tensor, const qn_suspect *s)
{
    static const qn_part parts[QN_PLACE_COUNT] = {
        [QN_PLACE_Q] = QN_PART_ATTN_Q,
        [QN_PLACE_K] = QN_PART_ATTN_K,
        [QN_PLACE_V] = QN_PART_ATTN_V,
        [QN_PLACE_O] = QN_PART_ATTN_OUTPUT,
        [QN_PLACE_GATE] = QN_PART_FFN_GATE,
        [QN_PLACE_UP] = QN_PART_FFN_UP,
        [QN_PLACE_DOWN] = QN_PART_FFN_DOWN,
        [QN_PLACE_ROUTER] = QN_PART_ROUTER,
        [QN_PLACE_EXPERT_GATE] = QN_PART_GATE_EXPS,
        [QN_PLACE_EXPERT_UP] = QN_PART_UP_EXPS,
        [QN_PLACE_EXPERT_DOWN] = QN_PART_DOWN_EXPS,
        [QN_PLACE_EMBEDDING] = QN_PART_TOKEN_EMBD,
        [QN_PLACE_HEAD] = QN_PART_OUTPUT,
    };
    const qn_recipe_tensor *what = &v->rows[tensor].piece->what;
    bool in_layer = s->place != QN_PLACE_EMBEDDING && s->place != QN_PLACE_HEAD;
    bool is_head = strcmp(v->tensors[tensor].name, v->gguf != NULL ? "output.weight" : "lm_head.weight") == 0;
    qn_part part = what->part == QN_PART_TOKEN_EMBD && is_head ? QN_PART_OUTPUT : what->part;
    return part == parts[s->place] && !what->bias && (!in_layer || what->layer == s->layer);
}

quern_status qn_verified_find_suspects(qn_verified *v, qn_quality_base *base, const quern_model *own, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_suspects suspects;
    QN_TRY(qn_suspects_find(base, own, &suspects, err));
    for (size_t i = 0; i < suspects.n; i++) {
        for (size_t k = 0; k < v->n_tensors; k++) {
            if (is_place(v, k, &suspects.items[i])) {
                QN_TRY(qn_findings_suspect(&v->findings, v->tensors[k].name, err));
                QN_TRY(qn_findings_note(&v->findings, err, "%s: with the source's tensor in its place %.0f %% of the divergence goes",
                                        v->tensors[k].name, 100 * suspects.items[i].share));
            }
        }
    }
    if (suspects.n_layers_looked < suspects.n_layers) {
        QN_TRY(qn_findings_note(&v->findings, err, "suspect tensors were looked for in %" PRIu32 " of %" PRIu32 " layers",
                                suspects.n_layers_looked, suspects.n_layers));
    }
    if (suspects.n_matrices_left > 0) {
        QN_TRY(qn_findings_note(&v->findings, err,
                                "the search for suspect tensors ended before %zu matrices of layers that count were looked at",
                                suspects.n_matrices_left));
    }
    if (suspects.n_matrices_unfit > 0) {
        QN_TRY(qn_findings_note(&v->findings, err, "%zu matrices were not looked at as suspects: there is no memory for a copy of them",
                                suspects.n_matrices_unfit));
    }
done:
    return status;
}

double qn_verified_bits(const qn_verified *v) { return 8.0 * (double)v->tensor_bytes / (double)v->job->source.n_parameters; }

quern_status qn_verified_sample(qn_verified *v, qn_quality_base *base, const quern_model *own, size_t n, quern_gate_policy policy,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_sample sample;
    QN_TRY(qn_sample_measure(base, own, n, &sample, err));
    QN_TRY(qn_sample_judge(&sample, policy, qn_verified_bits(v), &v->findings, err));
    qn_json_free(v->findings.sampled);
    v->findings.sampled = qn_sample_to_json(&sample);
    if (v->findings.sampled == NULL) {
        QN_FAIL_MEMORY(err, "the sampled layers", sizeof sample);
    }
    QN_TRY(qn_findings_note(
        &v->findings, err,
        "%zu layers were compared one by one, not the whole model; the embedding, the last norm and the head were not run: quality is null",
        sample.n));
done:
    return status;
}
