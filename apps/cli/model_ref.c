/* model_ref.c - looking around in folders; the network is `quern pull`'s. */
#include "model_ref.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "config_file.h"
#include "demo_model.h"

enum { FILES_MAX = 4096, REF_BYTES_MAX = 4096 };

static bool ends_in_gguf(const char *s)
{
    size_t n = strlen(s);
    return n > 5 && strcasecmp(s + n - 5, ".gguf") == 0;
}

static bool has_white_space(const char *s)
{
    for (; *s != '\0'; s++) {
        if (isspace((unsigned char)*s)) {
            return true;
        }
    }
    return false;
}

static bool is_url(const char *s) { return strncmp(s, "http://", 7) == 0 || strncmp(s, "https://", 8) == 0; }

/* ---- files of a folder ---- */

typedef struct file_list {
    char *names[FILES_MAX]; /* relative to the folder */
    size_t n;
} file_list;

static void free_list(file_list *list)
{
    for (size_t i = 0; list != NULL && i < list->n; i++) {
        qn_free(list->names[i]);
    }
    qn_free(list);
}

/* Appends the GGUF files of folder/prefix; one level of subfolders too. Shards after the first are left out. */
static void list_ggufs(const char *folder, const char *prefix, int depth, file_list *list)
{
    char *where = prefix[0] != '\0' ? qn_path_join(folder, prefix) : qn_strdup(folder);
    DIR *dir = where != NULL ? opendir(where) : NULL;
    const struct dirent *entry;
    while (dir != NULL && list->n < FILES_MAX && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] == '.') {
            continue;
        }
        char *name = prefix[0] != '\0' ? qn_path_join(prefix, entry->d_name) : qn_strdup(entry->d_name);
        char *full = name != NULL ? qn_path_join(folder, name) : NULL;
        const char *of = name != NULL ? strstr(name, "-of-") : NULL;
        bool later_shard = of != NULL && of - name >= 6 && memcmp(of - 6, "-00001", 6) != 0;
        if (full != NULL && ends_in_gguf(name) && !later_shard && qn_path_is_file(full)) {
            list->names[list->n++] = name;
            name = NULL;
        } else if (full != NULL && depth > 0 && qn_path_is_directory(full)) {
            list_ggufs(folder, name, depth - 1, list);
        }
        qn_free(full);
        qn_free(name);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    qn_free(where);
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* True if `word` stands in name with no letter, digit or underscore at either side, in any case: Q4_K is not found in Q4_K_M. */
static bool has_word(const char *name, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = name; n > 0 && *p != '\0'; p++) {
        if (strncasecmp(p, word, n) != 0) {
            continue;
        }
        bool left = p == name || !(isalnum((unsigned char)p[-1]) || p[-1] == '_');
        bool right = !(isalnum((unsigned char)p[n]) || p[n] == '_');
        if (left && right) {
            return true;
        }
    }
    return false;
}

static bool is_checkpoint(const char *folder)
{
    char *config = qn_path_join(folder, "config.json");
    char *single = qn_path_join(folder, "model.safetensors"), *index = qn_path_join(folder, "model.safetensors.index.json");
    bool yes = config != NULL && single != NULL && index != NULL && qn_path_exists(config) &&
               (qn_path_exists(single) || qn_path_exists(index));
    qn_free(config);
    qn_free(single);
    qn_free(index);
    return yes;
}

static quern_status fail_pick(const char *folder, const char *quant, const file_list *list, quern_error *err)
{
    qn_buf names;
    qn_buf_init(&names, 1u << 16);
    for (size_t i = 0; i < list->n && i < 12; i++) {
        (void)qn_buf_printf(&names, "%s%s", i > 0 ? ", " : "", list->names[i]);
    }
    quern_status status;
    if (list->n == 0) {
        status = qn_error_set(err, QUERN_ERROR_NOT_FOUND, "%s: neither a checkpoint (config.json with model.safetensors) nor a GGUF in it",
                              folder);
    } else if (quant == NULL) {
        status = qn_error_set(err, QUERN_ERROR_NOT_FOUND, "%s: several GGUF files, say which with :QUANT: %s", folder, qn_buf_text(&names));
    } else {
        status = qn_error_set(err, QUERN_ERROR_NOT_FOUND, "%s: no GGUF named '%s'; there is: %s", folder, quant, qn_buf_text(&names));
    }
    qn_buf_deinit(&names);
    return status;
}

