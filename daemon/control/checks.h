/* The rows of the doctor: what each of them is made of, and those about a machine that was asked. */
#pragma once

#include <stdint.h>

struct deployment;
struct engine_need;
struct json;
struct lease;
struct machine_facts;
struct manager;

/* level: "ok", "warn", "fail". next: commands that help, taken; NULL: none. */
void check_add(struct json *list, const char *id, const char *target, const char *level, struct json *next, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
struct json *check_command(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ports of l's 127.0.0.1 that are worth a question: where its forwards lead, and an engine's usual one. Returns how many. */
unsigned check_ports_of(struct manager *m, const struct lease *l, uint16_t *ret_ports, unsigned n_max);
/* What l has just said of itself. */
void check_machine(struct manager *m, struct lease *l, const struct machine_facts *facts, struct json *list);
/* Whether d, which has not come yet, would fit on its machine's disk. */
void check_need(const struct deployment *d, const struct engine_need *n, struct json *list);
/* Where a model that is ready is: on the card, or on the processors. */
void check_memory(const struct deployment *d, struct json *list);
/* Its forwards: who has a port that was to be ours, and who listens at the other end. facts NULL: it was not asked. */
void check_forward_ports(struct manager *m, const struct lease *l, const struct machine_facts *facts, struct json *list);
