/* links: engine
 *
 * The llama.cpp driver against answers of llama-server 0.7.0, as recorded 2026-11-20: it downloads (nobody
 * listens), it loads (503), it answers (200), it ends and its log says why. */
#include "engine/answer.h"
#include "engine/need.h"
#include "tests/unit/engine_world.h"

#define FOUND   "program=/usr/bin/llama-server\nversion=version: 0.7.0 (11669)\n"
#define LOADING "{\"error\":{\"message\":\"Loading model\",\"type\":\"unavailable_error\",\"code\":503}}"
#define OK      "{\"status\":\"ok\"}"
#define MODELS                                                                                               \
    "{\"object\":\"list\",\"data\":[{\"id\":\"qwen3\",\"owned_by\":\"llamacpp\",\"meta\":{\"n_ctx\":512,"    \
    "\"n_ctx_train\":2048,"                                                                                  \
    "\"n_params\":116672,\"size\":466688}}],\"models\":[]}"
#define REPO "Qwen/Qwen3-4B-GGUF:Q4_K_M"

static void setup(void)
{
    world_begin("llama.cpp", REPO, "");
    w.look_says = w.start_says = RUNS;
    w.find_says = FOUND RUNS;
    w.size_says = "0\n";
}

TestSuite(llamacpp, .init = setup, .fini = world_end, .timeout = 60);

static const struct engine_ops *ops(void)
{
    return w.engine->ops;
}

static void find_it(void)
{
    ASK_SHELL(ops()->find);
    went_well();
}

Test(llamacpp, takes_repositories_and_files)
{
    static const struct {
        const char *model;
        int r;
    } names[] = {
        {REPO, 0},
        {"a/b", 0},
        {"/models/x.gguf", 0},
        {"/models/x.bin", -EINVAL},
        {"/.gguf", -EINVAL},
        {"qwen3", -EINVAL},
        {"/", -EINVAL},
        {"a/", -EINVAL},
        {"a/:Q4", -EINVAL},
        {"a/b/c", -EINVAL},
        {"hf-mirror.com/a/b:Q4", 0},
        {"hf.co/a/b/c", -EINVAL},
        {"hf.co//b", -EINVAL},
    };

    for (unsigned i = 0; i < ELEMENTS(names); i++) {
        const char *why = NULL;

        cr_assert_eq(ops()->check(names[i].model, &why), names[i].r, "%s", names[i].model);
        cr_assert(names[i].r == 0 || why);
    }
}

Test(llamacpp, finds_the_program)
{
    find_it();
    cr_assert_str_eq(w.engine->facts.version, "0.7.0");
    cr_assert_str_eq(w.text, "llama.cpp 0.7.0");
    w.find_says = NONE;
    ASK_SHELL(ops()->find);
    failed_with("engine_missing", FAULT_GONE);
    cr_assert_not_null(strstr(w.fault.text, "[engine.llama.cpp] path="));
}

Test(llamacpp, servers_of_different_models_have_different_names)
{
    char *first, *second;

    find_it();
    first = xstrdup(strchr(w.script, '\n') ? strndupa(w.script, (size_t)(strchr(w.script, '\n') - w.script))
                                           : "");
    w.engine = engine_free(w.engine);
    world_make_engine("llama.cpp", "Qwen/Qwen3-4B-GGUF-Q4_K_M");
    find_it();
    second = xstrdup(strndupa(w.script, (size_t)(strchr(w.script, '\n') - w.script)));
    cr_assert_str_neq(first, second);
    cr_assert_not_null(strstr(first, "llama.cpp-Qwen-Qwen3-4B-GGUF-Q4-K-M-"), "%s", first);
    free(first);
    free(second);
}

