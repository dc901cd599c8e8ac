/* links: lease
 *
 * What a lease does with the two halves of a rented machine: the session waits for the way in, a password is
 * read from a file that is there before the login, and nothing is reached that has no guard. */
#include "base/resolve.h"
#include "lease/lease.h"
#include "session/host.h"
#include "session/session.h"
#include "store/secrets.h"
#include "tests/unit/rented_world.h"

/* ---- a session that does as it is told ---- */

struct session {
    struct session_events events;
    void *ctx;
    enum session_state state;
    struct fault fault;
    char host[64], user[16];
    uint16_t port;
    bool wanted, has_pin;
    unsigned n_renewed;
};

static struct session *session;
static struct secrets *secrets;
static struct lease *lease;

static void take_target(struct session *s, const struct session_target *t)
{
    snprintf(s->host, sizeof s->host, "%s", t->host);
    snprintf(s->user, sizeof s->user, "%s", t->user);
    s->port = t->port;
    s->has_pin = t->pinned != NULL;
}

struct session *session_new(struct loop *l, struct resolver *r, struct turns *turns, struct secrets *all,
                            const char *name, const struct session_target *target,
                            const struct session_events *events, void *ctx)
{
    (void)l, (void)r, (void)turns, (void)all, (void)name;
    session = xnew(struct session);
    session->events = *events;
    session->ctx = ctx;
    take_target(session, target);
    return session;
}

struct session *session_free(struct session *s)
{
    free(s);
    return NULL;
}

void session_on_trial(struct session *s, bool on_trial)
{
    (void)s, (void)on_trial;
}

void session_want(struct session *s, bool wanted)
{
    s->wanted = wanted;
    if (!wanted)
        s->state = SESSION_IDLE;
}

void session_renew(struct session *s, const struct session_target *target)
{
    take_target(s, target);
    s->n_renewed++;
}

enum session_state session_state(const struct session *s)
{
    return s->state;
}

const struct fault *session_fault(const struct session *s)
{
    return &s->fault;
}

const struct host_key *session_shown_key(const struct session *s)
{
    (void)s;
    return NULL;
}

static bool is_up(const struct host *h)
{
    (void)h;
    return session->state == SESSION_UP;
}

static struct host *free_host(struct host *h)
{
    free(h);
    return NULL;
}

struct host *host_ssh_new(struct session *s)
{
    static const struct host_ops ops = {.is_reachable = is_up, .free = free_host};
    struct host *h = xnew(struct host);

    (void)s;
    h->ops = &ops;
    return h;
}

struct host *host_local_new(struct loop *l)
{
    (void)l;
    return NULL;
}

static void session_becomes(enum session_state s)
{
    session->state = s;
    session->events.changed(session->ctx, session);
    loop_turns(loop, 3);
}

/* ---- the lease ---- */

static void on_lease_changed(void *ctx, struct lease *l)
{
    (void)ctx, (void)l;
    n_changed++;
}

static void make_lease(const struct instance_record *record)
{
    const struct lease_context context = {
        .loop = loop,
        .secrets = secrets,
        .store = store,
        .settings = settings,
        .account = (struct account *)&books,
        .changed = on_lease_changed,
    };

    lease = lease_new(&context, record, true);
}

static void make_rented_lease(void)
{
    struct rental_record rental = {
        .state = (char *)"absent",
        .goal = (char *)"off",
        .gpu = (char *)"4090D",
        .card = (char *)"pro-4090d",
        .image = (char *)"image-1",
        .cards = 1,
    };
    const struct instance_record record = {
        .name = (char *)"gz", .provider = (char *)"autodl", .install_key = true, .rental = &rental};

    make_lease(&record);
}

static void setup_lease(void)
{
    setup();
    cr_assert_eq(secrets_open(directory, &secrets), 0);
    make_rented_lease();
}

static void teardown_lease(void)
{
    lease = lease_free(lease);
    secrets = secrets_free(secrets);
    teardown();
}

TestSuite(lease, .init = setup_lease, .fini = teardown_lease);

static void comes_up(void)
{
    rented_want(lease_rented(lease), LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(session->wanted));
    session_becomes(SESSION_UP);
    keeper_becomes(KEEPER_KEPT);
}

static void assert_password(const char *expected)
{
    _cleanup_secret_ char *text = NULL;

    cr_assert_eq(secrets_get(secrets, "gz", "password", &text), 0);
    cr_assert_str_eq(text, expected);
}

Test(lease, a_rented_machine_is_connected_to_when_its_way_is_known)
{
    flush();
    cr_assert_not(session->wanted);
    cr_assert_null(lease_record(lease)->host);
    cr_assert_str_eq(session->user, "root");
    rented_want(lease_rented(lease), LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(session->wanted));
    cr_assert_str_eq(session->host, "connect.gz.example");
    cr_assert_eq(session->port, 34222);
    cr_assert_eq(session->n_renewed, 1);
    assert_password("s3cret");
    cr_assert_not(lease_is_reachable(lease));
    session_becomes(SESSION_UP);
    cr_assert_not(lease_is_reachable(lease), "it has no guard");
    keeper_becomes(KEEPER_KEPT);
    cr_assert(lease_is_reachable(lease));
}

