/* faults.h - seeded faults in the bytes of GGUF files and MLX folders, down to one stored scale by one step; for the tests of the gate. */
#ifndef QN_TEST_FAULTS_H
#define QN_TEST_FAULTS_H

#include "quantize_run.h"

#include "quant/blocks.h"
#include "quant/kquant_pack.h"

typedef enum fault_kind {
    FAULT_SCALE_STEP, /* one stored (sub-)scale by one step of its integer or float */
    FAULT_MIN_STEP,   /* the same for a min or bias */
    FAULT_OUTER_ULPS, /* the block's float16 (bfloat16) scale by 1 to 8 units in the last place */
    FAULT_CODE,       /* one bit of the codes */
    FAULT_DROP_MIN,   /* a block's min or bias becomes zero */
    FAULT_ZERO_BLOCK,
    FAULT_ZERO_TENSOR,
    FAULT_SWAP_ROWS,
    FAULT_SWAP_EXPERTS,
    FAULT_SWAP_TENSORS,
    FAULT_SHIFT_BLOCKS,
    FAULT_NAN,
    FAULT_PLAIN_VALUE, /* one value of a norm in its last bit */
    FAULT_METADATA,
    FAULT_TOKENS,
    FAULT_KINDS
} fault_kind;

static const char *const fault_names[FAULT_KINDS] = {
    "scale step",      "min step",        "outer ulps",     "code bit",  "dropped min",     "zero block", "zero tensor", "swapped rows",
    "swapped experts", "swapped tensors", "shifted blocks", "NaN scale", "norm's last bit", "metadata",   "tokens"};

typedef struct fault_rng {
    uint64_t state;
} fault_rng;

static inline uint64_t fault_next(fault_rng *r)
{
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline size_t fault_below(fault_rng *r, size_t n) { return (size_t)(fault_next(r) % n); }

/* A tensor in the bytes of a file that is being damaged. */
typedef struct fault_tensor {
    char name[128];
    qn_dtype dtype;
    uint8_t *data;
    size_t n_bytes, row_bytes;
    size_t n_rows, n_parts; /* rows of all parts */
} fault_tensor;

static inline fault_tensor fault_tensor_of(const qn_tensor *t, uint8_t *file)
{
    fault_tensor f = {.dtype = t->dtype, .data = file + t->file_offset, .n_bytes = t->n_bytes, .n_rows = 1, .n_parts = 1};
    (void)snprintf(f.name, sizeof f.name, "%s", t->name);
    for (uint32_t i = 0; i + 1 < t->n_dims; i++) {
        f.n_rows *= (size_t)t->shape[i];
    }
    f.n_parts = t->n_dims == 3 ? (size_t)t->shape[0] : 1;
    f.row_bytes = f.n_bytes / f.n_rows;
    return f;
}

static inline void fault_swap(uint8_t *a, uint8_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t x = a[i];
        a[i] = b[i];
        b[i] = x;
    }
}

/* Adds `by` to a little-endian 16-bit float's bits, staying finite and on the same side of zero. */
static inline bool fault_move_half(uint8_t *p, int by)
{
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    int magnitude = (int)(bits & 0x7fffu) + by;
    if (magnitude < 1 || magnitude >= 0x7c00) {
        return false;
    }
    bits = (bits & 0x8000u) | (uint32_t)magnitude;
    p[0] = (uint8_t)bits;
    p[1] = (uint8_t)(bits >> 8);
    return true;
}

static inline int fault_sign(fault_rng *r) { return fault_below(r, 2) == 0 ? -1 : 1; }

/* Moves an integer field of the given bits by one, staying in range. */
static inline bool fault_move_bits(uint8_t *p, uint32_t shift, uint32_t bits, int by)
{
    int mask = (1 << bits) - 1, value = (*p >> shift) & mask;
    value += value + by < 0 || value + by > mask ? -by : by;
    *p = (uint8_t)((*p & ~(mask << shift)) | value << shift);
    return true;
}

static inline bool fault_k4(uint8_t packed[12], size_t j, bool min, int by)
{
    int scales[8], mins[8];
    for (int i = 0; i < 8; i++) {
        uint8_t s, m;
        qn_k4_scale_min(packed, i, &s, &m);
        scales[i] = s;
        mins[i] = m;
    }
    int *v = min ? &mins[j] : &scales[j];
    *v += *v + by < 0 || *v + by > 63 ? -by : by;
    memset(packed, 0, 12);
    qn_k4_pack_scales(scales, mins, packed);
    return true;
}

