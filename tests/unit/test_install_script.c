/* links: engine
 *
 * install.sh, install_job.sh and look.sh under the shells there are, busybox among them with nothing but its
 * own programs: an archive that lies there is checked and unpacked, or not. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/machine.h"
#include "proto/mem.h"

extern const char engine_install_sh[], engine_install_job_sh[], engine_look_sh[];

static char home[] = "/tmp/test_install.XXXXXX";

static void put(const char *name, const char *text)
{
    char path[200];

    snprintf(path, sizeof path, "%s/%s", home, name);
    FILE *f = fopen(path, "w");

    cr_assert_not_null(f);
    fputs(text, f);
    cr_assert_eq(fclose(f), 0);
}

static void setup(void)
{
    cr_assert_not_null(mkdtemp(home));
    put("script", engine_install_sh);
    put("job", engine_install_job_sh);
}

static void teardown(void)
{
    char command[300];

    snprintf(command, sizeof command, "rm -rf %s", home);
    cr_assert_eq(system(command), 0);
}

TestSuite(install_script, .init = setup, .fini = teardown, .timeout = 60);

/* The exit status is the number of the step that went wrong. PATH of the shell is $P; what an archive holds
 * says its version. */
static const char steps[] =
    "quoted() { printf \" '%s'\" \"$(printf %s \"$1\" | sed \"s/'/'\\\\\\\\''/g\")\"; };"
    "step() { { printf 'set --'; for w; do quoted \"$w\"; done; echo; cat script; } >now;"
    "  env -i PATH=\"$P\" HOME=\"$PWD/h o'me\" $SHELL_UNDER_TEST now >out 2>err; tail -n 1 out | grep -qx "
    "ok=1; };"
    "job() { sha=$1; how=$2; shift 2; step begin o.install - o-9.x $how tgz $sha 100000 o o-9 'bin/o' \"$@\" "
    "\"$(cat job)\" || return;"
    "  n=0; while step poll o.install - && grep -q running out && [ $n -lt 300 ]; do n=$((n + 1)); sleep "
    "0.05; done; };"
    "E=\"h o'me/.llmhost/engines\"; mkdir -p \"$E/o-8\" src/bin; : >\"$E/o-8/complete\";"
    "printf '#!/bin/sh\\necho 9\\n' >src/bin/o; chmod 755 src/bin/o; tar -C src -czf a.tgz bin; "
    "sha=$(sha256sum a.tgz | cut -d' ' -f1);"
    "step look o.install - && grep -q ^arch= out && grep -qx tool=tar out && grep -q '^free_kb=[1-9]' out || "
    "exit 1;"
    /* A wrong one leaves nothing. */
    "head -c 100 a.tgz >\"$E/o-9.x.part\"; job $sha install && grep -q '^failed=engine_damaged ' out && [ "
    "\"$(ls \"$E\")\" = o-8 ] || exit 2;"
    /* Brought in two pieces, of which the second is written twice. */
    "step turn o.install - o-9.x o-9 me && grep -qx have=0 out && step turn o.install - o-9.x o-9 you && "
    "grep -qx taken=1 out || exit 3;"
    "step bring o.install - o-9.x me 0 <a.tgz; step poll o.install - || exit 4;"
    "{ printf 'set -- bring o.install - o-9.x me 0\\n'; cat script; } >now;"
    "for i in 1 2; do env -i PATH=\"$P\" HOME=\"$PWD/h o'me\" $SHELL_UNDER_TEST -c \"$(cat now)\" <a.tgz "
    ">out || exit 5; done;"
    "cmp a.tgz \"$E/o-9.x.part\" || exit 6;"
    "job $sha install && grep -qx doing=done out && [ \"$(ls \"$E\")\" = o-9 ] && \"$E/o-9/bin/o\" "
    ">/dev/null || exit 7;"
    "step turn o.install - o-9.x o-9 me && grep -qx installed=1 out || exit 8;"
    /* One whose hash nobody knows: what lay there goes, and what says so stays. */
    "if (PATH=$P; command -v curl) >/dev/null; then printf 'left behind' >\"$E/o-9.x.part\"; rm -rf "
    "\"$E/o-9\"; "
    "job - unverified \"file://$PWD/a.tgz\" && grep -qx doing=done out && [ \"$(cat \"$E/o-9/complete\")\" = "
    "unverified ] && \"$E/o-9/bin/o\" >/dev/null || exit 10; sha=$(sha256sum a.tgz | cut -d' ' -f1); fi;"
    /* Kept alone. */
    "cp a.tgz \"$E/o-9.x.part\"; job $sha keep && grep -q '^file=.*o-9.x.part' out && grep -qx sha256=$sha "
    "out || exit 9";

/* look.sh with somebody on a port, and a home in which nothing may change. */
static const char looks[] =
    "mkdir home; env -i PATH=\"$P\" HOME=\"$PWD/home\" $SHELL_UNDER_TEST look >out 2>err || exit 1;"
    "tail -n 1 out | grep -qx ok=1 && grep -qx arch=$(uname -m) out && grep -qx \"base=$PWD/home/.llmhost\" "
    "out || exit 2;"
    "grep -q '^free_kb=[1-9]' out && grep -q '^card=chip=' out || exit 3;"
    "grep -qx \"port=$PORT $(cat /proc/$HOLDER/comm) (pid $HOLDER)\" out || exit 4;"
    "[ -z \"$(ls -A home)\" ] && rm -r home && ! [ -s err ] || exit 5";

static void under(const char *shell, const char *path)
{
    char command[8000];

    snprintf(command, sizeof command, "cd %s && SHELL_UNDER_TEST='%s' P='%s' && { %s; }", home, shell, path,
             steps);
    int status = system(command);

    cr_assert_eq(status, 0, "%s: step %d", shell, WEXITSTATUS(status));

    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    _cleanup_free_ char *script = NULL, *words = NULL;

    cr_assert(bind(fd, (struct sockaddr *)&at, n) == 0 && listen(fd, 1) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&at, &n), 0);
    script = machine_script(engine_look_sh);
    words = xasprintf("set -- look machine %u\n%s", ntohs(at.sin_port), script);
    put("look", words);
    snprintf(command, sizeof command, "cd %s && SHELL_UNDER_TEST='%s' P='%s' PORT=%u HOLDER=%d && { %s; }",
             home, shell, path, ntohs(at.sin_port), (int)getpid(), looks);
    status = system(command);
    cr_assert_eq(status, 0, "%s: look, step %d", shell, WEXITSTATUS(status));
    close(fd);
}

Test(install_script, runs_under_dash)
{
    if (system("dash -c true >/dev/null 2>&1") != 0)
        cr_skip_test("no dash");
    under("dash", getenv("PATH"));
}

Test(install_script, runs_under_bash)
{
    if (system("bash -c true >/dev/null 2>&1") != 0)
        cr_skip_test("no bash");
    under("bash --posix", getenv("PATH"));
}

Test(install_script, runs_with_nothing_but_busybox)
{
    char command[700], path[200];

    if (system("busybox sh -c true >/dev/null 2>&1") != 0)
        cr_skip_test("no busybox");
    snprintf(path, sizeof path, "%s/applets", home);
    snprintf(command, sizeof command,
             "mkdir %s && for a in $(busybox --list); do ln -s \"$(command -v busybox)\" %s/$a; done", path,
             path);
    cr_assert_eq(system(command), 0);
    snprintf(command, sizeof command, "%s/sh", path);
    under(command, path);
}
