/* Four phases, each a call of install.sh on the machine or on this host. The answer of each call lies in
 * i->said; what it means is read in the function that is named after the phase. */
#include "engine/install.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/op.h"
#include "base/settings.h"
#include "engine/script.h"
#include "proto/mem.h"
#include "proto/text.h"

extern const char engine_install_sh[], engine_install_job_sh[], engine_catalog_ini[];

#define STEP_MS    (60 * 1000)
#define PIECE_MS   (10 * 60 * 1000)
#define BLOCK      ((int64_t)65536)
#define PIECE_MIN  (BLOCK * 4)
#define PIECE_MAX  (BLOCK * 256)
#define DEATHS_MAX 3
#define URLS_MAX   2

enum phase { PHASE_LOOK, PHASE_BOX, PHASE_HERE, PHASE_BRING };

/* The last answer of install.sh. */
struct said {
    char *doing, *failed, *what, *file, *sha256;
    int64_t have, bytes;
    bool is_running, is_taken, is_installed;
    struct install_machine machine;
    bool has_curl, has_wget, has_gzip, has_tar, has_sha256sum, has_setsid;
};

struct install {
    struct engine *engine;
    struct host *here;
    char *cache, *version, *mirror, *catalog, *present;
    enum install_source source;
    char who[40];
    enum phase phase;
    bool under_way, here_zstd, brought;
    bool begins; /* the call in flight begins a job */
    unsigned deaths;
    struct said said;
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

/* ---- what to install ---- */

static void name_versions(const struct catalog *c, const struct install_wish *w,
                          const struct install_machine *m, char out[static 120])
{
    size_t n = 0;

    *out = '\0';
    for (unsigned i = 0; i < c->n && n < 100; i++)
        if (streq(c->entries[i].engine, w->engine) && streq(c->entries[i].arch, m->arch))
            n += (size_t)snprintf(out + n, 120 - n, "%s%s", n ? ", " : "", c->entries[i].version);
}

static int decide_entry(const struct catalog *c, const struct install_wish *w,
                        const struct install_machine *m, bool here_zstd, struct install_plan *p,
                        struct fault *f)
{
    bool can_zst = m->has_zstd || (here_zstd && w->source != INSTALL_BOX);
    const struct catalog_entry *e = catalog_pick(c, w->engine, w->version, m->arch, can_zst);
    char versions[120];

