/* A script of ours on a machine: it is sent whole with its words in front, so nothing has to lie there; it answers with lines KEY=VALUE,
 * the last one ok= or error=CODE TEXT (machine.sh). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"
#include "session/host.h"

struct script_call {
    const char *text;           /* of the script */
    const char *const *words;   /* its arguments, NULL-terminated; quoted by us */
    const void *input;          /* its standard input, borrowed until done(); NULL: none */
    size_t n_input;
    uint64_t timeout_ms;
    /* An answer has come and is read next: whatever the one before said is old. May be NULL. */
    void (*begin)(void *ctx);
    /* One line of it; false: no such key. */
    bool (*take)(void *ctx, const char *key, const char *value);
};

/* Borrowed for the call. An op: done() runs once; f NULL: the answer ended with ok=. Faults: what error= says, with its code as ours;
 * FAULT_INVALID for an account that does not run what it is asked to; else as host_run(). */
void script_run(struct host *h, const struct script_call *call, struct op **slot, void (*done)(void *ctx, const struct fault *f),
                void *ctx);
/* A value with whatever bytes there were made valid; replaces *to. */
void script_take_text(char **to, const char *value);
