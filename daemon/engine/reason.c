/* A signal that can mean one thing only comes first, then the words of the log, then what the signal or the status says by itself. */
#include "engine/reason.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "proto/mem.h"
#include "proto/text.h"

/* Lower case; the first that is found counts. means: for people who do not know the words. */
static const struct reason {
    const char *words, *code;
    enum fault_kind kind;
    const char *means;
} reasons[] = {
    {"libcuda.so", "driver_unfit", FAULT_GONE, "the machine has no NVIDIA driver"},
    {"driver version is insufficient", "driver_unfit", FAULT_GONE, "the machine's NVIDIA driver is too old for this engine"},
    {"driver/library version mismatch", "driver_unfit", FAULT_GONE, "the driver of its host was updated: restart the machine"},
    {"no kernel image", "gpu_unfit", FAULT_GONE, "this engine was not built for so old or so new a card"},
    {"no cuda-capable device", "gpu_unfit", FAULT_GONE, "the machine was started without a card"},
    {"no compatible gpus", "gpu_unfit", FAULT_GONE, "no card this engine can use"},
    {"illegal instruction", "cpu_unfit", FAULT_GONE, "the machine's processor lacks instructions it was built with (AVX, mostly)"},
    {"glibc", "library_missing", FAULT_GONE, "it was built for a newer system"},
    {"cannot open shared object", "library_missing", FAULT_GONE, "it was not installed as a whole"},
    {"error while loading shared libraries", "library_missing", FAULT_GONE, NULL},
    {"more system memory", "machine_out_of_memory", FAULT_EXHAUSTED, NULL},
    {"cpu_buffer_type_alloc_buffer", "machine_out_of_memory", FAULT_EXHAUSTED, NULL},
    {"allocate cpu", "machine_out_of_memory", FAULT_EXHAUSTED, NULL},
    {"cannot allocate memory", "machine_out_of_memory", FAULT_EXHAUSTED, NULL},
    {"out of memory", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"out of device memory", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"outofdevicememory", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"cudamalloc failed", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"out-of-memory", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"hipmalloc failed", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"allocation failed", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"failed to allocate", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"unable to allocate", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"not enough memory", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"insufficient memory", "out_of_memory", FAULT_EXHAUSTED, NULL},
    {"no space left", "disk_full", FAULT_EXHAUSTED, NULL},
    {"error writing to file", "disk_full", FAULT_EXHAUSTED, NULL},
    {"address already in use", "port_taken", FAULT_TRANSIENT, NULL},
    {"couldn't bind", "port_taken", FAULT_TRANSIENT, NULL},
    {"not within the file bounds", "model_unreadable", FAULT_INVALID, NULL},
    {"unable to load model", "model_unreadable", FAULT_INVALID, NULL},
    {"unknown model architecture", "model_unreadable", FAULT_INVALID, NULL},
    {"invalid magic", "model_unreadable", FAULT_INVALID, NULL},
    {"signal: ", "engine_crashed", FAULT_TRANSIENT, NULL},
    {"has unexpectedly stopped", "engine_crashed", FAULT_TRANSIENT, NULL},
};

bool reason_of_words(struct fault *f, const char *what, const char *words)
{
    for (size_t i = 0; i < ELEMENTS(reasons); i++) {
        const struct reason *r = &reasons[i];

        if (!strcasestr(words, r->words))
            continue;
        if (r->means)
            fault_code(f, r->kind, r->code, "%s: %s: %.250s", what, r->means, words);
        else
            fault_code(f, r->kind, r->code, "%s: %.250s", what, words);
        return true;
    }
    return false;
}

/* "SIGSEGV"; "signal 40" where it has no name. */
static void put_signal(char out[static TEXT_SHORT_MAX], int number)
{
    const char *name = sigabbrev_np(number);

    if (name)
        snprintf(out, TEXT_SHORT_MAX, "SIG%s", name);
    else
        snprintf(out, TEXT_SHORT_MAX, "signal %d", number);
}

static void explain_memory(struct fault *f, const char *what, int64_t limit_bytes)
{
    char limit[TEXT_SHORT_MAX] = "";

    if (limit_bytes > 0)
        bytes_format(limit, (uint64_t)limit_bytes);
    fault_code(f, FAULT_EXHAUSTED, "machine_out_of_memory", "%.250s: the kernel killed it, because the machine's memory was used up%s%s%s",
               what, *limit ? " (its limit is " : "", limit, *limit ? ")" : "");
}

/* No known words: by its status alone, and how the log ends. */
static void explain_status(struct fault *f, const char *what, const struct reason_end *end)
{
    const char *words = end->line ? end->line : end->last_words;
    const char *between = !words ? "" : end->line ? ": " : "; its log ends with: ";
    char signal[TEXT_SHORT_MAX];

    if (end->status > 128) {
        put_signal(signal, (int)(end->status - 128));
        fault_code(f, FAULT_TRANSIENT, "engine_crashed", "%s, by %s%s%.250s", what, signal, between, words ? words : "");
    } else if (end->line) {
        fault_code(f, FAULT_GONE, "engine_exited", "%s: %.250s", what, end->line);
    } else if (end->status >= 0) {
        fault_code(f, FAULT_GONE, "engine_exited", "%s with status %d, and its log does not say why%s%.200s", what, (int)end->status,
                   words ? "; it ends with: " : "", words ? words : "");
    } else {
        fault_code(f, FAULT_GONE, "engine_exited", "%s, and its log does not say why%s%.200s", what, words ? "; it ends with: " : "",
                   words ? words : "");
    }
}

void reason_of_end(struct fault *f, const char *what, const struct reason_end *end)
{
    if (end->status == 128 + SIGKILL && end->kills > 0)
        explain_memory(f, what, end->limit_bytes);
    else if (end->status == 128 + SIGILL)
        reason_of_words(f, what, "illegal instruction");
    else if (!end->line || !reason_of_words(f, what, end->line))
        explain_status(f, what, end);
    if (end->owner && streq(f->code, "port_taken"))
        fault_code(f, f->kind, "port_taken", "%s: its port was taken by %.60s: %.200s", what, end->owner, end->line);
}

void reason_of_kills(struct fault *f, int64_t kills, int64_t limit_bytes)
{
    char what[sizeof f->text];

    if (!streq(f->code, "engine_crashed") || kills <= 0)
        return;
    snprintf(what, sizeof what, "%s", f->text);
    explain_memory(f, what, limit_bytes);
}
