/* Merging keeps what the changes mean. A record that others refer to (an instance) takes its newest value at
 * the place of the oldest, so that it stands before those who refer to it; any other takes the place of the
 * newest, behind what it refers to. Nothing is moved over a removal, and a value that refers to another
 * instance is not merged: it may be refused where the older one was not. */
#include "store/change.h"

#include "base/fault.h"

const struct change_spec change_specs[CHANGE_KINDS] = {
    [CHANGE_PUT_INSTANCE] =
        {
            .noun = "instance",
            .keys = 1,
            .parent = -1,
            .others_need_it = true,
            .sql = "INSERT INTO instance(name, provider, host, user, port, install_key, added_at_ms, "
                   "host_key, host_key_at_ms, agent, proxy, stop)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
                   " ON CONFLICT(name) DO UPDATE SET provider = ?2, host = ?3, user = ?4, port = ?5, "
                   "install_key = ?6,"
                   " added_at_ms = ?7, host_key = ?8, host_key_at_ms = ?9, agent = ?10,"
                   " proxy = ?11, stop = ?12",
        },
    [CHANGE_REMOVE_INSTANCE] =
        {
            .noun = "instance",
            .keys = 1,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM instance WHERE name = ?1",
        },
    [CHANGE_PUT_DEPLOYMENT] =
        {
            .noun = "model",
            .keys = 2,
            .parent = 1,
            .sql = "INSERT INTO deployment(name, instance, goal, goal_at_ms, touched, shown, requests, "
                   "last_used_at_ms, arguments, asleep, asleep_at_ms, keep_until_at_ms)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
                   " ON CONFLICT(name, instance) DO UPDATE SET goal = ?3, goal_at_ms = ?4, touched = "
                   "?5, shown = ?6,"
                   " requests = ?7, last_used_at_ms = ?8, arguments = ?9, asleep = ?10, asleep_at_ms = ?11,"
                   " keep_until_at_ms = ?12",
        },
    [CHANGE_REMOVE_DEPLOYMENT] =
        {
            .noun = "model",
            .keys = 2,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM deployment WHERE name = ?1 AND instance = ?2",
        },
    [CHANGE_PUT_FORWARD] =
        {
            .noun = "forward",
            .keys = 2,
            .parent = 2,
            .sql =
                "INSERT INTO forward(listen_ip, listen_port, instance, address, port) VALUES (?1, ?2, ?3, "
                "?4, ?5)"
                " ON CONFLICT(listen_ip, listen_port) DO UPDATE SET instance = ?3, address = ?4, port = ?5",
        },
    [CHANGE_REMOVE_FORWARD] =
        {
            .noun = "forward",
            .keys = 2,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM forward WHERE listen_ip = ?1 AND listen_port = ?2",
        },
    [CHANGE_PUT_EVENT] =
        {
            .noun = "event",
            .parent = -1,
            .sql =
                "INSERT INTO event(at_ms, level, source, target, kind, text) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        },
    [CHANGE_PUT_DURATION] =
        {
            .noun = "duration",
            .keys = 1,
            .parent = -1,
            .sql =
                "INSERT INTO duration(what, last) VALUES (?1, ?2) ON CONFLICT(what) DO UPDATE SET last = ?2",
        },
    [CHANGE_PUT_COUNT] =
        {
            .noun = "counts of",
            .keys = 2,
            .parent = -1,
            .sql = "INSERT INTO count(model, client, requests, errors, prompt_tokens, answer_tokens, "
                   "request_bytes, answer_bytes, first, total)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
                   " ON CONFLICT(model, client) DO UPDATE SET requests = ?3, errors = ?4, prompt_tokens = ?5,"
                   " answer_tokens = ?6, request_bytes = ?7, answer_bytes = ?8, first = ?9, total = ?10",
        },
    [CHANGE_REMOVE_COUNTS] =
        {
            .noun = "counts of",
            .keys = 1,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM count WHERE model = ?1",
        },
    [CHANGE_PUT_KEY] =
        {
            .noun = "key",
            .keys = 1,
            .parent = -1,
            .sql = "INSERT INTO api_key(name, hash, made_at_ms) VALUES (?1, ?2, ?3)",
        },
    [CHANGE_REMOVE_KEY] =
        {
            .noun = "key",
            .keys = 1,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM api_key WHERE name = ?1",
        },
    [CHANGE_PUT_ALIAS] =
        {
            .noun = "alias",
            .keys = 1,
            .parent = -1,
            .sql =
                "INSERT INTO alias(name, model) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET model = ?2",
        },
    [CHANGE_REMOVE_ALIAS] =
        {
            .noun = "alias",
            .keys = 1,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM alias WHERE name = ?1",
        },
    [CHANGE_PUT_CHOICE] =
        {
            .noun = "search for",
            .keys = 1,
            .parent = -1,
            .sql = "INSERT OR REPLACE INTO choice(model, places, turn, until_at_ms, provider, gpu, image, "
                   "region, disk_gb, max_price_milli, over_budget, begun_at_ms)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
        },
    [CHANGE_REMOVE_CHOICE] =
        {
            .noun = "search for",
            .keys = 1,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM choice WHERE model = ?1",
        },
    [CHANGE_PUT_RENTAL] =
        {
            .noun = "rental of",
            .keys = 1,
            .parent = 0,
            .sql =
                "INSERT OR REPLACE INTO rental(instance, state, goal, id, made, asked_at_ms, create_open, "
                "ours, "
                "was_on, card, image, region, gpu, cards, disk_gb, max_price_milli, rate_milli, guard_seq, "
                "stopped_at_ms, prepaid_until_at_ms, drilled_at_ms, over_budget, no_guard, adopted, no_card, "
                "used_at_ms, search_until_at_ms, acted, made_at_ms, hold_until_at_ms, "
                "never_made, by_search, wanted_at_ms, never_seen)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, "
                "?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34)",
        },
    [CHANGE_PUT_BOXED] =
        {
            .noun = "guard of",
            .keys = 1,
            .parent = 0,
            .sql =
                "INSERT OR REPLACE INTO boxed(instance, state, cycle, since_at_ms, stop_asked_at_ms, told, "
                "no_guard, acts_at_ms, trial, tried_at_ms, used_s)"
                " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        },
    [CHANGE_PUT_ACCOUNT] =
        {
            .noun = "account at",
            .keys = 1,
            .parent = -1,
            .sql = "INSERT OR REPLACE INTO account(provider, base_url, day_milli, month_milli, price_milli, "
                   "floor_milli, added_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        },
    [CHANGE_REMOVE_ACCOUNT] =
        {
            .noun = "account at",
            .keys = 1,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM account WHERE provider = ?1",
        },
    [CHANGE_PUT_ORPHAN] =
        {
            .noun = "machine",
            .keys = 2,
            .parent = -1,
            .sql = "INSERT OR REPLACE INTO orphan(provider, id, name, word, gpu, cards, price_milli, "
                   "no_card, started_at_ms, seen_at_ms, missing_at_ms)"
                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        },
    [CHANGE_REMOVE_ORPHAN] =
        {
            .noun = "machine",
            .keys = 2,
            .parent = -1,
            .removes = true,
            .sql = "DELETE FROM orphan WHERE provider = ?1 AND id = ?2",
        },
    /* ?8 < 0: the whole rest. ?9, ?10: the limits of a day and a month, 0: none; ?11, ?12: what was spent in
     * them. ?13: the length of a keep, 0: it is none. */
    [CHANGE_RESERVE] =
        {
            .noun = "reservation",
            .parent = -1,
            .sql =
                "WITH reserved AS (" SQL_RESERVED "), rest AS (SELECT "
                "min(CASE WHEN ?9 > 0 THEN ?9 - ?11 - milli ELSE 9000000000000000 END, "
                "CASE WHEN ?10 > 0 THEN ?10 - ?12 - milli ELSE 9000000000000000 END) AS milli FROM reserved) "
                "INSERT INTO intent(name, kind, provider, instance, unit, day, at_ms, reserved_milli, "
                "resolved_at_ms, outcome, held) "
                "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, "
                "CASE WHEN ?8 >= 0 THEN ?8 WHEN ?9 > 0 OR ?10 > 0 THEN milli ELSE 0 END, "
                "CASE WHEN ?13 > 0 THEN ?7 END, CASE WHEN ?13 > 0 THEN 'kept' END, ?13 > 0 "
                "FROM rest WHERE max(?8, 0) <= milli AND (?8 >= 0 OR milli > 0) "
                "ON CONFLICT(name) DO UPDATE SET at_ms = excluded.at_ms, day = excluded.day, "
                "reserved_milli = excluded.reserved_milli, resolved_at_ms = excluded.resolved_at_ms, "
                "outcome = excluded.outcome, held = 1 WHERE excluded.outcome = 'kept'",
        },
    /* What was released once is held no more. */
    [CHANGE_RESOLVE_INTENT] =
        {
            .noun = "reservation",
            .parent = -1,
            .sql = "UPDATE intent SET outcome = ?2, resolved_at_ms = ?3, held = ?4"
                   " WHERE name = ?1 AND (resolved_at_ms IS NULL OR held)",
        },
    [CHANGE_RELEASE_INTENTS] =
        {
            .noun = "reservations at",
            .parent = -1,
            .sql = "UPDATE intent SET outcome = ifnull(outcome, 'over'), resolved_at_ms = "
                   "ifnull(resolved_at_ms, "
                   "?3), held = 0 WHERE provider = ?1 AND instance = ?2 AND (resolved_at_ms IS NULL OR held) "
                   "AND (?4 OR outcome IS NOT 'kept')",
        },
    /* The next interval may begin only when this one has ended: its newest value must not stand behind that.
     */
    [CHANGE_PUT_SPENT] =
        {
            .noun = "interval at",
            .keys = 4,
            .parent = -1,
            .others_need_it = true,
            .sql =
                "INSERT INTO spent(provider, instance, kind, from_at_ms, intent, from_basis, to_at_ms, "
                "to_basis,"
                " seen_at_ms, rate_milli, rate_basis, unit, lump_milli, no_card, machine)"
                " VALUES (?1, ?2, ?3, ?4, (SELECT id FROM intent WHERE name = ?5), ?6, ?7, ?8, ?9, ?10, ?11, "
                "?12, ?13, ?14, ?15)"
                " ON CONFLICT(provider, instance, kind, from_at_ms) DO UPDATE SET intent = excluded.intent,"
                " from_basis = ?6, to_at_ms = ?7, to_basis = ?8, seen_at_ms = ?9, rate_milli = ?10,"
                " rate_basis = ?11, unit = ?12, lump_milli = ?13, no_card = ?14, machine = ?15",
        },
    /* Nothing is moved over it: what stands before it means the interval by its old beginning. */
    [CHANGE_REMOVE_SPENT] =
        {
            .noun = "interval at",
            .parent = -1,
            .removes = true,
            .sql =
                "DELETE FROM spent WHERE provider = ?1 AND instance = ?2 AND kind = ?3 AND from_at_ms = ?4",
        },
    [CHANGE_MOVE_SPENT] =
        {
            .noun = "interval at",
            .parent = -1,
            .removes = true,
            .sql = "UPDATE spent SET from_at_ms = ?5 WHERE provider = ?1 AND instance = ?2 AND kind = ?3"
                   " AND from_at_ms = ?4",
        },
};

struct change *change_new(enum change_kind kind)
{
    struct change *c = xnew(struct change);

    list_init(&c->node);
    c->kind = kind;
    return c;
}

struct change *change_free(struct change *c)
{
    if (!c)
        return NULL;
    list_remove(&c->node);
    for (unsigned i = 0; i < c->n_values; i++)
        free(c->values[i].data);
    free(c->fault);
    free(c);
    return NULL;
}

static struct value *next_value(struct change *c)
{
    if (c->n_values == CHANGE_VALUES_MAX)
        abort();
    return &c->values[c->n_values++];
}

void change_text(struct change *c, const char *text)
{
    struct value *v = next_value(c);

    if (!text)
        return;
    *v = (struct value){.type = VALUE_TEXT, .data = xstrdup(text), .n = strlen(text)};
}

void change_blob(struct change *c, const void *data, size_t n)
{
    struct value *v = next_value(c);

    if (!data)
        return;
    *v = (struct value){.type = VALUE_BLOB, .data = xalloc(n + 1), .n = n};
    memcpy(v->data, data, n);
}

void change_int(struct change *c, int64_t number)
{
    *next_value(c) = (struct value){.type = VALUE_INT, .number = number};
}

void changes_free(struct list *changes)
{
    LIST_FOREACH_SAFE (c, changes, struct change, node)
        change_free(c);
}

/* ---- merging ---- */

/* Open addressing; made for one pass. A removal makes everything that was put in before invisible. */
struct index {
    struct slot {
        struct change *change;
        unsigned era;
    } * slots;
    size_t mask;
    unsigned era;
};

static uint64_t hash_bytes(uint64_t h, const void *data, size_t n)
{
    const unsigned char *p = data;

    while (n-- > 0)
        h = (h ^ *p++) * 0x100000001b3u;
    return h;
}

static uint64_t hash_value(uint64_t h, const struct value *v)
{
    h = hash_bytes(h, &v->number, sizeof(v->number));
    return hash_bytes(h, v->data, v->n);
}

static uint64_t hash_record(const struct change *c)
{
    const struct change_spec *spec = &change_specs[c->kind];
    uint64_t h = hash_bytes(0xcbf29ce484222325u, &c->kind, sizeof(c->kind));

    for (unsigned i = 0; i < spec->keys; i++)
        h = hash_value(h, &c->values[i]);
    if (spec->parent >= 0)
        h = hash_value(h, &c->values[spec->parent]);
    return h ^ h >> 29;
}

static bool is_same_value(const struct value *v, const struct value *w)
{
    if (v->type != w->type || v->number != w->number || v->n != w->n)
        return false;
    return v->n == 0 || memcmp(v->data, w->data, v->n) == 0;
}

static bool is_same_record(const struct change *a, const struct change *b)
{
    const struct change_spec *spec = &change_specs[a->kind];

    if (a->kind != b->kind)
        return false;
    for (unsigned i = 0; i < spec->keys; i++)
        if (!is_same_value(&a->values[i], &b->values[i]))
            return false;
    return spec->parent < 0 || is_same_value(&a->values[spec->parent], &b->values[spec->parent]);
}

/* Where c's record is, or would be. */
static struct slot *index_find(struct index *x, const struct change *c)
{
    size_t i = hash_record(c) & x->mask;

    while (x->slots[i].change && x->slots[i].era == x->era && !is_same_record(x->slots[i].change, c))
        i = (i + 1) & x->mask;
    return &x->slots[i];
}

/* older and newer are values of one record; returns the one that stays. */
static struct change *merge(struct change *older, struct change *newer)
{
    if (change_specs[newer->kind].others_need_it) {
        struct change moved = *newer;

        for (unsigned i = 0; i < CHANGE_VALUES_MAX; i++) {
            newer->values[i] = older->values[i];
            older->values[i] = moved.values[i];
        }
        older->ticket = newer->ticket;
        change_free(newer);
        return older;
    }
    newer->first_ticket = older->first_ticket;
    newer->queued_due = older->queued_due;
    change_free(older);
    return newer;
}

static size_t count(const struct list *changes)
{
    size_t n = 0;

    for (const struct list *p = changes->next; p != changes; p = p->next)
        n++;
    return n;
}

void changes_merge(struct list *changes)
{
    struct index x = {.mask = 15, .era = 1};

    for (size_t n = count(changes); x.mask < 2 * n;)
        x.mask = 2 * x.mask + 1;
    x.slots = xalloc((x.mask + 1) * sizeof(*x.slots));
    LIST_FOREACH_SAFE (c, changes, struct change, node) {
        if (change_specs[c->kind].removes)
            x.era++;
        if (change_specs[c->kind].removes || change_specs[c->kind].keys == 0)
            continue;
        struct slot *s = index_find(&x, c);

        s->change = s->change && s->era == x.era ? merge(s->change, c) : c;
        s->era = x.era;
    }
    free(x.slots);
}

void changes_drop_reservations(struct list *changes)
{
    LIST_FOREACH_SAFE (c, changes, struct change, node)
        if (c->kind == CHANGE_RESERVE)
            change_free(c);
}

unsigned changes_drop_events(struct list *changes, unsigned max)
{
    unsigned events = 0, dropped = 0;

    LIST_FOREACH (c, changes, struct change, node)
        events += c->kind == CHANGE_PUT_EVENT;
    LIST_FOREACH_SAFE (c, changes, struct change, node) {
        if (events <= max)
            break;
        if (c->kind != CHANGE_PUT_EVENT)
            continue;
        change_free(c);
        events--;
        dropped++;
    }
    return dropped;
}
