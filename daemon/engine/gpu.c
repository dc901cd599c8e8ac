/* One line per card, fields between ", ": names have spaces, never commas; what a card does not know is [N/A]
 * or [Not Supported]. NVIDIA promises no stable format, so fields are asked for by name and the last one may
 * be missing: compute_cap is unknown to drivers before 2021, whose nvidia-smi then refuses the whole
 * question. */
#include "engine/gpu.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/mem.h"

#define MIB          (1024 * 1024)
#define CARD_MIB_MAX (16 * 1024 * 1024)

const char gpu_script[] =
    "f=name,driver_version,memory.total,memory.used t=\n"
    "command -v timeout >/dev/null 2>&1 && t='timeout 8'\n"
    "if command -v nvidia-smi >/dev/null 2>&1; then\n"
    "    echo chip=nvidia\n"
    "    $t nvidia-smi --query-gpu=$f,compute_cap --format=csv,noheader,nounits 2>/dev/null\n"
    "    case $? in\n"
    "    0) ;;\n"
    "    124) echo 'nvidia-smi hangs' ;;\n"
    "    *) $t nvidia-smi --query-gpu=$f --format=csv,noheader,nounits 2>&1 ;;\n"
    "    esac\n"
    "elif command -v npu-smi >/dev/null 2>&1; then\n"
    "    echo chip=ascend\n"
    "    $t npu-smi info 2>&1\n"
    "else\n"
    "    echo chip=none\n"
    "fi\n"
    "cd /sys/fs/cgroup 2>/dev/null && [ -e memory.max ] || cd memory 2>/dev/null\n"
    "echo \"memory=$(sed -n 's/^MemAvailable: *//p' /proc/meminfo)\" \\\n"
    "    \"$(cat memory.max memory.limit_in_bytes 2>/dev/null)\" \\\n"
    "    \"$(cat memory.current memory.usage_in_bytes 2>/dev/null)\" \\\n"
    "    \"$(sed -n 's/^\\(total_\\)*inactive_file //p' memory.stat 2>/dev/null | tail -n 1)\"\n"
    "exit 0\n";

/* What nvidia-smi says instead of cards, and what it means on a rented machine; the first that is found counts. A machine that was
 * started without its card (AutoDL's no-card mode) answers with a permission error. */
static const struct {
    const char *words, *meaning;
} troubles[] = {
    {"Driver/library version mismatch", "the driver of its host was updated: restart the machine"},
    {"NVML: Insufficient Permissions", "it was started without a card"},
    {"Permission denied", "it was started without a card"},
    {"Failed to initialize NVML",
     "the container has lost its cards (NVML): only a restart of the machine helps"},
    {"couldn't communicate with the NVIDIA driver",
     "the driver of its host does not answer: restart the machine, or take another"},
    {"No devices were found", "it was started without a card"},
    {"nvidia-smi hangs", "its driver does not answer: restart the machine, or take another"},
};

/* Up to the next comma, without blanks around it. */
static bool take_field(char **rest, char **ret)
{
    char *field = *rest, *end;

    if (!field)
        return false;
    end = strchr(field, ',');
    *rest = end ? end + 1 : NULL;
    if (end)
        *end = '\0';
    field += strspn(field, " \t");
    for (end = field + strlen(field); end > field && isspace((unsigned char)end[-1]); end--)
        end[-1] = '\0';
    *ret = field;
    return true;
}

/* -1: not a number. */
static int64_t read_mib(const char *text)
{
    char *end;
    long long n = strtoll(text, &end, 10);

    return end != text && !*end && n >= 0 && n <= CARD_MIB_MAX ? n * MIB : -1;
}

/* "8.9" */
static int read_capability(const char *text)
{
    int major, minor;
    char rest;

    return sscanf(text, "%2d.%1d%c", &major, &minor, &rest) == 2 && major > 0 && minor >= 0
               ? major * 10 + minor
               : -1;
}

static void read_nvidia_line(struct gpu_facts *f, char *line)
{
    char *rest = line, *name, *driver, *total, *used, *capability;
    struct gpu_card *card = &f->cards[f->n];

    if (f->n == GPU_CARDS_MAX || !take_field(&rest, &name) || !take_field(&rest, &driver) ||
        !take_field(&rest, &total) || !take_field(&rest, &used) || !*name)
        return;
    snprintf(card->name, sizeof(card->name), "%s", name);
    card->total_bytes = read_mib(total);
    card->used_bytes = read_mib(used);
    snprintf(f->driver, sizeof(f->driver), "%s", driver);
    int c = take_field(&rest, &capability) ? read_capability(capability) : -1;

    if (c > 0 && (f->capability < 0 || c < f->capability))
        f->capability = c;
    f->n++;
}

static void read_nvidia(struct gpu_facts *f, char *line)
{
    for (size_t i = 0; i < ELEMENTS(troubles); i++)
        if (strstr(line, troubles[i].words)) {
            f->trouble = troubles[i].meaning;
            return;
        }
    read_nvidia_line(f, line);
}

