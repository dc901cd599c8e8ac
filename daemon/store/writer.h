/* Private to store/. The thread that has the database: it does one job after the other and reports each to the loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

struct database;
struct loop;
struct writer;

/* Embedded by each kind. Belongs to the writer from writer_send() until over() or drop(). */
struct job {
    struct list node;
    void (*run)(struct job *j, struct database *d);     /* on the thread */
    void (*over)(struct job *j);                        /* on the loop, after run(); frees */
    void (*drop)(struct job *j);                        /* frees and does nothing else; on any thread */
};

/* Takes d. */
struct writer *writer_new(struct loop *l, struct database *d);
/* Jobs are done in the order they were sent. */
void writer_send(struct writer *w, struct job *j);
/* Blocks until nothing is left to do, for at most limit_ms, and runs over() of what was done. False: there is more. */
bool writer_wait(struct writer *w, uint64_t limit_ms);
/* Jobs that are not over are dropped. A thread that hangs in the kernel is left to itself with all that it has, the lock of the
 * directory included. */
struct writer *writer_free(struct writer *w);
