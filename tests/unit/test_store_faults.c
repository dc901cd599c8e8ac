/* links: store
 * What the store does when the disk does not want to, the file is not what it should be, or the process dies.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "tests/unit/store_world.h"

TestSuite(store_faults, .init = setup, .fini = teardown);

/* ---- when the disk does not want to ---- */

static struct fault stuck_fault(void)
{
    const struct fault *f = NULL;

    cr_assert_gt(store_stuck_ms(store, &f), 0);
    cr_assert_not_null(f);
    return *f;
}

static void assert_not_stuck(void)
{
    const struct fault *f = NULL;

    cr_assert_eq(store_stuck_ms(store, &f), 0);
    cr_assert_null(f);
}

Test(store_faults, what_cannot_be_written_is_said_at_once_kept_and_tried_again)
{
    struct heard h = {0}, meanwhile = {0};
    store_ticket t, u;
    struct fault f;

    assert_not_stuck();
    block();
    t = put_instance("gpu-a", 1);
    after(t, &h);
    loop_turns(loop, 1);
    u = put_deployment("m", "gpu-a", 1); /* while the batch is under way */
    after(u, &meanwhile);
    cr_assert(LOOP_UNTIL(loop, h.times && meanwhile.times));
    cr_assert(h.failed && meanwhile.failed);
    cr_assert_eq(h.fault.kind, FAULT_TRANSIENT);
    cr_assert_not_null(strstr(h.fault.text, "llmhost.db is locked by another program"));
    cr_assert_str_eq(stuck_fault().text, h.fault.text);
    f = assert_fails(t); /* at once: the next try is a second away */
    cr_assert_str_eq(f.text, h.fault.text);
    unblock();
    loop_advance(loop, 1000);
    assert_written(t);
    assert_written(u);
    assert_not_stuck();
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ndeployment m gpu-a on_demand 0 0 - 1 0\n");
}

static void ignore_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                          const struct fault *f)
{
    (void)rows, (void)n, (void)older, (void)f;
    *(bool *)ctx = true;
}

/* How often the store began a transaction while so much time went by. A read is answered after everything
 * before it. */
static unsigned tries_within(uint64_t ms)
{
    unsigned before = atomic_load(&begins);
    struct op *op = NULL;
    bool done = false;

    loop_advance(loop, ms);
    store_read_events(store, NULL, 0, 1, &op, ignore_events, &done);
    cr_assert(LOOP_UNTIL(loop, done));
    return atomic_load(&begins) - before;
}

static void note_kind(void *ctx, const struct event *e)
{
    char *kinds = ctx;

    snprintf(kinds + strlen(kinds), 200 - strlen(kinds), "%s ", e->kind);
    store_put_event(store, e); /* as the daemon does */
}

static void note_rows(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                      const struct fault *f)
{
    char *kinds = ctx;

    (void)older;
    cr_assert_null(f);
    for (unsigned i = 0; i < n; i++)
        snprintf(kinds + strlen(kinds), 200 - strlen(kinds), "%s ", rows[i].kind);
}

Test(store_faults, is_an_event_once_and_another_when_it_is_over_and_both_are_kept)
{
    char kinds[200] = "";
    struct event_listener l = {.heard = note_kind, .ctx = kinds};
    struct op *op = NULL;
    store_ticket t;

    event_listen(&l);
    block();
    t = put_instance("gpu-a", 1);
    assert_fails(t);
    loop_advance(loop, 1000);
    assert_fails(t);
    cr_assert_str_eq(kinds, "state_not_written ");
    unblock();
    loop_advance(loop, 30000);
    assert_written(t);
    cr_assert_str_eq(kinds, "state_not_written state_written ");
    kinds[0] = '\0';
    store_read_events(store, NULL, 0, 10, &op, note_rows, kinds);
    cr_assert(LOOP_UNTIL(loop, !op));
    cr_assert_str_eq(kinds, "state_not_written state_written ");
    event_unlisten(&l);
}

