/* links: engine
 *
 * An installation step by step over a machine of words: what is asked of it, and what is made of its answers.
 * The decisions are in test_install_plan.c, real machines and real trouble in tests/lab/test_install.py. */
#include "tests/unit/engine_world.h"

#define TOOLS   "tool=curl\ntool=zstd\ntool=gzip\ntool=tar\ntool=sha256sum\ntool=setsid\n"
#define BOX     "arch=x86_64\ncard=chip=none\n" TOOLS "free_kb=90000000\nbase=/root/.llmhost\nok=1\n"
#define WHAT    "what=ollama-0.32.9.5d747a43369f\n"
#define FETCHES "running=1\ndoing=fetching\nurl=https://github.com/x\n" WHAT "have=512000000\nok=1\n"
#define DONE    "doing=done\n" WHAT "have=0\nok=1\n"
#define GONE    WHAT "have=512000000\nok=1\n"
#define OURS(v)                                                                                              \
    "program=/root/.llmhost/engines/ollama-" v "/bin/ollama\nversion=ollama version is " v "\n" NONE

static void setup(void)
{
    world_begin("ollama", "tiny", "");
    w.find_says = NONE;
    w.look_says = BOX;
    w.begin_says = FETCHES;
    w.poll_says = FETCHES;
}

TestSuite(install, .init = setup, .fini = world_end, .timeout = 60);

static void find(void)
{
    ASK_SHELL(w.engine->ops->find);
}

static void goes_on(void)
{
    cr_assert_eq(w.fault.kind, FAULT_NONE, "%s", w.fault.text);
    cr_assert(w.again);
}

static void with_settings(const char *settings)
{
    world_end();
    world_begin("ollama", "tiny", settings);
    w.find_says = NONE;
    w.look_says = BOX;
    w.begin_says = w.poll_says = FETCHES;
}

Test(install, what_is_not_there_is_fetched_and_then_found)
{
    find();
    goes_on();
    cr_assert_eq(w.n_scripts, 3, "found nothing, looked, began");
    cr_assert_not_null(strstr(
        w.script, "https://github.com/ollama/ollama/releases/download/v0.32.9/ollama-linux-amd64.tar.zst"));
    cr_assert_not_null(strstr(w.script, "5d747a43369f61e38f20b5a39fcc5c90647e562cdc61e2e56034f1c5b113d540"));
    cr_assert_str_eq(w.text, "ollama 0.32.9: downloading");
    cr_assert_eq(w.bytes, 512000000);
    cr_assert_eq(w.bytes_total, 1421653242);
    find();
    goes_on();
    cr_assert_eq(w.n_scripts, 4, "a poll");
    w.poll_says = "running=1\ndoing=unpacking\n" WHAT "have=1421653242\nhave=2000000000\nok=1\n";
    find();
    goes_on();
    cr_assert_str_eq(w.text, "ollama 0.32.9: unpacking");
    cr_assert_eq(w.bytes, 2000000000);
    cr_assert_eq(w.bytes_total, 3300000000);
    w.poll_says = DONE;
    w.find_says = OURS("0.32.9");
    find();
    went_well();
    cr_assert_str_eq(w.text, "ollama 0.32.9");
    cr_assert_str_eq(w.engine->facts.path, "/root/.llmhost/engines/ollama-0.32.9/bin/ollama");
}

Test(install, a_lost_connection_leaves_it_where_it_is)
{
    static const struct fault lost = {FAULT_UNCERTAIN, -ECONNRESET, "lost", "the connection was lost"};

    find();
    w.shell_fault = lost;
    find();
    failed_with("lost", FAULT_UNCERTAIN);
    w.shell_fault = (struct fault){};
    w.n_scripts = 0;
    find();
    goes_on();
    cr_assert_eq(w.n_scripts, 1, "the job goes on over there: a poll");
}

Test(install, a_begin_without_an_answer_is_no_begin)
{
    w.begin_says = "";
    find();
    cr_assert_eq(w.fault.kind, FAULT_TRANSIENT);
    w.begin_says = FETCHES;
    w.poll_says = DONE; /* of an older job */
    w.n_scripts = 0;
    find();
    goes_on();
    cr_assert_eq(w.n_scripts, 2, "looked and began again");
}

Test(install, a_job_that_is_gone_is_begun_again_and_not_for_ever)
{
    find();
    w.poll_says = GONE;
    for (unsigned i = 0; i < 3; i++) {
        find();
        goes_on();
    }
    find();
    failed_with("engine_missing", FAULT_GONE);
    cr_assert_not_null(strstr(w.fault.text, "ended again and again"));
}

