/* What the tests of requests share, beyond tests/fixture/gateway_world.h. */
#pragma once

#include "tests/fixture/gateway_world.h"

#define CHAT  "/v1/chat/completions"
#define MODEL "{\"model\":\"deepseek-r1:7b\"}"

#define STREAM_HEAD                                                                                          \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: "       \
    "keep-alive\r\n\r\n"
#define LINES_HEAD                                                                                           \
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nok"

/* The request has reached the engine on that connection: returns its text. */
static inline const char *engine_gets(unsigned i, const char *text)
{
    cr_assert(LOOP_UNTIL(world.loop, link_has(i, text)), "engine %u has no %s: %s", i, text,
              i < world.n_links ? link_got(world.links[i]) : "(not connected)");
    return link_got(world.links[i]);
}

/* The same on whichever connection: returns its number. */
static inline unsigned engine_with(const char *text)
{
    unsigned i = 0;

    cr_assert(LOOP_UNTIL(world.loop, ({
                             for (i = 0; i < world.n_links && !link_has(i, text); i++)
                                 ;
                             i < world.n_links;
                         })),
              "no engine has %s", text);
    return i;
}

/* The chunks of an answer put together. */
static inline char *unchunked(const char *answer, bool *ret_whole)
{
    const char *p = body_of(answer);
    struct buf out;
    size_t n = 1;

    buf_init(&out, WORLD_BYTES_MAX);
    *ret_whole = false;
    while (*p && n > 0) {
        char *end;

        n = strtoul(p, &end, 16);
        if (strncmp(end, "\r\n", 2) != 0 || strlen(end + 2) < n + 2)
            break;
        buf_add(&out, end + 2, n);
        p = end + 2 + n + 2;
        *ret_whole = n == 0;
    }
    return buf_take(&out);
}

/* The first request of a model is on a connection of its own making. */
static inline struct app *sent_on_fresh(const char *path)
{
    struct app *a = app_new();

    app_post(a, path, MODEL);
    engine_gets(0, MODEL);
    return a;
}
