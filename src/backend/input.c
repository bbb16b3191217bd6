/* input.c - laying out the inputs of matrices in their forms. */
#include "backend/backend.h"
#include "base/alloc.h"

static const uint32_t form_block[QN_FORM_COUNT] = {0, 32, 64, 128, 256};

qn_form qn_form_for(const qn_matrix *w, bool f32_activations)
{
    uint32_t block = 0;
    if (f32_activations || qn_act_kind_for(w->dtype, w->affine, &block) == QN_ACT_F32) {
        return QN_FORM_F32;
    }
    for (int i = QN_FORM_I8_32; i < QN_FORM_COUNT; i++) {
        if (form_block[i] == block) {
            return (qn_form)i;
        }
    }
    return QN_FORM_F32;
}

static size_t float_bytes(size_t cap_rows, size_t n_cols) { return qn_align_up(cap_rows * n_cols * sizeof(float), 64); }

size_t qn_input_bytes(uint32_t mask, size_t cap_rows, size_t n_cols)
{
    size_t total = float_bytes(cap_rows, n_cols) + qn_align_up(n_cols * sizeof(float), 64);
    for (int i = QN_FORM_I8_32; i < QN_FORM_COUNT; i++) {
        if ((mask >> i & 1u) != 0) {
            total += qn_align_up(qn_act_bytes(QN_ACT_I8, form_block[i], cap_rows, n_cols), 64);
        }
    }
    return total;
}

void qn_input_bind(qn_input *input, uint32_t mask, size_t cap_rows, size_t n_cols, void *memory)
{
    *input = (qn_input){.n_cols = n_cols, .cap_rows = cap_rows, .f = memory, .mask = mask};
    input->forms[QN_FORM_F32] = (qn_act){.kind = QN_ACT_F32, .n_rows = cap_rows, .n_cols = n_cols, .f = memory, .f_stride = n_cols};
    char *p = (char *)memory + float_bytes(cap_rows, n_cols);
    for (int i = QN_FORM_I8_32; i < QN_FORM_COUNT; i++) {
        if ((mask >> i & 1u) != 0) {
            qn_act_bind(&input->forms[i], QN_ACT_I8, form_block[i], cap_rows, n_cols, p);
            p += qn_align_up(qn_act_bytes(QN_ACT_I8, form_block[i], cap_rows, n_cols), 64);
        }
    }
}
