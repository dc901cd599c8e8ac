/* An event that a hook wants becomes an errand of that hook, in a short queue; one errand of a hook runs at a
 * time. What is heard from inside event_publish() is only put there, and begun from the run queue.
 *
 * The same news is told once in ten minutes. The same is: of the same kind and target, in the same words but
 * for their figures, which change all the time. */
#include "hook.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/clock.h"
#include "base/event.h"
#include "base/list.h"
#include "base/runq.h"
#include "base/settings.h"
#include "base/timer.h"
#include "base/watch.h"
#include "proto/mem.h"
#include "proto/text.h"

#define TIME_MS    30000
#define REPEAT_MS  600000
#define QUEUE_MAX  16
#define NEWS_MAX   64
#define LINE_BYTES 200

/* An event to be told. */
struct errand {
    struct list node;
    char *kind, *target; /* target "": the daemon */
    char *variables[6];
};

struct hook {
    struct hooks *hooks;
    const char *name, *command, *kinds; /* borrowed from the settings */
    struct list queue;
    unsigned n_queued;
    struct work begin;

    struct errand *errand; /* the one that runs; NULL: none */
    struct child *child;
    struct watch *words; /* what it says */
    int words_fd;
    struct timer *patience;
    bool too_late;
    char line[LINE_BYTES], last[LINE_BYTES]; /* the line that is being read; the last whole one */
    size_t n;
};

struct news {
    uint64_t what, words; /* hashes; what: of kind and target */
    uint64_t due;
};

struct hooks {
    struct loop *loop;
    char *config_directory;
    struct event_listener events;
    struct hook *list;
    unsigned n;
    struct news news[NEWS_MAX]; /* the oldest makes room */
};

/* ---- what is news ---- */

static uint64_t hash(uint64_t h, const char *text, bool with_figures)
{
    for (; *text; text++)
        if (with_figures || *text < '0' || *text > '9')
            h = (h ^ (unsigned char)*text) * 0x100000001b3;
    return (h ^ 0xff) * 0x100000001b3;
}

static bool is_news(struct hooks *h, const struct event *e)
{
    const uint64_t start = 0xcbf29ce484222325;
    uint64_t what = hash(hash(start, e->kind, true), e->target ? e->target : "", true);
    uint64_t words = hash(hash(start, log_level_name(e->level), true), e->text, false);
    uint64_t now = clock_now_ms();
    struct news *at = &h->news[0];

    for (unsigned i = 0; i < NEWS_MAX; i++) {
        struct news *n = &h->news[i];

        if (n->due && n->what == what) {
            at = n;
            break;
        }
        if (n->due < at->due)
            at = n;
    }
    if (at->due && at->what == what && at->words == words && now - at->due < REPEAT_MS)
        return false;
    *at = (struct news){.what = what, .words = words, .due = MAX(now, (uint64_t)1)};
    return true;
}

/* ---- errands ---- */

static struct errand *errand_new(const struct hooks *h, const struct event *e)
{
    struct errand *r = xnew(struct errand);
    const char *target = e->target ? e->target : "";

    list_init(&r->node);
    r->kind = xstrdup(e->kind);
    r->target = xstrdup(target);
    r->variables[0] = xasprintf("LLMHOST_EVENT=%s", e->kind);
    r->variables[1] = xasprintf("LLMHOST_TARGET=%s", target);
    r->variables[2] = xasprintf("LLMHOST_LEVEL=%s", log_level_name(e->level));
    r->variables[3] = xasprintf("LLMHOST_TEXT=%s", e->text);
    r->variables[4] = xasprintf("LLMHOST_AT_MS=%" PRId64, e->at_ms);
    r->variables[5] = xasprintf("LLMHOST_CONFIG_DIRECTORY=%s", h->config_directory);
    return r;
}

