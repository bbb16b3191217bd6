/* folder_files.h - the files of a model folder, whoever wrote it: their names.
 */
#ifndef QN_MODEL_FOLDER_FILES_H
#define QN_MODEL_FOLDER_FILES_H

#include "base/alloc.h"
#include "base/error.h"

enum { QN_FOLDER_FILES_MAX = 4096 };

/* Names relative to dir of all regular files in it and in additional_chat_templates, in the order of their bytes; hidden ones are left out. They
 * live in the arena. QUERN_ERROR_LIMIT beyond QN_FOLDER_FILES_MAX. */
quern_status qn_folder_list_files(const char *dir, qn_arena *arena, const char ***names, size_t *n, quern_error *err);

#endif
