/* The store over real files: what it keeps, how tickets are answered, what is read again. */
#include <sys/stat.h>

#include "tests/unit/store_world.h"

TestSuite(store, .init = setup, .fini = teardown);

/* ---- records ---- */

Test(store, everything_is_there_after_a_restart)
{
    uint8_t key[] = {0, 1, 0xff, 0};
    struct instance_record box = {.name = "gpu-a",
                                  .provider = "ssh",
                                  .host = "10.0.0.1",
                                  .user = "root",
                                  .port = 22022,
                                  .install_key = true,
                                  .agent = "/run/agent",
                                  .proxy = "ProxyJump ops@bastion",
                                  .added_at_ms = 1700000000123,
                                  .host_key = key,
                                  .n_host_key = sizeof(key),
                                  .host_key_at_ms = 1700000000456};
    struct instance_record here = {.name = "here", .provider = "local", .added_at_ms = 1800000000000};
    struct deployment_record model = {.name = "ollama:qwen3:4b",
                                      .instance = "gpu-a",
                                      .goal = "on_demand",
                                      .goal_at_ms = 5,
                                      .touched = true,
                                      .shown = "{\"模\":\"型\"}",
                                      .requests = INT64_MAX,
                                      .last_used_at_ms = 7,
                                      .arguments = "[\"-c\",\"4096\"]",
                                      .asleep = "made room",
                                      .asleep_at_ms = 5,
                                      .keep_until_at_ms = 6};
    struct forward_record forward = {
        .instance = "gpu-a", .listen_ip = "::1", .address = "127.0.0.1", .listen_port = 65535, .port = 1};

    store_put_instance(store, &here);
    store_put_instance(store, &box);
    store_put_deployment(store, &model);
    store_put_forward(store, &forward);
    assert_written(put_deployment("off", "here", 0));
    reopen_store();
    assert_loads("instance gpu-a ssh 10.0.0.1 root 22022 1 1700000000123 0001ff00 1700000000456 /run/agent "
                 "ProxyJump ops@bastion\n"
                 "instance here local - - 0 0 1800000000000 0\n"
                 "deployment off here on_demand 0 0 - 0 0\n"
                 "deployment ollama:qwen3:4b gpu-a on_demand 5 1 {\"模\":\"型\"} 9223372036854775807 7 "
                 "[\"-c\",\"4096\"] asleep: made room 5 6\n"
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
                 "deployment m gpu-a on_demand 0 0 - 2 0\n"
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
    store_remove_deployment(store, "c", "gpu-b");
    assert_written(store_remove_forward(store, "127.0.0.1", 2));
    assert_written(store_remove_forward(store, "127.0.0.1", 2)); /* nothing there is no fault */
    reopen_store();
    assert_loads("instance gpu-b ssh box root 1 0 0 0\n"
                 "deployment b gpu-b on_demand 0 0 - 0 0\n"
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
        after(i == 2 ? 0 : t, &h[i]); /* 0: there was nothing to write */
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
    loop_turns(loop, 1); /* it is with the thread now */
    op_cancel(&late.op);
    assert_written(t);
    after(t, &late); /* settled, and not yet told */
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
    f = assert_fails(2); /* still known later */
    cr_assert_str_eq(f.text, h[1].fault.text);
    reopen_store();
    assert_loads("instance gpu-a ssh box root 1 0 0 0\ndeployment n gpu-a on_demand 0 0 - 0 0\n");
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
    watch_sqlite();
    put_instance("gpu-a", 1);
    work_init(&later, put_later, NULL);
    work_init(&much_later, put_much_later, NULL);
    runq_add(loop, &later); /* behind the store's own work */
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

    watch_sqlite();
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
                 "deployment m gpu-a on_demand 0 0 - 9997 0\ndeployment m gpu-b on_demand 0 0 - 9998 0\n"
                 "deployment n gpu-a on_demand 0 0 - 9999 0\ndeployment n gpu-b on_demand 0 0 - 9996 0\n");
}

/* ---- events ---- */

struct heard_events {
    struct op *op;
    unsigned times, n;
    uint64_t older;
    bool failed;
    struct buf text;
};

static void hear_events(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                        const struct fault *f)
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

static void assert_events(const char *target, int64_t since_at_ms, unsigned lines, uint64_t older,
                          const char *expected)
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
    free(late); /* its owner is gone, too */
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
        " INSERT INTO event(at_ms, level, source, kind, text) SELECT i, 'notice', 'daemon', 'ready', 'old' "
        "FROM n");
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
