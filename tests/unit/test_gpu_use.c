/* links: engine
 *
 * What nvidia-smi says of the use of the cards, and the script that asks it, under a real shell with one that
 * hangs. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/run.h"
#include "engine/gpu_use.h"
#include "proto/mem.h"
#include "session/host.h"

/* ---- what it says ---- */

static struct gpu_asker last;
static const char *why;

static int said(const char *text)
{
    return gpu_use_read(text, strlen(text), true, &last, &why);
}

Test(gpu_use, of_several_cards_the_one_that_is_used_most)
{
    cr_assert_eq(said("asker 12 345\n0\n"), 0);
    cr_assert_eq(said("a banner\nasker 12 345\r\n3\r\n97\r\n12\r\n"), 97);
    cr_assert_eq(said("asker 12 345\n100 %\n"), 100);
    cr_assert_eq(last.pid, 0, "it has ended");
}

Test(gpu_use, what_is_no_number_of_percent_is_not_known)
{
    static const char *const texts[] = {
        "",
        "asker 1 2\n",
        "asker 1 2\n[N/A]\n",
        "asker 1 2\n[Not Supported]\n",
        "asker 1 2\n-1\n",
        "asker 1 2\n101\n",
        "asker 1 2\n99999999999999999999\n",
        "asker 1 2\nFailed to initialize NVML: Unknown Error\n",
        "asker 1 2\n12 cards\n",
        "none\n",
        "hangs\n",
        "\xff\xfe\n%%%\n",
    };

    for (size_t i = 0; i < ELEMENTS(texts); i++) {
        why = NULL;
        cr_assert_eq(said(texts[i]), GPU_USE_UNKNOWN, "%s", texts[i]);
        cr_assert_not_null(why);
    }
    cr_assert_eq(said("asker 1 2\n[N/A]\n40\n"), 40, "one card of two tells it");
}

Test(gpu_use, one_that_did_not_end_is_remembered_until_it_has)
{
    last = (struct gpu_asker){};
    cr_assert_eq(gpu_use_read("asker 12 345\n9", 14, false, &last, &why), GPU_USE_UNKNOWN, "half a line");
    cr_assert(last.pid == 12 && last.born == 345);
    cr_assert_eq(gpu_use_read("", 0, false, &last, &why), GPU_USE_UNKNOWN);
    cr_assert_eq(last.pid, 12, "nothing was begun");
    cr_assert_eq(gpu_use_read("asker -3 5\n", 11, false, &last, &why), GPU_USE_UNKNOWN);
    cr_assert_eq(last.pid, 12);
    cr_assert_eq(said("hangs\n"), GPU_USE_UNKNOWN);
    cr_assert_eq(last.pid, 12);
    cr_assert_eq(said("asker 13 400\n1\n"), 1);
    cr_assert_eq(last.pid, 0);
}

/* ---- the op ---- */

static struct fake {
    struct host host;
    struct op op;
    struct run_spec spec;
    run_done_fn done;
    void *ctx;
    unsigned n_cancelled;
    int percent;
    unsigned n_done;
} fake;

static void fake_cancel(struct op *op)
{
    (void)op;
    fake.n_cancelled++;
}

static void fake_run(struct host *h, const struct run_spec *spec, struct op **slot, run_done_fn done,
                     void *ctx)
{
    (void)h;
    fake.spec = *spec;
    fake.done = done;
    fake.ctx = ctx;
    op_begin(&fake.op, slot, fake_cancel);
}

static void on_use(void *ctx, int percent, const char *reason)
{
    (void)ctx;
    fake.percent = percent;
    fake.n_done++;
    cr_assert_not_null(reason);
}

static const struct host_ops fake_ops = {.name = "ssh", .run = fake_run};

static void asks(struct op **slot)
{
    fake = (struct fake){.host.ops = &fake_ops, .percent = 77};
    gpu_use_ask(&fake.host, &last, slot, on_use, NULL);
    cr_assert_not_null(*slot);
}

static void answers(const char *text, int status, const struct fault *f)
{
    struct run_result result = {.status = status};

    fake.spec.on_output(fake.ctx, text, strlen(text));
    op_end(&fake.op);
    fake.done(fake.ctx, f ? NULL : &result, f);
}

