/* Pure: paths to what they mean, Host and Origin to whether they may ask, unknown names to near ones. */
#include "gateway/route.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "engine/engine.h"
#include "gateway/http1.h"
#include "manager.h"
#include "proto/address.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

#define HOST_BYTES_MAX 256
#define HOST_SHOWN_MAX 80
#define NEAR_MAX       3

/* ---- paths ---- */

enum method { METHOD_GET = 1, METHOD_POST = 2 }; /* HEAD goes with GET */

struct path_row {
    const char *path;
    enum method method;
    enum route_kind kind;
};

static const struct path_row rows[] = {
    {"/", METHOD_GET, ROUTE_ROOT},
    {"/health", METHOD_GET, ROUTE_HEALTH},
    {"/metrics", METHOD_GET, ROUTE_METRICS},
    {"/v1/health", METHOD_GET, ROUTE_HEALTH},
    {"/v1/models", METHOD_GET, ROUTE_MODELS},
    {"/api/tags", METHOD_GET, ROUTE_TAGS},
    {"/api/ps", METHOD_GET, ROUTE_PS},
    {"/api/version", METHOD_GET, ROUTE_VERSION},
    {"/api/show", METHOD_POST, ROUTE_SHOW},
    {"/api/pull", METHOD_POST, ROUTE_PULL},
};

/* With whatever follows after a slash; whatever the method. */
static const char *const forbidden[] = {"/api/create", "/api/delete", "/api/copy", "/api/push", "/api/blobs"};

static bool path_is(const char *path, size_t n, const char *text)
{
    return n == strlen(text) && memcmp(path, text, n) == 0;
}

static bool path_is_under(const char *path, size_t n, const char *folder)
{
    size_t length = strlen(folder);

    return n >= length && memcmp(path, folder, length) == 0 && (n == length || path[length] == '/');
}

/* An engine's router could read these differently than we do. */
static bool path_is_odd(const char *path, size_t n)
{
    return memchr(path, '%', n) || memchr(path, ';', n) || memchr(path, '\\', n) ||
           memmem(path, n, "//", 2) || memmem(path, n, "/./", 3) || memmem(path, n, "/../", 4) ||
           (n >= 2 && memcmp(path + n - 2, "/.", 2) == 0) || (n >= 3 && memcmp(path + n - 3, "/..", 3) == 0);
}

static void take_method(struct route *r, const char *method, enum method wanted, enum route_kind kind)
{
    bool fits = wanted == METHOD_GET ? streq(method, "GET") || streq(method, "HEAD") : streq(method, "POST");

    r->kind = fits ? kind : ROUTE_BAD_METHOD;
    r->allow = wanted == METHOD_GET ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
}

static bool take_row(struct route *r, const char *method, size_t n)
{
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        if (path_is(r->path, n, rows[i].path)) {
            take_method(r, method, rows[i].method, rows[i].kind);
            return true;
        }
    }
    return false;
}

static void take_path(struct route *r, const char *method, size_t n)
{
    static const char models[] = "/v1/models/";

    r->kind = ROUTE_UNKNOWN;
    if (n > sizeof(models) - 1 && memcmp(r->path, models, sizeof(models) - 1) == 0) {
        take_method(r, method, METHOD_GET, ROUTE_MODEL);
        return;
    }
    if (path_is_odd(r->path, n) || take_row(r, method, n))
        return;
    for (size_t i = 0; i < ELEMENTS(forbidden); i++) {
        if (path_is_under(r->path, n, forbidden[i])) {
            r->kind = ROUTE_FORBIDDEN;
            return;
        }
    }
    if ((path_is_under(r->path, n, "/v1") && n > 4) || (path_is_under(r->path, n, "/api") && n > 5))
        take_method(r, method, METHOD_POST, ROUTE_ENGINE);
}

