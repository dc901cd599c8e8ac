/* What can be installed, read from text. */
#include <criterion/criterion.h>
#include <errno.h>

#include "engine/catalog.h"
#include "proto/mem.h"

extern const char engine_catalog_ini[];

#define SHA  "5d747a43369f61e38f20b5a39fcc5c90647e562cdc61e2e56034f1c5b113d540"
#define HEAD "[ollama 0.32.9 amd64]\n"
#define URL  "url = https://example.org/ollama-linux-amd64.tar.zst\n"
#define REST "bytes = 1421653242\nsha256 = " SHA "\ntree = bin/ollama lib/ollama/llama-server\n"

static struct catalog catalog;

static void parse(const char *text)
{
    char *why = NULL;

    cr_assert_eq(catalog_parse(text, strlen(text), &catalog, &why), 0, "%s", why);
}

Test(catalog, an_entry_is_read)
{
    parse("# a comment\r\n" HEAD URL REST);
    const struct catalog_entry *e = catalog.entries;

    cr_assert_eq(catalog.n, 1);
    cr_assert_str_eq(e->engine, "ollama");
    cr_assert_str_eq(e->version, "0.32.9");
    cr_assert_str_eq(e->arch, "amd64");
    cr_assert_str_eq(e->url, "https://example.org/ollama-linux-amd64.tar.zst");
    cr_assert_str_eq(e->sha256, SHA);
    cr_assert_str_eq(e->tree, "bin/ollama lib/ollama/llama-server");
    cr_assert(e->is_zst);
    cr_assert_eq(e->bytes, 1421653242);
    cr_assert_eq(e->at_most, 1421653242);
    cr_assert_eq(e->unpacked, 2 * 1421653242LL);
}

Test(catalog, a_size_nobody_names_has_a_bound)
{
    parse(HEAD URL "at_most=9\nunpacked=12\nsha256=" SHA "\ntree=bin/ollama\n");
    cr_assert_eq(catalog.entries[0].bytes, -1);
    cr_assert_eq(catalog.entries[0].at_most, 9);
    cr_assert_eq(catalog.entries[0].unpacked, 12);
}

Test(catalog, what_is_wrong_is_said_with_its_line)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"", "line 1: no section in it"},
        {"url=x\n", "line 1: no section before it"},
        {"[ollama 0.32.9]\n", "line 1: a section is"},
        {"[ollama 0.32.9 amd64 x]\n", "line 1: a section is"},
        {"[ollama ../x amd64]\n", "line 1: a section is"},
        {"[olla'ma 1 amd64]\n", "line 1: a section is"},
        {"[ollama 1 amd64\n", "line 1: a section is"},
        {HEAD "url\n", "line 2: neither"},
        {HEAD "colour=red\n", "line 2: unknown key: colour"},
        {HEAD "url=ftp://example.org/x.tgz\n", "line 2: not a good value"},
        {HEAD "url=https://example.org/x.zip\n", "line 2: not a good value"},
        {HEAD "url=https://example.org/$(id).tgz\n", "line 2: not a good value"},
        {HEAD "sha256=5D74\n", "line 2: not a good value"},
        {HEAD "bytes=-1\n", "line 2: not a good value"},
        {HEAD "bytes=0\n", "line 2: not a good value"},
        {HEAD "bytes=99999999999999999999\n", "line 2: not a good value"},
        {HEAD "tree=../../etc/passwd\n", "line 2: not a good value"},
        {HEAD "tree=/bin/sh\n", "line 2: not a good value"},
        {HEAD URL "sha256=" SHA "\ntree=bin/ollama\n", "bytes or at_most is missing"},
        {HEAD URL "sha256=" SHA "\nbytes=1\n", "tree is missing"},
        {HEAD HEAD URL REST, "line 2: the section before it is not whole: url is missing"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *why = NULL;

        cr_assert_eq(catalog_parse(rows[i].text, strlen(rows[i].text), &catalog, &why), -EINVAL, "%s",
                     rows[i].text);
        cr_assert_not_null(strstr(why, rows[i].why), "%s: %s", rows[i].text, why);
    }
}

Test(catalog, a_byte_0_and_too_much_are_refused)
{
    _cleanup_free_ char *large = calloc(1, CATALOG_BYTES_MAX + 1), *why = NULL;

    cr_assert_eq(catalog_parse("[a\0b", 4, &catalog, &why), -EINVAL);
    free(TAKE_PTR(why));
    memset(large, '\n', CATALOG_BYTES_MAX + 1);
    cr_assert_eq(catalog_parse(large, CATALOG_BYTES_MAX + 1, &catalog, &why), -EINVAL);
}

Test(catalog, more_entries_than_there_is_room_for_are_refused)
{
    static char text[64 * 1024];
    _cleanup_free_ char *why = NULL;

    for (unsigned i = 0; i <= CATALOG_ENTRIES_MAX; i++)
        strcat(text, HEAD URL REST);
    cr_assert_eq(catalog_parse(text, strlen(text), &catalog, &why), -EINVAL);
    cr_assert_not_null(strstr(why, "too many"));
}

static const char *picked(const char *version, const char *arch, bool can_zst)
{
    const struct catalog_entry *e = catalog_pick(&catalog, "ollama", version, arch, can_zst);

    return e ? e->version : "none";
}

Test(catalog, the_first_that_fits_is_picked)
{
    parse(engine_catalog_ini);
    cr_assert_str_eq(picked(NULL, "amd64", true), "0.32.9");
    cr_assert_str_eq(picked(NULL, "arm64", true), "0.32.9");
    cr_assert_str_eq(picked(NULL, "amd64", false), "0.13.5");
    cr_assert_str_eq(picked("0.12.10", "amd64", true), "0.12.10");
    cr_assert_str_eq(picked("0.32.9", "amd64", false), "none");
    cr_assert_str_eq(picked("9.9", "amd64", true), "none");
    cr_assert_str_eq(picked(NULL, "riscv64", true), "none");
    cr_assert_null(catalog_pick(&catalog, "vllm", NULL, "amd64", true));
}
