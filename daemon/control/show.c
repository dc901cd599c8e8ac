/* One function per type of the contract. */
#include "control/show.h"

#include <time.h>

#include "base/clock.h"
#include "control/call.h"
#include "control/explain.h"
#include "control/orphans.h"
#include "control/show_rent.h"
#include "control/target.h"
#include "engine/engine.h"
#include "gateway/counts.h"
#include "gateway/gateway.h"
#include "gateway/keys.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/address.h"
#include "proto/arguments.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"
#include "provider/provider.h"
#include "session/session.h"
#include "store/store.h"

/* A tunnel that is away for so long is worth a line. */
#define TUNNEL_TROUBLE_MS 3000
/* A change that is not on disk after so long is worth one, too; at once where only somebody can help. */
#define STORE_TROUBLE_MS 10000

struct json *show_daemon(const struct control_context *k)
{
    struct json *v = json_object();

    json_put_string(v, "version", LLMHOST_VERSION);
    json_put_int(v, "pid", getpid());
    json_put_int(v, "uptime_ms", (int64_t)(clock_now_ms() - k->started_due));
    json_put_string(v, "endpoint", gateway_endpoint(k->gateway));
    json_put_string(v, "gateway_state", gateway_is_listening(k->gateway) ? "listening" : "taken");
    json_put_string(v, "owner", gateway_is_listening(k->gateway) ? NULL : gateway_owner(k->gateway));
    json_put_string(v, "state_directory", k->state_directory);
    return v;
}

const char *show_subject(const struct deployment *d, const struct fault *f)
{
    const struct lease *l = deployment_lease(d);
    const struct fault *refusal = lease_refusal(l);

    if (refusal && streq(refusal->code, f->code) && !streq(f->code, "boot_failed"))
        return rental_subject(l, refusal);
    return rental_is_of_account(l, f) ? rental_subject(l, f) : deployment_name(d);
}

static struct json *next_for(const struct fault *f, const char *subject, const char *model)
{
    struct json *list;
    struct buf next;

    buf_init(&next, 4096);
    explain_next_for(f, subject, model, &next);
    list = explain_lines(buf_text(&next));
    buf_done(&next);
    return list;
}

struct json *show_next(const struct fault *f, const char *subject)
{
    return next_for(f, subject, NULL);
}

static struct json *fault_for(const struct fault *f, const char *target, const char *subject,
                              const char *model, int64_t since_at_ms)
{
    struct json *v = json_object();

    json_put_string(v, "code", explain_code(f));
    json_put_string(v, "target", target);
    json_put_int(v, "exit", explain_status(f));
    json_put_string(v, "message", f->text);
    json_put(v, "next", next_for(f, subject, model));
    if (since_at_ms)
        json_put_int(v, "since_at_ms", since_at_ms);
    return v;
}

struct json *show_fault(const struct fault *f, const char *target, const char *subject, int64_t since_at_ms)
{
    return fault_for(f, target, subject, target && strchr(target, ':') ? target : NULL, since_at_ms);
}

/* until_at_ms 0: without an end. */
static struct json *show_cause(const char *cause, int64_t count, int64_t since_at_ms, int64_t until_at_ms,
                               const char *text)
{
    struct json *v = json_object();

    json_put_string(v, "cause", cause);
    json_put_int(v, "count", count);
    if (since_at_ms)
        json_put_int(v, "since_at_ms", since_at_ms);
    if (until_at_ms)
        json_put_int(v, "until_at_ms", until_at_ms);
    json_put_string(v, "text", text);
    return v;
}

void show_add_cause(struct json *list, const char *cause, int64_t count, int64_t since_at_ms,
                    const char *text)
{
    json_append(list, show_cause(cause, count, since_at_ms, 0, text));
}

void show_add_cause_until(struct json *list, const char *cause, int64_t count, int64_t since_at_ms,
                          int64_t until_at_ms, const char *text)
{
    json_append(list, show_cause(cause, count, since_at_ms, until_at_ms, text));
}

