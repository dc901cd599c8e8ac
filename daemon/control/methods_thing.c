/* Instances and forwards: things that come and go by verbs. */
#include "control/methods.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/settings.h"
#include "control/adopt.h"
#include "control/explain.h"
#include "control/show.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/address.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/ssh_command.h"
#include "proto/ssh_proxy.h"
#include "proto/text.h"
#include "provider/known_host.h"
#include "provider/provider.h"
#include "session/session.h"
#include "store/secrets.h"
#include "store/store.h"

/* NULL after the call was answered. */
static struct lease *find_lease(struct call *c, const char *name)
{
    struct lease *l = manager_find_lease(c->context->manager, name);

    if (!l)
        call_fail(c, EXIT_NOT_FOUND, "not_found", name, NULL, "llmhostctl instance list",
                  "no instance \"%.60s\"", name);
    return l;
}

/* ---- instances ---- */

static const char *secret_text(const struct json *parameters, const char *key)
{
    return json_get_text(json_get(parameters, key), "text");
}

static void put_secret(struct json *v, const char *key, const char *text)
{
    struct json *secret = json_object();

    json_put_string(secret, "text", text);
    json_put(v, key, secret);
}

/* One of that name is there: another address for it, but this host has none. */
static char *exists_next(struct manager *m, const char *name)
{
    struct lease *l = manager_find_lease(m, name);

    if (l && !lease_session(l))
        return xasprintf("llmhostctl instance show %s", name);
    return xasprintf("llmhostctl instance list\nllmhostctl instance set %s 'ssh -p PORT USER@HOST'", name);
}

static void on_instance_added(void *ctx, struct lease *l, const char *notes, const struct fault *f)
{
    struct call *c = ctx;
    const char *name = json_get_text(c->parameters, "name");

    if (f) {
        /* There is no such instance to look at: what helps is the same command once more. */
        _cleanup_free_ char *next =
            xasprintf("llmhostctl instance add %s 'ssh -p PORT USER@HOST'%s",
                      streq(f->code, "bad_name") ? "NAME" : name,
                      streq(f->code, "passphrase_needed") ? " --passphrase-file FILE" : "");
        _cleanup_free_ char *set = exists_next(c->context->manager, name);

        call_fail(c, explain_status(f), explain_code(f), name, NULL, streq(f->code, "exists") ? set : next,
                  "%s was not added: %s", name, f->text);
        return;
    }
    const struct known_host *where = known_host_find(lease_record(l)->host);
    struct json *v = show_instance_reply(c->context, l, notes);

    if (where && where->shutdown_ends_bill && !json_get_text(c->parameters, "stop"))
        json_put_string(v, "offers_stop", where->title);
    call_reply(c, v);
}

/* Somebody has to do something before it goes on. */
static void on_instance_waits(void *ctx, const char *text)
{
    struct call *c = ctx;
    struct json *v = json_object(), *progress = json_object();

    if (!c->more) {
        json_free(v);
        json_free(progress);
        return;
    }
    json_put_string(progress, "stage", "ssh");
    json_put_string(progress, "state", "running");
    json_put_string(progress, "text", text);
    json_put(v, "progress", progress);
    call_reply_more(c, v);
}

/* 0, or the call was answered. */
static int read_options(struct call *c, struct manager_new_instance *w)
{
    const struct json *options = json_get(c->parameters, "options");

    for (size_t i = 0; i < json_count(options); i++) {
        const char *key = json_key_at(options, i), *value = json_text(json_at(options, i));
        char *end;
        long port;

        if (streq(key, "host")) {
            w->host = value;
        } else if (streq(key, "user")) {
            w->user = value;
        } else if (streq(key, "agent")) {
            w->agent = value;
        } else if (streq(key, "jump")) {
            w->jump = value;
        } else if (streq(key, "port") && (port = strtol(value, &end, 10)) > 0 && port < 65536 && !*end) {
            w->port = (uint16_t)port;
        } else {
            _cleanup_free_ char *where = xasprintf("options.%s", key);

            call_invalid_parameter(c, where);
            return -1;
        }
    }
    return 0;
}

