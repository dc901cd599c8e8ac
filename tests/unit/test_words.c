/* links: control
 *
 * What people are told when something does not work: the sentence, the exit status, the command that helps. What the client says by
 * itself (no daemon, a socket of somebody else, another version) is among the screens of tests/golden; a stream that is cut off, in
 * test_request.c; a machine that forbids forwarding, in tests/lab. */
#include "deployment/deployment_private.h"
#include "session/session_private.h"
#include "tests/unit/control_world.h"

TestSuite(words, .init = world_begin, .fini = world_end, .timeout = 60);

static struct deployment *add_model(void)
{
    struct deployment *d;

    json_free(answers("InstanceAdd", "{\"name\":\"gpu1\",\"provider\":\"local\"}"));
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}"));
    d = manager_find_deployment(w.manager, "ollama:tiny");
    cr_assert(LOOP_UNTIL(w.loop, deployment_state(d) == DEPLOYMENT_FAILED));
    return d;
}

Test(words, an_unknown_name_is_repeated_with_the_near_one)
{
    static const struct {
        const char *target, *message, *why;
    } rows[] = {
        {"ollama:tinny", "no model \"ollama:tinny\"", "close: ollama:tiny"},
        {"gpu2", "no instance or model \"gpu2\"", "close: gpu1"},
        {"vllm:*", "nothing matches \"vllm:*\"", "(none)"},
        {"somewhere-else", "no instance or model \"somewhere-else\"", "(none)"},
    };

    add_model();
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        static const char *const methods[] = {"Status", "Ps", "Why"};

        for (unsigned k = 0; k < ELEMENTS(methods); k++) {
            _cleanup_free_ char *call = xasprintf("{\"method\":\"io.llmhost.%s\",\"parameters\":{\"targets\":[\"%s\"]}}",
                                                  methods[k], rows[i].target);

            refuses(call, "io.llmhost.NotFound", "message", rows[i].message);
            refuses(call, "io.llmhost.NotFound", "why", rows[i].why);
            refuses(call, "io.llmhost.NotFound", "code", "not_found");
        }
    }
}

/* The fault's own sentence, whoever asks: the gate for scripts, status, why. */
Test(words, a_failed_model_says_what_went_wrong_with_its_own_error_and_command)
{
    static const struct {
        enum fault_kind kind;
        const char *code, *text, *error, *next;
        int exit;
    } rows[] = {
        {FAULT_DENIED, "forwarding_forbidden", "gpu1 lets nobody through to its ports", "TunnelFailed",
         "llmhostctl up ollama:tiny", 9},
        {FAULT_DENIED, "host_key", "gpu1 shows another host key than before", "TunnelFailed", "llmhostctl doctor ollama:tiny", 9},
        {FAULT_TRANSIENT, "no_answer", "ollama runs on gpu1, but does not answer", "EngineFailed",
         "llmhostctl logs ollama:tiny", 13},
        {FAULT_EXHAUSTED, "out_of_memory", "out of GPU memory", "EngineFailed", "llmhostctl logs ollama:tiny", 13},
    };
    struct deployment *d = add_model();

    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_free_ char *error = xasprintf("io.llmhost.%s", rows[i].error);

        fault_code(&d->fault, rows[i].kind, rows[i].code, "%s", rows[i].text);
        refuses("{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"ollama:tiny\"}}", error, "message", rows[i].text);
        _cleanup_json_ struct json *v = answers("Status", "{}");
        const struct json *trouble = json_at(json_get(v, "trouble"), 0);

        cr_assert_str_eq(json_get_text(trouble, "code"), rows[i].code);
        cr_assert_str_eq(json_get_text(trouble, "message"), rows[i].text);
        cr_assert_eq(json_get_int(trouble, "exit", 0), rows[i].exit, "%s", rows[i].code);
        cr_assert_str_eq(json_text(json_at(json_get(trouble, "next"), 0)), rows[i].next);
    }
}

/* An instance of an earlier life, on a port where nobody listens, with a model wanted there. */
static struct session *add_unreachable(void)
{
    const struct instance_record r = {
        .name = "gpu2", .provider = "ssh", .host = "127.0.0.1", .port = free_port(), .user = "root"};
    struct session *s;

    store_put_instance(w.store, &r);
    caller_leaves(&w.caller);
    daemon_ends();
    loop_turns(w.loop, 5);
    daemon_begins();
    caller_comes(&w.caller);
    s = lease_session(manager_find_lease(w.manager, "gpu2"));
    cr_assert(LOOP_UNTIL(w.loop, session_fault(s)->kind != FAULT_NONE));
    json_free(answers("Up", "{\"model\":\"ollama:tiny\",\"wait\":false}"));
    cr_assert(LOOP_UNTIL(w.loop, session_fault(s)->kind != FAULT_NONE));
    return s;
}

