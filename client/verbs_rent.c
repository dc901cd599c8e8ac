/* provider, offers, cost, release, instance take: machines that cost money. */
#include <errno.h>
#include <string.h>

#include "client/ask.h"
#include "client/verb.h"
#include "proto/mem.h"

#define QUICK_MS    30000  /* from memory: longer is a fault */
#define PROVIDER_MS 120000 /* a company is asked, which may be slow */

/* ---- provider ---- */

#define USUAL_DAY_MILLI 50000

/* The question is asked once, when the account is added; nothing typed is the usual. */
static enum exit_status day_limit_ask(struct run *r, int64_t *ret_milli)
{
    _cleanup_free_ char *line = NULL;
    int e;

    if (r->output.json || !ask_is_possible())
        return EXIT_DONE;
    for (;;) {
        e = ask_line("how much may be spent a day (0: no limit) [50]: ", &line);
        if (e == -EINTR)
            return EXIT_INTERRUPTED;
        if (e < 0) {
            _cleanup_free_ char *next =
                xasprintf("llmhostctl provider add %s --budget-day 50", r->options.arguments[0]);

            return verb_usage(r, "no day limit given: nothing was added.", NULL, next);
        }
        *ret_milli = USUAL_DAY_MILLI;
        if (!*line || money_parse(line, ret_milli) == 0)
            return EXIT_DONE;
        output_hint(&r->output, "\"%s\" is no amount; write 50 or 12.50.", line);
        free(TAKE_PTR(line));
    }
}

static void put_milli(struct json *parameters, const char *key, int64_t milli)
{
    if (milli >= 0)
        json_put_int(parameters, key, milli);
}

static struct json *provider_parameters(const struct options *o, const struct secret *token)
{
    struct json *parameters = json_object();

    json_put_string(parameters, "provider", o->arguments[0]);
    verb_put_secret(parameters, "token", token->text, token->n);
    json_put_string(parameters, "base_url", o->base_url);
    put_milli(parameters, "day_milli", o->day_milli);
    put_milli(parameters, "month_milli", o->month_milli);
    put_milli(parameters, "price_milli", o->price_milli);
    put_milli(parameters, "floor_milli", o->floor_milli);
    return parameters;
}

/* warns: that it is unofficial was not said before. The title of such a one says it, too. */
static void screen_provider(const struct output *o, const struct json *reply, const char *what, bool warns,
                            struct buf *out)
{
    const struct json *account = json_get(reply, "account");
    const char *name = member_text(account, "provider", "?"), *title = member_text(account, "title", name);
    bool unofficial = json_get_bool(account, "unofficial", false), alone = unofficial || streq(name, title);

    buf_addf(out, "%s%s%s%s is %s.\n", name, alone ? "" : " (", alone ? "" : title, alone ? "" : ")", what);
    if (unofficial && warns)
        add_wrapped(out, 2, o->out_width,
                    "unofficial: it may stop working any day, and its token is the whole account");
    screen_account(o, account, out);
}

static void screen_provider_added(const struct output *o, const struct json *reply, struct buf *out)
{
    screen_provider(o, reply, "added: the token works", o->quiet, out);
}

static void add_ending(struct buf *out, const struct json *names)
{
    for (size_t i = 0; i < json_count(names); i++)
        buf_addf(out, "%s%s", i ? ", " : "", json_text(json_at(names, i)));
    if (json_count(names))
        buf_addf(out, " %s switched off within 2 minutes.", json_count(names) == 1 ? "is" : "are");
    else
        buf_add_text(out, "nothing is switched on.");
}

