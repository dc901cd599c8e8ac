/* Lines of a pull are taken one at a time, so that whoever shows progress hears of each. */
#include "engine/answer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

#define LINE_BYTES_MAX  (256 * 1024)
#define LAYER_BYTES_MAX (1ll << 50)

void ollama_pull_init(struct ollama_pull *p)
{
    *p = (struct ollama_pull){};
    buf_init(&p->line, LINE_BYTES_MAX);
}

void ollama_pull_done(struct ollama_pull *p)
{
    buf_done(&p->line);
    free(p->error);
    p->error = NULL;
}

void ollama_pull_add(struct ollama_pull *p, const char *data, size_t n)
{
    if (buf_add(&p->line, data, n) < 0)
        buf_clear(&p->line);
}

static struct ollama_layer *find_layer(struct ollama_pull *p, const char *digest)
{
    for (unsigned i = 0; i < p->n_layers; i++)
        if (strncmp(p->layers[i].digest, digest, sizeof p->layers[i].digest - 1) == 0)
            return &p->layers[i];
    if (p->n_layers == OLLAMA_LAYERS_MAX)
        return NULL;
    struct ollama_layer *l = &p->layers[p->n_layers++];

    snprintf(l->digest, sizeof l->digest, "%s", digest);
    return l;
}

static void read_layer(struct ollama_pull *p, struct ollama_layer *l, const struct ollama_layer *now)
{
    int64_t total = MAX(l->total, MIN(now->total, LAYER_BYTES_MAX));
    int64_t completed = MAX(l->completed, MIN(now->completed, LAYER_BYTES_MAX));

    p->bytes_total += total - l->total;
    p->bytes += completed - l->completed;
    l->total = total;
    l->completed = completed;
}

static bool read_line(struct ollama_pull *p, const char *text, size_t n)
{
    _cleanup_json_ struct json *v = NULL;

    if (json_parse(text, n, &v) < 0)
        return false;
    const char *status = json_get_text(v, "status"), *digest = json_get_text(v, "digest");
    const char *error = json_get_text(v, "error");

    if (error) {
        free(p->error);
        p->error = xstrdup(error);
    }
    if (!status)
        return false;
    if (streq(status, "success"))
        p->success = true;
    snprintf(p->status, sizeof p->status, "%s", status);
    p->is_step = !digest;
    struct ollama_layer *l = digest ? find_layer(p, digest) : NULL;

    /* "completed" is absent while it is 0. */
    if (l)
        read_layer(p, l,
                   &(struct ollama_layer){.total = json_get_int(v, "total", 0),
                                          .completed = json_get_int(v, "completed", 0)});
    return true;
}

bool ollama_pull_next(struct ollama_pull *p, bool is_end)
{
    while (p->line.len) {
        const char *end = memchr(p->line.data, '\n', p->line.len);

        if (!end && !is_end)
            break;
        size_t n = end ? (size_t)(end - p->line.data) : p->line.len;
        bool has_status = read_line(p, p->line.data, n);

        buf_drop(&p->line, end ? n + 1 : n);
        if (has_status)
            return true;
    }
    return false;
}

static bool is_digest(const char *text)
{
    return text && strncmp(text, "sha256:", 7) == 0 && strlen(text) == 71 &&
           strspn(text + 7, "0123456789abcdef") == 64;
}

/* Adds what it is of one layer; false: it is none. */
static bool expect_layer(struct ollama_pull *p, const struct json *layer)
{
    const char *digest = json_get_text(layer, "digest");
    int64_t size = json_get_int(layer, "size", -1);
    struct ollama_layer *l = is_digest(digest) && size >= 0 ? find_layer(p, digest) : NULL;

    if (l)
        read_layer(p, l, &(struct ollama_layer){.total = size});
    return l;
}

