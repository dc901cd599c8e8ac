/* What is installed where, and what is not: decisions before anything is copied. The procedure itself:
 * test_engine.c over a machine of words, tests/lab/test_install.py over real ones. */
#include <criterion/criterion.h>

#include "engine/install_plan.h"
#include "proto/mem.h"

extern const char engine_catalog_ini[];

static struct catalog catalog;
static struct install_plan plan;
static struct fault fault;

static const struct install_machine box = {
    .arch = "amd64", .has_download = true, .has_zstd = true, .free_bytes = 50000000000};

static void setup(void)
{
    char *why = NULL;

    cr_assert_eq(catalog_parse(engine_catalog_ini, strlen(engine_catalog_ini), &catalog, &why), 0, "%s", why);
}

TestSuite(install_plan, .init = setup);

static int decide(const struct install_machine *m, const char *version, enum install_source source,
                  bool here_zstd)
{
    const struct install_wish wish = {
        .engine = "ollama", .instance = "gpu1", .version = version, .source = source};

    return install_decide(&catalog, &wish, m, here_zstd, &plan, &fault);
}

static void refuses(const struct install_machine *m, const char *version, enum install_source source,
                    const char *code, const char *says)
{
    cr_assert_lt(decide(m, version, source, false), 0);
    cr_assert_str_eq(fault.code, code, "%s", fault.text);
    cr_assert_not_null(strstr(fault.text, says), "%s", fault.text);
    cr_assert_null(strstr(fault.text, ". "), "one sentence: %s", fault.text);
}

Test(install_plan, a_box_that_can_fetches_the_newest_by_itself)
{
    cr_assert_eq(decide(&box, NULL, INSTALL_AUTO, false), 0);
    cr_assert_str_eq(plan.entry.version, "0.32.9");
    cr_assert(plan.by_box && !plan.pack_anew);
}

Test(install_plan, without_zstd_there_it_is_packed_anew_here)
{
    struct install_machine m = box;

    m.has_zstd = false;
    cr_assert_eq(decide(&m, NULL, INSTALL_AUTO, true), 0);
    cr_assert_str_eq(plan.entry.version, "0.32.9");
    cr_assert(!plan.by_box && plan.pack_anew);
}

Test(install_plan, without_zstd_anywhere_the_newest_that_needs_none_counts)
{
    struct install_machine m = box;

    m.has_zstd = false;
    cr_assert_eq(decide(&m, NULL, INSTALL_AUTO, false), 0);
    cr_assert_str_eq(plan.entry.version, "0.13.5");
    cr_assert(plan.by_box && !plan.pack_anew);
    cr_assert_eq(decide(&m, NULL, INSTALL_BOX, true), 0);
    cr_assert_str_eq(plan.entry.version, "0.13.5", "what is here does not help a box that fetches by itself");
    refuses(&m, "0.32.9", INSTALL_AUTO, "engine_missing", "install the package zstd on gpu1");
}

Test(install_plan, a_box_that_cannot_download_is_brought_it)
{
    struct install_machine m = box;

    cr_assert_eq(decide(&box, NULL, INSTALL_UPLOAD, false), 0);
    cr_assert_not(plan.by_box);
    m.has_download = false;
    cr_assert_eq(decide(&m, NULL, INSTALL_AUTO, false), 0);
    cr_assert_not(plan.by_box);
    refuses(&m, NULL, INSTALL_BOX, "engine_missing", "neither curl nor wget");
}

static int decide_unverified(const struct install_machine *m, const char *version)
{
    const struct install_wish wish = {
        .engine = "ollama", .instance = "gpu1", .version = version, .unverified = true};

    return install_decide(&catalog, &wish, m, false, &plan, &fault);
}

