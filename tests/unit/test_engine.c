/* links: engine
 *
 * The ollama driver against recorded answers and against connections that break. The fetch:
 * test_engine_fetch.c. */
#include "tests/unit/ollama_world.h"

TestSuite(ollama, .init = setup, .fini = world_end, .timeout = 60);

/* ---- names ---- */

Test(ollama, takes_names_and_no_files)
{
    const char *why = NULL;

    cr_assert_eq(ops()->check("deepseek-r1:7b", &why), 0);
    cr_assert_eq(ops()->check("hf.co/Qwen/Qwen3-4B-GGUF:Q4_K_M", &why), 0);
    cr_assert_eq(ops()->check("/root/x.gguf", &why), -EINVAL);
    cr_assert_not_null(why);
}

Test(ollama, the_list_of_drivers)
{
    cr_assert_eq(engine_find_ops("ollama"), ops());
    cr_assert_null(engine_find_ops("vllm"));
    cr_assert_str_eq(engine_name_at(0), "ollama");
    cr_assert_str_eq(engine_name_at(1), "llama.cpp");
    cr_assert_null(engine_name_at(2));
}

/* ---- find ---- */

Test(ollama, finds_the_program_its_version_and_a_server_that_runs)
{
    find_it();
    cr_assert_str_eq(w.engine->facts.path, "/usr/local/bin/ollama");
    cr_assert_str_eq(w.engine->facts.version, "0.32.15");
    cr_assert_str_eq(w.text, "ollama 0.32.15");
    cr_assert_eq(w.engine->facts.pid, 77);
    cr_assert_eq(w.engine->facts.port, 21000);
    cr_assert_str_eq(w.engine->facts.log, "/root/llmhost/run/x.log");
    w.find_says = "program=/usr/local/bin/ollama\n" NONE;
    find_it();
    cr_assert_null(w.engine->facts.version);
    cr_assert_eq(w.engine->facts.pid, -1);
    cr_assert_eq(w.engine->facts.port, 0);
}

Test(ollama, what_is_known_is_known_while_the_machine_is_asked_again)
{
    find_it();
    w.shell_hangs = true;
    begin(ops()->find);
    cr_assert_str_eq(w.engine->facts.path, "/usr/local/bin/ollama");
    cr_assert_str_eq(w.engine->facts.log, "/root/llmhost/run/x.log");
    op_cancel(&w.op);
    cr_assert_str_eq(w.engine->facts.path, "/usr/local/bin/ollama");
    w.shell_hangs = false;
    w.find_says = "log=/elsewhere\nerror=busy no\n";
    ASK_SHELL(ops()->find);
    failed_with("busy", FAULT_TRANSIENT);
    cr_assert_str_eq(w.engine->facts.log, "/root/llmhost/run/x.log");
}

Test(ollama, says_where_it_looked_when_the_program_is_not_there)
{
    world_end();
    world_begin("ollama", "tiny", "[engine.ollama]\npath = /opt/o/ollama\n");
    w.find_says = NONE;
    ASK_SHELL(ops()->find);
    failed_with("engine_missing", FAULT_GONE);
    cr_assert_not_null(strstr(w.fault.text, "/opt/o/ollama"));
    cr_assert_not_null(strstr(w.script, "/opt/o/ollama"));
}

Test(ollama, a_shell_that_cannot_be_asked_is_its_fault)
{
    static const struct fault lost = {FAULT_UNCERTAIN, -ECONNRESET, "lost", "the connection was lost"};
    const step_fn steps[] = {ops()->unload, ops()->stop, ops()->find};

    find_it();
    w.stop_says = "";
    w.shell_fault = lost;
    for (unsigned i = 0; i < ELEMENTS(steps); i++) {
        ASK_SHELL(steps[i]);
        failed_with("lost", FAULT_UNCERTAIN);
    }
}

/* ---- start ---- */

