/* The store over real files: what it promises of a change, whatever happens to the disk, the file or the process. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "proto/buf.h"
#include "store/store.h"
#include "tests/fixture/loop_fixture.h"

static char directory[] = "/tmp/test-store-XXXXXX";
static char state[64], database[80];
static struct loop *loop;
static struct store *store;
static atomic_uint commits, begins;

static void open_store(void)
{
    struct fault f = {0};

    cr_assert_eq(store_open(loop, state, &store, &f), 0, "%s", f.text);
}

static void reopen_store(void)
{
    store = store_close(store);
    open_store();
}

static void setup(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(state, sizeof(state), "%s/state", directory);
    snprintf(database, sizeof(database), "%s/llmhost.db", state);
    loop = loop_new();
    open_store();
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    store = store_close(store);
    loop_free_dry(loop);
    cr_assert_eq(system(command), 0);
}

TestSuite(store, .init = setup, .fini = teardown);

/* ---- helpers ---- */

struct heard {
    struct op *op;
    unsigned times, order;
    bool failed;
    struct fault fault;
};
static unsigned heard_order;

static void hear(void *ctx, const struct fault *f)
{
    struct heard *h = ctx;

    cr_assert_null(h->op, "the slot is cleared before done()");
    h->times++;
    h->order = ++heard_order;
    h->failed = f != NULL;
    h->fault = f ? *f : (struct fault){0};
}

static void after(store_ticket t, struct heard *h)
{
    store_after(store, t, &h->op, hear, h);
    cr_assert_not_null(h->op);
}

static void assert_written(store_ticket t)
{
    struct heard h = {0};

    after(t, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
}

static struct fault assert_fails(store_ticket t)
{
    struct heard h = {0};

    after(t, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert(h.failed);
    return h.fault;
}

static store_ticket put_instance(const char *name, uint16_t port)
{
    struct instance_record r = {.name = (char *)name, .provider = "ssh", .host = "box", .user = "root", .port = port};

    return store_put_instance(store, &r);
}

static store_ticket put_deployment(const char *name, const char *instance, int64_t requests)
{
    struct deployment_record r = {
        .name = (char *)name, .instance = (char *)instance, .goal = "on_demand", .requests = requests};

    return store_put_deployment(store, &r);
}

static store_ticket put_forward(const char *ip, uint16_t listen_port, const char *instance)
{
    struct forward_record r = {.instance = (char *)instance, .listen_ip = (char *)ip, .address = "127.0.0.1",
                               .listen_port = listen_port, .port = 80};

    return store_put_forward(store, &r);
}

static void put_event(const char *target, int64_t at_ms, const char *text)
{
    struct event e = {.at_ms = at_ms, .level = LOG_LEVEL_NOTICE, .source = LOG_SESSION, .target = target, .kind = "ready",
                      .text = text};

    store_put_event(store, &e);
}

/* Every record as one line, in the order of loading. */
static struct buf loaded;

static const char *or_none(const char *text)
{
    return text ? text : "-";
}

static void see_instance(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "instance %s %s %s %s %u %d %lld", r->name, r->provider, or_none(r->host), or_none(r->user), r->port,
             r->install_key, (long long)r->added_at_ms);
    for (size_t i = 0; i < r->n_host_key; i++)
        buf_addf(&loaded, "%s%02x", i ? "" : " ", r->host_key[i]);
    buf_addf(&loaded, " %lld\n", (long long)r->host_key_at_ms);
}

static void see_deployment(void *ctx, const struct deployment_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "deployment %s %s %s %lld %s %s %lld %lld\n", r->name, or_none(r->instance), r->goal,
             (long long)r->goal_at_ms, or_none(r->engine_state), or_none(r->shown), (long long)r->requests,
             (long long)r->last_used_at_ms);
}

static void see_forward(void *ctx, const struct forward_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "forward %s %u %s %s %u\n", r->listen_ip, r->listen_port, r->instance, r->address, r->port);
}

