/* background.h - one function on a thread of its own, for waiting that should not hold up others (bringing files to the disk).
 */
#ifndef QN_BASE_BACKGROUND_H
#define QN_BASE_BACKGROUND_H

#include <stdbool.h>
#include "base/error.h"

typedef struct qn_background qn_background;

/* QUERN_ERROR_LIMIT if the system refuses a thread. */
quern_status qn_background_start(qn_background **out, void (*fn)(void *arg), void *arg, quern_error *err);
/* Whether fn has returned; what it did is then visible. */
bool qn_background_finished(const qn_background *b);
/* Waits for it and frees; NULL is fine. */
void qn_background_join(qn_background *b);

#endif
