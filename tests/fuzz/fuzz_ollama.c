/* links: engine
 * Any bytes as what ollama answers. A pull read in pieces tells what it tells as a whole, and its figures
 * never fall. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/answer.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

static void read_pull(const uint8_t *data, size_t n, size_t piece, struct ollama_pull *ret)
{
    int64_t bytes = 0, total = 0;

    ollama_pull_init(ret);
    for (size_t at = 0; at <= n; at += piece) {
        ollama_pull_add(ret, (const char *)data + at, MIN(piece, n - at));
        for (bool is_end = at + piece > n; ollama_pull_next(ret, is_end);
             bytes = ret->bytes, total = ret->bytes_total)
            if (ret->bytes < bytes || ret->bytes_total < total || ret->n_layers > OLLAMA_LAYERS_MAX)
                abort();
    }
}

static void check_pull(const uint8_t *data, size_t n)
{
    struct ollama_pull *whole = xnew(struct ollama_pull), *pieces = xnew(struct ollama_pull);

    read_pull(data, n, n + 1, whole);
    read_pull(data, n, 1 + n % 13, pieces);
    if (whole->success != pieces->success || whole->bytes != pieces->bytes ||
        whole->bytes_total != pieces->bytes_total || whole->n_layers != pieces->n_layers ||
        strcmp(whole->status, pieces->status) != 0 || !whole->error != !pieces->error)
        abort();
    if (whole->error && strcmp(whole->error, pieces->error) != 0)
        abort();
    ollama_pull_done(whole);
    ollama_pull_done(pieces);
    free(whole);
    free(pieces);
}

/* What was known stays, and is never less. */
static void check_manifest(const char *text, size_t n)
{
    static const char layer[] = "{\"status\":\"pulling a\",\"digest\":\"sha256:a\",\"total\":9}";
    struct ollama_pull *p = xnew(struct ollama_pull);

    ollama_pull_init(p);
    ollama_pull_add(p, layer, sizeof layer - 1);
    ollama_pull_next(p, true);
    int64_t bytes = ollama_pull_expect(p, text, n);

    if (p->bytes_total < 9 || p->n_layers > OLLAMA_LAYERS_MAX ||
        (bytes < 0 ? p->bytes_total != 9 : bytes < 9))
        abort();
    ollama_pull_done(p);
    free(p);
}

/* Its digest goes into an address. */
static void check_weights(const char *text, size_t n)
{
    struct ollama_weights w;

    if (ollama_read_weights(text, n, &w) < 0)
        return;
    if (strlen(w.digest) != 71 || strspn(w.digest + 7, "0123456789abcdef") != 64 || w.bytes < 0 ||
        w.download_bytes < w.bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = {"tiny", "tiny:latest", "hf.co/a/b:Q4_K_M"};
    const char *text = (const char *)data;

    free(ollama_read_version(text, n));
    free(ollama_read_error(text, n));
    for (size_t i = 0; i < ELEMENTS(names); i++) {
        _cleanup_json_ struct json *entry = ollama_read_entry(text, n, names[i]);

        if (entry && !model_same(json_get_text(entry, "name"), names[i]))
            abort();
    }
    check_manifest(text, n);
    check_weights(text, n);
    if (n < 64 * 1024)
        check_pull(data, n);
    return 0;
}
