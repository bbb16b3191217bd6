/* tokenizer_pipeline.h - tokenizer.json's description of normalizer, pre-tokenizer, decoder and post-processor. */
#ifndef QN_TEXT_TOKENIZER_PIPELINE_H
#define QN_TEXT_TOKENIZER_PIPELINE_H

#include "base/json.h"
#include "text/tokenizer_int.h"

/* Each fails with QUERN_ERROR_UNSUPPORTED naming a type that is not known, QUERN_ERROR_INVALID for a description that is none.
 * j may be NULL (absent). */
quern_status qn_pipeline_read_normalizer(qn_normalizer *out, const qn_json *j, quern_error *err);
/* *byte_level: the last step is ByteLevel, so that the vocabulary is one of bytes. */
quern_status qn_pipeline_read_pretokenizer(qn_pretokenizer *out, bool *byte_level, const qn_json *j, quern_error *err);
/* Sets decode_mode and what is stripped; t->byte_level must be known. */
quern_status qn_pipeline_read_decoder(quern_tokenizer *t, const qn_json *j, quern_error *err);

/* What a post-processor puts around one text: texts of tokens borrowed from j, NULL = nothing. */
typedef struct qn_surroundings {
    const char *before, *after;
    size_t before_len, after_len;
} qn_surroundings;
quern_status qn_pipeline_read_postprocessor(qn_surroundings *out, const qn_json *j, quern_error *err);

/* Names the pipeline: info.pre_tokenizer, and pre_name and add_space_prefix where GGUF can say it. */
void qn_pipeline_name(quern_tokenizer *t);

#endif
