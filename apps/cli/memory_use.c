/* memory_use.c - Linux's files: /proc/self/statm (pages in all, resident, resident of files), the group's memory limit. */
#include "memory_use.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/memory_info.h"

uint64_t qn_private_memory_bytes(void)
{
    unsigned long long total = 0, resident = 0, of_files = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f == NULL) {
        return 0;
    }
    int n = fscanf(f, "%llu %llu %llu", &total, &resident, &of_files);
    (void)fclose(f);
    long page = sysconf(_SC_PAGESIZE);
    return n == 3 && page > 0 && resident > of_files ? (resident - of_files) * (uint64_t)page : 0;
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
