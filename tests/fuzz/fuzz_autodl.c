/* links: provider
 * Any text as AutoDL's answer, or as its tables (when it begins with "["). What is taken for a machine or for
 * a way in holds nothing that means something elsewhere; what is refused has a kind and a sentence. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "provider/autodl_offers.h"
#include "provider/autodl_tables.h"
#include "provider/autodl_wire.h"

static void check(bool good)
{
    if (!good)
        abort();
}

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if (!isalnum((unsigned char)*text) && !strchr("-_.:", *text))
            return false;
    return true;
}

static void check_fault(const struct fault *f, bool asked)
{
    check(f->kind != FAULT_NONE && *f->text && *f->code);
    check(utf8_valid(f->text, strlen(f->text)) == strlen(f->text));
    check(asked || f->kind != FAULT_UNCERTAIN);
    check(!asked || f->kind != FAULT_TRANSIENT);
}

static void read_answer(struct autodl_tables *t, const struct autodl_answer *a)
{
    static struct autodl_page page;
    static struct autodl_images images;
    struct autodl_market market = {0};
    unsigned pages;
    bool found;
    struct instance_way s;
    struct fault f;
    char id[INSTANCE_ID_MAX];
    int stock[AUTODL_ROWS_MAX] = {0};
    int64_t milli;

    f = (struct fault){0};
    if (autodl_read_page(t, a, &page, &f) < 0)
        check_fault(&f, a->asked);
    else
        check(page.n <= AUTODL_PAGE_ROWS && page.n_pages >= 1 && page.n_pages <= 100);
    for (unsigned i = 0; !f.kind && i < page.n; i++)
        check(*page.seen[i].id && is_plain(page.seen[i].id));
    f = (struct fault){0};
    if (autodl_read_made(t, a, id, &f) < 0)
        check_fault(&f, a->asked);
    else
        check(*id && is_plain(id));
    f = (struct fault){0};
    if (autodl_read_saved(t, a, id, &f) < 0)
        check_fault(&f, a->asked);
    else
        check(*id && is_plain(id));
    f = (struct fault){0};
    if (autodl_read_images(t, a, &images, &f) < 0)
        check_fault(&f, a->asked);
    else
        check(images.n <= AUTODL_PAGE_ROWS && images.n_pages >= 1 && images.n_pages <= 100);
    for (unsigned i = 0; !f.kind && i < images.n; i++)
        check(*images.all[i].id && is_plain(images.all[i].id) && images.all[i].bytes >= 0 &&
              images.all[i].made_at_ms >= 0);
    f = (struct fault){0};
    if (autodl_read_snapshot(t, a, &s, &f) < 0)
        check_fault(&f, a->asked);
    else
        check(is_plain(s.host) && *s.host != '-' && !*s.host == !s.port && !*s.host == !*s.password &&
              s.price_milli >= 0);
    f = (struct fault){0};
    if (autodl_read_page_way(t, a, "pro-1", &s, &found, &pages, &f) < 0)
        check_fault(&f, a->asked);
    else
        check(pages >= 1 && pages <= 100 && is_plain(s.host) && !*s.host == !s.port && (found || !*s.host));
    f = (struct fault){0};
    if (autodl_read_market(t, a, &market, &pages, &f) < 0)
        check_fault(&f, a->asked);
    for (unsigned i = 0; i < t->n_ordinary; i++)
        check(market.stock[i] >= 0 && market.price_milli[i] >= 0);
    f = (struct fault){0};
    if (autodl_read_balance(t, a, &milli, &f) < 0)
        check_fault(&f, a->asked);
    f = (struct fault){0};
    if (autodl_read_stock(t, a, stock, &f) < 0)
        check_fault(&f, a->asked);
    for (unsigned i = 0; i < t->n_cards; i++)
        check(stock[i] >= 0);
}

/* As a name somebody typed. */
static void pick(const struct autodl_tables *t, const char *name)
{
    struct rental_offer offer;
    const char *word = NULL;
    char *why = NULL;

    if (autodl_pick_card(t, name, &offer, &why) < 0)
        check(why != NULL);
    free(why);
    why = NULL;
    check(autodl_pick_image(t, name, &word, &why) < 0 ? why != NULL : is_plain(word));
    free(why);
    why = NULL;
    check(autodl_pick_region(t, name, &word, &why) < 0 ? why != NULL : is_plain(word));
    free(why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct autodl_tables built_in, other;
    _cleanup_free_ char *why = NULL;

    if (!built_in.n_errors)
        check(autodl_tables_parse(provider_autodl_ini, strlen(provider_autodl_ini), &built_in, &why) == 0);
    if (n && data[0] == '[') {
        if (autodl_tables_parse((const char *)data, n, &other, &why) < 0)
            check(why != NULL);
        for (unsigned i = 0; !why && i < other.n_cards; i++)
            check(autodl_find_card(&other, other.cards[i].spec) != NULL);
    }
    _cleanup_free_ char *name = strndup((const char *)data, n);

    pick(&built_in, name);
    for (int asked = 0; asked < 2; asked++)
        read_answer(&built_in, &(struct autodl_answer){
                                   .text = (const char *)data, .n = n, .status = 200, .asked = asked});
    return 0;
}
