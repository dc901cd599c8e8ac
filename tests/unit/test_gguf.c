/* What a token of a model's context takes, out of the head of its file. */
#include <criterion/criterion.h>
#include <errno.h>

#include "engine/gguf.h"
#include "proto/buf.h"
#include "proto/mem.h"

enum { U32 = 4, BOOL = 7, STRING = 8, ARRAY = 9, U64 = 10 };

/* ---- a file's head ---- */

static struct buf file;
static uint64_t n_pairs;

static void put(uint64_t v, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(v >> 8 * i);
    cr_assert_eq(buf_add(&file, bytes, n), 0);
}

static void put_text(const char *text)
{
    put(strlen(text), 8);
    cr_assert_eq(buf_add(&file, text, strlen(text)), 0);
}

static void head_begins(void)
{
    buf_init(&file, 4 << 20);
    buf_add(&file, "GGUF", 4);
    put(3, 4);
    put(0, 8);
    put(0, 8); /* pairs: head_ends() */
    n_pairs = 0;
}

static void text_pair(const char *name, const char *value)
{
    put_text(name);
    put(STRING, 4);
    put_text(value);
    n_pairs++;
}

static void pair(const char *name, uint64_t value)
{
    put_text(name);
    put(U32, 4);
    put(value, 4);
    n_pairs++;
}

static void list(const char *name, unsigned type, const unsigned *values, unsigned n)
{
    put_text(name);
    put(ARRAY, 4);
    put(type, 4);
    put(n, 8);
    for (unsigned i = 0; i < n; i++)
        put(values[i], type == BOOL ? 1 : 4);
    n_pairs++;
}

static void tokens(unsigned n)
{
    put_text("tokenizer.ggml.tokens");
    put(ARRAY, 4);
    put(STRING, 4);
    put(n, 8);
    for (unsigned i = 0; i < n; i++)
        put_text("token");
    n_pairs++;
}

static void head_ends(void)
{
    for (size_t i = 0; i < 8; i++)
        file.data[16 + i] = (char)(n_pairs >> 8 * i);
}

/* As "llama.cpp" writes one, without what nobody needs. */
static void plain(const char *kind, unsigned layers, unsigned heads, unsigned kv_heads)
{
    _cleanup_free_ char *names[] = {NULL};
    static const char *const words[] = {
        "block_count",          "context_length",          "embedding_length",
        "attention.head_count", "attention.head_count_kv", "feed_forward_length"};
    const unsigned values[] = {layers, 131072, heads * 128, heads, kv_heads, 1000};

    text_pair("general.architecture", kind);
    text_pair("general.name", "a model");
    for (unsigned i = 0; i < ELEMENTS(words); i++) {
        free(names[0]);
        names[0] = xasprintf("%s.%s", kind, words[i]);
        pair(names[0], values[i]);
    }
}

static struct fits_model m;

static int read_head(void)
{
    head_ends();
    m = (struct fits_model){.token_bytes = -7};
    return gguf_read_shape(file.data, file.len, &m);
}

static void head_done(void)
{
    buf_done(&file);
}

TestSuite(gguf, .init = head_begins, .fini = head_done);

/* ---- what it comes to ---- */

/* reference/lease.md §5: engines' logs say 224 MiB for 28 layers × 4 heads × 4096, 576 MiB for 36 × 8 × 4096.
 */
Test(gguf, keys_and_values_are_those_of_the_engines_logs)
{
    plain("qwen2", 28, 28, 4);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes * 4096, 224ll << 20);
    cr_assert_eq(m.context_max, 131072);
    cr_assert_eq(m.window_token_bytes, 0);
    cr_assert_eq(m.weights_bytes, -1, "that is not in the head");
    head_done();
    head_begins();
    plain("qwen3", 36, 32, 8);
    pair("qwen3.attention.key_length", 128);
    pair("qwen3.attention.value_length", 128);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes * 4096, 576ll << 20);
}

Test(gguf, names_of_another_kind_say_nothing)
{
    plain("llama", 32, 32, 8);
    pair("clip.block_count", 5);
    pair("llamas.block_count", 6);
    pair("llama.attention.head_count_kv.x", 7);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 32ll * 8 * 128 * 4);
}

Test(gguf, without_heads_of_their_own_keys_have_all_of_them)
{
    text_pair("general.architecture", "gpt2");
    pair("gpt2.block_count", 2);
    pair("gpt2.embedding_length", 256);
    pair("gpt2.attention.head_count", 4);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 2ll * 4 * 64 * 4);
    cr_assert_eq(m.context_max, 0, "it does not say");
}

