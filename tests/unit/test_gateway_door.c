/* links: gateway
 *
 * The door itself: the port that is taken, an address it moves to, a socket that was passed. */
#include "gateway/gateway.h"

#include "proto/text.h"
#include "tests/fixture/gateway_world.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"

TestSuite(gateway_door, .init = world_open, .fini = world_close);

/* ---- settings and the port ---- */

static int try_listen_or(const char *listen, int passed_fd, struct fault *f, struct gateway **ret)
{
    _cleanup_free_ char *text = xasprintf("[gateway]\nlisten=%s\n", listen);
    struct manager_listener *kept = world.manager.listener;
    struct settings *s = NULL;
    char *why = NULL;
    int r;

    cr_assert_eq(settings_parse(text, "test.conf", &s, &why), 0, "%s", why);
    world.manager.listener = NULL;
    r = gateway_new(world.loop, &world.manager, NULL, s, passed_fd, ret, f);
    if (r == 0 && (passed_fd || !gateway_is_listening(*ret))) {
        settings_free(s);
        return 0;
    }
    if (r == 0)
        *ret = gateway_free(*ret);
    world.manager.listener = kept;
    settings_free(s);
    return r;
}

static int try_listen(const char *listen, struct fault *f, struct gateway **ret)
{
    return try_listen_or(listen, 0, f, ret);
}

Test(gateway_door, a_taken_port_is_waited_for_and_its_owner_named)
{
    struct manager_listener *kept = world.manager.listener;
    const char *port = strrchr(gateway_endpoint(world.gateway), ':') + 1;
    _cleanup_free_ char *listen = xasprintf("127.0.0.1:%s", port), *me = xasprintf("(pid %d)", getpid());
    struct gateway *second = NULL;
    struct fault f;

    cr_assert_eq(try_listen(listen, &f, &second), 0);
    cr_assert_not(gateway_is_listening(second));
    cr_assert(gateway_owner(second) && strstr(gateway_owner(second), me), "%s", gateway_owner(second));
    loop_advance(world.loop, 10100);
    cr_assert_not(gateway_is_listening(second));
    world.manager.listener = kept;
    world.gateway = gateway_free(world.gateway);
    loop_turns(world.loop, 3);
    world.manager.listener = &second->changes;
    loop_advance(world.loop, 10100);
    cr_assert(gateway_is_listening(second));
    cr_assert_null(gateway_owner(second));
    world.gateway = second;
}

/* ---- moving ---- */

/* Listens at an address of the kernel's choice, and blocks, as the service manager passes them. */
static int passed(const char *ip, struct sockaddr_in *ret)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t n = sizeof(*ret);

    *ret = (struct sockaddr_in){.sin_family = AF_INET};
    cr_assert_eq(inet_pton(AF_INET, ip, &ret->sin_addr), 1);
    cr_assert_eq(bind(fd, (struct sockaddr *)ret, n), 0);
    cr_assert_eq(listen(fd, 5), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)ret, &n), 0);
    return fd;
}

Test(gateway_door, it_moves_to_a_wider_address_on_the_same_port_and_back)
{
    const char *port = strrchr(gateway_endpoint(world.gateway), ':') + 1;
    _cleanup_free_ char *wide = xasprintf("0.0.0.0:%s", port), *narrow = xasprintf("127.0.0.1:%s", port),
                        *answer = NULL, *after = NULL;
    struct app *a = app_new();
    struct fault f = {0};

    app_say(a, GET("/"));
    app_wants(a, "running");
    app_forget(a);
    cr_assert_eq(gateway_move(world.gateway, wide, &f), 0, "%s", f.text);
    cr_assert(gateway_needs_key(world.gateway));
    app_say(a, GET("/"));
    app_wants(a, "HTTP/1.1 401 ");
    answer = get("/");
    cr_assert_eq(status_of(answer), 401);
    cr_assert_eq(gateway_move(world.gateway, narrow, &f), 0, "%s", f.text);
    after = get("/");
    cr_assert_eq(status_of(after), 200);
    app_free(a);
}

