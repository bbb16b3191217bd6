/* plot.h - pictures: points with labels, drawn as SVG by gnuplot, which is looked for when a picture is asked for.
 *
 * Invariant: nothing of a caller's text reaches gnuplot as anything but a label; what could end a quoted text is replaced.
 */
#ifndef QN_CLI_PLOT_H
#define QN_CLI_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

typedef struct qn_plot_point {
    double x, y;
    const char *label;
} qn_plot_point;

typedef struct qn_plot_series {
    const char *name;
    const qn_plot_point *points;
    size_t n; /* 0: the series is left out */
} qn_plot_series;

typedef struct qn_plot_panel {
    const char *title, *x_label, *y_label;
    bool log_y;
    bool lines; /* joins the points of a series in their order, and both axes begin at zero */
    const qn_plot_series *series;
    size_t n_series; /* 1..4; labels of the first and third stand above their points, of the others below */
} qn_plot_panel;

/* Appends one SVG document with the panels below one another; each has a point at least, all finite and, for log_y, positive.
 * Without gnuplot QUERN_ERROR_UNAVAILABLE. */
quern_status qn_plot_svg(const qn_plot_panel *panels, size_t n, qn_buf *out, quern_error *err);

#endif
