/* Saved system disks: a machine that is off is saved, and looked at until the image can be used; all that
 * there are. */
#include <string.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/op.h"
#include "base/timer.h"
#include "control/explain.h"
#include "control/follow.h"
#include "control/methods.h"
#include "control/show_rent.h"
#include "lease/account.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"

#define LOOK_MS  5000u               /* between two looks at one that is being saved */
#define LIMIT_MS (30u * 60u * 1000u) /* others wait 20 minutes (reference/autodl.md §2.2) */

static struct json *show_image(const struct account *a, const struct rental_image *i)
{
    struct json *v = json_object();

    json_put_string(v, "provider", account_name(a));
    json_put_string(v, "id", i->id);
    json_put_string(v, "name", i->name);
    json_put_bool(v, "ready", i->ready);
    json_put_string(v, "provider_state", *i->word ? i->word : NULL);
    if (i->bytes)
        json_put_int(v, "bytes", i->bytes);
    if (i->made_at_ms)
        json_put_int(v, "made_at_ms", i->made_at_ms);
    return v;
}

/* ---- ImageSave ---- */

struct saving {
    struct timer *look, *limit;
    char *provider, *name; /* whom it is asked of; the image's */
    char id[INSTANCE_ID_MAX];
    uint64_t begun_due;
};

static void saving_drop(struct call *c)
{
    struct saving *s = c->state;

    timer_free(s->look);
    timer_free(s->limit);
    free(s->provider);
    free(s->name);
    free(s);
}

static void saving_answer(struct call *c, const struct account *a, const struct rental_image *i)
{
    struct json *v = json_object();

    json_put(v, "image", show_image(a, i));
    call_reply(c, v);
}

/* "saving": the provider's own word for how it is. */
static bool saving_tell(struct call *c, const char *state, const char *text)
{
    const struct saving *s = c->state;
    struct json *v;

    if (!c->more)
        return true;
    v = json_object();
    json_put(v, "progress", follow_progress("save", state, text, clock_now_ms() - s->begun_due));
    return call_reply_more(c, v);
}

static void on_images(void *ctx, const struct rental_image *images, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    struct saving *s = c->state;
    const struct account *a = manager_find_account(c->context->manager, s->provider);
    const char *word = "";

    if (f && (f->kind == FAULT_DENIED || !a)) {
        call_fault(c, f, s->provider, NULL);
        return;
    }
    for (unsigned i = 0; a && i < n; i++) {
        if (!streq(images[i].id, s->id))
            continue;
        if (images[i].ready && !saving_tell(c, "done", images[i].word))
            return;
        if (images[i].ready) {
            saving_answer(c, a, &images[i]);
            return;
        }
        word = images[i].word;
    }
    if (saving_tell(c, "running", word))
        timer_arm(s->look, LOOK_MS);
}

static void saving_on_look(void *ctx)
{
    struct call *c = ctx;
    const struct saving *s = c->state;
    struct account *a = manager_find_account(c->context->manager, s->provider);

    if (a)
        account_ops(a)->images(account_rental(a), &c->op, on_images, c);
    else
        call_fail(c, EXIT_NOT_FOUND, "no_provider", s->provider, NULL, "llmhostctl provider list",
                  "the account at %s was removed meanwhile", s->provider);
}

static void saving_on_limit(void *ctx)
{
    struct call *c = ctx;
    const struct saving *s = c->state;

    call_fail(c, EXIT_TIMED_OUT, "timed_out", s->name, "the work goes on", "llmhostctl image list",
              "the image %s is not ready yet", s->name);
}

/* It is under way over there, whoever waits. */
static void on_saved(void *ctx, const char *id, const struct fault *f)
{
    struct call *c = ctx;
    struct saving *s = c->state;
    struct account *a = manager_find_account(c->context->manager, s->provider);
    bool unsure = f && f->kind == FAULT_UNCERTAIN;
    _cleanup_free_ char *what =
        xasprintf(unsure ? "whether %s was saved is not known: look at the list of images"
                         : "the image %s was not saved",
                  s->name);

    if (f) {
        call_fault(c, f, json_get_text(c->parameters, "instance"), what);
        return;
    }
    struct rental_image image = {0};

    snprintf(s->id, sizeof s->id, "%s", id);
    snprintf(image.id, sizeof image.id, "%s", id);
    snprintf(image.name, sizeof image.name, "%.*s",
             (int)utf8_valid(s->name, MIN(strlen(s->name), sizeof image.name - 1)), s->name);
    if (a && !json_get_bool(c->parameters, "wait", true))
        saving_answer(c, a, &image);
    else if (saving_tell(c, "running", ""))
        saving_on_look(c);
}

