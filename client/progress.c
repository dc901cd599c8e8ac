/* One line is the running stage; what came before it stays above. Off a terminal a line is written when there
 * is something to say: a stage begins or ends, or nothing was said for a while. */
#include "client/progress.h"

#include "client/connection.h"
#include "proto/mem.h"

#define SILENCE_MS       10000
#define TICK_TERMINAL_MS 200
#define TICK_PLAIN_MS    1000
#define USUAL_LEAST_MS   1000 /* nobody waits for less */
#define STAGE_COLUMNS    12
#define TEXT_COLUMNS     30
#define TIME_COLUMNS     8

void progress_init(struct progress *p, struct output *o, const char *subject)
{
    *p = (struct progress){.output = o, .usual_ms = -1};
    p->subject = xstrdup(subject);
}

void progress_done(struct progress *p)
{
    progress_leave(p);
    free(p->subject);
    free(p->stage);
    free(p->text);
    *p = (struct progress){.output = p->output};
}

void progress_headline(struct progress *p, const char *on)
{
    const struct output *o = p->output;

    if (p->header || o->quiet || !o->err_moves)
        return;
    p->header = true;
    if (on)
        output_hint(o, "%s on %s", p->subject, on);
    else
        output_hint(o, "%s", p->subject);
}

void progress_leave(struct progress *p)
{
    if (p->on_line)
        fputc('\n', stderr);
    p->on_line = false;
}

void progress_clear(struct progress *p)
{
    if (p->on_line)
        fputs("\r\033[K", stderr);
    p->on_line = false;
}

/* ---- what is said ---- */

static void add_download(const struct progress *p, struct buf *out)
{
    char done[TEXT_SHORT_MAX], total[TEXT_SHORT_MAX], rate[TEXT_SHORT_MAX], left[TEXT_SHORT_MAX];

    if (p->bytes < 0)
        return;
    buf_addf(out, "%s%s", out->len ? ", " : "", bytes_format(done, (uint64_t)p->bytes));
    if (p->bytes_total > 0)
        buf_addf(out, " of %s (%d%%)", bytes_format(total, (uint64_t)p->bytes_total),
                 (int)((double)MIN(p->bytes, p->bytes_total) * 100 / (double)p->bytes_total));
    if (p->rate_bytes > 0)
        buf_addf(out, ", %s/s", bytes_format(rate, (uint64_t)p->rate_bytes));
    if (p->rate_bytes > 0 && p->bytes_total > p->bytes)
        buf_addf(
            out, ", %s left",
            duration_format(left, (uint64_t)((p->bytes_total - p->bytes) / p->rate_bytes) * 1000, false));
}

/* "  load        5.6 GB, 100% GPU              11.6s   usually 12s" */
static void add_stage_line(const struct output *o, const char *stage, const char *text, const char *time,
                           const char *usual, struct buf *out)
{
    unsigned time_columns = MAX(text_columns(time), (unsigned)TIME_COLUMNS), columns = TEXT_COLUMNS;
    unsigned rest = 2 + STAGE_COLUMNS + 1 + time_columns + text_columns(usual);

    /* On a narrow terminal a long time ("FAILED after 48s") takes the room of a short text. */
    if (o->err_width > rest && o->err_width <= rest + columns)
        columns = o->err_width - 1 - rest;
    buf_add_text(out, "  ");
    add_padded(out, stage, STAGE_COLUMNS);
    if (!*time) {
        buf_add_text(out, text);
        return;
    }
    add_padded(out, text, columns);
    buf_addf(out, " %*s%s", TIME_COLUMNS, time, usual);
}

/* The running line goes back to its start and over itself; what does not fit is cut, since a wrapped line
 * cannot be taken back. */
static void running_paint(struct progress *p)
{
    char took[TEXT_SHORT_MAX], duration[TEXT_SHORT_MAX], usual[80] = "";
    struct buf text, line;

    buf_init(&text, 4096);
    buf_init(&line, 8192);
    buf_add_text(&text, p->text);
    add_download(p, &text);
    if (p->usual_ms >= USUAL_LEAST_MS && p->bytes < 0)
        snprintf(usual, sizeof(usual), "   usually %s",
                 duration_format(duration, (uint64_t)p->usual_ms, false));
    add_stage_line(p->output, p->stage, buf_text(&text),
                   duration_format(took, steady_now_ms() - p->started_at, true), usual, &line);
    fprintf(stderr, "\r%.*s\033[K", (int)text_fit(buf_text(&line), p->output->err_width - 1),
            buf_text(&line));
    fflush(stderr);
    p->on_line = true;
    buf_done(&text);
    buf_done(&line);
}

