#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/fault.h"

Test(fault, keeps_the_error_it_was_given)
{
    struct fault f;

    cr_assert_eq(fault_set(&f, FAULT_TRANSIENT, -ECONNRESET, "connection to %s: lost", "box"), -ECONNRESET);
    cr_assert_eq(f.kind, FAULT_TRANSIENT);
    cr_assert_eq(f.error, -ECONNRESET);
    cr_assert_str_eq(f.text, "connection to box: lost");
    cr_assert_str_eq(f.code, "");
    cr_assert_eq(fault_set(&f, FAULT_TRANSIENT, EPIPE, "x"), -EPIPE, "a positive errno is meant negative");
}

Test(fault, every_kind_has_a_name_and_an_errno_of_its_own)
{
    int seen[FAULT_INVALID + 1];

    for (enum fault_kind k = FAULT_TRANSIENT; k <= FAULT_INVALID; k++) {
        seen[k] = fault_set(NULL, k, 0, "x");
        cr_assert_lt(seen[k], 0);
        cr_assert_neq(seen[k], -EAGAIN, "%s would read as: wait for bytes", fault_kind_name(k));
        for (enum fault_kind other = FAULT_TRANSIENT; other < k; other++) {
            cr_assert_neq(seen[other], seen[k]);
            cr_assert_str_neq(fault_kind_name(other), fault_kind_name(k));
        }
    }
    cr_assert_str_eq(fault_kind_name(FAULT_UNCERTAIN), "uncertain");
    cr_assert_str_eq(fault_kind_name((enum fault_kind)99), "unknown");
}

Test(fault, a_code_stays_through_a_prefix)
{
    struct fault f;

    cr_assert_lt(fault_code(&f, FAULT_DENIED, "host_key", "the host key of %s has changed", "gz"), 0);
    fault_prefix(&f, "gz-4090");
    cr_assert_str_eq(f.code, "host_key");
    cr_assert_eq(f.kind, FAULT_DENIED);
    cr_assert_str_eq(f.text, "gz-4090: the host key of gz has changed");
    fault_prefix(NULL, "nobody asked");
}

Test(fault, may_be_made_from_its_own_text)
{
    struct fault f;

    fault_set(&f, FAULT_GONE, 0, "no such model");
    fault_set(&f, FAULT_GONE, 0, "pull: %s", f.text);
    cr_assert_str_eq(f.text, "pull: no such model");
    fault_code(&f, FAULT_GONE, "model_gone", "%s", f.text);
    fault_code(&f, FAULT_GONE, f.code, "again: %s", f.text);
    cr_assert_str_eq(f.code, "model_gone");
    cr_assert_str_eq(f.text, "again: pull: no such model");
}

Test(fault, words_from_outside_become_one_clean_sentence)
{
    struct fault f;

    fault_set(&f, FAULT_INVALID, 0, "said: %s", "bad\r\nrequest\x1b[31m \xff here.\n");
    cr_assert_null(strpbrk(f.text, "\r\n\x1b"));
    cr_assert_not_null(strstr(f.text, "\xef\xbf\xbd"), "the broken byte is shown as such");
    cr_assert_eq(f.text[strlen(f.text) - 1], 'e', "no full stop: \"%s\"", f.text);
    fault_set(&f, FAULT_INVALID, 0, "%s", "");
    cr_assert_str_eq(f.text, "");
    fault_set(&f, FAULT_INVALID, 0, "...");
    cr_assert_str_eq(f.text, "");
}

Test(fault, a_long_text_is_cut_between_characters)
{
    struct fault f;
    char text[4 * sizeof(f.text)] = "";

    text[0] = 'a';
    for (size_t i = 1; i + 3 < sizeof(text); i += 3)
        memcpy(text + i, "\xe6\x9a\x82", 4);
    fault_set(&f, FAULT_EXHAUSTED, 0, "%s", text);
    cr_assert_lt(strlen(f.text), sizeof(f.text));
    cr_assert_geq(strlen(f.text), sizeof(f.text) - 4);
    cr_assert_eq((strlen(f.text) - 1) % 3, 0, "%zu bytes", strlen(f.text));
    fault_prefix(&f, "zh");
    cr_assert_eq(memcmp(f.text, "zh: a\xe6\x9a\x82", 8), 0);
    cr_assert_eq((strlen(f.text) - 5) % 3, 0);
}
