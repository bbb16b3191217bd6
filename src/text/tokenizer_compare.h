/* tokenizer_compare.h - in what two tokenizers differ: tokens, merges, added tokens, how text is normalized, cut and decoded.
 *
 * Both are compared as they were read, so that the spelling of their files does not count.
 */
#ifndef QN_TEXT_TOKENIZER_COMPARE_H
#define QN_TEXT_TOKENIZER_COMPARE_H

#include "base/error.h"
#include "quern/tokenizer.h"

/* One difference as a sentence; `matters`: some text becomes other ids, or some ids another text. */
typedef quern_status (*qn_tokenizer_difference_fn)(void *user, bool matters, const char *sentence, quern_error *err);

/* Calls `tell` for what differs: of tokens, merges and added tokens the first difference each. Normalizers, pre-tokenizers and decoders that
 * are put together otherwise are compared by what they make of some texts. The ids of the special tokens are not compared. */
quern_status qn_tokenizer_compare(const quern_tokenizer *own, const quern_tokenizer *source, qn_tokenizer_difference_fn tell, void *user,
                                  quern_error *err);

#endif
