/* data_writer.c - places tensors, keeps account of written bytes, pads with zeros. */
#include "formats/data_writer.h"

#include <inttypes.h>
#include <string.h>

#include "base/alloc.h"

quern_status qn_data_writer_init(qn_data_writer *w, const char *final_path, quern_error *err)
{
    quern_status status = QUERN_OK;
    const char *path = final_path != NULL ? final_path : "a planned file";
    *w = (qn_data_writer){.path = qn_strdup(path)};
    if (w->path == NULL) {
        QN_FAIL_MEMORY(err, path, strlen(path) + 1);
    }
    if (final_path != NULL) {
        QN_TRY(qn_out_file_create(&w->file, final_path, err));
    }
done:
    return status;
}

quern_status qn_data_writer_attach(qn_data_writer *w, const char *final_path, qn_out_file *file, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *path = qn_strdup(final_path);
    if (path == NULL) {
        QN_FAIL_MEMORY(err, final_path, strlen(final_path) + 1);
    }
    if (w->began || w->file != NULL) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: attached to a writer that has begun", final_path);
    }
    qn_free(w->path);
    w->path = path;
    w->file = file;
    path = NULL;
    file = NULL;
done:
    qn_free(path);
    qn_out_file_close(file);
    return status;
}

quern_status qn_data_writer_check(const qn_data_writer *w, size_t index, uint64_t offset, uint64_t size, qn_checksum *sum, quern_error *err)
{
    enum { PIECE_BYTES = 1 << 20 };
    quern_status status = QUERN_OK;
    uint8_t *buffer = qn_malloc(PIECE_BYTES);
    if (buffer == NULL) {
        QN_FAIL_MEMORY(err, w->path, PIECE_BYTES);
    }
    if (!w->began || w->file == NULL || index >= w->n_slots || offset > w->slots[index].tensor.n_bytes ||
        size > w->slots[index].tensor.n_bytes - offset) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: a check of what tensor number %zu of %zu does not have", w->path, index, w->n_slots);
    }
    uint64_t at = w->slots[index].tensor.file_offset + offset;
    while (size > 0) {
        size_t n = size < PIECE_BYTES ? (size_t)size : PIECE_BYTES;
        QN_TRY(qn_out_file_read_at(w->file, at, buffer, n, err));
        qn_checksum_update(sum, buffer, n);
        at += n;
        size -= n;
    }
done:
    qn_free(buffer);
    return status;
}

void qn_data_writer_deinit(qn_data_writer *w)
{
    for (size_t i = 0; i < w->n_slots; i++) {
        qn_free(w->slots[i].name);
        qn_free(w->slots[i].written);
    }
    qn_free(w->slots);
    qn_out_file_close(w->file);
    qn_free(w->path);
    *w = (qn_data_writer){0};
}

quern_status qn_data_writer_declare(qn_data_writer *w, const char *name, qn_dtype t, const uint64_t *shape, uint32_t n_dims,
                                    quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_data_slot slot = {.tensor = {.dtype = t, .n_dims = n_dims}};
    const char *why;
    if (w->began) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: tensor '%s' is declared after the data began", w->path, name);
    }
    if (!qn_tensor_name_valid(name, strlen(name)) || n_dims > QN_TENSOR_DIMS_MAX) {
        QN_FAIL(err, QUERN_ERROR_INVALID,
                "%s: tensor '%s' with %" PRIu32 " dimensions cannot be written (expected a name of 1 to %u bytes and at most"
                " %d dimensions)",
                w->path, name, n_dims, QN_TENSOR_NAME_MAX, QN_TENSOR_DIMS_MAX);
    }
    for (uint32_t i = 0; i < n_dims; i++) {
        slot.tensor.shape[i] = shape[i];
    }
    if (!qn_tensor_measure(&slot.tensor, &why)) {
        QN_FAIL(err, QUERN_ERROR_INVALID, "%s: tensor '%s' cannot be written as %s: %s", w->path, name, qn_dtype_get(t)->name, why);
    }
    if (w->n_slots == w->cap_slots) {
        size_t cap = w->cap_slots != 0 ? 2 * w->cap_slots : 64;
        void *slots = qn_realloc_array(w->slots, cap, sizeof *w->slots);
        if (slots == NULL) {
            QN_FAIL_MEMORY(err, "the list of tensors", cap * sizeof *w->slots);
        }
        w->slots = slots;
        w->cap_slots = cap;
    }
    slot.name = qn_strdup(name);
    if (slot.name == NULL) {
        QN_FAIL_MEMORY(err, "the list of tensors", strlen(name) + 1);
    }
    slot.tensor.name = slot.name;
    w->slots[w->n_slots++] = slot;
done:
    return status;
}