Test(llamacpp, starts_a_server_for_a_repository_or_a_file)
{
    w.find_says = FOUND NONE;
    find_it();
    ASK_SHELL(ops()->start);
    went_well();
    cr_assert_not_null(strstr(w.script, " -hf "));
    cr_assert_not_null(strstr(w.script, "--port @PORT@"));
    cr_assert_not_null(strstr(w.script, "@BASE@/llama.cpp/models"));
    w.n_scripts = 0;
    ASK_SHELL(ops()->start);
    went_well();
    cr_assert_eq(w.n_scripts, 1);
    cr_assert_not_null(strstr(w.script, "set -- look"), "it runs: it is only looked at");
    w.engine = engine_free(w.engine);
    world_make_engine("llama.cpp", "/models/it's.gguf");
    find_it();
    ASK_SHELL(ops()->start);
    went_well();
    cr_assert_not_null(strstr(w.script, " -m "));
    cr_assert_null(strstr(w.script, " -hf "));
}

Test(llamacpp, a_server_found_on_its_way_out_is_started_anew_and_only_once)
{
    find_it();
    w.look_says = DEAD("bye");
    ASK_SHELL(ops()->start);
    went_well();
    cr_assert_not_null(strstr(w.script, "set -- start"));
    ASK_SHELL(ops()->start);
    failed_with("engine_exited", FAULT_GONE);
    find_it();
    w.start_says = DEAD("bye");
    ASK_SHELL(ops()->start);
    failed_with("engine_exited", FAULT_GONE);
}

static int check(const char *list, struct fault *f)
{
    _cleanup_json_ struct json *arguments = NULL;

    cr_assert_eq(json_parse(list, strlen(list), &arguments), 0);
    return engine_check_arguments(ops(), arguments, f);
}

Test(llamacpp, takes_arguments_but_for_those_llmhost_owns)
{
    static const char *const good[] = {
        "[]",         "[\"-c\",\"4096\"]", "[\"--ctx-size\",\"1\",\"-np\",\"2\"]",
        "[\"\"]",     "[\"-\",\"--\"]",    "[\"--chat-template-kwargs\",\"{\\\"--port\\\": 1}\"]",
        "[\"host\"]", "[\"-ngl\",\"10\"]"};
    static const char *const bad[] = {"-m",
                                      "--model",
                                      "--model=/x.gguf",
                                      "-hf",
                                      "--hf-repo",
                                      "--hf_repo",
                                      "--host",
                                      "--port",
                                      "--port=1",
                                      "-a",
                                      "--alias",
                                      "--api-key",
                                      "--api_key_file",
                                      "--ssl-key-file",
                                      "--ssl-cert-file",
                                      "--models-dir",
                                      "--log-file"};
    struct fault f;

    for (unsigned i = 0; i < ELEMENTS(good); i++)
        cr_assert_eq(check(good[i], &f), 0, "%s: %s", good[i], f.text);
    for (unsigned i = 0; i < ELEMENTS(bad); i++) {
        _cleanup_free_ char *list = xasprintf("[\"-c\",\"1\",\"%s\"]", bad[i]);

        cr_assert_lt(check(list, &f), 0, "%s", bad[i]);
        cr_assert_str_eq(f.code, "bad_arguments");
        /* its value may be a secret, and is not told */
        _cleanup_free_ char *name = xasprintf("the argument %.*s was", (int)strcspn(bad[i], "="), bad[i]);

        cr_assert_not_null(strstr(f.text, name), "%s", f.text);
    }
    cr_assert_lt(check("[\"a\\u0000b\"]", &f), 0);
}

Test(llamacpp, arguments_have_an_end)
{
    struct buf list;
    struct fault f;

    buf_init(&list, 65536);
    buf_add_text(&list, "[\"x\"");
    for (unsigned i = 1; i < 64; i++)
        buf_add_text(&list, ",\"x\"");
    buf_add_text(&list, "]");
    cr_assert_eq(check(buf_text(&list), &f), 0);
    list.len--;
    buf_add_text(&list, ",\"x\"]");
    cr_assert_lt(check(buf_text(&list), &f), 0);
    buf_clear(&list);
    buf_add_text(&list, "[\"");
    for (unsigned i = 0; i < 4096; i++)
        buf_add_text(&list, "'");
    buf_add_text(&list, "\"]");
    cr_assert_eq(check(buf_text(&list), &f), 0);
    buf_clear(&list);
    buf_add_text(&list, "[\"");
    for (unsigned i = 0; i < 4097; i++)
        buf_add_text(&list, "x");
    buf_add_text(&list, "\"]");
    cr_assert_lt(check(buf_text(&list), &f), 0);
    buf_done(&list);
}

