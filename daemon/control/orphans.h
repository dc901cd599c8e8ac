/* Machines of an account as the contract shows them; those that no instance here knows, and the end of one of these: Down and Release with "at". */
#pragma once

struct account;
struct call;
struct control_context;
struct instance_seen;
struct json;
struct manager;

/* A Machine. Caller frees. */
struct json *show_machine(struct manager *m, const struct account *a, const struct instance_seen *seen);
/* Of Status and Watch; caller frees. */
struct json *show_orphans(const struct control_context *k);
/* Of Cost: those of that name that may be billed. Caller frees. */
struct json *show_orphans_that_bill(const struct control_context *k, const struct json *targets);
/* Each is one that a person has to look at. */
void orphans_add_trouble(const struct control_context *k, const struct json *targets, struct json *list);

/* The call has a parameter "at". */
void orphan_down(struct call *c);
void orphan_release(struct call *c);
