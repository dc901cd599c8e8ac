/* What rented machines cost, what could be rented, and the accounts the money comes from. */
#include <string.h>

#include "client/output.h"
#include "proto/mem.h"

/* ---- cost ---- */

/* A Money of all of that unit in the list, under that key. One that has none there, and is of that unit, is one that nobody knows. */
static struct json *money_sum(const struct json *list, const char *key, const char *unit_key, const char *unit)
{
    struct json *sum = json_object();
    bool estimate = false, unknown = false;
    int64_t milli = 0;

    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *money = json_get(json_at(list, i), key);

        if (!streq(member_text(json_get(json_at(list, i), unit_key), "unit", ""), unit))
            continue;
        unknown |= json_type(money) != JSON_OBJECT;
        milli += json_get_int(money, "milli", 0);
        estimate |= json_get_bool(money, "estimate", false);
        unknown |= json_get_bool(money, "unknown", false);
    }
    json_put_int(sum, "milli", milli);
    json_put_string(sum, "unit", unit);
    json_put_bool(sum, "estimate", estimate);
    json_put_bool(sum, "unknown", unknown);
    return sum;
}

static void add_money(struct table *t, const struct json *money, const char *per)
{
    char text[AMOUNT_MAX];

    table_add(t, STYLE_PLAIN, amount_cell(text, money, per));
}

/* One row for each unit of the list, in whose rows it stands under unit_key. */
static void add_totals(struct table *t, const struct json *list, const char *now, const char *unit_key)
{
    for (size_t i = 0; i < json_count(list); i++) {
        const char *unit = member_text(json_get(json_at(list, i), unit_key), "unit", "");
        bool first = true;

        for (size_t k = 0; k < i; k++)
            first &= !streq(member_text(json_get(json_at(list, k), unit_key), "unit", ""), unit);
        if (!first)
            continue;
        _cleanup_json_ struct json *rate = money_sum(list, now, unit_key, unit),
                                   *today = money_sum(list, "today", unit_key, unit),
                                   *month = money_sum(list, "month", unit_key, unit);

        table_add(t, STYLE_HEAD, "total");
        add_money(t, rate, "/h");
        add_money(t, today, "");
        add_money(t, month, "");
        for (unsigned k = 0; k < 4; k++)
            table_add(t, STYLE_PLAIN, " ");
    }
}

/* "2 x 4090D" of a line or a machine; NULL: nobody knows. Caller frees. */
static char *card_of(const struct json *v)
{
    int64_t n = json_get_int(v, "cards", 1);
    const char *gpu = json_get_text(v, "gpu");

    if (!gpu)
        return NULL;
    return n > 1 ? xasprintf("%lld x %s", (long long)n, gpu) : xstrdup(gpu);
}

static void add_card(struct table *t, const struct json *v)
{
    _cleanup_free_ char *card = card_of(v);

    table_add(t, STYLE_PLAIN, card);
}

/* What there is to know of its price. */
static void add_note(struct table *t, const struct json *line)
{
    int64_t disk_gb = json_get_int(line, "disk_gb", 0),
            prepaid = json_get_int(line, "prepaid_until_at_ms", 0),
            was_on = json_get_int(line, "was_on_at_ms", 0);
    const char *id = member_text(line, "id", "");
    char at[CLOCK_MAX];
    struct buf text;

    buf_init(&text, 4096);
    if (was_on)
        buf_addf(&text, "on until %s%s%s", minute_format(at, was_on), *id ? ", " : "", id);
    if (prepaid)
        buf_addf(&text, "prepaid until %s", minute_format(at, prepaid));
    if (disk_gb)
        buf_addf(&text, "%sdata disk %lld GB", text.len ? ", " : "", (long long)disk_gb);
    table_add(t, STYLE_PLAIN, text.len ? buf_text(&text) : " ");
    buf_done(&text);
}

