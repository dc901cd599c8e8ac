#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "proto/mem.h"

struct ear {
    struct event_listener listener;
    unsigned heard;
    char kind[32], text[64], target[32];
    struct ear *unlisten; /* whom it removes when it hears something */
    bool publishes;
};

static char order[32];

static void on_event(void *ctx, const struct event *e)
{
    struct ear *ear = ctx;

    ear->heard++;
    snprintf(ear->kind, sizeof(ear->kind), "%s", e->kind);
    snprintf(ear->text, sizeof(ear->text), "%s", e->text);
    snprintf(ear->target, sizeof(ear->target), "%s", e->target ? e->target : "");
    cr_assert_leq(llabs(e->at_ms - clock_wall_ms()), 5000);
    strncat(order, ear->publishes ? "p" : "e", sizeof(order) - strlen(order) - 1);
    if (ear->unlisten)
        event_unlisten(&ear->unlisten->listener);
    if (ear->publishes && ear->heard == 1)
        event_publish(LOG_LEVEL_INFO, LOG_DAEMON, NULL, "inner", "inside");
}

static void listen_with(struct ear *e)
{
    e->listener = (struct event_listener){.heard = on_event, .ctx = e};
    event_listen(&e->listener);
}

static void quiet(void)
{
    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    log_open(LOG_LEVEL_INFO);
}

static bool see(void *ctx, const struct log_entry *e)
{
    snprintf(ctx, 128, "%s|%s|%s|%s", log_level_name(e->level), log_source_name(e->source), e->target,
             e->text);
    return true;
}

Test(event, is_a_line_of_the_log_and_heard_by_all)
{
    struct ear a = {0}, b = {0};
    char line[128] = "";

    quiet();
    listen_with(&a);
    listen_with(&b);
    event_publish(LOG_LEVEL_NOTICE, LOG_SESSION, "gz-4090", "tunnel_restored", "%.1fs after resume", 0.6);
    cr_assert_eq(a.heard, 1);
    cr_assert_str_eq(b.kind, "tunnel_restored");
    cr_assert_str_eq(b.text, "0.6s after resume");
    cr_assert_str_eq(b.target, "gz-4090");
    log_read(0, see, line);
    cr_assert_str_eq(line, "notice|session|gz-4090|0.6s after resume");
    event_unlisten(&a.listener);
    event_publish(LOG_LEVEL_INFO, LOG_DAEMON, NULL, "started", "hello");
    cr_assert_eq(a.heard, 1);
    cr_assert_eq(b.heard, 2);
    cr_assert_str_eq(b.target, "");
    event_unlisten(&a.listener);
    event_unlisten(&b.listener);
    log_close();
}

Test(event, is_heard_even_when_its_level_is_not_logged)
{
    struct ear a = {0};

    quiet();
    log_open(LOG_LEVEL_ERR);
    listen_with(&a);
    event_publish(LOG_LEVEL_INFO, LOG_DAEMON, NULL, "ready", "ready");
    cr_assert_eq(a.heard, 1);
    cr_assert_eq(log_next_number(), 0);
    event_unlisten(&a.listener);
    log_close();
}

Test(event, a_listener_may_leave_while_told)
{
    struct ear a = {0}, b = {0};

    quiet();
    a.unlisten = &a;
    listen_with(&a);
    listen_with(&b);
    for (int i = 0; i < 2; i++)
        event_publish(LOG_LEVEL_INFO, LOG_DAEMON, NULL, "x", "x");
    cr_assert_eq(a.heard, 1);
    cr_assert_eq(b.heard, 2);
    event_unlisten(&b.listener);
    log_close();
}

Test(event, a_listener_may_take_the_next_one_out)
{
    struct ear a = {0}, b = {0}, c = {0};

    quiet();
    a.unlisten = &b;
    listen_with(&a);
    listen_with(&b);
    listen_with(&c);
    event_publish(LOG_LEVEL_INFO, LOG_DAEMON, NULL, "x", "x");
    cr_assert_eq(a.heard, 1);
    cr_assert_eq(b.heard, 0);
    cr_assert_eq(c.heard, 1);
    event_unlisten(&a.listener);
    event_unlisten(&c.listener);
    log_close();
}

