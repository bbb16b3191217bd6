/* human_number.c - see human_number.h. */
#include "base/human_number.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

/* Three significant digits where they say something: 9.12, 41.3, 512. */
static void format_three(char *buf, size_t cap, double v, const char *unit)
{
    int decimals = v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
    (void)snprintf(buf, cap, "%.*f%s", decimals, v, unit);
}

const char *qn_format_bytes(qn_number buf, uint64_t bytes)
{
    static const char *const units[] = {" B", " KiB", " MiB", " GiB", " TiB"};
    double v = (double)bytes;
    size_t i = 0;
    for (; v >= 1023.5 && i < 4; i++) {
        v /= 1024;
    }
    if (i == 0) {
        (void)snprintf(buf, sizeof(qn_number), "%" PRIu64 " B", bytes);
    } else {
        format_three(buf, sizeof(qn_number), v, units[i]);
    }
    return buf;
}

const char *qn_format_count(qn_number buf, uint64_t n)
{
    static const char *const units[] = {"", " k", " M", " B", " T"};
    double v = (double)n;
    size_t i = 0;
    for (; v >= 999.5 && i < 4; i++) {
        v /= 1000;
    }
    if (i == 0) {
        (void)snprintf(buf, sizeof(qn_number), "%" PRIu64, n);
    } else {
        format_three(buf, sizeof(qn_number), v, units[i]);
    }
    return buf;
}

const char *qn_format_grouped(qn_number buf, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRIu64, n);
    size_t at = 0;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0) {
            buf[at++] = ',';
        }
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

const char *qn_format_seconds(qn_number buf, double seconds)
{
    if (seconds < 0.9995e-3) {
        format_three(buf, sizeof(qn_number), seconds * 1e6, " us");
    } else if (seconds < 0.9995) {
        format_three(buf, sizeof(qn_number), seconds * 1e3, " ms");
    } else if (seconds < 99.95) {
        format_three(buf, sizeof(qn_number), seconds, " s");
    } else {
        uint64_t s = (uint64_t)(seconds + 0.5);
        (void)snprintf(buf, sizeof(qn_number), "%" PRIu64 ":%02u min", s / 60, (unsigned)(s % 60));
    }
    return buf;
}

const char *qn_format_rate(qn_number buf, double per_second)
{
    if (per_second >= 999.5) {
        return qn_format_grouped(buf, (uint64_t)(per_second + 0.5));
    }
    format_three(buf, sizeof(qn_number), per_second, "");
    return buf;
}
