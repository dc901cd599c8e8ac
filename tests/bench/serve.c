/* serve http PORT [WORKERS]     a model server that costs nothing: 1 KiB answers, event streams, /health, /v1/models
 * serve pipe PORT [WORKERS]     bytes: echo, as many as asked for, as many as come
 *
 * The far end of every bench. Each worker is a thread that accepts one connection, serves it to its end and
 * accepts the next, so that neither an event loop nor the start of a thread is in the figures. An event of a
 * stream carries the instant it was written at (CLOCK_MONOTONIC, ns, the same in all namespaces). */
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

#define ANSWER_BYTES  1024
#define REQUEST_BYTES 65536
#define STACK_BYTES   (256u << 10)
#define BULK_BYTES    (64u << 10)
#define WORKERS       64

static int listener;

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static bool put(int fd, const void *data, size_t n)
{
    const char *p = data;

    while (n > 0) {
        ssize_t done = send(fd, p, n, MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return false;
        p += done;
        n -= (size_t)done;
    }
    return true;
}

/* Reads one request, its body included, into text. False at the end of the connection. */
static bool http_read(int fd, char *text, size_t *used)
{
    size_t n = *used;

    for (;;) {
        char *end, *length;
        size_t body = 0, head;
        ssize_t more;

        text[n] = '\0';
        end = strstr(text, "\r\n\r\n");
        if (end) {
            head = (size_t)(end - text) + 4;
            length = strcasestr(text, "content-length:");
            if (length && length < end)
                body = strtoul(length + 15, NULL, 10);
            if (n >= head + body) {
                *used = n - head - body;
                return true;
            }
        }
        more = n < REQUEST_BYTES ? recv(fd, text + n, REQUEST_BYTES - n, 0) : 0;
        if (more <= 0)
            return false;
        n += (size_t)more;
    }
}

static bool http_answer(int fd, const char *body, size_t n)
{
    char text[ANSWER_BYTES + 256];
    int head = snprintf(text, sizeof text,
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", n);

    memcpy(text + head, body, n);
    return put(fd, text, (size_t)head + n);
}

static bool http_completion(int fd)
{
    char body[ANSWER_BYTES];
    int n = snprintf(body, sizeof body, "{\"object\":\"chat.completion\",\"choices\":[{\"message\":{\"content\":\"");

    memset(body + n, 'x', sizeof body - (size_t)n);
    memcpy(body + sizeof body - 5, "\"}}]}", 5);
    return http_answer(fd, body, sizeof body);
}

/* COUNT events, one each PERIOD_US, each a chunk of its own. */
static bool http_stream(int fd, long count, long period_us)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    static const char done[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
    int64_t due = now_ns();

    if (!put(fd, head, sizeof head - 1))
        return false;
    for (long i = 0; i < count; i++) {
        struct timespec t = {due / 1000000000, due % 1000000000};
        char event[128], chunk[160];
        int n;

        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        due += period_us * 1000;
        n = snprintf(event, sizeof event, "data: {\"choices\":[{\"delta\":{\"content\":\"<%lld>\"}}]}\n\n",
                     (long long)now_ns());
        n = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", (unsigned)n, event);
        if (!put(fd, chunk, (size_t)n))
            return false;
    }
    return put(fd, done, sizeof done - 1);
}

static long number_after(const char *text, const char *key, long otherwise)
{
    const char *p = strstr(text, key);

    return p ? strtol(p + strlen(key), NULL, 10) : otherwise;
}

/* False: the connection is over, by what was asked for or by itself. */
static bool http_serve(int fd, const char *request)
{
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"meta\":{\"n_ctx\":8192,\"size\":1048576}}]}";

    if (strncmp(request, "GET /health", 11) == 0)
        return http_answer(fd, "{\"status\":\"ok\"}", 15);
    if (strncmp(request, "GET ", 4) == 0)
        return http_answer(fd, models, sizeof models - 1);
    if (strstr(request, "\"stream\":true"))
        return http_stream(fd, number_after(request, "\"max_tokens\":", 16),
                           number_after(request, "\"period_us\":", 1000));
    return http_completion(fd) && !strstr(request, "\r\nConnection: close\r\n");
}

static void http_connection(int fd)
{
    char *text = malloc(REQUEST_BYTES + 1);
    size_t used = 0, taken;

    while (text) {
        char kept;

        if (!http_read(fd, text, &used))
            break;
        taken = strlen(text) - used;
        kept = text[taken];
        text[taken] = '\0';
        if (!http_serve(fd, text))
            break;
        text[taken] = kept;
        memmove(text, text + taken, used);
    }
    free(text);
}

static bool pipe_send(int fd, uint64_t n, const char *buffer)
{
    while (n > 0) {
        size_t part = n < BULK_BYTES ? (size_t)n : BULK_BYTES;

        if (!put(fd, buffer, part))
            return false;
        n -= part;
    }
    return true;
}

static bool pipe_take(int fd, uint64_t n, char *buffer)
{
    while (n > 0) {
        ssize_t part = recv(fd, buffer, BULK_BYTES, 0);

        if (part <= 0)
            return false;
        n -= (uint64_t)part;
    }
    return put(fd, "!", 1);
}

/* The first nine bytes are the order: 'd' for down and 'u' for up with a count, 'e' for echo. */
static void pipe_connection(int fd)
{
    char buffer[BULK_BYTES], order[9];
    ssize_t n;
    uint64_t count;

    while (recv(fd, order, sizeof order, MSG_WAITALL) == sizeof order) {
        memcpy(&count, order + 1, sizeof count);
        if (order[0] == 'd') {
            if (!pipe_send(fd, count, memset(buffer, 'x', sizeof buffer)))
                return;
        } else if (order[0] == 'u') {
            if (!pipe_take(fd, count, buffer))
                return;
        } else {
            while ((n = recv(fd, buffer, sizeof buffer, 0)) > 0)
                if (!put(fd, buffer, (size_t)n))
                    return;
        }
    }
}

static void *worker(void *connection)
{
    void (*serve)(int fd) = (void (*)(int))(uintptr_t)connection;
    int one = 1;

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        if (fd < 0)
            continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        serve(fd);
        close(fd);
    }
    return NULL;
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0) {
        perror("serve");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    void (*serve)(int fd) = argc > 1 && strcmp(argv[1], "http") == 0 ? http_connection : pipe_connection;
    long workers = argc > 3 ? strtol(argv[3], NULL, 10) : WORKERS;
    pthread_attr_t attributes;

    if (argc < 3) {
        fputs("usage: serve http|pipe PORT [WORKERS]\n", stderr);
        return 2;
    }
    listener = listen_on((uint16_t)strtoul(argv[2], NULL, 10));
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    for (long i = 1; i < workers; i++) {
        pthread_t thread;

        if (pthread_create(&thread, &attributes, worker, (void *)(uintptr_t)serve) != 0)
            return 1;
    }
    puts("main: server is listening, main: model loaded");
    fflush(stdout);
    worker((void *)(uintptr_t)serve);
    return 0;
}