Test(lease, each_power_on_has_another_way_and_the_pin_stays)
{
    comes_up();
    session->events.pin(session->ctx, &(struct host_key){.n = 1});
    rented_want(lease_rented(lease), LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(!session->wanted));
    cr_assert_not(lease_is_reachable(lease));
    session_becomes(SESSION_IDLE);
    cr_assert(COMES_TRUE(life_state(rented_life(lease_rented(lease))) == LIFE_STOPPED));
    company.way.port = 40001;
    snprintf(company.way.password, sizeof company.way.password, "another");
    comes_up();
    cr_assert_eq(session->n_renewed, 2);
    cr_assert_eq(session->port, 40001);
    cr_assert(session->has_pin);
    assert_password("another");
}

/* Whoever holds to the key of a machine that is gone pays for one that it cannot get into. */
Test(lease, another_machine_shows_another_key)
{
    struct rented *r = lease_rented(lease);

    comes_up();
    session->events.pin(session->ctx, &(struct host_key){.n = 1});
    rented_want(r, LIFE_GOAL_OFF);
    cr_assert(COMES_TRUE(life_state(rented_life(r)) == LIFE_STOPPED));
    session_becomes(SESSION_IDLE);
    company.exists = false;
    cr_assert(COMES_TRUE(life_state(rented_life(r)) == LIFE_ABSENT));
    cr_assert_not_null(lease_host_key(lease));
    rented_want(r, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(session->wanted));
    cr_assert_eq(company.n_create, 2);
    cr_assert_null(lease_host_key(lease));
    cr_assert_not(session->has_pin);
    cr_assert_eq(lease_record(lease)->host_key_at_ms, 0);
}

Test(lease, a_way_that_is_the_same_renews_no_session)
{
    comes_up();
    session_becomes(SESSION_WAITING);
    unsigned before = company.n_reach;

    cr_assert(COMES_TRUE(company.n_reach > before + 1));
    cr_assert_eq(session->n_renewed, 1);
}

Test(lease, what_needs_a_person_is_a_refusal_and_what_waits_is_none)
{
    struct rented *r = lease_rented(lease);

    cr_assert_null(lease_refusal(lease));
    fault_code(&company.refusal, FAULT_EXHAUSTED, "no_capacity", "none is free");
    rented_want(r, LIFE_GOAL_ON);
    cr_assert(COMES_TRUE(life_state(rented_life(r)) == LIFE_WAITING));
    cr_assert_null(lease_refusal(lease));
    fault_code(&company.refusal, FAULT_DENIED, "not_verified", "a person has to show who they are");
    cr_assert(COMES_TRUE(lease_refusal(lease) != NULL));
    cr_assert_str_eq(lease_refusal(lease)->code, "not_verified");
    rented_want(r, LIFE_GOAL_OFF);
    flush();
    company.refusal = (struct fault){};
    comes_up();
    cr_assert_null(lease_refusal(lease));
    company.machine.power = INSTANCE_OFF;
    cr_assert(COMES_TRUE(lease_refusal(lease) != NULL));
    cr_assert_str_eq(lease_refusal(lease)->code, "stopped_elsewhere");
}

Test(lease, a_refused_login_is_a_refusal_of_a_rented_machine_too)
{
    comes_up();
    fault_code(&session->fault, FAULT_DENIED, "login_refused", "no");
    session_becomes(SESSION_REFUSED);
    cr_assert_str_eq(lease_refusal(lease)->code, "login_refused");
}

static unsigned n_restored;

static void on_restored(void *ctx, const struct instance_record *r)
{
    (void)ctx;
    n_restored++;
    cr_assert_str_eq(r->provider, "autodl");
    cr_assert_not_null(r->rental);
    cr_assert_str_eq(r->rental->state, "running");
    cr_assert_str_eq(r->rental->id, "pro-1");
    cr_assert_eq(r->rental->rate_milli, 1980);
}

Test(lease, is_kept_with_what_there_is_to_know_of_its_rental)
{
    struct fault f = {};
    struct op *op = NULL;
    bool done = false;

    store_after(store, lease_keep(lease), &op, on_flushed, &done);
    cr_assert(LOOP_UNTIL(loop, done));
    comes_up();
    flush();
    lease = lease_free(lease);
    store = store_close(store);
    open_store();
    cr_assert_eq(store_load(store, &(struct store_readers){.instance = on_restored}, NULL, &f), 0);
    cr_assert_eq(n_restored, 1);
}
