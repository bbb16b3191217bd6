/* signals.h - Ctrl-C: the first one stops the current answer, the second one leaves.
 *
 * While nothing that can be stopped in the middle is going on, the first one leaves, too. Leaving means: temporary output files are
 * removed, exit 130 (SIGTERM and SIGHUP: removed likewise, then the signal's own death). For the moment in which finished files get their
 * names a signal waits. A mapped file that becomes shorter ends the program with a line on stderr and exit 5 (SIGBUS).
 */
#ifndef QN_CLI_SIGNALS_H
#define QN_CLI_SIGNALS_H

#include <stdbool.h>

void qn_signals_install(void);
/* Between begin and end the first Ctrl-C only sets a flag. begin clears the flag. */
void qn_signals_begin_stoppable(void);
void qn_signals_end_stoppable(void);
/* Waits until fd can be read (or has ended). False, with errno EINTR, once Ctrl-C came since begin, however long before the wait. */
bool qn_signals_wait_input(int fd);
/* True once Ctrl-C came since begin. */
bool qn_signals_stopped(void);

#endif
