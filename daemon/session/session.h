/* The kept-up SSH way to one instance. A life (session_fsm.c): it connects while wanted, for ever, and tells its owner of each
 * change. Requests made while it is down wait. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "ssh/conn.h"

struct loop;
struct resolver;
struct secrets;
struct session;
struct turns;

enum session_state {
    SESSION_IDLE,           /* not wanted */
    SESSION_CONNECTING,     /* name, handshake, host key, login */
    SESSION_UP,
    SESSION_WAITING,        /* the next try is due at session_next_try() */
    SESSION_REFUSED,        /* credentials or host key: stays until session_renew() or a changed target */
};

/* Borrowed for the call. */
struct session_target {
    const char *host;
    uint16_t port;
    const char *user;
    const struct host_key *pinned;      /* NULL or n = 0: the first contact pins */
    const char *agent;                  /* the socket of an ssh-agent, NULL: none */
    const char *proxy;                  /* as of proto/ssh_proxy.h, NULL: a TCP connection */
    bool install_key;                   /* put our own key on the machine after the first good login */
};

/* The code of session_fault() while it connects: the login goes on as soon as somebody does what the text says. */
#define SESSION_AGENT_WAITS "agent_waits"

/* Tried instead of those in the files: of a change that is on trial. Texts may be NULL. */
struct session_secrets {
    const char *password, *key, *passphrase;
};

struct session_events {
    /* After each change of state, from the run queue: never from inside a call. */
    void (*changed)(void *ctx, struct session *s);
    /* First contact: pin it (durably) now. */
    void (*pin)(void *ctx, const struct host_key *shown);
};

/* name: of the instance; secrets are read as NAME.password, NAME.key, NAME.passphrase and daemon.key when a login begins.
 * Starts SESSION_IDLE. Borrows loop, resolver, turns (NULL: it logs in whenever it likes), secrets. */
struct session *session_new(struct loop *l, struct resolver *r, struct turns *turns, struct secrets *secrets, const char *name,
                            const struct session_target *target, const struct session_events *events, void *ctx);
/* Before the first login. Borrowed for the life of the session. */
void session_use_secrets(struct session *s, const struct session_secrets *instead);
/* On trial until it is told otherwise: somebody waits for the outcome, so that a refusal is no event. */
void session_on_trial(struct session *s, bool on_trial);
/* Requests that still wait are answered (FAULT_GONE). */
struct session *session_free(struct session *s);

void session_want(struct session *s, bool wanted);
/* Credentials, pin or address may be other ones now: tries at once, also from SESSION_REFUSED. target NULL: as before. */
void session_renew(struct session *s, const struct session_target *target);
/* The machine slept or the network changed: ping when up, try at once when waiting. */
void session_hurry(struct session *s);

enum session_state session_state(const struct session *s);
const char *session_state_name(enum session_state st);      /* "none" "connecting" "up" "down" "refused": Tunnel.state */
const char *session_name(const struct session *s);
/* The last fault; kind FAULT_NONE while all is well. */
const struct fault *session_fault(const struct session *s);
/* Host key shown by the server when code is "host_key". */
const struct host_key *session_shown_key(const struct session *s);

struct session_figures {
    int64_t since_at_ms;            /* in this state; while it is away: since the loss */
    unsigned tries;                 /* since it was last up */
    int64_t next_try_at_ms;         /* 0: none planned */
    unsigned reconnects;            /* since the daemon started; silence that ended by itself is none */
    double rtt_ms;                  /* < 0: unknown */
    char last_break[160];           /* "0.6s, 12:20:07 no answer to a ping"; "" when there was none */
    bool is_single;                 /* it runs one command at a time (MaxSessions 1) */
    const char *method;             /* how we logged in: "own key", "password", …; NULL */
};
void session_figures(const struct session *s, struct session_figures *ret);

/* As ssh_dial() and ssh_run(), but they wait for the session. A command is never repeated by itself: once it was started, a lost
 * connection is FAULT_UNCERTAIN. A dial that found the connection dying, or silent, is tried again on the next. Uploads (input of
 * 256 KiB and more), streams with a large window and what comes after a dial that hangs for 2 s, to another port, go over further connections of the
 * session, up to four in all, made on demand and gone after a minute without work. Silence (SESSION_CONNECTING again) ends a
 * connection after 10 s; until then its streams and commands go on as soon as it speaks, also beside the next one. */
void session_dial(struct session *s, const char *host, uint16_t port, uint32_t window_bytes, struct op **slot, ssh_dial_fn done,
                  void *ctx);
void session_run(struct session *s, const struct run_spec *spec, struct op **slot, run_done_fn done, void *ctx);
/* Takes our own key off the machine again, before the instance is forgotten: the line we once added to authorized_keys, and no
 * other. It is not put back afterwards. Waits for the session like any command. */
void session_forget_key(struct session *s, struct op **slot, void (*done)(void *ctx, const struct fault *f), void *ctx);
/* How many requests wait for bytes, beyond the dials and commands the session knows of itself. */
void session_waiting(struct session *s, int change);