/* A limit that is reached already acts at once, on what runs now. */
static void screen_provider_acts(const struct output *o, const struct json *account, struct buf *out)
{
    const struct json *trouble = json_get(account, "trouble");
    static const struct {
        const char *code, *option;
    } limits[] = {{"budget", "budget-day"}, {"budget_month", "budget-month"}, {"low_balance", "balance-floor"}};
    const char *code = member_text(trouble, "code", ""), *why = member_text(trouble, "message", "");
    const char *option = NULL;
    struct buf said;

    for (size_t i = 0; i < ELEMENTS(limits); i++)
        if (streq(code, limits[i].code))
            option = limits[i].option;
    if (!option)
        return;
    buf_init(&said, 4096);
    buf_addf(&said, "%s: ", why);
    add_ending(&said, json_get(account, "ending"));
    add_wrapped(out, 2, o->out_width, buf_text(&said));
    buf_done(&said);
    buf_addf(out, "  another limit: llmhostctl provider set %s --%s=AMOUNT\n",
             member_text(account, "provider", "NAME"), option);
}

/* What is on already is not ended by a new limit of an hour, until somebody looks again. */
static void screen_provider_dearer(const struct output *o, const struct json *account, struct buf *out)
{
    const struct json *names = json_get(account, "dearer");

    for (size_t i = 0; i < json_count(names); i++) {
        const char *name = json_text(json_at(names, i));
        _cleanup_free_ char *said = xasprintf("%s is on for more than that: it goes on until its price is read anew, as after "
                                              "a lost tunnel, and is switched off then. end it now:", name);

        add_wrapped(out, 2, o->out_width, said);
        buf_addf(out, "  llmhostctl down %s\n", name);
    }
}

static void screen_provider_set(const struct output *o, const struct json *reply, struct buf *out)
{
    screen_provider(o, reply, "changed", true, out);
    screen_provider_acts(o, json_get(reply, "account"), out);
    screen_provider_dearer(o, json_get(reply, "account"), out);
}

static enum exit_status provider_call(struct run *r, const char *method, const struct secret *token,
                                      screen_fn screen)
{
    _cleanup_call_ struct call call = {.method = method,
                                       .limit_ms = PROVIDER_MS,
                                       .parameters = provider_parameters(&r->options, token),
                                       .needs = "account"};
    enum exit_status status = verb_call(r, &call);
    char text[AMOUNT_MAX];
    int64_t day;

    if (status != EXIT_DONE)
        return status;
    output_answer(&r->output, call.answer, screen, EXIT_DONE);
    day = json_get_int(json_get(call.answer, "account"), "day_milli", 0);
    if (streq(method, "ProviderAdd") && r->options.day_milli < 0 && day && !ask_is_possible())
        output_hint(&r->output,
                    "  nobody was asked for a day limit: it is %s. another:\n"
                    "  llmhostctl provider set %s --budget-day N",
                    money_format(text, day, member_text(json_get(call.answer, "account"), "unit", "")),
                    r->options.arguments[0]);
    return EXIT_DONE;
}

static enum exit_status token_asked(struct run *r, struct secret *ret)
{
    const char *name = r->options.arguments[0];
    _cleanup_free_ char *next = xasprintf("llmhostctl %s %s --token-file FILE", r->verb->name, name);

    return verb_secret_asked(r, "token", name, next, ret);
}

static bool has_account(const struct json *accounts, const char *name)
{
    for (size_t i = 0; i < json_count(accounts); i++)
        if (streq(member_text(json_at(accounts, i), "provider", ""), name))
            return true;
    return false;
}

/* As the daemon says it, which is asked with the token only. */
static enum exit_status account_exists(struct run *r, const char *name)
{
    _cleanup_free_ char *message = xasprintf("there is an account at %s already.", name);
    _cleanup_free_ char *set = xasprintf("llmhostctl provider set %s --token-file=FILE", name);
    _cleanup_json_ struct json *error =
        error_make(EXIT_CONFLICT, "account_exists", message, NULL, "llmhostctl provider list", set, NULL);

    output_error(&r->output, error);
    return EXIT_CONFLICT;
}

