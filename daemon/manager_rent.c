/* Machines that are rented: made, given back. At which account is in manager_account.c, when they are on in
 * manager_power.c. */
#include "manager_private.h"

#include <ctype.h>
#include <errno.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/settings.h"
#include "base/timer.h"
#include "lease/account.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/buf.h"
#include "proto/text.h"
#include "provider/rental.h"

#define LEFT_MS 1000u /* from the end of a search until what it left is forgotten */

/* ---- a machine is rented ---- */

/* One of `--gpu`: "4090D", "4090Dx2". */
struct card {
    char gpu[40];
    unsigned cards;
    struct rental_offer offer;
};
#define CARDS_MAX 8

/* The only one that machines can be rented from; NULL: none, or several. */
static struct account *only_account(struct manager *m, unsigned *ret_n)
{
    struct account *a, *found = NULL;

    *ret_n = 0;
    for (unsigned i = 0; (a = manager_account_at(m, i)); i++)
        if (account_ops(a)->create) {
            found = a;
            ++*ret_n;
        }
    return *ret_n == 1 ? found : NULL;
}

struct account *manager_rental_account(struct manager *m, const char *provider)
{
    unsigned n;

    return provider ? manager_find_account(m, provider) : only_account(m, &n);
}

static struct account *choose_account(struct manager *m, const char *provider, struct fault *f)
{
    unsigned n = 0;
    struct account *a = provider ? manager_find_account(m, provider) : only_account(m, &n);

    if (provider && !a)
        manager_refuse_account(provider, f);
    else if (n > 1)
        fault_code(f, FAULT_INVALID, "which_provider", "there are several accounts to rent with: say which");
    else if (!a)
        manager_refuse_account(NULL, f);
    else if (!account_ops(a)->create)
        fault_code(f, FAULT_INVALID, "made_by_hand",
                   "machines of %s are made by hand, at %s: what is there becomes yours here by llmhostctl "
                   "instance add NAME --provider=%s --id=ID",
                   account_ops(a)->title, account_ops(a)->console_url, account_name(a));
    else
        return a;
    return NULL;
}

/* "4090Dx2x3": nobody knows what was meant. */
static bool is_counted_twice(const char *gpu)
{
    char again[sizeof((struct card){}.gpu)];

    snprintf(again, sizeof again, "%s", gpu);
    return rental_cut_count(again) != 0;
}

static bool is_named_before(const struct card *cards, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (streq(cards[i].offer.card, cards[n].offer.card) && cards[i].cards == cards[n].cards)
            return true;
    return false;
}

/* In the order of preference, each once; -EINVAL: *f. */
static int read_cards(struct account *a, const char *gpu, struct card *ret, unsigned *ret_n, struct fault *f)
{
    unsigned n = 0;

    for (const char *at = gpu, *end; *at; at = *end ? end + 1 : end) {
        _cleanup_free_ char *why = NULL;
        struct card *c = &ret[n];

        end = strchrnul(at, ',');
        if (n == CARDS_MAX)
            return fault_code(f, FAULT_INVALID, "no_such_card", "\"%.60s\" names too many cards", gpu);
        snprintf(c->gpu, sizeof c->gpu, "%.*s", (int)MIN((size_t)(end - at), sizeof c->gpu - 1), at);
        c->cards = rental_cut_count(c->gpu);
        if (c->cards && is_counted_twice(c->gpu))
            return fault_code(f, FAULT_INVALID, "no_such_card",
                              "\"%.*s\" counts its cards twice: 4090Dx2 is a machine with two of them",
                              (int)MIN(end - at, (ptrdiff_t)60), at);
        c->cards = MAX(c->cards, 1u);
        if (account_ops(a)->cards_max && c->cards > account_ops(a)->cards_max)
            return fault_code(f, FAULT_INVALID, "no_such_card",
                              "%s rents out no machine with %u cards: at most %u",
                              account_ops(a)->title, c->cards, account_ops(a)->cards_max);
        if (account_ops(a)->find_card(account_rental(a), c->gpu, &c->offer, &why) < 0)
            return fault_code(f, FAULT_INVALID, "no_such_card", "%s", why);
        n += !is_named_before(ret, n);
    }
    *ret_n = n;
    return n ? 0 : fault_code(f, FAULT_INVALID, "no_such_card", "no card is named");
}

