/* A file is put by a command that reads it: beside its name, counted (a lost connection looks like an end),
 * then moved. */
#include "session/host.h"

#include <errno.h>
#include <inttypes.h>

#include "base/fault.h"
#include "base/op.h"
#include "proto/text.h"

#define PUT_MS 300000u

struct put {
    struct op op;
    struct op *inner;
    char *path;
    op_done_fn done;
    void *ctx;
};

static void put_free(struct put *p)
{
    free(p->path);
    free(p);
}

static void put_cancel(struct op *op)
{
    struct put *p = CONTAINER_OF(op, struct put, op);

    op_cancel(&p->inner);
    put_free(p);
}

/* The last line of what the command complained about. */
static const char *last_line(struct buf *err)
{
    while (err->len > 0 && err->data[err->len - 1] == '\n')
        err->len--;
    const char *text = buf_text(err), *line = text ? strrchr(text, '\n') : NULL;

    return line ? line + 1 : text ? text : "";
}

static void put_on_ran(void *ctx, struct run_result *result, const struct fault *f)
{
    struct put *p = ctx;
    op_done_fn done = p->done;
    void *owner = p->ctx;
    struct fault failed;

    if (!f && result->status != 0) {
        const char *why = last_line(&result->err);
        bool is_full = strstr(why, "No space left") || strstr(why, "quota");

        fault_set(&failed, is_full ? FAULT_EXHAUSTED : FAULT_INVALID, is_full ? -ENOSPC : -EIO,
                  "cannot write %.150s: %.200s", p->path, *why ? why : "it arrived incomplete");
        f = &failed;
    }
    op_end(&p->op);
    put_free(p);
    done(owner, f);
}

static int put_script(struct buf *script, const char *path, unsigned mode, size_t n)
{
    bool in_home = strncmp(path, "~/", 2) == 0;
    int r = buf_addf(script, "umask 077\nf=%s", in_home ? "$HOME/" : "");

    if (r >= 0)
        r = shell_quote(script, in_home ? path + 2 : path);
    if (r >= 0)
        r = buf_addf(
            script,
            "\nt=$f.new.$$\n"
            "trap 'rm -f \"$t\"' EXIT\n"
            "cat >\"$t\" && [ $(wc -c <\"$t\") -eq %zu ] && chmod %03o \"$t\" && mv -f \"$t\" \"$f\"\n",
            n, mode);
    return r;
}

void host_put(struct host *h, const char *path, unsigned mode, const void *data, size_t n, struct op **slot,
              void (*done)(void *ctx, const struct fault *f), void *ctx)
{
    struct put *p = xnew(struct put);
    struct buf script;

    op_begin(&p->op, slot, put_cancel);
    p->path = xstrdup(path);
    p->done = done;
    p->ctx = ctx;
    buf_init(&script, 64 << 10);
    if (put_script(&script, path, mode, n) < 0)
        abort(); /* a path of more than 60 KiB is a bug of ours */
    host_run(h,
             &(struct run_spec){
                 .script = buf_text(&script), .input = data ? data : "", .n_input = n, .timeout_ms = PUT_MS},
             &p->inner, put_on_ran, p);
    buf_done(&script);
}