Test(store_faults, tries_become_rarer_up_to_every_thirty_seconds)
{
    static const unsigned seconds[] = {1, 2, 4, 8, 16, 30, 30};
    const struct fault *f;

    watch_sqlite();
    block();
    assert_fails(put_instance("gpu-a", 1));
    cr_assert_eq(atomic_load(&begins), 1);
    for (size_t i = 0; i < ELEMENTS(seconds); i++) {
        cr_assert_eq(tries_within(seconds[i] * 1000 - 500), 0);
        cr_assert_eq(tries_within(500), 1);
    }
    cr_assert_geq(store_stuck_ms(store, &f), 91000);
    unblock();
}

Test(store_faults, somebody_who_waits_need_not_wait_for_the_next_try)
{
    block();
    assert_fails(put_instance("gpu-a", 1));
    loop_advance(loop, 1000);
    assert_fails(put_instance("gpu-b", 1)); /* the next try is now two seconds away */
    unblock();
    loop_advance(loop, 1100);
    assert_written(put_instance("gpu-c", 1));
    assert_not_stuck();
}

Test(store_faults, while_stuck_only_the_newest_value_of_a_record_and_a_thousand_events_are_kept)
{
    block();
    assert_fails(put_instance("gpu-a", 0));
    for (int i = 1; i <= 1500; i++) {
        char text[20];

        snprintf(text, sizeof(text), "event %d", i);
        put_instance("gpu-a", (uint16_t)i);
        put_deployment("m", "gpu-a", i);
        put_event(NULL, i, text);
        if (i % 500 == 0)
            loop_turns(loop, 2);
    }
    stuck_fault();
    unblock();
    loop_advance(loop, 1000);
    assert_written(put_instance("gpu-b", 1));
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1500 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "deployment m gpu-a on_demand 0 0 - 1500 0\n");
    sql("CREATE TEMP TABLE t(n CHECK (n = 1000)); INSERT INTO t SELECT count(*) FROM event;"
        "CREATE TEMP TABLE u(n CHECK (n = 'event 501')); INSERT INTO u SELECT text FROM event ORDER BY id "
        "LIMIT 1");
}

Test(store_faults, a_wait_is_cancelled_while_stuck)
{
    struct heard h = {0};
    store_ticket t;

    block();
    t = put_instance("gpu-a", 1);
    assert_fails(t);
    after(t, &h);
    op_cancel(&h.op);
    unblock();
    loop_advance(loop, 1000);
    assert_written(t);
    cr_assert_eq(h.times, 0);
}

Test(store_faults, a_disk_that_does_not_answer_is_trouble_after_five_seconds)
{
    const struct fault *f = NULL;
    struct heard h = {0};

    watch_sqlite();
    atomic_store(&hang, true);
    after(put_instance("gpu-a", 1), &h);
    LOOP_UNTIL(loop, atomic_load(&begins) == 1);
    cr_assert_eq(store_stuck_ms(store, &f), 0);
    loop_advance(loop, 5000);
    cr_assert_geq(store_stuck_ms(store, &f), 5000);
    cr_assert_not_null(strstr(f->text, "llmhost.db: the disk does not answer"));
    cr_assert_eq(h.times, 0);
    atomic_store(&hang, false);
    sem_post(&answer);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_not(h.failed);
    assert_not_stuck();
}

