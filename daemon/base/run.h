/* One command on a machine, the same for a host over SSH and for this very host. */
#pragma once

#include <stdint.h>

#include "proto/buf.h"

struct fault;

#define RUN_OUTPUT_BYTES_MAX (1u << 20)
#define RUN_STATUS_UNKNOWN   255            /* it was ended at one of the ceilings, or died of something without a name */
#define RUN_ERRORS_BYTES_MAX (16u << 20)    /* of stderr, in all; a command that says more there is ended too */

struct run_spec {
    const char *script;             /* for a POSIX sh; runs without a terminal, with a short PATH and no profile */
    const void *input;              /* its standard input, borrowed until done(); NULL: none */
    size_t n_input;
    size_t output_bytes_max;        /* of stdout; 0: RUN_OUTPUT_BYTES_MAX. More is cut off and the command ended */
    uint64_t timeout_ms;            /* from the start of the command; 0: 30 s; UINT64_MAX: none (tail -f) */
    /* Instead of collecting stdout: called with each piece. */
    void (*on_output)(void *ctx, const char *data, size_t n);
};

struct run_result {
    int status;                     /* exit status; 128 + N when ended by signal N, 255 when neither is known */
    struct buf out, err;            /* err: its last 4 KiB */
};

/* result lasts for the call. f: the command could not be run or its end is not known (FAULT_UNCERTAIN once it was started); a
 * status other than 0 is no fault. */
typedef void (*run_done_fn)(void *ctx, struct run_result *result, const struct fault *f);
