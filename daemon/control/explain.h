/* What a fault means to a person: the exit status, and what to type. Errors of calls and the trouble of `status` both come from here. */
#pragma once

#include "proto/error.h"

struct buf;
struct fault;
struct json;

/* The stable word for scripts: the fault's own code, or one made from its kind. */
const char *explain_code(const struct fault *f);
enum exit_status explain_status(const struct fault *f);
/* Commands that help, one per line, with the target filled in: of the daemon's own disk (codes "store…") its directory, whoever met that. */
void explain_next(const struct fault *f, const char *target, struct buf *out);
/* Likewise; where the target is a machine, model is what would be wanted on it. NULL: any. */
void explain_next_for(const struct fault *f, const char *target, const char *model, struct buf *out);
/* A model's name with the engine in front that was left out. Caller frees; NULL: that would be none either. */
char *explain_model(const char *name);
/* Where that is; borrowed for as long as anything is explained. NULL: the target of each is it. */
void explain_store_is_in(const char *directory);
/* Lines to an array of strings. */
struct json *explain_lines(const char *lines);
