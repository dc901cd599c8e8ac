#include "proto/text.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/mem.h"

Test(text, reads_durations)
{
    static const struct {
        const char *text;
        int r;
        uint64_t ms;
    } rows[] = {
        {"0", 0, 0},
        {"0s", 0, 0},
        {"500ms", 0, 500},
        {"90s", 0, 90000},
        {"5m", 0, 300000},
        {"1h30m", 0, 5400000},
        {"2d", 0, 172800000},
        {"1d2h3m4s5ms", 0, 93784005},
        {"3650d", 0, 315360000000},
        {"3650d1ms", -ERANGE, 0},
        {"3651d", -ERANGE, 0},
        {"99999999999999999999d", -ERANGE, 0},
        {"99999999999999999999d1x", -EINVAL, 0},
        {"", -EINVAL, 0},
        {"5", -EINVAL, 0},
        {"00", -EINVAL, 0},
        {"m", -EINVAL, 0},
        {"5 m", -EINVAL, 0},
        {" 5m", -EINVAL, 0},
        {"5m ", -EINVAL, 0},
        {"-5m", -EINVAL, 0},
        {"+5m", -EINVAL, 0},
        {"1.5h", -EINVAL, 0},
        {"5min", -EINVAL, 0},
        {"5M", -EINVAL, 0},
        {"30m1h", -EINVAL, 0},
        {"1h1h", -EINVAL, 0},
        {"1h30", -EINVAL, 0},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t ms = 77;

        cr_assert_eq(duration_parse(rows[i].text, &ms), rows[i].r, "%s", rows[i].text);
        cr_assert_eq(ms, rows[i].r == 0 ? rows[i].ms : 77, "%s", rows[i].text);
    }
}

Test(text, reads_sizes)
{
    static const struct {
        const char *text;
        int r;
        uint64_t bytes;
    } rows[] = {
        {"0", 0, 0},
        {"1234", 0, 1234},
        {"10B", 0, 10},
        {"100k", 0, 100000},
        {"100K", 0, 100000},
        {"64M", 0, 64000000},
        {"2.5G", 0, 2500000000},
        {"0.1GB", 0, 100000000},
        {"5.6 GB", 0, 5600000000},
        {"3T", 0, 3000000000000},
        {"1KiB", 0, 1024},
        {"1kiB", 0, 1024},
        {"4MiB", 0, 4194304},
        {"1.5GiB", 0, 1610612736},
        {"1.0000000000000001k", 0, 1000},
        {"18446744073709551614", 0, 18446744073709551614u},
        {"18446744073709551616", -ERANGE, 0},
        {"99999999P", -ERANGE, 0},
        {"", -EINVAL, 0},
        {"k", -EINVAL, 0},
        {"-1", -EINVAL, 0},
        {"1.k", -EINVAL, 0},
        {".5k", -EINVAL, 0},
        {"1.5", -EINVAL, 0},
        {"1.5B", -EINVAL, 0},
        {"1Ki", -EINVAL, 0},
        {"1kb", -EINVAL, 0},
        {"1m", -EINVAL, 0},
        {"1 ", -EINVAL, 0},
        {"1  k", -EINVAL, 0},
        {"0x10", -EINVAL, 0},
        {"1e3", -EINVAL, 0},
        {"1MBx", -EINVAL, 0},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        uint64_t bytes = 77;

        cr_assert_eq(size_parse(rows[i].text, &bytes), rows[i].r, "%s", rows[i].text);
        cr_assert_eq(bytes, rows[i].r == 0 ? rows[i].bytes : 77, "%s", rows[i].text);
    }
}

Test(text, writes_ages_for_people)
{
    char out[TEXT_SHORT_MAX];

    cr_assert_str_eq(duration_format(out, 449, true), "0.4s");
    cr_assert_str_eq(duration_format(out, 449, false), "0s");
    cr_assert_str_eq(duration_format(out, 9999, true), "9.9s");
    cr_assert_str_eq(duration_format(out, 12345, true), "12s");
    cr_assert_str_eq(duration_format(out, 59999, true), "59s");
    cr_assert_str_eq(duration_format(out, 60000, true), "1m00s");
    cr_assert_str_eq(duration_format(out, 250000, true), "4m10s");
    cr_assert_str_eq(duration_format(out, 3599999, false), "59m59s");
    cr_assert_str_eq(duration_format(out, 11100000, false), "3h05m");
    cr_assert_str_eq(duration_format(out, 525600000, false), "6d02h");
    cr_assert_str_eq(duration_format(out, UINT64_MAX, true), "213503982334d14h");
}