quern_status qn_model_ref_pick(const char *folder, const char *quant, char **path, quern_error *err)
{
    quern_status status = QUERN_OK;
    file_list *list = NULL;
    const char *found = NULL;
    *path = NULL;
    if (quant == NULL && is_checkpoint(folder)) {
        *path = qn_strdup(folder);
        if (*path == NULL) {
            QN_FAIL_MEMORY(err, folder, strlen(folder) + 1);
        }
        goto done;
    }
    list = qn_calloc(1, sizeof *list);
    if (list == NULL) {
        QN_FAIL_MEMORY(err, folder, sizeof *list);
    }
    list_ggufs(folder, "", 1, list);
    qsort(list->names, list->n, sizeof list->names[0], compare_names);
    if (quant == NULL && list->n == 1) {
        found = list->names[0];
    }
    for (size_t i = 0; found == NULL && i < list->n; i++) {
        found = has_word(list->names[i], quant != NULL ? quant : "Q4_K_M") ? list->names[i] : NULL;
    }
    if (found == NULL) {
        status = fail_pick(folder, quant, list, err);
        goto done;
    }
    *path = qn_path_join(folder, found);
    if (*path == NULL) {
        QN_FAIL_MEMORY(err, folder, strlen(found));
    }
done:
    free_list(list);
    return status;
}

/* ---- stored names and the hub cache ---- */

typedef struct reference {
    char name[REF_BYTES_MAX]; /* NAME or OWNER/NAME */
    char quant[64];           /* "" = none */
    bool has_owner;
} reference;

/* Splits [OWNER/]NAME[:QUANT]; false where a part is not a plain name. */
static bool parse_reference(const char *text, reference *r)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
    if (len == 0 || len >= sizeof r->name || (colon != NULL && (colon[1] == '\0' || strlen(colon + 1) >= sizeof r->quant))) {
        return false;
    }
    memcpy(r->name, text, len);
    r->name[len] = '\0';
    (void)snprintf(r->quant, sizeof r->quant, "%s", colon != NULL ? colon + 1 : "");
    const char *slash = strchr(r->name, '/');
    r->has_owner = slash != NULL;
    size_t owner = slash != NULL ? (size_t)(slash - r->name) : 0;
    const char *base = slash != NULL ? slash + 1 : r->name;
    return (slash == NULL || qn_path_is_plain_name(r->name, owner)) && qn_path_is_plain_name(base, strlen(base)) &&
           strchr(r->quant, '/') == NULL;
}

/* A stored model: *path is NULL if there is none of that name. */
static quern_status find_stored(const reference *r, char **path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *home = qn_data_folder();
    char *models = home != NULL ? qn_path_join(home, "models") : NULL;
    char *plain = models != NULL ? qn_path_join(models, r->name) : NULL;
    qn_buf file;
    qn_buf_init(&file, 2 * REF_BYTES_MAX);
    (void)qn_buf_printf(&file, "%s.gguf", plain != NULL ? plain : "");
    *path = NULL;
    if (plain == NULL) {
        goto done; /* no home, nothing stored */
    }
    if (qn_path_is_directory(plain)) {
        QN_TRY(qn_model_ref_pick(plain, r->quant[0] != '\0' ? r->quant : NULL, path, err));
    } else if (r->quant[0] == '\0' && qn_path_is_file(plain)) {
        *path = qn_strdup(plain);
    } else if (r->quant[0] == '\0' && qn_path_is_file(qn_buf_text(&file))) {
        *path = qn_strdup(qn_buf_text(&file));
    }
done:
    qn_buf_deinit(&file);
    qn_free(plain);
    qn_free(models);
    qn_free(home);
    return status;
}

