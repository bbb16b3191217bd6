/* energy.h - what the processors of this machine used, as their counters tell it (RAPL).
 *
 * Packages are added up; their parts (cores, memory) are not counted beside them. A figure is of the whole machine, whoever made it work. */
#ifndef QN_CLI_ENERGY_H
#define QN_CLI_ENERGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QN_ENERGY_FOLDER "/sys/class/powercap"
enum { QN_ENERGY_PACKAGES_MAX = 64 };

typedef struct qn_energy_counter {
    unsigned domain;             /* N of intel-rapl:N */
    uint64_t begin_uj, range_uj; /* it counts up to range_uj and begins again at 0 */
} qn_energy_counter;

typedef struct qn_energy {
    const char *folder; /* borrowed */
    qn_energy_counter packages[QN_ENERGY_PACKAGES_MAX];
    size_t n;
    bool known; /* every package was read */
} qn_energy;

/* Reads the counters of all packages in `folder` (QN_ENERGY_FOLDER; a made-up one in tests). */
void qn_energy_begin(qn_energy *e, const char *folder);
/* Joules since then; NaN where there are no packages, or one cannot be read (mostly: by root only). A counter that went round once is made good;
 * more often than that cannot be seen (a range of 262 kJ lasts 20 minutes at 200 W). */
double qn_energy_joules(const qn_energy *e);

#endif
