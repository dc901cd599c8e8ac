/* What Up tells of the way to each of its models, and the end of the call. Private to the files of Up: methods_up.c says what is wanted. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct deployment;
struct follow;
struct follow_told;

/* ---- the way (up_tell.c) ---- */

/* Of one that is wanted from now on: what runs is told from its beginning, what is over is not. */
void up_note_stages(const struct deployment *d, struct follow_told *told);
/* The first of several replies: where it goes, and how long it usually takes. False when the call is over. */
bool up_begin(struct follow *w);
/* What changed since it was told, of the i-th. False when the call is over. */
bool up_tell(struct follow *w, unsigned i);
/* Ready; the last reply. */
void up_answer(struct follow *w, uint64_t took_ms);

/* ---- the end (up_end.c) ---- */

/* The fn() of a call that waits: tells what changed, and answers once each is ready, or does not get there. */
void up_look(struct follow *w);
/* Likewise of one that does not wait: that it is wanted is all. */
void up_accepted(struct follow *w);
