/* Lines in, facts out; facts in, a plan out. */
#include "engine/install_plan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "engine/fit.h"
#include "engine/machine.h"
#include "engine/script.h"
#include "proto/mem.h"
#include "proto/text.h"

#define CARDS_BYTES_MAX (16u << 10)

/* ---- the answer ---- */

void install_said_clear(struct install_said *s)
{
    free(s->doing);
    free(s->failed);
    free(s->what);
    free(s->file);
    free(s->sha256);
    buf_done(&s->cards);
    *s = (struct install_said){.have = 0, .bytes = -1, .machine = {.free_bytes = -1}};
    buf_init(&s->cards, CARDS_BYTES_MAX);
}

static void take_tool(struct install_said *s, const char *name)
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

bool install_said_take(struct install_said *s, const char *key, const char *value)
{
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
        machine_read_arch(s->machine.arch, value);
    else if (streq(key, "card"))
        buf_addf(&s->cards, "%s\n", value); /* beyond the ceiling no card is read */
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

struct install_machine install_said_machine(const struct install_said *s)
{
    struct install_machine m = s->machine;

    gpu_read(s->cards.data ? s->cards.data : "", s->cards.len, &m.gpu);
    m.has_download = s->has_curl || s->has_wget;
    snprintf(m.lacks, sizeof m.lacks, "%s",
             !s->has_gzip        ? "gzip"
             : !s->has_tar       ? "tar"
             : !s->has_sha256sum ? "sha256sum"
             : !s->has_setsid    ? "setsid"
                                 : "");
    return m;
}

const char *install_said_failure(const struct install_said *s, char code[static 32])
{
    const char *text = strchr(s->failed, ' ');

    snprintf(code, 32, "%.*s", (int)strcspn(s->failed, " "), s->failed);
    return text ? text + 1 : "";
}

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

/* Of a version that is not in the catalog it is only known where others are: at the address of the nearest
 * newer one, or of the newest, with its own number in it, and with room for more. */
static const struct catalog_entry *derive_entry(const struct catalog *c, const struct install_wish *w,
                                                const struct install_machine *m, bool can_zst,
                                                struct catalog_entry *out)
{
    const struct catalog_entry *e = NULL, *like = NULL;
    char *at, *rest;

    while ((e = catalog_next(c, w->engine, NULL, m->arch, can_zst, e)))
        if (!like || (strverscmp(e->version, w->version) >= 0 && strverscmp(e->version, like->version) < 0))
            like = e;
    if (!like || !catalog_is_version(w->version))
        return NULL;
    *out = *like;
    strcpy(out->version, w->version);
    out->url[0] = out->sha256[0] = '\0';
    out->tree[strcspn(out->tree, " ")] = '\0';
    out->bytes = -1;
    out->at_most = like->at_most * 2;
    out->unpacked = like->unpacked * 2;
    _cleanup_free_ char *url = xstrdup(like->url);

    for (rest = url; (at = strstr(rest, like->version)); rest = at + strlen(like->version)) {
        size_t n = strlen(out->url);

        if (snprintf(out->url + n, sizeof out->url - n, "%.*s%s", (int)(at - rest), rest, w->version) >=
            (int)(sizeof out->url - n))
            return NULL;
    }
    size_t n = strlen(out->url);

    return n && snprintf(out->url + n, sizeof out->url - n, "%s", rest) < (int)(sizeof out->url - n) ? out
                                                                                                     : NULL;
}

/* The first that works with the cards; of those that do not, the words about the first one. One that nobody
 * can verify only where that is allowed. */
static const struct catalog_entry *pick_entry(const struct catalog *c, const struct install_wish *w,
                                              const struct install_machine *m, bool can_zst, struct fault *f)
{
    const struct catalog_entry *e = NULL;
    struct fault other;

    while ((e = catalog_next(c, w->engine, w->version, m->arch, can_zst, e)))
        if ((*e->sha256 || w->unverified) &&
            fit_judge(&m->gpu, w->engine, e->version, w->instance, *f->code ? &other : f) == 0)
            return e;
    return NULL;
}

static int refuse_unverified(const struct install_wish *w, const char *version, const char *why,
                             struct fault *f)
{
    return fault_code(
        f, FAULT_GONE, "engine_unverified",
        "%s %s %s: nobody can tell whether what is delivered is it; up --unverified takes it all the same",
        w->engine, version, why);
}

static int decide_entry(const struct catalog *c, const struct install_wish *w,
                        const struct install_machine *m, bool here_zstd, struct install_plan *p,
                        struct fault *f)
{
    bool can_zst = m->has_zstd || (here_zstd && w->source != INSTALL_BOX);
    struct fault unfit = {};
    const struct catalog_entry *e = pick_entry(c, w, m, can_zst, &unfit);
    struct catalog_entry derived;
    char versions[120], why[200];

    if (!e && !*unfit.code && w->version && w->unverified &&
        !catalog_pick(c, w->engine, w->version, m->arch, true) &&
        (e = derive_entry(c, w, m, can_zst, &derived)) &&
        fit_judge(&m->gpu, w->engine, e->version, w->instance, &unfit) < 0)
        e = NULL;
    if (e) {
        p->entry = *e;
        return 0;
    }
    if (*unfit.code) {
        *f = unfit;
        return -ENOTSUP;
    }
    name_versions(c, w, m, versions);
    if (!*versions)
        return fault_code(f, FAULT_GONE, "engine_unfit",
                          "there is no %s for the architecture of %s (%s) in the catalog", w->engine,
                          w->instance, m->arch);
    if (!w->unverified && (e = catalog_pick(c, w->engine, w->version, m->arch, can_zst)))
        return refuse_unverified(w, e->version, "has no hash in the catalog", f);
    if (catalog_pick(c, w->engine, w->version, m->arch, true))
        return fault_code(f, FAULT_GONE, "engine_missing",
                          "%s%s%s comes as .tar.zst: install the package zstd on %s, or on this host",
                          w->engine, w->version ? " " : "", w->version ? w->version : "", w->instance);
    if (w->unverified || !catalog_is_version(w->version))
        return fault_code(f, FAULT_GONE, "engine_missing",
                          "[engine.%s] version=%s is not in the catalog, which has %s", w->engine, w->version,
                          versions);
    snprintf(why, sizeof why, "([engine.%.20s] version=) is not in the catalog, which has %s", w->engine,
             versions);
    return refuse_unverified(w, w->version, why, f);
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

    if (fit_judge(&m->gpu, w->engine, NULL, w->instance, f) < 0)
        return -ENOTSUP;
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
