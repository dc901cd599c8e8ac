/* How much the cards of a machine compute just now, whoever makes them: nvidia-smi is asked, once for each call, in a request of its own.
 *
 * nvidia-smi may hang, in the driver too, where nothing ends it. So it is given GPU_USE_S, after which it ends there by itself, also when nobody waits
 * for it any more (where there is no timeout(1): it is killed by whoever asks next); and while the last one still lives there no other is begun, also
 * not by the daemon after this one: what the cards do is unknown meanwhile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct host;
struct op;

#define GPU_USE_S       10u
#define GPU_USE_MS      (GPU_USE_S * 1000 + 2000) /* and on the way */
#define GPU_USE_UNKNOWN (-1)

/* The last one that was begun there: its process, and the start of that, which tell it from any other; zero: none. Whoever asks keeps it between two calls. */
struct gpu_asker {
    int64_t pid, born;
};

/* An op. percent: of the card that is used most, 0 to 100; or GPU_USE_UNKNOWN, and why. Both last for the call. */
typedef void (*gpu_use_fn)(void *ctx, int percent, const char *why);
void gpu_use_ask(struct host *h, struct gpu_asker *last, struct op **slot, gpu_use_fn done, void *ctx);

/* What it runs. Caller frees. */
char *gpu_use_script(const struct gpu_asker *last);
/* What that said, any bytes: as above. ended: its end was seen; else *last is the one that said it. */
int gpu_use_read(const char *text, size_t n, bool ended, struct gpu_asker *last, const char **ret_why);
