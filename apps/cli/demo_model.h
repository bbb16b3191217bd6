/* demo_model.h - the built-in model: a Q8_0 GGUF of models/quern-coder-8m, part of the program itself.
 *
 * It is read-only memory of the program's file, mapped like any other model; quern_model_open_memory opens it. */
#ifndef QN_CLI_DEMO_MODEL_H
#define QN_CLI_DEMO_MODEL_H

#include <stddef.h>

/* The GGUF and its size in bytes, page-aligned; NULL and 0 in a build without it (cmake -DQUERN_DEMO=OFF). */
const void *qn_demo_model_find(size_t *size_bytes);

#endif
