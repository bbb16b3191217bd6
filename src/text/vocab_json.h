/* vocab_json.h - a byte-level tokenizer written as tokenizer.json and tokenizer_config.json, for a vocabulary that came from GGUF.
 */
#ifndef QN_TEXT_VOCAB_JSON_H
#define QN_TEXT_VOCAB_JSON_H

#include "base/buf.h"
#include "quern/tokenizer.h"

/* Appends both texts. They are read back before this returns: what is not the same tokenizer (tokens, kinds, merges, how text is cut, what is
 * added) is QUERN_ERROR_UNSUPPORTED, as SentencePiece vocabularies are. */
quern_status qn_tokenizer_write_json(const quern_tokenizer *t, size_t n_vocab, qn_buf *tokenizer, qn_buf *config, quern_error *err);

#endif
