/* What test_store.c and test_store_faults.c share: a store in a directory of its own, records in few words,
 * and ways to be in its way. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>
#include <semaphore.h>
#include <sqlite3.h>
#include <stdatomic.h>

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
static atomic_bool hang; /* the disk does not answer until `answer` is posted */
static sem_t answer;

static inline void open_store(void)
{
    struct fault f = {0};

    cr_assert_eq(store_open(loop, state, &store, &f), 0, "%s", f.text);
}

static inline void reopen_store(void)
{
    store = store_close(store);
    open_store();
}

static inline void setup(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(state, sizeof(state), "%s/state", directory);
    snprintf(database, sizeof(database), "%s/llmhost.db", state);
    loop = loop_new();
    open_store();
}

static inline void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    store = store_close(store);
    loop_free_dry(loop);
    cr_assert_eq(system(command), 0);
}

/* ---- helpers ---- */

struct heard {
    struct op *op;
    unsigned times, order;
    bool failed;
    struct fault fault;
};
static unsigned heard_order;

static inline void hear(void *ctx, const struct fault *f)
{
    struct heard *h = ctx;

    cr_assert_null(h->op, "the slot is cleared before done()");
    h->times++;
    h->order = ++heard_order;
    h->failed = f != NULL;
    h->fault = f ? *f : (struct fault){0};
}

static inline void after(store_ticket t, struct heard *h)
{
    store_after(store, t, &h->op, hear, h);
    cr_assert_not_null(h->op);
}

static inline void assert_written(store_ticket t)
{
    struct heard h = {0};

    after(t, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert_not(h.failed, "%s", h.fault.text);
}

static inline struct fault assert_fails(store_ticket t)
{
    struct heard h = {0};

    after(t, &h);
    cr_assert(LOOP_UNTIL(loop, h.times > 0));
    cr_assert(h.failed);
    return h.fault;
}

static inline store_ticket put_instance(const char *name, uint16_t port)
{
    struct instance_record r = {
        .name = (char *)name, .provider = "ssh", .host = "box", .user = "root", .port = port};

    return store_put_instance(store, &r);
}

static inline store_ticket put_deployment(const char *name, const char *instance, int64_t requests)
{
    struct deployment_record r = {
        .name = (char *)name, .instance = (char *)instance, .goal = "on_demand", .requests = requests};

    return store_put_deployment(store, &r);
}

static inline store_ticket put_forward(const char *ip, uint16_t listen_port, const char *instance)
{
    struct forward_record r = {.instance = (char *)instance,
                               .listen_ip = (char *)ip,
                               .address = "127.0.0.1",
                               .listen_port = listen_port,
                               .port = 80};

    return store_put_forward(store, &r);
}

static inline void put_event(const char *target, int64_t at_ms, const char *text)
{
    struct event e = {.at_ms = at_ms,
                      .level = LOG_LEVEL_NOTICE,
                      .source = LOG_SESSION,
                      .target = target,
                      .kind = "ready",
                      .text = text};

    store_put_event(store, &e);
}

/* Every record as one line, in the order of loading. */
static struct buf loaded;

static inline const char *or_none(const char *text)
{
    return text ? text : "-";
}

static inline void see_instance(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "instance %s %s %s %s %u %d %lld", r->name, r->provider, or_none(r->host),
             or_none(r->user), r->port, r->install_key, (long long)r->added_at_ms);
    for (size_t i = 0; i < r->n_host_key; i++)
        buf_addf(&loaded, "%s%02x", i ? "" : " ", r->host_key[i]);
    buf_addf(&loaded, " %lld%s%s%s%s\n", (long long)r->host_key_at_ms, r->agent ? " " : "",
             r->agent ? r->agent : "", r->proxy ? " " : "", r->proxy ? r->proxy : "");
}

static inline void see_deployment(void *ctx, const struct deployment_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "deployment %s %s %s %lld %d %s %lld %lld%s%s%s%s", r->name, or_none(r->instance),
             r->goal, (long long)r->goal_at_ms, r->touched, or_none(r->shown), (long long)r->requests,
             (long long)r->last_used_at_ms, r->arguments ? " " : "", r->arguments ? r->arguments : "",
             r->asleep ? " asleep: " : "", r->asleep ? r->asleep : "");
    if (r->asleep_at_ms || r->keep_until_at_ms)
        buf_addf(&loaded, " %lld %lld", (long long)r->asleep_at_ms, (long long)r->keep_until_at_ms);
    buf_add_text(&loaded, "\n");
}

static inline void see_forward(void *ctx, const struct forward_record *r)
{
    (void)ctx;
    buf_addf(&loaded, "forward %s %u %s %s %u\n", r->listen_ip, r->listen_port, r->instance, r->address,
             r->port);
}

static inline void assert_loads(const char *expected)
{
    struct store_readers readers = {
        .instance = see_instance, .deployment = see_deployment, .forward = see_forward};
    struct fault f = {0};

    buf_init(&loaded, 16 << 20);
    cr_assert_eq(store_load(store, &readers, NULL, &f), 0, "%s", f.text);
    cr_assert_str_eq(buf_text(&loaded), expected);
    buf_done(&loaded);
}

static inline void assert_open_fails(const char *where, int error, const char *words)
{
    struct store *other = NULL;
    struct fault f = {0};

    cr_assert_eq(store_open(loop, where, &other, &f), error, "%s", f.text);
    cr_assert_null(other);
    cr_assert_not_null(strstr(f.text, words), "\"%s\" does not say \"%s\"", f.text, words);
    cr_assert_neq(f.kind, FAULT_NONE);
}

/* SQL on the file by a connection of the test's own. */
static inline void sql(const char *text)
{
    sqlite3 *db = NULL;
    char *why = NULL;

    cr_assert_eq(sqlite3_open(database, &db), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(db, text, NULL, NULL, &why), SQLITE_OK, "%s", why);
    sqlite3_close(db);
}

/* ---- watching SQLite, and being in its way ---- */

static inline int count_commit(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&commits, 1);
    return 0;
}

static inline int count_begin(unsigned what, void *ctx, void *statement, void *text)
{
    (void)what, (void)ctx, (void)statement;
    if (streq(text, "BEGIN IMMEDIATE"))
        atomic_fetch_add(&begins, 1);
    if (atomic_load(&hang))
        sem_wait(&answer);
    return 0;
}

/* SQLite calls this for each connection that is opened: a way to see what the store's own does. */
static inline int watch_connection(sqlite3 *db, char **ret_why, const struct sqlite3_api_routines *api)
{
    (void)ret_why;
    (void)api;
    sqlite3_commit_hook(db, count_commit, NULL);
    sqlite3_trace_v2(db, SQLITE_TRACE_STMT, count_begin, NULL);
    return SQLITE_OK;
}

static inline void watch_sqlite(void)
{
    cr_assert_eq(sqlite3_auto_extension((void (*)(void))watch_connection), SQLITE_OK);
    reopen_store();
    sqlite3_reset_auto_extension();
    atomic_store(&commits, 0);
    atomic_store(&begins, 0);
    sem_init(&answer, 0, 0);
}

/* Somebody else holds the write lock: the least trouble to make and to end. */
static sqlite3 *blocker;

static inline void block(void)
{
    cr_assert_eq(sqlite3_open(database, &blocker), SQLITE_OK);
    cr_assert_eq(sqlite3_exec(blocker, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
}

static inline void unblock(void)
{
    cr_assert_eq(sqlite3_exec(blocker, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(blocker);
}