Test(llamacpp, a_server_with_other_arguments_is_stopped_first)
{
    _cleanup_json_ struct json *arguments = json_array();

    json_append_string(arguments, "-c");
    json_append_string(arguments, "it's");
    engine_set_arguments(w.engine, arguments);
    cr_assert_str_eq(w.engine->arguments, "-c 'it'\\''s'");
    w.find_says = FOUND "other=1\n" RUNS;
    w.stop_says = NONE;
    find_it();
    cr_assert_not_null(strstr(w.script, "-c "));
    w.n_scripts = 0;
    ASK_SHELL(ops()->prepare);
    went_well();
    cr_assert_eq(w.n_scripts, 3, "stop, hub, cards");
    ASK_SHELL(ops()->start);
    went_well();
    cr_assert_eq(w.n_scripts, 4, "start");
    cr_assert_not_null(strstr(w.script, "set -- start"));
}

/* One of ours that it does not know is no mistake of anybody's. */
Test(llamacpp, an_argument_the_server_refuses_is_the_users)
{
    static const char *const lines[] = {DEAD("error: invalid argument: --wrong"),
                                        DEAD("error while handling argument \"-c\": stoi")};
    _cleanup_json_ struct json *arguments = json_array();

    json_append_string(arguments, "--wrong");
    engine_set_arguments(w.engine, arguments);
    for (unsigned i = 0; i < ELEMENTS(lines); i++) {
        w.find_says = FOUND NONE;
        find_it();
        w.start_says = lines[i];
        ASK_SHELL(ops()->start);
        failed_with("bad_argument", FAULT_INVALID);
        cr_assert_not_null(strstr(w.fault.text, "argument"), "%s", w.fault.text);
    }
}

Test(llamacpp, what_a_start_will_take_and_what_is_free)
{
    const struct engine_facts *f = &w.engine->facts;

    find_it();
    w.n_scripts = 0;
    ASK_SHELL(ops()->prepare);
    went_well();
    cr_assert_eq(f->load_bytes, 0, "it runs");
    cr_assert_eq(w.n_scripts, 1, "it was only looked at");
    w.look_says = DEAD("bye");
    w.cards_say = "chip=none\nmemory=2000 kB\n";
    ASK_SHELL(ops()->prepare);
    went_well();
    cr_assert_eq(f->load_bytes, -1, "of a repository nothing is known");
    cr_assert_eq(f->free_bytes, 2000 * 1024);
    w.look_says = RUNS;
    find_it();
    ASK(ops()->load, {"GET /health", NULL, 200, {OK}}, {"GET /v1/models", NULL, 200, {MODELS}});
    w.find_says = FOUND NONE;
    find_it();
    ASK_SHELL(ops()->prepare);
    went_well();
    cr_assert_eq(f->load_bytes, 466688, "but after it was loaded once");

    w.engine = engine_free(w.engine);
    world_make_engine("llama.cpp", "/models/it's.gguf");
    find_it();
    w.size_says = "4700000000\n";
    ASK_SHELL(ops()->prepare);
    went_well();
    cr_assert_eq(w.engine->facts.load_bytes, 4700000000);
    w.size_says = "";
    ASK_SHELL(ops()->prepare);
    went_well();
}