/* What keeps a model in memory that answers, beside requests. */
static void add_ready_causes(struct json *list, const struct deployment_figures *n)
{
    if (n->keep_until_at_ms)
        show_add_cause_until(list, "kept", 1, 0, n->keep_until_at_ms, NULL);
    else if (!n->unload_ms)
        show_add_cause(list, "stays_up", 1, n->since_at_ms, NULL);
    else if (n->min_up_until_at_ms)
        show_add_cause_until(list, "minimum_up", 1, n->since_at_ms, n->min_up_until_at_ms, NULL);
    if (n->sleeps_at_ms)
        show_add_cause_until(list, "idle", 1, MAX(n->last_used_at_ms, n->since_at_ms), n->sleeps_at_ms, NULL);
    if (n->flaps && n->unload_ms && !n->keep_until_at_ms) {
        char after[TEXT_SHORT_MAX];

        show_add_cause(list, "flapping", n->flaps, 0, duration_format(after, n->unload_ms, false));
    }
}

enum deployment_state show_model_state(const struct deployment *d)
{
    enum deployment_state s = deployment_state(d);
    bool moves = (s >= DEPLOYMENT_CONNECTING && s <= DEPLOYMENT_LOADING) || s == DEPLOYMENT_DRAINING ||
                 s == DEPLOYMENT_STOPPING;

    if (moves && deployment_goal(d) == GOAL_OFF && rental_is_doubted(deployment_lease(d)))
        return DEPLOYMENT_OFF;
    return s;
}

struct json *show_causes(const struct deployment *d)
{
    struct json *list = json_array();
    enum deployment_state s = show_model_state(d);
    struct deployment_figures n;

    deployment_figures(d, &n);
    if (n.open)
        show_add_cause(list, "request", n.open, n.open_since_at_ms, NULL);
    if (n.held)
        show_add_cause(list, "held_request", n.held, n.held_since_at_ms, NULL);
    if (s >= DEPLOYMENT_CONNECTING && s <= DEPLOYMENT_LOADING)
        show_add_cause(list, "loading", 1, n.since_at_ms, NULL);
    if (s == DEPLOYMENT_PLACING && deployment_room_text(d))
        show_add_cause(list, "no_room", 1, n.since_at_ms, deployment_room_text(d));
    if (s == DEPLOYMENT_READY)
        add_ready_causes(list, &n);
    return list;
}

struct json *show_restarts(const struct deployment *d)
{
    const struct fault *why;
    int64_t at_ms;
    unsigned deaths = deployment_deaths(d, &why, &at_ms);

    return deaths && deployment_state(d) == DEPLOYMENT_READY
               ? show_cause("engine_restarted", deaths, at_ms, 0, why->text)
               : NULL;
}

static struct json *model_next(const struct deployment *d, const struct deployment_figures *n)
{
    const struct session *way = lease_session(deployment_lease(d));
    struct session_figures tries = {};
    const char *action = "none";
    int64_t at_ms = 0;
    struct fault off;

    switch (show_model_state(d)) {
    case DEPLOYMENT_CONNECTING: action = "retry"; break;
    case DEPLOYMENT_INSTALLING:
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_FETCHING:
    case DEPLOYMENT_LOADING: action = "load"; break;
    case DEPLOYMENT_DRAINING:
        action = "drain_ends";
        at_ms = n->drain_ends_at_ms;
        break;
    case DEPLOYMENT_READY:
        action = n->keep_until_at_ms ? "keep_ends" : n->unload_ms ? "unload" : "none";
        at_ms = n->keep_until_at_ms ? n->keep_until_at_ms : n->sleeps_at_ms;
        if (!lease_is_reachable(deployment_lease(d))) /* it may well be ready, and nobody gets there */
            action = "retry";
        break;
    case DEPLOYMENT_ASLEEP:
        action = lease_needs_hand(deployment_lease(d), &off) ? "switch_on" : "wake";
        break;
    case DEPLOYMENT_STOPPING:
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_FAILED: break;
    }

    struct json *v = json_object();

