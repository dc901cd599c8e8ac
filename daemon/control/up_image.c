/* What people call an image may be one that they saved, which only the provider knows. */
#include "control/up_image.h"

#include "base/fault.h"
#include "base/op.h"
#include "control/call.h"
#include "control/up_rent.h"
#include "lease/account.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "provider/rental.h"

struct asking {
    void (*then)(struct call *c);
    bool is_known; /* the provider takes that word, whatever its list says */
    char *why;     /* it does not, and has others */
};

static void asking_drop(struct call *c)
{
    struct asking *k = c->state;

    free(k->why);
    free(k);
    c->state = NULL;
    c->drop = NULL;
}

static void asking_goes_on(struct call *c)
{
    void (*then)(struct call * c) = ((struct asking *)c->state)->then;

    asking_drop(c);
    then(c);
}

/* By its id, or by its name if no other one that can be used has it: *ret_several. */
static const struct rental_image *find_image(const struct rental_image *images, unsigned n, const char *name,
                                             bool *ret_several)
{
    const struct rental_image *found = NULL;

    *ret_several = false;
    for (unsigned i = 0; i < n; i++)
        if (streq(images[i].id, name))
            return &images[i];
    for (unsigned i = 0; i < n; i++) {
        if (!streq(images[i].name, name))
            continue;
        *ret_several = *ret_several || (found && found->ready && images[i].ready);
        if (!found || images[i].ready)
            found = &images[i];
    }
    return found;
}

/* The provider lets two bear one name. */
static void say_several(struct call *c, const struct rental_image *images, unsigned n, const char *name)
{
    unsigned said = 0;
    struct buf ids;

    buf_init(&ids, 16384);
    for (unsigned i = 0; i < n; i++)
        if (images[i].ready && streq(images[i].name, name))
            buf_addf(&ids, "%s%s", said++ ? ", " : "", images[i].id);
    call_fail(c, EXIT_USAGE, "ambiguous_image", name, "say --image with the id of one", "llmhostctl image list",
              "nothing was rented: several images are called %s: %s", name, buf_text(&ids));
    buf_done(&ids);
}

static void say_which(struct call *c, const struct rental_image *images, unsigned n)
{
    const struct asking *k = c->state;
    unsigned said = 0;
    struct buf list;

    buf_init(&list, 16384);
    for (unsigned i = 0; i < n; i++)
        if (images[i].ready)
            buf_addf(&list, "%s%s", said++ ? ", " : "", *images[i].name ? images[i].name : images[i].id);
    call_fail(c, EXIT_USAGE, "no_such_image", json_get_text(c->parameters, "image"), NULL,
              "llmhostctl image list", "%s; %s%s", k->why, said ? "yours: " : "none of yours is saved",
              said ? buf_text(&list) : "");
    buf_done(&list);
}

static void on_images(void *ctx, const struct rental_image *images, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    const struct asking *k = c->state;
    const char *name = json_get_text(c->parameters, "image");
    bool several = false;
    const struct rental_image *found = f ? NULL : find_image(images, n, name, &several);

    if (several) {
        say_several(c, images, n, name);
        return;
    }
    if (found && !found->ready) {
        call_fail(c, EXIT_CONFLICT, "image_not_ready", name, NULL, "llmhostctl image list",
                  "nothing was rented: the image %s cannot be used (%s)", name, found->word);
        return;
    }
    if (!found && !k->is_known) {
        if (f)
            call_fault(c, f, json_get_text(c->parameters, "model"), NULL);
        else
            say_which(c, images, n);
        return;
    }
    if (found) {
        struct json *real = json_copy(c->parameters);

        json_put_string(real, "image", found->id);
        json_free(c->real);
        c->parameters = c->real = real;
    }
    asking_goes_on(c);
}

void up_with_image(struct call *c, void (*then)(struct call *c))
{
    const char *name = json_get_text(c->parameters, "image"),
               *provider = json_get_text(c->parameters, "provider");
    struct manager *m = c->context->manager;
    struct account *a = manager_rental_account(m, provider);
    _cleanup_free_ char *why = NULL;
    const char *word = NULL;

    if (!up_rents(c) || !name || !a || !account_ops(a)->images) {
        then(c);
        return;
    }
    bool is_known = account_ops(a)->find_image(account_rental(a), name, &word, &why) == 0;

    if (is_known && word != name) { /* a public one */
        then(c);
        return;
    }
    struct asking *k = xnew(struct asking);

    k->then = then;
    k->is_known = is_known;
    k->why = TAKE_PTR(why);
    c->state = k;
    c->drop = asking_drop;
    account_ops(a)->images(account_rental(a), &c->op, on_images, c);
}
