/* links: engine
 *
 * The ollama driver fetches a model: progress, cuts, what the registry says. */
#include "tests/unit/ollama_world.h"

TestSuite(ollama_fetch, .init = setup, .fini = world_end, .timeout = 60);

Test(ollama_fetch, a_model_that_is_there_is_not_fetched)
{
    static const struct {
        const char *wanted, *listed;
        bool same;
    } names[] = {
        {"tiny", "tiny:latest", true},
        {"tiny:latest", "tiny:latest", true},
        {"Tiny", "tiny:latest", true},
        {"tiny:1b", "tiny:latest", false},
        {"tiny", "tiny:1b", false},
        {"tin", "tiny:latest", false},
        {"tiny", "tiny2:latest", false},
        {"hf.co/A/B-GGUF:Q4_K_M", "hf.co/A/B-GGUF:Q4_K_M", true},
        {"hf.co/A/B", "hf.co/A/B:latest", true},
        {"10.0.0.1:5000/a/b", "10.0.0.1:5000/a/b:latest", true},
        {"tiny:latest", "tiny:latest:latest", false},
    };

    for (unsigned i = 0; i < ELEMENTS(names); i++) {
        char list[200];

        use_model(names[i].wanted);
        snprintf(list, sizeof list, "{\"models\":[{\"name\":\"other:latest\"},{\"name\":\"%s\",\"size\":1}]}",
                 names[i].listed);
        if (names[i].same) {
            ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {list}});
            cr_assert_str_eq(w.text, "already on the disk", "%s", names[i].wanted);
        } else {
            ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {list}},
                {"POST /api/pull", names[i].wanted, 200, {"{\"status\":\"success\"}\n"}});
            cr_assert_str_eq(w.text, "fetched", "%s", names[i].wanted);
        }
        went_well();
    }
}

Test(ollama_fetch, tells_of_a_download_layer_by_layer)
{
    find_it();
    ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}},
        {"POST /api/pull",
         "\"stream\":true",
         200,
         {"{\"status\":\"pulling manifest\"}\n" LAYER("27e5", "30474752", "")
              LAYER("27e5", "30474752", ",\"completed\":12845056"),
          LAYER("aaaa", "500", ",\"completed\":500") "{\"status\":\"pulling 27e5\",\"digest\":\"sha25",
          "6:27e5\",\"total\":30474752,\"completed\":1000}\n" LAYER("27e5", "30474752",
                                                                    ",\"completed\":30474752"),
          "{\"status\":\"verifying sha256 digest\"}\n{\"status\":\"writing manifest\"}\n",
          "{\"status\":\"success\"}"}});
    went_well();
    cr_assert_eq(w.bytes, 30474752 + 500, "%lld", (long long)w.bytes);
    cr_assert_eq(w.bytes_total, 30474752 + 500);
    cr_assert_str_eq(w.text, "fetched");
    cr_assert_eq(strncmp(w.texts, "asking for tiny\n", 16), 0, "%s", w.texts);
}

/* Begins a pull that says no more after pieces. */
static void pull_hangs(const char *first)
{
    static struct exchange x[2];

    x[0] = (struct exchange){"GET /api/tags", NULL, 200, {EMPTY}, KEEP_OPEN};
    x[1] = (struct exchange){"POST /api/pull", NULL, 200, {first}, HANG};
    w.exchanges = x;
    w.n_exchanges = 2;
    w.next = 0;
    begin(ops()->fetch);
    cr_assert(LOOP_UNTIL(w.loop, w.next == 2 && w.n_progress >= 2));
    loop_turns(w.loop, 3);
}

static void pull_goes_on(const char *piece)
{
    for (unsigned i = 0; i < ELEMENTS(w.peers); i++)
        if (w.peers[i].stream)
            peer_send_piece(&w.peers[i], piece);
    loop_turns(w.loop, 10);
}

