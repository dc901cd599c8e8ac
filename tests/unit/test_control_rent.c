/* links: control
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask
 *
 * The verbs of machines that cost money, as callers meet them: accounts and their tokens, what can be rented,
 * a machine that is wanted and not to be had, one that is switched off and confirmed, or not, and the end of
 * it. The provider is a few lines here. */
#include "engine/shape.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/ledger.h"
#include "lease/rented.h"
#include "proto/error.h"
#include "provider/rental.h"
#include "tests/unit/control_world.h"

#define CALL(method, parameters) "{\"method\":\"io.llmhost." method "\",\"parameters\":" parameters "}"
#define MORE(method, parameters)                                                                             \
    "{\"method\":\"io.llmhost." method "\",\"more\":true,\"parameters\":" parameters "}"
#define ADD "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"
#define UP  "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true,\"wait\":false}"

/* ---- the provider ---- */

struct rental {
    struct rental_context context;
};

static struct company {
    bool has_card, ignores_stops, loses_starts, is_silent;
    bool hides, is_down, keeps_released; /* lists leave it out; they fail; a release is only heard */
    bool is_anothers;                    /* another llmhostd has its guard */
    bool guard_is_kept, guard_stops;     /* there is one that answers; and the provider sees what it does */
    enum fault_kind guard_fault;         /* of the word to it */
    struct answer *held;                 /* the one about offers, while they are not told */
    bool holds_offers;
    struct rental *offers_of; /* who was asked last */
    const char *registry; /* code of its fault; NULL: none */
    const char *card;     /* that may be asked for; NULL: the usual one */
    char url[64];
    int64_t balance_milli;
    struct instance_seen machine; /* id "": there is none */
    unsigned n_created, n_started, n_stopped, n_released;
    unsigned n_asked;  /* for a machine */
    bool loses_create; /* what comes of that is not heard */
} at;

static const struct rental_offer offers[] = {
    {.gpu = "4090D",
     .card = "spec-4090d",
     .memory_gib = 24,
     .price_milli = 1880,
     .price_day = "2026-09-01",
     .stock = 3},
    {.gpu = "5090", .card = "spec-5090", .memory_gib = 32, .stock = -1},
};

static struct rental *fake_open(const struct rental_context *context)
{
    struct rental *r = xnew(struct rental);

    r->context = *context;
    context->heard(context->ctx, clock_wall_ms());
    return r;
}

static struct rental *fake_close(struct rental *r)
{
    free(r);
    return NULL;
}

/* What was asked is answered from the loop. */
struct answer {
    struct op op;
    struct op *inner;
    void (*tell)(struct answer *a);
    void *done, *ctx;
};

static void answer_cancel(struct op *op)
{
    struct answer *a = CONTAINER_OF(op, struct answer, op);

    op_cancel(&a->inner);
    free(a);
}

static void answer_on_turn(void *ctx, const struct fault *f)
{
    struct answer *a = ctx;

    (void)f;
    op_end(&a->op);
    a->tell(a);
    free(a);
}

static void answer_later(struct op **slot, void (*tell)(struct answer *a), void *done, void *ctx)
{
    struct answer *a = xnew(struct answer);

    *a = (struct answer){.tell = tell, .done = done, .ctx = ctx};
    op_begin(&a->op, slot, answer_cancel);
    op_finish_later(w.loop, &a->inner, NULL, answer_on_turn, a);
}

/* The token is tried with that. */
static bool token_is_refused(struct fault *f)
{
    _cleanup_secret_ char *token = NULL;

    fault_code(f, FAULT_DENIED, "token_refused", "the token is refused");
    return secrets_get(w.secrets, "autodl", "token", &token) < 0 || !streq(token, "right");
}

static void say_list(struct answer *a)
{
    struct fault refused;

    bool fails = token_is_refused(&refused);

    if (at.is_down)
        fails = fault_code(&refused, FAULT_TRANSIENT, "provider_unreachable", "it does not answer") < 0;
    if (fails)
        ((rental_list_fn)a->done)(a->ctx, NULL, 0, &refused);
    else
        ((rental_list_fn)a->done)(a->ctx, &at.machine, *at.machine.id && !at.hides, NULL);
}

static void fake_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    (void)r;
    answer_later(slot, say_list, done, ctx);
}

static void say_made(struct answer *a)
{
    struct fault none;

    fault_code(&none, at.loses_create ? FAULT_UNCERTAIN : FAULT_EXHAUSTED,
               at.loses_create ? "provider_unreachable" : "no_capacity", "no free card of this kind");
    if (at.has_card) {
        strcpy(at.machine.id, "pro-1");
        at.machine.power = INSTANCE_ON;
        strcpy(at.machine.word, "running");
        at.machine.started_at_ms = clock_wall_ms() / 1000 * 1000;
        at.n_created++;
    }
    ((rental_made_fn)a->done)(a->ctx, at.has_card ? at.machine.id : NULL, at.has_card ? NULL : &none);
}

static void fake_create(struct rental *r, const struct instance_wish *wish, struct op **slot,
                        rental_made_fn done, void *ctx)
{
    (void)r;
    cr_assert(streq(wish->card, at.card ? at.card : "spec-4090d") ||
              (!at.card && streq(wish->card, "spec-5090")));
    at.n_asked++;
    snprintf(at.machine.name, sizeof at.machine.name, "%s", wish->name);
    answer_later(slot, say_made, done, ctx);
}

static void say_done(struct answer *a)
{
    ((rental_done_fn)a->done)(a->ctx, NULL);
}

static void fake_start(struct rental *r, const char *id, const struct instance_start *s, struct op **slot,
                       rental_done_fn done, void *ctx)
{
    (void)r, (void)id;
    if (!at.loses_starts) {
        at.machine.power = INSTANCE_ON;
        at.machine.no_card = s->no_card;
        at.machine.started_at_ms = clock_wall_ms() / 1000 * 1000;
    }
    at.n_started++;
    answer_later(slot, say_done, done, ctx);
}

static void fake_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    (void)r, (void)id;
    at.n_stopped++;
    if (!at.ignores_stops) {
        at.machine.power = INSTANCE_OFF;
        strcpy(at.machine.word, "shutdown");
        at.machine.stopped_at_ms = clock_wall_ms() / 1000 * 1000;
    }
    answer_later(slot, say_done, done, ctx);
}

static void fake_release(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    (void)r, (void)id;
    if (!at.keeps_released)
        at.machine = (struct instance_seen){0};
    at.n_released++;
    answer_later(slot, say_done, done, ctx);
}

/* It is on, and its address is not there yet. */
static void say_way(struct answer *a)
{
    const struct instance_way way = {.price_milli = 1880};

    ((rental_way_fn)a->done)(a->ctx, &way, NULL);
}

static void fake_reach(struct rental *r, const char *id, struct op **slot, rental_way_fn done, void *ctx)
{
    (void)r, (void)id;
    answer_later(slot, say_way, done, ctx);
}

static void say_offers(struct answer *a)
{
    cr_assert_not_null(at.offers_of->context.secrets, "it is there while it is asked");
    ((rental_offers_fn)a->done)(a->ctx, offers, ELEMENTS(offers), NULL);
}

static void fake_offers(struct rental *r, struct op **slot, rental_offers_fn done, void *ctx)
{
    at.offers_of = r;
    if (!at.holds_offers) {
        answer_later(slot, say_offers, done, ctx);
        return;
    }
    at.held = xnew(struct answer);
    *at.held = (struct answer){.tell = say_offers, .done = done, .ctx = ctx};
    op_begin(&at.held->op, slot, answer_cancel);
}

static int fake_find_card(struct rental *r, const char *gpu, struct rental_offer *ret, char **ret_why)
{
    (void)r;
    for (size_t i = 0; i < ELEMENTS(offers); i++)
        if (streq(offers[i].gpu, gpu)) {
            *ret = offers[i];
            return 0;
        }
    *ret_why = xasprintf("it has no %s; it has 4090D, 5090", gpu);
    return -ENOENT;
}

static int fake_find_image(struct rental *r, const char *name, const char **ret_image, char **ret_why)
{
    (void)r;
    *ret_image = "image-1";
    if (name)
        *ret_why = xstrdup("it has no such image");
    return name ? -ENOENT : 0;
}

static int fake_find_region(struct rental *r, const char *name, const char **ret_region, char **ret_why)
{
    (void)r;
    *ret_region = NULL;
    if (name)
        *ret_why = xstrdup("it has no such region");
    return name ? -ENOENT : 0;
}

static void say_money(struct answer *a)
{
    struct fault refused;

    if (token_is_refused(&refused))
        ((rental_money_fn)a->done)(a->ctx, 0, &refused);
    else
        ((rental_money_fn)a->done)(a->ctx, at.balance_milli, NULL);
}

static void fake_balance(struct rental *r, struct op **slot, rental_money_fn done, void *ctx)
{
    (void)r;
    if (at.is_silent) {
        struct answer *a = xnew(struct answer);

        op_begin(&a->op, slot, answer_cancel);
        return;
    }
    answer_later(slot, say_money, done, ctx);
}

static void fake_move(struct rental *r, const char *base_url)
{
    (void)r;
    snprintf(at.url, sizeof at.url, "%s", base_url ? base_url : "its own");
}

static struct rental_ops fake = {
    .no_card_milli = 100,
    .name = "autodl",
    .title = "AutoDL",
    .unit = "CNY",
    .day_offset_ms = 8 * 3600 * 1000,
    .released_after_ms = 15ull * 24 * 3600 * 1000,
    .console_url = "https://console.example/",
    .open = fake_open,
    .close = fake_close,
    .move = fake_move,
    .list = fake_list,
    .create = fake_create,
    .start = fake_start,
    .stop = fake_stop,
    .release = fake_release,
    .reach = fake_reach,
    .offers = fake_offers,
    .find_card = fake_find_card,
    .find_image = fake_find_image,
    .find_region = fake_find_region,
    .balance = fake_balance,
};

const struct rental_ops *__wrap_rental_find(const char *name);
const struct rental_ops *__wrap_rental_find(const char *name)
{
    return streq(name, "autodl") ? &fake : NULL;
}

const struct rental_ops *__wrap_rental_at(unsigned i);
const struct rental_ops *__wrap_rental_at(unsigned i)
{
    return i == 0 ? &fake : NULL;
}

