/* One SSH connection: name to login, then channels. libssh2 stays in this folder.
 *
 * libssh2 never touches the socket: it reads and writes our buffers, so a packet is never half sent. The reasons for
 * each rule here are measured (OpenSSH 9.2 and 10.2, libssh2 1.10 and 1.11, 2026-11):
 *  - one channel open and one request with a reply in flight, the rest queues here;
 *  - TCP_NODELAY before the handshake; TCP_QUICKACK again after every read until the control channel answered;
 *  - the control channel runs "exec cat": it makes sshd before 10.1 switch Nagle off and carries our ping, one byte with a
 *    deadline. Any byte from the peer is life. libssh2's own keepalive is not used;
 *  - at most 64 KiB are taken from the socket per turn, so that a busy connection does not delay another. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/run.h"
#include "base/stream.h"
#include "ssh/key.h"

struct fault;
struct loop;
struct op;
struct resolver;
struct ssh_conn;
struct turns;

/* Borrowed for the call of ssh_conn_new(). */
struct ssh_target {
    const char *name;               /* for messages */
    const char *host;
    uint16_t port;
    const char *user;
    const struct host_key *pinned;  /* NULL or n = 0: first contact */
    const char *proxy;              /* as of proto/ssh_proxy.h; NULL: a TCP connection */
    const char *agent;              /* the socket of the ssh-agent a proxy may ask; NULL: that of our environment */
    struct turns *turns;            /* to log in, for the life of the connection; NULL: whenever it likes */
    bool is_single;                 /* it is known to open one session channel at a time: commands have it, and the ping goes without */
    bool own_key_holds;             /* own_key alone was what logged in the last time: a dial may go out behind it, see soon() */
};

/* What a login may use, in this order: own_key, key, the keys of an agent, password (as password, then keyboard-interactive). All
 * may be NULL. */
struct ssh_secrets {
    char *own_key;
    char *key, *passphrase;
    char *agent;                    /* the socket of the user's ssh-agent */
    char *password;
};

struct ssh_conn_events {
    /* Before any secret leaves: 0 goes on, otherwise *f says why not and the connection ends with it. */
    int (*host_key)(void *ctx, const struct host_key *shown, struct fault *f);
    /* Fill *ret with copies (malloc); they are wiped and freed after the login. */
    void (*secrets)(void *ctx, struct ssh_secrets *ret);
    /* The agent has taken its time to sign with the key of that comment: it may want a touch, or its owner's consent. May be NULL. */
    void (*waits)(void *ctx, const char *key);
    /* Logged in: dials and commands may be asked for. method: "own key", "key", "agent", "password", "keyboard-interactive", "none". */
    void (*up)(void *ctx, const char *method);
    /* Over, once: every open request has been answered with this fault or will be; free the connection. Codes: "host_key",
     * "login_refused", "passphrase_needed", "jump_refused", "jump_host_key" (by what stands on the way), "unreachable", "ping" (no answer), "lost", "protocol". */
    void (*down)(void *ctx, const struct fault *f);
    /* Yes: it did not answer a ping in time and may be dead; it goes on, and ends with "ping" when 10 s have passed without a byte,
     * counted anew from ssh_conn_ping().
     * No: a byte came after all. NULL: the first ping without an answer is the end. */
    void (*suspect)(void *ctx, bool is_suspect);
    /* What was asked for by ssh_conn_yield() has come. May be NULL. */
    void (*room)(void *ctx);
    /* The server takes a key that holds, and has our signature by it: the first dial asked for now travels with that, a round trip sooner
     * than after up(), two against an sshd before 10.1. A login that is refused all the same is "lost". May be NULL. */
    void (*soon)(void *ctx);
};

/* Begins when it is its turn (turn.h), and counts from then. Deadlines: 5 s to a connection (from the last address on), 15 s to the login, then pings. The command of a proxy is
 * a child of ours, which ends with the connection, with us, and by itself: that is "unreachable" before the login and "lost" after. */
struct ssh_conn *ssh_conn_new(struct loop *l, struct resolver *r, const struct ssh_target *target,
                              const struct ssh_conn_events *events, void *ctx);
/* Orderly where the connection lives, never blocking. Streams of the connection break (-ECONNRESET) but stay their owners' to free;
 * ops in flight report FAULT_TRANSIENT. May be called from down(). */
struct ssh_conn *ssh_conn_free(struct ssh_conn *c);

bool ssh_conn_is_up(const struct ssh_conn *c);
uint64_t ssh_conn_last_contact_due(const struct ssh_conn *c);       /* clock_now_ms() of the last byte from the peer */
unsigned ssh_conn_streams(const struct ssh_conn *c);                /* dialled, and not yet freed by their owners */
double ssh_conn_rtt_ms(const struct ssh_conn *c);                   /* smallest of the last pings; < 0: not known yet */
const char *ssh_conn_peer(const struct ssh_conn *c);                /* "10.0.0.1:22", "gpu-a:22 through bastion"; "" before it is connected */
const char *ssh_conn_banner(const struct ssh_conn *c);              /* the server's, "" before the handshake */

/* How many requests wait for bytes of this peer just now. Before it is up: those go first whose is not 0. Later, while it is not 0: nothing for 0.5 s → ping with a 2.5 s deadline.
 * While it is 0: nothing for 5 s → ping with a 4 s deadline. */
void ssh_conn_waiters(struct ssh_conn *c, unsigned n);
/* Ask now whether the peer lives (resume from sleep, a changed address), with a deadline of 1 s. */
void ssh_conn_ping(struct ssh_conn *c);

/* A command was refused a session channel while no other one runs: the control channel ends, so that there is a place. False: there
 * is none to end. Until room() there is no use in asking again. */
bool ssh_conn_yield(struct ssh_conn *c);
bool ssh_conn_is_yielding(const struct ssh_conn *c);
bool ssh_conn_is_single(const struct ssh_conn *c);      /* one session channel at a time is all it opens (MaxSessions 1) */

/* What a stream holds whose owner does not read. A window is widened when an eighth of it was read (of a command's, which libssh2
 * has to itself, a quarter: channel.c, libssh2_channel_read), ssh's 2 MiB after 96 KiB (channels.c, channel_check_window): the one for
 * bulk has a half more, or commands were a fifth slower than ssh over a long wire. */
#define SSH_WINDOW_STREAM (192u << 10)
#define SSH_WINDOW_BULK (3u << 20)

/* A channel to host:port as the far end sees it (direct-tcpip). done() takes the stream. Codes of faults: "refused" (nothing
 * listens there), "forbidden" (the server forbids forwarding), "timeout" (15 s). */
typedef void (*ssh_dial_fn)(void *ctx, struct stream *s, const struct fault *f);
void ssh_dial(struct ssh_conn *c, const char *host, uint16_t port, uint32_t window_bytes, struct op **slot, ssh_dial_fn done,
              void *ctx);

/* The server opens one channel at a time. Since when (clock_now_ms()) it has not answered a dial, 0: there is none, and whether
 * that one is to there. It goes on after its owner gave it up. */
uint64_t ssh_conn_dialling_due(const struct ssh_conn *c);
bool ssh_conn_dials(const struct ssh_conn *c, const char *host, uint16_t port);

/* A command. Without input the script travels on stdin to "exec sh -s"; with input it is one quoted word of "exec sh -c".
 * op_cancel() closes the channel; what the command does then is its own affair. */
void ssh_run(struct ssh_conn *c, const struct run_spec *spec, struct op **slot, run_done_fn done, void *ctx);
/* Whether the server may have heard of it. op: as in the slot of an ssh_run(). */
bool ssh_run_has_begun(const struct op *op);
