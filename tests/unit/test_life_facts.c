/* links: lease
 *
 * The facts that go with a state of a rented machine, row by row: what is ours, whether a create of ours may
 * still act, what is wanted, and what people are told. */
#include <criterion/criterion.h>

static unsigned long long now_ms;
static unsigned n_vanished;

#define clock_now_ms  fake_clock_now_ms
#define clock_wall_ms fake_clock_wall_ms
#define event_publish fake_event_publish
#include "lease/life_fsm.c"
#include "proto/mem.h"

uint64_t fake_clock_now_ms(void)
{
    return now_ms;
}

int64_t fake_clock_wall_ms(void)
{
    return 1700000000000;
}

void fake_event_publish(enum log_level level, enum log_source source, const char *target, const char *kind,
                        const char *format, ...)
{
    (void)level, (void)source, (void)target, (void)format;
    n_vanished += streq(kind, "vanished");
}

/* Facts, one letter each, before and after: the goal (+) on, (-) off, (x) release; an (i)d known, (o)urs, it
 * (w)as on, a create is o(p)en, asked at a time (q), by this daemon (u), that call was (s)een to act, a boot
 * of it failed (b). Only before: (a)sked, a(d)opted, (m)issing, it is seen o(F)f, which (c)ounts, it came
 * (U)p between two looks. */
struct row {
    enum life_state was;
    const char *before, *trouble;
    enum life_state to;
    enum life_event ev;
    enum fault_kind fault;
    const char *after, *trouble_after;
    bool watch;
};

/* clang-format off */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define EV(name) LIFE_EV_##name
#define NO       FAULT_NONE

