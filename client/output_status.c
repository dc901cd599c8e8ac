/* What `status` shows: two tables and the trouble, which stands last, next to the prompt. The long form of
 * one target is in output_target.c. */
#include <ctype.h>

#include "client/output.h"
#include "proto/mem.h"

/* ---- words ---- */

static bool is_one_of(const char *word, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (streq(word, list[i]))
            return true;
    return false;
}

static bool is_waking(const char *state)
{
    static const char *const states[] = {"placing",  "connecting", "installing",
                                         "starting", "fetching",   "loading"};

    return is_one_of(state, states, ELEMENTS(states));
}

/* A state the way people say it; one this client does not know is shown as it is. */
const char *state_word(const char *state)
{
    return is_waking(state) ? "waking" : state;
}

enum style state_style(const char *state)
{
    if (streq(state, "ready") || streq(state, "running") || streq(state, "up"))
        return STYLE_GOOD;
    if (streq(state, "failed") || streq(state, "refused") || streq(state, "down"))
        return STYLE_BAD;
    return is_waking(state) || streq(state, "draining") ? STYLE_BUSY : STYLE_PLAIN;
}

const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}

static const struct json *cause_find(const struct json *model, const char *name)
{
    const struct json *awake = json_get(model, "awake");

    for (size_t i = 0; i < json_count(awake); i++)
        if (streq(member_text(json_at(awake, i), "cause", ""), name))
            return json_at(awake, i);
    return NULL;
}

/* ---- what comes next ---- */

/* The time left to a planned action, or "" when no time is set. */
static const char *left_format(char out[static TEXT_SHORT_MAX], const struct json *next)
{
    int64_t at_ms = json_get_int(next, "at_ms", 0), left = at_ms - now_at_ms();

    if (!at_ms)
        return "";
    return duration_format(out, left > 0 ? (uint64_t)left : 0, false);
}

static void next_ready(const struct json *model, const char *action, struct buf *out)
{
    int64_t open = json_get_int(model, "in_flight", 0), held = json_get_int(model, "held", 0);
    const struct json *cause = cause_find(model, "held_request");
    char age[TEXT_SHORT_MAX];

    if (held > 0) {
        buf_addf(out, "%lld request%s held", (long long)held, plural(held));
        if (json_get_int(cause, "since_at_ms", 0))
            buf_addf(out, " %s", age_format(age, json_get_int(cause, "since_at_ms", 0)));
    } else if (streq(action, "retry")) {
        buf_add_text(out, "not reachable");
    } else if (open > 0) {
        buf_addf(out, "busy, %lld request%s", (long long)open, plural(open));
    } else if (streq(action, "none")) {
        buf_add_text(out, "stays up until down");
    }
}

static void next_waking(const struct json *model, struct buf *out)
{
    const char *stage = json_get_text(model, "stage");
    _cleanup_free_ char *shown = words_of(stage ? stage : member_text(model, "state", ""));
    int64_t since = json_get_int(model, "since_at_ms", 0);
    char age[TEXT_SHORT_MAX];

    buf_add_text(out, shown);
    if (since)
        buf_addf(out, ", %s", age_format(age, since));
}

static void next_draining(const struct json *model, const struct json *next, struct buf *out)
{
    int64_t open = json_get_int(model, "in_flight", 0);
    char left[TEXT_SHORT_MAX];

    if (!open) {
        buf_add_text(out, "stops");
        return;
    }
    buf_addf(out, "%lld request%s left", (long long)open, plural(open));
    if (*left_format(left, next))
        buf_addf(out, ", at most %s", left);
}

static void next_asleep(const char *action, const struct json *next, struct buf *out)
{
    int64_t usual_ms = json_get_int(next, "usual_ms", 0);
    char usual[TEXT_SHORT_MAX];

    if (streq(action, "switch_on"))
        buf_add_text(out, "wakes once it is switched on");
    else if (usual_ms >= 1000)
        buf_addf(out, "wakes in ~%s", duration_format(usual, (uint64_t)usual_ms, false));
    else
        buf_add_text(out, "wakes at a request");
}

