/* overrides.h - "--tensor-type REGEX=TYPE": the user's own choice of type for GGUF tensors whose name a regular expression finds.
 */
#ifndef QN_QUANTIZE_OVERRIDES_H
#define QN_QUANTIZE_OVERRIDES_H

#include <stdbool.h>
#include "base/error.h"
#include "quant/dtype.h"

typedef struct qn_type_overrides qn_type_overrides;

/* n texts "REGEX=TYPE", which must outlive it; the type is what follows the last '='. */
quern_status qn_type_overrides_create(qn_type_overrides **out, const char *const *texts, size_t n, quern_error *err);
void qn_type_overrides_destroy(qn_type_overrides *o); /* NULL is fine */
/* How many there are; the text and the type of number i. */
size_t qn_type_overrides_count(const qn_type_overrides *o);
const char *qn_type_overrides_text(const qn_type_overrides *o, size_t i);
qn_dtype qn_type_overrides_type(const qn_type_overrides *o, size_t i);
/* Whether number i matches anywhere in `name`. */
quern_status qn_type_overrides_match(const qn_type_overrides *o, size_t i, const char *name, bool *matches, quern_error *err);
/* The type of the first expression that matches anywhere in `name`; *found says whether one did. o may be NULL. */
quern_status qn_type_overrides_find(const qn_type_overrides *o, const char *name, qn_dtype *out, bool *found, quern_error *err);

#endif
