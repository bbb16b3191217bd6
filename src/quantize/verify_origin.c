/* verify_origin.c - see verify_origin.h. */
#include "quantize/verify_origin.h"

#include <stdio.h>
#include <string.h>

enum { MANIFEST_BYTES_MAX = 64 << 20, HEX = 64 };

/* What a manifest says of the run that made an output. */
typedef struct said {
    bool found;           /* there is a manifest that has the output, and says how it was calibrated or that it was not */
    quern_calibrate how;  /* NONE, BUILTIN, TEXT or IMATRIX */
    char sha256[HEX + 1]; /* of TEXT and IMATRIX */
} said;

/* ---- the manifest ---- */

/* DIR/manifest.json for DIR/gguf/FILE and DIR/mlx/FOLDER; NULL when out of memory. *base: the last part of the path. */
static char *manifest_path(const char *path, const char **base, qn_arena *arena)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') {
        len--;
    }
    char *own = qn_arena_strndup(arena, path, len);
    if (own == NULL) {
        return NULL;
    }
    *base = qn_path_base(own);
    size_t dir_len = (size_t)(*base - own);
    char *dir = qn_arena_strndup(arena, dir_len > 0 ? own : "./", dir_len > 0 ? dir_len : 2);
    return dir != NULL ? qn_path_join(dir, "../manifest.json") : NULL;
}

static const qn_json *find_output(const qn_json *root, const char *base)
{
    const qn_json *outputs = qn_json_get(root, "outputs");
    for (size_t i = 0; i < qn_json_length(outputs); i++) {
        const qn_json *o = qn_json_at(outputs, i);
        const char *path = qn_json_string(qn_json_get(o, "path"), NULL);
        if (path != NULL && strcmp(qn_path_base(path), base) == 0) {
            return o;
        }
    }
    return NULL;
}

static bool is_hash(const char *s) { return s != NULL && strlen(s) == HEX && strspn(s, "0123456789abcdef") == HEX; }

static void take_calibration(said *s, const qn_json *c)
{
    const char *from = qn_json_string(qn_json_get(c, "from"), NULL);
    bool imatrix = from != NULL && strcmp(from, "imatrix") == 0;
    const char *hash = qn_json_string(qn_json_get(c, imatrix ? "imatrix_sha256" : "text_sha256"), NULL);
    s->how = imatrix ? QUERN_CALIBRATE_IMATRIX : QUERN_CALIBRATE_TEXT;
    if (qn_json_get_kind(c) == QN_JSON_NULL) {
        s->how = QUERN_CALIBRATE_NONE;
        s->found = true;
    } else if (from != NULL && strcmp(from, "builtin") == 0) {
        s->how = QUERN_CALIBRATE_BUILTIN;
        s->found = true;
    } else if (is_hash(hash) && (imatrix || (from != NULL && strcmp(from, "text") == 0))) {
        memcpy(s->sha256, hash, HEX + 1);
        s->found = true;
    }
}

/* Outputs that were kept from earlier runs say themselves how they were calibrated. A manifest that cannot be read says nothing. */
static quern_status read_manifest(said *s, const char *path, qn_arena *arena, quern_error *err)
{
    quern_status status = QUERN_OK;
    quern_error why = {0};
    const char *base = NULL;
    char *text = NULL, *manifest = manifest_path(path, &base, arena);
    size_t len = 0;
    qn_json *root = NULL;
    *s = (said){0};
    if (manifest == NULL) {
        QN_FAIL_MEMORY(err, "manifest.json", strlen(path));
    }
    if (!qn_path_is_file(manifest) || qn_file_read(&text, &len, manifest, MANIFEST_BYTES_MAX, &why) != QUERN_OK ||
        qn_json_parse(&root, text, len, QN_JSON_REJECT_DUPLICATES, "manifest.json", &why) != QUERN_OK) {
        goto done;
    }
    const qn_json *output = find_output(root, base), *own = qn_json_get(output, "calibration");
    bool earlier = qn_json_get(output, "kept_from") != NULL;
    const qn_json *c = own != NULL || earlier ? own : qn_json_get(root, "calibration");
    if (output != NULL && c != NULL) {
        take_calibration(s, c);
    }
done:
    qn_json_free(root);
    qn_free(text);
    qn_free(manifest);
    return status;
}

/* ---- the sentence ---- */

