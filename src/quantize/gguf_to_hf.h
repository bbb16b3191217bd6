/* gguf_to_hf.h - the texts of a model folder, made from a GGUF file: config.json, generation_config.json, tokenizer files, chat templates.
 */
#ifndef QN_QUANTIZE_GGUF_TO_HF_H
#define QN_QUANTIZE_GGUF_TO_HF_H

#include "quantize/source.h"

/* Fills s->config_json, s->generation_json and s->texts, once. QUERN_ERROR_UNSUPPORTED where they cannot say what the file says. */
quern_status qn_source_make_texts(qn_source *s, quern_error *err);

#endif