/* A file that takes all room there is left. */
static void fill_disk(const char *path)
{
    static char piece[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    cr_assert_geq(fd, 0);
    for (size_t n = sizeof(piece); n > 0; n /= 2)
        while (write(fd, piece, n) > 0)
            ;
    cr_assert_eq(errno, ENOSPC);
    close(fd);
}

static store_ticket put_big(const char *name)
{
    _cleanup_free_ char *big = xalloc(100001);
    struct deployment_record r = {.name = (char *)name, .instance = "gpu-a", .goal = "off", .shown = big};

    memset(big, 'x', 100000);
    return store_put_deployment(store, &r);
}

Test(store_faults, a_full_disk_is_said_and_survived)
{
    _cleanup_free_ char *ballast = xasprintf("%s/ballast", state);
    struct fault f;
    store_ticket t;

    store = store_close(store);
    if (geteuid() != 0 || mount("none", state, "tmpfs", 0, "size=1m,mode=700") < 0)
        cr_skip_test("needs to mount a tmpfs");
    open_store();
    assert_written(put_instance("gpu-a", 1));
    fill_disk(ballast);
    t = put_big("m");
    f = assert_fails(t);
    cr_assert_eq(f.kind, FAULT_EXHAUSTED);
    cr_assert_eq(f.error, -ENOSPC);
    cr_assert_str_eq(f.code, "store_full");
    cr_assert(strncmp(f.text, "the disk is full: ", 18) == 0 && strstr(f.text, database), "%s", f.text);
    loop_advance(loop, 1000);
    loop_advance(loop, 2000);
    assert_fails(put_big("n"));
    cr_assert_eq(unlink(ballast), 0);
    loop_advance(loop, 4000);
    loop_advance(loop, 4000);
    assert_written(t);
    assert_not_stuck();
    reopen_store();
    sql("CREATE TEMP TABLE t(n CHECK (n = 200000)); INSERT INTO t SELECT sum(length(shown)) FROM deployment");
    store = store_close(store);
    cr_assert_eq(umount(state), 0);
}

Test(store_faults, opening_on_a_full_disk_says_so)
{
    _cleanup_free_ char *ballast = xasprintf("%s/ballast", state);

    store = store_close(store);
    if (geteuid() != 0 || mount("none", state, "tmpfs", 0, "size=64k,mode=700") < 0)
        cr_skip_test("needs to mount a tmpfs");
    fill_disk(ballast);
    assert_open_fails(state, -ENOSPC, "the disk is full: ");
    cr_assert_eq(umount(state), 0);
    open_store();
}

Test(store_faults, a_limit_on_file_size_is_said_and_survived)
{
    struct rlimit limit, before;
    struct fault f;
    store_ticket t;

    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 64 << 10;
    assert_written(put_instance("gpu-a", 1));
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    t = put_big("m");
    f = assert_fails(t);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    cr_assert_not_null(strstr(f.text, database), "%s", f.text);
    cr_assert_not_null(strstr(f.text, "File too large"), "%s", f.text);
    loop_advance(loop, 1000);
    assert_written(t);
}

/* ---- starting on a disk that does not want to ---- */

/* A small disk of its own with two records on it, left in order. False: this test was skipped. */
static bool small_disk(void)
{
    store = store_close(store);
    if (geteuid() != 0 || mount("none", state, "tmpfs", 0, "size=1m,mode=700") < 0) {
        open_store();
        return false;
    }
    open_store();
    assert_written(put_instance("gpu-a", 1));
    assert_written(put_deployment("m", "gpu-a", 1));
    return true;
}

#define TWO_RECORDS "instance gpu-a ssh box root 1 0 0 0\ndeployment m gpu-a on_demand 0 0 - 1 0\n"

/* As a kill leaves it, with the newest records in the log; as a power cut does, without the log's index. */
enum left { IN_ORDER, KILLED, POWER_CUT };

static void leave(enum left how)
{
    _cleanup_free_ char *copy = xasprintf("cd '%s' && mkdir copy && cp -p llmhost.db* copy/", state),
                        *back = xasprintf("cd '%s' && mv copy/* . && rmdir copy%s", state,
                                          how == POWER_CUT ? " && rm llmhost.db-shm" : "");

    if (how == IN_ORDER) {
        store = store_close(store);
        return;
    }
    cr_assert_eq(system(copy), 0);
    store = store_close(store);
    cr_assert_eq(system(back), 0);
}

static void remount(unsigned long flags)
{
    cr_assert_eq(mount("none", state, "tmpfs", MS_REMOUNT | flags, "size=1m,mode=700"), 0, "%s",
                 strerror(errno));
}

static void assert_reads_and_keeps_nothing(const char *code, const char *words)
{
    struct heard h = {0};
    struct fault f;

    open_store();
    assert_loads(TWO_RECORDS);
    f = stuck_fault(); /* from the start, before anybody wanted to write */
    cr_assert_str_eq(f.code, code);
    cr_assert_not_null(strstr(f.text, words), "%s", f.text);
    cr_assert_not_null(strstr(f.text, database), "%s", f.text);
    store_ready(store, &h.op, hear, &h);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert(h.failed);
    cr_assert_str_eq(h.fault.code, code);
}

static void assert_writes_again(void)
{
    struct heard h = {0};

    loop_advance(loop,
                 1000); /* a second after the last try, somebody who waits is reason enough for the next */
    store_ready(store, &h.op, hear, &h);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_not(h.failed, "%s", h.fault.text);
    assert_not_stuck();
    assert_written(put_instance("gpu-b", 1));
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "deployment m gpu-a on_demand 0 0 - 1 0\n");
    store = store_close(store);
    cr_assert_eq(umount(state), 0);
}

