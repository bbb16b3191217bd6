/* fuzz_gguf.c - any bytes as a GGUF file: opening must end, and what opens must keep its promises about spans. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "formats/gguf_read.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

static uint64_t read_value(const qn_gguf_value *v, const uint8_t *data, size_t size)
{
    uint64_t sum = 0;
    const uint8_t *cursor = v->data;
    check(v->data >= data && v->n_bytes <= size && (size_t)(v->data - data) <= size - v->n_bytes);
    for (uint64_t i = 0; i < v->n; i++) {
        int64_t integer;
        double real;
        sum += qn_gguf_element_i64(v, i, &integer) ? (uint64_t)integer : 0;
        sum += qn_gguf_element_f64(v, i, &real) ? 1 : 0;
        if (v->element == QN_GGUF_STRING) {
            qn_span s = qn_gguf_next_string(&cursor);
            sum += s.len > 0 ? (uint8_t)s.data[s.len - 1] : 0;
        }
    }
    check(v->element != QN_GGUF_STRING || cursor == v->data + v->n_bytes);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_error err;
    qn_gguf *g;
    err.message[0] = '\0';
    if (qn_gguf_parse(&g, data, size, "input", &err) != QUERN_OK) {
        check(g == NULL && strstr(err.message, "input") != NULL);
        return 0;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < qn_gguf_n_keys(g); i++) {
        sum += read_value(qn_gguf_key_at(g, i), data, size);
    }
    for (size_t i = 0; i < qn_gguf_n_tensors(g); i++) {
        const qn_tensor *t = qn_gguf_tensor_at(g, i);
        check(t->n_bytes > 0 && t->file_offset <= size && t->n_bytes <= size - t->file_offset && t->data == data + t->file_offset);
        check(qn_gguf_find_tensor(g, t->name) == t);
        sum += t->data[0] + t->data[t->n_bytes - 1];
    }
    qn_gguf_close(g);
    volatile uint64_t sink = sum; /* so that the reads above are made */
    (void)sink;
    return 0;
}
