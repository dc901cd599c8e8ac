#include "proto/error.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "proto/mem.h"
#include "proto/varlink.h"

static const enum exit_status of_the_daemon[] = {
    EXIT_FAILED,    EXIT_USAGE,  EXIT_NOT_RUNNING, EXIT_NOT_FOUND,     EXIT_CREDENTIALS, EXIT_NO_CAPACITY,
    EXIT_TIMED_OUT, EXIT_TUNNEL, EXIT_REFUSED,     EXIT_NOT_CONFIRMED, EXIT_CONFLICT,    EXIT_ENGINE,
};

Test(error, statuses_and_names_lead_to_each_other)
{
    for (size_t i = 0; i < ELEMENTS(of_the_daemon); i++)
        cr_assert_eq(error_exit(error_name(of_the_daemon[i])), of_the_daemon[i]);
    cr_assert_str_eq(error_name(EXIT_NOT_FOUND), "io.llmhost.NotFound");
    cr_assert_str_eq(error_name(EXIT_NOT_CONFIRMED), "io.llmhost.StopNotConfirmed");
    cr_assert_eq(error_exit("io.llmhost.TunnelFailed"), 9);
    cr_assert_eq(error_exit("io.llmhost.EngineFailed"), 13);
}

Test(error, what_has_no_error_of_its_own_has_failed)
{
    cr_assert_str_eq(error_name(EXIT_DONE), "io.llmhost.Failed");
    cr_assert_str_eq(error_name(EXIT_NO_DAEMON), "io.llmhost.Failed");
    cr_assert_str_eq(error_name(EXIT_INTERRUPTED), "io.llmhost.Failed");
    cr_assert_eq(error_exit(NULL), EXIT_FAILED);
    cr_assert_eq(error_exit(""), EXIT_FAILED);
    cr_assert_eq(error_exit("NotFound"), EXIT_FAILED);
    cr_assert_eq(error_exit("io.llmhost.NotFoundX"), EXIT_FAILED);
    cr_assert_eq(error_exit("io.systemd.NotFound"), EXIT_FAILED);
}

Test(error, the_protocols_own_errors_are_usage)
{
    cr_assert_eq(error_exit("org.varlink.service.InvalidParameter"), EXIT_USAGE);
    cr_assert_eq(error_exit("org.varlink.service.MethodNotFound"), EXIT_USAGE);
    cr_assert_eq(error_exit("org.varlink.service.PermissionDenied"), EXIT_USAGE);
    cr_assert_eq(error_exit("org.varlink.services"), EXIT_FAILED);
}

/* Every error that the contract declares has a status, and the other way round. */
Test(error, the_table_is_that_of_the_contract)
{
    size_t found = 0;

    for (const char *line = strstr(varlink_io_llmhost, "\nerror "); line;
         line = strstr(line + 1, "\nerror ")) {
        char name[100];

        snprintf(name, sizeof(name), "io.llmhost.%.*s", (int)strcspn(line + 7, " ("), line + 7);
        cr_assert_str_eq(error_name(error_exit(name)), name);
        found++;
    }
    cr_assert_eq(found, ELEMENTS(of_the_daemon));
}

Test(error, of_two_statuses_the_worse_one_is_told)
{
    static const enum exit_status order[] = {11, 10, 5, 9, 13, 6, 12, 7, 4, 3, 1, 0};

    for (size_t i = 0; i < ELEMENTS(order); i++)
        for (size_t k = i; k < ELEMENTS(order); k++) {
            cr_assert_eq(exit_worse(order[i], order[k]), order[i]);
            cr_assert_eq(exit_worse(order[k], order[i]), order[i]);
        }
    cr_assert_eq(exit_worse(EXIT_NOT_CONFIRMED, EXIT_NO_DAEMON), EXIT_NO_DAEMON);
    cr_assert_eq(exit_worse(EXIT_USAGE, EXIT_DONE), EXIT_USAGE);
    cr_assert_eq(exit_worse(EXIT_INTERRUPTED, EXIT_FAILED), EXIT_INTERRUPTED);
}
