/* unicode_props.c - lookups in the generated tables of unicode_props.inc; no state, no allocation. */
#include "text/unicode_props.h"

/* Characters first, first + step, ..., last map to themselves plus delta. Ranges of one table do not overlap. */
typedef struct case_range {
    uint32_t first, last, step;
    int32_t delta;
} case_range;

/* One character that becomes several; unused places are 0. */
typedef struct case_expansion {
    uint32_t cp;
    uint32_t to[3];
} case_expansion;

#include "text/unicode_props.inc"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
enum { PROPERTY_BITS = 11, PROPERTY_MASK = (1 << PROPERTY_BITS) - 1 };

/* Index of the run that holds cp; the first run begins at 0. */
static size_t find_run(uint32_t cp)
{
    size_t low = 0, high = COUNT(PROPERTY_RUNS);
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if ((PROPERTY_RUNS[middle] >> PROPERTY_BITS) <= cp) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

uint32_t qn_unicode_props(uint32_t cp) { return cp < 0x110000u ? PROPERTY_RUNS[find_run(cp)] & PROPERTY_MASK : 0u; }

bool qn_unicode_is_space(uint32_t cp)
{
    if (cp < 0x80u) {
        return cp == ' ' || (cp >= 0x09u && cp <= 0x0du) || (cp >= 0x1cu && cp <= 0x1fu);
    }
    return cp == 0x85u || cp == 0xa0u || cp == 0x1680u || (cp >= 0x2000u && cp <= 0x200au) || cp == 0x2028u || cp == 0x2029u ||
           cp == 0x202fu || cp == 0x205fu || cp == 0x3000u;
}

int qn_unicode_decimal_value(uint32_t cp)
{
    if (cp < 0x80u) {
        return cp >= '0' && cp <= '9' ? (int)(cp - '0') : -1;
    }
    if (cp >= 0x110000u) {
        return -1;
    }
    /* Decimal digits come in groups of ten from zero to nine, and a run of them begins with a zero. */
    uint32_t run = PROPERTY_RUNS[find_run(cp)];
    return (run & QN_UNICODE_DECIMAL) != 0 ? (int)((cp - (run >> PROPERTY_BITS)) % 10u) : -1;
}

static const case_range *find_range(const case_range *ranges, size_t n, uint32_t cp)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < cp) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool inside = low < n && ranges[low].first <= cp && (cp - ranges[low].first) % ranges[low].step == 0;
    return inside ? &ranges[low] : NULL;
}

static const case_expansion *find_expansion(const case_expansion *rows, size_t n, uint32_t cp)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (rows[middle].cp < cp) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && rows[low].cp == cp ? &rows[low] : NULL;
}

/* Looks in one pair of tables; 0 if neither has cp. */
static size_t map_in(const case_range *ranges, size_t n_ranges, const case_expansion *rows, size_t n_rows, uint32_t cp, uint32_t out[3])
{
    const case_range *range = find_range(ranges, n_ranges, cp);
    if (range != NULL) {
        out[0] = (uint32_t)((int32_t)cp + range->delta);
        return 1;
    }
    const case_expansion *row = find_expansion(rows, n_rows, cp);
    if (row == NULL) {
        return 0;
    }
    size_t n = 0;
    while (n < 3 && row->to[n] != 0) {
        out[n] = row->to[n];
        n++;
    }
    return n;
}

size_t qn_unicode_map_case(uint32_t cp, qn_unicode_case which, uint32_t out[3])
{
    out[0] = cp;
    if (cp < 0x80u) {
        bool upper = which == QN_CASE_UPPER || which == QN_CASE_TITLE;
        if (upper && cp >= 'a' && cp <= 'z') {
            out[0] = cp - 32u;
        } else if (!upper && cp >= 'A' && cp <= 'Z') {
            out[0] = cp + 32u;
        }
        return 1;
    }
    size_t n = 0;
    if (which == QN_CASE_TITLE) {
        n = map_in(TITLE_RANGES, COUNT(TITLE_RANGES), TITLE_EXPANSIONS, COUNT(TITLE_EXPANSIONS), cp, out);
    } else if (which == QN_CASE_FOLD) {
        n = map_in(FOLD_RANGES, COUNT(FOLD_RANGES), FOLD_EXPANSIONS, COUNT(FOLD_EXPANSIONS), cp, out);
    }
    if (n == 0) {
        n = which == QN_CASE_UPPER || which == QN_CASE_TITLE
                ? map_in(UPPER_RANGES, COUNT(UPPER_RANGES), UPPER_EXPANSIONS, COUNT(UPPER_EXPANSIONS), cp, out)
                : map_in(LOWER_RANGES, COUNT(LOWER_RANGES), LOWER_EXPANSIONS, COUNT(LOWER_EXPANSIONS), cp, out);
    }
    if (n == 0) {
        out[0] = cp;
        n = 1;
    }
    return n;
}
