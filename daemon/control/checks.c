/* What a machine says becomes rows: what is wrong with it and what to do. What it did not say has no row. */
#include "control/checks.h"

#include <stdarg.h>

#include "base/owner.h"
#include "deployment/deployment.h"
#include "engine/engine.h"
#include "engine/fit.h"
#include "engine/machine.h"
#include "engine/need.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/address.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

/* Where an ollama listens that nobody told otherwise. */
#define OLLAMA_PORT 11434
/* Less is not enough for the smallest models that people use. */
#define DISK_LEAST_BYTES (3ll * 1000 * 1000 * 1000)

void check_add(struct json *list, const char *id, const char *target, const char *level, struct json *next,
               const char *format, ...)
{
    struct json *v = json_object();
    _cleanup_free_ char *text = NULL;
    va_list args;

    va_start(args, format);
    text = xvasprintf(format, args);
    va_end(args);
    json_put_string(v, "id", id);
    json_put_string(v, "target", target);
    json_put_string(v, "level", level);
    json_put_string(v, "message", text);
    json_put(v, "next", next ? next : json_array());
    json_append(list, v);
}

struct json *check_command(const char *format, ...)
{
    struct json *list = json_array();
    _cleanup_free_ char *text = NULL;
    va_list args;

    va_start(args, format);
    text = xvasprintf(format, args);
    json_append_string(list, text);
    va_end(args);
    return list;
}

/* ---- the machine ---- */

static void check_answer(const struct lease *l, const struct machine_facts *m, struct json *list)
{
    if (m->has_answered)
        return;
    check_add(list, "machine.shell", lease_name(l), m->silence.kind == FAULT_INVALID ? "fail" : "warn", NULL,
              "%s", m->silence.text);
}

static void check_chip(const struct lease *l, const struct machine_facts *m, struct json *list)
{
    const struct gpu_facts *g = &m->gpu;
    int64_t total = gpu_total_bytes(g);
    char size[TEXT_SHORT_MAX], number[16] = "";

    if (g->trouble) {
        check_add(list, "machine.gpu", lease_name(l), "fail", NULL, "its card cannot be used: %s",
                  g->trouble);
    } else if (g->kind == GPU_NONE) {
        check_add(list, "machine.gpu", lease_name(l), "warn", NULL,
                  "no card, as far as nvidia-smi tells: models run on its processors (%s), which is slow",
                  m->arch);
    } else if (g->n) {
        if (g->n > 1)
            snprintf(number, sizeof number, "%u x ", g->n);
        check_add(list, "machine.gpu", lease_name(l), "ok", NULL, "%s%s%s%s%s%s, %s", number,
                  g->cards[0].name, total > 0 ? ", " : "",
                  total > 0 ? bytes_format(size, (uint64_t)total) : "", *g->driver ? ", driver " : "",
                  g->driver, m->arch);
    }
}

static const struct deployment *find_wanted(struct manager *m, const struct lease *l, const char *engine)
{
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (deployment_lease(d) == l && deployment_goal(d) != GOAL_OFF &&
            streq(deployment_engine(d)->name, engine))
            return d;
    return NULL;
}

/* Of an engine nobody wants there it is worth a word, no more. */
static void check_fit(struct manager *m, const struct lease *l, const struct machine_facts *facts,
                      struct json *list)
{
    const struct deployment *d = find_wanted(m, l, "ollama");
    struct fault f;

    if (fit_judge(&facts->gpu, "ollama", d ? deployment_facts(d)->version : NULL, lease_name(l), &f) < 0)
        check_add(list, "engine.fit", lease_name(l), d ? "fail" : "warn", NULL, "%s", f.text);
}

static void check_disk(const struct lease *l, const struct machine_facts *m, struct json *list)
{
    char text[TEXT_SHORT_MAX];

    if (m->free_bytes < 0)
        return;
    bytes_format(text, (uint64_t)m->free_bytes);
    if (m->free_bytes >= DISK_LEAST_BYTES)
        check_add(list, "machine.space", lease_name(l), "ok", NULL, "%s free for models in %s", text,
                  m->base);
    else
        check_add(list, "machine.space", lease_name(l), "warn", NULL,
                  "%s free for models in %s: hardly any fits", text, m->base);
}

/* Another one's server keeps the memory of the card, and its own models. On this very host it is our own
 * door. */
static void check_stranger(struct lease *l, const struct machine_facts *m, struct json *list)
{
    const char *who = lease_session(l) ? machine_who_listens(m, OLLAMA_PORT) : NULL;

    if (who && m->ours != OLLAMA_PORT)
        check_add(list, "machine.port", lease_name(l), "warn", NULL,
                  "%s has port %d there and was not started by us: a model it has loaded takes memory", who,
                  OLLAMA_PORT);
}

void check_machine(struct manager *m, struct lease *l, const struct machine_facts *facts, struct json *list)
{
    check_answer(l, facts, list);
    check_chip(l, facts, list);
    check_fit(m, l, facts, list);
    check_disk(l, facts, list);
    check_stranger(l, facts, list);
}

/* ---- forwards ---- */

/* The port of f's target when that is the machine itself. */
static bool is_at_home(const struct forward_view *f, uint16_t *ret_port)
{
    char ip[IP_TEXT_MAX];

    return ip_port_parse(f->target, ip, ret_port) == 0 && ip_is_loopback(ip);
}