Test(ollama, starts_a_server_that_answers)
{
    w.find_says = FOUND NONE;
    w.start_says = RUNS;
    find_it();
    ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
    went_well();
    cr_assert_not_null(strstr(w.script, "set -- 'start' 'ollama'") ? w.script
                                                                   : strstr(w.script, "set -- start ollama"));
    cr_assert_not_null(strstr(w.script, "OLLAMA_HOST=127.0.0.1:@PORT@"));
    cr_assert_not_null(strstr(w.script, "OLLAMA_KEEP_ALIVE=-1"));
    cr_assert_not_null(strstr(w.script, "@BASE@/ollama/models"));
    cr_assert_not_null(strstr(w.script, "/usr/local/bin/ollama"));
    cr_assert_eq(w.engine->facts.pid, 77);
    cr_assert_str_eq(w.engine->facts.version, "0.32.15");
    w.n_scripts = 0;
    ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
    went_well();
    cr_assert_eq(w.n_scripts, 0, "it runs: nothing is started");
}

/* Its own default grows with the card, and spills to the processor (reference/lease.md §5). */
Test(ollama, the_context_is_as_long_as_the_cards_and_the_model_allow)
{
    static const struct {
        const char *model, *cards;
        long least, most;
    } rows[] = {
        {"deepseek-r1:32b", "chip=nvidia\nNVIDIA GeForce RTX 4090 D, 550.1, 24564, 1, 8.9\n", 13000, 14000},
        {"deepseek-r1:32b", "chip=nvidia\nNVIDIA GeForce RTX 4090 D, 550.1, 24564, 6000, 8.9\n", 4096, 4096},
        {"deepseek-r1:32b", "chip=nvidia\nA, 550.1, 24564, 1, 8.9\nA, 550.1, 24564, 1, 8.9\n", 32768, 32768},
        {"deepseek-r1:7b", "chip=nvidia\nNVIDIA GeForce RTX 4090 D, 550.1, 24564, 1, 8.9\n", 32768, 32768},
        {"deepseek-r1:7b", "chip=nvidia\nFailed to initialize NVML: Unknown Error\n", 8192, 8192},
        {"deepseek-r1:7b", "chip=nvidia\nGRID T4-8Q, 470.63.01, [N/A], [N/A], 7.5\n", 8192, 8192},
        {"deepseek-r1:7b", "chip=none\n", 8192, 8192},
        {"nobody-knows:7b", "chip=nvidia\nNVIDIA GeForce RTX 4090 D, 550.1, 24564, 1, 8.9\n", 8192, 8192},
    };

    w.find_says = FOUND NONE;
    w.start_says = RUNS;
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        w.cards_say = rows[i].cards;
        use_model(rows[i].model);
        ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
        went_well();
        const char *at = strstr(w.script, "OLLAMA_CONTEXT_LENGTH=");

        cr_assert_not_null(at);
        long context = atol(at + strlen("OLLAMA_CONTEXT_LENGTH="));

        cr_assert(context >= rows[i].least && context <= rows[i].most, "%u: %ld", i, context);
    }
}

Test(ollama, models_in_a_home_without_a_data_disk_stay_where_they_are)
{
    w.find_says = FOUND "models=/root/.ollama/models\nbase=/root/.llmhost\nok=1\n";
    w.start_says = RUNS;
    find_it();
    ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
    cr_assert_not_null(strstr(w.script, "/root/.ollama/models"));
    cr_assert_null(strstr(w.script, "@BASE@/ollama/models"));
}

Test(ollama, a_server_that_does_not_answer_yet_is_asked_again)
{
    w.find_says = FOUND NONE;
    w.start_says = RUNS;
    find_it();
    ASK(ops()->start, {.request = "", .then = REFUSE});
    cr_assert(w.again);
    cr_assert_eq(w.fault.kind, FAULT_NONE);
    ASK(ops()->start, {"GET /api/version", NULL, 502, {"bad gateway"}});
    cr_assert(w.again);
    ASK(ops()->start, {"GET /api/version", NULL, 0, {}, CUT});
    cr_assert(w.again);
}

Test(ollama, a_machine_without_forwarding_says_so_at_once_and_until_it_is_allowed)
{
    w.find_says = FOUND NONE;
    w.start_says = RUNS;
    find_it();
    ASK(ops()->start, {.request = "", .then = FORBID});
    failed_with("forwarding_forbidden", FAULT_DENIED);
    cr_assert_not_null(strstr(w.fault.text, "AllowTcpForwarding"));
    ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
    went_well();
    ASK(ops()->start, {.request = "", .then = REFUSE});
    cr_assert(w.again);
}

Test(ollama, a_server_that_is_silent_is_looked_at_after_5_s)
{
    find_it();
    w.exchanges = (const struct exchange[]){{"GET /api/version", NULL, 200, {}, HANG}};
    w.n_exchanges = 1;
    begin(ops()->start);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 1));
    loop_advance(w.loop, 5001);
    finish();
    cr_assert(w.again);
}

