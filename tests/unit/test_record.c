/* links: guard
 * The lines of guard.sh and box.sh. */
#include "guard/record.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define BOOT "4f8165b4-fcee-4af9-880c-89fb6bc9450b"
#define RECORD                                                                                               \
    "llmhost1 " BOOT " 3106913 53 3107063 31070 me 7 31900 32000 99 3107070 lease 2 31069 "                  \
    "root:/usr/bin/shutdown,shutdown,kill ok ."

static int read_text(const char *text, struct guard_record *ret)
{
    return guard_record_read(text, strlen(text), ret);
}

Test(record, says_all)
{
    struct guard_record r;

    cr_assert_eq(read_text(RECORD "            \n", &r), 0);
    cr_assert_str_eq(r.boot, BOOT);
    cr_assert_eq(r.init, 3106913);
    cr_assert_eq(r.pid, 53);
    cr_assert_eq(r.born, 3107063);
    cr_assert_eq(r.beat_s, 31070);
    cr_assert_str_eq(r.owner, "me");
    cr_assert_eq(r.seq, 7);
    cr_assert_eq(r.lease_s, 31900);
    cr_assert_eq(r.hold_s, 32000);
    cr_assert_eq(r.hold_pid, 99);
    cr_assert_eq(r.state, GUARD_STATE_LEASE);
    cr_assert_eq(r.tries, 2);
    cr_assert_eq(r.taken_s, 31069);
    cr_assert_eq(r.power, GUARD_POWER_ROOT);
    cr_assert_str_eq(r.ways, "/usr/bin/shutdown,shutdown,kill");
    cr_assert_eq(r.refused, GUARD_REASON_OK);
    cr_assert_eq(guard_record_end_s(&r), 32000);
}

Test(record, refusals_name_the_request)
{
    static const struct {
        const char *note;
        enum guard_reason reason;
    } notes[] = {{"no:late:you:9", GUARD_REASON_LATE},
                 {"no:owner:you:9", GUARD_REASON_OWNER},
                 {"no:seq:you:9", GUARD_REASON_SEQ},
                 {"no:range:you:9", GUARD_REASON_RANGE},
                 {"no:boot:you:9", GUARD_REASON_BOOT}};

    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++) {
        char line[400];
        struct guard_record r;

        snprintf(line, sizeof line, "%.*s%s .", (int)(strlen(RECORD) - strlen("ok .")), RECORD,
                 notes[i].note);
        cr_assert_eq(read_text(line, &r), 0, "%s", line);
        cr_assert_eq(r.refused, notes[i].reason);
        cr_assert_str_eq(r.refused_owner, "you");
        cr_assert_eq(r.refused_seq, 9);
    }
}

Test(record, no_part_of_a_line_is_one)
{
    struct guard_record r;

    for (size_t n = 0; n < strlen(RECORD); n++)
        cr_assert_eq(guard_record_read(RECORD, n, &r), -EAGAIN, "%.*s", (int)n, RECORD);
}

Test(record, what_is_none)
{
    static const struct {
        const char *from, *to;
    } changes[] = {
        {"llmhost1", "llmhost2"},   {" 53 ", " -53 "},        {" 53 ", " 5x3 "},
        {" 7 ", " 1234567890123 "}, {" lease ", " leased "},  {" . ", " : "},
        {"root:", "admin:"},        {"root:", "root"},        {" me ", " m/e "},
        {" me ", " me me "},        {" ok ", " no "},         {" ok ", " no:late "},
        {" ok ", " no:ok:a:1 "},    {" ok ", " no:late:a: "}, {" ok ", " no:late:a:1:2 "},
        {" ok ", " no:gone:a:1 "},  {" me ", " m\ne "},       {" me ", " aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "},
    };
    struct guard_record r;

    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        static const char whole[] = RECORD " ";
        const char *at = strstr(whole, changes[i].from);
        char line[600];

        cr_assert_not_null(at, "%s", changes[i].from);
        snprintf(line, sizeof line, "%.*s%s%s", (int)(at - whole), whole, changes[i].to,
                 at + strlen(changes[i].from));
        cr_assert_eq(read_text(line, &r), -EBADMSG, "%s", line);
    }
    cr_assert_eq(read_text("bash: cat: command not found", &r), -EBADMSG);
    cr_assert_eq(guard_record_read("llmhost1\0", 9, &r), -EBADMSG);
}