static const struct row rows[] = {
    /* An intent to pay: all begins anew, and what it waited for is over. */
    {LIFE_ABSENT,   "+",    "",            LIFE_CREATING, EV(GOAL),  NO, "+opqu", ""},
    {LIFE_ABSENT,   "+",    "x",           LIFE_CREATING, EV(GOAL),  NO, "+opqu", "x"},
    {LIFE_WAITING,  "+",    "no_capacity", LIFE_CREATING, EV(TIMER), NO, "+opqu", ""},
    {LIFE_WAITING,  "+i",   "no_capacity", LIFE_STARTING, EV(TIMER), NO, "+ioqu", ""},
    {LIFE_STOPPED,  "+iqs", "",            LIFE_STARTING, EV(GOAL),  NO, "+ioqu", ""},
    {LIFE_STOPPED,  "+ipw", "",            LIFE_STARTING, EV(GOAL),  NO, "+ioqu", ""},

    /* One that is on its way already: nothing begins. */
    {LIFE_CREATING, "+aioqu", "",          LIFE_STARTING, EV(MADE),  NO, "+ioqu", "", true},
    {LIFE_UNKNOWN,  "+ioqsp", "x",         LIFE_STARTING, EV(SEEN),  NO, "+iopqs", "x", true},
    {LIFE_UNKNOWN,  "+i",     "",          LIFE_STARTING, EV(SEEN),  NO, "+i", "", true},

    /* A plain no, or never asked: no create is open. */
    {LIFE_CREATING, "+aopqu", "",  LIFE_WAITING, EV(FAULT),    FAULT_EXHAUSTED, "+ou", "told"},
    {LIFE_STARTING, "+aioqu", "",  LIFE_WAITING, EV(FAULT),    FAULT_EXHAUSTED, "+iou", "told"},
    {LIFE_STARTING, "+aioquF", "", LIFE_WAITING, EV(FAULT),    FAULT_EXHAUSTED, "+iou", "told"},
    {LIFE_CREATING, "-aopqu", "",  LIFE_ABSENT,  EV(FAULT),    FAULT_EXHAUSTED, "-u", "told"},
    {LIFE_CREATING, "+opqu",  "",  LIFE_WAITING, EV(UNSTORED), FAULT_EXHAUSTED, "+ou", "told"},
    {LIFE_CREATING, "+opqu",  "",  LIFE_WAITING, EV(UNSTORED), FAULT_TRANSIENT, "+ou", "told"},
    {LIFE_CREATING, "+opqu",  "",  LIFE_WAITING, EV(TIMER),    NO, "+ou", "disk"},
    {LIFE_STARTING, "+ioqu",  "",  LIFE_WAITING, EV(TIMER),    NO, "+iou", "disk"},
    {LIFE_STARTING, "+ioquF", "",  LIFE_WAITING, EV(TIMER),    NO, "+iou", "disk"},
    {LIFE_STARTING, "-ioqu",  "x", LIFE_UNKNOWN, EV(TIMER),    NO, "-iou", "disk"},
    {LIFE_STARTING, "-ioqu",  "x", LIFE_UNKNOWN, EV(GOAL),     NO, "-iou", "x"},
    {LIFE_CREATING, "-opqu",  "",  LIFE_ABSENT,  EV(GOAL),     NO, "-u", ""},

    /* It may act still: the create is open, and its time is known. */
    {LIFE_CREATING, "+aopqu", "",  LIFE_UNKNOWN, EV(FAULT), FAULT_UNCERTAIN, "+opqu", "told"},
    {LIFE_CREATING, "+aopqu", "",  LIFE_UNKNOWN, EV(TIMER), NO, "+opqu", ""},
    {LIFE_STARTING, "+aioqu", "x", LIFE_UNKNOWN, EV(TIMER), NO, "+ioqu", "x"},
    {LIFE_CREATING, "-aioqu", "",  LIFE_STOPPING, EV(MADE), NO, "-ioqu", ""},
    {LIFE_STOPPED,  "xiq",    "",  LIFE_RELEASING, EV(GOAL), NO, "xiq", ""},
    {LIFE_RELEASING, "xiq",   "x", LIFE_RELEASING, EV(TIMER), NO, "xiq", "x"},
    {LIFE_STOPPING, "-ioqp",  "",  LIFE_UNKNOWN, EV(FAULT), FAULT_GONE, "-iopq", "told"},

    /* A boot that ended in off. */
    {LIFE_STARTING, "+aioqF",  "", LIFE_WAITING, EV(SEEN), NO, "+ioqb", "boot_failed"},
    {LIFE_STARTING, "+aioqFc", "", LIFE_STOPPED, EV(SEEN), NO, "-iqb", "boot_failed"},
    {LIFE_STARTING, "-aioqFc", "", LIFE_STOPPED, EV(SEEN), NO, "-iq", ""},
    {LIFE_STARTING, "-aioqFcU", "", LIFE_STOPPED, EV(SEEN), NO, "-iq", ""},
    /* One that came up first was switched off. */
    {LIFE_STARTING, "+aioqFcU", "", LIFE_STOPPED, EV(SEEN), NO, "-iq", "stopped_elsewhere"},
    {LIFE_UNKNOWN,  "+ioqFcU", "x", LIFE_STOPPED, EV(SEEN), NO, "-iq", "stopped_elsewhere"},
    {LIFE_STOPPING, "+ioqFcU", "x", LIFE_STOPPED, EV(SEEN), NO, "+iq", ""},

    /* On. */
    {LIFE_STARTING, "+aioqs", "x", LIFE_RUNNING, EV(SEEN), NO, "+iowqs", ""},
    {LIFE_UNKNOWN,  "-iq",    "",  LIFE_RUNNING, EV(SEEN), NO, "-iwq", "started_elsewhere"},
    {LIFE_STOPPED,  "-ic",    "x", LIFE_RUNNING, EV(SEEN), NO, "-iw", "started_elsewhere"},

    /* Whoever switched it on: we end it. */
    {LIFE_STARTING, "-aiq", "x", LIFE_STOPPING, EV(GOAL), NO, "-ioq", "x"},
    {LIFE_RUNNING, "-iowq", "",  LIFE_STOPPING, EV(GOAL), NO, "-iowq", ""},
    {LIFE_RUNNING, "-iowqm", "", LIFE_STOPPING, EV(GOAL), NO, "-iowq", ""},
    {LIFE_UNKNOWN, "-ioq",  "x", LIFE_STOPPING, EV(SEEN), NO, "-ioq", "x"},

    /* Off, by us or by others. */
    {LIFE_STOPPING, "-iowqFc", "stop_not_confirmed", LIFE_STOPPED, EV(SEEN), NO, "-iq", ""},
    {LIFE_STOPPING, "+iowqFc", "x",  LIFE_STOPPED, EV(SEEN), NO, "+iq", ""},
    {LIFE_RUNNING,  "+iowqFc", "",   LIFE_STOPPED, EV(SEEN), NO, "-iq", "stopped_elsewhere"},
    {LIFE_UNKNOWN,  "+iowqFc", "x",  LIFE_STOPPED, EV(SEEN), NO, "-iq", "stopped_elsewhere"},
    {LIFE_UNKNOWN,  "+ioqFc",  "x",  LIFE_STOPPED, EV(SEEN), NO, "+iq", "x"},
    {LIFE_UNKNOWN,  "-iowqFc", "x",  LIFE_STOPPED, EV(SEEN), NO, "-iq", "x"},
    {LIFE_UNKNOWN,  "xiowqFc", "x",  LIFE_STOPPED, EV(SEEN), NO, "xiq", "x"},
    {LIFE_RUNNING,  "-iwFc", "started_elsewhere", LIFE_STOPPED, EV(SEEN), NO, "-i", ""},

    /* None. */
    {LIFE_UNKNOWN, "+iopwq", "x", LIFE_ABSENT, EV(SEEN), NO, "-q", "vanished"},
    {LIFE_UNKNOWN, "+opwq",  "x", LIFE_ABSENT, EV(SEEN), NO, "+q", "x"},
    {LIFE_UNKNOWN, "+idow",  "x", LIFE_ABSENT, EV(SEEN), NO, "-io", "vanished"},
    {LIFE_UNKNOWN, "-id",    "x", LIFE_ABSENT, EV(SEEN), NO, "-i", "vanished"},
    {LIFE_STOPPING, "-ido",  "stop_not_confirmed", LIFE_ABSENT, EV(SEEN), NO, "-io", "vanished"},
    {LIFE_UNKNOWN, "+idowm", "x", LIFE_STOPPING, EV(SEEN), NO, "-iow", "vanished"},
    {LIFE_UNKNOWN, "-idom",  "",  LIFE_STOPPING, EV(SEEN), NO, "-io", "vanished"},
    {LIFE_CREATING, "-aiopq", "", LIFE_ABSENT, EV(FAULT), FAULT_EXHAUSTED, "-", "told"},

    /* Given back. */
    {LIFE_RELEASING, "xaiowq", "x",  LIFE_RELEASED, EV(SEEN), NO, "xq", ""},
    {LIFE_RELEASING, "xaidowq", "x", LIFE_RELEASED, EV(SEEN), NO, "xiq", ""},
    {LIFE_ABSENT, "x", "vanished",   LIFE_RELEASED, EV(GOAL), NO, "x", ""},

    /* What appears late, or comes up behind an off that did not count, is our doing. */
    {LIFE_WAITING,  "+iq",  "x", LIFE_UNKNOWN, EV(SEEN), NO, "+ioq", ""},
    {LIFE_WAITING,  "+iqc", "x", LIFE_UNKNOWN, EV(SEEN), NO, "+ioq", ""},
    {LIFE_STOPPED,  "-iq",  "",  LIFE_UNKNOWN, EV(SEEN), NO, "-ioq", ""},
    {LIFE_STOPPED,  "-iqc", "",  LIFE_UNKNOWN, EV(SEEN), NO, "-iq", ""},
    {LIFE_RUNNING,  "-iwq", "",  LIFE_UNKNOWN, EV(SEEN), NO, "-iwq", ""},
    {LIFE_RUNNING,  "+iowq", "", LIFE_UNKNOWN, EV(SEEN), NO, "+iowq", ""},
    {LIFE_ABSENT,   "-q",   "",  LIFE_UNKNOWN, EV(SEEN), NO, "-oq", ""},
    {LIFE_RELEASED, "xq",   "",  LIFE_UNKNOWN, EV(SEEN), NO, "xoq", ""},
    {LIFE_ABSENT,   "-id",  "",  LIFE_UNKNOWN, EV(SEEN), NO, "-i", ""},
    {LIFE_RELEASED, "xid",  "",  LIFE_UNKNOWN, EV(SEEN), NO, "xi", ""},
    {LIFE_ABSENT,   "-ido", "",  LIFE_UNKNOWN, EV(SEEN), NO, "-io", ""},
    {LIFE_ABSENT,   "+id",  "",  LIFE_UNKNOWN, EV(GOAL), NO, "+io", ""},
};
/* clang-format on */

