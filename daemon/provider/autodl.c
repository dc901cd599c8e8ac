/* AutoDL's Pro instances. A call is: the token read, the name looked up, one request (for the list one per
 * page), its answer read by autodl_wire.c. Facts: reference/autodl.md §1 and §2.2. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/resolve.h"
#include "http/http.h"
#include "proto/text.h"
#include "provider/autodl_offers.h"
#include "provider/autodl_tables.h"
#include "provider/autodl_wire.h"
#include "provider/rental.h"
#include "store/secrets.h"

#define BASE_URL     "https://api.autodl.com"
#define BODY_MAX     8192u
#define MACHINES_MAX (AUTODL_PAGE_ROWS * 20)
#define IMAGES_MAX   (AUTODL_PAGE_ROWS * 4) /* an account may have 20 */
#define CUDA_LEAST                                                                                           \
    124 /* what the engines need of the machine's driver (550: engine/fit.h), whatever the image */
#define HOUR_MS (60 * 60 * 1000ll)

extern const struct rental_ops rental_autodl;

struct rental {
    struct rental_context context;
    char *origin, *host;
    uint16_t port;
    struct autodl_tables tables;
};

/* One call, from its beginning to its last answer. */
struct call {
    struct op op;
    struct rental *rental;
    const char *method, *path;
    char *query; /* behind path, NULL: none */
    struct buf body;
    bool asks; /* something happens there: without an answer it is uncertain */
    struct op *step;
    void (*read)(struct call *c, const struct autodl_answer *a);
    struct instance_seen *seen;  /* of the pages so far */
    struct rental_image *images; /* likewise */
    unsigned n_seen, n_images, page;
    unsigned region; /* of the table: its stock is asked for */
    int stock[AUTODL_ROWS_MAX];
    rental_list_fn on_list;
    rental_made_fn on_made;
    rental_done_fn on_done;
    rental_way_fn on_way;
    rental_money_fn on_money;
    rental_offers_fn on_offers;
    rental_images_fn on_images;
    void *ctx;
};

static void call_free(struct call *c)
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
    call_free(CONTAINER_OF(op, struct call, op));
}

static void offers_end(struct call *c, bool has_stock);