/* What is too dear by its last known price is left out. 0, or -EINVAL when nothing is left. */
static int leave_dear(struct account *a, const struct manager_rent *w, struct card *cards, unsigned *n,
                      struct fault *f)
{
    int64_t most = account_ceiling_milli(a, w->max_price_milli, w->over_budget);
    bool is_of_account = most != w->max_price_milli; /* another word about this one machine changes nothing */
    char price[TEXT_SHORT_MAX], allowed[TEXT_SHORT_MAX];
    unsigned kept = 0;

    for (unsigned i = 0; i < *n; i++) {
        int64_t hour = account_price(a, &cards[i].offer) * cards[i].cards;

        if (!most || hour <= most)
            cards[kept++] = cards[i];
        else if (!kept)
            fault_code(f, FAULT_INVALID, is_of_account ? "budget_hour" : "price",
                       "%s costs %s an hour, and at most %s is allowed%s", cards[i].gpu,
                       money_format(price, hour, account_ops(a)->unit),
                       money_format(allowed, most, account_ops(a)->unit),
                       is_of_account ? ", by the limit of the account" : "");
    }
    *n = kept;
    return kept ? 0 : -EINVAL;
}

/* Nothing on it is up or on its way there: another model may have it. */
static bool is_free(struct manager *m, const struct lease *l)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
        enum deployment_state s = deployment_state(d->deployment);

        if (deployment_lease(d->deployment) == l && s != DEPLOYMENT_OFF && s != DEPLOYMENT_ASLEEP &&
            s != DEPLOYMENT_FAILED)
            return false;
    }
    return true;
}

static bool stays_ours(struct manager *m, const struct lease *l)
{
    return !removals_have(m, lease_name(l)) && life_goal(rented_life(lease_rented(l))) != LIFE_GOAL_RELEASE;
}

/* Nothing came of it, and nobody looks for it any more. */
static bool is_given_up(struct manager *m, const struct lease *l)
{
    const struct rented *r = lease_rented(l);

    return r && rented_was_never_made(r) && rented_record(r)->by_search && !choices_have(m, l) &&
           !forwards_have(m, l) && !removals_have(m, lease_name(l));
}

static bool is_of_card(const struct lease *l, const struct account *a, const struct card *c)
{
    const struct rented *r = lease_rented(l);

    return r && rented_account(r) == a && streq(rented_record(r)->card, c->offer.card) &&
           rented_record(r)->cards == c->cards;
}

struct place {
    const char *image;
    char regions[CARDS_MAX * 64]; /* as the provider writes them, in the order of preference; "": anywhere */
};

static bool names_region(const char *list, const char *region)
{
    size_t n = strlen(region);

    for (const char *at = list; *at; at += strcspn(at, ","), at += *at == ',')
        if (strcspn(at, ",") == n && strncmp(at, region, n) == 0)
            return true;
    return false;
}

static bool is_made(const struct lease *l)
{
    return *life_record(rented_life(lease_rented(l)))->id;
}

/* Of one that is not made yet any region is to be; where nobody knows, it is as good as asked for. */
static bool stands_there(const struct lease *l, const struct place *where)
{
    const char *region = is_made(l) ? rented_region(lease_rented(l)) : NULL;

    return !*where->regions || !region || names_region(where->regions, region);
}

static bool is_wanted_on(const struct lease *l)
{
    return life_goal(rented_life(lease_rented(l))) == LIFE_GOAL_ON;
}

/* Somebody else waits for it as well. */
static bool is_for_others(struct manager *m, const struct lease *l, const char *model)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l && deployment_goal(d->deployment) != GOAL_OFF &&
            !(model && streq(deployment_name(d->deployment), model)))
            return true;
    return false;
}

