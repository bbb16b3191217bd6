/* gguf_tokenizer.h - the tokenizer that GGUF metadata describes (tokenizer.ggml.*).
 *
 * The chat templates beside it are read by who wants them.
 */
#ifndef QN_MODEL_GGUF_TOKENIZER_H
#define QN_MODEL_GGUF_TOKENIZER_H

#include "formats/gguf_read.h"
#include "quern/tokenizer.h"

quern_status qn_gguf_read_tokenizer(quern_tokenizer **out, const qn_gguf *gguf, quern_error *err);

#endif
