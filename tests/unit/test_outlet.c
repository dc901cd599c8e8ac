#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/outlet.h"
#include "proto/mem.h"

static struct log_entry entry(const char *text)
{
    return (struct log_entry){
        .level = LOG_LEVEL_INFO, .source = LOG_SESSION, .target = "gz-4090", .text = text};
}

static void say(struct outlet *o, const char *text)
{
    struct log_entry e = entry(text);

    outlet_write(o, &e);
}

/* What can be read from fd now, up to the end of a buffer. */
static const char *caught(int fd)
{
    static char text[1 << 18];
    size_t n = 0;
    ssize_t r;

    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (n < sizeof(text) - 1 && (r = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
        n += (size_t)r;
    text[n] = '\0';
    return text;
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;

    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        n++;
    return n;
}

/* Every line is whole, and none stands twice. Returns how many there are. */
static unsigned check_lines(char *text)
{
    unsigned n = 0, last = 0, number;

    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *word = strstr(line, "gz-4090: line ");

        if (!word)
            continue;
        cr_assert_eq(sscanf(word, "gz-4090: line %u of many", &number), 1, "%s", line);
        cr_assert_str_eq(strrchr(line, ' '), " many", "%s", line);
        cr_assert(n == 0 || number > last);
        last = number;
        n++;
    }
    return n;
}

static void say_many(struct outlet *o, unsigned from, unsigned n)
{
    char text[64];

    for (unsigned i = from; i < from + n; i++) {
        snprintf(text, sizeof(text), "line %u of many", i);
        say(o, text);
    }
}

/* A write that blocks would hang here for ever. */
static void a_reader_that_stops(int theirs, int ours)
{
    struct outlet *o = outlet_new(ours, NULL);
    _cleanup_free_ char *first = NULL, *second = NULL;
    unsigned written, missing = 0;

    say_many(o, 0, 20000);
    cr_assert_eq(fcntl(ours, F_GETFL) & O_NONBLOCK, 0, "others share this file");
    first = xstrdup(caught(theirs));
    say_many(o, 20000, 2);
    second = xstrdup(caught(theirs));
    cr_assert_eq(count(first, "missing here"), 0);
    cr_assert_eq(count(second, "missing here"), 1, "%s", second);
    cr_assert_eq(sscanf(strstr(second, "daemon  ") + 8, "%u lines are missing here", &missing), 1, "%s",
                 second);
    written = check_lines(first);
    cr_assert_gt(written, 20);
    cr_assert_eq(written + missing, 20000);
    cr_assert_eq(check_lines(second), 2, "and it goes on");
    outlet_free(o);
}

Test(outlet, a_pipe_that_nobody_reads_stops_nothing, .timeout = 20)
{
    int fds[2];

    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    a_reader_that_stops(fds[0], fds[1]);
}

Test(outlet, a_socket_that_nobody_reads_stops_nothing, .timeout = 20)
{
    int fds[2];

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    a_reader_that_stops(fds[0], fds[1]);
}

Test(outlet, a_terminal_that_was_stopped_stops_nothing, .timeout = 20)
{
    int theirs = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), ours;

    cr_assert(theirs >= 0 && grantpt(theirs) == 0 && unlockpt(theirs) == 0);
    ours = open(ptsname(theirs), O_RDWR | O_NOCTTY | O_CLOEXEC);
    cr_assert_geq(ours, 0);

    struct outlet *o = outlet_new(ours, NULL);

    say_many(o, 0, 20000);
    cr_assert_gt(count(caught(theirs), "of many"), 20);
    say_many(o, 20000, 1);
    cr_assert_eq(count(caught(theirs), "are missing here"), 1);
    outlet_free(o);
}

Test(outlet, a_reader_that_is_gone_and_a_full_disk_stop_nothing, .timeout = 20)
{
    int fds[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    struct outlet *o;

    signal(SIGPIPE, SIG_IGN);
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);
    close(fds[0]);
    o = outlet_new(fds[1], NULL);
    say_many(o, 0, 10);
    outlet_free(o);
    o = outlet_new(full, NULL);
    say_many(o, 0, 10);
    outlet_free(o);
}

Test(outlet, a_file_is_appended_to_where_it_was)
{
    FILE *f = tmpfile();
    struct outlet *o = outlet_new(fileno(f), NULL);
    char text[256] = "";

    cr_assert_eq(write(fileno(f), "before\n", 7), 7);
    say(o, "one");
    cr_assert_eq(write(fileno(f), "after\n", 6), 6);
    cr_assert_gt(pread(fileno(f), text, sizeof(text) - 1, 0), 0);
    cr_assert_eq(strncmp(text, "before\n", 7), 0);
    cr_assert_not_null(strstr(text, " gz-4090: one\nafter\n"), "%s", text);
    outlet_free(o);
    fclose(f);
}

