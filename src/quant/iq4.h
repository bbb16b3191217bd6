/* iq4.h - what IQ4_NL and IQ4_XS share in encoding: the candidates of the scale search and the way from level to index.
 */
#ifndef QN_QUANT_IQ4_H
#define QN_QUANT_IQ4_H

#include <stddef.h>
#include <stdint.h>

/* Where the search puts the element of greatest magnitude, in level units; both signs, because the levels are not symmetric. */
enum { QN_N_IQ4_TARGETS = 14 };
extern const float qn_iq4_targets[QN_N_IQ4_TARGETS];

/* Index (0..15) of a level of qn_iq4_levels. */
uint8_t qn_iq4_index(int level);

#endif
