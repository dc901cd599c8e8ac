/* What the tests of the ollama driver share: answers of ollama 0.11.4 and 0.32.15, as recorded 2026-11-20. */
#pragma once

#include "tests/unit/engine_world.h"

#define FOUND   "program=/usr/local/bin/ollama\nversion=Warning: client version is 0.32.15\n"
#define VERSION "{\"version\":\"0.32.15\"}"
#define ENTRY                                                                                                \
    "{\"name\":\"tiny:latest\",\"model\":\"tiny:latest\",\"modified_at\":\"2026-11-20T20:57:55."             \
    "377963588Z\",\"size\":475018,"                                                                          \
    "\"digest\":\"0db44091\",\"details\":{\"parent_model\":\"\",\"format\":\"gguf\",\"family\":\"llama\","   \
    "\"families\":[\"llama\"],"                                                                              \
    "\"parameter_size\":\"117K\",\"quantization_level\":\"unknown\"}}"
#define TAGS  "{\"models\":[" ENTRY "]}"
#define EMPTY "{\"models\":[]}"
#define PS(vram)                                                                                             \
    "{\"models\":[{\"name\":\"tiny:latest\",\"model\":\"tiny:latest\",\"size\":23632896,\"digest\":"         \
    "\"0db44091\",\"details\":{},"                                                                           \
    "\"expires_at\":\"2319-03-03T21:02:55.651205431Z\",\"size_vram\":" vram ",\"context_length\":4096}]}"
#define LOADED                                                                                               \
    "{\"model\":\"tiny\",\"created_at\":\"2026-11-20T20:58:00Z\",\"response\":\"\",\"done\":true,\"done_"    \
    "reason\":\"load\"}"
#define SHOW "{\"modelfile\":\"FROM x\",\"details\":{\"family\":\"llama\"},\"capabilities\":[\"completion\"]}"

#define LAYER(digest, total, completed)                                                                      \
    "{\"status\":\"pulling " digest "\",\"digest\":\"sha256:" digest "\",\"total\":" total completed "}\n"

static inline void setup(void)
{
    world_begin("ollama", "tiny", "");
    w.look_says = RUNS;
    w.find_says = FOUND RUNS;
}

static inline const struct engine_ops *ops(void)
{
    return w.engine->ops;
}

static inline void find_it(void)
{
    ASK_SHELL(ops()->find);
    went_well();
}

/* Instead of the model of setup. */
static inline void use_model(const char *model)
{
    w.engine = engine_free(w.engine);
    world_make_engine("ollama", model);
    find_it();
}