/* Nobody logs in here: of the guard there is what it answers. */
enum keeper_state __real_keeper_state(const struct keeper *k);
enum keeper_state __wrap_keeper_state(const struct keeper *k);
enum keeper_state __wrap_keeper_state(const struct keeper *k)
{
    return at.guard_is_kept ? KEEPER_KEPT : __real_keeper_state(k);
}

bool __wrap_rented_is_anothers(const struct rented *r);
bool __wrap_rented_is_anothers(const struct rented *r)
{
    (void)r;
    return at.is_anothers;
}

void __wrap_rented_stop_by_guard(struct rented *r, struct op **slot, op_done_fn done, void *ctx);
void __wrap_rented_stop_by_guard(struct rented *r, struct op **slot, op_done_fn done, void *ctx)
{
    struct fault f = {};

    (void)r;
    if (at.guard_stops)
        at.machine.power = INSTANCE_OFF;
    if (at.guard_fault)
        fault_code(&f, at.guard_fault, "unreachable", "the way to the machine is closed");
    op_finish_later(w.loop, slot, f.kind ? &f : NULL, done, ctx);
}

/* What the registry says of every model: 25 GB, of which a token of context takes a little. */
struct asked {
    shape_done_fn done;
    void *ctx;
};

static void on_asked(void *ctx, const struct fault *f)
{
    const struct shape shape = {
        .fits = {.weights_bytes = 25000000000, .token_bytes = 65536, .context_max = 32768},
        .download_bytes = 25000000000,
        .is_from_table = at.registry};
    struct asked a = *(struct asked *)ctx;
    struct fault fault;

    if (at.registry)
        fault_code(&fault, FAULT_GONE, at.registry, "its registry does not say");
    free(ctx);
    a.done(a.ctx, &shape, at.registry ? &fault : f);
}

void __wrap_shape_ask(const struct shape_context *context, const char *model, struct op **slot,
                      shape_done_fn done, void *ctx);
void __wrap_shape_ask(const struct shape_context *context, const char *model, struct op **slot,
                      shape_done_fn done, void *ctx)
{
    struct asked *a = xnew(struct asked);

    cr_assert_eq(context->loop, w.loop);
    cr_assert_not_null(context->http);
    cr_assert_str_eq(model, "ollama:m");
    *a = (struct asked){done, ctx};
    op_finish_later(w.loop, slot, NULL, on_asked, a);
}

/* ---- beginning ---- */

static void begin(void)
{
    at = (struct company){.has_card = true, .balance_milli = 41300};
    fake.has_no_card = false;
    world_begin();
}

TestSuite(control_rent, .init = begin, .fini = world_end, .timeout = 60);

static const struct json *first(const struct json *v, const char *list)
{
    return json_at(json_get(v, list), 0);
}

static void begin_account(void)
{
    json_free(answers("ProviderAdd", ADD));
}

static struct lease *box(void)
{
    return manager_find_lease(w.manager, "box");
}

static enum life_state box_state(void)
{
    return box() ? life_state(rented_life(lease_rented(box()))) : LIFE_RELEASED;
}

static void on_read(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                    const struct fault *f)
{
    (void)rows, (void)n, (void)older, (void)f;
    *(bool *)ctx = true;
}

/* Time goes on, but not past the disk: what was written before is there. */
static void time_passes(uint64_t ms)
{
    struct op *op = NULL;
    bool done = false;

    store_read_events(w.store, NULL, 0, 1, &op, on_read, &done);
    cr_assert(LOOP_UNTIL(w.loop, done));
    loop_turns(w.loop, 5);
    loop_advance(w.loop, ms);
}

/* Up to so many steps of time, until it is in that state. */
static void box_gets(enum life_state s)
{
    for (unsigned i = 0; i < 200 && box_state() != s; i++) {
        loop_turns(w.loop, 20);
        if (box_state() != s)
            time_passes(2000);
    }
    cr_assert_eq(box_state(), s, "%s, not %s", life_state_name(box_state()), life_state_name(s));
}

static void begin_machine(void)
{
    begin_account();
    json_free(answers("Up", UP));
    box_gets(LIFE_RUNNING);
}

/* ---- accounts ---- */

Test(control_rent, account_is_kept_when_its_token_is_good)
{
    _cleanup_json_ struct json *v = answers("ProviderAdd", ADD);
    const struct json *a = json_get(v, "account");

    cr_assert_str_eq(json_get_text(a, "title"), "AutoDL");
    cr_assert_eq(json_get_int(json_get(a, "balance"), "milli", 0), 41300);
    cr_assert_gt(json_get_int(a, "day_milli", 0), 0, "without a word there is a limit of a day");
    cr_assert_gt(json_get_int(a, "floor_milli", 0), 0);
    refuses(CALL("ProviderAdd", ADD), "io.llmhost.Conflict", "code", "account_exists");
}

Test(control_rent, account_of_a_refused_token_is_not_kept)
{
    refuses(CALL("ProviderAdd", "{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}"),
            "io.llmhost.CredentialsRefused", "code", "token_refused");

    _cleanup_json_ struct json *v = answers("ProviderList", "{}");
    _cleanup_secret_ char *token = NULL;

    cr_assert_eq(json_count(json_get(v, "accounts")), 0);
    cr_assert_str_eq(json_text(first(v, "known")), "autodl");
    cr_assert_eq(secrets_get(w.secrets, "autodl", "token", &token), -ENOENT);
}

Test(control_rent, limits_are_changed_one_by_one)
{
    begin_account();
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"month_milli\":500000}"));

    _cleanup_json_ struct json *v = answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":0}");
    const struct json *a = json_get(v, "account");

    cr_assert_eq(json_get_int(a, "month_milli", 0), 500000);
    cr_assert_eq(json_get_int(a, "day_milli", -1), -1, "none");
    at.is_silent = true; /* of limits alone the company need not hear */
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":4000}"));
    refuses(CALL("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":-1}"),
            "org.varlink.service.InvalidParameter", "parameter", "day_milli");
    refuses(CALL("ProviderSet", "{\"provider\":\"elsewhere\"}"), "io.llmhost.NotFound", "code",
            "unknown_provider");
}

Test(control_rent, what_cannot_be_an_account_is_refused_before_anybody_is_asked)
{
    static const char *const urls[] = {"ftp://x", "file:///etc/passwd", "x.example", "https://", "http:///x"};
    char token[SECRET_BYTES_MAX + 2] = "";

    for (size_t i = 0; i < ELEMENTS(urls); i++) {
        _cleanup_free_ char *call =
            xasprintf(CALL("ProviderAdd",
                           "{\"provider\":\"autodl\",\"base_url\":\"%s\",\"token\":{\"text\":\"right\"}}"),
                      urls[i]);

        refuses(call, "io.llmhost.Usage", "code", "bad_url");
    }
    memset(token, 'x', SECRET_BYTES_MAX + 1);
    _cleanup_free_ char *call =
        xasprintf(CALL("ProviderAdd", "{\"provider\":\"autodl\",\"token\":{\"text\":\"%s\"}}"), token);

    refuses(call, "io.llmhost.CredentialsRefused", "message",
            "autodl was not added: that is no token of autodl: it is longer than 65 kB");
    refuses(CALL("ProviderAdd", "{\"provider\":\"nobody\",\"token\":{\"text\":\"x\"}}"), "io.llmhost.Usage",
            "message",
            "nobody was not added: \"nobody\" is nobody this version can rent from; there are: autodl");
}

Test(control_rent, the_balance_is_asked_for_only_when_that_is_said)
{
    begin_account();
    at.balance_milli = 7000;

    _cleanup_json_ struct json *old = answers("Cost", "{}"), *now = answers("Cost", "{\"refresh\":true}");

    cr_assert_eq(json_get_int(json_get(first(old, "accounts"), "balance"), "milli", 0), 41300);
    cr_assert_eq(json_get_int(json_get(first(now, "accounts"), "balance"), "milli", 0), 7000);
}

Test(control_rent, cards_without_a_name_are_no_cards)
{
    static const char *const gpus[] = {"", ",4090D", "4090D,", "4090D,,5090", ","};

    begin_account();
    for (size_t i = 0; i < ELEMENTS(gpus); i++) {
        _cleanup_free_ char *call =
            xasprintf(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"%s\",\"anyway\":true}"), gpus[i]);

        refuses(call, "io.llmhost.Usage", "code", "gpu_needed");
    }
}

Test(control_rent, address_that_was_no_good_is_not_kept)
{
    begin_account();
    refuses(CALL("ProviderSet", "{\"provider\":\"autodl\",\"base_url\":\"https://other.example\","
                                "\"token\":{\"text\":\"wrong\"}}"),
            "io.llmhost.CredentialsRefused", "code", "token_refused");
    cr_assert_str_eq(at.url, "its own", "who pays can reach it still");

    _cleanup_json_ struct json *v = answers("ProviderList", "{}");

    cr_assert_null(json_get_text(first(v, "accounts"), "base_url"));
}

/* What is put back is what was there before: with two of them at once that would be what the other one tries.
 */
Test(control_rent, one_word_about_an_account_is_tried_at_a_time)
{
    struct caller_end other;
    _cleanup_secret_ char *token = NULL;

    begin_account();
    at.is_silent = true;
    caller_comes(&other);
    say(&other, CALL("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}"));
    loop_turns(w.loop, 10);
    refuses(CALL("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"also wrong\"}}"),
            "io.llmhost.Conflict", "code", "in_trial");
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "message",
            "autodl was not removed: another word about it is being tried");
    caller_leaves(&other);
    loop_turns(w.loop, 10);
    cr_assert_eq(secrets_get(w.secrets, "autodl", "token", &token), 0);
    cr_assert_str_eq(token, "right");
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
}

static void token_is(const char *kind, const char *expected)
{
    _cleanup_secret_ char *token = NULL;

    cr_assert_eq(secrets_get(w.secrets, "autodl", kind, &token), expected ? 0 : -ENOENT, "%s", kind);
    cr_assert(!expected || streq(token, expected), "%s is %s", kind, token);
}

/* Killed in the middle: without a token nothing could be switched off any more. */
Test(control_rent, token_that_was_being_tried_does_not_outlive_the_daemon)
{
    begin_account();
    at.is_silent = true;
    say(&w.caller, CALL("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}"));
    loop_turns(w.loop, 10);
    token_is("token", "wrong");
    token_is("token_before", "right");
    caller_leaves(&w.caller);
    daemon_ends();
    cr_assert_eq(secrets_put(w.secrets, "autodl", "token", "wrong"), 0); /* as if it had been killed */
    cr_assert_eq(secrets_put(w.secrets, "autodl", "token_before", "right"), 0);
    daemon_begins();
    token_is("token", "right");
    token_is("token_before", NULL);
    at.is_silent = false;
    caller_comes(&w.caller);
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"));
    token_is("token_before", NULL);
}

