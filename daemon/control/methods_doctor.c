/* Doctor: checks of the daemon, the instances and the models. Machines that are reached just now are asked
 * what they are (checks.c), all at once and not for long; the rest is what is known already. A check that
 * nothing is known for is left out: "ok" is never a guess. */
#include <errno.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/op.h"
#include "base/settings.h"
#include "base/timer.h"
#include "control/checks.h"
#include "control/checks_rent.h"
#include "control/machines.h"
#include "control/methods.h"
#include "control/show.h"
#include "control/target.h"
#include "engine/engine.h"
#include "engine/machine.h"
#include "engine/need.h"
#include "gateway/gateway.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/json.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"
#include "session/session.h"
#include "ssh/key.h"
#include "store/store.h"

/* Less is a few days of events, or one database being rewritten. */
#define SPACE_LEAST_BYTES (100 * 1000 * 1000)
/* So long after the key was first put there, a login is not the one that put it. */
#define FIRST_LOGIN_MS 60000

static bool is_healthy(const struct json *list)
{
    for (size_t i = 0; i < json_count(list); i++)
        if (streq(json_get_text(json_at(list, i), "level"), "fail"))
            return false;
    return true;
}

/* ---- the daemon ---- */

static void check_clock(struct json *list, int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    char day[24];
    struct tm tm;

    strftime(day, sizeof day, "%Y-%m-%d", localtime_r(&seconds, &tm));
    if (clock_was_set(wall_ms))
        check_add(list, "daemon.clock", NULL, "ok", NULL, "the clock of this host says %s", day);
    else
        check_add(list, "daemon.clock", NULL, "fail", check_command("timedatectl set-ntp true"),
                  "the clock of this host says %s: times in logs and events are wrong", day);
}

static void check_space(struct json *list, const char *directory, uint64_t bytes)
{
    char text[TEXT_SHORT_MAX];

    bytes_format(text, bytes);
    if (bytes >= SPACE_LEAST_BYTES)
        check_add(list, "store.space", NULL, "ok", NULL, "%s free for %s", text, directory);
    else
        check_add(list, "store.space", NULL, "warn", NULL,
                  "%s free for %s: without room what you change is not kept", text, directory);
}

static void check_store(const struct call *c, struct json *list)
{
    const char *directory = c->context->state_directory;
    const struct fault *stuck = NULL;
    struct statvfs disk;

    if (store_stuck_ms(c->context->store, &stuck) && stuck)
        check_add(list, "store.writable", NULL, "fail", check_command("df -h %s", directory),
                  "changes do not reach the disk: %s", stuck->text);
    else
        check_add(list, "store.writable", NULL, "ok", NULL, "the database in %s is written", directory);
    if (statvfs(directory, &disk) == 0)
        check_space(list, directory, (uint64_t)disk.f_bavail * disk.f_frsize);
}

static void check_library(struct json *list)
{
    const char *version = ssh_library_version();

    check_add(list, "ssh.library", NULL, "ok", NULL, "libssh2 %s%s", version,
              ssh_library_has_rsa() ? "" : ": a server whose only host key is RSA is out of its reach");
}

/* What a person's service needs to outlive the person's last terminal. */
static void check_linger(const struct call *c, struct json *list)
{
    const char *file = c->context->linger_file;

    if (!file)
        return;
    if (access(file, F_OK) == 0)
        check_add(list, "daemon.linger", NULL, "ok", NULL, "goes on when you log out (lingering is enabled)");
    else
        check_add(list, "daemon.linger", NULL, "warn", check_command("loginctl enable-linger"),
                  "ends when you log out, and all tunnels with it: lingering is not enabled");
}

/* What a hook runs is called in the night of all times: whether it could is better known before. */
static void check_hook(const struct settings *s, const char *name, struct json *list)
{
    _cleanup_free_ char *section = xasprintf("hook.%s", name);
    const char *command = settings_text(s, section, "command");
    struct stat st;

    if (!command)
        return; /* emptied by a later file: it is not run */
    if (stat(command, &st) < 0)
        check_add(list, "hook.command", NULL, "fail", check_command("ls -l %s", command),
                  "hook \"%s\" cannot be run: %s: %s", name, command, strerror(errno));
    else if (!S_ISREG(st.st_mode) || access(command, X_OK) < 0)
        check_add(list, "hook.command", NULL, "fail", check_command("chmod +x %s", command),
                  "hook \"%s\" cannot be run: %s is no program that the daemon may execute", name, command);
    else
        check_add(list, "hook.command", NULL, "ok", NULL, "hook \"%s\" runs %s", name, command);
}

