/* bench_report.h - what `quern bench` measured, as a file: CSV, Markdown, JSON or a picture. */
#ifndef QN_CLI_BENCH_REPORT_H
#define QN_CLI_BENCH_REPORT_H

#include "cli.h"

/* QUERN_ERROR_USAGE unless the name ends in .csv, .json, .md or .svg and a file can be made there; nothing is left of the attempt. To be asked
 * before anything is measured. */
quern_status qn_bench_report_check(qn_cli *cli, const char *path, quern_error *err);
/* Writes the document (schema quern.bench/1). A .md page has its picture beside it as .svg; without gnuplot it has none, which a warning says, and
 * a picture alone is QUERN_ERROR_UNAVAILABLE. */
quern_status qn_bench_report_write(qn_cli *cli, const qn_json *document, const char *path, quern_error *err);

#endif