Test(control_rent, account_goes_only_without_machines)
{
    begin_machine();
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "code", "in_use");
}

Test(control_rent, account_without_machines_goes)
{
    begin_account();
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "accounts")), 0);
}

Test(control_rent, what_an_account_was_asked_is_answered_when_it_is_removed)
{
    struct caller_end other;

    begin_account();
    at.holds_offers = true;
    caller_comes(&other);
    say(&other, CALL("Offers", "{}"));
    cr_assert(LOOP_UNTIL(w.loop, at.held));
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    op_finish_later(w.loop, &at.held->inner, NULL, answer_on_turn, at.held);

    _cleanup_json_ struct json *v = hear(&other);

    cr_assert_eq(json_type(json_get(json_get(v, "parameters"), "offers")), JSON_ARRAY);
    caller_leaves(&other);
}

/* ---- what can be rented ---- */

Test(control_rent, offers_are_told_with_their_prices)
{
    refuses(CALL("Offers", "{}"), "io.llmhost.NotFound", "code", "no_provider");
    begin_account();

    _cleanup_json_ struct json *v = answers("Offers", "{}"), *one = answers("Offers", "{\"gpu\":\"5090\"}");

    cr_assert_eq(json_count(json_get(v, "offers")), 2);
    cr_assert_str_eq(json_get_text(first(v, "offers"), "gpu"), "4090D", "the cheapest first");
    cr_assert_eq(json_get_int(json_get(first(v, "offers"), "price"), "milli", 0), 1880);
    cr_assert_eq(json_count(json_get(one, "offers")), 1);
    cr_assert_null(json_get(first(one, "offers"), "price"), "unknown is not 0");
    refuses(CALL("Offers", "{\"gpu\":\"4090\"}"), "io.llmhost.Usage", "code", "no_such_card");
}

Test(control_rent, offers_for_a_model_begin_with_what_holds_it)
{
    begin_account();

    _cleanup_json_ struct json *v = answers("Offers", "{\"for_model\":\"ollama:m\"}");
    const struct json *list = json_get(v, "offers");

    cr_assert_str_eq(json_get_text(json_at(list, 0), "gpu"), "5090", "the cheaper one is too small");
    cr_assert_str_eq(json_get_text(json_at(list, 0), "fits"), "yes");
    cr_assert_gt(json_get_int(json_at(list, 0), "context", 0), 4096);
    cr_assert_str_eq(json_get_text(json_at(list, 1), "fits"), "no");
}

Test(control_rent, offers_are_for_a_model_there_is)
{
    begin_account();
    refuses(CALL("Offers", "{\"for_model\":\"tiny\"}"), "io.llmhost.Usage", "code", "bad_model");
    refuses(CALL("Offers", "{\"for_model\":\"vllm:tiny\"}"), "io.llmhost.Usage", "code", "unknown_engine");
    at.registry = "model_unknown";
    refuses(CALL("Offers", "{\"for_model\":\"ollama:m\"}"), "io.llmhost.NotFound", "code", "model_unknown");
    at.registry = "tag_unknown";
    refuses(CALL("Offers", "{\"for_model\":\"ollama:m\"}"), "io.llmhost.NotFound", "code", "tag_unknown");
}

Test(control_rent, what_only_the_table_knows_is_marked)
{
    begin_account();

    _cleanup_json_ struct json *heard = answers("Offers", "{\"for_model\":\"ollama:m\"}");

    cr_assert_not(json_get_bool(first(heard, "offers"), "from_table", false));
    at.registry = "registry_unreachable";

    _cleanup_json_ struct json *v = answers("Offers", "{\"for_model\":\"ollama:m\"}");

    cr_assert(json_get_bool(first(v, "offers"), "from_table", false));
    cr_assert_eq(json_count(json_get(v, "notes")), 1);
}

Test(control_rent, card_that_is_too_small_is_refused_before_it_is_paid_for)
{
    begin_account();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"wait\":false}"), "io.llmhost.Refused",
            "code", "does_not_fit");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090,4090D\",\"wait\":false}"),
            "io.llmhost.Refused", "code", "does_not_fit");
    cr_assert_null(manager_lease_at(w.manager, 0));
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2\",\"wait\":false}"));
    cr_assert_not_null(manager_lease_at(w.manager, 0), "two of them hold it");
}

Test(control_rent, price_of_the_account_can_be_passed_over_once)
{
    begin_account();
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":1000}"));
    refuses(CALL("Up", UP), "io.llmhost.Refused", "code", "price");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true,"
                            "\"wait\":false,\"over_budget\":true}"));
    box_gets(LIFE_RUNNING);
    time_passes(10000);
    cr_assert_eq(box_state(), LIFE_RUNNING);
}

Test(control_rent, words_about_a_machine_need_a_card)
{
    begin_account();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"max_price_milli\":2000}"), "io.llmhost.Usage", "code",
            "gpu_needed");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090\",\"anyway\":true}"), "io.llmhost.Usage",
            "code", "no_such_card");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"max_price_milli\":1000}"),
            "io.llmhost.Refused", "code", "price");
    refuses(CALL("Up", "{\"model\":\"nothing\",\"gpu\":\"4090D\",\"anyway\":true}"), "io.llmhost.Usage",
            "code", "bad_model");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"disk_gb\":-1}"),
            "org.varlink.service.InvalidParameter", "parameter", "disk_gb");
    cr_assert_null(manager_lease_at(w.manager, 0), "nothing was made");
}

static void ways_are(const char *a, const char *b, const char *c)
{
    _cleanup_json_ struct json *v = ask(CALL("Up", "{\"model\":\"ollama:m\"}"));
    const struct json *p = json_get(v, "parameters"), *next = json_get(p, "next");

    cr_assert_str_eq(json_get_text(p, "code"), "no_instance");
    cr_assert_str_eq(json_text(json_at(next, 0)), a);
    cr_assert_str_eq(json_text(json_at(next, 1)), b);
    cr_assert_str_eq(json_text(json_at(next, 2)), c);
}

Test(control_rent, without_an_instance_all_ways_to_one_are_named)
{
    const char *add = "llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'";

    ways_are("llmhostctl provider add autodl", "llmhostctl up ollama:m --gpu=CARD", add);
    begin_account();
    ways_are("llmhostctl offers --for ollama:m", "llmhostctl up ollama:m --gpu=CARD", add);
}

/* ---- a machine ---- */

Test(control_rent, machine_is_switched_on_for_its_model)
{
    begin_machine();

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *i = first(v, "instances"), *rental = json_get(i, "rental");

    cr_assert_eq(at.n_created, 1);
    cr_assert_str_eq(json_get_text(i, "state"), "running");
    cr_assert(json_get_bool(i, "rented", false));
    cr_assert_str_eq(json_get_text(rental, "goal"), "on");
    cr_assert_str_eq(json_get_text(rental, "id"), "pro-1");
    cr_assert_eq(json_get_int(json_get(rental, "rate"), "milli", 0), 1880);
    cr_assert_not(json_get_bool(json_get(rental, "rate"), "estimate", true));
    cr_assert_eq(json_get_int(first(v, "accounts"), "instances", 0), 1);
}

/* Asked for twice it is not rented twice; another model has a machine of its own while that one is up. */
Test(control_rent, one_model_of_one_card_is_one_machine)
{
    const char *again = "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}";
    const char *other = "{\"model\":\"ollama:n\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}";

    begin_machine();
    json_free(answers("Up", again));
    cr_assert_null(manager_lease_at(w.manager, 1), "the same machine");
    json_free(answers("Up", other));
    cr_assert_not_null(manager_find_lease(w.manager, "4090d"), "named after its card");
    deployment_want(manager_find_deployment(w.manager, "ollama:n"), GOAL_OFF, true);
    json_free(answers("Up", other));
    cr_assert_null(manager_lease_at(w.manager, 2), "the one it was on");
}

/* Until the next try is so far away. */
static bool search_rests(int64_t ms)
{
    struct rented_figures n;

    for (unsigned i = 0; i < 60; i++) {
        rented_figures(lease_rented(box()), &n);
        if (box_state() == LIFE_WAITING && n.next_at_ms - clock_wall_ms() > ms)
            return true;
        time_passes(1000);
    }
    return false;
}

Test(control_rent, time_without_a_card_ends_with_no_capacity)
{
    begin_account();
    at.has_card = false;
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true}"));
    box_gets(LIFE_WAITING);
    for (unsigned i = 0; i < 50; i++)
        time_passes(2000);
    cr_assert(is_silent(&w.caller), "no card is no error while it is looked for");

    /* In the middle of a try nobody knows. */
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    cr_assert(search_rests(20000));
    say(&w.caller, CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true,"
                              "\"timeout_ms\":10000}"));
    for (unsigned i = 0; i < 20 && !has_message(&w.caller); i++)
        time_passes(1000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.NoCapacity", "%s: %s", json_get_text(p, "code"),
                     json_get_text(p, "why"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "the search goes on"));
    cr_assert_not_null(strstr(json_text(json_at(json_get(p, "next"), 1)), "llmhostctl down ollama:m"));
    cr_assert_eq(box_state(), LIFE_WAITING);
}

/* Round after round; how the search goes on is what its stage says. */
Test(control_rent, each_card_that_is_asked_for_in_vain_is_told_once)
{
    struct buf refused;
    bool waits = false;

    buf_init(&refused, 4096);
    begin_account();
    at.has_card = false;
    say(&w.caller, MORE("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D,4090Dx2\",\"on\":\"box\","
                              "\"anyway\":true,\"timeout_ms\":200000}"));
    for (bool over = false; !over;) {
        for (unsigned i = 0; i < 150 && !has_message(&w.caller); i++)
            time_passes(2000);

        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *progress = json_get(json_get(v, "parameters"), "progress");
        const char *text = json_get_text(progress, "text");

        over = json_get_text(v, "error") != NULL;
        if (!progress)
            continue;
        cr_assert_str_eq(json_get_text(progress, "stage"), "capacity");
        cr_assert_str_eq(json_get_text(progress, "instance"), "box");
        if (streq(json_get_text(progress, "state"), "refused"))
            buf_addf(&refused, "%s; ", text);
        waits |= strncmp(text, "none free, try 4, until ", 24) == 0 &&
                 json_get_int(progress, "next_at_ms", 0) > clock_wall_ms();
    }
    cr_assert_str_eq(buf_text(&refused), "4090D: no free card; 4090Dx2: no free card; ");
    cr_assert(waits);
    buf_done(&refused);
}

