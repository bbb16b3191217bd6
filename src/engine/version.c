/* version.c - the version that the build was made with. */
#include "quern/quern.h"

const char *quern_version(void) { return QUERN_VERSION; }
