/* memory_info.c - see memory_info.h. */
#include "base/memory_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A line "KEY:   N kB" in bytes, or 0. */
static uint64_t bytes_of_line(const char *line, const char *key)
{
    size_t n = strlen(key);
    return strncmp(line, key, n) == 0 && line[n] == ':' ? strtoull(line + n + 1, NULL, 10) * 1024u : 0;
}

qn_memory_info qn_memory_info_get(void)
{
    qn_memory_info info = {0};
    char line[256];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f != NULL && fgets(line, sizeof line, f) != NULL) {
        info.total_bytes += bytes_of_line(line, "MemTotal");
        info.available_bytes += bytes_of_line(line, "MemAvailable");
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    if (info.total_bytes == 0) {
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        info.total_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
        info.available_bytes = info.total_bytes;
    }
    return info;
}

/* The first number after `name` in a file of lines; UINT64_MAX if there is none ("max" is no number). */
static uint64_t read_number(const char *path, const char *name)
{
    char line[256];
    uint64_t found = UINT64_MAX;
    FILE *f = fopen(path, "re");
    while (f != NULL && found == UINT64_MAX && fgets(line, sizeof line, f) != NULL) {
        unsigned long long v;
        size_t n = strlen(name);
        if (strncmp(line, name, n) == 0 && sscanf(line + n, "%llu", &v) == 1) {
            found = v;
        }
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return found;
}

uint64_t qn_available_memory_bytes(void)
{
    uint64_t machine = qn_memory_info_get().available_bytes;
    uint64_t limit = read_number("/sys/fs/cgroup/memory.max", ""), used = read_number("/sys/fs/cgroup/memory.current", "");
    uint64_t file = read_number("/sys/fs/cgroup/memory.stat", "file "); /* given back under pressure */
    machine = machine > 0 ? machine : UINT64_MAX;                       /* 0: the system does not tell */
    if (limit == UINT64_MAX || used == UINT64_MAX) {
        return machine;
    }
    used -= file < used ? file : 0;
    uint64_t group = limit > used ? limit - used : 0;
    return group < machine ? group : machine;
}
