/* What the files of the session share. session_fsm.c: the life. session.c: the object. session_link.c: its
 * connections. session_request.c: dials and commands that wait or run. session_key.c: credentials and our own
 * key on the machine. */
#pragma once

#include "base/list.h"
#include "base/runq.h"
#include "policy/retry.h"
#include "session/session.h"

struct op;
struct timer;

/* One connection. It outlives the state that made it by the rest of the turn: a request's answer, given from
 * inside the connection, may end the session, so the connection is freed from the run queue. */
struct session_link {
    struct session *session; /* NULL: nobody listens any more */
    struct list node;        /* in links */
    struct ssh_conn *conn;
    uint64_t number; /* never used twice in a session, as an address is */
    bool is_bulk;
    bool is_suspect;   /* silent for too long; it may speak again, or end */
    bool is_retired;   /* another one became the first: it keeps what it carries and takes nothing new */
    uint64_t used_due; /* when it was last seen to carry something, or made */
    bool went_ahead;   /* a dial, with the login */
    bool has_run;      /* a command: the machine does open session channels */
    unsigned runs_max; /* at a time, as far as its refusals tell; 0: as many as you like */
    struct work bury;
};

struct session {
    /* What session_next() decides by, with the state. */
    enum session_state state;
    bool wanted;
    bool refused;           /* we were sent away, and nothing has changed since */
    bool reread;            /* the refused credentials were read a second time */
    bool moved;             /* RENEW: the connection we have leads to another place than the one now named */
    unsigned tries;         /* begun since a connection last held for SESSION_SETTLE_MS */
    /* The next two are made anew for each event. */
    uint64_t login_wait_ms; /* the ration of logins: how long until one may begin */
    bool has_other;         /* beside the first connection is one that was heard since that one was not */

    struct loop *loop; /* borrowed, as the next three */
    struct resolver *resolver;
    struct turns *turns;
    struct secrets *secrets;
    struct session_secrets instead;
    char *name, *host, *user;
    uint16_t port;
    bool install_key;
    bool is_single;      /* it opens one session channel at a time, as a connection found out */
    bool own_key_holds;  /* alone it let us in the last time */
    unsigned ahead_lost; /* connections in a row that took a dial along with the login, and never came up */
    bool on_trial; /* a refusal pages nobody: whoever tries it is there */
    char *agent, *proxy;
    struct host_key *pinned, *shown; /* NULL: none yet; of the last mismatch */
    struct session_events events;
    void *ctx;

    struct session_link *link; /* CONNECTING and UP: the first of links */
    struct list links;         /* with spares and with those under suspicion, see session_link.c */
    struct timer *spare_timer;
    uint64_t spare_due;        /* no further one before */
    struct timer *timer;       /* CONNECTING: deadline; UP: has it settled; WAITING: the next try */
    struct timer *pause_timer; /* a refused command asks again */
    struct op *key_op;         /* our key on its way to the machine */
    struct retry_logins logins;
    uint32_t dice;
    struct work changed, pin;

    struct fault fault;
    int64_t since_at_ms, next_try_at_ms, lost_at_ms;
    uint64_t lost_due; /* 0: not away */
    char lost_why[100];
    unsigned reconnects;
    char last_break[160];
    char method[24];

    struct list queued, started;   /* struct session_request, in the order they were asked for */
    uint64_t requests, links_made; /* count all there ever were */
    int waiting;                   /* of others: session_waiting() */
};

enum session_event {
    SESSION_EV_WANT,
    SESSION_EV_UNWANT,
    SESSION_EV_UP,
    SESSION_EV_DOWN,
    SESSION_EV_SUSPECT, /* the first connection is silent */
    SESSION_EV_SPOKE,   /* another one may have been heard meanwhile */
    SESSION_EV_TIMER,
    SESSION_EV_RENEW,
    SESSION_EV_HURRY,
};

/* What to do next: KEEP; ENTER a state (also the same one, anew); PING the peer; SETTLE: this connection
 * holds, a loss of it is a first loss again; SWAP: another connection becomes the first. */
struct session_move {
    enum session_state state;
    enum { SESSION_KEEP, SESSION_ENTER, SESSION_PING, SESSION_SETTLE, SESSION_SWAP } how;
};

#define SESSION_SETTLE_MS 1000u
#define SESSION_LOGIN_MS  90000u /* more than the connection's own deadlines: for an answer that never comes */

/* There are servers that cut off whoever does not wait for the answer to the login. */
#define SESSION_AHEAD_LOST_MAX 2

/* session_fsm.c */
struct session_move session_next(const struct session *s, enum session_event ev, const struct fault *f);
void session_event(struct session *s, enum session_event ev, const struct fault *f);
const char *session_event_name(enum session_event ev);

/* session.c */
uint32_t session_dice(struct session *s);

/* session_link.c */
#define SESSION_LINKS_MAX 4
void session_link_open(struct session *s);
void session_link_abandon(struct session *s);
void session_link_take_over(struct session *s);
struct session_link *session_link_heard(const struct session *s);
void session_links_drop(struct session *s);
void session_links_drop_others(struct session *s);
void session_links_suspect(struct session *s);
void session_links_retire(struct session *s);
void session_links_ping(struct session *s);
bool session_spare_open(struct session *s, bool is_bulk);
void session_spare_look_within(struct session *s, uint64_t delay_ms);
void session_on_spare_timer(void *ctx);

/* session_request.c */
#define SESSION_STALLED_MS 2000u /* a dial that takes longer has met a port that does not answer */
void session_requests_start(struct session *s);   /* all that are queued, when the connection is there */
bool session_requests_go_ahead(struct session *s); /* the dials, to one that will soon be there; false: none */
void session_requests_abandon(struct session *s); /* answers FAULT_GONE, later in this turn */
void session_requests_count(struct session *s);   /* tells the connection how many wait for bytes */
void session_on_pause_timer(void *ctx);
unsigned session_requests_on(const struct session_link *link);

/* session_key.c */
void session_credentials(struct session *s, struct ssh_secrets *ret);
void session_key_install(struct session *s); /* when it is wanted and was not what let us in */