static void start_on_full_disk(enum left how)
{
    _cleanup_free_ char *ballast = xasprintf("%s/ballast", state);

    if (!small_disk())
        cr_skip_test("needs to mount a tmpfs");
    leave(how);
    fill_disk(ballast);
    assert_reads_and_keeps_nothing("store_full", "the disk is full: ");
    assert_fails(put_instance("gpu-c", 1));
    cr_assert_eq(unlink(ballast), 0);
    store_remove_instance(store, "gpu-c");
    assert_writes_again();
}

Test(store_faults, started_on_a_full_disk_it_reads_and_recovers)
{
    start_on_full_disk(IN_ORDER);
}

Test(store_faults, started_on_a_full_disk_after_a_power_cut_it_reads_and_recovers)
{
    start_on_full_disk(POWER_CUT);
}

Test(store_faults, started_on_a_full_disk_after_a_kill_nothing_is_lost)
{
    _cleanup_free_ char *ballast = xasprintf("%s/ballast", state);

    if (!small_disk())
        cr_skip_test("needs to mount a tmpfs");
    leave(KILLED);
    fill_disk(ballast);
    open_store(); /* the log and its index are there already: only more does not fit */
    assert_loads(TWO_RECORDS);
    cr_assert_str_eq(assert_fails(put_big("n")).code, "store_full");
    cr_assert_eq(unlink(ballast), 0);
    store_remove_deployment(store, "n", "gpu-a");
    assert_writes_again();
}

static void start_read_only(enum left how)
{
    if (!small_disk())
        cr_skip_test("needs to mount a tmpfs");
    leave(how);
    remount(MS_RDONLY);
    assert_reads_and_keeps_nothing("store_read_only", "cannot be written (read-only file system)");
    remount(0);
    assert_writes_again();
}

Test(store_faults, started_on_a_read_only_disk_it_reads_and_recovers)
{
    start_read_only(IN_ORDER);
}

Test(store_faults, started_on_a_read_only_disk_after_a_kill_it_reads_the_log_too)
{
    start_read_only(KILLED);
}

Test(store_faults, without_any_free_inode_it_reads_and_recovers)
{
    _cleanup_free_ char *file = xasprintf("%s/file", state);

    store = store_close(store);
    if (geteuid() != 0 || mount("none", state, "tmpfs", 0, "size=1m,mode=700,nr_inodes=5") < 0)
        cr_skip_test("needs to mount a tmpfs");
    open_store(); /* the directory, lock, llmhost.db, -wal, -shm */
    assert_written(put_instance("gpu-a", 1));
    assert_written(put_deployment("m", "gpu-a", 1));
    store = store_close(store);
    for (int i = 0; i < 2; i++) {
        file[strlen(file) - 1] = (char)('a' + i);
        int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        cr_assert_geq(fd, 0);
        close(fd);
    }
    assert_reads_and_keeps_nothing("store_full", "the disk is full: ");
    for (int i = 0; i < 2; i++) {
        file[strlen(file) - 1] = (char)('a' + i);
        cr_assert_eq(unlink(file), 0);
    }
    assert_writes_again();
}

Test(store_faults, whoever_asks_is_ready_at_once_while_all_is_well)
{
    struct heard h = {0};

    store_ready(store, &h.op, hear, &h);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_not(h.failed);
    store_ready(store, &h.op, hear, &h);
    op_cancel(&h.op);
    loop_turns(loop, 3);
    cr_assert_eq(h.times, 1);
}