Test(ollama_fetch, what_is_reported_never_goes_back)
{
    find_it();
    pull_hangs(LAYER("27e5", "3000", ",\"completed\":2000"));
    cr_assert_eq(w.bytes, 2000);
    loop_advance(w.loop, 200);
    pull_goes_on(LAYER("27e5", "3000", ",\"completed\":50"));
    cr_assert_eq(w.bytes, 2000);
    cr_assert_eq(w.bytes_total, 3000);
    cr_assert_str_eq(w.text, "downloading");
    loop_advance(w.loop, 200);
    pull_goes_on(LAYER("27e5", "3000", ",\"completed\":2500"));
    cr_assert_eq(w.bytes, 2500);
    unsigned n = w.n_progress;

    for (unsigned i = 0; i < 100; i++)
        pull_goes_on(LAYER("27e5", "3000", ",\"completed\":2500"));
    cr_assert_leq(w.n_progress, n + 40, "about 10 a second");
}

Test(ollama_fetch, a_download_that_does_not_grow_is_given_up)
{
    find_it();
    pull_hangs(LAYER("27e5", "3000", ",\"completed\":2000"));
    for (unsigned i = 0; i < 11; i++) {
        loop_advance(w.loop, 10000);
        pull_goes_on(LAYER("27e5", "3000", ",\"completed\":2000"));
        cr_assert_eq(w.n_done, 0);
    }
    loop_advance(w.loop, 10001);
    pull_goes_on(LAYER("27e5", "3000", ",\"completed\":2000"));
    finish();
    failed_with("stalled", FAULT_TRANSIENT);
}

Test(ollama_fetch, verifying_for_a_long_time_is_no_stall_and_silence_without_end_is)
{
    find_it();
    pull_hangs(LAYER("27e5", "3000", ",\"completed\":3000"));
    pull_goes_on("{\"status\":\"verifying sha256 digest\"}\n");
    loop_advance(w.loop, 15 * 60 * 1000);
    cr_assert_eq(w.n_done, 0);
    pull_goes_on("{\"status\":\"writing manifest\"}\n");
    cr_assert_eq(w.n_done, 0, "%s", w.fault.text);
    pull_goes_on("{\"status\":\"removing unused layers\"}\n");
    cr_assert_eq(w.n_done, 0, "%s", w.fault.text);
    loop_advance(w.loop, 21 * 60 * 1000);
    finish();
    cr_assert_eq(w.fault.kind, FAULT_UNCERTAIN, "%s", w.fault.text);
    cr_assert_eq(w.fault.error, -ETIMEDOUT);
}

Test(ollama_fetch, the_engines_own_words_become_codes)
{
    static const struct {
        const char *line, *code;
        enum fault_kind kind;
    } ends[] = {
        {"{\"error\":\"pull model manifest: file does not exist\"}\n", "model_unknown", FAULT_GONE},
        {"{\"error\":\"context canceled\"}\n", "lost", FAULT_TRANSIENT},
        {"{\"error\":\"404: page not found\"}\n", "model_unknown", FAULT_GONE},
        {"{\"error\":\"write /m/blobs/sha256-27e5-partial: no space left on device\"}\n", "disk_full",
         FAULT_EXHAUSTED},
        {"{\"error\":\"digest mismatch, file must be downloaded again: want sha256:1, got sha256:2\"}\n",
         "digest_mismatch", FAULT_TRANSIENT},
        {"{\"error\":\"pull model manifest: Get \\\"https://r.example/v2/\\\": dial tcp: lookup r.example: "
         "no such host\"}\n",
         "registry_unreachable", FAULT_TRANSIENT},
        {"{\"error\":\"pull model manifest: Get \\\"https://r.example/v2/\\\": dial tcp 10.0.0.1:443: "
         "connect: connection refused\"}\n",
         "registry_unreachable", FAULT_TRANSIENT},
        {"{\"error\":\"max retries exceeded: unexpected EOF\"}\n", "registry_unreachable", FAULT_TRANSIENT},
        {"{\"error\":\"EOF\"}\n", "registry_unreachable", FAULT_TRANSIENT},
        {"{\"error\":\"pull model manifest: 503: upstream\"}\n", "registry_failed", FAULT_TRANSIENT},
        {"{\"error\":\"500: of a blob\"}\n", "registry_failed", FAULT_TRANSIENT},
        {"{\"error\":\"pull model manifest: 429: {\\\"error\\\":\\\"We had to rate limit your IP\\\"}\"}\n", "registry_busy",
         FAULT_TRANSIENT},
        {"{\"error\":\"pull model manifest: 401: {\\\"error\\\":\\\"Invalid username or password.\\\"}\"}\n", "login_needed",
         FAULT_DENIED},
        {"{\"error\":\"pull model manifest: unauthorized: access denied\"}\n", "login_needed", FAULT_DENIED},
        {"{\"error\":\"pull model manifest: Get \\\"?nonce=1\\\": unsupported protocol scheme \\\"\\\"\"}\n", "login_needed",
         FAULT_DENIED},
        {"{\"error\":\"pull model manifest: 400: The specified tag is not a valid quantization scheme. Please use another tag or "
         "\\\"latest\\\"\"}\n",
         "tag_unknown", FAULT_GONE},
        {"{\"error\":\"open /m/blobs/sha256-27e5-partial: no such file or directory\"}\n", "lost", FAULT_TRANSIENT},
        {"{\"error\":\"pull model manifest: tls: failed to verify certificate: x509: certificate signed by "
         "unknown authority\"}\n",
         "registry_unreachable", FAULT_INVALID},
        {"{\"error\":\"pull model manifest: 412: The model you are attempting to pull requires a newer "
         "version of Ollama.\"}\n",
         "engine_failed", FAULT_INVALID},
        {"", "lost", FAULT_TRANSIENT},
        {"{\"status\":\"pulling manifest\"}\n", "lost", FAULT_TRANSIENT},
        {"{\"status\":\"writing manifest\"}\nnot JSON\n[]\n\n", "lost", FAULT_TRANSIENT},
    };

    find_it();
    for (unsigned i = 0; i < ELEMENTS(ends); i++) {
        ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}},
            {"POST /api/pull",
             NULL,
             200,
             {"{\"status\":\"pulling manifest\"}\n", *ends[i].line ? ends[i].line : NULL}});
        failed_with(ends[i].code, ends[i].kind);
        cr_assert_not_null(strstr(w.fault.text, "tiny"), "%s", w.fault.text);
    }
}