static inline bool fault_q3_k(uint8_t packed[12], size_t j, int by)
{
    int8_t stored[16];
    int scales[16];
    qn_q3_k_unpack_scales(packed, stored);
    for (size_t i = 0; i < 16; i++) {
        scales[i] = stored[i];
    }
    scales[j] += scales[j] + by < -32 || scales[j] + by > 31 ? -by : by;
    memset(packed, 0, 12);
    qn_q3_k_pack_scales(scales, packed);
    return true;
}

static inline size_t fault_outer_at(qn_dtype t)
{
    switch (t) {
    case QN_DTYPE_Q2_K: return offsetof(qn_block_q2_k, d);
    case QN_DTYPE_Q3_K: return offsetof(qn_block_q3_k, d);
    case QN_DTYPE_Q6_K: return offsetof(qn_block_q6_k, d);
    case QN_DTYPE_TQ1_0: return offsetof(qn_block_tq1_0, d);
    case QN_DTYPE_TQ2_0: return offsetof(qn_block_tq2_0, d);
    default: return 0;
    }
}

static inline bool fault_scale_step(fault_rng *r, qn_dtype t, uint8_t *block)
{
    int by = fault_sign(r);
    size_t j = fault_below(r, 16);
    switch (t) {
    case QN_DTYPE_Q2_K: return fault_move_bits(block + j, 0, 4, by);
    case QN_DTYPE_Q3_K: return fault_q3_k(block + offsetof(qn_block_q3_k, scales), j, by);
    case QN_DTYPE_Q4_K:
    case QN_DTYPE_Q5_K: return fault_k4(block + 4, j % 8, false, by);
    case QN_DTYPE_Q6_K:
        block[offsetof(qn_block_q6_k, scales) + j] = (uint8_t)(block[offsetof(qn_block_q6_k, scales) + j] + by);
        return true;
    case QN_DTYPE_IQ4_XS: return fault_move_bits(block + 4 + j % 8 / 2, 4 * (uint32_t)(j % 2), 4, by);
    case QN_DTYPE_MXFP4: block[0] = (uint8_t)(block[0] + by); return true;
    default: return fault_move_half(block + fault_outer_at(t), by);
    }
}

static inline bool fault_min_step(fault_rng *r, qn_dtype t, uint8_t *block)
{
    int by = fault_sign(r);
    size_t j = fault_below(r, 16);
    switch (t) {
    case QN_DTYPE_Q2_K: return fault_move_bits(block + j, 4, 4, by);
    case QN_DTYPE_Q4_K:
    case QN_DTYPE_Q5_K: return fault_k4(block + 4, j % 8, true, by);
    case QN_DTYPE_Q4_1:
    case QN_DTYPE_Q5_1: return fault_move_half(block + 2, by);
    default: return false;
    }
}

static inline bool fault_drop_min(qn_dtype t, uint8_t *block)
{
    switch (t) {
    case QN_DTYPE_Q2_K: memset(block + offsetof(qn_block_q2_k, dmin), 0, 2); return true;
    case QN_DTYPE_Q4_K:
    case QN_DTYPE_Q5_K:
    case QN_DTYPE_Q4_1:
    case QN_DTYPE_Q5_1: memset(block + 2, 0, 2); return true;
    default: return false;
    }
}

/* The first byte of the codes, and how many. */
static inline void fault_codes_of(qn_dtype t, size_t *at, size_t *n)
{
    switch (t) {
    case QN_DTYPE_Q2_K: *at = 16, *n = 64; break;
    case QN_DTYPE_Q3_K: *at = 0, *n = 96; break;
    case QN_DTYPE_Q4_K: *at = 16, *n = 128; break;
    case QN_DTYPE_Q5_K: *at = 16, *n = 160; break;
    case QN_DTYPE_Q6_K: *at = 0, *n = 192; break;
    case QN_DTYPE_IQ4_XS: *at = 8, *n = 128; break;
    case QN_DTYPE_TQ1_0: *at = 0, *n = 52; break;
    case QN_DTYPE_TQ2_0: *at = 0, *n = 64; break;
    case QN_DTYPE_MXFP4: *at = 1, *n = 16; break;
    case QN_DTYPE_Q4_1: *at = 4, *n = 16; break;
    case QN_DTYPE_Q5_0: *at = 2, *n = 20; break;
    case QN_DTYPE_Q5_1: *at = 4, *n = 20; break;
    case QN_DTYPE_Q8_0: *at = 2, *n = 32; break;
    default: *at = 2, *n = 16; break; /* Q4_0, IQ4_NL */
    }
}

