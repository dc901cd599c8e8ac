/* Records and events as changes: their values in the order in which change_specs[] of change.c names them. */
#include "base/clock.h"
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
    change_text(c, r->stop);
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

store_ticket store_put_choice(struct store *s, const struct choice_record *r)
{
    struct change *c = change_new(CHANGE_PUT_CHOICE);

    change_text(c, r->model);
    change_text(c, r->places);
    change_int(c, r->turn);
    change_int(c, r->until_at_ms);
    change_text(c, r->provider);
    change_text(c, r->gpu);
    change_text(c, r->image);
    change_text(c, r->region);
    change_int(c, r->disk_gb);
    change_int(c, r->max_price_milli);
    change_int(c, r->over_budget);
    change_int(c, r->begun_at_ms);
    return store_queue(s, c);
}

store_ticket store_remove_choice(struct store *s, const char *model)
{
    struct change *c = change_new(CHANGE_REMOVE_CHOICE);

    change_text(c, model);
    return store_queue(s, c);
}

/* ---- money ---- */

store_ticket store_put_rental(struct store *s, const char *instance, const struct rental_record *r)
{
    struct change *c = change_new(CHANGE_PUT_RENTAL);

    change_text(c, instance);
    change_text(c, r->state);
    change_text(c, r->goal);
    change_text(c, r->id);
    change_int(c, r->made);
    change_int(c, r->asked_at_ms);
    change_int(c, r->create_open);
    change_int(c, r->ours);
    change_int(c, r->was_on);
    change_text(c, r->card);
    change_text(c, r->image);
    change_text(c, r->region);
    change_text(c, r->gpu);
    change_int(c, r->cards);
    change_int(c, r->disk_gb);
    change_int(c, r->max_price_milli);
    change_int(c, r->rate_milli);
    change_int(c, (int64_t)r->guard_seq);
    change_int(c, r->stopped_at_ms);
    change_int(c, r->prepaid_until_at_ms);
    change_int(c, r->drilled_at_ms);
    change_int(c, r->over_budget);
    change_int(c, r->no_guard);
    change_int(c, r->adopted);
    change_int(c, r->no_card);
    change_int(c, r->used_at_ms);
    change_int(c, r->search_until_at_ms);
    change_int(c, r->acted);
    change_int(c, r->made_at_ms);
    change_int(c, r->hold_until_at_ms);
    change_int(c, r->never_made);
    change_int(c, r->by_search);
    change_int(c, r->wanted_at_ms);
    change_int(c, r->never_seen);
    return store_queue(s, c);
}

store_ticket store_put_boxed(struct store *s, const char *instance, const struct boxed_record *r)
{
    struct change *c = change_new(CHANGE_PUT_BOXED);

    change_text(c, instance);
    change_text(c, r->state);
    change_text(c, r->cycle);
    change_int(c, r->since_at_ms);
    change_int(c, r->stop_asked_at_ms);
    change_int(c, r->told);
    change_int(c, r->no_guard);
    change_int(c, r->acts_at_ms);
    change_text(c, r->trial);
    change_int(c, r->tried_at_ms);
    change_int(c, r->used_s);
    return store_queue(s, c);
}

store_ticket store_put_account(struct store *s, const struct account_record *r)
{
    struct change *c = change_new(CHANGE_PUT_ACCOUNT);

    change_text(c, r->provider);
    change_text(c, r->base_url);
    change_int(c, r->limits.day_milli);
    change_int(c, r->limits.month_milli);
    change_int(c, r->limits.price_milli);
    change_int(c, r->limits.floor_milli);
    change_int(c, r->added_at_ms);
    return store_queue(s, c);
}

store_ticket store_remove_account(struct store *s, const char *provider)
{
    struct change *c = change_new(CHANGE_REMOVE_ACCOUNT);

    change_text(c, provider);
    return store_queue(s, c);
}

