/* verify_metadata.h - whether an output says of the model what the source says: sizes, rope, tokens, templates.
 *
 * GGUF: every key that quantize would write for this source, compared with the file's. MLX: both configurations as read, and both tokenizers
 * token by token. What only describes (names, dates, file types) is not compared; what is missing and has a default that means the same is a note.
 */
#ifndef QN_QUANTIZE_VERIFY_METADATA_H
#define QN_QUANTIZE_VERIFY_METADATA_H

#include "formats/gguf_read.h"
#include "gate/findings.h"
#include "quantize/job.h"

/* o: planned for GGUF. */
quern_status qn_verify_gguf_keys(const qn_job *job, const qn_output *o, const qn_gguf *file, qn_findings *f, quern_error *err);
/* config and generation: texts of the folder's config.json and generation_config.json (NULL if absent). */
quern_status qn_verify_mlx_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                  size_t generation_len, qn_findings *f, quern_error *err);
/* Token by token, the special ids, and the ids of a text. */
quern_status qn_verify_tokenizer(const quern_tokenizer *source, const quern_tokenizer *own, const char *text, size_t len, qn_findings *f,
                                 quern_error *err);

#endif
