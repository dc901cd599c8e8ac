/* Real files in a directory of the test's own. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "store/secrets.h"

static char directory[] = "/tmp/test-secrets-XXXXXX";
static struct secrets *secrets;

static void setup(void)
{
    unsetenv("CREDENTIALS_DIRECTORY");
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(secrets_open(directory, &secrets), 0);
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    secrets = secrets_free(secrets);
    cr_assert_eq(system(command), 0);
}

TestSuite(secrets, .init = setup, .fini = teardown);

static char *path_of(const char *name)
{
    return xasprintf("%s/secrets/%s", directory, name);
}

static void write_file(const char *path, const char *text, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, n), (ssize_t)n);
    cr_assert_eq(fchmod(fd, mode), 0);
    close(fd);
}

static void assert_secret(const char *thing, const char *kind, const char *text)
{
    char *got = NULL;

    cr_assert_eq(secrets_get(secrets, thing, kind, &got), 0);
    cr_assert_str_eq(got, text);
    got = secret_free(got);
    cr_assert_null(got);
}

static void assert_refused(const char *thing, const char *kind, int error)
{
    char *got = NULL;

    cr_assert_eq(secrets_get(secrets, thing, kind, &got), error);
    cr_assert_null(got);
}

Test(secrets, what_was_put_is_got_again_also_by_another_daemon)
{
    cr_assert_eq(secrets_put(secrets, "gpu-a", "password", "hunter2 \xe4\xb8\xad"), 0);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", "-----BEGIN\nabc\n"), 0);
    secrets = secrets_free(secrets);
    cr_assert_eq(secrets_open(directory, &secrets), 0);
    assert_secret("gpu-a", "password", "hunter2 \xe4\xb8\xad");
    assert_secret("gpu-a", "key", "-----BEGIN\nabc\n");
}

Test(secrets, a_missing_one_is_enoent)
{
    assert_refused("gpu-a", "password", -ENOENT);
}

Test(secrets, files_and_their_directory_are_for_us_alone)
{
    _cleanup_free_ char *file = path_of("gpu-a.password"), *parent = path_of(".");
    struct stat st;

    umask(0);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "password", "x"), 0);
    cr_assert_eq(stat(file, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    cr_assert_eq(stat(parent, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0700);
}

Test(secrets, a_new_value_replaces_the_old_and_leaves_nothing_beside_it)
{
    _cleanup_free_ char *beside = path_of(".gpu-a.password.new");

    write_file(beside, "half wri", 8, 0600); /* what a power cut may have left */
    cr_assert_eq(secrets_put(secrets, "gpu-a", "password", "old and long"), 0);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "password", "new"), 0);
    assert_secret("gpu-a", "password", "new");
    cr_assert_eq(access(beside, F_OK), -1);
}

Test(secrets, the_old_bytes_are_overwritten_on_replacement_and_removal)
{
    _cleanup_free_ char *file = path_of("gpu-a.password"), *kept = path_of("kept");
    char text[16] = "";

    for (int round = 0; round < 2; round++) {
        cr_assert_eq(secrets_put(secrets, "gpu-a", "password", "hunter2"), 0);
        cr_assert_eq(link(file, kept), 0); /* a way to look at the bytes afterwards */
        cr_assert_eq(round ? secrets_remove(secrets, "gpu-a", "password")
                           : secrets_put(secrets, "gpu-a", "password", "y"),
                     0);
        int fd = open(kept, O_RDONLY | O_CLOEXEC);

        cr_assert_eq(read(fd, text, sizeof(text)), 7);
        cr_assert_arr_eq(text, "\0\0\0\0\0\0\0", 7);
        close(fd);
        cr_assert_eq(unlink(kept), 0);
    }
}

Test(secrets, removing_twice_is_fine)
{
    cr_assert_eq(secrets_put(secrets, "gpu-a", "passphrase", "x"), 0);
    cr_assert_eq(secrets_remove(secrets, "gpu-a", "passphrase"), 0);
    assert_refused("gpu-a", "passphrase", -ENOENT);
    cr_assert_eq(secrets_remove(secrets, "gpu-a", "passphrase"), 0);
}

Test(secrets, one_trailing_newline_of_a_password_is_not_part_of_it)
{
    _cleanup_free_ char *file = path_of("gpu-a.password"), *key = path_of("gpu-a.key");

    write_file(file, "hunter2\n", 8, 0600);
    assert_secret("gpu-a", "password", "hunter2");
    write_file(file, "hunter2\r\n", 9, 0600);
    assert_secret("gpu-a", "password", "hunter2");
    write_file(file, "hunter2\n\n", 9, 0600);
    assert_secret("gpu-a", "password", "hunter2\n");
    write_file(file, "\n", 1, 0600);
    assert_secret("gpu-a", "password", "");
    write_file(key, "a\n", 2, 0600);
    assert_secret("gpu-a", "key", "a\n");
}

Test(secrets, a_file_others_may_read_or_a_link_is_refused)
{
    _cleanup_free_ char *file = path_of("gpu-a.password"), *link_path = path_of("gpu-b.password");
    _cleanup_free_ char *folder = path_of("gpu-c.password");

    write_file(file, "x", 1, 0640);
    assert_refused("gpu-a", "password", -EPERM);
    cr_assert_eq(chmod(file, 0600), 0);
    cr_assert_eq(symlink(file, link_path), 0);
    assert_refused("gpu-b", "password", -EPERM);
    cr_assert_eq(mkdir(folder, 0700), 0);
    assert_refused("gpu-c", "password", -EPERM);
}

