/* links: guard
 *
 * The functions of guard.sh one by one (guard_script.sh has the cases), under each shell there is, as root
 * and as nobody. tests/lab/test_guard.py has the whole of it on real boxes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern const char guard_guard_sh[];

static char home[] = "/tmp/test_guard.XXXXXX";

/* All but the last line, which would begin. */
static void setup(void)
{
    const char *end = strstr(guard_guard_sh, "\nmain \"$@\"; exit\n");
    char path[200], command[700];

    cr_assert_not_null(mkdtemp(home));
    cr_assert_eq(chmod(home, 0755), 0);
    cr_assert_not_null(end);
    snprintf(path, sizeof path, "%s/functions", home);
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    cr_assert_eq(fwrite(guard_guard_sh, (size_t)(end - guard_guard_sh) + 1, 1, f), 1);
    cr_assert_eq(fclose(f), 0);
    snprintf(command, sizeof command, "cp %s/tests/unit/guard_script.sh %s", SOURCE_DIR, home);
    cr_assert_eq(system(command), 0);
}

static void teardown(void)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf %s", home);
    cr_assert_eq(system(command), 0);
}

TestSuite(guard_script, .init = setup, .fini = teardown, .timeout = 60);

static void told_by(const char *shell, const char *user)
{
    char command[700];

    snprintf(command, sizeof command,
             "mkdir -m 777 %s/world && cd %s/world && %s %s %s/guard_script.sh %s/functions >&2", home, home,
             user, shell, home, home);
    int status = system(command);

    cr_assert_eq(status, 0, "%s %s: %d", user, shell, WEXITSTATUS(status));
    snprintf(command, sizeof command, "rm -rf %s/world", home);
    cr_assert_eq(system(command), 0);
}

static void under(const char *shell)
{
    char command[100];

    snprintf(command, sizeof command, "%s -c true >/dev/null 2>&1", shell);
    if (system(command) != 0)
        cr_skip_test("no %s", shell);
    told_by(shell, "");
    if (getuid() == 0)
        told_by(shell,
                "setpriv --reuid=65534 --regid=0 --clear-groups"); /* of root's group, which is not root */
}

Test(guard_script, under_dash)
{
    under("dash");
}

Test(guard_script, under_bash)
{
    under("bash --posix");
}

Test(guard_script, under_busybox)
{
    under("busybox sh");
}
