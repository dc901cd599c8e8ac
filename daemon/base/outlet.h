/* Where lines of the log leave the process: journald's socket, with their fields, where standard error is the journal's, else
 * standard error as text. A reader that does not read never stops the loop: of any 10 seconds at most 50 ms are spent waiting
 * for it. Lines it does not take are dropped here (the ring of log.h has them), and the next one that goes out is told how many. */
#pragma once

#include "base/log.h"

struct outlet;
/* journald: the path of its socket, NULL: text always. Never fails: what cannot be opened is not used. */
struct outlet *outlet_new(int fd, const char *journald);
struct outlet *outlet_free(struct outlet *o);       /* leaves fd open */
void outlet_write(struct outlet *o, const struct log_entry *e);
