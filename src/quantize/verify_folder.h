/* verify_folder.h - the texts of an MLX folder against the source's: tokenizer, templates, end tokens, and what its JSON files say beside them.
 */
#ifndef QN_QUANTIZE_VERIFY_FOLDER_H
#define QN_QUANTIZE_VERIFY_FOLDER_H

#include "gate/findings.h"
#include "model/config.h"
#include "quantize/job.h"
#include "quantize/verify_texts.h"

/* The texts that are compared; those of the folder's files, wherever they lie while it is written. */
typedef enum qn_folder_text {
    QN_FOLDER_TOKENIZER,
    QN_FOLDER_TOKENIZER_CONFIG,
    QN_FOLDER_SPECIAL_TOKENS,
    QN_FOLDER_GENERATION,
    QN_FOLDER_CONFIG,
    QN_FOLDER_TEMPLATE,
    QN_FOLDER_TOOL_TEMPLATE,
    QN_FOLDER_N_TEXTS
} qn_folder_text;

typedef struct qn_folder_texts {
    char *text[QN_FOLDER_N_TEXTS]; /* NULL = there is no such file; owned */
    size_t len[QN_FOLDER_N_TEXTS];
} qn_folder_texts;

/* The file's path in the folder, and the most bytes that are read of it. */
const char *qn_folder_text_name(qn_folder_text t);
size_t qn_folder_text_bytes_max(qn_folder_text t);
quern_status qn_folder_texts_read(qn_folder_texts *out, const char *dir, quern_error *err);
void qn_folder_texts_free(qn_folder_texts *t);

/* Configuration, tokenizer, templates and end tokens, and whether a head of its own is there. path: for messages; *config: as read, its strings live
 * in the findings. text (NULL = none) must become the source's ids. QUERN_ERROR_NOT_FOUND without config.json. */
quern_status qn_verify_folder(const qn_job *job, const char *path, const qn_folder_texts *own, const qn_safetensors *weights,
                              const char *text, size_t len, qn_model_config *config, qn_findings *f, quern_error *err);

/* The folder's other files: weights that readers would load beside those that were opened are a fault, and so are chat templates that are not the
 * source's; the rest is told. */
quern_status qn_verify_folder_files(const qn_job *job, const char *path, const qn_safetensors *weights, qn_findings *f, quern_error *err);

#endif