/* Its cards are only those of a search for that model, which may be another one from now on. */
static bool is_search(struct manager *m, const struct lease *l, const struct account *a, const char *model)
{
    const struct rented *r = lease_rented(l);

    return r && rented_account(r) == a && rented_record(r)->never_seen && is_wanted_on(l) &&
           !is_for_others(m, l, model);
}

/* In the order of preference, whatever is up there. */
static struct lease *find_with_model(struct manager *m, const struct account *a, const struct manager_rent *w,
                                     const struct card *cards, unsigned n, const struct place *where,
                                     bool made)
{
    for (unsigned i = 0; w->model && i < n; i++)
        LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
            struct lease *l = deployment_lease(d->deployment);

            if (streq(deployment_name(d->deployment), w->model) && is_of_card(l, a, &cards[i]) &&
                is_made(l) == made && stands_there(l, where) && stays_ours(m, l))
                return l;
        }
    return NULL;
}

static struct lease *find_wanted(struct manager *m, const struct account *a, const struct manager_rent *w,
                                 const struct card *cards, unsigned n)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node) {
        struct lease *l = deployment_lease(d->deployment);
        bool is_meant = w->model && streq(deployment_name(d->deployment), w->model) &&
                        deployment_goal(d->deployment) != GOAL_OFF && lease_rented(l) && is_wanted_on(l) &&
                        stays_ours(m, l);

        if (is_meant && is_search(m, l, a, w->model))
            return l;
        for (unsigned i = 0; is_meant && i < n; i++)
            if (is_of_card(l, a, &cards[i]))
                return l;
    }
    return NULL;
}

static struct lease *find_free(struct manager *m, const struct account *a, const struct card *cards,
                               unsigned n, const struct place *where, bool made)
{
    for (unsigned i = 0; i < n; i++)
        LIST_FOREACH (l, &m->leases, struct managed_lease, node)
            if (is_of_card(l->lease, a, &cards[i]) && is_made(l->lease) == made &&
                stands_there(l->lease, where) && stays_ours(m, l->lease) && is_free(m, l->lease))
                return l->lease;
    return NULL;
}

/* Asked for twice it is not rented twice; then a machine that is there comes before one that is only to be,
 * and the one that has the model before the others. */
static struct lease *find_rented(struct manager *m, const struct account *a, const struct manager_rent *w,
                                 const struct card *cards, unsigned n, const struct place *where)
{
    struct lease *l = find_wanted(m, a, w, cards, n);

    for (unsigned pass = 0; !l && pass < 2; pass++) {
        l = find_with_model(m, a, w, cards, n, where, pass == 0);
        l = l ? l : find_free(m, a, cards, n, where, pass == 0);
    }
    return l;
}

static bool is_taken(struct manager *m, const char *name)
{
    struct fault f;

    return instances_have(m, name) || aliases_refuse_instance(m, name, &f) < 0 ||
           orphans_refuse_name(m, name, &f) < 0;
}

/* One that nothing came of has a name, and no more: what is looked for now may have it. */
static bool may_be_taken_over(struct manager *m, const struct account *a, const struct lease *l)
{
    return is_given_up(m, l) && rented_account(lease_rented(l)) == a && is_free(m, l);
}

#define STEM_MAX 32
#define NO_CARD  "rented" /* which one it gets is not known yet */

/* What a machine with such a card is called: "4090Dx2" is "4090dx2". */
static void write_stem(const char *gpu, unsigned cards, char out[static STEM_MAX])
{
    size_t n = 0;

    for (const char *p = gpu; *p && n < 24; p++)
        if (isalnum((unsigned char)*p))
            out[n++] = (char)tolower((unsigned char)*p);
    out[n] = '\0';
    if (cards > 1)
        snprintf(out + n, STEM_MAX - n, "x%u", cards);
    if (!*out)
        snprintf(out, STEM_MAX, "gpu");
}

