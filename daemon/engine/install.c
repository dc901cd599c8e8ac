/* Four phases, each a call of install.sh on the machine or on this host. The answer of each call lies in
 * i->said; what it means is read in the function that is named after the phase. */
#include "engine/install_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/settings.h"
#include "engine/machine.h"
#include "engine/script.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const char engine_install_sh[], engine_install_job_sh[], engine_catalog_ini[];

#define STEP_MS    (60 * 1000)
#define PIECE_MS   (10 * 60 * 1000)
#define DEATHS_MAX 3

/* ---- one step ---- */

static void on_answer(void *ctx)
{
    install_said_clear(&((struct install *)ctx)->said);
}

static bool take_line(void *ctx, const char *key, const char *value)
{
    return install_said_take(&((struct install *)ctx)->said, key, value);
}

static void step_cancel(struct op *op)
{
    op_cancel(&CONTAINER_OF(op, struct install, step)->op);
}

void install_end(struct install *i, bool again, const struct fault *f)
{
    struct engine_reply to = i->to;

    i->under_way = again || (f && fault_may_pass(f));
    op_end(&i->step);
    to.done(to.ctx, again, f);
}

void install_tell(struct install *i, int64_t bytes, int64_t total, const char *doing)
{
    char text[160];
    const struct engine_progress p = {.text = text, .bytes = bytes, .bytes_total = total};

    snprintf(text, sizeof text, "%s %s%s: %s", i->engine->ops->name, i->plan.entry.version,
             *i->plan.entry.url && !*i->plan.entry.sha256 ? ", not verified" : "", doing);
    i->to.progress(i->to.ctx, &p);
}

/* "ollama.install": its files in run/. */
void install_call(struct install *i, bool here, const char *const *words, const void *input, size_t n,
                  install_done_fn done)
{
    _cleanup_free_ char *text = !here && streq(words[0], "look") ? machine_script(engine_install_sh) : NULL;
    const struct script_call c = {.text = text ? text : engine_install_sh,
                                  .words = words,
                                  .input = input,
                                  .n_input = n,
                                  .timeout_ms = input ? PIECE_MS : STEP_MS,
                                  .begin = on_answer,
                                  .take = take_line};

    script_run(here ? i->here : i->engine->host, &c, &i->op, done, i);
}

/* The archive's name: what is packed anew is another one. */
char *install_archive_name(const struct install *i, bool here)
{
    const struct catalog_entry *e = &i->plan.entry;

    const char *hash = !here && i->sha256 ? i->sha256 : *e->sha256 ? e->sha256 : "unverified";

    return xasprintf("%s-%s.%.12s", e->engine, e->version, hash);
}

static void begin_job(struct install *i, bool here, install_done_fn done)
{
    const struct catalog_entry *e = &i->plan.entry;
    _cleanup_free_ char *files = xasprintf("%s.install", e->engine), *what = install_archive_name(i, here);
    _cleanup_free_ char *directory = xasprintf("%s-%s", e->engine, e->version);
    _cleanup_free_ char *mirrored = i->mirror ? xasprintf("%s%s", i->mirror, e->url) : NULL;
    bool is_packed = !here && i->brought && i->plan.pack_anew;
    char at_most[24];
    const char *words[18] = {"begin", files, here ? i->cache : "-", what};
    unsigned n = 4;

    snprintf(at_most, sizeof at_most, "%" PRId64, !here && i->brought ? i->bytes : e->at_most);
    words[n++] = here ? (i->plan.pack_anew ? "as-tgz" : "keep") : *e->sha256 ? "install" : "unverified";
    words[n++] = e->is_zst && !is_packed ? "zst" : "tgz";
    words[n++] = !here && i->brought ? i->sha256 : *e->sha256 ? e->sha256 : "-";
    words[n++] = at_most;
    words[n++] = e->engine;
    words[n++] = directory;
    words[n++] = e->tree;
    if (mirrored && (here || !i->brought))
        words[n++] = mirrored;
    if (here || !i->brought)
        words[n++] = e->url;
    words[n++] = engine_install_job_sh;
    words[n] = NULL;
    i->begins = true;
    install_call(i, here, words, NULL, 0, done);
}

static void poll_job(struct install *i, bool here, install_done_fn done)
{
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name);
    const char *const words[] = {"poll", files, here ? i->cache : "-", NULL};

    i->begins = false;
    install_call(i, here, words, NULL, 0, done);
}