/* The NEXT cell: what happens by itself, and when. */
char *next_text(const struct json *model)
{
    const struct json *next = json_get(model, "next");
    const char *state = member_text(model, "state", ""), *action = member_text(next, "action", "none");
    char left[TEXT_SHORT_MAX];
    struct buf out;

    buf_init(&out, 4096);
    if (is_waking(state))
        next_waking(model, &out);
    else if (streq(state, "draining"))
        next_draining(model, next, &out);
    else if (streq(state, "ready"))
        next_ready(model, action, &out);
    else if (streq(state, "failed") && streq(action, "none"))
        buf_add_text(&out, "nothing until up");
    else if (streq(state, "asleep"))
        next_asleep(action, next, &out);
    else if (streq(state, "off"))
        buf_add_text(&out, "stays off until up");
    if (!out.len && !streq(action, "none")) {
        _cleanup_free_ char *shown = words_of(action);

        buf_add_text(&out, shown);
        if (*left_format(left, next))
            buf_addf(&out, " in %s", left);
    }
    return buf_take(&out);
}

/* One more try after a failed one is no news: down, as between the tries. */
static const char *tunnel_state(const struct json *tunnel)
{
    const char *state = member_text(tunnel, "state", "none");

    return streq(state, "connecting") && json_get_text(tunnel, "reason") ? "down" : state;
}

/* The TUNNEL cell. */
char *tunnel_text(const struct json *tunnel)
{
    const char *state = tunnel_state(tunnel);
    int64_t since = json_get_int(tunnel, "since_at_ms", 0), tries = json_get_int(tunnel, "tries", 0);
    char age[TEXT_SHORT_MAX] = "";
    struct buf out;

    if (streq(state, "none"))
        return xstrdup("-");
    buf_init(&out, 4096);
    if (streq(state, "down") || streq(state, "refused"))
        for (const char *p = state; *p; p++)
            buf_addf(&out, "%c", toupper((unsigned char)*p));
    else
        buf_add_text(&out, state);
    if (since)
        buf_addf(&out, " %s", age_format(age, since));
    if (tries > 1 && !streq(state, "up") && !streq(state, "refused"))
        buf_addf(&out, ", try %lld", (long long)tries);
    return buf_take(&out);
}

/* When this machine stops by itself. */
char *stops_text(const struct json *instance, bool guard)
{
    if (is_stopped_by_us(instance))
        return rented_stops_text(instance, guard);
    return xstrdup(json_get_bool(instance, "rented", false) ? "not by itself" : "never (not rented)");
}

/* ---- the tables ---- */

/* What is spent and left, behind the head line where it has room. */
static void add_accounts(const struct output *o, const struct json *accounts, unsigned columns,
                         struct buf *out)
{
    size_t n = json_count(accounts);

    for (size_t i = 0; i < n; i++) {
        _cleanup_free_ char *text = account_text(json_at(accounts, i), n > 1, false);
        bool beside = n == 1 && (!o->out_width || columns + 2 + text_columns(text) <= o->out_width);

        if (!beside)
            buf_add_text(out, "\n");
        buf_addf(out, "  %s", text);
    }
    buf_add_text(out, "\n");
    for (size_t i = 0; i < n; i++)
        add_exempt(o, json_at(accounts, i), 2, out);
}

static void add_header(const struct output *o, const struct json *status, struct buf *out)
{
    const struct json *daemon = json_get(status, "daemon");
    const char *owner = json_get_text(daemon, "owner");
    char age[TEXT_SHORT_MAX];
    _cleanup_free_ char *line =
        xasprintf("llmhostd %s  up %s  endpoint %s", member_text(daemon, "version", "?"),
                  duration_format(age, (uint64_t)json_get_int(daemon, "uptime_ms", 0), false),
                  member_text(daemon, "endpoint", "?"));
    _cleanup_free_ char *taken = xasprintf("%s%s", owner ? " by " : "", owner ? owner : "");
    unsigned columns = text_columns(line);

    buf_add_text(out, line);
    if (streq(member_text(daemon, "gateway_state", ""), "taken")) {
        bool fits = !o->out_width || columns + 7 + text_columns(taken) <= o->out_width;

        buf_add_text(out, fits ? "  " : "\n  ");
        add_styled(out, o->out_colour, STYLE_BAD, "TAKEN");
        buf_add_text(out, taken);
        columns = fits ? columns + 7 + text_columns(taken) : 7 + text_columns(taken);
    }
    add_accounts(o, json_get(status, "accounts"), columns, out);
}

