/* Machines that are rented: what they cost, when they stop by themselves and what would stop them without us.
 */
#include <ctype.h>
#include <string.h>

#include "client/output.h"
#include "proto/mem.h"

/* ---- the cells of status ---- */

static const struct json *rental_of(const struct json *instance)
{
    const struct json *rental = json_get(instance, "rental");

    return json_type(rental) == JSON_OBJECT ? rental : NULL;
}

bool is_rental(const struct json *instance)
{
    return rental_of(instance) != NULL;
}

const struct json *stop_of(const struct json *instance)
{
    const struct json *in_box = json_get(instance, "in_box");

    return json_type(in_box) == JSON_OBJECT ? in_box : rental_of(instance);
}

bool is_stopped_by_us(const struct json *instance)
{
    return stop_of(instance) != NULL;
}

static bool is_state(const struct json *instance, const char *state)
{
    return streq(member_text(instance, "state", ""), state);
}

static bool is_unconfirmed(const struct json *instance)
{
    return streq(member_text(json_get(instance, "trouble"), "code", ""), "stop_not_confirmed");
}

/* Does it bill, as far as anybody knows? */
static bool is_on(const struct json *instance)
{
    return !json_get_text(rental_of(instance), "was") && !is_state(instance, "absent") && !is_state(instance, "waiting") &&
           !is_state(instance, "stopped") && !is_state(instance, "stopped?") &&
           !is_state(instance, "releasing") && !is_state(instance, "released");
}

/* It is there, and would bill. What is only looked for or asked for has no price yet. */
static bool is_rented(const struct json *instance)
{
    return is_on(instance) && !is_state(instance, "creating");
}

enum style rented_style(const struct json *instance)
{
    if (is_unconfirmed(instance))
        return STYLE_BAD;
    return is_state(instance, "running") ? STYLE_GOOD : is_on(instance) ? STYLE_BUSY : STYLE_PLAIN;
}

/* Of "4m10s" the "4m": the column is narrow. */
static size_t first_unit(const char *age)
{
    size_t n = strspn(age, "0123456789");

    return n + (age[n] ? 1 : 0);
}

/* A fact of the provider's has an age, which is shown when it is not fresh. */
char *rented_state_text(const struct json *instance)
{
    int64_t seen = json_get_int(rental_of(instance), "provider_state_at_ms", 0);
    char *text = xstrdup(member_text(instance, "state", "?")), age[TEXT_SHORT_MAX], *with_age;

    for (char *p = text; is_unconfirmed(instance) && *p; p++)
        *p = (char)toupper((unsigned char)*p);
    if (json_get_text(rental_of(instance), "was")) {
        free(text);
        return xasprintf("%s (not read yet)", json_get_text(rental_of(instance), "was"));
    }
    if (!is_on(instance) || !seen || now_at_ms() - seen < FRESH_MS)
        return text;
    with_age = xasprintf("%s (%.*s ago)", text, (int)first_unit(age_format(age, seen)), age);
    free(text);
    return with_age;
}

const char *rented_price_text(char out[static AMOUNT_MAX], const struct json *instance)
{
    if (!is_rental(instance))
        return json_get_bool(instance, "rented", false) || stop_of(instance) ? "?" : "own";
    if (json_get_int(rental_of(instance), "prepaid_until_at_ms", 0))
        return "prepaid";
    if (is_rented(instance))
        return amount_format(out, json_get(rental_of(instance), "rate"), "/h");
    return json_get(rental_of(instance), "stopped")
               ? amount_cell(out, json_get(rental_of(instance), "stopped"), "/h")
               : NULL;
}

bool any_account_rents(const struct json *accounts)
{
    for (size_t i = 0; i < json_count(accounts); i++)
        if (json_get_bool(json_at(accounts, i), "rents", false))
            return true;
    return false;
}

char *rented_card_text(const struct json *instance)
{
    int64_t n = json_get_int(rental_of(instance), "cards", 1);
    const char *gpu = member_text(rental_of(instance), "gpu", "?");

    if (!is_rental(instance))
        return NULL;
    return n > 1 ? xasprintf("%lld x %s", (long long)n, gpu) : xstrdup(gpu);
}

const char *rented_hour_text(char out[static AMOUNT_MAX], const struct json *instance)
{
    if (!is_rental(instance) || json_get_int(rental_of(instance), "prepaid_until_at_ms", 0))
        return rented_price_text(out, instance);
    return amount_format(out, json_get(rental_of(instance), "rate"), "/h");
}

