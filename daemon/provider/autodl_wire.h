/* AutoDL's Pro API on the wire: what is sent, and what an answer means. Pure: bytes in, values out; any bytes may come.
 * Source of every fact: reference/autodl.md §1, §2.2, §4 (state of 2026-10). HTTP is always 200, success is code "Success"; fields
 * may be missing while a machine boots; parameters of GET stand in the query string. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "provider/rental.h"

struct autodl_tables;
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
/* What can be spent, in thousandths of a yuan. */
int autodl_read_balance(const struct autodl_tables *t, const struct autodl_answer *a, int64_t *ret_milli, struct fault *f);
