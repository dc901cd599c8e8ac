/* load latency PORT COUNT keep|new [GAP_US]   a 1 KiB request after the other: p50_ms, p99_ms
 * load connections PORT COUNT CLIENTS http|echo  connect, ask, close: per_s
 * load requests PORT COUNT CLIENTS             the same, each client on one connection: per_s
 * load tokens PORT COUNT PERIOD_US             a stream: how long each event was under way: p50_ms, p99_ms
 * load streams PORT STREAMS COUNT PERIOD_US    so many at once: the times of the median and the slowest one, and the
 *                                              longest pause between two events of any: median_ms, slowest_ms, pause_ms
 * load bulk PORT up|down BYTES                 one stream: mb_per_s
 * load hold PORT COUNT                         opens COUNT, says "held", holds them until its input ends
 * load first PORT http|echo                    tries until a first byte is there: at_ns
 *
 * The near end of every bench, always against 127.0.0.1. Blocking sockets, one thread for each client: a
 * client that is itself an event loop would be measured too. The last line of output is a JSON object. $MODEL
 * names the model of a request. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BODY_BYTES   1024
#define ANSWER_BYTES 65536
#define STREAM_BYTES 16384
#define CLOSE        "Connection: close\r\n"
#define WARM_UP      20
#define GIVE_UP_S    30

static uint16_t port;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {GIVE_UP_S, 0};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static bool put(int fd, const void *data, size_t n)
{
    const char *p = data;

    while (n > 0) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

/* The far end closes first, as it does for HTTP/1.0 and for "Connection: close". */
static bool see_end(int fd)
{
    char scratch[4096];
    ssize_t n;

    do
        n = recv(fd, scratch, sizeof scratch, 0);
    while (n > 0);
    return n == 0;
}

/* A request with a body of BODY_BYTES. field: a header line or "". extra: members of the body, "" or ending in a comma. */
static size_t http_request(char *text, size_t size, const char *field, const char *extra)
{
    const char *model = getenv("MODEL") ? getenv("MODEL") : "bench";
    char body[BODY_BYTES + 1];
    int n = snprintf(body, sizeof body, "{\"model\":\"%s\",%s\"messages\":[{\"role\":\"user\",\"content\":\"", model, extra);

    memset(body + n, 'y', BODY_BYTES - (size_t)n);
    memcpy(body + BODY_BYTES - 4, "\"}]}", 5);
    return (size_t)snprintf(text, size,
                            "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                            "%sContent-Length: %d\r\n\r\n%s",
                            field, BODY_BYTES, body);
}

