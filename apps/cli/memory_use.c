/* memory_use.c - Linux's files: /proc/self/statm (pages in all, resident, resident of files). */
#include "memory_use.h"

#include <stdio.h>
#include <unistd.h>

static void read_pages(unsigned long long *own, unsigned long long *of_files)
{
    unsigned long long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    *own = *of_files = 0;
    if (f == NULL) {
        return;
    }
    int n = fscanf(f, "%llu %llu %llu", &total, &resident, of_files);
    (void)fclose(f);
    if (n == 3 && resident > *of_files) {
        *own = resident - *of_files;
    } else {
        *of_files = 0;
    }
}

static uint64_t bytes_of(unsigned long long pages)
{
    long page = sysconf(_SC_PAGESIZE);
    return page > 0 ? pages * (uint64_t)page : 0;
}

uint64_t qn_private_memory_bytes(void)
{
    unsigned long long own, of_files;
    read_pages(&own, &of_files);
    return bytes_of(own);
}

uint64_t qn_mapped_memory_bytes(void)
{
    unsigned long long own, of_files;
    read_pages(&own, &of_files);
    return bytes_of(of_files);
}
