/* Merging: a queue that was merged writes the same as one that was not. */
#include <criterion/criterion.h>

#include "base/fault.h"
#include "proto/buf.h"
#include "store/database.h"

static char directory[] = "/tmp/test-change-XXXXXX";
static struct list changes;
static store_ticket last;

static void setup(void)
{
    cr_assert_not_null(mkdtemp(directory));
    list_init(&changes);
    last = 0;
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    changes_free(&changes);
    cr_assert_eq(system(command), 0);
}

TestSuite(change, .init = setup, .fini = teardown);

static struct change *add(enum change_kind kind)
{
    struct change *c = change_new(kind);

    c->first_ticket = c->ticket = ++last;
    c->queued_due = last;
    list_append(&changes, &c->node);
    return c;
}

static void add_instance(const char *name, int port)
{
    struct change *c = add(CHANGE_PUT_INSTANCE);

    change_text(c, name);
    change_text(c, "ssh");
    change_text(c, NULL);
    change_text(c, NULL);
    change_int(c, port);
    change_int(c, 0);
    change_int(c, 0);
    change_blob(c, NULL, 0);
    change_int(c, 0);
}

static void add_deployment(const char *name, const char *instance, int requests)
{
    struct change *c = add(CHANGE_PUT_DEPLOYMENT);

    change_text(c, name);
    change_text(c, instance);
    change_text(c, "off");
    change_int(c, 0);
    change_text(c, NULL);
    change_text(c, NULL);
    change_int(c, requests);
    change_int(c, 0);
}

static void add_forward(const char *ip, int port, const char *instance, int to)
{
    struct change *c = add(CHANGE_PUT_FORWARD);

    change_text(c, ip);
    change_int(c, port);
    change_text(c, instance);
    change_text(c, "::1");
    change_int(c, to);
}

static void add_removal(enum change_kind kind, const char *name)
{
    change_text(add(kind), name);
}

static void add_event(int number)
{
    struct change *c = add(CHANGE_PUT_EVENT);

    change_int(c, number);
    change_text(c, "notice");
    change_text(c, "daemon");
    change_text(c, NULL);
    change_text(c, "ready");
    change_text(c, "text");
}

static void assert_tickets(const char *expected)
{
    char text[200] = "";

    LIST_FOREACH (c, &changes, struct change, node)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%d-%d ", (int)c->first_ticket,
                 (int)c->ticket);
    cr_assert_str_eq(text, expected);
}

Test(change, the_newest_value_of_a_record_stays)
{
    add_deployment("m", NULL, 1);
    add_deployment("n", NULL, 1);
    add_deployment("m", NULL, 2);
    add_deployment("m", NULL, 3);
    changes_merge(&changes);
    assert_tickets("2-2 1-4 ");
    struct change *c = CONTAINER_OF(changes.prev, struct change, node);

    cr_assert_eq(c->values[6].number, 3);
    cr_assert_eq(c->queued_due, 1, "its age is that of the oldest");
}

Test(change, what_others_refer_to_stays_in_front_of_them)
{
    add_instance("a", 1);
    add_deployment("m", "a", 1);
    add_instance("a", 2);
    changes_merge(&changes);
    assert_tickets("1-3 2-2 ");
    cr_assert_eq(LIST_FIRST(&changes, struct change, node)->values[4].number, 2);
}

Test(change, nothing_is_merged_over_a_removal)
{
    add_instance("a", 1);
    add_removal(CHANGE_REMOVE_INSTANCE, "a");
    add_instance("a", 2);
    add_instance("a", 3);
    changes_merge(&changes);
    assert_tickets("1-1 2-2 3-4 ");
}

Test(change, records_with_two_keys_differ_by_either)
{
    add_forward("127.0.0.1", 1, "a", 1);
    add_forward("127.0.0.1", 2, "a", 1);
    add_forward("127.0.0.2", 1, "a", 1);
    add_forward("127.0.0.1", 2, "a", 2);
    changes_merge(&changes);
    assert_tickets("1-1 3-3 2-4 ");
}