/* What the last try met is said while the way is looked for, and again after each try. */
Test(words, a_machine_that_does_not_answer_yet_is_said_while_it_is_waited_for)
{
    struct session *s = add_unreachable();
    unsigned told = 0;

    say(&w.caller, "{\"method\":\"io.llmhost.Up\",\"parameters\":{\"model\":\"ollama:tiny\"},\"more\":true}");
    json_free(hear(&w.caller)); /* where it goes */
    while (told < 2) {
        _cleanup_json_ struct json *v = hear(&w.caller);
        const struct json *p = json_get(json_get(v, "parameters"), "progress");

        cr_assert_str_eq(json_get_text(p, "stage"), "ssh");
        cr_assert_str_eq(json_get_text(p, "state"), "running");
        cr_assert_str_eq(json_get_text(p, "text"), session_fault(s)->text);
        told++;
    }
    cr_assert(strstr(session_fault(s)->text, "127.0.0.1"), "%s", session_fault(s)->text);
    caller_leaves(&w.caller);
    caller_comes(&w.caller);
}

/* Its server comes back, and sends us away. */
static void refuse(struct session *s, const char *why)
{
    s->state = SESSION_REFUSED;
    fault_code(&s->fault, FAULT_DENIED, "login_refused", "%s", why);
    s->events.changed(s->ctx, s);
}

Test(words, a_refused_password_is_mended_at_the_machine_not_at_the_model)
{
    struct session *s = add_unreachable();
    static const char what[] = "gpu2 refused the password for root", next[] = "llmhostctl instance set gpu2 --password-file F";
    struct deployment *d = manager_find_deployment(w.manager, "ollama:tiny");

    refuse(s, what);
    cr_assert(LOOP_UNTIL(w.loop, deployment_state(d) == DEPLOYMENT_FAILED));
    refuses("{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"ollama:tiny\"}}", "io.llmhost.CredentialsRefused", "message",
            what);
    _cleanup_json_ struct json *v = answers("Status", "{}");
    const struct json *trouble = json_get(v, "trouble");

    cr_assert_eq(json_count(trouble), 2);
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(json_get_int(json_at(trouble, i), "exit", 0), 5);
        cr_assert_str_eq(json_text(json_at(json_get(json_at(trouble, i), "next"), 0)), next);
    }
}

Test(words, waiting_for_what_is_off_ends_with_the_command_that_brings_it_back)
{
    add_model();
    json_free(answers("Down", "{\"target\":\"ollama:tiny\"}"));
    _cleanup_json_ struct json *v = ask("{\"method\":\"io.llmhost.Wait\",\"parameters\":{\"target\":\"ollama:tiny\"}}");
    const struct json *p = json_get(v, "parameters");

    cr_assert_str_eq(json_get_text(v, "error"), "io.llmhost.NotRunning");
    cr_assert_str_eq(json_get_text(p, "code"), "stopped_by_user");
    cr_assert_str_eq(json_text(json_at(json_get(p, "next"), 0)), "llmhostctl up ollama:tiny");
}

/* ---- what an application is told ---- */

static bool has_answer(int fd, char *answer, size_t most, size_t *n)
{
    ssize_t r = recv(fd, answer + *n, most - *n, MSG_DONTWAIT);

    *n += r > 0 ? (size_t)r : 0;
    return r == 0;
}

static void post(const char *body, char *answer, size_t most)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    _cleanup_free_ char *request =
        xasprintf("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s",
                  strlen(body), body);
    size_t n = 0;

    at.sin_port = htons((uint16_t)atoi(strrchr(gateway_endpoint(w.gateway), ':') + 1));
    cr_assert_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0, "%s", strerror(errno));
    cr_assert_eq(send(fd, request, strlen(request), 0), (ssize_t)strlen(request));
    cr_assert(LOOP_UNTIL(w.loop, has_answer(fd, answer, most - 1, &n)));
    answer[n] = '\0';
}

Test(words, an_application_learns_who_stopped_a_model_and_how_it_comes_back)
{
    static char answer[4096];

    add_model();
    json_free(answers("Down", "{\"target\":\"ollama:tiny\"}"));
    post("{\"model\":\"tiny\"}", answer, sizeof answer);
    cr_assert_eq(strncmp(answer, "HTTP/1.1 503 ", 13), 0, "%s", answer);
    cr_assert(strstr(answer, "\"code\":\"stopped_by_user\""), "%s", answer);
    cr_assert(strstr(answer, "ollama:tiny is off since "), "%s", answer);
    cr_assert(strstr(answer, "(llmhostctl down). bring it back: llmhostctl up ollama:tiny"), "%s", answer);
}
