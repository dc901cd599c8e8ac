/* A registry is asked what a model is like; the names and the network are ours.
 * wraps: resolve http_start */
#include <criterion/criterion.h>
#include <errno.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/resolve.h"
#include "base/settings.h"
#include "engine/shape.h"
#include "http/http.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define LAYER(kind, size)                                                                                    \
    "{\"mediaType\":\"application/vnd.ollama.image." kind "\",\"digest\":\"" DIGEST "\",\"size\":" size "}"
#define MANIFEST                                                                                             \
    "{\"schemaVersion\":2,\"layers\":[" LAYER("model", "4683073952") "," LAYER(                              \
        "projector", "1000") "," LAYER("template", "387") "]}"
#define OLLAMA "https://registry.ollama.ai"
#define LIST   OLLAMA " /v2/library/deepseek-r1/manifests/7b"
#define BLOB   OLLAMA " /v2/library/deepseek-r1/blobs/" DIGEST

/* ---- a world of one registry ---- */

/* What is asked for, in this order, and what comes of it. */
static struct asked {
    const char *what; /* "ORIGIN PATH" */
    const char *range;
    int status;
    const char *body, *redirect;
    size_t n_body;  /* 0: strlen(body) */
    bool is_lost;   /* no answer */
    bool is_silent; /* nothing at all */
} script[8];
static unsigned n_script, n_asked, n_forgotten;

static struct loop *loop;
static struct settings *settings;
static struct shape_context context;
static struct heard {
    struct op *op;
    unsigned times;
    struct shape shape;
    struct fault fault;
} heard;

/* What is in flight: answered from the loop. */
static struct flight {
    struct op op;
    struct op *later;
    const struct asked *asked;
    resolve_fn resolved;
    http_done_fn answered;
    void *ctx;
} flight;

static void flight_cancel(struct op *op)
{
    (void)op;
    op_cancel(&flight.later);
    n_forgotten++;
}

static void on_later(void *ctx, const struct fault *f)
{
    static const struct addresses one = {.n = 1};
    struct http_answer answer = {.status = flight.asked ? flight.asked->status : 0};
    struct flight now = flight;
    struct fault lost;

    (void)ctx, (void)f;
    op_end(&flight.op);
    flight.resolved = NULL;
    if (now.resolved) {
        now.resolved(now.ctx, &one, NULL);
        return;
    }
    if (now.asked->is_lost) {
        fault_set(&lost, FAULT_TRANSIENT, -ECONNRESET, "GET /: cut");
        now.answered(now.ctx, NULL, &lost);
        return;
    }
    const char *body = now.asked->body ? now.asked->body : "";

    answer.redirect = now.asked->redirect;
    buf_init(&answer.body, 1 << 20);
    buf_add(&answer.body, body, now.asked->n_body ? now.asked->n_body : strlen(body));
    now.answered(now.ctx, &answer, NULL);
    buf_done(&answer.body);
}

void __wrap_resolve(struct resolver *r, const char *host, uint16_t port, struct op **slot, resolve_fn done,
                    void *ctx);
void __wrap_resolve(struct resolver *r, const char *host, uint16_t port, struct op **slot, resolve_fn done,
                    void *ctx)
{
    (void)r;
    cr_assert_eq(port, strcmp(host, "odd.example") == 0 ? 8443 : 443, "%s", host);
    flight = (struct flight){.resolved = done, .ctx = ctx};
    op_begin(&flight.op, slot, flight_cancel);
    op_finish_later(loop, &flight.later, NULL, on_later, NULL);
}

void __wrap_http_start(struct http *h, const struct http_request *rq, struct op **slot, http_done_fn done,
                       void *ctx);
