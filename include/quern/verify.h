/* quern/verify.h - the gate on files that exist: whether an output holds what its source says, and what it lost.
 *
 * Integrity decides "fail": every tensor is there, in order and in place, every block within 1.25 times the error of plain encoding and with
 * the nearest codes, metadata and tokenizer as in the source, and a certificate in the file is one that it earns. Quality decides "lossy":
 * source and output run side by side (docs/quality.md has the tests, the limits and their reasons).
 */
#ifndef QUERN_VERIFY_H
#define QUERN_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quern/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum quern_gate_policy {
    QUERN_GATE_OFF,     /* quantize: no gate, verdict "skipped"; verify: integrity only */
    QUERN_GATE_DEFAULT, /* integrity and quality; lossy is said, not refused */
    QUERN_GATE_STRICT   /* the same, with tighter limits, and what is lossy or could not be measured is refused too */
} quern_gate_policy;
/* "off", "default", "strict" */
QUERN_API const char *quern_gate_policy_name(quern_gate_policy p);
/* The same backwards, and "sample:LAYERS": the default policy, of that many layers by themselves. False for other texts. */
QUERN_API bool quern_gate_policy_parse(const char *text, quern_gate_policy *policy, size_t *sample_layers);

/* What the source reads first, so that encoders know which columns matter. */
typedef enum quern_calibrate {
    QUERN_CALIBRATE_NONE,
    QUERN_CALIBRATE_AUTO,    /* quantize: the built-in text if the source has at most 1e9 parameters and can be run; else none, and the manifest says
                                why. verify: the same up to 3e8, and only where a file looks as if it had been made so */
    QUERN_CALIBRATE_BUILTIN, /* the built-in text; what stands in the way is an error, as in the next two */
    QUERN_CALIBRATE_TEXT,    /* calibration_text */
    QUERN_CALIBRATE_IMATRIX  /* imatrix_path: a file of llama.cpp's or of ours */
} quern_calibrate;

/* What is looked at now, and how much of it is done. Return false to interrupt. */
typedef bool (*quern_verify_callback)(void *user, const char *what, uint64_t done, uint64_t total);

typedef struct quern_verify_options {
    const char *const *files;  /* GGUF files and MLX folders */
    size_t n_files;
    const char *source;        /* the checkpoint that they were made from */
    const char *architecture;  /* NULL, or the architecture to read the source as, and files whose own is not known */
    quern_gate_policy policy;
    size_t sample_layers;      /* 0 = the whole model, or 8 layers where source and output together do not fit into memory */
    const char *text;          /* quality: UTF-8 text to predict; NULL = the built-in one */
    size_t text_len;
    quern_calibrate calibrate; /* what the files were made with: tensors are encoded so again, which finds the smallest faults */
    const char *calibration_text; /* need not end in NUL */
    size_t calibration_len;
    const char *calibration_name; /* NULL, or what to call that text in messages: its file */
    const char *imatrix_path;
    uint64_t memory_bytes;     /* bound for working memory, as quantize's; 0 = 2 GiB for encoding again, none for running source and output */
    size_t n_threads;          /* 0 = all */
    quern_verify_callback on_progress; /* may be NULL */
    void *user;
} quern_verify_options;

typedef struct quern_verify_result {
    char *json;       /* schema quern.verify/1: {"source", "outputs": as in a manifest}; NUL-terminated, free with quern_free */
    size_t len;
    size_t n_failed, n_lossy;
    size_t n_unmeasured;     /* sound, but their quality, which the policy asked for, could not be measured: verdict "skipped" */
    size_t n_unreadable;     /* files that could not be read or judged: verdict "unreadable", counted in neither */
    quern_error unreadable;  /* of the first of them */
} quern_verify_result;

/* What a file holds is a verdict, and a file that cannot be read or judged (QUERN_ERROR_NOT_FOUND, _INVALID, _UNSUPPORTED) is an entry of the
 * report too; the others are judged all the same. Errors are those of the source, the machine and the user. */
QUERN_API quern_status quern_verify(const quern_verify_options *opt, quern_verify_result *out, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