/* What bills here by nobody's account: name_key is what it is called by. */
static void add_unknown(struct table *t, const struct json *v, const char *name_key, const char *note)
{
    const struct json *now = json_get(v, "price");

    table_add(t, STYLE_PLAIN, json_get_text(v, name_key));
    if (now)
        add_money(t, now, "/h");
    else
        table_add(t, STYLE_PLAIN, "?");
    table_add(t, STYLE_PLAIN, "?");
    table_add(t, STYLE_PLAIN, "?");
    table_add(t, STYLE_PLAIN, "?");
    table_add(t, STYLE_PLAIN, json_get_text(v, "state"));
    add_card(t, v);
    table_add(t, STYLE_PLAIN, note);
}

/* The accounts know also what is given back by now; with targets the sum is that of the rows. */
static void add_costs(const struct output *o, const struct json *reply, bool of_targets, struct buf *out)
{
    static const struct column columns[] = {
        {"INSTANCE", false, false},  {"NOW", true, false},    {"TODAY", true, false}, {"MONTH", true, false},
        {"IF STOPPED", true, false}, {"STATE", false, false}, {"GPU", false, false},
        {"", false, true},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *lines = json_get(reply, "lines"), *accounts = json_get(reply, "accounts"),
                      *unpriced = json_get(reply, "unpriced"), *orphans = json_get(reply, "orphans"),
                      *removed = json_get(reply, "removed");

    for (size_t i = 0; i < json_count(lines); i++) {
        const struct json *line = json_at(lines, i);

        _cleanup_free_ char *name = xasprintf("%s%s", member_text(line, "instance", "?"),
                                              json_get_bool(line, "earlier", false) ? " (earlier)" : "");

        table_add(t, STYLE_PLAIN, name);
        add_money(t, json_get(line, "now"), "/h");
        add_money(t, json_get(line, "today"), "");
        add_money(t, json_get(line, "month"), "");
        add_money(t, json_get(line, "stopped"), "/h");
        table_add(t, STYLE_PLAIN, json_get_text(line, "state"));
        add_card(t, line);
        add_note(t, line);
    }
    for (size_t i = 0; i < json_count(unpriced); i++)
        add_unknown(t, json_at(unpriced, i), "instance", "rented by hand");
    for (size_t i = 0; i < json_count(orphans); i++)
        add_unknown(t, json_at(orphans, i), "id", "ORPHAN");
    if (json_count(accounts) + json_count(removed) && !of_targets) {
        _cleanup_json_ struct json *all = json_array();

        for (size_t i = 0; i < json_count(accounts); i++)
            json_append(all, json_copy(json_at(accounts, i)));
        for (size_t i = 0; i < json_count(removed); i++)
            json_append(all, json_copy(json_at(removed, i)));
        add_totals(t, all, "rate", "today");
    }
    else
        add_totals(t, lines, "now", "today");
    table_write(t, o->out_width, o->out_colour, out);
}

/* "stamp" is the provider's own time; all else is ours, and said. */
static void add_end(struct table *t, const char *basis, int64_t at_ms)
{
    char at[CLOCK_MAX];
    _cleanup_free_ char *text = NULL;

    if (at_ms)
        text = streq(basis, "stamp") ? xstrdup(clock_format(at, at_ms, false))
                                     : xasprintf("%s (%s)", clock_format(at, at_ms, false), basis);
    table_add(t, STYLE_PLAIN, text ? text : "goes on");
}

/* The intervals of the ledger. */
static void add_spent_rows(const struct output *o, const struct json *rows, struct buf *out)
{
    static const struct column columns[] = {
        {"INSTANCE", false, false}, {"WHAT", false, false}, {"AMOUNT", true, false},
        {"RATE", true, false},      {"FROM", false, false}, {"TO", false, false},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));

    for (size_t i = 0; i < json_count(rows); i++) {
        const struct json *row = json_at(rows, i), *amount = json_get(row, "amount");
        int64_t rate = json_get_int(row, "rate_milli", -1);
        char text[AMOUNT_MAX];
        _cleanup_free_ char *per =
            rate < 0 ? NULL
                     : xasprintf("%s/h%s", money_format(text, rate, member_text(amount, "unit", "")),
                                 streq(member_text(row, "rate_basis", ""), "list") ? "~" : "");
        _cleanup_free_ char *kind = xasprintf("%s%s", member_text(row, "kind", "?"),
                                              json_get_bool(row, "by_us", true) ? "" : ", not by us");

        table_add(t, STYLE_PLAIN, json_get_text(row, "instance"));
        table_add(t, STYLE_PLAIN, kind);
        add_money(t, amount, "");
        table_add(t, STYLE_PLAIN, per ? per : streq(member_text(row, "kind", ""), "compute") ? "?" : NULL);
        add_end(t, member_text(row, "from_basis", "?"), json_get_int(row, "from_at_ms", 0));
        add_end(t, member_text(row, "to_basis", "?"), json_get_int(row, "to_at_ms", 0));
    }
    if (json_count(rows)) {
        buf_add_text(out, "\n");
        table_write(t, o->out_width, o->out_colour, out);
    }
}