/* A guard goes along with what was asked: none is missing before it is on. */
Test(control_rent, what_is_only_asked_for_has_a_guard_that_is_to_come)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.loses_starts = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    box_gets(LIFE_STARTING);

    _cleanup_json_ struct json *status = answers("Status", "{}");
    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"box\"]}");
    const struct json *box = first(status, "instances"), *rental = json_get(box, "rental");

    cr_assert_str_eq(json_get_text(box, "state"), "starting");
    cr_assert_str_eq(json_get_text(json_get(rental, "guard"), "state"), "to_come");
    cr_assert_str_eq(json_get_text(first(first(why, "lines"), "causes"), "cause"), "switching_on");
}

Test(control_rent, down_of_the_last_model_ends_with_the_confirmed_stop)
{
    begin_machine();
    say(&w.caller, MORE("Down", "{\"target\":\"ollama:m\"}"));

    bool confirmed = false;
    const struct json *p;

    for (;;) {
        _cleanup_json_ struct json *v = hear(&w.caller);

        p = json_get(v, "parameters");
        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        if (json_get_bool(p, "done", false)) {
            cr_assert_str_eq(json_get_text(json_get(p, "instance"), "state"), "stopped");
            cr_assert_not_null(json_get(p, "spent"));
            break;
        }
        confirmed |= streq(json_get_text(json_get(p, "progress"), "stage"), "confirmed");
    }
    cr_assert(confirmed);
    cr_assert_eq(at.machine.power, INSTANCE_OFF);
    json_free(answers("Wait", "{\"target\":\"box\",\"until\":\"confirmed\"}"));
}

/* ---- the end of a search ---- */

#define SEARCH                                                                                               \
    "{\"model\":\"ollama:m\",\"gpu\":\"4090D,5090\",\"max_price_milli\":9000,\"anyway\":true,\"wait\":false}"

static const struct rental_record *record_of(const char *name)
{
    struct lease *l = manager_find_lease(w.manager, name);

    return l ? rented_record(lease_rented(l)) : NULL;
}

static void search_until_refused(unsigned n_asked)
{
    json_free(answers("Up", SEARCH));
    for (unsigned i = 0; i < 200 && at.n_asked < n_asked; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    cr_assert_geq(at.n_asked, n_asked);
    loop_turns(w.loop, 20);
}

static void begin_search(void)
{
    begin_account();
    at.has_card = false;
    search_until_refused(2);
    cr_assert(record_of("4090d")->never_made && record_of("4090d")->by_search);
    cr_assert_str_eq(record_of("4090d")->card, "spec-5090", "the second was tried");
}

/* The last reply of a Down with "more"; no stage of it is about an engine. */
static struct json *down_of_search(const char *target)
{
    _cleanup_free_ char *down = xasprintf(MORE("Down", "{\"target\":\"%s\"}"), target);

    say(&w.caller, down);
    for (;;) {
        struct json *v = hear(&w.caller);
        const struct json *p = json_get(v, "parameters");
        const char *stage = json_get_text(json_get(p, "progress"), "stage");

        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        cr_assert(!stage || !streq(stage, "engine"), "none ran");
        if (json_get_bool(p, "done", false))
            return v;
        json_free(v);
    }
}

Test(control_rent, down_of_a_search_over_several_says_that_nothing_was_on_and_leaves_nothing)
{
    begin_search();

    _cleanup_json_ struct json *v = down_of_search("ollama:m");
    const struct json *search = json_get(json_get(v, "parameters"), "search");

    cr_assert_eq(json_type(search), JSON_OBJECT);
    cr_assert_not(json_get_bool(search, "powered", true));
    cr_assert_str_eq(json_get_text(search, "gpu"), "4090D,5090");
    cr_assert_not_null(record_of("4090d"), "whoever ended it is told first");
    time_passes(2000);
    loop_turns(w.loop, 20);
    cr_assert_null(manager_lease_at(w.manager, 0));
    cr_assert_null(manager_deployment_at(w.manager, 0));
    cr_assert_eq(at.n_created, 0);
}

static const struct json *cause_of(const struct json *line, const char *cause)
{
    const struct json *causes = json_get(line, "causes"), *found = NULL;

    for (size_t i = 0; i < json_count(causes); i++)
        if (streq(json_get_text(json_at(causes, i), "cause"), cause))
            found = json_at(causes, i);
    return found;
}

Test(control_rent, why_tells_of_a_search_since_when_what_was_answered_and_what_is_next)
{
    begin_search();

    _cleanup_json_ struct json *v = answers("Why", "{}");
    const struct json *lines = json_get(v, "lines"), *model = json_at(lines, 1);

    cr_assert_eq(json_count(lines), 2);
    cr_assert_str_eq(json_get_text(first(v, "lines"), "target"), "4090d");
    cr_assert_str_eq(json_get_text(model, "target"), "ollama:m");
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_str_eq(json_get_text(json_at(lines, i), "verdict"), "search");
        cr_assert(json_get_int(cause_of(json_at(lines, i), "searched"), "since_at_ms", 0));
        cr_assert_str_eq(json_get_text(cause_of(json_at(lines, i), "answered"), "text"),
                         "5090: no free card");
        cr_assert_str_eq(json_get_text(cause_of(json_at(lines, i), "next_try"), "text"), "4090D");
        cr_assert(json_get_int(cause_of(json_at(lines, i), "next_try"), "until_at_ms", 0));
        cr_assert(json_get_int(cause_of(json_at(lines, i), "search_ends"), "until_at_ms", 0));
        cr_assert_null(cause_of(json_at(lines, i), "stopped_by_user"));
    }
}

/* Two that were named, for which there was no card. */
static void begin_two(void)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"one\",\"anyway\":true,"
                            "\"wait\":false}"));
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"gpu\":\"5090\",\"on\":\"two\",\"anyway\":true,"
                            "\"max_price_milli\":9000,\"wait\":false}"));
    json_free(answers("Down", "{\"target\":\"ollama:n\",\"forget\":true}"));
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"one\",\"or_on\":\"two\",\"wait\":false}"));
}

static const struct deployment *m_on(const char *name)
{
    return manager_find_on(w.manager, "ollama:m", name);
}

Test(control_rent, one_whose_turn_is_over_was_not_stopped_by_anybody)
{
    struct fault off;

    begin_two();
    for (unsigned i = 0; i < 200 && deployment_goal(m_on("two")) == GOAL_OFF; i++)
        time_passes(500);
    cr_assert_neq(deployment_goal(m_on("two")), GOAL_OFF);

    _cleanup_json_ struct json *v = answers("Why", "{\"targets\":[\"ollama:m\"]}");

    cr_assert_eq(json_count(json_get(v, "lines")), 1, "one line for all of them");
    cr_assert_str_eq(json_get_text(first(v, "lines"), "verdict"), "search");
    cr_assert_str_eq(json_get_text(cause_of(first(v, "lines"), "answered"), "text"),
                     "one: no free card");
    deployment_describe_off(m_on("one"), &off);
    cr_assert_str_eq(off.code, "passed_over");
    cr_assert_not_null(strstr(off.text, "nothing came of one"), "%s", off.text);

    _cleanup_json_ struct json *over = down_of_search("ollama:m");
    const struct json *search = json_get(json_get(over, "parameters"), "search");

    cr_assert_eq(json_type(search), JSON_OBJECT);
    cr_assert_not(json_get_bool(search, "powered", true));
    cr_assert_null(json_get_text(search, "gpu"), "both stay, as somebody named them");
    deployment_describe_off(m_on("one"), &off);
    cr_assert_str_eq(off.code, "stopped_by_user", "now it was");

    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"one\"]}");

    cr_assert_not_null(cause_of(first(why, "lines"), "not_made"));
}

Test(control_rent, next_search_has_the_name_of_the_one_that_was_given_up)
{
    begin_search();
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:n\",\"gpu\":\"4090D\",\"max_price_milli\":1990,\"anyway\":"
                            "true,\"wait\":false}"));
    time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_null(manager_lease_at(w.manager, 1), "no 4090d-2");
    cr_assert_str_eq(record_of("4090d")->gpu, "4090D", "and looks for what is wanted now");
    cr_assert_str_eq(record_of("4090d")->card, "spec-4090d");
    cr_assert_eq(record_of("4090d")->max_price_milli, 1990);
}

Test(control_rent, what_a_search_left_is_forgotten_by_the_next_daemon_too)
{
    begin_search();
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    time_passes(0);
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    for (unsigned i = 0; i < 100 && manager_lease_at(w.manager, 0); i++)
        time_passes(2000);
    cr_assert_null(manager_lease_at(w.manager, 0));
}

Test(control_rent, one_that_somebody_named_outlasts_its_search)
{
    begin_account();
    at.has_card = false;
    json_free(answers("Up", UP));
    box_gets(LIFE_WAITING);
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_not_null(box());

    _cleanup_json_ struct json *v = answers("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}");

    cr_assert(json_get_bool(v, "never_made", false));
    cr_assert_null(json_get(v, "spent"));
    cr_assert_null(box());
}

/* Nobody heard what became of it: it may be there, and come late. */
/* The first call got no answer, and as many as are asked after it a plain no. */
static void lose_a_create(unsigned n_after)
{
    begin_search();
    at.loses_create = true;
    for (unsigned i = 0, n = at.n_asked; i < 100 && at.n_asked == n; i++)
        time_passes(2000);
    loop_turns(w.loop, 20);
    at.loses_create = false;
    for (unsigned i = 0, n = at.n_asked; i < 400 && at.n_asked < n + n_after; i++) {
        loop_turns(w.loop, 20);
        time_passes(2000);
    }
    loop_turns(w.loop, 20);
}

static void down_is_unsure(void)
{
    say(&w.caller, MORE("Down", "{\"target\":\"ollama:m\"}"));
    for (unsigned i = 0; i < 200; i++) {
        loop_turns(w.loop, 20);
        time_passes(5000);
    }
    for (;;) {
        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *p = json_get(v, "parameters"), *search = json_get(p, "search");
        const char *stage = json_get_text(json_get(p, "progress"), "stage");

        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        cr_assert(!stage || !streq(stage, "confirmed"), "nobody confirmed anything");
        if (!json_get_bool(p, "done", false))
            continue;
        cr_assert_not(json_get_bool(search, "powered", true));
        cr_assert_str_eq(json_text(json_at(json_get(search, "unsure"), 0)), "4090d");
        cr_assert_null(json_get_text(search, "gpu"), "it stays, to be looked for");
        return;
    }
}