void __wrap_http_start(struct http *h, const struct http_request *rq, struct op **slot, http_done_fn done,
                       void *ctx)
{
    const struct asked *a = &script[n_asked];
    _cleanup_free_ char *what = xasprintf("%s %s", rq->origin, rq->path);

    (void)h;
    cr_assert_lt(n_asked, n_script, "asked for too much: %s", what);
    n_asked++;
    cr_assert_str_eq(what, a->what);
    cr_assert_str_eq(rq->range ? rq->range : "", a->range ? a->range : "");
    cr_assert_str_eq(rq->method, "GET");
    cr_assert_null(rq->authorization, "nobody there knows us");
    cr_assert_eq(rq->addresses->n, 1);
    flight = (struct flight){.asked = a, .answered = done, .ctx = ctx};
    op_begin(&flight.op, slot, flight_cancel);
    if (!a->is_silent)
        op_finish_later(loop, &flight.later, NULL, on_later, NULL);
}

static void setup(void)
{
    _cleanup_free_ char *why = NULL;

    loop = loop_new();
    cr_assert_eq(settings_parse("[engine.llama.cpp]\nmodel_mirror = https://hf-mirror.example\n", "test",
                                &settings, &why),
                 0, "%s", why);
    context =
        (struct shape_context){.loop = loop, .resolver = (struct resolver *)&heard, .settings = settings};
}

static void teardown(void)
{
    settings = settings_free(settings);
    loop_free_dry(loop);
}

TestSuite(shape, .init = setup, .fini = teardown);

static void hear(void *ctx, const struct shape *shape, const struct fault *f)
{
    (void)ctx;
    cr_assert_null(heard.op, "the slot is cleared before done()");
    heard.times++;
    heard.shape = *shape;
    heard.fault = f ? *f : (struct fault){0};
}

static void will_be(const struct asked *asked, unsigned n)
{
    memcpy(script, asked, n * sizeof *asked);
    n_script = n;
    n_asked = 0;
}

#define ASK(model, ...)                                                                                      \
    do {                                                                                                     \
        const struct asked all[] = {__VA_ARGS__};                                                            \
        will_be(all, ELEMENTS(all));                                                                         \
        ask(model);                                                                                          \
        cr_assert_eq(n_asked, n_script);                                                                     \
    } while (0)

static void ask(const char *model)
{
    heard.times = 0;
    shape_ask(&context, model, &heard.op, hear, NULL);
    cr_assert_not_null(heard.op);
    cr_assert_eq(heard.times, 0, "never from inside the call");
    cr_assert(LOOP_UNTIL(loop, heard.times));
}