/* "/v1/chat/completions" -> "chat", "/api/generate" -> "generate"; only what may stand in a log. */
static void take_word(struct route *r, size_t n)
{
    const char *p = r->path, *end = r->path + n;
    size_t i = 0;

    if (path_is_under(p, n, "/v1"))
        p += 3;
    else if (path_is_under(p, n, "/api"))
        p += 4;
    for (p += p < end && *p == '/'; p < end && *p != '/' && i < sizeof(r->word) - 1; p++)
        r->word[i++] = (*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9') || strchr("_-.", *p) ? *p : '?';
    if (i == 0)
        r->word[i++] = '/';
    r->word[i] = '\0';
}

void route_take(const struct http1_head *head, struct route *ret)
{
    size_t n;

    *ret = (struct route){.kind = ROUTE_UNKNOWN, .path = head->target};
    if (*ret->path != '/' && *ret->path != '*') { /* http://host/path, as to a proxy */
        const char *slash = strchr(ret->path + strlen("http://"), '/');

        ret->path = slash ? slash : "/";
    }
    n = strcspn(ret->path, "?");
    ret->dialect =
        path_is_under(ret->path, n, "/api") || path_is(ret->path, n, "/") ? DIALECT_OLLAMA : DIALECT_OPENAI;
    take_word(ret, n);
    if (streq(head->method, "OPTIONS"))
        ret->kind = ROUTE_PREFLIGHT;
    else if (*ret->path == '/')
        take_path(ret, head->method, n);
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c | 0x20) : NULL;

    return at ? (int)(at - digits) : -1;
}

char *route_model_id(const struct route *r)
{
    const char *p = r->path + strlen("/v1/models/");
    size_t n = strcspn(p, "?"), length = 0;
    char *id = xalloc(n + 1);

    for (size_t i = 0; i < n; i++) {
        char c = p[i];

        if (c == '%') {
            int high = n - i > 2 ? hex_digit(p[i + 1]) : -1;

            if (high < 0 || hex_digit(p[i + 2]) < 0) {
                free(id);
                return NULL;
            }
            c = (char)(high * 16 + hex_digit(p[i + 2]));
            i += 2;
        }
        if (!c) {
            free(id);
            return NULL;
        }
        id[length++] = c;
    }
    return id;
}

/* ---- who asks ---- */

static bool is_name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("-_./+", c));
}

/* "curl/7.88.1", "OpenAI/Python 2.54.0", "ollama/0.11.4 (amd64 linux) Go/go1.24": the first word, without its
 * version. */
void route_take_client(const struct http1_head *head, char ret[static ROUTE_CLIENT_MAX])
{
    const char *p = http1_field(head, "User-Agent");
    size_t n = 0;

    for (; p && *p && *p != ' ' && n < ROUTE_CLIENT_MAX - 1; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p | 0x20) : *p;

        if (!is_name_char(c) || (c == '/' && p[1] >= '0' && p[1] <= '9'))
            break;
        ret[n++] = c;
    }
    ret[n] = '\0';
    if (n == 0)
        strcpy(ret, "local");
}

/* ---- who may ask ---- */

static bool list_has(const char *list, const char *word, size_t n)
{
    while (list && *list) {
        size_t length;

        list += strspn(list, ", \t");
        length = strcspn(list, ", \t");
        if (length == n && n > 0 && strncasecmp(list, word, n) == 0)
            return true;
        list += length;
    }
    return false;
}

/* Splits "name", "name:port", "[v6]:port". */
static bool authority_take(const char *s, size_t n, char name[static HOST_BYTES_MAX])
{
    char all[HOST_BYTES_MAX + 8], *port;
    uint16_t number;

    if (n == 0 || n >= sizeof(all))
        return false;
    memcpy(all, s, n);
    all[n] = '\0';
    if (*all == '[') {
        char *end = strchr(all, ']');

        if (!end || (end[1] && (end[1] != ':' || port_parse(end + 2, &number) < 0)))
            return false;
        end[1] = '\0';
    } else {
        port = strchr(all, ':');
        if (port && port_parse(port + 1, &number) < 0)
            return false;
        if (port)
            *port = '\0';
    }
    if (strlen(all) >= HOST_BYTES_MAX || !*all)
        return false;
    strcpy(name, all);
    return true;
}

