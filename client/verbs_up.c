/* up: wanted from now on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/ask.h"
#include "client/progress.h"
#include "client/verbs_model.h"
#include "client/words.h"
#include "proto/mem.h"

#define OFFERS_MS 120000 /* companies are asked */
#define STATUS_MS 3000   /* of somebody who pressed Ctrl-C */

char *until_note(const char *typed, int64_t until_at_ms, int64_t now_ms)
{
    time_t until = (time_t)(until_at_ms / 1000), now = (time_t)(now_ms / 1000);
    char left[TEXT_SHORT_MAX];
    struct tm then, today;

    localtime_r(&until, &then);
    localtime_r(&now, &today);
    if (!typed || !strchr(typed, ':') || (then.tm_yday == today.tm_yday && then.tm_year == today.tm_year))
        return NULL;
    return xasprintf("%s has passed today: a card is looked for until tomorrow at that time, for %s", typed,
                     duration_format(left, (uint64_t)(until_at_ms - now_ms), false));
}

/* Where it is stands in the headline; of several once more, for it is true of all only now. */
static void add_took(struct buf *out, const struct json *reply, const char *on)
{
    bool several = json_count(json_get(reply, "models")) > 1;
    int64_t usual_ms = json_get_int(reply, "usual_ms", -1);
    char took[TEXT_SHORT_MAX], usual[TEXT_SHORT_MAX];

    buf_addf(out, "ready%s%s in %s", several ? " on " : "", several ? on : "",
             duration_format(took, (uint64_t)MAX(json_get_int(reply, "took_ms", 0), 0), true));
    if (usual_ms >= 0)
        buf_addf(out, " (usually %s)", duration_format(usual, (uint64_t)usual_ms, false));
}

/* One more part of the line, below it where the terminal ends. */
static void up_add_part(const struct output *o, struct buf *out, unsigned *columns, const char *part)
{
    unsigned n = text_columns(part);
    bool below = o->out_width && *columns + 3 + n > o->out_width;

    buf_addf(out, "%s%s", below ? "\n  " : "   ", part);
    *columns = (below ? 2 : *columns + 3) + n;
}

/* Broken where the terminal ends; the columns of its last line. */
static unsigned add_sentence(const struct output *o, const char *text, struct buf *out)
{
    const char *last;

    add_wrapped(out, 0, o->out_width, text);
    out->len -= out->len > 0; /* more follows */
    last = strrchr(buf_text(out), '\n');
    return text_columns(last ? last + 1 : buf_text(out));
}

static void up_screen(const struct output *o, const struct json *reply, bool already, const char *name,
                      struct buf *out)
{
    const struct json *model = json_get(reply, "model");
    const char *endpoint = json_get_text(reply, "endpoint");
    _cleanup_free_ char *on = model_instances(reply);
    const char *id = json_get_text(model, "id");
    _cleanup_free_ char *called = id ? xasprintf("model \"%s\"", id) : NULL;
    int64_t since = json_get_int(model, "since_at_ms", 0);
    char age[TEXT_SHORT_MAX];
    struct buf said;
    unsigned columns;

    buf_init(&said, 65536);
    if (!o->err_moves)
        buf_addf(&said, "llmhostctl: %s: ", name);
    if (already) {
        buf_add_text(&said, "already ready");
        if (on)
            buf_addf(&said, " on %s", on);
        if (since && json_count(json_get(reply, "models")) < 2)
            buf_addf(&said, " for %s", age_format(age, since));
    } else {
        add_took(&said, reply, on);
    }
    columns = add_sentence(o, buf_text(&said), out);
    buf_done(&said);
    if (endpoint)
        up_add_part(o, out, &columns, endpoint);
    if (called)
        up_add_part(o, out, &columns, called);
    buf_add_text(out, "\n");
}

