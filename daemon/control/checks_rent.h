/* The rows of the doctor about accounts and rented machines; and the drill, which lets a guard stop its machine to see whether the bill ends. */
#pragma once

#include <stdint.h>

struct account;
struct call;
struct fault;
struct instance_seen;
struct json;
struct lease;

/* A machine of the account that manager_is_orphan(). */
void check_orphan(const struct account *a, const struct instance_seen *m, struct json *list);
/* f: what the provider answered when it was asked for the balance; NULL: balance_milli is it. */
void check_account(const struct account *a, int64_t balance_milli, const struct fault *f, struct json *list);
void check_rented(const struct lease *l, struct json *list);
/* Of one that is switched off from inside: what is seen of it, its guard. */
void check_boxed(const struct lease *l, struct json *list);
/* Of one of those: whether its guard can switch it off, as far as that was tried. */
void check_trial(const struct lease *l, struct json *list);

/* Answers the call, now or when the provider says that the machine is off, or does not in time; of one without an account, when it went and
 * stayed away, or did not. */
void drill_begin(struct call *c, struct lease *l);
