/* source_finite.c - see source_finite.h. */
#include "quantize/source_finite.h"

#include <inttypes.h>

#include "base/fs.h"
#include "quant/codec.h"

enum { BUFFER_ELEMENTS = 1 << 16 };

quern_status qn_source_fail_not_finite(const qn_source *s, const qn_piece *p, size_t part, uint64_t row, uint64_t column, quern_error *err)
{
    const qn_tensor *t = p->parts[part];
    return qn_error_set(err, QUERN_ERROR_INVALID, "%s: tensor %s holds a value that is not finite at row %" PRIu64 ", column %" PRIu64,
                        qn_source_file_path(s, t->file_index), t->name, row, column);
}

quern_status qn_source_check_piece(const qn_source *s, const qn_piece *p, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t rows = BUFFER_ELEMENTS / p->n_cols;
    rows = rows > 0 ? rows : 1;
    float *x = qn_malloc_array((size_t)(rows * p->n_cols), sizeof *x);
    if (x == NULL) {
        QN_FAIL_MEMORY(err, "rows of the source", rows * p->n_cols * sizeof *x);
    }
    for (size_t part = 0; part < p->n_parts; part++) {
        for (uint64_t first = 0; first < p->n_rows; first += rows) {
            uint64_t n = p->n_rows - first < rows ? p->n_rows - first : rows;
            size_t elements = (size_t)(n * p->n_cols);
            qn_piece_decode(p, part, first, n, x);
            size_t bad = qn_find_non_finite(x, elements);
            if (bad < elements) {
                QN_TRY(qn_source_fail_not_finite(s, p, part, first + bad / p->n_cols, bad % p->n_cols, err));
            }
        }
        qn_mapped_span_release(p->parts[part]->data, p->parts[part]->n_bytes);
    }
done:
    qn_free(x);
    return status;
}

quern_status qn_source_explain_overflow(const qn_source *s, quern_error *why)
{
    quern_status status = QUERN_OK;
    const quern_error said = *why;
    for (size_t i = 0; i < s->n_pieces; i++) {
        QN_TRY(qn_source_check_piece(s, &s->pieces[i], why));
    }
    (void)qn_error_set(why, said.status, "%s; all weights of the source are finite", said.message);
done:
    return status;
}