/* Only a name can be rebound by a hostile DNS server, so a number is as good as localhost. */
static bool host_is_numeric(char *name)
{
    unsigned char address[16];
    size_t n = strlen(name);

    if (*name != '[')
        return inet_pton(AF_INET, name, address) == 1;
    name[n - 1] = '\0';
    return inet_pton(AF_INET6, name + 1, address) == 1;
}

static bool host_is_allowed(const struct route_access *a, const char *authority, size_t n)
{
    char name[HOST_BYTES_MAX];

    if (!authority_take(authority, n, name))
        return false;
    return strcasecmp(name, "localhost") == 0 || list_has(a->hosts, name, strlen(name)) ||
           host_is_numeric(name);
}

bool route_refuses_host(const struct route_access *a, const struct http1_head *head, char **ret_why)
{
    const char *host = http1_field(head, "Host");
    size_t n = host ? strlen(host) : 0;
    bool fits = !host || host_is_allowed(a, host, n);

    if (fits && *head->target != '/' && *head->target != '*') { /* http://host/path, as to a proxy */
        host = head->target + strlen("http://");
        n = strcspn(host, "/?");
        fits = host_is_allowed(a, host, n);
    }
    if (!fits)
        *ret_why = xasprintf("this host is not known as '%.*s'. A proxy in front has to call it localhost "
                             "(nginx: proxy_set_header Host localhost;), or the name has to be listed in "
                             "[gateway] allow_host= of llmhostd.conf",
                             (int)MIN(n, (size_t)HOST_SHOWN_MAX), host);
    return !fits;
}

bool route_allows_origin(const struct route_access *a, const char *origin)
{
    return list_has(a->origins, origin, strlen(origin));
}

/* ---- names ---- */

static bool is_near(const char *id, const char *name)
{
    unsigned limit = (unsigned)MIN(strlen(name) / 3, (size_t)4);
    size_t stem = strcspn(name, ":"), id_stem = strcspn(id, ":");

    return text_distance(id, name, MAX(limit, 1u)) <= MAX(limit, 1u) ||
           (stem > 0 && stem == id_stem && strncasecmp(id, name, stem) == 0);
}

/* An alias outlives its model. */
static void explain_alias(const char *name, const char *model, struct buf *out)
{
    buf_addf(out, ": it is short for %s, which was forgotten; `llmhostctl up %s` has it back", model, name);
}

void route_explain_unknown(struct manager *m, const char *name, struct buf *out)
{
    const char *why, *model = manager_alias_model(m, name);
    struct model_name parts;
    const struct alias *a;
    struct deployment *d;
    unsigned n = 0;
    char whole[256];
    bool has_engine = model_name_parse(name, &parts, &why) == 0 && engine_find_ops(parts.engine);

    if (model) {
        explain_alias(name, model, out);
        return;
    }
    for (unsigned i = 0; n < NEAR_MAX && (d = manager_model_at(m, i)); i++)
        if (is_near(deployment_id(d), name))
            buf_addf(out, "%s%s", n++ ? ", " : "; did you mean ", deployment_id(d));
    for (unsigned i = 0; n < NEAR_MAX && (a = manager_alias_at(m, i)); i++)
        if (is_near(a->name, name))
            buf_addf(out, "%s%s", n++ ? ", " : "; did you mean ", a->name);
    if (n)
        buf_add_text(out, "?");
    snprintf(whole, sizeof(whole), "%s%s", has_engine ? "" : "ollama:", name);
    if (model_name_parse(whole, &parts, &why) == 0 && !strchr(whole, ' '))
        buf_addf(out, "%s `llmhostctl up %s` starts it on a machine", n ? "" : ";", whole);
}
