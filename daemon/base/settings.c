/* One table says which keys exist; a value is judged when it is read, so that what the getters find is always
 * good.
 *
 * inih reads the lines, from a reader of ours: it counts them (the library's own numbers are a build option),
 * takes comments of any length out, and takes leading blanks away, which the library would read as the
 * continuation of the line before. */
#include "base/settings.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "base/event.h"
#include "base/settings_private.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

#define FILE_BYTES_MAX ((size_t)1 << 20)
#define HOUR_MS        (3600 * 1000ull)
#define FAMILY         "hook." /* sections of a name of the user's own: [hook.NAME] */
#define NAME_BYTES_MAX 31
#define FAMILY_MAX     16

#define LISTEN_FORM  "an IP address with a port, as 127.0.0.1:11434 or [::1]:11434"
#define HOLD_FORM    "a duration from 0 to 24h, as 90s, 5m or 12h"
#define UNLOAD_FORM  "a duration from 0 (never by itself) to 24h, as 90s, 5m or 12h"
#define MAX_UP_FORM  "a duration of at most 7d, as 90m, 12h or 2d, and not 0"
#define LEASE_FORM   "a duration of at most 30m, as 90s or 15m, and not 0"
#define BOOL_FORM    "yes or no"
#define PERCENT_FORM "a number of percent from 0 (not looked at) to 99, as 5%"
#define HOSTS_FORM   "host names with blanks between them, without ports"
#define ORIGINS_FORM "origins with blanks between them, as https://chat.example.org"
#define LEVEL_FORM   "err, warning, notice, info or debug"
#define PATH_FORM    "an absolute path"
#define THERE_FORM   "an absolute path on the machine, or one that begins with ~/"
#define VERSION_FORM "a version as the catalog has it, as 0.32.9"
#define SOURCE_FORM  "auto, box or upload"
#define HUB_FORM     "https:// and a host's name, as https://hf-mirror.com"
#define STALL_FORM   "a duration from 0 (never) to 24h, as 2m"
#define KINDS_FORM                                                                                           \
    "events of llmhostd(8) with blanks or commas between them, as stop_not_confirmed no_guard, or all"
#define MIRROR_FORM "what is put in front of an address, as https://mirror.example.org/"

// clang-format off
static const struct known table[] = {
    {"gateway",          "listen",       "127.0.0.1:11434", value_is_listen,   LISTEN_FORM,  0},
    {"gateway",          "hold",         "10m",             value_is_duration, HOLD_FORM,    24 * HOUR_MS},
    {"gateway",          "heartbeat",    "yes",             value_is_bool,     BOOL_FORM,    0},
    {"gateway",          "allow_host",   NULL,              value_is_hosts,    HOSTS_FORM,   0},
    {"gateway",          "allow_origin", NULL,              value_is_origins,  ORIGINS_FORM, 0},
    {"idle",             "unload",       "5m",              value_is_duration, UNLOAD_FORM,  24 * HOUR_MS},
    {"idle",             "min_up",       "5m",              value_is_duration, HOLD_FORM,    24 * HOUR_MS},
    {"idle",             "stop",         "15m",             value_is_duration, UNLOAD_FORM,  24 * HOUR_MS},
    {"idle",             "max_up",       "12h",             value_is_span,     MAX_UP_FORM,  7 * 24 * HOUR_MS},
    {"idle",             "quiet_hold",   "2h",              value_is_duration, HOLD_FORM,    24 * HOUR_MS},
    {"idle",             "failed_hold",  "5m",              value_is_duration, HOLD_FORM,    24 * HOUR_MS},
    {"idle",             "gpu_use",      "0",               value_is_percent,  PERCENT_FORM, 0},
    {"guard",            "lease",        "15m",             value_is_span,     LEASE_FORM,   HOUR_MS / 2},
    {"guard",            "first",        "30m",             value_is_span,     LEASE_FORM,   HOUR_MS / 2},
    {"guard",            "settle",       "3m",              value_is_span,     LEASE_FORM,   HOUR_MS / 2},
    {"guard",            "stop_alarm",   "3m",              value_is_span,     LEASE_FORM,   HOUR_MS / 2},
    {"ssh",              "install_key",  "yes",             value_is_bool,     BOOL_FORM,    0},
    {"log",              "level",        "info",            value_is_level,    LEVEL_FORM,   0},
    {"engine.ollama",    "path",         NULL,              value_is_path_there, THERE_FORM, 0},
    {"engine.ollama",    "version",      NULL,              value_is_version,  VERSION_FORM, 0},
    {"engine.ollama",    "source",       "auto",            value_is_source,   SOURCE_FORM,  0},
    {"engine.ollama",    "mirror",       NULL,              value_is_mirror,   MIRROR_FORM,  0},
    {"engine.ollama",    "catalog",      NULL,              value_is_path,     PATH_FORM,    0},
    {"engine.ollama",    "model_mirror", NULL,              value_is_hub,      HUB_FORM,     0},
    {"engine.ollama",    "stall",        "2m",              value_is_duration, STALL_FORM,   24 * HOUR_MS},
    {"engine.llama.cpp", "path",         NULL,              value_is_path_there, THERE_FORM, 0},
    {"engine.llama.cpp", "model_mirror", NULL,              value_is_hub,      HUB_FORM,     0},
    {"engine.llama.cpp", "stall",        "2m",              value_is_duration, STALL_FORM,   24 * HOUR_MS},
};
/* Of each section of the family. */
static const struct known family[] = {
    {FAMILY,             "command",      NULL,              value_is_path,     PATH_FORM,    0},
    {FAMILY,             "events",       EVENT_KINDS_PAGING, value_is_kinds,   KINDS_FORM,   0},
};
// clang-format on

