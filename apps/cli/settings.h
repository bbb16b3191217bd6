/* settings.h - from options to what the engine and the sampler want; shared by run, chat, logits and bench; the gate's and the
 * calibration's by quantize and verify. */
#ifndef QN_CLI_SETTINGS_H
#define QN_CLI_SETTINGS_H

#include "cli.h"
#include "quern/engine.h"
#include "quern/verify.h"

/* -t -c -b --kv-type --isa; refuses --device and -ngl values that this version lacks. KV type f16 unless given. */
quern_status qn_settings_engine(qn_cli *cli, quern_engine_options *out, quern_error *err);
/* A warning where a sequence may get longer than the model was made for. A context that several sequences share says nothing of that. */
void qn_settings_warn_length(qn_cli *cli, const quern_model *model, size_t n_tokens);
/* quern_engine_create, with QUERN_ERROR_LIMIT and both numbers where the memory is not there. The weights are brought into memory before, with a bar;
 * `read` (may be NULL) gets what that was. */
quern_status qn_settings_create_engine(qn_cli *cli, const quern_model *model, const quern_engine_options *options, quern_engine **out,
                                       quern_read_in *read, quern_error *err);
/* {"bytes", "cold_bytes", "moved_bytes", "seconds", "skipped"} */
qn_json *qn_settings_read_in_json(const quern_read_in *r, bool *ok);
/* For commands that compare figures: without --kv-type, float weights get float32 caches. */
void qn_settings_float_kv(const qn_cli *cli, const quern_model *model, quern_engine_options *options);
/* "f32", "f16", "q8_0" */
const char *qn_settings_kv_name(quern_kv_type t);

/* Refuses --beams and --json-schema, which this version lacks. */
quern_status qn_settings_check_answer(qn_cli *cli, quern_error *err);

typedef struct qn_sampling_settings {
    quern_sampling sampling;
    quern_logit_bias *bias; /* owned; sampling points to it */
    bool random_seed;       /* no --seed, and the seed matters */
} qn_sampling_settings;

/* The model's defaults, changed by what was given, and checked. */
quern_status qn_settings_sampling(qn_cli *cli, const quern_model *model, qn_sampling_settings *out, quern_error *err);
void qn_settings_sampling_deinit(qn_sampling_settings *s);
/* Another random seed, unless --seed was given. */
void qn_settings_next_seed(qn_sampling_settings *s);
/* "temperature 0.7, top-k 20, top-p 0.8, seed 42": what is switched on. */
void qn_settings_describe(const quern_sampling *s, qn_buf *out);

/* --gate: a policy, or how many layers to sample. */
quern_status qn_settings_gate(const qn_opts *o, quern_gate_policy *policy, size_t *sample_layers, quern_error *err);

/* What --calibrate and --imatrix ask for; quantize and verify mean the same by them. */
typedef struct qn_calibration_settings {
    quern_calibrate calibrate; /* AUTO where neither was given */
    char *text;                /* of --calibrate FILE; the caller frees it */
    size_t len;
    const char *text_name; /* for messages: the file's; NULL = none */
    const char *imatrix_path;
} qn_calibration_settings;

/* --calibrate FILE, builtin (./builtin is a file of that name) or none; or --imatrix FILE: the one that stands in the higher place of the command
 * line, the environment and the configuration file. */
quern_status qn_settings_calibration(const qn_opts *o, qn_calibration_settings *out, quern_error *err);

#endif
