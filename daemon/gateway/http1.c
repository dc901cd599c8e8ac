/* A head is collected byte for byte under rules that need no understanding (no control characters, every line
 * ends with CR LF), then taken apart under strict ones, and only then shown to the library, whose verdict
 * must agree with ours. Of a body the library gets exactly the bytes that belong to it: where it ends is
 * counted here, or chunk by chunk in chunks.c, so what follows (the next request of a pipeline) never reaches
 * it.
 *
 * http_parser 2.9.4 as Debian 12 has it accepts, among other things, a bare LF, a repeated Content-Length and
 * white space in odd places (observed 2026-11-21); hence the order. */
#include "gateway/http1.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#ifdef HAVE_LLHTTP
#include <llhttp.h>
typedef llhttp_t library;
typedef llhttp_settings_t library_settings;
#else
#include <http_parser.h>
typedef struct http_parser library;
typedef struct http_parser_settings library_settings;
#endif

#include "gateway/chunks.h"
#include "proto/buf.h"
#include "proto/mem.h"

#define METHOD_BYTES_MAX  16
#define LENGTH_DIGITS_MAX 15

struct http1 {
    enum http1_kind kind;
    library parser;
    struct buf raw;    /* the head as it came */
    size_t line_bytes; /* of the line that is being read, without its LF */
    unsigned lead;     /* bytes of an empty line before a request */
    char last;
    bool begun, has_head, over, failed, library_over;
    char *text; /* the head, cut into strings */
    size_t text_bytes;
    struct http1_head head;
    struct http1_refusal refusal;
    uint64_t left_bytes;  /* HTTP1_LENGTH */
    struct chunks chunks; /* HTTP1_CHUNKED */
    struct buf *out;
    int out_error;
};

/* ---- the library ---- */

static int on_headers_complete(library *p)
{
    struct http1 *h = p->data;

    p->upgrade = 0; /* nobody switches protocols here: go on with the body */
    return h->kind == HTTP1_ANSWER && h->head.framing == HTTP1_NO_BODY;
}

static int on_body(library *p, const char *data, size_t n)
{
    struct http1 *h = p->data;
    int r = buf_add(h->out, data, n);

    if (r < 0)
        h->out_error = r;
    return r < 0 ? 1 : 0;
}

static int on_message_complete(library *p)
{
    struct http1 *h = p->data;

    h->library_over = true;
    return 0;
}

static const library_settings *callbacks(void)
{
    static library_settings s;

    if (!s.on_body) {
#ifdef HAVE_LLHTTP
        llhttp_settings_init(&s);
#endif
        s.on_body = on_body;
        s.on_headers_complete = on_headers_complete;
        s.on_message_complete = on_message_complete;
    }
    return &s;
}

static void library_reset(struct http1 *h)
{
#ifdef HAVE_LLHTTP
    llhttp_init(&h->parser, h->kind == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, callbacks());
#else
    http_parser_init(&h->parser, h->kind == HTTP1_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE);
#endif
    h->parser.data = h;
}

/* All of it must be to the library's taste. */
static bool library_takes(struct http1 *h, const char *data, size_t n)
{
#ifdef HAVE_LLHTTP
    return llhttp_execute(&h->parser, data, n) == HPE_OK;
#else
    return http_parser_execute(&h->parser, callbacks(), data, n) == n &&
           HTTP_PARSER_ERRNO(&h->parser) == HPE_OK;
#endif
}

static bool library_takes_end(struct http1 *h)
{
#ifdef HAVE_LLHTTP
    return llhttp_finish(&h->parser) == HPE_OK;
#else
    return http_parser_execute(&h->parser, callbacks(), "", 0) == 0 &&
           HTTP_PARSER_ERRNO(&h->parser) == HPE_OK;
#endif
}

/* ---- its life ---- */

struct http1 *http1_new(enum http1_kind kind)
{
    struct http1 *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    h->kind = kind;
    http1_next(h);
    return h;
}

/* There may be a key of ours in it. */
static void forget_head(struct http1 *h)
{
    buf_wipe(&h->raw);
    if (h->text)
        explicit_bzero(h->text, h->text_bytes);
    free(h->text);
    free(h->head.fields);
}

struct http1 *http1_free(struct http1 *h)
{
    if (!h)
        return NULL;
    forget_head(h);
    free(h);
    return NULL;
}

void http1_next(struct http1 *h)
{
    enum http1_kind kind = h->kind;

    forget_head(h);
    memset(h, 0, sizeof(*h));
    h->kind = kind;
    buf_init(&h->raw, HTTP1_HEAD_BYTES_MAX);
    library_reset(h);
}

bool http1_has_begun(const struct http1 *h)
{
    return h->begun;
}

