/* memory_use.c - Linux's files: /proc/self/statm (pages in all, resident, resident of files). */
#include "memory_use.h"

#include <stdio.h>
#include <unistd.h>

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
