/* sha256.h - SHA-256; sha256.c wraps OpenSSL's libcrypto. */
#ifndef QN_BASE_SHA256_H
#define QN_BASE_SHA256_H

#include <stddef.h>
#include "base/error.h"

typedef struct qn_sha256 qn_sha256;
quern_status qn_sha256_create(qn_sha256 **out, quern_error *err);
void qn_sha256_update(qn_sha256 *h, const void *data, size_t size);
/* Finishes, writes 64 lower-case hex digits and a NUL, and frees the state. */
void qn_sha256_finish(qn_sha256 *h, char hex[65]);
void qn_sha256_abandon(qn_sha256 *h);
/* One shot over memory and over a file. */
quern_status qn_sha256_bytes(const void *data, size_t size, char hex[65], quern_error *err);
quern_status qn_sha256_file(const char *path, char hex[65], quern_error *err);

#endif
