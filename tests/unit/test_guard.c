/* What is asked of a box and what its answers mean; the box itself is a fake. tests/lab/test_guard.py has
 * real ones. */
#include "guard/guard.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "base/loop.h"
#include "base/op.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

#define BOOT "4f8165b4-fcee-4af9-880c-89fb6bc9450b"
/* OWNER SEQ LEASE HOLD, then STATE and WAYS and NOTE */
#define RECORD(asked, rest)  "llmhost1 " BOOT " 31069 53 31070 31070 " asked " 0 0 " rest " ."
#define LIVING               RECORD("me 7 31900 0", "lease 0 31069 root:shutdown,kill ok")
#define ANSWER(said, record) "folder=/dev/shm\nsaid=" said "\nrecord=" record "    \nnow=31072\nok=\n"

struct run {
    struct op op;
    struct work answer;
    run_done_fn done;
    void *ctx;
};

static struct fake {
    struct host host;
    struct loop *loop;
    const char *says; /* NULL: nothing comes */
    struct fault fault;
    char *script;
    bool had_input;
    struct op *op;
    unsigned n_done, n_cancelled;
    bool has_answer;
    struct guard_answer answer;
    struct fault told;
} w;

static void run_cancel(struct op *op)
{
    struct run *r = CONTAINER_OF(op, struct run, op);

    w.n_cancelled++;
    runq_drop(&r->answer);
    free(r);
}

static void run_answer(void *ctx)
{
    struct run *r = ctx;
    struct run_result result = {};
    run_done_fn done = r->done;
    void *owner = r->ctx;

    buf_init(&result.out, 1 << 16);
    buf_init(&result.err, 1 << 16);
    if (w.says)
        buf_add_text(&result.out, w.says);
    op_end(&r->op);
    free(r);
    done(owner, w.fault.kind ? NULL : &result, w.fault.kind ? &w.fault : NULL);
    buf_done(&result.out);
}

static void fake_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                     void *ctx)
{
    struct run *r = xnew(struct run);

    cr_assert_eq(h, &w.host);
    r->done = done;
    r->ctx = ctx;
    work_init(&r->answer, run_answer, r);
    op_begin(&r->op, slot, run_cancel);
    free(w.script);
    w.script = xstrdup(spec->script);
    w.had_input = spec->input != NULL;
    if (w.says || w.fault.kind)
        runq_add(w.loop, &r->answer);
}

static const struct host_ops ops = {.name = "fake", .run = fake_run};

static void setup(void)
{
    w = (struct fake){.host = {.ops = &ops}, .loop = loop_new()};
}

static void teardown(void)
{
    op_cancel(&w.op);
    free(w.script);
    loop_free_dry(w.loop);
}

TestSuite(guard, .init = setup, .fini = teardown, .timeout = 60);

static void on_done(void *ctx, const struct guard_answer *answer, const struct fault *f)
{
    cr_assert_eq(ctx, &w);
    cr_assert_null(w.op, "the slot is empty by now");
    w.n_done++;
    w.has_answer = answer;
    if (answer)
        w.answer = *answer;
    cr_assert_eq(!answer, f != NULL);
    w.told = f ? *f : (struct fault){};
}

static const struct guard_request request = {
    .owner = "me", .seq = 7, .lease_s = 900, .hold_s = GUARD_HOLD_UNCHANGED};

static const struct guard_answer *wait_for(void)
{
    cr_assert_not_null(w.op);
    cr_assert_eq(w.n_done, 0, "not from inside the call");
    cr_assert(LOOP_UNTIL(w.loop, w.n_done == 1));
    w.n_done = 0;
    return w.has_answer ? &w.answer : NULL;
}

static const struct guard_answer *ask(const char *says)
{
    w.says = says;
    guard_ask(&w.host, &request, &w.op, on_done, &w);
    return wait_for();
}

static enum guard_verdict verdict(const char *says)
{
    const struct guard_answer *a = ask(says);

    cr_assert_not_null(a, "%s", says);
    return a->verdict;
}

