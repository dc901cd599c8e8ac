/* ps, why: what is in memory, and what keeps it there. */
#include "client/verb.h"
#include "proto/mem.h"

#define QUICK_MS 30000 /* answered from memory: longer is a fault */

/* ---- ps ---- */

static bool is_meant(const char *target, const struct json *model)
{
    return glob_match(target, member_text(model, "name", "")) ||
           streq(target, member_text(model, "id", "")) ||
           glob_match(target, member_text(model, "instance", ""));
}

static bool is_running(const struct json *model)
{
    const char *state = member_text(model, "state", "");

    return streq(state, "ready") || streq(state, "draining");
}

/* Each target must have a model in memory. */
static enum exit_status ps_exit(const struct options *opt, const struct json *reply)
{
    const struct json *models = json_get(reply, "models");

    for (unsigned i = 0; i < opt->n_arguments; i++) {
        bool found = false;

        for (size_t k = 0; k < json_count(models) && !found; k++)
            found = is_running(json_at(models, k)) && is_meant(opt->arguments[i], json_at(models, k));
        if (!found)
            return EXIT_NOT_RUNNING;
    }
    return EXIT_DONE;
}

/* The STATE of --filter state=STATE, in the words of the screen or in the daemon's own; NULL: it is none. */
static const char *filter_state(const char *filter)
{
    static const char *const states[] = {"asleep",     "off",      "waking",   "ready",
                                         "draining",   "failed",   "placing",  "connecting",
                                         "installing", "starting", "fetching", "loading"};
    const char *state = strncmp(filter, "state=", 6) == 0 ? filter + 6 : "";

    for (size_t i = 0; i < ELEMENTS(states); i++)
        if (streq(states[i], state))
            return state;
    return NULL;
}

static void keep_state(struct json *reply, const char *wanted)
{
    const struct json *models = json_get(reply, "models");
    struct json *kept = json_array();

    for (size_t i = 0; i < json_count(models); i++) {
        const char *state = member_text(json_at(models, i), "state", "");

        if (streq(state, wanted) || streq(state_word(state), wanted))
            json_append(kept, json_copy(json_at(models, i)));
    }
    json_put(reply, "models", kept);
}

enum exit_status verb_ps(struct run *r)
{
    const struct options *opt = &r->options;
    const char *state = opt->filter ? filter_state(opt->filter) : NULL;
    _cleanup_call_ struct call call = {.method = "Ps", .limit_ms = QUICK_MS, .parameters = verb_targets(opt)};
    bool all = opt->all || state;
    enum exit_status status;

    if (opt->filter && !state)
        return verb_usage(
            r, "--filter is state=STATE, with one of asleep, off, waking, ready, draining, failed.", NULL,
            "llmhostctl ps --filter state=asleep");
    if (all)
        json_put_bool(call.parameters, "all", true);
    status = verb_connect(r, false);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    verb_take_targets(r, call.answer);
    status = ps_exit(opt, call.answer);
    if (state)
        keep_state(call.answer, state);
    output_answer(&r->output, call.answer,
                  opt->quiet ? screen_names
                  : all      ? screen_ps_all
                             : screen_ps,
                  status);
    return status;
}

/* ---- why ---- */

enum exit_status verb_why(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "Why", .limit_ms = QUICK_MS, .parameters = verb_targets(&r->options)};
    enum exit_status status = verb_connect(r, false);

    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_why, status);
    return status;
}
