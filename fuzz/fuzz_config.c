/* fuzz_config.c - any bytes as config.json (Hugging Face and MLX), with the part behind a NUL as generation_config.json; what is
 * accepted must fit together as config.h promises. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

static void check_config(const qn_model_config *c)
{
    check(c->n_layers >= 1 && c->n_layers <= QN_CONFIG_LAYERS_MAX && c->hidden_size >= 1 && c->hidden_size <= QN_CONFIG_HIDDEN_MAX);
    check(c->n_kv_heads >= 1 && c->n_heads % c->n_kv_heads == 0 && c->n_heads <= QN_CONFIG_HEADS_MAX);
    check(c->head_dim >= 2 && c->head_dim % 2 == 0 && c->head_dim <= QN_CONFIG_HEAD_DIM_MAX);
    check(c->rope.n_rot >= 2 && c->rope.n_rot % 2 == 0 && c->rope.n_rot <= c->head_dim);
    check(c->rms_eps > 0 && c->rope.theta > 0 && isfinite(c->rope.theta) && c->rope.factor > 0 && isfinite(c->rope.factor));
    check(c->ffn_size >= 1 && c->n_vocab >= 1 && c->n_ctx_train >= 1);
    check(c->n_experts == 0 || (c->n_experts_used >= 1 && c->n_experts_used <= c->n_experts && c->expert_ffn_size >= 1));
    for (uint32_t i = 0; i < c->n_layers; i++) {
        check(!c->layers[i].experts || c->n_experts > 0);
    }
    for (size_t i = 0; i < c->n_stop_ids; i++) {
        check(c->stop_ids[i] >= 0 && (uint32_t)c->stop_ids[i] < c->n_vocab);
    }
    for (size_t i = 0; i < c->n_overrides; i++) {
        qn_affine a = qn_config_affine_for(c, c->overrides[i].module);
        check(a.bits == c->overrides[i].affine.bits && a.bits <= 8 && a.bits != 7);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_error err;
    qn_arena arena;
    qn_model_config c;
    const uint8_t *cut = size > 0 ? memchr(data, '\0', size) : NULL;
    size_t len = cut != NULL ? (size_t)(cut - data) : size;
    const char *generation = cut != NULL ? (const char *)cut + 1 : NULL;
    qn_arena_init(&arena, 0);
    err.message[0] = '\0';
    if (qn_config_read_hf(&c, &arena, (const char *)data, len, "d/config.json", generation, cut != NULL ? size - len - 1 : 0, &err) ==
        QUERN_OK) {
        check_config(&c);
    } else {
        check(strncmp(err.message, "d/", 2) == 0);
    }
    qn_arena_deinit(&arena);
    return 0;
}