/* "in 4m10s", "now" once that has come. */
static const char *soon_format(char out[static TEXT_SHORT_MAX], int64_t at_ms)
{
    char left[TEXT_SHORT_MAX];

    if (at_ms <= now_at_ms())
        return "now";
    snprintf(out, TEXT_SHORT_MAX, "in %.20s", duration_format(left, (uint64_t)(at_ms - now_at_ms()), false));
    return out;
}

/* It came up just now, or this daemon did: the login is still to come, and with it the answer of its guard. */
static bool is_unread(const struct json *instance)
{
    const struct json *stop = stop_of(instance);

    return streq(member_text(json_get(stop, "guard"), "state", ""), "away") &&
           !json_get_int(json_get(stop, "guard"), "acts_at_ms", 0) &&
           now_at_ms() - json_get_int(stop, "since_at_ms", 0) < FRESH_MS;
}

/* Nothing would stop it if we were gone, as far as we know. */
static bool is_unguarded(const struct json *instance)
{
    const struct json *guard = json_get(stop_of(instance), "guard");
    const char *state = member_text(guard, "state", "");

    return streq(state, "useless") || streq(state, "none") ||
           (streq(state, "away") && !json_get_int(guard, "acts_at_ms", 0) && !is_unread(instance));
}

static const char *guard_word(const struct json *guard)
{
    if (json_get_bool(guard, "proved", false))
        return "guard ok";
    return json_get_int(guard, "tried_at_ms", 0) ? "GUARD FAILED ITS TRIAL" : "guard unproved";
}

/* What would stop it if we were gone; whole: with the reason where nothing would. */
static void add_guard(const struct json *instance, bool whole, struct buf *out)
{
    const struct json *guard = json_get(stop_of(instance), "guard");
    const char *state = member_text(guard, "state", ""),
               *reason = whole ? json_get_text(guard, "reason") : NULL;
    const char *owner = json_get_text(guard, "owner");
    int64_t acts = json_get_int(guard, "acts_at_ms", 0);
    char at[CLOCK_MAX];

    if (streq(state, "not_ours"))
        buf_add_text(out, "guard none: it was switched on elsewhere");
    else if (streq(state, "kept"))
        buf_add_text(out, guard_word(guard));
    else if (streq(state, "asking") || streq(state, "installing"))
        buf_add_text(out, "guard on its way");
    else if (streq(state, "to_come"))
        buf_add_text(out, "guard comes with the power-on");
    else if (streq(state, "timer_first"))
        buf_add_text(out, "guard comes at the login, its provider's timer with the power-on");
    else if (is_unread(instance))
        buf_add_text(out, "guard not read yet");
    else if (streq(state, "away"))
        buf_add_text(out, acts ? "guard not reached" : "GUARD NOT REACHED");
    else if (streq(state, "refused"))
        buf_addf(out, "guard is another llmhostd's%s%s", owner ? ": " : "", owner ? owner : "");
    else if (streq(state, "useless"))
        buf_addf(out, "NO GUARD%s%s", reason ? ": " : "", reason ? reason : "");
    else if (streq(state, "none"))
        buf_add_text(out, "NO GUARD, by name");
    else
        buf_addf(out, "guard %s", state);
    if (acts && !streq(state, "none") && !streq(state, "useless"))
        buf_addf(out, ", lease to %s", minute_format(at, acts));
}

/* Why it is on, or why it goes off. */
static void add_stays(const struct json *rental, struct buf *out)
{
    const char *stays = member_text(rental, "stays", "");
    int64_t until = json_get_int(rental, "until_at_ms", 0);
    char left[TEXT_SHORT_MAX], at[CLOCK_MAX];
    const char *soon = until ? soon_format(left, until) : "now";

    if (streq(stays, "in_use"))
        buf_add_text(out, "after the last request");
    else if (streq(stays, "kept") && until)
        buf_addf(out, "not before %s (kept)", minute_format(at, until));
    else if (streq(stays, "minimum_up") && until)
        buf_addf(out, "not before %s (minimum up time)", minute_format(at, until));
    else if (streq(stays, "idle") && !until)
        buf_add_text(out, "not for being idle");
    else if (streq(stays, "idle"))
        buf_add_text(out, soon);
    else if (streq(stays, "failed_hold"))
        buf_addf(out, "%s, so that you can look", soon);
    else if (streq(stays, "quiet_use"))
        buf_addf(out, "%s, %s", soon, member_text(rental, "quiet", "used without requests"));
    else if (streq(stays, "max_up"))
        buf_addf(out, "%s, longest time up", soon);
    else if (streq(stays, "budget"))
        buf_addf(out, "%s, a limit of money", soon);
    else if (streq(stays, "stopped_by_user"))
        buf_add_text(out, "now (down)");
    else if (streq(stays, "asleep"))
        buf_add_text(out, "now (asleep)");
    else if (streq(stays, "prepaid") && until)
        buf_addf(out, "not before %s (prepaid)", minute_format(at, until));
    else if (streq(stays, "no_card") && until)
        buf_addf(out, "at %s (on without its card)", minute_format(at, until));
    else if (streq(stays, "not_by_us"))
        buf_add_text(out, "never: on, not by us");
    else
        buf_add_text(out, *stays ? stays : "not by itself");
}