    if (e) {
        p->entry = *e;
        return 0;
    }
    name_versions(c, w, m, versions);
    if (!*versions)
        return fault_code(f, FAULT_GONE, "engine_unfit",
                          "there is no %s for the architecture of %s (%s) in the catalog", w->engine,
                          w->instance, m->arch);
    if (catalog_pick(c, w->engine, w->version, m->arch, true))
        return fault_code(f, FAULT_GONE, "engine_missing",
                          "%s%s%s comes as .tar.zst: install the package zstd on %s, or on this host",
                          w->engine, w->version ? " " : "", w->version ? w->version : "", w->instance);
    return fault_code(f, FAULT_GONE, "engine_missing",
                      "[engine.%s] version=%s is not in the catalog, which has %s", w->engine, w->version,
                      versions);
}

static int decide_room(const struct install_wish *w, const struct install_machine *m,
                       const struct install_plan *p, struct fault *f)
{
    int64_t archive = p->entry.at_most, need = archive + (p->pack_anew ? archive / 4 : 0) + p->entry.unpacked;
    char needed[TEXT_SHORT_MAX], room[TEXT_SHORT_MAX];

    if (m->free_bytes < 0 || m->free_bytes >= need)
        return 0;
    return fault_code(f, FAULT_EXHAUSTED, "disk_full",
                      "%s %s needs %s on the data disk of %s, and %s are free", w->engine, p->entry.version,
                      bytes_format(needed, (uint64_t)need), w->instance,
                      bytes_format(room, (uint64_t)m->free_bytes));
}

int install_decide(const struct catalog *c, const struct install_wish *w, const struct install_machine *m,
                   bool here_zstd, struct install_plan *ret, struct fault *f)
{
    struct install_plan p = {};

    if (m->is_ascend)
        return fault_code(f, FAULT_GONE, "engine_unfit",
                          "%s has an Ascend NPU and no NVIDIA card: there is no %s for it", w->instance,
                          w->engine);
    if (*m->lacks)
        return fault_code(f, FAULT_GONE, "engine_unfit", "%s cannot be installed on %s: it has no %s",
                          w->engine, w->instance, m->lacks);
    int r = decide_entry(c, w, m, here_zstd, &p, f);

    if (r < 0)
        return r;
    p.pack_anew = p.entry.is_zst && !m->has_zstd;
    p.by_box = w->source != INSTALL_UPLOAD && m->has_download && !p.pack_anew;
    if (w->source == INSTALL_BOX && !m->has_download)
        return fault_code(f, FAULT_GONE, "engine_missing",
                          "%s cannot be fetched by %s, which has neither curl nor wget", w->engine,
                          w->instance);
    r = decide_room(w, m, &p, f);
    if (r < 0)
        return r;
    *ret = p;
    return 0;
}

/* ---- the answers ---- */

static void said_clear(struct said *s)
{
    free(s->doing);
    free(s->failed);
    free(s->what);
    free(s->file);
    free(s->sha256);
    *s = (struct said){.have = 0, .bytes = -1, .machine = {.free_bytes = -1}};
}

static void on_answer(void *ctx)
{
    said_clear(&((struct install *)ctx)->said);
}

static void take_arch(struct install_machine *m, const char *value)
{
    const char *name = streq(value, "x86_64") ? "amd64" : streq(value, "aarch64") ? "arm64" : value;

    snprintf(m->arch, sizeof m->arch, "%.15s", name);
    for (char *p = m->arch; *p; p++)
        if (*p <= ' ' || *p > '~')
            *p = '?';
}

static void take_tool(struct said *s, const char *name)
{
    const struct {
        const char *name;
        bool *has;
    } tools[] = {
        {"curl", &s->has_curl},         {"wget", &s->has_wget}, {"gzip", &s->has_gzip},
        {"zstd", &s->machine.has_zstd}, {"tar", &s->has_tar},   {"sha256sum", &s->has_sha256sum},
        {"setsid", &s->has_setsid},
    };

    for (size_t i = 0; i < ELEMENTS(tools); i++)
        *tools[i].has |= streq(name, tools[i].name);
}

static int64_t number_of(const char *value)
{
    return value[0] >= '0' && value[0] <= '9' && strlen(value) < 17 ? strtoll(value, NULL, 10) : -1;
}

static bool take_line(void *ctx, const char *key, const char *value)
{
    struct said *s = &((struct install *)ctx)->said;
    const struct {
        const char *key;
        char **to;
    } texts[] = {{"doing", &s->doing},
                 {"failed", &s->failed},
                 {"what", &s->what},
                 {"file", &s->file},
                 {"sha256", &s->sha256}};

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        if (streq(key, texts[i].key)) {
            script_take_text(texts[i].to, value);
            return true;
        }
    if (streq(key, "arch"))
        take_arch(&s->machine, value);
    else if (streq(key, "chip"))
        s->machine.is_ascend = streq(value, "ascend");
    else if (streq(key, "tool"))
        take_tool(s, value);
    else if (streq(key, "free_kb"))
        s->machine.free_bytes = number_of(value) * 1024;
    else if (streq(key, "have"))
        s->have = MAX(number_of(value), 0);
    else if (streq(key, "bytes"))
        s->bytes = number_of(value);
    else if (streq(key, "running"))
        s->is_running = true;
    else if (streq(key, "taken"))
        s->is_taken = true;
    else if (streq(key, "installed"))
        s->is_installed = true;
    else
        return streq(key, "base") || streq(key, "url");
    return true;
}

/* ---- one step ---- */

static void step_cancel(struct op *op)
{
    op_cancel(&CONTAINER_OF(op, struct install, step)->op);
}

static void step_end(struct install *i, bool again, const struct fault *f)
{
    struct engine_reply to = i->to;

    i->under_way = again || (f && (f->kind == FAULT_TRANSIENT || f->kind == FAULT_UNCERTAIN));
    op_end(&i->step);
    to.done(to.ctx, again, f);
}

static void tell(struct install *i, int64_t bytes, int64_t total, const char *doing)
{
    char text[160];
    const struct engine_progress p = {.text = text, .bytes = bytes, .bytes_total = total};

    snprintf(text, sizeof text, "%s %s: %s", i->engine->ops->name, i->plan.entry.version, doing);
    i->to.progress(i->to.ctx, &p);
}

/* "ollama.install": its files in run/. */
static void call(struct install *i, bool here, const char *const *words, const void *input, size_t n,
                 void (*done)(void *ctx, const struct fault *f))
{
    const struct script_call c = {.text = engine_install_sh,
                                  .words = words,
                                  .input = input,
                                  .n_input = n,
                                  .timeout_ms = input ? PIECE_MS : STEP_MS,
                                  .begin = on_answer,
                                  .take = take_line};

    script_run(here ? i->here : i->engine->host, &c, &i->op, done, i);
}

/* The archive's name: what is packed anew is another one. */
static char *archive_name(const struct install *i, bool here)
{
    const struct catalog_entry *e = &i->plan.entry;

    return xasprintf("%s-%s.%.12s", e->engine, e->version, !here && i->sha256 ? i->sha256 : e->sha256);
}

static void begin_job(struct install *i, bool here, void (*done)(void *ctx, const struct fault *f))
{
    const struct catalog_entry *e = &i->plan.entry;
    _cleanup_free_ char *files = xasprintf("%s.install", e->engine), *what = archive_name(i, here);
    _cleanup_free_ char *directory = xasprintf("%s-%s", e->engine, e->version);
    _cleanup_free_ char *mirrored = i->mirror ? xasprintf("%s%s", i->mirror, e->url) : NULL;
    bool is_packed = !here && i->brought && i->plan.pack_anew;
    char at_most[24];
    const char *words[18] = {"begin", files, here ? i->cache : "-", what};
    unsigned n = 4;

    snprintf(at_most, sizeof at_most, "%" PRId64, !here && i->brought ? i->bytes : e->at_most);
    words[n++] = !here ? "install" : i->plan.pack_anew ? "as-tgz" : "keep";
    words[n++] = e->is_zst && !is_packed ? "zst" : "tgz";
    words[n++] = !here && i->brought ? i->sha256 : e->sha256;
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
    call(i, here, words, NULL, 0, done);
}

static void poll_job(struct install *i, bool here, void (*done)(void *ctx, const struct fault *f))
{
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name);
    const char *const words[] = {"poll", files, here ? i->cache : "-", NULL};

