/* links: lease
 *
 * The life of a rented machine: its table of moves, row by row. */
#include <criterion/criterion.h>

#include "lease/life_private.h"
#include "proto/mem.h"

/* Shorter names, for tables. */
#define UNKNOWN   LIFE_UNKNOWN
#define ABSENT    LIFE_ABSENT
#define WAITING   LIFE_WAITING
#define CREATING  LIFE_CREATING
#define STARTING  LIFE_STARTING
#define RUNNING   LIFE_RUNNING
#define STOPPING  LIFE_STOPPING
#define STOPPED   LIFE_STOPPED
#define RELEASING LIFE_RELEASING
#define RELEASED  LIFE_RELEASED

/* ---- The table ---- */

/* What a row hands in, one letter each: goal (+) on, (-) off, (x) release; (a)sked, (i)d known, (o)urs, it
 * (w)as on; the machine is seen o(N), o(F)f, (C)hanging, else not; an (c)ounting off or none; (l)ate,
 * (m)issing, (h)opeless, (t)urn to ask again, it came (U)p between two looks, (r) it was seen on its way off; a(d)opted; the
 * next name is (T)aken. */
struct row {
    enum life_state from;
    const char *facts;
    enum life_event ev;
    enum fault_kind fault;
    int how;
    enum life_state to;
    const char *code;
};

/* clang-format off */
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define EV(name) LIFE_EV_##name
#define NO       FAULT_NONE
#define KEEP     LIFE_KEEP
#define ENTER    LIFE_ENTER
#define WATCHES  LIFE_WATCH
#define DO       LIFE_DO
#define LOOKS    LIFE_LOOK