Test(llamacpp, downloads_while_nobody_listens)
{
    find_it();
    w.size_says = "12845056\n";
    ASK(ops()->fetch, {.request = "", .then = REFUSE});
    cr_assert(w.again);
    cr_assert_str_eq(w.text, "downloading");
    cr_assert_eq(w.bytes, 12845056);
    cr_assert_eq(w.bytes_total, -1);
    w.size_says = "0\n";
    ASK(ops()->fetch, {.request = "", .then = REFUSE});
    cr_assert(w.again);
    cr_assert_eq(w.n_progress, 0);
    w.size_says = "";
    ASK(ops()->fetch, {.request = "", .then = REFUSE});
    cr_assert(w.again);
    ASK(ops()->fetch, {"GET /health", NULL, 503, {LOADING}});
    went_well();
    cr_assert_str_eq(w.text, "on the disk");
    ASK(ops()->fetch, {"GET /health", NULL, 200, {OK}});
    went_well();
}

Test(llamacpp, loads_while_it_says_503_and_is_ready_at_200)
{
    const struct engine_facts *f = &w.engine->facts;

    find_it();
    ASK(ops()->load, {"GET /health", NULL, 503, {LOADING}});
    cr_assert(w.again);
    cr_assert_str_eq(w.text, "loading");
    ASK(ops()->load, {.request = "", .then = REFUSE});
    cr_assert(w.again);
    ASK(ops()->load, {"GET /health", NULL, 200, {OK}}, {"GET /v1/models", NULL, 200, {MODELS}});
    went_well();
    cr_assert_eq(f->size_bytes, 466688);
    cr_assert_eq(f->context, 512);
    cr_assert_eq(f->size_vram_bytes, -1);
    cr_assert_str_eq(json_get_text(json_get(f->shown, "model"), "id"), "qwen3");
    cr_assert_str_eq(json_get_text(f->shown, "version"), "0.7.0");
    ASK(ops()->load, {"GET /health", NULL, 200, {OK}}, {"GET /v1/models", NULL, 500, {"x"}});
    went_well();
    cr_assert_str_eq(w.text, "loaded");
    ASK(ops()->load, {"GET /health", NULL, 200, {OK}}, {"GET /v1/models", NULL, 200, {"{\"data\":[]}"}});
    went_well();
}

/* Lines of llama-server's log at -lv 4, reference/runtimes.md, 3.4 and 7: "load_tensors: offloaded 37/37
 * layers to GPU". */
Test(llamacpp, layers_of_its_log_say_where_the_model_is)
{
    static const struct {
        const char *layers;
        int64_t vram;
        const char *text;
    } rows[] = {
        {"layers=37/37 layers\n", 466688, "467 kB, 100% GPU~"},
        {"layers=20/40 layers\n", 233344, "467 kB, 50% GPU, 50% CPU"},
        {"layers=0/37 layers\n", 0, "467 kB, 100% CPU"},
        {"layers=0/1 layers\n", 0, "467 kB, 100% CPU"},
        {"layers=41/40 layers\n", -1, "467 kB"},
        {"layers=x\n", -1, "467 kB"},
        {"", -1, "467 kB"},
    };

    find_it();
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *says = xasprintf("%s" RUNS, rows[i].layers);

        w.look_says = says;
        ASK(ops()->load, {"GET /health", NULL, 200, {OK}}, {"GET /v1/models", NULL, 200, {MODELS}});
        went_well();
        cr_assert_eq(w.engine->facts.size_vram_bytes, rows[i].vram, "%zu", i);
        cr_assert_str_eq(w.text, rows[i].text);
    }
    w.look_says = RUNS;
}

