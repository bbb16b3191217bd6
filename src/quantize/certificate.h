/* certificate.h - what a file carries of its own examination: quern.quality.* in GGUF, the object "quern_quality" in an MLX folder's
 * config.json.
 *
 * In GGUF the room is reserved before the data are written, so that the certificate can be filled in when the file has been examined.
 */
#ifndef QN_QUANTIZE_CERTIFICATE_H
#define QN_QUANTIZE_CERTIFICATE_H

#include "base/out_file.h"
#include "formats/gguf_write.h"
#include "gate/quality.h"
#include "model/claim.h"

typedef struct qn_certificate {
    const qn_quality *quality;
    const char *text_sha256, *data_sha256;
    const char *verdict; /* "pass", "lossy", "skipped" or "fail" */
} qn_certificate;

/* Puts the keys with values of the final size. */
quern_status qn_certificate_reserve(qn_gguf_writer *w, quern_error *err);
/* Writes the values into the file that g is a reading of. */
quern_status qn_certificate_fill_gguf(const qn_certificate *c, const qn_gguf *g, qn_out_file *file, quern_error *err);
/* The text of config.json with the object; appended to out. */
quern_status qn_certificate_fill_config(const qn_certificate *c, const char *config, size_t len, qn_buf *out, quern_error *err);

/* Fails a file that claims figures, or to pass, other than was measured on the same text with the same chunks; another version's figures may
 * differ by what kernels change. A warning where the claims could not be compared, or only so. Sets f->certificate. */
quern_status qn_claim_check(const qn_claim *claim, const qn_quality *q, const char *text_sha256, double bits, qn_findings *f,
                            quern_error *err);

#endif