    if (streq(action, "retry")) {
        if (way)
            session_figures(way, &tries);
        at_ms = tries.next_try_at_ms;
    }
    json_put_string(v, "action", action);
    if (at_ms)
        json_put_int(v, "at_ms", at_ms);
    if (streq(action, "wake") && n->usual_ms)
        json_put_int(v, "usual_ms", (int64_t)n->usual_ms);
    return v;
}

static const char *running_stage(const struct deployment *d)
{
    struct stage_view v;

    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        deployment_stage(d, s, &v);
        if (v.state == STAGE_RUNNING)
            return stage_name(s);
    }
    return NULL;
}

static void put_known(struct json *v, const char *key, int64_t n)
{
    if (n >= 0)
        json_put_int(v, key, n);
}

static void put_facts(struct json *v, const struct deployment *d)
{
    const struct engine_facts *f = deployment_facts(d);
    bool runs = deployment_state(d) == DEPLOYMENT_READY || deployment_state(d) == DEPLOYMENT_DRAINING;

    json_put_string(v, "engine_version", f->version);
    if (f->unverified)
        json_put_bool(v, "engine_unverified", true);
    if (!runs)
        return;
    put_known(v, "pid", f->pid > 0 ? f->pid : -1);
    put_known(v, "size_bytes", f->size_bytes);
    put_known(v, "size_vram_bytes", f->size_vram_bytes);
    put_known(v, "context", f->context);
    json_put_string(v, "processor", gpu_verdict_name(f->measured));
    json_put_string(v, "card", f->gpu.n ? f->gpu.cards[0].name : NULL);
}

/* Why it failed; or it answers, but not as it should. False: all is well. */
static bool model_fault(const struct deployment *d, struct fault *ret)
{
    const struct engine_facts *f = deployment_facts(d);

    *ret = *deployment_fault(d);
    if (ret->kind || deployment_state(d) != DEPLOYMENT_READY || !f->gpu.n)
        return ret->kind;
    if (f->measured == GPU_NOT_USED || f->size_vram_bytes == 0)
        fault_code(ret, FAULT_INVALID, "gpu_unused", "it runs on the CPU alone, although %s has a card (%s)",
                   lease_name(deployment_lease(d)), f->gpu.cards[0].name);
    return ret->kind;
}

struct json *show_model(const struct deployment *d)
{
    struct json *v = json_object();
    struct deployment_figures n;
    struct fault trouble;

    deployment_figures(d, &n);
    json_put_string(v, "name", deployment_name(d));
    json_put_string(v, "id", deployment_id(d));
    json_put_string(v, "engine", deployment_engine(d)->name);
    json_put_string(v, "state", deployment_state_name(show_model_state(d)));
    json_put_string(v, "goal", deployment_goal_name(deployment_goal(d)));
    json_put_string(v, "instance", lease_name(deployment_lease(d)));
    json_put_string(v, "stage", show_model_state(d) == DEPLOYMENT_OFF ? NULL : running_stage(d));
    json_put_int(v, "in_flight", n.open);
    json_put_int(v, "held", n.held);
    json_put_int(v, "requests", n.requests);
    if (deployment_arguments(d))
        json_put(v, "arguments", arguments_show(deployment_arguments(d)));
    json_put(v, "awake", show_causes(d));
    json_put(v, "next", model_next(d, &n));
    put_facts(v, d);
    json_put_int(v, "since_at_ms", n.since_at_ms);
    if (n.last_used_at_ms)
        json_put_int(v, "last_used_at_ms", n.last_used_at_ms);
    struct json *restarted = show_restarts(d);

    if (restarted)
        json_put(v, "restarted", restarted);
    if (model_fault(d, &trouble))
        json_put(v, "trouble", show_fault(&trouble, deployment_name(d), show_subject(d, &trouble), n.since_at_ms));
    return v;
}

static void put_quantiles(struct json *v, const char *p50, const char *p95, const struct histogram *h)
{
    if (!histogram_count(h))
        return;
    json_put_int(v, p50, (int64_t)histogram_quantile_ms(h, 0.5));
    json_put_int(v, p95, (int64_t)histogram_quantile_ms(h, 0.95));
}

struct json *show_counts(const struct control_context *k, const struct deployment *d)
{
    struct json *v = json_object();
    struct count n;

