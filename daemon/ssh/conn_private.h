/* What the files of this folder share. Who does what:
 *   conn.c     the session of libssh2: memory, buffers, socket, one run per turn, the end
 *   turn.c     when a login may begin
 *   connect.c  name to connected socket; proxy.c: a command in its place
 *   kex.c      algorithms, and why none is in common
 *   login.c    handshake to login; login_agent.c: with the keys of an ssh-agent
 *   ping.c     the control channel, and whether the peer lives
 *   open.c     opening channels, dials
 *   channel.c  streams over channels, and their slow death
 *   exec.c     requests with a reply, and commands
 *
 * Users are called from conn_run() or from the run queue alone, never from inside a call of libssh2 and never from inside their own
 * call. Each of those calls may free the connection: what comes after it looks at conn->gone first. */
#pragma once

#include <libssh2.h>
#include <stddef.h>
#include <uv.h>

#include "base/fault.h"
#include "base/list.h"
#include "base/loop.h"
#include "base/op.h"
#include "base/resolve.h"
#include "base/runq.h"
#include "proto/buf.h"
#include "ssh/conn.h"
#include "ssh/signer.h"
#include "ssh/turn.h"

struct proxy;
struct timer;
struct watch;

#define CONN_LOGIN_MS        15000
#define CONN_NEXT_ADDRESS_MS 250
#define CONN_OPEN_MS         15000
#define CONN_TURN_BYTES      (64u << 10)    /* from the socket, per turn of the loop */
#define CONN_IN_MARK         (1u << 20)     /* unread beyond this: the peer floods, the socket waits */
#define CONN_OUT_MARK        (512u << 10)   /* nobody adds more above this but libssh2 itself */
#define CONN_OUT_BYTES_MAX   (64u << 20)
#define CHANNEL_PACKET_BYTES 32768
#define CHANNEL_CALL_BYTES   (32u << 10)    /* per call of libssh2; below a quarter of the smallest window */
#define CHANNEL_FIRST_WINDOW 4096u

enum conn_step {
    CONN_CONNECT,
    CONN_HANDSHAKE,
    CONN_HOST_KEY,
    CONN_CHOOSE,        /* which way of login next */
    CONN_TRY,
    CONN_UP,
    CONN_OVER,
};

struct attempt {
    struct ssh_conn *conn;
    int fd;
    struct watch *watch;        /* NULL: not under way */
    const union address *address;
};

struct connecting {
    struct op *resolving;
    struct addresses found;
    struct attempt attempts[RESOLVE_ADDRESSES_MAX];
    unsigned n_begun, n_failed;
    struct timer *next;
    int error;                  /* of the first address that failed */
};

enum login_way { LOGIN_OWN_KEY, LOGIN_KEY, LOGIN_AGENT, LOGIN_PASSWORD, LOGIN_KEYBOARD, LOGIN_WAYS };

struct login {
    struct ssh_secrets secrets;
    char *offers;               /* the server's list as it was last */
    enum login_way way;
    unsigned tried, sent;       /* bits 1 << way: done with; seen by the server */
    bool is_encrypted;          /* secrets.key */
    bool wants_passphrase;
    const char *trouble;        /* what is wrong with secrets.key, static */
    struct signer *signer;      /* of the key that is tried */
    struct login_agent *agent;  /* once it was asked */
    uv_work_t work;             /* while the session is lent */
    bool came_back;
    int result;
    bool is_signed;             /* with what is tried */
    bool is_told;               /* its owner, that it will soon be up */
};