/* Of a table: "| 0     910B2               | OK            | …", then a line of its chip with "used / total"
 * of its memory in MB (shown in llama.cpp issue 10556). */
static void read_ascend(struct gpu_facts *f, char *line)
{
    char name[24], health[24];
    long long used, total;
    unsigned number;
    char *last;

    if (f->n < GPU_CARDS_MAX && sscanf(line, "| %3u %23s | %23s |", &number, name, health) == 3 &&
        isalnum((unsigned char)*name)) {
        struct gpu_card *card = &f->cards[f->n++];

        snprintf(card->name, sizeof(card->name), "%s", name);
        card->used_bytes = card->total_bytes = -1;
    } else if (f->n > 0 && (last = strrchr(line, '/'))) {
        char *from = last;

        while (from > line && from[-1] == ' ')
            from--;
        while (from > line && isdigit((unsigned char)from[-1]))
            from--;
        if (sscanf(from, "%lld / %lld", &used, &total) == 2 && used >= 0 && total > 0 &&
            total <= CARD_MIB_MAX) {
            f->cards[f->n - 1].used_bytes = used * MIB;
            f->cards[f->n - 1].total_bytes = total * MIB;
        }
    }
}

/* "23593948 kB LIMIT USED CACHE": of a container, in bytes, if it has a limit ("max": it has none). What the
 * kernel can take back of files counts as free, as it does in MemAvailable. */
static int64_t read_memory(const char *text)
{
    long long available, limit, used, cache = 0;
    int n = sscanf(text, "%lld kB %lld %lld %lld", &available, &limit, &used, &cache);

    if (n < 1 || available < 0 || available > CARD_MIB_MAX * 1024ll)
        return -1;
    available *= 1024;
    if (n < 3 || limit <= 0 || used < 0 || cache < 0)
        return available;
    return MIN(available, MAX(limit - used + MIN(cache, used), 0ll));
}

static enum gpu_kind read_kind(const char *word)
{
    if (streq(word, "nvidia"))
        return GPU_NVIDIA;
    if (streq(word, "ascend"))
        return GPU_ASCEND;
    return streq(word, "none") ? GPU_NONE : GPU_UNKNOWN;
}

void gpu_read(const char *text, size_t n, struct gpu_facts *ret)
{
    _cleanup_free_ char *copy = strndup(text, n);
    char *save = NULL;

    *ret = (struct gpu_facts){.capability = -1, .host_free_bytes = -1};
    for (char *line = copy ? strtok_r(copy, "\r\n", &save) : NULL; line;
         line = strtok_r(NULL, "\r\n", &save)) {
        if (strncmp(line, "chip=", 5) == 0 && ret->kind == GPU_UNKNOWN)
            ret->kind = read_kind(line + 5);
        else if (strncmp(line, "memory=", 7) == 0)
            ret->host_free_bytes = read_memory(line + 7);
        else if (ret->kind == GPU_NVIDIA)
            read_nvidia(ret, line);
        else if (ret->kind == GPU_ASCEND)
            read_ascend(ret, line);
    }
    if (ret->kind == GPU_NVIDIA && !ret->n && !ret->trouble)
        ret->trouble = "nvidia-smi is there, but names no card";
}

static int64_t sum(const struct gpu_facts *f, bool total)
{
    int64_t bytes = f->n ? 0 : -1;

    for (unsigned i = 0; i < f->n && bytes >= 0; i++) {
        int64_t one = total ? f->cards[i].total_bytes : f->cards[i].used_bytes;

        bytes = one < 0 ? -1 : bytes + one;
    }
    return bytes;
}

int64_t gpu_used_bytes(const struct gpu_facts *f)
{
    return sum(f, false);
}

int64_t gpu_total_bytes(const struct gpu_facts *f)
{
    return sum(f, true);
}

int64_t gpu_free_bytes(const struct gpu_facts *f)
{
    int64_t total = gpu_total_bytes(f), used = gpu_used_bytes(f);

    if (f->kind == GPU_NONE)
        return f->host_free_bytes;
    return total < 0 || used < 0 ? -1 : MAX(total - used, 0);
}

const char *gpu_verdict_name(enum gpu_verdict v)
{
    switch (v) {
    case GPU_UNMEASURED: break;
    case GPU_WHOLE: return "gpu";
    case GPU_PART: return "partly";
    case GPU_NOT_USED: return "cpu";
    }
    return NULL;
}

/* What a process needs besides the model, a context of the driver's for instance. */
#define NOISE_BYTES (200ll * MIB)

enum gpu_verdict gpu_judge(int64_t model_bytes, int64_t before, int64_t after)
{
    int64_t grown = after - before;

    if (model_bytes <= 0 || before < 0 || after < 0)
        return GPU_UNMEASURED;
    if (grown >= model_bytes / 10 * 8)
        return GPU_WHOLE;
    return grown < NOISE_BYTES ? GPU_NOT_USED : GPU_PART;
}