    gateway_counts_of(k->gateway, deployment_name(d), &n);
    json_put_int(v, "errors", (int64_t)n.errors);
    json_put_int(v, "prompt_tokens", (int64_t)n.prompt_tokens);
    json_put_int(v, "answer_tokens", (int64_t)n.answer_tokens);
    json_put_int(v, "request_bytes", (int64_t)n.request_bytes);
    json_put_int(v, "answer_bytes", (int64_t)n.answer_bytes);
    put_quantiles(v, "first_p50_ms", "first_p95_ms", &n.first);
    put_quantiles(v, "total_p50_ms", "total_p95_ms", &n.total);
    return v;
}

static struct json *show_tunnel(const struct session *s)
{
    struct json *v = json_object();
    struct session_figures n = {.rtt_ms = -1};

    if (s)
        session_figures(s, &n);
    json_put_string(v, "state", s ? session_state_name(session_state(s)) : "none");
    if (n.since_at_ms)
        json_put_int(v, "since_at_ms", n.since_at_ms);
    if (n.rtt_ms >= 0)
        json_put(v, "rtt_ms", json_real(n.rtt_ms));
    json_put_int(v, "tries", n.tries);
    if (n.next_try_at_ms)
        json_put_int(v, "next_try_at_ms", n.next_try_at_ms);
    json_put_int(v, "reconnects", n.reconnects);
    if (s && session_fault(s)->kind)
        json_put_string(v, "reason", session_fault(s)->text);
    if (*n.last_break)
        json_put_string(v, "last_break", n.last_break);
    return v;
}

/* NULL: none. */
static struct json *tunnel_trouble(struct lease *l)
{
    struct session *s = lease_session(l);
    struct session_figures n;

    if (!s || session_state(s) == SESSION_UP || session_state(s) == SESSION_IDLE || !session_fault(s)->kind)
        return NULL;
    if (lease_boxed(l) && boxed_state(lease_boxed(l)) == BOXED_OFF && session_state(s) != SESSION_REFUSED)
        return NULL; /* as was to be expected */
    session_figures(s, &n);
    if (session_state(s) != SESSION_REFUSED && n.tries < 2 &&
        clock_wall_ms() - n.since_at_ms < TUNNEL_TROUBLE_MS)
        return NULL;
    return show_fault(session_fault(s), lease_name(l), lease_name(l), n.since_at_ms);
}

bool show_guard_left(const struct lease *l, struct fault *ret)
{
    char at[MINUTE_TEXT_MAX];
    int64_t acts_at_ms;

    if (!lease_leaves_guard(l, &acts_at_ms) || (acts_at_ms && acts_at_ms < clock_wall_ms()))
        return false;
    fault_code(
        ret, FAULT_TRANSIENT, "guard_left",
        "the guard on %s still switches it off %s%s, unless it is reached before: then it is told to end",
        lease_name(l), acts_at_ms ? "at " : "when its lease is over",
        acts_at_ms ? minute_format(at, acts_at_ms) : "");
    return true;
}

const char *show_model_of(struct manager *m, const struct lease *l)
{
    const char *name = NULL;
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++)
        if (deployment_lease(d) == l && (!name || deployment_goal(d) != GOAL_OFF))
            name = deployment_name(d);
    return name;
}

/* All there is of that machine, the worst first: what costs money is. */
static void add_instance_trouble(struct manager *m, struct lease *l, struct json *list)
{
    struct json *tunnel = tunnel_trouble(l);
    int64_t since_at_ms;
    struct fault f;

    for (unsigned i = 0; lease_rented(l) && rental_trouble(l, i, &f, &since_at_ms); i++)
        json_append(list,
                    fault_for(&f, lease_name(l), rental_subject(l, &f), show_model_of(m, l), since_at_ms));
    if (lease_boxed(l) && boxed_trouble(lease_boxed(l))->kind)
        json_append(list, show_fault(boxed_trouble(lease_boxed(l)), lease_name(l), lease_name(l), 0));
    if (guard_is_shared(l, &f))
        json_append(list, show_fault(&f, lease_name(l), lease_name(l), 0));
    if (show_guard_left(l, &f))
        json_append(list, show_fault(&f, lease_name(l), lease_name(l), 0));
    if (tunnel)
        json_append(list, tunnel);
}