/* One whole answer with a Content-Length, which must be a 200. */
static bool http_answer(int fd)
{
    char text[ANSWER_BYTES + 1];
    size_t n = 0;

    for (;;) {
        ssize_t more = recv(fd, text + n, ANSWER_BYTES - n, 0);
        char *end, *length;

        if (more <= 0)
            return false;
        n += (size_t)more;
        text[n] = '\0';
        end = strstr(text, "\r\n\r\n");
        if (!end)
            continue;
        length = strcasestr(text, "content-length:");
        if (strncmp(text, "HTTP/1.1 200", 12) != 0 || !length) {
            fprintf(stderr, "load: %.400s\n", text);
            errno = EBADMSG;
            return false;
        }
        if (n >= (size_t)(end - text) + 4 + strtoul(length + 15, NULL, 10))
            return true;
    }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

static void print_times(int64_t *ns, size_t n)
{
    if (n == 0)
        fail("nothing was measured");
    qsort(ns, n, sizeof *ns, compare);
    printf("{\"n\":%zu,\"p50_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f}\n", n, (double)ns[n / 2] / 1e6,
           (double)ns[n * 99 / 100] / 1e6, (double)ns[n - 1] / 1e6);
}

static int do_latency(char **words, int n_words)
{
    size_t count = strtoul(words[0], NULL, 10), n = 0;
    bool keep = strcmp(words[1], "keep") == 0;
    long gap_us = n_words > 2 ? strtol(words[2], NULL, 10) : 0;
    int64_t *ns = calloc(count, sizeof *ns);
    char request[BODY_BYTES + 512];
    size_t bytes = http_request(request, sizeof request, keep ? "" : CLOSE, "");
    int fd = -1;

    for (size_t i = 0; ns && i < count + WARM_UP; i++) {
        int64_t begun = now_ns();

        if (fd < 0)
            fd = dial();
        if (fd < 0 || !put(fd, request, bytes) || !http_answer(fd) || (!keep && !see_end(fd)))
            fail("a request");
        if (i >= WARM_UP)
            ns[n++] = now_ns() - begun;
        if (!keep) {
            close(fd);
            fd = -1;
        }
        if (gap_us)
            usleep((useconds_t)gap_us);
    }
    print_times(ns, n);
    free(ns);
    return 0;
}

/* The order 'e' opens an echo; one byte goes there and back. */
static bool echo_once(int fd)
{
    char byte;

    return put(fd, "e\0\0\0\0\0\0\0\0x", 10) && recv(fd, &byte, 1, 0) == 1;
}

struct client {
    pthread_t thread;
    size_t count;
    bool http;
};

static void *client_run(void *ctx)
{
    struct client *c = ctx;
    char request[BODY_BYTES + 512];
    size_t bytes = http_request(request, sizeof request, CLOSE, "");

    for (size_t i = 0; i < c->count; i++) {
        int fd = dial();

        if (fd < 0 || !(c->http ? put(fd, request, bytes) && http_answer(fd) : echo_once(fd) && shutdown(fd, SHUT_WR) == 0) ||
            !see_end(fd))
            fail("a connection");
        close(fd);
    }
    return NULL;
}

static void *client_ask(void *ctx)
{
    struct client *c = ctx;
    char request[BODY_BYTES + 512];
    size_t bytes = http_request(request, sizeof request, "", "");
    int fd = dial();

    for (size_t i = 0; i < c->count; i++)
        if (fd < 0 || !put(fd, request, bytes) || !http_answer(fd))
            fail("a request");
    close(fd);
    return NULL;
}

static int run_clients(char **words, void *(*run)(void *), bool http)
{
    size_t count = strtoul(words[0], NULL, 10), clients = strtoul(words[1], NULL, 10);
    struct client *c = calloc(clients, sizeof *c);
    int64_t begun = now_ns();

    for (size_t i = 0; c && i < clients; i++) {
        c[i] = (struct client){.count = count / clients, .http = http};
        if (pthread_create(&c[i].thread, NULL, run, &c[i]) != 0)
            fail("a thread");
    }
    for (size_t i = 0; c && i < clients; i++)
        pthread_join(c[i].thread, NULL);
    printf("{\"per_s\":%.1f}\n", (double)(count / clients * clients) / ((double)(now_ns() - begun) / 1e9));
    free(c);
    return 0;
}

/* One stream to its last event; seen() is given how long each was under way, and the instant it came. */
static void read_stream(size_t count, const char *period_us, void (*seen)(void *ctx, int64_t under_way, int64_t now), void *ctx)
{
    size_t n = 0, used = 0;
    char request[BODY_BYTES + 512], extra[96], text[STREAM_BYTES + 1];
    int fd = dial();

    snprintf(extra, sizeof extra, "\"stream\":true,\"max_tokens\":%zu,\"period_us\":%s,", count, period_us);
    if (fd < 0 || !put(fd, request, http_request(request, sizeof request, "", extra)))
        fail("the request");
    while (n < count) {
        ssize_t more = recv(fd, text + used, STREAM_BYTES - used, 0);
        int64_t now = now_ns();
        char *from = text, *mark;

        if (more <= 0)
            fail("the stream");
        used += (size_t)more;
        text[used] = '\0';
        while (n < count && (mark = strchr(from, '<')) && strchr(mark, '>')) {
            seen(ctx, now - strtoll(mark + 1, NULL, 10), now);
            n++;
            from = strchr(mark, '>') + 1;
        }
        used -= (size_t)(from - text);
        memmove(text, from, used + 1);
    }
    close(fd);
}

struct times {
    int64_t *ns;
    size_t n;
};

static void times_add(void *ctx, int64_t under_way, int64_t now)
{
    struct times *t = ctx;

    (void)now;
    t->ns[t->n++] = under_way;
}

static int do_tokens(char **words)
{
    size_t count = strtoul(words[0], NULL, 10);
    struct times t = {.ns = calloc(count + 1, sizeof *t.ns)};

    if (!t.ns)
        fail("memory");
    read_stream(count, words[1], times_add, &t);
    print_times(t.ns, t.n);
    free(t.ns);
    return 0;
}

struct one_stream {
    pthread_t thread;
    size_t count;
    const char *period_us;
    int64_t begun, last, longest_pause, took;
};

static void stream_pause(void *ctx, int64_t under_way, int64_t now)
{
    struct one_stream *s = ctx;

    (void)under_way;
    if (s->last && now - s->last > s->longest_pause)
        s->longest_pause = now - s->last;
    s->last = now;
}

static void *stream_run(void *ctx)
{
    struct one_stream *s = ctx;

    s->begun = now_ns();
    read_stream(s->count, s->period_us, stream_pause, s);
    s->took = now_ns() - s->begun;
    return NULL;
}

static int do_streams(char **words)
{
    size_t n = strtoul(words[0], NULL, 10);
    struct one_stream *s = calloc(n, sizeof *s);
    int64_t *took = calloc(n, sizeof *took), pause = 0;
    pthread_attr_t small;

    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 256 << 10);
    for (size_t i = 0; s && i < n; i++) {
        s[i] = (struct one_stream){.count = strtoul(words[1], NULL, 10), .period_us = words[2]};
        if (pthread_create(&s[i].thread, &small, stream_run, &s[i]) != 0)
            fail("a thread");
    }
    for (size_t i = 0; s && took && i < n; i++) {
        pthread_join(s[i].thread, NULL);
        took[i] = s[i].took;
        pause = s[i].longest_pause > pause ? s[i].longest_pause : pause;
    }
    if (!s || !took || !n)
        fail("memory");
    qsort(took, n, sizeof *took, compare);
    printf("{\"median_ms\":%.1f,\"slowest_ms\":%.1f,\"pause_ms\":%.1f}\n", (double)took[n / 2] / 1e6,
           (double)took[n - 1] / 1e6, (double)pause / 1e6);
    free(s);
    free(took);
    return 0;
}

