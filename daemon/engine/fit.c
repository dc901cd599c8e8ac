/* One table, newest version first: the oldest driver a version works with, the oldest one for cards of before
 * Volta, and the newest generation of cards it was built for. */
#include "engine/fit.h"

#include <stdio.h>
#include <stdlib.h>

#include "proto/mem.h"

#define VERSION(major, minor, patch) ((major)*1000000u + (minor)*1000u + (patch))
#define OLDEST_CARD                  50
#define BEFORE_VOLTA                 62

static const struct {
    unsigned from; /* this version */
    int driver, driver_old_card;
    int newest_card; /* 0: nothing newer is known */
} ollama[] = {
    {VERSION(0, 31, 0), 550, 570, 0},
    {VERSION(0, 30, 0), 531, 570, 0},
    {VERSION(0, 12, 0), 531, 531, 0},
    {VERSION(0, 11, 11), 0, 0, 0},
    {VERSION(0, 5, 13), 0, 0, 120}, /* without 10.x, the server cards of that generation */
    {0, 0, 0, 90},
};

static unsigned read_version(const char *text)
{
    unsigned major = 0, minor = 0, patch = 0;

    sscanf(text, "%4u.%3u.%3u", &major, &minor, &patch);
    return VERSION(major, minor, patch);
}

static int refuse_card(const struct gpu_facts *g, const char *version, const char *instance, struct fault *f)
{
    int major = g->capability / 10, minor = g->capability % 10;

    if (g->capability < OLDEST_CARD)
        return fault_code(f, FAULT_GONE, "engine_unfit",
                          "the %s of %s is too old for ollama (compute capability %d.%d, it needs %d.%d): "
                          "take a machine with a newer card",
                          g->cards[0].name, instance, major, minor, OLDEST_CARD / 10, OLDEST_CARD % 10);
    return fault_code(
        f, FAULT_GONE, "engine_unfit",
        "ollama %s is too old for the %s of %s (compute capability %d.%d): it needs %s or newer", version,
        g->cards[0].name, instance, major, minor, g->capability < 120 ? "0.11.11" : "0.5.13");
}

static int refuse_driver(const struct gpu_facts *g, int needed, const char *version, const char *instance,
                         struct fault *f)
{
    return fault_code(
        f, FAULT_GONE, "engine_unfit",
        "the driver of %s (%s, which only its owner can change) is too old for ollama %s with a "
        "%s: it needs %d",
        instance, g->driver, version, g->cards[0].name, needed);
}

static bool is_card_too_new(int capability, int newest, unsigned version)
{
    if (version >= VERSION(0, 5, 13) && version < VERSION(0, 11, 11))
        return capability >= 100 && capability < 120;
    return newest && capability > newest;
}

int fit_judge(const struct gpu_facts *g, const char *engine, const char *version, const char *instance,
              struct fault *f)
{
    int driver = atoi(g->driver);
    unsigned v = version ? read_version(version) : 0, row = 0;

    if (!streq(engine, "ollama"))
        return 0;
    if (g->kind == GPU_ASCEND)
        return fault_code(f, FAULT_GONE, "engine_unfit",
                          "%s has an Ascend NPU%s%s%s and no NVIDIA card: there is no %s for it", instance,
                          g->n ? " (" : "", g->n ? g->cards[0].name : "", g->n ? ")" : "", engine);
    if (g->kind != GPU_NVIDIA || !g->n)
        return 0;
    if (g->capability > 0 && g->capability < OLDEST_CARD)
        return refuse_card(g, version, instance, f);
    if (!v)
        return 0;
    while (ollama[row].from > v)
        row++;
    if (is_card_too_new(g->capability, ollama[row].newest_card, v))
        return refuse_card(g, version, instance, f);

    int needed =
        g->capability > 0 && g->capability <= BEFORE_VOLTA ? ollama[row].driver_old_card : ollama[row].driver;

    return driver > 0 && driver < needed ? refuse_driver(g, needed, version, instance, f) : 0;
}
