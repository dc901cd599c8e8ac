#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/settings.h"
#include "proto/mem.h"

static struct settings *parse(const char *text)
{
    struct settings *s = NULL;
    char *why = NULL;

    cr_assert_eq(settings_parse(text, "test.conf", &s, &why), 0, "%s", why);
    cr_assert_null(why);
    return s;
}

static void refuse(const char *text, const char *expected)
{
    struct settings *s = NULL;
    char *why = NULL;

    cr_assert_eq(settings_parse(text, "test.conf", &s, &why), -EINVAL, "taken: %s", text);
    cr_assert_null(s, "untouched on failure");
    cr_assert_str_eq(why, expected);
    free(why);
}

Test(settings, defaults)
{
    struct settings *s = parse("");

    cr_assert_str_eq(settings_text(s, "gateway", "listen"), "127.0.0.1:11434");
    cr_assert_eq(settings_ms(s, "gateway", "hold"), 600000);
    cr_assert(settings_bool(s, "gateway", "heartbeat"));
    cr_assert_null(settings_text(s, "gateway", "allow_host"));
    cr_assert_null(settings_text(s, "gateway", "allow_origin"));
    cr_assert(settings_bool(s, "ssh", "install_key"));
    cr_assert_eq(settings_ms(s, "idle", "stop"), 15 * 60000);
    cr_assert_eq(settings_ms(s, "guard", "lease"), 15 * 60000);
    cr_assert_str_eq(settings_text(s, "log", "level"), "info");
    cr_assert_null(settings_text(s, "engine.ollama", "path"));
    cr_assert_null(settings_text(s, "engine.llama.cpp", "path"));
    cr_assert_null(settings_free(s));
    cr_assert_null(settings_free(NULL));
}

Test(settings, values_as_people_write_them)
{
    struct settings *s = parse("\xef\xbb\xbf# a comment\n"
                               "[gateway]\r\n"
                               "listen=[::1]:8080\r\n"
                               "  hold = 90s   ; inline\n"
                               "heartbeat = off\n"
                               "allow_host = chat.example.org  gpu-box\n"
                               "allow_origin = https://chat.example.org http://localhost:3000\n"
                               "\n"
                               "[ssh]\n"
                               "\tinstall_key = No\n"
                               "[engine.llama.cpp]\n"
                               "path = /opt/llama server/bin/llama-server\n"
                               "[engine.ollama]\npath = ~/ollama/bin/ollama\n"
                               "[log]\nlevel = debug");

    cr_assert_str_eq(settings_text(s, "gateway", "listen"), "[::1]:8080");
    cr_assert_eq(settings_ms(s, "gateway", "hold"), 90000);
    cr_assert(!settings_bool(s, "gateway", "heartbeat"));
    cr_assert_str_eq(settings_text(s, "gateway", "allow_host"), "chat.example.org  gpu-box");
    cr_assert(!settings_bool(s, "ssh", "install_key"));
    cr_assert_str_eq(settings_text(s, "engine.llama.cpp", "path"), "/opt/llama server/bin/llama-server");
    cr_assert_str_eq(settings_text(s, "engine.ollama", "path"), "~/ollama/bin/ollama");
    cr_assert_str_eq(settings_text(s, "log", "level"), "debug");
    settings_free(s);
}

Test(settings, later_values_win_and_an_empty_one_unsets)
{
    struct settings *s =
        parse("[gateway]\nhold = 1m\nallow_host = a\n[log]\n[gateway]\nhold = 0\nallow_host =\n");

    cr_assert_eq(settings_ms(s, "gateway", "hold"), 0);
    cr_assert_null(settings_text(s, "gateway", "allow_host"));
    settings_free(s);
}

