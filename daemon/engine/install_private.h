/* What install.c and install_bring.c share. */
#pragma once

#include "base/op.h"
#include "engine/install.h"
#include "engine/install_plan.h"

#define INSTALL_PIECE_MIN (65536 * 4)

enum phase { PHASE_LOOK, PHASE_BOX, PHASE_HERE, PHASE_BRING };

struct install {
    struct engine *engine;
    struct host *here;
    char *cache, *version, *mirror, *catalog, *present;
    enum install_source source;
    char *who; /* brings, in the eyes of others */
    enum phase phase;
    bool under_way, here_zstd, brought;
    bool begins; /* the call in flight begins a job */
    unsigned deaths;
    struct install_said said;
    struct install_machine machine;
    struct install_plan plan;
    char *box_failed;    /* why the box could not fetch it */
    char *file, *sha256; /* what is brought */
    int64_t bytes, piece;
    char *data;         /* the piece under way */
    int64_t piece_at;   /* what was there before it */
    uint64_t piece_due; /* when it was sent */
    bool has_turn;      /* said.have is of what is brought */
    struct engine_reply to;
    struct op *op; /* what the step waits for */
    struct op step;
};

/* install.c, for bringing: */
typedef void (*install_done_fn)(void *ctx, const struct fault *f);
/* A verb of install.sh, there or here; the answer is in i->said. */
void install_call(struct install *i, bool here, const char *const *words, const void *input, size_t n, install_done_fn done);
void install_end(struct install *i, bool again, const struct fault *f);
void install_tell(struct install *i, int64_t bytes, int64_t total, const char *doing);
/* Of an archive over there: what is packed anew is another one than here. Caller frees. */
char *install_archive_name(const struct install *i, bool here);
void install_brought(struct install *i);

/* install_bring.c: i->file goes there; ends the step, or calls install_brought(). */
void install_bring(struct install *i);