    i->begins = false;
    call(i, here, words, NULL, 0, done);
}

/* Nobody delivers it: the words of both sides. */
static void end_undelivered(struct install *i, const char *code, const char *why)
{
    struct fault f;

    fault_code(&f, FAULT_GONE, streq(code, "engine_wrong") ? "engine_damaged" : "engine_missing",
               "%s is not installed on %s, and %s cannot be fetched: %.300s", i->engine->ops->name,
               i->engine->instance, i->plan.entry.version, why);
    step_end(i, false, &f);
}

/* What a job says; GONE: none runs that is ours, and it has not finished. */
enum job { JOB_DONE, JOB_RUNS, JOB_FAILED, JOB_GONE };

static enum job read_job(struct install *i, bool here)
{
    _cleanup_free_ char *what = archive_name(i, here);
    const struct said *s = &i->said;
    const char *doing = s->doing ? s->doing : "";
    bool is_ours = s->what && streq(s->what, what);

    if (!is_ours && s->is_running) {
        tell(i, -1, -1, "waiting for another installation");
        return JOB_RUNS;
    }
    if (is_ours && streq(doing, "done"))
        return JOB_DONE;
    if (is_ours && streq(doing, "failed") && s->failed)
        return JOB_FAILED;
    if (!s->is_running)
        return JOB_GONE;
    if (streq(doing, "fetching"))
        tell(i, s->have, i->plan.entry.bytes, here ? "downloading here" : "downloading");
    else
        tell(i, -1, -1, *doing ? doing : "starting");
    return JOB_RUNS;
}