store_ticket store_put_orphan(struct store *s, const struct orphan_record *r)
{
    struct change *c = change_new(CHANGE_PUT_ORPHAN);

    change_text(c, r->provider);
    change_text(c, r->id);
    change_text(c, r->name);
    change_text(c, r->word);
    change_text(c, r->gpu);
    change_int(c, r->cards);
    change_int(c, r->price_milli);
    change_int(c, r->no_card);
    change_int(c, r->started_at_ms);
    change_int(c, r->seen_at_ms);
    change_int(c, r->missing_at_ms);
    return store_queue(s, c);
}

store_ticket store_remove_orphan(struct store *s, const char *provider, const char *id)
{
    struct change *c = change_new(CHANGE_REMOVE_ORPHAN);

    change_text(c, provider);
    change_text(c, id);
    return store_queue(s, c);
}

void store_reserve(struct store *s, const struct intent_record *r, const struct money_limits *limits,
                   int64_t spent_day_milli, int64_t spent_month_milli, struct op **slot, op_done_fn done,
                   void *ctx)
{
    struct change *c = change_new(CHANGE_RESERVE);

    change_text(c, r->name);
    change_text(c, r->kind);
    change_text(c, r->provider);
    change_text(c, r->instance);
    change_text(c, r->unit);
    change_text(c, r->day);
    change_int(c, r->at_ms);
    change_int(c, r->reserved_milli);
    change_int(c, limits->day_milli);
    change_int(c, limits->month_milli);
    change_int(c, spent_day_milli);
    change_int(c, spent_month_milli);
    change_int(c, r->kept_ms);
    store_after(s, store_queue(s, c), slot, done, ctx);
}

store_ticket store_resolve_intent(struct store *s, const char *name, const char *outcome, int64_t at_ms,
                                  bool held)
{
    struct change *c = change_new(CHANGE_RESOLVE_INTENT);

    change_text(c, name);
    change_text(c, outcome);
    change_int(c, at_ms);
    change_int(c, held);
    return store_queue(s, c);
}

store_ticket store_release_intents(struct store *s, const char *provider, const char *instance, bool keeps)
{
    struct change *c = change_new(CHANGE_RELEASE_INTENTS);

    change_text(c, provider);
    change_text(c, instance);
    change_int(c, clock_wall_ms());
    change_int(c, keeps);
    return store_queue(s, c);
}

/* SQL's NULL for a number that is not there. */
static void change_int_or_null(struct change *c, int64_t number, bool there)
{
    if (there)
        change_int(c, number);
    else
        change_text(c, NULL);
}

store_ticket store_put_spent(struct store *s, const struct spent_record *r)
{
    struct change *c = change_new(CHANGE_PUT_SPENT);

    change_text(c, r->provider);
    change_text(c, r->instance);
    change_text(c, r->kind);
    change_int(c, r->from_at_ms);
    change_text(c, r->intent);
    change_text(c, r->from_basis);
    change_int_or_null(c, r->to_at_ms, r->to_at_ms > 0);
    change_text(c, r->to_basis);
    change_int(c, r->seen_at_ms);
    change_int_or_null(c, r->rate_milli, r->rate_milli >= 0);
    change_text(c, r->rate_basis);
    change_text(c, r->unit);
    change_int_or_null(c, r->lump_milli, r->lump_milli > 0);
    change_int(c, r->no_card);
    change_text(c, r->machine);
    return store_queue(s, c);
}

store_ticket store_remove_spent(struct store *s, const struct spent_record *r)
{
    struct change *c = change_new(CHANGE_REMOVE_SPENT);

    change_text(c, r->provider);
    change_text(c, r->instance);
    change_text(c, r->kind);
    change_int(c, r->from_at_ms);
    return store_queue(s, c);
}

store_ticket store_move_spent(struct store *s, const struct spent_record *r, int64_t from_at_ms)
{
    struct change *c = change_new(CHANGE_MOVE_SPENT);

    change_text(c, r->provider);
    change_text(c, r->instance);
    change_text(c, r->kind);
    change_int(c, r->from_at_ms);
    change_int(c, from_at_ms);
    return store_queue(s, c);
}
