/* Lines that are not ours (a banner of the shell's start-up files) are passed over, if there are any of ours.
 */
#include "engine/script.h"

#include "base/op.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

struct script_step {
    struct op op;
    struct op *run;
    void (*begin)(void *ctx);
    bool (*take)(void *ctx, const char *key, const char *value);
    void (*done)(void *ctx, const struct fault *f);
    void *ctx;
};

static void step_cancel(struct op *op)
{
    struct script_step *s = CONTAINER_OF(op, struct script_step, op);

    op_cancel(&s->run);
    free(s);
}

static void step_end(struct script_step *s, const struct fault *f)
{
    void (*done)(void *, const struct fault *) = s->done;
    void *ctx = s->ctx;

    op_end(&s->op);
    free(s);
    done(ctx, f);
}

void script_take_text(char **to, const char *value)
{
    struct buf clean;

    buf_init(&clean, 8192);
    if (utf8_clean(&clean, value, strlen(value), false) == 0) {
        free(*to);
        *to = xstrdup(buf_text(&clean));
    }
    buf_done(&clean);
}

/* "CODE TEXT" of the script. */
static void read_error(const char *value, struct fault *fault)
{
    static const struct {
        const char *code;
        enum fault_kind kind;
    } errors[] = {
        {"disk_full", FAULT_EXHAUSTED}, {"engine_stuck", FAULT_EXHAUSTED}, {"engine_exited", FAULT_GONE},
        {"busy", FAULT_TRANSIENT},      {"engine_damaged", FAULT_GONE},
    };

    for (size_t i = 0; i < ELEMENTS(errors); i++) {
        size_t n = strlen(errors[i].code);

        if (strncmp(value, errors[i].code, n) == 0 && value[n] == ' ') {
            fault_code(fault, errors[i].kind, errors[i].code, "%.400s", value + n + 1);
            return;
        }
    }
    fault_set(fault, FAULT_INVALID, 0, "%.300s", value);
}

/* Nothing of ours ran: the account has a command of its own (ForceCommand, nologin, a menu). */
static void read_stranger(const char *line, struct fault *fault)
{
    _cleanup_free_ char *clean = NULL;

    script_take_text(&clean, line);
    fault_code(
        fault, FAULT_INVALID, "no_shell",
        "the machine does not run what it is asked to in this account (ForceCommand, or another shell); "
        "it says: %.200s",
        clean ? clean : "?");
}

/* The same of one that wrote errors without end; the first line that was kept is the end of one. */
static void read_flood(struct buf *err, struct fault *fault)
{
    _cleanup_free_ char *text = buf_take(err);
    char *save = NULL;
    char *line = text ? strtok_r(text, "\n", &save) : NULL, *next = line ? strtok_r(NULL, "\n", &save) : NULL;

    read_stranger(next ? next : line ? line : "?", fault);
}

enum verdict { OURS, STRANGE, OVER, FAILED };

static enum verdict read_line(struct script_step *s, const char *key, const char *value, struct fault *fault)
{
    if (streq(key, "ok"))
        return OVER;
    if (streq(key, "error")) {
        read_error(value, fault);
        return FAILED;
    }
    return s->take(s->ctx, key, value) ? OURS : STRANGE;
}

/* True: it ended well. */
static bool read_answer(struct script_step *s, char *text, int status, struct fault *fault)
{
    const char *stranger = NULL;
    bool ours = false;
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, '=');
        enum verdict v = STRANGE;

        if (value) {
            *value = '\0';
            v = read_line(s, line, value + 1, fault);
            *value = '=';
        }
        if (v == OVER || v == FAILED)
            return v == OVER;
        ours |= v == OURS;
        if (!stranger && line[strspn(line, " \t\r")])
            stranger = line;
    }
    if (!ours && stranger && (status < 128 || status == RUN_STATUS_UNKNOWN))
        read_stranger(stranger, fault);
    else
        fault_code(fault, FAULT_TRANSIENT, "", "the machine did not answer to the end");
    return false;
}

static void step_on_run(void *ctx, struct run_result *result, const struct fault *f)
{
    struct script_step *s = ctx;
    struct fault fault = {};

    if (f) {
        step_end(s, f);
        return;
    }
    if (s->begin)
        s->begin(s->ctx);
    size_t n_out = result->out.len;
    _cleanup_free_ char *text = buf_take(&result->out);

    if (text && read_answer(s, text, result->status, &fault)) {
        step_end(s, NULL);
        return;
    }
    if (result->err.len && result->status == RUN_STATUS_UNKNOWN && !n_out)
        read_flood(&result->err, &fault);
    else if (result->err.len && fault.kind != FAULT_INVALID && !*fault.code)
        fault_set(&fault, FAULT_TRANSIENT, 0, "the machine's shell says: %.200s", buf_text(&result->err));
    step_end(s, &fault);
}

void script_run(struct host *h, const struct script_call *call, struct op **slot,
                void (*done)(void *ctx, const struct fault *f), void *ctx)
{
    struct script_step *s = xnew(struct script_step);
    struct buf script;

    buf_init(&script, 256 * 1024);
    buf_add_text(&script, "set --");
    for (const char *const *word = call->words; *word; word++) {
        buf_add_text(&script, " ");
        shell_quote(&script, *word);
    }
    buf_add_text(&script, "\n");
    buf_add_text(&script, call->text);
    s->begin = call->begin;
    s->take = call->take;
    s->done = done;
    s->ctx = ctx;
    op_begin(&s->op, slot, step_cancel);
    host_run(h,
             &(struct run_spec){.script = buf_text(&script),
                                .input = call->input,
                                .n_input = call->n_input,
                                .timeout_ms = call->timeout_ms},
             &s->run, step_on_run, s);
    buf_done(&script);
}
