/* Tables, widths, ages, envelopes and notes. links: client */
#include <criterion/criterion.h>
#include <locale.h>

#include "client/output.h"
#include "client/verbs_model.h"
#include "proto/mem.h"

static struct output narrow_output(unsigned width)
{
    struct output o;

    output_init(&o, false, false);
    o.out_width = width;
    o.out_colour = o.err_colour = false;
    o.err_terminal = true;
    return o;
}

static const struct column columns[] = {
    {"MODEL", false, false}, {"REQ", true, false}, {"NEXT", false, true}, {"ON", false, false}};

/* Caller frees. */
static char *table_text(unsigned width, const char *const *cells, size_t n)
{
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));
    struct output o = narrow_output(width);
    struct buf out;

    (void)o;
    buf_init(&out, 65536);
    for (size_t i = 0; i < n; i++)
        table_add(t, STYLE_PLAIN, cells[i]);
    table_write(t, width, false, &out);
    return buf_take(&out);
}

static void expect(unsigned width, const char *const *cells, size_t n, const char *wanted)
{
    _cleanup_free_ char *text = table_text(width, cells, n);

    cr_assert_str_eq(text, wanted);
}

static const char *const two_rows[] = {"ollama:phi4",           "0",  "stays up until down", "attic",
                                       "ollama:deepseek-r1:7b", "12", "busy, 12 requests",   "gz-4090"};

Test(table, is_as_wide_as_its_longest_cells)
{
    expect(0, two_rows, ELEMENTS(two_rows),
           "MODEL                  REQ  NEXT                 ON\n"
           "ollama:phi4              0  stays up until down  attic\n"
           "ollama:deepseek-r1:7b   12  busy, 12 requests    gz-4090\n");
}

Test(table, fits_exactly_without_losing_anything)
{
    expect(56, two_rows, ELEMENTS(two_rows),
           "MODEL                  REQ  NEXT                 ON\n"
           "ollama:phi4              0  stays up until down  attic\n"
           "ollama:deepseek-r1:7b   12  busy, 12 requests    gz-4090\n");
}

Test(table, gives_up_the_column_of_names_whole_and_not_in_part)
{
    expect(55, two_rows, ELEMENTS(two_rows),
           "MODEL                  REQ  NEXT\n"
           "ollama:phi4              0  stays up until down\n"
           "ollama:deepseek-r1:7b   12  busy, 12 requests\n");
}

Test(table, cuts_words_with_an_ellipsis_while_they_still_say_something)
{
    expect(42, two_rows, ELEMENTS(two_rows),
           "MODEL                  REQ  NEXT\n"
           "ollama:phi4              0  stays up unti…\n"
           "ollama:deepseek-r1:7b   12  busy, 12 requ…\n");
}

/* Nor gives up what stands beside it: a name without its state says nothing. */
Test(table, never_cuts_the_name_even_when_it_does_not_fit)
{
    expect(10, two_rows, ELEMENTS(two_rows),
           "MODEL                  REQ\n"
           "ollama:phi4              0\n"
           "ollama:deepseek-r1:7b   12\n");
}

Test(table, stays_straight_with_chinese_letters)
{
    static const char *const cells[] = {"ollama:通义千问", "1", "排队", "gz-4090",
                                        "ollama:phi4",     "0", "x",    "attic"};

    expect(0, cells, ELEMENTS(cells),
           "MODEL            REQ  NEXT  ON\n"
           "ollama:通义千问    1  排队  gz-4090\n"
           "ollama:phi4        0  x     attic\n");
}

Test(table, cuts_chinese_words_between_letters)
{
    static const char *const cells[] = {"m", "1", "当前算力规格暂无库存请修改", ""};

    expect(23, cells, ELEMENTS(cells), "MODEL  REQ\nm        1\n");
    expect(24, cells, ELEMENTS(cells), "MODEL  REQ  NEXT\nm        1  当前算力规…\n");
    expect(25, cells, ELEMENTS(cells), "MODEL  REQ  NEXT\nm        1  当前算力规格…\n");
}

