/* Which ollama works with which card and driver: the table of fit.c, row by row. */
#include "engine/fit.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/mem.h"

static struct gpu_facts card(const char *name, const char *driver, int capability)
{
    struct gpu_facts g = {.kind = GPU_NVIDIA, .n = 1, .capability = capability};

    snprintf(g.cards[0].name, sizeof g.cards[0].name, "%s", name);
    snprintf(g.driver, sizeof g.driver, "%s", driver);
    return g;
}

Test(fit, each_card_with_each_version)
{
    static const struct {
        const char *name, *driver;
        int capability;
        const char *version, *says; /* says NULL: it fits */
    } rows[] = {
        {"NVIDIA GeForce RTX 4090", "550.54.14", 89, "0.32.9", NULL},
        {"NVIDIA GeForce RTX 4090", "535.104.05", 89, "0.32.9", "it needs 550"},
        {"NVIDIA GeForce RTX 4090", "535.104.05", 89, "0.30.0", NULL},
        {"NVIDIA GeForce RTX 4090", "535.104.05", 89, "0.13.5", NULL},
        {"NVIDIA GeForce RTX 4090", "525.60.13", 89, "0.13.5", "it needs 531"},
        {"NVIDIA GeForce RTX 4090", "525.60.13", 89, "0.11.4", NULL},
        {"NVIDIA GeForce RTX 4090", "", 89, "0.32.9", NULL},
        {"NVIDIA GeForce RTX 4090", "470.82.01", 89, NULL, NULL},
        {"Tesla P100-PCIE-16GB", "550.54.14", 60, "0.32.9", "it needs 570"},
        {"Tesla P100-PCIE-16GB", "550.54.14", 60, "0.13.5", NULL},
        {"Tesla P100-PCIE-16GB", "570.86.10", 60, "0.32.9", NULL},
        {"Tesla V100-SXM2-32GB", "550.54.14", 70, "0.32.9", NULL},
        {"Tesla K80", "470.82.01", 37, "0.32.9", "too old for ollama (compute capability 3.7, it needs 5.0)"},
        {"Tesla K80", "470.82.01", 37, NULL, "take a machine with a newer card"},
        {"NVIDIA GeForce RTX 5090", "570.86.10", 120, "0.5.12",
         "ollama 0.5.12 is too old for the NVIDIA "
         "GeForce RTX 5090 of gpu1"},
        {"NVIDIA GeForce RTX 5090", "570.86.10", 120, "0.5.13", NULL},
        {"NVIDIA B200", "570.86.10", 100, "0.11.4", "it needs 0.11.11"},
        {"NVIDIA B200", "570.86.10", 100, "0.11.11", NULL},
        {"NVIDIA H100", "535.104.05", 90, "0.5.12", NULL},
        {"GRID T4-8Q", "470.63.01", -1, "0.32.9", "it needs 550"},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct gpu_facts g = card(rows[i].name, rows[i].driver, rows[i].capability);
        struct fault f = {};
        int r = fit_judge(&g, "ollama", rows[i].version, "gpu1", &f);

        cr_assert_eq(r < 0, rows[i].says != NULL, "%zu: %s", i, f.text);
        if (!rows[i].says)
            continue;
        cr_assert_str_eq(f.code, "engine_unfit");
        cr_assert_not_null(strstr(f.text, rows[i].says), "%zu: %s", i, f.text);
        cr_assert_null(strstr(f.text, ". "), "one sentence: %s", f.text);
        cr_assert_eq(fit_judge(&g, "llama.cpp", rows[i].version, "gpu1", &f), 0,
                     "nothing is known of others");
    }
}

Test(fit, an_npu_is_named_and_no_card_is_no_reason)
{
    struct gpu_facts g = card("910B2", "", -1);
    struct fault f = {};

    g.kind = GPU_ASCEND;
    cr_assert_lt(fit_judge(&g, "ollama", NULL, "gpu1", &f), 0);
    cr_assert_str_eq(f.text, "gpu1 has an Ascend NPU (910B2) and no NVIDIA card: there is no ollama for it");
    g = (struct gpu_facts){.kind = GPU_NONE, .capability = -1};
    cr_assert_eq(fit_judge(&g, "ollama", "0.32.9", "gpu1", &f), 0);
    g = (struct gpu_facts){.kind = GPU_NVIDIA, .capability = -1, .trouble = "it was started without a card"};
    cr_assert_eq(fit_judge(&g, "ollama", "0.32.9", "gpu1", &f), 0);
}