Test(control_rent, down_of_a_search_promises_nothing_of_a_call_that_got_no_answer)
{
    lose_a_create(0);
    down_is_unsure();
}

Test(control_rent, nor_when_the_calls_after_it_were_refused)
{
    lose_a_create(2);
    down_is_unsure();
}

Test(control_rent, one_that_may_have_been_made_is_never_forgotten)
{
    begin_search();
    at.loses_create = true;
    for (unsigned i = 0, n = at.n_asked; i < 100 && at.n_asked == n; i++)
        time_passes(2000);
    loop_turns(w.loop, 20);
    cr_assert_not(record_of("4090d")->never_made);
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    for (unsigned i = 0; i < 300; i++)
        time_passes(5000);
    loop_turns(w.loop, 20);
    cr_assert_not_null(record_of("4090d"));
    cr_assert_eq(life_state(rented_life(lease_rented(manager_lease_at(w.manager, 0)))), LIFE_ABSENT);
}

/* The word comes while it is asked for, and a plain no after it. */
Test(control_rent, what_is_refused_after_the_word_was_not_made_either)
{
    begin_search();
    for (unsigned i = 0; i < 100 && life_state(rented_life(lease_rented(manager_lease_at(w.manager, 0)))) !=
                                        LIFE_CREATING; i++)
        time_passes(500);
    deployment_want(manager_find_deployment(w.manager, "ollama:m"), GOAL_OFF, true);
    for (unsigned i = 0; i < 20 && manager_lease_at(w.manager, 0); i++)
        time_passes(500);
    cr_assert_null(manager_lease_at(w.manager, 0));
}

/* What was asked may come yet: until it cannot, the call waits, and says so. */
Test(control_rent, down_says_why_an_off_is_not_believed_and_until_when)
{
    struct caller_end waits;

    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    at.loses_starts = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    box_gets(LIFE_STARTING);
    time_passes(10000);
    caller_comes(&waits);
    say(&waits, MORE("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPING);
    time_passes(6000);

    _cleanup_json_ struct json *status = answers("Status", "{}");
    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"box\"]}");
    const struct json *rental = json_get(first(status, "instances"), "rental");
    const struct json *causes = json_get(first(why, "lines"), "causes");
    bool is_cause = false;
    unsigned told = 0;

    cr_assert_gt(json_get_int(rental, "doubted_until_at_ms", 0), clock_wall_ms());
    for (size_t i = 0; i < json_count(causes); i++)
        is_cause |= streq(json_get_text(json_at(causes, i), "cause"), "doubted");
    cr_assert(is_cause);
    for (bool done = false; !done;) {
        for (unsigned i = 0; i < 100 && !has_message(&waits); i++)
            time_passes(2000);

        _cleanup_json_ struct json *v = hear(&waits);
        const struct json *p = json_get(v, "parameters");
        const char *text = json_get_text(json_get(p, "progress"), "text");

        cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
        told += text && strncmp(text, "AutoDL may still act on a power-on asked ", 41) == 0 &&
                strstr(text, " ago; confirmed by ");
        done = json_get_bool(p, "done", false);
    }
    cr_assert_eq(told, 1);
    cr_assert_eq(box_state(), LIFE_STOPPED);
    cr_assert_eq(at.n_started, 1);
    caller_leaves(&waits);
}

Test(control_rent, stop_that_is_ignored_is_told_and_goes_on)
{
    begin_machine();
    at.ignores_stops = true;
    say(&w.caller, CALL("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPING);
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");
    cr_assert_str_eq(json_get_text(p, "target"), "box");
    cr_assert_not_null(strstr(json_get_text(p, "message"), "1.88/h"), "%s", json_get_text(p, "message"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "\"running\""), "%s", json_get_text(p, "why"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "https://console.example/"));

    _cleanup_json_ struct json *status = answers("Status", "{}");

    const struct json *trouble = json_get(first(status, "instances"), "trouble");

    cr_assert_str_eq(json_get_text(trouble, "code"), "stop_not_confirmed");
    cr_assert_eq(json_get_int(trouble, "exit", 0), EXIT_NOT_CONFIRMED);

    _cleanup_json_ struct json *why = answers("Why", "{\"targets\":[\"box\"]}");
    const struct json *causes = json_get(first(why, "lines"), "causes");

    for (size_t i = 0; i < json_count(causes); i++)
        cr_assert_str_neq(json_get_text(json_at(causes, i), "cause"), "stopping",
                          "that is said by the trouble");
    refuses(CALL("Wait", "{\"target\":\"box\",\"until\":\"confirmed\",\"timeout_ms\":1}"),
            "io.llmhost.StopNotConfirmed", "target", "box");
    at.ignores_stops = false;
    box_gets(LIFE_STOPPED);
}

Test(control_rent, sleep_of_the_last_model_stops_the_machine)
{
    begin_machine();
    json_free(answers("Sleep", "{\"target\":\"ollama:m\"}"));
    cr_assert_eq(box_state(), LIFE_STOPPED);
    cr_assert_eq(at.machine.power, INSTANCE_OFF);
}

Test(control_rent, keep_of_a_machine_tells_its_cost)
{
    begin_machine();

    _cleanup_json_ struct json *v = answers("Keep", "{\"target\":\"box\",\"for_ms\":7200000}");

    cr_assert_eq(json_get_int(json_get(v, "cost"), "milli", 0), 2 * 1880);
    cr_assert_str_eq(json_get_text(json_get(v, "instance"), "name"), "box");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":700000000}"), "io.llmhost.Usage", "code",
            "bad_time");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":8553600000}"), "io.llmhost.Usage", "message",
            "a keep of a rented machine lasts at most 7 days");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    cr_assert_eq(box_state(), LIFE_STOPPED, "down ends the keep");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":7200000}"), "io.llmhost.NotRunning", "code",
            "not_running");
}

Test(control_rent, machine_is_given_back_only_by_its_name_and_when_it_is_off)
{
    begin_machine();
    refuses(CALL("Release", "{\"instance\":\"box\",\"confirm\":\"no\"}"), "io.llmhost.Usage", "code",
            "not_confirmed");
    refuses(CALL("InstanceRemove", "{\"name\":\"box\"}"), "io.llmhost.Conflict", "code", "is_rented");
    refuses(CALL("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"), "io.llmhost.Conflict", "target",
            "box");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    refuses(CALL("InstanceRemove", "{\"name\":\"box\"}"), "io.llmhost.Conflict", "code", "is_rented");
    say(&w.caller, CALL("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"));
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(json_get(v, "parameters"), "message"));
    cr_assert_geq(at.n_released, 1);
    cr_assert_null(box());
}

static int64_t spent_today(void)
{
    _cleanup_json_ struct json *v = answers("ProviderList", "{}");

    return json_get_int(json_get(first(v, "accounts"), "today"), "milli", -1);
}

/* A limit of a day is not got round by removing the account. */
Test(control_rent, what_a_removed_account_spent_counts_when_it_is_back)
{
    begin_machine();
    loop_advance(w.loop, 60000);
    json_free(answers("Down", "{\"target\":\"box\"}"));
    say(&w.caller, CALL("Release", "{\"instance\":\"box\",\"confirm\":\"box\"}"));
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);
    json_free(hear(&w.caller));

    int64_t spent = spent_today();

    cr_assert_gt(spent, 0);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    begin_account();
    cr_assert_eq(spent_today(), spent);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    caller_leaves(&w.caller);
    daemon_ends();
    daemon_begins();
    caller_comes(&w.caller);
    begin_account();
    cr_assert_eq(spent_today(), spent, "after a start in between");
}

Test(control_rent, cost_has_what_runs_and_what_ran)
{
    begin_machine();
    loop_advance(w.loop, 60000);

    _cleanup_json_ struct json *v = answers("Cost", "{\"since_at_ms\":0}");
    const struct json *line = first(v, "lines"), *row = first(v, "rows");

    cr_assert_str_eq(json_get_text(line, "instance"), "box");
    cr_assert_eq(json_get_int(json_get(line, "now"), "milli", 0), 1880);
    cr_assert_str_eq(json_get_text(row, "kind"), "compute");
    cr_assert(json_get_bool(row, "by_us", false));
    cr_assert_null(json_get(row, "to_at_ms"));
    cr_assert_gt(json_get_int(json_get(row, "amount"), "milli", 0), 0);
    cr_assert_eq(json_count(json_get(v, "total")), 1);
}

Test(control_rent, why_tells_what_keeps_it_on_and_that_it_is_off)
{
    begin_machine();

    _cleanup_json_ struct json *on = answers("Why", "{\"targets\":[\"box\"]}");

    cr_assert_str_eq(json_get_text(first(on, "lines"), "verdict"), "awake");
    json_free(answers("Down", "{\"target\":\"box\"}"));

    _cleanup_json_ struct json *off = answers("Why", "{\"targets\":[\"box\"]}");

    cr_assert_str_eq(json_get_text(first(off, "lines"), "verdict"), "off");
    cr_assert_str_eq(json_get_text(first(first(off, "lines"), "causes"), "cause"), "machine_off");
}

Test(control_rent, doctor_asks_the_account_and_says_what_is_unproved)
{
    begin_machine();
    refuses(CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"), "io.llmhost.Conflict", "code", "in_use");
    at.balance_milli = 500;

    _cleanup_json_ struct json *v = answers("Doctor", "{}");
    const struct json *checks = json_get(v, "checks");
    unsigned seen = 0;

    for (size_t i = 0; i < json_count(checks); i++) {
        const char *id = json_get_text(json_at(checks, i), "id"),
                   *level = json_get_text(json_at(checks, i), "level");

        seen += streq(id, "account.token") && streq(level, "ok");
        seen += streq(id, "account.balance") && streq(level, "fail");
        seen += streq(id, "rented.proof") && streq(level, "warn");
    }
    cr_assert_eq(seen, 3);
}

Test(control_rent, one_of_others_beyond_the_money_is_trouble_and_runs_on)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);
    at.balance_milli = 500;
    json_free(answers("Doctor", "{}")); /* reads it */
    at.machine.power = INSTANCE_ON;
    box_gets(LIFE_RUNNING);
    at.n_stopped = 0;
    time_passes(600000);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    struct buf text;

    buf_init(&text, 1 << 20);
    cr_assert_eq(json_write(v, &text), 0);
    cr_assert_not_null(strstr(buf_text(&text), "\"over_budget\""), "%s", buf_text(&text));
    cr_assert_not_null(strstr(buf_text(&text), "llmhostctl down box"), "%s", buf_text(&text));
    buf_done(&text);
    cr_assert_eq(box_state(), LIFE_RUNNING);
    cr_assert_eq(at.n_stopped, 0);
}

