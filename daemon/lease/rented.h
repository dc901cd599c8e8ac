/* The half of a lease that costs money: its life (life.h) at an account, the way in as of each power-on, its guard, what is written of it. The
 * lease has the other half, the session; whoever wants to know whether the machine can be used asks the lease.
 *
 *     wanted → (capacity) → power on → the way in is read → session → guard installed and read back → there
 *
 * A machine whose guard cannot be read back is switched off again, unless it was let go without by name. While the way in is not there (a machine
 * that is on and has no address yet) it is read again every few seconds, up to [guard] settle twice; then it is trouble, not an end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "guard/keeper.h"
#include "lease/life.h"
#include "store/store.h"

struct account;
struct host;
struct hunt;
struct rented;
struct settings;

/* Borrowed for its life. */
struct rented_context {
    struct loop *loop;
    struct store *store;
    const struct settings *settings;        /* [guard], [idle] */
    struct account *account;
    const char *name;                       /* of the lease */
    int64_t known_at_ms;                    /* since when there is an instance of that name */
    struct host *host;                      /* what the session leads to */
    /* The way in of this power-on; NULL: there is none any more (off, or on its way there). From the loop, never inside a call. way lasts for
     * the call; its password is wiped after it. */
    void (*way)(void *ctx, const struct instance_way *way);
    /* A machine is about to be made: what was known of one before it is not true of this one. Inside a call of ours: nothing is freed by it. */
    void (*makes)(void *ctx);
    /* From the run queue: anything that people or the manager may see. */
    void (*changed)(void *ctx);
    void *ctx;
};

/* record: copied; from the database, or a new one (state "absent", goal "off"). */
struct rented *rented_new(const struct rented_context *context, const struct rental_record *record);
struct rented *rented_free(struct rented *r);

/* A person's word, or a request's (life_want). */
void rented_want(struct rented *r, enum life_goal goal);
/* Nothing came of it, and no model says why: that is its trouble until the next wish. */
void rented_end_wish(struct rented *r, const struct fault *why);
/* A call that costs money is on its way to the disk, where its reservation may be refused. */
bool rented_is_reserving(const struct rented *r);
/* never_made is in its record, and none is asked for. */
bool rented_was_never_made(const struct rented *r);
/* Of one that was never seen, and no call for it is under way: what is asked for from now on is card, cards, gpu, image, region, disk_gb and
 * max_price_milli of what, which is copied; a running search keeps its limit where what has none. */
bool rented_may_ask_for(const struct rented *r);
void rented_ask_for(struct rented *r, const struct rental_record *what);
/* Somebody called it by its name: it does not go with the search that gave it that. */
void rented_keep_name(struct rented *r);
/* What an hour of it may cost from now on. One that is on is held to no less than it was let go for. */
void rented_limit_price(struct rented *r, int64_t milli);
/* What an hour of it costs, as far as that is known before it is switched on: of the dearest of the cards that are asked for; 0: of one of them nobody
 * knows. */
int64_t rented_expected_milli(const struct rented *r);
/* Until then a card is looked for, by the wish there is or the one that comes with it. */
void rented_look_until(struct rented *r, int64_t at_ms);
/* The last use of it, which max_up counts from; written down. */
void rented_note_used(struct rented *r, int64_t at_ms);
/* What can be had, and what is left out (hunt.h). may_look: something of it is still worth a try. */
const struct hunt *rented_hunt(const struct rented *r);
bool rented_may_look(const struct rented *r);
/* What the wish that comes with it may ignore, until it is over: the limits of money; a guard that cannot be read back. */
void rented_allow(struct rented *r, bool over_budget, bool no_guard);
/* The wish that comes is for the machine without its card, where its provider has that; over with that wish. */
store_ticket rented_leave_card(struct rented *r, bool without);
bool rented_is_without_card(const struct rented *r);    /* on without it, or wanted so: no model runs there */
bool rented_may_overspend(const struct rented *r);  /* over_budget was allowed, and neither that wish is over nor a limit was made tighter since */
/* The limits of money count again; the one of an hour's price not before its next power-on, if it keeps_price. */
void rented_hold_to_limits(struct rented *r, bool keeps_price);
/* This computer slept, or the token is another one. */
void rented_doubt(struct rented *r);
/* Is the session up? Told by the lease after each change of it. */
void rented_on_session(struct rented *r, bool up);
/* It stays up for so long without us (a hold in the guard's record, and in ours); 0: as the lease of the guard says. */
store_ticket rented_hold(struct rented *r, uint64_t for_ms);
/* Moves ownership of its guard to us. */
void rented_take(struct rented *r);
/* Lets the guard stop the machine now: the drill, and where the provider cannot be reached. */
void rented_stop_by_guard(struct rented *r, struct op **slot, op_done_fn done, void *ctx);