/* The head of a llama of 28 layers with 4 heads of 128; extra tells where its tokenizer's list ends. */
static const char *head(size_t extra, size_t *ret_n)
{
    static struct buf b;
    static const struct {
        const char *name;
        unsigned value;
    } pairs[] = {{"llama.block_count", 28},
                 {"llama.context_length", 131072},
                 {"llama.embedding_length", 3584},
                 {"llama.attention.head_count", 28},
                 {"llama.attention.head_count_kv", 4}};

    buf_done(&b);
    buf_init(&b, 2 << 20);
    buf_add(&b, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0", 24);
    buf_add(&b, "\24\0\0\0\0\0\0\0general.architecture\10\0\0\0\5\0\0\0\0\0\0\0llama", 8 + 20 + 4 + 8 + 5);
    buf_add(&b, "\5\0\0\0\0\0\0\0extra\11\0\0\0\0\0\0\0", 8 + 5 + 4 + 4); /* a list of bytes */
    for (unsigned i = 0; i < 8; i++)
        buf_addf(&b, "%c", (int)(extra >> 8 * i & 0xff));
    for (size_t i = 0; i < extra; i++)
        buf_add(&b, "x", 1);
    for (unsigned i = 0; i < ELEMENTS(pairs); i++) {
        unsigned n = (unsigned)strlen(pairs[i].name), v = pairs[i].value;
        const char length[8] = {(char)n}, value[8] = {4, 0, 0, 0, (char)v, (char)(v >> 8), (char)(v >> 16)};

        buf_add(&b, length, 8);
        buf_add(&b, pairs[i].name, n);
        buf_add(&b, value, 8);
    }
    *ret_n = b.len;
    return b.data;
}

/* ---- answers ---- */

/* The blob answers with one redirect to a storage (reference/lease.md §5). */
Test(shape, a_model_is_weighed_and_its_head_is_read)
{
    size_t n;
    const char *data = head(10, &n);

    ASK("ollama:deepseek-r1:7b", {.what = LIST, .status = 200, .body = MANIFEST},
        {.what = BLOB,
         .range = "bytes=0-65535",
         .status = 307,
         .redirect = "https://odd.example:8443/data?x=1"},
        {.what = "https://odd.example:8443 /data?x=1",
         .range = "bytes=0-65535",
         .status = 206,
         .body = data,
         .n_body = n});
    cr_assert_eq(heard.fault.kind, FAULT_NONE, "%s", heard.fault.text);
    cr_assert_eq(heard.shape.fits.weights_bytes, 4683073952 + 1000, "a template weighs nothing");
    cr_assert_eq(heard.shape.download_bytes, 4683073952 + 1000 + 387);
    cr_assert_eq(heard.shape.fits.token_bytes, 28ll * 4 * 128 * 4);
    cr_assert_eq(heard.shape.fits.context_max, 131072);
}

Test(shape, a_longer_head_is_asked_for_once_more)
{
    size_t n;
    const char *data = head(100000, &n);

    ASK("ollama:deepseek-r1:7b", {.what = LIST, .status = 200, .body = MANIFEST},
        {.what = BLOB, .range = "bytes=0-65535", .status = 206, .body = data, .n_body = 65536},
        {.what = BLOB, .range = "bytes=0-1048575", .status = 206, .body = data, .n_body = n});
    cr_assert_eq(heard.shape.fits.token_bytes, 28ll * 4 * 128 * 4);
    ASK("ollama:deepseek-r1:7b", {.what = LIST, .status = 200, .body = MANIFEST},
        {.what = BLOB, .range = "bytes=0-65535", .status = 206, .body = data, .n_body = 65536},
        {.what = BLOB, .range = "bytes=0-1048575", .status = 206, .body = data, .n_body = 65536});
    cr_assert_eq(heard.shape.fits.token_bytes, -1, "and no further");
    cr_assert_eq(heard.shape.fits.weights_bytes, 4683073952 + 1000, "what is known stays");
}

Test(shape, a_hub_of_files_is_asked_likewise)
{
    size_t n;
    const char *data = head(10, &n);

    ASK("llama.cpp:Qwen/Qwen3-4B-GGUF:Q4_K_M",
        {.what = "https://hf-mirror.example /api/models/Qwen/Qwen3-4B-GGUF/tree/main?recursive=true",
         .status = 200,
         .body = "[{\"path\":\"q/Qwen3-4B-Q4_K_M.gguf\",\"size\":2497280256,\"oid\":\"ab\"}]"},
        {.what = "https://hf-mirror.example /Qwen/Qwen3-4B-GGUF/resolve/main/q/Qwen3-4B-Q4_K_M.gguf",
         .range = "bytes=0-65535",
         .status = 206,
         .body = data,
         .n_body = n});
    cr_assert_eq(heard.fault.kind, FAULT_NONE, "%s", heard.fault.text);
    cr_assert_eq(heard.shape.fits.weights_bytes, 2497280256);
    cr_assert_eq(heard.shape.fits.token_bytes, 28ll * 4 * 128 * 4);
}

/* ---- what is not told ---- */

Test(shape, a_registry_that_fails_is_told_and_the_table_knows_what_we_name)
{
    static const struct {
        struct asked asked;
        enum fault_kind kind;
        const char *code;
    } rows[] = {
        {{.what = LIST, .is_lost = true}, FAULT_TRANSIENT, "registry_unreachable"},
        {{.what = LIST, .status = 502, .body = "<html>"}, FAULT_TRANSIENT, "registry_failed"},
        {{.what = LIST, .status = 200, .body = "<html>"}, FAULT_TRANSIENT, "registry_failed"},
        {{.what = LIST, .status = 404}, FAULT_GONE, "model_unknown"},
        {{.what = LIST, .status = 401}, FAULT_DENIED, "login_needed"},
        {{.what = LIST, .status = 302, .redirect = "http://insecure.example/x"},
         FAULT_INVALID,
         "registry_failed"},
    };

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        ASK("ollama:deepseek-r1:7b", rows[i].asked);
        cr_assert_eq(heard.fault.kind, rows[i].kind, "%u: %s", i, heard.fault.text);
        cr_assert_str_eq(heard.fault.code, rows[i].code);
        cr_assert_eq(heard.shape.fits.weights_bytes, 4680000000);
        cr_assert_eq(heard.shape.fits.token_bytes, 56ll * 1024);
    }
    ASK("ollama:gemma9:9b", {.what = OLLAMA " /v2/library/gemma9/manifests/9b", .is_lost = true});
    cr_assert_eq(heard.shape.fits.weights_bytes, -1, "a name tells nothing");
    cr_assert_eq(heard.shape.download_bytes, -1);
}