struct ping {
    struct timer *timer;
    unsigned waiters;
    uint64_t deadline_due;      /* 0: none asked */
    uint64_t doubted_due;       /* when the owner last asked whether it lives */
    bool is_suspect, told;      /* the answer is late; what the owner knows of it */
    uint64_t sent_ns;           /* 0: no byte under way through the control channel */
    bool is_warm;               /* the far side's cat has answered once */
    double rtt_ms[8];
    unsigned n_rtt;
    enum { CONTROL_LATER, CONTROL_OPENING, CONTROL_ON, CONTROL_YIELDING, CONTROL_REFUSED } control;
    bool found_no_place;
    bool is_single; /* the one session channel there is belongs to commands */
    struct opening *opening;
    LIBSSH2_CHANNEL *channel;
    uint64_t since_due;
};

struct ssh_conn {
    struct loop *loop;
    struct resolver *resolver;
    struct ssh_conn_events events;
    void *ctx;
    char *name, *host, *user, *way, *agent;
    uint16_t port;
    const char *host_key_preference;
    bool own_key_holds;
    struct turns *turns;
    struct turn *turn;          /* until the login ended; NULL also where there are no turns */

    enum conn_step step;
    bool running, lent, gone;   /* in conn_run(); with a thread; freed by its owner */
    bool failed, broken;        /* the fault is known; nothing goes through the buffers any more */
    struct fault fault;
    struct work run;
    struct timer *deadline, *again_timer;
    bool again;                 /* streams are ready still: come back next turn */
    bool throttled;             /* somebody waits for the out buffer to go below its mark */

    struct connecting connecting;
    struct proxy *proxy;        /* NULL: it is a TCP connection */
    struct login login;
    struct ping ping;

    LIBSSH2_SESSION *ssh;
    struct list blocks;         /* memory of the session */
    int fd;
    struct watch *watch;
    struct buf in, out;
    struct buf overheard;       /* what came first, until the keys are exchanged */
    bool eof;
    bool closed;                /* by the proxy, which has a second to say why; then it is the end */
    int receive_error;
    char last_words[160];       /* of the peer's disconnect message */
    bool quick_ack;
    uint64_t generation;        /* moves on when libssh2 was given bytes: there may be something to read anywhere */
    uint64_t last_contact_due, up_due;
    char peer[64], *banner;

    struct list openings;       /* the first one is in flight */
    struct timer *open_timer;
    struct list requests;       /* the same */
    struct list channels, dying, runs;
    unsigned n_channels, n_unanswered; /* of these: written to, and nothing came back yet */
    struct channel *visited;
};

