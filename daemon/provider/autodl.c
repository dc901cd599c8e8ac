/* AutoDL's Pro instances: what is sent for each question, and what is handed on of its answer. Facts:
 * reference/autodl.md §2.2. */
#include <string.h>

#include "base/fault.h"
#include "proto/text.h"
#include "provider/autodl_call.h"
#include "provider/autodl_offers.h"

#define BASE_URL   "https://api.autodl.com"
#define IMAGES_MAX (AUTODL_PAGE_ROWS * 4) /* an account may have 20 */
#define CUDA_LEAST                                                                                           \
    124 /* what the engines need of the machine's driver (550: engine/fit.h), whatever the image */

/* ---- what an answer is handed on as ---- */

typedef int (*read_id_fn)(const struct autodl_tables *t, const struct autodl_answer *a,
                          char id[static INSTANCE_ID_MAX], struct fault *f);

static void read_id(struct autodl_call *c, const struct autodl_answer *a, read_id_fn read)
{
    char id[INSTANCE_ID_MAX];
    struct fault f = {0};

    if (read(&c->rental->tables, a, id, &f) < 0) {
        autodl_call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_made(c->ctx, id, NULL);
    autodl_call_free(c);
}

static void read_made(struct autodl_call *c, const struct autodl_answer *a)
{
    read_id(c, a, autodl_read_made);
}

static void read_saved(struct autodl_call *c, const struct autodl_answer *a)
{
    read_id(c, a, autodl_read_saved);
}

static void read_way(struct autodl_call *c, const struct autodl_answer *a)
{
    struct instance_way way;
    struct fault f = {0};

    if (autodl_read_snapshot(&c->rental->tables, a, &way, &f) < 0)
        autodl_call_fail(c, &f);
    else
        autodl_call_found_way(c, &way);
}

static void read_money(struct autodl_call *c, const struct autodl_answer *a)
{
    struct fault f = {0};
    int64_t milli = 0;

    if (autodl_read_balance(&c->rental->tables, a, &milli, &f) < 0) {
        autodl_call_fail(c, &f);
        return;
    }
    op_end(&c->op);
    c->on_money(c->ctx, milli, NULL);
    autodl_call_free(c);
}

static void read_images(struct autodl_call *c, const struct autodl_answer *a)
{
    struct autodl_images *page = xnew(struct autodl_images);
    struct fault f = {0};
    int r = autodl_read_images(&c->rental->tables, a, page, &f);
    bool more = r == 0 && c->page < page->n_pages && c->n_images + AUTODL_PAGE_ROWS < IMAGES_MAX;

    for (unsigned i = 0; r == 0 && i < page->n; i++)
        c->images[c->n_images++] = page->all[i];
    free(page);
    if (r < 0) {
        autodl_call_fail(c, &f);
        return;
    }
    if (more) {
        autodl_call_page(c);
        return;
    }
    op_end(&c->op);
    c->on_images(c->ctx, c->images, c->n_images, NULL);
    autodl_call_free(c);
}

/* ---- the calls ---- */

static void autodl_list(struct rental *r, struct op **slot, rental_list_fn done, void *ctx)
{
    autodl_call_list(r, "/api/v1/dev/instance/pro/list", autodl_write_page, slot, done, ctx);
}

static void autodl_create(struct rental *r, const struct instance_wish *w, struct op **slot,
                          rental_made_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/dev/instance/pro/create", slot, ctx);
    unsigned cuda = CUDA_LEAST;

    for (unsigned i = 0; i < r->tables.n_images; i++)
        if (streq(r->tables.images[i].uuid, w->image))
            cuda = MAX(cuda, r->tables.images[i].cuda);
    autodl_write_create(w, cuda, &c->body);
    c->asks = true;
    c->on_made = done;
    c->read = read_made;
    autodl_call_go(c);
}

static void autodl_start(struct rental *r, const char *id, const struct instance_start *s, struct op **slot,
                         rental_done_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_power(r, "/api/v1/dev/instance/pro/power_on", slot, done, ctx);

    autodl_write_start(id, s->start_command, &c->body);
    autodl_call_go(c);
}

static void autodl_stop(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_power(r, "/api/v1/dev/instance/pro/power_off", slot, done, ctx);

    autodl_write_id(id, &c->body);
    autodl_call_go(c);
}

static void autodl_release(struct rental *r, const char *id, struct op **slot, rental_done_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_power(r, "/api/v1/dev/instance/pro/release", slot, done, ctx);

    autodl_write_id(id, &c->body);
    autodl_call_go(c);
}

/* Its parameter stands in the query string: with a body, as documented, the call is refused. An id holds no
 * letter that means anything there (autodl_wire.c). */
static void autodl_reach(struct rental *r, const char *id, struct op **slot, rental_way_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "GET", "/api/v1/dev/instance/pro/snapshot", slot, ctx);

    c->query = xasprintf("?instance_uuid=%s", id);
    c->on_way = done;
    c->read = read_way;
    autodl_call_go(c);
}

