/* llmhostd: options, settings, sockets, the loop, an orderly end. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/fault.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/resolve.h"
#include "base/service.h"
#include "base/settings.h"
#include "base/stream.h"
#include "base/timer.h"
#include "control/control.h"
#include "control/explain.h"
#include "gateway/gateway.h"
#include "hook.h"
#include "http/http.h"
#include "lease/lease.h"
#include "manager.h"
#include "proto/address.h"
#include "proto/buf.h"
#include "proto/error.h"
#include "proto/mem.h"
#include "proto/stdfds.h"
#include "ssh/turn.h"
#include "store/secrets.h"
#include "store/store.h"

/* While sockets are passed, those who were let in just before the end may still say what they want for so
 * long; everybody else waits for our successor. */
#define LAST_WORDS_MS 100

static const char usage[] =
    "usage: llmhostd [-c FILE] [--check-config] [--version] [--help]\n"
    "\n"
    "Holds the way to your GPU machines and serves their models on 127.0.0.1:11434.\n"
    "\n"
    "  -c, --config FILE   settings; default: $CONFIGURATION_DIRECTORY, else\n"
    "                      $XDG_CONFIG_HOME/llmhost, else /etc/llmhost, there llmhostd.conf\n"
    "      --check-config  read the settings, print what is in force, end\n"
    "      --version       print the version, end\n"
    "\n"
    "It stays in the foreground. llmhostd(8) has the rest; llmhostctl(1) is how to talk to it.\n";

struct options {
    const char *config;
    bool check;
};

struct daemon {
    struct loop *loop;
    struct service *service;
    int control_fd, gateway_fd;      /* passed sockets; 0: none */
    char *state, *runtime, *engines; /* directories */
    char *socket, *config;
    struct settings *settings;
    struct resolver *resolver;
    struct turns *turns;
    struct secrets *secrets;
    struct store *store;
    struct hooks *hooks;
    struct http *http;
    struct manager *manager;
    struct gateway *gateway;
    struct control *control;
    struct event_listener events;
    struct manager_listener changes;
    uint64_t started_due;
    struct timer *end;
    uv_signal_t signals[3];
};

/* ---- directories ---- */

/* The first of colon-separated directories in an environment variable of systemd; NULL: not set. */
static char *directory_variable(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? strndup(value, strcspn(value, ":")) : NULL;
}

static char *home_path(const char *variable, const char *below_home)
{
    const char *base = getenv(variable), *home = getenv("HOME");
    struct passwd *user;

    if (base && base[0] == '/')
        return xasprintf("%s/llmhost", base);
    if (!home || home[0] != '/') {
        user = getpwuid(getuid());
        home = user ? user->pw_dir : "/";
    }
    return xasprintf("%s/%s/llmhost", home, below_home);
}

static char *state_path(void)
{
    char *path = directory_variable("STATE_DIRECTORY");

    return path ? path : home_path("XDG_STATE_HOME", ".local/state");
}

static char *runtime_path(void)
{
    char *path = directory_variable("RUNTIME_DIRECTORY");
    const char *xdg = getenv("XDG_RUNTIME_DIR");

    if (path)
        return path;
    if (xdg && xdg[0] == '/')
        return xasprintf("%s/llmhost", xdg);
    if (getuid() == 0)
        return xstrdup("/run/llmhost");
    return xasprintf("/tmp/llmhost-%u", (unsigned)getuid());
}

/* Where the settings are looked for when -c does not say. */
static char *config_path(void)
{
    _cleanup_free_ char *directory = directory_variable("CONFIGURATION_DIRECTORY");
    _cleanup_free_ char *home = home_path("XDG_CONFIG_HOME", ".config");
    char *path;

    if (directory)
        return xasprintf("%s/llmhostd.conf", directory);
    path = xasprintf("%s/llmhostd.conf", home);
    if (access(path, F_OK) == 0)
        return path;
    free(path);
    return xstrdup("/etc/llmhost/llmhostd.conf");
}

/* Absolute. */
static char *directory_of(const char *file)
{
    _cleanup_free_ char *here = get_current_dir_name();
    const char *slash = strrchr(file, '/');
    int n = slash ? (int)(slash - file) : 0;

    return xasprintf("%s%s%.*s", file[0] == '/' || !here ? "" : here, n && file[0] != '/' ? "/" : "", n,
                     file);
}

/* Makes the directory and what is above it, for us alone. A directory of somebody else, or open to others in
 * /tmp, is refused. */
static int make_directory(const char *path)
{
    _cleanup_free_ char *copy = xstrdup(path);
    struct stat st;

    for (char *p = copy + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            if (mkdir(copy, 0755) < 0 && errno != EEXIST)
                return -errno;
            *p = '/';
        }
    if (mkdir(copy, 0700) < 0 && errno != EEXIST)
        return -errno;
    if (lstat(copy, &st) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode))
        return -ENOTDIR;
    return st.st_uid == getuid() && !(st.st_mode & S_IWOTH) ? 0 : -EPERM;
}

