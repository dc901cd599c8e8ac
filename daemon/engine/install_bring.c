/* The archive goes there piece by piece: a child reads one here, install.sh writes it at its place there and
 * says how much there is. Several may want to bring the same: they take turns, and a writer that was left
 * over writes what is there anyway. */
#include "engine/install_private.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "proto/mem.h"
#include "proto/text.h"

#define READ_MS   (60 * 1000)
#define BLOCK     ((int64_t)65536)
#define PIECE_MAX (BLOCK * 256)

static void on_brought(void *ctx, const struct fault *f)
{
    struct install *i = ctx;
    struct fault fault;

    if (f) {
        i->piece = INSTALL_PIECE_MIN;
        install_end(i, false, f);
        return;
    }
    if (i->said.have <= i->piece_at) {
        fault_set(&fault, FAULT_TRANSIENT, 0, "what is brought to %s does not arrive", i->engine->instance);
        install_end(i, false, &fault);
        return;
    }
    uint64_t took_ms = clock_now_ms() - i->piece_due;

    install_tell(i, i->said.have, i->bytes, "uploading");
    if (took_ms < 2000 && i->piece < PIECE_MAX)
        i->piece *= 2;
    else if (took_ms > 8000 && i->piece > INSTALL_PIECE_MIN)
        i->piece /= 2;
    install_bring(i);
}

static void on_piece(void *ctx, struct run_result *result, const struct fault *f)
{
    struct install *i = ctx;
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name),
                        *what = install_archive_name(i, false);
    char block[24];
    const char *const words[] = {"bring", files, "-", what, i->who, block, NULL};
    struct fault fault;

    if (!f && (result->status != 0 || !result->out.len)) {
        fault_set(&fault, FAULT_TRANSIENT, 0, "%s cannot be read: %.200s", i->file,
                  result->err.len ? buf_text(&result->err) : "it is gone");
        i->phase = PHASE_LOOK;
        f = &fault;
    }
    if (f) {
        install_end(i, false, f);
        return;
    }
    snprintf(block, sizeof block, "%" PRId64, i->said.have / BLOCK);
    i->piece_at = i->said.have;
    i->piece_due = clock_now_ms();
    size_t n = result->out.len;

    free(i->data);
    i->data = buf_take(&result->out);
    install_call(i, false, words, i->data, n, on_brought);
}

/* The next piece out of the file here; a child reads it, so that the loop waits for no disk. */
static void read_piece(struct install *i)
{
    struct buf script;

    buf_init(&script, 8192);
    buf_add_text(&script, "exec dd bs=65536 if=");
    shell_quote(&script, i->file);
    buf_addf(&script, " skip=%" PRId64 " count=%" PRId64, i->said.have / BLOCK, i->piece / BLOCK);
    host_run(i->here,
             &(struct run_spec){.script = buf_text(&script),
                                .output_bytes_max = (size_t)(i->piece + BLOCK),
                                .timeout_ms = READ_MS},
             &i->op, on_piece, i);
    buf_done(&script);
}

static void on_turn(void *ctx, const struct fault *f)
{
    struct install *i = ctx;

    if (f) {
        install_end(i, false, f);
    } else if (i->said.is_installed) {
        install_end(i, false, NULL);
    } else if (i->said.is_taken) {
        install_tell(i, i->said.have, i->bytes, "uploading");
        install_end(i, true, NULL);
    } else {
        install_tell(i, i->said.have, i->bytes, "uploading");
        install_bring(i);
    }
}

static void take_turn(struct install *i)
{
    const struct catalog_entry *e = &i->plan.entry;
    _cleanup_free_ char *files = xasprintf("%s.install", e->engine), *what = install_archive_name(i, false);
    _cleanup_free_ char *directory = xasprintf("%s-%s", e->engine, e->version);
    const char *const words[] = {"turn", files, "-", what, directory, i->who, NULL};

    i->has_turn = true;
    install_call(i, false, words, NULL, 0, on_turn);
}

/* Behind a turn or a piece, whose answer says how much is there. */
void install_bring(struct install *i)
{
    if (!i->has_turn) {
        take_turn(i);
    } else if (i->said.have < i->bytes) {
        read_piece(i);
    } else {
        install_brought(i);
    }
}