Test(ollama, a_server_that_ends_at_once_says_why)
{
    static const struct {
        const char *says, *code;
        enum fault_kind kind;
    } ends[] = {
        {DEAD("Error: listen tcp 127.0.0.1:21000: bind: address already in use"), "port_taken",
         FAULT_TRANSIENT},
        {DEAD("panic: $HOME is not defined"), "engine_exited", FAULT_GONE},
        {DEAD("ollama: error while loading shared libraries: libcudart.so.12: cannot open shared object "
              "file: No such file or "
              "directory"),
         "library_missing", FAULT_GONE},
        {NONE, "engine_exited", FAULT_GONE},
        {"error=disk_full cannot write /root/llmhost/run/ollama.log\n", "disk_full", FAULT_EXHAUSTED},
        {"error=busy another start or stop of ollama goes on\n", "busy", FAULT_TRANSIENT},
        {"error=something new\n", "", FAULT_INVALID},
        {"base=/root/llmhost\n", "", FAULT_TRANSIENT},
        {"", "", FAULT_TRANSIENT},
    };

    for (unsigned i = 0; i < ELEMENTS(ends); i++) {
        w.find_says = FOUND NONE;
        find_it();
        w.start_says = ends[i].says;
        ASK_SHELL(ops()->start);
        failed_with(ends[i].code, ends[i].kind);
        cr_assert_neq(w.fault.text[0], '\0');
    }
}

Test(ollama, a_server_found_on_its_way_out_is_started_anew_and_only_once)
{
    find_it();
    w.look_says = DEAD("bye");
    w.start_says = RUNS;
    ASK(ops()->start, {.request = "", .then = REFUSE}, {"GET /api/version", NULL, 200, {VERSION}});
    went_well();
    find_it();
    ASK(ops()->start, {.request = "", .then = REFUSE}, {.request = "", .then = REFUSE});
    failed_with("engine_exited", FAULT_GONE);
    cr_assert_not_null(strstr(w.fault.text, "bye"));
}

/* ---- prepare ---- */

Test(ollama, what_a_load_will_take_and_what_is_free)
{
    const struct engine_facts *f = &w.engine->facts;

    find_it();
    w.cards_say = "chip=nvidia\nNVIDIA A10, 550.1, 23028, 3028, 8.6\nmemory=1000000 kB\n";
    ASK(ops()->prepare, {"GET /api/ps", NULL, 200, {EMPTY}}, {"GET /api/tags", NULL, 200, {TAGS}});
    went_well();
    cr_assert_eq(f->load_bytes, 475018);
    cr_assert_eq(f->free_bytes, 20000ll * 1024 * 1024);
    w.cards_say = "chip=none\nmemory=1000000 kB max 5 0\n";
    ASK(ops()->prepare, {"GET /api/ps", NULL, 500, {"x"}}, {"GET /api/tags", NULL, 200, {EMPTY}});
    went_well();
    cr_assert_eq(f->load_bytes, -1);
    cr_assert_eq(f->free_bytes, 1024000000);
    w.cards_say = "chip=nvidia\nFailed to initialize NVML: Unknown Error\nmemory=1000000 kB\n";
    ASK(ops()->prepare, {.request = "", .then = REFUSE}, {.request = "", .then = REFUSE});
    went_well();
    cr_assert_eq(f->free_bytes, -1, "the card's is not known, and the host's is another's");
}

/* ---- load ---- */