static int read_report(const char *text, struct guard_report *ret)
{
    return guard_report_read(text, strlen(text), ret);
}

Test(report, of_a_living_guard)
{
    struct guard_report r;

    cr_assert_eq(
        read_report("Welcome!\nas=sudo\nfolder=/dev/shm\nsaid=0\nrecord=" RECORD "   \nnow=31072\nok=\n", &r),
        0);
    cr_assert_eq(r.said, GUARD_SAID_YES);
    cr_assert_eq(r.power, GUARD_POWER_SUDO);
    cr_assert_str_eq(r.folder, "/dev/shm");
    cr_assert(r.has_record && !r.is_half);
    cr_assert_eq(r.now_s, 31072);
    cr_assert(guard_report_is_alive(&r));
    r.now_s = 31070 + GUARD_BEAT_S_MAX + 1;
    cr_assert_not(guard_report_is_alive(&r), "its beat is old");
    r.now_s = 31069;
    cr_assert_not(guard_report_is_alive(&r), "its beat is of another time");
    r.now_s = 31070;
    r.said = GUARD_SAID_NONE;
    cr_assert_not(guard_report_is_alive(&r), "its process is gone");
}

Test(report, of_none_and_of_half)
{
    struct guard_report r;

    cr_assert_eq(read_report("folder=\nsaid=2\nrecord=\nnow=\nok=\n", &r), 0);
    cr_assert_eq(r.said, GUARD_SAID_NONE);
    cr_assert(!r.has_record && !r.is_half);
    cr_assert_eq(r.now_s, -1);
    cr_assert_eq(read_report("said=0\nrecord=llmhost1 " BOOT " 31\nok=\n", &r), 0);
    cr_assert(!r.has_record && r.is_half);
    cr_assert_eq(read_report("as=none\nok=\n", &r), 0);
    cr_assert_eq(r.power, GUARD_POWER_NONE);
    cr_assert_eq(read_report("said=64\nok=\n", &r), 0);
    cr_assert_eq(r.said, GUARD_SAID_NONE);
}

Test(report, of_what_somebody_typed)
{
    struct guard_report r;

    cr_assert_eq(read_report("said=0\nrecord=" RECORD "\nnow=31072\ntyped=185\nok=\n", &r), 0);
    cr_assert_eq(r.typed_s, 185);
    cr_assert(r.has_record);
    cr_assert_eq(read_report("said=0\nrecord=" RECORD "\nnow=31072\nok=\n", &r), 0);
    cr_assert_eq(r.typed_s, -1, "a machine without a terminal, or without stat");
    cr_assert_eq(read_report("said=0\nnow=31072\ntyped=-4\nok=\n", &r), 0);
    cr_assert_eq(r.typed_s, -1);
    cr_assert_eq(read_report("said=0\nnow=31072\ntyped=soon\nok=\n", &r), 0);
    cr_assert_eq(r.typed_s, -1);
}

Test(report, of_strangers_and_without_an_end)
{
    struct guard_report r;

    cr_assert_eq(read_report("", &r), -EAGAIN);
    cr_assert_eq(read_report("said=0\nrecord=" RECORD "\nnow=31072\n", &r), -EAGAIN);
    cr_assert_eq(read_report("This account is not available.\n", &r), -EBADMSG);
    cr_assert_eq(read_report("menu=1\nchoose=2\n", &r), -EBADMSG);
}

Test(record, who_can_be_an_owner)
{
    cr_assert(guard_owner_is_good("me"));
    cr_assert(guard_owner_is_good("a-Z_0.9"));
    cr_assert(guard_owner_is_good("12345678901234567890123456789012"));
    cr_assert_not(guard_owner_is_good("123456789012345678901234567890123"));
    cr_assert_not(guard_owner_is_good(GUARD_NOBODY));
    cr_assert_not(guard_owner_is_good(""));
    cr_assert_not(guard_owner_is_good("me; id"));
}