Test(ollama_fetch, a_pull_that_is_refused_broken_off_or_floods)
{
    static char flood[300 * 1024];

    find_it();
    ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}},
        {"POST /api/pull", NULL, 500, {"{\"error\":\"dial tcp: x\"}"}});
    failed_with("registry_unreachable", FAULT_TRANSIENT);
    ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}}, {"POST /api/pull", NULL, 503, {"busy"}});
    failed_with("busy", FAULT_TRANSIENT);
    ASK(ops()->fetch, {"GET /api/tags", NULL, 503, {"{}"}});
    failed_with("busy", FAULT_TRANSIENT);
    ASK(ops()->fetch, {.request = "", .then = REFUSE});
    cr_assert_eq(w.fault.kind, FAULT_TRANSIENT, "%s", w.fault.text);
    ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}},
        {"POST /api/pull", NULL, 200, {LAYER("27e5", "3000", ",\"completed\":2000")}, CUT});
    cr_assert_eq(w.fault.kind, FAULT_UNCERTAIN, "%s", w.fault.text);
    ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}});
    cr_assert(w.again, "it is still giving up");
    loop_advance(w.loop, 2000);
    memset(flood, 'x', sizeof flood - 1);
    memcpy(flood + sizeof flood - 30, "\n{\"status\":\"success\"}\n", 22);
    flood[sizeof flood - 8] = '\0';
    pull_hangs("{\"status\":\"pulling manifest\"}\n");
    for (char *p = flood; *p;) {
        char piece[8001];

        snprintf(piece, sizeof piece, "%.8000s", p);
        p += strlen(piece);
        pull_goes_on(piece);
    }
    for (unsigned i = 0; i < ELEMENTS(w.peers); i++)
        if (w.peers[i].stream)
            peer_send(&w.peers[i], "0\r\n\r\n", 5);
    finish();
    went_well();
}

Test(ollama_fetch, more_layers_than_there_is_room_for_do_no_harm)
{
    static char text[200 * 160];
    size_t n = 0;

    for (unsigned i = 0; i < 200; i++)
        n += (size_t)snprintf(
            text + n, sizeof text - n,
            "{\"status\":\"pulling "
            "%u\",\"digest\":\"sha256:%060u\",\"total\":10,\"completed\":9223372036854775807}\n",
            i, i);
    find_it();
    ASK(ops()->fetch, {"GET /api/tags", NULL, 200, {EMPTY}},
        {"POST /api/pull", NULL, 200, {text, "{\"status\":\"success\"}\n"}});
    went_well();
}