Test(ollama, loads_and_keeps_what_the_engine_says_of_the_model)
{
    const struct engine_facts *f = &w.engine->facts;

    find_it();
    ASK(ops()->load, {"POST /api/generate", "{\"model\":\"tiny\",\"keep_alive\":-1}", 200, {LOADED}},
        {"POST /api/show", "{\"model\":\"tiny\"}", 200, {SHOW}}, {"GET /api/tags", NULL, 200, {TAGS}},
        {"GET /api/ps", NULL, 200, {PS("23632896")}});
    went_well();
    cr_assert_eq(f->size_bytes, 23632896);
    cr_assert_eq(f->size_vram_bytes, 23632896);
    cr_assert_eq(f->context, 4096);
    cr_assert_not_null(strstr(w.text, "100% GPU"), "%s", w.text);
    cr_assert_str_eq(json_get_text(json_get(f->shown, "show"), "modelfile"), "FROM x");
    cr_assert_str_eq(json_get_text(json_get(f->shown, "tag"), "name"), "tiny:latest");
    cr_assert_str_eq(json_get_text(f->shown, "version"), "0.32.15");
    ASK(ops()->load, {"POST /api/generate", NULL, 200, {LOADED}}, {"POST /api/show", NULL, 200, {SHOW}},
        {"GET /api/tags", NULL, 200, {TAGS}}, {"GET /api/ps", NULL, 200, {PS("0")}});
    cr_assert_not_null(strstr(w.text, "100% CPU"), "%s", w.text);
    ASK(ops()->load, {"POST /api/generate", NULL, 200, {LOADED}}, {"POST /api/show", NULL, 200, {SHOW}},
        {"GET /api/tags", NULL, 200, {TAGS}}, {"GET /api/ps", NULL, 200, {PS("10000000")}});
    cr_assert_not_null(strstr(w.text, "42% GPU, 58% CPU"), "%s", w.text);
}

/* ---- where it is loaded, by the memory of the cards ---- */

#define CARD(used) "chip=nvidia\nNVIDIA A10, 550.1, 23028, " used ", 8.6\n"

static void load_with(const char *before, const char *then, const char *ps)
{
    find_it();
    w.cards_say = before;
    w.cards_say_then = then;
    ASK(ops()->prepare, {"GET /api/ps", NULL, 200, {EMPTY}}, {"GET /api/tags", NULL, 200, {TAGS}});
    went_well();
    ASK(ops()->load, {"POST /api/generate", NULL, 200, {LOADED}}, {"POST /api/show", NULL, 200, {SHOW}},
        {"GET /api/tags", NULL, 200, {TAGS}}, {"GET /api/ps", NULL, 200, {ps}});
    went_well();
}

#define PS_LARGE(vram) "{\"models\":[{\"name\":\"tiny:latest\",\"size\":2147483648,\"size_vram\":" vram "}]}"

Test(ollama, what_was_measured_is_said)
{
    static const struct {
        const char *before, *after, *ps, *says;
        enum gpu_verdict verdict;
    } rows[] = {
        {CARD("10"), CARD("2100"), PS_LARGE("2147483648"), "100% GPU", GPU_WHOLE},
        {CARD("10"), CARD("12"), PS_LARGE("2147483648"), "100% CPU although it was planned for the GPU",
         GPU_NOT_USED},
        {CARD("10"), CARD("1010"), PS_LARGE("2147483648"), "partly on the CPU", GPU_PART},
        {CARD("10"), CARD("12"), PS_LARGE("0"), "100% CPU", GPU_NOT_USED},
        {CARD("10"), CARD("1100"), PS_LARGE("1073741824"), "50% GPU, 50% CPU", GPU_PART},
        {CARD("10"), "chip=nvidia\nFailed to initialize NVML: Unknown Error\n", PS_LARGE("2147483648"),
         "100% GPU~", GPU_UNMEASURED},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        load_with(rows[i].before, rows[i].after, rows[i].ps);
        cr_assert_eq(w.engine->facts.measured, rows[i].verdict, "row %zu", i);
        cr_assert_not_null(strstr(w.text, rows[i].says), "row %zu: %s", i, w.text);
        cr_assert_eq(w.engine->facts.gpu.n, i < 5);
    }
}

/* Its memory is in the figures before; what was measured then stays true. */
Test(ollama, a_model_that_is_loaded_already_is_not_measured_anew)
{
    load_with(CARD("10"), CARD("2100"), PS_LARGE("2147483648"));
    ASK(ops()->prepare, {"GET /api/ps", NULL, 200, {PS_LARGE("2147483648")}});
    went_well();
    cr_assert_eq(w.engine->facts.load_bytes, 0, "it takes no more than it has");
    ASK(ops()->load, {"POST /api/generate", NULL, 200, {LOADED}}, {"POST /api/show", NULL, 200, {SHOW}},
        {"GET /api/tags", NULL, 200, {TAGS}}, {"GET /api/ps", NULL, 200, {PS_LARGE("2147483648")}});
    went_well();
    cr_assert_eq(w.engine->facts.measured, GPU_WHOLE);
    cr_assert_not_null(strstr(w.text, "100% GPU"), "%s", w.text);
}

