/* sha256.c - the one file that knows OpenSSL's digests. */
#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/alloc.h"
#include "base/fs.h"

struct qn_sha256 {
    EVP_MD_CTX *ctx;
};

quern_status qn_sha256_create(qn_sha256 **out, quern_error *err)
{
    quern_status status = QUERN_OK;
    qn_sha256 *h = qn_calloc(1, sizeof *h);
    *out = NULL;
    if (h == NULL) {
        QN_FAIL_MEMORY(err, "a hash", sizeof *h);
    }
    h->ctx = EVP_MD_CTX_new();
    if (h->ctx == NULL || EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL) != 1) {
        QN_FAIL(err, QUERN_ERROR_INTERNAL, "SHA-256 is not available in the installed OpenSSL");
    }
    *out = h;
    h = NULL;
done:
    qn_sha256_abandon(h);
    return status;
}

void qn_sha256_update(qn_sha256 *h, const void *data, size_t size) { (void)EVP_DigestUpdate(h->ctx, data, size); }

void qn_sha256_finish(qn_sha256 *h, char hex[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE] = {0};
    (void)EVP_DigestFinal_ex(h->ctx, digest, NULL);
    for (size_t i = 0; i < 32; i++) {
        hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
        hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
    }
    hex[64] = '\0';
    qn_sha256_abandon(h);
}

void qn_sha256_abandon(qn_sha256 *h)
{
    if (h != NULL) {
        EVP_MD_CTX_free(h->ctx);
        qn_free(h);
    }
}

quern_status qn_sha256_bytes(const void *data, size_t size, char hex[65], quern_error *err)
{
    qn_sha256 *h;
    quern_status status = qn_sha256_create(&h, err);
    if (status == QUERN_OK) {
        qn_sha256_update(h, data, size);
        qn_sha256_finish(h, hex);
    }
    return status;
}

quern_status qn_sha256_file(const char *path, char hex[65], quern_error *err)
{
    qn_mapping m;
    quern_status status = qn_mapping_open(&m, path, err);
    if (status == QUERN_OK) {
        status = qn_sha256_bytes(m.data, m.size, hex, err);
        qn_mapping_close(&m);
    }
    return status;
}