/* Nobody delivers it: the words of both sides. */
static void end_undelivered(struct install *i, const char *code, const char *why)
{
    struct fault f;

    fault_code(&f, FAULT_GONE, streq(code, "engine_wrong") ? "engine_damaged" : "engine_missing",
               "%s is not installed on %s, and %s cannot be fetched: %.300s", i->engine->ops->name,
               i->engine->instance, i->plan.entry.version, why);
    install_end(i, false, &f);
}

/* What a job says; GONE: none runs that is ours, and it has not finished. */
enum job { JOB_DONE, JOB_RUNS, JOB_FAILED, JOB_GONE };

static enum job read_job(struct install *i, bool here)
{
    _cleanup_free_ char *what = install_archive_name(i, here);
    const struct install_said *s = &i->said;
    const char *doing = s->doing ? s->doing : "";
    bool is_ours = s->what && streq(s->what, what);

    if (!is_ours && s->is_running) {
        install_tell(i, -1, -1, "waiting for another installation");
        return JOB_RUNS;
    }
    if (is_ours && streq(doing, "done"))
        return JOB_DONE;
    if (is_ours && streq(doing, "failed") && s->failed)
        return JOB_FAILED;
    if (!s->is_running)
        return JOB_GONE;
    if (streq(doing, "fetching"))
        install_tell(i, s->have, i->plan.entry.bytes, here ? "downloading here" : "downloading");
    else if (streq(doing, "unpacking"))
        install_tell(i, MIN(s->have, i->plan.entry.unpacked), i->plan.entry.unpacked, doing);
    else
        install_tell(i, -1, -1, *doing ? doing : "starting");
    return JOB_RUNS;
}

/* Where it is not known whether a job was begun, what lies there may be an older one's: look at everything
 * again. */
static void job_unknown(struct install *i, const struct fault *f)
{
    if (i->begins)
        i->phase = PHASE_LOOK;
    install_end(i, false, f);
}

/* The job is not there although it had not finished: the machine was restarted, or somebody killed it. */
static void begin_again(struct install *i, bool here, install_done_fn done)
{
    struct fault f;

    if (i->deaths++ < DEATHS_MAX) {
        begin_job(i, here, done);
        return;
    }
    fault_code(&f, FAULT_GONE, "engine_missing",
               "the installation of %s on %s is ended again and again by something %s", i->engine->ops->name,
               i->engine->instance, here ? "here" : "there");
    install_end(i, false, &f);
}

static void look_here(struct install *i, install_done_fn done)
{
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name);
    const char *const words[] = {"look", files, i->cache, NULL};

    install_call(i, true, words, NULL, 0, done);
}

/* ---- here ---- */

static void on_here_polled(void *ctx, const struct fault *f);

static void here_done(struct install *i)
{
    free(i->file);
    free(i->sha256);
    i->file = i->said.file ? xstrdup(i->said.file) : NULL;
    i->sha256 = i->said.sha256 ? xstrdup(i->said.sha256) : NULL;
    i->bytes = i->said.bytes;
    if (!i->file || !i->sha256 || strlen(i->sha256) != 64 || i->bytes <= 0) {
        end_undelivered(i, "engine_missing", "the download here ended without a file");
        return;
    }
    i->phase = PHASE_BRING;
    i->has_turn = false;
    install_bring(i);
}

static void here_failed(struct install *i)
{
    char code[32];
    const char *text = install_said_failure(&i->said, code);
    struct fault f;

    if (streq(code, "disk_full")) {
        fault_code(&f, FAULT_EXHAUSTED, "disk_full", "%s cannot be fetched by this host for %s: %.300s",
                   i->engine->ops->name, i->engine->instance, text);
        install_end(i, false, &f);
        return;
    }
    _cleanup_free_ char *both =
        i->box_failed ? xasprintf("%.140s (from there); %.140s (from here)", i->box_failed, text)
                      : xstrdup(text);

    end_undelivered(i, code, both);
}

static void on_here_polled(void *ctx, const struct fault *f)
{
    struct install *i = ctx;

    if (f) {
        job_unknown(i, f);
        return;
    }
    switch (read_job(i, true)) {
    case JOB_DONE: here_done(i); break;
    case JOB_FAILED: here_failed(i); break;
    case JOB_RUNS: install_end(i, true, NULL); break;
    case JOB_GONE: begin_again(i, true, on_here_polled); break;
    }
}