static bool begins(const char *with)
{
    return strncmp(w.script, with, strlen(with)) == 0;
}

Test(guard, is_asked_in_its_own_words)
{
    const struct guard_answer *a = ask(ANSWER("0", LIVING));

    cr_assert(begins("set -- ask me 7 900 = 0\n"), "%.80s", w.script);
    cr_assert_not(w.had_input, "an input would need the login shell to quote");
    cr_assert_eq(a->verdict, GUARD_TAKEN);
    cr_assert_eq(a->left_s, 31900 - 31072);
    cr_assert_str_eq(a->report.folder, "/dev/shm");
    guard_ask(
        &w.host,
        &(struct guard_request){
            .owner = "you", .seq = 999999999999, .lease_s = 0, .hold_s = 36000, .hold_pid = 42, .take = true},
        &w.op, on_done, &w);
    wait_for();
    cr_assert(begins("set -- ask you 999999999999 0 36000 42 take\n"), "%.80s", w.script);
}

Test(guard, is_installed_with_all_of_its_text)
{
    w.says = ANSWER("0", LIVING);
    guard_install(&w.host, 1800, &request, &w.op, on_done, &w);
    cr_assert_eq(wait_for()->verdict, GUARD_TAKEN);
    cr_assert(begins("text='# llmhost'\\''s guard:"), "%.80s", w.script);
    cr_assert_not_null(strstr(w.script, "\nmain \"$@\"; exit\n'\nset -- install 1800 me 7 900 = 0\n"));
    cr_assert_not(w.had_input);
}

Test(guard, is_read)
{
    w.says = ANSWER("0", RECORD("you 3 31900 40000", "lease 0 31069 root:kill ok"));
    guard_read(&w.host, &w.op, on_done, &w);
    const struct guard_answer *a = wait_for();

    cr_assert(begins("set -- read\n"));
    cr_assert_eq(a->verdict, GUARD_TAKEN, "whoever its owner is");
    cr_assert_eq(a->left_s, 40000 - 31072);
    w.says = ANSWER("2", RECORD("you 3 31900 0", "lease 0 31069 root:kill ok"));
    guard_read(&w.host, &w.op, on_done, &w);
    a = wait_for();
    cr_assert_eq(a->verdict, GUARD_MISSING);
    cr_assert(a->report.has_record, "what the last one knew");
}

Test(guard, refusals_have_a_reason)
{
    static const struct {
        const char *says;
        enum guard_reason reason;
    } answers[] = {
        {ANSWER("1", RECORD("you 3 31900 0", "lease 0 31069 root:kill no:owner:me:7")), GUARD_REASON_OWNER},
        {ANSWER("1", RECORD("me 9 31900 0", "lease 0 31069 root:kill no:seq:me:7")), GUARD_REASON_SEQ},
        {ANSWER("1", RECORD("me 6 31900 0", "lease 0 31069 root:kill no:range:me:7")), GUARD_REASON_RANGE},
        {ANSWER("1", RECORD("me 6 31000 0", "acting 3 31069 root:kill no:late:me:7")), GUARD_REASON_LATE},
        {ANSWER("1", RECORD("me 6 31000 0", "acting 3 31069 root:kill ok")), GUARD_REASON_LATE},
    };

    for (size_t i = 0; i < ELEMENTS(answers); i++) {
        const struct guard_answer *a = ask(answers[i].says);

        cr_assert_eq(a->verdict, GUARD_REFUSED, "%s", answers[i].says);
        cr_assert_eq(a->reason, answers[i].reason, "%s", answers[i].says);
        cr_assert_eq(a->left_s, a->report.record.state == GUARD_STATE_ACTING ? 0 : 31900 - 31072);
    }
}

