/* A provider in a few lines, with one machine, and a guard that does what a test says, behind the real
 * control socket (control_world.h). For test_control_rent*.c, each of which has to say:
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask */
#pragma once

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
    bool has_console; /* whose machines are made by hand */
    bool has_card, answers_late, host_is_full, ignores_stops, loses_starts, is_silent;
    bool hides, is_down, keeps_released; /* lists leave it out; they fail; a release is only heard */
    bool is_anothers;                    /* another llmhostd has its guard */
    bool guard_is_kept, guard_stops;     /* there is one that answers; and the provider sees what it does */
    enum fault_kind guard_fault;         /* of the word to it */
    struct answer *held;                 /* the one about offers, while they are not told */
    struct answer *late;                 /* the one about a machine, while it answers late */
    bool holds_offers;
    struct rental *offers_of; /* who was asked last */
    const char *registry; /* code of its fault; NULL: none */
    const char *card;     /* that may be asked for; NULL: the usual one */
    int64_t ahead_ms;     /* its clock, of ours */
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

static inline int64_t their_now_ms(void)
{
    return clock_wall_ms() + at.ahead_ms;
}

static inline struct rental *fake_open(const struct rental_context *context)
{
    struct rental *r = xnew(struct rental);

    r->context = *context;
    context->heard(context->ctx, their_now_ms());
    return r;
}

static inline struct rental *fake_close(struct rental *r)
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

static inline void answer_cancel(struct op *op)
{
    struct answer *a = CONTAINER_OF(op, struct answer, op);

    op_cancel(&a->inner);
    free(a);
}

static inline void answer_on_turn(void *ctx, const struct fault *f)
{
    struct answer *a = ctx;

    (void)f;
    op_end(&a->op);
    a->tell(a);
    free(a);
}

static inline void answer_later(struct op **slot, void (*tell)(struct answer *a), void *done, void *ctx)
{
    struct answer *a = xnew(struct answer);

    *a = (struct answer){.tell = tell, .done = done, .ctx = ctx};
    op_begin(&a->op, slot, answer_cancel);
    op_finish_later(w.loop, &a->inner, NULL, answer_on_turn, a);
}

/* The token is tried with that. */
static inline bool token_is_refused(struct fault *f)
{
    _cleanup_secret_ char *token = NULL;

    fault_code(f, FAULT_DENIED, "token_refused", "the token is refused");
    return (secrets_get(w.secrets, "autodl", "token", &token) < 0 &&
            secrets_get(w.secrets, "a-console", "token", &token) < 0) ||
           !streq(token, "right");
}

static inline void say_list(struct answer *a)
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

static inline void fake_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    (void)r;
    answer_later(slot, say_list, done, ctx);
}

static inline void say_made(struct answer *a)
{
    struct fault none;

    fault_code(&none, at.loses_create ? FAULT_UNCERTAIN : FAULT_EXHAUSTED,
               at.loses_create ? "provider_unreachable" : "no_capacity", "no free card of this kind");
    if (at.has_card) {
        snprintf(at.machine.id, sizeof at.machine.id, "pro-%u", ++at.n_created);
        at.machine.power = INSTANCE_ON;
        strcpy(at.machine.word, "running");
        at.machine.started_at_ms = their_now_ms() / 1000 * 1000;
    }
    ((rental_made_fn)a->done)(a->ctx, at.has_card ? at.machine.id : NULL, at.has_card ? NULL : &none);
}

static inline void fake_create(struct rental *r, const struct instance_wish *wish, struct op **slot,
                               rental_made_fn done, void *ctx)
{
    (void)r;
    cr_assert(streq(wish->card, at.card ? at.card : "spec-4090d") ||
              (!at.card && streq(wish->card, "spec-5090")));
    at.n_asked++;
    snprintf(at.machine.name, sizeof at.machine.name, "%s", wish->name);
    if (at.answers_late) {
        at.late = xnew(struct answer);
        *at.late = (struct answer){.tell = say_made, .done = done, .ctx = ctx};
        op_begin(&at.late->op, slot, answer_cancel);
        return;
    }
    answer_later(slot, say_made, done, ctx);
}

/* What it answered late. */
static inline void make_answers(void)
{
    cr_assert_not_null(at.late);
    at.answers_late = false;
    answer_on_turn(TAKE_PTR(at.late), NULL);
}

static inline void say_done(struct answer *a)
{
    ((rental_done_fn)a->done)(a->ctx, NULL);
}

static inline void say_full(struct answer *a)
{
    struct fault full;

    fault_code(&full, FAULT_EXHAUSTED, "host_full", "others have its card");
    ((rental_done_fn)a->done)(a->ctx, &full);
}

static inline void fake_start(struct rental *r, const char *id, const struct instance_start *s,
                              struct op **slot, rental_done_fn done, void *ctx)
{
    (void)r, (void)id;
    if (at.host_is_full) {
        answer_later(slot, say_full, done, ctx);
        return;
    }
    if (!at.loses_starts) {
        at.machine.power = INSTANCE_ON;
        at.machine.no_card = s->no_card;
        at.machine.started_at_ms = their_now_ms() / 1000 * 1000;
    }
    at.n_started++;
    answer_later(slot, say_done, done, ctx);
}

static inline void fake_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done,
                             void *ctx)
{
    (void)r, (void)id;
    at.n_stopped++;
    if (!at.ignores_stops) {
        at.machine.power = INSTANCE_OFF;
        strcpy(at.machine.word, "shutdown");
        at.machine.stopped_at_ms = their_now_ms() / 1000 * 1000;
    }
    answer_later(slot, say_done, done, ctx);
}

