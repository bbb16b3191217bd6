/* config_int.h - what the readers of configurations share. */
#ifndef QN_MODEL_CONFIG_INT_H
#define QN_MODEL_CONFIG_INT_H

#include "base/json.h"
#include "model/config.h"

/* How a source calls the numbers that must fit together; for messages. */
typedef struct qn_config_names {
    const char *hidden, *heads, *kv_heads, *head_dim, *n_rot, *experts, *experts_used;
} qn_config_names;

/* Fills head_dim and rope.n_rot where they are 0 (hidden / heads, and the whole head) and checks heads and experts against each other. */
quern_status qn_config_check_heads(qn_model_config *c, const qn_config_names *names, const char *what, quern_error *err);
/* Allocates c->layers for c->n_layers, all with rope, full attention, and experts where the model has them. */
quern_status qn_config_init_layers(qn_model_config *c, qn_arena *arena, quern_error *err);
/* Everything off, as quern_sampling_default has it. */
quern_sampling qn_config_sampling_off(void);

/* ---- reading JSON: null counts as absent; a wrong type or range fails, naming file, key, value and expectation ---- */

typedef struct qn_config_json {
    const qn_json *object;
    const char *what;   /* file */
    const char *prefix; /* before a key in messages: "" or "rope_scaling." */
    quern_error *err;
} qn_config_json;

/* Leaves *out as it is where the key is absent. */
quern_status qn_config_get_uint(const qn_config_json *r, const char *key, uint32_t min, uint32_t max, uint32_t *out);
quern_status qn_config_need_uint(const qn_config_json *r, const char *key, uint32_t min, uint32_t max, uint32_t *out);
/* A finite number with min <= x <= max, or above min if `above`. */
quern_status qn_config_get_real(const qn_config_json *r, const char *key, double min, bool above, double max, double *out);
quern_status qn_config_get_bool(const qn_config_json *r, const char *key, bool *out);
/* The string lives as long as the JSON. */
quern_status qn_config_get_string(const qn_config_json *r, const char *key, const char **out);
/* The member if it is there and not null. */
const qn_json *qn_config_find(const qn_config_json *r, const char *key);
/* "KEY is VALUE, expected EXPECTED" */
quern_status qn_config_fail_value(const qn_config_json *r, const char *key, const char *expected);

/* config_rope.c: rope_theta, rope_scaling, rope_parameters; theta is the family's default. Wants c->n_ctx_train. */
quern_status qn_config_read_rope(const qn_config_json *root, double theta, qn_model_config *c);
/* config_foreign.c: refuses keys of other architectures whose value would change the computation. Want c's sizes. */
quern_status qn_config_check_foreign_hf(const qn_config_json *root, const qn_model_config *c);
/* arch: what the file's keys begin with. */
quern_status qn_config_check_foreign_gguf(const qn_gguf *gguf, const char *arch, const qn_model_config *c, quern_error *err);
/* config_mlx.c: the quantization object of an MLX folder, if there is one. */
quern_status qn_config_read_mlx(qn_model_config *c, qn_arena *arena, const qn_config_json *root);

#endif
