/* Objects as the contract shows them. From memory only: looking never wakes, never calls anybody. Caller frees. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "deployment/deployment.h"

struct control_context;
struct fault;
struct json;
struct lease;
struct manager;

struct json *show_daemon(const struct control_context *k);
struct json *show_model(const struct deployment *d);
/* The state that people are told: what is wanted no longer neither wakes nor ends on a machine that is seen off. */
enum deployment_state show_model_state(const struct deployment *d);
struct json *show_counts(const struct control_context *k, const struct deployment *d);
struct json *show_instance(const struct control_context *k, struct lease *l);
/* {instance, notes}: how InstanceAdd and InstanceSet answer; notes: lines. */
struct json *show_instance_reply(const struct control_context *k, struct lease *l, const char *notes);
/* One line of trouble about target (NULL: the daemon) out of a fault; the commands that help are for subject. */
/* Nobody wants its guard any more, and it will act all the same. */
bool show_guard_left(const struct lease *l, struct fault *ret);
struct json *show_fault(const struct fault *f, const char *target, const char *subject, int64_t since_at_ms);
/* Whom the commands are for that mend a fault that it met: the account when it is about that, the machine when that refuses us, else the model itself. */
const char *show_subject(const struct deployment *d, const struct fault *f);
/* The commands that help, for subject. */
struct json *show_next(const struct fault *f, const char *subject);
/* What would be wanted on l again. NULL: nobody can say. */
const char *show_model_of(struct manager *m, const struct lease *l);
/* What keeps a model awake; empty when nothing does. */
struct json *show_causes(const struct deployment *d);
/* That its server died lately, and runs again; NULL: it did not. */
struct json *show_restarts(const struct deployment *d);
struct json *show_progress(const struct deployment *d, enum stage s);
/* Progress of a model that runs already, as far as we know, and whose machine is looked for. */
struct json *show_way(const struct deployment *d);
/* What needs somebody: of the gateway and the database, and of the models and instances meant by targets (target.h). */
struct json *show_trouble(const struct control_context *k, const struct json *targets);
/* False: the gateway listens. Else *ret says who has its port. */
bool show_port_taken(const struct control_context *k, struct fault *ret);
/* The command that moves us from address ("127.0.0.1:11434") to a port that is hardly taken. Caller frees. */
char *show_port_next(const char *address);

/* Adds a Cause. since_at_ms 0: not known; text may be NULL. */
void show_add_cause(struct json *list, const char *cause, int64_t count, int64_t since_at_ms, const char *text);
/* until_at_ms 0: without an end. */
void show_add_cause_until(struct json *list, const char *cause, int64_t count, int64_t since_at_ms, int64_t until_at_ms,
                          const char *text);

/* A Line. at_ms 0: not known. target and kind may be NULL. */
struct json *show_line(int64_t at_ms, const char *source, const char *target, const char *level, const char *kind, const char *text);
