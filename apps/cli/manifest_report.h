/* manifest_report.h - what a manifest proves, as a page: a table of the outputs and a picture of error and divergence against size.
 */
#ifndef QN_CLI_MANIFEST_REPORT_H
#define QN_CLI_MANIFEST_REPORT_H

#include "cli.h"

/* Writes the report of the manifest to `path`, whose ending says what: .md (the picture beside it as .svg), .html (the picture inside), or
 * .svg (the picture alone). Without gnuplot a page has no picture, which a warning says; a picture alone is then QUERN_ERROR_UNAVAILABLE.
 * The manifest's files are not looked at here. */
quern_status qn_report_write(qn_cli *cli, const char *manifest, const char *path, quern_error *err);

#endif
