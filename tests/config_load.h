/* config_load.h - reading a configuration for a test: from a folder of the goldens, or from a text. */
#ifndef QN_TESTS_CONFIG_LOAD_H
#define QN_TESTS_CONFIG_LOAD_H

#include "test_files.h"

#include "base/alloc.h"
#include "model/config.h"

typedef struct loaded {
    qn_arena arena;
    qn_model_config c;
    char *config, *generation;
    quern_status status;
    quern_error err;
} loaded;

static inline void unload(loaded *l)
{
    qn_arena_deinit(&l->arena);
    free(l->config);
    free(l->generation);
}

/* A folder below goldens/ or models/; false (after saying so) if it is not here. */
static inline bool load_dir(loaded *l, const char *name)
{
    char relative[256];
    *l = (loaded){0};
    (void)snprintf(relative, sizeof relative, "%s/config.json", name);
    const char *found = strncmp(name, "models/", 7) == 0 || strncmp(name, "data/", 5) == 0 ? qn_test_shared(relative)
                                                                                           : qn_test_golden(relative);
    if (found == NULL) {
        print_message("SKIP: %s: not in the repository, and no ../shared\n", name);
        return false;
    }
    char path[1024];
    (void)snprintf(path, sizeof path, "%s", found);
    size_t size;
    size_t generation_size = 0;
    l->config = (char *)read_file(path, &size);
    char *dir = strndup(path, strlen(path) - strlen("/config.json"));
    const char *generation = scratch_path(dir, "generation_config.json");
    if (qn_path_exists(generation)) {
        l->generation = (char *)read_file(generation, &generation_size);
    }
    free(dir);
    qn_arena_init(&l->arena, 0);
    l->status = qn_config_read_hf(&l->c, &l->arena, l->config, size, path, l->generation, generation_size, &l->err);
    return true;
}

static inline void load_text(loaded *l, const char *json, const char *generation)
{
    *l = (loaded){0};
    qn_arena_init(&l->arena, 0);
    l->status = qn_config_read_hf(&l->c, &l->arena, json, strlen(json), "d/config.json", generation,
                                  generation != NULL ? strlen(generation) : 0, &l->err);
}

#endif