Test(text, money_is_rounded_to_hundredths)
{
    char out[TEXT_SHORT_MAX];

    cr_assert_str_eq(money_format(out, 3700, "CNY"), "¥3.70");
    cr_assert_str_eq(money_format(out, 0, "CNY"), "¥0.00");
    cr_assert_str_eq(money_format(out, -4, "CNY"), "-¥0.004", "not nothing");
    cr_assert_str_eq(money_format(out, 1, "CU"), "0.001 CU");
    cr_assert_str_eq(money_format(out, 5, "CNY"), "¥0.01");
    cr_assert_str_eq(money_format(out, -5, "USD"), "-$0.01");
    cr_assert_str_eq(money_format(out, 1999995, "USD"), "$2000.00");
    cr_assert_str_eq(money_format(out, 12000, "CU"), "12.00 CU");
    cr_assert_str_eq(money_format(out, INT64_MIN, "CU"), "-9223372036854775.81 CU");
}

Test(text, writes_bytes_for_people)
{
    char out[TEXT_SHORT_MAX];

    cr_assert_str_eq(bytes_format(out, 0), "0 B");
    cr_assert_str_eq(bytes_format(out, 999), "999 B");
    cr_assert_str_eq(bytes_format(out, 1000), "1.0 kB");
    cr_assert_str_eq(bytes_format(out, 9949), "9.9 kB");
    cr_assert_str_eq(bytes_format(out, 9950), "10 kB");
    cr_assert_str_eq(bytes_format(out, 474900), "475 kB");
    cr_assert_str_eq(bytes_format(out, 999499), "999 kB");
    cr_assert_str_eq(bytes_format(out, 999500), "1.0 MB");
    cr_assert_str_eq(bytes_format(out, 5587000000), "5.6 GB");
    cr_assert_str_eq(bytes_format(out, 19400000000), "19 GB");
    cr_assert_str_eq(bytes_format(out, 5000000000000), "5.0 TB");
    cr_assert_str_eq(bytes_format(out, UINT64_MAX), "18 EB");
}

Test(text, knows_names_of_instances)
{
    cr_assert(name_is_instance("a"));
    cr_assert(name_is_instance("gz-4090"));
    cr_assert(name_is_instance("0123456789012345678901234567890123456789"));
    cr_assert_not(name_is_instance("01234567890123456789012345678901234567890"));
    cr_assert_not(name_is_instance(""));
    cr_assert_not(name_is_instance("-a"));
    cr_assert_not(name_is_instance("a-"));
    cr_assert_not(name_is_instance("A"));
    cr_assert_not(name_is_instance("a.b"));
    cr_assert_not(name_is_instance("a:b"));
    cr_assert_not(name_is_instance("a\xc3\xa4"));
}

Test(text, a_short_name_has_no_colon_and_begins_with_a_letter_or_digit)
{
    static const char *const good[] = {"r1", "gpt-4o", "GPT_3.5-turbo", "4o",
                                       "123456789012345678901234567890123456789012345678901234567890"};
    static const char *const bad[] = {"",
                                      "a:b",
                                      "a/b",
                                      "-a",
                                      ".a",
                                      "_a",
                                      "a b",
                                      "a*",
                                      "\xc3\xa4",
                                      "a\n",
                                      "1234567890123456789012345678901234567890123456789012345678901"};

    for (size_t i = 0; i < ELEMENTS(good); i++)
        cr_expect(name_is_alias(good[i]), "%s", good[i]);
    for (size_t i = 0; i < ELEMENTS(bad); i++)
        cr_expect_not(name_is_alias(bad[i]), "%s", bad[i]);
}