static inline void fake_release(struct rental *r, const char *id, struct op **slot, rental_done_fn done,
                                void *ctx)
{
    (void)r, (void)id;
    if (!at.keeps_released)
        at.machine = (struct instance_seen){0};
    at.n_released++;
    answer_later(slot, say_done, done, ctx);
}

/* It is on, and its address is not there yet. */
static inline void say_way(struct answer *a)
{
    const struct instance_way way = {.price_milli = 1880};

    ((rental_way_fn)a->done)(a->ctx, &way, NULL);
}

static inline void fake_reach(struct rental *r, const char *id, struct op **slot, rental_way_fn done,
                              void *ctx)
{
    (void)r, (void)id;
    answer_later(slot, say_way, done, ctx);
}

static inline void say_offers(struct answer *a)
{
    cr_assert_not_null(at.offers_of->context.secrets, "it is there while it is asked");
    ((rental_offers_fn)a->done)(a->ctx, offers, ELEMENTS(offers), NULL);
}

static inline void fake_offers(struct rental *r, struct op **slot, rental_offers_fn done, void *ctx)
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

static inline int fake_find_card(struct rental *r, const char *gpu, struct rental_offer *ret, char **ret_why)
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

static inline int fake_find_none(struct rental *r, const char *gpu, struct rental_offer *ret, char **ret_why)
{
    (void)r, (void)ret;
    *ret_why = xasprintf("a %s is rented by hand here", gpu);
    return -ENOENT;
}

static inline int fake_find_image(struct rental *r, const char *name, const char **ret_image, char **ret_why)
{
    (void)r;
    *ret_image = name && streq(name, "image-2") ? "image-2" : "image-1";
    if (name && !streq(name, *ret_image))
        *ret_why = xstrdup("it has no such image");
    return name && !streq(name, *ret_image) ? -ENOENT : 0;
}

/* Two, each of which lists of machines call by another name. */
static inline int fake_find_region(struct rental *r, const char *name, const char **ret_region,
                                   char **ret_why)
{
    static const char *const names[][2] = {{"westDC3", "the west"}, {"beijingDC2", "the north"}};

    (void)r;
    *ret_region = NULL;
    for (size_t i = 0; name && i < ELEMENTS(names); i++)
        if (streq(name, names[i][0]) || streq(name, names[i][1])) {
            *ret_region = names[i][0];
            return 0;
        }
    if (name)
        *ret_why = xstrdup("it has no such region");
    return name ? -ENOENT : 0;
}

static inline void say_money(struct answer *a)
{
    struct fault refused;

    if (token_is_refused(&refused))
        ((rental_money_fn)a->done)(a->ctx, 0, &refused);
    else
        ((rental_money_fn)a->done)(a->ctx, at.balance_milli, NULL);
}

static inline void fake_balance(struct rental *r, struct op **slot, rental_money_fn done, void *ctx)
{
    (void)r;
    if (at.is_silent) {
        struct answer *a = xnew(struct answer);

        op_begin(&a->op, slot, answer_cancel);
        return;
    }
    answer_later(slot, say_money, done, ctx);
}

static inline void fake_move(struct rental *r, const char *base_url)
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

/* The same company by an account that machines are only listed and switched in. */
static inline const struct rental_ops *fake_by_hand(void)
{
    static struct rental_ops ops;

    ops = fake;
    ops.name = "a-console";
    ops.create = NULL;
    ops.release = NULL;
    ops.find_card = fake_find_none;
    return &ops;
}

const struct rental_ops *__wrap_rental_find(const char *name);

const struct rental_ops *__wrap_rental_find(const char *name)
{
    if (at.has_console && streq(name, "a-console"))
        return fake_by_hand();
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

static inline void on_asked(void *ctx, const struct fault *f)
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

static inline void begin(void)
{
    at = (struct company){.has_card = true, .balance_milli = 41300};
    fake.has_no_card = false;
    world_begin();
}

static inline const struct json *first(const struct json *v, const char *list)
{
    return json_at(json_get(v, list), 0);
}

static inline void begin_account(void)
{
    json_free(answers("ProviderAdd", ADD));
}

static inline struct lease *box(void)
{
    return manager_find_lease(w.manager, "box");
}

static inline enum life_state box_state(void)
{
    return box() ? life_state(rented_life(lease_rented(box()))) : LIFE_RELEASED;
}

static inline void on_read(void *ctx, const struct event_row *rows, unsigned n, uint64_t older,
                           const struct fault *f)
{
    (void)rows, (void)n, (void)older, (void)f;
    *(bool *)ctx = true;
}

/* Time goes on, but not past the disk: what was written before is there. */
static inline void time_passes(uint64_t ms)
{
    struct op *op = NULL;
    bool done = false;

    store_read_events(w.store, NULL, 0, 1, &op, on_read, &done);
    cr_assert(LOOP_UNTIL(w.loop, done));
    loop_turns(w.loop, 5);
    loop_advance(w.loop, ms);
}

/* Up to so many steps of time, until it is in that state. */
static inline void box_gets(enum life_state s)
{
    for (unsigned i = 0; i < 200 && box_state() != s; i++) {
        loop_turns(w.loop, 20);
        if (box_state() != s)
            time_passes(2000);
    }
    cr_assert_eq(box_state(), s, "%s, not %s", life_state_name(box_state()), life_state_name(s));
}

static inline void begin_machine(void)
{
    begin_account();
    json_free(answers("Up", UP));
    box_gets(LIFE_RUNNING);
}

/* There is one call for a machine, of one card, and it gets no answer. */
static inline void lose_the_only_create(void)
{
    begin_account();
    at.has_card = false;
    at.loses_create = true;
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"wait\":false}"));
    for (unsigned i = 0; i < 100 && !at.n_asked; i++) {
        loop_turns(w.loop, 20);
        time_passes(500);
    }
    loop_turns(w.loop, 20);
}
