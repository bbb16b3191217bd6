/* verify_folder.h - the texts of an MLX folder against the source's: tokenizer, templates, end tokens, and what its JSON files say beside them.
 */
#ifndef QN_QUANTIZE_VERIFY_FOLDER_H
#define QN_QUANTIZE_VERIFY_FOLDER_H

#include "gate/findings.h"
#include "quantize/job.h"
#include "quantize/verify_texts.h"

/* config: as read from the folder. */
quern_status qn_verify_folder_texts(const qn_job *job, const char *path, const qn_model_config *config, const char *text, size_t len,
                                    qn_findings *f, quern_error *err);

/* The folder's other files: weights that readers would load beside those that were opened are a fault, the rest is told. */
quern_status qn_verify_folder_files(const char *path, const qn_safetensors *weights, qn_findings *f, quern_error *err);

#endif
