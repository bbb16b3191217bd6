/* energy.c - see energy.h. */
#include "energy.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_BYTES = 512 };

/* The first line of FOLDER/intel-rapl:DOMAIN/NAME. */
static bool read_line(const char *folder, unsigned domain, const char *name, char *out, size_t size)
{
    char path[PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s/intel-rapl:%u/%s", folder, domain, name);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
    const bool ok = f != NULL && fgets(out, (int)size, f) != NULL;
    if (f != NULL) {
        (void)fclose(f);
    }
    return ok;
}

static bool read_number(const char *folder, unsigned domain, const char *name, uint64_t *out)
{
    char text[32], *end = text;
    errno = 0;
    const bool read = read_line(folder, domain, name, text, sizeof text) && text[0] >= '0' && text[0] <= '9';
    const unsigned long long v = read ? strtoull(text, &end, 10) : 0;
    const bool ok = read && errno == 0 && (*end == '\n' || *end == '\0');
    *out = ok ? v : 0;
    return ok;
}

/* "intel-rapl:3" is a domain of its own; "intel-rapl:3:0" a part of one. */
static bool is_top_level(const char *entry, unsigned *domain)
{
    char rest;
    return sscanf(entry, "intel-rapl:%5u%c", domain, &rest) == 1;
}

void qn_energy_begin(qn_energy *e, const char *folder)
{
    *e = (qn_energy){.folder = folder, .known = true};
    DIR *d = opendir(folder);
    for (struct dirent *entry = d != NULL ? readdir(d) : NULL; entry != NULL; entry = readdir(d)) {
        unsigned domain;
        char name[32];
        if (!is_top_level(entry->d_name, &domain)) {
            continue;
        }
        const bool named = read_line(folder, domain, "name", name, sizeof name);
        if (named && strncmp(name, "package", strlen("package")) != 0) {
            continue; /* "psys", the whole board, has the packages in it */
        }
        if (!named || e->n == QN_ENERGY_PACKAGES_MAX) {
            e->known = false;
            continue;
        }
        qn_energy_counter *c = &e->packages[e->n++];
        c->domain = domain;
        e->known = read_number(folder, domain, "energy_uj", &c->begin_uj) &&
                   read_number(folder, domain, "max_energy_range_uj", &c->range_uj) && e->known;
    }
    if (d != NULL) {
        (void)closedir(d);
    }
}

double qn_energy_joules(const qn_energy *e)
{
    double microjoules = 0;
    bool known = e->known && e->n > 0;
    for (size_t i = 0; known && i < e->n; i++) {
        const qn_energy_counter *c = &e->packages[i];
        uint64_t now;
        known = read_number(e->folder, c->domain, "energy_uj", &now);
        if (known && now < c->begin_uj) {
            known = c->begin_uj <= c->range_uj;
            microjoules += (double)(c->range_uj - c->begin_uj) + (double)now;
        } else {
            microjoules += (double)(now - c->begin_uj);
        }
    }
    return known ? microjoules * 1e-6 : (double)NAN;
}