/* And how it ends. */
static void add_left_out(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *unpriced = json_get(reply, "unpriced"), *orphans = json_get(reply, "orphans"),
                      *lines = json_get(reply, "lines");

    for (size_t i = 0; i < json_count(lines); i++) {
        const char *why = json_get_text(json_at(lines, i), "now_unknown");
        _cleanup_free_ char *text = why ? xasprintf("%s: nobody knows whether it bills now: %s.",
                                                    member_text(json_at(lines, i), "instance", "?"), why)
                                        : NULL;

        if (text)
            add_wrapped(out, 0, o->out_width, text);
    }
    if (json_count(unpriced))
        add_wrapped(out, 0, o->out_width,
                    "rented by hand: what it costs is not known here; it is in no sum, and no limit of money "
                    "stops it.");
    for (size_t i = 0; i < json_count(orphans); i++) {
        const struct json *orphan = json_at(orphans, i);
        const char *at = member_text(orphan, "provider", "?"), *id = member_text(orphan, "id", "?");
        _cleanup_free_ char *text = xasprintf(
            "ORPHAN: %s bills at %s, no instance here knows it, and it is in no sum. what ends it:", id, at);

        add_wrapped(out, 0, o->out_width, text);
        buf_addf(out, "  llmhostctl down --at %s %s\n", at, id);
    }
}

static bool has_lines(const struct json *reply)
{
    return json_count(json_get(reply, "lines")) || json_count(json_get(reply, "unpriced")) ||
           json_count(json_get(reply, "orphans"));
}

static void add_legend(const struct output *o, size_t begin, struct buf *out)
{
    bool estimate = strchr(buf_text(out) + begin, '~'), unknown = strchr(buf_text(out) + begin, '?');

    if (estimate)
        add_wrapped(out, 0, o->out_width,
                    "~ estimate from list price and the times we saw; the provider's bill decides.");
    if (unknown)
        add_wrapped(out, 0, o->out_width, "? is not known: it may be more than what stands there.");
}

/* Why there is no newer balance of it, or none. */
static void add_unread(const struct output *o, const struct json *account, const struct json *not_asked,
                       struct buf *out)
{
    const struct json *trouble = json_get(account, "trouble");
    const char *name = member_text(account, "provider", "?"), *why = NULL;
    char age[TEXT_SHORT_MAX];
    int64_t at_ms = json_get_int(account, "balance_at_ms", 0);

    if (streq(member_text(trouble, "code", ""), "token_refused"))
        why = json_get_text(trouble, "message");
    for (size_t i = 0; i < json_count(not_asked); i++)
        if (streq(member_text(json_at(not_asked, i), "target", ""), name))
            why = json_get_text(json_at(not_asked, i), "message");
    if (!why)
        return;
    _cleanup_free_ char *text =
        at_ms ? xasprintf("the balance of %s is as it was read %s ago: %s.", name, age_format(age, at_ms), why)
              : xasprintf("the balance of %s is not known: %s.", name, why);

    add_wrapped(out, 0, o->out_width, text);
}

static void add_money_screen(const struct output *o, const struct json *reply, bool of_targets,
                             struct buf *out)
{
    const struct json *accounts = json_get(reply, "accounts"), *removed = json_get(reply, "removed");
    bool is_reserved = false;
    size_t begin = out->len;