static void up_answer(struct run *r, const struct json *reply, bool already, const char *name)
{
    struct buf out;

    if (r->output.json) {
        output_answer(&r->output, reply, NULL, EXIT_DONE);
        return;
    }
    buf_init(&out, 65536);
    if (r->options.no_wait)
        buf_addf(&out, "%s is wanted from now on.\n", name);
    else
        up_screen(&r->output, reply, already, name, &out);
    output_flush(&out);
    buf_done(&out);
    verb_notes(&r->output, reply);
    if (r->options.no_wait)
        output_hint(&r->output, "  watch: llmhostctl wait %s", name);
}

/* A question that was not answered with yes. Whoever presses Ctrl-C at it knows what did not happen. */
static enum exit_status not_agreed(struct run *r, int e, const char *message, const char *next)
{
    return e == -EINTR ? EXIT_INTERRUPTED : verb_usage(r, message, NULL, next);
}

/* ---- on which instance ---- */

static void write_choices(const struct output *o, const struct json *instances, bool rents)
{
    static const struct column columns[] = {{"", true, false},
                                            {"INSTANCE", false, false},
                                            {"STATE", false, false},
                                            {"CARD", false, false},
                                            {"PRICE", true, false}};
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    size_t n = json_count(instances);
    char price[AMOUNT_MAX], number[TEXT_SHORT_MAX];
    struct buf out;

    for (size_t i = 0; i < n; i++) {
        const struct json *one = json_at(instances, i);
        _cleanup_free_ char *card = rented_card_text(one),
                            *state = is_stopped_by_us(one) ? rented_state_text(one)
                                                           : xstrdup(member_text(one, "state", "?"));

        snprintf(number, sizeof number, "%zu", i + 1);
        table_add(t, STYLE_PLAIN, number);
        table_add(t, STYLE_PLAIN, json_get_text(one, "name"));
        table_add(t, STYLE_PLAIN, state);
        table_add(t, STYLE_PLAIN, card);
        table_add(t, STYLE_PLAIN, rented_hour_text(price, one));
    }
    buf_init(&out, 65536);
    table_write(t, o->err_width, false, &out);
    if (rents)
        buf_addf(&out, "%zu  rent another card: the cheapest that holds it is proposed\n", n + 1);
    fputs(buf_text(&out), stderr);
    buf_done(&out);
}

/* The question the daemon asks back when there are several instances. EXIT_DONE: *ret_on is the one, NULL:
 * another machine is to be rented. status: of that moment. */
static enum exit_status instance_choose(struct run *r, const char *model, const struct json *status,
                                        char **ret_on)
{
    const struct json *instances = json_get(status, "instances");
    bool rents = any_account_rents(json_get(status, "accounts"));
    size_t n = json_count(instances);
    _cleanup_free_ char *prompt = xasprintf("number or name [1-%zu]: ", n + rents), *line = NULL;
    unsigned long chosen;
    char *end;
    int e;

    fprintf(stderr, "%s: on which instance?\n", model);
    write_choices(&r->output, instances, rents);
    e = ask_line(prompt, &line);
    if (e < 0 || !*line)
        return not_agreed(r, e, "no instance chosen: nothing was changed.",
                          "llmhostctl up MODEL --on INSTANCE");
    chosen = strtoul(line, &end, 10);
    if (!*end && rents && chosen == n + 1)
        *ret_on = NULL;
    else if (!*end && chosen >= 1 && chosen <= n)
        *ret_on = xstrdup(json_get_text(json_at(instances, chosen - 1), "name"));
    else
        *ret_on = TAKE_PTR(line);
    return EXIT_DONE;
}

/* What kind of machine may be rented for it, and what it may cost. */
static void up_put_rent(const struct options *o, struct json *parameters)
{
    json_put_string(parameters, "gpu", o->gpu);
    json_put_string(parameters, "provider", o->provider);
    json_put_string(parameters, "image", o->image);
    json_put_string(parameters, "region", o->region);
    if (o->price_milli >= 0)
        json_put_int(parameters, "max_price_milli", o->price_milli);
    if (o->search_until_at_ms >= 0)
        json_put_int(parameters, "search_until_at_ms", o->search_until_at_ms);
    if (o->disk_gb >= 0)
        json_put_int(parameters, "disk_gb", o->disk_gb);
    if (o->over_budget)
        json_put_bool(parameters, "over_budget", true);
    if (o->no_guard)
        json_put_bool(parameters, "no_guard", true);
    if (o->anyway)
        json_put_bool(parameters, "anyway", true);
}