static struct life life_of(const struct row *row)
{
    struct life l = {
        .context.settle_ms = 180000,
        .record = {.state = row->was,
                   .goal = strchr(row->before, '+')   ? LIFE_GOAL_ON
                           : strchr(row->before, 'x') ? LIFE_GOAL_RELEASE
                                                      : LIFE_GOAL_OFF,
                   .ours = strchr(row->before, 'o'),
                   .was_on = strchr(row->before, 'w'),
                   .acted = strchr(row->before, 's'),
                   .create_open = strchr(row->before, 'p'),
                   .asked_at_ms = strchr(row->before, 'q') ? 1 : 0,
                   .adopted = strchr(row->before, 'd')},
        .here.asked = strchr(row->before, 'a'),
        .facts = {.off_counts = strchr(row->before, 'c'),
                  .is_missing = strchr(row->before, 'm'),
                  .came_up = strchr(row->before, 'U')},
        .seen = strchr(row->before, 'F') ? SEEN_OFF : SEEN_ON,
        .age.asked_due = strchr(row->before, 'u') ? 1 : 0,
    };

    if (strchr(row->before, 'i'))
        snprintf(l.record.id, sizeof l.record.id, "pro-1");
    snprintf(l.fault.code, sizeof l.fault.code, "%s", row->trouble);
    return l;
}

