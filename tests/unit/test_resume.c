/* test_resume.c - unfinished runs: the next one continues, and what comes out is, byte for byte, what an undisturbed run gives. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "quantize_run.h"
#include "random_weights.h"

#include "base/checksum.h"
#include "base/out_file.h"

/* In place of the C library's: files (not folders) that are synced while the number is above zero are lost, of which the system tells once. */
static atomic_int syncs_to_fail;
static atomic_int syncs_at_work;

int fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && atomic_load(&syncs_to_fail) > 0) {
        (void)atomic_fetch_sub(&syncs_to_fail, 1);
        errno = EIO;
        return -1;
    }
    (void)atomic_fetch_add(&syncs_at_work, 1);
    int result = (int)syscall(SYS_fsync, fd);
    (void)atomic_fetch_sub(&syncs_at_work, 1);
    return result;
}

/* Notes are synced beside the pass: on a slow disk a short run would be over, or killed, before its first one. */
static void wait_for_syncs(void)
{
    for (int quiet = 0; quiet < 5; quiet++) {
        (void)usleep(1000);
        quiet = atomic_load(&syncs_at_work) > 0 ? 0 : quiet;
    }
}

static const char *const formats = "gguf:Q4_K_M,mlx:4bit,mlx:mxfp4,gguf:F32";

/* A callback that ends the run at a call, and keeps the note. */
typedef struct watch {
    size_t calls_left; /* 0 = never */
    bool kill;         /* SIGKILL instead of a cancel */
    bool note_always;
    quern_quantize_stage stage;
    bool any_stage;
    size_t tensors_done;     /* as the last call that counted said it */
    const char *calibration; /* a text, or NULL */
    char note[256];
} watch;

static bool on_progress(void *user, const quern_quantize_progress *p)
{
    watch *w = user;
    assert_true(p->tensors_done <= p->tensors_total && p->bytes_done <= p->bytes_total);
    if (p->note != NULL) {
        (void)snprintf(w->note, sizeof w->note, "%s", p->note);
    }
    if (p->stage == QUERN_QUANTIZE_CONVERT && p->tensors_done == w->tensors_done) {
        return true; /* calls within a tensor come by time: counted, they would make the place depend on the machine's speed */
    }
    w->tensors_done = p->stage == QUERN_QUANTIZE_CONVERT ? p->tensors_done : w->tensors_done;
    if (w->kill) {
        wait_for_syncs();
    }
    if (w->calls_left == 0 || (!w->any_stage && p->stage != w->stage) || --w->calls_left > 0) {
        return true;
    }
    if (w->kill) {
        (void)kill(getpid(), SIGKILL);
    }
    return false;
}

static void run_once(run *r, const char *source, const char *dir, watch *w, bool no_resume, size_t n_threads)
{
    /* several weight files; a note after each step (which syncs them all), or when the run is stopped */
    const qn_quantize_limits limits = {.shard_bytes = 200000, .checkpoint_ns = w->note_always || w->kill ? 0 : 1000000000000u};
    quern_error err = {0};
    char *text = NULL;
    size_t len = 0;
    memset(r, 0, sizeof *r);
    r->opt = (quern_quantize_options){.source = source,
                                      .output_dir = dir,
                                      .name = "tiny",
                                      .formats = formats,
                                      .n_threads = n_threads,
                                      .no_resume = no_resume,
                                      .calibrate = w->calibration != NULL ? QUERN_CALIBRATE_TEXT : QUERN_CALIBRATE_NONE,
                                      .calibration_text = w->calibration,
                                      .calibration_len = w->calibration != NULL ? strlen(w->calibration) : 0,
                                      .on_progress = on_progress,
                                      .user = w};
    r->status = qn_quantize_run_with(&r->opt, &limits, &text, &len, &r->err);
    if (r->status == QUERN_OK) {
        assert_ok(qn_json_parse(&r->manifest, text, len, 0, "manifest", &err));
    }
    quern_free(text);
}

