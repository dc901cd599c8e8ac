/* An account at a company that rents machines out: its driver, opened with the token; its limits; its balance; its ledger.
 *
 * The token is the secret PROVIDER.token. There is one account for each provider. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "base/op.h"
#include "lease/ledger.h"
#include "proto/mem.h"
#include "provider/rental.h"
#include "store/store.h"

struct account;
struct http;
struct loop;
struct resolver;
struct secrets;

/* Borrowed for the life of the account. */
struct account_context {
    struct loop *loop;
    struct store *store;
    struct secrets *secrets;
    struct http *http;
    struct resolver *resolver;
    /* From the run queue: its figures, its limits or its trouble may be others. */
    void (*changed)(void *ctx, struct account *a);
    /* All its machines, whenever they were read, from inside account_listed(): it frees nothing. NULL: nobody wants to know. */
    void (*listed)(void *ctx, struct account *a, const struct instance_seen *seen, unsigned n);
    /* A machine of that name was in the lists, and nothing here knows it. NULL: there is none such. */
    bool (*is_orphan)(void *ctx, const struct account *a, const char *name);
    void *ctx;
};

/* Its provider is one that rents (rental_find). Copies the record. */
struct account *account_new(const struct account_context *context, const struct account_record *record);
/* No life may use it any more. */
struct account *account_free(struct account *a);

/* The time that money is counted by: this computer's, or, where its clock is off by more than LEDGER_SKEW_MS, the provider's, as its answers told it
 * since this daemon began. So a clock that is wrong neither uses a limit up nor makes room in it. */
int64_t account_now_ms(const struct account *a);
/* The provider's alone, as its answers told it since this daemon began; 0: they did not. Whoever sets this computer's does not move it. */
int64_t account_their_now_ms(const struct account *a);
/* By how much this computer's clock is ahead of the provider's; 0: by no more than LEDGER_SKEW_MS, or nobody knows. */
int64_t account_clock_off_ms(const struct account *a);

const char *account_name(const struct account *a);              /* "autodl" */
const struct rental_ops *account_ops(const struct account *a);
struct rental *account_rental(const struct account *a);
struct ledger *account_ledger(const struct account *a);
const struct account_record *account_record(const struct account *a);
/* Other limits. The ticket says when they are durable. */
store_ticket account_set_limits(struct account *a, const struct money_limits *limits);
/* Another token or base URL was put there: whatever is known may be another account's. base_url may be the record's. */
void account_renew(struct account *a, const char *base_url);

/* Asks the provider: also how a token is tried, where the balance is not told (0, and has_balance below stays false). An op. It is asked by itself every 10 min while something of it runs (account_runs()). */
void account_ask_balance(struct account *a, struct op **slot, rental_money_fn done, void *ctx);
void account_runs(struct account *a, bool runs);

/* Once, whether or not something runs: is the token accepted, how much is left, which machines are there? Again until it was answered. */
void account_check(struct account *a);
/* Likewise, in a minute. */
void account_check_later(struct account *a);
/* A list was read since it, its token or its URL was put there. */
bool account_is_listed(const struct account *a);
/* A machine of that name cannot be made: there is one that nothing here knows, or no list was read that would tell. */
bool account_name_is_taken(const struct account *a, const char *name);
/* It was removed: nothing is asked by itself any more. */
void account_leave(struct account *a);
/* Whoever asked for the list says what it had. */
void account_listed(struct account *a, const struct instance_seen *seen, unsigned n);

/* Reserves what a power-on costs at least, in one statement (store_reserve): done with NULL when intent is durable and its money is there; with
 * FAULT_EXHAUSTED, code "budget" or "budget_month" and a sentence of figures, or "low_balance" where the balance last read is below the floor; or the store's own. An op.
 * machine: the intent's name, which was never used before. rate_milli 0: unknown, which takes the whole rest of the limit.
 * What was spent at a rate that nobody knows is in no sum; while such a machine runs nothing else starts beside it. Dearer than the account's limit
 * of an hour is "budget_hour". over: once, whatever the limits say (--over-budget). */
struct account_reservation {
    const char *instance, *machine;
    const char *kind;               /* "create", "power_on" */
    int64_t rate_milli;
    uint64_t at_least_ms;           /* that long it will bill, once it is on */
    bool over;
    bool is_free;                   /* all of that is paid for already: nothing is reserved, and no price is too high */
    uint64_t kept_ms;               /* of a keep: its length; 0: of a call */
};
void account_reserve(struct account *a, const struct account_reservation *r, struct op **slot, op_done_fn done, void *ctx);
/* The whole of a keep of a machine that is on, in place of the one before, at a rate as above; it is held until account_release_keep(). Refused with
 * what is left and the longest that would fit; then, and when it is cancelled, the one before may still be held. An op. */
void account_reserve_keep(struct account *a, const char *instance, int64_t rate_milli, uint64_t for_ms, struct op **slot, op_done_fn done, void *ctx);
void account_release_keep(struct account *a, const char *instance);
/* That call has been answered: outcome "made", "refused", … A refused one gives its money back; the others' is held until their interval is closed. */
void account_resolve(struct account *a, const char *machine, const char *outcome);

/* Its machine is off, and what it cost is known: all that is held for it is given back; keeps: of a keep as well. */
void account_release(struct account *a, const char *instance, bool keeps);
/* One that the database holds, once, before anything is asked. */
void account_restore_reserved(struct account *a, const struct intent_record *r);

/* What an hour of one such card cost when a machine last told it, which the price list may not know; it falls when a machine tells a lower one. So many
 * kinds of cards are remembered until the daemon ends; of more, none. */
void account_learn_price(struct account *a, const char *card, int64_t milli);
/* What an hour of it may cost: the dearer of the price list and of what a machine told last; thousandths; 0: unknown. */
int64_t account_price(const struct account *a, const struct rental_offer *offer);
/* What an hour of a machine may cost: by its own limit or the account's, which over_budget sets aside, whichever is lower; 0: whatever it costs. */
static inline int64_t account_ceiling_milli(const struct account *a, int64_t own_milli, bool over_budget)
{
    int64_t limit_milli = over_budget ? 0 : account_record(a)->limits.price_milli;

    return own_milli && limit_milli ? MIN(own_milli, limit_milli) : MAX(own_milli, limit_milli);
}

/* Its pace (hunt.h). The claim is who's only one; called: it is made now. Instants of the loop's clock. */
uint64_t account_claim_call(struct account *a, const void *who, uint64_t due);
void account_called(struct account *a, const void *who);

struct account_figures {
    bool has_balance;
    int64_t balance_milli, balance_at_ms;
    struct ledger_sum today, month, rate;       /* rate: of an hour, what runs now */
    struct ledger_sum reserved;                 /* set aside from the limits, and not spent yet; unknown: all that is left of them */
    int64_t today_limit_milli, month_limit_milli;       /* 0: none */
};
void account_figures(const struct account *a, struct account_figures *ret);
int64_t account_alert_milli(const struct account *a);   /* so much spent in a day is "budget_near"; 0: there is no limit of a day */
/* What is spent has reached a limit (codes "budget", of a day, and "budget_month"), or the balance its floor ("low_balance"): what runs has to stop; kind FAULT_NONE: neither.
 * Otherwise why it cannot be asked: token_refused, provider_unreachable …, or that most of a day's limit is spent ("budget_near"), or that this
 * computer's clock is wrong ("clock_off"): which stop nothing. */
const struct fault *account_trouble(const struct account *a);
bool account_must_stop(const struct account *a);
