#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/mem.h"

/* stderr as a pipe, read back. */
static int catch_stderr(void)
{
    int fds[2];

    cr_assert_eq(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
    dup2(fds[1], STDERR_FILENO);
    close(fds[1]);
    return fds[0];
}

static const char *caught(int fd)
{
    static char text[16384];
    ssize_t n = read(fd, text, sizeof(text) - 1);

    text[MAX(n, 0)] = '\0';
    return text;
}

struct seen {
    unsigned n;
    uint64_t first, last;
    char text[64], target[32];
    enum log_level level;
    enum log_source source;
    size_t bytes;
    unsigned stop_after;
};

static bool see(void *ctx, const struct log_entry *e)
{
    struct seen *s = ctx;

    if (s->n++ == 0)
        s->first = e->number;
    else
        cr_assert_eq(e->number, s->last + 1, "in order and without gaps");
    s->last = e->number;
    s->level = e->level;
    s->source = e->source;
    s->bytes += strlen(e->text);
    snprintf(s->text, sizeof(s->text), "%s", e->text);
    snprintf(s->target, sizeof(s->target), "%s", e->target);
    return s->n != s->stop_after;
}

Test(log, before_it_is_opened_lines_go_to_stderr_only)
{
    int fd = catch_stderr();
    struct seen s = {0};

    log_notice(NULL, "early");
    cr_assert_not_null(strstr(caught(fd), "early"));
    log_read(0, see, &s);
    cr_assert_eq(s.n, 0);
    log_close();
}

Test(log, a_line_on_stderr_has_time_level_source_and_target)
{
    int fd = catch_stderr();
    unsigned hour, minute, second, ms;
    const char *line;

    unsetenv("JOURNAL_STREAM");
    log_open(LOG_LEVEL_INFO);
    log_notice("gz-4090", "up, %d requests had waited", 2);
    line = caught(fd);
    cr_assert_eq(sscanf(line, "%2u:%2u:%2u.%3u", &hour, &minute, &second, &ms), 4, "%s", line);
    cr_assert_str_eq(line + 12, " notice  daemon  gz-4090: up, 2 requests had waited\n");
    log_line(LOG_LEVEL_WARNING, LOG_PROVIDER, NULL, "slow");
    cr_assert_str_eq(caught(fd) + 12, " warning provider slow\n");
    log_close();
}

Test(log, what_is_above_the_level_goes_nowhere)
{
    int fd = catch_stderr();
    struct seen s = {0};

    log_open(LOG_LEVEL_NOTICE);
    log_info("x", "hidden");
    log_debug("x", "hidden");
    cr_assert_str_eq(caught(fd), "");
    cr_assert_eq(log_next_number(), 0);
    log_err("x", "shown");
    log_read(0, see, &s);
    cr_assert_eq(s.n, 1);
    cr_assert_str_eq(s.text, "shown");
    cr_assert_eq(s.level, LOG_LEVEL_ERR);
    log_close();
}

Test(log, text_from_outside_cannot_forge_lines)
{
    int fd = catch_stderr();
    const char *line;
    struct seen s = {0};

    log_open(LOG_LEVEL_INFO);
    log_info("a\nb", "one\n12:00:00.000 err daemon two\x1b[2J\xff\xfe");
    line = caught(fd);
    cr_assert_eq(strchr(line, '\n'), line + strlen(line) - 1, "%s", line);
    cr_assert_null(strchr(line, 0x1b));
    log_read(0, see, &s);
    cr_assert_eq(s.n, 1);
    cr_assert_null(strpbrk(s.target, "\n"));
    log_close();
}

Test(log, a_long_line_is_cut_and_stays_valid)
{
    char *text = xalloc(20001);
    struct seen s = {0};

    catch_stderr();
    log_open(LOG_LEVEL_INFO);
    for (size_t i = 0; i + 3 <= 20000; i += 3)
        memcpy(text + i, "\xe6\x9a\x82", 3);
    log_info(NULL, "%s", text);
    log_read(0, see, &s);
    cr_assert_eq(s.n, 1);
    cr_assert_geq(s.bytes, 4000);
    cr_assert_leq(s.bytes, 4095);
    cr_assert_eq(s.bytes % 3, 0);
    free(text);
    log_close();
}

Test(log, the_ring_gives_lines_from_a_number_on_until_told_to_stop)
{
    struct seen s = {0}, two = {.stop_after = 2}, beyond = {0};

    catch_stderr();
    log_open(LOG_LEVEL_INFO);
    for (int i = 0; i < 10; i++)
        log_line(LOG_LEVEL_INFO, LOG_SESSION, "box", "line %d", i);
    cr_assert_eq(log_next_number(), 10);
    log_read(7, see, &s);
    cr_assert_eq(s.n, 3);
    cr_assert_eq(s.first, 7);
    cr_assert_str_eq(s.text, "line 9");
    cr_assert_str_eq(s.target, "box");
    cr_assert_eq(s.source, LOG_SESSION);
    log_read(2, see, &two);
    cr_assert_eq(two.n, 2);
    cr_assert_eq(two.first, 2);
    log_read(10, see, &beyond);
    log_read(UINT64_MAX, see, &beyond);
    cr_assert_eq(beyond.n, 0);
    log_close();
}

/* Lines of many lengths, far more than the ring holds: the newest are there, none is torn, and memory is
 * bounded. */
Test(log, the_ring_forgets_the_oldest)
{
    static char filler[3000];
    struct seen s = {0}, tail = {0};

    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    memset(filler, 'f', sizeof(filler) - 1);
    log_open(LOG_LEVEL_INFO);
    srand(3);
    for (int i = 0; i < 20000; i++) {
        log_info("t", "%d %.*s", i, rand() % 3000, filler);
        if (i % 1000 == 0) {
            s = (struct seen){0};
            log_read(0, see, &s);
            cr_assert_eq(s.last, (uint64_t)i);
            cr_assert_eq(atoi(s.text), i);
            cr_assert_leq(s.bytes, 4u << 20);
        }
    }
    cr_assert_gt(s.first, 0, "the first were forgotten");
    cr_assert_geq(s.bytes, 4000000, "and no more than needed");
    log_read(19990, see, &tail);
    cr_assert_eq(tail.n, 10);
    log_close();
}

static bool see_and_log(void *ctx, const struct log_entry *e)
{
    char before[256];

    snprintf(before, sizeof(before), "%.200s", e->text);
    for (int i = 0; i < 50; i++)
        log_info(NULL, "%s", "much more, so that the oldest is overwritten while it is being read");
    cr_assert_eq(strncmp(before, e->text, 200), 0);
    ++*(unsigned *)ctx;
    return true;
}

Test(log, a_reader_may_log)
{
    unsigned n = 0;

    dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);
    log_open(LOG_LEVEL_INFO);
    for (int i = 0; i < 40000; i++)
        log_info(NULL, "line %d with enough behind it to fill the ring in a while, and then some more", i);
    log_read(0, see_and_log, &n);
    cr_assert_gt(n, 100);
    cr_assert_leq(n, 40000);
    log_close();
}