/* Where the passed control socket is, else where ours will be. */
static char *control_path(const struct daemon *d)
{
    struct sockaddr_un at = {};
    socklen_t n = sizeof at - 1; /* a path of full length has no NUL behind it */

    if (d->control_fd && getsockname(d->control_fd, (struct sockaddr *)&at, &n) == 0 &&
        at.sun_family == AF_UNIX && at.sun_path[0])
        return xstrdup(at.sun_path);
    return xasprintf("%s/control", d->runtime);
}

static int prepare_directories(struct daemon *d, struct fault *f)
{
    d->state = state_path();
    d->runtime = runtime_path();
    d->engines = xasprintf("%s/engines", d->runtime);
    d->socket = control_path(d);

    const char *const directories[] = {d->state, d->runtime, d->engines};

    for (size_t i = 0; i < ELEMENTS(directories); i++) {
        int r = make_directory(directories[i]);

        if (r < 0)
            return fault_set(f, FAULT_INVALID, r, "%s: %s", directories[i],
                             r == -EPERM ? "belongs to somebody else, or others may write to it"
                                         : strerror(-r));
    }
    return 0;
}

/* ---- settings ---- */

static int read_settings(const struct options *o, const char *path, struct settings **ret)
{
    _cleanup_free_ char *why = NULL;
    int r = settings_load(path, o->config != NULL, ret, &why);

    if (r < 0)
        fprintf(stderr, "llmhostd: %s\n  next:  %s\n", why ? why : strerror(-r),
                o->check ? "man 5 llmhostd.conf" : "llmhostd --check-config");
    return r;
}

static void print_settings(const struct settings *s)
{
    const char *section, *key, *value, *where, *last = "";

    for (unsigned i = 0; settings_at(s, i, &section, &key, &value, &where); i++) {
        if (!streq(section, last))
            printf("[%s]\n", section);
        last = section;
        printf("%s = %s    # %s\n", key, value, where ? where : "default");
    }
}

/* What the start would refuse besides, or warn of, as far as it can be known without the database. */
static int check_settings(const struct settings *s)
{
    const char *listen = settings_text(s, "gateway", "listen");
    char ip[IP_TEXT_MAX];
    struct fault f = {};
    uint16_t port;
    int r;

    print_settings(s);
    if (ip_port_parse(listen, ip, &port) < 0)
        abort(); /* judged when the settings were read */
    r = listener_try_ip(ip);
    if (r < 0) {
        gateway_fault_listen(s, r, &f);
        fprintf(stderr, "llmhostd: %s\n  next:  ip address\n", f.text);
    } else if (!ip_is_loopback(ip))
        fprintf(stderr,
                "llmhostd: [gateway] listen: %s can be reached from other hosts: requests without an API key "
                "are refused, and llmhostctl key add NAME makes one\n",
                listen);
    return r < 0 ? EXIT_USAGE : EXIT_DONE;
}

static enum log_level log_level_setting(const struct settings *s)
{
    const char *level = settings_text(s, "log", "level");

    for (enum log_level l = LOG_LEVEL_ERR; l <= LOG_LEVEL_DEBUG; l++)
        if (level && streq(level, log_level_name(l)))
            return l;
    return LOG_LEVEL_INFO;
}

/* ---- what the service manager shows ---- */

static char *daemon_status(void *ctx)
{
    struct daemon *d = ctx;
    unsigned wanted = 0, ready = 0, tunnels = 0, up = 0;
    struct deployment *m;
    struct lease *l;

    for (unsigned i = 0; (m = manager_deployment_at(d->manager, i)); i++) {
        wanted += deployment_goal(m) != GOAL_OFF;
        ready += deployment_state(m) == DEPLOYMENT_READY;
    }
    for (unsigned i = 0; (l = manager_lease_at(d->manager, i)); i++)
        if (lease_session(l)) {
            tunnels++;
            up += lease_is_reachable(l);
        }
    return xasprintf("%u of %u models ready, %u of %u tunnels up; %s%s", ready, MAX(ready, wanted), up,
                     tunnels, gateway_endpoint(d->gateway),
                     gateway_is_listening(d->gateway) ? "" : " is taken");
}

static void daemon_on_deployment(void *ctx, struct deployment *m, bool gone)
{
    struct daemon *d = ctx;

    (void)m, (void)gone;
    service_changed(d->service);
}

static void daemon_on_lease(void *ctx, struct lease *l, bool gone)
{
    struct daemon *d = ctx;

    (void)l, (void)gone;
    service_changed(d->service);
}

