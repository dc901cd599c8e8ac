/* API keys of applications: made, listed, taken away; and the address where they are asked for. */
#include "control/methods.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "base/settings.h"
#include "control/explain.h"
#include "control/show.h"
#include "gateway/gateway.h"
#include "gateway/keys.h"
#include "proto/address.h"
#include "proto/json.h"
#include "store/secrets.h"

static struct json *show_key(const struct key *key)
{
    struct json *v = json_object();

    json_put_string(v, "name", key->name);
    json_put_int(v, "made_at_ms", key->made_at_ms);
    return v;
}

static struct json *made(const struct keys *keys, const char *text)
{
    struct json *v = json_object(), *secret = json_object();
    unsigned n = 0;

    while (keys_at(keys, n + 1))
        n++;
    json_put(v, "added", show_key(keys_at(keys, n)));
    json_put_string(secret, "text", text);
    json_put(v, "secret", secret);
    return v;
}

/* False: answered. */
static bool make_key(struct call *c, const char *name, char **ret_text, store_ticket *ret_ticket)
{
    int r = keys_make(gateway_keys(c->context->gateway), name, ret_text, ret_ticket);

    if (r == -EEXIST) {
        _cleanup_free_ char *next = xasprintf("llmhostctl key remove %s", name);

        call_fail(c, EXIT_CONFLICT, "exists", name, NULL, next, "there is a key %s already", name);
    } else if (r == -EINVAL) {
        call_fail(c, EXIT_USAGE, "bad_name", NULL, NULL, "llmhostctl key add phone",
                  "\"%.60s\" cannot name a key: small letters, digits and -, at most 32", name);
    } else if (r < 0) {
        call_fail(c, EXIT_FAILED, "failed", name, strerror(-r), "", "no key could be made");
    } else {
        call_log_change(c, NULL, "key add %s", name);
    }
    return r == 0;
}

void method_key_add(struct call *c)
{
    _cleanup_secret_ char *text = NULL;
    store_ticket t;

    if (make_key(c, json_get_text(c->parameters, "name"), &text, &t))
        call_reply_after(c, t, made(gateway_keys(c->context->gateway), text),
                         "the key works, but is not on disk yet");
}

void method_key_list(struct call *c)
{
    const struct keys *keys = gateway_keys(c->context->gateway);
    struct json *v = json_object(), *list = json_array();
    const struct key *key;

    for (unsigned i = 0; (key = keys_at(keys, i)); i++)
        json_append(list, show_key(key));
    json_put(v, "keys", list);
    json_put_bool(v, "needed", gateway_needs_key(c->context->gateway));
    call_reply(c, v);
}

void method_key_remove(struct call *c)
{
    const char *name = json_get_text(c->parameters, "name");
    store_ticket t;

    if (keys_remove(gateway_keys(c->context->gateway), name, &t) < 0) {
        call_fail(c, EXIT_NOT_FOUND, "not_found", name, NULL, "llmhostctl key list", "there is no key %s",
                  name);
        return;
    }
    call_log_change(c, NULL, "key remove %s", name);
    call_reply_after(c, t, json_object(), "the key is refused now, but still on disk");
}

/* ---- where the door is ---- */

/* Moves it and writes that down, both or neither. False: answered. */
static bool move_door(struct call *c, const char *address)
{
    struct gateway *g = c->context->gateway;
    _cleanup_free_ char *before = xstrdup(gateway_endpoint(g) + strlen("http://")), *file = NULL;
    struct fault f = {0};
    int r = gateway_move(g, address, &f);

    if (r < 0) {
        _cleanup_free_ char *next = show_port_next(address);

        if (streq(f.code, "port_taken"))
            call_fail(c, explain_status(&f), f.code, NULL, NULL, next, "%s", f.text);
        else
            call_fault(c, &f, NULL, NULL);
        return false;
    }
    r = settings_keep(c->context->config_path, "gateway", "listen", address, &file);
    if (r < 0) {
        gateway_move(g, before, &f);
        call_fail(c, EXIT_FAILED, "not_kept", NULL,
                  r == -EEXIST ? "another file beside it says otherwise" : strerror(-r), "",
                  "%s stays: [gateway] listen could not be put into %s", gateway_endpoint(g), file);
        return false;
    }
    call_log_change(c, NULL, "listen %s (%s)", address, file);
    return true;
}

void method_listen(struct call *c)
{
    const char *address = json_get_text(c->parameters, "address"),
               *name = json_get_text(c->parameters, "new_key");
    struct gateway *g = c->context->gateway;
    _cleanup_secret_ char *text = NULL;
    store_ticket t = 0;
    char ip[IP_TEXT_MAX];
    uint16_t port;

    if (ip_port_parse(address, ip, &port) < 0 || port == 0) {
        call_fail(c, EXIT_USAGE, "bad_address", NULL, NULL, "llmhostctl listen 127.0.0.1:11434",
                  "%s is not IP:PORT (port 1 to 65535)", address);
        return;
    }
    if (!name && !ip_is_loopback(ip) && !keys_at(gateway_keys(g), 0)) {
        _cleanup_free_ char *next = xasprintf("llmhostctl listen %s --new-key", address);

        call_fail(c, EXIT_REFUSED, "no_api_key", NULL, NULL, next,
                  "%s can be reached from other hosts: an API key is needed, and there is none", address);
        return;
    }
    if (name && !make_key(c, name, &text, &t))
        return;
    if (!move_door(c, address)) {
        if (name)
            keys_remove(gateway_keys(g), name, &t);
        return;
    }
    struct json *v = text ? made(gateway_keys(g), text) : json_object();

    json_put_string(v, "endpoint", gateway_endpoint(g));
    call_reply_after(c, t, v, "it listens there, but the new key is not on disk yet");
}