Test(settings, an_unknown_name_is_an_error_that_names_a_near_one)
{
    refuse("\n[gateway]\nlisen = 127.0.0.1:1\n",
           "test.conf:3: unknown key lisen in [gateway], did you mean listen?");
    refuse("[gateway]\nfrobnicate = 1\n", "test.conf:2: unknown key frobnicate in [gateway]");
    refuse("[gateway]\ninstall_key = no\n",
           "test.conf:2: unknown key install_key in [gateway]; there is one in [ssh]");
    refuse("[gatway]\n", "test.conf:1: unknown section [gatway], did you mean [gateway]?");
    refuse("[engine.olama]\npath = /x\n",
           "test.conf:1: unknown section [engine.olama], did you mean [engine.ollama]?");
    refuse("[telemetry]\n", "test.conf:1: unknown section [telemetry]");
    refuse("listen = 127.0.0.1:1\n", "test.conf:1: listen stands before any [section]");
    refuse("[log]\nLevel = info\n", "test.conf:2: unknown key Level in [log], did you mean level?");
}

Test(settings, a_wrong_value_is_an_error_that_names_the_form)
{
    refuse("[gateway]\nhold = soon\n",
           "test.conf:2: [gateway] hold = soon: should be a duration from 0 to 24h, as 90s, 5m or 12h");
    refuse("[gateway]\nhold = 25h\n",
           "test.conf:2: [gateway] hold = 25h: should be a duration from 0 to 24h, as 90s, 5m or 12h");
    refuse("[gateway]\nhold = 600\n",
           "test.conf:2: [gateway] hold = 600: should be a duration from 0 to 24h, as 90s, 5m or 12h");
    refuse("[gateway]\nhold =\n",
           "test.conf:2: [gateway] hold = : should be a duration from 0 to 24h, as 90s, 5m or 12h");
    refuse("[guard]\nlease = 31m\n",
           "test.conf:2: [guard] lease = 31m: should be a duration of at most 30m, as 90s or 15m, and not 0");
    refuse("[guard]\nfirst = 0s\n",
           "test.conf:2: [guard] first = 0s: should be a duration of at most 30m, as 90s or 15m, and not 0");
    refuse("[guard]\nsettle = 0\n",
           "test.conf:2: [guard] settle = 0: should be a duration of at most 30m, as 90s or 15m, and not 0");
    refuse("[guard]\nstop_alarm = 1h\n",
           "test.conf:2: [guard] stop_alarm = 1h: should be a duration of at most 30m, as 90s or 15m, and not 0");
    refuse(
        "[idle]\nmax_up = 8d\n",
        "test.conf:2: [idle] max_up = 8d: should be a duration of at most 7d, as 90m, 12h or 2d, and not 0");
    refuse("[ssh]\ninstall_key = 1\n", "test.conf:2: [ssh] install_key = 1: should be yes or no");
    refuse("[log]\nlevel = loud\n",
           "test.conf:2: [log] level = loud: should be err, warning, notice, info or debug");
    refuse("[engine.ollama]\npath = ~/\n", "test.conf:2: [engine.ollama] path = ~/: should be an absolute "
                                           "path on the machine, or one that begins with ~/");
    refuse("[engine.ollama]\npath = ollama\n", "test.conf:2: [engine.ollama] path = ollama: should be an "
                                               "absolute path on the machine, or one that begins with ~/");
}

Test(settings, percent_is_a_small_number_with_its_sign_or_without)
{
    struct settings *s = parse("[idle]\ngpu_use = 5%\n"), *plain = parse("[idle]\ngpu_use = 40\n"), *none = parse("");

    cr_assert_eq(settings_percent(s, "idle", "gpu_use"), 5);
    cr_assert_eq(settings_percent(plain, "idle", "gpu_use"), 40);
    cr_assert_eq(settings_percent(none, "idle", "gpu_use"), 0);
    settings_free(s);
    settings_free(plain);
    settings_free(none);
    refuse("[idle]\ngpu_use = 100%\n", "test.conf:2: [idle] gpu_use = 100%: should be a number of percent from 0 (not "
                                       "looked at) to 99, as 5%");
    refuse("[idle]\ngpu_use = yes\n", "test.conf:2: [idle] gpu_use = yes: should be a number of percent from 0 (not "
                                      "looked at) to 99, as 5%");
    refuse("[idle]\ngpu_use = 5 %\n", "test.conf:2: [idle] gpu_use = 5 %: should be a number of percent from 0 (not "
                                      "looked at) to 99, as 5%");
    refuse("[idle]\ngpu_use =\n",
           "test.conf:2: [idle] gpu_use = : should be a number of percent from 0 (not looked at) to 99, as 5%");
}

