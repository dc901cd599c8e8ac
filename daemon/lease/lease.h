/* A machine held: its record, the way to it, and what can be done on it. One that is simply there is nobody's to switch; of one that is rented the
 * other half is rented.h: its life, its money, its guard; of one that was rented by hand, and is to stop from inside, boxed.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/op.h"
#include "base/runq.h"
#include "session/session.h"
#include "store/store.h"

struct account;
struct boxed;
struct host;
struct lease;
struct loop;
struct provider_ops;
struct resolver;
struct rented;
struct secrets;
struct settings;
struct turns;

/* What every lease works with; borrowed for the life of the lease. */
struct lease_context {
    struct loop *loop;
    struct resolver *resolver;
    struct turns *turns;
    struct secrets *secrets;
    struct store *store;
    const struct settings *settings;
    struct account *account;            /* of a rented machine; else NULL */
    /* From the run queue, after the way to the machine changed. */
    void (*changed)(void *ctx, struct lease *l);
    void *ctx;
};

/* Copies the record. The session starts as wanted. stored: the record is in the database (it is a trial until then). */
struct lease *lease_new(const struct lease_context *context, const struct instance_record *record, bool stored);
struct lease *lease_free(struct lease *l);

const char *lease_name(const struct lease *l);
const struct provider_ops *lease_provider(const struct lease *l);
const struct instance_record *lease_record(const struct lease *l);      /* without the host key, see lease_host_key() */
struct host *lease_host(struct lease *l);
struct session *lease_session(struct lease *l);         /* NULL: this very host */
const struct host_key *lease_host_key(const struct lease *l);   /* the pinned one; NULL: none yet */
/* What is asked of it now gets there; of a rented one only with a guard that was read back, and with its card. */
bool lease_is_reachable(const struct lease *l);
struct rented *lease_rented(const struct lease *l);             /* NULL: it is not rented */
struct boxed *lease_boxed(const struct lease *l);               /* NULL: nothing switches it off from inside; a trial is not begun with */
/* It is off, as far as can be seen, and only a person switches it on: true, and *ret says so ("switched_off"). */
bool lease_needs_hand(const struct lease *l, struct fault *ret);
/* Why it will not be reached without somebody's help: credentials, host key; of a rented one that is not to be on: why (boot_failed, stopped_elsewhere,
 * budget …). NULL: nothing of the kind. */
const struct fault *lease_refusal(const struct lease *l);

/* A trial that went well: from now on it is kept. */
store_ticket lease_keep(struct lease *l);
/* How it is switched off from inside from now on: "shutdown", or NULL: not at all. */
store_ticket lease_set_stop(struct lease *l, const char *stop);
/* It is not at all, any more, and its guard lives on there until it is reached; *ret_acts_at_ms: it acts then, 0: unknown. */
bool lease_leaves_guard(const struct lease *l, int64_t *ret_acts_at_ms);
/* Done when the try to end it that is under way is over: NULL, or why it lives on (code "guard_left"). An op. */
void lease_wait_freed(struct lease *l, struct op **slot, op_done_fn done, void *ctx);
/* A changed record on trial, of this machine, went well: from now on it is this one's, with its pin. */
store_ticket lease_change(struct lease *l, const struct lease *trial);
/* Accepts exactly the key the machine showed last: -ENOENT when it shows no other key than the pinned one, -EKEYREJECTED when
 * fingerprint ("SHA256:…") is not that of the key shown. A trial writes nothing: its ticket is 0. */
int lease_accept_host_key(struct lease *l, const char *fingerprint, store_ticket *ret_ticket);