static void check_hooks(const struct settings *s, struct json *list)
{
    const char *name;

    for (unsigned i = 0; (name = settings_hook_at(s, i)); i++)
        check_hook(s, name, list);
}

static void check_daemon(const struct call *c, struct json *list)
{
    struct fault taken;

    check_add(list, "daemon.running", NULL, "ok", NULL, "llmhostd %s, control socket %s %04o",
              LLMHOST_VERSION, c->context->socket_path, c->context->socket_mode);
    check_linger(c, list);
    check_clock(list, clock_wall_ms());
    if (show_port_taken(c->context, &taken))
        check_add(list, "gateway.port", NULL, "fail", NULL, "%s", taken.text);
    else
        check_add(list, "gateway.port", NULL, "ok", NULL, "%s is ours",
                  gateway_endpoint(c->context->gateway));
    check_store(c, list);
    check_library(list);
    check_hooks(c->context->settings, list);
}

/* ---- instances ---- */

static void check_host_key(struct lease *l, struct json *list)
{
    const struct host_key *shown = session_shown_key(lease_session(l));
    const char *name = lease_name(l);
    char expected[FINGERPRINT_BYTES], got[FINGERPRINT_BYTES];

    if (!lease_host_key(l))
        return;
    host_key_fingerprint(lease_host_key(l), expected);
    if (!shown || !shown->n || host_key_equal(shown, lease_host_key(l))) {
        check_add(list, "ssh.host_key", name, "ok", NULL, "host key %s pinned", expected);
        return;
    }
    host_key_fingerprint(shown, got);
    check_add(
        list, "ssh.host_key", name, "fail",
        check_command("llmhostctl doctor %s --accept-new-host-key=%s", name, got),
        "shows another host key than before: expected %s, got %s; if you re-installed it, accept the new one",
        expected, got);
}

static bool is_password(const char *method)
{
    return method && (streq(method, "password") || streq(method, "keyboard-interactive"));
}

/* Our key goes there at the first login, so that later ones need no password. */
static void check_login(const struct lease *l, const struct session_figures *n, struct json *list)
{
    const struct instance_record *r = lease_record(l);
    const char *name = lease_name(l);

    check_add(list, "ssh.session", name, "ok", NULL, "ssh is up%s%s, logged in by %s",
              r->proxy ? " through " : "", r->proxy ? ssh_proxy_via(r->proxy) : "",
              n->method ? n->method : "?");
    if (n->is_single)
        check_add(list, "ssh.sessions", name, "warn", NULL,
                  "its sshd runs one command at a time (MaxSessions 1 in its sshd_config): it works, and "
                  "what is asked of it "
                  "waits in line");
    if (is_password(n->method) && r->install_key && n->since_at_ms > r->host_key_at_ms + FIRST_LOGIN_MS)
        check_add(list, "ssh.own_key", name, "warn",
                  check_command("llmhostctl logs %s --source=session", name),
                  "the password is used at each login: our own key did not work there "
                  "(~/.ssh/authorized_keys, PubkeyAuthentication)");
}

static void check_session(struct lease *l, struct json *list)
{
    struct session *s = lease_session(l);
    const char *name = lease_name(l);
    struct session_figures n;

    check_host_key(l, list);
    session_figures(s, &n);
    if (session_state(s) == SESSION_UP)
        check_login(l, &n, list);
    else
        check_add(list, "ssh.session", name, "fail", check_command("llmhostctl logs %s", name),
                  "ssh is %s: %s",
                  session_state(s) == SESSION_REFUSED ? "refused"
                  : session_fault(s)->kind            ? "down"
                                                      : "connecting",
                  session_fault(s)->kind ? session_fault(s)->text : "no try has ended yet");
}

static bool is_forbidden(const struct deployment *d)
{
    const char *code = deployment_fault(d)->code;

    return streq(code, "forwarding_forbidden") || streq(code, "forbidden");
}

/* Known from the models, where it was not asked: one that is ready is asked through a forward every few
 * seconds. */
static void check_forwards(struct manager *m, struct lease *l, const struct machine_facts *facts,
                           struct json *list)
{
    const struct deployment *forbidden = NULL, *ready = NULL;
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++) {
        if (deployment_lease(d) != l)
            continue;
        if (is_forbidden(d))
            forbidden = d;
        else if (deployment_state(d) == DEPLOYMENT_READY)
            ready = d;
    }
    if (facts && facts->forbids_forwards)
        check_add(list, "ssh.forwards", lease_name(l), "fail", NULL, MACHINE_FORBIDS, lease_name(l));
    else if (forbidden)
        check_add(list, "ssh.forwards", lease_name(l), "fail", NULL, "%s", deployment_fault(forbidden)->text);
    else if ((ready || facts) && session_state(lease_session(l)) == SESSION_UP)
        check_add(list, "ssh.forwards", lease_name(l), "ok", NULL, "forwards allowed");
}