Test(settings, addresses_are_numeric_and_have_a_port)
{
    static const char *const bad[] = {"localhost:11434", "127.0.0.1", "127.0.0.1:",    "127.0.0.1:65536",
                                      "::1:80",          "[::1]",     "[127.0.0.1]:1", ":80",
                                      "127.0.0.1:8x",    "[]:80",     "127.0.0.1:-1",  "1.2.3:80",
                                      "[::1:80",         "*:80"};
    static const char *const good[] = {"127.0.0.1:1", "[::1]:65535", "127.0.0.1:0",   "127.1.2.3:80",
                                       "0.0.0.0:1",   "[::]:65535",  "192.168.1.5:80"};

    for (unsigned i = 0; i < ELEMENTS(bad) + ELEMENTS(good); i++) {
        bool is_bad = i < ELEMENTS(bad);
        const char *value = is_bad ? bad[i] : good[i - ELEMENTS(bad)];
        _cleanup_free_ char *text = xasprintf("[gateway]\nlisten = %s\n", value), *why = NULL;
        struct settings *s = NULL;

        cr_assert_eq(settings_parse(text, "t", &s, &why), is_bad ? -EINVAL : 0, "%s", value);
        settings_free(s);
    }
}

Test(settings, hosts_and_origins_are_checked_word_by_word)
{
    static const char *const bad[] = {"allow_host = http://x",
                                      "allow_host = a,b",
                                      "allow_host = a:80",
                                      "allow_host = ok -x",
                                      "allow_origin = chat.example.org",
                                      "allow_origin = https://",
                                      "allow_origin = https://a/path",
                                      "allow_origin = *",
                                      "allow_origin = https://a,https://b"};

    for (unsigned i = 0; i < ELEMENTS(bad); i++) {
        _cleanup_free_ char *text = xasprintf("[gateway]\n%s\n", bad[i]), *why = NULL;
        struct settings *s = NULL;

        cr_assert_eq(settings_parse(text, "t", &s, &why), -EINVAL, "%s", bad[i]);
        cr_assert_not_null(strstr(why, "should be"), "%s", why);
    }
}

Test(settings, the_first_complaint_is_the_one_that_is_told)
{
    refuse("[gateway]\nhold 10m\nlisen = x\n", "test.conf:2: neither [section] nor key = value");
    refuse("[gateway]\nlisen = x\nhold 10m\n",
           "test.conf:2: unknown key lisen in [gateway], did you mean listen?");
    refuse("[gateway\nhold = 10m\n", "test.conf:1: neither [section] nor key = value");
    refuse("[log]\nlevel = \xff\n", "test.conf: not valid UTF-8");
}

Test(settings, nothing_but_a_comment_stands_behind_a_section)
{
    static const char why[] = "test.conf:1: [idle] stands on a line of its own, and its keys below it";

    refuse("[idle] unload = 0\n", why);
    refuse("[idle]unload=0", why);
    refuse("[idle]\runload = 0\r", why); /* ends of lines as of long ago: all of it is one line */

    struct settings *s = parse("[idle] # when nobody asks\r\nunload = 0\r\n[log] ; much\n");

    cr_assert_eq(settings_ms(s, "idle", "unload"), 0);
    settings_free(s);
}

Test(settings, a_long_comment_is_fine_and_a_long_line_is_said_to_be_one)
{
    char text[5000] = "# ";
    struct settings *s;
    char *why = NULL;

    memset(text + 2, 'x', 3000);
    strcat(text, "\n[gateway]\nhold = 2m\n");
    s = parse(text);
    cr_assert_eq(settings_ms(s, "gateway", "hold"), 120000);
    settings_free(s);
    s = NULL;
    strcpy(text, "[gateway]\nallow_host = ");
    memset(text + strlen(text), 'x', 3000);
    strcat(text, "\n");
    cr_assert_eq(settings_parse(text, "t", &s, &why), -EINVAL);
    cr_assert_not_null(strstr(why, "t:2: the line is longer than"), "%s", why);
    free(why);
}

