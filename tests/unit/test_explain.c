/* links: control
 *
 * Every code a fault can have, read from the sources, is explained; what is not is explained by its kind. */
#include <criterion/criterion.h>
#include <fts.h>
#include <regex.h>

#include "control/explain.c"

/* ---- the codes of the sources ---- */

static unsigned n_codes;

static void check_code(const char *code, const char *path)
{
    n_codes++;
    cr_expect_not_null(explain_find(code), "\"%s\" of %s is not in the table of explain.c", code, path);
}

static void check_matches(const char *pattern, unsigned group, const char *text, const char *path)
{
    regmatch_t m[4];
    regex_t re;

    cr_assert_eq(regcomp(&re, pattern, REG_EXTENDED), 0);
    for (; regexec(&re, text, ELEMENTS(m), m, 0) == 0; text += m[0].rm_eo) {
        char code[100];

        snprintf(code, sizeof code, "%.*s", (int)(m[group].rm_eo - m[group].rm_so), text + m[group].rm_so);
        check_code(code, path);
    }
    regfree(&re);
}

static void check_file(const char *path)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "r");

    cr_assert_not_null(f, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    /* fault_code(f, FAULT_X, "code", …), and a struct fault with FAULT_X, errno, "code" */
    check_matches("FAULT_[A-Z]+,[[:space:]]*(-?[A-Z0-9]+,[[:space:]]*)?\"([a-z_]+)\"", 2, text, path);
    /* tables of codes */
    check_matches("\"([a-z_]+)\",[[:space:]]*FAULT_[A-Z]+", 1, text, path);
    check_matches("life_set_trouble\\(l, \"([a-z_]+)\"", 1, text, path);
}

/* A provider's own errors: "[error CODE]". */
static void check_tables(const char *path)
{
    static char text[1 << 20];
    FILE *f = fopen(path, "r");

    cr_assert_not_null(f, "%s", path);
    text[fread(text, 1, sizeof text - 1, f)] = '\0';
    fclose(f);
    check_matches("\\[error ([a-z_]+)\\]", 1, text, path);
}

Test(explain, every_code_of_the_sources_is_explained)
{
    char root[] = SOURCE_DIR "/daemon", *const roots[] = {root, NULL};
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, NULL);
    FTSENT *e;

    cr_assert_not_null(walk);
    while ((e = fts_read(walk))) {
        size_t n = strlen(e->fts_path);

        if (e->fts_info == FTS_F && n > 2 && streq(e->fts_path + n - 2, ".c"))
            check_file(e->fts_path);
        else if (e->fts_info == FTS_F && n > 4 && streq(e->fts_path + n - 4, ".ini"))
            check_tables(e->fts_path);
    }
    fts_close(walk);
    cr_assert_gt(n_codes, 50, "only %u codes were found: do they look different now?", n_codes);
}

/* ---- the table ---- */

Test(explain, every_status_is_one_of_the_contract)
{
    for (size_t i = 0; i < ELEMENTS(table); i++) {
        enum exit_status s = table[i].status;

        cr_expect(s >= EXIT_FAILED && s <= EXIT_ENGINE && s != EXIT_NO_DAEMON, "%s: %d", table[i].code,
                  (int)s);
        cr_expect_eq(error_exit(error_name(s)), s, "%s: %d", table[i].code, (int)s);
    }
    for (enum fault_kind kind = FAULT_NONE; kind <= FAULT_INVALID; kind++) {
        enum exit_status s = explain_status(&(struct fault){.kind = kind});

        cr_expect(s <= EXIT_ENGINE, "%s: %d", fault_kind_name(kind), (int)s);
    }
}

Test(explain, no_code_is_explained_twice)
{
    for (size_t i = 0; i < ELEMENTS(table); i++)
        cr_expect_eq(explain_find(table[i].code), &table[i], "%s", table[i].code);
}

