/* What of AutoDL's tables can be rented, by the names people use, and the words for what it does not have. Pure. */
#pragma once

#include "provider/autodl_tables.h"
#include "provider/rental.h"

/* Where a person sees all machines, and rents what the API has not. */
#define AUTODL_CONSOLE_URL "https://www.autodl.com/console/instance/list"

/* Its stock is -1. Borrows from the card. */
void autodl_offer(const struct autodl_card *card, struct rental_offer *ret);

/* One of the console's, likewise: unofficial. */
void autodl_offer_ordinary(const struct autodl_card *card, struct rental_offer *ret);
int autodl_pick_ordinary(struct autodl_tables *t, const char *gpu, struct rental_offer *ret, char **ret_why);

/* As find_card, find_image and find_region of rental.h. -ENOENT: *ret_why, caller frees. */
int autodl_pick_card(const struct autodl_tables *t, const char *gpu, struct rental_offer *ret, char **ret_why);
int autodl_pick_image(const struct autodl_tables *t, const char *name, const char **ret_image, char **ret_why);
int autodl_pick_region(const struct autodl_tables *t, const char *name, const char **ret_region, char **ret_why);
