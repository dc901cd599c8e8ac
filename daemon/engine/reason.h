/* Why a model server ended, or a model cannot be loaded: told from the engine's own words and from what the machine knows of its end.
 * Pure: words and numbers in, a fault out.
 *
 * Codes: out_of_memory (the card's), machine_out_of_memory, disk_full, port_taken, driver_unfit (too old or missing), gpu_unfit (no card
 * the engine can use), cpu_unfit (a processor without the instructions it was built with), library_missing, model_unreadable,
 * engine_crashed (a signal ended it: it may do better next time), engine_exited (it ended by itself, and does not say why).
 *
 * Words: reference/runtimes.md §2.8, §3.4 and §8 (ollama llm/status.go and llm/llama_server.go at 0.32.15, llama.cpp 0.5.0, glibc's loader), and
 * observed with ollama 0.11.4, 0.32.15 and llama-server 0.7.0, 2026-11. */
#pragma once

#include <stdint.h>

#include "base/fault.h"

/* How a server ended; texts may be NULL, numbers -1. */
struct reason_end {
    const char *line;           /* of its log, that seems to say why */
    const char *last_words;     /* the last line of it that says anything */
    const char *owner;          /* who has the port it could not have */
    int64_t status;             /* 128 + signal, as a shell has it */
    int64_t kills;              /* processes beside it that the kernel killed meanwhile, for want of memory */
    int64_t limit_bytes;        /* what it and those beside it may use */
};

/* True: the words are of a known misfortune of a server; what: the sentence in front of them. */
bool reason_of_words(struct fault *f, const char *what, const char *words);
/* what: "ollama ended on gpu1". */
void reason_of_end(struct fault *f, const char *what, const struct reason_end *end);
/* A part of a server that goes on was killed (engine_crashed): was there no memory left? Then *f says so. */
void reason_of_kills(struct fault *f, int64_t kills, int64_t limit_bytes);
