/* verify_metadata.h - whether an output says of the model what the source says: sizes, rope, tokens, templates.
 *
 * GGUF: every key that quantize would write for this source, compared with the file's, and what both mean once read. MLX: both configurations as
 * read. What only describes (names, dates, file types) is not compared; what is missing and has a default that means the same is a note.
 */
#ifndef QN_QUANTIZE_VERIFY_METADATA_H
#define QN_QUANTIZE_VERIFY_METADATA_H

#include "formats/gguf_read.h"
#include "gate/findings.h"
#include "quantize/job.h"

/* o: planned for GGUF. gate_text (NULL = none) must become the source's ids. */
quern_status qn_verify_gguf_keys(const qn_job *job, const qn_output *o, const qn_gguf *file, const char *gate_text, size_t len,
                                 qn_findings *f, quern_error *err);
/* A folder's configuration; where its architecture is not known, as the source was read. */
quern_status qn_read_own_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                size_t generation_len, qn_arena *arena, qn_model_config *out, quern_error *err);
/* config and generation: texts of the folder's config.json and generation_config.json (NULL if absent). */
quern_status qn_verify_mlx_config(const qn_job *job, const char *path, const char *config, size_t config_len, const char *generation,
                                  size_t generation_len, qn_findings *f, quern_error *err);

#endif
