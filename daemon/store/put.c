/* Records and events as changes: their values in the order in which change_specs[] of change.c names them. */
#include "base/event.h"
#include "store/change.h"
#include "store/store_private.h"

store_ticket store_put_instance(struct store *s, const struct instance_record *r)
{
    struct change *c = change_new(CHANGE_PUT_INSTANCE);

    change_text(c, r->name);
    change_text(c, r->provider);
    change_text(c, r->host);
    change_text(c, r->user);
    change_int(c, r->port);
    change_int(c, r->install_key);
    change_int(c, r->added_at_ms);
    change_blob(c, r->host_key, r->n_host_key);
    change_int(c, r->host_key_at_ms);
    change_text(c, r->agent);
    change_text(c, r->proxy);
    return store_queue(s, c);
}

store_ticket store_remove_instance(struct store *s, const char *name)
{
    struct change *c = change_new(CHANGE_REMOVE_INSTANCE);

    change_text(c, name);
    return store_queue(s, c);
}

store_ticket store_put_deployment(struct store *s, const struct deployment_record *r)
{
    struct change *c = change_new(CHANGE_PUT_DEPLOYMENT);

    change_text(c, r->name);
    change_text(c, r->instance);
    change_text(c, r->goal);
    change_int(c, r->goal_at_ms);
    change_int(c, r->touched);
    change_text(c, r->shown);
    change_int(c, r->requests);
    change_int(c, r->last_used_at_ms);
    change_text(c, r->arguments);
    change_text(c, r->asleep);
    change_int(c, r->asleep_at_ms);
    change_int(c, r->keep_until_at_ms);
    return store_queue(s, c);
}

store_ticket store_remove_deployment(struct store *s, const char *name, const char *instance)
{
    struct change *c = change_new(CHANGE_REMOVE_DEPLOYMENT);

    change_text(c, name);
    change_text(c, instance);
    return store_queue(s, c);
}

store_ticket store_put_forward(struct store *s, const struct forward_record *r)
{
    struct change *c = change_new(CHANGE_PUT_FORWARD);

    change_text(c, r->listen_ip);
    change_int(c, r->listen_port);
    change_text(c, r->instance);
    change_text(c, r->address);
    change_int(c, r->port);
    return store_queue(s, c);
}

store_ticket store_remove_forward(struct store *s, const char *listen_ip, uint16_t listen_port)
{
    struct change *c = change_new(CHANGE_REMOVE_FORWARD);

    change_text(c, listen_ip);
    change_int(c, listen_port);
    return store_queue(s, c);
}

void store_put_event(struct store *s, const struct event *e)
{
    struct change *c = change_new(CHANGE_PUT_EVENT);

    change_int(c, e->at_ms);
    change_text(c, log_level_name(e->level));
    change_text(c, log_source_name(e->source));
    change_text(c, e->target);
    change_text(c, e->kind);
    change_text(c, e->text);
    store_queue(s, c);
}

store_ticket store_put_count(struct store *s, const struct count_record *r)
{
    struct change *c = change_new(CHANGE_PUT_COUNT);

    change_text(c, r->model);
    change_text(c, r->client);
    change_int(c, r->requests);
    change_int(c, r->errors);
    change_int(c, r->prompt_tokens);
    change_int(c, r->answer_tokens);
    change_int(c, r->request_bytes);
    change_int(c, r->answer_bytes);
    change_text(c, r->first);
    change_text(c, r->total);
    return store_queue(s, c);
}

store_ticket store_remove_counts(struct store *s, const char *model)
{
    struct change *c = change_new(CHANGE_REMOVE_COUNTS);

    change_text(c, model);
    return store_queue(s, c);
}

store_ticket store_put_key(struct store *s, const struct key_record *r)
{
    struct change *c = change_new(CHANGE_PUT_KEY);

    change_text(c, r->name);
    change_blob(c, r->hash, sizeof(r->hash));
    change_int(c, r->made_at_ms);
    return store_queue(s, c);
}

store_ticket store_remove_key(struct store *s, const char *name)
{
    struct change *c = change_new(CHANGE_REMOVE_KEY);

    change_text(c, name);
    return store_queue(s, c);
}

store_ticket store_put_alias(struct store *s, const char *name, const char *model)
{
    struct change *c = change_new(CHANGE_PUT_ALIAS);

    change_text(c, name);
    change_text(c, model);
    return store_queue(s, c);
}

store_ticket store_remove_alias(struct store *s, const char *name)
{
    struct change *c = change_new(CHANGE_REMOVE_ALIAS);

    change_text(c, name);
    return store_queue(s, c);
}
