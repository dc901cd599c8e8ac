/* Rented machines, accounts and money as the contract shows them. From memory only. Caller frees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct account;
struct control_context;
struct fault;
struct json;
struct lease;
struct ledger_sum;
struct rental_offer;

/* A Money. */
struct json *show_sum(const struct ledger_sum *sum, const char *unit);
/* The same of one figure. estimate: it is not the provider's own word. 0: unknown. */
struct json *show_rate(int64_t milli, bool estimate, const char *unit);

/* "AutoDL may still act on a power-on asked 12s ago": why an off is not believed yet, and until when; "": nothing of the kind. */
#define DOUBT_TEXT_MAX 120
const char *doubt_format(char out[static DOUBT_TEXT_MAX], const struct lease *l, int64_t *ret_until_at_ms);

/* Nobody wants it on, and it is seen off, though such a power-on may act yet. */
bool rental_is_doubted(const struct lease *l);

/* "5090 is left out: ¥3.03 an hour is more than is allowed": what a search does not ask for, because it is too dear. Caller frees. */
char *show_left_out(const char *card, int64_t price_milli, const char *unit);

/* A call that makes it or switches it on is under way, or was, and nobody has seen yet what came of it. */
bool rental_is_coming(const struct lease *l);
/* Its provider was not read since this daemon began, and it was off, confirmed, when the one before it read it last. */
bool rental_was_stopped(const struct lease *l);
/* Instance.state of one that is rented. */
const char *show_rental_state(const struct lease *l);
struct json *show_rental(const struct control_context *k, const struct lease *l);
/* Of one that is switched off from inside. */
struct json *show_in_box(const struct control_context *k, const struct lease *l);
/* What an hour of it costs while it is on: as read, else as the price list has it; 0: unknown, or paid for already. */
int64_t rental_rate(const struct lease *l, bool *ret_estimate);
/* A Money: being on for so long from now costs that. */
struct json *show_rental_cost(const struct lease *l, int64_t for_ms);
/* What is wrong with it, but for its tunnel. i: the first, the second…; false beyond the last. *ret_since_at_ms 0: not known. */
bool rental_trouble(const struct lease *l, unsigned i, struct fault *ret, int64_t *ret_since_at_ms);
/* Somebody works with a copy of our database, and keeps its guard as we do. */
bool guard_is_shared(const struct lease *l, struct fault *ret);
/* Only its account can mend that: token, limits, balance. */
bool rental_is_of_account(const struct lease *l, const struct fault *f);
/* Whom the commands are for that mend a fault of it: the account, or the machine. */
const char *rental_subject(const struct lease *l, const struct fault *f);

struct json *show_account(const struct control_context *k, const struct account *a);
/* What one that was removed has spent. */
struct json *show_removed_account(const struct control_context *k, const struct account *a);
struct json *show_accounts(const struct control_context *k);
struct json *show_offer(const struct account *a, const struct rental_offer *o);