struct counter {
    struct log_follower follower;
    unsigned n;
    bool logs, leaves;
};

static void on_added(void *ctx)
{
    struct counter *c = ctx;

    c->n++;
    if (c->logs)
        log_info(NULL, "from a follower");
    if (c->leaves)
        log_unfollow(&c->follower);
}

Test(log, followers_are_told_after_each_line_until_they_leave)
{
    struct counter stays = {.logs = true}, leaves = {.leaves = true};

    catch_stderr();
    log_open(LOG_LEVEL_INFO);
    stays.follower = (struct log_follower){.added = on_added, .ctx = &stays};
    leaves.follower = (struct log_follower){.added = on_added, .ctx = &leaves};
    log_follow(&stays.follower);
    log_follow(&leaves.follower);
    log_info(NULL, "one");
    log_debug(NULL, "not written, not told");
    log_info(NULL, "two");
    cr_assert_eq(stays.n, 2, "and not of its own lines");
    cr_assert_eq(leaves.n, 1);
    cr_assert_eq(log_next_number(), 4);
    log_unfollow(&stays.follower);
    log_unfollow(&stays.follower);
    log_info(NULL, "three");
    cr_assert_eq(stays.n, 2);
    log_close();
}

Test(log, names)
{
    cr_assert_str_eq(log_source_name(LOG_PROVIDER), "provider");
    cr_assert_str_eq(log_source_name((enum log_source)99), "?");
    cr_assert_str_eq(log_level_name(LOG_LEVEL_ERR), "err");
    cr_assert_str_eq(log_level_name((enum log_level)0), "?");
}