static enum exit_status up_call(struct run *r, const char *model, const char *on, struct progress *p,
                                struct call *call)
{
    *call = (struct call){
        .method = "Up", .more = !r->options.no_wait, .parameters = json_object(), .needs = "model"};
    json_put_string(call->parameters, "model", model);
    json_put_string(call->parameters, "on", on);
    json_put_string(call->parameters, "or_on", r->options.or_on);
    if (r->options.engine_arguments) {
        struct json *list = json_array();

        for (unsigned i = 0; i < r->options.n_engine_arguments; i++)
            json_append_string(list, r->options.engine_arguments[i]);
        json_put(call->parameters, "arguments", list);
    }
    if (r->options.unverified)
        json_put_bool(call->parameters, "unverified", true);
    if (r->options.no_wait)
        json_put_bool(call->parameters, "wait", false);
    up_put_rent(&r->options, call->parameters);
    model_call_prepare(r, call, p);
    return connection_run(r->connection, call);
}

/* ---- no machine, or none for this price: the cheapest that holds the model is proposed ---- */

static bool has_code(const struct call *call, const char *code)
{
    const char *has = json_get_text(call->error, "code");

    return has && error_status(call->error) == EXIT_USAGE && streq(has, code);
}

static bool wants_card(const struct options *o, const struct call *call)
{
    return !o->gpu && !o->on && (has_code(call, "no_instance") || has_code(call, "gpu_needed"));
}

/* A machine with that card is off, and would be switched on in place of another one. */
static bool has_card(const struct json *instances, const struct json *offer)
{
    for (size_t i = 0; i < json_count(instances); i++) {
        const struct json *one = json_at(instances, i);

        if (is_stopped_by_us(one) &&
            streq(member_text(json_get(one, "rental"), "gpu", ""), member_text(offer, "gpu", "?")))
            return true;
    }
    return false;
}

/* NULL: none that holds the model for sure, at a price that is known and not above max_milli, and is not one
 * of the instances'. */
static const struct json *offer_cheapest(const struct json *offers, const struct json *instances,
                                         int64_t max_milli)
{
    const struct json *best = NULL;
    int64_t least = max_milli < INT64_MAX ? max_milli + 1 : INT64_MAX;

    for (size_t i = 0; i < json_count(offers); i++) {
        const struct json *offer = json_at(offers, i);
        int64_t milli = json_get_int(json_get(offer, "price"), "milli", 0);

        if (!streq(member_text(offer, "fits", ""), "yes") || milli <= 0 || milli >= least ||
            has_card(instances, offer))
            continue;
        best = offer;
        least = milli;
    }
    return best;
}

/* Off a terminal a price has to be agreed to beforehand. */
static enum exit_status card_needs_price(struct run *r, const char *model, const char *what,
                                         const struct json *offer)
{
    _cleanup_free_ char *message =
        xasprintf("there is no machine for %s; the cheapest that holds it is %s.", model, what);
    _cleanup_free_ char *command = NULL;
    int64_t milli = json_get_int(json_get(offer, "price"), "milli", 0);

    command = xasprintf("llmhostctl up %s --max-price %lld.%02lld", model, (long long)((milli + 9) / 1000),
                        (long long)((milli + 9) / 10 % 100));
    return verb_usage(r, message, "nobody can be asked whether it may cost that", command);
}

/* "a 4090D (24 GiB) at autodl for ¥1.98/h"; caller frees. */
static char *offer_words(const struct json *offer)
{
    char price[AMOUNT_MAX];

    return xasprintf("a %s (%lld GiB) at %s for %s", member_text(offer, "gpu", "?"),
                     (long long)json_get_int(offer, "memory_gib", 0), member_text(offer, "provider", "?"),
                     amount_format(price, json_get(offer, "price"), "/h"));
}

