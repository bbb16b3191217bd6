/* verify_templates.h - chat templates in files of their own, which other readers take before those that Quern reads.
 */
#ifndef QN_QUANTIZE_VERIFY_TEMPLATES_H
#define QN_QUANTIZE_VERIFY_TEMPLATES_H

#include "gate/findings.h"
#include "quantize/job.h"

/* Whether it is one of these files. */
bool qn_is_template_file(const char *name);
/* files (n): the folder's, relative. A template that the source does not have under that name is a reason to fail. */
quern_status qn_verify_templates(const qn_source *source, const char *path, const char *const *files, size_t n, qn_findings *f,
                                 quern_error *err);

#endif