Test(shape, a_head_that_does_not_come_leaves_the_size)
{
    static const struct asked heads[] = {
        {.what = BLOB, .range = "bytes=0-65535", .status = 404},
        {.what = BLOB, .range = "bytes=0-65535", .status = 206, .body = "<html>"},
    };

    for (unsigned i = 0; i < ELEMENTS(heads); i++) {
        ASK("ollama:deepseek-r1:7b", {.what = LIST, .status = 200, .body = MANIFEST}, heads[i]);
        cr_assert_eq(heard.shape.fits.weights_bytes, 4683073952 + 1000);
        cr_assert_eq(heard.shape.fits.token_bytes, -1);
    }
}

Test(shape, nobody_is_sent_round_in_circles)
{
    static const struct asked on = {
        .what = LIST, .status = 307, .redirect = OLLAMA "/v2/library/deepseek-r1/manifests/7b"};

    ASK("ollama:deepseek-r1:7b", on, on, on, on);
    cr_assert_str_eq(heard.fault.code, "registry_failed");
}

Test(shape, where_there_is_nobody_to_ask_nobody_is_asked)
{
    static const char *const models[] = {"llama.cpp:/data/x.gguf", "vllm:qwen3-32b", "nonsense"};

    n_script = n_asked = 0;
    for (unsigned i = 0; i < ELEMENTS(models); i++) {
        ask(models[i]);
        cr_assert_eq(heard.fault.kind, FAULT_NONE);
        cr_assert_eq(heard.shape.fits.weights_bytes, -1);
    }
}

Test(shape, without_a_way_to_names_the_table_has_to_do)
{
    context.resolver = NULL;
    n_script = n_asked = 0;
    ask("ollama:qwen3:8b");
    cr_assert_eq(heard.shape.fits.token_bytes, 144ll * 1024);
    cr_assert(heard.shape.is_from_table);
    cr_assert_eq(heard.fault.kind, FAULT_NONE);
}

Test(shape, nobody_hears_of_a_question_that_was_cancelled)
{
    static const struct asked silent = {.what = LIST, .is_silent = true};

    heard.times = 0;
    will_be(&silent, 1);
    shape_ask(&context, "ollama:deepseek-r1:7b", &heard.op, hear, NULL);
    cr_assert(LOOP_UNTIL(loop, n_asked));
    op_cancel(&heard.op);
    cr_assert_null(heard.op);
    cr_assert_eq(n_forgotten, 1, "and what it waited for is cancelled as well");
    shape_ask(&context, "ollama:deepseek-r1:7b", &heard.op, hear, NULL);
    op_cancel(&heard.op);
    shape_ask(&context, "nonsense", &heard.op, hear, NULL);
    op_cancel(&heard.op);
    loop_turns(loop, 5);
    cr_assert_eq(heard.times, 0);
}