int64_t ollama_pull_expect(struct ollama_pull *p, const char *text, size_t n)
{
    _cleanup_json_ struct json *v = NULL;
    _cleanup_free_ struct ollama_pull *before = xnew(struct ollama_pull);

    if (json_parse(text, n, &v) < 0)
        return -1;
    const struct json *layers = json_get(v, "layers");
    bool is_whole = json_count(layers) > 0;

    *before = *p;
    for (size_t i = 0; is_whole && i < json_count(layers); i++)
        is_whole = expect_layer(p, json_at(layers, i));
    if (is_whole && (!json_get(v, "config") || expect_layer(p, json_get(v, "config"))))
        return p->bytes_total;
    *p = *before;
    return -1;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = text ? strlen(text) : 0, m = strlen(end);

    return n >= m && streq(text + n - m, end);
}

/* "application/vnd.ollama.image.model" of a layer; a projector is what sees pictures. The template, the
 * licence and the like weigh nothing. */
int ollama_read_weights(const char *text, size_t n, struct ollama_weights *ret)
{
    _cleanup_json_ struct json *v = NULL;
    struct ollama_weights w = {};

    if (json_parse(text, n, &v) < 0)
        return -EBADMSG;
    const struct json *layers = json_get(v, "layers");

    if (json_count(layers) > OLLAMA_LAYERS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < json_count(layers); i++) {
        const struct json *layer = json_at(layers, i);
        const char *type = json_get_text(layer, "mediaType"), *digest = json_get_text(layer, "digest");
        int64_t size = json_get_int(layer, "size", -1);
        bool is_model = ends_with(type, ".image.model");

        if (!is_digest(digest) || size < 0 || size > LAYER_BYTES_MAX)
            return -EBADMSG;
        w.download_bytes += size;
        if (is_model || ends_with(type, ".image.projector"))
            w.bytes += size;
        if (is_model && !*w.digest)
            strcpy(w.digest, digest);
    }
    if (!*w.digest)
        return -EBADMSG;
    *ret = w;
    return 0;
}

/* ---- names ---- */

#define REGISTRY "registry.ollama.ai"

/* "HOST/" in front, when there is one: NAME is [HOST/][NAMESPACE/]MODEL[:TAG]. */
static size_t host_length(const char *name)
{
    const char *first = strchr(name, '/');

    return first && strchr(first + 1, '/') ? (size_t)(first - name) : 0;
}

const char *ollama_tag(const char *name)
{
    const char *slash = strrchr(name, '/'), *colon = strchr(slash ? slash : name, ':');

    return colon ? colon + 1 : "latest";
}

char *ollama_manifest_url(const char *name, const char *tag)
{
    size_t n_host = host_length(name);
    const char *rest = n_host ? name + n_host + 1 : name, *slash = strrchr(rest, '/');
    size_t n = strcspn(slash ? slash : rest, ":") + (slash ? (size_t)(slash - rest) : 0);

    return xasprintf("https://%.*s/v2/%s%.*s/manifests/%s", n_host ? (int)n_host : (int)strlen(REGISTRY),
                     n_host ? name : REGISTRY, slash ? "" : "library/", (int)n, rest,
                     tag ? tag : ollama_tag(name));
}

char *ollama_mirrored_name(const char *name, const char *mirror)
{
    size_t n_host = host_length(name);

    if (n_host == strlen(REGISTRY) && strncasecmp(name, REGISTRY, n_host) == 0)
        name += n_host + 1;
    else if (n_host)
        return NULL;
    return xasprintf("%s/%s%s", mirror, strchr(name, '/') ? "" : "library/", name);
}

static char *read_text(const char *text, size_t n, const char *key)
{
    _cleanup_json_ struct json *v = NULL;

    json_parse(text, n, &v);
    const char *value = json_get_text(v, key);

    return value ? xstrdup(value) : NULL;
}

char *ollama_read_version(const char *text, size_t n)
{
    return read_text(text, n, "version");
}

char *ollama_read_error(const char *text, size_t n)
{
    return read_text(text, n, "error");
}

struct json *ollama_read_entry(const char *text, size_t n, const char *name)
{
    _cleanup_json_ struct json *v = NULL;

    json_parse(text, n, &v);
    const struct json *models = json_get(v, "models");