Test(install_plan, a_version_that_nobody_knows_is_derived_from_its_neighbour_when_the_user_says_so)
{
    static const struct {
        const char *version, *url;
    } rows[] = {
        {"0.40.1", "https://github.com/ollama/ollama/releases/download/v0.40.1/ollama-linux-amd64.tar.zst"},
        {"0.20.0", "https://github.com/ollama/ollama/releases/download/v0.20.0/ollama-linux-amd64.tar.zst"},
        {"0.13.0", "https://github.com/ollama/ollama/releases/download/v0.13.0/ollama-linux-amd64.tgz"},
        {"0.5.7", "https://github.com/ollama/ollama/releases/download/v0.5.7/ollama-linux-amd64.tgz"},
    };
    struct install_machine m = box;

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        cr_assert_eq(decide_unverified(&box, rows[i].version), 0, "%s", fault.text);
        cr_assert_str_eq(plan.entry.url, rows[i].url);
        cr_assert_str_eq(plan.entry.version, rows[i].version);
        cr_assert_str_eq(plan.entry.sha256, "");
        cr_assert_str_eq(plan.entry.tree, "bin/ollama");
        cr_assert_eq(plan.entry.bytes, -1);
        cr_assert_geq(plan.entry.at_most, 2 * 1421653242ll);
    }
    cr_assert_eq(decide_unverified(&box, "0.13.5"), 0);
    cr_assert_eq(strlen(plan.entry.sha256), 64, "what can be verified is");
    cr_assert_eq(decide_unverified(&box, NULL), 0);
    cr_assert_eq(strlen(plan.entry.sha256), 64);
    cr_assert_lt(decide_unverified(&box, "9/../../x"), 0);
    cr_assert_str_eq(fault.code, "engine_missing");
    gpu_read("chip=nvidia\nNVIDIA GeForce RTX 4090, 535.54.14, 24564, 18, 8.9\n", 61, &m.gpu);
    cr_assert_lt(decide_unverified(&m, "0.40.1"), 0);
    cr_assert_str_eq(fault.code, "engine_unfit", "its driver is too old for that: %s", fault.text);
}

Test(install_plan, an_entry_without_a_hash_is_passed_over_unless_the_user_says_so)
{
    strcpy(catalog.entries[0].sha256, "");
    cr_assert_eq(decide(&box, NULL, INSTALL_AUTO, false), 0);
    cr_assert_str_neq(plan.entry.version, "0.32.9");
    refuses(&box, "0.32.9", INSTALL_AUTO, "engine_unverified", "up --unverified takes it all the same");
    cr_assert_eq(decide_unverified(&box, NULL), 0);
    cr_assert_str_eq(plan.entry.version, "0.32.9");
    cr_assert_str_eq(plan.entry.sha256, "");
}

Test(install_plan, what_does_not_fit_is_refused_in_a_sentence)
{
    struct install_machine m = box;

    refuses(&m, "9.9", INSTALL_AUTO, "engine_unverified", "0.32.9, 0.13.5, 0.12.10, 0.11.4");
    refuses(&m, "../9", INSTALL_AUTO, "engine_missing", "version=../9 is not in the catalog");
    m.gpu.kind = GPU_ASCEND;
    refuses(&m, NULL, INSTALL_AUTO, "engine_unfit", "Ascend NPU");
    m = box;
    strcpy(m.arch, "riscv64");
    refuses(&m, NULL, INSTALL_AUTO, "engine_unfit", "riscv64");
    m = box;
    strcpy(m.lacks, "tar");
    refuses(&m, NULL, INSTALL_AUTO, "engine_unfit", "it has no tar");
}

/* Rented machines keep the driver their host has: the newest that works with it counts. */
Test(install_plan, an_older_driver_gets_an_older_version_before_it_gets_none)
{
    struct install_machine m = box;

    m.gpu = (struct gpu_facts){.kind = GPU_NVIDIA, .n = 1, .capability = 89, .driver = "535.104.05"};
    strcpy(m.gpu.cards[0].name, "NVIDIA GeForce RTX 4090");
    cr_assert_eq(decide(&m, NULL, INSTALL_AUTO, false), 0);
    cr_assert_str_eq(plan.entry.version, "0.13.5");
    refuses(&m, "0.32.9", INSTALL_AUTO, "engine_unfit", "it needs 550");
    m.gpu.capability = 37;
    refuses(&m, NULL, INSTALL_AUTO, "engine_unfit", "take a machine with a newer card");
}

Test(install_plan, room_is_counted_before)
{
    struct install_machine m = box;

    m.free_bytes = 4721653242 - 1; /* the archive and what is in it */
    refuses(&m, NULL, INSTALL_AUTO, "disk_full",
            "needs 4.7 GB on the data disk of gpu1, and 4.7 GB are free");
    m.free_bytes++;
    cr_assert_eq(decide(&m, NULL, INSTALL_AUTO, false), 0);
    m.free_bytes = -1;
    cr_assert_eq(decide(&m, NULL, INSTALL_AUTO, false), 0, "nobody knows: try");
}