/* EXIT_DONE: it may cost that, and price_milli says so. */
static enum exit_status card_agree(struct run *r, const char *model, const struct json *offer)
{
    struct options *o = &r->options;
    _cleanup_free_ char *what = offer_words(offer), *prompt = NULL, *line = NULL;
    int e;

    if (o->price_milli >= 0) {
        output_hint(&r->output, "  renting %s", what);
        return EXIT_DONE;
    }
    if (r->output.json || !ask_is_possible())
        return card_needs_price(r, model, what, offer);
    prompt = xasprintf("rent %s? [y/N] ", what);
    e = ask_line(prompt, &line);
    if (e < 0 || (!streq(line, "y") && !streq(line, "yes"))) {
        _cleanup_free_ char *next = xasprintf("llmhostctl offers --for %s", model);

        return not_agreed(r, e, "not agreed: nothing was rented.", next);
    }
    o->price_milli = json_get_int(json_get(offer, "price"), "milli", 0);
    return EXIT_DONE;
}

static enum exit_status card_is_dear(struct run *r, const char *model, const struct json *offer)
{
    _cleanup_free_ char *what = offer_words(offer), *message = NULL, *why = NULL, *command = NULL;
    char most[TEXT_SHORT_MAX];

    message = xasprintf(
        "nothing was rented: no card that holds %s costs %s/h or less.", model,
        money_format(most, r->options.price_milli, member_text(json_get(offer, "price"), "unit", "")));
    why = xasprintf("the cheapest is %s", what);
    command = xasprintf("llmhostctl offers --for %s", model);
    _cleanup_json_ struct json *error = error_make(EXIT_REFUSED, "price", message, why, command, NULL);

    output_error(&r->output, error);
    return EXIT_REFUSED;
}

static enum exit_status up_interrupted(struct run *r)
{
    _cleanup_json_ struct json *error =
        error_make(EXIT_INTERRUPTED, "interrupted", "interrupted: nothing was rented.", NULL, NULL);

    output_error(&r->output, error);
    return EXIT_INTERRUPTED;
}

/* No card is proposed, and that is why: of none it is known that it holds the model. */
static void say_no_card(struct call *call, const char *model, const struct json *answer)
{
    const struct json *offers = json_get(answer, "offers");
    const char *note = json_text(json_at(json_get(answer, "notes"), 0)), *why = json_get_text(call->error, "why");
    bool is_unknown = false;

    for (size_t i = 0; i < json_count(offers); i++)
        is_unknown |= streq(member_text(json_at(offers, i), "fits", "unknown"), "unknown");
    if (!json_count(offers))
        return;
    _cleanup_free_ char *said = is_unknown ? xasprintf("which of the cards holds %s is not known%s%s", model,
                                                       note ? ": " : "", note ? note : "")
                                           : xasprintf("no card is known to hold %s at a known price", model);
    bool is_of_card = has_code(call, "gpu_needed");
    _cleanup_free_ char *what = xasprintf("nothing was rented: %s", said);
    _cleanup_free_ char *whole =
        xasprintf("%s%sno card is proposed: %s", why ? why : "", why && *why ? "; " : "", said);

    if (is_of_card)
        json_put_string(call->error, "message", what);
    json_put_string(call->error, "why", is_of_card ? "say the card that it is to be" : whole);
}

/* The first call again with a card, where there is an account to rent one with; else its error stands.
 * instances: whose cards are no other ones; NULL. True: it came to no second call, it was said why, and *ret is
 * the status. */
static bool up_with_card(struct run *r, const char *model, const struct json *instances, struct progress *p,
                         struct call *call, enum exit_status *ret)
{
    _cleanup_call_ struct call offers = {
        .method = "Offers", .limit_ms = OFFERS_MS, .parameters = json_object()};
    const struct json *offer, *any;