/* "4090d" and "4090d-2" are of that stem. */
static bool is_of_stem(const char *name, const char *stem)
{
    size_t n = strlen(stem);

    return strncmp(name, stem, n) == 0 &&
           (!name[n] || (name[n] == '-' && !name[n + 1 + strspn(name + n + 1, "0123456789")]));
}

bool manager_is_misnamed(const struct lease *l)
{
    const struct rented *r = lease_rented(l);
    const struct hunt *h = r ? rented_hunt(r) : NULL;
    char stem[STEM_MAX];

    if (!r || !rented_record(r)->by_search || is_of_stem(lease_name(l), NO_CARD))
        return false;
    for (unsigned i = 0; i < h->n; i++) {
        write_stem(h->all[i].gpu, h->all[i].cards, stem);
        if (!is_of_stem(lease_name(l), stem))
            return true;
    }
    return false;
}

/* "4090D" is "4090d", then "4090d-2". The instance that is taken over, or NULL: it is a new name. */
static struct lease *choose_name(struct manager *m, const struct account *a, const struct card *c,
                                 char out[static 41])
{
    struct lease *l;
    char stem[STEM_MAX] = NO_CARD;

    if (c)
        write_stem(c->gpu, c->cards, stem);
    snprintf(out, 41, "%s", stem);
    for (unsigned i = 2; is_taken(m, out); i++) {
        l = manager_find_lease(m, out);
        if (l && may_be_taken_over(m, a, l))
            return l;
        snprintf(out, 41, "%s-%u", stem, i);
    }
    return NULL;
}

/* 0: *ret is the one of that name, or NULL: it would be new. */
static int find_named(struct manager *m, const struct account *a, const struct manager_rent *w,
                      const struct card *cards, unsigned n, struct lease **ret, struct fault *f)
{
    const char *name = w->name, *model = w->model;
    struct lease *l = manager_find_lease(m, name);

    *ret = NULL;
    if (!name_is_instance(name))
        return fault_code(f, FAULT_INVALID, "bad_name",
                          "\"%.60s\" cannot name an instance: use 1 to 40 of a-z 0-9 -", name);
    for (unsigned i = 0; l && i < n; i++)
        if (is_search(m, l, a, model) || is_of_card(l, a, &cards[i])) {
            *ret = l;
            return 0;
        }
    if (aliases_refuse_instance(m, name, f) < 0)
        return -EINVAL;
    if (instances_have(m, name))
        return fault_code(f, FAULT_INVALID, "exists",
                          "there is an instance %s already, and it is no such machine", name);
    return 0;
}

/* "西北B区,beijingDC2", each once; each may be named in any way that the provider knows. */
static int read_regions(struct account *a, const char *names, struct place *ret, struct fault *f)
{
    struct buf list;
    unsigned n = 0;
    int r = 0;

    buf_init(&list, sizeof ret->regions - 1);
    for (const char *at = names, *end; r == 0 && at && *at; at = *end ? end + 1 : end) {
        _cleanup_free_ char *why = NULL, *name = NULL;
        const char *region = NULL;

        end = strchrnul(at, ',');
        name = xasprintf("%.*s", (int)(end - at), at);
        if (n == CARDS_MAX)
            r = fault_code(f, FAULT_INVALID, "no_such_region", "\"%.60s\" names too many regions", names);
        else if (account_ops(a)->find_region(account_rental(a), name, &region, &why) < 0)
            r = fault_code(f, FAULT_INVALID, "no_such_region", "%s", why);
        else if (!list.len || !names_region(buf_text(&list), region))
            buf_addf(&list, "%s%s", n++ ? "," : "", region);
    }
    snprintf(ret->regions, sizeof ret->regions, "%s", list.len ? buf_text(&list) : "");
    buf_done(&list);
    return r;
}

