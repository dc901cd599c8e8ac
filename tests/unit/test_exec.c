/* Commands. links: ssh */
#include "tests/fixture/ssh_client.h"

struct runner {
    struct op *op;
    unsigned n_done;
    bool failed, slot_was_clear;
    struct fault fault;
    int status;
    char *out, *err;
    size_t n_out, n_err;
};

static void runner_on_done(void *ctx, struct run_result *result, const struct fault *f)
{
    struct runner *r = ctx;

    r->n_done++;
    r->slot_was_clear = r->op == NULL;
    r->failed = f != NULL;
    if (f)
        r->fault = *f;
    r->status = result->status;
    r->n_out = result->out.len;
    r->n_err = result->err.len;
    r->out = xstrdup(buf_text(&result->out));
    r->err = xstrdup(buf_text(&result->err));
}

static void runner_done(struct runner *r)
{
    free(r->out);
    free(r->err);
}

static void run_to_end(struct client *c, struct runner *r, const struct run_spec *spec)
{
    ssh_run(c->conn, spec, &r->op, runner_on_done, r);
    cr_assert_not_null(r->op);
    cr_assert_eq(r->n_done, 0, "not from inside the call");
    cr_assert(LOOP_UNTIL(c->loop, r->n_done));
    cr_assert(r->slot_was_clear);
}

static void expect(struct client *c, const struct run_spec *spec, int status, const char *out,
                   const char *err)
{
    struct runner r = {0};

    run_to_end(c, &r, spec);
    cr_assert(!r.failed, "%s: %s", spec->script, r.fault.text);
    cr_assert_eq(r.status, status, "%s: %d", spec->script, r.status);
    cr_assert_str_eq(r.out, out);
    cr_assert_str_eq(r.err, err);
    runner_done(&r);
}

