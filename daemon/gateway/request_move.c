/* A model on several instances. A request goes to one of them when it is asked; as long as no byte of it has
 * reached an engine, it goes to another when that one would answer sooner: it is ready and this one is not,
 * or this one was switched off, is lost, has failed or sleeps. It keeps its turn, its hold and its beats, and
 * counts where it is. */
#include "base/log.h"
#include "gateway/gateway_private.h"
#include "gateway/request_private.h"
#include "lease/lease.h"
#include "proto/text.h"

bool request_move(struct request *r)
{
    struct deployment *from = r->deployment, *to = manager_find_sooner(r->gateway->manager, from);

    if (!to)
        return false;
    log_line(LOG_LEVEL_INFO, LOG_REQUEST, deployment_name(to), "%04x goes to %s, not to %s (%s)",
             r->id & 0xffff, lease_name(deployment_lease(to)), lease_name(deployment_lease(from)),
             deployment_is_reachable(from) ? deployment_state_name(deployment_state(from))
                                           : "the tunnel is down");
    op_cancel(&r->op);
    request_set_held(r, false);
    deployment_request_moved(from, to, &r->use);
    r->deployment = to;
    r->fresh = false;
    r->last = (struct fault){};
    request_wait(r);
    return true;
}

void request_look_elsewhere(struct request *r, const struct deployment *d)
{
    bool is_unsent = r->step == REQUEST_HELD || r->step == REQUEST_DIALING || r->step == REQUEST_PAUSING;

    if (is_unsent && streq(deployment_name(r->deployment), deployment_name(d)))
        request_move(r);
}