unsigned check_ports_of(struct manager *m, const struct lease *l, uint16_t *ret_ports, unsigned n_max)
{
    struct forward_view f;
    unsigned n = 0;

    ret_ports[n++] = OLLAMA_PORT;
    for (unsigned i = 0; n < n_max && manager_forward_at(m, l, i, &f); i++)
        if (is_at_home(&f, &ret_ports[n]))
            n++;
    return n;
}

static void check_taken(const struct lease *l, const struct forward_view *f, struct json *list)
{
    char ip[IP_TEXT_MAX];
    uint16_t port;
    _cleanup_free_ char *owner = ip_port_parse(f->listen, ip, &port) == 0 ? owner_of_port(ip, port) : NULL;

    check_add(list, "forward.port", lease_name(l), "fail",
              check_command("llmhostctl forward remove %s %s", lease_name(l), f->listen),
              "%s leads nowhere: %s%s%s", f->listen, owner ? owner : f->reason,
              owner ? " has that port here" : "", owner ? "" : " here");
}

void check_forward_ports(struct manager *m, const struct lease *l, const struct machine_facts *facts,
                         struct json *list)
{
    struct forward_view f;
    uint16_t port;

    for (unsigned i = 0; manager_forward_at(m, l, i, &f); i++) {
        const char *who = facts && is_at_home(&f, &port) ? machine_who_listens(facts, port) : NULL;

        if (!f.listening)
            check_taken(l, &f, list);
        else if (who)
            check_add(list, "forward.port", lease_name(l), "ok", NULL, "%s leads to %s, where %s listens",
                      f.listen, f.target, who);
        else if (facts && facts->has_answered && is_at_home(&f, &port))
            check_add(list, "forward.port", lease_name(l), "warn", NULL,
                      "%s leads to %s, where nobody listens", f.listen, f.target);
    }
}

void check_need(const struct deployment *d, const struct engine_need *n, struct json *list)
{
    const char *name = deployment_name(d);
    int64_t missing = n->bytes - MAX(n->have_bytes, 0);
    char all[TEXT_SHORT_MAX], more[TEXT_SHORT_MAX], room[TEXT_SHORT_MAX];

    if (n->bytes < 0 || n->free_bytes < 0)
        return;
    bytes_format(all, (uint64_t)n->bytes);
    bytes_format(more, (uint64_t)MAX(missing, 0));
    bytes_format(room, (uint64_t)n->free_bytes);
    if (missing > n->free_bytes)
        check_add(list, "model.space", name, "fail", check_command("llmhostctl down %s --forget", name),
                  "%s, of which %s are to come, and %s are free in %s: it does not fit on the disk of %s",
                  all, more, room, n->models, lease_name(deployment_lease(d)));
    else if (missing > 0)
        check_add(list, "model.space", name, "ok", NULL, "%s, of which %s are to come, and %s are free in %s",
                  all, more, room, n->models);
}

/* ---- models ---- */

/* What is known of where a model is: measured where it could be, else the engine's word. */
void check_memory(const struct deployment *d, struct json *list)
{
    const struct engine_facts *f = deployment_facts(d);
    const char *name = deployment_name(d), *card = f->gpu.n ? f->gpu.cards[0].name : NULL;
    char size[TEXT_SHORT_MAX], vram[TEXT_SHORT_MAX];

    if (deployment_state(d) != DEPLOYMENT_READY || f->size_bytes <= 0)
        return;
    bytes_format(size, (uint64_t)f->size_bytes);
    bytes_format(vram, (uint64_t)MAX(f->size_vram_bytes, 0));
    if (f->gpu.trouble && f->size_vram_bytes <= 0)
        check_add(list, "model.memory", name, "fail", NULL, "%s, all of it on the CPU: %s: %s", size,
                  lease_name(deployment_lease(d)), f->gpu.trouble);
    else if (card && (f->measured == GPU_NOT_USED || f->size_vram_bytes == 0))
        check_add(list, "model.memory", name, "fail",
                  check_command("llmhostctl logs %s --source=engine -n 100", name),
                  "%s, all of it on the CPU although there is a card (%s)%s", size, card,
                  f->size_vram_bytes > 0
                      ? ": it was planned for the card, and the engine could not use it. A part of it is "
                        "missing (lib/ollama), or the driver is too old"
                      : ": it does not fit, or the engine has no part for this card");
    else if (f->measured == GPU_WHOLE && f->size_vram_bytes != 0)
        check_add(list, "model.memory", name, "ok", NULL, "%s, on the GPU (%s), as measured", size,
                  card ? card : "?");
    else if (f->size_vram_bytes < 0)
        return;
    else if (f->size_vram_bytes >= f->size_bytes)
        check_add(list, "model.memory", name, f->measured == GPU_PART ? "warn" : "ok", NULL,
                  f->measured == GPU_PART ? "%s, and a part of it is not on the GPU, as measured"
                                          : "%s, all of it on the GPU as the engine says",
                  size);
    else if (f->size_vram_bytes == 0)
        check_add(list, "model.memory", name, "warn", NULL, "%s, all of it on the CPU: that is slow", size);
    else
        check_add(list, "model.memory", name, "warn", NULL,
                  "%d%% of it runs on the CPU, which is slow: it takes %s, and %s of that fit on the GPU",
                  100 - (int)((double)f->size_vram_bytes * 100 / (double)f->size_bytes), size, vram);
}
