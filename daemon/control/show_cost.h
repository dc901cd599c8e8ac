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
/* A CostLine. l NULL: it was given back; then name is all there is of it. */
struct json *show_cost_line(const struct account *a, const struct lease *l, const char *name);
