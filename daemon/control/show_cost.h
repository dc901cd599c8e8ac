/* What machines cost, as the contract shows it: the books (lease/ledger.h), and what is not in them yet. From memory only. Caller frees.
 *
 * An unknown is never 0. While nobody has said whether a machine is on (a call for it got no answer, or nobody has read it since this daemon
 * began) what it costs now is told as unknown, with the reason, and so are the sums it belongs to. */
#pragma once

#include "lease/ledger.h"

struct account;
struct account_figures;
struct control_context;
struct json;
struct lease;

/* It is there, and nothing but its disk is billed; what an hour of that costs, by the price list. */
bool cost_is_of_disk(const struct lease *l);
struct ledger_sum cost_when_off(const struct lease *l);

/* account_figures(), and what the books do not have: the disks of what is off, and what nobody knows. */
void cost_figures(const struct control_context *k, const struct account *a, struct account_figures *ret);

/* A Money: what it has cost today. */
struct json *show_spent_today(const struct lease *l);
/* An interval of the ledger. */
struct json *show_spent(const struct account *a, const struct spent_record *r);
/* The provider's id of the machine it has, or, while it has none, of the one it had last; NULL: it had none so far. Its name may have been that of other
 * machines before. */
const char *cost_machine(const struct lease *l);
bool cost_is_of(const struct lease *l, const struct spent_record *r);
/* A Money: what that machine has cost this month. machine: the provider's id; NULL: there was none. */
struct json *show_spent_month(const struct account *a, const char *name, const char *machine);
/* A CostLine. */
struct json *show_cost_line(const struct lease *l);
/* The same of a machine that no instance has any more, r being an interval of it. earlier: its name was given to another one since. */
struct json *show_cost_of_gone(const struct account *a, const struct spent_record *r, bool earlier);
