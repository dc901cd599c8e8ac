/* upload HOST PORT KEY BYTES TIMES: the daemon's own session sends a command its input, as an archive of an
 * engine is brought to a machine: mb_per_s of each time. The session is up, as a daemon's is; the connection
 * for the bulk is made within the time. KEY: the file of a private key of root there. Built by CMake, since
 * it is the product's own code that is measured. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/loop.h"
#include "base/resolve.h"
#include "proto/mem.h"
#include "session/session.h"
#include "store/secrets.h"

struct upload {
    struct loop *loop;
    struct session *session;
    struct op *op;
    char *bytes;
    size_t n;
    unsigned left;
    uint64_t begun_due;
    bool begun;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "upload: %s: %s\n", what, why);
    exit(1);
}

static void send_once(struct upload *u);

static void on_done(void *ctx, struct run_result *result, const struct fault *f)
{
    struct upload *u = ctx;

    if (f || result->status != 0)
        fail("the command", f ? f->text : buf_text(&result->err));
    printf("{\"mb_per_s\":%.3f}\n", (double)u->n / 1e3 / (double)(clock_now_ms() - u->begun_due));
    if (--u->left)
        send_once(u);
    else
        loop_stop(u->loop);
}

static void send_once(struct upload *u)
{
    const struct run_spec spec = {.script = "cat >/root/uploaded && sync /root/uploaded",
                                  .input = u->bytes,
                                  .n_input = u->n,
                                  .timeout_ms = UINT64_MAX};

    u->begun_due = clock_now_ms();
    session_run(u->session, &spec, &u->op, on_done, u);
}

static void on_changed(void *ctx, struct session *s)
{
    struct upload *u = ctx;

    if (session_state(s) == SESSION_REFUSED)
        fail("the login", session_fault(s)->text);
    if (session_state(s) == SESSION_UP && !u->begun) {
        u->begun = true;
        send_once(u);
    }
}

static void on_pin(void *ctx, const struct host_key *shown)
{
    (void)ctx, (void)shown;
}

static char *read_key(const char *path)
{
    static char text[16384];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0)
        fail(path, "cannot be read");
    text[n] = '\0';
    close(fd);
    return text;
}

int main(int argc, char **argv)
{
    static const struct session_events events = {.changed = on_changed, .pin = on_pin};
    char directory[] = "/tmp/bench-upload.XXXXXX";
    struct secrets *secrets;
    struct upload u = {};

    if (argc != 6)
        fail("usage", "upload HOST PORT KEY BYTES TIMES");
    if (!mkdtemp(directory) || secrets_open(directory, &secrets) < 0 ||
        secrets_put(secrets, "box", "key", read_key(argv[3])) < 0)
        fail(directory, "cannot be made");
    u.loop = loop_new();
    u.n = strtoul(argv[4], NULL, 10);
    u.left = (unsigned)strtoul(argv[5], NULL, 10);
    u.bytes = calloc(u.n, 1);
    struct resolver *resolver = resolver_new(u.loop);
    const struct session_target target = {
        .host = argv[1], .port = (uint16_t)strtoul(argv[2], NULL, 10), .user = "root"};

    u.session = session_new(u.loop, resolver, NULL, secrets, "box", &target, &events, &u);
    session_want(u.session, true);
    loop_run(u.loop);
    session_free(u.session);
    resolver_free(resolver);
    loop_free(u.loop);
    secrets_remove(secrets, "box", "key");
    secrets_free(secrets);
    free(u.bytes);
    return 0;
}