Test(text, splits_model_names_at_the_first_colon)
{
    struct model_name m;
    const char *why = NULL;

    cr_assert_eq(model_name_parse("ollama:deepseek-r1:7b", &m, &why), 0);
    cr_assert_str_eq(m.engine, "ollama");
    cr_assert_str_eq(m.rest, "deepseek-r1:7b");
    cr_assert_eq(model_name_parse("llama.cpp:Qwen/Qwen3-4B-GGUF:Q4_K_M", &m, &why), 0);
    cr_assert_str_eq(m.engine, "llama.cpp");
    cr_assert_str_eq(m.rest, "Qwen/Qwen3-4B-GGUF:Q4_K_M");
    cr_assert_eq(model_name_parse("vllm:/root/autodl-tmp/m@1", &m, &why), 0);
    cr_assert_str_eq(m.rest, "/root/autodl-tmp/m@1");
    cr_assert_null(why);
}

Test(text, refuses_model_names_with_a_reason_and_touches_nothing)
{
    char longest[300] = "ollama:";
    static const char *const bad[] = {
        "",
        "ollama",
        ":x",
        "ollama:",
        "ol lama:x",
        "ollama:a b",
        "ollama:a;b",
        "ollama:-rf",
        "ollama:a\nb",
        "ollama:$(id)",
        "engine\xc3\xa4:x",
        "ollama:\xe6\xa8\xa1",
        "abcdefghijklmnopqrstuvwx:x",
    };
    struct model_name m = {.engine = "kept"};

    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        const char *why = NULL;

        cr_assert_eq(model_name_parse(bad[i], &m, &why), -EINVAL, "%s", bad[i]);
        cr_assert_not_null(why);
        cr_assert_str_eq(m.engine, "kept");
    }
    const char *why = NULL;

    memset(longest + 7, 'x', 200);
    cr_assert_eq(model_name_parse(longest, &m, &why), 0);
    cr_assert_eq(strlen(m.rest), 200);
    longest[207] = 'x';
    cr_assert_eq(model_name_parse(longest, &m, &why), -EINVAL);
}

Test(text, one_model_has_several_names)
{
    static const struct {
        const char *a, *b;
        bool same;
    } names[] = {
        {"tiny", "tiny:latest", true},
        {"tiny:latest", "tiny:latest", true},
        {"Tiny", "tiny:LATEST", true},
        {"tiny", "registry.ollama.ai/library/tiny:latest", true},
        {"library/tiny:1b", "tiny:1b", true},
        {"someone/tiny", "tiny", false},
        {"tiny:1b", "tiny:latest", false},
        {"tiny:1b", "tiny:1b:latest", false},
        {"tiny", "tiny:1b", false},
        {"tin", "tiny:latest", false},
        {"tiny", "tiny2:latest", false},
        {"tiny", "", false},
        {"hf.co/A/B-GGUF:Q4_K_M", "hf.co/a/b-gguf:q4_k_m", true},
        {"hf.co/A/B", "hf.co/A/B:latest", true},
        {"10.0.0.1:5000/a/b", "10.0.0.1:5000/a/b:latest", true},
        {"10.0.0.1:5000/a/b", "10.0.0.1/a/b:5000", false},
        {"tiny:latest", "tiny:latest:latest", false},
        {"/root/x.gguf", "/root/x.gguf", true},
        {"/root/x.gguf", "/root/X.gguf", false},
        {"/root/x.gguf", "/root/x.gguf:latest", false},
    };

    for (size_t i = 0; i < ELEMENTS(names); i++) {
        cr_assert_eq(model_same(names[i].a, names[i].b), names[i].same, "%s %s", names[i].a, names[i].b);
        cr_assert_eq(model_same(names[i].b, names[i].a), names[i].same, "%s %s", names[i].b, names[i].a);
    }
}