Test(settings, all_values_can_be_walked)
{
    struct settings *s = parse("[gateway]\nhold = 10m\n");
    const char *section, *key, *value, *where;
    unsigned n = 0, set = 0;

    for (; settings_at(s, n, &section, &key, &value, &where); n++) {
        cr_assert_not_null(value);
        if (where) {
            set++;
            cr_assert_str_eq(key, "hold", "set by hand, though to its default");
            cr_assert_str_eq(value, "10m");
            cr_assert_str_eq(where, "test.conf:2");
        }
    }
    cr_assert_eq(n, 28);
    cr_assert_eq(set, 1);
    settings_free(s);
}

Test(settings, hooks_have_names_of_the_users_own)
{
    struct settings *s = parse("[hook.notify]\ncommand = /usr/local/bin/notify\n"
                               "[hook.to-phone_2]\nevents = ready,off no_guard\ncommand = /bin/true\n"
                               "[hook.notify]\ncommand = /bin/false\n");
    const char *section, *key, *value, *where;

    cr_assert_str_eq(settings_hook_at(s, 0), "notify");
    cr_assert_str_eq(settings_hook_at(s, 1), "to-phone_2");
    cr_assert_null(settings_hook_at(s, 2));
    cr_assert_str_eq(settings_text(s, "hook.notify", "command"), "/bin/false", "later values win");
    cr_assert_str_eq(settings_where(s, "hook.notify", "command"), "test.conf:7");
    cr_assert(strstr(settings_text(s, "hook.notify", "events"), "stop_not_confirmed"));
    cr_assert_null(settings_where(s, "hook.notify", "events"));
    cr_assert_str_eq(settings_text(s, "hook.to-phone_2", "events"), "ready,off no_guard");
    cr_assert_null(settings_text(s, "hook.other", "command"), "none of that name");
    cr_assert(settings_at(s, 28 + 3, &section, &key, &value, &where));
    cr_assert_str_eq(section, "hook.to-phone_2");
    cr_assert_str_eq(key, "events");
    cr_assert_str_eq(where, "test.conf:4");
    cr_assert(!settings_at(s, 28 + 4, &section, &key, &value, &where));
    settings_free(s);
}

Test(settings, bad_hooks_are_named)
{
    char text[800] = "";

    refuse("[hook]\n",
           "test.conf:1: [hook] should be [hook.NAME], NAME of letters, digits, _ and -, 31 at most");
    refuse("[hook.a b]\n",
           "test.conf:1: [hook.a b] should be [hook.NAME], NAME of letters, digits, _ and -, 31 at most");
    refuse("[hook.]\n",
           "test.conf:1: [hook.] should be [hook.NAME], NAME of letters, digits, _ and -, 31 at most");
    refuse("\n[hook.notify]\n", "test.conf:2: [hook.notify] has no command");
    refuse("[hook.notify]\nevents = all\n", "test.conf:1: [hook.notify] has no command");
    refuse("[hook.notify]\ncommand = notify-send x\n",
           "test.conf:2: [hook.notify] command = notify-send x: should be an absolute path");
    refuse("[hook.notify]\ncomand = /bin/true\n",
           "test.conf:2: unknown key comand in [hook.notify], did you mean command?");
    refuse("[hook.notify]\nhold = 5m\n",
           "test.conf:2: unknown key hold in [hook.notify]; there is one in [gateway]");
    refuse("[hook.notify]\ncommand = /bin/true\nevents = no_guard stop-not-confirmed\n",
           "test.conf:3: [hook.notify] events: there is no event stop-not-confirmed, did you mean "
           "stop_not_confirmed?");
    refuse("[hook.notify]\ncommand = /bin/true\nevents = xxxxxxxxxxxx\n",
           "test.conf:3: [hook.notify] events: there is no event xxxxxxxxxxxx; llmhostd(8) has the list");
    refuse(
        "[hook.notify]\ncommand = /bin/true\nevents =\n",
        "test.conf:3: [hook.notify] events =: should be events of llmhostd(8) with blanks or commas between "
        "them, as stop_not_confirmed no_guard, or all");
    for (int i = 0; i < 17; i++)
        sprintf(text + strlen(text), "[hook.h%d]\ncommand = /bin/true\n", i);
    refuse(text, "test.conf:33: [hook.h16] is one too many: there may be 16 of [hook.NAME]");
}

