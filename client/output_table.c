/* For people: tables, sentences, errors, times. */
#include <ctype.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <time.h>
#include <wchar.h>

#include "client/output.h"
#include "proto/mem.h"

#define GAP_COLUMNS 2
#define CUT_COLUMNS 12 /* a column cut shorter than this says nothing: it is left out instead */
#define COLUMNS_MIN 2  /* name and state */

/* ---- the terminal ---- */

static unsigned terminal_width(int fd)
{
    const char *columns = getenv("COLUMNS");
    struct winsize size;

    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return columns && atoi(columns) > 0 ? (unsigned)atoi(columns) : 80;
}

void output_measure(struct output *o)
{
    struct winsize size = {0}, err = {0};

    o->out_width = o->out_terminal ? terminal_width(STDOUT_FILENO) : 0;
    o->err_width = o->err_terminal ? terminal_width(STDERR_FILENO) : 0;
    o->out_height = o->out_terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_row : 0;
    o->err_height = o->err_terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &err) == 0 ? err.ws_row : 0;
}

void output_init(struct output *o, bool json, bool quiet)
{
    const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
    bool dumb = !term || !*term || streq(term, "dumb");
    bool plain = dumb || (no_colour && *no_colour);

    /* wcwidth() knows Chinese letters only in a UTF-8 locale, and a service has none. */
    setlocale(LC_CTYPE, "");
    if (!streq(nl_langinfo(CODESET), "UTF-8"))
        setlocale(LC_CTYPE, "C.UTF-8");
    o->json = json;
    o->quiet = quiet;
    o->out_terminal = isatty(STDOUT_FILENO);
    o->err_terminal = isatty(STDERR_FILENO);
    o->err_moves = o->err_terminal && !dumb;
    o->out_colour = o->out_terminal && !plain;
    o->err_colour = o->err_terminal && !plain;
    output_measure(o);
}

void output_flush(const struct buf *out)
{
    if (out->len)
        fwrite(out->data, 1, out->len, stdout);
    fflush(stdout);
}