/* Before a secret is asked for that nobody could use. */
static enum exit_status company_check(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "ProviderList", .limit_ms = QUICK_MS, .parameters = json_object()};
    const char *name = r->options.arguments[0], *close = NULL;
    enum exit_status status = verb_call(r, &call);
    const struct json *known = json_get(call.answer, "known");
    unsigned best = 4;
    struct buf names;

    if (status != EXIT_DONE)
        return status;
    if (has_account(json_get(call.answer, "accounts"), name))
        return account_exists(r, name);
    buf_init(&names, 4096);
    for (size_t i = 0; i < json_count(known); i++) {
        const char *other = json_text(json_at(known, i));
        unsigned n = other ? text_distance(name, other, 4) : best;

        if (n < best) {
            best = n;
            close = other;
        }
        buf_addf(&names, "%s%s", i ? ", " : "there are: ", other ? other : "?");
    }
    if (best && json_count(known)) {
        _cleanup_free_ char *message = xasprintf("\"%s\" is nobody this version can rent from.", name);
        _cleanup_free_ char *next = close ? xasprintf("llmhostctl provider add %s", close) : NULL;

        status = verb_usage(r, message, buf_text(&names), next ? next : "llmhostctl provider list");
    }
    buf_done(&names);
    return status;
}

/* Before its token is typed. */
static void hint_unofficial(const struct output *o, const char *name)
{
    _cleanup_free_ char *text = xasprintf(
        "%s is unofficial: it may stop working any day, and the token of the web page (its local storage, "
        "key \"token\") is the whole account.",
        name);
    struct buf said;

    buf_init(&said, 4096);
    add_wrapped(&said, 0, o->err_width, text);
    if (said.len)
        said.len--; /* a hint ends its line itself */
    output_hint(o, "%s", buf_text(&said));
    buf_done(&said);
}

enum exit_status verb_provider_add(struct run *r)
{
    static const char suffix[] = "-console";
    const char *name = r->options.arguments[0];
    size_t n = strlen(name);
    bool is_named = n >= strlen(suffix) && streq(name + n - strlen(suffix), suffix);
    _cleanup_free_ char *console = r->options.console ? xasprintf("%s%s", name, is_named ? "" : suffix) : NULL;
    _cleanup_secret_ struct secret token = {0};
    enum exit_status status;

    verb_no_core();
    if (console) /* another interface of the same company is another account here */
        r->options.arguments[0] = console;
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = company_check(r);
    if (status == EXIT_DONE && (console || is_named))
        hint_unofficial(&r->output, r->options.arguments[0]);
    if (status == EXIT_DONE)
        status = verb_secret_from(r, "token", r->options.token_file, true, &token);
    if (status == EXIT_DONE && !token.text)
        status = token_asked(r, &token);
    if (status == EXIT_DONE && r->options.day_milli < 0)
        status = day_limit_ask(r, &r->options.day_milli);
    return status == EXIT_DONE ? provider_call(r, "ProviderAdd", &token, screen_provider_added) : status;
}

enum exit_status verb_provider_set(struct run *r)
{
    const struct options *o = &r->options;
    _cleanup_secret_ struct secret token = {0};
    enum exit_status status;

    verb_no_core();
    if (!o->token && !o->token_file && !o->base_url && o->day_milli < 0 && o->month_milli < 0 &&
        o->price_milli < 0 && o->floor_milli < 0)
        return verb_usage(r, "nothing to change is given.", NULL,
                          "llmhostctl provider set NAME --budget-day 50");
    if (o->token && o->token_file)
        return verb_usage(r, "--token asks for one, --token-file reads one: not both.", NULL,
                          "llmhostctl provider set -h");
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_secret_from(r, "token", o->token_file, true, &token);
    if (status == EXIT_DONE && o->token)
        status = token_asked(r, &token);
    return status == EXIT_DONE ? provider_call(r, "ProviderSet", &token, screen_provider_set) : status;
}

static enum exit_status look(struct run *r, struct call *call, screen_fn screen)
{
    enum exit_status status = verb_connect(r, false);

    if (status == EXIT_DONE)
        status = verb_call(r, call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call->answer, screen, EXIT_DONE);
    return status;
}

