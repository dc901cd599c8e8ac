/* What the files of power share. manager_power.c judges machines that are rented, manager_boxed.c those that are switched off from inside: how long
 * one is to be on is judged from the same facts by the same rule (policy/stay.h), how it goes on and off is each one's own. manager_power_models.c:
 * what its models want. manager_power_search.c: the search for a card. manager_power_gpu.c: what its cards do. manager_power_words.c: what people
 * say. */
#pragma once

#include "base/timer.h"
#include "engine/gpu_use.h"
#include "manager_private.h"
#include "policy/stay.h"
#include "proto/mem.h"

struct rented;

#define AWAY_MS    STAY_DRAIN_MS /* so long a machine that goes off is waited for where it cannot be reached */
#define SILENT_MS  (10 * 1000) /* by then a tunnel that is silent is lost, with all that went through it (session.h) */
#define UNHEARD_MS (60 * 1000) /* after our start, so long for its guard to tell of holds */
#define LOOK_MS    (60 * 1000) /* at what has no news of its own: bytes of forwards */

struct power {
    struct manager *manager;
    struct lease *lease;
    struct timer *timer;
    struct stay stay;             /* what was judged last */
    bool restored;                /* a daemon before this one had it on, and its guard has not told of holds yet */
    uint64_t on_due;              /* since when it is on; 0: it is not */
    uint64_t away_due;            /* since when it is to go off and cannot be reached; 0: not so */
    uint64_t leave_due;           /* since when its models are to leave it; 0: they are not */
    uint64_t hold_until_due;      /* `keep INSTANCE`: until when */
    uint64_t held_due;            /* when that was said last */
    bool hold_is_over;            /* by a word, whatever its guard has not been told yet */
    uint64_t quiet_bytes;         /* of its forwards */
    uint64_t forward_due;         /* when those last grew; 0: not seen */
    uint64_t typed_due;           /* when somebody typed into a login there; 0: unknown */
    uint64_t gpu_due;             /* when its cards computed last, as far as that is looked at; 0: not seen */
    unsigned gpu_percent;         /* so much, then */
    uint64_t gpu_look_due;        /* the next look at them; 0: none is due */
    bool gpu_is_dark;             /* the last one told nothing, and people know that */
    struct gpu_asker gpu_asker;
    struct op *gpu_look;
    uint64_t born_due;            /* when this object began; of one that is switched off from inside: when its power-on was seen */
    bool is_unused;               /* nobody used it since born_due; the last use was unused_before_ms before that */
    uint64_t unused_before_ms;

    struct rented *rented;        /* NULL: it has no account, and is switched off from inside */
    bool asked_on;                /* its goal is on, by us: when it is off, it went off by itself */
    bool was_reachable;           /* since it is on */
    uint64_t lost_due, doubt_due; /* since when it runs and cannot be reached; the next look. 0: it can */
    uint64_t foreign_due;         /* when somebody else switched it off; 0: never */
    uint64_t money_due;           /* since when a limit is reached; 0: none is */
    bool money_told;              /* of one that is not ours to stop for it */
    bool has_keep_money;          /* a keep's whole cost may be reserved */
    struct op *by_guard;          /* its guard is told to stop the machine, where the provider cannot be reached */

    unsigned cycle;               /* without an account: of which power-on all this is */
    bool was_used;                /* a model was wanted on it in this power-on */
    bool was_off;                 /* its models know that it is off */
};

/* Then it is judged anew, or sooner, when its cards are to be looked at. STAY_NEVER: not by time. */
static inline void power_arm_at(struct power *p, uint64_t due, uint64_t now)
{
    if (p->gpu_look_due)
        due = MIN(due, p->gpu_look_due);
    if (due == STAY_NEVER)
        timer_disarm(p->timer);
    else
        timer_arm(p->timer, due > now ? due - now : 0);
}

/* manager_power.c */
struct power *power_find(struct manager *m, const struct lease *l);   /* NULL: it is nobody's to switch */
struct stay_facts power_facts(const struct power *p, uint64_t now);
struct stay_rule power_rule(const struct power *p);
void power_note_quiet(struct power *p, uint64_t now);   /* what uses it without asking a model: forwards, logins */
void power_stay(struct power *p); /* does what p->stay says */
void power_off(struct power *p, const char *why);
void power_judge(struct power *p);
void power_judge_anew(void *ctx); /* by the timer, or by what nobody else hears of: p is ctx */
/* Until when `keep INSTANCE` keeps it, as far as we and its guard know; and something of it, but for that model. Not behind now: nothing does. */
enum keeps { KEEPS_ALL, KEEPS_OF_MODELS };
uint64_t power_hold_due(const struct power *p, uint64_t now);
uint64_t power_kept_due(const struct power *p, enum keeps which, const struct deployment *but, uint64_t now);

/* manager_power_models.c */
bool power_has_wish(const struct power *p); /* a model on it is on its way to memory */
bool power_has_open(const struct power *p); /* a request is under way there */
void power_add_models(const struct power *p, struct stay_facts *f, uint64_t now);
uint64_t power_models_kept_due(const struct power *p, const struct deployment *but, uint64_t now);
void power_sleep_models(const struct power *p, bool cut, const char *why);
void power_end_models(const struct power *p, bool cut, const struct fault *why);
void power_give_up_models(const struct power *p, const struct fault *why);
void power_lose_machine(const struct power *p, const char *why); /* it is off */
void power_lose_servers(const struct power *p, const char *why); /* models on it are in no memory any more; those that are wanted wait */
void power_leave_waiting(const struct power *p); /* those that only requests wanted which have all gone */

/* manager_power_search.c */
void power_begin_search(struct power *p);
void power_search(struct power *p); /* it waits for a card */
void power_end_search(struct power *p); /* nobody wants one any more */
int64_t power_search_until_at_ms(struct power *p); /* its end, wall clock; it begins with this where it has none */

/* manager_power_words.c */
bool power_is_kept(const struct power *p); /* by a word about the machine, or because its time is paid for; whatever its models do */

/* manager_power_gpu.c */
void power_look_at_gpu(struct power *p, uint64_t now);  /* when that is asked for, and due */

/* manager_boxed.c */
void power_press_boxed(struct power *p); /* `down INSTANCE` */
void power_judge_boxed(struct power *p);
