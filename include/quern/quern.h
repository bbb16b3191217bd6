/* quern/quern.h - the whole public interface; a program may include just this. */
#ifndef QUERN_QUERN_H
#define QUERN_QUERN_H

#include "quern/chat.h"
#include "quern/engine.h"
#include "quern/inspect.h"
#include "quern/logits.h"
#include "quern/machine.h"
#include "quern/measure.h"
#include "quern/model.h"
#include "quern/quantize.h"
#include "quern/sampling.h"
#include "quern/status.h"
#include "quern/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0" */
QUERN_API const char *quern_version(void);

#ifdef __cplusplus
}
#endif
#endif
