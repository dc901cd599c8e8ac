/* What the verbs of models share: a call whose stages are shown, and the ends of waiting that are not the end of the work. */
#pragma once

#include "client/verb.h"

struct progress;

/* --timeout, and the replies of call shown by p. */
void model_call_prepare(struct run *r, struct call *call, struct progress *p);
/* "gpu1", or "gpu1, gpu2" where a reply has it wanted on several. Caller frees; NULL: not said. */
char *model_instances(const struct json *reply);
/* Ctrl-C: what goes on, and how to see it and, give_up not being NULL, how to end it. */
enum exit_status model_detached(struct run *r, const char *what, const char *watch, const char *give_up);
/* A time of day of --until that is tomorrow's, as people have to know. Caller frees; NULL: it is not. */
char *until_note(const char *typed, int64_t until_at_ms, int64_t now_ms);
/* The wait is over, the work is not: into the error, and how to go on waiting. until NULL: for ready. */
void model_explain_timeout(struct json *error, const char *target, const char *until);
