/* usage: guard_asks install FIRST OWNER SEQ LEASE HOLD|= PID [take]
 *                   ask OWNER SEQ LEASE HOLD|= PID [take]
 *                   read
 *                   release OWNER
 *                   keep OWNER LEASE [take | stop | hold=SECONDS]
 * Does with the guard of the machine it runs on what the daemon does. The first three print one line, VERDICT
 * REASON LEFT FOLDER POWER OWNER SEQ, or "fault: TEXT". keep goes on until it is killed and prints a line at
 * each change, STATE CODE|- OWNER|-; what it is to do then is done once its first answer is there. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/op.h"
#include "guard/guard.h"
#include "guard/keeper.h"
#include "proto/mem.h"

static void on_done(void *ctx, const struct guard_answer *a, const struct fault *f)
{
    static const char *const powers[] = {"none", "sudo", "root"};

    loop_stop(ctx);
    if (f) {
        printf("fault: %s\n", f->text);
        return;
    }
    const struct guard_record *r = &a->report.record;

    printf("%s %s %" PRId64 " %s %s %s %" PRId64 "\n", guard_verdict_name(a->verdict),
           guard_reason_name(a->reason), a->left_s, *a->report.folder ? a->report.folder : "-",
           powers[a->report.has_record ? r->power : a->report.power], a->report.has_record ? r->owner : "-",
           a->report.has_record ? r->seq : 0);
}

static struct guard_request request(char **words)
{
    return (struct guard_request){
        .owner = words[0],
        .seq = strtoull(words[1], NULL, 10),
        .lease_s = (uint32_t)strtoul(words[2], NULL, 10),
        .hold_s = streq(words[3], "=") ? GUARD_HOLD_UNCHANGED : (uint32_t)strtoul(words[3], NULL, 10),
        .hold_pid = (uint32_t)strtoul(words[4], NULL, 10),
        .take = words[5] != NULL,
    };
}

static struct keeping {
    struct loop *loop;
    struct keeper *keeper;
    const char *wish;
    struct op *stop;
    char last[100];
} keeping;

static void on_seq_used(void *ctx, uint64_t seq)
{
    (void)ctx, (void)seq; /* begun anew, it reads where it was */
}

static void on_stopped(void *ctx, const struct fault *f)
{
    (void)ctx;
    printf("stopped %s\n", f ? f->text : "-");
    fflush(stdout);
}

static void do_wish(struct keeper *k, const char *wish)
{
    if (streq(wish, "take"))
        keeper_take(k);
    else if (streq(wish, "stop"))
        keeper_stop_now(k, &keeping.stop, on_stopped, NULL);
    else
        keeper_hold(k, (uint32_t)atoi(wish + strlen("hold=")));
}

static void on_changed(void *ctx)
{
    enum keeper_state state = keeper_state(keeping.keeper);
    const struct fault *f = keeper_fault(keeping.keeper);
    struct keeper_figures figures;
    char line[sizeof keeping.last];

    (void)ctx;
    keeper_figures(keeping.keeper, &figures);
    snprintf(line, sizeof line, "%s %s %s", keeper_state_name(state), *f->code ? f->code : "-",
             *figures.owner ? figures.owner : "-");
    if (!streq(line, keeping.last))
        printf("%s\n", line);
    strcpy(keeping.last, line);
    fflush(stdout);
    if (keeping.wish && (state == KEEPER_KEPT || state == KEEPER_REFUSED)) {
        const char *wish = keeping.wish;

        keeping.wish = NULL;
        do_wish(keeping.keeper, wish);
    }
}

static void keep(struct loop *loop, struct host *host, char **words)
{
    keeping.loop = loop;
    keeping.wish = words[2];
    keeping.keeper = keeper_new(&(struct keeper_context){
        .loop = loop,
        .host = host,
        .name = "box",
        .owner = words[0],
        .lease_s = (uint32_t)strtoul(words[1], NULL, 10),
        .first_s = 60,
        .seq_used = on_seq_used,
        .changed = on_changed,
    });
    keeper_way(keeping.keeper, true);
}

int main(int argc, char **argv)
{
    struct loop *loop = loop_new();
    struct host *host = host_local_new(loop);
    struct op *op = NULL;

    if (argc >= 8 && streq(argv[1], "install")) {
        struct guard_request q = request(argv + 3);

        guard_install(host, (uint32_t)strtoul(argv[2], NULL, 10), &q, &op, on_done, loop);
    } else if (argc >= 7 && streq(argv[1], "ask")) {
        struct guard_request q = request(argv + 2);

        guard_ask(host, &q, &op, on_done, loop);
    } else if (argc == 2 && streq(argv[1], "read")) {
        guard_read(host, &op, on_done, loop);
    } else if (argc == 3 && streq(argv[1], "release")) {
        guard_release(host, argv[2], &op, on_done, loop);
    } else if (argc >= 4 && streq(argv[1], "keep")) {
        keep(loop, host, argv + 2);
    } else {
        return 2;
    }
    loop_run(loop);
    keeper_free(keeping.keeper);
    host_free(host);
    loop_free(loop);
    return 0;
}