Test(table, shows_a_dash_where_there_is_nothing_and_keeps_cells_on_one_line)
{
    static const char *const cells[] = {"m", NULL, "two\nlines\tof words", ""};

    expect(0, cells, ELEMENTS(cells),
           "MODEL  REQ  NEXT                ON\nm        -  two lines of words  -\n");
}

static void expect_wrapped(unsigned indent, unsigned width, const char *text, const char *wanted)
{
    struct buf out;

    buf_init(&out, 4096);
    add_wrapped(&out, indent, width, text);
    cr_assert_str_eq(buf_text(&out), wanted);
    buf_done(&out);
}

Test(width, lines_break_between_words_and_words_only_when_they_must)
{
    struct output o = narrow_output(80);

    (void)o;
    expect_wrapped(2, 0, "as long as it is\nnext", "  as long as it is\n  next\n");
    expect_wrapped(2, 23, "twenty columns here!", "  twenty columns here!\n");
    expect_wrapped(2, 23, "twenty-one columns  here", "  twenty-one columns\n  here\n");
    expect_wrapped(0, 21, "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstu\nvwxyz\n");
    expect_wrapped(0, 21, "当前算力规格暂无库存请修改", "当前算力规格暂无库存\n请修改\n");
    expect_wrapped(4, 10, "no room at all for words", "    no room at all for words\n");
}

Test(width, counts_columns_of_a_terminal)
{
    struct output o = narrow_output(80);

    (void)o;
    cr_assert_eq(text_columns(""), 0);
    cr_assert_eq(text_columns("abc"), 3);
    cr_assert_eq(text_columns("通义"), 4);
    cr_assert_eq(text_columns("e\xcc\x81"), 1, "a combining accent takes no column");
    cr_assert_eq(text_columns("\xff"), 1, "a byte that is no letter takes one");
    cr_assert_eq(text_fit("通义", 3), 3);
    cr_assert_eq(text_fit("abc", 9), 3);
    cr_assert_eq(text_fit("abc", 0), 0);
}

Test(style, colours_only_when_asked)
{
    struct buf out;

    buf_init(&out, 4096);
    add_styled(&out, false, STYLE_BAD, "failed");
    add_styled(&out, true, STYLE_BAD, "failed");
    cr_assert_str_eq(buf_text(&out), "failed\033[1;31mfailed\033[0m");
    buf_done(&out);
}

Test(envelope, has_the_data_or_the_error_and_the_exit_beside_data)
{
    _cleanup_json_ struct json *data = json_object();
    _cleanup_json_ struct json *error =
        error_make(EXIT_NOT_FOUND, "not_found", "no model \"x\".", NULL, "llmhostctl status", NULL);
    struct buf out;

    json_put_int(data, "n", 1);
    buf_init(&out, 4096);
    envelope_write(&out, data, NULL, EXIT_DONE);
    envelope_write(&out, data, NULL, EXIT_NOT_RUNNING);
    envelope_write(&out, NULL, error, EXIT_DONE);
    cr_assert_str_eq(buf_text(&out),
                     "{\"v\":1,\"ok\":true,\"data\":{\"n\":1}}\n"
                     "{\"v\":1,\"ok\":true,\"exit\":3,\"data\":{\"n\":1}}\n"
                     "{\"v\":1,\"ok\":false,\"error\":{\"code\":\"not_found\",\"exit\":4,\"message\":"
                     "\"no model \\\"x\\\".\",\"next\":[\"llmhostctl status\"]}}\n");
    buf_done(&out);
}

Test(error, says_what_why_and_what_to_type_in_this_order)
{
    _cleanup_json_ struct json *error = error_make(EXIT_ENGINE, "out_of_memory", "out of GPU memory.",
                                                   "it needs 64 GB\nthe card has 24 GB", "one", "two", NULL);
    struct output o = narrow_output(80);
    struct buf out;

    buf_init(&out, 4096);
    screen_error(&o, error, &out);
    cr_assert_str_eq(buf_text(&out), "out of GPU memory.\n"
                                     "  it needs 64 GB\n"
                                     "  the card has 24 GB\n"
                                     "  next:  one\n"
                                     "         two\n");
    buf_done(&out);
}