Test(store_faults, what_goes_to_a_database_that_was_moved_away_is_not_called_written)
{
    _cleanup_free_ char *away = xasprintf("%s/away", directory);

    assert_written(put_instance("gpu-a", 1));
    cr_assert_eq(rename(state, away), 0);
    struct fault f = assert_fails(put_instance("gpu-b", 1));

    cr_assert_str_eq(f.code, "store_read_only");
    cr_assert_not_null(strstr(f.text, "it was moved or removed while in use"), "%s", f.text);
    cr_assert_eq(rename(away, state), 0);
    loop_advance(loop, 1000);
    assert_written(put_instance("gpu-c", 1));
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "instance gpu-c ssh box root 1 0 0 0\n");
}

/* ---- the end ---- */

Test(store_faults, closing_writes_what_is_queued)
{
    put_instance("gpu-a", 1);
    store = store_close(store); /* no turn of the loop since */
    open_store();
    put_instance("gpu-b", 1);
    loop_turns(loop, 1); /* under way */
    put_instance("gpu-c", 1);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "instance gpu-c ssh box root 1 0 0 0\n");
}

static void never_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                         const struct fault *f)
{
    (void)ctx, (void)rows, (void)n, (void)older, (void)f;
    cr_assert_fail("done() after the store was closed");
}

Test(store_faults, closing_cancels_who_still_waits)
{
    struct heard queued = {0}, under_way = {0};
    struct op *read = NULL, *unsent = NULL;

    after(put_instance("gpu-a", 1), &under_way);
    store_read_events(store, NULL, 0, 10, &read, never_events, NULL);
    loop_turns(loop, 1);
    after(put_instance("gpu-b", 1), &queued);
    store_read_events(store, NULL, 0, 10, &unsent, never_events, NULL);
    store = store_close(store);
    cr_assert_null(queued.op);
    cr_assert_null(under_way.op);
    cr_assert_null(read);
    cr_assert_null(unsent);
    loop_turns(loop, 3);
    cr_assert_eq(queued.times + under_way.times, 0);
    open_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n");
}

Test(store_faults, closing_while_nothing_can_be_written_gives_up)
{
    block();
    put_instance("gpu-a", 1);
    store = store_close(store);
    unblock();
    open_store();
    assert_loads("");
}

Test(store_faults, closing_nothing_is_fine)
{
    cr_assert_null(store_close(NULL));
}

/* ---- when the file is not what it should be ---- */

static void overwrite_database(off_t at, const char *with, size_t n)
{
    int fd = open(database, O_WRONLY | O_CLOEXEC);

    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, with, n, at), (ssize_t)n);
    close(fd);
}

Test(store_faults, a_damaged_file_is_named_with_what_to_do)
{
    static char rubbish[4096];

    store = store_close(store);
    memset(rubbish, 0x5a, sizeof(rubbish));
    overwrite_database(4096, rubbish, sizeof(rubbish));
    assert_open_fails(state, -EBADMSG, database);
    assert_open_fails(state, -EBADMSG, "is damaged");
    assert_open_fails(state, -EBADMSG, "move it away");
    cr_assert_eq(unlink(database), 0);
    open_store();
    assert_written(put_instance("gpu-a", 1));
}

Test(store_faults, a_file_that_is_no_database_is_refused)
{
    store = store_close(store);
    overwrite_database(0, "something else entirely", 23);
    assert_open_fails(state, -EBADMSG, "is damaged (file is not a database)");
    cr_assert_eq(unlink(database), 0);
    open_store();
}

Test(store_faults, the_database_of_another_program_is_refused)
{
    store = store_close(store);
    cr_assert_eq(unlink(database), 0);
    sql("CREATE TABLE bookmarks(url)");
    assert_open_fails(state, -EBADMSG, "is the database of another program");
    sql("DROP TABLE bookmarks; PRAGMA application_id = 5");
    assert_open_fails(state, -EBADMSG, "is the database of another program");
    cr_assert_eq(unlink(database), 0);
    open_store();
}

