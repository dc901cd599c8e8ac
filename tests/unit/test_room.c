/* Who makes room for whom. */
#include "policy/room.h"

#include <criterion/criterion.h>

#include "proto/mem.h"

#define GB 1000000000ll

Test(room, what_is_unknown_or_loaded_already_lacks_nothing)
{
    cr_assert_leq(room_missing(-1, 0, 0), 0);
    cr_assert_leq(room_missing(5 * GB, -1, 0), 0);
    cr_assert_leq(room_missing(0, 0, 0), 0);
    cr_assert_leq(room_missing(5 * GB, 6 * GB, 0), 0);
}

Test(room, what_others_are_about_to_take_is_not_free)
{
    cr_assert_gt(room_missing(5 * GB, 6 * GB, 1 * GB), 0);
    cr_assert_gt(room_missing(1 * GB, 1 * GB, 5 * GB), 5 * GB, "more than there is is not unknown");
    cr_assert_leq(room_missing(1 * GB, -1, 5 * GB), 0);
}

Test(room, a_model_takes_more_than_its_files)
{
    cr_assert_gt(room_missing(5 * GB, 5 * GB + GB / 2, 0), 0);
    cr_assert_gt(room_missing(5 * GB, 0, 0), 5 * GB);
    cr_assert_gt(room_missing(1, 0, 0), 1);
    cr_assert_eq(room_missing(10 * GB, 4 * GB, 0), 7 * GB + (256 << 20), "a tenth, and a quarter of a GiB");
}

/* i(dle), b(usy), c(hanging); then its gigabytes, ? unknown; the last use is given by the order in used. */
static const struct {
    int64_t missing_gb;
    const char *how, *bytes, *used;
    enum room_verdict verdict;
    unsigned which;
} rows[] = {
    {0, "iii", "111", "123", ROOM_ENOUGH, 9}, {-5, "b", "1", "1", ROOM_ENOUGH, 9},
    {3, "", "", "", ROOM_ENOUGH, 9},          {3, "i", "5", "1", ROOM_UNLOAD, 0},
    {3, "iii", "555", "312", ROOM_UNLOAD, 1}, {3, "ibi", "555", "213", ROOM_UNLOAD, 0},
    {3, "ii", "11", "21", ROOM_UNLOAD, 1}, /* not enough, and nobody busy: all of it, then the engine is asked
                                            */
    {3, "bib", "515", "123", ROOM_WAIT, 0},   {3, "bi", "5?", "12", ROOM_UNLOAD, 1},
    {3, "bii", "512", "132", ROOM_UNLOAD, 2}, {3, "bii", "511", "132", ROOM_WAIT, 0},
    {3, "b", "5", "1", ROOM_WAIT, 0},         {3, "ic", "55", "12", ROOM_WAIT, 1},
    {3, "icb", "555", "123", ROOM_WAIT, 1},   {0, "c", "5", "1", ROOM_ENOUGH, 9},
    {3, "ci", "55", "12", ROOM_WAIT, 0},      {3, "ib", "55", "12", ROOM_UNLOAD, 0},
    {3, "bi", "50", "12", ROOM_WAIT, 0},      {3, "ii", "55", "11", ROOM_UNLOAD, 0},
};

Test(room, each_row)
{
    for (unsigned i = 0; i < ELEMENTS(rows); i++) {
        unsigned n = (unsigned)strlen(rows[i].how), which = 9;
        struct room_holder holders[4];

        for (unsigned k = 0; k < n; k++)
            holders[k] = (struct room_holder){
                .how = rows[i].how[k] == 'i'   ? ROOM_IDLE
                       : rows[i].how[k] == 'b' ? ROOM_BUSY
                                               : ROOM_CHANGING,
                .used_at_ms = rows[i].used[k],
                .bytes = rows[i].bytes[k] == '?' ? -1 : (rows[i].bytes[k] - '0') * GB,
            };
        cr_assert_eq(room_judge(rows[i].missing_gb * GB, holders, n, &which), rows[i].verdict, "row %u", i);
        cr_assert_eq(which, rows[i].which, "row %u: %u", i, which);
    }
}

/* One byte decides. */
Test(room, each_answer_begins_where_the_one_before_ends)
{
    struct room_holder holders[] = {{ROOM_BUSY, 1, GB}, {ROOM_IDLE, 2, GB}};
    unsigned which = 9;

    cr_assert_eq(room_judge(0, holders, 2, &which), ROOM_ENOUGH);
    cr_assert_eq(room_judge(1, holders, 2, &which), ROOM_UNLOAD);
    cr_assert_eq(room_judge(GB, holders, 2, &which), ROOM_UNLOAD);
    cr_assert_eq(room_judge(GB + 1, holders, 2, &which), ROOM_WAIT);
}

/* Whatever there is: it ends, the busy ones are left alone, and each that goes is the oldest idle one. */
Test(room, one_after_the_other_it_comes_to_an_end)
{
    for (unsigned seed = 1; seed < 5000; seed++) {
        struct room_holder holders[6];
        unsigned n = seed % 7, x = seed * 2654435761u, left = n, which = 0;
        int64_t missing = (x >> 5) % 20, sum;

        for (unsigned i = 0; i < n; i++) {
            x = x * 1664525u + 1013904223u;
            holders[i] = (struct room_holder){.how = (x >> 8) % 2 ? ROOM_IDLE : ROOM_BUSY,
                                              .used_at_ms = (x >> 10) % 5,
                                              .bytes = (int64_t)((x >> 14) % 9) - 1};
        }
        for (unsigned turns = 0;; turns++) {
            enum room_verdict v = room_judge(missing, holders, left, &which);

            cr_assert_leq(turns, n);
            if (v == ROOM_ENOUGH)
                break;
            cr_assert_lt(which, left);
            if (v == ROOM_WAIT) {
                cr_assert_eq(holders[which].how, ROOM_BUSY);
                break;
            }
            cr_assert_eq(holders[which].how, ROOM_IDLE);
            for (unsigned i = 0; i < left; i++)
                cr_assert(holders[i].how != ROOM_IDLE || holders[i].used_at_ms >= holders[which].used_at_ms);
            sum = holders[which].bytes;
            missing -= sum < 0 ? 1 : sum;
            holders[which] = holders[--left];
        }
    }
}