Test(gpu_use, asked_and_answered_in_time_or_not)
{
    static const struct fault lost = {.kind = FAULT_UNCERTAIN, .text = "time is over"};
    struct op *slot = NULL;

    last = (struct gpu_asker){};
    asks(&slot);
    cr_assert_eq(fake.spec.timeout_ms, GPU_USE_MS);
    answers("asker 12 345\n61\n", 0, NULL);
    cr_assert(fake.n_done == 1 && fake.percent == 61 && !slot);
    asks(&slot);
    answers("asker 12 345\n61\n", 9, NULL);
    cr_assert_eq(fake.percent, GPU_USE_UNKNOWN, "it says that it failed");
    asks(&slot);
    answers("asker 12 345\n61\n", 137, NULL);
    cr_assert(fake.percent == GPU_USE_UNKNOWN && last.pid == 0, "it was ended there");
    asks(&slot);
    answers("asker 14 500\n", 0, &lost);
    cr_assert_eq(fake.percent, GPU_USE_UNKNOWN);
    cr_assert_eq(last.pid, 14);
    asks(&slot);
    op_cancel(&slot);
    cr_assert(fake.n_cancelled == 1 && fake.n_done == 0 && last.pid == 14);
}

Test(gpu_use, more_than_anybody_would_say_is_passed_over)
{
    static char flood[3000];
    struct op *slot = NULL;

    memset(flood, 'x', sizeof flood - 1);
    last = (struct gpu_asker){};
    asks(&slot);
    fake.spec.on_output(fake.ctx, flood, sizeof flood - 1);
    answers("\n55\n", 0, NULL);
    cr_assert_eq(fake.percent, GPU_USE_UNKNOWN);
}

/* ---- the script ---- */

static char folder[] = "/tmp/test_gpu_use.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[64];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    cr_assert_eq(fclose(f), 0);
    cr_assert_eq(chmod(path, 0755), 0);
}

static void put_smi(const char *text)
{
    put("nvidia-smi", text);
}

static void folder_goes(void)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf %s", folder);
    cr_assert_eq(system(command), 0);
}

static bool ends_within_s(int64_t pid, unsigned s)
{
    for (unsigned i = 0; i < 10 * s && kill((pid_t)pid, 0) == 0; i++)
        usleep(100000);
    return kill((pid_t)pid, 0) != 0;
}

/* As over there: what it wrote within a second. */
static int script_says(char *out, size_t size)
{
    _cleanup_free_ char *script = gpu_use_script(&last);
    char path[64], command[240];
    size_t n;
    FILE *f;

    snprintf(path, sizeof path, "%s/script", folder);
    f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(script, f);
    cr_assert_eq(fclose(f), 0);
    snprintf(command, sizeof command,
             "cd %s && { HOME=%s PATH=%s:/usr/bin:/bin sh ./script >out 2>&1 </dev/null & } ; sleep 1; cat out",
             folder, folder, folder);
    f = popen(command, "r");
    cr_assert_not_null(f);
    n = fread(out, 1, size - 1, f);
    out[n] = '\0';
    return pclose(f);
}

Test(gpu_use, one_that_hangs_is_killed_and_no_other_is_begun_beside_it)
{
    char out[500];

    cr_assert_not_null(mkdtemp(folder));
    put("timeout", "#!/bin/sh\nexit 127\n"); /* there is none */
    last = (struct gpu_asker){};
    put_smi("#!/bin/sh\ncase \"$*\" in '--query-gpu=utilization.gpu --format=csv,noheader,nounits') ;; *) exit "
            "1 ;; esac\necho 61\n");
    script_says(out, sizeof out);
    cr_assert_eq(said(out), 61, "%s", out);

    put_smi("#!/bin/sh\nexec sleep 60\n");
    script_says(out, sizeof out);
    cr_assert_eq(gpu_use_read(out, strlen(out), false, &last, &why), GPU_USE_UNKNOWN);
    cr_assert_gt(last.pid, 0, "%s", out);
    cr_assert_eq(kill((pid_t)last.pid, 0), 0, "it lives");

    struct gpu_asker hung = last, other = {.pid = getpid(), .born = 1};

    script_says(out, sizeof out);
    cr_assert_eq(said(out), GPU_USE_UNKNOWN);
    cr_assert_str_eq(out, "hangs\n");
    cr_assert_eq(last.pid, hung.pid);
    put_smi("#!/bin/sh\necho 7\n");
    ends_within_s(hung.pid, 2);
    script_says(out, sizeof out);
    cr_assert_eq(said(out), 7, "it was killed: %s", out);
    cr_assert_eq(last.pid, 0);

    last = other; /* another process has that number by now */
    script_says(out, sizeof out);
    cr_assert_eq(said(out), 7, "and is let alone: %s", out);
    folder_goes();
}