/* 0, or the call was answered. */
static int read_new_instance(struct call *c, bool install_key, struct manager_new_instance *ret)
{
    const struct json *p = c->parameters;

    *ret = (struct manager_new_instance){
        .name = json_get_text(p, "name"),
        .provider = json_get_text(p, "provider"),
        .command = json_get_text(p, "command"),
        .password = secret_text(p, "password"),
        .key = secret_text(p, "key"),
        .passphrase = secret_text(p, "passphrase"),
        .proxy_command = secret_text(p, "proxy_command"),
        .install_key = json_get_bool(p, "install_key", install_key),
        .accept_new_host_key = json_get_text(p, "accept_new_host_key"),
        .stop = json_get_text(p, "stop"),
        .waits = on_instance_waits,
    };
    return read_options(c, ret);
}

void method_instance_add(struct call *c)
{
    struct manager_new_instance w;

    if (adopt_is_meant(c)) {
        adopt_instance(c);
        return;
    }
    if (read_new_instance(c, settings_bool(c->context->settings, "ssh", "install_key"), &w) < 0)
        return;
    call_log_change(c, w.name, "instance add");
    manager_add_instance(c->context->manager, &w, &c->op, on_instance_added, c);
}

/* What helps is the same command once more, with the word that was missing or wrong. */
static char *set_again(const char *name, const struct fault *f)
{
    if (streq(f->code, "no_address"))
        return xasprintf("llmhostctl instance add NAME 'ssh -p PORT USER@HOST'");

    const char *words = streq(f->code, "passphrase_needed") ? "--passphrase-file FILE"
                        : streq(f->code, "login_refused")   ? "--password-file F"
                        : streq(f->code, "jump_refused")    ? "--jump=USER@HOST"
                        : streq(f->code, "host_key")
                            ? "'ssh -p PORT USER@HOST' --accept-new-host-key=SHA256:..."
                            : "'ssh -p PORT USER@HOST'";

    return xasprintf("llmhostctl instance set %s %s", name, words);
}

static void on_instance_changed(void *ctx, struct lease *l, const char *notes, const struct fault *f)
{
    struct call *c = ctx;
    const char *name = json_get_text(c->parameters, "name");

    if (f) {
        _cleanup_free_ char *next = set_again(name, f);

        call_fail(c, explain_status(f), explain_code(f), name, NULL, next, "%s stays as it was: %s", name,
                  f->text);
        return;
    }
    call_reply(c, show_instance_reply(c->context, l, notes));
}

/* It has no way that would have to be tried. */
static bool is_stop_alone(const struct json *parameters)
{
    for (size_t i = 0; i < json_count(parameters); i++)
        if (!streq(json_key_at(parameters, i), "name") && !streq(json_key_at(parameters, i), "stop"))
            return false;
    return json_get_text(parameters, "stop");
}

/* Its guard is ended, or it is said that it lives on. */
static void on_stop_set(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    struct lease *l = find_lease(c, json_get_text(c->parameters, "name"));
    struct fault left;

    if (!l)
        return;
    call_reply_after(c, *(store_ticket *)c->state,
                     show_instance_reply(c->context, l, f && show_guard_left(l, &left) ? left.text : ""),
                     "it is so from now on, but not on disk yet");
}

static void drop_state(struct call *c)
{
    free(c->state);
}

static void instance_set_stop(struct call *c, struct lease *l)
{
    const char *stop = json_get_text(c->parameters, "stop");
    struct fault f = {0};
    store_ticket ticket;

    if (manager_set_stop(c->context->manager, l, stop, &ticket, &f) < 0) {
        call_fault(c, &f, lease_name(l), NULL);
        return;
    }
    call_log_change(c, lease_name(l), "instance set --stop=%s", stop);
    c->state = xnew(store_ticket);
    *(store_ticket *)c->state = ticket;
    c->drop = drop_state;
    lease_wait_freed(l, &c->op, on_stop_set, c);
}

void method_instance_set(struct call *c)
{
    struct lease *l = find_lease(c, json_get_text(c->parameters, "name"));
    struct manager_new_instance w;

    if (l && is_stop_alone(c->parameters)) {
        instance_set_stop(c, l);
        return;
    }
    if (!l || read_new_instance(c, lease_record(l)->install_key, &w) < 0)
        return;
    call_log_change(c, w.name, "instance set");
    manager_change_instance(c->context->manager, &w, &c->op, on_instance_changed, c);
}

void method_instance_list(struct call *c)
{
    struct lease *l;

    if (json_get_text(c->parameters, "at")) {
        adopt_list(c);
        return;
    }
    struct json *v = json_object(), *list = json_array();

    for (unsigned i = 0; (l = manager_lease_at(c->context->manager, i)); i++)
        json_append(list, show_instance(c->context, l));
    json_put(v, "instances", list);
    call_reply(c, v);
}

