/* The steps of a call follow each other as ops in c->step, each beginning in the callback of the one before: the name
 * is looked up, the token read, then a request for each page. However it ends, autodl_call_fail() or the reader of its
 * answer calls back once, and the call is freed. */
#include "provider/autodl_call.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/resolve.h"
#include "http/http.h"
#include "proto/text.h"
#include "store/secrets.h"

#define BODY_MAX 8192u

void autodl_call_free(struct autodl_call *c)
{
    op_cancel(&c->step);
    buf_done(&c->body);
    free(c->query);
    free(c->seen);
    free(c->images);
    free(c);
}

static void call_cancel(struct op *op)
{
    autodl_call_free(CONTAINER_OF(op, struct autodl_call, op));
}

void autodl_call_fail(struct autodl_call *c, const struct fault *f)
{
    const struct rental_context *context = &c->rental->context;

    if (f->kind == FAULT_DENIED && context->refused)
        context->refused(context->ctx, f);
    if (c->failed) {
        c->failed(c, f);
        return;
    }
    op_end(&c->op);
    if (c->on_list)
        c->on_list(c->ctx, NULL, 0, f);
    else if (c->on_made)
        c->on_made(c->ctx, NULL, f);
    else if (c->on_way)
        c->on_way(c->ctx, NULL, f);
    else if (c->on_images)
        c->on_images(c->ctx, NULL, 0, f);
    else if (c->on_offers)
        c->on_offers(c->ctx, NULL, 0, f);
    else if (c->on_money)
        c->on_money(c->ctx, 0, f);
    else
        c->on_done(c->ctx, f);
    autodl_call_free(c);
}

/* What is asked has not come back, or has not even left. A POST that only asks has done nothing; one that
 * acts may have. */
static void call_unanswered(struct autodl_call *c, const struct fault *f)
{
    struct fault here = *f;

    if (here.kind == FAULT_UNCERTAIN && !c->asks)
        here.kind = FAULT_TRANSIENT;
    if (!*here.code)
        snprintf(here.code, sizeof here.code, "provider_unreachable");
    fault_prefix(&here, "AutoDL");
    autodl_call_fail(c, &here);
}

static void on_answer(void *ctx, struct http_answer *answer, const struct fault *f)
{
    struct autodl_call *c = ctx;

    if (f) {
        call_unanswered(c, f);
        return;
    }
    if (answer->status == 200 && answer->date_at_ms && c->rental->context.heard)
        c->rental->context.heard(c->rental->context.ctx, answer->date_at_ms);

    const struct autodl_answer a = {
        .text = answer->body.data, .n = answer->body.len, .status = answer->status, .asked = c->asks};

    c->read(c, &a);
}

static void on_resolved(void *ctx, const struct addresses *found, const struct fault *f)
{
    struct autodl_call *c = ctx;
    struct rental *r = c->rental;
    _cleanup_secret_ char *token = NULL;
    _cleanup_free_ char *path = NULL;
    struct fault lacks = {0};
    int e;

    if (f) { /* whatever the resolver says, it says nothing about the machine */
        fault_set(&lacks, FAULT_TRANSIENT, f->error, "%s", f->text);
        call_unanswered(c, &lacks);
        return;
    }
    e = secrets_get(r->context.secrets, r->name, "token", &token);
    if (e == -ENOENT)
        fault_code(&lacks, FAULT_DENIED, "token_refused", "there is no token for AutoDL");
    else if (e < 0)
        fault_set(&lacks, FAULT_TRANSIENT, e, "the token cannot be read (%s)", strerror(-e));
    if (e < 0) {
        call_unanswered(c, &lacks);
        return;
    }
    path = xasprintf("%s%s", c->path, c->query ? c->query : "");
    http_start(r->context.http,
               &(struct http_request){.method = c->method,
                                      .origin = r->origin,
                                      .addresses = found,
                                      .authorization = token, /* as it is, no "Bearer" before it */
                                      .path = path,
                                      .body = c->body.data,
                                      .n_body = c->body.len},
               &c->step, on_answer, c);
}

void autodl_call_go(struct autodl_call *c)
{
    resolve(c->rental->context.resolver, c->rental->host, c->rental->port, &c->step, on_resolved, c);
}

struct autodl_call *autodl_call_new(struct rental *r, const char *method, const char *path, struct op **slot,
                                    void *ctx)
{
    struct autodl_call *c = xnew(struct autodl_call);

    c->rental = r;
    c->method = method;
    c->path = path;
    c->ctx = ctx;
    buf_init(&c->body, BODY_MAX);
    op_begin(&c->op, slot, call_cancel);
    return c;
}

