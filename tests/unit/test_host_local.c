/* links: session
 *
 * Commands, dials and files on this very host: the same promises as over SSH. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/loop.h"
#include "base/op.h"
#include "session/host.h"
#include "tests/fixture/loop_fixture.h"

static struct loop *loop;
static struct host *host;
static struct op *op;
static char directory[] = "/tmp/test_host_local.XXXXXX";

static struct answer {
    unsigned n;
    int status;
    char *out, *err;
    size_t n_out;
    struct fault fault;
    struct stream *stream;
} answer;

static void setup(void)
{
    loop = loop_new();
    host = host_local_new(loop);
    cr_assert_not_null(mkdtemp(directory));
}

static void answer_done(void)
{
    free(answer.out);
    free(answer.err);
    stream_free(answer.stream, false);
    answer = (struct answer){0};
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf %s", directory);

    op_cancel(&op);
    answer_done();
    host_free(host);
    loop_free_dry(loop);
    cr_assert_eq(system(command), 0);
}

TestSuite(host_local, .init = setup, .fini = teardown, .timeout = 60);

static void on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    cr_assert_eq(ctx, &answer);
    cr_assert_null(op);
    answer.n++;
    if (f)
        answer.fault = *f;
    if (!result)
        return;
    answer.status = result->status;
    answer.n_out = result->out.len;
    answer.out = buf_take(&result->out);
    answer.err = buf_take(&result->err);
}

static void run_spec(const struct run_spec *spec)
{
    answer_done();
    host_run(host, spec, &op, on_ran, &answer);
    cr_assert_not_null(op);
    cr_assert_eq(answer.n, 0, "not from inside the call");
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
}

static void run(const char *script)
{
    run_spec(&(struct run_spec){.script = script});
}

Test(host_local, runs_a_command_and_tells_all_of_its_end)
{
    run("echo out; echo err >&2; exit 7");
    cr_assert_eq(answer.status, 7);
    cr_assert_str_eq(answer.out, "out\n");
    cr_assert_str_eq(answer.err, "err\n");
    run("");
    cr_assert_eq(answer.status, 0);
    cr_assert_str_eq(answer.out, "");
    run("kill -9 $$");
    cr_assert_eq(answer.status, 128 + SIGKILL);
    run("exec >&- 2>&-; exit 3");
    cr_assert_eq(answer.status, 3);
}

Test(host_local, hands_input_over_byte_for_byte)
{
    static char data[1 << 20];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (char)(i * 7 + i / 251);
    run_spec(&(struct run_spec){.script = "cat; echo \"it's $(id -un | wc -l)\" >&2",
                                .input = data,
                                .n_input = sizeof(data),
                                .output_bytes_max = 2 << 20});
    cr_assert_eq(answer.status, 0);
    cr_assert_eq(answer.n_out, sizeof(data));
    cr_assert_eq(memcmp(answer.out, data, sizeof(data)), 0);
    cr_assert_str_eq(answer.err, "it's 1\n");
    run_spec(&(struct run_spec){.script = "wc -c", .input = "", .n_input = 0});
    cr_assert_eq(atoi(answer.out), 0);
    cr_assert_eq(answer.status, 0);
}

Test(host_local, a_command_that_reads_little_of_its_input_is_no_failure)
{
    static char data[4 << 20];

    run_spec(
        &(struct run_spec){.script = "head -c 3 | wc -c; exit 4", .input = data, .n_input = sizeof(data)});
    cr_assert_eq(answer.status, 4);
    cr_assert_eq(atoi(answer.out), 3);
}

Test(host_local, a_long_script_needs_no_argument_list)
{
    struct buf script;

    buf_init(&script, 2 << 20);
    while (script.len < (1 << 20))
        buf_add_text(&script, "x=1 # a line of a very long script\n");
    buf_add_text(&script, "echo done\n");
    run(buf_text(&script));
    cr_assert_str_eq(answer.out, "done\n");
    buf_done(&script);
}

Test(host_local, keeps_the_last_4_kib_of_what_was_complained_about)
{
    run("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; echo end");
    cr_assert_str_eq(answer.out, "end\n");
    cr_assert_eq(strlen(answer.err), 4096);
    cr_assert_str_eq(answer.err + 4096 - 10, "line 2999\n");
}

Test(host_local, flood_of_errors_ends_the_command)
{
    run_spec(&(struct run_spec){.script = "echo begun; exec yes flood >&2", .timeout_ms = UINT64_MAX});
    cr_assert_eq(answer.status, 255);
    cr_assert_str_eq(answer.out, "begun\n");
    cr_assert_not_null(strstr(answer.err, "flood\n"));
}

Test(host_local, output_beyond_the_ceiling_is_cut_and_the_command_ended)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof(path), "%s/after", directory);
    _cleanup_free_ char *script = xasprintf("trap '' PIPE; yes; echo >%s", path);

    run_spec(&(struct run_spec){.script = script, .output_bytes_max = 10000, .timeout_ms = UINT64_MAX});
    cr_assert_eq(answer.n_out, 10000);
    cr_assert_eq(answer.status, 255);
    loop_turns(loop, 20);
    cr_assert_lt(stat(path, &st), 0);
}

static struct {
    struct buf got;
    bool cancel;
} pieces;

static void on_output(void *ctx, const char *data, size_t n)
{
    cr_assert_eq(ctx, &answer);
    buf_add(&pieces.got, data, n);
    if (pieces.cancel)
        op_cancel(&op);
}

Test(host_local, output_can_be_had_as_it_comes)
{
    buf_init(&pieces.got, 1 << 20);
    run_spec(&(struct run_spec){
        .script = "echo a; sleep 0.05; echo b", .on_output = on_output, .timeout_ms = UINT64_MAX});
    cr_assert_str_eq(buf_text(&pieces.got), "a\nb\n");
    cr_assert_eq(answer.n_out, 0);
    answer_done();
    pieces.cancel = true;
    host_run(host, &(struct run_spec){.script = "echo c; sleep 100", .on_output = on_output}, &op, on_ran,
             &answer);
    cr_assert(LOOP_UNTIL(loop, !op));
    loop_turns(loop, 20);
    cr_assert_eq(answer.n, 0);
    buf_done(&pieces.got);
}

Test(host_local, a_command_that_takes_too_long_is_uncertain)
{
    host_run(host, &(struct run_spec){.script = "sleep 1000", .timeout_ms = 5000}, &op, on_ran, &answer);
    loop_turns(loop, 20);
    loop_advance(loop, 4900);
    cr_assert_eq(answer.n, 0);
    loop_advance(loop, 200);
    cr_assert_eq(answer.n, 1);
    cr_assert_eq(answer.fault.kind, FAULT_UNCERTAIN);
    cr_assert_eq(answer.fault.error, -ETIMEDOUT);
    cr_assert_str_eq(answer.fault.code, "timeout");
}

/* A pipe with a name that every process of the command holds open: its end is the end of the last of them. */
Test(host_local, cancelling_ends_the_whole_group_of_processes)
{
    char path[64], text[8];

    snprintf(path, sizeof(path), "%s/pipe", directory);
    _cleanup_free_ char *script = xasprintf("exec 3>%s; sh -c 'echo up >&3; exec sleep 1000'; true", path);

    cr_assert_eq(mkfifo(path, 0600), 0);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct pollfd p = {.fd = fd};

    host_run(host, &(struct run_spec){.script = script}, &op, on_ran, &answer);
    cr_assert(LOOP_UNTIL(loop, read(fd, text, sizeof(text)) == 3));
    cr_assert_eq(poll(&p, 1, 0), 0);
    op_cancel(&op);
    loop_turns(loop, 5);
    cr_assert_eq(poll(&p, 1, 10000), 1, "the grandchild lives on");
    cr_assert(p.revents & POLLHUP);
    cr_assert_eq(answer.n, 0);
}