/* A card that nvidia-smi tells little of, and one whose memory says otherwise: what was measured counts. */
Test(llamacpp, the_memory_of_the_card_is_believed_before_the_log)
{
    static const char before[] = "chip=nvidia\nNVIDIA GeForce RTX 4090, 550.54.14, 24564, 18, 8.9\n";

    w.find_says = FOUND NONE;
    find_it();
    w.cards_say = before;
    ASK_SHELL(ops()->prepare);
    went_well();
    ASK_SHELL(ops()->start);
    went_well();
    w.look_says = "layers=37/37 layers\n" RUNS;
    ASK(ops()->load, {"GET /health", NULL, 200, {OK}}, {"GET /v1/models", NULL, 200, {MODELS}});
    went_well();
    cr_assert_eq(w.engine->facts.measured, GPU_NOT_USED);
    cr_assert_str_eq(w.text, "467 kB, 100% CPU although it was planned for the GPU");
}

Test(llamacpp, a_server_that_ended_says_why)
{
    static const struct {
        const char *line, *code;
        enum fault_kind kind;
    } ends[] = {
        {DEAD("common_init_from_params: failed to load model ''"), "model_unknown", FAULT_GONE},
        {DEAD("0.00.007.142 E get_repo_commit: error: HTTPLIB failed: Could not establish connection"),
         "registry_unreachable", FAULT_TRANSIENT},
        {DEAD("ggml_backend_cuda_buffer_type_alloc_buffer: allocating 2375.91 MiB on device 0: cudaMalloc "
              "failed: out of memory"),
         "out_of_memory", FAULT_EXHAUSTED},
        {DEAD("alloc_tensor_range: unable to allocate CUDA0 buffer"), "out_of_memory", FAULT_EXHAUSTED},
        {DEAD("llama_model_load: error loading model: tensor 'x' data is not within the file bounds, model "
              "is corrupted or incomplete"),
         "model_unreadable", FAULT_INVALID},
        {DEAD("error loading model: unknown model architecture: 'new'"), "model_unreadable", FAULT_INVALID},
        {DEAD("start: couldn't bind HTTP server socket, hostname: 127.0.0.1, port: 21000"), "port_taken",
         FAULT_TRANSIENT},
        {DEAD("error: invalid argument: --no-webui"), "engine_exited", FAULT_GONE},
        {DEAD("write: No space left on device"), "disk_full", FAULT_EXHAUSTED},
        {NONE, "engine_exited", FAULT_GONE},
    };
    const step_fn steps[] = {ops()->fetch, ops()->load, ops()->probe};

    for (unsigned i = 0; i < ELEMENTS(ends); i++)
        for (unsigned k = 0; k < ELEMENTS(steps); k++) {
            w.look_says = RUNS;
            find_it();
            w.look_says = ends[i].line;
            ASK(steps[k], {.request = "", .then = REFUSE});
            failed_with(ends[i].code, ends[i].kind);
        }
}

Test(llamacpp, a_probe_tells_silent_from_well)
{
    find_it();
    ASK(ops()->probe, {"GET /health", NULL, 200, {OK}});
    went_well();
    ASK(ops()->probe, {"GET /health", NULL, 503, {LOADING}});
    failed_with("no_answer", FAULT_TRANSIENT);
    w.exchanges = (const struct exchange[]){{"GET /health", NULL, 0, {}, HANG}};
    w.n_exchanges = 1;
    w.next = 0;
    begin(ops()->probe);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 1));
    loop_advance(w.loop, 5001);
    finish();
    failed_with("no_answer", FAULT_TRANSIENT);
}

Test(llamacpp, whoever_has_the_port_of_a_dead_server_is_not_taken_for_it)
{
    find_it();
    w.engine->suspect = true;
    ASK(ops()->probe, {"GET /health", NULL, 200, {OK}});
    went_well();
    cr_assert(!w.engine->suspect);
    w.engine->suspect = true;
    w.look_says = DEAD("killed");
    ASK_SHELL(ops()->probe);
    failed_with("engine_exited", FAULT_GONE);
}

Test(llamacpp, unloading_is_stopping)
{
    find_it();
    w.stop_says = "gone=1\nok=1\n";
    ASK_SHELL(ops()->unload);
    went_well();
    cr_assert_eq(w.engine->facts.port, 0);
    ASK_SHELL(ops()->stop);
    went_well();
}

