/* What is known of rented machines while no daemon runs: the file "guards" in its state directory, which it writes for this
 * moment. One line for each machine that is on: its name and when its guard stops it unless somebody renews, in milliseconds
 * since 1970. */
#pragma once

struct json;

/* Puts "guards" into an error about a daemon that is not there: [{"instance", "acts_at_ms"}, ...], those still to come. Without such a
 * file, or one that we may read, nothing. */
void guards_note(struct json *error);