    json_put_string(offers.parameters, "for_model", model);
    json_put_string(offers.parameters, "provider", r->options.provider);
    if (connection_run(r->connection, &offers) == EXIT_INTERRUPTED) {
        *ret = up_interrupted(r);
        return true;
    }
    any = offer_cheapest(json_get(offers.answer, "offers"), instances, INT64_MAX);
    if (!any) {
        if (wants_card(&r->options, call))
            say_no_card(call, model, offers.answer);
        return false;
    }
    offer = r->options.price_milli < 0
                ? any
                : offer_cheapest(json_get(offers.answer, "offers"), instances, r->options.price_milli);
    *ret = offer ? card_agree(r, model, offer) : card_is_dear(r, model, any);
    if (*ret != EXIT_DONE)
        return true;
    call_done(call);
    r->options.gpu = json_get_text(offer, "gpu");
    r->options.provider = json_get_text(offer, "provider");
    *ret = up_call(r, model, NULL, p, call);
    r->options.gpu = r->options.provider = NULL; /* they end with the answer */
    return false;
}

/* ---- a price that nobody knows: no machine without a limit of it ---- */

/* EXIT_DONE: price_milli is what was agreed to. */
static enum exit_status price_ask(struct run *r, const struct call *call)
{
    _cleanup_free_ char *line = NULL;
    struct buf said;
    int64_t milli;

    buf_init(&said, 8192);
    add_wrapped(&said, 0, r->output.err_width, json_get_text(call->error, "message"));
    add_wrapped(&said, 2, r->output.err_width, member_text(call->error, "why", ""));
    fputs(buf_text(&said), stderr);
    buf_done(&said);
    for (;;) {
        int e = ask_line("what may an hour of it cost at most (nothing: leave it off): ", &line);

        if (e < 0 || !*line)
            return not_agreed(r, e, "not agreed: nothing was switched on.", "llmhostctl offers");
        if (money_parse(line, &milli) == 0 && milli > 0) {
            r->options.price_milli = milli;
            return EXIT_DONE;
        }
        output_hint(&r->output, "\"%s\" is no price; write 2 or 2.20.", line);
        free(TAKE_PTR(line));
    }
}

/* ---- up ---- */

static bool asks_for_instance(const struct call *call)
{
    return has_code(call, "which_instance");
}

/* The first call again, on the instance that is chosen or on another machine. True: as up_with_card(). */
static bool up_chosen(struct run *r, const char *model, char **on, struct progress *p, struct call *call,
                      enum exit_status *ret)
{
    _cleanup_call_ struct call now = {.method = "Status", .limit_ms = 30000};

    *ret = verb_call(r, &now);
    if (*ret == EXIT_DONE)
        *ret = instance_choose(r, model, now.answer, on);
    if (*ret != EXIT_DONE)
        return true;
    if (*on) {
        call_done(call);
        *ret = up_call(r, model, *on, p, call);
        return false;
    }
    if (up_with_card(r, model, json_get(now.answer, "instances"), p, call, ret))
        return true;
    if (!asks_for_instance(call))
        return false;
    _cleanup_free_ char *next = xasprintf("llmhostctl offers --for %s", model);

    *ret = verb_usage(r, "nothing was rented: no other card is known to hold it at a known price.", NULL, next);
    return true;
}

static bool asks_for_limit(const struct call *call)
{
    return has_code(call, "price_unknown");
}

/* What goes on when somebody leaves. */
struct left {
    unsigned n_waiting; /* machines that wait for a card, or for money */
    bool others;        /* or it is not known of one what becomes of it */
    bool unsure;           /* a call for one got no answer */
    struct buf bills;      /* those that cost something, or are about to */
    struct buf waiting;    /* names of those that wait, */
    struct buf elsewhere;  /* and of those where the model is by another word */
};

/* The card that it has, or of several the one that is asked for now. Caller frees. */
static char *card_text(const struct json *instance)
{
    const struct json *list = json_get(json_get(instance, "rental"), "candidates");

    for (size_t i = 0; i < json_count(list); i++)
        if (streq(member_text(json_at(list, i), "state", ""), "next"))
            return xstrdup(member_text(json_at(list, i), "gpu", "?"));
    return rented_card_text(instance);
}

