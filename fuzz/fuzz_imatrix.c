/* fuzz_imatrix.c - any bytes as a file of importance. */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "calibrate/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    quern_error err;
    qn_imatrix m;
    err.message[0] = '\0';
    if (qn_imatrix_parse(&m, data, size, "input", &err) != QUERN_OK) {
        check(err.message[0] != '\0' && m.entries == NULL);
        return 0;
    }
    check(m.n_entries > 0);
    for (size_t i = 0; i < m.n_entries; i++) {
        const qn_imatrix_entry *e = &m.entries[i];
        check(qn_imatrix_find(&m, e->name) == e && e->n_counts > 0 && e->n_values % e->n_counts == 0 && e->n_values <= size);
        for (size_t k = 0; k < e->n_values; k++) {
            check(isfinite(e->sums[k]) && e->sums[k] >= 0);
        }
        for (size_t k = 0; k < e->n_counts; k++) {
            check(isfinite(e->counts[k]) && e->counts[k] >= 0);
        }
    }
    qn_imatrix_deinit(&m);
    return 0;
}