static struct errand *errand_free(struct errand *r)
{
    if (!r)
        return NULL;
    list_remove(&r->node);
    free(r->kind);
    free(r->target);
    for (size_t i = 0; i < ELEMENTS(r->variables); i++)
        free(r->variables[i]);
    free(r);
    return NULL;
}

/* With its target in front, where others look for what happened to it. */
static void say(const struct hook *k, const struct errand *r, bool went_well, const char *how)
{
    event_publish(went_well ? LOG_LEVEL_INFO : LOG_LEVEL_WARNING, LOG_DAEMON, *r->target ? r->target : NULL,
                  went_well ? "hook_ran" : "hook_failed", "hook \"%s\" %s for %s%s%s%s", k->name,
                  went_well ? "ran" : "failed", r->kind, *r->target ? " " : "", r->target, how);
}

/* ---- one run ---- */

static void hook_hear(struct hook *k, const char *text, size_t n)
{
    for (; n > 0; n--, text++) {
        if (*text == '\n' && k->n > 0) {
            k->line[k->n] = '\0';
            memcpy(k->last, k->line, sizeof k->last);
            k->n = 0;
        } else if ((unsigned char)*text >= ' ' && *text != 0x7f && k->n < sizeof k->line - 1) {
            k->line[k->n++] = *text;
        }
    }
}

static bool hook_read(struct hook *k)
{
    char text[4096];
    ssize_t n = read(k->words_fd, text, sizeof text);

    if (n > 0)
        hook_hear(k, text, (size_t)n);
    else if (n == 0 || errno != EAGAIN)
        watch_want(k->words, 0);
    return n > 0;
}

static void hook_on_words(void *ctx, unsigned events)
{
    (void)events;
    hook_read(ctx);
}

static void hook_reset(struct hook *k)
{
    k->child = child_free(k->child);
    k->words = watch_free(k->words, true);
    timer_disarm(k->patience);
    k->errand = errand_free(k->errand);
    k->too_late = false;
    k->n = 0;
    *k->line = *k->last = '\0';
}

static void hook_next(struct hook *k)
{
    if (!k->errand && !list_is_empty(&k->queue))
        runq_add(k->hooks->loop, &k->begin);
}

static void hook_on_exit(void *ctx, int status)
{
    struct hook *k = ctx;
    char how[LINE_BYTES + 80];
    const char *colon;

    for (int i = 0; i < 16 && hook_read(k);
         i++) /* what it said last; one that it left behind may say more for ever */
        ;
    hook_hear(k, "\n", 1);
    colon = *k->last ? ": " : "";
    if (k->too_late)
        snprintf(how, sizeof how, ": it ran for longer than %d s and was killed%s%s", TIME_MS / 1000, colon,
                 k->last);
    else if (WIFSIGNALED(status))
        snprintf(how, sizeof how, ": it was killed by signal %d%s%s", WTERMSIG(status), colon, k->last);
    else if (WEXITSTATUS(status))
        snprintf(how, sizeof how, ", exit %d%s%s", WEXITSTATUS(status), colon, k->last);
    else
        snprintf(how, sizeof how, ", exit 0");
    say(k, k->errand, !k->too_late && status == 0, how);
    hook_reset(k);
    hook_next(k);
}

static void hook_on_patience(void *ctx)
{
    struct hook *k = ctx;

    k->too_late = true;
    child_kill(k->child, SIGKILL);
}

static int hook_start(struct hook *k)
{
    const char *const argv[] = {k->command, NULL};
    const char *variables[ELEMENTS(k->errand->variables) + 1] = {0};
    struct child_spec spec = {.argv = argv, .besides = variables, .in = -1};
    int theirs, r = child_pipe_new(&k->words_fd, &theirs);

    if (r < 0)
        return r;
    for (size_t i = 0; i < ELEMENTS(k->errand->variables); i++)
        variables[i] = k->errand->variables[i];
    spec.out = spec.err = theirs;
    k->words = watch_new(k->hooks->loop, k->words_fd, hook_on_words, k);
    watch_want(k->words, WATCH_IN);
    r = child_spawn(k->hooks->loop, &spec, hook_on_exit, k, &k->child);
    close(theirs);
    if (r == 0)
        timer_arm(k->patience, TIME_MS);
    return r;
}