/* The archive, and a second one where it is packed anew. */
static void on_here_room(void *ctx, const struct fault *f)
{
    struct install *i = ctx;
    int64_t need = i->plan.entry.at_most * (i->plan.pack_anew ? 2 : 1),
            room = f ? -1 : i->said.machine.free_bytes;
    char needed[TEXT_SHORT_MAX], free_text[TEXT_SHORT_MAX];
    struct fault full;

    if (room < 0 || room >= need) {
        begin_job(i, true, on_here_polled);
        return;
    }
    fault_code(&full, FAULT_EXHAUSTED, "disk_full",
               "%s is to be brought to %s by this host, and needs %s below %.200s, where %s are free",
               i->engine->ops->name, i->engine->instance, bytes_format(needed, (uint64_t)need), i->cache,
               bytes_format(free_text, (uint64_t)room));
    install_end(i, false, &full);
}

static void begin_here(struct install *i)
{
    i->phase = PHASE_HERE;
    free(i->sha256);
    i->sha256 = NULL;
    look_here(i, on_here_room);
}

/* ---- on the box ---- */

static void box_failed(struct install *i)
{
    char code[32];
    const char *text = install_said_failure(&i->said, code);
    bool undelivered = streq(code, "engine_unreachable") || streq(code, "engine_wrong");
    struct fault f;

    if (undelivered && !i->brought && i->source == INSTALL_AUTO) {
        free(i->box_failed);
        i->box_failed = xstrdup(text);
        begin_here(i);
    } else if (undelivered) {
        end_undelivered(i, code, text);
    } else {
        bool is_full = streq(code, "disk_full");

        fault_code(&f, is_full ? FAULT_EXHAUSTED : FAULT_GONE, is_full ? code : "engine_damaged",
                   "%s %s cannot be installed on %s: %.300s", i->engine->ops->name, i->plan.entry.version,
                   i->engine->instance, text);
        install_end(i, false, &f);
    }
}

static void on_box_polled(void *ctx, const struct fault *f)
{
    struct install *i = ctx;

    if (f) {
        job_unknown(i, f);
        return;
    }
    switch (read_job(i, false)) {
    case JOB_DONE: install_end(i, false, NULL); break;
    case JOB_FAILED: box_failed(i); break;
    case JOB_RUNS: install_end(i, true, NULL); break;
    case JOB_GONE: begin_again(i, false, on_box_polled); break;
    }
}

void install_brought(struct install *i)
{
    free(i->data);
    i->data = NULL;
    i->brought = true;
    i->phase = PHASE_BOX;
    begin_job(i, false, on_box_polled);
}

/* ---- look ---- */

/* A small file of the user's, once per installation. */
static int read_file(const char *path, char **ret, size_t *ret_n)
{
    _cleanup_free_ char *text = malloc(CATALOG_BYTES_MAX + 1);
    FILE *file = text ? fopen(path, "re") : NULL;

    if (!file)
        return -errno;
    *ret_n = fread(text, 1, CATALOG_BYTES_MAX + 1, file);
    int r = ferror(file) ? -EIO : 0;

    fclose(file);
    if (r == 0)
        *ret = TAKE_PTR(text);
    return r;
}

static int read_catalog(const struct install *i, struct catalog *c, struct fault *f)
{
    const char *name = i->catalog ? i->catalog : "the built-in catalog";
    _cleanup_free_ char *text = NULL, *why = NULL;
    size_t n = strlen(engine_catalog_ini);
    int r = 0;

    if (i->catalog)
        r = read_file(i->catalog, &text, &n);
    if (r < 0)
        return fault_code(f, FAULT_INVALID, "engine_missing", "%s: %s", name, strerror(-r));
    if (catalog_parse(text ? text : engine_catalog_ini, n, c, &why) < 0)
        return fault_code(f, FAULT_INVALID, "engine_missing", "%s: %s", name, why);
    return 0;
}

/* What was asked of the machine is known; where the archive is packed anew, also what this host has. */
static void decide(struct install *i)
{
    const struct install_wish wish = {.engine = i->engine->ops->name,
                                      .instance = i->engine->instance,
                                      .version = i->version,
                                      .source = i->source,
                                      .unverified = i->engine->unverified};
    _cleanup_free_ struct catalog *c = xnew(struct catalog);
    struct fault f;

    if (read_catalog(i, c, &f) < 0 || install_decide(c, &wish, &i->machine, i->here_zstd, &i->plan, &f) < 0)
        install_end(i, false, &f);
    else if (i->present && streq(i->present, i->plan.entry.version))
        install_end(i, false, NULL);
    else if (!i->plan.by_box)
        begin_here(i);
    else {
        i->phase = PHASE_BOX;
        begin_job(i, false, on_box_polled);
    }
}

