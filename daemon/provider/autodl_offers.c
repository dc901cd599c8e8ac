/* A name that is not there is answered with those that are: each sentence is made from the tables. */
#include "provider/autodl_offers.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "proto/buf.h"
#include "proto/mem.h"

#define NAME_MAX_SHOWN 40
#define LIST_BYTES_MAX 2048

/* "a, b and c" */
static void add_name(struct buf *out, unsigned i, unsigned n, const char *name)
{
    buf_addf(out, "%s%s", !i ? "" : i + 1 == n ? " and " : ", ", name);
}

/* ---- cards ---- */

void autodl_offer(const struct autodl_card *card, struct rental_offer *ret)
{
    *ret = (struct rental_offer){.gpu = card->gpu,
                                 .card = card->spec,
                                 .memory_gib = card->memory_gib,
                                 .price_milli = card->price_milli,
                                 .price_day = *card->price_day ? card->price_day : NULL,
                                 .stock = -1};
}

int autodl_pick_card(const struct autodl_tables *t, const char *gpu, struct rental_offer *ret, char **ret_why)
{
    const struct autodl_card *card = autodl_find_card(t, gpu);
    struct buf names;

    if (card) {
        autodl_offer(card, ret);
        return 0;
    }
    buf_init(&names, LIST_BYTES_MAX);
    for (unsigned i = 0; i < t->n_cards; i++)
        add_name(&names, i, t->n_cards, t->cards[i].gpu);
    *ret_why = xasprintf("AutoDL's API has no card %.*s (it has %s): take one of these, or rent it in the "
                         "console (%s) and tell us the way in: llmhostctl instance add NAME 'ssh …', or "
                         "llmhostctl provider add autodl --console for the machines that you rented there",
                         NAME_MAX_SHOWN, gpu, buf_text(&names), AUTODL_CONSOLE_URL);
    buf_done(&names);
    return -ENOENT;
}

void autodl_offer_ordinary(const struct autodl_card *card, struct rental_offer *ret)
{
    autodl_offer(card, ret);
    ret->unofficial = true;
}

int autodl_pick_ordinary(struct autodl_tables *t, const char *gpu, struct rental_offer *ret, char **ret_why)
{
    const struct autodl_card *card = autodl_find_ordinary(t, gpu);
    struct buf names;

    if (card) {
        autodl_offer_ordinary(card, ret);
        return 0;
    }
    buf_init(&names, LIST_BYTES_MAX);
    for (unsigned i = 0; i < t->n_ordinary; i++)
        add_name(&names, i, t->n_ordinary, t->ordinary[i].gpu);
    *ret_why =
        xasprintf("no card %.*s is known in AutoDL's console, but %s", NAME_MAX_SHOWN, gpu, buf_text(&names));
    buf_done(&names);
    return -ENOENT;
}

/* ---- images ---- */

/* A saved one is in no table of ours; its id goes into the call as it is. */
static bool is_id_of_image(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";

    return (strncmp(name, "image-", 6) == 0 || strncmp(name, "base-image-", 11) == 0) && strlen(name) < 64 &&
           !name[strspn(name, letters)];
}

int autodl_pick_image(const struct autodl_tables *t, const char *name, const char **ret_image, char **ret_why)
{
    struct buf names;

    if (name && is_id_of_image(name)) {
        *ret_image = name;
        return 0;
    }
    for (unsigned i = 0; i < t->n_images; i++)
        if (!name || strcasecmp(t->images[i].word, name) == 0) {
            *ret_image = t->images[i].uuid;
            return 0;
        }
    buf_init(&names, LIST_BYTES_MAX);
    for (unsigned i = 0; i < t->n_images; i++)
        add_name(&names, i, t->n_images, t->images[i].word);
    *ret_why = xasprintf("no image %.*s is known: there are %s, and every one of AutoDL's by its id "
                         "(image-… or base-image-…)",
                         NAME_MAX_SHOWN, name ? name : "", buf_text(&names));
    buf_done(&names);
    return -ENOENT;
}

/* ---- regions ---- */

int autodl_pick_region(const struct autodl_tables *t, const char *name, const char **ret_region,
                       char **ret_why)
{
    unsigned n = 0, shown = 0;
    struct buf names;

    if (!name) {
        *ret_region = NULL;
        return 0;
    }
    for (unsigned i = 0; i < t->n_regions; i++) {
        const struct autodl_region *r = &t->regions[i];

        n += r->can_create;
        if (r->can_create && (strcasecmp(r->code, name) == 0 || streq(r->name, name))) {
            *ret_region = r->code;
            return 0;
        }
    }
    buf_init(&names, LIST_BYTES_MAX);
    for (unsigned i = 0; i < t->n_regions; i++) {
        const struct autodl_region *r = &t->regions[i];
        _cleanup_free_ char *both = xasprintf("%s (%s)", r->code, r->name);

        if (r->can_create)
            add_name(&names, shown++, n, both);
    }
    *ret_why = xasprintf("AutoDL's API rents no machines out in %.*s, but in %s", NAME_MAX_SHOWN, name,
                         buf_text(&names));
    buf_done(&names);
    return -ENOENT;
}