/* A key of a section: as written, and "FILE:LINE"; NULL: the default. */
struct value {
    char *text, *where;
};

struct member {
    char *section, *where; /* where: its first header */
    struct value values[ELEMENTS(family)];
};

struct settings {
    struct value values[ELEMENTS(table)];
    struct member *members;
    unsigned n_members;
};

/* ---- sections of the family ---- */

static bool is_family(const char *section)
{
    return strncmp(section, FAMILY, strlen(FAMILY)) == 0;
}

static bool is_member_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t n = strlen(name);

    return n > 0 && n <= NAME_BYTES_MAX && strspn(name, letters) == n;
}

static struct member *find_member(const struct settings *s, const char *section)
{
    for (unsigned i = 0; i < s->n_members; i++)
        if (streq(s->members[i].section, section))
            return &s->members[i];
    return NULL;
}

/* One file being read. */
struct reading {
    struct settings *settings;
    const char *name, *at;
    int line;
    char *why; /* the first complaint */
    int why_line;
};

__attribute__((format(printf, 2, 3))) static void complain(struct reading *r, const char *format, ...)
{
    _cleanup_free_ char *text = NULL;
    va_list args;

    if (r->why)
        return;
    va_start(args, format);
    text = xvasprintf(format, args);
    va_end(args);
    r->why = xasprintf("%s:%d: %s", r->name, r->line, text);
    r->why_line = r->line;
}

static const struct known *find(const char *section, const char *key)
{
    bool named = is_family(section);
    const struct known *first = named ? family : table,
                       *end = named ? family + ELEMENTS(family) : table + ELEMENTS(table);

    for (const struct known *k = first; k < end; k++)
        if ((named || streq(k->section, section)) && streq(k->key, key))
            return k;
    return NULL;
}

/* NULL: no such section was read, so all of it is at its defaults. */
static const struct value *find_value(const struct settings *s, const char *section, const struct known *k)
{
    const struct member *m = find_member(s, section);

    if (!is_family(section))
        return &s->values[k - table];
    return m ? &m->values[k - family] : NULL;
}

static bool is_section(const char *section)
{
    if (is_family(section))
        return is_member_name(section + strlen(FAMILY));
    for (unsigned i = 0; i < ELEMENTS(table); i++)
        if (streq(table[i].section, section))
            return true;
    return false;
}

/* Of the known names, the one that looks most like it and not too different. With a section its keys, with
 * NULL the sections. */
static const char *nearest(const char *name, const char *section)
{
    unsigned limit = 1 + (unsigned)strlen(name) / 3, best = limit + 1;
    bool named = section && is_family(section);
    const struct known *rows = named ? family : table;
    const char *found = NULL;

    for (unsigned i = 0; i < (named ? ELEMENTS(family) : ELEMENTS(table)); i++) {
        const char *candidate = section ? rows[i].key : rows[i].section;
        unsigned distance;

        if (section && !named && !streq(rows[i].section, section))
            continue;
        distance = text_distance(name, candidate, limit);
        if (distance < best) {
            best = distance;
            found = candidate;
        }
    }
    return found;
}