    for (size_t i = 0; i < json_count(models); i++) {
        const char *listed = json_get_text(json_at(models, i), "name");

        if (listed && model_same(listed, name))
            return json_copy(json_at(models, i));
    }
    return NULL;
}

/* ---- a hub ---- */

/* "-00001-of-00003.gguf", or ".gguf" alone: where the name ends that all parts have. part: 0 when it is whole. */
static size_t part_prefix(const char *path, unsigned *ret_part, unsigned *ret_parts)
{
    size_t n = strlen(path) - strlen(".gguf");
    int end = 0;

    *ret_part = *ret_parts = 0;
    if (n > 15 && sscanf(path + n - 15, "-%5u-of-%5u%n", ret_part, ret_parts, &end) == 2 && end == 15)
        return n - 15;
    *ret_part = *ret_parts = 0;
    return n;
}

static bool is_model_file(const char *path)
{
    static const char *const others[] = {"mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strlen(path);
    unsigned part, parts;

    if (n < 6 || !streq(path + n - 5, ".gguf"))
        return false;
    for (size_t i = 0; i < ELEMENTS(others); i++)
        if (strstr(name, others[i]))
            return false;
    part_prefix(path, &part, &parts);
    return part <= 1;
}

/* The tag, with . or - behind it. */
static bool has_tag(const char *path, const char *tag)
{
    for (const char *at = path; *tag && (at = strcasestr(at, tag)); at++)
        if (strchr(".-", at[strlen(tag)]) && at[strlen(tag)])
            return true;
    return false;
}

static const char *find_file(const struct json *files, const char *tag)
{
    for (size_t i = 0; i < json_count(files); i++) {
        const char *path = json_get_text(json_at(files, i), "path");

        if (path && is_model_file(path) && (!tag || has_tag(path, tag)))
            return path;
    }
    return NULL;
}

static bool add_file(const struct json *file, struct hub_files *h)
{
    const struct json *lfs = json_get(file, "lfs");
    const char *oid = json_get_text(lfs ? lfs : file, "oid");
    int64_t size = json_get_int(file, "size", -1);

    if (!oid || size < 0 || size > LAYER_BYTES_MAX || h->n == ELEMENTS(h->blobs) || strlen(oid) >= sizeof *h->blobs ||
        strspn(oid, "0123456789abcdefABCDEF") != strlen(oid))
        return false;
    strcpy(h->blobs[h->n++], oid);
    h->bytes += size;
    return true;
}

int hub_read_tree(const char *text, size_t n, const char *tag, struct hub_files *ret)
{
    _cleanup_json_ struct json *files = NULL;
    struct hub_files found = {};
    unsigned part, parts, other, others;

    if (json_parse(text, n, &files) < 0 || json_type(files) != JSON_ARRAY)
        return -EBADMSG;
    const char *first = tag ? find_file(files, tag) : find_file(files, "Q4_K_M");

    if (!first && !tag)
        first = find_file(files, "Q8_0");
    if (!first && !tag)
        first = find_file(files, NULL);
    if (!first)
        return -ENOENT;
    size_t n_prefix = part_prefix(first, &part, &parts);

    for (size_t i = 0; i < json_count(files); i++) {
        const char *path = json_get_text(json_at(files, i), "path");
        size_t n_path = path ? strlen(path) : 0;

        if (n_path < 6 || !streq(path + n_path - 5, ".gguf") || part_prefix(path, &other, &others) != n_prefix ||
            others != parts || strncmp(path, first, n_prefix) != 0)
            continue;
        if (!add_file(json_at(files, i), &found))
            return -EBADMSG;
    }
    if (strlen(first) < sizeof found.first)
        strcpy(found.first, first);
    *ret = found;
    return 0;
}

struct json *llamacpp_read_model(const char *text, size_t n)
{
    _cleanup_json_ struct json *v = NULL;

    json_parse(text, n, &v);
    const struct json *model = json_at(json_get(v, "data"), 0);

    return model ? json_copy(model) : NULL;
}