/* "CODE TEXT" of a job. */
static const char *failed_code(const struct said *s, char code[static 32])
{
    const char *text = strchr(s->failed, ' ');

    snprintf(code, 32, "%.*s", (int)strcspn(s->failed, " "), s->failed);
    return text ? text + 1 : "";
}

/* Where it is not known whether a job was begun, what lies there may be an older one's: look at everything
 * again. */
static void job_unknown(struct install *i, const struct fault *f)
{
    if (i->begins)
        i->phase = PHASE_LOOK;
    step_end(i, false, f);
}

/* The job is not there although it had not finished: the machine was restarted, or somebody killed it. */
static void begin_again(struct install *i, bool here, void (*done)(void *ctx, const struct fault *f))
{
    struct fault f;

    if (i->deaths++ < DEATHS_MAX) {
        begin_job(i, here, done);
        return;
    }
    fault_code(&f, FAULT_GONE, "engine_missing",
               "the installation of %s on %s is ended again and again by something %s", i->engine->ops->name,
               i->engine->instance, here ? "here" : "there");
    step_end(i, false, &f);
}

static void look_here(struct install *i, void (*done)(void *ctx, const struct fault *f))
{
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name);
    const char *const words[] = {"look", files, i->cache, NULL};

    call(i, true, words, NULL, 0, done);
}

/* ---- here ---- */

static void bring(struct install *i);
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
    bring(i);
}

static void here_failed(struct install *i)
{
    char code[32];
    const char *text = failed_code(&i->said, code);
    struct fault f;

    if (streq(code, "disk_full")) {
        fault_code(&f, FAULT_EXHAUSTED, "disk_full", "%s cannot be fetched by this host for %s: %.300s",
                   i->engine->ops->name, i->engine->instance, text);
        step_end(i, false, &f);
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
    case JOB_RUNS: step_end(i, true, NULL); break;
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
    step_end(i, false, &full);
}

static void begin_here(struct install *i)
{
    i->phase = PHASE_HERE;
    free(i->sha256);
    i->sha256 = NULL;
    look_here(i, on_here_room);
}

/* ---- bring ---- */

static void on_box_polled(void *ctx, const struct fault *f);

static void on_brought(void *ctx, const struct fault *f)
{
    struct install *i = ctx;
    struct fault fault;

    if (f) {
        i->piece = PIECE_MIN;
        step_end(i, false, f);
        return;
    }
    if (i->said.have <= i->piece_at) {
        fault_set(&fault, FAULT_TRANSIENT, 0, "what is brought to %s does not arrive", i->engine->instance);
        step_end(i, false, &fault);
        return;
    }
    uint64_t took_ms = clock_now_ms() - i->piece_due;

    tell(i, i->said.have, i->bytes, "uploading");
    if (took_ms < 2000 && i->piece < PIECE_MAX)
        i->piece *= 2;
    else if (took_ms > 8000 && i->piece > PIECE_MIN)
        i->piece /= 2;
    bring(i);
}

static void on_piece(void *ctx, struct run_result *result, const struct fault *f)
{
    struct install *i = ctx;
    _cleanup_free_ char *files = xasprintf("%s.install", i->engine->ops->name),
                        *what = archive_name(i, false);
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
        step_end(i, false, f);
        return;
    }
    snprintf(block, sizeof block, "%" PRId64, i->said.have / BLOCK);
    i->piece_at = i->said.have;
    i->piece_due = clock_now_ms();
    size_t n = result->out.len;

    free(i->data);
    i->data = buf_take(&result->out);
    call(i, false, words, i->data, n, on_brought);
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
                                .timeout_ms = STEP_MS},
             &i->op, on_piece, i);
    buf_done(&script);
}