static void assert_loads(const char *expected)
{
    struct store_readers readers = {.instance = see_instance, .deployment = see_deployment, .forward = see_forward};
    struct fault f = {0};

    buf_init(&loaded, 16 << 20);
    cr_assert_eq(store_load(store, &readers, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

static void assert_open_fails(const char *where, int error, const char *words)
{
    struct store *other = NULL;
    struct fault f = {0};

    cr_assert_eq(store_open(loop, where, &other, &f), error, "%s", f.text);
    cr_assert_null(other);
    cr_assert_not_null(strstr(f.text, words), "\"%s\" does not say \"%s\"", f.text, words);
    cr_assert_neq(f.kind, FAULT_NONE);
}

/* SQL on the file by a connection of the test's own. */
static void sql(const char *text)
{
    sqlite3 *db = NULL;
    char *why = NULL;

    cr_assert_eq(sqlite3_open(database, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(db);
}

/* ---- records ---- */

Test(store, everything_is_there_after_a_restart)
{
    uint8_t key[] = {0, 1, 0xff, 0};
    struct instance_record box = {.name = "gpu-a", .provider = "ssh", .host = "10.0.0.1", .user = "root", .port = 22022,
                                  .install_key = true, .added_at_ms = 1700000000123, .host_key = key,
                                  .n_host_key = sizeof(key), .host_key_at_ms = 1700000000456};
    struct instance_record here = {.name = "here", .provider = "local", .added_at_ms = 1800000000000};
    struct deployment_record model = {.name = "ollama:qwen3:4b", .instance = "gpu-a", .goal = "on_demand",
                                      .goal_at_ms = 5, .engine_state = "{\"pid\":1}", .shown = "{\"模\":\"型\"}",
                                      .requests = INT64_MAX, .last_used_at_ms = 7};
    struct forward_record forward = {.instance = "gpu-a", .listen_ip = "::1", .address = "127.0.0.1", .listen_port = 65535,
                                     .port = 1};

    store_put_instance(store, &here);
    store_put_instance(store, &box);
    store_put_deployment(store, &model);
    store_put_forward(store, &forward);
    assert_written(put_deployment("off", NULL, 0));
    reopen_store();
    assert_loads("instance gpu-a ssh 10.0.0.1 root 22022 1 1700000000123 0001ff00 1700000000456\n"
                 "instance here local - - 0 0 1800000000000 0\n"
                 "deployment off - on_demand 0 - - 0 0\n"
                 "deployment ollama:qwen3:4b gpu-a on_demand 5 {\"pid\":1} {\"模\":\"型\"} 9223372036854775807 7\n"
                 "forward ::1 65535 gpu-a 127.0.0.1 1\n");
}

Test(store, a_record_is_copied_when_it_is_put)
{
    char name[] = "gpu-a";
    store_ticket t = put_instance(name, 1);

    memcpy(name, "xxxxx", 5);
    assert_written(t);
    assert_loads("instance gpu-a ssh box root 1 0 0 0\n");
}

Test(store, a_second_value_replaces_the_first_and_keeps_what_refers_to_it)
{
    put_instance("gpu-a", 1);
    put_deployment("m", "gpu-a", 1);
    put_forward("127.0.0.1", 6006, "gpu-a");
    put_instance("gpu-a", 2);
    put_deployment("m", "gpu-a", 2);
    assert_written(put_forward("127.0.0.1", 6006, "gpu-a"));
    reopen_store();
    assert_loads("instance gpu-a ssh box root 2 0 0 0\n"
                 "deployment m gpu-a on_demand 0 - - 2 0\n"
                 "forward 127.0.0.1 6006 gpu-a 127.0.0.1 80\n");
}

Test(store, removing_takes_one_record_away_and_an_instance_takes_its_own_along)
{
    put_instance("gpu-a", 1);
    put_instance("gpu-b", 1);
    put_deployment("a", "gpu-a", 0);
    put_deployment("b", "gpu-b", 0);
    put_deployment("c", "gpu-b", 0);
    put_forward("127.0.0.1", 1, "gpu-a");
    put_forward("127.0.0.1", 2, "gpu-b");
    put_forward("127.0.0.2", 2, "gpu-b");
    assert_written(store_remove_instance(store, "gpu-a"));
    store_remove_deployment(store, "c");
    assert_written(store_remove_forward(store, "127.0.0.1", 2));
    assert_written(store_remove_forward(store, "127.0.0.1", 2));        /* nothing there is no fault */
    reopen_store();
    assert_loads("instance gpu-b ssh box root 1 0 0 0\n"
                 "deployment b gpu-b on_demand 0 - - 0 0\n"
                 "forward 127.0.0.2 2 gpu-b 127.0.0.1 80\n");
}

Test(store, a_reader_may_be_left_out)
{
    struct store_readers none = {0};
    struct fault f;

    put_instance("gpu-a", 1);
    put_deployment("m", "gpu-a", 0);
    assert_written(put_forward("127.0.0.1", 1, "gpu-a"));
    cr_assert_eq(store_load(store, &none, NULL, &f), 0);
}

Test(store, the_daemon_id_is_made_once)
{
    char id[9];

    cr_assert_eq(strlen(store_daemon_id(store)), 8);
    strcpy(id, store_daemon_id(store));
    cr_assert_eq(strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789"), 8);
    reopen_store();
    cr_assert_str_eq(store_daemon_id(store), id);
}

Test(store, files_are_for_us_alone)
{
    static const char *const names[] = {"llmhost.db", "llmhost.db-wal", "lock"};
    struct stat st;

    umask(0);
    store = store_close(store);
    cr_assert_eq(unlink(database), 0);
    open_store();
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_free_ char *path = xasprintf("%s/%s", state, names[i]);

        cr_assert_eq(stat(path, &st), 0);
        cr_assert_eq(st.st_mode & 07777, 0600, "%s", path);
    }
    cr_assert_eq(stat(state, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700);
}

/* ---- tickets ---- */

Test(store, tickets_increase_and_are_answered_in_their_order)
{
    struct heard first = {0}, second = {0};
    store_ticket a = put_instance("gpu-a", 1), b = put_instance("gpu-b", 1);

    cr_assert_gt(a, 0);
    cr_assert_gt(b, a);
    after(a, &first);
    after(b, &second);
    cr_assert_eq(first.times, 0, "never from inside the call");
    cr_assert(LOOP_UNTIL(loop, first.times && second.times));
    cr_assert_not(first.failed || second.failed);
    cr_assert_lt(first.order, second.order);
}

Test(store, a_ticket_can_be_waited_for_long_after_and_by_several)
{
    struct heard h[3] = {0};
    store_ticket t = put_instance("gpu-a", 1);

    assert_written(t);
    assert_written(put_instance("gpu-b", 1));
    for (int i = 0; i < 3; i++)
        after(i == 2 ? 0 : t, &h[i]);       /* 0: there was nothing to write */
    cr_assert_eq(h[0].times, 0);
    cr_assert(LOOP_UNTIL(loop, h[0].times && h[1].times && h[2].times));
    cr_assert_not(h[0].failed || h[1].failed || h[2].failed);
}

Test(store, a_ticket_nobody_gave_is_a_fault)
{
    cr_assert_eq(assert_fails(1000).kind, FAULT_INVALID);
}

Test(store, a_cancelled_wait_is_not_heard_and_the_change_is_written_all_the_same)
{
    struct heard early = {0}, late = {0};
    store_ticket t = put_instance("gpu-a", 1);

    after(t, &early);
    op_cancel(&early.op);
    cr_assert_null(early.op);
    after(t, &late);
    loop_turns(loop, 1);        /* it is with the thread now */
    op_cancel(&late.op);
    assert_written(t);
    after(t, &late);            /* settled, and not yet told */
    op_cancel(&late.op);
    loop_turns(loop, 3);
    cr_assert_eq(early.times + late.times, 0);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\n");
}

Test(store, the_owner_of_a_wait_may_be_freed_before_the_answer)
{
    struct heard *h = xnew(struct heard);
    store_ticket t = put_instance("gpu-a", 1);

    after(t, h);
    loop_turns(loop, 1);
    op_cancel(&h->op);
    free(h);
    assert_written(t);
}

static struct heard second_of_two;

static void cancel_second(void *ctx, const struct fault *f)
{
    (void)ctx;
    (void)f;
    op_cancel(&second_of_two.op);
}

Test(store, one_answer_may_cancel_the_next_of_the_same_batch)
{
    struct op *op = NULL;
    store_ticket t = put_instance("gpu-a", 1);

    store_after(store, t, &op, cancel_second, NULL);
    after(t, &second_of_two);
    cr_assert(LOOP_UNTIL(loop, !op));
    cr_assert_null(second_of_two.op);
    loop_turns(loop, 3);
    cr_assert_eq(second_of_two.times, 0);
}

static struct heard chained;

static void put_another(void *ctx, const struct fault *f)
{
    (void)ctx;
    cr_assert_null(f);
    after(put_instance("gpu-b", 2), &chained);
}

Test(store, an_answer_may_put_and_wait_again)
{
    struct op *op = NULL;

    store_after(store, put_instance("gpu-a", 1), &op, put_another, NULL);
    cr_assert(LOOP_UNTIL(loop, chained.times));
    cr_assert_not(chained.failed);
}

Test(store, what_breaks_a_constraint_fails_alone)
{
    struct heard h[4] = {0};
    struct fault f;

    after(put_instance("gpu-a", 1), &h[0]);
    after(put_deployment("m", "gpu-z", 0), &h[1]);
    after(put_instance("", 1), &h[2]);
    after(put_deployment("n", "gpu-a", 0), &h[3]);
    cr_assert(LOOP_UNTIL(loop, h[3].times));
    cr_assert_not(h[0].failed || h[3].failed);
    cr_assert(h[1].failed && h[2].failed);
    cr_assert_eq(h[1].fault.kind, FAULT_GONE);
    cr_assert_str_eq(h[1].fault.text, "model m: there is no instance gpu-z");
    cr_assert_eq(h[2].fault.kind, FAULT_INVALID);
    cr_assert_not_null(strstr(h[2].fault.text, "CHECK"));
    f = assert_fails(2);        /* still known later */
    cr_assert_str_eq(f.text, h[1].fault.text);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ndeployment n gpu-a on_demand 0 - - 0 0\n");
}

Test(store, a_failure_of_long_ago_is_never_taken_for_success)
{
    store_ticket first = put_deployment("m", "gpu-z", 0), last = 0;

    for (int i = 0; i < 300; i++)
        last = put_deployment("m", "gpu-z", 0);
    cr_assert_eq(assert_fails(last).kind, FAULT_GONE);
    cr_assert_eq(assert_fails(first).kind, FAULT_UNCERTAIN);
}

/* ---- one turn, one transaction ---- */

static int count_commit(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&commits, 1);
    return 0;
}

static int count_begin(unsigned what, void *ctx, void *statement, void *text)
{
    (void)what, (void)ctx, (void)statement;
    if (streq(text, "BEGIN IMMEDIATE"))
        atomic_fetch_add(&begins, 1);
    return 0;
}

/* SQLite calls this for each connection that is opened: a way to see what the store's own does. */
static int watch_connection(sqlite3 *db, char **ret_why, const struct sqlite3_api_routines *api)
{
    (void)ret_why;
    (void)api;
    sqlite3_commit_hook(db, count_commit, NULL);
    sqlite3_trace_v2(db, SQLITE_TRACE_STMT, count_begin, NULL);
    return SQLITE_OK;
}

static void count_transactions(void)
{
    cr_assert_eq(sqlite3_auto_extension((void (*)(void))watch_connection), SQLITE_OK);
    reopen_store();
    sqlite3_reset_auto_extension();
    atomic_store(&commits, 0);
    atomic_store(&begins, 0);
}

static struct work later, much_later;

static void put_later(void *ctx)
{
    (void)ctx;
    put_instance("gpu-later", 1);
    runq_add(loop, &much_later);
}

static void put_much_later(void *ctx)
{
    (void)ctx;
    put_instance("gpu-much-later", 1);
}

Test(store, all_changes_of_a_turn_are_one_transaction_whoever_makes_them)
{
    count_transactions();
    put_instance("gpu-a", 1);
    work_init(&later, put_later, NULL);
    work_init(&much_later, put_much_later, NULL);
    runq_add(loop, &later);         /* behind the store's own work */
    assert_written(put_instance("gpu-b", 1));
    cr_assert_eq(atomic_load(&commits), 1);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "instance gpu-later ssh box root 1 0 0 0\ninstance gpu-much-later ssh box root 1 0 0 0\n");
}

Test(store, ten_thousand_changes_are_written_in_order)
{
    static struct heard h[100];
    store_ticket t = 0;

    count_transactions();
    for (int i = 0; i < 100; i++)
        put_instance(i % 2 ? "gpu-a" : "gpu-b", 1);
    for (int i = 0; i < 10000; i++) {
        t = put_deployment(i % 3 ? "m" : "n", i % 2 ? "gpu-a" : "gpu-b", i);
        if (i % 100 == 99)
            after(t, &h[i / 100]);
    }
    assert_written(t);
    for (unsigned i = 0; i < 100; i++)
        cr_assert(h[i].times == 1 && !h[i].failed && h[i].order == i + 1);
    cr_assert_eq(atomic_load(&commits), 1);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "deployment m gpu-b on_demand 0 - - 9998 0\ndeployment n gpu-a on_demand 0 - - 9999 0\n");
}

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

/* Somebody else holds the write lock: the least trouble to make and to end. */
static sqlite3 *blocker;

static void block(void)
{
    cr_assert_eq(sqlite3_open(database, &blocker), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(blocker, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
}

static void unblock(void)
{
    cr_assert_eq(sqlite3_exec(blocker, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(blocker);
}

Test(store, what_cannot_be_written_is_said_at_once_kept_and_tried_again)
{
    struct heard h = {0}, meanwhile = {0};
    store_ticket t, u;
    struct fault f;

    assert_not_stuck();
    block();
    t = put_instance("gpu-a", 1);
    after(t, &h);
    loop_turns(loop, 1);
    u = put_deployment("m", "gpu-a", 1);        /* while the batch is under way */
    after(u, &meanwhile);
    cr_assert(LOOP_UNTIL(loop, h.times && meanwhile.times));
    cr_assert(h.failed && meanwhile.failed);
    cr_assert_eq(h.fault.kind, FAULT_TRANSIENT);
    cr_assert_not_null(strstr(h.fault.text, "llmhost.db is locked by another program"));
    cr_assert_str_eq(stuck_fault().text, h.fault.text);
    f = assert_fails(t);        /* at once: the next try is a second away */
    cr_assert_str_eq(f.text, h.fault.text);
    unblock();
    loop_advance(loop, 1000);
    assert_written(t);
    assert_written(u);
    assert_not_stuck();
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ndeployment m gpu-a on_demand 0 - - 1 0\n");
}

static void ignore_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older, const struct fault *f)
{
    (void)rows, (void)n, (void)older, (void)f;
    *(bool *)ctx = true;
}

/* How often the store began a transaction while so much time went by. A read is answered after everything before it. */
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

Test(store, tries_become_rarer_up_to_every_thirty_seconds)
{
    static const unsigned seconds[] = {1, 2, 4, 8, 16, 30, 30};
    const struct fault *f;

    count_transactions();
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

Test(store, somebody_who_waits_need_not_wait_for_the_next_try)
{
    block();
    assert_fails(put_instance("gpu-a", 1));
    loop_advance(loop, 1000);
    assert_fails(put_instance("gpu-b", 1));         /* the next try is now two seconds away */
    unblock();
    loop_advance(loop, 1100);
    assert_written(put_instance("gpu-c", 1));
    assert_not_stuck();
}

Test(store, while_stuck_only_the_newest_value_of_a_record_and_a_thousand_events_are_kept)
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
                 "deployment m gpu-a on_demand 0 - - 1500 0\n");
    sql("CREATE TEMP TABLE t(n CHECK (n = 1000)); INSERT INTO t SELECT count(*) FROM event;"
        "CREATE TEMP TABLE u(n CHECK (n = 'event 501')); INSERT INTO u SELECT text FROM event ORDER BY id LIMIT 1");
}

Test(store, a_wait_is_cancelled_while_stuck)
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
    struct deployment_record r = {.name = (char *)name, .goal = "off", .shown = big};

    memset(big, 'x', 100000);
    return store_put_deployment(store, &r);
}

Test(store, a_full_disk_is_said_and_survived)
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
    cr_assert_str_eq(f.code, "disk_full");
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

Test(store, opening_on_a_full_disk_says_so)
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

Test(store, a_limit_on_file_size_is_said_and_survived)
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

Test(store, a_read_only_file_system_is_said)
{
    store = store_close(store);
    if (geteuid() != 0 || mount("none", state, "tmpfs", 0, "size=1m,mode=700") < 0)
        cr_skip_test("needs to mount a tmpfs");
    open_store();
    store = store_close(store);
    cr_assert_eq(mount("none", state, "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m,mode=700"), 0);
    assert_open_fails(state, -EROFS, "cannot be written (read-only file system)");
    cr_assert_eq(umount(state), 0);
    open_store();
}

Test(store, closing_writes_what_is_queued)
{
    put_instance("gpu-a", 1);
    store = store_close(store);     /* no turn of the loop since */
    open_store();
    put_instance("gpu-b", 1);
    loop_turns(loop, 1);            /* under way */
    put_instance("gpu-c", 1);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ninstance gpu-b ssh box root 1 0 0 0\n"
                 "instance gpu-c ssh box root 1 0 0 0\n");
}

static void never_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older, const struct fault *f)
{
    (void)ctx, (void)rows, (void)n, (void)older, (void)f;
    cr_assert_fail("done() after the store was closed");
}

Test(store, closing_cancels_who_still_waits)
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

Test(store, closing_while_nothing_can_be_written_gives_up)
{
    block();
    put_instance("gpu-a", 1);
    store = store_close(store);
    unblock();
    open_store();
    assert_loads("");
}

Test(store, closing_nothing_is_fine)
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

Test(store, a_damaged_file_is_named_with_what_to_do)
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

Test(store, a_file_that_is_no_database_is_refused)
{
    store = store_close(store);
    overwrite_database(0, "something else entirely", 23);
    assert_open_fails(state, -EBADMSG, "is damaged (file is not a database)");
    cr_assert_eq(unlink(database), 0);
    open_store();
}

Test(store, the_database_of_another_program_is_refused)
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

Test(store, a_newer_schema_is_refused_and_left_alone)
{
    store = store_close(store);
    sql("PRAGMA user_version = 999");
    assert_open_fails(state, -ENOTSUP, "was written by a newer llmhostd (schema 999");
    sql("PRAGMA user_version = 1");
    open_store();
}

Test(store, an_empty_file_is_a_new_database)
{
    store = store_close(store);
    cr_assert_eq(truncate(database, 0), 0);
    open_store();
    assert_written(put_instance("gpu-a", 1));
}

Test(store, two_daemons_never_share_a_directory)
{
    char words[60];

    snprintf(words, sizeof(words), "is in use by another llmhostd (process %d)", getpid());
    assert_open_fails(state, -EBUSY, words);
    reopen_store();
}

Test(store, a_directory_that_is_not_ours_is_refused)
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

Test(store, a_directory_others_can_write_or_that_is_none_is_refused)
{
    _cleanup_free_ char *missing = xasprintf("%s/no/where", directory), *file = xasprintf("%s/file", directory);

    store = store_close(store);
    cr_assert_eq(chmod(state, 0770), 0);
    assert_open_fails(state, -EPERM, "can be written by others: chmod go-w");
    cr_assert_eq(chmod(state, 0700), 0);
    assert_open_fails(missing, -ENOENT, "cannot be made");
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    assert_open_fails(file, -ENOTDIR, "is not a directory");
    open_store();
}

Test(store, a_directory_we_may_not_write_is_refused)
{
    int status;

    store = store_close(store);
    cr_assert_eq(chmod(state, 0500), 0);
    if (geteuid() == 0) {
        cr_assert_eq(chown(state, 65534, 65534) + chmod(directory, 0755) + unlink(database), 0);
        _cleanup_free_ char *lock = xasprintf("%s/lock", state);
        cr_assert_eq(unlink(lock), 0);
    }
    pid_t child = fork();       /* root may write anywhere: let somebody else try */

    if (child == 0) {
        struct store *other = NULL;
        struct fault f = {0};

        if (geteuid() == 0 && setuid(65534) < 0)
            _exit(2);
        _exit(store_open(loop, state, &other, &f) == -EACCES && strstr(f.text, "cannot be written (permission denied)")
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

Test(store, what_was_acknowledged_survives_a_kill_at_any_moment)
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

/* ---- events ---- */

struct heard_events {
    struct op *op;
    unsigned times, n;
    uint64_t older;
    bool failed;
    struct buf text;
};

static void hear_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older, const struct fault *f)
{
    struct heard_events *h = ctx;

    cr_assert_null(h->op);
    h->times++;
    h->failed = f != NULL;
    h->n = n;
    h->older = older;
    buf_init(&h->text, 1 << 20);
    for (unsigned i = 0; i < n; i++)
        buf_addf(&h->text, "%lld %s %s %s %s %s\n", (long long)rows[i].at_ms, rows[i].level, rows[i].source,
                 or_none(rows[i].target), rows[i].kind, rows[i].text);
}

static void assert_events(const char *target, int64_t since_at_ms, unsigned lines, uint64_t older, const char *expected)
{
    struct heard_events h = {0};

    store_read_events(store, target, since_at_ms, lines, &h.op, hear_events, &h);
    cr_assert_not_null(h.op);
    cr_assert_eq(h.times, 0);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_not(h.failed);
    cr_assert_str_eq(buf_text(&h.text), expected);
    cr_assert_eq(h.older, older);
    buf_done(&h.text);
}

Test(store, events_are_read_with_what_was_put_just_before)
{
    _cleanup_free_ char *line = xasprintf("10 %s %s gpu-a ready one\n", log_level_name(LOG_LEVEL_NOTICE),
                                          log_source_name(LOG_SESSION));

    assert_events(NULL, 0, 10, 0, "");
    put_event("gpu-a", 10, "one");
    assert_events(NULL, 0, 10, 0, line);
    reopen_store();
    assert_events("gpu-a", 10, 10, 0, line);
    assert_events("gpu-a", 11, 10, 0, "");
    assert_events("gpu-b", 0, 10, 0, "");
    assert_events(NULL, 0, 0, 1, "");
}

Test(store, the_newest_events_come_oldest_first_with_the_number_of_older_ones)
{
    struct heard_events h = {0};

    for (int i = 0; i < 50; i++)
        put_event(i % 2 ? "gpu-a" : NULL, i, i % 2 ? "odd" : "even");
    store_read_events(store, NULL, 0, 3, &h.op, hear_events, &h);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_eq(h.n, 3);
    cr_assert_eq(h.older, 47);
    cr_assert(strncmp(buf_text(&h.text), "47 ", 3) == 0);
    buf_done(&h.text);
    h = (struct heard_events){0};
    store_read_events(store, "gpu-a", 20, 2, &h.op, hear_events, &h);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert_eq(h.n, 2);
    cr_assert_eq(h.older, 13);
    buf_done(&h.text);
}

Test(store, reading_events_is_cancelled_before_and_after_it_was_sent)
{
    struct heard_events early = {0}, *late = xnew(struct heard_events);

    put_event(NULL, 1, "x");
    store_read_events(store, NULL, 0, 3, &early.op, hear_events, &early);
    op_cancel(&early.op);
    store_read_events(store, NULL, 0, 3, &late->op, hear_events, late);
    loop_turns(loop, 1);
    op_cancel(&late->op);
    free(late);         /* its owner is gone, too */
    assert_written(put_instance("gpu-a", 1));
    cr_assert_eq(early.times, 0);
}

Test(store, reading_events_reports_a_fault)
{
    struct heard_events h = {0};

    assert_written(put_instance("gpu-a", 1));
    sql("ALTER TABLE event RENAME TO elsewhere");
    store_read_events(store, NULL, 0, 3, &h.op, hear_events, &h);
    cr_assert(LOOP_UNTIL(loop, h.times));
    cr_assert(h.failed);
    buf_done(&h.text);
}

Test(store, events_are_read_while_nothing_can_be_written)
{
    put_event("gpu-a", 1, "x");
    assert_events("gpu-b", 0, 3, 0, "");
    block();
    assert_fails(put_instance("gpu-a", 1));
    assert_events("gpu-b", 0, 3, 0, "");
    unblock();
}

Test(store, the_newest_hundred_thousand_events_are_kept)
{
    sql("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO event(at_ms, level, source, kind, text) SELECT i, 'notice', 'daemon', 'ready', 'old' FROM n");
    for (int i = 0; i < 1500; i++)
        put_event(NULL, 200000 + i, "new");
    assert_written(put_instance("gpu-a", 1));
    sql("CREATE TEMP TABLE t(n CHECK (n = 100000)); INSERT INTO t SELECT count(*) FROM event;"
        "CREATE TEMP TABLE u(n CHECK (n = 1501)); INSERT INTO u SELECT min(at_ms) FROM event");
}

/* ---- durations ---- */

Test(store, the_usual_duration_is_the_median_of_the_last_fifteen)
{
    cr_assert_eq(store_usual_ms(store, "load m gpu-a"), 0);
    for (unsigned i = 0; i < 20; i++)
        store_put_duration(store, "load m gpu-a", 1000);
    for (unsigned i = 1; i <= 15; i++)
        store_put_duration(store, "load m gpu-a", i == 15 ? 1000000 : i);
    cr_assert_eq(store_usual_ms(store, "load m gpu-a"), 8);
    store_put_duration(store, "load m gpu-b", 10);
    store_put_duration(store, "load m gpu-b", 30);
    cr_assert_eq(store_usual_ms(store, "load m gpu-b"), 20);
    store_put_duration(store, "at once", 0);
    reopen_store();
    cr_assert_eq(store_usual_ms(store, "load m gpu-a"), 8);
    cr_assert_eq(store_usual_ms(store, "load m gpu-b"), 20);
    cr_assert_eq(store_usual_ms(store, "at once"), 1);
    store_put_duration(store, "load m gpu-b", 30);
    cr_assert_eq(store_usual_ms(store, "load m gpu-b"), 30);
}