enum exit_status verb_provider_list(struct run *r)
{
    _cleanup_call_ struct call call = {.method = "ProviderList", .limit_ms = QUICK_MS};

    return look(r, &call, screen_accounts);
}

static void screen_provider_removed(const struct output *o, const struct json *data, struct buf *out)
{
    const struct json *removed = json_get(data, "removed");
    const char *provider = json_get_text(data, "provider");
    char today[AMOUNT_MAX], month[AMOUNT_MAX];

    buf_addf(out, "the account at %s is forgotten, with its token.\n", provider);
    if (json_type(removed) != JSON_OBJECT)
        return;
    snprintf(today, sizeof today, "%s", amount_format(month, json_get(removed, "today"), ""));

    _cleanup_free_ char *text = xasprintf("what it has spent (today %s, month %s) stays in: llmhostctl cost", today,
                                          amount_format(month, json_get(removed, "month"), ""));

    add_wrapped(out, 0, o->out_width, text);
}

enum exit_status verb_provider_remove(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "ProviderRemove", .limit_ms = QUICK_MS, .parameters = json_object()};

    enum exit_status status = verb_connect(r, true);

    json_put_string(call.parameters, "provider", r->options.arguments[0]);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    if (json_get(call.answer, "removed"))
        json_put(call.parameters, "removed", json_copy(json_get(call.answer, "removed")));
    output_answer(&r->output, call.parameters, screen_provider_removed, EXIT_DONE);
    return status;
}

/* ---- offers, cost ---- */

enum exit_status verb_offers(struct run *r)
{
    const struct options *o = &r->options;
    _cleanup_call_ struct call call = {
        .method = "Offers", .limit_ms = PROVIDER_MS, .parameters = json_object()};
    enum exit_status status;

    json_put_string(call.parameters, "gpu", o->gpu);
    json_put_string(call.parameters, "provider", o->provider);
    json_put_string(call.parameters, "for_model", o->for_model);
    status = look(r, &call, screen_offers);
    if (status == EXIT_DONE)
        verb_notes(&r->output, call.answer);
    return status;
}

enum exit_status verb_cost(struct run *r)
{
    const struct options *o = &r->options;
    _cleanup_call_ struct call call = {
        .method = "Cost", .limit_ms = o->refresh ? PROVIDER_MS : QUICK_MS, .parameters = verb_targets(o)};

    if (o->refresh)
        json_put_bool(call.parameters, "refresh", true);
    if (o->since_at_ms >= 0)
        json_put_int(call.parameters, "since_at_ms", o->since_at_ms);
    enum exit_status status = verb_connect(r, false);

    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    for (size_t i = 0; i < json_count(json_get(call.answer, "not_asked")); i++)
        status = exit_worse(status, error_status(json_at(json_get(call.answer, "not_asked"), i)));
    output_answer(&r->output, call.answer, o->n_arguments ? screen_cost_of : screen_cost, status);
    return status;
}

/* ---- release ---- */

/* What will be gone. Of one whose machine was never made nothing will be. */
static void release_warn(const char *name, const struct json *instance)
{
    const struct json *rental = json_get(instance, "rental");
    int64_t disk_gb = json_get_int(rental, "disk_gb", 0);

    if (json_get_bool(rental, "never_made", false))
        fprintf(stderr, "nothing was rented under the name %s: this forgets it.\n", name);
    else if (disk_gb)
        fprintf(stderr, "this deletes %s and its %lld GB disk at %s. It cannot be undone.\n", name,
                (long long)disk_gb, member_text(instance, "provider", "?"));
    else
        fprintf(stderr, "this deletes %s and all data on it at %s. It cannot be undone.\n", name,
                member_text(instance, "provider", "?"));
}

/* One that no instance here is: of its disk and its name nothing is known. */
static void release_warn_orphan(const char *id, const char *at)
{
    fprintf(stderr,
            "this deletes %s and all data on it at %s. It cannot be undone.\n"
            "it may be the machine of an llmhostd elsewhere, with a copy of this database.\n",
            id, at);
}

