/* model_ref.h - from what a user types as MODEL to something that opens.
 *
 * MODEL is `demo` (built in), a path, a stored name (QUERN_HOME/models/NAME, NAME.gguf, or OWNER/NAME[:QUANT]), or a repository of the
 * Hugging Face hub cache (OWNER/NAME[:QUANT]). Nothing is ever downloaded here, and a MODEL that is not found is QUERN_ERROR_NOT_FOUND.
 */
#ifndef QN_CLI_MODEL_REF_H
#define QN_CLI_MODEL_REF_H

#include <stdbool.h>

#include "cli.h"
#include "quern/model.h"

#define QN_DEMO_NAME "demo"

/* The rule for the single positional argument of `run`: no white space, and it exists, is a stored name or demo, contains / or :,
 * or ends in .gguf. */
bool qn_model_ref_is_model(const char *argument);

/* The path of a MODEL in new memory, or QN_DEMO_NAME itself. is_repository: the text came with -hf. */
quern_status qn_model_ref_resolve(qn_cli *cli, const char *text, bool is_repository, char **path, quern_error *err);

/* The MODEL of a command: -m, -hf, the first positional argument (which is then removed from the list), the setting `model` of
 * configuration or environment, or `fallback`; QUERN_ERROR_USAGE if there is none of them and fallback is NULL. */
quern_status qn_model_ref_take(qn_cli *cli, const char *fallback, char **path, quern_error *err);
/* True if -m or -hf stands on the command line. */
bool qn_model_ref_given(const qn_cli *cli);

/* VOCABULARY_ONLY: tokenizer and chat template, of architectures that cannot run as well. */
enum { QN_OPEN_VOCABULARY_ONLY = 1, QN_OPEN_WITHOUT_TOKENIZER = 2 };
/* Opens what resolve gave, with --load. */
quern_status qn_model_ref_open(qn_cli *cli, const char *path, int flags, quern_model **model, quern_error *err);

/* True with --load copy. */
bool qn_model_ref_copies(const qn_cli *cli);

/* The best file of a folder for a quantization name: the .gguf (first shard) whose name holds QUANT as a word, in any case; for NULL the
 * folder itself if it is a checkpoint, else its only GGUF, else one with Q4_K_M. Subfolders are looked into once.
 * QUERN_ERROR_NOT_FOUND names what there is. */
quern_status qn_model_ref_pick(const char *folder, const char *quant, char **path, quern_error *err);

#endif
