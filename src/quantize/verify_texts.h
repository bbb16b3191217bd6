/* verify_texts.h - whether an output's tokenizer, chat templates and end tokens do what the source's do.
 *
 * Owns the comparison of what is read; the files of an MLX folder are compared in verify_folder.h too, as JSON. What changes ids, end tokens or
 * the rendered prompt is a reason to fail; what is only written otherwise is a note.
 */
#ifndef QN_QUANTIZE_VERIFY_TEXTS_H
#define QN_QUANTIZE_VERIFY_TEXTS_H

#include "formats/gguf_read.h"
#include "gate/findings.h"
#include "model/config.h"
#include "quern/tokenizer.h"

/* Either side, all borrowed. */
typedef struct qn_model_texts {
    const quern_tokenizer *tokenizer;
    const qn_model_config *config;
    qn_span template, tool_template; /* data NULL = none */
} qn_model_texts;

typedef struct qn_texts_options {
    const int32_t *needed; /* (n_needed) end tokens that the output must name itself: readers of an MLX folder know no others */
    size_t n_needed;
    bool is_part;     /* a folder without the files that templates are in: that there are none is said, not refused */
    const char *text; /* must become the same ids; NULL = none */
    size_t len;
} qn_texts_options;

quern_status qn_verify_texts(const qn_model_texts *own, const qn_model_texts *source, const qn_texts_options *opt, qn_findings *f,
                             quern_error *err);

/* The chat templates in GGUF metadata. */
quern_status qn_model_texts_read_templates(qn_model_texts *t, const qn_gguf *g, quern_error *err);

#endif