static const struct row rows[] = {
    {ABSENT, "+",   EV(GOAL),  NO, ENTER, CREATING},
    {ABSENT, "+T",  EV(GOAL),  NO, ENTER, WAITING},
    {ABSENT, "-",   EV(GOAL),  NO, KEEP},
    {ABSENT, "x",   EV(GOAL),  NO, ENTER, RELEASED},
    {ABSENT, "-",   EV(SEEN),  NO, KEEP},
    {ABSENT, "-C",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {ABSENT, "-F",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {ABSENT, "-",   EV(TIMER), NO, LOOKS},
    {ABSENT, "+id", EV(GOAL),  NO, ENTER, UNKNOWN},
    {ABSENT, "xid", EV(GOAL),  NO, ENTER, RELEASED},

    {WAITING, "+",  EV(GOAL),  NO, KEEP},
    {WAITING, "-",  EV(GOAL),  NO, ENTER, ABSENT},
    {WAITING, "+T", EV(TIMER), NO, ENTER, WAITING},
    {WAITING, "-i", EV(GOAL),  NO, ENTER, STOPPED},
    {WAITING, "xi", EV(GOAL),  NO, ENTER, STOPPED},
    {WAITING, "+",  EV(SEEN),  NO, KEEP},
    {WAITING, "+iF", EV(SEEN), NO, KEEP},
    {WAITING, "+iC", EV(SEEN), NO, ENTER, UNKNOWN},
    {WAITING, "+iN", EV(SEEN), NO, ENTER, UNKNOWN},
    {WAITING, "+",  EV(TIMER), NO, ENTER, CREATING},
    {WAITING, "+i", EV(TIMER), NO, ENTER, STARTING},

    {CREATING, "+",   EV(STORED),   NO, DO},
    {CREATING, "-",   EV(GOAL),     NO, ENTER, ABSENT},
    {CREATING, "-a",  EV(GOAL),     NO, KEEP},
    {CREATING, "+a",  EV(GOAL),     NO, KEEP},
    {CREATING, "+",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, WAITING},
    {CREATING, "-",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, ABSENT},
    {CREATING, "+",   EV(UNSTORED), FAULT_EXHAUSTED, ENTER, WAITING},
    {CREATING, "+",   EV(TIMER),    NO, ENTER, WAITING},
    {CREATING, "-",   EV(TIMER),    NO, ENTER, ABSENT},
    {CREATING, "+a",  EV(TIMER),    NO, ENTER, UNKNOWN},
    {CREATING, "-a",  EV(TIMER),    NO, ENTER, UNKNOWN},
    {CREATING, "+ai", EV(MADE),     NO, WATCHES, STARTING},
    {CREATING, "-ai", EV(MADE),     NO, ENTER, STOPPING},
    {CREATING, "xai", EV(MADE),     NO, ENTER, STOPPING},
    {CREATING, "+a",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, WAITING},
    {CREATING, "-a",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, ABSENT},
    {CREATING, "+a",  EV(FAULT),    FAULT_DENIED,    ENTER, WAITING},
    {CREATING, "+a",  EV(FAULT),    FAULT_INVALID,   ENTER, WAITING},
    {CREATING, "-a",  EV(FAULT),    FAULT_INVALID,   ENTER, ABSENT},
    {CREATING, "+a",  EV(FAULT),    FAULT_UNCERTAIN, ENTER, UNKNOWN},
    {CREATING, "+a",  EV(FAULT),    FAULT_TRANSIENT, ENTER, UNKNOWN},
    {CREATING, "-a",  EV(FAULT),    FAULT_UNCERTAIN, ENTER, UNKNOWN},

    {STARTING, "+i",   EV(STORED),   NO, DO},
    {STARTING, "-i",   EV(GOAL),     NO, ENTER, UNKNOWN},
    {STARTING, "-ia",  EV(GOAL),     NO, ENTER, STOPPING},
    {STARTING, "xia",  EV(GOAL),     NO, ENTER, STOPPING},
    {STARTING, "+ia",  EV(GOAL),     NO, KEEP},
    {STARTING, "+i",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, WAITING},
    {STARTING, "-i",   EV(UNSTORED), FAULT_TRANSIENT, ENTER, UNKNOWN},
    {STARTING, "+i",   EV(TIMER),    NO, ENTER, WAITING},
    {STARTING, "-i",   EV(TIMER),    NO, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(TIMER),    NO, LOOKS},
    {STARTING, "+ial", EV(TIMER),    NO, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(DONE),     NO, LOOKS},
    {STARTING, "+iaN", EV(SEEN),     NO, ENTER, RUNNING},
    {STARTING, "+iaC", EV(SEEN),     NO, KEEP},
    {STARTING, "+iaF", EV(SEEN),     NO, KEEP},
    {STARTING, "+iF",  EV(SEEN),     NO, KEEP},
    {STARTING, "+iaFc",  EV(SEEN),   NO, ENTER, WAITING},
    {STARTING, "+iaFcU", EV(SEEN),   NO, ENTER, STOPPED},
    {STARTING, "+iaFU",  EV(SEEN),   NO, KEEP},
    {STARTING, "+iaFch", EV(SEEN),   NO, ENTER, STOPPED},
    {STARTING, "-iaFc",  EV(SEEN),   NO, ENTER, STOPPED},
    {STARTING, "+ia",  EV(SEEN),     NO, KEEP},
    {STARTING, "+iac", EV(SEEN),     NO, ENTER, UNKNOWN},
    {STARTING, "+iaodm", EV(SEEN),   NO, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, WAITING},
    {STARTING, "-ia",  EV(FAULT),    FAULT_EXHAUSTED, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_DENIED,    ENTER, WAITING},
    {STARTING, "-ia",  EV(FAULT),    FAULT_DENIED,    ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_INVALID,   ENTER, WAITING},
    {STARTING, "+ia",  EV(FAULT),    FAULT_UNCERTAIN, ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_GONE,      ENTER, UNKNOWN},
    {STARTING, "+ia",  EV(FAULT),    FAULT_INVALID,   LOOKS, UNKNOWN, "already"},

    {RUNNING, "+io",   EV(GOAL),  NO, KEEP},
    {RUNNING, "-io",   EV(GOAL),  NO, ENTER, STOPPING},
    {RUNNING, "xio",   EV(GOAL),  NO, ENTER, STOPPING},
    {RUNNING, "-i",    EV(GOAL),  NO, KEEP},
    {RUNNING, "+ioN",  EV(SEEN),  NO, KEEP},
    {RUNNING, "+ioF",  EV(SEEN),  NO, KEEP},
    {RUNNING, "+ioFc", EV(SEEN),  NO, ENTER, STOPPED},
    {RUNNING, "+ioC",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {RUNNING, "+io",   EV(SEEN),  NO, ENTER, UNKNOWN},
    {RUNNING, "+io",   EV(BLIND), FAULT_TRANSIENT, KEEP},
    {RUNNING, "+io",   EV(BLIND), FAULT_DENIED,    KEEP},
    {RUNNING, "+io",   EV(TIMER), NO, LOOKS},

    {STOPPING, "-iN",  EV(SEEN),  NO, KEEP},
    {STOPPING, "-iNr", EV(SEEN),  NO, DO},
    {STOPPING, "-iC",  EV(SEEN),  NO, KEEP},
    {STOPPING, "-iF",  EV(SEEN),  NO, KEEP},
    {STOPPING, "-iFc", EV(SEEN),  NO, ENTER, STOPPED},
    {STOPPING, "+iFc", EV(SEEN),  NO, ENTER, STOPPED},
    {STOPPING, "-i",   EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPING, "-i",   EV(TIMER), NO, LOOKS},
    {STOPPING, "-it",  EV(TIMER), NO, DO},
    {STOPPING, "-i",   EV(DONE),  NO, LOOKS},
    {STOPPING, "-i",   EV(FAULT), FAULT_INVALID,   LOOKS, STOPPING, "already"},
    {STOPPING, "-i",   EV(FAULT), FAULT_GONE,      ENTER, UNKNOWN},
    {STOPPING, "-iod", EV(FAULT), FAULT_GONE,      LOOKS},
    {STOPPING, "-iod", EV(SEEN),  NO, KEEP},
    {STOPPING, "-iodm", EV(SEEN), NO, KEEP},
    {STOPPING, "-iodc", EV(SEEN), NO, ENTER, ABSENT},
    {STOPPING, "-i",   EV(FAULT), FAULT_DENIED,    KEEP},
    {STOPPING, "-i",   EV(FAULT), FAULT_UNCERTAIN, KEEP},
    {STOPPING, "+i",   EV(GOAL),  NO, KEEP},

    {STOPPED, "-i",   EV(GOAL),  NO, KEEP},
    {STOPPED, "+i",   EV(GOAL),  NO, ENTER, STARTING},
    {STOPPED, "xi",   EV(GOAL),  NO, ENTER, RELEASING},
    {STOPPED, "-iF",  EV(SEEN),  NO, KEEP},
    {STOPPED, "-iNc", EV(SEEN),  NO, ENTER, RUNNING},
    {STOPPED, "-iN",  EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPED, "-iCc", EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPED, "-i",   EV(SEEN),  NO, ENTER, UNKNOWN},
    {STOPPED, "-i",   EV(TIMER), NO, LOOKS},

    {UNKNOWN, "+ioN",  EV(SEEN),  NO, ENTER, RUNNING},
    {UNKNOWN, "-ioN",  EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "xioN",  EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "-iN",   EV(SEEN),  NO, ENTER, RUNNING},
    {UNKNOWN, "+ioC",  EV(SEEN),  NO, WATCHES, STARTING},
    {UNKNOWN, "+iowC", EV(SEEN),  NO, KEEP},
    {UNKNOWN, "-ioC",  EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "-iC",   EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+iF",   EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+iFc",  EV(SEEN),  NO, ENTER, STOPPED},
    {UNKNOWN, "+",     EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+c",    EV(SEEN),  NO, ENTER, ABSENT},
    {UNKNOWN, "+iodm", EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "-iodm", EV(SEEN),  NO, ENTER, STOPPING},
    {UNKNOWN, "-iwdm", EV(SEEN),  NO, KEEP},
    {UNKNOWN, "+i",    EV(BLIND), FAULT_DENIED, KEEP},
    {UNKNOWN, "-i",    EV(TIMER), NO, LOOKS},
    {UNKNOWN, "-i",    EV(GOAL),  NO, KEEP},

    {RELEASING, "xi",   EV(STORED),   NO, DO},
    {RELEASING, "xi",   EV(UNSTORED), FAULT_TRANSIENT, KEEP},
    {RELEASING, "xi",   EV(TIMER),    NO, ENTER, RELEASING},
    {RELEASING, "xia",  EV(TIMER),    NO, LOOKS},
    {RELEASING, "xiat", EV(TIMER),    NO, DO},
    {RELEASING, "xia",  EV(DONE),     NO, LOOKS},
    {RELEASING, "xia",  EV(SEEN),     NO, KEEP},
    {RELEASING, "xiac", EV(SEEN),     NO, ENTER, RELEASED},
    {RELEASING, "xiaF", EV(SEEN),     NO, KEEP},
    {RELEASING, "xiaN", EV(SEEN),     NO, ENTER, STOPPING},
    {RELEASING, "xia",  EV(FAULT),    FAULT_INVALID,   ENTER, STOPPING, "not_off"},
    {RELEASING, "xia",  EV(FAULT),    FAULT_UNCERTAIN, LOOKS},
    {RELEASING, "+ia",  EV(GOAL),     NO, KEEP},

    {RELEASED, "x", EV(GOAL),  NO, KEEP},
    {RELEASED, "+", EV(GOAL),  NO, ENTER, CREATING},
    {RELEASED, "+T", EV(GOAL), NO, ENTER, WAITING},
    {RELEASED, "+d", EV(GOAL), NO, KEEP},
    {RELEASED, "x", EV(SEEN),  NO, KEEP},
    {RELEASED, "xC", EV(SEEN), NO, ENTER, UNKNOWN},
    {RELEASED, "x", EV(TIMER), NO, LOOKS},
};
/* clang-format on */

Test(life_fsm, each_row_of_the_table)
{
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        const struct row *row = &rows[i];
        struct fault f = {.kind = row->fault};
        bool counts = strchr(row->facts, 'c');
        struct life l = {
            .record = {.state = row->from,
                       .goal = strchr(row->facts, '+')   ? LIFE_GOAL_ON
                               : strchr(row->facts, 'x') ? LIFE_GOAL_RELEASE
                                                         : LIFE_GOAL_OFF,
                       .ours = strchr(row->facts, 'o'),
                       .was_on = strchr(row->facts, 'w'),
                       .adopted = strchr(row->facts, 'd')},
            .here = {.asked = strchr(row->facts, 'a'),
                     .turn = strchr(row->facts, 't'),
                     .seen_not_on = strchr(row->facts, 'r')},
            .facts = {.off_counts = counts,
                      .none_counts = counts,
                      .is_missing = strchr(row->facts, 'm'),
                      .came_up = strchr(row->facts, 'U'),
                      .is_taken = strchr(row->facts, 'T'),
                      .late = strchr(row->facts, 'l'),
                      .hopeless = strchr(row->facts, 'h')},
            .seen = strchr(row->facts, 'N')   ? SEEN_ON
                    : strchr(row->facts, 'F') ? SEEN_OFF
                    : strchr(row->facts, 'C') ? SEEN_CHANGING
                                              : SEEN_NONE,
        };

        snprintf(f.code, sizeof f.code, "%s", row->code ? row->code : "");
        if (strchr(row->facts, 'i'))
            snprintf(l.record.id, sizeof l.record.id, "pro-1");
        struct life_move m = life_next(&l, row->ev, &f);

        cr_assert_eq((int)m.how, row->how, "row %u (%s \"%s\", %s): how %d", i, life_state_name(row->from),
                     row->facts, life_event_name(row->ev), (int)m.how);
        if (row->how == ENTER || row->how == WATCHES)
            cr_assert_eq(m.state, row->to, "row %u: %s", i, life_state_name(m.state));
    }
}

/* Whatever else comes is for nobody. */
Test(life_fsm, what_is_not_in_the_table_changes_nothing)
{
    for (enum life_state s = UNKNOWN; s <= RELEASED; s++)
        for (enum life_event ev = 0; ev < LIFE_EV_COUNT; ev++) {
            struct life l = {.record = {.state = s}};
            struct fault f = {.kind = FAULT_TRANSIENT};
            bool found = false;

            for (unsigned i = 0; i < ELEMENTS(rows); i++)
                found = found || (rows[i].from == s && rows[i].ev == ev);
            if (!found)
                cr_assert_eq((int)life_next(&l, ev, &f).how, KEEP, "%s, %s", life_state_name(s),
                             life_event_name(ev));
        }
}