/* "gz-4090 (4090D) is being switched on, at ¥1.98/h~". */
static void left_add_bill(struct left *left, const struct json *instance)
{
    const struct json *rental = json_get(instance, "rental"), *rate = json_get(rental, "rate");
    const char *state = member_text(instance, "state", "");
    _cleanup_free_ char *card = card_text(instance);
    char text[AMOUNT_MAX];

    buf_addf(&left->bills, "%s%s (%s) %s, at %s", left->bills.len ? "; " : "", member_text(instance, "name", "?"),
             card,
             streq(state, "running")    ? "is on"
             : streq(state, "creating") ? "is asked for"
             : streq(state, "stopping") ? "is being switched off"
             : streq(state, "starting") ? "is being switched on"
             : json_get_bool(rental, "never_made", false) ? "is not asked for yet"
                                                          : "may be on",
             amount_is_known(rate) ? amount_format(text, rate, "/h") : "a price that is read when it is there");
}

static void left_add(struct run *r, struct left *left, const char *name)
{
    _cleanup_call_ struct call call = {
        .method = "InstanceShow", .limit_ms = STATUS_MS, .parameters = json_object()};
    const struct json *instance, *rental;
    const char *state;

    json_put_string(call.parameters, "name", name);
    if (connection_run(r->connection, &call) != EXIT_DONE) {
        left->others = true;
        return;
    }
    instance = json_get(call.answer, "instance");
    rental = json_get(instance, "rental");
    state = member_text(instance, "state", "");
    bool is_off = streq(state, "absent") || streq(state, "stopped");

    left->unsure |= json_get_bool(rental, "unsure", false);
    if (streq(state, "waiting")) {
        left->n_waiting++;
        add_part(&left->waiting, "%s", name);
    } else if (is_rental(instance) && !is_off)
        left_add_bill(left, instance);
    else if (!is_off || streq(member_text(rental, "goal", ""), "on"))
        left->others = true;
}

/* Of this word, not of another one of the same model; where nothing was told yet, each may be. */
static bool is_own(const struct json *own, const char *name)
{
    for (size_t i = 0; i < json_count(own); i++)
        if (streq(json_text(json_at(own, i)), name))
            return true;
    return !json_count(own);
}

/* The daemon is asked anew, since an interrupted connection is of no use; where it does not answer, nothing is
 * promised. */
static void left_look(struct run *r, struct left *left, const struct json *own)
{
    _cleanup_call_ struct call call = {
        .method = "Status", .limit_ms = STATUS_MS, .parameters = verb_targets(&r->options)};
    _cleanup_json_ struct json *error = NULL;
    const struct json *models;

    r->connection = connection_free(r->connection);
    if (connection_open(r->options.socket, &r->connection, &error) != EXIT_DONE ||
        connection_run(r->connection, &call) != EXIT_DONE)
        return;
    models = json_get(call.answer, "models");
    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *one = json_at(models, i);
        const char *name = member_text(one, "instance", "");

        if (is_own(own, name))
            left_add(r, left, name);
        else if (!streq(member_text(one, "goal", ""), "off"))
            add_part(&left->elsewhere, "%s", name);
    }
}

static char *left_text(struct left *left, const char *model)
{
    struct buf said;

    buf_init(&said, 16384);
    if (left->bills.len) {
        buf_addf(&said, "detached; the daemon goes on with it: %s.", buf_text(&left->bills));
        if (left->waiting.len)
            buf_addf(&said, " %s is looked for as well.", buf_text(&left->waiting));
    } else if (!left->n_waiting || left->others)
        buf_add_text(&said, "detached; the daemon goes on with it.");
    else if (left->unsure)
        buf_add_text(&said, "detached; it goes on looking: no machine is seen on, but one call got no answer: a "
                            "machine that comes late is used or switched off.");
    else if (left->elsewhere.len)
        buf_addf(&said, "detached; it goes on looking (%s): nothing is powered on by it, nothing is billed for it.",
                 buf_text(&left->waiting));
    else
        buf_add_text(&said, "detached; it goes on looking: nothing is powered on, nothing is billed.");
    if (left->elsewhere.len)
        buf_addf(&said, " %s is wanted on %s besides.", model, buf_text(&left->elsewhere));
    char *text = xstrdup(buf_text(&said));

    buf_done(&said);
    return text;
}