Test(store_faults, a_newer_schema_is_refused_and_left_alone)
{
    store = store_close(store);
    sql("PRAGMA user_version = 999");
    assert_open_fails(state, -ENOTSUP, "was written by a newer llmhostd (schema 999");
    sql("PRAGMA user_version = 15");
    open_store();
}

/* As the versions before left it. */
Test(store_faults, an_older_schema_is_brought_forward_with_what_it_holds)
{
    assert_written(put_instance("gpu-a", 1));
    assert_written(put_deployment("m", "gpu-a", 7));
    store = store_close(store);
    sql("ALTER TABLE instance DROP COLUMN proxy; ALTER TABLE instance DROP COLUMN stop");
    sql("ALTER TABLE deployment DROP COLUMN asleep");
    sql("DROP TABLE count");
    sql("DROP TABLE api_key");
    sql("DROP TABLE alias; DROP TABLE spent; DROP TABLE intent; DROP TABLE account; DROP TABLE rental; DROP "
        "TABLE boxed; DROP TABLE choice; DROP TABLE orphan");
    sql("ALTER TABLE deployment DROP COLUMN asleep_at_ms");
    sql("ALTER TABLE deployment DROP COLUMN keep_until_at_ms");
    sql("PRAGMA user_version = 3");
    open_store();
    assert_written(put_instance("gpu-b", 2));
    store = store_close(store);
    sql("ALTER TABLE instance DROP COLUMN proxy; ALTER TABLE instance DROP COLUMN stop");
    sql("ALTER TABLE instance DROP COLUMN agent");
    sql("ALTER TABLE deployment DROP COLUMN arguments");
    sql("ALTER TABLE deployment DROP COLUMN asleep");
    sql("DROP TABLE count");
    sql("DROP TABLE api_key");
    sql("DROP TABLE alias; DROP TABLE spent; DROP TABLE intent; DROP TABLE account; DROP TABLE rental; DROP "
        "TABLE boxed; DROP TABLE choice; DROP TABLE orphan");
    sql("ALTER TABLE deployment DROP COLUMN asleep_at_ms");
    sql("ALTER TABLE deployment DROP COLUMN keep_until_at_ms");
    sql("PRAGMA user_version = 1");
    open_store();
    assert_written(put_instance("gpu-c", 3));
    store = store_close(store);
    open_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 2 0 0 0\n"
                 "instance gpu-c ssh box root 3 0 0 0\ndeployment m gpu-a on_demand 0 0 - 7 0\n");
}

Test(store_faults, a_model_that_was_on_one_instance_may_be_on_two_now)
{
    assert_written(put_instance("gpu-a", 1));
    assert_written(put_instance("gpu-b", 2));
    store = store_close(store);
    sql("DROP TABLE count; DROP TABLE api_key; DROP TABLE alias");
    sql("DROP TABLE spent; DROP TABLE intent; DROP TABLE account; DROP TABLE rental; DROP TABLE boxed; DROP "
        "TABLE choice; DROP TABLE orphan; "
        "ALTER TABLE instance DROP COLUMN stop");
    sql("DROP TABLE deployment; CREATE TABLE deployment (name TEXT PRIMARY KEY, instance TEXT REFERENCES "
        "instance(name), "
        "goal, goal_at_ms, touched, shown, requests, last_used_at_ms, arguments, asleep, "
        "asleep_at_ms, keep_until_at_ms) WITHOUT ROWID; "
        "INSERT INTO deployment VALUES('m', 'gpu-a', 'on_demand', 0, 1, NULL, 3, 4, '[]', NULL, 0, 0), "
        "('lost', NULL, 'off', 0, 0, NULL, 0, 0, NULL, NULL, 0, 0); PRAGMA user_version = 8");
    open_store();
    put_deployment("m", "gpu-b", 5);
    assert_written(put_deployment("m", "gpu-b", 6));
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 2 0 0 0\n"
                 "deployment m gpu-a on_demand 0 1 - 3 4 []\ndeployment m gpu-b on_demand 0 0 - 6 0\n");
    assert_written(store_remove_deployment(store, "m", "gpu-a"));
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 2 0 0 0\n"
                 "deployment m gpu-b on_demand 0 0 - 6 0\n");
}

