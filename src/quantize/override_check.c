/* override_check.c - see override_check.h. */
#include "quantize/override_check.h"

enum { NAME_BYTES = 96 };

static void name_of(const qn_piece *p, char out[NAME_BYTES])
{
    qn_part_gguf_name(p->what.part, p->what.layer, p->what.bias, out, NAME_BYTES);
}

quern_status qn_type_overrides_check(const qn_type_overrides *o, const qn_source *s, const qn_target *targets, size_t n_targets,
                                     quern_error *err)
{
    quern_status status = QUERN_OK;
    bool gguf = false;
    for (size_t i = 0; i < n_targets; i++) {
        gguf = gguf || targets[i].gguf != NULL;
    }
    for (size_t i = 0; i < qn_type_overrides_count(o); i++) {
        bool matches = false;
        char name[NAME_BYTES];
        if (!gguf) {
            QN_FAIL(err, QUERN_ERROR_USAGE, "tensor type '%s': it is for GGUF files, and no format asked for is one",
                    qn_type_overrides_text(o, i));
        }
        for (size_t k = 0; k < s->n_pieces && !matches; k++) {
            name_of(&s->pieces[k], name);
            QN_TRY(qn_type_overrides_match(o, i, name, &matches, err));
        }
        if (!matches) {
            name_of(&s->pieces[s->n_pieces / 2], name);
            QN_FAIL(err, QUERN_ERROR_USAGE, "tensor type '%s': it matches no tensor of %s; names are as in GGUF, such as %s",
                    qn_type_overrides_text(o, i), s->name, name);
        }
    }
done:
    return status;
}

/* What one expression comes to in an output. */
typedef struct effect {
    size_t n_decided;  /* tensors that are of its type, or should be */
    size_t n_unfit;    /* of those: with rows that are no whole number of its blocks */
    size_t n_shadowed; /* that an earlier expression decides */
} effect;

static quern_status find_effect(const qn_job *job, const qn_output *output, const qn_type_overrides *o, size_t index, effect *out,
                                quern_error *err)
{
    quern_status status = QUERN_OK;
    *out = (effect){0};
    for (size_t k = 0; k < job->source.n_pieces; k++) {
        const qn_piece *p = &job->source.pieces[k];
        char name[NAME_BYTES];
        bool matches = false, earlier = false;
        name_of(p, name);
        if (qn_recipe_applies(&p->what)) {
            QN_TRY(qn_type_overrides_match(o, index, name, &matches, err));
        }
        for (size_t i = 0; i < index && matches && !earlier; i++) {
            QN_TRY(qn_type_overrides_match(o, i, name, &earlier, err));
        }
        out->n_shadowed += earlier;
        out->n_decided += matches && !earlier;
        out->n_unfit += matches && !earlier && output->sinks[k].dtype != qn_type_overrides_type(o, index);
    }
done:
    return status;
}

quern_status qn_type_overrides_warn(qn_job *job, qn_output *output, const qn_type_overrides *o, quern_error *err)
{
    quern_status status = QUERN_OK;
    for (size_t i = 0; i < qn_type_overrides_count(o); i++) {
        const char *text = qn_type_overrides_text(o, i);
        effect e;
        QN_TRY(find_effect(job, output, o, i, &e, err));
        if (e.n_decided == 0) {
            QN_TRY(qn_job_warn(job, output, err, "tensor type '%.200s' changes nothing: %s", text,
                               e.n_shadowed > 0 ? "another one before it matches all its matrices"
                                                : "it matches no matrix; vectors, norms, biases and routers stay F32"));
        } else if (e.n_unfit > 0) {
            QN_TRY(qn_job_warn(job, output, err,
                               "tensor type '%.200s': %zu of its %zu tensors have rows that are no whole number of its blocks; they have "
                               "another type",
                               text, e.n_unfit, e.n_decided));
        }
    }
done:
    return status;
}
