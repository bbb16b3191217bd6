/* claim.h - what a file says of its own quality: quern.quality.* in GGUF, the object "quern_quality" in an MLX folder's config.json.
 *
 * Owns reading it. A claim is untrusted: quern verify measures it again (quantize/certificate.h), who only reads it must say that it is claimed.
 */
#ifndef QN_MODEL_CLAIM_H
#define QN_MODEL_CLAIM_H

#include "base/json.h"
#include "formats/gguf_read.h"

enum { QN_CLAIM_FIGURES = 8 };

/* ppl_source, ppl, ppl_ratio, ppl_ratio_error, kld_mean, kld_p99, kld_max, top1_agreement */
extern const char *const qn_claim_figure_names[QN_CLAIM_FIGURES];

/* found: any of this is there. Strings are borrowed from g or config. */
typedef struct qn_claim {
    bool found;
    qn_span data_sha256, text_sha256, verdict, version, arithmetic; /* empty where absent */
    double tokens, n_ctx;                                           /* NAN where absent, as the figures are */
    double figures[QN_CLAIM_FIGURES];
} qn_claim;

qn_claim qn_claim_of_gguf(const qn_gguf *g);
/* config may be NULL. */
qn_claim qn_claim_of_config(const qn_json *config);

#endif
