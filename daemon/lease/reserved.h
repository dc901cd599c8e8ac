/* What is set aside of an account's limits: its open reservations, as the database has them, so that their sum can be told without asking it.
 * Of each what its machine has cost since is taken off, so that together with what is spent the larger of the two counts (reference/lease.md §3). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct intent_record;
struct ledger;
struct reserved;

struct reserved *reserved_new(const struct ledger *g);  /* borrowed */
struct reserved *reserved_free(struct reserved *r);
/* In place of one of that name. reserved_milli < 0: all that is left. kept_ms not 0: of a keep. */
void reserved_put(struct reserved *r, const struct intent_record *i);
void reserved_drop(struct reserved *r, const char *name);
/* As store_release_intents(). */
void reserved_release(struct reserved *r, const char *instance, bool keeps);
/* All but that of the name; NULL: all. *ret_all: one of them is all that was left. */
int64_t reserved_milli(const struct reserved *r, const char *but, int64_t now_ms, bool *ret_all);