Test(ollama, a_loaded_model_is_ready_although_nothing_more_is_told_of_it)
{
    find_it();
    ASK(ops()->load, {"POST /api/generate", NULL, 200, {LOADED}},
        {"POST /api/show", NULL, 500, {"{\"error\":\"x\"}"}},
        {"GET /api/tags", NULL, 200, {"not JSON"}, CLOSE}, {"GET /api/ps", NULL, 0, {}, CUT});
    went_well();
    cr_assert_str_eq(w.text, "loaded");
    cr_assert_not_null(w.engine->facts.shown);
    cr_assert_null(json_get(w.engine->facts.shown, "show"));
}

Test(ollama, a_model_that_only_embeds_is_loaded_by_an_embedding)
{
    find_it();
    ASK(ops()->load,
        {"POST /api/generate", NULL, 400, {"{\"error\":\"\\\"tiny\\\" does not support generate\"}"}},
        {"POST /api/embed", "\"tiny\"", 200, {"{}"}}, {"POST /api/show", NULL, 200, {SHOW}},
        {"GET /api/tags", NULL, 200, {TAGS}}, {"GET /api/ps", NULL, 200, {EMPTY}});
    went_well();
    ASK(ops()->load,
        {"POST /api/generate", NULL, 400, {"{\"error\":\"\\\"tiny\\\" does not support generate\"}"}},
        {"POST /api/embed", NULL, 400, {"{\"error\":\"\\\"tiny\\\" does not support generate\"}"}});
    failed_with("engine_failed", FAULT_INVALID);
}

Test(ollama, why_a_model_cannot_be_loaded)
{
    static const struct {
        int status;
        const char *body, *code;
        enum fault_kind kind;
    } ends[] = {
        {500, "{\"error\":\"llama runner process has terminated: cudaMalloc failed: out of memory\"}",
         "out_of_memory", FAULT_EXHAUSTED},
        {500, "{\"error\":\"llama-server reported out-of-memory during startup: ErrorOutOfDeviceMemory\"}",
         "out_of_memory", FAULT_EXHAUSTED},
        {500, "{\"error\":\"llama-server reported out-of-memory during startup: \"}", "out_of_memory",
         FAULT_EXHAUSTED},
        {500, "{\"error\":\"model requires more system memory (12.0 GiB) than is available (3.1 GiB)\"}",
         "machine_out_of_memory", FAULT_EXHAUSTED},
        {500, "{\"error\":\"llama-server process has terminated: hipMalloc failed\"}", "out_of_memory",
         FAULT_EXHAUSTED},
        {500, "{\"error\":\"llama-server process has terminated: allocation failed\"}", "out_of_memory",
         FAULT_EXHAUSTED},
        {500, "{\"error\":\"unable to load model: /root/.ollama/models/blobs/sha256-27e5\"}",
         "model_unreadable", FAULT_INVALID},
        {500, "{\"error\":\"timed out waiting for llama runner to start - progress 0.35 - \"}",
         "engine_failed", FAULT_INVALID},
        {404, "{\"error\":\"model 'tiny' not found\"}", "model_unknown", FAULT_TRANSIENT},
        {404, "{\"error\":\"model \\\"tiny\\\" not found, try pulling it first\"}", "model_unknown",
         FAULT_TRANSIENT},
        {503, "{\"error\":\"server busy, please try again.  maximum pending requests exceeded\"}", "busy",
         FAULT_TRANSIENT},
        {500, "", "engine_failed", FAULT_INVALID},
        {403, "", "engine_failed", FAULT_INVALID},
    };

    find_it();
    for (unsigned i = 0; i < ELEMENTS(ends); i++) {
        ASK(ops()->load, {"POST /api/generate", NULL, ends[i].status, {*ends[i].body ? ends[i].body : NULL}});
        failed_with(ends[i].code, ends[i].kind);
        cr_assert_not_null(strstr(w.fault.text, "tiny cannot be loaded: "), "%s", w.fault.text);
    }
}

