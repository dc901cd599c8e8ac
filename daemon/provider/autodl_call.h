/* What both of AutoDL's APIs share (autodl.c, autodl_console.c): the account's place and tables, and a call: the token read, the name looked
 * up, one request for each page or step, its answer handed to read(). Facts: reference/autodl.md §1. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/op.h"
#include "proto/buf.h"
#include "provider/autodl_tables.h"
#include "provider/autodl_wire.h"
#include "provider/rental.h"

#define AUTODL_MACHINES_MAX (AUTODL_PAGE_ROWS * 20)
#define AUTODL_HOUR_MS      (60 * 60 * 1000ll)
#define AUTODL_DAY_OFFSET_MS (8 * AUTODL_HOUR_MS)       /* Asia/Shanghai, without summer time */

struct rental {
    struct rental_context context;
    const char *name;           /* whose token it is */
    const char *usual_url;
    char *origin, *host;
    uint16_t port;
    struct autodl_tables tables;
    bool timer_in_ms;           /* as its timer takes the time today (autodl_console.c) */
};

/* One call, from its beginning to its last answer. Whoever made it with autodl_call_new() sets read(), which of the on_…() has the answer, and what
 * else stands there; then autodl_call_go() or, of one with pages, autodl_call_page(). read() goes on to a further request by either of them, or ends
 * the call: op_end(), its on_…(), autodl_call_free(), in this order; autodl_call_fail() does all that with a fault. */
struct autodl_call {
    struct op op;
    struct rental *rental;      /* borrowed, as are method and path */
    const char *method, *path;
    char *query;                /* behind path, NULL: none */
    struct buf body;
    bool asks;                  /* something happens there: without an answer it is uncertain */
    struct op *step;            /* the name is looked up, or the request is under way */
    /* From the loop, once for each request. a lasts for the call. */
    void (*read)(struct autodl_call *c, const struct autodl_answer *a);
    /* Instead of the fault's way to done(); NULL: none. */
    void (*failed)(struct autodl_call *c, const struct fault *f);
    void (*write_page)(unsigned page, struct buf *out);         /* of a call with pages */
    struct instance_seen *seen; /* of the pages so far */
    struct rental_image *images; /* likewise */
    struct autodl_market market;
    unsigned n_seen, n_images, page;
    unsigned region;            /* of the table: its stock is asked for */
    int stock[AUTODL_ROWS_MAX];
    char id[INSTANCE_ID_MAX];   /* which machine it is about, where later steps need it */
    int64_t off_at_ms;          /* what its timer is set to; 0: to nothing */
    bool tried_both_forms;      /* of that time */
    bool no_card, then_start;   /* how, and whether, it is switched on after that */
    /* The one that is set is called, once: with the answer, or with its fault. */
    rental_list_fn on_list;
    rental_made_fn on_made;
    rental_done_fn on_done;
    rental_way_fn on_way;
    rental_money_fn on_money;
    rental_offers_fn on_offers;
    rental_images_fn on_images;
    void *ctx;
};

/* An op. Nothing is asked yet, so that a call can always be made. */
struct autodl_call *autodl_call_new(struct rental *r, const char *method, const char *path, struct op **slot, void *ctx);
void autodl_call_free(struct autodl_call *c);
void autodl_call_go(struct autodl_call *c);
/* Ends it: done() has the fault. */
void autodl_call_fail(struct autodl_call *c, const struct fault *f);
/* The next page. */
void autodl_call_page(struct autodl_call *c);
/* What both APIs ask: something happens to a machine, its body still to be written; the list of machines, page by page. */
struct autodl_call *autodl_call_power(struct rental *r, const char *path, struct op **slot, rental_done_fn done, void *ctx);
void autodl_call_list(struct rental *r, const char *path, void (*write_page)(unsigned page, struct buf *out), struct op **slot, rental_list_fn done,
                      void *ctx);
/* How both end: it is done; the way in was read, and is wiped. */
void autodl_call_read_done(struct autodl_call *c, const struct autodl_answer *a);
void autodl_call_found_way(struct autodl_call *c, struct instance_way *way);

/* As open, close and move of rental.h. */
int64_t autodl_now_ms(const struct rental *r); /* by AutoDL's clock, as far as it is known */
struct rental *autodl_open_at(const struct rental_context *context, const char *name, const char *usual_url);
struct rental *autodl_close(struct rental *r);
void autodl_move(struct rental *r, const char *base_url);
int64_t autodl_disk_price(struct rental *r, unsigned disk_gb);