static bool is_engine_missing(const struct deployment *d)
{
    return streq(deployment_fault(d)->code, "engine_missing");
}

/* Of the models wanted on l the one that knows most about its engine; NULL: none. */
static const struct deployment *find_engine(struct manager *m, struct lease *l, const char *engine)
{
    const struct deployment *best = NULL;
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++) {
        bool meant = deployment_lease(d) == l && deployment_goal(d) != GOAL_OFF &&
                     streq(deployment_engine(d)->name, engine);

        if (meant &&
            (!best || is_engine_missing(d) || (deployment_facts(d)->path && !is_engine_missing(best))))
            best = d;
    }
    return best;
}

static void check_engines(struct manager *m, struct lease *l, struct json *list)
{
    const char *engine;

    for (unsigned i = 0; (engine = engine_name_at(i)); i++) {
        const struct deployment *d = find_engine(m, l, engine);
        const struct engine_facts *f = d ? deployment_facts(d) : NULL;

        if (d && is_engine_missing(d))
            check_add(list, "engine.found", lease_name(l), "fail",
                      check_command("llmhostctl up %s", deployment_name(d)), "%s", deployment_fault(d)->text);
        else if (f && f->path)
            check_add(list, "engine.found", lease_name(l), f->unverified ? "warn" : "ok", NULL,
                      "%s%s%s at %s%s", engine, f->version ? " " : "", f->version ? f->version : "", f->path,
                      f->unverified ? ", which was not verified: nobody knew its hash (up --unverified)"
                                    : "");
    }
}

/* facts NULL: it could not be asked. */
static void check_instance(struct manager *m, struct lease *l, const struct machine_facts *facts,
                           struct json *list)
{
    if (lease_rented(l))
        check_rented(l, list);
    if (lease_boxed(l))
        check_boxed(l, list);
    if (machine_is_off(l) && lease_boxed(l))
        return;
    if (lease_rented(l) && life_state(rented_life(lease_rented(l))) != LIFE_RUNNING)
        return; /* nobody gets in, and what was known is of another boot */
    if (lease_session(l)) {
        check_session(l, list);
        check_forwards(m, l, facts, list);
    } else {
        check_add(list, "instance.local", lease_name(l), "ok", NULL, "this very host");
    }
    if (facts)
        check_machine(m, l, facts, list);
    check_engines(m, l, list);
    check_forward_ports(m, l, facts, list);
}

/* ---- asking the machines ---- */

/* What takes longer than this is left out. */
#define PATIENCE_MS 15000
#define ORPHANS_MAX 8

struct visit {
    struct list node;
    struct call *call;
    char *instance, *model; /* model NULL: the machine itself is asked */
    char *account;          /* else the provider is asked */
    struct op *op;
    int64_t balance_milli;
    struct fault refusal; /* of the provider */
    bool is_list;         /* of its machines, not of its balance */
    struct instance_seen orphans[ORPHANS_MAX];
    unsigned n_orphans;
    struct machine_facts facts;
    struct engine_need need;
    bool is_over;
};

struct doctor {
    struct list visits;
    struct timer *patience;
};

static void visit_free(struct visit *v)
{
    op_cancel(&v->op);
    list_remove(&v->node);
    free(v->instance);
    free(v->model);
    free(v->account);
    free(v);
}

static void doctor_drop(struct call *c)
{
    struct doctor *d = c->state;
    struct visit *v;

    while ((v = LIST_FIRST(&d->visits, struct visit, node))) {
        visit_free(v);
    }
    timer_free(d->patience);
    free(d);
}

static void doctor_report(struct call *c);

static void on_looked(void *ctx)
{
    struct visit *v = ctx;
    struct doctor *d = v->call->state;

    v->is_over = true;
    LIST_FOREACH (other, &d->visits, struct visit, node)
        if (!other->is_over)
            return;
    doctor_report(v->call);
}

static void on_patience(void *ctx)
{
    doctor_report(ctx);
}

static void on_balance(void *ctx, int64_t milli, const struct fault *f)
{
    struct visit *v = ctx;

    v->balance_milli = milli;
    if (f)
        v->refusal = *f;
    on_looked(v);
}