Test(store_faults, an_empty_file_was_a_database_once)
{
    store = store_close(store);
    cr_assert_eq(truncate(database, 0), 0);
    assert_open_fails(state, -EBADMSG, "is damaged (it is empty)");
    assert_open_fails(state, -EBADMSG, "move it away");
    cr_assert_eq(unlink(database), 0);
    open_store();
    assert_written(put_instance("gpu-a", 1));
}

/* Every file of the database, so that a change of any is seen. */
static char *checksums(void)
{
    _cleanup_free_ char *command =
        xasprintf("cd '%s' && for f in llmhost.db llmhost.db-wal; do [ ! -s $f ] || "
                  "cksum $f; done",
                  state);
    char *text = xalloc(1000);
    FILE *p = popen(command, "r");

    cr_assert_not_null(p);
    text[fread(text, 1, 999, p)] = '\0';
    cr_assert_eq(pclose(p), 0);
    return text;
}

static void assert_refused_and_left_alone(const char *words)
{
    _cleanup_free_ char *before = checksums();

    assert_open_fails(state, -EBADMSG, words);
    _cleanup_free_ char *after = checksums();

    cr_assert_str_eq(before, after);
}

Test(store_faults, a_log_without_its_database_is_kept)
{
    assert_written(put_instance("gpu-a", 1));
    leave(KILLED);
    cr_assert_eq(unlink(database), 0);
    assert_refused_and_left_alone("it is gone, but what it wrote last is there");
}

Test(store_faults, a_damaged_file_and_its_log_are_left_exactly_as_they_are)
{
    static char rubbish[5 * 4096];

    assert_written(put_instance("gpu-a", 1));
    reopen_store(); /* all of that in the database itself, what follows in the log */
    assert_written(put_instance("gpu-b", 1));
    leave(KILLED);
    memset(rubbish, 0x5a, sizeof(rubbish));
    overwrite_database(4 * 4096, rubbish, sizeof(rubbish));
    assert_refused_and_left_alone("is damaged");
}

Test(store_faults, the_log_of_another_database_does_not_end_up_in_this_one)
{
    _cleanup_free_ char *keep = xasprintf("cp '%s' '%s/kept.db'", database, directory),
                        *swap = xasprintf("cp '%s/kept.db' '%s'", directory, database);

    put_instance("gpu-a", 1);
    for (int i = 0; i < 300; i++) /* pages at other places than in the copy */
        put_deployment("m", "gpu-a", i);
    assert_written(put_big("big"));
    store = store_close(store);
    cr_assert_eq(system(keep), 0);
    open_store();
    assert_written(store_remove_deployment(store, "big", "gpu-a"));
    for (int i = 0; i < 100; i++)
        put_event(NULL, i, "something");
    assert_written(put_instance("gpu-b", 1));
    leave(KILLED);
    cr_assert_eq(truncate(database, 5 * 4096), 0);
    assert_refused_and_left_alone("is damaged");
    cr_assert_eq(system(swap), 0);
}

Test(store_faults, a_log_that_was_cut_short_costs_what_was_cut)
{
    _cleanup_free_ char *log = xasprintf("%s-wal", database);
    struct stat st;

    assert_written(put_instance("gpu-a", 1));
    assert_written(put_instance("gpu-b", 1));
    leave(KILLED);
    cr_assert_eq(stat(log, &st), 0);
    cr_assert_eq(truncate(log, st.st_size - 100), 0);
    open_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\n");
    assert_written(put_instance("gpu-b", 1));
}

Test(store_faults, two_daemons_never_share_a_directory)
{
    char words[60];

    snprintf(words, sizeof(words), "is in use by another llmhostd (process %d)", getpid());
    assert_open_fails(state, -EBUSY, words);
    reopen_store();
}

