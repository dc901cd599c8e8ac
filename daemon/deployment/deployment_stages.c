/* The way up as people see it: which stage is under way, for how long, and how long it usually takes. */
#include "deployment/deployment_private.h"

#include "base/clock.h"
#include "base/settings.h"
#include "lease/hunt.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/text.h"
#include "store/store.h"

const char *stage_name(enum stage s)
{
    static const char *const names[STAGE_COUNT] = {"capacity", "power_on", "ssh", "guard",
                                                   "engine",   "fetch",    "load"};

    return names[s];
}

const char *stage_state_name(enum stage_state s)
{
    static const char *const names[] = {"ahead", "running", "done", "failed", "skipped"};

    return names[s];
}

static void stage_what(const struct deployment *d, enum stage s, char out[static 300])
{
    snprintf(out, 300, "%s %s %s", stage_name(s), d->name, lease_name(d->lease));
}

void deployment_stages_reset(struct deployment *d)
{
    for (enum stage s = 0; s < STAGE_COUNT; s++) {
        unsigned changes = d->stages[s].view.changes + 1;

        d->stages[s] = (struct stage_record){
            .view = {.bytes = -1, .bytes_total = -1, .rate_bytes = -1, .changes = changes},
            .highest_bytes = -1};
    }
}

static void stage_begin(struct deployment *d, enum stage s)
{
    d->stages[s].view.state = STAGE_RUNNING;
    d->stages[s].view.changes++;
    d->stages[s].begun_due = clock_now_ms();
}

/* text NULL: what was said last. */
static void stage_end(struct deployment *d, enum stage s, enum stage_state how, const char *text)
{
    struct stage_view *v = &d->stages[s].view;
    char what[300];

    if (v->state == STAGE_RUNNING)
        v->took_ms = clock_now_ms() - d->stages[s].begun_due;
    v->state = how;
    v->next_at_ms = 0;
    v->changes++;
    if (text)
        snprintf(v->text, sizeof v->text, "%s", text);
    if (how != STAGE_DONE)
        return;
    stage_what(d, s, what);
    store_put_duration(d->context.store, what, v->took_ms);
}

void deployment_stage(const struct deployment *d, enum stage s, struct stage_view *ret)
{
    char what[300];

    *ret = d->stages[s].view;
    if (ret->state == STAGE_RUNNING)
        ret->took_ms = clock_now_ms() - d->stages[s].begun_due;
    stage_what(d, s, what);
    ret->usual_ms = store_usual_ms(d->context.store, what);
}

/* A step that was done stays done while a later one is tried again. */
static void stage_begin_once(struct deployment *d, enum stage s)
{
    if (d->stages[s].view.state == STAGE_AHEAD)
        stage_begin(d, s);
}

static void stage_end_once(struct deployment *d, enum stage s, const char *text)
{
    if (d->stages[s].view.state == STAGE_RUNNING)
        stage_end(d, s, STAGE_DONE, text);
}

static void address_text(const struct deployment *d, char out[static 160])
{
    const struct instance_record *r = lease_record(d->lease);

    snprintf(out, 160, "%.140s:%u", r->host ? r->host : "", r->port);
}

/* ---- a machine that is rented ---- */

/* "asks for 5090 in westDC3", "switches off first". */
static void asking_text(const struct rented *r, const struct rented_figures *n, char out[static 160])
{
    const struct hunt_candidate *c = hunt_current(rented_hunt(r));
    char name[HUNT_NAME_MAX];

    if (n->asks && c)
        snprintf(out, 160, "asks for %s", hunt_name(c, name));
    else
        snprintf(out, 160, "%s",
                 n->state == LIFE_STOPPING  ? "switches off first"
                 : n->state != LIFE_UNKNOWN ? ""
                 : n->is_none               ? "looks what its provider has"
                                            : "looks at the machine");
}