/* The provider would refuse it as well, in words that few can read. */
static bool may_be_saved(struct call *c, const struct lease *l, const char *name)
{
    const struct rental_ops *ops = account_ops(rented_account(lease_rented(l)));
    _cleanup_free_ char *next = xasprintf("llmhostctl down %s", lease_name(l));
    size_t n = strlen(name);

    if (!n || n > 60 || utf8_valid(name, n) != n || strcspn(name, "\n\r\t") != n) {
        call_fail(c, EXIT_USAGE, "bad_name", name, NULL, "",
                  "\"%.60s\" cannot name an image: use 1 to 60 letters", name);
        return false;
    }
    if (!ops->save_image) {
        call_fail(c, EXIT_USAGE, "no_images", lease_name(l), NULL, "", "%s saves no images for us",
                  ops->title);
        return false;
    }
    if (life_state(rented_life(lease_rented(l))) != LIFE_STOPPED) {
        call_fail(c, EXIT_CONFLICT, "image_not_off", lease_name(l),
                  "only the disk of a machine that is off can be saved", next,
                  "%s was not saved: it is not off", lease_name(l));
        return false;
    }
    return true;
}

/* Two of one name are one that nobody can point to. */
static void on_names(void *ctx, const struct rental_image *images, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    const struct saving *s = c->state;
    const char *instance = json_get_text(c->parameters, "instance");
    _cleanup_free_ char *what = xasprintf("the image %s was not saved", s->name);

    if (f) {
        call_fault(c, f, instance, what);
        return;
    }
    struct lease *l = call_find_rented(c, instance); /* time has passed */

    if (!l || !may_be_saved(c, l, s->name))
        return;
    struct account *a = rented_account(lease_rented(l));

    for (unsigned i = 0; i < n; i++)
        if (streq(images[i].name, s->name)) {
            _cleanup_free_ char *next = xasprintf("llmhostctl image save %s ANOTHER-NAME\nllmhostctl image list",
                                                  lease_name(l));
            _cleanup_free_ char *why = xasprintf("images are deleted at %s only", account_ops(a)->console_url);

            call_fail(c, EXIT_CONFLICT, "image_exists", s->name, why, next, "%s: there is one of that name (%s)",
                      what, images[i].id);
            return;
        }
    call_log_change(c, lease_name(l), "saved as an image");
    account_ops(a)->save_image(account_rental(a), rented_record(lease_rented(l))->id, s->name, &c->op,
                               on_saved, c);
}

void method_image_save(struct call *c)
{
    const char *name = json_get_text(c->parameters, "name");
    int64_t timeout_ms = json_get_int(c->parameters, "timeout_ms", LIMIT_MS);
    struct lease *l =
        follow_timeout_is_wrong(c) ? NULL : call_find_rented(c, json_get_text(c->parameters, "instance"));

    if (!l || !may_be_saved(c, l, name))
        return;
    struct account *a = rented_account(lease_rented(l));
    struct saving *s = xnew(struct saving);

    s->provider = xstrdup(account_name(a));
    s->name = xstrdup(name);
    s->begun_due = clock_now_ms();
    s->look = timer_new(c->context->loop, saving_on_look, c);
    s->limit = timer_new(c->context->loop, saving_on_limit, c);
    timer_arm(s->limit, (uint64_t)timeout_ms);
    c->state = s;
    c->drop = saving_drop;
    account_ops(a)->images(account_rental(a), &c->op, on_names, c);
}

/* ---- ImageList ---- */

/* One account is asked after the other. */
struct listing {
    struct json *images;
    char *provider;
    unsigned next;
};

static void listing_drop(struct call *c)
{
    struct listing *g = c->state;

    json_free(g->images);
    free(g->provider);
    free(g);
}

static void listing_ask(struct call *c);

static void on_listed(void *ctx, const struct rental_image *images, unsigned n, const struct fault *f)
{
    struct call *c = ctx;
    struct listing *g = c->state;
    const struct account *a = manager_find_account(c->context->manager, g->provider);

    if (f) {
        call_fault(c, f, g->provider, NULL);
        return;
    }
    for (unsigned i = 0; a && i < n; i++)
        json_append(g->images, show_image(a, &images[i]));
    listing_ask(c);
}

static void listing_ask(struct call *c)
{
    struct listing *g = c->state;
    const char *wanted = json_get_text(c->parameters, "provider");
    struct account *a;

    while ((a = manager_account_at(c->context->manager, g->next++)))
        if (account_ops(a)->images && (!wanted || streq(wanted, account_name(a)))) {
            free(g->provider);
            g->provider = xstrdup(account_name(a));
            account_ops(a)->images(account_rental(a), &c->op, on_listed, c);
            return;
        }
    struct json *v = json_object();

    json_put(v, "images", TAKE_PTR(g->images));
    call_reply(c, v);
}

void method_image_list(struct call *c)
{
    if (!call_find_account(c, json_get_text(c->parameters, "provider")))
        return;
    struct listing *g = xnew(struct listing);

    g->images = json_array();
    c->state = g;
    c->drop = listing_drop;
    listing_ask(c);
}