/* Ours, or one of every system that looks after its own disk, clock or services. */
static bool is_command(const char *line)
{
    static const char *const programs[] = {"llmhostctl ",  "df ",        "ls ", "findmnt ",
                                           "timedatectl ", "systemctl ", "ip ", "llmhostd "};

    for (size_t i = 0; i < ELEMENTS(programs); i++)
        if (strncmp(line, programs[i], strlen(programs[i])) == 0)
            return true;
    return false;
}

/* Commands are shown as they are typed: each begins with the program, and only the target is filled in. */
Test(explain, what_to_do_next_is_a_command)
{
    for (size_t i = 0; i < ELEMENTS(table); i++) {
        const struct fault f = {.kind = FAULT_INVALID};
        struct fault coded = f;
        struct buf out;

        snprintf(coded.code, sizeof coded.code, "%s", table[i].code);
        buf_init(&out, 4096);
        explain_next(&coded, "gpu1", &out);
        _cleanup_json_ struct json *lines = explain_lines(buf_text(&out));

        for (size_t k = 0; k < json_count(lines); k++) {
            const char *line = json_text(json_at(lines, k));

            cr_expect(is_command(line), "%s: %s", coded.code, line);
            cr_expect_null(strchr(line, '%'), "%s: %s", coded.code, line);
        }
        buf_done(&out);
    }
}

Test(explain, the_target_is_filled_in_wherever_it_stands)
{
    const struct fault f = {.kind = FAULT_DENIED, .code = "login_refused"};
    struct buf out;

    buf_init(&out, 4096);
    explain_next(&f, "gpu1", &out);
    cr_assert_not_null(strstr(buf_text(&out), "instance set gpu1 "));
    buf_clear(&out);
    explain_next(&f, NULL, &out);
    cr_assert_not_null(strstr(buf_text(&out), "instance set NAME "));
    buf_clear(&out);
    explain_next(&(struct fault){.kind = FAULT_GONE, .code = "never_heard_of"}, "gpu1", &out);
    cr_assert_eq(out.len, 0);
    buf_done(&out);
}

Test(explain, what_has_no_code_is_explained_by_its_kind)
{
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_DENIED}), EXIT_CREDENTIALS);
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_GONE}), EXIT_NOT_FOUND);
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_TRANSIENT}), EXIT_FAILED);
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_NONE}), EXIT_DONE);
    cr_assert_str_eq(explain_code(&(struct fault){.kind = FAULT_EXHAUSTED}), "exhausted");
    cr_assert_str_eq(explain_code(&(struct fault){.kind = FAULT_EXHAUSTED, .code = "disk_full"}),
                     "disk_full");
}

/* As the kinds of fault alone would have it, a read-only disk here were a refused password over there. */
Test(explain, the_disk_of_the_daemon_is_no_fault_of_the_machine)
{
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_DENIED, .code = "store_read_only"}),
                 EXIT_FAILED);
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_EXHAUSTED, .code = "store_full"}), EXIT_FAILED);
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_DENIED, .code = "store"}), EXIT_FAILED);
    cr_assert_eq(explain_status(&(struct fault){.kind = FAULT_EXHAUSTED, .code = "disk_full"}), EXIT_ENGINE);
}

Test(explain, lines_become_a_list)
{
    _cleanup_json_ struct json *none = explain_lines(""), *no = explain_lines(NULL),
                               *two = explain_lines("a\n\nb\n");

    cr_assert_eq(json_count(none), 0);
    cr_assert_eq(json_count(no), 0);
    cr_assert_eq(json_count(two), 2);
    cr_assert_str_eq(json_text(json_at(two, 1)), "b");
}

