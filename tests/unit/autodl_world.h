/* An account at AutoDL, by the driver named PROVIDER, over a real socket to a scripted server. */
#pragma once

#include <criterion/criterion.h>
#include <errno.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/op.h"
#include "base/resolve.h"
#include "http/http.h"
#include "proto/mem.h"
#include "provider/rental.h"
#include "store/secrets.h"
#include "tests/fixture/http_fixture.h"
#include "tests/fixture/loop_fixture.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
static char directory[] = "/tmp/test-autodl-XXXXXX";
static struct loop *loop;
static struct http *http;
static struct resolver *resolver;
static struct secrets *secrets;
static struct http_fixture *server;
static struct rental *account;
static const struct rental_ops *ops;

/* What came of a call. */
static struct heard {
    struct op *op;
    unsigned times, n_seen;
    char id[INSTANCE_ID_MAX];
    struct instance_seen seen[8];
    struct instance_way way;
    int64_t milli;
    unsigned n_images;
    unsigned n_offers;
    struct rental_offer offers[16];
    struct fault fault;
} heard;

static inline void setup(void)
{
    cr_assert_not_null(mkdtemp(directory));
    loop = loop_new();
    http = http_new(loop);
    resolver = resolver_new(loop);
    cr_assert_eq(secrets_open(directory, &secrets), 0);
    cr_assert_eq(secrets_put(secrets, PROVIDER, "token", "token-1"), 0);
    ops = rental_find(PROVIDER);
    cr_assert_null(rental_find("nobody"));
}

/* By the company's clock, as last heard. */
static int64_t their_at_ms;

static inline void on_time(void *ctx, int64_t at_ms)
{
    cr_assert_eq(ctx, &their_at_ms);
    their_at_ms = at_ms;
}

static inline int64_t time_there(void *ctx)
{
    int64_t *at_ms = ctx;

    return *at_ms ? *at_ms : clock_wall_ms();
}

static inline void account_opens(const struct http_script *script, unsigned n)
{
    _cleanup_free_ char *url = NULL;
    uint16_t port;

    server = http_fixture_new_tcp(script, n, &port);
    url = xasprintf("http://127.0.0.1:%u", port);
    account = ops->open(&(struct rental_context){.http = http,
                                                 .resolver = resolver,
                                                 .secrets = secrets,
                                                 .base_url = url,
                                                 .heard = on_time,
                                                 .now_ms = time_there,
                                                 .ctx = &their_at_ms});
}

static inline void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    account = ops->close(account);
    http = http_free(http);
    resolver = resolver_free(resolver);
    secrets = secrets_free(secrets);
    loop_free_dry(loop);
    if (server)
        server = http_fixture_free(server);
    cr_assert_eq(system(command), 0);
}

static inline void hear(const struct fault *f)
{
    cr_assert_null(heard.op, "the slot is cleared before done()");
    heard.times++;
    heard.fault = f ? *f : (struct fault){0};
}

static inline void on_list(void *ctx, const struct instance_seen *seen, unsigned n, const struct fault *f)
{
    (void)ctx;
    hear(f);
    heard.n_seen = n;
    for (unsigned i = 0; i < n; i++)
        heard.seen[i] = seen[i];
}

static inline void on_made(void *ctx, const char *id, const struct fault *f)
{
    (void)ctx;
    hear(f);
    snprintf(heard.id, sizeof heard.id, "%s", id ? id : "");
}

static inline void on_done(void *ctx, const struct fault *f)
{
    (void)ctx;
    hear(f);
}

static inline void on_way(void *ctx, const struct instance_way *way, const struct fault *f)
{
    (void)ctx;
    hear(f);
    if (way)
        heard.way = *way;
}

static inline void on_money(void *ctx, int64_t milli, const struct fault *f)
{
    (void)ctx;
    hear(f);
    heard.milli = milli;
}

static inline void on_images(void *ctx, const struct rental_image *images, unsigned n, const struct fault *f)
{
    (void)ctx;
    hear(f);
    heard.n_images = n;
    if (n)
        snprintf(heard.id, sizeof heard.id, "%s", images[n - 1].id);
}

static inline void on_offers(void *ctx, const struct rental_offer *offers, unsigned n, const struct fault *f)
{
    (void)ctx;
    hear(f);
    heard.n_offers = n;
    for (unsigned i = 0; i < n; i++)
        heard.offers[i] = offers[i];
}

/* The call just begun ends. */
static inline void answers(void)
{
    cr_assert_not_null(heard.op);
    cr_assert_eq(heard.times, 0, "never from inside the call");
    cr_assert(LOOP_UNTIL(loop, heard.times));
    cr_assert_eq(heard.times, 1);
    heard.times = 0;
}

static inline bool asked_with(const char *words)
{
    _cleanup_free_ char *request = http_fixture_last_request(server);

    return strstr(request, words);
}