/* HF_HUB_CACHE, HF_HOME/hub, $XDG_CACHE_HOME/huggingface/hub or ~/.cache/huggingface/hub, as the hub's own tools look for it. */
static char *hub_folder(void)
{
    const char *cache = getenv("HF_HUB_CACHE"), *hf_home = getenv("HF_HOME"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache != NULL && cache[0] != '\0') {
        return qn_strdup(cache);
    }
    if (hf_home != NULL && hf_home[0] != '\0') {
        return qn_path_join(hf_home, "hub");
    }
    if (xdg != NULL && xdg[0] != '\0') {
        return qn_path_join(xdg, "huggingface/hub");
    }
    return home != NULL && home[0] != '\0' ? qn_path_join(home, ".cache/huggingface/hub") : NULL;
}

/* The snapshot folder of a repository in the cache, NULL if it is not there: refs/main names the commit. */
static char *find_snapshot(const char *hub, const reference *r)
{
    qn_buf name;
    qn_buf_init(&name, 2 * REF_BYTES_MAX);
    const char *slash = strchr(r->name, '/');
    (void)qn_buf_printf(&name, "models--%.*s--%s", (int)(slash - r->name), r->name, slash + 1);
    char *repository = qn_path_join(hub, qn_buf_text(&name));
    char *ref = repository != NULL ? qn_path_join(repository, "refs/main") : NULL;
    char *snapshots = repository != NULL ? qn_path_join(repository, "snapshots") : NULL;
    char *commit = NULL, *snapshot = NULL;
    if (ref != NULL && snapshots != NULL && qn_file_read(&commit, NULL, ref, 256, NULL) == QUERN_OK) {
        size_t n = strcspn(commit, " \r\n");
        commit[n] = '\0';
        snapshot = qn_path_is_plain_name(commit, n) ? qn_path_join(snapshots, commit) : NULL;
        if (snapshot != NULL && !qn_path_is_directory(snapshot)) {
            qn_free(snapshot);
            snapshot = NULL;
        }
    }
    qn_free(commit);
    qn_free(snapshots);
    qn_free(ref);
    qn_free(repository);
    qn_buf_deinit(&name);
    return snapshot;
}

/* *path is NULL if the repository is not in the cache. */
static quern_status find_in_hub(const reference *r, char **path, quern_error *err)
{
    quern_status status = QUERN_OK;
    char *hub = hub_folder();
    char *snapshot = hub != NULL && r->has_owner ? find_snapshot(hub, r) : NULL;
    *path = NULL;
    if (snapshot != NULL) {
        status = qn_model_ref_pick(snapshot, r->quant[0] != '\0' ? r->quant : NULL, path, err);
    }
    qn_free(snapshot);
    qn_free(hub);
    return status;
}

bool qn_model_ref_is_model(const char *argument)
{
    reference r;
    if (argument[0] == '\0' || has_white_space(argument)) {
        return false;
    }
    if (qn_path_exists(argument) || strcmp(argument, QN_DEMO_NAME) == 0 || strpbrk(argument, "/:") != NULL || ends_in_gguf(argument)) {
        return true;
    }
    char *path = NULL;
    quern_error ignored;
    bool stored = parse_reference(argument, &r) && (find_stored(&r, &path, &ignored) != QUERN_OK || path != NULL);
    qn_free(path);
    return stored;
}

/* A folder of GGUF files, as a download leaves it: no checkpoint. */
static bool is_ggufs_only(const char *folder)
{
    if (!qn_path_is_directory(folder) || strcmp(folder, QN_DEMO_NAME) == 0) {
        return false;
    }
    char *config = qn_path_join(folder, "config.json");
    file_list *list = config != NULL && !qn_path_exists(config) ? qn_calloc(1, sizeof *list) : NULL;
    if (list != NULL) {
        list_ggufs(folder, "", 0, list);
    }
    bool yes = list != NULL && list->n > 0;
    free_list(list);
    qn_free(config);
    return yes;
}

static quern_status fail_missing(qn_cli *cli, const char *text, bool is_repository, quern_error *err)
{
    char *hub = hub_folder();
    if (is_repository) {
        qn_cli_hint(cli, "this version does not download; fetch it into the cache with: hf download %.*s", (int)strcspn(text, ":"), text);
        (void)qn_error_set(err, QUERN_ERROR_NOT_FOUND, "%s: not in the hub cache (%s)", text, hub != NULL ? hub : "no home folder");
    } else {
        qn_cli_hint(cli, "MODEL is a .gguf file, a model folder, a stored name, or demo (built in)");
        (void)qn_error_set(err, QUERN_ERROR_NOT_FOUND, "%s: no such model file, folder or stored name", text);
    }
    qn_free(hub);
    return QUERN_ERROR_NOT_FOUND;
}