static bool is_jump(const struct instance_record *r)
{
    return r->proxy && streq(ssh_proxy_option(r->proxy), "ProxyJump");
}

/* As it was asked for. */
static void put_rental_settings(struct json *settings, const struct rental_record *r)
{
    char cards[16], disk[32], price[32];

    snprintf(cards, sizeof cards, "%u", r->cards);
    snprintf(disk, sizeof disk, "%u GB", r->disk_gb);
    snprintf(price, sizeof price, "%lld.%03lld", (long long)(r->max_price_milli / 1000),
             (long long)(r->max_price_milli % 1000));
    json_put_string(settings, "gpu", r->gpu);
    json_put_string(settings, "cards", cards);
    json_put_string(settings, "image", r->image);
    json_put_string(settings, "region", r->region);
    json_put_string(settings, "disk", r->disk_gb ? disk : NULL);
    json_put_string(settings, "max_price", r->max_price_milli ? price : NULL);
}

void method_instance_show(struct call *c)
{
    struct lease *l = find_lease(c, json_get_text(c->parameters, "name"));
    struct deployment *d;

    if (!l)
        return;
    const struct instance_record *r = lease_record(l);
    struct json *v = json_object(), *settings = json_object(), *models = json_array();
    char at[TEXT_SHORT_MAX], port[16];

    json_put_string(settings, "provider", r->provider);
    json_put_string(settings, "added", rfc3339_format(at, r->added_at_ms));
    if (r->host) {
        snprintf(port, sizeof port, "%u", r->port);
        json_put_string(settings, "host", r->host);
        json_put_string(settings, "port", port);
        json_put_string(settings, "user", r->user);
        json_put_string(settings, "install_key", r->install_key ? "yes" : "no");
        json_put_string(settings, "agent", r->agent);
        json_put_string(settings, "stop", lease_rented(l) ? NULL : lease_boxed(l) ? r->stop : "never");
        if (is_jump(r))
            json_put_string(settings, "jump", ssh_proxy_value(r->proxy));
    }
    if (lease_rented(l))
        put_rental_settings(settings, rented_record(lease_rented(l)));
    for (unsigned i = 0; (d = manager_deployment_at(c->context->manager, i)); i++)
        if (deployment_lease(d) == l)
            json_append_string(models, deployment_name(d));
    json_put(v, "instance", show_instance(c->context, l));
    json_put(v, "settings", settings);
    json_put(v, "models", models);
    if (r->proxy && !is_jump(r))
        put_secret(v, "proxy_command", ssh_proxy_value(r->proxy));
    call_reply(c, v);
}

/* The command that shows the secret there is instead; NULL: none. Caller frees. */
static char *stored_secret(const struct call *c, const struct lease *l)
{
    static const char *const kinds[] = {"password", "key", "passphrase"};

    for (size_t i = 0; i < ELEMENTS(kinds); i++) {
        _cleanup_secret_ char *text = NULL;

        if (secrets_get(c->context->secrets, lease_name(l), kinds[i], &text) >= 0)
            return xasprintf("llmhostctl instance secret %s %s", lease_name(l), kinds[i]);
    }
    return NULL;
}

void method_instance_secret(struct call *c)
{
    const char *kind = json_get_text(c->parameters, "kind");
    struct lease *l = find_lease(c, json_get_text(c->parameters, "name"));
    _cleanup_secret_ char *text = NULL;

    if (!l)
        return;
    if (!streq(kind, "password") && !streq(kind, "key") && !streq(kind, "passphrase")) {
        call_invalid_parameter(c, "kind");
        return;
    }
    if (secrets_get(c->context->secrets, lease_name(l), kind, &text) < 0) {
        _cleanup_free_ char *next = stored_secret(c, l);

        call_fail(c, EXIT_NOT_FOUND, "no_secret", lease_name(l), NULL, next ? next : "",
                  "no %s is stored for %s", kind, lease_name(l));
        return;
    }
    call_log_change(c, lease_name(l), "%s shown", kind);
    struct json *v = json_object();

    put_secret(v, "secret", text);
    call_reply(c, v);
}

static void on_instance_removed(void *ctx, const struct fault *f)
{
    struct call *c = ctx;
    const char *name = json_get_text(c->parameters, "name");

    if (f && manager_find_lease(c->context->manager, name))
        call_fault(c, f, name, NULL);
    else if (f)
        call_not_kept(c, f, "it is removed, but still on disk");
    else {
        struct json *v = json_object();

        json_put(v, "notes", explain_lines(c->state));
        call_reply(c, v);
    }
}