Test(gateway_door, it_stays_where_the_new_port_is_taken_or_it_is_not_its_own)
{
    struct manager_listener *kept = world.manager.listener;
    _cleanup_free_ char *before = xstrdup(gateway_endpoint(world.gateway)), *wanted = NULL, *answer = NULL;
    struct gateway *second = NULL;
    struct sockaddr_in at;
    struct fault f = {0};
    int taken = passed("127.0.0.1", &at);

    wanted = xasprintf("127.0.0.1:%u", ntohs(at.sin_port));
    cr_assert_lt(gateway_move(world.gateway, wanted, &f), 0);
    cr_assert_str_eq(f.code, "port_taken");
    cr_assert_str_eq(gateway_endpoint(world.gateway), before);
    answer = get("/");
    cr_assert_eq(status_of(answer), 200);
    cr_assert_eq(try_listen_or("127.0.0.1:1", taken, &f, &second), 0, "%s", f.text);
    cr_assert_lt(gateway_move(second, "127.0.0.1:0", &f), 0);
    cr_assert_str_eq(f.code, "port_passed");
    gateway_free(second);
    loop_turns(world.loop, 3);
    world.manager.listener = kept;
}

/* ---- a socket that was passed ---- */

Test(gateway_door, a_passed_socket_counts_and_goes_on_listening_without_us)
{
    struct manager_listener *kept = world.manager.listener;
    struct gateway *second = NULL;
    struct gateway_figures figures;
    struct sockaddr_in at;
    struct fault f = {0};
    int fd = passed("127.0.0.1", &at), others = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    _cleanup_free_ char *endpoint = xasprintf("http://127.0.0.1:%u", ntohs(at.sin_port));
    int early = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert_eq(try_listen_or("127.0.0.1:1", fd, &f, &second), 0, "%s", f.text);
    cr_assert(gateway_is_listening(second));
    cr_assert_str_eq(gateway_endpoint(second), endpoint);
    cr_assert_eq(connect(early, (struct sockaddr *)&at, sizeof(at)), 0);
    loop_turns(world.loop, 5);
    gateway_figures(second, &figures);
    cr_assert_eq(figures.connections, 1);
    gateway_close_door(second);
    cr_assert_eq(connect(late, (struct sockaddr *)&at, sizeof(at)), 0, "it waits");
    close(early);
    loop_turns(world.loop, 5);
    gateway_figures(second, &figures);
    cr_assert_eq(figures.connections, 1, "for somebody else");
    gateway_free(second);
    loop_turns(world.loop, 3);
    cr_assert_geq(accept(others, NULL, NULL), 0, "who accepts it, whole");
    world.manager.listener = kept;
    close(others);
    close(late);
}

Test(gateway_door, a_passed_socket_beyond_loopback_is_for_those_with_a_key)
{
    struct manager_listener *kept = world.manager.listener;
    struct sockaddr_in at;
    struct gateway *second = NULL;
    struct fault f = {0};

    cr_assert_eq(try_listen_or("127.0.0.1:1", passed("0.0.0.0", &at), &f, &second), 0, "%s", f.text);
    cr_assert(gateway_needs_key(second));
    cr_assert_not(gateway_needs_key(world.gateway));
    gateway_free(second);
    loop_turns(world.loop, 3);
    world.manager.listener = kept;
}

Test(gateway_door, a_passed_socket_of_another_kind_is_refused)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int pair[2], deaf = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct gateway *g = NULL;

    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(bind(deaf, (struct sockaddr *)&at, sizeof(at)), 0);

    const int wrong[] = {pair[0], deaf};

    for (size_t i = 0; i < ELEMENTS(wrong); i++) {
        struct fault f = {0};

        cr_assert_eq(try_listen_or("127.0.0.1:0", wrong[i], &f, &g), -EINVAL);
        cr_assert(strstr(f.text, "passed"), "%s", f.text);
        close(wrong[i]);
    }
    close(pair[1]);
}
