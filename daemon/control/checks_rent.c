/* Each check looks at what was heard already (the doctor asks the accounts first), and says what to type where
 * something is wrong. */
#include "control/checks_rent.h"

#include "base/clock.h"
#include "base/fault.h"
#include "control/checks.h"
#include "control/explain.h"
#include "control/show.h"
#include "control/show_rent.h"
#include "guard/keeper.h"
#include "lease/account.h"
#include "lease/boxed.h"
#include "lease/lease.h"
#include "lease/rented.h"
#include "proto/json.h"
#include "proto/text.h"
#include "provider/known_host.h"

/* ---- accounts ---- */

static void check_limits(const struct account *a, struct json *list)
{
    const struct money_limits *m = &account_record(a)->limits;
    char day[TEXT_SHORT_MAX], month[TEXT_SHORT_MAX];
    const char *unit = account_ops(a)->unit;

    if (!m->day_milli && !m->month_milli)
        check_add(list, "account.limits", account_name(a), "warn",
                  check_command("llmhostctl provider set %s --budget-day=AMOUNT", account_name(a)),
                  "no limit of money is set");
    else
        check_add(list, "account.limits", account_name(a), "ok", NULL, "at most %s a day, %s a month",
                  m->day_milli ? money_format(day, m->day_milli, unit) : "anything",
                  m->month_milli ? money_format(month, m->month_milli, unit) : "anything");
}

void check_account(const struct account *a, int64_t balance_milli, const struct fault *f, struct json *list)
{
    int64_t floor_milli = account_record(a)->limits.floor_milli;
    const char *name = account_name(a), *unit = account_ops(a)->unit;
    char balance[TEXT_SHORT_MAX];

    if (f) {
        check_add(list, "account.token", name, f->kind == FAULT_DENIED ? "fail" : "warn", show_next(f, name),
                  "%s", f->text);
    } else {
        check_add(list, "account.token", name, "ok", NULL, "the token is valid");
        if (account_ops(a)->unofficial)
            check_add(list, "account.unofficial", name, "warn", NULL,
                      "an interface that its owner does not document: it may change any day");
    }
    if (!f && account_ops(a)->balance) {
        money_format(balance, balance_milli, unit);
        check_add(list, "account.balance", name, balance_milli > floor_milli ? "ok" : "fail", NULL,
                  "balance %s%s", balance,
                  balance_milli > floor_milli ? "" : ": nothing is switched on with so little");
    }
    check_limits(a, list);
}

void check_orphan(const struct account *a, const struct instance_seen *m, struct json *list)
{
    bool off = m->power == INSTANCE_OFF;

    check_add(list, "account.orphan", account_name(a), off ? "warn" : "fail",
              off ? check_command("llmhostctl release --at %s %s", account_name(a), m->id)
                  : check_command("llmhostctl down --at %s %s", account_name(a), m->id),
              "%s (%s) is %s%s: it was rented from here, or by an llmhostd with a copy of this database, and "
              "no instance here knows it",
              m->id, m->name, m->word, off ? "" : " and bills");
}

/* ---- a machine ---- */

static void check_guard(const struct lease *l, const struct keeper *k, struct json *list)
{
    const char *name = lease_name(l);
    struct keeper_figures n = {0};
    char ago[TEXT_SHORT_MAX], at[MINUTE_TEXT_MAX];
    const char *reason = k && keeper_fault(k)->kind ? keeper_fault(k)->text : NULL;
    struct fault f;

    if (!k)
        return;
    keeper_figures(k, &n);
    switch (keeper_state(k)) {
    case KEEPER_KEPT:
        check_add(list, "rented.guard", name, "ok", NULL,
                  "its guard answered %s ago, and switches it off at %s unless it is asked again%s%s",
                  duration_format(ago, (uint64_t)MAX(clock_wall_ms() - n.read_at_ms, (int64_t)0), false),
                  n.acts_at_ms ? minute_format(at, n.acts_at_ms) : "?", *n.ways ? ", by " : "", n.ways);
        if (guard_is_shared(l, &f))
            check_add(list, "rented.guard", name, "warn", show_next(&f, name), "%s", f.text);
        break;
    case KEEPER_REFUSED:
        check_add(list, "rented.guard", name, "warn", check_command("llmhostctl instance take %s", name),
                  "%s", reason ? reason : "its guard is another llmhostd's");
        break;
    case KEEPER_USELESS:
        check_add(list, "rented.guard", name, "fail", check_command("llmhostctl down %s", name),
                  "it has no guard that could stop it: %s", reason ? reason : "?");
        break;
    case KEEPER_AWAY:
    case KEEPER_ASKING:
    case KEEPER_INSTALLING:
        check_add(list, "rented.guard", name, "warn", NULL, "its guard cannot be asked just now%s%s%s%s",
                  reason ? ": " : "", reason ? reason : "",
                  n.acts_at_ms ? "; as it was read last, it acts at " : "",
                  n.acts_at_ms ? minute_format(at, n.acts_at_ms) : "");
        break;
    }
}