/* conn.c */
void conn_connected(struct ssh_conn *c, int fd, struct watch *w);
void conn_on_ready(struct ssh_conn *c, unsigned events);
void conn_receive(struct ssh_conn *c);
/* The proxy has ended, or its second is over. */
void conn_proxy_ended(struct ssh_conn *c);
/* Something to do: later in this turn. */
void conn_dirty(struct ssh_conn *c);
/* Room in the out buffer; who is told no will be asked again. */
bool conn_has_room(struct ssh_conn *c);
/* The end, told by the next run. The first one counts. */
void conn_fail(struct ssh_conn *c, enum fault_kind kind, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same from what libssh2 said during doing ("the SSH handshake"). */
void conn_break(struct ssh_conn *c, int ssh_error, const char *doing);
/* After a call for a channel: breaks the connection when the error is not the channel's own. Returns whether it is broken. */
bool conn_check(struct ssh_conn *c, int ssh_error);
bool conn_is_lost_by(int ssh_error);
/* Frees it; not before a lent session came back. */
struct ssh_conn *conn_destroy(struct ssh_conn *c);
void *conn_alloc(size_t n, void **abstract);

/* connect.c */
void connect_begin(struct ssh_conn *c);
void connect_end(struct ssh_conn *c);

/* proxy.c */
void proxy_begin(struct ssh_conn *c);
void proxy_end(struct ssh_conn *c);
/* Its output is closed: conn_proxy_ended() will come. */
void proxy_closed(struct ssh_conn *c);
bool proxy_has_ended(const struct ssh_conn *c);
/* Why it ended; false: it does not say. What it wrote last: "" or ": …". */
bool proxy_explain(const struct ssh_conn *c, char *out, size_t size);
const char *proxy_refusal(const struct ssh_conn *c);
const char *proxy_words(const struct ssh_conn *c, char *out, size_t size);
const char *proxy_name(const struct ssh_conn *c, char *out, size_t size);

/* kex.c */
#define KEX_OVERHEARD_BYTES ((size_t)8 << 10)
void kex_prefer(struct ssh_conn *c);
/* n bytes of c->in are handed to libssh2. */
void kex_overhear(struct ssh_conn *c, size_t n);
/* The end: no algorithm is in common. */
void kex_explain(struct ssh_conn *c);

/* login.c */
void login_run(struct ssh_conn *c);
void login_forget(struct ssh_conn *c);

/* login_agent.c: as the calls of libssh2 return. */
int login_send_by_agent(struct ssh_conn *c);
/* What the agent itself had to say; NULL: nothing. */
const char *login_agent_trouble(const struct login_agent *a);
void login_agent_free(struct login_agent *a);

/* ping.c */
void control_begin(struct ssh_conn *c);
void control_pull(struct ssh_conn *c);
void ping_heard(struct ssh_conn *c);
void ping_tell(struct ssh_conn *c);
void ping_end(struct ssh_conn *c);

/* open.c: done takes ch; NULL with a fault. Not called any more after opening_abandon(). */
typedef void (*opening_fn)(void *ctx, LIBSSH2_CHANNEL *ch, const struct fault *f);
struct opening *opening_new_session(struct ssh_conn *c, uint32_t window_bytes, opening_fn done, void *ctx);
bool opening_has_begun(const struct opening *o);
void opening_abandon(struct opening *o);
void openings_continue(struct ssh_conn *c);
/* The first dial, before the answer to our login. */
void openings_go_ahead(struct ssh_conn *c);
/* The login was answered: only now it can be. */
void openings_catch_up(struct ssh_conn *c);
bool openings_are_ahead(const struct ssh_conn *c);
void openings_on_timer(void *ctx);
void openings_end(struct ssh_conn *c, const struct fault *f);
/* channel.c: takes ch, opened with CHANNEL_FIRST_WINDOW. */
struct stream *channel_stream(struct ssh_conn *c, LIBSSH2_CHANNEL *ch, uint32_t window_bytes);
void channels_pump(struct ssh_conn *c);
void channels_bury(struct ssh_conn *c);
void channels_break(struct ssh_conn *c);
LIBSSH2_CHANNEL *channels_any(struct ssh_conn *c);
/* Takes a channel that nobody needs any more. */
void channel_bury(struct ssh_conn *c, LIBSSH2_CHANNEL *ch);
bool channel_is_closed_by_peer(LIBSSH2_CHANNEL *ch);

/* exec.c: one request with a reply at a time. done may be NULL; it gets 0 or an error of libssh2. */
typedef void (*channel_request_fn)(void *ctx, int ssh_error);
struct channel_request *channel_request_exec(struct ssh_conn *c, LIBSSH2_CHANNEL *ch, const char *command,
                                             channel_request_fn done, void *ctx);
/* Something that any server answers, if only with no. */
void channel_request_answer(struct ssh_conn *c, LIBSSH2_CHANNEL *ch);
/* Nobody listens: done() will not run, and the channel is buried after the reply. */
void channel_request_abandon(struct ssh_conn *c, struct channel_request *q);
/* The channel goes: nothing more is asked of it. False while a reply is still to come. */
bool channel_requests_forget(struct ssh_conn *c, LIBSSH2_CHANNEL *ch);
void channel_requests_continue(struct ssh_conn *c);
void channel_requests_end(struct ssh_conn *c);
/* The channel of a command, of one that runs already if started; NULL: none. */
LIBSSH2_CHANNEL *runs_any(const struct ssh_conn *c, bool started);
void runs_pump(struct ssh_conn *c);
void runs_end(struct ssh_conn *c, const struct fault *f);