/* Machines that were rented from here, and that nothing here knows any more: a database was lost. */
static void on_machines(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    struct visit *v = ctx;
    struct manager *m = v->call->context->manager;
    struct account *a = manager_find_account(m, v->account);

    if (a && !f)
        account_listed(a, seen, n);
    for (unsigned i = 0; a && !f && i < n && v->n_orphans < ORPHANS_MAX; i++)
        if (manager_is_orphan(m, &seen[i]))
            v->orphans[v->n_orphans++] = seen[i];
    on_looked(v);
}

/* l NULL: it leads to an account. */
static struct visit *visit_new(struct call *c, struct doctor *d, const struct lease *l)
{
    struct visit *v = xnew(struct visit);

    v->call = c;
    v->instance = l ? xstrdup(lease_name(l)) : NULL;
    list_init(&v->node);
    list_append(&d->visits, &v->node);
    return v;
}

/* What is to come to it, beside. */
static void visit_models(struct call *c, struct doctor *d, const struct lease *l)
{
    const char *target = json_get_text(c->parameters, "target");
    struct deployment *m;

    for (unsigned i = 0; (m = manager_deployment_at(c->context->manager, i)); i++) {
        if (deployment_lease(m) != l || (target && !target_is_model(target, m)))
            continue;
        struct visit *v = visit_new(c, d, l);

        v->model = xstrdup(deployment_name(m));
        if (!deployment_ask_need(m, &v->need, &v->op, on_looked, v))
            visit_free(v);
    }
}

static void visit_begin(struct call *c, struct doctor *d, struct lease *l)
{
    struct visit *v = visit_new(c, d, l);
    uint16_t ports[MACHINE_PORTS_MAX];
    unsigned n = check_ports_of(c->context->manager, l, ports, MACHINE_PORTS_MAX);

    machine_look(lease_host(l), ports, n, &v->facts, &v->op, on_looked, v);
}

static void visit_account(struct call *c, struct doctor *d, struct account *a)
{
    struct visit *v = visit_new(c, d, NULL);

    v->account = xstrdup(account_name(a));
    account_ask_balance(a, &v->op, on_balance, v);
    v = visit_new(c, d, NULL);
    v->account = xstrdup(account_name(a));
    v->is_list = true;
    account_ops(a)->list(account_rental(a), &v->op, on_machines, v);
}

/* What was asked may have been removed meanwhile, and another one come under its name: it is the answer of a
 * machine that is there. NULL: none. */
static const struct machine_facts *doctor_facts(const struct doctor *d, const struct lease *l)
{
    LIST_FOREACH (v, &d->visits, struct visit, node)
        if (v->is_over && v->instance && !v->model && streq(v->instance, lease_name(l)))
            return &v->facts;
    return NULL;
}

static const struct engine_need *doctor_need(const struct doctor *d, const struct deployment *m)
{
    LIST_FOREACH (v, &d->visits, struct visit, node)
        if (v->is_over && v->model && streq(v->model, deployment_name(m)) &&
            streq(v->instance, lease_name(deployment_lease(m))))
            return &v->need;
    return NULL;
}

static void check_accounts(struct manager *m, const struct doctor *d, struct json *list)
{
    static const struct fault late = {.kind = FAULT_TRANSIENT, .text = "it did not answer in time"};

    LIST_FOREACH (v, &d->visits, struct visit, node) {
        const struct account *a = v->account ? manager_find_account(m, v->account) : NULL;

        for (unsigned i = 0; a && i < v->n_orphans; i++)
            check_orphan(a, &v->orphans[i], list);
        if (a && !v->is_list)
            check_account(a, v->balance_milli,
                          !v->is_over       ? &late
                          : v->refusal.kind ? &v->refusal
                                            : NULL,
                          list);
    }
}

/* The instance is meant by target (NULL: all are), or a model on it. */
static bool is_meant(struct manager *m, const char *target, const struct lease *l)
{
    bool meant = !target || target_is_instance(target, l);
    struct deployment *d;

    for (unsigned k = 0; !meant && (d = manager_deployment_at(m, k)); k++)
        meant = deployment_lease(d) == l && target_is_model(target, d);
    return meant;
}

/* ---- models ---- */

static void check_models(struct manager *m, const struct doctor *doctor, const char *target,
                         struct json *list)
{
    struct deployment *d;