Test(ollama, a_connection_that_breaks_while_it_loads_tells_dead_from_busy)
{
    find_it();
    ASK(ops()->load, {"POST /api/generate", NULL, 0, {}, CUT});
    failed_with("lost", FAULT_TRANSIENT);
    w.look_says = DEAD("CUDA error: out of memory");
    ASK(ops()->load, {"POST /api/generate", NULL, 0, {}, CUT});
    failed_with("out_of_memory", FAULT_EXHAUSTED);
    w.look_says = DEAD("signal: killed");
    find_it();
    ASK(ops()->load, {"POST /api/generate", NULL, 0, {}, CUT});
    failed_with("engine_crashed", FAULT_TRANSIENT);
}

#define WITH_KILLS(n)                                                                                        \
    "base=/root/llmhost\nlog=/root/llmhost/run/x.log\npid=77\nport=21000\nkills=" n "\nlimit=1073741824\nok=1\n"

Test(ollama, a_runner_that_was_killed_is_asked_after)
{
    static const char killed[] = "{\"error\":\"llama runner process has terminated: signal: killed\"}";

    find_it();
    w.look_says = WITH_KILLS("0");
    ASK(ops()->load, {"POST /api/generate", NULL, 500, {killed}});
    failed_with("engine_crashed", FAULT_TRANSIENT);
    w.look_says = WITH_KILLS("1");
    ASK(ops()->load, {"POST /api/generate", NULL, 500, {killed}});
    failed_with("machine_out_of_memory", FAULT_EXHAUSTED);
    cr_assert_not_null(strstr(w.fault.text, "tiny cannot be loaded: "), "%s", w.fault.text);
    cr_assert_not_null(strstr(w.fault.text, "1.1 GB"), "%s", w.fault.text);
    w.shell_fault = (struct fault){FAULT_TRANSIENT, -ECONNRESET, "lost", "the connection was lost"};
    ASK(ops()->load, {"POST /api/generate", NULL, 500, {killed}});
    failed_with("engine_crashed", FAULT_TRANSIENT);
}

Test(ollama, a_server_that_ended_with_its_machine_says_so)
{
    find_it();
    w.look_says = "base=/root/llmhost\nlog=/root/llmhost/run/x.log\nlast_line=error: x\nrestarted=1\nok=1\n";
    ASK(ops()->probe, {.request = "", .then = REFUSE});
    failed_with("machine_restarted", FAULT_GONE);
    cr_assert_str_eq(w.fault.text, "gpu1 was restarted, and ollama ended with it");
}

Test(ollama, a_server_of_another_llmhostd_that_was_ended_says_so)
{
    static const char *const ended[] = {"", "ended=0\n", "last_line=bye\nended=143\n"};
    char says[200];

    for (unsigned i = 0; i < ELEMENTS(ended); i++) {
        w.find_says = FOUND "foreign=theirs\n" RUNS;
        find_it();
        snprintf(says, sizeof says, "base=/root/llmhost\nlog=/root/llmhost/run/x.log\n%sok=1\n", ended[i]);
        w.look_says = says;
        ASK(ops()->probe, {.request = "", .then = REFUSE});
        failed_with("engine_ended_elsewhere", FAULT_GONE);
        cr_assert_str_eq(w.fault.text, "ollama on gpu1 was another llmhostd's, and has ended");
    }
    find_it();
    w.look_says = "base=/root/llmhost\nlog=/root/llmhost/run/x.log\nended=139\nok=1\n";
    ASK(ops()->probe, {.request = "", .then = REFUSE});
    failed_with("engine_crashed", FAULT_TRANSIENT);
}

Test(ollama, a_load_has_half_an_hour)
{
    find_it();
    w.exchanges = (const struct exchange[]){{"POST /api/generate", NULL, 0, {}, HANG}};
    w.n_exchanges = 1;
    begin(ops()->load);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 1));
    loop_advance(w.loop, 29 * 60 * 1000);
    cr_assert_eq(w.n_done, 0);
    loop_advance(w.loop, 61 * 1000);
    finish();
    failed_with("lost", FAULT_TRANSIENT);
}

/* ---- probe, unload, stop ---- */

