/* rope.h - rotary position embedding: the frequencies of a model, and the cosines and sines of a position.
 *
 * Frequencies are computed in double and rounded to float32 once; an angle is the float32 product of position and frequency, as the
 * reference implementation has it; its cosine and sine are computed in double and rounded. */
#ifndef QN_MODEL_ROPE_H
#define QN_MODEL_ROPE_H

#include "model/config.h"

typedef struct qn_rope {
    uint32_t n_rot;
    float *inv_freq; /* (n_rot / 2) */
    float magnitude; /* YaRN's attention factor: multiplies cosine and sine */
} qn_rope;

/* divisors (n_rot / 2) may be NULL: GGUF's rope_freqs.weight, which divide the unscaled frequencies. Memory comes from arena. */
quern_status qn_rope_init(qn_rope *rope, const qn_rope_config *config, const float *divisors, qn_arena *arena, quern_error *err);
/* YaRN: whether two configurations blend the same dimensions, that is, give the same correction range. */
bool qn_rope_same_yarn_range(const qn_rope_config *a, const qn_rope_config *b);
/* cos_sin (n_rot): n_rot/2 cosines, then n_rot/2 sines, of `position`. */
void qn_rope_fill(const qn_rope *rope, size_t position, float *cos_sin);

#endif