static void hook_begin(void *ctx)
{
    struct hook *k = ctx;
    char how[120];
    int r;

    if (k->errand || !(k->errand = LIST_FIRST(&k->queue, struct errand, node)))
        return;
    list_remove(&k->errand->node);
    k->n_queued--;
    r = hook_start(k);
    if (r == 0)
        return;
    snprintf(how, sizeof how, ": it cannot be started: %s", strerror(-r));
    say(k, k->errand, false, how);
    hook_reset(k);
    hook_next(k);
}

static void hook_queue(struct hook *k, const struct event *e)
{
    struct errand *oldest = LIST_FIRST(&k->queue, struct errand, node);

    if (k->n_queued == QUEUE_MAX) {
        list_remove(&oldest->node);
        k->n_queued--;
    } else
        oldest = NULL;
    struct errand *r = errand_new(k->hooks, e);

    list_append(&k->queue, &r->node);
    k->n_queued++;
    hook_next(k);
    if (oldest)
        say(k, oldest, false, ": too many wait for it, and this was the oldest");
    errand_free(oldest);
}

/* ---- all of them ---- */

static bool is_of_a_hook(const struct event *e)
{
    return streq(e->kind, "hook_ran") || streq(e->kind, "hook_failed");
}

static bool is_wanted(const struct hooks *h, const char *kind)
{
    for (unsigned i = 0; i < h->n; i++)
        if (event_is_in(h->list[i].kinds, kind))
            return true;
    return false;
}

static void hooks_on_event(void *ctx, const struct event *e)
{
    struct hooks *h = ctx;

    if (is_of_a_hook(e) || !is_wanted(h, e->kind) || !is_news(h, e))
        return;
    for (unsigned i = 0; i < h->n; i++)
        if (event_is_in(h->list[i].kinds, e->kind))
            hook_queue(&h->list[i], e);
}

/* An empty command: it is not run, as a later file may want. */
static void hook_init(struct hook *k, struct hooks *h, const struct settings *s, const char *name)
{
    _cleanup_free_ char *section = xasprintf("hook.%s", name);

    k->hooks = h;
    k->name = name;
    k->command = settings_text(s, section, "command");
    k->kinds = k->command ? settings_text(s, section, "events") : "";
    list_init(&k->queue);
    work_init(&k->begin, hook_begin, k);
    k->patience = timer_new(h->loop, hook_on_patience, k);
}

static void hook_done(struct hook *k)
{
    runq_drop(&k->begin);
    hook_reset(k);
    LIST_FOREACH_SAFE (r, &k->queue, struct errand, node)
        errand_free(r);
    k->patience = timer_free(k->patience);
}

struct hooks *hooks_new(struct loop *loop, const struct settings *settings, const char *config_directory)
{
    struct hooks *h = xnew(struct hooks);

    h->loop = loop;
    h->config_directory = xstrdup(config_directory);
    while (settings_hook_at(settings, h->n))
        h->n++;
    h->list = xalloc(MAX(h->n, 1u) * sizeof *h->list);
    for (unsigned i = 0; i < h->n; i++)
        hook_init(&h->list[i], h, settings, settings_hook_at(settings, i));
    h->events = (struct event_listener){.heard = hooks_on_event, .ctx = h};
    event_listen(&h->events);
    return h;
}

struct hooks *hooks_free(struct hooks *h)
{
    if (!h)
        return NULL;
    event_unlisten(&h->events);
    for (unsigned i = 0; i < h->n; i++)
        hook_done(&h->list[i]);
    free(h->list);
    free(h->config_directory);
    free(h);
    return NULL;
}