const struct http1_head *http1_get_head(const struct http1 *h)
{
    return h->has_head ? &h->head : NULL;
}

const struct http1_refusal *http1_get_refusal(const struct http1 *h)
{
    return &h->refusal;
}

static int refuse(struct http1 *h, unsigned status, const char *text)
{
    h->failed = true;
    h->refusal = (struct http1_refusal){status, text};
    return -EBADMSG;
}

static int refuse_for_memory(struct http1 *h)
{
    return refuse(h, 503, "there is no memory for the message");
}

/* ---- words ---- */

bool http1_is_token_char(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *s)
{
    const char *p = s;

    while (http1_is_token_char((unsigned char)*p))
        p++;
    return p > s && !*p;
}

const char *http1_field(const struct http1_head *head, const char *name)
{
    for (unsigned i = 0; i < head->n_fields; i++)
        if (strcasecmp(head->fields[i].name, name) == 0)
            return head->fields[i].value;
    return NULL;
}

unsigned http1_count_fields(const struct http1_head *head, const char *name)
{
    unsigned n = 0;

    for (unsigned i = 0; i < head->n_fields; i++)
        n += strcasecmp(head->fields[i].name, name) == 0;
    return n;
}

static bool value_lists(const char *value, const char *word)
{
    size_t n = strlen(word);

    while (*value) {
        size_t length;

        value += strspn(value, " \t,");
        length = strcspn(value, ",");
        while (length && (value[length - 1] == ' ' || value[length - 1] == '\t'))
            length--;
        if (length == n && strncasecmp(value, word, n) == 0)
            return true;
        value += strcspn(value, ",");
    }
    return false;
}

bool http1_field_lists(const struct http1_head *head, const char *name, const char *word)
{
    for (unsigned i = 0; i < head->n_fields; i++)
        if (strcasecmp(head->fields[i].name, name) == 0 && value_lists(head->fields[i].value, word))
            return true;
    return false;
}

/* ---- the lines of a head ---- */