Test(event, one_published_by_a_listener_is_told_whole_also_when_somebody_leaves_in_it)
{
    struct ear a = {.publishes = true}, b = {0}, c = {0};

    quiet();
    b.unlisten = &b;
    listen_with(&a);
    listen_with(&b);
    listen_with(&c);
    event_publish(LOG_LEVEL_INFO, LOG_DAEMON, NULL, "outer", "outside");
    cr_assert_eq(a.heard, 2);
    cr_assert_eq(b.heard, 1, "of the inner one, and gone before the outer one came to it");
    cr_assert_eq(c.heard, 2);
    cr_assert_str_eq(c.kind, "outer");
    cr_assert_str_eq(order, "ppeee");
    event_unlisten(&a.listener);
    event_unlisten(&c.listener);
    log_close();
}

Test(event, those_that_page_someone_have_a_page_in_the_catalog_and_no_page_is_left_over)
{
    static const char *const paging[] = {"tunnel_refused",     "failed",  "port_taken", "state_not_written",
                                         "stop_not_confirmed", "no_guard"};
    FILE *f = fopen(SOURCE_DIR "/units/llmhostd.catalog", "re");
    char line[256], id[40];
    unsigned pages = 0, known = 0;

    cr_assert_not_null(f);
    while (fgets(line, sizeof(line), f))
        if (sscanf(line, "-- %32[0-9a-f]", id) == 1) {
            pages++;
            for (size_t i = 0; i < ELEMENTS(paging); i++)
                known += streq(event_message_id(paging[i]), id);
        }
    fclose(f);
    cr_assert_eq(known, ELEMENTS(paging));
    cr_assert_eq(pages, ELEMENTS(paging));
    cr_assert_null(event_message_id("ready"));
}

Test(event, lists_of_kinds_are_read)
{
    cr_assert(event_is_in("ready, no_guard", "no_guard"));
    cr_assert(event_is_in(" ready\tno_guard ", "ready"));
    cr_assert(event_is_in("ready all", "no_guard"));
    cr_assert(!event_is_in("ready, no_guard", "no_guar"));
    cr_assert(!event_is_in("ready, no_guar", "no_guard"));
    cr_assert(!event_is_in("", "ready"));
    cr_assert(event_is_in(EVENT_KINDS_PAGING, "failed"));
}

/* A hook of a kind that is never published would wait for ever; one that is not in the manual is not found.
 */
Test(event, known_kinds_are_those_of_the_manual)
{
    static char manual[65536], named[8192];
    FILE *f = fopen(SOURCE_DIR "/daemon/llmhostd.8", "re");
    char *at, *end;

    cr_assert_not_null(f);
    manual[fread(manual, 1, sizeof manual - 1, f)] = '\0';
    fclose(f);
    at = strstr(manual, "\n.SH EVENTS\n");
    cr_assert(at && (end = strstr(at + 5, "\n.SH ")));
    *end = '\0';
    for (; (at = strstr(at, "\n.TP\n.B")); at += strlen("\n.TP\n.B")) {
        char line[200];

        snprintf(line, sizeof line, "%s", at + strlen("\n.TP\n.B"));
        line[strcspn(line, "\n")] = '\0';
        for (char *word = strtok(strchr(line, ' '), " \","); word; word = strtok(NULL, " \",")) {
            cr_assert(event_is_known(word), "%s is in the manual", word);
            snprintf(strchr(named, '\0'), 60, "%s,", word);
        }
    }
    for (unsigned i = 0; event_kind_at(i); i++)
        cr_assert(event_is_in(named, event_kind_at(i)), "%s is not in the manual", event_kind_at(i));
}

Test(event, those_that_page_are_known)
{
    _cleanup_free_ char *kinds = xstrdup(EVENT_KINDS_PAGING);
    unsigned n = 0;

    for (char *kind = strtok(kinds, EVENT_BETWEEN); kind; kind = strtok(NULL, EVENT_BETWEEN), n++)
        cr_assert(event_is_known(kind), "%s", kind);
    cr_assert_eq(n, 14);
}
