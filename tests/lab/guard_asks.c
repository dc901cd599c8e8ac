/* usage: guard_asks install FIRST OWNER SEQ LEASE HOLD|= PID [take] | ask OWNER SEQ LEASE HOLD|= PID [take] |
 * read Asks the guard of the machine it runs on, as the daemon does, and prints one line: VERDICT REASON LEFT
 * FOLDER POWER OWNER SEQ, or "fault: TEXT". */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/op.h"
#include "guard/guard.h"
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
    } else {
        return 2;
    }
    loop_run(loop);
    host_free(host);
    loop_free(loop);
    return 0;
}