const struct json *instance_find(const struct json *status, const char *name)
{
    const struct json *instances = json_get(status, "instances");

    for (size_t i = 0; name && i < json_count(instances); i++)
        if (streq(member_text(json_at(instances, i), "name", ""), name))
            return json_at(instances, i);
    return NULL;
}

/* One that waits for a card says so: it is not on its way. */
static void add_state_and_next(struct table *t, const struct json *model, const struct json *instance,
                               const char *requests)
{
    bool lacks_card = streq(member_text(model, "stage", ""), "capacity") && rented_lacks_card(instance);
    const char *state = member_text(model, "state", "");
    _cleanup_free_ char *next = lacks_card ? rented_try_text(instance) : next_text(model);

    if (lacks_card)
        table_add(t, rented_is_looked_for(instance) ? STYLE_BUSY : STYLE_BAD, "no GPU");
    else
        table_add(t, state_style(state), state_word(state));
    table_add(t, STYLE_PLAIN, requests);
    table_add(t, STYLE_PLAIN, next);
}

static void add_models(const struct output *o, const struct json *status, struct buf *out)
{
    static const struct column columns[] = {
        {"MODEL", false, false}, {"STATE", false, false}, {"REQ", true, false},
        {"NEXT", false, true},   {"ON", false, false},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *models = json_get(status, "models");

    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *model = json_at(models, i);
        const char *on = json_get_text(model, "instance");
        char requests[24];

        snprintf(requests, sizeof(requests), "%lld",
                 (long long)(json_get_int(model, "in_flight", 0) + json_get_int(model, "held", 0)));
        table_add(t, STYLE_PLAIN, json_get_text(model, "name"));
        add_state_and_next(t, model, instance_find(status, on), requests);
        table_add(t, STYLE_PLAIN, on);
    }
    table_write(t, o->out_width, o->out_colour, out);
}

static bool any_rental(const struct json *instances)
{
    for (size_t i = 0; i < json_count(instances); i++)
        if (is_rental(json_at(instances, i)))
            return true;
    return false;
}

/* The card and the two columns of money, which stand there only when something is rented. */
static void add_prices(struct table *t, const struct json *instance)
{
    const struct json *today = json_get(json_get(instance, "rental"), "today");
    _cleanup_free_ char *card = rented_card_text(instance);
    char price[AMOUNT_MAX], spent[AMOUNT_MAX];

    table_add(t, STYLE_PLAIN, card && strchr(card, ',') ? "one of several" : card); /* until it is there */
    table_add(t, STYLE_PLAIN, rented_price_text(price, instance));
    table_add(t, STYLE_PLAIN,
              json_type(today) != JSON_OBJECT || streq(amount_cell(spent, today, ""), "0") ? NULL : spent);
}

