/* inspect_int.h - the parts of an inspection document. */
#ifndef QN_MODEL_INSPECT_INT_H
#define QN_MODEL_INSPECT_INT_H

#include "base/json.h"
#include "formats/gguf_read.h"
#include "formats/safetensors_read.h"
#include "model/claim.h"
#include "model/config.h"
#include "quern/inspect.h"
#include "quern/tokenizer.h"

/* A document under construction: one failed member (out of memory) makes the whole fail, checked once at the end. */
typedef struct qn_doc {
    qn_json *root;
    bool failed;
} qn_doc;

/* Sets a member of root, or of any object in it; takes value, which may be NULL for lack of memory. */
void qn_doc_put(qn_doc *d, qn_json *object, const char *key, qn_json *value);
void qn_doc_append(qn_doc *d, qn_json *array, qn_json *value);
/* A new object or array that is a member of `object`; NULL when out of memory (and putting into NULL does nothing). */
qn_json *qn_doc_put_object(qn_doc *d, qn_json *object, const char *key);
qn_json *qn_doc_put_array(qn_doc *d, qn_json *object, const char *key);
/* JSON integers have 63 bits; a larger number becomes a real. */
qn_json *qn_doc_u64(uint64_t v);
qn_json *qn_doc_text_or_null(const char *s);

/* Where tensors come from: one of the two. */
typedef struct qn_tensor_source {
    const qn_gguf *gguf;
    const qn_safetensors *safetensors;
} qn_tensor_source;

/* inspect_tensors.c: files, types, tensors (if asked) and check (if asked). */
quern_status qn_inspect_tensors(qn_doc *d, const qn_tensor_source *source, const quern_inspect_options *opt, quern_error *err);
uint64_t qn_inspect_file_bytes(const qn_tensor_source *source);
void qn_inspect_sums(const qn_tensor_source *source, uint64_t *n_elements, uint64_t *n_bytes);

/* inspect_metadata.c */
void qn_inspect_gguf_metadata(qn_doc *d, const qn_gguf *g);
void qn_inspect_safetensors_metadata(qn_doc *d, qn_json *object, const qn_safetensors *s);
void qn_inspect_config(qn_doc *d, const qn_model_config *c);
/* merges < 0: unknown. t may be NULL: null. */
void qn_inspect_tokenizer(qn_doc *d, const quern_tokenizer *t, int64_t n_merges);
/* Number of merges in a tokenizer.json's text; -1 if it has none. */
int64_t qn_inspect_count_merges(const char *json, size_t len);

/* What the file claims of its quality as member "certificate"; nothing if it claims nothing. */
void qn_inspect_claim(qn_doc *d, const qn_claim *claim);

/* An output beside what a manifest lists of it (inspect_listing.c). Each function fails with QUERN_ERROR_INVALID, naming what differs. */
typedef struct qn_listing {
    const char *manifest, *path; /* of the manifest; of the output's file or folder */
    const qn_gguf *gguf;         /* one of the two */
    const qn_safetensors *safetensors;
    quern_error *err;
} qn_listing;
/* Every tensor with its type and shape, and none more. */
quern_status qn_listing_check_tensors(const qn_listing *l, const qn_json *tensors);
/* `relative`: the folder's path as listed. All files are in it, and it has no other that a reader may take. */
quern_status qn_listing_check_folder(const qn_listing *l, const char *relative, const qn_json *files);
/* No file is listed twice. */
quern_status qn_listing_check_paths(const qn_json *outputs, const char *manifest, quern_error *err);

/* inspect_manifest.c: verifies the files and describes the outputs. */
quern_status qn_inspect_manifest(qn_doc *d, const char *path, const char *text, size_t len, quern_error *err);

#endif