void output_hint(const struct output *o, const char *format, ...)
{
    va_list args;

    if (o->quiet)
        return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void output_hint_wrapped(const struct output *o, const char *text)
{
    struct buf out;

    if (o->quiet)
        return;
    buf_init(&out, 65536);
    add_wrapped(&out, 0, o->err_width, text);
    fputs(buf_text(&out), stderr);
    buf_done(&out);
}

void output_answer(const struct output *o, const struct json *data, screen_fn screen, enum exit_status exit)
{
    struct buf out;

    buf_init(&out, SCREEN_BYTES_MAX);
    if (o->json)
        envelope_write(&out, data, NULL, exit);
    else
        screen(o, data, &out);
    output_flush(&out);
    buf_done(&out);
}

/* ---- widths ---- */

/* One letter: its length in bytes, its columns. Text here is valid UTF-8; a byte that is not counts as one
 * column. */
static size_t letter(const char *text, unsigned *ret_columns)
{
    mbstate_t state = {0};
    wchar_t w;
    size_t n = mbrtowc(&w, text, strlen(text), &state);
    int columns;

    *ret_columns = 1;
    if (n == 0 || n > 4)
        return 1;
    columns = wcwidth(w);
    if (columns >= 0)
        *ret_columns = (unsigned)columns;
    return n;
}

unsigned text_columns(const char *text)
{
    unsigned sum = 0, columns;

    for (; *text; sum += columns)
        text += letter(text, &columns);
    return sum;
}

size_t text_fit(const char *text, unsigned columns)
{
    unsigned sum = 0, one;
    size_t at = 0;

    while (text[at]) {
        size_t n = letter(text + at, &one);

        if (sum + one > columns)
            break;
        sum += one;
        at += n;
    }
    return at;
}

static void add_spaces(struct buf *out, unsigned n)
{
    buf_addf(out, "%*s", (int)n, "");
}

void add_padded(struct buf *out, const char *text, unsigned columns)
{
    unsigned has = text_columns(text);

    buf_add_text(out, text);
    if (has < columns)
        add_spaces(out, columns - has);
}

/* How many bytes of the line go onto this row, and how many blanks after them are swallowed. */
static size_t row_fit(const char *line, size_t n, unsigned columns, size_t *ret_skip)
{
    size_t fits = MIN(text_fit(line, columns), n), at = fits;

    *ret_skip = 0;
    if (fits == n)
        return n;
    while (at > 0 && line[at] != ' ')
        at--;
    while (at > 0 && line[at - 1] == ' ')
        at--;
    if (at == 0)
        return fits ? fits : n; /* one word as long as the row */
    *ret_skip = strspn(line + at, " ");
    return at;
}

void add_wrapped(struct buf *out, unsigned indent, unsigned width, const char *text)
{
    unsigned columns = width > indent + 20 ? width - indent : 100000;

    while (text && *text) {
        size_t n = strcspn(text, "\n"), skip, row = row_fit(text, n, columns, &skip);

        if (n)
            buf_addf(out, "%*s%.*s\n", (int)indent, "", (int)row, text);
        text += row + skip;
        if (*text == '\n')
            text++;
    }
}

void add_styled(struct buf *out, bool colour, enum style style, const char *text)
{
    static const char *const codes[] = {
        [STYLE_HEAD] = "\033[1m",   [STYLE_GOOD] = "\033[32m", [STYLE_BUSY] = "\033[33m",
        [STYLE_BAD] = "\033[1;31m", [STYLE_FAINT] = "\033[2m", [STYLE_PLAIN] = "",
    };

    if (!colour || style == STYLE_PLAIN || !*text) {
        buf_add_text(out, text);
        return;
    }
    buf_addf(out, "%s%s\033[0m", codes[style], text);
}

/* ---- tables ---- */

struct cell {
    char *text;
    enum style style;
};

struct table {
    const struct column *columns;
    unsigned n_columns;
    struct cell *cells; /* row by row */
    size_t n_cells;
    bool last_below;
};

struct table *table_new(const struct column *columns, unsigned n_columns)
{
    struct table *t = xnew(struct table);

    t->columns = columns;
    t->n_columns = n_columns;
    return t;
}

struct table *table_free(struct table *t)
{
    if (!t)
        return NULL;
    for (size_t i = 0; i < t->n_cells; i++)
        free(t->cells[i].text);
    free(t->cells);
    free(t);
    return NULL;
}

void table_add(struct table *t, enum style style, const char *text)
{
    struct cell *cells = realloc(t->cells, (t->n_cells + 1) * sizeof(*cells));
    struct cell *cell;

    if (!cells)
        abort();
    t->cells = cells;
    cell = &cells[t->n_cells++];
    cell->style = style;
    cell->text = xstrdup(text && *text ? text : "-");
    for (char *p = cell->text; *p; p++)
        if (*p == '\n' || *p == '\t')
            *p = ' ';
}

void table_keep_last(struct table *t)
{
    t->last_below = true;
}

static unsigned column_width(const struct table *t, unsigned column)
{
    unsigned width = text_columns(t->columns[column].head);

    for (size_t i = column; i < t->n_cells; i += t->n_columns)
        width = MAX(width, text_columns(t->cells[i].text));
    return width;
}

/* Gives up columns from the right, the first two never: a thing without its state says nothing. One of words
 * that becomes the last is cut, where enough of it stays; one that must be read whole leaves the row. */
static unsigned table_fit(const struct table *t, unsigned width, unsigned *widths)
{
    unsigned n = t->n_columns, total = 0;

    for (unsigned i = 0; i < n; i++)
        total += (widths[i] = column_width(t, i)) + (i ? GAP_COLUMNS : 0);
    if (width && total > width && t->last_below)
        total -= widths[--n] + GAP_COLUMNS;
    while (width && n > COLUMNS_MIN && total > width) {
        unsigned before = total - widths[n - 1];

        if (t->columns[n - 1].words && before + CUT_COLUMNS <= width) {
            widths[n - 1] = width - before;
            break;
        }
        n--;
        total = before - GAP_COLUMNS;
    }
    return n;
}

static void cell_write(const struct table *t, unsigned column, unsigned width, bool last, bool colour,
                       enum style style, const char *text, struct buf *out)
{
    unsigned has = text_columns(text);
    _cleanup_free_ char *cut = NULL;

    if (has > width && t->columns[column].words) {
        cut = xasprintf("%.*s\xe2\x80\xa6", (int)text_fit(text, width - 1), text);
        text = cut;
        has = text_columns(text);
    }
    if (t->columns[column].right && has < width)
        add_spaces(out, width - has);
    add_styled(out, colour, style, text);
    if (!t->columns[column].right && !last && has < width)
        add_spaces(out, width - has);
}

/* What left the row stands below it, with its head before it. */
static void write_below(const struct table *t, size_t row, unsigned width, struct buf *out)
{
    unsigned column = t->n_columns - 1;
    _cleanup_free_ char *head = xstrdup(t->columns[column].head), *text = NULL;

    for (char *p = head; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    text = xasprintf("%s: %s", head, t->cells[row * t->n_columns + column].text);
    add_wrapped(out, GAP_COLUMNS, width, text);
}

void table_write(const struct table *t, unsigned width, bool colour, struct buf *out)
{
    unsigned *widths = xalloc(t->n_columns * sizeof(*widths));
    unsigned n = table_fit(t, width, widths);
    bool below = n < t->n_columns && t->last_below;
    size_t rows = t->n_cells / t->n_columns;

    for (size_t row = 0; row <= rows; row++) {
        for (unsigned i = 0; i < n; i++) {
            const struct cell *cell = row ? &t->cells[(row - 1) * t->n_columns + i] : NULL;

            if (i)
                add_spaces(out, GAP_COLUMNS);
            cell_write(t, i, widths[i], i == n - 1, colour, cell ? cell->style : STYLE_HEAD,
                       cell ? cell->text : t->columns[i].head, out);
        }
        while (out->len && out->data[out->len - 1] == ' ')
            out->len--; /* of cells that are left blank */
        buf_add_text(out, "\n");
        if (row && below)
            write_below(t, row - 1, width, out);
    }
    free(widths);
}

/* ---- errors ---- */

struct json *error_make(enum exit_status exit, const char *code, const char *message, const char *why, ...)
{
    struct json *error = json_object(), *next = json_array();
    const char *command;
    va_list args;

    va_start(args, why);
    while ((command = va_arg(args, const char *)))
        json_append_string(next, command);
    va_end(args);
    json_put_string(error, "code", code);
    json_put_int(error, "exit", exit);
    json_put_string(error, "message", message);
    json_put_string(error, "why", why);
    json_put(error, "next", next);
    return error;
}

enum exit_status error_status(const struct json *error)
{
    return (enum exit_status)json_get_int(error, "exit", EXIT_FAILED);
}

static const char *next_label(enum exit_status exit)
{
    switch (exit) {
    case EXIT_NO_DAEMON: return "start it:";
    case EXIT_TIMED_OUT: return "watch:";
    default: return "next:";
    }
}

static void add_next(struct buf *out, const struct json *error)
{
    const struct json *next = json_get(error, "next");
    const char *code = json_get_text(error, "code");
    const char *label = next_label(error_status(error));
    bool absent = code && streq(code, "no_daemon");
    unsigned width;

    /* Only a daemon that is not there can be started. */
    if (error_status(error) == EXIT_NO_DAEMON && !absent)
        label = "next:";
    width = text_columns(json_get(error, "guards") ? "meanwhile:" : label) + 2;
    for (size_t i = 0; i < json_count(next); i++) {
        const char *command = json_text(json_at(next, i));
        bool by_systemd = absent && command && strncmp(command, "systemctl ", 10) == 0;

        buf_add_text(out, "  ");
        add_padded(out, i ? "" : label, width);
        buf_addf(out, "%s%s\n", command ? command : "", by_systemd ? "      (without systemd: llmhostd &)" : "");
    }
}

static void add_message(const struct output *o, const char *message, struct buf *out)
{
    struct buf text;

    buf_init(&text, SCREEN_BYTES_MAX);
    add_wrapped(&text, 0, o->err_width, message);
    if (text.len)
        text.len--; /* the line break stands behind the colour */
    add_styled(out, o->err_colour, STYLE_BAD, buf_text(&text));
    buf_add_text(out, "\n");
    buf_done(&text);
}

void screen_error(const struct output *o, const struct json *error, struct buf *out)
{
    const struct json *provider = json_get(error, "provider");
    const char *said = json_get_text(provider, "message"), *name = json_get_text(provider, "name");
    const char *message = json_get_text(error, "message");
    int64_t retry_ms = json_get_int(error, "retry_after_ms", 0);
    char age[TEXT_SHORT_MAX];

    /* In a unit's log nobody knows who is speaking. */
    if (!o->err_terminal)
        buf_add_text(out, "llmhostctl: ");
    add_message(o, message ? message : "failed", out);
    add_wrapped(out, 2, o->err_width, json_get_text(error, "why"));
    if (said) {
        const char *code = json_get_text(provider, "code"), *request = json_get_text(provider, "request_id");

        buf_addf(out, "  %s said: %s", name ? name : "provider", said);
        if (code)
            buf_addf(out, " (%s)", code);
        if (request)
            buf_addf(out, " request %s", request);
        buf_add_text(out, "\n");
    }
    if (retry_ms > 0)
        buf_addf(out, "  try again in %s\n", duration_format(age, (uint64_t)retry_ms, false));
    add_next(out, error);
    screen_guards(o, json_get(error, "guards"), out);
}

void output_error(const struct output *o, const struct json *error)
{
    struct buf out;

    buf_init(&out, SCREEN_BYTES_MAX);
    if (o->json) {
        envelope_write(&out, NULL, error, EXIT_DONE);
        output_flush(&out);
    } else {
        fflush(stdout);
        screen_error(o, error, &out);
        fwrite(out.data, 1, out.len, stderr);
    }
    buf_done(&out);
}

/* ---- words and times ---- */

const char *member_text(const struct json *object, const char *key, const char *otherwise)
{
    const char *text = json_get_text(object, key);

    return text ? text : otherwise;
}

char *words_of(const char *code)
{
    char *copy = xstrdup(code);

    for (char *p = copy; *p; p++)
        if (*p == '_')
            *p = ' ';
    return copy;
}

int64_t now_at_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *age_format(char out[static TEXT_SHORT_MAX], int64_t since_at_ms)
{
    int64_t age = now_at_ms() - since_at_ms;

    return duration_format(out, age > 0 ? (uint64_t)age : 0, false);
}

const char *clock_format(char out[static CLOCK_MAX], int64_t at_ms, bool millis)
{
    time_t at = (time_t)(at_ms / 1000), now = time(NULL);
    struct tm then, today;
    size_t n;

    localtime_r(&at, &then);
    localtime_r(&now, &today);
    if (then.tm_year == today.tm_year && then.tm_yday == today.tm_yday)
        n = strftime(out, CLOCK_MAX, "%H:%M:%S", &then);
    else
        n = strftime(out, CLOCK_MAX, "%Y-%m-%d %H:%M:%S", &then);
    if (millis)
        snprintf(out + n, CLOCK_MAX - n, ".%03d", (int)(at_ms % 1000));
    return out;
}

const char *minute_format(char out[static CLOCK_MAX], int64_t at_ms)
{
    clock_format(out, at_ms, false);
    *strrchr(out, ':') = '\0';
    return out;
}