Test(store_faults, a_directory_that_is_not_ours_is_refused)
{
    store = store_close(store);
    if (geteuid() != 0)
        cr_skip_test("needs root to give files away");
    cr_assert_eq(chown(database, 1, 1), 0);
    assert_open_fails(state, -EPERM, "llmhost.db belongs to daemon (uid 1), this is root (uid 0)");
    cr_assert_eq(chown(state, 1, 1), 0);
    assert_open_fails(state, -EPERM, "state belongs to daemon (uid 1)");
    cr_assert_eq(chown(state, 0, 0) + chown(database, 0, 0), 0);
    open_store();
}

Test(store_faults, a_directory_others_can_write_or_that_is_none_is_refused)
{
    _cleanup_free_ char *missing = xasprintf("%s/no/where", directory),
                        *file = xasprintf("%s/file", directory);

    store = store_close(store);
    cr_assert_eq(chmod(state, 0770), 0);
    assert_open_fails(state, -EPERM, "can be written by others: chmod go-w");
    cr_assert_eq(chmod(state, 0700), 0);
    assert_open_fails(missing, -ENOENT, "cannot be made");
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_open_fails(file, -ENOTDIR, "is not a directory");
    open_store();
}

Test(store_faults, a_directory_we_may_not_write_is_refused)
{
    int status;

    store = store_close(store);
    cr_assert_eq(chmod(state, 0500), 0);
    if (geteuid() == 0) {
        cr_assert_eq(chown(state, 65534, 65534) + chmod(directory, 0755) + unlink(database), 0);
        _cleanup_free_ char *lock = xasprintf("%s/lock", state);
        cr_assert_eq(unlink(lock), 0);
    }
    pid_t child = fork(); /* root may write anywhere: let somebody else try */

    if (child == 0) {
        struct store *other = NULL;
        struct fault f = {0};

        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(2);
        _exit(store_open(loop, state, &other, &f) == -EACCES &&
                      strstr(f.text, "cannot be written (permission denied)")
                  ? 0
                  : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    if (geteuid() == 0)
        cr_assert_eq(chown(state, 0, 0), 0);
    cr_assert_eq(chmod(state, 0700), 0);
    open_store();
}

/* ---- when the process is gone ---- */

/* Puts and waits for ever; what was acknowledged goes to the parent as a number. */
static void write_until_killed(int to)
{
    struct loop *own = loop_new();
    struct fault f;

    loop = own;
    if (store_open(own, state, &store, &f) < 0)
        _exit(1);
    for (int64_t i = 1;; i++) {
        struct heard h = {0};

        put_instance("gpu-a", (uint16_t)i);
        after(put_deployment("m", "gpu-a", i), &h);
        if (!LOOP_UNTIL(own, h.times) || h.failed || write(to, &i, sizeof(i)) != sizeof(i))
            _exit(1);
    }
}

static int64_t found_requests;

static void find_requests(void *ctx, const struct deployment_record *r)
{
    (void)ctx;
    found_requests = r->requests;
}

Test(store_faults, what_was_acknowledged_survives_a_kill_at_any_moment)
{
    struct store_readers readers = {.deployment = find_requests};
    unsigned seed = (unsigned)getpid();
    struct fault f;

    for (int round = 0; round < 12; round++) {
        int64_t acknowledged = 0, number;
        int pipe_fds[2];

        store = store_close(store);
        cr_assert_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
        pid_t child = fork();

        if (child == 0)
            write_until_killed(pipe_fds[1]);
        close(pipe_fds[1]);
        for (int wanted = rand_r(&seed) % 40; wanted >= 0; wanted--)
            cr_assert_eq(read(pipe_fds[0], &acknowledged, sizeof(acknowledged)), sizeof(acknowledged));
        for (int spin = rand_r(&seed) % 2000; spin > 0; spin--)
            (void)clock_wall_ms();
        cr_assert_eq(kill(child, SIGKILL), 0);
        while (read(pipe_fds[0], &number, sizeof(number)) == sizeof(number))
            acknowledged = number;
        close(pipe_fds[0]);
        cr_assert_eq(waitpid(child, NULL, 0), child);
        open_store();
        cr_assert_eq(store_load(store, &readers, NULL, &f), 0);
        cr_assert_geq(found_requests, acknowledged);
        cr_assert_leq(found_requests, acknowledged + 1);
    }
}
