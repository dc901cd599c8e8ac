/* Private to store/. One change that waits to be written: what it is, its values in the order of its SQL, its tickets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "store/store.h"

enum change_kind {
    CHANGE_PUT_INSTANCE,
    CHANGE_REMOVE_INSTANCE,
    CHANGE_PUT_DEPLOYMENT,
    CHANGE_REMOVE_DEPLOYMENT,
    CHANGE_PUT_FORWARD,
    CHANGE_REMOVE_FORWARD,
    CHANGE_PUT_EVENT,
    CHANGE_PUT_DURATION,
    CHANGE_PUT_COUNT,
    CHANGE_REMOVE_COUNTS,
    CHANGE_PUT_KEY,
    CHANGE_REMOVE_KEY,
    CHANGE_PUT_ALIAS,
    CHANGE_REMOVE_ALIAS,
    CHANGE_PUT_CHOICE,
    CHANGE_REMOVE_CHOICE,
    CHANGE_PUT_RENTAL,
    CHANGE_PUT_BOXED,
    CHANGE_PUT_ACCOUNT,
    CHANGE_REMOVE_ACCOUNT,
    CHANGE_PUT_ORPHAN,
    CHANGE_REMOVE_ORPHAN,
    CHANGE_RESERVE,             /* refused when it writes nothing */
    CHANGE_RESOLVE_INTENT,
    CHANGE_RELEASE_INTENTS,
    CHANGE_PUT_SPENT,
    CHANGE_MOVE_SPENT,
    CHANGE_REMOVE_SPENT,
    CHANGE_KINDS,
};

struct change_spec {
    const char *sql;
    const char *noun;       /* for sentences */
    unsigned keys;          /* the first values name the record; 0: every change is a record of its own */
    int parent;             /* the value that names the instance it belongs to, -1: none */
    bool removes;
    bool others_need_it;    /* later changes may refer to this record */
};
extern const struct change_spec change_specs[CHANGE_KINDS];

/* What is reserved at provider ?3 in unit ?5 at the instant ?7, but for the name ?1: of each intent what its intervals have not cost
 * yet, so that together with what is spent the larger of the two counts. A keep's are all that its machine costs since it was said. */
#define SQL_COST(from) "((s.rate_milli * max(0, ifnull(s.to_at_ms, ?7) - " from ") + 1800000) / 3600000)"
#define SQL_RESERVED                                                                                         \
    "SELECT ifnull(sum(max(0, i.reserved_milli - ifnull(CASE WHEN i.outcome = 'kept' THEN "                  \
    "(SELECT sum" SQL_COST("max(s.from_at_ms, i.at_ms)") " FROM spent s WHERE s.provider = i.provider "      \
    "AND s.instance = i.instance AND s.kind = 'compute' AND ifnull(s.to_at_ms, ?7) > i.at_ms) "              \
    "ELSE (SELECT sum" SQL_COST("s.from_at_ms") " FROM spent s WHERE s.intent = i.id) END, 0))), 0) "        \
    "AS milli FROM intent i WHERE i.provider = ?3 AND i.unit = ?5 AND i.name <> ?1 "                         \
    "AND (i.resolved_at_ms IS NULL OR i.held)"

struct value {
    enum { VALUE_NULL, VALUE_INT, VALUE_TEXT, VALUE_BLOB } type;
    int64_t number;
    char *data;
    size_t n;
};

#define CHANGE_VALUES_MAX 40
struct change {
    struct list node;
    enum change_kind kind;
    store_ticket first_ticket, ticket;      /* more than one when newer values took the place of older ones */
    uint64_t queued_due;                    /* when it was queued, the oldest */
    unsigned n_values;
    struct value values[CHANGE_VALUES_MAX];
    struct fault *fault;                    /* set by the thread: it broke a constraint and was left out */
};

struct change *change_new(enum change_kind kind);
struct change *change_free(struct change *c);
/* The next value; copied. NULL text or data is SQL's NULL. */
void change_text(struct change *c, const char *text);
void change_blob(struct change *c, const void *data, size_t n);
void change_int(struct change *c, int64_t number);

void changes_free(struct list *changes);
/* Leaves the newest value of each record. */
void changes_merge(struct list *changes);
/* Drops the reservations: who asked was told that there is none. */
void changes_drop_reservations(struct list *changes);
/* Drops the oldest events until at most max are left; returns how many went. */
unsigned changes_drop_events(struct list *changes, unsigned max);