static const char *section_with_key(const char *key)
{
    for (unsigned i = 0; i < ELEMENTS(table); i++)
        if (streq(table[i].key, key))
            return table[i].section;
    return NULL;
}

static void complain_section(struct reading *r, const char *section)
{
    const char *near = nearest(section, NULL);

    if (is_family(section) || streq(section, "hook"))
        complain(r, "[%s] should be [" FAMILY "NAME], NAME of letters, digits, _ and -, %d at most", section,
                 NAME_BYTES_MAX);
    else if (near)
        complain(r, "unknown section [%s], did you mean [%s]?", section, near);
    else
        complain(r, "unknown section [%s]", section);
}

static void complain_key(struct reading *r, const char *section, const char *key)
{
    const char *near = nearest(key, section), *elsewhere = section_with_key(key);

    if (elsewhere)
        complain(r, "unknown key %s in [%s]; there is one in [%s]", key, section, elsewhere);
    else if (near)
        complain(r, "unknown key %s in [%s], did you mean %s?", key, section, near);
    else
        complain(r, "unknown key %s in [%s]", key, section);
}

static void value_done(struct value *v)
{
    free(v->text);
    free(v->where);
}

static void take_value(struct reading *r, struct value *v, const char *text)
{
    value_done(v);
    v->text = xstrdup(text);
    v->where = xasprintf("%s:%d", r->name, r->line);
}

/* The name is a good one. */
static struct member *take_member(struct reading *r, const char *section)
{
    struct settings *s = r->settings;
    struct member *m = find_member(s, section);

    if (m)
        return m;
    if (s->n_members == FAMILY_MAX) {
        complain(r, "[%s] is one too many: there may be %d of [" FAMILY "NAME]", section, FAMILY_MAX);
        return NULL;
    }
    s->members = realloc(s->members, (s->n_members + 1) * sizeof *m);
    if (!s->members)
        abort();
    m = &s->members[s->n_members++];
    *m = (struct member){.section = xstrdup(section), .where = xasprintf("%s:%d", r->name, r->line)};
    return m;
}

static void take(struct reading *r, const char *section, const struct known *k, const char *text)
{
    struct member *m = is_family(section) ? take_member(r, section) : NULL;

    if (m)
        take_value(r, &m->values[k - family], text);
    else if (!is_family(section))
        take_value(r, &r->settings->values[k - table], text);
}

static void complain_kinds(struct reading *r, const char *section, const char *value)
{
    char kind[64] = "";
    const char *near;

    value_find_unknown_kind(value, kind, sizeof kind);
    near = event_nearest(kind);
    if (near)
        complain(r, "[%s] events: there is no event %s, did you mean %s?", section, kind, near);
    else
        complain(r, "[%s] events: there is no event %s; llmhostd(8) has the list", section, kind);
}

static int on_value(void *ctx, const char *section, const char *key, const char *value)
{
    struct reading *r = ctx;
    const struct known *k = find(section, key);

    if (!*section)
        complain(r, "%s stands before any [section]", key);
    else if (!is_section(section))
        complain_section(r, section);
    else if (!k)
        complain_key(r, section, key);
    else if (*value == '\0' && k->is_good == value_is_kinds)
        complain(r, "[%s] %s =: should be %s", section, key, k->form);
    else if (!(*value == '\0' && !k->otherwise) && !k->is_good(value, k)) {
        if (k->is_good == value_is_kinds)
            complain_kinds(r, section, value);
        else
            complain(r, "[%s] %s = %s: should be %s", section, key, value, k->form);
    } else
        take(r, section, k, value);
    return 1;
}

/* A section is judged also when it is empty. What stands behind it inih would leave out without a word. */
static void check_header(struct reading *r, const char *line)
{
    const char *end = strchr(line, ']');
    char section[128];

    if (!end)
        return; /* inih says so */
    snprintf(section, sizeof(section), "%.*s", (int)(end - line - 1), line + 1);
    if (!is_section(section))
        complain_section(r, section);
    else if (is_family(section))
        take_member(r, section);
    end += 1 + strspn(end + 1, " \t\r\n");
    if (*end && !strchr("#;", *end))
        complain(r, "[%s] stands on a line of its own, and its keys below it", section);
}

