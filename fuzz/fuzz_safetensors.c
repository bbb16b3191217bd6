/* fuzz_safetensors.c - any bytes as a safetensors file, and as the index of a sharded one. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "formats/safetensors_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

static void read_index(const uint8_t *data, size_t size)
{
    quern_error err;
    qn_st_pairs map = {0};
    qn_arena arena;
    qn_arena_init(&arena, 0);
    if (qn_safetensors_parse_index((const char *)data, size, "input", &map, &arena, &err) == QUERN_OK) {
        for (size_t i = 0; i < map.n; i++) {
            check(strchr(map.items[i].value, '/') == NULL);
        }
    }
    qn_free(map.items);
    qn_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_error err;
    qn_safetensors *s;
    uint64_t end = 0;
    err.message[0] = '\0';
    if (size > 0 && data[0] == '{') { /* such a length would be refused anyway */
        read_index(data, size);
        return 0;
    }
    if (qn_safetensors_parse(&s, data, size, "input", &err) != QUERN_OK) {
        check(s == NULL && strstr(err.message, "input") != NULL);
        return 0;
    }
    for (size_t i = 0; i < qn_safetensors_n_tensors(s); i++) {
        const qn_tensor *t = qn_safetensors_tensor_at(s, i);
        check(t->file_offset >= end && t->n_bytes <= size - t->file_offset && t->data == data + t->file_offset);
        check(qn_safetensors_find(s, t->name) == t);
        end = t->file_offset + t->n_bytes;
        volatile uint8_t last = t->n_bytes > 0 ? t->data[t->n_bytes - 1] : 0; /* so that the read is made */
        (void)last;
    }
    check(end == 0 || end == size);
    qn_safetensors_close(s);
    return 0;
}