static void add_instances(const struct output *o, const struct json *instances, struct buf *out)
{
    static const struct column columns[] = {{"INSTANCE", false, false},
                                            {"PROVIDER", false, false},
                                            {"STATE", false, false},
                                            {"TUNNEL", false, false},
                                            {"STOPS", false, true}},
                               priced[] = {{"INSTANCE", false, false}, {"PROVIDER", false, false},
                                           {"STATE", false, false},    {"TUNNEL", false, false},
                                           {"GPU", false, false},      {"PRICE", true, false},
                                           {"TODAY", true, false},     {"STOPS", false, true}};
    bool rental = any_rental(instances);
    _cleanup_table_ struct table *t =
        rental ? table_new(priced, ELEMENTS(priced)) : table_new(columns, ELEMENTS(columns));

    if (rental) /* the column about what bills */
        table_keep_last(t);
    for (size_t i = 0; i < json_count(instances); i++) {
        const struct json *instance = json_at(instances, i), *tunnel = json_get(instance, "tunnel");
        _cleanup_free_ char *shown = NULL, *stops = stops_text(instance, true), *state = NULL;
        const char *word = member_text(instance, "state", "");
        bool gone = streq(word, "stopped?"); /* as was to be expected */

        shown = gone ? xstrdup("-") : tunnel_text(tunnel);

        state = is_stopped_by_us(instance) ? rented_state_text(instance) : xstrdup(word);
        table_add(t, STYLE_PLAIN, json_get_text(instance, "name"));
        table_add(t, STYLE_PLAIN, json_get_text(instance, "provider"));
        table_add(t, is_stopped_by_us(instance) ? rented_style(instance) : state_style(word), state);
        table_add(t, gone ? STYLE_PLAIN : state_style(tunnel_state(tunnel)), shown);
        if (rental)
            add_prices(t, instance);
        table_add(t, STYLE_PLAIN, stops);
    }
    table_write(t, o->out_width, o->out_colour, out);
}

/* ---- trouble ---- */

/* "tunnel_down" -> "TUNNEL DOWN" */
static char *code_words(const char *code)
{
    char *copy = words_of(code);

    for (char *p = copy; *p; p++)
        *p = (char)toupper((unsigned char)*p);
    return copy;
}

/* Beside code and target when the sentence has room there, else below them. */
#define SENTENCE_COLUMNS 45

static void add_one_trouble(const struct output *o, const struct json *trouble, unsigned code_width,
                            unsigned target_width, struct buf *out)
{
    unsigned beside = 2 + code_width + 2 + (target_width ? target_width + 2 : 0);
    bool below = o->out_width && o->out_width < beside + SENTENCE_COLUMNS;
    unsigned indent = below ? 4 : beside;
    _cleanup_free_ char *code = code_words(member_text(trouble, "code", "trouble"));
    const struct json *next = json_get(trouble, "next");
    struct buf sentence;

    buf_init(&sentence, SCREEN_BYTES_MAX);
    add_wrapped(&sentence, indent, o->out_width, member_text(trouble, "message", ""));
    add_wrapped(&sentence, indent, o->out_width, json_get_text(trouble, "why"));
    /* Commands stay whole: they are there to be copied. */
    for (size_t i = 0; i < json_count(next); i++)
        add_wrapped(&sentence, indent + 2, 0, json_text(json_at(next, i)));
    buf_add_text(out, "  ");
    add_styled(out, o->out_colour, STYLE_BAD, code);
    if (target_width) {
        buf_addf(out, "%*s", (int)(code_width - text_columns(code)) + 2, "");
        add_padded(out, member_text(trouble, "target", ""), below ? 0 : target_width);
    }
    if (below)
        buf_add_text(out, "\n");
    else
        buf_add_text(out, "  ");
    buf_add_text(out, below ? buf_text(&sentence) : buf_text(&sentence) + MIN(beside, sentence.len));
    buf_done(&sentence);
}

static void add_trouble(const struct output *o, const struct json *list, struct buf *out)
{
    unsigned code_width = 0, target_width = 0;
    size_t n = json_count(list);

    if (!n)
        return;
    for (size_t i = 0; i < n; i++) {
        _cleanup_free_ char *code = code_words(member_text(json_at(list, i), "code", "trouble"));

        code_width = MAX(code_width, text_columns(code));
        target_width = MAX(target_width, text_columns(member_text(json_at(list, i), "target", "")));
    }
    buf_addf(out, "\n%zu thing%s you:\n", n, n == 1 ? " needs" : "s need");
    for (size_t i = 0; i < n; i++)
        add_one_trouble(o, json_at(list, i), code_width, target_width, out);
}

