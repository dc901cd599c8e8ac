/* What is known of rented machines while no daemon runs: the file "guards" in its state directory, which it writes for this
 * moment (daemon/control/guards.h): a line for each machine that is not off, NAME STATE ACTS_AT_MS RATE_MILLI UNIT. */
#pragma once

struct json;

/* Puts "guards" into an error about a daemon that is not there: [{"instance", "state", "acts_at_ms", "rate"}, ...], as it was then, a Money an hour; acts_at_ms is
 * absent where no guard is known. A machine whose guard has acted by now is left out. Without such a file, or one that we may read, nothing. */
void guards_note(struct json *error);