/* "HTTP/1.1": the minor version; 505 for any other that is well formed. */
static int take_version(struct http1 *h, const char *s)
{
    bool formed = strncmp(s, "HTTP/", 5) == 0 && s[5] >= '0' && s[5] <= '9' && s[6] == '.' && s[7] >= '0' &&
                  s[7] <= '9' && !s[8];

    if (!formed)
        return refuse(h, 400, "the first line does not end with an HTTP version");
    if (s[5] != '1' || s[7] > '1')
        return refuse(h, 505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    h->head.minor = (unsigned)(s[7] - '0');
    return 0;
}

static bool is_known_method(const char *method)
{
    static const char *const known[] = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"};

    for (size_t i = 0; i < ELEMENTS(known); i++)
        if (streq(method, known[i]))
            return true;
    return false;
}

static bool is_target(const char *s)
{
    const char *p = s;

    while ((unsigned char)*p > ' ' && (unsigned char)*p < 0x7f)
        p++;
    return !*p && (*s == '/' || streq(s, "*") || strncasecmp(s, "http://", 7) == 0);
}

static int take_request_line(struct http1 *h, char *line)
{
    char *target = strchr(line, ' '), *version = target ? strchr(target + 1, ' ') : NULL;
    int r;

    if (!version)
        return refuse(h, 400, "the first line is not METHOD TARGET VERSION");
    *target++ = '\0';
    *version++ = '\0';
    r = take_version(h, version);
    if (r < 0)
        return r;
    if (!is_token(line) || strlen(line) > METHOD_BYTES_MAX)
        return refuse(h, 400, "the method is not a word");
    if (!is_target(target))
        return refuse(h, 400, "the target is not a path");
    if (!is_known_method(line))
        return refuse(h, 501, "that method is not known here");
    h->head.method = line;
    h->head.target = target;
    return 0;
}

static int take_status_line(struct http1 *h, char *line)
{
    char *status = strchr(line, ' ');
    int r;

    if (!status)
        return refuse(h, 400, "the first line has no status");
    *status++ = '\0';
    r = take_version(h, line);
    if (r < 0)
        return r;
    if (strspn(status, "0123456789") != 3 || (status[3] && status[3] != ' ') || *status < '1' ||
        *status > '5')
        return refuse(h, 400, "the status is not three digits");
    h->head.status = (unsigned)((status[0] - '0') * 100 + (status[1] - '0') * 10 + (status[2] - '0'));
    h->head.reason = status[3] ? status + 4 : "";
    return 0;
}

static int take_field(struct http1 *h, char *line, size_t n)
{
    char *colon = strchr(line, ':'), *value, *end = line + n;

    if (*line == ' ' || *line == '\t')
        return refuse(h, 400, "a header line is folded");
    if (!colon)
        return refuse(h, 400, "a header line has no colon");
    *colon = '\0';
    if (!is_token(line))
        return refuse(h, 400, "a header name is not a word, or white space stands before its colon");
    if (h->head.n_fields == HTTP1_FIELDS_MAX)
        return refuse(h, 431, "too many header lines");
    value = colon + 1 + strspn(colon + 1, " \t");
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        *--end = '\0';
    h->head.fields[h->head.n_fields++] = (struct http1_field){line, value};
    return 0;
}

/* Cuts h->text into strings. Its lines all end with CR LF and hold no NUL. */
static int take_lines(struct http1 *h)
{
    char *line = h->text;
    int r = 0;

    h->head.fields = calloc(HTTP1_FIELDS_MAX, sizeof(*h->head.fields));
    if (!h->head.fields)
        return refuse_for_memory(h);
    for (bool first = true; *line && r == 0; first = false) {
        char *end = strchr(line, '\r');
        size_t n = (size_t)(end - line);

        *end = '\0';
        if (n == 0)
            break;
        if (!first)
            r = take_field(h, line, n);
        else
            r = h->kind == HTTP1_REQUEST ? take_request_line(h, line) : take_status_line(h, line);
        line = end + 2;
    }
    /* Most heads are short and live as long as their request. */
    if (r == 0 && h->head.n_fields < HTTP1_FIELDS_MAX) {
        size_t size = MAX(h->head.n_fields, 1u) * sizeof(*h->head.fields);
        struct http1_field *fitting = realloc(h->head.fields, size);

        h->head.fields = fitting ? fitting : h->head.fields;
    }
    return r;
}

/* ---- what the lines mean together ---- */

static int take_length(struct http1 *h, const char *value)
{
    size_t n = strlen(value);

    if (n == 0 || strspn(value, "0123456789") != n)
        return refuse(h, 400, "Content-Length is not a plain number");
    if (n > LENGTH_DIGITS_MAX)
        return refuse(h, 413, "the body is too large");
    h->head.framing = HTTP1_LENGTH;
    h->head.length_bytes = strtoull(value, NULL, 10);
    return 0;
}

static bool answer_has_no_body(const struct http1 *h)
{
    return h->kind == HTTP1_ANSWER &&
           (h->head.status < 200 || h->head.status == 204 || h->head.status == 304);
}

static int take_framing(struct http1 *h)
{
    const char *length = http1_field(&h->head, "Content-Length"),
               *coding = http1_field(&h->head, "Transfer-Encoding");

    if (http1_count_fields(&h->head, "Content-Length") > 1)
        return refuse(h, 400, "Content-Length is there twice");
    if (http1_count_fields(&h->head, "Transfer-Encoding") > 1)
        return refuse(h, 400, "Transfer-Encoding is there twice");
    if (coding && length)
        return refuse(h, 400, "Content-Length and Transfer-Encoding are both there");
    if (coding && (strcasecmp(coding, "chunked") != 0 || h->head.minor == 0))
        return refuse(h, 400, "the only Transfer-Encoding spoken here is chunked, in HTTP/1.1");
    h->head.framing = h->kind == HTTP1_REQUEST ? HTTP1_NO_BODY : HTTP1_UNTIL_CLOSE;
    if (coding)
        h->head.framing = HTTP1_CHUNKED;
    else if (length && take_length(h, length) < 0)
        return -EBADMSG;
    if (answer_has_no_body(h) ||
        (h->kind == HTTP1_REQUEST && h->head.framing == HTTP1_LENGTH && h->head.length_bytes == 0))
        h->head.framing = HTTP1_NO_BODY;
    h->left_bytes = h->head.framing == HTTP1_LENGTH ? h->head.length_bytes : 0;
    return 0;
}

static int take_connection(struct http1 *h)
{
    unsigned hosts = http1_count_fields(&h->head, "Host");

    if (h->kind == HTTP1_REQUEST && (hosts > 1 || (hosts == 0 && h->head.minor > 0)))
        return refuse(h, 400, hosts ? "Host is there twice" : "Host is missing");
    h->head.keep_alive = h->head.minor > 0 ? !http1_field_lists(&h->head, "Connection", "close")
                                           : http1_field_lists(&h->head, "Connection", "keep-alive");
    if (h->head.framing == HTTP1_UNTIL_CLOSE)
        h->head.keep_alive = false;
    return 0;
}

static int head_is_whole(struct http1 *h)
{
    int r;

    h->text_bytes = h->raw.len + 1;
    h->text = malloc(h->text_bytes);
    if (!h->text)
        return refuse_for_memory(h);
    memcpy(h->text, h->raw.data, h->raw.len);
    h->text[h->raw.len] = '\0';
    r = take_lines(h);
    if (r == 0)
        r = take_framing(h);
    if (r == 0)
        r = take_connection(h);
    if (r < 0)
        return r;
    if (!library_takes(h, h->raw.data, h->raw.len))
        return refuse(h, 400, "the head of the request makes no sense");
    buf_wipe(&h->raw);
    h->has_head = true;
    h->over = h->head.framing == HTTP1_NO_BODY || (h->head.framing == HTTP1_LENGTH && h->left_bytes == 0);
    if (h->over != h->library_over)
        return refuse(h, 400, "where the body ends is not clear");
    return 1;
}

/* ---- the bytes of a head ---- */

/* What the byte may not be, whatever the line means. */
static const char *byte_is_wrong(const struct http1 *h, unsigned char c)
{
    if (h->last == '\r' && c != '\n')
        return "a CR without its LF";
    if (c == '\n' && h->last != '\r')
        return "a line that does not end with CR LF";
    if ((c < ' ' && c != '\r' && c != '\n' && c != '\t') || c == 0x7f)
        return "a control character in the head";
    return NULL;
}

/* One empty line before a request is forgiven (RFC 9112, 2.2). */
static bool is_lead(struct http1 *h, char c)
{
    if (h->kind != HTTP1_REQUEST || h->raw.len || h->lead > 1 || c != "\r\n"[h->lead])
        return false;
    h->lead++;
    return true;
}

static int keep_raw(struct http1 *h, const char *data, size_t n)
{
    int r = buf_add(&h->raw, data, n);

    if (r == 0)
        return 0;
    return r == -ENOMEM ? refuse_for_memory(h) : refuse(h, 431, "the head is larger than 32 KiB");
}

int http1_read_head(struct http1 *h, const char *data, size_t n, size_t *ret_used)
{
    size_t from = 0;
    int r;

    *ret_used = n;
    if (h->failed)
        return -EBADMSG;
    for (size_t i = 0; i < n; i++) {
        const char *wrong;

        h->begun = true;
        if (from == i && is_lead(h, data[i])) {
            from = i + 1;
            continue;
        }
        wrong = h->lead == 1 ? "a CR without its LF" : byte_is_wrong(h, (unsigned char)data[i]);
        if (wrong)
            return refuse(h, 400, wrong);
        h->last = data[i];
        if (data[i] != '\n') {
            h->line_bytes += data[i] != '\r';
            continue;
        }
        if (h->line_bytes > 0) {
            h->line_bytes = 0;
            continue;
        }
        *ret_used = i + 1;
        r = keep_raw(h, data + from, i + 1 - from);
        return r < 0 ? r : head_is_whole(h);
    }
    return keep_raw(h, data + from, n - from);
}

/* ---- bodies ---- */

static ssize_t chunked_span(struct http1 *h, const char *data, size_t n)
{
    ssize_t span = chunks_span(&h->chunks, data, n);

    if (span < 0)
        return refuse(h, 400, "the chunks of the body make no sense");
    h->over = chunks_are_over(&h->chunks);
    return span;
}

/* How many of the n bytes belong to the body; negative: refused. Sets h->over when its end is among them. */
static ssize_t body_span(struct http1 *h, const char *data, size_t n)
{
    size_t some;

    switch (h->head.framing) {
    case HTTP1_CHUNKED: return chunked_span(h, data, n);
    case HTTP1_UNTIL_CLOSE: return (ssize_t)n;
    case HTTP1_NO_BODY: return 0;
    case HTTP1_LENGTH: break;
    }
    some = MIN(n, h->left_bytes);
    h->left_bytes -= some;
    h->over = h->left_bytes == 0;
    return (ssize_t)some;
}

int http1_read_body(struct http1 *h, const char *data, size_t n, struct buf *out, size_t *ret_used)
{
    ssize_t span;

    *ret_used = 0;
    if (h->failed || !h->has_head)
        return -EBADMSG;
    if (h->over)
        return 1;
    span = body_span(h, data, n);
    if (span < 0)
        return (int)span;
    h->out = out;
    h->out_error = 0;
    if (span > 0 && !library_takes(h, data, (size_t)span)) {
        if (h->out_error == 0)
            return refuse(h, 400, "the body of the message makes no sense");
        refuse_for_memory(h);
        return h->out_error;
    }
    *ret_used = (size_t)span;
    if (h->over != h->library_over)
        return refuse(h, 400, "where the body ends is not clear");
    return h->over ? 1 : 0;
}

int http1_read_end(struct http1 *h)
{
    if (h->failed || !h->has_head)
        return -EPIPE;
    if (h->over)
        return 0;
    if (h->head.framing != HTTP1_UNTIL_CLOSE || !library_takes_end(h))
        return -EPIPE;
    h->over = true;
    return 0;
}
