/* API keys of applications: made, listed, taken away. Where they are asked for is the gateway's affair. */
#include "control/methods.h"

#include <errno.h>
#include <string.h>

#include "gateway/gateway.h"
#include "gateway/keys.h"
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

void method_key_add(struct call *c)
{
    const char *name = json_get_text(c->parameters, "name");
    struct keys *keys = gateway_keys(c->context->gateway);
    _cleanup_secret_ char *text = NULL;
    store_ticket t;
    int r = keys_make(keys, name, &text, &t);

    if (r == -EEXIST) {
        _cleanup_free_ char *next = xasprintf("llmhostctl key remove %s", name);

        call_fail(c, EXIT_CONFLICT, "exists", name, NULL, next, "there is a key %s already", name);
    } else if (r == -EINVAL) {
        call_invalid_parameter(c, "name");
    } else if (r < 0) {
        call_fail(c, EXIT_FAILED, "failed", name, strerror(-r), "", "no key could be made");
    } else {
        call_log_change(c, NULL, "key add %s", name);
        call_reply_after(c, t, made(keys, text), "the key works, but is not on disk yet");
    }
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