/* As fgets(). A comment comes as an empty line. */
static char *next_line(char *out, int size, void *ctx)
{
    struct reading *r = ctx;
    size_t n;

    if (!*r->at)
        return NULL;
    r->line++;
    if (r->line == 1 && strncmp(r->at, "\xef\xbb\xbf", 3) == 0)
        r->at += 3;
    r->at += strspn(r->at, " \t");
    n = strcspn(r->at, "\n");
    if (strchr("#;", *r->at) && *r->at) {
        strcpy(out, "\n");
    } else if (n + 2 > (size_t)size) {
        complain(r, "the line is longer than %d bytes", size - 2);
        strcpy(out, "\n");
    } else {
        memcpy(out, r->at, n);
        strcpy(out + n, "\n");
    }
    r->at += n + (r->at[n] == '\n');
    if (out[0] == '[')
        check_header(r, out);
    return out;
}

static int parse_into(struct settings *s, const char *text, const char *name, char **ret_why)
{
    struct reading r = {.settings = s, .name = name, .at = text};
    int bad_line;

    if (utf8_valid(text, strlen(text)) != strlen(text)) {
        *ret_why = xasprintf("%s: not valid UTF-8", name);
        return -EINVAL;
    }
    bad_line = ini_parse_stream(next_line, &r, on_value, &r);
    if (bad_line > 0 && (!r.why || bad_line < r.why_line)) {
        free(r.why);
        r.why = xasprintf("%s:%d: neither [section] nor key = value", name, bad_line);
    }
    if (bad_line < 0 && !r.why)
        r.why = xasprintf("%s: %s", name, strerror(ENOMEM));
    if (!r.why)
        return 0;
    *ret_why = r.why;
    return -EINVAL;
}

static int read_all(int fd, struct buf *out)
{
    for (;;) {
        char *room;
        ssize_t n;
        int r = buf_reserve(out, 4096, &room);

        if (r < 0)
            return r == -ENOBUFS ? -EFBIG : r;
        n = read(fd, room, 4096);
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        buf_grew(out, (size_t)n);
    }
}

/* A pipe would hold up the start until somebody writes, or look empty: only what has a content of its own is
 * read. That is a file, and /dev/null. */
static int load_text(int folder, const char *name, struct buf *text)
{
    _cleanup_close_ int fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        return -ENOTSUP;
    return read_all(fd, text);
}

static const char *load_error(int r)
{
    switch (-r) {
    case ENOTSUP: return "not a file";
    case EISDIR: return "a directory, and no file";
    default: return strerror(-r);
    }
}

/* path is for complaints; file is looked up in folder. */
static int load_file(struct settings *s, int folder, const char *file, const char *path, bool must_exist,
                     char **ret_why)
{
    struct buf text;
    int r;

    buf_init(&text, FILE_BYTES_MAX);
    r = load_text(folder, file, &text);
    if (r == -ENOENT && !must_exist) {
        r = 0;
    } else if (r < 0) {
        *ret_why = xasprintf("%s: %s", path, load_error(r));
    } else if (text.len > 0 && memchr(text.data, '\0', text.len)) {
        *ret_why = xasprintf("%s: not a text file", path);
        r = -EINVAL;
    } else if (!buf_text(&text)) {
        abort();
    } else {
        r = parse_into(s, buf_text(&text), path, ret_why);
    }
    buf_done(&text);
    return r;
}

static int is_piece(const struct dirent *d)
{
    size_t n = strlen(d->d_name);

    return d->d_name[0] != '.' && n > 5 && streq(d->d_name + n - 5, ".conf");
}