Test(guard, taken_is_believed_only_with_its_record)
{
    cr_assert_eq(verdict(ANSWER("0", "llmhost1 " BOOT " 3")), GUARD_UNREADABLE);
    cr_assert_eq(verdict(ANSWER("0", "")), GUARD_MISSING);
    cr_assert_eq(verdict(ANSWER("0", RECORD("me 6 31900 0", "lease 0 31069 root:kill ok"))),
                 GUARD_UNREADABLE);
    cr_assert_eq(verdict(ANSWER("0", RECORD("you 7 31900 0", "lease 0 31069 root:kill ok"))),
                 GUARD_UNREADABLE);
    cr_assert_eq(verdict("said=0\nrecord=" LIVING "\nnow=39999\nok=\n"), GUARD_MISSING, "an old beat");
    cr_assert_eq(verdict("said=0\nrecord=" LIVING "\nnow=\nok=\n"), GUARD_MISSING, "no clock to tell");
}

Test(guard, none_or_of_no_use)
{
    cr_assert_eq(verdict("folder=\nsaid=2\nrecord=\nnow=\nok=\n"), GUARD_MISSING);
    cr_assert_eq(verdict(ANSWER("2", LIVING)), GUARD_MISSING);
    cr_assert_eq(verdict(ANSWER("3", LIVING)), GUARD_UNWRITABLE);
    cr_assert_eq(verdict("as=sudo\nsaid=3\nok=\n"), GUARD_UNWRITABLE);
    cr_assert_eq(verdict("as=none\nok=\n"), GUARD_DOES_NOT_COUNT);
    cr_assert_eq(verdict(ANSWER("0", RECORD("me 7 31900 0", "lease 0 31069 none:kill ok"))),
                 GUARD_DOES_NOT_COUNT);
    cr_assert_eq(verdict("as=sudo\n" ANSWER("0", RECORD("me 7 31900 0", "lease 0 31069 sudo:kill ok"))),
                 GUARD_TAKEN);
}

Test(guard, strange_answers_are_faults)
{
    cr_assert_null(ask(""));
    cr_assert_eq(w.told.kind, FAULT_TRANSIENT);
    cr_assert_null(ask("said=0\nrecord=" LIVING));
    cr_assert_eq(w.told.kind, FAULT_TRANSIENT, "it was cut");
    cr_assert_null(ask("Please choose: \x1b[31m1\nmenu=2\n"));
    cr_assert_eq(w.told.kind, FAULT_INVALID);
    cr_assert_str_eq(w.told.code, "no_shell");
    cr_assert_not_null(strstr(w.told.text, "Please choose"));
}

Test(guard, faults_of_the_way_go_up)
{
    fault_set(&w.fault, FAULT_UNCERTAIN, -ETIMEDOUT, "no end of it");
    cr_assert_null(ask(NULL));
    cr_assert_eq(w.told.kind, FAULT_UNCERTAIN);
    cr_assert_eq(w.told.error, -ETIMEDOUT);
}

Test(guard, cancelled_before_the_answer)
{
    w.says = ANSWER("0", LIVING);
    guard_ask(&w.host, &request, &w.op, on_done, &w);
    op_cancel(&w.op);
    cr_assert_eq(w.n_cancelled, 1);
    w.says = NULL;
    guard_install(&w.host, 1800, &request, &w.op, on_done, &w);
    op_cancel(&w.op);
    cr_assert_eq(w.n_cancelled, 2);
    cr_assert_eq(w.n_done, 0);
}

Test(guard, impossible_request_is_a_bug, .signal = SIGABRT)
{
    guard_ask(&w.host, &(struct guard_request){.owner = "me; id", .seq = 1}, &w.op, on_done, &w);
}

Test(guard, second_dog_fits_into_a_start_command)
{
    char line[GUARD_DOG_BYTES_MAX + 1];

    cr_assert_not_null(strstr(guard_dog_format(line, 1800), "e=$((n+1800))"));
    cr_assert_null(strstr(line, "FIRST"));
    guard_dog_format(line, UINT32_MAX);
    cr_assert_not_null(strstr(line, "e=$((n+86400))"));
    cr_assert_str_eq(line + strlen(line) - 3, " &\n", "whole");
    cr_assert_eq(strchr(line, '\n'), line + strlen(line) - 1, "one line");
}
