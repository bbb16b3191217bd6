/* quern/inspect.h - what a file says of itself, as one JSON document (the command line makes tables of it).
 *
 * PATH: a GGUF, a model folder, a single safetensors file, config.json, tokenizer.json or a Quern manifest.json.
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

/* *json is NUL-terminated, schema "quern.inspect/1"; free with quern_free. A broken file is an error, not a document. */
QUERN_API quern_status quern_inspect(const char *path, const quern_inspect_options *opt, char **json, size_t *len, quern_error *err);

#ifdef __cplusplus
}
#endif
#endif