/* ---- life ---- */

static void daemon_on_event(void *ctx, const struct event *e)
{
    struct daemon *d = ctx;

    store_put_event(d->store, e);
    service_changed(d->service);
}

static void daemon_on_end(void *ctx)
{
    struct daemon *d = ctx;

    loop_stop(d->loop);
}

static void daemon_on_signal(uv_signal_t *signal, int number)
{
    struct daemon *d = signal->data;

    log_notice(NULL, "ending (%s)", strsignal(number));
    service_stopping(d->service);
    if (timer_is_armed(d->end) || (!d->control_fd && !d->gateway_fd)) {
        loop_stop(d->loop);
        return;
    }
    control_close_door(d->control);
    gateway_close_door(d->gateway);
    timer_arm(d->end, LAST_WORDS_MS);
}

static void daemon_watch_signals(struct daemon *d)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

    for (size_t i = 0; i < ELEMENTS(numbers); i++) {
        uv_signal_init(loop_uv(d->loop), &d->signals[i]);
        d->signals[i].data = d;
        uv_signal_start(&d->signals[i], daemon_on_signal, numbers[i]);
    }
}

/* What everything else writes to, or asks. */
static int daemon_open_base(struct daemon *d, struct fault *f)
{
    _cleanup_free_ char *config_directory = directory_of(d->config);
    int r = prepare_directories(d, f);

    if (r < 0)
        return r;
    r = secrets_open(d->state, &d->secrets);
    if (r < 0)
        return fault_set(f, FAULT_INVALID, r, "%s/secrets: %s", d->state, strerror(-r));
    r = store_open(d->loop, d->state, &d->store, f);
    if (r < 0)
        return r;
    d->events = (struct event_listener){.heard = daemon_on_event, .ctx = d};
    event_listen(&d->events);
    d->hooks = hooks_new(d->loop, d->settings, config_directory);
    d->resolver = resolver_new(d->loop);
    d->turns = turns_new(d->loop);
    d->http = http_new(d->loop);
    return 0;
}

static int daemon_open_manager(struct daemon *d, struct fault *f)
{
    const struct manager_context context = {
        .loop = d->loop,
        .store = d->store,
        .secrets = d->secrets,
        .http = d->http,
        .resolver = d->resolver,
        .settings = d->settings,
        .socket_directory = d->engines,
        .state_directory = d->state,
        .turns = d->turns,
        .is_system = service_is_system(d->service),
    };
    int r = manager_new(&context, &d->manager, f);

    if (r < 0)
        return r;
    d->changes =
        (struct manager_listener){.deployment = daemon_on_deployment, .lease = daemon_on_lease, .ctx = d};
    manager_listen(d->manager, &d->changes);
    return 0;
}

static int daemon_open_control(struct daemon *d, struct fault *f)
{
    const struct control_context context = {
        .loop = d->loop,
        .manager = d->manager,
        .gateway = d->gateway,
        .store = d->store,
        .secrets = d->secrets,
        .http = d->http,
        .resolver = d->resolver,
        .settings = d->settings,
        .config_path = d->config,
        .state_directory = d->state,
        .socket_path = d->socket,
        .socket_mode = 0660, /* its directory lets nobody else in, but for the system service's group */
        .passed_fd = d->control_fd,
        .linger_file = service_linger_file(d->service),
        .started_due = d->started_due,
    };

    return control_new(&context, &d->control, f);
}

/* The other way round than daemon_close(). */
static int daemon_open(struct daemon *d, struct fault *f)
{
    int r;

    d->control_fd = service_take_socket(d->service, "control");
    d->gateway_fd = service_take_socket(d->service, "gateway");
    r = daemon_open_base(d, f);
    if (r < 0)
        return r;
    r = daemon_open_manager(d, f);
    if (r < 0)
        return r;
    r = gateway_new(d->loop, d->manager, d->store, d->settings, d->gateway_fd, &d->gateway, f);
    if (r < 0)
        return r;
    return daemon_open_control(d, f);
}

/* Doors first, then what is behind them; the database last, so that the last events reach it. */
static void daemon_close(struct daemon *d)
{
    for (size_t i = 0; i < ELEMENTS(d->signals); i++)
        if (d->signals[i].data)
            uv_close((uv_handle_t *)&d->signals[i], NULL);
    control_free(d->control);
    gateway_free(d->gateway);
    if (d->manager)
        manager_unlisten(d->manager, &d->changes);
    manager_free(d->manager);
    http_free(d->http);
    resolver_free(d->resolver);
    turns_free(d->turns);
    hooks_free(d->hooks);
    if (d->store) {
        event_unlisten(&d->events);
        store_close(d->store);
    }
    secrets_free(d->secrets);
    service_free(d->service);
    timer_free(d->end);
    loop_free(d->loop);
    settings_free(d->settings);
    free(d->state);
    free(d->runtime);
    free(d->engines);
    free(d->socket);
    free(d->config);
    log_close();
}