/* It does not know of the one before it, whose question may go on, or hang. */
Test(gpu_use, daemon_that_is_started_anew_asks_no_second_one_and_ends_the_one_that_hangs)
{
    struct gpu_asker hung;
    char out[500], record[100];

    cr_assert_not_null(mkdtemp(folder));
    put("timeout", "#!/bin/sh\nexit 127\n"); /* there is none */
    put_smi("#!/bin/sh\nexec sleep 60\n");
    last = (struct gpu_asker){};
    script_says(out, sizeof out);
    cr_assert_eq(gpu_use_read(out, strlen(out), false, &last, &why), GPU_USE_UNKNOWN);
    hung = last;
    cr_assert_gt(hung.pid, 0, "%s", out);

    last = (struct gpu_asker){};
    script_says(out, sizeof out);
    cr_assert_str_eq(out, "hangs\n");
    cr_assert_eq(kill((pid_t)hung.pid, 0), 0, "it has its time");

    snprintf(record, sizeof record, "%lld %lld 0\n", (long long)hung.pid, (long long)hung.born);
    put(".llmhost-asker", record);
    script_says(out, sizeof out);
    cr_assert_str_eq(out, "hangs\n");
    cr_assert(ends_within_s(hung.pid, 2), "since the boot: that is over");

    put_smi("#!/bin/sh\necho 7\n");
    static const char *const records[] = {"", "\n", "1 2\n", "1 2 x\n", "$(kill $$) 1 2\n", "-1 1 1\n", "0 0 0\n"};

    for (size_t i = 0; i < ELEMENTS(records); i++) {
        put(".llmhost-asker", records[i]);
        script_says(out, sizeof out);
        cr_assert_eq(said(out), 7, "%s: %s", records[i], out);
    }
    snprintf(record, sizeof record, "%d 1 0\n", getpid());
    put(".llmhost-asker", record);
    script_says(out, sizeof out);
    cr_assert_eq(said(out), 7, "another process has that number by now: %s", out);
    folder_goes();
}

Test(gpu_use, one_that_nobody_waits_for_ends_by_itself)
{
    char out[500];

    cr_assert_not_null(mkdtemp(folder));
    put("timeout", "#!/bin/sh\n[ \"$1 $2 $3 $4\" = '--foreground -s KILL 10' ] || exit 125\nshift 4\n"
                   "exec /usr/bin/timeout --foreground -s KILL 4 \"$@\"\n");
    put_smi("#!/bin/sh\ntrap '' TERM INT HUP\nexec sleep 60\n");
    last = (struct gpu_asker){};
    script_says(out, sizeof out);
    cr_assert_eq(gpu_use_read(out, strlen(out), false, &last, &why), GPU_USE_UNKNOWN);
    cr_assert_gt(last.pid, 0, "%s", out);

    struct gpu_asker waits = last;

    script_says(out, sizeof out);
    cr_assert_str_eq(out, "hangs\n");
    cr_assert_eq(kill((pid_t)waits.pid, 0), 0, "without it nobody would see what cannot be killed");
    cr_assert(ends_within_s(waits.pid, 6));
    put_smi("#!/bin/sh\necho 7\n");
    script_says(out, sizeof out);
    cr_assert_eq(said(out), 7, "%s", out);
    folder_goes();
}
