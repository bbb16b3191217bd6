/* cgroup.c - see cgroup.h. */
#include "base/cgroup.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 4096, FILE_BYTES = 2 * PATH_BYTES + 64 };

/* The least of what the groups say. */
typedef struct least {
    const char *controller; /* "cpu" or "memory" */
    void (*ask)(struct least *l, const char *folder, bool version_2);
    uint64_t value;
} least;

static FILE *open_file(const char *folder, const char *name)
{
    char path[FILE_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
}

/* The number that begins a text; UINT64_MAX where none does: "max", and "-1" in version 1, are no limit. */
static uint64_t parse_number(const char *s)
{
    s += strspn(s, " ");
    return isdigit((unsigned char)*s) ? strtoull(s, NULL, 10) : UINT64_MAX;
}

/* The number after `key` at the beginning of a line of a file; UINT64_MAX if there is none. */
static uint64_t read_number(const char *folder, const char *name, const char *key)
{
    char line[256];
    uint64_t found = UINT64_MAX;
    FILE *f = open_file(folder, name);
    while (f != NULL && found == UINT64_MAX && fgets(line, sizeof line, f) != NULL) {
        found = strncmp(line, key, strlen(key)) == 0 ? parse_number(line + strlen(key)) : UINT64_MAX;
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

static void take(least *l, uint64_t value) { l->value = value < l->value ? value : l->value; }

static void ask_cores(least *l, const char *folder, bool version_2)
{
    uint64_t quota = UINT64_MAX, period = UINT64_MAX; /* microseconds of all processors together, in so many of the clock */
    if (version_2) {
        char line[128];
        FILE *f = open_file(folder, "cpu.max"); /* "max 100000" or "QUOTA PERIOD" */
        if (f != NULL && fgets(line, sizeof line, f) != NULL) {
            quota = parse_number(line);
            period = parse_number(line + strcspn(line, " "));
        }
        if (f != NULL) {
            (void)fclose(f);
        }
    } else {
        quota = read_number(folder, "cpu.cfs_quota_us", "");
        period = read_number(folder, "cpu.cfs_period_us", "");
    }
    if (quota != UINT64_MAX && quota > 0 && period != UINT64_MAX && period > 0) {
        take(l, quota / period + (quota % period != 0));
    }
}

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

static uint64_t known_or_0(uint64_t n) { return n != UINT64_MAX ? n : 0; }

static void ask_memory(least *l, const char *folder, bool version_2)
{
    uint64_t limit = read_number(folder, version_2 ? "memory.max" : "memory.limit_in_bytes", "");
    uint64_t used = read_number(folder, version_2 ? "memory.current" : "memory.usage_in_bytes", "");
    uint64_t given_back = known_or_0(read_number(folder, "memory.stat", version_2 ? "file " : "total_inactive_file "));
    /* In version 2 counted as file, though there is no file to which it could go back. */
    uint64_t shared = version_2 ? known_or_0(read_number(folder, "memory.stat", "shmem ")) : 0;
    if (limit != UINT64_MAX && used != UINT64_MAX) {
        given_back -= smaller(shared, given_back);
        used -= smaller(given_back, used);
        take(l, limit > used ? limit - used : 0);
    }
}

/* Whether `name` is one of a list with commas. */
static bool lists(const char *list, const char *name)
{
    for (size_t n = strlen(name); *list != '\0'; list += *list == ',') {
        size_t k = strcspn(list, ",");
        if (k == n && strncmp(list, name, n) == 0) {
            return true;
        }
        list += k;
    }
    return false;
}

/* Asks the group `path` below `root`, and all those above it. Those that are not there say nothing. */
static void ask_upwards(least *l, const char *root, const char *path, bool version_2)
{
    char folder[FILE_BYTES];
    const size_t base = strlen(root);
    /* A path that leads out of what this process sees is of use to nobody. */
    bool outside = strstr(path, "/../") != NULL || (strlen(path) >= 3 && strcmp(path + strlen(path) - 3, "/..") == 0);
    int n = snprintf(folder, sizeof folder, "%s%s", root, outside ? "" : path);
    if (n < 0 || (size_t)n >= sizeof folder) {
        return;
    }
    for (size_t at = (size_t)n;;) {
        while (at > base && folder[at - 1] == '/') {
            at--;
        }
        folder[at] = '\0';
        l->ask(l, folder, version_2);
        if (at <= base) {
            return;
        }
        while (at > base && folder[at - 1] != '/') {
            at--;
        }
    }
}

/* A line of /proc/self/cgroup: "ID:CONTROLLERS:PATH". Version 2 has no controllers there; version 1 has a mount for each set of them. */
static void ask_line(least *l, char *line, const char *mount)
{
    char root[PATH_BYTES + 128];
    char *controllers = strchr(line, ':'), *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL) {
        return;
    }
    line[strcspn(line, "\n")] = '\0';
    *path++ = '\0';
    controllers++;
    if (controllers[0] == '\0') {
        ask_upwards(l, mount, path, true);
    } else if (lists(controllers, l->controller)) {
        const char *const names[] = {controllers, l->controller}; /* mounted as "cpu,cpuacct", "cpu", or both by a link */
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            int n = snprintf(root, sizeof root, "%s/%s", mount, names[i]);
            if (n > 0 && (size_t)n < sizeof root) {
                ask_upwards(l, root, path, false);
            }
        }
    }
}

static uint64_t find_least(least *l, const char *self, const char *mount)
{
    char line[PATH_BYTES];
    FILE *f = fopen(self, "re");
    if (f == NULL) {
        ask_upwards(l, mount, "", true);
        return l->value;
    }
    while (fgets(line, sizeof line, f) != NULL) {
        ask_line(l, line, mount);
    }
    (void)fclose(f);
    return l->value;
}

size_t qn_cgroup_cores(const char *self, const char *mount)
{
    least l = {.controller = "cpu", .ask = ask_cores, .value = UINT64_MAX};
    uint64_t cores = find_least(&l, self, mount);
    return cores >= SIZE_MAX ? SIZE_MAX : (size_t)cores;
}

uint64_t qn_cgroup_memory_available(const char *self, const char *mount)
{
    least l = {.controller = "memory", .ask = ask_memory, .value = UINT64_MAX};
    return find_least(&l, self, mount);
}