Test(exec, status_and_both_outputs)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    expect(&c, &(struct run_spec){.script = "echo hello"}, 0, "hello\n", "");
    expect(&c, &(struct run_spec){.script = "echo oops >&2; exit 7"}, 7, "", "oops\n");
    expect(&c, &(struct run_spec){.script = "a='it is'\necho \"$a \\$quoted\"\n"}, 0, "it is $quoted\n", "");
    expect(&c, &(struct run_spec){.script = ""}, 0, "", "");
    expect(&c, &(struct run_spec){.script = "exec >&- 2>&-; exit 9"}, 9, "", "");
    expect(&c, &(struct run_spec){.script = "kill -KILL $$"}, 128 + SIGKILL, "", "");
    expect(&c, &(struct run_spec){.script = "kill -TERM $$"}, 128 + SIGTERM, "", "");
    expect(&c, &(struct run_spec){.script = "exit 0\necho never"}, 0, "", "");
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, input_reaches_the_command)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    expect(&c, &(struct run_spec){.script = "cat; echo \"it's done\"", .input = "a secret\n", .n_input = 9},
           0, "a secret\nit's done\n", "");
    expect(&c, &(struct run_spec){.script = "wc -c | tr -d ' '", .input = "", .n_input = 0}, 0, "0\n", "");
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, large_input_and_large_output)
{
    static const size_t n = 3u << 20;
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r = {0};
    _cleanup_free_ char *input = xalloc(n);

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (size_t i = 0; i < n; i++)
        input[i] = (char)('a' + i % 23);
    expect(&c, &(struct run_spec){.script = "wc -c | tr -d ' '", .input = input, .n_input = n}, 0,
           "3145728\n", "");
    run_to_end(&c, &r,
               &(struct run_spec){.script = "cat", .input = input, .n_input = n, .output_bytes_max = n});
    cr_assert(!r.failed);
    cr_assert_eq(r.status, 0);
    cr_assert_eq(r.n_out, n);
    cr_assert_eq(memcmp(r.out, input, n), 0);
    runner_done(&r);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, command_that_does_not_read_its_input_ends_all_the_same)
{
    static const size_t n = 8u << 20;
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    _cleanup_free_ char *input = xalloc(n);

    REQUIRE_SSHD(s);
    client_login(&c, s);
    expect(&c, &(struct run_spec){.script = "exec <&-; echo early; exit 3", .input = input, .n_input = n}, 3,
           "early\n", "");
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, five_megabytes_of_errors_do_not_stop_it)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    run_to_end(
        &c, &r,
        &(struct run_spec){.script = "head -c 5000000 /dev/zero | tr '\\0' x >&2; echo end >&2; echo ok"});
    cr_assert(!r.failed);
    cr_assert_eq(r.status, 0);
    cr_assert_str_eq(r.out, "ok\n");
    cr_assert_eq(r.n_err, 4096);
    cr_assert_str_eq(r.err + 4096 - 5, "xend\n", "the last of it");
    runner_done(&r);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, output_is_cut_at_its_ceiling)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r = {0}, exact = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    run_to_end(&c, &r, &(struct run_spec){.script = "while :; do echo line; done", .output_bytes_max = 1000});
    cr_assert(!r.failed);
    cr_assert_eq(r.n_out, 1000);
    cr_assert_eq(r.status, 255);
    runner_done(&r);
    run_to_end(&c, &exact, &(struct run_spec){.script = "printf 0123456789", .output_bytes_max = 10});
    cr_assert_eq(exact.status, 0, "exactly full is not too much");
    cr_assert_str_eq(exact.out, "0123456789");
    runner_done(&exact);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, flood_of_errors_ends_it)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r = {0}, after = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    run_to_end(&c, &r,
               &(struct run_spec){.script = "echo begun; exec yes flood >&2", .timeout_ms = UINT64_MAX});
    cr_assert(!r.failed);
    cr_assert_eq(r.status, 255);
    cr_assert_str_eq(r.out, "begun\n");
    cr_assert_not_null(strstr(r.err, "flood\n"));
    runner_done(&r);
    run_to_end(&c, &after, &(struct run_spec){.script = "echo on"});
    cr_assert_str_eq(after.out, "on\n", "the connection lives");
    runner_done(&after);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, many_at_once_keep_their_answers_apart)
{
    enum { N = 30 };
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r[N] = {0};
    unsigned n_done = 0;

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (int i = 0; i < N; i++) {
        _cleanup_free_ char *script = xasprintf("echo %d; echo e%d >&2; exit %d", i, i, i);

        ssh_run(c.conn, &(struct run_spec){.script = script}, &r[i].op, runner_on_done, &r[i]);
    }
    cr_assert(LOOP_UNTIL(c.loop, ({
                             n_done = 0;
                             for (int i = 0; i < N; i++)
                                 n_done += r[i].n_done;
                             n_done == N;
                         })));
    for (int i = 0; i < N; i++) {
        _cleanup_free_ char *out = xasprintf("%d\n", i), *err = xasprintf("e%d\n", i);

        cr_assert(!r[i].failed, "%s", r[i].fault.text);
        cr_assert_eq(r[i].status, i);
        cr_assert_str_eq(r[i].out, out);
        cr_assert_str_eq(r[i].err, err);
        runner_done(&r[i]);
    }
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, timeout_is_uncertain)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    ssh_run(c.conn, &(struct run_spec){.script = "echo started; sleep 60", .timeout_ms = 300}, &r.op,
            runner_on_done, &r);
    cr_assert(LOOP_UNTIL(c.loop, r.n_done));
    cr_assert(r.failed);
    cr_assert_eq(r.fault.kind, FAULT_UNCERTAIN);
    cr_assert_str_eq(r.fault.code, "timeout");
    runner_done(&r);
    expect(&c, &(struct run_spec){.script = "echo the next one works"}, 0, "the next one works\n", "");
    client_close(&c);
    sshd_fixture_free(s);
}

/* Turns until the command must have begun, or not. */
Test(exec, cancelled_at_any_turn)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    for (unsigned turns = 0; turns < 25; turns++) {
        struct runner r = {0};
        struct loop_bound b = {0};

        ssh_run(c.conn, &(struct run_spec){.script = "sleep 0.01; echo x; sleep 60"}, &r.op, runner_on_done,
                &r);
        for (unsigned i = 0; i < turns; i++)
            loop_fixture_turn(c.loop, &b);
        op_cancel(&r.op);
        cr_assert_null(r.op);
        loop_turns(c.loop, 3);
        cr_assert_eq(r.n_done, 0);
    }
    expect(&c, &(struct run_spec){.script = "echo ok"}, 0, "ok\n", "");
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, owner_of_the_connection_frees_it_first)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    REQUIRE_SSHD(s);
    for (unsigned turns = 0; turns < 25; turns += 4) {
        struct client c = {0};
        struct runner begun = {0}, queued = {0};
        struct loop_bound b = {0};

        client_login(&c, s);
        ssh_run(c.conn, &(struct run_spec){.script = "sleep 60"}, &begun.op, runner_on_done, &begun);
        for (unsigned i = 0; i < turns; i++)
            loop_fixture_turn(c.loop, &b);
        ssh_run(c.conn, &(struct run_spec){.script = "sleep 60"}, &queued.op, runner_on_done, &queued);
        c.conn = ssh_conn_free(c.conn);
        cr_assert_eq(begun.n_done + queued.n_done, 0, "not from inside the call");
        cr_assert(LOOP_UNTIL(c.loop, begun.n_done && queued.n_done));
        cr_assert(begun.failed && queued.failed);
        cr_assert(begun.fault.kind == FAULT_UNCERTAIN || begun.fault.kind == FAULT_TRANSIENT);
        cr_assert_eq(queued.fault.kind, FAULT_TRANSIENT, "it was never started");
        runner_done(&begun);
        runner_done(&queued);
        client_close(&c);
    }
    sshd_fixture_free(s);
}

