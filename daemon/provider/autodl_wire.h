/* AutoDL's two APIs on the wire, Pro and the console's: what is sent, and what an answer means. Pure: bytes in, values out; any bytes may come.
 * Source of every fact: reference/autodl.md §1, §2.2, §3, §4 (state of 2026-10). HTTP is always 200, success is code "Success"; fields
 * may be missing while a machine boots; parameters of GET stand in the query string. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "provider/autodl_tables.h"
#include "provider/rental.h"

struct buf;
struct fault;

#define AUTODL_PAGE_ROWS 50

/* Bodies. */
void autodl_write_create(const struct instance_wish *w, unsigned cuda, struct buf *out);
void autodl_write_start(const char *id, const char *start_command, struct buf *out);
void autodl_write_id(const char *id, struct buf *out);          /* power_off, release */
void autodl_write_page(unsigned page, struct buf *out);         /* list, images; the first is 1 */
void autodl_write_save(const char *id, const char *image, struct buf *out);

/* Answers: 0, or a negative errno with *f filled by the table of errors; what is not even an answer of theirs (HTML, half of it) is
 * FAULT_TRANSIENT for a question and FAULT_UNCERTAIN for a call: asked says which. */
struct autodl_answer {
    const char *text;
    size_t n;
    int status;                 /* of HTTP */
    bool asked;                 /* something may have happened */
};
int autodl_read_done(const struct autodl_tables *t, const struct autodl_answer *a, struct fault *f);
int autodl_read_made(const struct autodl_tables *t, const struct autodl_answer *a, char id[static INSTANCE_ID_MAX], struct fault *f);

struct autodl_page {
    struct instance_seen seen[AUTODL_PAGE_ROWS];
    unsigned n, n_pages;
};
int autodl_read_page(const struct autodl_tables *t, const struct autodl_answer *a, struct autodl_page *ret, struct fault *f);

/* The id of an image that is being saved. */
int autodl_read_saved(const struct autodl_tables *t, const struct autodl_answer *a, char id[static INSTANCE_ID_MAX], struct fault *f);
struct autodl_images {
    struct rental_image all[AUTODL_PAGE_ROWS];
    unsigned n, n_pages;
};
int autodl_read_images(const struct autodl_tables *t, const struct autodl_answer *a, struct autodl_images *ret, struct fault *f);

/* A snapshot: the way in, all of it or none. */
int autodl_read_snapshot(const struct autodl_tables *t, const struct autodl_answer *a, struct instance_way *ret,
                         struct fault *f);
/* What is free of each card of the table, in the order of the table, is added to stock. What the list does not name has none. */
void autodl_write_stock(const char *region, struct buf *out);
int autodl_read_stock(const struct autodl_tables *t, const struct autodl_answer *a, int stock[], struct fault *f);

/* The console's API (§3): ordinary machines. */
void autodl_write_console_page(unsigned page, struct buf *out);
void autodl_write_power_on(const char *id, bool no_card, struct buf *out);
/* off_at_ms 0: no more. in_ms: as a number instead of a text of Asia/Shanghai (§3.2: which of them is accepted is unsure), whole minutes. */
void autodl_write_timer(const char *id, int64_t off_at_ms, bool in_ms, struct buf *out);
void autodl_write_market(unsigned page, struct buf *out);
/* The way into one of a page's machines; *ret_found: it is on that page. */
int autodl_read_page_way(const struct autodl_tables *t, const struct autodl_answer *a, const char *id, struct instance_way *ret, bool *ret_found,
                         unsigned *ret_pages, struct fault *f);
/* Of each ordinary card of the table: how many could be rented, and the lowest price of an hour; added to what is there. */
struct autodl_market {
    int stock[AUTODL_ROWS_MAX];
    int64_t price_milli[AUTODL_ROWS_MAX];
};
int autodl_read_market(struct autodl_tables *t, const struct autodl_answer *a, struct autodl_market *market, unsigned *ret_pages, struct fault *f);

/* What can be spent, in thousandths of a yuan. */
int autodl_read_balance(const struct autodl_tables *t, const struct autodl_answer *a, int64_t *ret_milli, struct fault *f);