static int do_bulk(char **words)
{
    static char buffer[256 << 10];
    bool up = strcmp(words[0], "up") == 0;
    uint64_t count = strtoull(words[1], NULL, 10), left = count;
    char order[9] = {up ? 'u' : 'd'};
    int fd = dial();
    int64_t begun;

    memcpy(order + 1, &count, sizeof count);
    if (fd < 0 || !put(fd, order, sizeof order))
        fail("the connection");
    begun = now_ns();
    while (left > 0) {
        size_t part = left < sizeof buffer ? (size_t)left : sizeof buffer;
        ssize_t done = up ? send(fd, buffer, part, MSG_NOSIGNAL) : recv(fd, buffer, part, 0);

        if (done <= 0)
            fail("the transfer");
        left -= (uint64_t)done;
    }
    if (up && recv(fd, buffer, 1, 0) != 1)
        fail("the receipt");
    printf("{\"mb_per_s\":%.3f}\n", (double)count / 1e6 / ((double)(now_ns() - begun) / 1e9));
    close(fd);
    return 0;
}

static int do_hold(char **words)
{
    size_t count = strtoul(words[0], NULL, 10);
    char byte;

    for (size_t i = 0; i < count; i++) {
        int fd = dial();

        if (fd < 0 || !echo_once(fd))
            fail("a connection");
    }
    puts("held");
    fflush(stdout);
    while (read(0, &byte, 1) > 0)
        ;
    return 0;
}

/* A tunnel that is down refuses or closes; ours holds. */
static int do_first(char **words)
{
    bool http = strcmp(words[0], "http") == 0;
    char request[BODY_BYTES + 512];
    size_t bytes = http_request(request, sizeof request, "", "");
    int64_t begun = now_ns();

    while (now_ns() - begun < GIVE_UP_S * 1000000000LL) {
        int fd = dial();
        bool there = fd >= 0 && (http ? put(fd, request, bytes) && http_answer(fd) : echo_once(fd));
        int64_t at = now_ns();

        if (fd >= 0)
            close(fd);
        if (there) {
            printf("{\"at_ns\":%lld}\n", (long long)at);
            return 0;
        }
        usleep(1000);
    }
    errno = ETIMEDOUT;
    fail("a first byte");
    return 1;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";

    if (argc > 2)
        port = (uint16_t)strtoul(argv[2], NULL, 10);
    if (strcmp(verb, "latency") == 0 && argc >= 5)
        return do_latency(argv + 3, argc - 3);
    if (strcmp(verb, "connections") == 0 && argc == 6)
        return run_clients(argv + 3, client_run, strcmp(argv[5], "http") == 0);
    if (strcmp(verb, "requests") == 0 && argc == 5)
        return run_clients(argv + 3, client_ask, true);
    if (strcmp(verb, "tokens") == 0 && argc == 5)
        return do_tokens(argv + 3);
    if (strcmp(verb, "streams") == 0 && argc == 6)
        return do_streams(argv + 3);
    if (strcmp(verb, "bulk") == 0 && argc == 5)
        return do_bulk(argv + 3);
    if (strcmp(verb, "hold") == 0 && argc == 4)
        return do_hold(argv + 3);
    if (strcmp(verb, "first") == 0 && argc == 4)
        return do_first(argv + 3);
    fputs("usage: load latency|connections|requests|tokens|streams|bulk|hold|first PORT ...: see load.c\n", stderr);
    return 2;
}
