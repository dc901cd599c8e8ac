/* First the script, then the dial; a machine that does not run our script may forward all the same. */
#include "engine/machine.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/op.h"
#include "base/stream.h"
#include "engine/script.h"
#include "proto/address.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const char engine_look_sh[];

#define LOOK_MS       12000
#define CARDS_MAX     (16u << 10)
#define UNUSED_PORT   1 /* tcpmux, which nobody has */
#define PORT_TEXT_MAX 8

struct look {
    struct op op;
    struct op *inner;
    struct host *host;
    struct machine_facts *facts;
    struct buf cards;
    void (*done)(void *ctx);
    void *ctx;
};

static void look_free(struct look *k)
{
    op_cancel(&k->inner);
    buf_done(&k->cards);
    free(k);
}

static void look_cancel(struct op *op)
{
    look_free(CONTAINER_OF(op, struct look, op));
}

static void on_dialled(void *ctx, struct stream *s, const struct fault *f)
{
    struct look *k = ctx;
    void (*done)(void *) = k->done;
    void *done_ctx = k->ctx;

    stream_free(s, false);
    k->facts->forbids_forwards = f && streq(f->code, "forbidden");
    op_end(&k->op);
    look_free(k);
    done(done_ctx);
}

static void on_answered(void *ctx, const struct fault *f)
{
    struct look *k = ctx;

    k->facts->has_answered = !f;
    if (f)
        k->facts->silence = *f;
    gpu_read(k->cards.data ? k->cards.data : "", k->cards.len, &k->facts->gpu);
    host_dial(k->host, "127.0.0.1", UNUSED_PORT, HOST_STREAM, &k->inner, on_dialled, k);
}

void machine_read_arch(char out[static 16], const char *uname)
{
    const char *name = streq(uname, "x86_64") ? "amd64" : streq(uname, "aarch64") ? "arm64" : uname;

    snprintf(out, 16, "%.15s", name);
    for (char *p = out; *p; p++)
        if (*p <= ' ' || *p > '~')
            *p = '?';
}

static void copy_text(char *out, size_t size, const char *value)
{
    _cleanup_free_ char *clean = NULL;

    script_take_text(&clean, value);
    if (clean)
        snprintf(out, size, "%.*s", (int)utf8_valid(clean, MIN(strlen(clean), size - 1)), clean);
}

/* "11434 ollama (pid 812)" */
static void take_port(struct machine_facts *m, const char *value)
{
    char number[PORT_TEXT_MAX];
    struct machine_port *p = &m->ports[m->n_ports];

    snprintf(number, sizeof number, "%.*s", (int)strcspn(value, " "), value);
    if (m->n_ports == MACHINE_PORTS_MAX || port_parse(number, &p->port) < 0)
        return;
    value += strcspn(value, " ");
    copy_text(p->who, sizeof p->who, value + strspn(value, " "));
    m->n_ports++;
}

static bool take_line(void *ctx, const char *key, const char *value)
{
    struct look *k = ctx;
    struct machine_facts *m = k->facts;

    if (streq(key, "arch"))
        machine_read_arch(m->arch, value);
    else if (streq(key, "base"))
        copy_text(m->base, sizeof m->base, value);
    else if (streq(key, "free_kb"))
        m->free_bytes =
            isdigit((unsigned char)*value) && strlen(value) < 17 ? strtoll(value, NULL, 10) * 1024 : -1;
    else if (streq(key, "ours"))
        port_parse(value, &m->ours); /* 0 already: none */
    else if (streq(key, "port"))
        take_port(m, value);
    else if (streq(key, "card"))
        buf_addf(&k->cards, "%s\n", value); /* beyond the ceiling no card is read */
    else
        return false;
    return true;
}

char *machine_script(const char *script)
{
    return xasprintf("cards() (\n%s)\n%s", gpu_script, script);
}

void machine_look(struct host *h, const uint16_t *ports, unsigned n_ports, struct machine_facts *ret,
                  struct op **slot, void (*done)(void *ctx), void *ctx)
{
    struct look *k = xnew(struct look);
    _cleanup_free_ char *text = machine_script(engine_look_sh);
    char numbers[MACHINE_PORTS_MAX][PORT_TEXT_MAX];
    const char *words[MACHINE_PORTS_MAX + 3] = {"look", "machine"};

    for (unsigned i = 0; i < MIN(n_ports, (unsigned)MACHINE_PORTS_MAX); i++) {
        snprintf(numbers[i], sizeof numbers[i], "%u", ports[i]);
        words[2 + i] = numbers[i];
    }
    *ret = (struct machine_facts){.free_bytes = -1, .gpu.capability = -1};
    k->host = h;
    k->facts = ret;
    k->done = done;
    k->ctx = ctx;
    buf_init(&k->cards, CARDS_MAX);
    op_begin(&k->op, slot, look_cancel);
    script_run(h,
               &(struct script_call){.text = text, .words = words, .timeout_ms = LOOK_MS, .take = take_line},
               &k->inner, on_answered, k);
}

const char *machine_who_listens(const struct machine_facts *m, uint16_t port)
{
    for (unsigned i = 0; i < m->n_ports; i++)
        if (m->ports[i].port == port)
            return m->ports[i].who;
    return NULL;
}