/* What a model is called holds a colon, and a machine's name cannot. */
Test(explain, a_machine_is_wanted_by_a_model_on_it)
{
    const struct fault f = {.kind = FAULT_TRANSIENT, .code = "boot_failed", .text = "it went off again"};
    struct buf out;

    buf_init(&out, 4096);
    explain_next(&f, "mine", &out);
    cr_assert_str_eq(buf_text(&out), "llmhostctl why mine\nllmhostctl up ollama:NAME --on mine");
    buf_done(&out);
    buf_init(&out, 4096);
    explain_next(&f, "ollama:qwen3:4b", &out);
    cr_assert_str_eq(buf_text(&out), "llmhostctl why ollama:qwen3:4b\nllmhostctl up ollama:qwen3:4b");
    buf_done(&out);
}

/* What comes behind the target is no reason to want a machine as if it were a model. */
Test(explain, a_limit_of_price_is_lifted_for_a_model_on_the_machine)
{
    const struct fault f = {.kind = FAULT_DENIED, .code = "price", .text = "it costs more"};
    const char *const rows[][3] = {
        {"h800", "ollama:m", "llmhostctl up ollama:m --on h800 --max-price=AMOUNT"},
        {"h800", NULL, "llmhostctl up ollama:NAME --on h800 --max-price=AMOUNT"},
        {"ollama:m", NULL, "llmhostctl up ollama:m --max-price=AMOUNT"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct buf out;

        buf_init(&out, 4096);
        explain_next_for(&f, rows[i][0], rows[i][1], &out);
        cr_assert_str_eq(strchr(buf_text(&out), '\n') + 1, rows[i][2]);
        buf_done(&out);
    }
}

Test(explain, a_model_without_its_engine_gets_one)
{
    static const char *const rows[][2] = {{"qwen3:0.6b", "llmhostctl up ollama:qwen3:0.6b"},
                                          {"phi4", "llmhostctl up ollama:phi4"},
                                          {"/root/tiny.gguf", "llmhostctl up llama.cpp:/root/tiny.gguf"},
                                          {"/root/tiny", "llmhostctl up ollama:deepseek-r1:7b"},
                                          {"it's mine", "llmhostctl up ollama:deepseek-r1:7b"},
                                          {"", "llmhostctl up ollama:deepseek-r1:7b"}};

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct fault f;
        struct buf out;

        cr_assert_lt(manager_check_model(rows[i][0], &f), 0);
        buf_init(&out, 4096);
        explain_next(&f, rows[i][0], &out);
        cr_expect_str_eq(buf_text(&out), rows[i][1]);
        buf_done(&out);
    }
}

/* Each limit has an option of its own. */
Test(explain, limit_of_money_is_raised_by_its_own_option)
{
    static const char *const rows[][2] = {
        {"budget", "--budget-day="}, {"budget_month", "--budget-month="}, {"budget_hour", "--max-price="},
        {"low_balance", "--balance-floor="}};

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct fault f;
        struct buf out;

        fault_code(&f, FAULT_EXHAUSTED, rows[i][0], "a limit is reached");
        buf_init(&out, 4096);
        explain_next(&f, "autodl", &out);
        _cleanup_free_ char *line = xasprintf("\nllmhostctl provider set autodl %sAMOUNT", rows[i][1]);

        cr_expect_not_null(strstr(buf_text(&out), line), "%s: %s", rows[i][0], buf_text(&out));
        cr_expect_eq(explain_status(&f), EXIT_REFUSED);
        buf_done(&out);
    }
}

/* Whoever met it: a machine that could not be kept has no disk of its own to look at. */
Test(explain, a_full_disk_of_the_daemon_is_its_directory)
{
    const struct fault f = {.kind = FAULT_TRANSIENT, .code = "store_full", .text = "the disk is full"};
    struct buf out;

    explain_store_is_in("/var/lib/llmhost");
    buf_init(&out, 4096);
    explain_next(&f, "box", &out);
    cr_assert_str_eq(buf_text(&out), "df -h /var/lib/llmhost\ndf -i /var/lib/llmhost");
    explain_store_is_in(NULL);
    buf_done(&out);
}
