/* links: session
 *
 * The two scripts that add our key to a machine and take it away, under each shell this machine has, in a
 * home of their own. */
#include <criterion/criterion.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "session/session_key.c"

static const char key[] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE/+our+key";
static char base[] = "/tmp/test_session_key.XXXXXX";
static const char *shells[3];

/* A machine with nothing but busybox, and this one. */
static void setup(void)
{
    _cleanup_free_ char *install = NULL;
    unsigned n = 0;

    cr_assert_not_null(mkdtemp(base));
    install = xasprintf("mkdir -p %s/bin && busybox --install -s %s/bin 2>/dev/null", base, base);
    shells[n++] = "/usr/bin:/bin /bin/sh";
    if (system(install) == 0)
        shells[n++] = xasprintf("%s/bin %s/bin/sh", base, base);
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf %s", base);

    free((char *)shells[1]);
    cr_assert_eq(system(command), 0);
}

TestSuite(session_key, .init = setup, .fini = teardown);

/* What the script said; NULL when it failed. */
static char *run(const char *shell, const char *body)
{
    _cleanup_free_ char *script = xasprintf("key='%s' mark='llmhost-12345678'\n%s", key, body);
    _cleanup_free_ char *file = xasprintf("%s/script", base);
    _cleanup_free_ char *command = xasprintf("env -i HOME=%s/home PATH=%s -s <%s", base, shell, file);
    char *said = xalloc(256);
    FILE *f = fopen(file, "w");

    cr_assert(f && fputs(script, f) >= 0 && fclose(f) == 0);
    f = popen(command, "r");
    cr_assert_not_null(f);
    cr_assert_lt(fread(said, 1, 255, f), 255);
    if (pclose(f) == 0)
        return said;
    free(said);
    return NULL;
}

static void expect(const char *shell, const char *body, const char *said)
{
    _cleanup_free_ char *got = run(shell, body);

    cr_assert(got && streq(got, said), "%s: \"%s\" instead of \"%s\"", shell, got ? got : "failed", said);
}

static void do_at_home(const char *command)
{
    _cleanup_free_ char *whole = xasprintf("mkdir -p %s/home && cd %s/home && %s", base, base, command);

    cr_assert_eq(system(whole), 0, "%s", command);
}

static void expect_file(const char *text)
{
    _cleanup_free_ char *path = xasprintf("%s/home/.ssh/authorized_keys", base);
    char got[1024] = "";
    FILE *f = fopen(path, "r");

    cr_assert_not_null(f);
    cr_assert_lt(fread(got, 1, sizeof(got) - 1, f), sizeof(got) - 1);
    fclose(f);
    cr_assert_str_eq(got, text);
}

#define OURS "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE/+our+key llmhost-12345678\n"

Test(session_key, makes_folder_and_file_that_only_the_user_may_read)
{
    for (const char **shell = shells; *shell; shell++) {
        do_at_home("rm -rf .ssh");
        expect(*shell, install_script, "added\n");
        expect_file(OURS);
        do_at_home("[ $(stat -c %a .ssh) = 700 ] && [ $(stat -c %a .ssh/authorized_keys) = 600 ]");
        expect(*shell, install_script, "there\n");
        expect_file(OURS);
        expect(*shell, remove_script, "removed\n");
        expect_file("");
        expect(*shell, remove_script, "");
    }
}

Test(session_key, leaves_what_is_there_byte_for_byte)
{
    for (const char **shell = shells; *shell; shell++) {
        do_at_home("mkdir -p .ssh && printf '# mine\\n\\nssh-rsa AAAA me@x\\n' >.ssh/authorized_keys && "
                   "chmod 644 .ssh/authorized_keys");
        expect(*shell, install_script, "added\n");
        expect_file("# mine\n\nssh-rsa AAAA me@x\n" OURS);
        expect(*shell, remove_script, "removed\n");
        expect_file("# mine\n\nssh-rsa AAAA me@x\n");
        do_at_home("[ $(stat -c %a .ssh/authorized_keys) = 644 ] && [ $(ls -A .ssh | wc -l) = 1 ]");
    }
}

Test(session_key, begins_a_line_of_its_own)
{
    for (const char **shell = shells; *shell; shell++) {
        do_at_home("mkdir -p .ssh && printf 'ssh-rsa AAAA no newline' >.ssh/authorized_keys");
        expect(*shell, install_script, "added\n");
        expect_file("ssh-rsa AAAA no newline\n" OURS);
    }
}

Test(session_key, a_line_that_was_given_options_is_left_alone)
{
    for (const char **shell = shells; *shell; shell++) {
        do_at_home("mkdir -p .ssh && printf 'restrict "
                   "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE/+our+key x\\n' "
                   ">.ssh/authorized_keys");
        expect(*shell, install_script, "there\n");
        expect(*shell, remove_script, "");
        expect_file("restrict ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE/+our+key x\n");
    }
}

Test(session_key, a_link_stays_a_link)
{
    for (const char **shell = shells; *shell; shell++) {
        do_at_home(
            "rm -rf .ssh && mkdir .ssh && echo other >elsewhere && ln -s ../elsewhere .ssh/authorized_keys");
        expect(*shell, install_script, "added\n");
        expect(*shell, remove_script, "removed\n");
        expect_file("other\n");
        do_at_home("[ -h .ssh/authorized_keys ] && [ \"$(cat elsewhere)\" = other ]");
    }
}

Test(session_key, a_home_that_cannot_be_written_is_a_failure)
{
    for (const char **shell = shells; *shell; shell++) {
        do_at_home("rm -rf .ssh && echo a file >.ssh");
        _cleanup_free_ char *got = run(*shell, install_script);

        cr_assert_null(got);
        do_at_home("rm .ssh");
    }
}

Test(session_key, the_mark_comes_from_the_key_and_tells_nothing_else)
{
    _cleanup_free_ char *private_key = NULL, *public_key = NULL;
    char mark[sizeof("llmhost-") + 8], again[sizeof(mark)];

    cr_assert_eq(key_generate(&private_key, &public_key), 0);
    cr_assert_eq(key_mark(public_key, mark, sizeof(mark)), 0);
    cr_assert_eq(key_mark(public_key, again, sizeof(again)), 0);
    cr_assert_str_eq(mark, again);
    cr_assert_eq(strncmp(mark, "llmhost-", 8), 0);
    cr_assert_eq(strspn(mark + 8, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"), 8);
    cr_assert_eq(strlen(mark), 16);
    cr_assert_lt(key_mark("no key", mark, sizeof(mark)), 0);
}