Test(exec, lost_connection_leaves_a_started_command_uncertain)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};
    struct runner r = {0}, late = {0};
    _cleanup_free_ char *flag = NULL, *script = NULL;

    REQUIRE_SSHD(s);
    flag = xasprintf("%s/flag", sshd_fixture_directory(s));
    script = xasprintf("touch %s; sleep 60", flag);
    client_login(&c, s);
    ssh_run(c.conn, &(struct run_spec){.script = script}, &r.op, runner_on_done, &r);
    cr_assert(LOOP_UNTIL(c.loop, ({
                             expect(&c, &(struct run_spec){.script = "true"}, 0, "", "");
                             access(flag, F_OK) == 0;
                         })));
    sshd_fixture_signal(s, SIGKILL);
    cr_assert(LOOP_UNTIL(c.loop, r.n_done && c.n_down));
    cr_assert_eq(r.fault.kind, FAULT_UNCERTAIN);
    ssh_run(c.conn, &(struct run_spec){.script = "true"}, &late.op, runner_on_done, &late);
    cr_assert(LOOP_UNTIL(c.loop, late.n_done));
    cr_assert_eq(late.fault.kind, FAULT_TRANSIENT);
    runner_done(&late);
    runner_done(&r);
    client_close(&c);
    sshd_fixture_free(s);
}

Test(exec, no_session_channels_is_said)
{
    struct sshd_fixture *s = sshd_fixture_new("MaxSessions 0\n");
    struct client c = {0};
    struct runner r = {0};

    REQUIRE_SSHD(s);
    client_login(&c, s);
    run_to_end(&c, &r, &(struct run_spec){.script = "true"});
    cr_assert(r.failed);
    cr_assert_eq(r.fault.kind, FAULT_EXHAUSTED);
    runner_done(&r);
    client_close(&c);
    sshd_fixture_free(s);
}

/* Pieces. */
struct listener_of_output {
    struct client client;
    struct runner runner;
    size_t n;
    unsigned n_pieces;
    bool cancel, free_conn;
};

static void on_output(void *ctx, const char *data, size_t n)
{
    struct listener_of_output *o = CONTAINER_OF(ctx, struct listener_of_output, runner);

    cr_assert_not_null(data);
    o->n += n;
    o->n_pieces++;
    if (o->cancel)
        op_cancel(&o->runner.op);
    if (o->free_conn)
        o->client.conn = ssh_conn_free(o->client.conn);
}

Test(exec, output_in_pieces)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct listener_of_output o = {0};

    REQUIRE_SSHD(s);
    client_login(&o.client, s);
    run_to_end(&o.client, &o.runner,
               &(struct run_spec){.script = "head -c 3000000 /dev/zero", .on_output = on_output});
    cr_assert(!o.runner.failed);
    cr_assert_eq(o.n, 3000000, "no ceiling where nothing is collected");
    cr_assert_eq(o.runner.n_out, 0);
    cr_assert_gt(o.n_pieces, 10);
    runner_done(&o.runner);
    client_close(&o.client);
    sshd_fixture_free(s);
}

Test(exec, who_hears_a_piece_may_cancel_or_free_everything)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);

    REQUIRE_SSHD(s);
    for (unsigned i = 1; i < 4; i++) {
        struct listener_of_output o = {.cancel = i & 1, .free_conn = i & 2};

        client_login(&o.client, s);
        ssh_run(o.client.conn,
                &(struct run_spec){.script = "while :; do echo x; done", .on_output = on_output},
                &o.runner.op, runner_on_done, &o.runner);
        cr_assert(LOOP_UNTIL(o.client.loop, o.n_pieces));
        loop_turns(o.client.loop, 5);
        cr_assert_eq(o.n_pieces, 1);
        cr_assert_eq(o.runner.n_done, !o.cancel);
        runner_done(&o.runner);
        client_close(&o.client);
    }
    sshd_fixture_free(s);
}
