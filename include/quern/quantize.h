/* quern/quantize.h - a checkpoint to GGUF and MLX files in one pass, with a manifest.
 */
#ifndef QUERN_QUANTIZE_H
#define QUERN_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "quern/verify.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Most hashing goes on while tensors are converted; what is left of it, and bringing the files to the disk, are stages of their own.
 * PROBE, with target_bpw, comes first: how much each tensor matters. Then CALIBRATE, if encoders are to know what matrices read. */
typedef enum quern_quantize_stage {
    QUERN_QUANTIZE_CONVERT, QUERN_QUANTIZE_HASH, QUERN_QUANTIZE_SYNC, QUERN_QUANTIZE_PROBE, QUERN_QUANTIZE_CALIBRATE,
    QUERN_QUANTIZE_GATE /* between hashing and syncing; bytes count steps */
} quern_quantize_stage;

typedef struct quern_quantize_progress {
    quern_quantize_stage stage;
    const char *tensor;           /* the tensor being converted, or just finished, as the first output names it; later a file */
    size_t tensors_done, tensors_total;
    uint64_t bytes_done, bytes_total; /* of the stage: of the source's weights, then of the files that are hashed and synced */
    uint64_t tokens_done, tokens_total; /* of the calibration text */
    double seconds;               /* since the start */
    const char *note;             /* NULL, or a sentence to be shown: where an unfinished run is continued, or why it is not */
} quern_quantize_progress;
/* Called on the calling thread after every tensor, several times a second within large ones, and in the later stages. Return false to
 * interrupt: nothing new then has a final name, and outputs of earlier runs are as they were. */
typedef bool (*quern_quantize_callback)(void *user, const quern_quantize_progress *p);

typedef struct quern_quantize_options {
    const char *source;            /* Hugging Face or MLX folder, or GGUF file */
    const char *architecture;      /* NULL = what the source says; else it is treated as this one ("qwen3"), if every tensor fits */
    const char *output_dir;
    const char *name;              /* NULL = the source folder's name */
    const char *formats;           /* comma list as on the command line: "gguf:Q4_K_M,mlx:4bit" */
    const char *const *tensor_types; /* "REGEX=TYPE" overrides for GGUF; one that matches no tensor is QUERN_ERROR_USAGE, one without effect a warning */
    size_t n_tensor_types;
    size_t n_threads;              /* 0 = all */
    double target_bpw;             /* 0, or bits per weight, 1 to 16: each quantized format mixes its family's types to this size, by measurement */
    uint64_t memory_bytes;         /* working memory bound; 0 = 2 GiB */
    quern_calibrate calibrate;
    const char *calibration_text;  /* need not end in NUL */
    size_t calibration_len;
    const char *calibration_name;  /* NULL, or what to call that text in messages: its file */
    const char *imatrix_path;
    const char *imatrix_out;       /* NULL, or where to write what calibration found, in llama.cpp's GGUF form (".dat": the older form): a new
                                    * file or an importance matrix to be replaced, in a folder that is there; anything else is QUERN_ERROR_USAGE, before
                                    * any work is done */
    quern_gate_policy gate;        /* what every output must pass before it gets its name; zero is QUERN_GATE_OFF */
    size_t sample_layers;          /* as in quern_verify_options */
    const char *gate_text;         /* as in quern_verify_options; NULL = the built-in text */
    size_t gate_text_len;
    bool keep_failed;              /* files that fail get names ending in ".failed" instead of being removed */
    bool dry_run;                  /* plan only: nothing is written */
    bool no_resume;                /* do not continue an unfinished run, start over */
    quern_quantize_callback on_progress;
    void *user;
} quern_quantize_options;

/* A run that is cancelled, fails to write, or is killed leaves its partial files under temporary names, with a journal of what is complete and
 * on the disk; the next call with the same source and options continues there and gives the same bytes. Other sources or options, or damaged
 * partial files, start over.
 *
 * An output that fails the gate is no error: its entry in the manifest says "fail" and why, it does not get its name, and the others go on.
 * Files get their final names together, the manifest last, once all of them are written, hashed and synced; until then, and after any failure,
 * earlier files of these names are as they were. The folder is locked meanwhile: a second run into it is QUERN_ERROR_IO. Outputs of earlier
 * runs from the same source that still are in the folder stay in the manifest ("kept_from"); of others "warnings" says that they are not
 * described any more.
 * *manifest_json (schema quern.manifest/1; for a dry run the plan) is NUL-terminated; free with quern_free. */
QUERN_API quern_status quern_quantize(const quern_quantize_options *opt, char **manifest_json, size_t *len, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
