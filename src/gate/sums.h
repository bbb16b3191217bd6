/* sums.h - what sums over a tensor say of its scales: gains and mean errors, and what they may be. Stateless.
 */
#ifndef QN_GATE_SUMS_H
#define QN_GATE_SUMS_H

#include "gate/tensor_check.h"

typedef enum qn_sums_fault { QN_SUMS_SOUND, QN_SUMS_LEVEL, QN_SUMS_VALUE, QN_SUMS_BIAS } qn_sums_fault;

typedef struct qn_sums_verdict {
    qn_sums_fault fault;
    double figure, expected, limit;
} qn_sums_verdict;

/* chosen_together: codes were (error feedback, importance). */
qn_sums_verdict qn_sums_judge(const qn_tensor_figures *f, bool chosen_together);

#endif
