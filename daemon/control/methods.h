/* The verbs: name to function. Every function answers its call, now or later, exactly once. */
#pragma once

#include "control/call.h"

struct lease;

typedef void (*method_fn)(struct call *c);

bool method_exists(const char *name);
/* The one that the call names, which exists. */
void method_run(struct call *c);

/* methods_doctor.c */
void method_doctor(struct call *c);
/* methods_why.c */
void method_ps(struct call *c);
void method_why(struct call *c);
/* methods_up.c */
void method_up(struct call *c);
/* methods_down.c */
void method_down(struct call *c);
void method_sleep(struct call *c);
void method_keep(struct call *c);
/* methods_wait.c */
void method_wait(struct call *c);
/* methods_money.c */
void method_provider_add(struct call *c);
void method_provider_set(struct call *c);
void method_provider_list(struct call *c);
void method_provider_remove(struct call *c);
void method_cost(struct call *c);
/* methods_rent.c */
void method_offers(struct call *c);
void method_release(struct call *c);
void method_instance_take(struct call *c);
/* NULL after the call was answered: there is no such instance, or it is not rented. */
struct lease *call_find_rented(struct call *c, const char *name);
/* The account at provider, or NULL after the call was answered. NULL asks for any. */
struct account *call_find_account(struct call *c, const char *provider);
/* methods_image.c */
void method_image_save(struct call *c);
void method_image_list(struct call *c);
/* methods_thing.c */
void method_instance_add(struct call *c);
void method_instance_set(struct call *c);
void method_instance_list(struct call *c);
void method_instance_show(struct call *c);
void method_instance_secret(struct call *c);
void method_instance_remove(struct call *c);
void method_forward_add(struct call *c);
void method_forward_list(struct call *c);
void method_forward_remove(struct call *c);
/* methods_key.c */
void method_key_add(struct call *c);
void method_key_list(struct call *c);
void method_key_remove(struct call *c);
void method_listen(struct call *c);
/* methods_alias.c */
void method_alias_set(struct call *c);
void method_alias_list(struct call *c);
void method_alias_remove(struct call *c);
/* methods_look.c */
void method_status(struct call *c);
void method_watch(struct call *c);
/* methods_logs.c */
void method_logs(struct call *c);
