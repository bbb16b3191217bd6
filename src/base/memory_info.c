/* memory_info.c - see memory_info.h. */
#include "base/memory_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cgroup.h"

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

uint64_t qn_available_memory_bytes(void)
{
    uint64_t machine = qn_memory_info_get().available_bytes, group = qn_cgroup_memory_available(QN_CGROUP_SELF, QN_CGROUP_MOUNT);
    machine = machine > 0 ? machine : UINT64_MAX; /* 0: the system does not tell */
    return group < machine ? group : machine;
}

size_t qn_page_bytes(void)
{
    long page = sysconf(_SC_PAGESIZE);
    return page > 0 ? (size_t)page : 4096;
}