/* One that is not there is refused before anybody is asked for its name; who is asked is told what will be
 * gone. */
static enum exit_status release_look(struct run *r, const char *name, bool is_asked)
{
    _cleanup_call_ struct call call = {
        .method = "InstanceShow", .limit_ms = QUICK_MS, .parameters = json_object()};
    enum exit_status status;

    json_put_string(call.parameters, "name", name);
    status = verb_call(r, &call);
    if (status == EXIT_DONE && is_asked)
        release_warn(name, json_get(call.answer, "instance"));
    return status;
}

static enum exit_status release_confirm(struct run *r, const char *name)
{
    const char *confirm = r->options.confirm, *at = r->options.at;
    bool is_asked = !r->output.json && ask_is_possible();
    enum exit_status status = confirm || at ? EXIT_DONE : release_look(r, name, is_asked);
    _cleanup_free_ char *typed = NULL,
                        *flag = xasprintf("llmhostctl release %s%s%s%s --confirm=%s", at ? "--at " : "",
                                          at ? at : "", at ? " " : "", name, name);
    int e;

    if (status != EXIT_DONE)
        return status;
    if (!confirm && !is_asked)
        return verb_usage(r, "release deletes all data on the machine: it has to be confirmed with its name.",
                          NULL, flag);
    if (!confirm) {
        if (at)
            release_warn_orphan(name, at);
        e = ask_line(at ? "type the id to go on: " : "type the name to go on: ", &typed);
        if (e == -EINTR)
            return EXIT_INTERRUPTED;
        confirm = e < 0 ? "" : typed;
    }
    if (streq(confirm, name))
        return EXIT_DONE;
    /* Whoever has thought better of it, or means another one, is led to no deletion. */
    return verb_usage(r, at ? "that is not its id: nothing was done." : "that is not its name: nothing was done.",
                      NULL, "llmhostctl status");
}

static void screen_released(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *spent = json_get(reply, "spent");
    char text[AMOUNT_MAX];

    (void)o;
    if (json_get_bool(reply, "never_made", false)) {
        buf_add_text(out, "nothing was rented under that name; it is forgotten.\n");
        return;
    }
    buf_add_text(out, "released and gone from the provider's list.");
    if (json_type(spent) == JSON_OBJECT)
        buf_addf(out, " last bill %s.", amount_format(text, spent, ""));
    buf_add_text(out, "\n");
}

enum exit_status verb_release(struct run *r)
{
    const char *name = r->options.arguments[0];
    _cleanup_call_ struct call call = {.method = "Release", .parameters = json_object()};
    _cleanup_free_ char *waits =
        xasprintf("asked to give %s back; waiting until its provider no longer lists it", name);
    enum exit_status status = verb_connect(r, true);

    if (status == EXIT_DONE)
        status = release_confirm(r, name);
    if (status != EXIT_DONE)
        return status;
    json_put_string(call.parameters, "instance", name);
    json_put_string(call.parameters, "confirm", name);
    json_put_string(call.parameters, "at", r->options.at);
    if (r->options.timeout_ms)
        json_put_int(call.parameters, "timeout_ms", (int64_t)r->options.timeout_ms);
    status = verb_call_waiting(r, &call, waits);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_released, EXIT_DONE);
    return status;
}

/* ---- instance take ---- */

static void screen_taken(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *instance = json_get(reply, "instance");
    _cleanup_free_ char *stops = rented_stops_text(instance, true);

    (void)o;
    buf_addf(out, "the guard of %s is ours.\n  stops  %s\n", member_text(instance, "name", "?"), stops);
}

enum exit_status verb_instance_take(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "InstanceTake", .limit_ms = PROVIDER_MS, .parameters = json_object(), .needs = "instance"};
    enum exit_status status;

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_taken, EXIT_DONE);
    return status;
}