static const char *instance_state(const struct lease *l)
{
    if (lease_rented(l))
        return show_rental_state(l);
    return lease_boxed(l) ? boxed_state_name(boxed_state(lease_boxed(l))) : "running";
}

struct json *show_instance(const struct control_context *k, struct lease *l)
{
    const struct instance_record *r = lease_record(l);
    _cleanup_json_ struct json *trouble = json_array();
    struct json *v = json_object();

    json_put_string(v, "name", r->name);
    json_put_string(v, "provider", r->provider);
    json_put_string(v, "state", instance_state(l));
    json_put_bool(v, "rented", lease_provider(l)->rented);
    if (r->host) {
        char address[300];

        json_put_string(v, "address", host_port_format(address, sizeof address, r->host, r->port));
        json_put_string(v, "user", r->user);
        json_put_string(v, "via", r->proxy ? ssh_proxy_via(r->proxy) : NULL);
    }
    if (lease_host_key(l)) {
        char text[FINGERPRINT_BYTES];

        json_put_string(v, "host_key", host_key_fingerprint(lease_host_key(l), text));
    }
    json_put(v, "tunnel", show_tunnel(lease_session(l)));
    if (lease_rented(l))
        json_put(v, "rental", show_rental(k, l));
    if (lease_boxed(l))
        json_put(v, "in_box", show_in_box(k, l));
    add_instance_trouble(k->manager, l, trouble);
    if (json_count(trouble))
        json_put(v, "trouble", json_copy(json_at(trouble, 0)));
    return v;
}

struct json *show_instance_reply(const struct control_context *k, struct lease *l, const char *notes)
{
    struct json *v = json_object();

    json_put(v, "instance", show_instance(k, l));
    json_put(v, "notes", explain_lines(notes));
    return v;
}

/* While the way is looked for: what the last try met. */
static const char *way_text(const struct deployment *d, struct fault *off)
{
    const struct session *way = lease_session(deployment_lease(d));

    if (lease_needs_hand(deployment_lease(d), off))
        return off->text;
    return way && session_fault(way)->kind ? session_fault(way)->text : "";
}

struct json *show_way(const struct deployment *d)
{
    const struct session *way = lease_session(deployment_lease(d));
    struct json *v = json_object();
    struct session_figures n = {};
    struct fault off;

    if (way)
        session_figures(way, &n);
    json_put_string(v, "stage", stage_name(STAGE_SSH));
    json_put_string(v, "state", stage_state_name(STAGE_RUNNING));
    json_put_string(v, "text", way_text(d, &off));
    if (n.since_at_ms)
        json_put_int(v, "took_ms", MAX(clock_wall_ms() - n.since_at_ms, 0));
    return v;
}

struct json *show_progress(const struct deployment *d, enum stage s)
{
    struct stage_view p;
    struct json *v = json_object();
    struct fault off;

    deployment_stage(d, s, &p);
    json_put_string(v, "stage", stage_name(s));
    json_put_string(v, "state", stage_state_name(p.state));
    json_put_string(v, "text", s == STAGE_SSH && p.state == STAGE_RUNNING ? way_text(d, &off) : p.text);
    json_put_int(v, "took_ms", (int64_t)p.took_ms);
    if (p.usual_ms)
        json_put_int(v, "usual_ms", (int64_t)p.usual_ms);
    if (p.next_at_ms)
        json_put_int(v, "next_at_ms", p.next_at_ms);
    put_known(v, "bytes", p.bytes);
    put_known(v, "bytes_total", p.bytes_total);
    put_known(v, "rate_bytes", p.rate_bytes);
    return v;
}

bool show_port_taken(const struct control_context *k, struct fault *ret)
{
    const char *owner = gateway_owner(k->gateway);

    if (gateway_is_listening(k->gateway))
        return false;
    fault_code(ret, FAULT_INVALID, "port_taken", "cannot listen on %s: taken by %s",
               gateway_endpoint(k->gateway), owner ? owner : "another program");
    return true;
}

