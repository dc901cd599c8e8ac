/* Words out, lines back: script.h does the rest. */
#include "engine/fetch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/script.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const char engine_fetch_sh[];

#define STEP_MS   (60 * 1000)
#define CHECK_MS  (60 * 60 * 1000)
#define WORDS_MAX 200

void fetch_init(struct fetch *f, struct host *host, const char *server)
{
    *f = (struct fetch){.host = host, .server = server, .free_bytes = -1, .have_bytes = -1};
}

void fetch_done(struct fetch *f)
{
    free(f->body);
    free(f->models);
    f->body = f->models = NULL;
}

static void on_answer(void *ctx)
{
    struct fetch *f = ctx;

    free(f->body);
    f->body = NULL;
    f->status = 0;
    f->is_late = false;
    f->has_tool = true;
    f->removed = 0;
    f->free_bytes = f->have_bytes = -1;
}

static int64_t kilobytes(const char *value)
{
    return *value && strspn(value, "0123456789") == strlen(value) && strlen(value) < 14
               ? strtoll(value, NULL, 10) * 1024
               : -1;
}

static bool take(void *ctx, const char *key, const char *value)
{
    struct fetch *f = ctx;

    if (streq(key, "body")) {
        free(f->body);
        f->body = xstrdup(value);
    } else if (streq(key, "status"))
        f->status = atoi(value);
    else if (streq(key, "late"))
        f->is_late = true;
    else if (streq(key, "tool"))
        f->has_tool = false;
    else if (streq(key, "models"))
        script_take_text(&f->models, value);
    else if (streq(key, "free_kb"))
        f->free_bytes = kilobytes(value);
    else if (streq(key, "have_kb"))
        f->have_bytes = kilobytes(value);
    else if (streq(key, "removed"))
        f->removed++;
    else
        return false;
    return true;
}

static void on_done(void *ctx, const struct fault *fault)
{
    struct fetch *f = ctx;

    f->done(f->ctx, fault);
}

static void run(struct fetch *f, const char *const *words, uint64_t timeout_ms, struct op **slot,
                fetch_done_fn done, void *ctx)
{
    const struct script_call call = {
        .text = engine_fetch_sh, .words = words, .timeout_ms = timeout_ms, .begin = on_answer, .take = take};

    f->done = done;
    f->ctx = ctx;
    script_run(f->host, &call, slot, on_done, f);
}

static void run_names(struct fetch *f, const char *verb, const char *directory, const char *const *names,
                      uint64_t timeout_ms, struct op **slot, fetch_done_fn done, void *ctx)
{
    const char *words[WORDS_MAX + 1] = {verb, f->server, directory};

    for (unsigned n = 3; *names && n < WORDS_MAX; n++)
        words[n] = *names++;
    run(f, words, timeout_ms, slot, done, ctx);
}

void fetch_ask(struct fetch *f, const char *url, const char *accept, struct op **slot, fetch_done_fn done,
               void *ctx)
{
    const char *const words[] = {"ask", f->server, url, accept, NULL};

    run(f, words, STEP_MS, slot, done, ctx);
}

void fetch_room(struct fetch *f, const char *directory, const char *const *names, struct op **slot,
                fetch_done_fn done, void *ctx)
{
    run_names(f, "room", directory, names, STEP_MS, slot, done, ctx);
}

void fetch_check(struct fetch *f, const char *directory, const char *const *names, struct op **slot,
                 fetch_done_fn done, void *ctx)
{
    run_names(f, "check", directory, names, CHECK_MS, slot, done, ctx);
}

void fetch_clean(struct fetch *f, const char *directory, const char *const *names, struct op **slot,
                 fetch_done_fn done, void *ctx)
{
    run_names(f, "clean", directory, names, STEP_MS, slot, done, ctx);
}

int fetch_judge_room(const struct fetch *f, const char *model, const char *instance, int64_t bytes,
                     struct fault *fault)
{
    char needed[TEXT_SHORT_MAX], room[TEXT_SHORT_MAX];

    if (bytes < 0 || f->free_bytes < 0 || bytes <= f->free_bytes)
        return 0;
    fault_code(fault, FAULT_EXHAUSTED, "disk_full", "%s needs %s more on %s, and %s are free in %.200s",
               model, bytes_format(needed, (uint64_t)bytes), instance,
               bytes_format(room, (uint64_t)f->free_bytes),
               f->models ? f->models : "its directory of models");
    return -ENOSPC;
}
