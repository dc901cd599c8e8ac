/* The T of the command line: a model, an instance or a glob. */
#pragma once

#include <stdbool.h>

struct call;
struct deployment;
struct json;
struct lease;
struct manager;

/* targets: an array of texts, NULL or empty: everything. */
bool target_has_model(const struct json *targets, const struct deployment *d);
bool target_has_instance(const struct json *targets, const struct lease *l);
bool target_has_name(const struct json *targets, const char *name);     /* of what may be gone */
/* Does text (a name or a glob) mean this model: by its name, its id, or the instance it is on? */
bool target_is_model(const char *text, const struct deployment *d);
bool target_is_instance(const char *text, const struct lease *l);

/* The instances of a parameter "on": "gpu1" or "gpu1,gpu2", each once. Caller frees; NULL beyond the last. */
char *target_on_at(const char *on, unsigned i);
/* The one place where names are read: in "model", "for_model", "target" and "targets" of c's parameters an alias, or another name of a model there is,
 * becomes the name of that model. */
void target_real_names(struct call *c);

/* Every text means something: true. Otherwise the call is answered NotFound with near names. */
bool target_check(struct call *c, const struct json *targets);
bool target_check_one(struct call *c, const char *text);