/* "none free, try 3, until 09:30"; or what it waits for instead: money, the disk, somebody's help. */
static void capacity_text(const struct rented *r, const struct rented_figures *n, char out[static 160])
{
    const struct fault *trouble = rented_trouble(r);
    int64_t until = rented_record(r)->search_until_at_ms;
    bool is_one_of_several = trouble->kind == FAULT_INVALID && hunt_current(rented_hunt(r));
    bool lacks_card =
        is_one_of_several || streq(trouble->code, "no_capacity") || streq(trouble->code, "host_full");
    char end[MINUTE_TEXT_MAX];

    if (n->state != LIFE_WAITING)
        asking_text(r, n, out);
    else
        snprintf(out, 160, "%.100s, try %u%s%s", lacks_card ? "none free" : trouble->text, n->tries,
                 until ? ", until " : "", until ? minute_format(end, until) : "");
}

/* As people write it: "15m". */
static const char *setting_text(const struct deployment *d, const char *key, char out[static TEXT_SHORT_MAX])
{
    uint64_t ms = settings_ms(d->context.settings, "guard", key);

    if (ms % 60000)
        return duration_format(out, ms, false);
    snprintf(out, TEXT_SHORT_MAX, "%llum", (unsigned long long)(ms / 60000));
    return out;
}

static void guard_text(const struct deployment *d, const struct rented *r, char out[static 160])
{
    char lease[TEXT_SHORT_MAX];

    if (rented_keeper(r) && keeper_state(rented_keeper(r)) == KEEPER_KEPT)
        snprintf(out, 160, "lease %s, read back", setting_text(d, "lease", lease));
    else if (rented_is_anothers(r))
        snprintf(out, 160, "another llmhostd's, which keeps this machine");
    else
        snprintf(out, 160, "none: nothing stops this machine but this llmhostd");
}

static void power_text(const struct deployment *d, const struct rented *r, char out[static 160])
{
    struct rented_figures n;
    char first[TEXT_SHORT_MAX];

    rented_figures(r, &n);
    if (n.was_powered)
        snprintf(out, 160, "running, first guard %s", setting_text(d, "first", first));
    else
        snprintf(out, 160, "running already");
}

/* What it is about: also said while it runs, where it changes. */
static void stage_says(struct deployment *d, enum stage s, const char *text, int64_t next_at_ms)
{
    struct stage_view *v = &d->stages[s].view;

    if (v->state != STAGE_RUNNING || (streq(v->text, text) && v->next_at_ms == next_at_ms))
        return;
    v->next_at_ms = next_at_ms;
    snprintf(v->text, sizeof v->text, "%s", text);
    v->changes++;
}

/* Those before s are done, also when nobody saw them run; s runs. */
static void stages_reach(struct deployment *d, const struct rented *r, enum stage s)
{
    char text[RENTED_TEXT_MAX];

    for (enum stage before = STAGE_CAPACITY; before < s; before++) {
        if (d->stages[before].view.state == STAGE_AHEAD)
            stage_begin(d, before);
        if (d->stages[before].view.state != STAGE_RUNNING)
            continue;
        switch (before) {
        case STAGE_CAPACITY: rented_describe(r, text); break;
        case STAGE_POWER_ON: power_text(d, r, text); break;
        case STAGE_GUARD: guard_text(d, r, text); break;
        default: address_text(d, text); break;
        }
        stage_end_once(d, before, text);
    }
    stage_begin_once(d, s);
}

/* It was on its way already, and its card is asked for anew: a boot failed. */
static void stages_back_to_capacity(struct deployment *d)
{
    for (enum stage s = STAGE_POWER_ON; s <= STAGE_GUARD; s++) {
        struct stage_view *v = &d->stages[s].view;

        if (v->state == STAGE_AHEAD)
            continue;
        v->state = STAGE_AHEAD;
        *v->text = '\0';
        v->changes++;
    }
    if (d->stages[STAGE_CAPACITY].view.state != STAGE_RUNNING)
        stage_begin(d, STAGE_CAPACITY);
}