    if (!json_count(accounts) && !json_count(removed) && !has_lines(reply)) {
        buf_add_text(out, "nothing is rented, and no account is known: llmhostctl provider add NAME\n");
        return;
    }
    if (has_lines(reply))
        add_costs(o, reply, of_targets, out);
    else
        buf_add_text(out, "no rented machine.\n");
    add_spent_rows(o, json_get(reply, "rows"), out);
    buf_add_text(out, "\n");
    for (size_t i = 0; i < json_count(accounts); i++) {
        _cleanup_free_ char *text = account_text(json_at(accounts, i), json_count(accounts) > 1, true);

        add_wrapped(out, 0, o->out_width, text);
        add_exempt(o, json_at(accounts, i), 0, out);
        add_unread(o, json_at(accounts, i), json_get(reply, "not_asked"), out);
        is_reserved |= json_get(json_at(accounts, i), "reserved") != NULL;
    }
    if (is_reserved)
        add_wrapped(out, 0, o->out_width,
                    "reserved: set aside from the limits for what is on or kept, less what that cost since. a start "
                    "takes the price of its usual boot, min_up, the guard's lease and 20 s.");
    for (size_t i = 0; i < json_count(removed); i++) {
        _cleanup_free_ char *spent = account_text(json_at(removed, i), false, true),
                            *text = xasprintf("%s (the account is removed): %s",
                                              member_text(json_at(removed, i), "provider", "?"), spent);

        add_wrapped(out, 0, o->out_width, text);
    }
    add_left_out(o, reply, out);
    add_legend(o, begin, out);
}

void screen_cost(const struct output *o, const struct json *reply, struct buf *out)
{
    add_money_screen(o, reply, false, out);
}

void screen_cost_of(const struct output *o, const struct json *reply, struct buf *out)
{
    add_money_screen(o, reply, true, out);
}

/* ---- offers ---- */

/* What stands in the last column: who has it, and how far its words can be trusted. */
static char *offer_where(const struct json *offer)
{
    return xasprintf("%s%s", member_text(offer, "provider", "?"),
                     json_get_bool(offer, "unofficial", false) ? " console (unofficial)" : "");
}

static void add_offer(struct table *t, const struct json *offer, bool fits)
{
    int64_t stock = json_get_int(offer, "stock", -1), context = json_get_int(offer, "context", 0),
            needs = json_get_int(offer, "needs_bytes", 0);
    char bytes[TEXT_SHORT_MAX], memory[TEXT_SHORT_MAX], free_cards[TEXT_SHORT_MAX], longest[TEXT_SHORT_MAX];
    _cleanup_free_ char *where = offer_where(offer);
    const char *answer = member_text(offer, "fits", "unknown");

    char need[TEXT_SHORT_MAX + 1];

    snprintf(need, sizeof need, "%s%s", needs ? bytes_format(bytes, (uint64_t)needs) : "?",
             needs && json_get_bool(offer, "from_table", false) ? "~" : "");
    snprintf(memory, sizeof(memory), "%lld GiB", (long long)json_get_int(offer, "memory_gib", 0));
    snprintf(free_cards, sizeof(free_cards), "%lld", (long long)stock);
    snprintf(longest, sizeof(longest), "%lld", (long long)context);
    table_add(t, STYLE_PLAIN, json_get_text(offer, "gpu"));
    table_add(t, STYLE_PLAIN, memory);
    add_money(t, json_get(offer, "price"), "/h");
    if (fits) {
        table_add(t,
                  streq(answer, "yes")  ? STYLE_GOOD
                  : streq(answer, "no") ? STYLE_BAD
                                        : STYLE_BUSY,
                  streq(answer, "unknown") ? "?" : answer);
        table_add(t, STYLE_PLAIN, need);
        table_add(t, STYLE_PLAIN, context ? longest : "?");
    }
    table_add(t, STYLE_PLAIN, stock < 0 ? "?" : free_cards);
    table_add(t, STYLE_PLAIN, where);
}