/* "the text with SHA-256 ...": what a calibration is called. */
static void describe(quern_calibrate how, const char *sha256, char *out, size_t cap)
{
    switch (how) {
    case QUERN_CALIBRATE_TEXT: (void)snprintf(out, cap, "the text with SHA-256 %.64s", sha256); break;
    case QUERN_CALIBRATE_IMATRIX: (void)snprintf(out, cap, "the importance matrix with SHA-256 %.64s", sha256); break;
    case QUERN_CALIBRATE_NONE: (void)snprintf(out, cap, "no text"); break;
    case QUERN_CALIBRATE_AUTO:
    case QUERN_CALIBRATE_BUILTIN: (void)snprintf(out, cap, "the built-in text"); break;
    }
}

static const char *option_for(quern_calibrate how)
{
    return how == QUERN_CALIBRATE_TEXT      ? "--calibrate FILE with that text"
           : how == QUERN_CALIBRATE_IMATRIX ? "--imatrix FILE with that file"
           : how == QUERN_CALIBRATE_NONE    ? "--calibrate none"
                                            : "--calibrate builtin";
}

/* out is empty where there is nothing to say. */
static void write_note(const said *s, const qn_calibrated *c, char *out, size_t cap)
{
    char tried[160], by[160];
    quern_calibrate how = c->how == QUERN_CALIBRATE_AUTO ? QUERN_CALIBRATE_BUILTIN : c->how;
    bool is_given = qn_calibrated_is_given(c), is_tried = c->usable;
    const char *sha256 = is_tried ? c->job.calibration.text_sha256 : "";
    bool same = s->found && s->how == how && (how == QUERN_CALIBRATE_BUILTIN || strcmp(s->sha256, sha256) == 0);
    describe(how, sha256, tried, sizeof tried);
    describe(s->how, s->sha256, by, sizeof by);
    out[0] = '\0';
    if (same && is_tried) {
        (void)snprintf(
            out, cap,
            "no tensor is what this version's encoder makes with %s, by which the manifest beside it says it was made: made by another "
            "version, with another --memory, or from another source",
            tried);
    } else if (s->found && (is_given || s->how != QUERN_CALIBRATE_NONE)) {
        (void)snprintf(out, cap, "%s%s%sthe manifest beside it says that it was calibrated on %s: %s finds smaller faults",
                       is_given ? "no tensor is what Quern makes with " : "", is_given ? tried : "", is_given ? "; " : "", by,
                       option_for(s->how));
    } else if (is_given) {
        (void)snprintf(out, cap,
                       "no tensor is what Quern makes with %s: it was made with another text or importance matrix, or by another program",
                       tried);
    }
}

/* In a file that a calibration made, the tensors that it did not. */
static quern_status note_others(qn_verified *v, size_t n_unknown, const char *first, quern_error *err)
{
    return qn_findings_note(
        &v->findings, err,
        "%zu tensors are what Quern makes with the calibration, %.100s%s not: made with another --memory, or changed; judged "
        "like those of unknown encoders",
        v->origin.n_tensors, first, n_unknown > 1 ? " and others are" : " is");
}

quern_status qn_verified_find_origin(qn_verified *v, const qn_calibrated *c, quern_error *err)
{
    quern_status status = QUERN_OK;
    char note[640] = "";
    const char *first = NULL;
    said s;
    size_t n_unknown = 0;
    for (size_t i = 0; i < v->n_tensors; i++) {
        bool unknown = v->figures[i].encoder == QN_ENCODER_UNKNOWN && qn_checked_tensor_block(&v->tensors[i]) > 1;
        v->origin.n_tensors += v->figures[i].encoder == QN_ENCODER_RECODE;
        first = unknown && first == NULL ? v->tensors[i].name : first;
        n_unknown += unknown;
    }
    if (v->origin.n_tensors > 0) {
        v->origin.from = c->job.calibration.origin;
        memcpy(v->origin.sha256, c->job.calibration.text_sha256, sizeof v->origin.sha256);
        QN_TRY(n_unknown > 0 ? note_others(v, n_unknown, first, err) : QUERN_OK);
    } else if (n_unknown > 0) {
        QN_TRY(read_manifest(&s, v->path, &v->findings.arena, err));
        write_note(&s, c, note, sizeof note);
    }
    if (note[0] != '\0') {
        v->origin.note = qn_arena_strndup(&v->findings.arena, note, strlen(note));
        if (v->origin.note == NULL) {
            QN_FAIL_MEMORY(err, "a note", strlen(note));
        }
    }
done:
    return status;
}