char *show_port_next(const char *address)
{
    char ip[IP_TEXT_MAX];
    uint16_t port;

    if (ip_port_parse(address, ip, &port) < 0)
        return xstrdup("");
    return xasprintf(strchr(ip, ':') ? "llmhostctl listen [%s]:%u" : "llmhostctl listen %s:%u", ip,
                     port == 11500 ? 11501 : 11500);
}

static struct json *show_port_trouble(const struct control_context *k, const struct fault *f)
{
    _cleanup_free_ char *next = show_port_next(gateway_endpoint(k->gateway) + strlen("http://"));
    struct json *v = show_fault(f, NULL, NULL, 0);

    json_put(v, "next", explain_lines(next));
    return v;
}

static void add_daemon_trouble(const struct control_context *k, struct json *list)
{
    const struct fault *stuck = NULL;
    uint64_t stuck_ms = store_stuck_ms(k->store, &stuck);
    char ago[TEXT_SHORT_MAX], day[TEXT_SHORT_MAX];
    struct fault f;

    if (show_port_taken(k, &f))
        json_append(list, show_port_trouble(k, &f));
    if (gateway_needs_key(k->gateway) && !keys_at(gateway_keys(k->gateway), 0)) {
        fault_code(&f, FAULT_INVALID, "no_api_key",
                   "%s can be reached from other hosts, and there is no API key: every request is refused",
                   gateway_endpoint(k->gateway));
        json_append(list, show_fault(&f, NULL, NULL, 0));
    }
    if (stuck && (stuck_ms > STORE_TROUBLE_MS || *stuck->code)) {
        fault_code(&f, stuck->kind, *stuck->code ? stuck->code : "store",
                   "nothing new has been kept for %s: %s", duration_format(ago, stuck_ms, false),
                   stuck->text);
        json_append(list, show_fault(&f, NULL, k->state_directory, 0));
    }
    if (!clock_was_set(clock_wall_ms())) {
        fault_code(&f, FAULT_INVALID, "clock",
                   "the clock of this host says %.10s: times in logs and events are wrong",
                   rfc3339_format(day, clock_wall_ms()));
        json_append(list, show_fault(&f, NULL, NULL, 0));
    }
}

/* The machine itself is meant, or a model on it. */
static bool is_meant(const struct control_context *k, const struct json *targets, const struct lease *l)
{
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(k->manager, i)); i++)
        if (deployment_lease(d) == l && target_has_model(targets, d))
            return true;
    return target_has_instance(targets, l);
}

struct json *show_trouble(const struct control_context *k, const struct json *targets)
{
    struct json *list = json_array();
    struct deployment *d;
    struct account *a;
    struct lease *l;

    add_daemon_trouble(k, list);
    for (unsigned i = 0; (l = manager_lease_at(k->manager, i)); i++)
        if (is_meant(k, targets, l))
            add_instance_trouble(k->manager, l, list);
    for (unsigned i = 0; (a = manager_account_at(k->manager, i)); i++)
        if (account_trouble(a)->kind && json_count(targets) == 0)
            json_append(list, show_fault(account_trouble(a), account_name(a), account_name(a), 0));
    orphans_add_trouble(k, targets, list);
    for (unsigned i = 0; (d = manager_deployment_at(k->manager, i)); i++) {
        struct deployment_figures n;
        struct fault f;

        deployment_figures(d, &n);
        if (model_fault(d, &f) && target_has_model(targets, d))
            json_append(list, show_fault(&f, deployment_name(d), show_subject(d, &f), n.since_at_ms));
    }
    return list;
}

struct json *show_line(int64_t at_ms, const char *source, const char *target, const char *level,
                       const char *kind, const char *text)
{
    struct json *v = json_object();

    if (at_ms)
        json_put_int(v, "at_ms", at_ms);
    json_put_string(v, "source", source);
    if (target && *target)
        json_put_string(v, "target", target);
    json_put_string(v, "level", level);
    json_put_string(v, "kind", kind);
    json_put_string(v, "text", text);
    return v;
}