static void on_turn(void *ctx, const struct fault *f)
{
    struct install *i = ctx;

    if (f) {
        step_end(i, false, f);
    } else if (i->said.is_installed) {
        step_end(i, false, NULL);
    } else if (i->said.is_taken) {
        tell(i, i->said.have, i->bytes, "uploading");
        step_end(i, true, NULL);
    } else {
        tell(i, i->said.have, i->bytes, "uploading");
        bring(i);
    }
}

static void take_turn(struct install *i)
{
    const struct catalog_entry *e = &i->plan.entry;
    _cleanup_free_ char *files = xasprintf("%s.install", e->engine), *what = archive_name(i, false);
    _cleanup_free_ char *directory = xasprintf("%s-%s", e->engine, e->version);
    const char *const words[] = {"turn", files, "-", what, directory, i->who, NULL};

    i->has_turn = true;
    call(i, false, words, NULL, 0, on_turn);
}

/* Behind a turn or a piece, whose answer says how much is there. */
static void bring(struct install *i)
{
    if (!i->has_turn) {
        take_turn(i);
    } else if (i->said.have < i->bytes) {
        read_piece(i);
    } else {
        i->brought = true;
        i->phase = PHASE_BOX;
        begin_job(i, false, on_box_polled);
    }
}

/* ---- on the box ---- */

static void box_failed(struct install *i)
{
    char code[32];
    const char *text = failed_code(&i->said, code);
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
        step_end(i, false, &f);
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
    case JOB_DONE: step_end(i, false, NULL); break;
    case JOB_FAILED: box_failed(i); break;
    case JOB_RUNS: step_end(i, true, NULL); break;
    case JOB_GONE: begin_again(i, false, on_box_polled); break;
    }
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
                                      .source = i->source};
    _cleanup_free_ struct catalog *c = xnew(struct catalog);
    struct fault f;

    if (read_catalog(i, c, &f) < 0 || install_decide(c, &wish, &i->machine, i->here_zstd, &i->plan, &f) < 0)
        step_end(i, false, &f);
    else if (i->present && streq(i->present, i->plan.entry.version))
        step_end(i, false, NULL);
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
    const struct said *s = &i->said;

    if (f) {
        step_end(i, false, f);
        return;
    }
    i->machine = s->machine;
    i->machine.has_download = s->has_curl || s->has_wget;
    snprintf(i->machine.lacks, sizeof i->machine.lacks, "%s",
             !s->has_gzip        ? "gzip"
             : !s->has_tar       ? "tar"
             : !s->has_sha256sum ? "sha256sum"
             : !s->has_setsid    ? "setsid"
                                 : "");
    if (i->machine.has_zstd || i->machine.is_ascend)
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
    call(i, false, words, NULL, 0, on_box_looked);
}

/* ---- the object ---- */

static char *setting(const struct settings *s, const char *engine, const char *key)
{
    _cleanup_free_ char *section = xasprintf("engine.%s", engine);
    const char *value = settings_text(s, section, key);

    return value && *value ? xstrdup(value) : NULL;
}

struct install *install_new(struct engine *e, const struct settings *settings, const char *state_directory)
{
    static unsigned number;
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
    i->piece = PIECE_MIN;
    snprintf(i->who, sizeof i->who, "%d.%u", (int)getpid(), ++number);
    return i;
}

struct install *install_free(struct install *i)
{
    if (!i)
        return NULL;
    said_clear(&i->said);
    host_free(i->here);
    free(i->cache);
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
            (!i->version || streq(c->entries[n].version, i->version)))
            return streq(c->entries[n].version, present);
    return true;
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
    case PHASE_BRING: take_turn(i); break;
    }
}
