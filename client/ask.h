/* Questions and passwords on a terminal; never off a terminal: whoever asks looks at ask_is_possible() first, and names the
 * flag that answers instead. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SECRET_BYTES_MAX (64u << 10)

/* Overwritten when done with. */
struct secret {
    char *text;         /* NULL: none; terminated */
    size_t n;
};
void secret_done(struct secret *s);
#define _cleanup_secret_ _cleanup_(secret_done)

/* stdin and stderr are a terminal. */
bool ask_is_possible(void);
/* A line without echo. 0, -EINTR (Ctrl-C), -ENODATA (end of input), -EMSGSIZE (1024 bytes or more), other errno. */
int ask_secret(const char *prompt, struct secret *ret);
/* A line. Caller frees. The same errors. */
int ask_line(const char *prompt, char **ret);

/* The file's text, "-" being stdin; at most SECRET_BYTES_MAX. one_line takes a line break off the end (passwords).
 * 0, -EFBIG, -ENODATA (empty), -EILSEQ (a zero byte: no text), other errno. */
int secret_read(const char *path, bool one_line, struct secret *ret);