const struct life *rented_life(const struct rented *r);
struct account *rented_account(const struct rented *r);
const struct rental_record *rented_record(const struct rented *r);
/* Its time is paid for until then, which is to come; 0: it is billed by time. Its provider's clock says when; the other is clock_now_ms(), now. */
int64_t rented_prepaid_until_at_ms(const struct rented *r);
uint64_t rented_prepaid_due(const struct rented *r, uint64_t now);
int64_t rented_disk_day_milli(const struct rented *r);      /* its disk costs so much a day, on or off; 0: nothing, or nobody knows */
const char *rented_region(const struct rented *r);          /* of one that was made: where it stands, as its provider writes it; NULL: nobody knows */
bool rented_is_guarded(const struct rented *r);     /* read back since this power-on; or let go without */
bool rented_is_left_alone(const struct rented *r);  /* somebody else made it, and what it does is not by us: it has no guard of ours, and no end */
bool rented_is_anothers(const struct rented *r);    /* another llmhostd keeps its guard, as far as it was heard in this power-on */
const struct keeper *rented_keeper(const struct rented *r);

/* What people see of it. */
struct rented_figures {
    enum life_state state;
    enum life_goal goal;
    int64_t since_at_ms;            /* in this state */
    int64_t seen_at_ms;             /* when the provider was last read; 0: never */
    char word[INSTANCE_WORD_MAX];   /* the provider's own for its state; "": it says nothing, or no longer */
    bool is_none;                   /* there is none, and none can come of what was asked */
    bool asks;                      /* the call that makes it or switches it on is under way */
    int64_t next_at_ms;             /* of a wait: the next try; 0: none */
    unsigned tries;                 /* of the search for a card, so far */
    int64_t rate_milli;             /* of an hour, as read in this power-on; 0: not read */
    int64_t list_rate_milli;        /* as the price list has it; 0: unknown */
    int64_t wanted_due;             /* when it was wanted on last, as clock_past_due(); long ago where it never was */
    bool was_powered;               /* something was switched on since it was last wanted */
    bool is_unsure;                 /* nothing was, as far as anybody saw: but a call since then got no answer, and may act yet */
    int64_t stop_asked_at_ms;       /* 0: not stopping */
    int64_t off_at_ms;              /* the provider's own timer stands there; 0: at nothing */
    bool guard_told;                /* its guard was told to stop it, and has taken that or may have */
    const char *timer_lacks;        /* why that is not as it should be; NULL. Borrowed until its next change */
    int64_t asked_at_ms;            /* the last call that makes or switches on; 0: never, or it came to nothing */
    int64_t doubted_until_at_ms;    /* it is seen off, and that call may still act, until then; 0: nothing of the kind */
    int64_t released_at_ms;         /* the provider gives it back then with its data, if it stays off; 0: not known */
};
void rented_figures(const struct rented *r, struct rented_figures *ret);
bool rented_is_released_soon(const struct rented *r);  /* the last third of the time after which the provider gives it back has begun */
/* "4090Dx2 in westDC3, ¥3.96/h~": which one it is, or the next one to be asked for, where it stands if somebody knows, and what an hour of it costs. */
#define RENTED_TEXT_MAX 200
const char *rented_describe(const struct rented *r, char out[static RENTED_TEXT_MAX]);
/* The life's, the guard's, or that of the way in; kind FAULT_NONE: nothing of the kind. */
const struct fault *rented_trouble(const struct rented *r);
/* How far it is on its way to being used; the stages people see. */
enum rented_step {
    RENTED_AT_REST,                 /* off, or on its way there */
    RENTED_CAPACITY,                /* waits for a card, for money; or asks for it */
    RENTED_POWER_ON,
    RENTED_SSH,                     /* on; the way in is read, the session connects */
    RENTED_GUARD,
    RENTED_THERE,
};
enum rented_step rented_step(const struct rented *r);