Test(llamacpp, whoever_leaves_hears_nothing_whenever_he_leaves)
{
    static const struct exchange fetch[] = {{.request = "", .then = REFUSE}},
                                 load[] = {{"GET /health", NULL, 200, {OK}},
                                           {"GET /v1/models", NULL, 200, {MODELS}}},
                                 probe[] = {{"GET /health", NULL, 503, {LOADING}}};
    const struct engine_ops *o = ops();

    w.stop_says = "ok=1\n";
    leave_at_every_turn("llama.cpp", REPO, o->find, NULL, NULL, 0);
    leave_at_every_turn("llama.cpp", REPO, o->start, FOUND NONE, NULL, 0);
    leave_at_every_turn("llama.cpp", REPO, o->fetch, FOUND RUNS, fetch, ELEMENTS(fetch));
    leave_at_every_turn("llama.cpp", REPO, o->load, FOUND RUNS, load, ELEMENTS(load));
    leave_at_every_turn("llama.cpp", REPO, o->probe, FOUND RUNS, probe, ELEMENTS(probe));
    leave_at_every_turn("llama.cpp", REPO, o->stop, FOUND RUNS, NULL, 0);
}

/* ---- the hub ---- */

#define FILE_(path, size, oid)                                                                               \
    "{\"type\":\"file\",\"path\":\"" path "\",\"size\":" size ",\"oid\":\"0a\",\"lfs\":{\"oid\":\"" oid      \
    "\",\"size\":" size "}}"
#define TREE(...) "[{\"type\":\"file\",\"path\":\"README.md\",\"size\":5,\"oid\":\"0b\"}," __VA_ARGS__ "]"

static void on_need(void *ctx)
{
    ++*(unsigned *)ctx;
}

/* What the doctor asks, beside whatever the deployment does. */
static struct engine_need need_of(const char *ask, const char *room)
{
    struct engine_need n;
    struct op *op = NULL;
    unsigned done = 0;

    w.ask_says = ask;
    w.room_says = room;
    cr_assert(need_ask(w.engine, &n, &op, on_need, &done));
    cr_assert(op && done == 0);
    cr_assert(LOOP_UNTIL(w.loop, done == 1));
    cr_assert_null(op);
    return n;
}

Test(llamacpp, what_a_model_needs_can_be_asked_beside)
{
    static const char list[] = "status=200\nbody=" TREE(FILE_("x-Q4_K_M.gguf", "40000", "04")) "\nok=1\n";
    static const char room[] = "have_kb=10\nmodels=/data/llama\nfree_kb=20\nok=1\n";
    struct engine_need n = need_of(list, room);
    struct op *op = NULL;
    unsigned done = 0;

    cr_assert_eq(n.bytes, 40000);
    cr_assert_eq(n.have_bytes, 10240);
    cr_assert_eq(n.free_bytes, 20480);
    cr_assert_str_eq(n.models, "/data/llama");
    cr_assert_not_null(strstr(w.script, "models--Qwen--Qwen3-4B-GGUF/blobs/"), "%s", w.script);
    cr_assert_eq(need_of("status=404\nbody=x\nok=1\n", room).bytes, -1);
    cr_assert_eq(need_of("status=200\nbody=[]\nok=1\n", room).bytes, -1);
    cr_assert_eq(need_of("late=1\nok=1\n", room).free_bytes, -1);

    w.ask_says = list;
    cr_assert(need_ask(w.engine, &n, &op, on_need, &done));
    w.engine = engine_free(w.engine); /* forgotten meanwhile */
    cr_assert(LOOP_UNTIL(w.loop, done == 1));
    world_make_engine("llama.cpp", REPO);
    cr_assert(need_ask(w.engine, &n, &op, on_need, &done));
    op_cancel(&op);
    loop_turns(w.loop, 5);
    cr_assert_eq(done, 1);
    w.engine = engine_free(w.engine);
    world_make_engine("llama.cpp", "/models/x.gguf");
    cr_assert_not(need_ask(w.engine, &n, &op, on_need, &done), "it comes from nowhere");
    cr_assert_null(op);
}