bool rented_lacks_card(const struct json *instance)
{
    const char *code = member_text(json_get(instance, "trouble"), "code", "");

    return is_state(instance, "waiting") && (streq(code, "no_capacity") || streq(code, "host_full"));
}

bool rented_is_looked_for(const struct json *instance)
{
    return rented_lacks_card(instance) && json_get_int(rental_of(instance), "search_until_at_ms", 0) > now_at_ms();
}

char *rented_try_text(const struct json *instance)
{
    const struct json *rental = rental_of(instance);
    int64_t tries = json_get_int(rental, "tries", 0), next = json_get_int(rental, "next_try_at_ms", 0);
    char left[TEXT_SHORT_MAX];

    return xasprintf("try %lld %s", (long long)tries + 1, next ? soon_format(left, next) : "now");
}

/* For a card there are tries; for money and for the disk somebody has to do something. */
static void add_waits(const struct json *instance, struct buf *out)
{
    _cleanup_free_ char *text = rented_try_text(instance);
    char at[CLOCK_MAX];

    buf_add_text(out, "nothing is on");
    if (json_get_int(rental_of(instance), "tries", 0) ||
        json_get_int(rental_of(instance), "next_try_at_ms", 0))
        buf_addf(out, "; %s", text);
    if (rented_is_looked_for(instance))
        buf_addf(out, ", until %s",
                 minute_format(at, json_get_int(rental_of(instance), "search_until_at_ms", 0)));
}

/* A stop that nobody confirms has one more who may end it. */
static void add_asked(const struct json *instance, int64_t asked, struct buf *out)
{
    int64_t acts = json_get_int(json_get(stop_of(instance), "guard"), "acts_at_ms", 0);
    char age[TEXT_SHORT_MAX], at[CLOCK_MAX];

    buf_addf(out, "asked %s ago", age_format(age, asked));
    if (json_get_bool(rental_of(instance), "guard_told", false))
        buf_add_text(out, ", its guard was told too");
    if (!is_unconfirmed(instance))
        return;
    buf_add_text(out, ", NOT CONFIRMED");
    if (acts > now_at_ms())
        buf_addf(out, "; its guard stops it by %s", minute_format(at, acts));
}

/* It went away; that it does not bill is nobody's word but ours. */
static void add_gone(const struct json *in_box, int64_t asked, struct buf *out)
{
    int64_t at = asked ? asked : json_get_int(in_box, "since_at_ms", 0);
    const char *console = json_get_text(in_box, "console");
    char when[CLOCK_MAX];

    buf_addf(out, "%s at %s, not confirmed by anybody (no account)",
             asked ? "asked to switch off" : "its guard was to switch it off", minute_format(when, at));
    if (console)
        buf_addf(out, "; on again: %s", console);
}

/* Nobody has seen what came of it: it may be on, and if so it bills. */
static void add_unheard(const struct json *instance, bool guard, struct buf *out)
{
    char at[CLOCK_MAX];

    buf_addf(out, "asked for at %s, not seen yet",
             clock_format(at, json_get_int(rental_of(instance), "asked_at_ms", 0), false));
    if (guard) {
        buf_add_text(out, "; ");
        add_guard(instance, false, out);
    }
}