/* Whoever leaves need not fear a bill when all its machines wait; else he is told of it. Of several places of the
 * model only what this word began is watched, and ended; where it may still come to others, that is the whole. */
static enum exit_status up_detached(struct run *r, const char *model, const struct progress *p)
{
    struct left left = {.others = false};
    enum exit_status status;

    buf_init(&left.bills, 8192);
    buf_init(&left.waiting, 4096);
    buf_init(&left.elsewhere, 4096);
    if (p->is_rented)
        left_look(r, &left, p->or_next ? NULL : p->own); /* another one may just have come */
    const char *own = left.elsewhere.len && json_count(p->own) == 1 && !p->or_next ? json_text(json_at(p->own, 0)) : NULL;
    _cleanup_free_ char *what = left_text(&left, model),
                        *watch = own ? xasprintf("llmhostctl status %s", own) : xasprintf("llmhostctl wait %s", model),
                        *give_up = xasprintf("llmhostctl down %s%s%s", model, own ? " --on " : "", own ? own : "");

    status = model_detached(r, what, watch, give_up);
    buf_done(&left.bills);
    buf_done(&left.waiting);
    buf_done(&left.elsewhere);
    return status;
}

static void note_until(const struct run *r)
{
    for (unsigned i = 0; i < r->options.n_typed; i++) {
        const struct typed_option *t = &r->options.typed[i];
        _cleanup_free_ char *note =
            streq(t->option->name, "until") ? until_note(t->value, r->options.search_until_at_ms, now_at_ms()) : NULL;

        if (note)
            output_hint(&r->output, "  note: %s", note);
    }
}

/* More than one machine comes into question. */
static bool up_has_more(const struct options *o)
{
    return o->or_on || (o->gpu && strchr(o->gpu, ','));
}

enum exit_status verb_up(struct run *r)
{
    const char *model = r->options.arguments[0];
    _cleanup_progress_ struct progress p;
    _cleanup_call_ struct call call = {0};
    _cleanup_free_ char *on = xstrdup(r->options.on);
    enum exit_status status;

    progress_init(&p, &r->output, model);
    p.or_next = up_has_more(&r->options);
    if (r->options.no_wait && r->options.timeout_ms)
        return verb_usage(r, "--no-wait does not wait, --timeout does: not both.", NULL, "llmhostctl up -h");
    if (r->options.price_milli == 0)
        return verb_usage(r, "--max-price 0: no machine costs nothing; leave it out, or write 2.20.", NULL,
                          "llmhostctl offers");
    status = verb_connect(r, true);
    if (status != EXIT_DONE)
        return status;
    note_until(r);
    status = up_call(r, model, on, &p, &call);
    if (asks_for_instance(&call) && !r->output.json && ask_is_possible()) {
        if (up_chosen(r, model, &on, &p, &call, &status))
            return status;
    } else if (wants_card(&r->options, &call) && up_with_card(r, model, NULL, &p, &call, &status)) {
        return status;
    }
    if (asks_for_limit(&call) && !r->output.json && ask_is_possible()) {
        if (!on && !r->options.gpu) /* it is about the one instance there is */
            on = xstrdup(json_get_text(call.error, "target"));
        status = price_ask(r, &call);
        if (status != EXIT_DONE)
            return status;
        call_done(&call);
        status = up_call(r, model, on, &p, &call);
    }
    progress_leave(&p);
    if (status == EXIT_INTERRUPTED)
        return up_detached(r, model, &p);
    if (status == EXIT_DONE) {
        up_answer(r, call.answer, !p.any, model);
        return status;
    }
    model_explain_timeout(call.error, model, NULL);
    return verb_failed(r, &call);
}
