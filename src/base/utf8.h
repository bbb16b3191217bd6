/* utf8.h - decoding UTF-8 strictly (no overlong forms, no surrogates, nothing above U+10FFFF). */
#ifndef QN_BASE_UTF8_H
#define QN_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QN_UTF8_INVALID 0xffffffffu

/* Decodes the character at s[0..n). Returns its bytes (1..4) and sets *cp; for an invalid byte returns 1 and sets
 * QN_UTF8_INVALID; returns 0 only for n = 0. */
size_t qn_utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes cp as 1..4 bytes; returns their count. cp must be a valid scalar value. */
size_t qn_utf8_encode(uint32_t cp, char out[4]);
bool qn_utf8_valid(const char *s, size_t n);
/* Length of the longest prefix of s that does not end inside a character that later bytes could still complete. */
size_t qn_utf8_complete_prefix(const char *s, size_t n);

#endif