/* Where it cannot be reached now, its guard is told by nobody any more. */
static char *guard_remains(struct lease *l)
{
    const struct boxed *b = lease_boxed(l);
    struct boxed_figures n = {};
    char at[MINUTE_TEXT_MAX];

    if (b && boxed_state(b) != BOXED_OFF)
        boxed_figures(b, &n);
    else if (!b)
        lease_leaves_guard(l, &n.acts_at_ms);
    if (n.acts_at_ms < clock_wall_ms() || session_state(lease_session(l)) == SESSION_UP)
        return NULL;
    return xasprintf("it could not be reached: the guard on it switches it off at %s",
                     minute_format(at, n.acts_at_ms));
}

void method_instance_remove(struct call *c)
{
    struct lease *l = find_lease(c, json_get_text(c->parameters, "name"));

    if (!l)
        return;
    c->state = lease_rented(l) ? adopt_remains(l) : guard_remains(l);
    c->drop = drop_state;
    call_log_change(c, lease_name(l), "instance remove");
    manager_remove_instance(c->context->manager, l, &c->op, on_instance_removed, c);
}

/* ---- forwards ---- */

static struct json *show_forward(const struct forward_view *f)
{
    struct json *v = json_object();

    json_put_string(v, "instance", f->instance);
    json_put_string(v, "listen", f->listen);
    json_put_string(v, "target", f->target);
    json_put_string(v, "state", f->listening ? "listening" : "taken");
    json_put_int(v, "connections", f->connections);
    json_put_string(v, "reason", f->reason);
    return v;
}

/* A port that others can reach is what was asked for, and worth a word. */
static void note_others(struct json *v, const char *listen_ip, const struct forward_view *f)
{
    _cleanup_free_ char *note = NULL;

    if (ip_is_loopback(listen_ip))
        return;
    note = xasprintf("%s is not this machine alone: whoever can reach it here reaches %s on %s", f->listen,
                     f->target, f->instance);
    json_put(v, "notes", explain_lines(note));
}

void method_forward_add(struct call *c)
{
    const char *spec = json_get_text(c->parameters, "spec");
    struct lease *l = find_lease(c, json_get_text(c->parameters, "instance"));
    _cleanup_free_ char *why = NULL;
    struct ssh_forward w = {};
    struct forward_view made;
    struct fault f = {};
    store_ticket ticket;

    if (!l)
        return;
    if (ssh_forward_parse(spec, &w, &why) < 0) {
        call_fail(c, EXIT_USAGE, "bad_forward", lease_name(l), why,
                  "llmhostctl forward add gpu1 6006:127.0.0.1:6006", "\"%.100s\" is no forward", spec);
        return;
    }
    if (manager_add_forward(c->context->manager, l, &w, &made, &ticket, &f) < 0) {
        call_fault(c, &f, lease_name(l), NULL);
        ssh_forward_done(&w);
        return;
    }
    call_log_change(c, lease_name(l), "forward add %s", spec);
    struct json *v = json_object();

    json_put(v, "forward", show_forward(&made));
    note_others(v, w.listen_ip, &made);
    ssh_forward_done(&w);
    call_reply_after(c, ticket, v, "the forward works, but is not on disk yet");
}

void method_forward_list(struct call *c)
{
    const char *name = json_get_text(c->parameters, "instance");
    struct lease *l = name ? find_lease(c, name) : NULL;
    struct json *v, *list;
    struct forward_view f;

    if (name && !l)
        return;
    v = json_object();
    list = json_array();
    for (unsigned i = 0; manager_forward_at(c->context->manager, l, i, &f); i++)
        json_append(list, show_forward(&f));
    json_put(v, "forwards", list);
    call_reply(c, v);
}

void method_forward_remove(struct call *c)
{
    const char *listen = json_get_text(c->parameters, "listen");
    struct lease *l = find_lease(c, json_get_text(c->parameters, "instance"));
    store_ticket ticket;

    if (!l)
        return;
    if (manager_remove_forward(c->context->manager, l, listen, &ticket) < 0) {
        call_fail(c, EXIT_NOT_FOUND, "not_found", lease_name(l), NULL, "llmhostctl forward list",
                  "%s has no forward on %.60s", lease_name(l), listen);
        return;
    }
    call_log_change(c, lease_name(l), "forward remove %s", listen);
    call_reply_after(c, ticket, json_object(), "the forward is closed, but still on disk");
}