/* ---- answers ---- */

void autodl_call_read_done(struct autodl_call *c, const struct autodl_answer *a)
{
    struct fault f = {0};

    if (autodl_read_done(&c->rental->tables, a, &f) < 0) {
        autodl_call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_done(c->ctx, NULL);
    autodl_call_free(c);
}

void autodl_call_found_way(struct autodl_call *c, struct instance_way *way)
{
    op_end(&c->op);
    c->on_way(c->ctx, way, NULL);
    explicit_bzero(way, sizeof *way);
    autodl_call_free(c);
}

struct autodl_call *autodl_call_power(struct rental *r, const char *path, struct op **slot,
                                      rental_done_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", path, slot, ctx);

    c->asks = true;
    c->on_done = done;
    c->read = autodl_call_read_done;
    return c;
}

/* ---- the list ---- */

void autodl_call_page(struct autodl_call *c)
{
    buf_clear(&c->body);
    c->write_page(++c->page, &c->body);
    autodl_call_go(c);
}

/* A row may move to another page while we read: what is there twice is taken once. One that is overlooked is
 * why nobody believes in an absence before the second list (life.c). */
static void read_list(struct autodl_call *c, const struct autodl_answer *a)
{
    struct autodl_page *page = xnew(struct autodl_page);
    struct fault f = {0};

    if (autodl_read_page(&c->rental->tables, a, page, &f) < 0 || c->n_seen + page->n > AUTODL_MACHINES_MAX) {
        if (!f.kind)
            fault_code(&f, FAULT_INVALID, "provider_error", "AutoDL lists more than %d machines",
                       AUTODL_MACHINES_MAX);
        free(page);
        autodl_call_fail(c, &f);
        return;
    }
    for (unsigned i = 0; i < page->n; i++) {
        unsigned k = 0;

        while (k < c->n_seen && !streq(c->seen[k].id, page->seen[i].id))
            k++;
        if (k == c->n_seen)
            c->n_seen++;
        c->seen[k] = page->seen[i];
    }
    bool more = c->page < page->n_pages;

    free(page);
    if (more) {
        autodl_call_page(c);
        return;
    }
    op_end(&c->op);
    c->on_list(c->ctx, c->seen, c->n_seen, NULL);
    autodl_call_free(c);
}

void autodl_call_list(struct rental *r, const char *path, void (*write_page)(unsigned page, struct buf *out),
                      struct op **slot, rental_list_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", path, slot, ctx);

    c->seen = xalloc(AUTODL_MACHINES_MAX * sizeof *c->seen);
    c->write_page = write_page;
    c->on_list = done;
    c->read = read_list;
    autodl_call_page(c);
}

/* ---- the account ---- */

/* "https://HOST[:PORT]": what http.h takes, and what the resolver needs of it. */
void autodl_move(struct rental *r, const char *base_url)
{
    const char *url = base_url ? base_url : r->usual_url, *host = strstr(url, "://");
    size_t n;

    free(r->origin);
    free(r->host);
    r->origin = xstrdup(url);
    host = host ? host + 3 : url;
    n = strcspn(host, ":/");
    r->host = xasprintf("%.*s", (int)n, host);
    r->port = host[n] == ':'                    ? (uint16_t)strtoul(host + n + 1, NULL, 10)
              : strncmp(url, "http://", 7) == 0 ? 80
                                                : 443;
}

int64_t autodl_now_ms(const struct rental *r)
{
    return r->context.now_ms ? r->context.now_ms(r->context.ctx) : clock_wall_ms();
}

struct rental *autodl_open_at(const struct rental_context *context, const char *name, const char *usual_url)
{
    struct rental *r = xnew(struct rental);
    _cleanup_free_ char *why = NULL;

    r->context = *context;
    r->name = name;
    r->usual_url = usual_url;
    autodl_move(r, context->base_url);
    if (autodl_tables_parse(provider_autodl_ini, strlen(provider_autodl_ini), &r->tables, &why) < 0)
        abort(); /* our own file */
    return r;
}

struct rental *autodl_close(struct rental *r)
{
    if (!r)
        return NULL;
    free(r->origin);
    free(r->host);
    free(r);
    return NULL;
}

int64_t autodl_disk_price(struct rental *r, unsigned disk_gb)
{
    return autodl_disk_day_milli(&r->tables, disk_gb);
}