/* *at = *at + bytes, rounded up; false beyond 63 bits. */
static bool advance(uint64_t *at, uint64_t bytes, uint64_t alignment)
{
    if (bytes > INT64_MAX - *at || *at + bytes > INT64_MAX - alignment) {
        return false;
    }
    *at = (*at + bytes + alignment - 1) & ~(alignment - 1);
    return true;
}

quern_status qn_data_writer_place(qn_data_writer *w, uint64_t header_bytes, uint64_t alignment, quern_error *err)
{
    quern_status status = QUERN_OK;
    uint64_t at = 0;
    bool fits = advance(&at, header_bytes, alignment);
    for (size_t i = 0; fits && i < w->n_slots; i++) {
        w->slots[i].tensor.file_offset = at;
        fits = advance(&at, w->slots[i].tensor.n_bytes, alignment);
    }
    if (!fits) {
        QN_FAIL(err, QUERN_ERROR_LIMIT, "%s: all tensors together do not fit 2^63 bytes", w->path);
    }
    w->total_bytes = at;
done:
    return status;
}

static quern_status put(qn_data_writer *w, uint64_t offset, const void *data, size_t size, quern_error *err)
{
    if (offset == qn_out_file_position(w->file)) {
        return qn_out_file_write(w->file, data, size, err);
    }
    return qn_out_file_write_at(w->file, offset, data, size, err);
}

static quern_status put_zeros(qn_data_writer *w, uint64_t from, uint64_t to, quern_error *err)
{
    static const uint8_t zeros[4096];
    quern_status status = QUERN_OK;
    while (status == QUERN_OK && from < to) {
        size_t n = to - from < sizeof zeros ? (size_t)(to - from) : sizeof zeros;
        status = put(w, from, zeros, n, err);
        from += n;
    }
    return status;
}

quern_status qn_data_writer_begin(qn_data_writer *w, const void *header, size_t size, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (w->began) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: the data began twice", w->path);
    }
    w->began = true;
    if (w->file == NULL) {
        goto done;
    }
    QN_TRY(put(w, 0, header, size, err));
    QN_TRY(put_zeros(w, size, w->n_slots > 0 ? w->slots[0].tensor.file_offset : w->total_bytes, err));
done:
    return status;
}

/* Notes that [begin, end) is written; a byte twice is a mistake of the caller. */
static quern_status note_written(qn_data_writer *w, qn_data_slot *slot, uint64_t begin, uint64_t end, quern_error *err)
{
    quern_status status = QUERN_OK;
    size_t i = slot->n_written; /* where the new span goes: behind all that begin before it */
    while (i > 0 && slot->written[i - 1].begin >= begin) {
        i--;
    }
    qn_written_span *before = i > 0 ? &slot->written[i - 1] : NULL;
    qn_written_span *after = i < slot->n_written ? &slot->written[i] : NULL;
    if ((before != NULL && before->end > begin) || (after != NULL && after->begin < end)) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: tensor '%s': bytes %" PRIu64 " to %" PRIu64 " are written twice", w->path, slot->name,
                begin, end);
    }
    bool joins_before = before != NULL && before->end == begin;
    bool joins_after = after != NULL && after->begin == end;
    if (joins_before) {
        before->end = joins_after ? after->end : end;
        if (joins_after) {
            slot->n_written--;
            memmove(after, after + 1, (slot->n_written - i) * sizeof *after);
        }
        goto done;
    }
    if (joins_after) {
        after->begin = begin;
        goto done;
    }
    if (slot->n_written == slot->cap_written) {
        size_t cap = slot->cap_written != 0 ? 2 * slot->cap_written : 4;
        void *spans = qn_realloc_array(slot->written, cap, sizeof *slot->written);
        if (spans == NULL) {
            QN_FAIL_MEMORY(err, "the account of written bytes", cap * sizeof *slot->written);
        }
        slot->written = spans;
        slot->cap_written = cap;
    }
    memmove(slot->written + i + 1, slot->written + i, (slot->n_written - i) * sizeof *slot->written);
    slot->written[i] = (qn_written_span){.begin = begin, .end = end};
    slot->n_written++;
done:
    return status;
}

/* Zeros at [from, to), less than an alignment, without moving the append position. */
static quern_status clear_span(qn_data_writer *w, uint64_t from, uint64_t to, quern_error *err)
{
    static const uint8_t zeros[4096];
    quern_status status = QUERN_OK;
    while (status == QUERN_OK && from < to) {
        size_t n = to - from < sizeof zeros ? (size_t)(to - from) : sizeof zeros;
        status = qn_out_file_write_at(w->file, from, zeros, n, err);
        from += n;
    }
    return status;
}