/* Layers with a state instead have none (jamba, granite hybrid). */
Test(gguf, heads_may_differ_from_layer_to_layer)
{
    static const unsigned heads[] = {0, 0, 8, 0};

    text_pair("general.architecture", "jamba");
    pair("jamba.block_count", 4);
    pair("jamba.embedding_length", 4096);
    pair("jamba.attention.head_count", 32);
    pair("jamba.ssm.state_size", 16);
    list("jamba.attention.head_count_kv", U32, heads, 4);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 8ll * 128 * 4);
}

Test(gguf, one_layer_of_several_attends)
{
    plain("qwen35", 8, 16, 2);
    pair("qwen35.ssm.state_size", 128);
    pair("qwen35.full_attention_interval", 4);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 2ll * 2 * 128 * 4);
}

Test(gguf, windows_are_counted_where_an_engine_uses_them)
{
    static const unsigned pattern[] = {1, 1, 0, 1};

    plain("gemma3", 62, 32, 16);
    pair("gemma3.attention.sliding_window", 1024);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 10ll * 16 * 128 * 4);
    cr_assert_eq(m.window_token_bytes, 52ll * 16 * 128 * 4);
    cr_assert_eq(m.window, 1024);

    head_done();
    head_begins();
    plain("novel", 4, 8, 8);
    pair("novel.attention.sliding_window", 512);
    list("novel.attention.sliding_window_pattern", BOOL, pattern, 4);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 1ll * 8 * 128 * 4);
    cr_assert_eq(m.window_token_bytes, 3ll * 8 * 128 * 4);

    head_done();
    head_begins();
    plain("phi3", 32, 32, 32); /* has one, and nobody uses it */
    pair("phi3.attention.sliding_window", 2047);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, 32ll * 32 * 128 * 4);
    cr_assert_eq(m.window_token_bytes, 0);
}

Test(gguf, what_nobody_can_compute_is_not_computed)
{
    plain("deepseek2", 61, 128, 1); /* MLA */
    pair("deepseek2.attention.kv_lora_rank", 512);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, -1);
    cr_assert_eq(m.context_max, 131072);

    head_done();
    head_begins();
    plain("mamba", 48, 16, 2);
    pair("mamba.ssm.state_size", 16);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, -1);

    head_done();
    head_begins();
    text_pair("general.architecture", "clip");
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, -1);

    head_done();
    head_begins();
    plain("llama", 3000000000u, 32, 8);
    cr_assert_eq(read_head(), 0);
    cr_assert_eq(m.token_bytes, -1, "no such thing has been built");
}

/* ---- bytes ---- */

/* The tokenizer's lists are megabytes: they are neither needed nor read. */
Test(gguf, the_tokenizer_is_not_waited_for)
{
    plain("llama", 32, 32, 8);
    size_t own = file.len;

    tokens(20000);
    head_ends();
    cr_assert_gt(file.len, GGUF_FIRST_BYTES);
    cr_assert_eq(gguf_read_shape(file.data, GGUF_FIRST_BYTES, &m), 0);
    cr_assert_eq(m.token_bytes, 32ll * 8 * 128 * 4);
    for (size_t n = 0; n < own; n++)
        cr_assert_eq(gguf_read_shape(file.data, n, &m), -EAGAIN, "%zu", n);
}

Test(gguf, a_tokenizer_in_front_is_stepped_over)
{
    text_pair("general.architecture", "llama");
    tokens(20000);
    plain("llama", 32, 32, 8);
    head_ends();
    cr_assert_eq(gguf_read_shape(file.data, GGUF_FIRST_BYTES, &m), -EAGAIN);
    cr_assert_eq(gguf_read_shape(file.data, file.len, &m), 0);
    cr_assert_eq(m.token_bytes, 32ll * 8 * 128 * 4);
}

Test(gguf, what_is_no_such_file_is_refused)
{
    static const char html[] = "<html>not found</html> and more",
                      lfs[] = "version https://git-lfs.github.com/spec/v1";

    cr_assert_eq(gguf_read_shape(html, sizeof html, &m), -EBADMSG);
    cr_assert_eq(gguf_read_shape(lfs, sizeof lfs, &m), -EBADMSG);
    plain("llama", 32, 32, 8);
    head_ends();
    file.data[4] = 1;
    cr_assert_eq(gguf_read_shape(file.data, file.len, &m), -EBADMSG, "version 1");
    file.data[4] = 0;
    file.data[7] = 3;
    cr_assert_eq(gguf_read_shape(file.data, file.len, &m), -EBADMSG, "of a big-endian machine");

    head_done();
    head_begins();
    put_text("odd");
    put(13, 4);
    put(0, 8);
    n_pairs++;
    cr_assert_eq(read_head(), -EBADMSG, "a type nobody knows");

    head_done();
    head_begins();
    put_text("odd");
    put(ARRAY, 4);
    put(ARRAY, 4);
    put(1, 8);
    n_pairs++;
    cr_assert_eq(read_head(), -EBADMSG);
}