Test(host_local, cancelled_before_it_began_it_never_does)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof(path), "%s/began", directory);
    _cleanup_free_ char *script = xasprintf("echo >%s", path);

    host_run(host, &(struct run_spec){.script = script}, &op, on_ran, &answer);
    op_cancel(&op);
    loop_turns(loop, 20);
    cr_assert_lt(stat(path, &st), 0);
    cr_assert_eq(answer.n, 0);
}

Test(host_local, what_runs_is_not_bound_to_the_host_object)
{
    host_run(host, &(struct run_spec){.script = "echo still here"}, &op, on_ran, &answer);
    host = host_free(host);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
    cr_assert_str_eq(answer.out, "still here\n");
}

Test(host_local, a_detached_process_does_not_hold_the_command)
{
    run("setsid sh -c 'exec sleep 5' >/dev/null 2>&1 </dev/null & echo $!");
    cr_assert_eq(answer.status, 0);
    cr_assert_gt(atoi(answer.out), 1);
    kill(atoi(answer.out), SIGKILL);
}

static void on_one_of_many(void *ctx, struct run_result *result, const struct fault *f)
{
    unsigned *n = ctx;

    cr_assert(!f && result->status == 0);
    *n += (unsigned)atoi(buf_text(&result->out));
}

Test(host_local, fifty_commands_at_once)
{
    static struct op *ops[50];
    unsigned sum = 0;

    for (unsigned i = 0; i < ELEMENTS(ops); i++) {
        _cleanup_free_ char *script = xasprintf("echo $((%u + 1))", i);

        host_run(host, &(struct run_spec){.script = script}, &ops[i], on_one_of_many, &sum);
    }
    cr_assert(LOOP_UNTIL(loop, sum == 50 * 51 / 2));
    for (unsigned i = 0; i < ELEMENTS(ops); i++)
        cr_assert_null(ops[i]);
}

/* ---- Dials ---- */

static void on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    cr_assert_eq(ctx, &answer);
    cr_assert_null(op);
    answer.n++;
    answer.stream = s;
    if (f)
        answer.fault = *f;
}

static void dial(const char *address, uint16_t port)
{
    answer_done();
    host_dial(host, address, port, HOST_STREAM, &op, on_dialled, &answer);
    cr_assert_eq(answer.n, 0);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
}

