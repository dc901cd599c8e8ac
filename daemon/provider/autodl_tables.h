/* The tables of autodl.ini: cards, regions, images, and what errors mean. Pure: text in, rows out. The built-in file says what each
 * key is for; the facts are of reference/autodl.md §4, read 2026-10. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fault.h"

#define AUTODL_ROWS_MAX     48
#define AUTODL_BYTES_MAX    ((size_t)64 << 10)
#define AUTODL_DAY_MAX      12

struct autodl_card {
    char spec[32], gpu[32], stock[32], price_day[AUTODL_DAY_MAX];
    unsigned memory_gib;
    int64_t price_milli;        /* yuan an hour, seen on price_day; 0: unknown */
};
struct autodl_region {
    char code[32], name[48];
    bool can_create;
};
struct autodl_image {
    char uuid[64], name[64], word[32];  /* word: as people write it */
    unsigned cuda;              /* 118: at least CUDA 11.8 */
};
struct autodl_disk {
    unsigned free_gb;
    int64_t price_milli;        /* yuan a day for 1000 GB beyond that, seen on price_day; 0: unknown */
    char price_day[AUTODL_DAY_MAX];
};
struct autodl_error {
    char word[32];              /* of the fault, see explain.c */
    char code[32], has[64];     /* "*": any code; "": any message */
    enum fault_kind kind;
    char text[120];
};

struct autodl_tables {
    struct autodl_card cards[AUTODL_ROWS_MAX];          /* what the Pro API rents out */
    struct autodl_card ordinary[AUTODL_ROWS_MAX];       /* what is rented by hand, in the console */
    struct autodl_region regions[AUTODL_ROWS_MAX];
    struct autodl_image images[AUTODL_ROWS_MAX];
    struct autodl_error errors[AUTODL_ROWS_MAX];
    unsigned n_cards, n_ordinary, n_regions, n_images, n_errors;
    struct autodl_disk disk;
};

/* The built-in ones (autodl.ini), as text that ends with a NUL. */
extern const char provider_autodl_ini[];

/* -EINVAL: *ret_why (caller frees) names the line. Any bytes may come. */
int autodl_tables_parse(const char *text, size_t n, struct autodl_tables *ret, char **ret_why);

/* By its spec, as people write it or as the stock list does, small and capital letters alike. NULL: none. */
const struct autodl_card *autodl_find_card(const struct autodl_tables *t, const char *name);
/* Of the ordinary ones, whatever stands before it ("NVIDIA GeForce RTX 4090 D" is 4090D): in the console a card has several names. */
struct autodl_card *autodl_find_ordinary(struct autodl_tables *t, const char *name);
/* What so much disk beside the system's own costs a day, to the nearest thousandth. */
int64_t autodl_disk_day_milli(const struct autodl_tables *t, unsigned disk_gb);
/* The first row that fits; NULL: none. */
const struct autodl_error *autodl_find_error(const struct autodl_tables *t, const char *code, const char *message);