Test(text, matches_globs)
{
    cr_assert(glob_match("ollama:*", "ollama:qwen3:8b"));
    cr_assert(glob_match("*", ""));
    cr_assert(glob_match("**a", "ba"));
    cr_assert(glob_match("a?c", "abc"));
    cr_assert(glob_match("*abc*abd", "xabcabcabd"));
    cr_assert(glob_match("[a]", "[a]"));
    cr_assert(glob_match("", ""));
    cr_assert_not(glob_match("a?c", "ac"));
    cr_assert_not(glob_match("a*", "ba"));
    cr_assert_not(glob_match("a", "ab"));
    cr_assert_not(glob_match("ab", "a"));
    cr_assert_not(glob_match("[a]", "a"));
    cr_assert(glob_is_pattern("a?"));
    cr_assert(glob_is_pattern("*"));
    cr_assert_not(glob_is_pattern("a[b]"));
}

Test(text, globs_end_in_good_time)
{
    char text[2001], pattern[401];

    memset(text, 'a', 2000);
    text[2000] = '\0';
    for (size_t i = 0; i < 400; i += 2)
        memcpy(pattern + i, "*a", 2);
    memcpy(pattern + 398, "*b", 3);
    cr_assert_not(glob_match(pattern, text));
}

Test(text, counts_how_names_differ)
{
    char a[400], b[400];

    cr_assert_eq(text_distance("status", "status", 3), 0);
    cr_assert_eq(text_distance("status", "statsu", 3), 1);
    cr_assert_eq(text_distance("status", "sttus", 3), 1);
    cr_assert_eq(text_distance("status", "sttatus", 3), 1);
    cr_assert_eq(text_distance("status", "stafus", 3), 1);
    cr_assert_eq(text_distance("kitten", "sitting", 3), 3);
    cr_assert_eq(text_distance("kitten", "sitting", 2), 3);
    cr_assert_eq(text_distance("kitten", "completely", 2), 3);
    cr_assert_eq(text_distance("", "abc", 5), 3);
    cr_assert_eq(text_distance("", "", 0), 0);
    cr_assert_eq(text_distance("a", "b", 0), 1);
    cr_assert_eq(text_distance("abcd", "badc", 5), 2);
    cr_assert_eq(text_distance("xabcy", "xacby", 1), 1);
    memset(a, 'a', 399);
    memset(b, 'b', 399);
    a[399] = b[399] = '\0';
    cr_assert_eq(text_distance(a, b, 2), 3);
    b[0] = 'a';
    memset(b, 'a', 399);
    b[200] = 'c';
    cr_assert_eq(text_distance(a, b, 2), 1);
}

static void assert_quoted(const char *word, const char *expected)
{
    struct buf b;

    buf_init(&b, 100);
    cr_assert_eq(shell_quote(&b, word), 0);
    cr_assert_str_eq(buf_text(&b), expected);
    buf_done(&b);
}

Test(text, quotes_words_for_a_shell)
{
    assert_quoted("abc/DEF-1.2:3,@+_", "abc/DEF-1.2:3,@+_");
    assert_quoted("", "''");
    assert_quoted("a b", "'a b'");
    assert_quoted("it's", "'it'\\''s'");
    assert_quoted("$HOME;`id`\n\"\\", "'$HOME;`id`\n\"\\'");
    assert_quoted("~", "'~'");
    assert_quoted("A=b", "'A=b'");
    assert_quoted("\xc3\xa4", "'\xc3\xa4'");
}

Test(text, leaves_nothing_of_a_word_that_does_not_fit)
{
    struct buf b;

    buf_init(&b, 8);
    cr_assert_eq(buf_add_text(&b, "rm "), 0);
    cr_assert_eq(shell_quote(&b, "a b c"), -ENOBUFS);
    cr_assert_str_eq(buf_text(&b), "rm ");
    cr_assert_eq(utf8_clean(&b, "abcdef", 6, false), -ENOBUFS);
    cr_assert_str_eq(buf_text(&b), "rm ");
    buf_done(&b);
}

