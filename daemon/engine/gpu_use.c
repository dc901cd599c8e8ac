/* The shell becomes nvidia-smi, or the timeout(1) that waits for it, so that the process it names is one that
 * lives while that hangs. It is told from another of that number by its start, in clock ticks since the boot
 * (field 22 of /proc/PID/stat, counted after the last parenthesis).
 *
 * The machine ends it by itself, as far as anything can: a daemon that was started anew, and one that has lost
 * the way, leave none behind that lives for ever. Which it is is written down over there, so that the next daemon
 * asks no second one beside one that nothing ends. It may be another daemon's, which is asking now: it is killed
 * only when its time is over. */
#include "engine/gpu_use.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/op.h"
#include "base/run.h"
#include "proto/mem.h"
#include "proto/text.h"
#include "session/host.h"

#define SAID_BYTES_MAX   2047u
#define ENDED_BY_TIMEOUT 137 /* timeout(1): it was killed */

struct asking {
    struct op op;
    struct op *run;
    struct gpu_asker *last;
    char said[SAID_BYTES_MAX + 1];
    size_t n_said;
    gpu_use_fn done;
    void *ctx;
};

/* GNU's timeout waits for what it has killed, which may never end, if it is not in a group with it; that of
 * busybox is nvidia-smi by then. */
char *gpu_use_script(const struct gpu_asker *last)
{
    return xasprintf(
        "born() { stat= waits=; { read -r stat <\"/proc/$1/stat\"; } 2>/dev/null\n"
        "    case $stat in *'(timeout)'*) waits=yes ;; esac\n"
        "    stat=${stat##*) }; set -- $stat; born=${20}; }\n"
        "lives() { born \"$1\"; [ \"$1\" -gt 0 ] && [ \"$born\" = \"$2\" ]; }\n"
        "end() { [ \"$waits\" ] || kill -KILL \"$1\" 2>/dev/null; }\n"
        "hangs() { echo hangs; exit 0; }\n"
        "file=$HOME/.llmhost-asker up=0 pid= at= since=\n"
        "{ read -r up rest </proc/uptime; } 2>/dev/null\n"
        "up=${up%%%%.*}\n"
        "if lives %" PRId64 " %" PRId64 "; then\n"
        "    end %" PRId64 "\n"
        "    hangs\n"
        "fi\n"
        "[ ! -O \"$file\" ] || { read -r pid at since <\"$file\"; } 2>/dev/null\n"
        "case $pid.$at.$since in *[!0-9.]* | .* | *..* | *.) ;; *)\n"
        "    if lives \"$pid\" \"$at\"; then\n"
        "        [ $((up - since)) -lt %u ] || end \"$pid\"\n"
        "        hangs\n"
        "    fi ;;\n"
        "esac\n"
        "command -v nvidia-smi >/dev/null 2>&1 || { echo none; exit 0; }\n"
        "limit='timeout --foreground -s KILL %u'\n"
        "$limit true 2>/dev/null || limit='timeout -s KILL %u'\n"
        "$limit true 2>/dev/null || limit=\n"
        "born $$\n"
        "{ echo \"$$ $born $up\" >\"$file\"; } 2>/dev/null\n"
        "echo \"asker $$ $born\"\n"
        "exec $limit nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits 2>/dev/null\n",
        last->pid, last->born, last->pid, GPU_USE_S, GPU_USE_S, GPU_USE_S);
}

/* "37"; a card that does not tell says [N/A] or [Not Supported], a broken one a sentence. */
static bool read_percent(const char *line, int *ret)
{
    char *end;
    long n = strtol(line, &end, 10);

    if (end == line || n < 0 || n > 100)
        return false;
    end += strspn(end, " %\t");
    *ret = (int)n;
    return !*end;
}

int gpu_use_read(const char *text, size_t n, bool ended, struct gpu_asker *last, const char **ret_why)
{
    _cleanup_free_ char *copy = strndup(text, n);
    int most = GPU_USE_UNKNOWN, percent;
    struct gpu_asker asker = {};
    char *save = NULL;

    *ret_why = "nvidia-smi does not tell what its cards do";
    for (char *line = copy ? strtok_r(copy, "\r\n", &save) : NULL; line;
         line = strtok_r(NULL, "\r\n", &save)) {
        line += strspn(line, " \t");
        if (streq(line, "hangs")) {
            *ret_why = "nvidia-smi hangs there";
            return GPU_USE_UNKNOWN;
        }
        if (streq(line, "none"))
            *ret_why = "there is no nvidia-smi";
        else if (sscanf(line, "asker %" SCNd64 " %" SCNd64, &asker.pid, &asker.born) == 2)
            continue;
        else if (read_percent(line, &percent))
            most = MAX(most, percent);
    }
    if (ended)
        *last = (struct gpu_asker){};
    else if (asker.pid > 0 && asker.born > 0)
        *last = asker;
    return ended ? most : GPU_USE_UNKNOWN;
}

static void asking_cancel(struct op *op)
{
    struct asking *a = CONTAINER_OF(op, struct asking, op);
    const char *why;

    op_cancel(&a->run);
    gpu_use_read(a->said, a->n_said, false, a->last, &why); /* it goes on there, and may hang */
    free(a);
}

/* Beyond the ceiling there is nothing that we would want to know. */
static void on_output(void *ctx, const char *data, size_t n)
{
    struct asking *a = ctx;
    size_t room = SAID_BYTES_MAX - a->n_said;

    memcpy(a->said + a->n_said, data, MIN(n, room));
    a->n_said += MIN(n, room);
}

static void on_run(void *ctx, struct run_result *result, const struct fault *f)
{
    struct asking *a = ctx;
    gpu_use_fn done = a->done;
    void *done_ctx = a->ctx;
    const char *why;
    int percent = gpu_use_read(a->said, a->n_said, !f, a->last, &why);

    if (f)
        why = "nvidia-smi did not answer in time, or the way there was lost";
    else if (result->status == ENDED_BY_TIMEOUT)
        why = "nvidia-smi did not answer in time";
    if (!f && result->status != 0)
        percent = GPU_USE_UNKNOWN;
    op_end(&a->op);
    free(a);
    done(done_ctx, percent, why);
}

void gpu_use_ask(struct host *h, struct gpu_asker *last, struct op **slot, gpu_use_fn done, void *ctx)
{
    struct asking *a = xnew(struct asking);
    _cleanup_free_ char *script = gpu_use_script(last);

    a->last = last;
    a->done = done;
    a->ctx = ctx;
    op_begin(&a->op, slot, asking_cancel);
    host_run(h,
             &(struct run_spec){.script = script,
                                .output_bytes_max = SAID_BYTES_MAX,
                                .timeout_ms = GPU_USE_MS,
                                .on_output = on_output},
             &a->run, on_run, a);
}