/* How far the machine is. */
static void stages_of_rented(struct deployment *d, const struct rented *r)
{
    char text[RENTED_TEXT_MAX] = "";
    struct rented_figures n;

    switch (rented_step(r)) {
    case RENTED_CAPACITY: stages_back_to_capacity(d); /* fall through */
    case RENTED_AT_REST:
        stage_begin_once(d, STAGE_CAPACITY);
        rented_figures(r, &n);
        capacity_text(r, &n, text);
        stage_says(d, STAGE_CAPACITY, text, n.next_at_ms);
        break;
    case RENTED_POWER_ON:
        stages_reach(d, r, STAGE_POWER_ON);
        stage_says(d, STAGE_POWER_ON, rented_describe(r, text), 0); /* from here on it bills */
        break;
    case RENTED_SSH: stages_reach(d, r, STAGE_SSH); break;
    case RENTED_GUARD: stages_reach(d, r, STAGE_GUARD); break;
    case RENTED_THERE: stages_reach(d, r, STAGE_ENGINE); break;
    }
}

uint64_t deployment_searched_due(const struct deployment *d)
{
    const struct stage_record *c = &d->stages[STAGE_CAPACITY];

    return c->view.state == STAGE_DONE ? c->begun_due + c->view.took_ms : 0;
}

void deployment_stages_of_way(struct deployment *d)
{
    const struct rented *r = lease_rented(d->lease);

    if (r && d->state == DEPLOYMENT_CONNECTING && !d->attempts)
        stages_of_rented(d, r);
}

/* ---- with the life ---- */

static void enter_stage_connecting(struct deployment *d)
{
    if (d->attempts)
        return; /* again: the stage that failed goes on running */
    deployment_stages_reset(d);
    if (lease_rented(d->lease))
        deployment_stages_of_way(d);
    else if (lease_session(d->lease))
        stage_begin(d, STAGE_SSH);
    else
        stage_end(d, STAGE_SSH, STAGE_SKIPPED, "this host");
}

static void enter_stage_installing(struct deployment *d)
{
    char address[160];

    if (lease_rented(d->lease) && !d->attempts)
        stages_reach(d, lease_rented(d->lease), STAGE_ENGINE);
    address_text(d, address);
    stage_end_once(d, STAGE_SSH, address);
    stage_begin_once(d, STAGE_ENGINE);
}

/* What it costs is read when it is on: then that failed, and no way in. */
static void fail_for_price(struct deployment *d)
{
    for (enum stage s = STAGE_SSH; s <= STAGE_GUARD; s++)
        if (d->stages[s].view.state != STAGE_AHEAD) {
            d->stages[s].view.state = STAGE_AHEAD;
            d->stages[s].view.changes++;
        }
    stage_end(d, STAGE_POWER_ON, STAGE_FAILED, "too dear");
}

static void fail_running_stages(struct deployment *d)
{
    if (streq(d->fault.code, "price") && d->stages[STAGE_POWER_ON].view.state == STAGE_DONE)
        fail_for_price(d);
    for (enum stage s = 0; s < STAGE_COUNT; s++)
        if (d->stages[s].view.state == STAGE_RUNNING)
            stage_end(d, s, STAGE_FAILED, s <= STAGE_POWER_ON ? "" : NULL); /* what it waited for is over */
}

/* What people see of the way up. */
void deployment_enter_stage(struct deployment *d, enum deployment_state was)
{
    switch (d->state) {
    case DEPLOYMENT_CONNECTING: enter_stage_connecting(d); break;
    case DEPLOYMENT_INSTALLING: enter_stage_installing(d); break;
    case DEPLOYMENT_FETCHING:
        stage_end_once(d, STAGE_ENGINE, NULL);
        stage_begin_once(d, STAGE_FETCH);
        break;
    case DEPLOYMENT_LOADING:
        stage_end_once(d, STAGE_FETCH, NULL);
        stage_begin_once(d, STAGE_LOAD);
        break;
    case DEPLOYMENT_READY:
        if (was == DEPLOYMENT_LOADING)
            stage_end_once(d, STAGE_LOAD, NULL);
        break;
    case DEPLOYMENT_FAILED: fail_running_stages(d); break;
    case DEPLOYMENT_PLACING:
    case DEPLOYMENT_STARTING:
    case DEPLOYMENT_OFF:
    case DEPLOYMENT_ASLEEP:
    case DEPLOYMENT_DRAINING:
    case DEPLOYMENT_STOPPING: break;
    }
}