Test(control_rent, one_that_another_llmhostd_keeps_is_not_ours_to_stop_or_keep)
{
    begin_machine();
    at.is_anothers = true;
    refuses(CALL("Down", "{\"target\":\"box\"}"), "io.llmhost.Conflict", "code", "other_owner");
    refuses(CALL("Keep", "{\"target\":\"box\",\"for_ms\":3600000}"), "io.llmhost.Conflict", "code",
            "other_owner");
    cr_assert_eq(at.n_stopped, 0);
    json_free(answers("Down", "{\"target\":\"ollama:m\"}")); /* the model is ours */
    at.is_anothers = false;
    json_free(answers("Down", "{\"target\":\"box\"}"));
    cr_assert_gt(at.n_stopped, 0);
}

/* On, and its model sleeps. */
static void begin_drill(bool guard_stops)
{
    begin_machine();
    json_free(answers("Keep", "{\"target\":\"box\",\"for_ms\":3600000}"));
    json_free(answers("Sleep", "{\"target\":\"ollama:m\"}"));
    refuses(CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"), "io.llmhost.Refused", "code", "no_guard");
    cr_assert_eq(box_state(), LIFE_RUNNING, "it is kept");
    at.guard_is_kept = true;
    at.guard_stops = guard_stops;
    say(&w.caller, CALL("Doctor", "{\"target\":\"box\",\"drill\":true}"));
}

static void drill_ends(bool healthy)
{
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);

    _cleanup_json_ struct json *v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_null(json_get_text(v, "error"), "%s", json_get_text(p, "message"));
    cr_assert_eq(json_get_bool(p, "healthy", !healthy), healthy);
    cr_assert_str_eq(json_get_text(first(p, "checks"), "id"), "rented.proof");
    cr_assert_str_eq(json_get_text(first(p, "checks"), "level"), healthy ? "ok" : "fail");
}

Test(control_rent, drill_ends_when_the_provider_says_off)
{
    begin_drill(true);
    drill_ends(true);
    cr_assert_eq(box_state(), LIFE_STOPPED);
    cr_assert_eq(at.n_stopped, 0, "nobody but the guard was asked to");
}

Test(control_rent, drill_of_a_guard_whose_answer_is_lost_waits_for_the_provider)
{
    at.guard_fault = FAULT_UNCERTAIN;
    begin_drill(true);
    drill_ends(true);
}

Test(control_rent, drill_of_a_guard_that_was_never_asked_says_nothing_of_the_bill)
{
    at.guard_fault = FAULT_TRANSIENT;
    begin_drill(false);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = hear(&w.caller);

    cr_assert_not_null(json_get_text(v, "error"));
    cr_assert_str_eq(json_get_text(json_get(v, "parameters"), "code"), "unreachable");
    for (unsigned i = 0; i < 60; i++)
        time_passes(10000);
    cr_assert_eq(box_state(), LIFE_RUNNING);
    cr_assert_eq(at.n_stopped, 0);
}

Test(control_rent, drill_of_a_guard_that_ends_no_bill_is_told_and_the_provider_stops_it)
{
    begin_drill(false);
    drill_ends(false);
    box_gets(LIFE_STOPPED);
    cr_assert_geq(at.n_stopped, 1);
}

Test(control_rent, file_of_guards_has_what_is_on)
{
    _cleanup_free_ char *path = xasprintf("%s/guards", w.directory);
    char line[200] = "";
    FILE *f;

    begin_machine();
    loop_turns(w.loop, 20);
    f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_not_null(fgets(line, sizeof line, f));
    fclose(f);
    cr_assert_str_eq(line, "box running 0 1880 CNY\n");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    loop_turns(w.loop, 20);
    f = fopen(path, "r");
    cr_assert_not_null(f);
    cr_assert_null(fgets(line, sizeof line, f), "%s", line);
    fclose(f);
}

Test(control_rent, instance_tells_what_was_asked_for)
{
    begin_machine();

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"box\"}");
    const struct json *s = json_get(v, "settings");

    cr_assert_str_eq(json_get_text(s, "gpu"), "4090D");
    cr_assert_str_eq(json_get_text(s, "cards"), "1");
    cr_assert_str_eq(json_get_text(json_get(json_get(v, "instance"), "rental"), "gpu"), "4090D");
}

/* ---- machines that somebody else made ---- */

#define ADOPT "{\"name\":\"box\",\"provider\":\"autodl\",\"id\":\"pro-9\"}"

static void begin_foreign(enum instance_power power)
{
    begin_account();
    at.machine = (struct instance_seen){.id = "pro-9",
                                        .name = "by-hand",
                                        .power = power,
                                        .word = "shutdown",
                                        .gpu = "5090",
                                        .cards = 2,
                                        .started_at_ms = clock_wall_ms() / 1000 * 1000};
}

Test(control_rent, machine_there_is_becomes_an_instance_by_its_id)
{
    begin_foreign(INSTANCE_OFF);

    _cleanup_json_ struct json *before = answers("InstanceList", "{\"at\":\"autodl\"}");
    _cleanup_json_ struct json *added = answers("InstanceAdd", ADOPT);
    _cleanup_json_ struct json *after = answers("InstanceList", "{\"at\":\"autodl\"}");
    const struct json *rental = json_get(json_get(added, "instance"), "rental");

    cr_assert_str_eq(json_get_text(first(before, "machines"), "id"), "pro-9");
    cr_assert_null(json_get_text(first(before, "machines"), "instance"));
    cr_assert_str_eq(json_get_text(first(after, "machines"), "instance"), "box");
    cr_assert_str_eq(json_get_text(rental, "gpu"), "5090");
    cr_assert_eq(json_get_int(rental, "cards", 0), 2);
    cr_assert(json_get_bool(rental, "adopted", false));
    box_gets(LIFE_STOPPED);
    cr_assert_eq(at.n_started + at.n_stopped + at.n_created, 0, "neither on nor off");
    refuses(CALL("InstanceAdd", ADOPT), "io.llmhost.Conflict", "code", "exists");
    refuses(CALL("InstanceAdd", "{\"name\":\"other\",\"provider\":\"autodl\",\"id\":\"pro-9\"}"),
            "io.llmhost.Conflict", "code", "is_instance");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"max_price_milli\":2000,\"wait\":false}"));
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_started, 1);
    refuses(CALL("InstanceRemove", "{\"name\":\"box\"}"), "io.llmhost.Conflict", "code", "not_off");
    json_free(answers("Down", "{\"target\":\"box\"}"));

    _cleanup_json_ struct json *removed = answers("InstanceRemove", "{\"name\":\"box\"}");

    cr_assert_eq(json_count(json_get(removed, "notes")), 1, "it goes on existing");
    cr_assert_null(box());
    cr_assert_str_eq(at.machine.id, "pro-9");
    cr_assert_eq(at.n_created, 0);
}

/* ---- a price that nobody knows ---- */

static void next_is(const char *call, const char *command)
{
    _cleanup_json_ struct json *v = NULL;

    say(&w.caller, call);
    v = hear(&w.caller);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(p, "code"), "price_unknown", "%s: %s", call, json_get_text(p, "message"));
    cr_assert_str_eq(json_text(first(p, "next")), command);
}

Test(control_rent, card_without_a_price_is_not_rented_without_a_limit)
{
    const char *dear = "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"anyway\":true,\"wait\":false}";
    const char *limited = "{\"model\":\"ollama:m\",\"gpu\":\"5090\",\"anyway\":true,\"wait\":false,"
                          "\"max_price_milli\":3000}";

    begin_account();
    at.card = "spec-5090";
    next_is(CALL("Up", "{\"model\":\"llama.cpp:/m.gguf\",\"gpu\":\"4090D,5090\",\"on\":\"box\",\"anyway\":true,"
                       "\"arguments\":[\"-c\",\"16 384\"],\"over_budget\":true}"),
            "llmhostctl up llama.cpp:/m.gguf --gpu=4090D,5090 --on=box --anyway --over-budget "
            "--max-price=AMOUNT -- -c '16 384'");
    cr_assert_null(manager_lease_at(w.manager, 0), "nothing was made");
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":4000}"));
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090x2\",\"anyway\":true,\"over_budget\":true}"),
            "io.llmhost.Usage", "code", "price_unknown");
    json_free(answers("Up", dear));
    cr_assert_not_null(manager_find_lease(w.manager, "5090"), "the limit of the account holds for it");
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":0}"));
    json_free(answers("Up", limited));
}

Test(control_rent, machine_without_a_price_is_not_woken_without_a_limit)
{
    begin_foreign(INSTANCE_OFF);
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_STOPPED);
    next_is(CALL("Up", "{\"model\":\"ollama:m\"}"), "llmhostctl up ollama:m --on=box --max-price=AMOUNT");
    next_is(CALL("Up", "{\"model\":\"ollama:m\",\"on\":\"box\"}"),
            "llmhostctl up ollama:m --on=box --max-price=AMOUNT");
    next_is(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"or_on\":\"box\",\"anyway\":true}"),
            "llmhostctl up ollama:m --gpu=4090D --anyway --or=box --max-price=AMOUNT");
    cr_assert_eq(at.n_started, 0);
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"or_on\":\"box\",\"anyway\":true,"
                       "\"over_budget\":true}"),
            "io.llmhost.Usage", "code", "price_unknown");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"max_price_milli\":2000,\"wait\":false}"));
    box_gets(LIFE_RUNNING);
    time_passes(10000); /* its price is read */
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"wait\":false}"));
    box_gets(LIFE_RUNNING);
    json_free(answers("Down", "{\"target\":\"box\"}"));
    box_gets(LIFE_STOPPED);
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"max_price_milli\":1000}"),
            "io.llmhost.Refused", "code", "price");
}

Test(control_rent, limit_is_one_for_all_that_are_tried)
{
    begin_foreign(INSTANCE_OFF);
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_STOPPED);
    at.has_card = false;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"or_on\":\"box\",\"anyway\":true,"
                            "\"max_price_milli\":2000,\"wait\":false}"));
    cr_assert_eq(rented_record(lease_rented(box()))->max_price_milli, 2000);
}

