/* unicode_props.h - what Python's str methods ask of a character: kinds and case mappings (Unicode 14, as CPython 3.11).
 *
 * Code points above U+10FFFF and surrogates have no property and map to themselves.
 */
#ifndef QN_TEXT_UNICODE_PROPS_H
#define QN_TEXT_UNICODE_PROPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bits of qn_unicode_props. */
enum {
    QN_UNICODE_ALPHA = 1 << 0,
    QN_UNICODE_DECIMAL = 1 << 1,
    QN_UNICODE_DIGIT = 1 << 2,
    QN_UNICODE_NUMERIC = 1 << 3,
    QN_UNICODE_LOWER = 1 << 4,
    QN_UNICODE_UPPER = 1 << 5,
    QN_UNICODE_TITLE = 1 << 6,
    QN_UNICODE_CASE_IGNORABLE = 1 << 7,
    QN_UNICODE_PRINTABLE = 1 << 8,
    QN_UNICODE_ID_START = 1 << 9,
    QN_UNICODE_ID_CONTINUE = 1 << 10,
    QN_UNICODE_CASED = QN_UNICODE_LOWER | QN_UNICODE_UPPER | QN_UNICODE_TITLE,
    QN_UNICODE_ALNUM = QN_UNICODE_ALPHA | QN_UNICODE_DECIMAL | QN_UNICODE_DIGIT | QN_UNICODE_NUMERIC
};

uint32_t qn_unicode_props(uint32_t cp);
/* White space as str.isspace and the regular expression \s see it. */
bool qn_unicode_is_space(uint32_t cp);
/* 0..9 for a decimal digit of any script, else -1. */
int qn_unicode_decimal_value(uint32_t cp);

typedef enum qn_unicode_case { QN_CASE_UPPER, QN_CASE_LOWER, QN_CASE_TITLE, QN_CASE_FOLD } qn_unicode_case;
/* The full mapping of one character (without the rule for a final sigma): 1..3 characters into out, returns their count. */
size_t qn_unicode_map_case(uint32_t cp, qn_unicode_case which, uint32_t out[3]);

#endif