static void on_stream(void *ctx, struct stream *s)
{
    unsigned *n = ctx;

    (*n)++;
    stream_free(s, false);
}

Test(host_local, dials_a_port_of_this_host)
{
    struct listener *l;
    unsigned n = 0;

    cr_assert_eq(listener_new_tcp(loop, "127.0.0.1", 0, on_stream, &n, &l), 0);
    dial("127.0.0.1", listener_port(l));
    cr_assert_not_null(answer.stream);
    cr_assert(LOOP_UNTIL(loop, n == 1));
    dial("localhost", listener_port(l));
    cr_assert_not_null(answer.stream);
    uint16_t port = listener_port(l);

    listener_free(l);
    loop_turns(loop, 3);
    dial("127.0.0.1", port);
    cr_assert_null(answer.stream);
    cr_assert_str_eq(answer.fault.code, "refused");
    cr_assert_eq(answer.fault.error, -ECONNREFUSED);
    cr_assert_eq(answer.fault.kind, FAULT_TRANSIENT);
    dial("some.name", port);
    cr_assert_eq(answer.fault.kind, FAULT_INVALID);
    answer_done();
    host_dial(host, "127.0.0.1", port, HOST_STREAM, &op, on_dialled, &answer);
    op_cancel(&op);
    host_dial(host, "no address", port, HOST_STREAM, &op, on_dialled, &answer);
    op_cancel(&op);
    loop_turns(loop, 20);
    cr_assert_eq(answer.n, 0);
    cr_assert(host_is_reachable(host));
}

/* ---- Files ---- */

static void on_put(void *ctx, const struct fault *f)
{
    cr_assert_eq(ctx, &answer);
    cr_assert_null(op);
    answer.n++;
    if (f)
        answer.fault = *f;
}

static void put(const char *path, unsigned mode, const void *data, size_t n)
{
    answer_done();
    host_put(host, path, mode, data, n, &op, on_put, &answer);
    cr_assert_eq(answer.n, 0);
    cr_assert(LOOP_UNTIL(loop, answer.n == 1));
}

Test(host_local, puts_a_file_whole)
{
    static char data[300000], back[sizeof(data) + 1];
    char path[128];
    struct stat st;

    snprintf(path, sizeof(path), "%s/it's a file", directory);
    memset(data, 'x', sizeof(data));
    put(path, 0700, data, sizeof(data));
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
    cr_assert(stat(path, &st) == 0 && st.st_size == (off_t)sizeof(data) && (st.st_mode & 0777) == 0700);
    FILE *f = fopen(path, "r");

    cr_assert_eq(fread(back, 1, sizeof(back), f), sizeof(data));
    fclose(f);
    cr_assert_eq(memcmp(back, data, sizeof(data)), 0);
    put(path, 0600, NULL, 0);
    cr_assert_eq(answer.fault.kind, FAULT_NONE, "%s", answer.fault.text);
    cr_assert(stat(path, &st) == 0 && st.st_size == 0 && (st.st_mode & 0777) == 0600);
    _cleanup_free_ char *count = xasprintf("ls -A %s | wc -l", directory);

    run(count);
    cr_assert_eq(atoi(answer.out), 1, "nothing is left beside it");
}

Test(host_local, a_file_that_cannot_be_written_is_a_fault_that_says_why)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/missing/file", directory);
    put(path, 0600, "x", 1);
    cr_assert_eq(answer.fault.kind, FAULT_INVALID);
    cr_assert(strstr(answer.fault.text, path), "%s", answer.fault.text);
    put("/dev/full/x", 0600, "x", 1);
    cr_assert_eq(answer.fault.kind, FAULT_INVALID);
}

Test(host_local, a_full_disk_waits_for_room)
{
    _cleanup_free_ char *mount = xasprintf("mount -t tmpfs -o size=64k none %s 2>/dev/null", directory);
    _cleanup_free_ char *unmount = xasprintf("umount %s", directory);
    static char data[200000];
    char path[128];

    if (system(mount) != 0)
        cr_skip_test("mounting a small disk needs root");
    snprintf(path, sizeof(path), "%s/file", directory);
    put(path, 0600, data, sizeof(data));
    cr_assert_eq(answer.fault.kind, FAULT_EXHAUSTED, "%s", answer.fault.text);
    cr_assert_eq(answer.fault.error, -ENOSPC);
    cr_assert_eq(system(unmount), 0);
}

Test(host_local, a_put_given_up_leaves_the_old_file)
{
    static char data[1 << 20];
    char path[128];
    struct stat st;

    snprintf(path, sizeof(path), "%s/file", directory);
    put(path, 0600, "old", 3);
    answer_done();
    host_put(host, path, 0600, data, sizeof(data), &op, on_put, &answer);
    loop_turns(loop, 2);
    op_cancel(&op);
    loop_turns(loop, 50);
    cr_assert(stat(path, &st) == 0 && st.st_size == 3);
    cr_assert_eq(answer.n, 0);
}
