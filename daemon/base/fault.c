/* Faults carry words from outside (a server's message, a library's text) to screens and JSON, so everything
 * is cleaned on the way in: valid UTF-8, one line, no full stop at the end, cut between two characters when
 * too long. */
#include "base/fault.h"

#include <errno.h>
#include <stdio.h>

#include "proto/buf.h"
#include "proto/mem.h"
#include "proto/text.h"

static const char *const kind_names[] = {
    [FAULT_NONE] = "none",           [FAULT_TRANSIENT] = "transient", [FAULT_UNCERTAIN] = "uncertain",
    [FAULT_EXHAUSTED] = "exhausted", [FAULT_DENIED] = "denied",       [FAULT_GONE] = "gone",
    [FAULT_INVALID] = "invalid",
};

const char *fault_kind_name(enum fault_kind kind)
{
    return (unsigned)kind < ELEMENTS(kind_names) ? kind_names[kind] : "unknown";
}

/* Not -EAGAIN for what is transient: a step of a procedure that returns it would wait for bytes that never
 * come. */
static int kind_error(enum fault_kind kind)
{
    switch (kind) {
    case FAULT_NONE: return 0;
    case FAULT_TRANSIENT: return -EIO;
    case FAULT_UNCERTAIN: return -ETIMEDOUT;
    case FAULT_EXHAUSTED: return -EBUSY;
    case FAULT_DENIED: return -EACCES;
    case FAULT_GONE: return -ENOENT;
    case FAULT_INVALID: return -EBADMSG;
    }
    return -EIO;
}

static size_t ends_without(const char *text, size_t n)
{
    while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == '.'))
        n--;
    return n;
}

/* raw may be f->text itself. */
static void fill_text(struct fault *f, const char *raw)
{
    struct buf clean;
    size_t n;

    buf_init(&clean, 8192);
    if (utf8_clean(&clean, raw, strlen(raw), false) < 0)
        buf_clear(&clean);
    n = MIN(clean.len, sizeof(f->text) - 1);
    if (n > 0) {
        n = utf8_valid(clean.data, n);
        n = ends_without(clean.data, n);
        memcpy(f->text, clean.data, n);
    }
    f->text[n] = '\0';
    buf_done(&clean);
}

__attribute__((format(printf, 4, 0))) static void fill(struct fault *f, enum fault_kind kind, int error,
                                                       const char *format, va_list args)
{
    char raw[2 * sizeof(f->text)]; /* formatted first: an argument may be the old f->text */

    if (!f)
        return;
    vsnprintf(raw, sizeof(raw), format, args);
    *f = (struct fault){.kind = kind, .error = error};
    fill_text(f, raw);
}

int fault_set(struct fault *f, enum fault_kind kind, int error, const char *format, ...)
{
    va_list args;

    if (error > 0)
        error = -error;
    va_start(args, format);
    fill(f, kind, error, format, args);
    va_end(args);
    return error ? error : kind_error(kind);
}

int fault_code(struct fault *f, enum fault_kind kind, const char *code, const char *format, ...)
{
    char word[sizeof(f->code)];
    va_list args;

    snprintf(word, sizeof(word), "%s", code ? code : "");
    va_start(args, format);
    fill(f, kind, 0, format, args);
    va_end(args);
    if (f)
        memcpy(f->code, word, sizeof(word));
    return kind_error(kind);
}

void fault_prefix(struct fault *f, const char *where)
{
    char raw[2 * sizeof(f->text)];

    if (!f)
        return;
    snprintf(raw, sizeof(raw), "%s: %s", where, f->text);
    fill_text(f, raw);
}