Test(text, judges_utf8_strictly)
{
    static const struct {
        const char *text;
        size_t n;
    } rows[] = {
        {"plain", 5},
        {"\xc3\xa4\xe4\xbd\xa0\xf0\x9f\x98\x80", 9},
        {"\xf4\x8f\xbf\xbf", 4},
        {"\xef\xbf\xbf", 3},
        {"ab\x80", 2},
        {"ab\xc3", 2},
        {"\xc0\x80", 0},
        {"\xc1\xbf", 0},
        {"\xe0\x9f\xbf", 0},
        {"\xed\xa0\x80", 0},
        {"\xf0\x8f\xbf\xbf", 0},
        {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80\x80", 0},
        {"\xff", 0},
        {"x\xe4\xbd", 1},
        {"\xe4\xbd\x41", 0},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        cr_assert_eq(utf8_valid(rows[i].text, strlen(rows[i].text)), rows[i].n, "row %zu", i);
    cr_assert_eq(utf8_valid("a\0b", 3), 3);
    cr_assert_eq(utf8_valid("", 0), 0);
}

static void assert_clean(const char *text, bool keep_lines, const char *expected)
{
    struct buf b;

    buf_init(&b, 100);
    cr_assert_eq(utf8_clean(&b, text, strlen(text), keep_lines), 0);
    cr_assert_str_eq(buf_text(&b), expected);
    cr_assert_eq(utf8_valid(b.data, b.len), b.len);
    buf_done(&b);
}

Test(text, cleans_what_a_terminal_would_obey)
{
    assert_clean("a\tb\r\n\033[2Jc", false, "a b   [2Jc");
    assert_clean("a\r\nb", true, "a \nb");
    assert_clean("\x7f\xc2\x9b\xc2\xa0", false, "  \xc2\xa0");
    assert_clean("a\xff\xe4\xbd", false, "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
    assert_clean("\xe4\xbd\xa0", false, "\xe4\xbd\xa0");
    assert_clean("", true, "");
}

static void assert_base64(const char *plain, const char *padded)
{
    size_t n = strlen(padded), n_bare = strcspn(padded, "=");
    struct buf b;

    buf_init(&b, 100);
    cr_assert_eq(base64_encode(&b, plain, strlen(plain), true), 0);
    cr_assert_str_eq(buf_text(&b), padded);
    buf_clear(&b);
    cr_assert_eq(base64_encode(&b, plain, strlen(plain), false), 0);
    cr_assert_eq(b.len, n_bare);
    buf_clear(&b);
    cr_assert_eq(base64_decode(&b, padded, n), 0);
    cr_assert_str_eq(buf_text(&b), plain);
    buf_clear(&b);
    cr_assert_eq(base64_decode(&b, padded, n_bare), 0);
    cr_assert_str_eq(buf_text(&b), plain);
    buf_done(&b);
}

Test(text, base64_goes_both_ways)
{
    assert_base64("", ""); /* RFC 4648 section 10 */
    assert_base64("f", "Zg==");
    assert_base64("fo", "Zm8=");
    assert_base64("foo", "Zm9v");
    assert_base64("foob", "Zm9vYg==");
    assert_base64("fooba", "Zm9vYmE=");
    assert_base64("foobar", "Zm9vYmFy");
    assert_base64("\xff\xfe\xfd", "//79");
}

Test(text, base64_refuses_anything_else)
{
    static const char *const bad[] = {"Z",    "Zg=",      "Zg===", "====",   "=",    "Zm9v=", "Zh==",
                                      "Zm9=", "Zg==Zg==", "Zm 9",  "Zm9v\n", "Zm-_", "Zm9vY"};
    struct buf b;

    buf_init(&b, 100);
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        cr_assert_eq(base64_decode(&b, bad[i], strlen(bad[i])), -EBADMSG, "%s", bad[i]);
        cr_assert_eq(b.len, 0);
    }
    cr_assert_eq(base64_decode(&b, "Zm\0v", 4), -EBADMSG);
    buf_done(&b);
}

Test(text, reads_instants)
{
    static const struct {
        const char *text;
        int r;
        int64_t at_ms;
    } rows[] = {
        {"1970-01-01T00:00:00Z", 0, 0},
        {"2026-11-21T09:30:00Z", 0, 1795253400000},
        {"2026-11-21T09:30:00.123456789Z", 0, 1795253400123},
        {"2026-11-21T17:30:00.5+08:00", 0, 1795253400500},
        {"2026-11-21t04:00:00.05-05:30", 0, 1795253400050},
        {"2024-02-29T00:00:00Z", 0, 1709164800000},
        {"2016-12-31T23:59:60Z", 0, 1483228800000},
        {"1969-12-31T23:59:59.999Z", 0, -1},
        {"0001-01-01T00:00:00Z", 0, -62135596800000},
        {"9999-12-31T23:59:59.999Z", 0, 253402300799999},
        {"2025-02-29T00:00:00Z", -EINVAL, 0},
        {"2025-04-31T00:00:00Z", -EINVAL, 0},
        {"2025-01-99T00:00:00Z", -EINVAL, 0},
        {"2025-00-01T00:00:00Z", -EINVAL, 0},
        {"2025-13-01T00:00:00Z", -EINVAL, 0},
        {"2025-01-00T00:00:00Z", -EINVAL, 0},
        {"2025-01-01T24:00:00Z", -EINVAL, 0},
        {"2025-01-01T00:60:00Z", -EINVAL, 0},
        {"2025-01-01T00:00:61Z", -EINVAL, 0},
        {"2025-01-01T00:00:00", -EINVAL, 0},
        {"2025-01-01T00:00:00.Z", -EINVAL, 0},
        {"2025-01-01T00:00:00.1234567890Z", -EINVAL, 0},
        {"2025-01-01T00:00:00+0800", -EINVAL, 0},
        {"2025-01-01T00:00:00+24:00", -EINVAL, 0},
        {"2025-01-01 00:00:00Z", -EINVAL, 0},
        {"2025-01-01T00:00:00Zx", -EINVAL, 0},
        {"12025-01-01T00:00:00Z", -EINVAL, 0},
        {"-025-01-01T00:00:00Z", -EINVAL, 0},
        {"2025-1-01T00:00:00Z", -EINVAL, 0},
        {"", -EINVAL, 0},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        int64_t at_ms = 77;

        cr_assert_eq(rfc3339_parse(rows[i].text, &at_ms), rows[i].r, "%s", rows[i].text);
        cr_assert_eq(at_ms, rows[i].r == 0 ? rows[i].at_ms : 77, "%s: %lld", rows[i].text, (long long)at_ms);
    }
}

Test(text, writes_instants)
{
    char out[TEXT_SHORT_MAX];

    cr_assert_str_eq(rfc3339_format(out, 0), "1970-01-01T00:00:00Z");
    cr_assert_str_eq(rfc3339_format(out, 1795253400123), "2026-11-21T09:30:00.123Z");
    cr_assert_str_eq(rfc3339_format(out, -1), "1969-12-31T23:59:59.999Z");
    cr_assert_str_eq(rfc3339_format(out, 253402300799999), "9999-12-31T23:59:59.999Z");
    cr_assert_str_eq(rfc3339_format(out, 253402300800000), "?");
    cr_assert_str_eq(rfc3339_format(out, INT64_MAX), "?");
    cr_assert_str_eq(rfc3339_format(out, INT64_MIN), "?");
}

Test(text, instants_survive_both_ways)
{
    char out[TEXT_SHORT_MAX];

    for (int64_t at_ms = -62135596800000; at_ms < 253402300799999; at_ms += 86400000ll * 97 + 12345) {
        int64_t again;

        cr_assert_eq(rfc3339_parse(rfc3339_format(out, at_ms), &again), 0);
        cr_assert_eq(again, at_ms, "%s", out);
    }
}

Test(text, address_with_colons_stands_in_brackets)
{
    char out[40], little[6];

    cr_assert_str_eq(host_port_format(out, sizeof(out), "gpu.example.org", 22), "gpu.example.org:22");
    cr_assert_str_eq(host_port_format(out, sizeof(out), "127.0.0.1", 65535), "127.0.0.1:65535");
    cr_assert_str_eq(host_port_format(out, sizeof(out), "fe80::1%eth0", 1), "[fe80::1%eth0]:1");
    cr_assert_str_eq(host_port_format(little, sizeof(little), "127.0.0.1", 22), "127.0", "cut, not beyond");
}