/* Off a terminal: "llmhostctl: ollama:x: load (usually 12s)". */
static void plain_say(struct progress *p, bool first)
{
    char took[TEXT_SHORT_MAX], usual[TEXT_SHORT_MAX];
    struct buf text, line;

    buf_init(&line, 8192);
    buf_init(&text, 4096);
    buf_add_text(&text, p->text);
    add_download(p, &text);
    if (text.len)
        buf_addf(&line, ", %s", buf_text(&text));
    buf_done(&text);
    if (!first)
        buf_addf(&line, ", %s so far", duration_format(took, steady_now_ms() - p->started_at, false));
    if (p->usual_ms >= USUAL_LEAST_MS)
        buf_addf(&line, " (usually %s)", duration_format(usual, (uint64_t)p->usual_ms, false));
    output_hint(p->output, "llmhostctl: %s: %s%s", p->subject, p->stage, buf_text(&line));
    p->said_at = steady_now_ms();
    buf_done(&line);
}

/* ---- a stage's life ---- */

static void stage_start(struct progress *p, const char *stage, int64_t took_ms)
{
    if (p->on_line)
        fputc('\n', stderr);
    p->on_line = false;
    free(p->stage);
    p->stage = xstrdup(stage);
    p->started_at = steady_now_ms() - (uint64_t)MAX(took_ms, 0);
    p->any = true;
}

static void stage_running(struct progress *p, const char *stage, const struct json *progress)
{
    bool first = !p->stage || !streq(p->stage, stage);
    const char *text = json_get_text(progress, "text");

    if (first)
        stage_start(p, stage, json_get_int(progress, "took_ms", 0));
    free(p->text);
    p->text = xstrdup(text ? text : "");
    p->usual_ms = json_get_int(progress, "usual_ms", -1);
    p->bytes = json_get_int(progress, "bytes", -1);
    p->bytes_total = json_get_int(progress, "bytes_total", -1);
    p->rate_bytes = json_get_int(progress, "rate_bytes", -1);
    if (p->output->quiet)
        return;
    if (p->output->err_moves)
        running_paint(p);
    else if (first)
        plain_say(p, true);
}

/* Done, skipped or failed: this line stays. */
static void stage_over(struct progress *p, const char *stage, const char *state, const struct json *progress)
{
    bool ran = p->stage && streq(p->stage, stage), failed = streq(state, "failed"),
         skipped = streq(state, "skipped");
    const struct output *o = p->output;
    const char *text = json_get_text(progress, "text");
    int64_t took_ms = json_get_int(progress, "took_ms", -1);
    char took[TEXT_SHORT_MAX] = "", time[80] = "";
    struct buf line;

    if (took_ms >= 0)
        duration_format(took, (uint64_t)took_ms, true);
    if (!skipped)
        p->any = true;
    snprintf(time, sizeof(time), "%s%s%s", failed ? "FAILED" : "", failed && *took ? " after " : "",
             skipped ? "" : took);
    if (!o->quiet && o->err_moves) {
        buf_init(&line, 8192);
        add_stage_line(o, stage, text ? text : "", time, "", &line);
        fprintf(stderr, "%s%s%s\n", p->on_line ? "\r" : "", buf_text(&line), p->on_line ? "\033[K" : "");
        buf_done(&line);
    } else if (!o->quiet && (failed || (!ran && !skipped))) {
        /* Off a terminal a stage has one line; it had it when it began. */
        output_hint(o, "llmhostctl: %s: %s%s%s%s%s", p->subject, stage, text && *text ? ", " : "",
                    text ? text : "", *time ? " " : "", time);
        p->said_at = steady_now_ms();
    }
    p->on_line = false;
    free(p->stage);
    p->stage = NULL;
}

void progress_show(struct progress *p, const struct json *progress)
{
    const char *state = json_get_text(progress, "state"), *name = json_get_text(progress, "stage");
    _cleanup_free_ char *stage = NULL;

    /* That it is ready is the answer, on stdout. */
    if (!name || !state || streq(name, "ready"))
        return;
    stage = words_of(name);
    progress_headline(p, NULL);
    if (streq(state, "done") || streq(state, "failed") || streq(state, "skipped"))
        stage_over(p, stage, state, progress);
    else
        stage_running(p, stage, progress);
}

void progress_tick(struct progress *p)
{
    if (!p->stage || p->output->quiet)
        return;
    output_measure(p->output);
    if (p->output->err_moves)
        running_paint(p);
    else if (steady_now_ms() - p->said_at >= SILENCE_MS)
        plain_say(p, false);
}

uint64_t progress_tick_ms(const struct output *o)
{
    return o->err_moves ? TICK_TERMINAL_MS : TICK_PLAIN_MS;
}
