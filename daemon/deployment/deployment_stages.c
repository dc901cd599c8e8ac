/* The way up as people see it: which stage is under way, for how long, and how long it usually takes. */
#include "deployment/deployment_private.h"

#include "base/clock.h"
#include "lease/lease.h"
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

/* ---- with the life ---- */

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

static void enter_stage_connecting(struct deployment *d)
{
    if (d->attempts)
        return; /* again: the stage that failed goes on running */
    deployment_stages_reset(d);
    if (lease_session(d->lease))
        stage_begin(d, STAGE_SSH);
    else
        stage_end(d, STAGE_SSH, STAGE_SKIPPED, "this host");
}

static void enter_stage_installing(struct deployment *d)
{
    const struct instance_record *r = lease_record(d->lease);
    char address[160];

    snprintf(address, sizeof address, "%.140s:%u", r->host ? r->host : "", r->port);
    stage_end_once(d, STAGE_SSH, address);
    stage_begin_once(d, STAGE_ENGINE);
}

static void fail_running_stages(struct deployment *d)
{
    for (enum stage s = 0; s < STAGE_COUNT; s++)
        if (d->stages[s].view.state == STAGE_RUNNING)
            stage_end(d, s, STAGE_FAILED, NULL);
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