Test(change, a_value_that_refers_to_another_instance_may_be_refused_and_takes_no_place)
{
    add_deployment("m", "a", 1);
    add_deployment("m", "b", 2);
    add_deployment("m", "b", 3);
    changes_merge(&changes);
    assert_tickets("1-1 2-3 ");
}

Test(change, events_are_all_kept_until_there_are_too_many)
{
    for (int i = 0; i < 10; i++) {
        add_event(i);
        add_deployment("m", NULL, i);
    }
    changes_merge(&changes);
    cr_assert_eq(changes_drop_events(&changes, 10), 0);
    cr_assert_eq(changes_drop_events(&changes, 8), 2);
    assert_tickets("5-5 7-7 9-9 11-11 13-13 15-15 17-17 19-19 2-20 ");
    cr_assert_eq(changes_drop_events(&changes, 0), 8);
    assert_tickets("2-20 ");
}

Test(change, merging_nothing_is_fine)
{
    changes_merge(&changes);
    cr_assert(list_is_empty(&changes));
}

/* ---- the same by a random walk ---- */

static void add_random(unsigned *seed)
{
    static const char *const instances[] = {"a", "b", "c"}, *const models[] = {"m", "n", "o"};
    const char *instance = instances[rand_r(seed) % 3], *model = models[rand_r(seed) % 3];
    int number = rand_r(seed) % 1000 + 1;

    switch (rand_r(seed) % 12) {
    case 0: add_removal(CHANGE_REMOVE_INSTANCE, instance); break;
    case 1:
        add_removal(CHANGE_REMOVE_DEPLOYMENT, model);
        change_text(CONTAINER_OF(changes.prev, struct change, node), instance);
        break;
    case 2: add_event(number); break;
    case 3:
    case 4: add_forward("127.0.0.1", number % 3 + 1, instance, number); break;
    case 5:
    case 6:
    case 7: add_instance(instance, number); break;
    default: add_deployment(model, instance, number); break;
    }
}

/* The records alone: how many events there are does not depend on their order. */
static void see_instance(void *ctx, const struct instance_record *r)
{
    buf_addf(ctx, "%s:%u ", r->name, r->port);
}

static void see_deployment(void *ctx, const struct deployment_record *r)
{
    buf_addf(ctx, "%s@%s:%d ", r->name, r->instance, (int)r->requests);
}

static void see_forward(void *ctx, const struct forward_record *r)
{
    buf_addf(ctx, "%u>%s:%u ", r->listen_port, r->instance, r->port);
}

static char *write_and_read(const char *name, unsigned seed, bool merged)
{
    struct store_readers readers = {
        .instance = see_instance, .deployment = see_deployment, .forward = see_forward};
    _cleanup_free_ char *path = xasprintf("%s/%s-%u", directory, name, seed);
    struct database *d = NULL;
    struct fault f = {0};
    struct buf text;

    cr_assert_eq(database_open(path, &d, &f), 0, "%s", f.text);
    for (int batch = 0; batch < 2; batch++) { /* the second meets what the first has left */
        for (int i = 0; i < 40; i++)
            add_random(&seed);
        if (merged)
            changes_merge(&changes);
        cr_assert_eq(database_write(d, &changes, &f), 0, "%s", f.text);
        changes_free(&changes);
    }
    buf_init(&text, 1 << 16);
    cr_assert_eq(database_load(d, &readers, &text, &f), 0);
    database_free(d);
    return buf_take(&text);
}

Test(change, a_merged_queue_writes_what_an_unmerged_one_does)
{
    for (unsigned seed = 1; seed <= 60; seed++) {
        _cleanup_free_ char *plain = write_and_read("plain", seed, false);
        _cleanup_free_ char *merged = write_and_read("merged", seed, true);

        cr_assert_str_eq(merged, plain, "seed %u", seed);
    }
}