/* The oldest day a price is of. */
static const char *price_day(const struct json *offers)
{
    const char *oldest = NULL;

    for (size_t i = 0; i < json_count(offers); i++) {
        const char *day = json_get_text(json_at(offers, i), "price_day");

        if (day && (!oldest || strcmp(day, oldest) < 0))
            oldest = day;
    }
    return oldest;
}

static bool any_offer(const struct json *offers, const char *key)
{
    for (size_t i = 0; i < json_count(offers); i++)
        if (json_get(json_at(offers, i), key) && json_type(json_get(json_at(offers, i), key)) != JSON_NULL)
            return true;
    return false;
}

void screen_offers(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column plain[] = {{"CARD", false, false},
                                          {"MEMORY", true, false},
                                          {"PRICE", true, false},
                                          {"FREE", true, false},
                                          {"AT", false, true}},
                               judged[] = {{"CARD", false, false}, {"MEMORY", true, false},
                                           {"PRICE", true, false}, {"FITS", false, false},
                                           {"NEEDS", true, false}, {"CONTEXT", true, false},
                                           {"FREE", true, false},  {"AT", false, true}};
    const struct json *offers = json_get(reply, "offers");
    bool fits = any_offer(offers, "fits");
    _cleanup_table_ struct table *t =
        fits ? table_new(judged, ELEMENTS(judged)) : table_new(plain, ELEMENTS(plain));
    const char *day = price_day(offers);

    if (!json_count(offers)) {
        buf_add_text(out, "no such card can be rented. all there are: llmhostctl offers\n");
        return;
    }
    for (size_t i = 0; i < json_count(offers); i++)
        add_offer(t, json_at(offers, i), fits);
    table_write(t, o->out_width, o->out_colour, out);
    buf_add_text(out, "\n");
    if (day) {
        _cleanup_free_ char *text = xasprintf(
            "prices of one card, as listed on %s; what the machine says after its start counts.", day);

        add_wrapped(out, 0, o->out_width, text);
    }
    if (any_offer(offers, "from_table"))
        add_wrapped(out, 0, o->out_width,
                    "FITS and NEEDS~ are by llmhost's own table: the registry of the model was not heard.");
    if (any_offer(offers, "stock"))
        add_wrapped(out, 0, o->out_width,
                    "FREE is advisory: what is free may be gone, what is not may come.");
}

/* ---- what an account has ---- */

static bool is_orphan(const struct json *machine)
{
    return json_get_bool(machine, "orphan", false);
}

static void add_machine(struct table *t, const struct json *machine)
{
    int64_t prepaid = json_get_int(machine, "prepaid_until_at_ms", 0);
    char at[CLOCK_MAX];
    bool on = streq(member_text(machine, "power", ""), "on"), orphan = is_orphan(machine);
    _cleanup_free_ char *card = xasprintf("%lld x %s", (long long)json_get_int(machine, "cards", 1),
                                          member_text(machine, "gpu", "?")),
                        *state = xasprintf("%s%s", member_text(machine, "state", "?"),
                                           json_get_bool(machine, "no_card", false) ? ", no card" : "");

    table_add(t, STYLE_PLAIN, json_get_text(machine, "id"));
    table_add(t, STYLE_PLAIN, card);
    table_add(t, on ? STYLE_GOOD : STYLE_PLAIN, state);
    table_add(t, orphan ? STYLE_BAD : STYLE_PLAIN, orphan ? "ORPHAN" : json_get_text(machine, "instance"));
    add_money(t, json_get(machine, "price"), "/h");
    table_add(t, STYLE_PLAIN, prepaid ? minute_format(at, prepaid) : NULL);
    table_add(t, STYLE_PLAIN, json_get_text(machine, "name"));
}

void screen_machines(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {
        {"ID", false, false},   {"CARD", false, false},    {"STATE", false, false}, {"HERE", false, false},
        {"PRICE", true, false}, {"PREPAID", false, false}, {"NAME", false, true}};
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    const struct json *machines = json_get(reply, "machines");

    if (!json_count(machines)) {
        buf_add_text(out, "the account has no machine.\n");
        return;
    }
    for (size_t i = 0; i < json_count(machines); i++)
        add_machine(t, json_at(machines, i));
    table_write(t, o->out_width, o->out_colour, out);
    for (size_t i = 0; i < json_count(machines); i++)
        if (is_orphan(json_at(machines, i))) {
            buf_addf(out,
                     "ORPHAN: rented from here, and no instance knows it.\n  llmhostctl down --at %s ID\n",
                     member_text(json_at(machines, i), "provider", "?"));
            break;
        }
}