quern_status qn_model_ref_resolve(qn_cli *cli, const char *text, bool is_repository, char **path, quern_error *err)
{
    quern_status status = QUERN_OK;
    reference r;
    *path = NULL;
    if (is_url(text)) {
        qn_cli_hint(cli, "measuring a server comes with a later version");
        QN_FAIL(err, QUERN_ERROR_UNAVAILABLE, "%s: a URL is no MODEL here", text);
    }
    if (!is_repository && is_ggufs_only(text)) {
        QN_TRY(qn_model_ref_pick(text, NULL, path, err));
    } else if (!is_repository && (strcmp(text, QN_DEMO_NAME) == 0 || qn_path_exists(text))) {
        *path = qn_strdup(text);
    } else if (parse_reference(text, &r) && (r.has_owner || !is_repository)) {
        QN_TRY(find_stored(&r, path, err));
        if (*path == NULL) {
            QN_TRY(find_in_hub(&r, path, err));
        }
    } else if (is_repository) {
        QN_FAIL(err, QUERN_ERROR_USAGE, "-hf %s: expected OWNER/NAME or OWNER/NAME:QUANT", text);
    }
    if (*path == NULL) {
        status = fail_missing(cli, text, is_repository, err);
    }
done:
    return status;
}

bool qn_model_ref_given(const qn_cli *cli)
{
    return cli->opts.values[QN_OPT_MODEL].source == QN_SOURCE_COMMAND_LINE || qn_opts_given(&cli->opts, QN_OPT_HF);
}

quern_status qn_model_ref_take(qn_cli *cli, const char *fallback, char **path, quern_error *err)
{
    qn_opts *o = &cli->opts;
    bool m = o->values[QN_OPT_MODEL].source == QN_SOURCE_COMMAND_LINE, hf = qn_opts_given(o, QN_OPT_HF);
    if (m && hf) {
        return qn_error_set(err, QUERN_ERROR_USAGE, "-m and -hf both name the model");
    }
    const char *text;
    if (m || hf) {
        text = qn_opts_text(o, m ? QN_OPT_MODEL : QN_OPT_HF, NULL);
    } else if (o->n_positional > 0) {
        text = o->positional[0];
        o->n_positional--;
        memmove(&o->positional[0], &o->positional[1], o->n_positional * sizeof o->positional[0]);
    } else {
        text = qn_opts_text(o, QN_OPT_MODEL, fallback);
    }
    if (text == NULL) {
        qn_cli_hint(cli, "such as: %s", qn_command_get(o->command)->example);
        return qn_error_set(err, QUERN_ERROR_USAGE, "which model? MODEL is missing");
    }
    return qn_model_ref_resolve(cli, text, hf, path, err);
}

bool qn_model_ref_copies(const qn_cli *cli) { return strcmp(qn_opts_text(&cli->opts, QN_OPT_LOAD, "mmap"), "copy") == 0; }

quern_status qn_model_ref_open(qn_cli *cli, const char *path, int flags, quern_model **model, quern_error *err)
{
    quern_model_options options = {
        .copy_weights = qn_model_ref_copies(cli),
        .vocabulary_only = (flags & QN_OPEN_VOCABULARY_ONLY) != 0,
        .without_tokenizer = (flags & QN_OPEN_WITHOUT_TOKENIZER) != 0,
    };
    if (strcmp(path, QN_DEMO_NAME) != 0) {
        return quern_model_open(model, path, &options, err);
    }
    size_t size = 0;
    const void *data = qn_demo_model_find(&size);
    if (data == NULL) {
        qn_cli_hint(cli, "name a model: quern %s model.gguf", qn_command_get(cli->opts.command)->name);
        return qn_error_set(err, QUERN_ERROR_UNAVAILABLE, "demo: this program was built without the built-in model");
    }
    return quern_model_open_memory(model, data, size, QN_DEMO_NAME, &options, err);
}