Test(clock, has_a_date_when_it_is_not_today)
{
    char out[CLOCK_MAX];

    setenv("TZ", "UTC", 1);
    cr_assert_str_eq(clock_format(out, 1763620326042, true), "2025-11-20 06:32:06.042");
    cr_assert_eq(strlen(clock_format(out, now_at_ms(), false)), 8);
}

Test(clock, ages_of_the_future_are_nothing)
{
    char out[TEXT_SHORT_MAX];

    cr_assert_str_eq(age_format(out, now_at_ms() + 100000), "0s");
}

Test(money, is_read_as_people_type_it)
{
    static const struct {
        const char *text;
        int64_t milli;
    } good[] = {{"50", 50000},         {"2.20", 2200},      {"0", 0},        {"0.005", 5},
                {"\u00a512.5", 12500}, {"\uffe53", 3000},   {"$1.00", 1000}, {"999999999", 999999999000},
                {"2.20\u5143", 2200},  {"\u00a52.20", 2200}};
    static const char *const bad[] = {
        "",     "-1",  "5,50", "1.",   ".5",           "1.2345", "2.20 CNY", "\u00a5", "1e3", "9999999999",
        "2,20", "nan", "inf",  "0x10", "2.20\u5143/h", "\u5143", "+2",       " 2",     "1e18"};
    int64_t milli;

    for (size_t i = 0; i < ELEMENTS(good); i++) {
        milli = -1;
        cr_expect_eq(money_parse(good[i].text, &milli), 0, "%s", good[i].text);
        cr_expect_eq(milli, good[i].milli, "%s: %lld", good[i].text, (long long)milli);
    }
    for (size_t i = 0; i < ELEMENTS(bad); i++) {
        milli = -1;
        cr_expect(money_parse(bad[i], &milli) < 0, "%s", bad[i]);
        cr_expect_eq(milli, -1, "%s", bad[i]);
    }
}

static char *amount(int64_t milli, bool estimate, bool unknown, bool cell)
{
    _cleanup_json_ struct json *money = json_object();
    char out[AMOUNT_MAX];

    json_put_int(money, "milli", milli);
    json_put_string(money, "unit", "CNY");
    json_put_bool(money, "estimate", estimate);
    json_put_bool(money, "unknown", unknown);
    return xstrdup(cell ? amount_cell(out, money, "/h") : amount_format(out, money, "/h"));
}

/* An unknown is never shown as 0. */
Test(money, says_what_is_estimated_and_what_is_not_known)
{
    static const struct {
        int64_t milli;
        bool estimate, unknown, cell;
        const char *shown;
    } rows[] = {
        {1980, false, false, false, "\u00a51.98/h"},
        {20, true, false, false, "\u00a50.02/h~"},
        {0, false, false, false, "\u00a50.00/h"},
        {0, false, false, true, "0"},
        {0, false, true, false, "?"},
        {0, true, true, true, "?"},
        {2000, false, true, true, "\u00a52.00/h+?"},
        {2000, true, true, false, "\u00a52.00/h~+?"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *shown = amount(rows[i].milli, rows[i].estimate, rows[i].unknown, rows[i].cell);

        cr_expect_str_eq(shown, rows[i].shown);
    }
}

/* ---- up --until ---- */

Test(until, a_time_of_day_that_is_tomorrows_is_said)
{
    int64_t now_ms = (int64_t)1790856000 * 1000, day_ms = 86400000;
    _cleanup_free_ char *tomorrow = until_note("16:00", now_ms + day_ms - 1980000, now_ms),
                        *long_one = until_note("30h", now_ms + day_ms, now_ms),
                        *today = until_note("16:00", now_ms + 1000, now_ms), *none = until_note(NULL, now_ms + day_ms, now_ms);

    cr_assert_str_eq(tomorrow, "16:00 has passed today: a card is looked for until tomorrow at that time, for 23h27m");
    cr_assert(!long_one && !today && !none);
}