static int read_place(struct account *a, const struct manager_rent *w, struct place *ret, struct fault *f)
{
    _cleanup_free_ char *why = NULL;

    if (account_ops(a)->find_image(account_rental(a), w->image, &ret->image, &why) < 0)
        return fault_code(f, FAULT_INVALID, "no_such_image", "%s", why);
    return read_regions(a, w->region, ret, f);
}

/* As they are tried, one after the other, until there is a machine: "4090D,5090x2". */
#define LIST_MAX (CARDS_MAX * 48)
static void list_cards(const struct card *cards, unsigned n, char out[static LIST_MAX])
{
    size_t len = 0;

    *out = '\0';
    for (unsigned i = 0; i < n; i++) {
        len += (size_t)snprintf(out + len, LIST_MAX - len, "%s%s", i ? "," : "", cards[i].offer.gpu);
        if (cards[i].cards > 1)
            len += (size_t)snprintf(out + len, LIST_MAX - len, "x%u", cards[i].cards);
    }
}

/* Of a machine that is to be; the texts are borrowed. */
static struct rental_record what_is_asked(const struct manager_rent *w, const struct card *first,
                                          const char *list, const struct place *where)
{
    return (struct rental_record){
        .state = (char *)life_state_name(LIFE_ABSENT),
        .goal = (char *)"off",
        .card = (char *)first->offer.card,
        .image = (char *)where->image,
        .region = *where->regions ? (char *)where->regions : NULL,
        .gpu = (char *)list,
        .cards = first->cards,
        .disk_gb = w->disk_gb,
        .max_price_milli = w->max_price_milli,
        .never_made = true,
        .never_seen = true,
        .by_search = !w->name,
    };
}

static struct lease *make_rented(struct manager *m, struct account *a, struct rental_record *rental,
                                 const char *name, uint64_t *ret_ticket)
{
    const struct instance_record record = {
        .name = (char *)name,
        .provider = (char *)account_name(a),
        .install_key = settings_bool(m->context.settings, "ssh", "install_key"),
        .added_at_ms = clock_wall_ms(),
        .rental = rental,
    };
    struct lease *l = manager_make_lease(m, &record, false);
    store_ticket t = lease_keep(l);

    *ret_ticket = MAX(t, store_put_rental(m->context.store, name, rented_record(lease_rented(l))));
    manager_insert_lease(m, l);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "instance_added", "added (%s, %s)", account_name(a),
                  rental->gpu);
    manager_tell_lease(m, l, false);
    return l;
}

static bool is_same(const char *a, const char *b)
{
    return streq(a ? a : "", b ? b : "");
}

/* No machine of it was seen, and what is asked for now is not what it is to be. */
static bool is_to_be_another(const struct lease *l, const struct rental_record *asked)
{
    const struct rental_record *is = rented_record(lease_rented(l));

    return is->never_seen &&
           !(is_same(is->gpu, asked->gpu) && is_same(is->region, asked->region) &&
             is_same(is->image, asked->image) && is->disk_gb == asked->disk_gb &&
             (!asked->max_price_milli || is->max_price_milli == asked->max_price_milli));
}

/* What is under way just now is for the old words. */
static int refuse_search(const struct lease *l, const struct rental_record *asked, struct fault *f)
{
    if (!is_to_be_another(l, asked) || rented_may_ask_for(lease_rented(l)))
        return 0;
    return fault_code(f, FAULT_TRANSIENT, "search_is_on",
                      "%s is being asked for at this moment, and what is looked for cannot be changed then",
                      rented_record(lease_rented(l))->gpu);
}

/* Of one there is: what is said of it now. */
static void ask_anew(struct manager *m, const struct account *a, const struct manager_rent *w,
                     struct lease *l, const struct rental_record *asked)
{
    struct rented *r = lease_rented(l);

    if (w->name)
        rented_keep_name(r);
    if ((!w->name && may_be_taken_over(m, a, l)) || is_to_be_another(l, asked))
        rented_ask_for(r, asked);
    if (w->max_price_milli)
        rented_limit_price(r, w->max_price_milli);
}