static void on_here_looked(void *ctx, const struct fault *f)
{
    struct install *i = ctx;

    i->here_zstd = !f && i->said.machine.has_zstd;
    decide(i);
}

static void on_box_looked(void *ctx, const struct fault *f)
{
    struct install *i = ctx;

    if (f) {
        install_end(i, false, f);
        return;
    }
    i->machine = install_said_machine(&i->said);
    if (i->machine.has_zstd || i->machine.gpu.kind == GPU_ASCEND)
        decide(i);
    else
        look_here(i, on_here_looked);
}

static void look(struct install *i)
{
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name);
    const char *const words[] = {"look", files, "-", NULL};

    i->brought = false;
    i->deaths = 0;
    free(i->box_failed);
    free(i->sha256);
    i->box_failed = i->sha256 = NULL;
    i->plan = (struct install_plan){};
    install_call(i, false, words, NULL, 0, on_box_looked);
}

/* ---- the object ---- */

static char *setting(const struct settings *s, const char *engine, const char *key)
{
    _cleanup_free_ char *section = xasprintf("engine.%s", engine);
    const char *value = settings_text(s, section, key);

    return value && *value ? xstrdup(value) : NULL;
}

/* The same in the next life of the daemon, another one for another model or daemon; one word. */
static char *name_of_bringer(const struct install *i)
{
    char host[65] = "";

    gethostname(host, sizeof host - 1);
    char *who = xasprintf("%s:%s:%s", host, i->cache, i->engine->model);

    for (char *p = who; *p; p++)
        if (*p <= ' ' || *p == '\\')
            *p = '_';
    return who;
}

struct install *install_new(struct engine *e, const struct settings *settings, const char *state_directory)
{
    struct install *i = xnew(struct install);
    _cleanup_free_ char *source = setting(settings, e->ops->name, "source");

    i->engine = e;
    i->here = host_local_new(e->loop);
    i->cache = xasprintf("%s/cache", state_directory);
    i->version = setting(settings, e->ops->name, "version");
    i->mirror = setting(settings, e->ops->name, "mirror");
    i->catalog = setting(settings, e->ops->name, "catalog");
    i->source = source && streq(source, "box")      ? INSTALL_BOX
                : source && streq(source, "upload") ? INSTALL_UPLOAD
                                                    : INSTALL_AUTO;
    i->piece = INSTALL_PIECE_MIN;
    i->who = name_of_bringer(i);
    return i;
}

struct install *install_free(struct install *i)
{
    if (!i)
        return NULL;
    install_said_clear(&i->said);
    host_free(i->here);
    free(i->cache);
    free(i->who);
    free(i->version);
    free(i->mirror);
    free(i->catalog);
    free(i->present);
    free(i->box_failed);
    free(i->file);
    free(i->sha256);
    free(i->data);
    free(i);
    return NULL;
}

bool install_is_current(const struct install *i, const char *present)
{
    _cleanup_free_ struct catalog *c = xnew(struct catalog);
    struct fault f;

    if (read_catalog(i, c, &f) < 0)
        return true; /* no reason not to use what is there */
    for (unsigned n = 0; n < c->n; n++)
        if (streq(c->entries[n].engine, i->engine->ops->name) &&
            (!i->version || streq(c->entries[n].version, i->version)) &&
            (*c->entries[n].sha256 || i->engine->unverified))
            return streq(c->entries[n].version, present);
    return !i->version || !i->engine->unverified || streq(i->version, present);
}

bool install_is_under_way(const struct install *i)
{
    return i->under_way;
}

void install_step(struct install *i, const char *present, struct engine_reply to)
{
    i->to = to;
    op_begin(&i->step, to.slot, step_cancel);
    if (!i->under_way) {
        i->phase = PHASE_LOOK;
        free(i->present);
        i->present = present ? xstrdup(present) : NULL;
    }
    switch (i->phase) {
    case PHASE_LOOK: look(i); break;
    case PHASE_BOX: poll_job(i, false, on_box_polled); break;
    case PHASE_HERE: poll_job(i, true, on_here_polled); break;
    case PHASE_BRING:
        i->has_turn = false;
        install_bring(i);
        break;
    }
}