/* By bytes, not by the locale's idea of order. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_pieces(struct settings *s, const char *path, char **ret_why)
{
    _cleanup_free_ char *folder = xasprintf("%s.d", path);
    _cleanup_close_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent **found = NULL;
    int n = fd < 0 ? -1 : scandirat(fd, ".", &found, is_piece, by_name), r = 0;

    if (n < 0) {
        if (errno == ENOENT)
            return 0;
        r = -errno;
        *ret_why = xasprintf("%s: %s", folder, strerror(-r));
        return r;
    }
    for (int i = 0; i < n; i++) {
        _cleanup_free_ char *name = xasprintf("%s/%s", folder, found[i]->d_name);

        if (r == 0)
            r = load_file(s, fd, found[i]->d_name, name, true, ret_why);
        free(found[i]);
    }
    free(found);
    return r;
}

/* What no single line can tell, once all was read. */
static int judge_whole(const struct settings *s, char **ret_why)
{
    for (unsigned i = 0; i < s->n_members; i++)
        if (!s->members[i].values[0].text) {
            *ret_why = xasprintf("%s: [%s] has no command", s->members[i].where, s->members[i].section);
            return -EINVAL;
        }
    return 0;
}

DEFINE_CLEANUP(struct settings *, settings_free)

int settings_load(const char *path, bool must_exist, struct settings **ret, char **ret_why)
{
    _cleanup_(cleanup_settings_free) struct settings *s = xnew(struct settings);
    int r = path ? load_file(s, AT_FDCWD, path, path, must_exist, ret_why) : 0;

    if (r == 0 && path)
        r = load_pieces(s, path, ret_why);
    if (r == 0)
        r = judge_whole(s, ret_why);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

int settings_parse(const char *text, const char *name, struct settings **ret, char **ret_why)
{
    _cleanup_(cleanup_settings_free) struct settings *s = xnew(struct settings);
    int r = parse_into(s, text, name, ret_why);

    if (r == 0)
        r = judge_whole(s, ret_why);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(s);
    return 0;
}

struct settings *settings_free(struct settings *s)
{
    if (!s)
        return NULL;
    for (unsigned i = 0; i < ELEMENTS(table); i++)
        value_done(&s->values[i]);
    for (unsigned i = 0; i < s->n_members; i++) {
        for (unsigned j = 0; j < ELEMENTS(family); j++)
            value_done(&s->members[i].values[j]);
        free(s->members[i].section);
        free(s->members[i].where);
    }
    free(s->members);
    free(s);
    return NULL;
}

const char *settings_text(const struct settings *s, const char *section, const char *key)
{
    const struct known *k = find(section, key);
    const struct value *v;

    if (!k) {
        fprintf(stderr, "settings: nobody knows [%s] %s\n", section, key);
        abort();
    }
    v = find_value(s, section, k);
    return v && v->text && *v->text ? v->text : k->otherwise;
}

const char *settings_where(const struct settings *s, const char *section, const char *key)
{
    const struct known *k = find(section, key);
    const struct value *v = k ? find_value(s, section, k) : NULL;

    return v ? v->where : NULL;
}

uint64_t settings_ms(const struct settings *s, const char *section, const char *key)
{
    uint64_t ms;

    if (duration_parse(settings_text(s, section, key), &ms) < 0)
        abort(); /* not a duration by the table: a bug of the caller */
    return ms;
}

bool settings_bool(const struct settings *s, const char *section, const char *key)
{
    int value = value_parse_bool(settings_text(s, section, key));

    if (value < 0)
        abort();
    return value;
}

unsigned settings_percent(const struct settings *s, const char *section, const char *key)
{
    int value = value_parse_percent(settings_text(s, section, key));

    if (value < 0)
        abort();
    return (unsigned)value;
}

const char *settings_hook_at(const struct settings *s, unsigned i)
{
    return i < s->n_members ? s->members[i].section + strlen(FAMILY) : NULL;
}

bool settings_at(const struct settings *s, unsigned i, const char **ret_section, const char **ret_key,
                 const char **ret_value, const char **ret_where)
{
    const struct known *k;
    const struct value *v;

    if (i < ELEMENTS(table)) {
        k = &table[i];
        v = &s->values[i];
        *ret_section = k->section;
    } else {
        unsigned j = i - ELEMENTS(table);

        if (j >= s->n_members * ELEMENTS(family))
            return false;
        k = &family[j % ELEMENTS(family)];
        v = &s->members[j / ELEMENTS(family)].values[j % ELEMENTS(family)];
        *ret_section = s->members[j / ELEMENTS(family)].section;
    }
    *ret_key = k->key;
    *ret_where = v->where;
    *ret_value = v->text ? v->text : k->otherwise ? k->otherwise : "";
    return true;
}
