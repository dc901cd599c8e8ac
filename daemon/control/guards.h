/* The file "guards" in the state directory: what llmhostctl can say of rented machines while we are not there. One line for each that is on, or may be:
 *
 *     NAME STATE ACTS_AT_MS RATE_MILLI UNIT
 *
 * STATE as Instance.state of the contract; ACTS_AT_MS: its guard switches it off then unless somebody renews, 0: no guard is known; RATE_MILLI of an
 * hour, 0: unknown; UNIT "-": it has no account here. Written whenever that is another text, beside and moved; a crash leaves the last one, which was true then. */
#pragma once

struct control_context;
struct guards;

struct guards *guards_new(const struct control_context *k);
/* The file stays. */
struct guards *guards_free(struct guards *g);