Test(ollama, a_probe_tells_dead_from_silent)
{
    find_it();
    ASK(ops()->probe, {"GET /api/ps", NULL, 200, {PS("5")}});
    went_well();
    cr_assert_eq(w.engine->facts.size_vram_bytes, 5);
    ASK(ops()->probe, {"GET /api/ps", NULL, 200, {EMPTY}});
    cr_assert_eq(w.fault.kind, FAULT_NONE);
    cr_assert(w.again, "it lives, and has unloaded the model");
    ASK(ops()->probe, {.request = "", .then = REFUSE});
    failed_with("no_answer", FAULT_TRANSIENT);
    cr_assert_str_eq(w.fault.text, "ollama runs on gpu1, but does not answer");
    w.look_says = "base=/root/llmhost\nlog=/root/llmhost/run/x.log\npid=77\nport=21000\nlast_words=runner "
                  "started\nok=1\n";
    ASK(ops()->probe, {.request = "", .then = REFUSE});
    cr_assert_str_eq(w.fault.text,
                     "ollama runs on gpu1, but does not answer; its log ends with: runner started");
    w.look_says = DEAD("fatal error: runtime");
    ASK(ops()->probe, {.request = "", .then = REFUSE});
    failed_with("engine_exited", FAULT_GONE);
    cr_assert_not_null(strstr(w.fault.text, "fatal error: runtime"));
}

Test(ollama, a_list_that_is_locked_is_no_silence)
{
    static const struct exchange exchanges[] = {{"GET /api/ps", NULL, 0, {}, HANG}, {"GET /api/version", NULL, 200, {VERSION}}};

    find_it();
    w.exchanges = exchanges;
    w.n_exchanges = 2;
    begin(ops()->probe);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 1));
    loop_advance(w.loop, 5001);
    finish();
    went_well();
    w.engine->patience_ms = 15000;
    w.look_says = "base=/root/llmhost\nlog=/root/llmhost/run/x.log\npid=77\nport=21000\nstate=T\nticks=123\nkills=0\nok=1\n";
    w.exchanges = (const struct exchange[]){{"GET /api/ps", NULL, 0, {}, HANG}, {"GET /api/version", NULL, 0, {}, HANG}};
    w.next = 0;
    begin(ops()->probe);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 1));
    loop_advance(w.loop, 5001);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 2));
    loop_advance(w.loop, 14900);
    cr_assert_eq(w.n_done, 0);
    loop_advance(w.loop, 101);
    finish();
    failed_with("no_answer", FAULT_TRANSIENT);
    cr_assert_eq(w.engine->facts.computed_ms, 1230);
    cr_assert(w.engine->facts.stopped);
}

Test(ollama, a_hung_server_is_ended_by_the_next_start)
{
    find_it();
    w.engine->hung_pid = 77;
    w.start_says = RUNS;
    ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
    went_well();
    cr_assert_not_null(strstr(w.script, " 77\n"), "%.300s", w.script);
    w.engine->hung_pid = 76;
    w.n_scripts = 0;
    find_it();
    w.n_scripts = 0;
    ASK(ops()->start, {"GET /api/version", NULL, 200, {VERSION}});
    cr_assert_eq(w.n_scripts, 0, "it is another one, and runs");
}

Test(ollama, one_that_ended_without_a_word_why_is_not_given_a_reason)
{
    find_it();
    w.look_says = "base=/root/llmhost\nlog=/root/llmhost/run/x.log\nlast_words=slots are idle\nok=1\n";
    ASK(ops()->probe, {.request = "", .then = REFUSE});
    failed_with("engine_exited", FAULT_GONE);
    cr_assert_str_eq(w.fault.text,
                     "ollama ended on gpu1, and its log does not say why; it ends with: slots are idle");
}

Test(ollama, its_probes_are_told_from_requests_in_its_log)
{
    static const char head[] = "[GIN] 2026/11/27 - 12:14:10 | 200 |     142.181µs |       127.0.0.1 | ";
    static const struct {
        const char *rest;
        bool probe;
    } rows[] = {{"GET      \"/api/ps\"", true},
                {"GET      \"/api/version\"", true},
                {"POST     \"/v1/chat/completions\"", false},
                {"POST     \"/api/generate\"", false}};

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *line = xasprintf("%s%s", head, rows[i].rest);

        cr_assert_eq(ops()->is_probe_line(line), rows[i].probe, "%s", line);
    }
    cr_assert_not(ops()->is_probe_line("loading \"/api/ps\""), "a line of another kind");
}

