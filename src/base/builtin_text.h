/* builtin_text.h - the two texts that are part of the library: source code to calibrate with, and other source code to measure with.
 *
 * They are models/texts/calibration.txt and gate.txt, byte for byte; no file is in both, so a figure never comes from a text that was fitted to.
 */
#ifndef QN_BASE_BUILTIN_TEXT_H
#define QN_BASE_BUILTIN_TEXT_H

#include <stddef.h>

/* Valid forever; not NUL-terminated: *len is the number of bytes. */
const char *qn_builtin_text_calibration(size_t *len);
const char *qn_builtin_text_gate(size_t *len);

#endif