Test(secrets, a_file_of_somebody_else_is_refused)
{
    _cleanup_free_ char *file = path_of("gpu-a.password");

    if (geteuid() != 0)
        cr_skip_test("needs root to give a file away");
    write_file(file, "x", 1, 0600);
    cr_assert_eq(chown(file, 1, 1), 0);
    assert_refused("gpu-a", "password", -EPERM);
}

Test(secrets, names_cannot_leave_the_directory)
{
    static const char *const names[] = {"", "../x", "a/b", ".hidden", "a.b", "A", "a b", "\xff"};

    for (size_t i = 0; i < ELEMENTS(names); i++) {
        cr_assert_eq(secrets_put(secrets, names[i], "password", "x"), -EINVAL);
        cr_assert_eq(secrets_put(secrets, "gpu-a", names[i], "x"), -EINVAL);
        cr_assert_eq(secrets_remove(secrets, names[i], "password"), -EINVAL);
        assert_refused(names[i], "password", -EINVAL);
    }
}

Test(secrets, sizes_are_bounded_and_a_nul_is_refused)
{
    _cleanup_free_ char *file = path_of("gpu-a.password"), *big = xalloc(SECRET_BYTES_MAX + 2);

    memset(big, 'x', SECRET_BYTES_MAX + 1);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", big), -E2BIG);
    write_file(file, big, SECRET_BYTES_MAX + 1, 0600);
    assert_refused("gpu-a", "password", -EFBIG);
    big[SECRET_BYTES_MAX] = 0;
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", big), 0);
    assert_secret("gpu-a", "key", big);
    write_file(file, "a\0b", 3, 0600);
    assert_refused("gpu-a", "password", -EBADMSG);
}

Test(secrets, a_directory_that_is_open_to_others_or_no_directory_is_refused)
{
    _cleanup_free_ char *own = path_of("."), *inner = path_of("inner"), *file = path_of("inner/secrets");
    struct secrets *other = NULL;

    cr_assert_eq(chmod(own, 0750), 0);
    cr_assert_eq(secrets_open(directory, &other), -EPERM);
    cr_assert_eq(chmod(own, 0700), 0);
    cr_assert_eq(mkdir(inner, 0700), 0);
    write_file(file, "", 0, 0600);
    cr_assert_eq(secrets_open(inner, &other), -EPERM);
    cr_assert_eq(unlink(file), 0);
    cr_assert_eq(symlink(own, file), 0);
    cr_assert_eq(secrets_open(inner, &other), -EPERM);
    cr_assert_eq(secrets_open("/nowhere/at/all", &other), -ENOENT);
    cr_assert_null(other);
}

Test(secrets, credentials_of_the_service_manager_come_first)
{
    _cleanup_free_ char *credentials = xasprintf("%s/credentials", directory);
    _cleanup_free_ char *file = xasprintf("%s/gpu-a.password", credentials);

    cr_assert_eq(mkdir(credentials, 0700), 0);
    write_file(file, "from systemd\n", 13, 0440);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "password", "own"), 0);
    cr_assert_eq(secrets_put(secrets, "gpu-b", "password", "own"), 0);
    secrets = secrets_free(secrets);
    setenv("CREDENTIALS_DIRECTORY", credentials, 1);
    cr_assert_eq(secrets_open(directory, &secrets), 0);
    assert_secret("gpu-a", "password", "from systemd");
    assert_secret("gpu-b", "password", "own");
}

Test(secrets, a_missing_credentials_directory_is_none)
{
    setenv("CREDENTIALS_DIRECTORY", "/nowhere/at/all", 1);
    secrets = secrets_free(secrets);
    cr_assert_eq(secrets_open(directory, &secrets), 0);
    assert_refused("gpu-a", "password", -ENOENT);
}

Test(secrets, a_full_disk_keeps_the_old_value)
{
    _cleanup_free_ char *mount =
        xasprintf("mount -t tmpfs -o size=16k,mode=700 none '%s/secrets'", directory);
    _cleanup_free_ char *umount = xasprintf("umount '%s/secrets'", directory);
    _cleanup_free_ char *big = xalloc(SECRET_BYTES_MAX + 1);

    if (geteuid() != 0 || system(mount) != 0)
        cr_skip_test("needs to mount a tmpfs");
    secrets = secrets_free(secrets);
    cr_assert_eq(secrets_open(directory, &secrets), 0);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", "old"), 0);
    memset(big, 'x', SECRET_BYTES_MAX);
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", big), -ENOSPC);
    assert_secret("gpu-a", "key", "old");
    cr_assert_eq(secrets_put(secrets, "gpu-a", "key", "new"), 0); /* the half-written one is not in the way */
    assert_secret("gpu-a", "key", "new");
    secrets = secrets_free(secrets);
    cr_assert_eq(system(umount), 0);
}

Test(secrets, freeing_nothing_is_fine)
{
    cr_assert_null(secret_free(NULL));
    cr_assert_null(secrets_free(NULL));
}