static bool is_as_said(const struct life *l, const char *facts)
{
    return l->record.goal == (strchr(facts, '+')   ? LIFE_GOAL_ON
                              : strchr(facts, 'x') ? LIFE_GOAL_RELEASE
                                                   : LIFE_GOAL_OFF) &&
           (bool)*l->record.id == (bool)strchr(facts, 'i') && l->record.ours == (bool)strchr(facts, 'o') &&
           l->record.was_on == (bool)strchr(facts, 'w') &&
           l->record.create_open == (bool)strchr(facts, 'p') &&
           (l->record.asked_at_ms != 0) == (bool)strchr(facts, 'q') &&
           (l->age.asked_due != 0) == (bool)strchr(facts, 'u') && l->record.acted == (bool)strchr(facts, 's') &&
           (l->boots.n_failed != 0) == (bool)strchr(facts, 'b');
}

Test(life_facts, each_row_of_the_table)
{
    now_ms = 5;
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct row *row = &rows[i];
        struct life l = life_of(row);
        struct fault f = {.kind = row->fault};
        bool begins = row->to == LIFE_CREATING || (row->to == LIFE_STARTING && !row->watch);

        snprintf(f.code, sizeof f.code, "told");
        n_vanished = 0;
        life_take_facts(&l, row->watch ? WATCH(row->to) : MOVE(row->to), row->ev, row->fault ? &f : NULL);
        cr_assert(is_as_said(&l, row->after),
                  "row %u (%s \"%s\" -> %s): goal %s, id \"%s\", ours %d, was on %d, open %d, asked %lld, "
                  "by us %d, acts %d, boots %u",
                  i, life_state_name(row->was), row->before, life_state_name(row->to),
                  life_goal_name(l.record.goal), l.record.id, l.record.ours, l.record.was_on,
                  l.record.create_open, (long long)l.record.asked_at_ms, l.age.asked_due != 0, l.record.acted,
                  l.boots.n_failed);
        cr_assert_str_eq(l.fault.code, row->trouble_after, "row %u: \"%s\"", i, l.fault.code);
        if (!streq(row->trouble_after, row->trouble) && *row->trouble_after && !row->fault)
            cr_assert_eq((int)l.fault.kind, FAULT_TRANSIENT, "row %u: nothing that only a person can mend",
                         i);
        cr_assert_eq(l.record.made, row->to == LIFE_CREATING ? 1u : 0u, "row %u", i);
        cr_assert_eq(l.is_gone, row->to == LIFE_ABSENT, "row %u", i);
        cr_assert_eq(n_vanished, streq(row->trouble_after, "vanished") ? 1u : 0u, "row %u", i);
        if (begins) {
            cr_assert_eq(l.record.asked_at_ms, 1700000000000, "row %u", i);
            cr_assert_eq(l.age.asked_due, 5u, "row %u", i);
        }
    }
}

/* Three in half an hour end the wish; older ones are forgotten. */
Test(life_facts, boots_that_failed_are_counted_for_half_an_hour)
{
    struct life l = {0};

    now_ms = 1000;
    life_count_boot(&l);
    cr_assert_eq(l.boots.from_due, 1000);
    now_ms = 1000 + LIFE_BOOTS_WITHIN_MS;
    life_count_boot(&l);
    cr_assert_eq(l.boots.n_failed, 2);
    cr_assert_eq(l.boots.from_due, 1000);
    now_ms++;
    life_count_boot(&l);
    cr_assert_eq(l.boots.n_failed, 1);
    cr_assert_eq(l.boots.from_due, now_ms);
    cr_assert_str_eq(l.fault.code, "boot_failed");
    cr_assert_eq(LIFE_BOOTS_WITHIN_MS, 30u * 60 * 1000);
    cr_assert_eq(LIFE_BOOTS_MAX, 3);
}
