/* Terminals and files of secrets. Whatever is read is read into memory of ours and overwritten afterwards; a question that is
 * interrupted leaves the terminal as it was. */
#include "client/ask.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <termios.h>

#include "proto/mem.h"

void secret_done(struct secret *s)
{
    if (s->text)
        wipe(s->text, s->n);
    free(s->text);
    *s = (struct secret){0};
}

bool ask_is_possible(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

static volatile sig_atomic_t interrupted;

static void ask_on_signal(int sig)
{
    interrupted = sig;
}

/* Byte by byte and without stdio, whose buffers nobody wipes. The terminal hands over a line at a time.
 * Signals are let in only while waiting, so that none can come between the look at the flag and the sleep. */
static int line_read(const sigset_t *waiting, char *line, size_t size, size_t *ret_n)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t n = 0;
    char byte;

    for (;;) {
        ssize_t got;

        if (ppoll(&p, 1, NULL, waiting) < 0 && errno != EINTR)
            return -errno;
        if (interrupted)
            return -EINTR;
        if (!p.revents)
            continue;
        got = read(STDIN_FILENO, &byte, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            return n ? -EIO : -ENODATA;
        if (byte == '\n')
            break;
        if (n + 1 < size)
            line[n] = byte;
        n++;
    }
    if (n >= size)
        return -EMSGSIZE; /* read to its end all the same: the rest must not reach the shell */
    line[n] = '\0';
    *ret_n = n;
    return 0;
}

/* Ctrl-C must not leave the terminal without echo, so it only ends the reading. */
static int line_ask(const char *prompt, bool echo, char *line, size_t size, size_t *ret_n)
{
    struct sigaction action = {.sa_handler = ask_on_signal}, before_int, before_term;
    sigset_t block, waiting;
    struct termios before, silent;
    int r;

    if (tcgetattr(STDIN_FILENO, &before) < 0)
        return -errno;
    silent = before;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    sigemptyset(&block);
    sigaddset(&block, SIGINT);
    sigaddset(&block, SIGTERM);
    sigprocmask(SIG_BLOCK, &block, &waiting);
    interrupted = 0;
    sigaction(SIGINT, &action, &before_int);
    sigaction(SIGTERM, &action, &before_term);
    /* Silent before the question shows; and what was typed before it is not its answer (FLUSH). */
    if (!echo)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    fprintf(stderr, "%s", prompt);
    fflush(stderr);
    r = line_read(&waiting, line, size, ret_n);
    if (!echo)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
    if (!echo || r < 0)
        fprintf(stderr, "\n");
    sigaction(SIGINT, &before_int, NULL);
    sigaction(SIGTERM, &before_term, NULL);
    sigprocmask(SIG_SETMASK, &waiting, NULL);
    return r;
}

int ask_secret(const char *prompt, struct secret *ret)
{
    char line[1024];
    size_t n;
    int r = line_ask(prompt, false, line, sizeof(line), &n);

    if (r == 0) {
        ret->text = xstrdup(line);
        ret->n = n;
    }
    wipe(line, sizeof(line));
    return r;
}

int ask_line(const char *prompt, char **ret)
{
    char line[1024];
    size_t n;
    int r = line_ask(prompt, true, line, sizeof(line), &n);

    if (r == 0)
        *ret = xstrdup(line);
    return r;
}

static int all_read(int fd, char *text, size_t *ret_n)
{
    size_t n = 0;

    for (;;) {
        ssize_t got = read(fd, text + n, SECRET_BYTES_MAX + 1 - n);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        n += (size_t)got;
        if (n > SECRET_BYTES_MAX)
            return -EFBIG;
    }
    if (n == 0)
        return -ENODATA;
    *ret_n = n;
    return 0;
}

int secret_read(const char *path, bool one_line, struct secret *ret)
{
    _cleanup_close_ int opened = -1;
    _cleanup_secret_ struct secret s = {0};
    size_t n = 0;
    int fd = STDIN_FILENO, r;

    if (!streq(path, "-")) {
        fd = opened = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return -errno;
    }
    s.n = SECRET_BYTES_MAX + 2;
    s.text = xalloc(s.n);
    r = all_read(fd, s.text, &n);
    if (r < 0)
        return r;
    if (one_line && n > 0 && s.text[n - 1] == '\n')
        s.text[--n] = '\0';
    if (one_line && n > 0 && s.text[n - 1] == '\r')
        s.text[--n] = '\0';
    if (n == 0)
        return -ENODATA;
    if (memchr(s.text, '\0', n))
        return -EILSEQ;
    ret->text = TAKE_PTR(s.text); /* all of it is wiped by secret_done(): the rest holds nothing */
    ret->n = n;
    return 0;
}
