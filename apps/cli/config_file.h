/* config_file.h - $XDG_CONFIG_HOME/quern/config: one `name = value` a line, names as on the command line.
 *
 *   # comment
 *   threads = 8
 *   run.temp = 0.2          only for quern run
 */
#ifndef QN_CLI_CONFIG_FILE_H
#define QN_CLI_CONFIG_FILE_H

#include <stddef.h>

#include "opts.h"

/* Reads the user's file into o if there is one. */
quern_status qn_config_file_read(qn_opts *o, quern_error *err);
/* The text of one; `name` stands in messages. */
quern_status qn_config_file_parse(qn_opts *o, const char *text, size_t len, const char *name, quern_error *err);

/* Folders, in new memory (NULL when out of memory or the user has no home): $XDG_CONFIG_HOME/quern or ~/.config/quern, and
 * $QUERN_HOME, $XDG_DATA_HOME/quern or ~/.local/share/quern. */
char *qn_config_folder(void);
char *qn_data_folder(void);

#endif