quern_status qn_data_writer_keep(qn_data_writer *w, size_t n, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!w->began || w->finished || w->file == NULL || n > w->n_slots) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: %zu of %zu tensors kept outside the time between begin and commit", w->path, n, w->n_slots);
    }
    for (size_t i = 0; i < n; i++) {
        if (w->slots[i].tensor.n_bytes > 0) {
            QN_TRY(note_written(w, &w->slots[i], 0, w->slots[i].tensor.n_bytes, err));
        }
    }
    if (w->n_slots == 0) {
        goto done;
    }
    const qn_tensor *last = &w->slots[n > 0 ? n - 1 : 0].tensor;
    uint64_t end = n > 0 ? last->file_offset + last->n_bytes : last->file_offset;
    QN_TRY(qn_out_file_flush(w->file, err));
    for (size_t i = n > 0 ? n : 1; i < w->n_slots; i++) { /* what stands between the others may be anything */
        const qn_tensor *before = &w->slots[i - 1].tensor;
        QN_TRY(clear_span(w, before->file_offset + before->n_bytes, w->slots[i].tensor.file_offset, err));
    }
    QN_TRY(qn_out_file_rewind(w->file, end, w->total_bytes, err));
done:
    return status;
}

quern_status qn_data_writer_write(qn_data_writer *w, size_t index, uint64_t offset, const void *data, size_t size, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!w->began || w->finished || w->file == NULL || index >= w->n_slots) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: data for tensor number %zu of %zu outside the time between begin and commit", w->path,
                index, w->n_slots);
    }
    qn_data_slot *slot = &w->slots[index];
    const qn_tensor *t = &slot->tensor;
    if (offset > t->n_bytes || size > t->n_bytes - offset) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: tensor '%s': %zu bytes at %" PRIu64 " go past its %zu bytes", w->path, slot->name, size,
                offset, t->n_bytes);
    }
    if (size == 0) {
        goto done;
    }
    QN_TRY(note_written(w, slot, offset, offset + size, err));
    /* Appending is buffered, so the padding before a tensor is appended too where the file stands at it. */
    uint64_t position = qn_out_file_position(w->file);
    uint64_t gap_begin = t->file_offset;
    if (index > 0) {
        const qn_tensor *previous = &w->slots[index - 1].tensor;
        gap_begin = previous->file_offset + previous->n_bytes;
    }
    if (position >= gap_begin && position < t->file_offset) {
        QN_TRY(put_zeros(w, position, t->file_offset, err));
    }
    QN_TRY(put(w, t->file_offset + offset, data, size, err));
done:
    return status;
}

static bool is_complete(const qn_data_slot *slot)
{
    return slot->tensor.n_bytes == 0 ||
           (slot->n_written == 1 && slot->written[0].begin == 0 && slot->written[0].end == slot->tensor.n_bytes);
}

uint64_t qn_data_writer_prefix(qn_data_writer *w)
{
    if (!w->began || w->file == NULL || w->n_slots == 0) {
        return 0;
    }
    while (w->n_complete < w->n_slots && is_complete(&w->slots[w->n_complete])) {
        w->n_complete++;
    }
    uint64_t prefix = w->slots[0].tensor.file_offset;
    if (w->finished) {
        prefix = w->total_bytes;
    } else if (w->n_complete < w->n_slots && w->slots[w->n_complete].n_written > 0 && w->slots[w->n_complete].written[0].begin == 0) {
        prefix = w->slots[w->n_complete].tensor.file_offset + w->slots[w->n_complete].written[0].end;
    } else if (w->n_complete > 0) {
        const qn_tensor *last = &w->slots[w->n_complete - 1].tensor;
        prefix = last->file_offset + last->n_bytes;
    }
    uint64_t flushed = qn_out_file_flushed(w->file);
    bool buffered = flushed < qn_out_file_position(w->file);
    return buffered && prefix > flushed ? flushed : prefix;
}

quern_status qn_data_writer_finish(qn_data_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!w->began || w->finished || w->file == NULL) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: finished without begun data, or twice", w->path);
    }
    for (size_t i = 0; i < w->n_slots; i++) {
        const qn_data_slot *slot = &w->slots[i];
        uint64_t have = slot->n_written > 0 ? slot->written[0].end - slot->written[0].begin : 0;
        if (!is_complete(slot)) {
            QN_FAIL(err, QUERN_ERROR_INTERNAL, "%s: tensor '%s' is not complete: %" PRIu64 " of %zu bytes in its first piece", w->path,
                    slot->name, have, slot->tensor.n_bytes);
        }
    }
    if (w->n_slots > 0) {
        const qn_tensor *last = &w->slots[w->n_slots - 1].tensor;
        QN_TRY(put_zeros(w, last->file_offset + last->n_bytes, w->total_bytes, err));
    }
    QN_TRY(qn_out_file_flush(w->file, err));
    w->finished = true;
done:
    return status;
}

quern_status qn_data_writer_commit(qn_data_writer *w, quern_error *err)
{
    quern_status status = QUERN_OK;
    if (!w->finished) {
        QN_TRY(qn_data_writer_finish(w, err));
    }
    QN_TRY(qn_out_file_commit(w->file, err));
done:
    return status;
}
