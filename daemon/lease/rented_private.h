/* What the files of the rented half share. rented.c: the object, the way in, the guard, what people see.
 * rented_life.c: what its life works with: records, money, the ledger. rented_hunt.c: which card is tried, and what it
 * costs. rented_timer.c: the provider's own timer. */
#pragma once

#include "base/fault.h"
#include "base/op.h"
#include "base/runq.h"
#include "guard/guard.h"
#include "lease/hunt.h"
#include "lease/rented.h"
#include "proto/mem.h"

struct timer;

#define SPARE_MAX 8 /* machines beside the one there is to be: of each create at most one comes late */

/* The way to the disk of what is about to cost money: its record and its reservation. */
struct rented_keeping {
    struct op op;
    struct op *inner;
    store_ticket record;
    op_done_fn done;
    void *ctx;
};

struct rented {
    struct rented_context context;
    struct rental_record record; /* texts are ours */
    struct life *life;
    struct keeper *keeper;
    struct instance_wish wish;
    char prefix[INSTANCE_NAME_MAX];
    struct hunt hunt;
    char card[64], region[64]; /* as the provider writes them: of what is tried; region "": anywhere */
    char dog[GUARD_DOG_BYTES_MAX + 1];
    struct work changed, read; /* tells others; the ledger */

    enum life_state kept_state; /* of its life, when that was kept last: it does not tell what it was before */
    int64_t since_at_ms, stop_asked_at_ms;
    int64_t wanted_due; /* as of the record, by the clock that nobody sets */
    unsigned tries;
    bool was_powered;
    bool was_unsure; /* a call since it was last wanted got no answer, and was not seen to act */
    bool was_stopped; /* as of the record: its stop is an old one */
    struct instance_seen seen, spare[SPARE_MAX];
    unsigned n_spare;
    int64_t seen_at_ms; /* 0: never */
    int days_told;      /* how many are left until its data is gone, as was told last; -1: nothing was */

    /* Of the last call that costs money. */
    char intent[INSTANCE_NAME_MAX + 24];
    bool intent_open; /* reserved, and not answered yet */
    uint64_t paid_due;
    int64_t paid_at_ms; /* by the account's clock; 0: by a daemon before this one */
    struct rented_keeping keeping;
    struct timer *pace_timer; /* it is written, and others were asked for just before (hunt.h) */

    /* Of this power-on. */
    bool on;          /* others have been told */
    bool went_off;    /* others have to be told that it is over */
    bool is_doubtful; /* the provider no longer says that it is on, nor that it is off */
    bool has_no_card; /* it came up without it */
    bool has_way;
    bool session_up;
    bool had_guard;   /* something may be known of its guard, also while it is being switched off */
    bool guarded;     /* the guard was read back, whoever owns it */
    bool is_anothers; /* another llmhostd keeps its guard: we connect and forward, and never switch it off */
    uint64_t on_due;
    unsigned n_reads; /* of the way, in a row, that failed or told nothing new */
    int64_t rate_milli;
    bool price_is_waived; /* it was let go beyond the account's, and is held to the other limits by now */
    struct op *reach;
    struct timer *way_timer, *guard_timer;
    struct op *drill;
    uint64_t first_ms; /* [guard] first */
    struct op *timer_call;
    uint64_t timer_due;  /* when the provider's timer was last set; 0: never */
    int64_t timer_at_ms; /* to this, as far as we know; 0: it is not set by us */
    struct fault timer_fault;
    /* When the guard took it that it is to stop it; 0: it was not told, or we asked for the machine since. */
    uint64_t drilled_due;
    struct fault fault;   /* why we ended it, or what its way in lacks */
};

static inline void rented_replace(char **text, const char *with)
{
    if (*text && with && streq(*text, with))
        return;
    free(*text);
    *text = xstrdup(with);
}

/* rented_life.c */
/* Parts of rented_new() and rented_free(). */
void rented_begin_life(struct rented *r);
void rented_end_life(struct rented *r);
void rented_write(struct rented *r);
/* Its last call was neither refused nor seen to act. That it is too old to act is a bet (life.h). */
static inline bool rented_is_unheard(const struct life_record *l)
{
    return l->asked_at_ms && !l->acted;
}
/* From the run queue: what was seen, with what is known by now. */
void rented_on_read(void *ctx);

/* rented_hunt.c */
void rented_restore_hunt(struct rented *r);     /* as of the record: with what was tried last */
/* Somebody wants it who did not before. */
void rented_begin_hunt(struct rented *r);
/* What is asked for next; the limit of an hour may be another one. */
void rented_choose_card(struct rented *r);
/* A machine that was made has one card and one place; the others were for the search. */
void rented_note_made(struct rented *r);
void rented_note_refused(struct rented *r);     /* a call that costs money was, and nothing came of it */
uint64_t rented_wait_ms(void *ctx);             /* until the next try; of its life */
/* What a machine of its card costs was read, or is remembered. */
void rented_learn_price(struct rented *r);
/* What an hour may cost; 0: whatever it costs. */
int64_t rented_ceiling_milli(const struct rented *r);
int64_t rented_list_rate_milli(const struct rented *r);

/* rented_timer.c */
void rented_choose_timer(struct rented *r); /* as of the next power-on */
void rented_watch_timer(struct rented *r);  /* after each reading */

/* rented.c */
void rented_on_life(void *ctx, struct life *l);
/* That it is off, or goes off, is the guard's doing, as we asked. */
bool rented_was_drill(const struct rented *r);