/* Ends it by SIGKILL in a child. False if the run was over before. */
static bool run_killed(const char *source, const char *dir, size_t calls)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run r;
        watch w = {.calls_left = calls, .kill = true, .any_stage = true};
        run_once(&r, source, dir, &w, false, 2);
        _exit(r.status == QUERN_OK ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        assert_int_equal(WTERMSIG(status), SIGKILL);
        return true;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static void check_finished(const char *dir, const run *r, const qn_json *undisturbed)
{
    if (r->status != QUERN_OK) {
        fail_msg("%s", r->err.message);
    }
    compare_hashes(undisturbed, r->manifest);
    for (size_t i = 0; i < qn_json_length(qn_json_get(r->manifest, "outputs")); i++) {
        check_file_entries(qn_json_get(qn_json_at(qn_json_get(r->manifest, "outputs"), i), "files"), dir);
    }
    assert_int_equal(count_named(dir), count_files(dir)); /* no journal, no temporary files */
}

static qn_json *undisturbed_run(const char *source)
{
    run r;
    watch w = {0};
    char *dir = new_dir();
    run_once(&r, source, dir, &w, false, 2);
    assert_int_equal(r.status, QUERN_OK);
    assert_string_equal(w.note, "");
    drop_dir(dir);
    return r.manifest;
}

/* Killed again and again at drawn places until it is through. */
static void killed_runs_are_continued(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3", "llama3_rope"};
    size_t n_continued = 0;
    random_state = 77;
    for (size_t i = 0; i < 2; i++) {
        if (!have_model(models[i])) {
            continue;
        }
        qn_json *undisturbed = undisturbed_run(model_dir(models[i]));
        for (size_t k = 0; k < 3; k++) {
            char *dir = new_dir();
            for (size_t kills = 0; kills < 3 && run_killed(model_dir(models[i]), dir, 1 + (size_t)(random_u64() % 25)); kills++) {
                assert_int_equal(count_named(dir), 0);
            }
            run r;
            watch w = {0};
            run_once(&r, model_dir(models[i]), dir, &w, false, 1 + k % 3);
            n_continued += strstr(w.note, "continues ") != NULL;
            check_finished(dir, &r, undisturbed);
            qn_json_free(r.manifest);
            drop_dir(dir);
        }
        qn_json_free(undisturbed);
    }
    assert_true(n_continued >= 3);
}

/* Stopped at every place of the pass, and in the stages behind it. */
static void stopped_runs_are_continued(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    qn_json *undisturbed = undisturbed_run(model_dir("qwen3"));
    for (size_t calls = 1; calls < 40; calls += 5) {
        char *dir = new_dir();
        run r;
        watch w = {.calls_left = calls, .any_stage = true};
        run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
        if (r.status == QUERN_OK) {
            qn_json_free(r.manifest);
            drop_dir(dir);
            break;
        }
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        assert_int_equal(count_named(dir), 0);
        bool stays = strstr(r.err.message, "the same command continues") != NULL;
        assert_true(stays || (strstr(r.err.message, "no output was kept") != NULL && count_files(dir) == 0));
        w = (watch){0};
        run_once(&r, model_dir("qwen3"), dir, &w, false, 3);
        assert_true(stays == (strstr(w.note, "continues ") != NULL));
        assert_true((strstr(w.note, "continues at tensor ") != NULL || strstr(w.note, "continues behind the last") != NULL) == (calls > 3));
        check_finished(dir, &r, undisturbed);
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    static const quern_quantize_stage stages[] = {QUERN_QUANTIZE_HASH, QUERN_QUANTIZE_SYNC};
    for (size_t i = 0; i < 2; i++) {
        char *dir = new_dir();
        run r;
        watch w = {.calls_left = 1, .stage = stages[i]};
        run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        assert_int_equal(count_named(dir), 0);
        w = (watch){0};
        run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
        assert_non_null(strstr(w.note, "continues behind the last of"));
        check_finished(dir, &r, undisturbed);
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    qn_json_free(undisturbed);
}

/* The temporary file of an output, "" if it is gone. */
static const char *part_of(const char *dir, const char *folder, const char *begin)
{
    static char path[1024];
    char *where = qn_path_join(dir, folder);
    DIR *d = opendir(where);
    path[0] = '\0';
    for (struct dirent *e = d != NULL ? readdir(d) : NULL; e != NULL; e = readdir(d)) {
        if (strncmp(e->d_name, begin, strlen(begin)) == 0) {
            (void)snprintf(path, sizeof path, "%s/%s", where, e->d_name);
        }
    }
    if (d != NULL) {
        (void)closedir(d);
    }
    qn_free(where);
    return path;
}

static void flip(const char *path, long at)
{
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int c = fgetc(f);
    assert_true(c != EOF);
    assert_int_equal(fseek(f, -1, SEEK_CUR), 0);
    (void)fputc(c ^ 1, f);
    (void)fclose(f);
}

static void damage_and_change_start_over(void **state)
{
    (void)state;
    enum { N_CASES = 10 };
    if (!have_model("qwen3")) {
        skip();
    }
    char *source = new_dir();
    copy_model("qwen3", source);
    qn_json *undisturbed = undisturbed_run(source);
    for (size_t i = 0; i < N_CASES; i++) {
        char *dir = new_dir();
        run r;
        watch w = {.calls_left = 20, .any_stage = true};
        run_once(&r, source, dir, &w, false, 2);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        char journal[1024];
        (void)snprintf(journal, sizeof journal, "%s", scratch_path(dir, ".quern-quantize.journal"));
        const char *expected = "starts over";
        bool no_resume = false;
        switch (i) {
        case 0: flip(part_of(dir, "gguf", "tiny-Q4_K_M"), 60000); break; /* a tensor that is noted */
        case 1: flip(part_of(dir, "gguf", "tiny-F32"), 100000); break;
        case 2: assert_int_equal(truncate(part_of(dir, "gguf", "tiny-Q4_K_M"), 30000), 0); break;
        case 3: (void)unlink(part_of(dir, "mlx/4bit-g64", "model")); break;
        case 4: flip(part_of(dir, "mlx/mxfp4-g32", "model-00001"), 20000); break;
        case 5: flip(journal, 20); break; /* its identity */
        case 6:
            flip(journal, -40);
            expected = "continues at";
            break; /* the last line only: the one before counts */
        case 7:
            (void)unlink(journal);
            expected = "";
            break;
        case 8:
            no_resume = true;
            expected = "";
            break;
        case 9: replace_in_file(scratch_path(source, "generation_config.json"), "{", "{ "); break;
        default: break;
        }
        w = (watch){0};
        run_once(&r, source, dir, &w, no_resume, 2);
        if (strstr(w.note, expected) == NULL || (expected[0] == '\0' && w.note[0] != '\0')) {
            fail_msg("case %zu: '%s', expected '%s'", i, w.note, expected);
        }
        if (i == 9) {
            assert_int_equal(r.status, QUERN_OK);
        } else {
            check_finished(dir, &r, undisturbed);
        }
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    qn_json_free(undisturbed);
    drop_dir(source);
}

/* Makes an error of the journal's last line absurd and takes out its last sum, with the checksum of what is left. */
static void shorten_last_line(const char *path)
{
    size_t size;
    char *text = (char *)read_file(path, &size);
    size_t begin = size - 1, end = size - 18; /* " SUM\n" */
    while (begin > 0 && text[begin - 1] != '\n') {
        begin--;
    }
    assert_true(begin > 0 && end > begin + 17);
    end -= 17;
    text[begin + strcspn(text + begin, " ") + 1 + strcspn(strchr(text + begin, ' ') + 1, " ") + 18] = '4'; /* an absurd error */
    qn_checksum c;
    qn_checksum_init(&c);
    qn_checksum_update(&c, text + begin, end - begin);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, end, f), end);
    (void)fprintf(f, " %016llx\n", (unsigned long long)qn_checksum_value(&c));
    (void)fclose(f);
    free(text);
}

/* Errors that were read of a line which does not count are not in the manifest. */
static void a_line_that_does_not_count_leaves_nothing(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    qn_json *undisturbed = undisturbed_run(model_dir("qwen3"));
    char *dir = new_dir();
    run r;
    watch w = {.calls_left = 20, .any_stage = true};
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
    shorten_last_line(scratch_path(dir, ".quern-quantize.journal"));
    w = (watch){0};
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_non_null(strstr(w.note, "continues at"));
    check_finished(dir, &r, undisturbed);
    const qn_json *a = qn_json_get(undisturbed, "outputs"), *b = qn_json_get(r.manifest, "outputs");
    for (size_t o = 0; o < qn_json_length(a); o++) {
        const qn_json *x = qn_json_get(qn_json_at(a, o), "tensors"), *y = qn_json_get(qn_json_at(b, o), "tensors");
        assert_true(qn_json_length(x) > 0);
        for (size_t i = 0; i < qn_json_length(x); i++) {
            double one, other;
            assert_true(qn_json_number(qn_json_get(qn_json_at(x, i), "rel_rmse"), &one));
            assert_true(qn_json_number(qn_json_get(qn_json_at(y, i), "rel_rmse"), &other));
            assert_true(one == other);
        }
    }
    qn_json_free(r.manifest);
    qn_json_free(undisturbed);
    drop_dir(dir);
}

/* Another job in the folder clears what the first left. */
static void other_formats_start_over(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r;
    watch w = {.calls_left = 15, .any_stage = true};
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
    w = (watch){0};
    run other = {.opt = {.source = model_dir("qwen3"),
                         .output_dir = dir,
                         .name = "tiny",
                         .formats = "gguf:Q5_0",
                         .n_threads = 2,
                         .on_progress = on_progress,
                         .user = &w}};
    run_quantize(&other, 0);
    assert_int_equal(other.status, QUERN_OK);
    assert_non_null(strstr(w.note, "starts over: the unfinished run in this folder had another source or other options"));
    assert_int_equal(count_files(dir), 2);
    qn_json_free(other.manifest);
    drop_dir(dir);
}

/* What calibration read decides the bytes: the same text continues, none starts over. */
static void calibration_is_part_of_the_job(void **state)
{
    (void)state;
    enum { WORDS = 600 };
    static char text[8 * WORDS + 1];
    if (!have_model("qwen3")) {
        skip();
    }
    for (size_t i = 0; i < WORDS; i++) {
        (void)snprintf(text + 8 * i, 9, "x%05zu, ", i * 7919 % 100000);
    }
    char *whole = new_dir();
    run r;
    watch w = {.calibration = text};
    run_once(&r, model_dir("qwen3"), whole, &w, false, 2);
    assert_int_equal(r.status, QUERN_OK);
    qn_json *undisturbed = r.manifest, *plain = undisturbed_run(model_dir("qwen3"));
    for (size_t i = 0; i < 2; i++) {
        char *dir = new_dir();
        w = (watch){.calls_left = 12, .stage = QUERN_QUANTIZE_CONVERT, .calibration = text};
        run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
        assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
        w = (watch){.calibration = i == 0 ? text : NULL};
        run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
        assert_non_null(strstr(w.note, i == 0 ? "continues at tensor" : "starts over"));
        check_finished(dir, &r, i == 0 ? undisturbed : plain);
        qn_json_free(r.manifest);
        drop_dir(dir);
    }
    qn_json_free(undisturbed);
    qn_json_free(plain);
    drop_dir(whole);
}

/* No room for the outputs half way: the run fails, the next one continues. */
static void a_full_disk_is_no_loss(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    qn_json *undisturbed = undisturbed_run(model_dir("qwen3"));
    char *dir = new_dir();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit limit = {1500000, 1500000}; /* the F32 file grows beyond */
        run r;
        watch w = {.note_always = true};
        (void)signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0) {
            _exit(2);
        }
        run_once(&r, model_dir("qwen3"), dir, &w, false, 1);
        _exit(r.status == QUERN_ERROR_IO && strstr(r.err.message, "cannot write") != NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(count_named(dir), 0);
    assert_true(count_files(dir) > 3);
    run r;
    watch w = {0};
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    if (strstr(w.note, "continues at tensor ") == NULL) {
        fail_msg("note '%s'", w.note);
    }
    check_finished(dir, &r, undisturbed);
    qn_json_free(r.manifest);
    qn_json_free(undisturbed);
    drop_dir(dir);
}

/* What a failed sync lost is not claimed, though the next sync of the same files succeeds. */
static void a_failed_sync_is_not_forgotten(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    run r;
    watch w = {.note_always = true};
    atomic_store(&syncs_to_fail, 1);
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_int_equal(atomic_load(&syncs_to_fail), 0);
    assert_int_equal(r.status, QUERN_ERROR_IO);
    assert_non_null(strstr(r.err.message, "cannot sync"));
    assert_int_equal(count_files(dir), 0); /* no piece was noted, so none is kept */
    drop_dir(dir);
}

/* Who does not get the folder leaves what is in it. */
static void a_locked_folder_is_left_alone(void **state)
{
    (void)state;
    if (!have_model("qwen3")) {
        skip();
    }
    char *dir = new_dir();
    quern_error err = {0};
    qn_out_folder *lock;
    run r;
    watch w = {.calls_left = 20, .any_stage = true};
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_int_equal(r.status, QUERN_ERROR_CANCELLED);
    size_t n = count_files(dir);
    assert_ok(qn_out_folder_create(&lock, dir, &err));
    assert_ok(qn_out_folder_lock(lock, &err));
    w = (watch){0};
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_int_equal(r.status, QUERN_ERROR_IO);
    assert_int_equal(count_files(dir), n);
    assert_true(qn_path_exists(scratch_path(dir, ".quern-quantize.journal")));
    qn_out_folder_close(lock, true);
    run_once(&r, model_dir("qwen3"), dir, &w, false, 2);
    assert_int_equal(r.status, QUERN_OK);
    assert_non_null(strstr(w.note, "continues at tensor"));
    qn_json_free(r.manifest);
    drop_dir(dir);
}

static void checksums_do_not_depend_on_cuts(void **state)
{
    (void)state;
    enum { N = 1000 };
    uint8_t bytes[N];
    random_bytes(bytes, N);
    qn_checksum whole;
    qn_checksum_init(&whole);
    qn_checksum_update(&whole, bytes, N);
    for (size_t step = 1; step < 70; step += 3) {
        qn_checksum c;
        qn_checksum_init(&c);
        for (size_t at = 0; at < N; at += step) {
            qn_checksum_update(&c, bytes + at, N - at < step ? N - at : step);
        }
        assert_true(qn_checksum_value(&c) == qn_checksum_value(&whole));
    }
    for (size_t bit = 0; bit < 8 * N; bit += 7) { /* any flipped bit shows */
        qn_checksum c;
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        qn_checksum_init(&c);
        qn_checksum_update(&c, bytes, N);
        assert_true(qn_checksum_value(&c) != qn_checksum_value(&whole));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    qn_checksum shorter;
    qn_checksum_init(&shorter);
    qn_checksum_update(&shorter, bytes, N - 1);
    assert_true(qn_checksum_value(&shorter) != qn_checksum_value(&whole));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checksums_do_not_depend_on_cuts), cmocka_unit_test(killed_runs_are_continued),
        cmocka_unit_test(stopped_runs_are_continued),      cmocka_unit_test(damage_and_change_start_over),
        cmocka_unit_test(other_formats_start_over),        cmocka_unit_test(calibration_is_part_of_the_job),
        cmocka_unit_test(a_full_disk_is_no_loss),          cmocka_unit_test(a_failed_sync_is_not_forgotten),
        cmocka_unit_test(a_locked_folder_is_left_alone),   cmocka_unit_test(a_line_that_does_not_count_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
