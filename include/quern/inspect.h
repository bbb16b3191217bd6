/* quern/inspect.h - what a file says of itself, as one JSON document (the command line makes tables of it).
 *
 * PATH: a GGUF, a model folder, a single safetensors file, config.json, tokenizer.json or a Quern manifest.json; JSON files are
 * told apart by their content. A broken file is an error (QUERN_ERROR_INVALID naming file, place and expectation), not a document: a
 * model is opened as for running, so missing tensors, wrong shapes and a vocabulary that does not fit are found here too.
 *
 * The document, schema "quern.inspect/1". Members that do not apply to a kind are absent; null means "asked, and there is none".
 *
 *   schema, kind ("gguf" "folder" "safetensors" "config" "tokenizer" "manifest"), path, format ("gguf" "safetensors" "mlx" "json")
 *   architecture, name, runnable     whether this version can run it; if not, `unsupported` says why and the rest is still described
 *   parameters, bytes (of all files), weight_bytes, bits_per_weight
 *   files       [{"path","bytes"}]
 *   config      {"layers","hidden_size","heads","kv_heads","head_dim","ffn_size","vocab","context","rms_eps","tied_embeddings",
 *                "rope":{...},"experts":{...} or absent,"window":{...} or absent,"stop_ids":[],"sampling":{...} or null,"quantization":{...} or null}
 *   tokenizer   {"model","pre","tokens","merges","added","bos_id","eos_id","unk_id","pad_id"} or null
 *   template    the chat template's source text or null
 *   types       {"Q4_K":{"n","bytes"},...} by stored element type
 *   certificate what the file claims of its quality (quern verify measures it): {"status","verdict","ppl_source","ppl","ppl_ratio",
 *               "ppl_ratio_error","kld_mean","kld_p99","kld_max","top1_agreement","tokens","n_ctx","text_sha256","data_sha256","quern_version"};
 *               absent if it claims nothing
 *   metadata    (option) GGUF: every key; arrays longer than 8 as {"type","n","first":[8 elements]}. Folder: {"config.json":...,
 *               "safetensors":{...}}. Safetensors: its __metadata__.
 *   tensors     (option) [{"name","type","shape" (row-major),"bytes","file","offset"}]
 *   check       (option check_values, and always up to 64 MiB of weights) {"ok","tensors","elements","nonfinite":[{"tensor","index","n"}]}:
 *               index is the first value that is no finite float32 in row-major order, n how many there are. The call itself still succeeds;
 *               at most 100 tensors are listed.
 *   A manifest instead has: created, quern_version, source {...}, files_verified, outputs [{"format","type","path","bytes","bits_per_weight",
 *   "gate","ppl_ratio","kld_mean","top1_agreement","certificate" ("agrees" or "none")}]. Every file of every output is read: one that is missing, whose
 *   bytes or SHA-256 differ, or whose type, bits per weight, parameters, tensors (names, types, shapes), sum of bytes or certificate are not what the
 *   manifest says, is an error; so is a file that is listed twice, or that a reader of a folder may take and the manifest does not list.
 */
#ifndef QUERN_INSPECT_H
#define QUERN_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include "quern/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct quern_inspect_options {
    bool tensors;       /* list every tensor */
    bool metadata;      /* all keys (long arrays shortened) */
    bool check_values;  /* read every weight: NaN and infinities are reported */
} quern_inspect_options;

/* *json is NUL-terminated; free with quern_free. opt and len may be NULL. */
QUERN_API quern_status quern_inspect(const char *path, const quern_inspect_options *opt, char **json, size_t *len, quern_error *err);

/* The same for a GGUF of `size` bytes in memory, which the document calls `name`. data must not be NULL. */
QUERN_API quern_status quern_inspect_memory(const void *data, size_t size, const char *name, const quern_inspect_options *opt, char **json,
                                            size_t *len, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
