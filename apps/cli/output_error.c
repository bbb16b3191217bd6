/* output_error.c - see output_error.h. */
#include "output_error.h"

#include <math.h>

double qn_output_error(const qn_json *tensors)
{
    double sum = 0, elements = 0;
    for (size_t i = 0; i < qn_json_length(tensors); i++) {
        const qn_json *t = qn_json_at(tensors, i), *shape = qn_json_get(t, "shape");
        double n = 1, error;
        for (size_t k = 0; k < qn_json_length(shape); k++) {
            double dim;
            n *= qn_json_number(qn_json_at(shape, k), &dim) && dim > 0 ? dim : 0;
        }
        if (qn_json_length(shape) > 1 && qn_json_number(qn_json_get(t, "rel_rmse"), &error)) {
            sum += error * error * n;
            elements += n;
        }
    }
    return elements > 0 ? sqrt(sum / elements) : NAN;
}