/* Somebody who has nothing yet rents a machine, or has one. */
static void add_ways_in(bool rents, struct buf *out)
{
    buf_add_text(out, "\nno instance and no model yet. begin with one of\n");
    if (rents)
        buf_add_text(out, "  llmhostctl up ollama:NAME                 the cheapest card for it is proposed\n"
                          "  llmhostctl offers --for ollama:NAME       which cards hold it, with prices\n"
                          "  llmhostctl up ollama:NAME --gpu CARD      this card is rented for it\n");
    else
        buf_add_text(out, "  llmhostctl provider add autodl            then machines are rented for you\n");
    buf_add_text(out, "  llmhostctl instance add NAME 'ssh -p PORT USER@HOST'\n"
                      "  llmhostctl instance add here --provider=local\n");
}

/* A search that goes on and has its end needs nobody: the tables tell of it. */
static struct json *trouble_of_people(const struct json *status)
{
    const struct json *list = json_get(status, "trouble");
    struct json *left = json_array();

    for (size_t i = 0; i < json_count(list); i++) {
        const char *code = member_text(json_at(list, i), "code", "");
        const struct json *instance = instance_find(status, member_text(json_at(list, i), "target", ""));

        if (!instance || !rented_is_looked_for(instance) ||
            (!streq(code, "no_capacity") && !streq(code, "host_full")))
            json_append(left, json_copy(json_at(list, i)));
    }
    return left;
}

void screen_status(const struct output *o, const struct json *status, struct buf *out)
{
    _cleanup_json_ struct json *trouble = trouble_of_people(status);
    const struct json *models = json_get(status, "models"), *instances = json_get(status, "instances");

    add_header(o, status, out);
    if (json_count(models)) {
        buf_add_text(out, "\n");
        add_models(o, status, out);
    }
    if (json_count(instances)) {
        buf_add_text(out, "\n");
        add_instances(o, instances, out);
    } else if (!json_count(models)) {
        add_ways_in(any_account_rents(json_get(status, "accounts")), out);
    }
    if (!json_count(models) && json_count(instances))
        buf_add_text(out, "\nno model yet: llmhostctl up ollama:NAME\n");
    add_trouble(o, trouble, out);
}

void screen_names(const struct output *o, const struct json *status, struct buf *out)
{
    static const char *const lists[] = {"models", "instances"};

    (void)o;
    for (size_t k = 0; k < ELEMENTS(lists); k++) {
        const struct json *list = json_get(status, lists[k]);
        const char *last = "";

        for (size_t i = 0; i < json_count(list); i++) {
            const char *name = member_text(json_at(list, i), "name", "");

            if (!streq(name, last)) /* a model on two instances is one name */
                buf_addf(out, "%s\n", name);
            last = name;
        }
    }
}

void screen_instances(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *instances = json_get(reply, "instances");

    if (json_count(instances))
        add_instances(o, instances, out);
    else
        buf_add_text(out, "no instance yet: llmhostctl instance add NAME 'ssh -p PORT USER@HOST'\n");
}

static bool trouble_has(const struct json *list, const struct json *trouble)
{
    for (size_t i = 0; i < json_count(list); i++)
        if (streq(member_text(json_at(list, i), "code", ""), member_text(trouble, "code", "")) &&
            streq(member_text(json_at(list, i), "message", ""), member_text(trouble, "message", "")))
            return true;
    return false;
}

/* What the things themselves carry, and what the list has beyond it. */
void screen_trouble(const struct output *o, const struct json *status, struct buf *out)
{
    static const char *const lists[] = {"instances", "models"};
    const struct json *list = json_get(status, "trouble");
    _cleanup_json_ struct json *all = json_array();

    for (size_t i = 0; i < json_count(list); i++)
        json_append(all, json_copy(json_at(list, i)));
    for (size_t k = 0; k < ELEMENTS(lists); k++)
        for (size_t i = 0; i < json_count(json_get(status, lists[k])); i++) {
            const struct json *own = json_get(json_at(json_get(status, lists[k]), i), "trouble");

            if (json_type(own) == JSON_OBJECT && !trouble_has(all, own))
                json_append(all, json_copy(own));
        }
    add_trouble(o, all, out);
}