/* ---- accounts ---- */

static void add_limit(struct table *t, const struct json *account, const char *key, const char *per)
{
    int64_t milli = json_get_int(account, key, 0);
    char text[AMOUNT_MAX];
    _cleanup_free_ char *shown =
        milli ? xasprintf("%s%s", money_format(text, milli, member_text(account, "unit", "")), per) : NULL;

    table_add(t, STYLE_PLAIN, shown);
}

static void add_accounts(const struct output *o, const struct json *accounts, struct buf *out)
{
    static const struct column columns[] = {
        {"PROVIDER", false, false}, {"BALANCE", true, false}, {"TODAY", true, false},
        {"OF A DAY", true, false},  {"MONTH", true, false},   {"OF A MONTH", true, false},
        {"MAX PRICE", true, false}, {"FLOOR", true, false},   {"INSTANCES", true, false},
    };
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));

    for (size_t i = 0; i < json_count(accounts); i++) {
        const struct json *a = json_at(accounts, i);
        char balance[AMOUNT_MAX], today[AMOUNT_MAX], month[AMOUNT_MAX], n[TEXT_SHORT_MAX];

        snprintf(n, sizeof(n), "%lld", (long long)json_get_int(a, "instances", 0));
        table_add(t, STYLE_PLAIN, json_get_text(a, "provider"));
        table_add(t, STYLE_PLAIN, amount_format(balance, json_get(a, "balance"), ""));
        table_add(t, STYLE_PLAIN, amount_format(today, json_get(a, "today"), ""));
        add_limit(t, a, "day_milli", "");
        table_add(t, STYLE_PLAIN, amount_format(month, json_get(a, "month"), ""));
        add_limit(t, a, "month_milli", "");
        add_limit(t, a, "price_milli", "/h");
        add_limit(t, a, "floor_milli", "");
        table_add(t, STYLE_PLAIN, n);
    }
    table_write(t, o->out_width, o->out_colour, out);
}

static bool has_account(const struct json *accounts, const char *name)
{
    for (size_t i = 0; i < json_count(accounts); i++)
        if (streq(member_text(json_at(accounts, i), "provider", ""), name))
            return true;
    return false;
}

void screen_accounts(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *accounts = json_get(reply, "accounts"), *known = json_get(reply, "known");

    if (json_count(accounts))
        add_accounts(o, accounts, out);
    else
        buf_add_text(out, "no account: nothing can be rented.\n");
    for (size_t i = 0; i < json_count(known); i++)
        if (!has_account(accounts, json_text(json_at(known, i))))
            buf_addf(out, "  add one: llmhostctl provider add %s\n", json_text(json_at(known, i)));
}

/* What one account may spend, a line each. */
void screen_account(const struct output *o, const struct json *account, struct buf *out)
{
    static const struct {
        const char *key, *words, *per;
    } limits[] = {{"day_milli", "a day", ""},
                  {"month_milli", "a month", ""},
                  {"price_milli", "at most", "/h"},
                  {"floor_milli", "balance floor", ""}};
    const char *unit = member_text(account, "unit", "");
    _cleanup_free_ char *text = account_text(account, false, false);
    char milli[AMOUNT_MAX];

    add_wrapped(out, 2, o->out_width, text);
    add_exempt(o, account, 2, out);
    for (size_t i = 0; i < ELEMENTS(limits); i++)
        if (json_get_int(account, limits[i].key, 0))
            buf_addf(out, "  %-13s  %s%s\n", limits[i].words,
                     money_format(milli, json_get_int(account, limits[i].key, 0), unit), limits[i].per);
    if (!json_get_int(account, "day_milli", 0))
        buf_addf(out, "  %-13s  no limit\n", "a day");
}