static void call_fail(struct call *c, const struct fault *f)
{
    if (c->on_offers) { /* what can be rented is known without it */
        offers_end(c, false);
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
    else if (c->on_money)
        c->on_money(c->ctx, 0, f);
    else
        c->on_done(c->ctx, f);
    call_free(c);
}

/* What is asked has not come back, or has not even left. A POST that only asks has done nothing; one that
 * acts may have. */
static void call_unanswered(struct call *c, const struct fault *f)
{
    struct fault here = *f;

    if (here.kind == FAULT_UNCERTAIN && !c->asks)
        here.kind = FAULT_TRANSIENT;
    if (!*here.code)
        snprintf(here.code, sizeof here.code, "provider_unreachable");
    fault_prefix(&here, "AutoDL");
    call_fail(c, &here);
}

static void on_answer(void *ctx, struct http_answer *answer, const struct fault *f)
{
    struct call *c = ctx;

    if (f) {
        call_unanswered(c, f);
        return;
    }
    const struct autodl_answer a = {
        .text = answer->body.data, .n = answer->body.len, .status = answer->status, .asked = c->asks};

    c->read(c, &a);
}

static void on_resolved(void *ctx, const struct addresses *found, const struct fault *f)
{
    struct call *c = ctx;
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
    e = secrets_get(r->context.secrets, rental_autodl.name, "token", &token);
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

static void call_go(struct call *c)
{
    resolve(c->rental->context.resolver, c->rental->host, c->rental->port, &c->step, on_resolved, c);
}

static struct call *call_new(struct rental *r, const char *method, const char *path, struct op **slot,
                             void *ctx)
{
    struct call *c = xnew(struct call);

    c->rental = r;
    c->method = method;
    c->path = path;
    c->ctx = ctx;
    buf_init(&c->body, BODY_MAX);
    op_begin(&c->op, slot, call_cancel);
    return c;
}

/* ---- what an answer is handed on as ---- */

static void read_done(struct call *c, const struct autodl_answer *a)
{
    struct fault f = {0};

    if (autodl_read_done(&c->rental->tables, a, &f) < 0) {
        call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_done(c->ctx, NULL);
    call_free(c);
}

static void read_made(struct call *c, const struct autodl_answer *a)
{
    char id[INSTANCE_ID_MAX];
    struct fault f = {0};

    if (autodl_read_made(&c->rental->tables, a, id, &f) < 0) {
        call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_made(c->ctx, id, NULL);
    call_free(c);
}

static void read_way(struct call *c, const struct autodl_answer *a)
{
    struct instance_way way;
    struct fault f = {0};

    if (autodl_read_snapshot(&c->rental->tables, a, &way, &f) < 0) {
        call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_way(c->ctx, &way, NULL);
    explicit_bzero(&way, sizeof way);
    call_free(c);
}

static void read_money(struct call *c, const struct autodl_answer *a)
{
    struct fault f = {0};
    int64_t milli = 0;

    if (autodl_read_balance(&c->rental->tables, a, &milli, &f) < 0) {
        call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_money(c->ctx, milli, NULL);
    call_free(c);
}

static void page_ask(struct call *c)
{
    buf_clear(&c->body);
    autodl_write_page(++c->page, &c->body);
    call_go(c);
}

/* A row may move to another page while we read: what is there twice is taken once. One that is overlooked is
 * why nobody believes in an absence before the second list (life.c). */
static void read_page(struct call *c, const struct autodl_answer *a)
{
    struct autodl_page *page = xnew(struct autodl_page);
    struct fault f = {0};

    if (autodl_read_page(&c->rental->tables, a, page, &f) < 0 || c->n_seen + page->n > MACHINES_MAX) {
        if (!f.kind)
            fault_code(&f, FAULT_INVALID, "provider_error", "AutoDL lists more than %d machines",
                       MACHINES_MAX);
        free(page);
        call_fail(c, &f);
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
        page_ask(c);
        return;
    }
    op_end(&c->op);
    c->on_list(c->ctx, c->seen, c->n_seen, NULL);
    call_free(c);
}

static void read_saved(struct call *c, const struct autodl_answer *a)
{
    char id[INSTANCE_ID_MAX];
    struct fault f = {0};

    if (autodl_read_saved(&c->rental->tables, a, id, &f) < 0) {
        call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_made(c->ctx, id, NULL);
    call_free(c);
}

static void read_images(struct call *c, const struct autodl_answer *a)
{
    struct autodl_images *page = xnew(struct autodl_images);
    struct fault f = {0};
    int r = autodl_read_images(&c->rental->tables, a, page, &f);
    bool more = r == 0 && c->page < page->n_pages && c->n_images + AUTODL_PAGE_ROWS < IMAGES_MAX;

    for (unsigned i = 0; r == 0 && i < page->n; i++)
        c->images[c->n_images++] = page->all[i];
    free(page);
    if (r < 0) {
        call_fail(c, &f);
        return;
    }
    if (more) {
        page_ask(c);
        return;
    }
    op_end(&c->op);
    c->on_images(c->ctx, c->images, c->n_images, NULL);
    call_free(c);
}

/* ---- the calls ---- */

static void autodl_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    struct call *c = call_new(r, "POST", "/api/v1/dev/instance/pro/list", slot, ctx);

    c->seen = xalloc(MACHINES_MAX * sizeof *c->seen);
    c->on_list = done;
    c->read = read_page;
    page_ask(c);
}

static void autodl_create(struct rental *r, const struct instance_wish *w, struct op **slot,
                          rental_made_fn done, void *ctx)
{
    struct call *c = call_new(r, "POST", "/api/v1/dev/instance/pro/create", slot, ctx);
    unsigned cuda = CUDA_LEAST;

    for (unsigned i = 0; i < r->tables.n_images; i++)
        if (streq(r->tables.images[i].uuid, w->image))
            cuda = MAX(cuda, r->tables.images[i].cuda);
    autodl_write_create(w, cuda, &c->body);
    c->asks = true;
    c->on_made = done;
    c->read = read_made;
    call_go(c);
}

static struct call *call_power(struct rental *r, const char *path, struct op **slot, rental_done_fn done,
                               void *ctx)
{
    struct call *c = call_new(r, "POST", path, slot, ctx);

    c->asks = true;
    c->on_done = done;
    c->read = read_done;
    return c;
}

static void autodl_start(struct rental *r, const char *id, const struct instance_start *s, struct op **slot,
                         rental_done_fn done, void *ctx)
{
    struct call *c = call_power(r, "/api/v1/dev/instance/pro/power_on", slot, done, ctx);

    autodl_write_start(id, s->start_command, &c->body);
    call_go(c);
}

static void autodl_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    struct call *c = call_power(r, "/api/v1/dev/instance/pro/power_off", slot, done, ctx);

    autodl_write_id(id, &c->body);
    call_go(c);
}

static void autodl_release(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    struct call *c = call_power(r, "/api/v1/dev/instance/pro/release", slot, done, ctx);

    autodl_write_id(id, &c->body);
    call_go(c);
}

/* Its parameter stands in the query string: with a body, as documented, the call is refused. An id holds no
 * letter that means anything there (autodl_wire.c). */
static void autodl_reach(struct rental *r, const char *id, struct op **slot, rental_way_fn done, void *ctx)
{
    struct call *c = call_new(r, "GET", "/api/v1/dev/instance/pro/snapshot", slot, ctx);

    c->query = xasprintf("?instance_uuid=%s", id);
    c->on_way = done;
    c->read = read_way;
    call_go(c);
}

static void autodl_save_image(struct rental *r, const char *id, const char *name, struct op **slot,
                              rental_made_fn done, void *ctx)
{
    struct call *c = call_new(r, "POST", "/api/v1/dev/instance/pro/image/save", slot, ctx);

    autodl_write_save(id, name, &c->body);
    c->asks = true;
    c->on_made = done;
    c->read = read_saved;
    call_go(c);
}

static void autodl_images(struct rental *r, struct op **slot, rental_images_fn done, void *ctx)
{
    struct call *c = call_new(r, "POST", "/api/v1/dev/instance/pro/image/private/list", slot, ctx);

    c->images = xalloc(IMAGES_MAX * sizeof *c->images);
    c->on_images = done;
    c->read = read_images;
    page_ask(c);
}

static void autodl_balance(struct rental *r, struct op **slot, rental_money_fn done, void *ctx)
{
    struct call *c = call_new(r, "POST", "/api/v1/dev/wallet/balance", slot, ctx);

    c->on_money = done;
    c->read = read_money;
    call_go(c);
}

/* ---- what can be rented ---- */

static void offers_end(struct call *c, bool has_stock)
{
    const struct autodl_tables *t = &c->rental->tables;
    struct rental_offer offers[AUTODL_ROWS_MAX];

    for (unsigned i = 0; i < t->n_cards; i++) {
        autodl_offer(&t->cards[i], &offers[i]);
        if (has_stock && *t->cards[i].stock)
            offers[i].stock = c->stock[i];
    }
    op_end(&c->op);
    c->on_offers(c->ctx, offers, t->n_cards, NULL);
    call_free(c);
}

/* One call for each region where machines can be made; the sum of some of them is no sum. */
static void stock_ask(struct call *c)
{
    const struct autodl_tables *t = &c->rental->tables;

    while (c->region < t->n_regions && !t->regions[c->region].can_create)
        c->region++;
    if (c->region == t->n_regions) {
        offers_end(c, true);
        return;
    }
    buf_clear(&c->body);
    autodl_write_stock(t->regions[c->region++].code, &c->body);
    call_go(c);
}

static void read_stock(struct call *c, const struct autodl_answer *a)
{
    struct fault f = {0};

    if (autodl_read_stock(&c->rental->tables, a, c->stock, &f) < 0)
        call_fail(c, &f);
    else
        stock_ask(c);
}

/* The figures are those of elastic deployment, and did not agree with what could be had (reference/autodl.md
 * §2.3). */
static void autodl_offers(struct rental *r, struct op **slot, rental_offers_fn done, void *ctx)
{
    struct call *c = call_new(r, "POST", "/api/v1/dev/machine/region/gpu_stock", slot, ctx);

    c->on_offers = done;
    c->read = read_stock;
    stock_ask(c);
}

static int autodl_find_offer(struct rental *r, const char *gpu, struct rental_offer *ret, char **ret_why)
{
    return autodl_pick_card(&r->tables, gpu, ret, ret_why);
}

static int autodl_find_image(struct rental *r, const char *name, const char **ret_image, char **ret_why)
{
    return autodl_pick_image(&r->tables, name, ret_image, ret_why);
}

static int autodl_find_region(struct rental *r, const char *name, const char **ret_region, char **ret_why)
{
    return autodl_pick_region(&r->tables, name, ret_region, ret_why);
}

static int64_t autodl_disk_price(struct rental *r, unsigned disk_gb)
{
    return autodl_disk_day_milli(&r->tables, disk_gb);
}

/* ---- the account ---- */

/* "https://HOST[:PORT]": what http.h takes, and what the resolver needs of it. */
static void autodl_move(struct rental *r, const char *base_url)
{
    const char *url = base_url ? base_url : BASE_URL, *host = strstr(url, "://");
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

static struct rental *autodl_open(const struct rental_context *context)
{
    struct rental *r = xnew(struct rental);
    _cleanup_free_ char *why = NULL;

    r->context = *context;
    autodl_move(r, context->base_url);
    if (autodl_tables_parse(provider_autodl_ini, strlen(provider_autodl_ini), &r->tables, &why) < 0)
        abort(); /* our own file */
    return r;
}

static struct rental *autodl_close(struct rental *r)
{
    if (!r)
        return NULL;
    free(r->origin);
    free(r->host);
    free(r);
    return NULL;
}

const struct rental_ops rental_autodl = {
    .name = "autodl",
    .title = "AutoDL",
    .unit = "CNY",
    .day_offset_ms = 8 * HOUR_MS, /* Asia/Shanghai, without summer time */
    .released_after_ms = 15 * 24 * HOUR_MS,
    .console_url = AUTODL_CONSOLE_URL,
    .open = autodl_open,
    .close = autodl_close,
    .move = autodl_move,
    .start_ms = 180000, /* reference/lease.md §2: a bet */
    .stop_alarm_ms = 180000,
    .list = autodl_list,
    .create = autodl_create,
    .start = autodl_start,
    .stop = autodl_stop,
    .release = autodl_release,
    .reach = autodl_reach,
    .offers = autodl_offers,
    .find_card = autodl_find_offer,
    .find_image = autodl_find_image,
    .find_region = autodl_find_region,
    .disk_day_milli = autodl_disk_price,
    .save_image = autodl_save_image,
    .images = autodl_images,
    .balance = autodl_balance,
};