    for (unsigned i = 0; (d = manager_deployment_at(m, i)); i++) {
        if (target && !target_is_model(target, d))
            continue;
        /* What is wrong with the machine is said there. */
        if (deployment_fault(d)->kind && !is_engine_missing(d) && !is_forbidden(d))
            check_add(list, "model.state", deployment_name(d), "fail",
                      show_next(deployment_fault(d), show_subject(d, deployment_fault(d))), "%s", deployment_fault(d)->text);
        check_memory(d, list);
        const struct engine_need *need = doctor_need(doctor, d);

        if (need)
            check_need(d, need, list);
    }
}

/* ---- the verb ---- */

/* fingerprint is pinned. */
static void doctor_accepted(struct call *c, struct lease *l, const char *fingerprint, store_ticket t)
{
    struct json *v = json_object(), *list = json_array();

    call_log_change(c, lease_name(l), "new host key accepted");
    check_add(list, "ssh.host_key", lease_name(l), "ok", NULL, "the host key %s is pinned now; connecting",
              fingerprint);
    json_put_bool(v, "healthy", true);
    json_put(v, "checks", list);
    call_reply_after(c, t, v, "the host key is accepted, but not on disk yet");
}

static void doctor_accept(struct call *c, struct lease *l, const char *fingerprint)
{
    store_ticket t;
    int r = lease_accept_host_key(l, fingerprint, &t);

    if (r == 0) {
        doctor_accepted(c, l, fingerprint, t);
    } else if (r == -ENOENT) {
        call_fail(c, EXIT_CONFLICT, "no_new_host_key", lease_name(l), NULL, "llmhostctl doctor",
                  "%s shows no other host key than the pinned one", lease_name(l));
    } else {
        char got[FINGERPRINT_BYTES];

        host_key_fingerprint(session_shown_key(lease_session(l)), got);
        _cleanup_free_ char *why = xasprintf("it shows %s", got);

        call_fail(c, EXIT_TUNNEL, "host_key", lease_name(l), why, "", "not accepted: %s does not show %s",
                  lease_name(l), fingerprint);
    }
}

static void doctor_report(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    struct manager *m = c->context->manager;
    struct json *v = json_object(), *list = json_array();
    struct lease *l;

    if (!target)
        check_daemon(c, list);
    check_accounts(m, c->state, list);
    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (is_meant(m, target, l))
            check_instance(m, l, doctor_facts(c->state, l), list);
    check_models(m, c->state, target, list);
    json_put_bool(v, "healthy", is_healthy(list));
    json_put(v, "checks", list);
    call_reply(c, v);
}

static void doctor_begin(struct call *c, const char *target)
{
    struct doctor *d = xnew(struct doctor);
    struct manager *m = c->context->manager;
    struct account *a;
    struct lease *l;

    list_init(&d->visits);
    c->state = d;
    c->drop = doctor_drop;
    for (unsigned i = 0; (l = manager_lease_at(m, i)); i++)
        if (is_meant(m, target, l) && lease_is_reachable(l)) {
            visit_begin(c, d, l);
            visit_models(c, d, l);
        }
    for (unsigned i = 0; !target && (a = manager_account_at(m, i)); i++)
        visit_account(c, d, a);
    if (list_is_empty(&d->visits)) {
        doctor_report(c);
        return;
    }
    d->patience = timer_new(c->context->loop, on_patience, c);
    timer_arm(d->patience, PATIENCE_MS);
}

/* l NULL: target is no instance. */
static void doctor_drill(struct call *c, struct lease *l)
{
    const char *target = json_get_text(c->parameters, "target");

    if (l)
        drill_begin(c, l);
    else
        call_fail(c, target ? EXIT_NOT_FOUND : EXIT_USAGE, "not_found", target, NULL,
                  "llmhostctl instance list", "a drill is of one rented instance%s%s",
                  target ? ", and there is none called " : "", target ? target : "");
}

void method_doctor(struct call *c)
{
    const char *target = json_get_text(c->parameters, "target");
    const char *fingerprint = json_get_text(c->parameters, "accept_new_host_key");
    struct lease *l = target ? manager_find_lease(c->context->manager, target) : NULL;

    if (fingerprint && !l) {
        call_fail(c, target ? EXIT_NOT_FOUND : EXIT_USAGE, "not_found", target, NULL,
                  "llmhostctl instance list", "a host key is accepted for one instance%s%s",
                  target ? ", and there is none called " : "", target ? target : "");
        return;
    }
    if (fingerprint) {
        doctor_accept(c, l, fingerprint);
        return;
    }
    if (json_get_bool(c->parameters, "drill", false)) {
        doctor_drill(c, l);
        return;
    }
    if (target && !target_check_one(c, target))
        return;

    doctor_begin(c, target);
}