static void check_proof(const struct lease *l, struct json *list)
{
    int64_t at_ms = rented_record(lease_rented(l))->drilled_at_ms;
    char at[MINUTE_TEXT_MAX];

    if (at_ms)
        check_add(list, "rented.proof", lease_name(l), "ok", NULL,
                  "its own shutdown was seen to end the bill (%s)", minute_format(at, at_ms));
    else
        check_add(list, "rented.proof", lease_name(l), "warn",
                  check_command("llmhostctl doctor %s --drill", lease_name(l)),
                  "that its own shutdown ends the bill was never tried: the guard stops it with that");
}

void check_rented(const struct lease *l, struct json *list)
{
    const struct rented *r = lease_rented(l);
    struct rented_figures n;
    int64_t since_at_ms;
    struct fault f;
    bool is_well = true;

    rented_figures(r, &n);
    for (unsigned i = 0; rental_trouble(l, i, &f, &since_at_ms); i++) {
        bool is_worth_a_word = streq(f.code, "released_soon") || streq(f.code, "stopped_elsewhere") ||
                               streq(f.code, "started_late");

        check_add(list, streq(f.code, "stop_not_confirmed") ? "stop.confirmed" : "rented.state",
                  lease_name(l), is_worth_a_word ? "warn" : "fail", show_next(&f, rental_subject(l, &f)),
                  "%s", f.text);
        is_well &= is_worth_a_word;
    }
    if (is_well)
        check_add(list, "rented.state", lease_name(l), "ok", NULL, "%s%s%s%s", show_rental_state(l),
                  *n.word ? ", its provider says \"" : "", n.word, *n.word ? "\"" : "");
    if (n.state == LIFE_RUNNING && !rented_is_left_alone(r))
        check_guard(l, rented_keeper(r), list);
    check_proof(l, list);
}

void check_trial(const struct lease *l, struct json *list)
{
    const struct known_host *where = known_host_find(lease_record(l)->host);
    const char *name = lease_name(l), *console = where ? where->console_url : "the company's console";
    char at[MINUTE_TEXT_MAX];
    struct boxed_figures n;

    boxed_figures(lease_boxed(l), &n);
    if (n.tried_at_ms)
        minute_format(at, n.tried_at_ms);
    switch (n.trial) {
    case BOXED_UNTRIED:
        check_add(list, "rented.proof", name, "warn", check_command("llmhostctl doctor %s --drill", name),
                  "that its guard can switch it off was never tried");
        break;
    case BOXED_WENT:
        check_add(
            list, "rented.proof", name, "ok", NULL,
            "its guard was told to switch it off, and it went away and stayed away (at %s); that its bill "
            "ended as well is seen at %s alone",
            at, console);
        break;
    case BOXED_STAYED:
        check_add(list, "rented.proof", name, "fail", NULL,
                  "its guard was told to switch it off, and it was still there when that had tried all its "
                  "ways (at %s): its guard does not end its bill; switch it off at %s",
                  at, console);
        break;
    case BOXED_CAME_BACK:
        check_add(
            list, "rented.proof", name, "fail", NULL,
            "its guard was told to switch it off, and it came back by itself (at %s): its guard does not "
            "end its bill; switch it off at %s",
            at, console);
        break;
    }
}

void check_boxed(const struct lease *l, struct json *list)
{
    const struct boxed *b = lease_boxed(l);
    const struct fault *f = boxed_trouble(b);
    const char *id = streq(f->code, "stop_not_confirmed") ? "stop.confirmed" : "rented.state";

    if (boxed_state(b) == BOXED_OFF)
        check_add(list, id, lease_name(l), "ok", NULL,
                  "it went away, as its guard was to switch it off; nobody confirms that (no account)");
    else if (f->kind && !streq(f->code, "guard_failed")) /* its trial tells that */
        check_add(list, id, lease_name(l), "fail", show_next(f, lease_name(l)), "%s", f->text);
    else
        check_add(list, id, lease_name(l), "ok", NULL, "%s, switched off from inside when nobody uses it",
                  boxed_state_name(boxed_state(b)));
    if (boxed_state(b) == BOXED_ON)
        check_guard(l, boxed_keeper(b), list);
    check_trial(l, list);
}