Test(settings, a_key_nobody_knows_is_a_bug_of_the_caller, .signal = SIGABRT)
{
    settings_text(parse(""), "gateway", "lisen");
}

/* Files. */
static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    cr_assert_geq(fd, 0, "%s", path);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void in_new_folder(void)
{
    char folder[] = "/tmp/test_settings.XXXXXX";

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
}

static void remove_folder(void)
{
    char folder[256];
    _cleanup_free_ char *command = NULL;

    cr_assert_not_null(getcwd(folder, sizeof(folder)));
    cr_assert_eq(strncmp(folder, "/tmp/test_settings.", 19), 0);
    command = xasprintf("rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

Test(settings_files, pieces_are_read_in_the_order_of_their_names)
{
    struct settings *s = NULL;
    char *why = NULL;

    in_new_folder();
    put("c.conf", "[gateway]\nhold = 1m\n[ssh]\ninstall_key = off\n");
    cr_assert_eq(mkdir("c.conf.d", 0700), 0);
    put("c.conf.d/20-b.conf", "[gateway]\nhold = 3m\n");
    put("c.conf.d/10-a.conf", "[gateway]\nhold = 2m\n[log]\nlevel = err\n");
    put("c.conf.d/30-off.conf.bak", "nonsense");
    put("c.conf.d/.hidden.conf", "nonsense");
    cr_assert_eq(settings_load("c.conf", true, &s, &why), 0, "%s", why);
    cr_assert_eq(settings_ms(s, "gateway", "hold"), 180000);
    cr_assert(!settings_bool(s, "ssh", "install_key"));
    cr_assert_str_eq(settings_text(s, "log", "level"), "err");
    s = settings_free(s);
    put("c.conf.d/15.conf", "[log]\n\nlevel = much\n");
    cr_assert_eq(settings_load("c.conf", true, &s, &why), -EINVAL);
    cr_assert_eq(strncmp(why, "c.conf.d/15.conf:3: ", 20), 0, "%s", why);
    cr_assert_null(s);
    free(why);
    remove_folder();
}

Test(settings_files, a_missing_file_is_an_error_only_where_it_was_named)
{
    struct settings *s = NULL;
    char *why = NULL;

    in_new_folder();
    cr_assert_eq(settings_load("none.conf", true, &s, &why), -ENOENT);
    cr_assert_str_eq(why, "none.conf: No such file or directory");
    free(why);
    cr_assert_eq(settings_load("none.conf", false, &s, &why), 0);
    s = settings_free(s);
    cr_assert_eq(settings_load(NULL, true, &s, &why), 0);
    s = settings_free(s);
    cr_assert_eq(settings_load(".", true, &s, &why), -EISDIR);
    free(why);
    remove_folder();
}

Test(settings_files, a_pipe_or_a_directory_is_refused_and_waited_for_by_nobody)
{
    struct settings *s = NULL;
    char *why = NULL;

    in_new_folder();
    cr_assert_eq(mkfifo("pipe.conf", 0600), 0);
    cr_assert_eq(settings_load("pipe.conf", true, &s, &why), -ENOTSUP);
    cr_assert_str_eq(why, "pipe.conf: not a file");
    free(why);
    cr_assert_eq(settings_load("pipe.conf", false, &s, &why), -ENOTSUP, "also where none was named");
    free(why);
    put("c.conf", "");
    cr_assert_eq(mkdir("c.conf.d", 0700), 0);
    cr_assert_eq(mkdir("c.conf.d/10.conf", 0700), 0);
    cr_assert_eq(settings_load("c.conf", true, &s, &why), -EISDIR);
    cr_assert_str_eq(why, "c.conf.d/10.conf: a directory, and no file");
    free(why);
    cr_assert_eq(settings_load("/dev/null", true, &s, &why), 0, "%s", why);
    s = settings_free(s);
    remove_folder();
}

Test(settings_files, what_is_no_text_or_far_too_large_is_refused)
{
    struct settings *s = NULL;
    char *why = NULL;
    int fd;

    in_new_folder();
    fd = open("zero.conf", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, "[log]\0\n", 7), 7);
    close(fd);
    cr_assert_eq(settings_load("zero.conf", true, &s, &why), -EINVAL);
    cr_assert_str_eq(why, "zero.conf: not a text file");
    free(why);
    put("large.conf", "");
    cr_assert_eq(truncate("large.conf", 8 << 20), 0);
    cr_assert_eq(settings_load("large.conf", true, &s, &why), -EFBIG);
    free(why);
    remove_folder();
}

/* The example: it parses, and with its comment marks taken away it says every key, each with its default. */
static char *example(bool uncommented)
{
    FILE *f = fopen(SOURCE_DIR "/contrib/llmhostd.conf.example", "r");
    char *text = xalloc(65536), line[512];

    cr_assert_not_null(f);
    while (fgets(line, sizeof(line), f))
        strcat(text, uncommented && line[0] == '#' && line[1] != ' ' ? line + 1 : line);
    fclose(f);
    return text;
}

Test(settings, the_example_changes_nothing_and_covers_every_key_with_its_default)
{
    _cleanup_free_ char *as_is = example(false), *all = example(true);
    struct settings *s = parse(as_is), *full = parse(all);
    const char *section, *key, *value, *other, *where;

    for (unsigned i = 0; settings_at(s, i, &section, &key, &value, &where); i++) {
        cr_assert_null(where, "[%s] %s", section, key);
        cr_assert(settings_at(full, i, &section, &key, &other, &where));
        cr_assert_not_null(where, "the example lacks [%s] %s", section, key);
        cr_assert_str_eq(other, value, "[%s] %s", section, key);
    }
    settings_free(s);
    settings_free(full);
}

/* ---- what a verb keeps ---- */

Test(settings, a_value_that_is_kept_is_read_last_and_replaced_by_the_next)
{
    char folder[] = "/tmp/test-settings-XXXXXX";
    _cleanup_free_ char *file = NULL, *again = NULL, *third = NULL, *why = NULL;
    struct settings *s = NULL;

    cr_assert_not_null(mkdtemp(folder));
    _cleanup_free_ char *path = xasprintf("%s/llmhostd.conf", folder), *pieces = xasprintf("%s.d", path),
                        *later = xasprintf("%s/zzz.conf", pieces), *remove = xasprintf("rm -r %s", folder);
    FILE *f = fopen(path, "w");

    fputs("[gateway]\nlisten = 127.0.0.1:1\nhold = 3m\n", f);
    fclose(f);
    cr_assert_eq(settings_keep(path, "gateway", "listen", "127.0.0.1:2", &file), 0);
    cr_assert_eq(strncmp(file, pieces, strlen(pieces)), 0, "%s", file);
    cr_assert_eq(settings_keep(path, "gateway", "listen", "127.0.0.1:3", &again), 0);
    cr_assert_eq(settings_load(path, true, &s, &why), 0, "%s", why);
    cr_assert_str_eq(settings_text(s, "gateway", "listen"), "127.0.0.1:3");
    cr_assert_eq(settings_ms(s, "gateway", "hold"), 180000, "the others stay");
    settings_free(s);
    f = fopen(later, "w");
    fputs("[gateway]\nlisten = 127.0.0.1:9\n", f);
    fclose(f);
    cr_assert_eq(settings_keep(path, "gateway", "listen", "127.0.0.1:4", &third), -EEXIST);
    cr_assert_eq(system(remove), 0);
}