/* A fault inside one block of a GGUF tensor; false if the type has no such field. */
static inline bool fault_in_block(fault_rng *r, fault_kind kind, qn_dtype t, uint8_t *block)
{
    size_t at, n, bytes = qn_dtype_get(t)->block_bytes;
    switch (kind) {
    case FAULT_SCALE_STEP: return fault_scale_step(r, t, block);
    case FAULT_MIN_STEP: return fault_min_step(r, t, block);
    case FAULT_OUTER_ULPS:
        return t != QN_DTYPE_MXFP4 && fault_move_half(block + fault_outer_at(t), fault_sign(r) * (1 + (int)fault_below(r, 8)));
    case FAULT_CODE:
        fault_codes_of(t, &at, &n);
        block[at + fault_below(r, n)] ^= (uint8_t)(1u << fault_below(r, 8));
        return true;
    case FAULT_DROP_MIN: return fault_drop_min(t, block);
    case FAULT_ZERO_BLOCK: memset(block, 0, bytes); return true;
    case FAULT_NAN:
        if (t == QN_DTYPE_MXFP4) {
            block[0] = 255;
            return false; /* 2^127 times a code: large, not NaN */
        }
        block[fault_outer_at(t)] = 0x01;
        block[fault_outer_at(t) + 1] = 0x7e;
        return true;
    default: return false;
    }
}

/* A fault in a group of an MLX module: weight, scales, biases (data NULL for MXFP4). */
static inline bool fault_in_group(fault_rng *r, fault_kind kind, const fault_tensor module[3])
{
    bool affine = module[2].data != NULL;
    size_t n_groups = module[1].n_bytes / (affine ? 2 : 1), g = fault_below(r, n_groups), bytes = module[0].n_bytes / n_groups;
    uint8_t *codes = module[0].data + g * bytes, *scale = module[1].data + g * (affine ? 2 : 1),
            *bias = affine ? module[2].data + 2 * g : NULL;
    switch (kind) {
    case FAULT_SCALE_STEP:
        if (!affine) {
            *scale = (uint8_t)(*scale + fault_sign(r));
            return true;
        }
        return fault_move_half(scale, fault_sign(r));
    case FAULT_MIN_STEP: return affine && fault_move_half(bias, fault_sign(r));
    case FAULT_OUTER_ULPS: return affine && fault_move_half(scale, fault_sign(r) * (1 + (int)fault_below(r, 8)));
    case FAULT_CODE: codes[fault_below(r, bytes)] ^= (uint8_t)(1u << fault_below(r, 8)); return true;
    case FAULT_DROP_MIN:
        if (affine) {
            memset(bias, 0, 2);
        }
        return affine;
    case FAULT_ZERO_BLOCK: /* all values: scale and bias, or codes */
        memset(codes, 0, bytes);
        if (affine) {
            memset(scale, 0, 2);
            memset(bias, 0, 2);
        }
        return true;
    case FAULT_NAN:
        if (affine) {
            scale[0] = 0xc0;
            scale[1] = 0x7f;
        }
        return affine;
    default: return false;
    }
}

/* A fault of whole rows and tensors: the streams of one tensor move together. */
static inline bool fault_in_rows(fault_rng *r, fault_kind kind, const fault_tensor *streams, size_t n)
{
    size_t rows = streams[0].n_rows, parts = streams[0].n_parts, a = fault_below(r, rows), b = fault_below(r, rows);
    size_t e = fault_below(r, parts), f = fault_below(r, parts);
    for (size_t k = 0; k < n && streams[k].data != NULL; k++) {
        const fault_tensor *t = &streams[k];
        size_t part = t->n_bytes / parts, unit = t->row_bytes;
        switch (kind) {
        case FAULT_ZERO_TENSOR: memset(t->data, 0, t->n_bytes); break;
        case FAULT_SWAP_ROWS:
            if (a == b || rows < 2) {
                return false;
            }
            fault_swap(t->data + a * unit, t->data + b * unit, unit);
            break;
        case FAULT_SWAP_EXPERTS:
            if (e == f) {
                return false;
            }
            fault_swap(t->data + e * part, t->data + f * part, part);
            break;
        default: return false;
        }
    }
    return true;
}

/* Row a of a GGUF tensor turned by one block. */
static inline bool fault_shift(fault_rng *r, const fault_tensor *t)
{
    size_t block = qn_dtype_get(t->dtype)->block_bytes;
    uint8_t first[256], *row = t->data + fault_below(r, t->n_rows) * t->row_bytes;
    if (t->row_bytes < 2 * block) {
        return false;
    }
    memcpy(first, row, block);
    memmove(row, row + block, t->row_bytes - block);
    memcpy(row + t->row_bytes - block, first, block);
    return true;
}

#endif