Test(install, somebody_elses_job_is_waited_for)
{
    w.begin_says = "running=1\ndoing=fetching\nwhat=ollama-0.13.5.41fb93ff8be3\nhave=1\nok=1\n";
    find();
    goes_on();
    cr_assert_str_eq(w.text, "ollama 0.32.9: waiting for another installation");
}

Test(install, what_fails_there_has_its_code_and_its_words)
{
    static const struct {
        const char *says, *code, *words;
        enum fault_kind kind;
    } rows[] = {
        {"failed=disk_full the disk is full: x", "disk_full", "the disk is full", FAULT_EXHAUSTED},
        {"failed=engine_damaged lib/x is not in it", "engine_damaged", "lib/x is not in it", FAULT_GONE},
        {"failed=engine_unreachable github.com: no answer", "engine_missing", "github.com: no answer",
         FAULT_GONE},
        {"failed=engine_wrong what comes is not it", "engine_damaged", "what comes is not it", FAULT_GONE},
        {"failed=", "engine_damaged", "gpu1", FAULT_GONE},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        char says[300];

        with_settings("[engine.ollama]\nsource = box\n");
        snprintf(says, sizeof says, "doing=failed\n%s\n" WHAT "ok=1\n", rows[i].says);
        w.begin_says = says;
        find();
        failed_with(rows[i].code, rows[i].kind);
        cr_assert_not_null(strstr(w.fault.text, rows[i].words), "%s", w.fault.text);
    }
}

Test(install, a_mirror_is_asked_first_and_a_version_is_the_one)
{
    with_settings("[engine.ollama]\nmirror = https://m.example.org/\nversion = 0.12.10\n");
    find();
    const char *mirror = strstr(w.script, " https://m.example.org/https://github.com/"),
               *own = strstr(w.script, " https://github.com/");

    cr_assert(mirror && own && mirror < own);
    cr_assert_not_null(strstr(w.script, " ollama-0.12.10 "));
}

Test(install, older_ones_of_ours_are_replaced_and_serve_where_they_cannot_be)
{
    w.find_says = OURS("0.31.0");
    find();
    goes_on();
    w.poll_says = DONE;
    w.find_says = OURS("0.32.9");
    find();
    went_well();
    with_settings("");
    w.find_says = OURS("0.31.0");
    w.begin_says = "doing=failed\nfailed=disk_full no room\n" WHAT "ok=1\n";
    find();
    went_well();
    cr_assert_str_eq(w.engine->facts.version, "0.31.0");
}

Test(install, what_runs_is_current_or_is_not_ours_is_left_alone)
{
    static const char *const says[] = {
        "program=/root/.llmhost/engines/ollama-0.31.0/bin/ollama\n" RUNS,
        OURS("0.32.9"),
        "program=/usr/local/bin/ollama\nversion=0.1.0\n" NONE,
    };

    for (size_t i = 0; i < ELEMENTS(says); i++) {
        w.n_scripts = 0;
        w.find_says = says[i];
        find();
        went_well();
        cr_assert_eq(w.n_scripts, 1, "%s", says[i]);
    }
}

Test(install, a_machine_it_does_not_fit_is_refused_before_anything_is_copied)
{
    w.look_says = "arch=aarch64\ncard=chip=ascend\n" TOOLS "ok=1\n";
    find();
    failed_with("engine_unfit", FAULT_GONE);
    cr_assert_eq(w.n_scripts, 2);
}

Test(install, any_answer_is_survived)
{
    static const char *const says[] = {
        "",
        "ok=1\n",
        "arch=\nok=1\n",
        "arch=x86_64\nfree_kb=-7\ntool=\nok=1\n",
        "what=\ndoing=\nhave=99999999999999999999\nok=1\n",
        "doing=failed\n" WHAT "ok=1\n",
        "doing=done\nwhat=\xff\xfe\nok=1\n",
        "error=engine_damaged\n",
        "motd\n",
    };

    for (size_t i = 0; i < ELEMENTS(says); i++)
        for (unsigned which = 0; which < 3; which++) {
            with_settings("[engine.ollama]\nsource = box\n");
            *(which == 0 ? &w.look_says : which == 1 ? &w.begin_says : &w.poll_says) = says[i];
            find();
            if (w.again)
                find();
        }
}

Test(install, it_can_be_left_at_every_turn)
{
    leave_at_every_turn("ollama", "tiny", w.engine->ops->find, NULL, NULL, 0);
}