/* Secrets are in our memory: no core, no ptrace by others of the same user. Look-ups and key unlocking share
 * libuv's pool. */
static void harden(void)
{
    const struct rlimit none = {0, 0};

    prctl(PR_SET_DUMPABLE, 0);
    setrlimit(RLIMIT_CORE, &none);
    setenv("UV_THREADPOOL_SIZE", "8", 1);
    umask(0077);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file limit is an error of write(), as a full disk is */
}

/* As many descriptors as we may have: every stream is one. */
static void raise_descriptors(void)
{
    struct rlimit most;

    if (getrlimit(RLIMIT_NOFILE, &most) == 0) {
        most.rlim_cur = most.rlim_max;
        setrlimit(RLIMIT_NOFILE, &most);
    }
}

/* What may help, a command a line. Caller frees. */
static char *next_steps(const struct daemon *d, const struct fault *f)
{
    struct buf next;

    if (f->error == -EADDRINUSE || (f->error == -EBUSY && f->kind == FAULT_DENIED)) /* another llmhostd */
        return xstrdup("llmhostctl status\n");
    if (!*f->code &&
        (f->error == -EPERM || f->error == -EACCES || f->error == -ENOTDIR || f->error == -EROFS))
        return xasprintf("ls -ld %s %s\n", d->state, d->runtime);
    buf_init(&next, 4096);
    explain_next(f, d->state, &next);
    if (next.len)
        buf_add_text(&next, "\n");
    return buf_take(&next);
}

static void complain(const struct daemon *d, const struct fault *f)
{
    bool damaged = streq(f->code, "store_damaged");
    _cleanup_free_ char *next = damaged ? NULL : next_steps(d, f),
                        *rescue = damaged ? store_rescue(d->state) : NULL;

    fprintf(stderr, "llmhostd: %s\n%s", f->text, rescue ? rescue : "");
    for (const char *p = next, *label = "next:"; p && *p; p += strcspn(p, "\n") + 1, label = "     ")
        fprintf(stderr, "  %s  %.*s\n", label, (int)strcspn(p, "\n"), p);
}

static int daemon_run(struct daemon *d)
{
    struct fault f = {};

    log_open(log_level_setting(d->settings));
    d->loop = loop_new();
    d->service = service_new(d->loop, daemon_status, d);
    d->end = timer_new(d->loop, daemon_on_end, d);
    d->started_due = clock_now_ms();
    if (daemon_open(d, &f) < 0) {
        complain(d, &f);
        daemon_close(d);
        return EXIT_FAILED;
    }
    daemon_watch_signals(d);
    event_publish(LOG_LEVEL_NOTICE, LOG_DAEMON, NULL, "started",
                  "llmhostd %s, control socket %s, applications at %s", LLMHOST_VERSION, d->socket,
                  gateway_endpoint(d->gateway));
    if (!clock_was_set(clock_wall_ms()))
        log_warning(NULL, "the clock of this host is wrong: times in logs and events are, too");
    service_ready(d->service);
    loop_run(d->loop);
    daemon_close(d);
    return EXIT_DONE;
}

/* 0 goes on; -1: wrong words; 1: all was said. */
static int read_options(int argc, char **argv, struct options *ret)
{
    static const struct option names[] = {
        {"config", required_argument, NULL, 'c'},
        {"check-config", no_argument, NULL, 'k'},
        {"version", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {},
    };

    for (int o; (o = getopt_long(argc, argv, "c:h", names, NULL)) != -1;)
        switch (o) {
        case 'c': ret->config = optarg; break;
        case 'k': ret->check = true; break;
        case 'v': printf("llmhostd %s\n", LLMHOST_VERSION); return 1;
        case 'h': fputs(usage, stdout); return 1;
        default: return -1;
        }
    if (optind < argc) {
        fprintf(stderr, "llmhostd: what is \"%s\"? it takes options alone: llmhostd --help\n", argv[optind]);
        return -1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {};
    struct daemon d = {};
    int r;

    standard_fds_fill(O_RDWR);
    r = read_options(argc, argv, &options);
    if (r != 0)
        return r < 0 ? EXIT_USAGE : EXIT_DONE;
    d.config = options.config ? xstrdup(options.config) : config_path();
    if (read_settings(&options, d.config, &d.settings) < 0) {
        free(d.config);
        return EXIT_USAGE;
    }
    if (options.check) {
        r = check_settings(d.settings);
        settings_free(d.settings);
        free(d.config);
        return r;
    }
    harden();
    raise_descriptors();
    return daemon_run(&d);
}
