/* Connections to servers that misbehave, and many of them. links: ssh */
#include <arpa/inet.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/fixture/ssh_client.h"

struct fake {
    pid_t pid;
    uint16_t port;
};

static uint16_t port_of(int fd)
{
    struct sockaddr_in a;
    socklen_t n = sizeof(a);

    cr_assert_eq(getsockname(fd, (struct sockaddr *)&a, &n), 0);
    return ntohs(a.sin_port);
}

static int fake_listen(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    cr_assert(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(fd, 16) == 0);
    return fd;
}

/* Says this to whoever connects, then closes once the client has said something too. */
static struct fake fake_saying(const char *text, size_t n)
{
    int listener = fake_listen();
    struct fake f = {.port = port_of(listener), .pid = fork()};

    if (f.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            char heard[64];
            int fd = accept(listener, NULL, NULL);

            if (fd < 0 || write(fd, text, n) != (ssize_t)n || read(fd, heard, sizeof(heard)) < 0)
                _exit(1);
            close(fd);
        }
    }
    close(listener);
    return f;
}

static void copy_some(int from, int to, long *left)
{
    char data[4096];
    ssize_t n = read(from, data, (size_t)MIN((long)sizeof(data), *left));

    if (n <= 0 || write(to, data, (size_t)n) != n)
        _exit(0);
    *left -= n;
}

/* Between us and a real sshd: passes on so many bytes of the server's, then drops the connection. */
static void relay(int client, uint16_t port, long left)
{
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    long plenty = 1L << 40;

    if (connect(server, (struct sockaddr *)&a, sizeof(a)) < 0)
        _exit(1);
    while (left > 0) {
        struct pollfd p[] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};

        poll(p, 2, -1);
        if (p[0].revents)
            copy_some(client, server, &plenty);
        if (p[1].revents)
            copy_some(server, client, &left);
    }
    _exit(0);
}

static struct fake fake_cutting(uint16_t port, long after)
{
    int listener = fake_listen();
    struct fake f = {.port = port_of(listener), .pid = fork()};

    if (f.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        relay(accept(listener, NULL, NULL), port, after);
    }
    close(listener);
    return f;
}

static void fake_end(struct fake *f)
{
    kill(f->pid, SIGKILL);
    waitpid(f->pid, NULL, 0);
}

Test(conn_faults, garbage_instead_of_a_banner)
{
    static const char *const said[] = {"HTTP/1.1 400 Bad Request\r\n\r\n",
                                       "Exceeded MaxStartups\r\n",
                                       "SSH-1.5-old\r\n",
                                       "SSH-2.0-x\r\n\377\377\377\377garbage where a packet should be",
                                       "",
                                       "\0\0\0\0\0\0"};

    for (size_t i = 0; i < ELEMENTS(said); i++) {
        struct fake f = fake_saying(said[i], i == ELEMENTS(said) - 1 ? 6 : strlen(said[i]));
        struct client c = {0};

        client_open(&c);
        client_connect(&c, "127.0.0.1", f.port, "me");
        cr_assert(LOOP_UNTIL(c.loop, c.n_down), "%s", said[i]);
        cr_assert_eq(c.n_up, 0);
        cr_assert_eq(c.fault.kind, FAULT_TRANSIENT, "%s: %s", said[i], c.fault.text);
        cr_assert(streq(c.fault.code, "lost") || streq(c.fault.code, "protocol"), "%s", c.fault.code);
        cr_assert_eq(c.n_secrets, 0);
        client_close(&c);
        fake_end(&f);
    }
}

/* libssh2 1.10 loses the host key when the server's reply of the key exchange came and its NEWKEYS did not.
 */
Test(conn_faults, dropped_at_each_step)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    unsigned n_up = 0, n_down = 0;

    REQUIRE_SSHD(s);
    for (long after = 1; after < 4200; after += after < 1200 ? 41 : 97) {
        struct fake f = fake_cutting(sshd_fixture_port(s), after);
        struct client c = {.own_key = sshd_fixture_key(s)};
        bool in_key_exchange = after > 1000 && after < 1800;

        if (in_key_exchange)
            leaks_of_others(true);
        client_open(&c);
        client_connect(&c, "127.0.0.1", f.port, sshd_fixture_user(s));
        cr_assert(LOOP_UNTIL(c.loop, c.n_down || ssh_conn_rtt_ms(c.conn) >= 0), "%ld", after);
        if (c.n_down) {
            cr_assert_eq(c.fault.kind, FAULT_TRANSIENT, "%ld: %s", after, c.fault.text);
            cr_assert_str_eq(c.fault.code, "lost", "%ld: %s", after, c.fault.text);
        }
        n_up += c.n_down == 0;
        n_down += c.n_down;
        client_close(&c);
        if (in_key_exchange)
            leaks_of_others(false);
        fake_end(&f);
    }
    cr_assert_gt(n_down, 20);
    cr_assert_gt(n_up, 0, "the last ones get through");
    sshd_fixture_free(s);
}

Test(conn_faults, two_hundred_connections_leave_nothing_behind)
{
    struct sshd_fixture *s = sshd_fixture_new(NULL);
    struct client c = {0};

    REQUIRE_SSHD(s);
    c.own_key = sshd_fixture_key(s);
    client_open(&c);
    for (unsigned i = 0; i < 200; i++) {
        c.n_up = c.n_down = 0;
        client_connect(&c, "127.0.0.1", sshd_fixture_port(s), sshd_fixture_user(s));
        cr_assert(LOOP_UNTIL(c.loop, c.n_up || c.n_down), "%u", i);
        cr_assert_eq(c.n_up, 1, "%u: %s", i, c.fault.text);
        c.conn = ssh_conn_free(c.conn);
    }
    client_close(&c);
    sshd_fixture_free(s);
}