Test(ollama, whoever_has_the_port_of_a_dead_server_is_not_taken_for_it)
{
    find_it();
    w.engine->suspect = true;
    ASK(ops()->probe, {"GET /api/ps", NULL, 200, {PS("5")}});
    went_well();
    cr_assert(!w.engine->suspect);
    cr_assert_not_null(strstr(w.script, "set -- look") ? w.script : strstr(w.script, "set -- 'look'"));
    w.engine->suspect = true;
    w.look_says = DEAD("killed");
    ASK_SHELL(ops()->probe); /* somebody would answer; nobody is asked */
    failed_with("engine_exited", FAULT_GONE);
    w.engine->suspect = true;
    w.shell_fault = (struct fault){FAULT_TRANSIENT, -ECONNRESET, "lost", "the connection was lost"};
    ASK_SHELL(ops()->probe);
    failed_with("lost", FAULT_TRANSIENT);
    cr_assert(w.engine->suspect);
}

Test(ollama, unloading_what_is_not_loaded_is_done)
{
    find_it();
    ASK(ops()->unload,
        {"POST /api/generate", "\"keep_alive\":0", 200, {"{\"done\":true,\"done_reason\":\"unload\"}"}});
    went_well();
    ASK(ops()->unload, {"POST /api/generate", NULL, 404, {"{\"error\":\"model 'tiny' not found\"}"}});
    went_well();
    ASK(ops()->unload, {"POST /api/generate", NULL, 0, {}, CUT});
    cr_assert_eq(w.fault.kind, FAULT_UNCERTAIN, "%s", w.fault.text);
    w.look_says = NONE;
    ASK_SHELL(ops()->unload);
    went_well();
}

Test(ollama, a_stop_leaves_no_server)
{
    find_it();
    w.stop_says = "gone=1\nok=1\n";
    ASK_SHELL(ops()->stop);
    went_well();
    cr_assert_eq(w.engine->facts.pid, -1);
    cr_assert_eq(w.engine->facts.port, 0);
    w.stop_says = "error=engine_stuck process 77 does not end\n";
    ASK_SHELL(ops()->stop);
    failed_with("engine_stuck", FAULT_EXHAUSTED);
}

Test(ollama, whoever_leaves_hears_nothing_whenever_he_leaves)
{
    static const struct exchange fetch[] = {{"GET /api/tags", NULL, 200, {EMPTY}, KEEP_OPEN},
                                            {"POST /api/pull",
                                             NULL,
                                             200,
                                             {LAYER("27e5", "3000", ",\"completed\":2000"),
                                              "{\"status\":\"success\"}"},
                                             KEEP_OPEN}},
                                 load[] = {{"POST /api/generate", NULL, 200, {LOADED}, KEEP_OPEN},
                                           {"POST /api/show", NULL, 200, {SHOW}, KEEP_OPEN},
                                           {"GET /api/tags", NULL, 200, {TAGS}, KEEP_OPEN},
                                           {"GET /api/ps", NULL, 200, {PS("1")}, KEEP_OPEN}},
                                 prepare[] = {{"GET /api/ps", NULL, 200, {EMPTY}, KEEP_OPEN},
                                              {"GET /api/tags", NULL, 200, {TAGS}, KEEP_OPEN}},
                                 start[] = {{"GET /api/version", NULL, 200, {VERSION}, KEEP_OPEN}},
                                 probe[] = {{.request = "", .then = REFUSE}},
                                 unload[] = {{"POST /api/generate", NULL, 200, {LOADED}, KEEP_OPEN}};
    const struct engine_ops *o = ops();

    w.start_says = RUNS;
    w.stop_says = "ok=1\n";
    leave_at_every_turn("ollama", "tiny", o->find, NULL, NULL, 0);
    leave_at_every_turn("ollama", "tiny", o->start, FOUND NONE, start, ELEMENTS(start));
    leave_at_every_turn("ollama", "tiny", o->fetch, FOUND RUNS, fetch, ELEMENTS(fetch));
    leave_at_every_turn("ollama", "tiny", o->prepare, FOUND RUNS, prepare, ELEMENTS(prepare));
    leave_at_every_turn("ollama", "tiny", o->load, FOUND RUNS, load, ELEMENTS(load));
    leave_at_every_turn("ollama", "tiny", o->probe, FOUND RUNS, probe, ELEMENTS(probe));
    leave_at_every_turn("ollama", "tiny", o->unload, FOUND RUNS, unload, ELEMENTS(unload));
    leave_at_every_turn("ollama", "tiny", o->stop, FOUND RUNS, NULL, 0);
}
