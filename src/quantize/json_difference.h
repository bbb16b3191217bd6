/* json_difference.h - where two JSON values differ in meaning: the order of keys, spacing and the spelling of numbers do not count.
 */
#ifndef QN_QUANTIZE_JSON_DIFFERENCE_H
#define QN_QUANTIZE_JSON_DIFFERENCE_H

#include "base/json.h"

/* The places, "a.b[3], c, and 4 more". */
typedef struct qn_json_places {
    size_t n;       /* all of them */
    char text[240]; /* the first ones */
} qn_json_places;

/* Adds the places where a and b differ; `under` ("" = the root) stands in front of their names. A member that only one of them has is a place;
 * one that is null and one that is not there are the same. */
void qn_json_find_places(const qn_json *a, const qn_json *b, const char *under, qn_json_places *out);
/* Ends the text with how many more there are. */
void qn_json_end_places(qn_json_places *p);
bool qn_json_same(const qn_json *a, const qn_json *b);

#endif
