/* fuzz_journal.c - any bytes as the journal of an unfinished run; and any lines, each with the checksum that it should have. */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/checksum.h"
#include "quantize/journal.h"

enum { PIECES = 3, OUTPUTS = 2 };
static const char identity[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds)
{
    if (!holds) {
        __builtin_trap();
    }
}

/* A run of three pieces to a GGUF file (one stream a tensor) and an MLX folder (three). */
static void read_journal(const char *text, size_t len)
{
    qn_piece pieces[PIECES] = {0};
    qn_sink sinks[OUTPUTS][PIECES] = {0};
    qn_output outputs[OUTPUTS] = {{.sinks = sinks[0]}, {.sinks = sinks[1]}};
    float greatest[PIECES] = {0};
    qn_job job = {.source = {.pieces = pieces, .n_pieces = PIECES}, .outputs = outputs, .n_outputs = OUTPUTS, .greatest = greatest};
    qn_journal j = {.job = &job, .fd = -1};
    memcpy(j.identity, identity, sizeof identity);
    for (size_t i = 0; i < PIECES; i++) {
        sinks[0][i].n_streams = 1;
        sinks[1][i].n_streams = QN_STREAMS_MAX;
    }
    qn_journal_found found = qn_journal_parse(&j, text, len);
    check(job.n_continued <= PIECES && j.n_pieces == job.n_continued && j.valid_bytes <= len);
    check((found == QN_JOURNAL_USABLE) == (job.n_continued > 0));
    check(j.valid_bytes == 0 || text[j.valid_bytes - 1] == '\n');
    for (size_t o = 0; o < OUTPUTS; o++) {
        for (size_t i = job.n_continued; i < PIECES; i++) { /* what is not noted was not read */
            check(memcmp(&sinks[o][i].error, &(qn_tensor_error){0}, sizeof(qn_tensor_error)) == 0);
        }
    }
    if (found == QN_JOURNAL_USABLE) { /* what was valid is valid by itself */
        size_t n = job.n_continued;
        check(qn_journal_parse(&j, text, (size_t)j.valid_bytes) == QN_JOURNAL_USABLE && job.n_continued == n);
    }
}

/* The input's lines with their checksums: what a fuzzer does not guess. */
static void sign(const char *text, size_t len, qn_buf *out)
{
    for (size_t at = 0; at < len;) {
        const char *newline = memchr(text + at, '\n', len - at);
        size_t n = newline != NULL ? (size_t)(newline - text) - at : len - at;
        qn_checksum sum;
        qn_checksum_init(&sum);
        qn_checksum_update(&sum, text + at, n);
        (void)qn_buf_append(out, text + at, n);
        (void)qn_buf_printf(out, " %016" PRIx64 "\n", qn_checksum_value(&sum));
        at += n + 1;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qn_buf text;
    qn_buf_init(&text, SIZE_MAX / 2);
    read_journal(size > 0 ? (const char *)data : "", size);
    if (size > 0) {
        sign((const char *)data, size, &text);
        read_journal(qn_buf_text(&text), text.len);
    }
    qn_buf_deinit(&text);
    return 0;
}