bool manager_may_name(struct manager *m, const char *provider)
{
    struct fault f;
    const struct account *a = choose_account(m, provider, &f);

    return !a || account_is_listed(a);
}

int manager_rent(struct manager *m, const struct manager_rent *w, bool check, struct lease **ret,
                 uint64_t *ret_ticket, struct fault *f)
{
    struct account *a = choose_account(m, w->provider, f);
    struct card cards[CARDS_MAX] = {};
    struct place where;
    char name[41], list[LIST_MAX];
    unsigned n = 0, named;
    int r = a ? read_cards(a, w->gpu ? w->gpu : "", cards, &n, f) : -EINVAL;

    named = n;
    list_cards(cards, n, list); /* also the dear ones: the search names them, and the limit may rise */
    if (r == 0)
        r = leave_dear(a, w, cards, &n, f);
    if (r == 0)
        r = read_place(a, w, &where, f);
    if (r < 0)
        return r;
    struct rental_record asked = what_is_asked(w, &cards[0], list, &where);

    *ret_ticket = 0;
    *ret = NULL;
    if (w->name && find_named(m, a, w, cards, n, ret, f) < 0)
        return -EINVAL;
    if (!w->name && !w->anew)
        *ret = find_rented(m, a, w, cards, n, &where);
    if (*ret && !w->anew && refuse_search(*ret, &asked, f) < 0)
        return -EINVAL;
    if (*ret && !check)
        ask_anew(m, a, w, *ret, &asked);
    if (!*ret && w->name && orphans_refuse_name(m, w->name, f) < 0)
        return -EINVAL;
    if (*ret || check)
        return 0;
    if (!account_is_listed(a)) /* a machine that nothing here knows may bear any name */
        return fault_code(f, FAULT_TRANSIENT, "not_listed", "which machines there are at %s was not read yet",
                          account_ops(a)->title);
    if (w->name)
        snprintf(name, sizeof name, "%s", w->name);
    else
        *ret = choose_name(m, a, named == 1 ? &cards[0] : NULL, name);
    if (*ret)
        rented_ask_for(lease_rented(*ret), &asked);
    else
        *ret = make_rented(m, a, &asked, name, ret_ticket);
    return 0;
}

/* ---- a machine is given back ---- */

struct release {
    struct op op;
    struct list node;
    char *name;
    struct op *step; /* it is forgotten, and the disk is told */
    op_done_fn done;
    void *ctx;
};

static void release_free(struct release *x)
{
    list_remove(&x->node);
    op_cancel(&x->step);
    free(x->name);
    free(x);
}

static void release_cancel(struct op *op)
{
    release_free(CONTAINER_OF(op, struct release, op));
}

static int check_releasable(struct manager *m, struct lease *l, struct fault *f)
{
    const struct rented *r = lease_rented(l);

    if (!r)
        return fault_code(f, FAULT_INVALID, "not_rented",
                          "%s is not rented: there is nobody to give it back to", lease_name(l));
    if (!account_ops(rented_account(r))->release)
        return fault_code(f, FAULT_INVALID, "by_hand", "%s was not given back: that is done by hand, at %s",
                          lease_name(l), account_ops(rented_account(r))->console_url);
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l && deployment_goal(d->deployment) != GOAL_OFF)
            return fault_code(f, FAULT_INVALID, "in_use", "%s was not given back: %s on it is wanted",
                              lease_name(l), deployment_name(d->deployment));
    enum life_state s = life_state(rented_life(r));

    if (s != LIFE_STOPPED && s != LIFE_ABSENT && s != LIFE_RELEASING && s != LIFE_RELEASED)
        return fault_code(f, FAULT_INVALID, "not_off", "%s was not given back: it is not off", lease_name(l));
    return 0;
}

