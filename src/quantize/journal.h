/* journal.h - what an unfinished run has brought to the disk, so that the next one continues there.
 *
 * DIR/.quern-quantize.journal, lines of text, each with a checksum of itself at its end:
 *
 *   quern-journal 1 IDENTITY SUM
 *   piece NUMBER GREATEST [ERROR ERROR ERROR [SUM a stream]... an output]... SUM
 *
 * IDENTITY is a hash of everything the outputs' bytes depend on: source files (paths, sizes, times, beginnings), options, the plan.
 * Numbers but NUMBER are the bits, in hexadecimal. Invariant: a piece is noted after its bytes are synced, so the journal never claims
 * what is not on the disk; a line that is torn ends it.
 */
#ifndef QN_QUANTIZE_JOURNAL_H
#define QN_QUANTIZE_JOURNAL_H

#include "base/background.h"
#include "quantize/hash_list.h"
#include "quantize/job.h"

#define QN_JOURNAL_NAME ".quern-quantize.journal"

typedef enum qn_journal_found {
    QN_JOURNAL_NONE,
    QN_JOURNAL_OTHER,   /* of another source, other options, or another version */
    QN_JOURNAL_DAMAGED, /* not readable, or without any piece */
    QN_JOURNAL_USABLE
} qn_journal_found;

typedef struct qn_journal {
    qn_job *job;
    char *path;
    char identity[65];
    int fd;
    size_t n_pieces;      /* noted */
    uint64_t valid_bytes; /* of the lines that were read */
    uint64_t interval_ns, noted_ns;
    qn_background *syncing; /* the files are brought to the disk; NULL = not now */
    size_t n_syncing;       /* pieces that are in them */
    bool broken;            /* a sync failed: nothing is noted any more */
    quern_status sync_status;
    quern_error sync_err;
} qn_journal;

/* sources: the files of the source, before any output. */
quern_status qn_journal_init(qn_journal *j, qn_job *job, const quern_quantize_options *opt, const qn_hash_list *sources,
                             uint64_t interval_ns, quern_error *err);
/* What an earlier run noted goes into the job: n_continued, errors, sums, greatest magnitudes. */
quern_status qn_journal_read(qn_journal *j, qn_journal_found *found, quern_error *err);
/* The same from its text: lines up to the first that is torn or not what follows. j: its job and identity are looked at. */
qn_journal_found qn_journal_parse(qn_journal *j, const char *text, size_t len);
/* Forgets it and removes the file; the job starts at its first piece. */
void qn_journal_discard(qn_journal *j);
/* Notes that the first n pieces are complete: syncs the files, waits for that, then writes. From then on the files stay where a run ends
 * early. */
quern_status qn_journal_note(qn_journal *j, size_t n, quern_error *err);
/* The same if it is time for it, without waiting: another thread syncs, and a later call writes. */
quern_status qn_journal_note_if_due(qn_journal *j, size_t n, quern_error *err);
/* Waits until no other thread looks at the files; before they are closed. If that thread could not bring them to the disk, they are never
 * named. */
void qn_journal_wait(qn_journal *j);
void qn_journal_deinit(qn_journal *j);

#endif