char *rented_stops_text(const struct json *instance, bool guard)
{
    const struct json *rental = stop_of(instance);
    int64_t asked = json_get_int(rental, "stop_asked_at_ms", 0),
            released = json_get_int(rental, "released_at_ms", 0),
            doubted = json_get_int(rental, "doubted_until_at_ms", 0);
    const char *stays = member_text(rental, "stays", "");
    char age[TEXT_SHORT_MAX], at[CLOCK_MAX];
    struct buf out;

    buf_init(&out, 4096);
    if (is_state(instance, "stopped?")) {
        add_gone(rental, asked, &out);
    } else if (doubted) {
        buf_addf(&out, "off, a power-on may still act: confirmed by %s", clock_format(at, doubted, false));
    } else if (is_state(instance, "waiting")) {
        add_waits(instance, &out);
    } else if (asked) {
        add_asked(instance, asked, &out);
    } else if (is_state(instance, "stopped") && released) {
        buf_addf(&out, "released %s unless started", soon_format(age, released));
    } else if (is_state(instance, "running")) {
        bool first = guard && is_unguarded(instance);

        guard = guard && !streq(stays, "not_by_us"); /* that says it all */

        if (first) { /* where the column is cut, this must be left */
            add_guard(instance, false, &out);
            buf_add_text(&out, "; ");
        }
        add_stays(rental, &out);
        if (!rental_of(instance))
            buf_add_text(&out, ", by its guard");
        if (guard && !first) {
            buf_add_text(&out, "; ");
            add_guard(instance, false, &out);
        }
    } else if (json_get_int(rental, "asked_at_ms", 0)) {
        add_unheard(instance, guard, &out);
    } else if (is_on(instance) && guard) {
        add_guard(instance, false, &out);
    }
    return buf_take(&out);
}

/* ---- the long form ---- */

char *rented_machine_text(const struct json *instance)
{
    const struct json *rental = rental_of(instance);
    int64_t disk_gb = json_get_int(rental, "disk_gb", 0);
    struct buf line;

    if (!rental)
        return NULL;
    buf_init(&line, 4096);
    add_part(&line, "%lld x %s", (long long)json_get_int(rental, "cards", 1),
             member_text(rental, "gpu", "?"));
    if (json_get_text(rental, "region"))
        add_part(&line, "%s", json_get_text(rental, "region"));
    if (disk_gb)
        add_part(&line, "disk %lld GB", (long long)disk_gb);
    if (json_get_text(rental, "image"))
        add_part(&line, "image %s", json_get_text(rental, "image"));
    if (json_get_text(rental, "id"))
        add_part(&line, "id %s", json_get_text(rental, "id"));
    if (json_get_bool(rental, "adopted", false))
        add_part(&line, "made elsewhere");
    return buf_take(&line);
}

static void add_price(const struct output *o, const struct json *rental, struct buf *out)
{
    int64_t prepaid = json_get_int(rental, "prepaid_until_at_ms", 0);
    char text[AMOUNT_MAX], at[CLOCK_MAX];
    struct buf line;

    buf_init(&line, 4096);
    if (prepaid)
        add_part(&line, "prepaid until %s", minute_format(at, prepaid));
    else
        add_part(&line, "%s while it is on", amount_format(text, json_get(rental, "rate"), "/h"));
    if (json_type(json_get(rental, "max_price")) == JSON_OBJECT)
        add_part(&line, "at most %s", amount_format(text, json_get(rental, "max_price"), "/h"));
    if (json_type(json_get(rental, "today")) == JSON_OBJECT)
        add_part(&line, "today %s", amount_format(text, json_get(rental, "today"), ""));
    add_field(o, out, "price", buf_text(&line));
    buf_done(&line);
}

/* The company's own word, and when it said so. */
static void add_company(const struct output *o, const struct json *rental, struct buf *out)
{
    int64_t seen = json_get_int(rental, "provider_state_at_ms", 0),
            since = json_get_int(rental, "since_at_ms", 0);
    char age[TEXT_SHORT_MAX];
    struct buf line;

    if (!json_get_text(rental, "provider_state"))
        return;
    buf_init(&line, 4096);
    buf_addf(&line, "says \"%s\"", json_get_text(rental, "provider_state"));
    if (seen)
        buf_addf(&line, " (%s ago)", age_format(age, seen));
    if (since)
        add_part(&line, "so for %s", age_format(age, since));
    add_field(o, out, "provider", buf_text(&line));
    buf_done(&line);
}

void screen_guard(const struct output *o, const struct json *instance, struct buf *out)
{
    const struct json *guard = json_get(stop_of(instance), "guard");
    int64_t read = json_get_int(guard, "read_at_ms", 0), hold = json_get_int(guard, "hold_until_at_ms", 0);
    char age[TEXT_SHORT_MAX], at[CLOCK_MAX];
    struct buf line;
    size_t skip;

    if (!guard || !is_on(instance))
        return;
    buf_init(&line, 8192);
    add_guard(instance, true, &line);
    if (hold > now_at_ms())
        add_part(&line, "held until %s", minute_format(at, hold));
    if (read)
        add_part(&line, "read %s ago", age_format(age, read));
    if (json_get_int(guard, "tried_at_ms", 0))
        add_part(&line, "tried at %s", minute_format(at, json_get_int(guard, "tried_at_ms", 0)));
    if (json_get_text(guard, "ways"))
        add_part(&line, "stops by %s", json_get_text(guard, "ways"));
    skip = strncmp(buf_text(&line), "guard ", 6) == 0 ? 6 : 0; /* the field has that word already */
    add_field(o, out, "guard", buf_text(&line) + skip);
    buf_done(&line);
}

