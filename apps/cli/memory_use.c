/* memory_use.c - Linux's files: /proc/self/statm (pages in all, resident, resident of files), /proc/self/status (VmHWM: the most that was resident)
 * and /proc/self/clear_refs, where a 5 sets VmHWM to what is resident now. */
#include "memory_use.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

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

/* Since the program's start, or since it was forgotten. */
static uint64_t resident_peak(void)
{
    unsigned long long kilobytes = 0;
    char line[256];
    FILE *f = fopen("/proc/self/status", "re");
    while (f != NULL && kilobytes == 0 && fgets(line, sizeof line, f) != NULL) {
        (void)sscanf(line, "VmHWM: %llu kB", &kilobytes);
    }
    if (f != NULL) {
        (void)fclose(f);
    }
    return kilobytes > 0 ? kilobytes * 1024 : qn_peak_rss_bytes();
}

void qn_memory_peak_pause(qn_memory_peak *p)
{
    const uint64_t now = p->cannot_forget ? qn_private_memory_bytes() + qn_mapped_memory_bytes() : resident_peak();
    p->bytes = now > p->bytes ? now : p->bytes;
}

void qn_memory_peak_go_on(qn_memory_peak *p)
{
    FILE *f = fopen("/proc/self/clear_refs", "we");
    bool forgotten = f != NULL && fputs("5", f) >= 0;
    forgotten = f != NULL && fclose(f) == 0 && forgotten; /* written here, and refused here */
    p->cannot_forget = p->cannot_forget || !forgotten;
}