Test(llamacpp, the_hubs_list_says_which_files_and_how_large)
{
    static const char tree[] = TREE(FILE_("x-Q8_0.gguf", "80", "08") "," FILE_(
        "mmproj-x-Q4_K_M.gguf", "7", "07") "," FILE_("x-Q4_K_M.gguf", "40", "04") "," //
                                    FILE_("b/x-BF16-00001-of-00002.gguf", "161",
                                          "16") "," FILE_("b/x-BF16-00002-of-00002.gguf", "162", "17") "," //
                                    FILE_("b/x-BF16-00002-of-00003.gguf", "1", "18"));
    static const struct {
        const char *tag;
        int r;
        int64_t bytes;
        const char *first;
        unsigned n;
    } rows[] = {
        {"Q8_0", 0, 80, "08", 1},  {"q8_0", 0, 80, "08", 1}, {NULL, 0, 40, "04", 1},
        {"BF16", 0, 323, "16", 2}, {"Q2_K", -ENOENT},        {"Q4_K", -ENOENT},
    };
    struct hub_files h = {};

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        cr_assert_eq(hub_read_tree(tree, strlen(tree), rows[i].tag, &h), rows[i].r, "%u", i);
        if (rows[i].r == 0) {
            cr_assert_eq(h.bytes, rows[i].bytes, "%u", i);
            cr_assert_eq(h.n, rows[i].n, "%u", i);
            cr_assert_str_eq(h.blobs[0], rows[i].first);
        }
    }
    cr_assert_eq(hub_read_tree("{\"error\":1}", 11, NULL, &h), -EBADMSG);
    cr_assert_eq(hub_read_tree("[]", 2, NULL, &h), -ENOENT);
    cr_assert_eq(hub_read_tree("[{\"path\":\"x.gguf\",\"size\":1,\"oid\":\"../x\"}]", 42, NULL, &h),
                 -EBADMSG);
}

Test(llamacpp, a_hub_of_its_own_or_a_mirror)
{
    find_it();
    w.start_says = RUNS;
    ASK_SHELL(ops()->start);
    cr_assert_null(strstr(w.script, "MODEL_ENDPOINT"));
    w.engine->model_mirror = xstrdup("https://hf-mirror.com/");
    w.find_says = FOUND NONE;
    find_it();
    ASK_SHELL(ops()->prepare);
    ASK_SHELL(ops()->start);
    cr_assert_not_null(strstr(w.script, "MODEL_ENDPOINT=https://hf-mirror.com'"), "%s", w.script);
    w.engine = engine_free(w.engine);
    world_make_engine("llama.cpp", "other.example/" REPO);
    find_it();
    ASK_SHELL(ops()->prepare);
    ASK_SHELL(ops()->start);
    cr_assert_not_null(strstr(w.script, "MODEL_ENDPOINT=https://other.example'"), "%s", w.script);
    cr_assert_not_null(strstr(w.script, " -hf " REPO " "), "%s", w.script);
}

Test(llamacpp, no_room_is_told_before_it_starts)
{
    w.find_says = FOUND NONE;
    find_it();
    w.ask_says = "status=200\nbody=" TREE(FILE_("x-Q4_K_M.gguf", "40000", "04")) "\nok=1\n";
    w.room_says = "models=/root/m\nhave_kb=10\nfree_kb=20\nok=1\n";
    ASK_SHELL(ops()->prepare);
    failed_with("disk_full", FAULT_EXHAUSTED);
    w.room_says = "models=/root/m\nhave_kb=20\nfree_kb=20\nok=1\n";
    ASK_SHELL(ops()->prepare);
    went_well();
    cr_assert_eq(w.engine->facts.load_bytes, 40000);
}
