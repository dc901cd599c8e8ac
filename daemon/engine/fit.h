/* Whether an engine can work with what a machine has for cards. Pure.
 *
 * Facts: ollama's docs/gpu.mdx at v0.12.0, v0.13.0, v0.30.0, v0.31.0 and v0.32.15 (oldest driver and card), its CMakePresets.json at
 * v0.5.12, v0.5.13, v0.11.10 and v0.11.11 (newest card), read 2026-11-27. No ollama knows Ascend NPUs (its issue 5315). */
#pragma once

#include "base/fault.h"
#include "engine/gpu.h"

/* version: "0.32.9"; NULL: any, and then only what none of them can do counts. < 0: *f says why not, in a sentence (engine_unfit).
 * What is not known of the cards is no reason. */
int fit_judge(const struct gpu_facts *g, const char *engine, const char *version, const char *instance, struct fault *f);
