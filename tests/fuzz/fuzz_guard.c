/* links: guard
 * Any bytes as what a box says of its guard. A record that is one is whole: no beginning of it is one as
 * well, and all its words are within their bounds. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "guard/record.h"

#define NUMBER_MAX 999999999999

static void check_text(const char *text, size_t size)
{
    size_t n = strnlen(text, size);

    if (n == size || n == 0 || strpbrk(text, " \n="))
        abort();
}

static void check_record(const struct guard_record *r)
{
    const int64_t numbers[] = {r->init,   r->pid,      r->born,      r->beat_s, r->seq,    r->lease_s,
                               r->hold_s, r->hold_pid, r->hold_born, r->tries,  r->taken_s};

    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i] < 0 || numbers[i] > NUMBER_MAX)
            abort();
    check_text(r->boot, sizeof r->boot);
    check_text(r->owner, sizeof r->owner);
    check_text(r->ways, sizeof r->ways);
    if (r->refused != GUARD_REASON_OK)
        check_text(r->refused_owner, sizeof r->refused_owner);
    if (guard_record_end_s(r) < r->lease_s || guard_record_end_s(r) < r->hold_s)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *text = (const char *)data;
    struct guard_record record, part;
    struct guard_report report;

    if (guard_record_read(text, n, &record) == 0) {
        check_record(&record);
        size_t whole = n;

        while (whole > 0 && text[whole - 1] != '.')
            whole--;
        for (size_t i = 0; i < whole; i++)
            if (guard_record_read(text, i, &part) != -EAGAIN)
                abort();
    }
    if (guard_report_read(text, n, &report) == 0) {
        if (strnlen(report.folder, sizeof report.folder) == sizeof report.folder ||
            report.said > GUARD_SAID_UNWRITABLE)
            abort();
        if (report.has_record)
            check_record(&report.record);
        else if (guard_report_is_alive(&report))
            abort();
    }
    return 0;
}
