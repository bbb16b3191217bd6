/* verify_folder_keys.h - the JSON files of an MLX folder, key by key: what other readers than Quern take from them.
 */
#ifndef QN_QUANTIZE_VERIFY_FOLDER_KEYS_H
#define QN_QUANTIZE_VERIFY_FOLDER_KEYS_H

#include "base/json.h"
#include "gate/findings.h"
#include "quantize/verify_folder.h"

/* The first of the folder's texts are JSON. */
enum { QN_FOLDER_N_JSON = QN_FOLDER_TEMPLATE };

/* Both sides parsed, NULL where there is no such file; tokenizer.json without vocabulary and merges. */
typedef struct qn_folder_keys {
    qn_json *const *own, *const *source; /* (QN_FOLDER_N_JSON) */
    bool source_is_folder;               /* else a GGUF file, of which only generation_config.json can be made */
    qn_findings *findings;
    quern_error *err;
} qn_folder_keys;

/* What changes ids, prompts or sampling for a reader, or lets it run code, is a reason to fail; the rest is one note a file. */
quern_status qn_verify_folder_keys(const qn_folder_keys *c);
/* Special tokens (verify_special_tokens.c): that no text becomes a special token which is none in the source, nor another one pads. */
quern_status qn_verify_special_tokens(const qn_folder_keys *c);

/* One added token, whichever file describes it. */
enum { QN_ADDED_FLAGS = 5 };
typedef struct qn_added_token {
    const char *content; /* NULL where it is not of that form */
    size_t len;
    bool flags[QN_ADDED_FLAGS];
} qn_added_token;
extern const char *const qn_added_flag_names[QN_ADDED_FLAGS]; /* "special" first */
qn_added_token qn_added_token_read(const qn_json *v);

#endif
