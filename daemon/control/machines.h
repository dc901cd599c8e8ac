/* What a call that follows (follow.h) says of rented machines: how they go off, what a search for one came to, and what takes too long. */
#pragma once

#include <stdbool.h>

struct call;
struct follow;
struct json;
struct lease;

/* ---- going off (machines_off.c) ---- */

/* It is rented, and off: nothing runs on it. Of one that is switched off from inside: it went away after that. */
bool machine_is_off(const struct lease *l);
/* Another llmhostd keeps its guard: it is not ours to stop, nor to keep on. True: the call was answered with that. */
bool machine_is_anothers(struct call *c, const struct lease *l);
/* It was told to stop, for so long that somebody has to know. */
bool machine_is_unconfirmed(const struct lease *l);
/* It is rented, and is to go off, as far as w waits for it: nothing keeps it on. */
bool machine_goes_off(const struct follow *w, const struct lease *l);
/* It was told to go off and cannot be reached any more: what runs on it ends with it, and is not waited for. */
bool machine_takes_along(const struct lease *l);
/* Whether that machine goes off belongs to what w waits for, if it is rented, or switched off from inside. Once each. */
void machines_add(struct follow *w, struct lease *l);
/* Those of all models that w follows. */
void machines_add_of_models(struct follow *w);
/* All that are to go off are off, and their providers say so. Tells what changed, where there is "more"; false also when the call is over, which it is
 * when a stop takes so long that somebody has to know. */
bool machines_are_off(struct follow *w);
/* Which of those that are to go off seem so, while a power-on may still act. The call may be over by that. */
void machines_tell_doubt(struct follow *w);
/* For the last reply: which stay on, what a search came to, and of the only one "instance" and "spent"; of several those that went off, "ended". */
void machines_put(struct follow *w, struct json *v);
/* Its "stay" alone: those that are noted to stay on. Nothing where none is. */
void machines_put_stay(struct follow *w, struct json *v);

/* ---- what a search came to (machines_search.c) ---- */

/* The contract's "search", where all of them were only looked for. */
void machines_put_search(struct follow *w, struct json *v);

/* ---- what takes too long (machines_late.c) ---- */

/* That of each that is rented and still waited for; "": of none. Caller frees. */
char *machines_bill_on(const struct follow *w);
/* Of one that is rented: "it is on at ¥1.88/h, its guard ends it by 14:58"; of one that goes on as it is, without its guard. Caller frees. */
char *machine_stake(const struct lease *l, const char *name);
/* The waiting ends by its limit: what it was for says why. False: nothing of the kind. */
bool machines_answer_timeout(struct follow *w);
/* STOP NOT CONFIRMED, with what is at stake and who else stops it. */
void machines_fail_stop(struct follow *w, struct lease *l);
