/* Every step sends the whole script with its arguments in front, so nothing of ours has to lie on the machine. */
#include "engine/place.h"

#include "base/op.h"
#include "proto/address.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const char engine_place_sh[];

/* The slowest step is a stop that needs every escalation. */
#define PLACE_MS (40 * 1000)

struct place {
    struct host *host;
    struct place_facts facts;
    struct op *run;
};

/* One step in flight: an op around the command's. */
struct step {
    struct op op;
    struct place *place;
    place_done_fn done;
    void *ctx;
};

static void facts_clear(struct place_facts *f)
{
    free(f->base);
    free(f->program);
    free(f->version);
    free(f->log);
    free(f->models);
    free(f->last_line);
    free(f->last_words);
    *f = (struct place_facts){.pid = -1};
}

struct place *place_new(struct host *h)
{
    struct place *p = xnew(struct place);

    p->host = h;
    p->facts.pid = -1;
    return p;
}

struct place *place_free(struct place *p)
{
    if (!p)
        return NULL;
    op_cancel(&p->run);
    facts_clear(&p->facts);
    free(p);
    return NULL;
}

const struct place_facts *place_facts(const struct place *p)
{
    return &p->facts;
}

static void step_cancel(struct op *op)
{
    struct step *s = CONTAINER_OF(op, struct step, op);

    op_cancel(&s->place->run);
    free(s);
}

static void step_end(struct step *s, const struct fault *f)
{
    place_done_fn done = s->done;
    void *ctx = s->ctx;

    op_end(&s->op);
    free(s);
    done(ctx, f);
}

static void take_text(char **to, const char *value)
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
static int read_error(const char *value, struct fault *fault)
{
    static const struct {
        const char *code;
        enum fault_kind kind;
    } errors[] = {
        {"disk_full", FAULT_EXHAUSTED},
        {"engine_stuck", FAULT_EXHAUSTED},
        {"engine_exited", FAULT_GONE},
        {"busy", FAULT_TRANSIENT},
    };

    for (size_t i = 0; i < ELEMENTS(errors); i++) {
        size_t n = strlen(errors[i].code);

        if (strncmp(value, errors[i].code, n) == 0 && value[n] == ' ')
            return fault_code(fault, errors[i].kind, errors[i].code, "%.300s", value + n + 1);
    }
    return fault_set(fault, FAULT_INVALID, 0, "%.300s", value);
}

#define NOT_OURS 2

/* One KEY=VALUE of the answer. 1: it was the last one and all is well. */
static int read_line(struct place_facts *f, const char *key, const char *value, struct fault *fault)
{
    if (streq(key, "ok"))
        return 1;
    if (streq(key, "error"))
        return read_error(value, fault);
    if (streq(key, "base"))
        take_text(&f->base, value);
    else if (streq(key, "program"))
        take_text(&f->program, value);
    else if (streq(key, "version"))
        take_text(&f->version, value);
    else if (streq(key, "log"))
        take_text(&f->log, value);
    else if (streq(key, "models"))
        take_text(&f->models, value);
    else if (streq(key, "last_line"))
        take_text(&f->last_line, value);
    else if (streq(key, "last_words"))
        take_text(&f->last_words, value);
    else if (streq(key, "pid"))
        f->pid = strtoll(value, NULL, 10);
    else if (streq(key, "port"))
        port_parse(value, &f->port); /* 0 already: none */
    else
        return NOT_OURS;
    return 0;
}

/* Nothing of ours ran: the account has a command of its own (ForceCommand, nologin, a menu). */
static int read_stranger(const char *line, struct fault *fault)
{
    _cleanup_free_ char *clean = NULL;

    take_text(&clean, line);
    return fault_set(fault, FAULT_INVALID, 0,
                     "the machine does not run what it is asked to in this account; it says: %.200s",
                     clean ? clean : "?");
}

/* Lines that are not ours (a banner of the shell's start-up files) are passed over, if there are any of ours. */
static int read_answer(struct place_facts *f, char *text, int status, struct fault *fault)
{
    const char *stranger = NULL;
    bool ours = false;
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *value = strchr(line, '=');
        int r = NOT_OURS;

        if (value) {
            *value = '\0';
            r = read_line(f, line, value + 1, fault);
            *value = '=';
        }
        if (r != 0 && r != NOT_OURS)
            return r;
        ours |= r == 0;
        if (!stranger && line[strspn(line, " \t\r")])
            stranger = line;
    }
    if (!ours && stranger && status < 128)
        return read_stranger(stranger, fault);
    return fault_code(fault, FAULT_TRANSIENT, "", "the machine did not answer to the end");
}

static void place_on_run(void *ctx, struct run_result *result, const struct fault *f)
{
    struct step *s = ctx;
    struct place_facts *facts = &s->place->facts;
    struct fault fault = {};

    if (f) {
        step_end(s, f);
        return;
    }
    /* What only find tells stays; what every answer tells is as new as the answer. */
    facts->pid = -1;
    facts->port = 0;
    free(facts->last_line);
    free(facts->last_words);
    facts->last_line = facts->last_words = NULL;
    _cleanup_free_ char *text = buf_take(&result->out);

    if (text && read_answer(facts, text, result->status, &fault) > 0) {
        step_end(s, NULL);
        return;
    }
    if (result->err.len && fault.kind != FAULT_INVALID && !*fault.code)
        fault_set(&fault, FAULT_TRANSIENT, 0, "the machine's shell says: %.200s", buf_text(&result->err));
    step_end(s, &fault);
}

static void place_step(struct place *p, const char *const *words, struct op **slot, place_done_fn done, void *ctx)
{
    struct step *s = xnew(struct step);
    struct buf script;

    buf_init(&script, 64 * 1024);
    buf_add_text(&script, "set --");
    for (; *words; words++) {
        buf_add_text(&script, " ");
        shell_quote(&script, *words);
    }
    buf_add_text(&script, "\n");
    buf_add_text(&script, engine_place_sh);

    const struct run_spec spec = {.script = buf_text(&script), .timeout_ms = PLACE_MS};

    s->place = p;
    s->done = done;
    s->ctx = ctx;
    op_begin(&s->op, slot, step_cancel);
    op_cancel(&p->run);
    host_run(p->host, &spec, &p->run, place_on_run, s);
    buf_done(&script);
}

void place_find(struct place *p, const char *server, const char *program, const char *usual, const char *path, struct op **slot,
                place_done_fn done, void *ctx)
{
    const char *const words[] = {"find", server, program, path ? path : "", usual, NULL};

    facts_clear(&p->facts);
    place_step(p, words, slot, done, ctx);
}

void place_start(struct place *p, const char *server, const char *environment, const char *command, struct op **slot,
                 place_done_fn done, void *ctx)
{
    const char *const words[] = {"start", server, environment, command, NULL};

    place_step(p, words, slot, done, ctx);
}

void place_look(struct place *p, const char *server, struct op **slot, place_done_fn done, void *ctx)
{
    const char *const words[] = {"look", server, NULL};

    place_step(p, words, slot, done, ctx);
}

void place_stop(struct place *p, const char *server, struct op **slot, place_done_fn done, void *ctx)
{
    const char *const words[] = {"stop", server, NULL};

    place_step(p, words, slot, done, ctx);
}