Test(outlet, a_very_long_line_is_cut_and_stays_one_valid_line)
{
    char *text = xalloc(4096);
    const char *line;
    int fds[2];

    for (size_t i = 0; i + 3 < 4096; i += 3)
        memcpy(text + i, "\xe6\x9a\x82", 3);
    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);

    struct outlet *o = outlet_new(fds[1], NULL);

    say(o, text);
    line = caught(fds[0]);
    cr_assert_leq(strlen(line), 4096);
    cr_assert_eq(strchr(line, '\n'), line + strlen(line) - 1);
    cr_assert_eq((strlen(strstr(line, "gz-4090: ")) - strlen("gz-4090: ") - 1) % 3, 0);
    outlet_free(o);
    free(text);
}

/* ---- the journal ---- */

struct journald {
    char path[80];
    int fd, stream; /* stream: standard error as journald gives it to services */
    struct outlet *o;
};

static int journald_socket(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
    unlink(path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    return fd;
}

static struct journald journald_start(void)
{
    struct journald j = {};
    char value[64];
    struct stat st;
    int fds[2];

    snprintf(j.path, sizeof(j.path), "/tmp/test_outlet.%d", (int)getpid());
    j.fd = journald_socket(j.path);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    j.stream = fds[0];
    fstat(fds[1], &st);
    snprintf(value, sizeof(value), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", value, 1);
    j.o = outlet_new(fds[1], j.path);
    return j;
}

static void journald_stop(struct journald *j)
{
    outlet_free(j->o);
    unlink(j->path);
}

static const char *journald_got(const struct journald *j)
{
    static char text[8192];
    ssize_t n = recv(j->fd, text, sizeof(text) - 1, MSG_DONTWAIT);

    text[MAX(n, 0)] = '\0';
    return text;
}

Test(outlet, under_journald_lines_have_their_fields)
{
    struct journald j = journald_start();
    struct log_entry e = entry("out of memory");

    e.level = LOG_LEVEL_WARNING;
    outlet_write(j.o, &e);
    cr_assert_str_eq(journald_got(&j),
                     "MESSAGE=gz-4090: out of memory\nPRIORITY=4\nSYSLOG_IDENTIFIER=llmhostd\n"
                     "LLMHOST_SOURCE=session\nLLMHOST_INSTANCE=gz-4090\n");
    e.target = "ollama:deepseek-r1:7b";
    e.event = "failed";
    e.message_id = "0123";
    outlet_write(j.o, &e);
    cr_assert_str_eq(strstr(journald_got(&j), "LLMHOST_SOURCE"),
                     "LLMHOST_SOURCE=session\nLLMHOST_MODEL=ollama:deepseek-r1:7b\nLLMHOST_EVENT="
                     "failed\nMESSAGE_ID=0123\n");
    e = entry("no target");
    e.target = "";
    outlet_write(j.o, &e);
    cr_assert_not_null(strstr(journald_got(&j), "MESSAGE=no target\n"));
    cr_assert_str_eq(caught(j.stream), "", "once is enough");
    journald_stop(&j);
}

Test(outlet, a_journal_that_does_not_read_stops_nothing_and_is_told_later, .timeout = 20)
{
    struct journald j = journald_start();
    unsigned got = 0, missing = 0;
    const char *text;

    say_many(j.o, 0, 5000);
    cr_assert_str_eq(caught(j.stream), "", "the stream leads to the same journald, and could block as well");
    while (*journald_got(&j))
        got++;
    say_many(j.o, 5000, 1);
    text = journald_got(&j);
    cr_assert_eq(sscanf(text, "MESSAGE=%u lines are missing here", &missing), 1, "%s", text);
    cr_assert_eq(got + missing, 5000);
    cr_assert_not_null(strstr(journald_got(&j), "line 5000 of many"));
    journald_stop(&j);
}

Test(outlet, a_journald_that_was_started_again_is_found_and_the_stream_is_the_second_way)
{
    struct journald j = journald_start();

    say(j.o, "one");
    cr_assert_not_null(strstr(journald_got(&j), "one"));
    close(j.fd);
    say(j.o, "two");
    cr_assert_eq(strncmp(caught(j.stream), "<6>", 3), 0);
    j.fd = journald_socket(j.path);
    say(j.o, "three");
    cr_assert_not_null(strstr(journald_got(&j), "three"));
    journald_stop(&j);
}

Test(outlet, a_journal_stream_that_is_not_ours_is_not_the_journal)
{
    struct journald j = journald_start();
    int fds[2];

    cr_assert_eq(pipe2(fds, O_CLOEXEC), 0);

    struct outlet *o = outlet_new(fds[1], j.path);

    say(o, "plain");
    cr_assert_not_null(strstr(caught(fds[0]), " gz-4090: plain\n"));
    cr_assert_str_eq(journald_got(&j), "");
    outlet_free(o);
    journald_stop(&j);
}
