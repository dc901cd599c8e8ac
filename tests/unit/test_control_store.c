/* links: control
 *
 * Verbs while nothing can be kept: what is new is not begun, stops work, and all is well as soon as the disk
 * is. The disk here is a lock that somebody else has: the least trouble to make and to end. */
#include <sqlite3.h>

#include "deployment/deployment.h"
#include "tests/unit/control_world.h"

static sqlite3 *blocker;

static void block(void)
{
    _cleanup_free_ char *database = xasprintf("%s/llmhost.db", w.directory);

    cr_assert_eq(sqlite3_open(database, &blocker), SQLITE_OK);
    sqlite3_busy_timeout(blocker, 5000); /* the store may be writing just now */
    cr_assert_eq(sqlite3_exec(blocker, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
}

static void unblock(void)
{
    cr_assert_eq(sqlite3_exec(blocker, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(blocker);
    blocker = NULL;
}

static void begin(void)
{
    world_begin();
    json_free(answers("InstanceAdd", "{\"name\":\"here\",\"provider\":\"local\"}"));
}

static void end(void)
{
    if (blocker)
        unblock();
    world_end();
}

TestSuite(control_store, .init = begin, .fini = end, .timeout = 60);

#define CALL(method, parameters) "{\"method\":\"io.llmhost." method "\",\"parameters\":" parameters "}"
#define UP                       CALL("Up", "{\"model\":\"ollama:m\",\"wait\":false}")
#define DOWN                     CALL("Down", "{\"target\":\"ollama:m\"}")
#define ADD                      CALL("InstanceAdd", "{\"name\":\"there\",\"provider\":\"local\"}")

static struct deployment *model(void)
{
    return manager_find_deployment(w.manager, "ollama:m");
}

/* The error's message has `words`, and it says why. */
static void is_not_kept(const char *message, const char *words)
{
    _cleanup_json_ struct json *v = ask(message);
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.Failed");
    cr_assert_not_null(strstr(json_get_text(p, "message"), words), "%s", json_get_text(p, "message"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "llmhost.db is locked by another program"));
}

static size_t count(const char *what)
{
    _cleanup_json_ struct json *v = answers("Status", "{}");

    return json_count(json_get(v, what));
}

/* The store knows that it cannot write. */
static void block_and_find_out(void)
{
    const struct fault *f;

    block();
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, NULL, "started", "something to keep");
    cr_assert(LOOP_UNTIL(w.loop, store_stuck_ms(w.store, &f)));
}

Test(control_store, up_that_finds_out_begins_nothing)
{
    block();
    is_not_kept(UP, "it was not brought up");
    cr_assert_eq(deployment_goal(model()), GOAL_OFF);
    cr_assert(LOOP_UNTIL(w.loop, deployment_is_idle(model())));
    unblock();
    loop_advance(w.loop, 1000);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    cr_assert_eq(deployment_goal(model()), GOAL_ON_DEMAND);
}

Test(control_store, up_of_what_is_wanted_already_has_nothing_new_to_keep)
{
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    block_and_find_out();
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    cr_assert_eq(deployment_goal(model()), GOAL_ON_DEMAND);
}

Test(control_store, instance_add_that_finds_out_is_undone)
{
    block();
    _cleanup_json_ struct json *v = ask(ADD);

    cr_assert_not_null(strstr(json_get_text(json_get(v, "parameters"), "message"), "there was not added: "));
    cr_assert_eq(count("instances"), 1);
    unblock();
    loop_advance(w.loop, 1000);
    json_free(answers("InstanceAdd", "{\"name\":\"there\",\"provider\":\"local\"}"));
    cr_assert_eq(count("instances"), 2);
}

Test(control_store, what_is_new_is_refused_at_once_while_nothing_can_be_kept)
{
    block_and_find_out();
    is_not_kept(UP, "nothing was done");
    cr_assert_null(model());
    refuses(CALL("Down", "{\"target\":\"ollama:m\"}"), "io.llmhost.NotFound", "code", "not_found");
    is_not_kept(ADD, "nothing was done");
    is_not_kept(CALL("InstanceRemove", "{\"name\":\"here\"}"), "nothing was done");
    is_not_kept(CALL("ForwardAdd", "{\"instance\":\"here\",\"spec\":\"8888\"}"), "nothing was done");
    is_not_kept(CALL("ForwardRemove", "{\"instance\":\"here\",\"listen\":\"8888\"}"), "nothing was done");
    cr_assert_eq(count("instances"), 1);
}

Test(control_store, the_first_who_asks_after_the_disk_is_well_is_served)
{
    const struct fault *f;

    block_and_find_out();
    for (int i = 0; i < 4; i++) { /* the next try of its own is many seconds away */
        loop_advance(w.loop, 1000);
        is_not_kept(UP, "nothing was done");
    }
    unblock();
    loop_advance(w.loop, 1000);
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    cr_assert_eq(store_stuck_ms(w.store, &f), 0);
}

Test(control_store, a_timeout_says_that_what_goes_on_is_not_kept)
{
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    block_and_find_out();
    _cleanup_json_ struct json *v = ask(CALL("Up", "{\"model\":\"ollama:m\",\"timeout_ms\":1}"));
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(p, "code"), "timed_out");
    cr_assert_not_null(strstr(json_get_text(p, "why"), "not on disk"), "%s", json_get_text(p, "why"));
    cr_assert_not_null(strstr(json_get_text(p, "why"), "locked by another program"));
}

Test(control_store, down_stops_all_the_same_and_says_that_it_is_not_kept)
{
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"wait\":false}"));
    block_and_find_out();
    is_not_kept(DOWN, "it is off, but not on disk yet");
    cr_assert_eq(deployment_goal(model()), GOAL_OFF);
    cr_assert(deployment_is_idle(model()));
    unblock();
    loop_advance(w.loop, 1000);
    json_free(answers("Down", "{\"target\":\"ollama:m\"}"));
}

Test(control_store, trouble_names_the_disk_and_its_directory)
{
    block_and_find_out();
    loop_advance(w.loop, 11000);
    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *trouble = json_at(json_get(v, "trouble"), 0);
    _cleanup_free_ char *next = xasprintf("df -h %s", w.directory);

    cr_assert_str_eq(json_get_text(trouble, "code"), "store");
    cr_assert_not_null(strstr(json_get_text(trouble, "message"), "nothing new has been kept for 1"), "%s",
                       json_get_text(trouble, "message"));
    cr_assert_str_eq(json_text(json_at(json_get(trouble, "next"), 0)), next);
}