static void autodl_save_image(struct rental *r, const char *id, const char *name, struct op **slot,
                              rental_made_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/dev/instance/pro/image/save", slot, ctx);

    autodl_write_save(id, name, &c->body);
    c->asks = true;
    c->on_made = done;
    c->read = read_saved;
    autodl_call_go(c);
}

static void autodl_images(struct rental *r, struct op **slot, rental_images_fn done, void *ctx)
{
    struct autodl_call *c =
        autodl_call_new(r, "POST", "/api/v1/dev/instance/pro/image/private/list", slot, ctx);

    c->images = xalloc(IMAGES_MAX * sizeof *c->images);
    c->write_page = autodl_write_page;
    c->on_images = done;
    c->read = read_images;
    autodl_call_page(c);
}

static void autodl_balance(struct rental *r, struct op **slot, rental_money_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/dev/wallet/balance", slot, ctx);

    c->on_money = done;
    c->read = read_money;
    autodl_call_go(c);
}

/* ---- what can be rented ---- */

static void offers_end(struct autodl_call *c, bool has_stock)
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
    autodl_call_free(c);
}

/* What can be rented is known without it. */
static void offers_failed(struct autodl_call *c, const struct fault *f)
{
    (void)f;
    offers_end(c, false);
}

/* One call for each region where machines can be made; the sum of some of them is no sum. */
static void stock_ask(struct autodl_call *c)
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
    autodl_call_go(c);
}

static void read_stock(struct autodl_call *c, const struct autodl_answer *a)
{
    struct fault f = {0};

    if (autodl_read_stock(&c->rental->tables, a, c->stock, &f) < 0)
        autodl_call_fail(c, &f);
    else
        stock_ask(c);
}

/* The figures are those of elastic deployment, and did not agree with what could be had (reference/autodl.md
 * §2.3). */
static void autodl_offers(struct rental *r, struct op **slot, rental_offers_fn done, void *ctx)
{
    struct autodl_call *c = autodl_call_new(r, "POST", "/api/v1/dev/machine/region/gpu_stock", slot, ctx);

    c->on_offers = done;
    c->failed = offers_failed;
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

static struct rental *autodl_open(const struct rental_context *context)
{
    return autodl_open_at(context, "autodl", BASE_URL);
}

extern const struct rental_ops rental_autodl;
const struct rental_ops rental_autodl = {
    .name = "autodl",
    .title = "AutoDL",
    .unit = "CNY",
    .cards_max = 4,
    .day_offset_ms = AUTODL_DAY_OFFSET_MS,
    .released_after_ms = 15 * 24 * AUTODL_HOUR_MS,
    .console_url = AUTODL_CONSOLE_URL,
    .open = autodl_open,
    .close = autodl_close,
    .move = autodl_move,
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