void manager_release(struct manager *m, struct lease *l, struct op **slot, op_done_fn done, void *ctx)
{
    struct fault f;
    struct release *x;

    if (check_releasable(m, l, &f) < 0) {
        op_finish_later(m->context.loop, slot, &f, done, ctx);
        return;
    }
    x = xnew(struct release);
    x->name = xstrdup(lease_name(l));
    x->done = done;
    x->ctx = ctx;
    list_init(&x->node);
    list_append(&m->releases, &x->node);
    op_begin(&x->op, slot, release_cancel);
    rented_want(lease_rented(l), LIFE_GOAL_RELEASE);
}

void manager_forget_never_made(struct manager *m, struct lease *l)
{
    const struct life_record *life = life_record(rented_life(lease_rented(l)));

    if (*life->id || life->create_open || !rented_record(lease_rented(l))->never_made)
        return; /* there is one, or one may come of a call that got no answer */
    LIST_FOREACH (n, &m->leases, struct managed_lease, node)
        if (n->lease == l)
            n->never_made = true;
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l)
            deployment_want(d->deployment, GOAL_OFF, true);
    rented_want(lease_rented(l), LIFE_GOAL_RELEASE);
}

static void release_on_durable(void *ctx, const struct fault *f)
{
    struct release *x = ctx;
    op_done_fn done = x->done;
    void *done_ctx = x->ctx;
    struct fault unkept;

    if (f) {
        unkept = *f;
        fault_prefix(&unkept, "it was given back, but that is not on disk yet");
    }
    op_end(&x->op);
    release_free(x);
    done(done_ctx, f ? &unkept : NULL);
}

/* A daemon after this one would ask for it, and not find it. */
static void end_releases(struct manager *m, const char *name, store_ticket forgotten)
{
    LIST_FOREACH (x, &m->releases, struct release, node)
        if (!x->step && streq(x->name, name))
            store_after(m->context.store, forgotten, &x->step, release_on_durable, x);
}

/* Nobody wants a model on it, or has to be told why there is none. */
static bool is_of_no_use(struct manager *m, const struct lease *l)
{
    LIST_FOREACH (d, &m->deployments, struct managed_deployment, node)
        if (deployment_lease(d->deployment) == l &&
            (deployment_goal(d->deployment) != GOAL_OFF || deployment_state(d->deployment) != DEPLOYMENT_OFF))
            return false;
    return is_given_up(m, l);
}

/* What a search made, and nothing came of, goes with it: a little later, so that whoever ended it is told
 * what became of that. True: now. */
static bool note_left_over(struct manager *m, struct managed_lease *n)
{
    uint64_t now = clock_now_ms();

    if (!is_of_no_use(m, n->lease)) {
        n->given_up_due = 0;
        return false;
    }
    if (!n->given_up_due) {
        n->given_up_due = now + LEFT_MS;
        timer_arm(m->forget_timer, LEFT_MS);
    } else if (n->given_up_due > now && !timer_is_armed(m->forget_timer)) {
        timer_arm(m->forget_timer, n->given_up_due - now);
    }
    return n->given_up_due <= now;
}

/* From the run queue: those that are no machines any more are no instances either. */
void releases_forget(void *ctx)
{
    struct manager *m = ctx;

    LIST_FOREACH_SAFE (n, &m->leases, struct managed_lease, node) {
        const struct rented *r = lease_rented(n->lease);
        _cleanup_free_ char *name = xstrdup(lease_name(n->lease));
        bool is_left = note_left_over(m, n);

        if (!is_left && (!r || life_goal(rented_life(r)) != LIFE_GOAL_RELEASE ||
                         life_state(rented_life(r)) != LIFE_RELEASED))
            continue;
        if (n->never_made || is_left)
            event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "instance_removed",
                          "removed: nothing of it was made");
        else
            event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, name, "released", "given back, with its data");
        store_ticket forgotten = store_remove_instance(m->context.store, name);

        manager_forget_instance(m, n->lease);
        end_releases(m, name, forgotten);
    }
}

void releases_drop(struct manager *m)
{
    while (!list_is_empty(&m->releases)) {
        struct release *x = LIST_FIRST(&m->releases, struct release, node);

        op_cancel(x->op.slot);
    }
}