/* The third way to the stop, where the company has one. */
static void add_timer(const struct output *o, const struct json *rental, struct buf *out)
{
    const char *lacks = json_get_text(rental, "timer_reason");
    int64_t off = json_get_int(rental, "off_at_ms", 0);
    char at[CLOCK_MAX];
    _cleanup_free_ char *line = NULL;

    if (lacks)
        line = xasprintf("NOT SET: %s", lacks);
    else if (off)
        line = xasprintf("the company switches it off by itself at %s; set again while it is wanted",
                         minute_format(at, off));
    add_field(o, out, "timer", line);
}

void screen_rental(const struct output *o, const struct json *instance, struct buf *out)
{
    const struct json *rental = rental_of(instance);
    int64_t released = json_get_int(rental, "released_at_ms", 0);
    char at[CLOCK_MAX];
    _cleanup_free_ char *machine = rented_machine_text(instance), *kept = NULL;

    add_field(o, out, "machine", machine);
    add_price(o, rental, out);
    add_company(o, rental, out);
    if (released)
        kept = xasprintf("kept until %s if it stays off; then all is deleted", minute_format(at, released));
    add_field(o, out, "data", kept);
    screen_guard(o, instance, out);
    add_timer(o, rental, out);
}

/* ---- without a daemon ---- */

/* "2 rented instances carry a guard and stop by themselves by 14:52 (gz-4090) and 14:58 (nm-a100)" */
static void add_guarded(const struct json *guards, struct buf *out)
{
    size_t n = 0, said = 0;

    for (size_t i = 0; i < json_count(guards); i++)
        n += json_get_int(json_at(guards, i), "acts_at_ms", 0) != 0;
    if (!n)
        return;
    buf_addf(out, "%zu rented instance%s a guard and stop%s by %s by", n, n == 1 ? " carries" : "s carry",
             n == 1 ? "s" : "", n == 1 ? "itself" : "themselves");
    for (size_t i = 0; i < json_count(guards); i++) {
        const struct json *guard = json_at(guards, i);
        int64_t acts = json_get_int(guard, "acts_at_ms", 0);
        char at[CLOCK_MAX];

        if (!acts)
            continue;
        buf_addf(out, "%s %s (%s)",
                 said == 0      ? ""
                 : said + 1 < n ? ","
                                : " and",
                 minute_format(at, acts), member_text(guard, "instance", "?"));
        said++;
    }
    buf_add_text(out, "\n");
}

/* It was seen on; of one that was just asked for, or whose call got no answer, nobody knows. */
static bool was_on(const struct json *guard)
{
    const char *state = member_text(guard, "state", "");

    return streq(state, "running") || streq(state, "stopping");
}

static void add_unguarded(const struct json *guards, struct buf *out)
{
    char rate[AMOUNT_MAX];

    for (size_t i = 0; i < json_count(guards); i++)
        if (!json_get_int(json_at(guards, i), "acts_at_ms", 0))
            buf_addf(out,
                     was_on(json_at(guards, i))
                         ? "%s was on, at %s, and no guard of it is known\n"
                         : "%s: nobody knows whether it is on, at %s; no guard of it is known\n",
                     member_text(json_at(guards, i), "instance", "?"),
                     amount_format(rate, json_get(json_at(guards, i), "rate"), "/h"));
}

void screen_guards(const struct output *o, const struct json *guards, struct buf *out)
{
    static const char label[] = "  meanwhile:  ";
    const size_t begin = strlen(label);
    struct buf text, lines;

    buf_init(&text, SCREEN_BYTES_MAX);
    buf_init(&lines, SCREEN_BYTES_MAX);
    add_guarded(guards, &text);
    add_unguarded(guards, &text);
    add_wrapped(&lines, begin, o->err_width, buf_text(&text));
    if (lines.len)
        buf_addf(out, "%s%s", label, buf_text(&lines) + MIN(begin, lines.len));
    buf_done(&text);
    buf_done(&lines);
}