/* It came to that in the last cycle, or the list of machines says so. */
Test(control_rent, machine_whose_list_tells_a_price_is_woken)
{
    begin_foreign(INSTANCE_OFF);
    at.machine.price_milli = 1880;
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_STOPPED);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"wait\":false}"));
    box_gets(LIFE_RUNNING);
}

Test(control_rent, machine_that_cannot_be_adopted_is_told_why)
{
    refuses(CALL("InstanceList", "{\"at\":\"autodl\"}"), "io.llmhost.NotFound", "code", "no_provider");
    refuses(CALL("InstanceAdd", ADOPT), "io.llmhost.NotFound", "code", "no_provider");
    begin_foreign(INSTANCE_OFF);
    refuses(CALL("InstanceAdd", "{\"name\":\"box\",\"provider\":\"autodl\",\"id\":\"pro-8\"}"),
            "io.llmhost.NotFound", "code", "no_such_machine");
    refuses(CALL("InstanceAdd", "{\"name\":\"box\",\"provider\":\"autodl\"}"), "io.llmhost.NotFound", "code",
            "no_such_machine");
    refuses(CALL("InstanceAdd", "{\"name\":\"B\",\"provider\":\"autodl\",\"id\":\"pro-9\"}"),
            "io.llmhost.Usage", "code", "bad_name");
    refuses(CALL("InstanceAdd", "{\"name\":\"box\",\"id\":\"pro-9\"}"), "io.llmhost.Usage", "code",
            "bad_command");
    refuses(CALL("InstanceAdd",
                 "{\"name\":\"box\",\"provider\":\"autodl\",\"id\":\"pro-9\",\"command\":\"ssh x@y\"}"),
            "io.llmhost.Usage", "code", "bad_command");
    snprintf(at.machine.name, sizeof at.machine.name, "%s-lost-1", store_daemon_id(w.store));
    refuses(CALL("InstanceAdd", ADOPT), "io.llmhost.Conflict", "code", "is_orphan");
    cr_assert_null(box());
}

Test(control_rent, machine_that_runs_by_others_goes_on_without_an_end)
{
    begin_foreign(INSTANCE_ON);
    json_free(answers("InstanceAdd", ADOPT));
    box_gets(LIFE_RUNNING);
    loop_advance(w.loop, 24 * 3600 * 1000);
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_stopped, 0);

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"box\"}");
    const struct json *rental = json_get(json_get(v, "instance"), "rental");

    cr_assert_str_eq(json_get_text(rental, "stays"), "not_by_us");
    cr_assert_str_eq(json_get_text(json_get(rental, "guard"), "state"), "not_ours");
    json_free(answers("InstanceRemove", "{\"name\":\"box\"}"));
    cr_assert_eq(at.machine.power, INSTANCE_ON);
}

/* ---- machines that nothing here knows ---- */

static void begin_orphan(enum instance_power power)
{
    begin_foreign(power);
    snprintf(at.machine.name, sizeof at.machine.name, "%s-lost-1", store_daemon_id(w.store));
    strcpy(at.machine.word, power == INSTANCE_OFF ? "shutdown" : "running");
    json_free(answers("InstanceList", "{\"at\":\"autodl\"}"));
}

static bool command_is(const struct json *trouble, const char *command)
{
    return streq(json_text(first(trouble, "next")), command);
}

static unsigned events_of(const char *kind)
{
    _cleanup_json_ struct json *v = answers("Logs", "{\"events\":true}");
    unsigned n = 0;

    for (size_t i = 0; i < json_count(json_get(v, "lines")); i++)
        n += streq(json_get_text(json_at(json_get(v, "lines"), i), "kind"), kind);
    return n;
}

/* The answer to what was said, which takes its time. */
static struct json *hear_in_time(void)
{
    for (unsigned i = 0; i < 200 && !has_message(&w.caller); i++)
        time_passes(2000);
    return hear(&w.caller);
}

Test(control_rent, machine_that_nothing_knows_is_shown_until_a_word_ends_it)
{
    begin_orphan(INSTANCE_ON);
    time_passes(3600 * 1000);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *orphan = first(v, "orphans"), *trouble = first(v, "trouble");

    cr_assert_str_eq(json_get_text(orphan, "id"), "pro-9");
    cr_assert_eq(json_get_int(orphan, "since_at_ms", 0), at.machine.started_at_ms);
    cr_assert(json_get_bool(orphan, "orphan", false));
    cr_assert_str_eq(json_get_text(trouble, "code"), "orphan");
    cr_assert_str_eq(json_get_text(trouble, "target"), "pro-9");
    cr_assert_eq(json_get_int(trouble, "exit", 0), EXIT_NOT_CONFIRMED);
    cr_assert(command_is(trouble, "llmhostctl down --at autodl pro-9"));
    cr_assert_eq(events_of("orphan"), 1);
    cr_assert_eq(at.n_stopped + at.n_released, 0, "nobody touches it");

    _cleanup_json_ struct json *down = answers("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}");

    cr_assert_str_eq(json_get_text(json_get(down, "machine"), "power"), "off");
    cr_assert_eq(at.n_stopped, 1);

    _cleanup_json_ struct json *off = answers("Status", "{\"targets\":[]}");

    cr_assert(command_is(first(off, "trouble"), "llmhostctl release --at autodl pro-9"));
    cr_assert_eq(events_of("orphan_ended"), 1);
    refuses(CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"yes\",\"at\":\"autodl\"}"),
            "io.llmhost.Usage", "code", "not_confirmed");
    say(&w.caller, CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"pro-9\",\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *released = hear_in_time();
    _cleanup_json_ struct json *after = answers("Status", "{}");

    cr_assert_null(json_get_text(released, "error"));
    cr_assert_eq(at.n_released, 1);
    cr_assert_eq(json_count(json_get(after, "orphans")) + json_count(json_get(after, "trouble")), 0);
}

Test(control_rent, machine_that_nothing_knows_is_found_at_the_start_whatever_runs)
{
    begin_orphan(INSTANCE_ON);
    say(&w.caller, CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));
    at.ignores_stops = true;
    loop_turns(w.loop, 20);
    daemon_ends(); /* the word went with it */
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    loop_advance(w.loop, 1);
    loop_turns(w.loop, 20);

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(v, "orphans"), "id"), "pro-9");
    cr_assert_eq(json_get_int(first(v, "orphans"), "stop_asked_at_ms", 0), 0);
}

Test(control_rent, stop_of_a_machine_that_nothing_knows_is_asked_for_ever)
{
    begin_orphan(INSTANCE_ON);
    at.ignores_stops = true;
    say(&w.caller, CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *v = hear_in_time();

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");

    unsigned asked = at.n_stopped;

    cr_assert_gt(asked, 1);
    for (unsigned i = 0; i < 100; i++)
        time_passes(2000);
    cr_assert_gt(at.n_stopped, asked);

    _cleanup_json_ struct json *status = answers("Status", "{}");

    cr_assert_neq(json_get_int(first(status, "orphans"), "stop_asked_at_ms", 0), 0);
    at.ignores_stops = false;
    for (unsigned i = 0; i < 100 && at.machine.power != INSTANCE_OFF; i++)
        time_passes(2000);
    time_passes(2000);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

static void minutes_pass(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        time_passes(60000);
}

static const char down_lost[] = CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}");

Test(control_rent, what_lists_leave_out_is_not_off)
{
    begin_orphan(INSTANCE_ON);
    at.ignores_stops = at.hides = true;
    say(&w.caller, down_lost);

    _cleanup_json_ struct json *v = hear_in_time();
    _cleanup_json_ struct json *status = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");
    cr_assert_gt(at.n_stopped, 1);
    cr_assert_eq(events_of("orphan_ended"), 0);
    cr_assert_str_eq(json_get_text(first(status, "orphans"), "power"), "on");
    cr_assert_neq(json_get_int(first(status, "orphans"), "missing_at_ms", 0), 0);
    at.ignores_stops = at.hides = false;
    minutes_pass(4);
    cr_assert_eq(at.machine.power, INSTANCE_OFF);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

Test(control_rent, machine_that_bills_is_looked_for_while_lists_leave_it_out)
{
    begin_orphan(INSTANCE_ON);
    at.hides = true;
    minutes_pass(5);

    _cleanup_json_ struct json *missing = answers("Status", "{}");

    cr_assert_neq(json_get_int(first(missing, "orphans"), "missing_at_ms", 0), 0);
    at.hides = false;
    minutes_pass(2);

    _cleanup_json_ struct json *back = answers("Status", "{}");

    cr_assert_eq(json_get_int(first(back, "orphans"), "missing_at_ms", 0), 0);
    cr_assert_eq(events_of("orphan"), 1);
    at.hides = true;
    minutes_pass(15);

    _cleanup_json_ struct json *gone = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(gone, "orphans")), 0);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

static void begin_anew(void)
{
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    loop_advance(w.loop, 1);
    loop_turns(w.loop, 20);
}

Test(control_rent, machine_that_bills_is_known_after_a_start_while_lists_leave_it_out)
{
    begin_orphan(INSTANCE_ON);
    at.hides = true;
    begin_anew();
    minutes_pass(2);

    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *orphan = first(v, "orphans");
    int64_t missing_at_ms = json_get_int(orphan, "missing_at_ms", 0);

    cr_assert_str_eq(json_get_text(orphan, "id"), "pro-9");
    cr_assert_str_eq(json_get_text(orphan, "power"), "on");
    cr_assert_eq(json_get_int(orphan, "since_at_ms", 0), at.machine.started_at_ms);
    cr_assert_neq(missing_at_ms, 0);
    cr_assert_eq(events_of("orphan"), 1, "that is no news");
    begin_anew();

    _cleanup_json_ struct json *again = answers("Status", "{}");

    cr_assert_eq(json_get_int(first(again, "orphans"), "missing_at_ms", 0), missing_at_ms);
    minutes_pass(15);
    cr_assert_eq(events_of("orphan_ended"), 1);
    begin_anew();

    _cleanup_json_ struct json *gone = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(gone, "orphans")), 0);
}

Test(control_rent, machine_that_nothing_knows_and_is_off_is_not_remembered)
{
    begin_orphan(INSTANCE_ON);
    json_free(answers("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));
    at.hides = true;
    begin_anew();

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "orphans")), 0);
}

Test(control_rent, what_bills_by_nobodys_account_is_in_cost)
{
    begin_orphan(INSTANCE_ON);

    _cleanup_json_ struct json *v = answers("Cost", "{}");

    cr_assert_str_eq(json_get_text(first(v, "orphans"), "id"), "pro-9");
    cr_assert_eq(json_count(json_get(v, "lines")), 0);
    cr_assert_eq(json_count(json_get(v, "unpriced")), 0);
    json_free(answers("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *off = answers("Cost", "{}");

    cr_assert_eq(json_count(json_get(off, "orphans")), 0);
}

Test(control_rent, stop_is_not_confirmed_by_one_that_does_not_answer)
{
    begin_orphan(INSTANCE_ON);
    at.ignores_stops = true;
    say(&w.caller, down_lost);
    loop_turns(w.loop, 40);
    at.is_down = true;

    _cleanup_json_ struct json *v = hear_in_time();

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.StopNotConfirmed");
    at.is_down = at.ignores_stops = false;

    unsigned asked = at.n_stopped;

    say(&w.caller, down_lost); /* once more: at once */
    loop_turns(w.loop, 40);
    cr_assert_gt(at.n_stopped, asked);

    _cleanup_json_ struct json *again = hear(&w.caller);

    cr_assert_null(json_get_text(again, "error"));
}

Test(control_rent, what_is_deleted_slowly_calls_nobody)
{
    begin_orphan(INSTANCE_OFF);
    at.keeps_released = true;
    say(&w.caller, CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"pro-9\",\"at\":\"autodl\"}"));
    minutes_pass(10);
    at.keeps_released = false;

    _cleanup_json_ struct json *v = hear_in_time();

    cr_assert_null(json_get_text(v, "error"));
    cr_assert_eq(events_of("stop_not_confirmed"), 0);
    cr_assert_eq(events_of("orphan_ended"), 1);
}

Test(control_rent, account_stays_while_one_that_nothing_knows_bills_there)
{
    begin_orphan(INSTANCE_ON);
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "code", "has_orphan");
    at.ignores_stops = true;
    say(&w.caller, down_lost);
    json_free(hear_in_time());
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "code", "has_orphan");
    at.ignores_stops = false;
    minutes_pass(4);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
}

Test(control_rent, machines_are_looked_at_when_an_account_or_a_token_is_put_there)
{
    begin_orphan(INSTANCE_OFF);
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    begin_account();
    time_passes(1000);

    _cleanup_json_ struct json *added = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(added, "orphans"), "id"), "pro-9");
    secrets_put(w.secrets, "autodl", "token", "worn out");
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    minutes_pass(3);

    _cleanup_json_ struct json *refused = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(refused, "orphans")), 0);
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"));
    time_passes(1000);

    _cleanup_json_ struct json *renewed = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(renewed, "orphans"), "id"), "pro-9");
}

/* What it would be called may be the name of a machine that nothing knows. */
Test(control_rent, no_name_is_given_before_a_list_was_read)
{
    begin_foreign(INSTANCE_ON);
    snprintf(at.machine.name, sizeof at.machine.name, "%s-box-1", store_daemon_id(w.store));
    at.is_down = true;
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"));
    refuses(CALL("Up", UP), "io.llmhost.Failed", "code", "provider_unreachable");
    cr_assert_null(box());
    at.is_down = false;
    refuses(CALL("Up", UP), "io.llmhost.Conflict", "code", "is_orphan");
    cr_assert_null(box());
    minutes_pass(5);
    cr_assert_eq(at.n_stopped + at.n_created, 0);
    cr_assert_eq(at.machine.power, INSTANCE_ON);
}

/* A database that is older than its machines: the second one of that instance is there already. */
Test(control_rent, no_machine_has_the_name_of_one_that_nothing_here_knows)
{
    begin_machine();
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
    at.machine = (struct instance_seen){.id = "pro-9", .power = INSTANCE_ON, .word = "running"};
    snprintf(at.machine.name, sizeof at.machine.name, "%s-box-2", store_daemon_id(w.store));
    box_gets(LIFE_ABSENT);

    unsigned n_stopped = at.n_stopped;

    json_free(answers("Up", UP));
    box_gets(LIFE_WAITING);
    cr_assert_str_eq(rented_trouble(lease_rented(box()))->code, "is_orphan");
    minutes_pass(5);
    cr_assert_eq(at.n_created, 1);
    cr_assert_eq(at.n_stopped, n_stopped);
    cr_assert_str_eq(at.machine.id, "pro-9");
    cr_assert_eq(box_state(), LIFE_WAITING);
    at.machine.power = INSTANCE_OFF;
    minutes_pass(2);
    cr_assert_eq(at.n_created, 1, "off, and there");
    at.machine = (struct instance_seen){0};
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_created, 2);
}

Test(control_rent, only_what_nothing_knows_is_ended_by_its_id)
{
    const char *down = CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\"}");

    refuses(down, "io.llmhost.NotFound", "code", "no_provider");
    begin_foreign(INSTANCE_ON);
    refuses(down, "io.llmhost.Conflict", "code", "not_ours");
    strcpy(at.machine.name, "0a1b2c3d-4090d-1"); /* another one's */
    refuses(down, "io.llmhost.Conflict", "code", "not_ours");
    refuses(CALL("Down", "{\"target\":\"pro-8\",\"at\":\"autodl\"}"), "io.llmhost.NotFound", "code",
            "no_such_machine");
    json_free(answers("InstanceAdd", ADOPT));
    refuses(down, "io.llmhost.Conflict", "code", "is_instance");
    json_free(answers("InstanceRemove", "{\"name\":\"box\"}"));
    snprintf(at.machine.name, sizeof at.machine.name, "%s-lost-1", store_daemon_id(w.store));
    refuses(CALL("Release", "{\"instance\":\"pro-9\",\"confirm\":\"pro-9\",\"at\":\"autodl\"}"),
            "io.llmhost.Conflict", "code", "not_off");
    refuses(CALL("Down", "{\"target\":\"pro-9\",\"at\":\"autodl\",\"now\":true}"), "io.llmhost.Usage", "code",
            "bad_arguments");
    cr_assert_eq(at.n_stopped + at.n_released, 0);
}

Test(control_rent, machine_of_ours_is_no_orphan)
{
    begin_machine();
    json_free(answers("InstanceList", "{\"at\":\"autodl\"}"));

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "orphans")), 0);
    cr_assert_eq(events_of("orphan"), 0);
}

Test(control_rent, token_that_is_refused_is_told_at_the_start_once)
{
    begin_account();
    secrets_put(w.secrets, "autodl", "token", "worn out");
    daemon_ends();
    daemon_begins();
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
    for (unsigned i = 0; i < 20; i++)
        time_passes(60000);
    cr_assert_eq(events_of("token_refused"), 1);

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_str_eq(json_get_text(first(v, "trouble"), "code"), "token_refused");
}

/* ---- on without a card ---- */

#define WITHOUT "{\"target\":\"box\",\"for_ms\":3600000,\"no_card\":true}"

Test(control_rent, machine_is_on_without_its_card_for_so_long)
{
    begin_machine();
    fake.has_no_card = true;
    refuses(CALL("Keep", WITHOUT), "io.llmhost.Conflict", "code", "not_off");
    json_free(answers("Down", "{\"target\":\"box\"}"));
    fake.has_no_card = false;
    refuses(CALL("Keep", WITHOUT), "io.llmhost.Usage", "code", "has_no_card");
    fake.has_no_card = true;
    refuses(CALL("Keep", "{\"target\":\"box\",\"no_card\":true}"), "io.llmhost.Usage", "code", "bad_time");

    _cleanup_json_ struct json *v = answers("Keep", WITHOUT);
    const struct json *rental = json_get(json_get(v, "instance"), "rental");

    cr_assert_eq(json_get_int(json_get(v, "cost"), "milli", 0), 100, "an hour of it");
    cr_assert(json_get_bool(rental, "no_card", false));
    cr_assert_str_eq(json_get_text(rental, "stays"), "no_card");
    box_gets(LIFE_RUNNING);
    cr_assert(at.machine.no_card);
    loop_advance(w.loop, 1800000);
    box_gets(LIFE_RUNNING);
    loop_advance(w.loop, 1900000);
    box_gets(LIFE_STOPPED);
    cr_assert_not(rented_record(lease_rented(box()))->no_card, "over with that wish");

    _cleanup_json_ struct json *cost = answers("Cost", "{\"since_at_ms\":1}");
    const struct json *rows = json_get(cost, "rows"), *row = json_at(rows, json_count(rows) - 1);

    cr_assert(json_get_bool(row, "no_card", false));
    cr_assert_eq(json_get_int(row, "rate_milli", 0), 100);
    cr_assert_str_eq(json_get_text(row, "rate_basis"), "list");
}

/* What the power-on is refused is the answer, and stays on the screen. */
Test(control_rent, machine_without_its_card_is_not_kept_without_the_money_for_it)
{
    begin_machine();
    fake.has_no_card = true;
    json_free(answers("Down", "{\"target\":\"box\"}"));
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":50}"));

    unsigned n_started = at.n_started;

    refuses(CALL("Keep", WITHOUT), "io.llmhost.Refused", "code", "budget");
    cr_assert_eq(at.n_started, n_started);

    _cleanup_json_ struct json *v = answers("InstanceShow", "{\"name\":\"box\"}");

    cr_assert_str_eq(json_get_text(json_get(json_get(v, "instance"), "trouble"), "code"), "budget");
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":0}"));
    json_free(answers("Keep", WITHOUT));
    box_gets(LIFE_RUNNING);
}

/* No model runs without a card. */
Test(control_rent, model_that_is_wanted_has_the_machine_off_and_on_with_its_card)
{
    begin_machine();
    fake.has_no_card = true;
    json_free(answers("Down", "{\"target\":\"box\"}"));
    json_free(answers("Keep", WITHOUT));
    box_gets(LIFE_RUNNING);
    cr_assert(at.machine.no_card);

    unsigned n_stopped = at.n_stopped, n_started = at.n_started;

    json_free(answers("Up", "{\"model\":\"ollama:m\",\"on\":\"box\",\"wait\":false}"));
    for (unsigned i = 0; i < 20 && at.n_started == n_started; i++)
        time_passes(2000);
    box_gets(LIFE_RUNNING);
    cr_assert_eq(at.n_started, n_started + 1);
    cr_assert_gt(at.n_stopped, n_stopped);
    cr_assert_not(at.machine.no_card);
    loop_advance(w.loop, 4000000);
    cr_assert_eq(box_state(), LIFE_RUNNING, "that keep is over, and the model is wanted");
}
