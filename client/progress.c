/* The last lines are the running stages, one for each instance; those that are over stay above, and are painted
 * anew where a longer name comes, as long as all of them are on the screen and nothing else was written below. Off a
 * terminal a line is written when there is something to say: a stage begins or ends, or nothing was said for
 * a while. */
#include "client/progress.h"

#include <string.h>

#include "client/connection.h"
#include "proto/mem.h"

#define SILENCE_MS       10000
#define TICK_TERMINAL_MS 200
#define TICK_PLAIN_MS    1000
#define USUAL_LEAST_MS   1000 /* nobody waits for less */
#define OVER_MAX         64 /* lines that are painted anew when a longer name comes */
#define STAGE_COLUMNS    12
#define TEXT_COLUMNS     30
#define TIME_COLUMNS     8

void progress_init(struct progress *p, struct output *o, const char *subject)
{
    *p = (struct progress){.output = o};
    p->subject = xstrdup(subject);
}

static void running_remove(struct progress *p, struct progress_stage *s)
{
    free(s->instance);
    free(s->stage);
    free(s->text);
    p->n_running--;
    memmove(s, s + 1, (size_t)(p->running + p->n_running - s) * sizeof *s);
}

void progress_forget(struct progress *p)
{
    for (unsigned i = 0; i < p->n_over; i++) {
        free(p->over[i].instance);
        free(p->over[i].stage);
        free(p->over[i].text);
        free(p->over[i].time);
    }
    p->n_over = p->over_lines = 0;
}

void progress_done(struct progress *p)
{
    progress_leave(p);
    while (p->n_running)
        running_remove(p, p->running);
    progress_forget(p);
    free(p->over);
    free(p->running);
    free(p->subject);
    json_free(p->own);
    *p = (struct progress){.output = p->output};
}

void progress_own(struct progress *p, const char *instance)
{
    for (size_t i = 0; i < json_count(p->own); i++)
        if (streq(json_text(json_at(p->own, i)), instance))
            return;
    if (!p->own)
        p->own = json_array();
    json_append_string(p->own, instance);
}

/* "4090Dx2 ¥3.96/h~". */
static void add_card(struct buf *out, const struct json *candidate)
{
    int64_t cards = json_get_int(candidate, "cards", 1);
    char text[AMOUNT_MAX], count[24] = "";

    if (cards > 1)
        snprintf(count, sizeof count, "x%lld", (long long)cards);
    buf_addf(out, "%s%s %s", member_text(candidate, "gpu", "?"), count,
             amount_is_known(json_get(candidate, "price"))
                 ? amount_format(text, json_get(candidate, "price"), "/h")
                 : "?/h");
}

/* Each card stands in the list once for each region. */
static bool is_named_before(const struct json *list, size_t n, const char *key)
{
    const struct json *one = json_at(list, n);

    for (size_t i = 0; i < n; i++) {
        const struct json *other = json_at(list, i);

        if (streq(member_text(other, key, ""), member_text(one, key, "")) &&
            (streq(key, "region") || json_get_int(other, "cards", 1) == json_get_int(one, "cards", 1)))
            return true;
    }
    return false;
}

/* What comes into question: "4090D ¥1.98/h~ or 4080S ¥1.50/h~ in westDC3, at most ¥2.20/h"; how many cards. */
static unsigned add_search(struct buf *out, const struct json *rental)
{
    const struct json *list = json_get(rental, "candidates"), *most = json_get(rental, "search_max_price");
    unsigned n = 0, regions = 0;
    char text[AMOUNT_MAX];

    for (size_t i = 0; i < json_count(list); i++) {
        if (streq(member_text(json_at(list, i), "state", ""), "dear") || is_named_before(list, i, "gpu"))
            continue;
        buf_add_text(out, n++ ? " or " : "");
        add_card(out, json_at(list, i));
    }
    for (size_t i = 0; i < json_count(list); i++)
        if (json_get_text(json_at(list, i), "region") && !is_named_before(list, i, "region"))
            buf_addf(out, "%s%s", regions++ ? " or " : " in ", json_get_text(json_at(list, i), "region"));
    if (amount_is_known(most))
        buf_addf(out, ", at most %s", amount_format(text, most, "/h"));
    return n;
}

/* "on gz-4090, ¥1.98/h, or on the next that is free"; true: it is looked for, and these are the cards. */
static bool add_place(const struct progress *p, const char *on, const struct json *rental, struct buf *out)
{
    const struct json *rate = json_get(rental, "rate"), *most = json_get(rental, "max_price");
    char text[AMOUNT_MAX];
    struct buf cards;
    bool is_search;

    buf_init(&cards, 8192);
    is_search = add_search(&cards, rental) > 1;
    buf_addf(out, " on %s", on);
    if (is_search)
        buf_addf(out, ", %s", buf_text(&cards));
    else if (json_type(rate) == JSON_OBJECT)
        buf_addf(out, ", %s", amount_format(text, rate, "/h"));
    if (!is_search && p->or_next)
        buf_add_text(out, ", or on the next that is free");
    if (!is_search && p->or_next && amount_is_known(most))
        buf_addf(out, ", at most %s", amount_format(text, most, "/h"));
    buf_done(&cards);
    return is_search;
}

void progress_headline(struct progress *p, const char *on, const struct json *rental)
{
    const struct output *o = p->output;
    struct buf line;
    bool is_search;

    p->is_rented = p->is_rented || rental;
    if (p->header || o->quiet)
        return;
    buf_init(&line, 8192);
    buf_add_text(&line, p->subject);
    is_search = on && add_place(p, on, rental, &line);
    if (o->err_moves)
        output_hint_wrapped(o, buf_text(&line));
    else if (is_search)
        output_hint(o, "llmhostctl: %s", buf_text(&line));
    p->header = o->err_moves || is_search;
    buf_done(&line);
}

void progress_leave(struct progress *p)
{
    if (p->n_lines) {
        fputc('\n', stderr);
        progress_forget(p);
    }
    p->n_lines = 0;
}

void progress_clear(struct progress *p)
{
    for (; p->n_lines; p->n_lines--)
        fputs(p->n_lines > 1 ? "\r\033[K\033[A" : "\r\033[K", stderr);
}

/* ---- what is said ---- */

static void add_next(const struct progress_stage *s, struct buf *out)
{
    char left[TEXT_SHORT_MAX];

    if (s->next_at_ms > now_at_ms())
        buf_addf(out, "%snext in %s", out->len ? ", " : "",
                 duration_format(left, (uint64_t)(s->next_at_ms - now_at_ms()), false));
}

static void add_download(const struct progress_stage *s, struct buf *out)
{
    char done[TEXT_SHORT_MAX], total[TEXT_SHORT_MAX], rate[TEXT_SHORT_MAX], left[TEXT_SHORT_MAX];

    if (s->bytes < 0)
        return;
    buf_addf(out, "%s%s", out->len ? ", " : "", bytes_format(done, (uint64_t)s->bytes));
    if (s->bytes_total > 0)
        buf_addf(out, " of %s (%d%%)", bytes_format(total, (uint64_t)s->bytes_total),
                 (int)((double)MIN(s->bytes, s->bytes_total) * 100 / (double)s->bytes_total));
    if (s->rate_bytes > 0)
        buf_addf(out, ", %s/s", bytes_format(rate, (uint64_t)s->rate_bytes));
    if (s->rate_bytes > 0 && s->bytes_total > s->bytes)
        buf_addf(
            out, ", %s left",
            duration_format(left, (uint64_t)((s->bytes_total - s->bytes) / s->rate_bytes) * 1000, false));
}

/* Never glued to what follows it, however long it is. */
static void add_cell(struct buf *out, const char *text, unsigned columns)
{
    add_padded(out, text, MAX(columns, text_columns(text) + 1));
}

/* "  load        ", of several instances with the name in front; nothing there: it is about all of them. */
static void add_head(const struct progress *p, const char *instance, const char *stage, struct buf *out)
{
    buf_add_text(out, "  ");
    if (instance || p->instance_columns)
        add_cell(out, instance ? instance : "", p->instance_columns + 2);
    add_cell(out, stage, STAGE_COLUMNS);
}

/* The end of what fits, behind a part of the sentence, or else between two words. */
static size_t text_cut(const char *text, unsigned columns)
{
    size_t n = text_fit(text, columns), part = 0, word = 0;

    if (!text[n])
        return n;
    for (size_t i = 1; i <= n; i++) {
        if (strchr(",;:", text[i]) && text[i + 1] == ' ')
            part = i;
        if (text[i] == ' ')
            word = i;
    }
    return part > n / 2 ? part : word ? word : n;
}

/* "5.6 GB, 100% GPU              11.6s   usually 12s": the times stand below each other while the text leaves
 * them room; on a narrow terminal a long time ("FAILED after 48s") takes the room of a short text. room: 0: no
 * limit. False: there is too little. */
static bool add_timed(const char *text, const char *time, const char *usual, unsigned room, struct buf *out)
{
    unsigned rest = 1 + MAX(text_columns(time), (unsigned)TIME_COLUMNS) + text_columns(usual);
    unsigned columns = room > rest ? MIN(room - rest, (unsigned)TEXT_COLUMNS) : TEXT_COLUMNS;

    if (room && MAX(text_columns(text), columns) + rest > room)
        return false;
    add_padded(out, text, columns);
    buf_addf(out, " %*s%s", TIME_COLUMNS, time, usual);
    return true;
}

/* The columns that are left behind what the line has so far; the last one stays free. 0: no limit. */
static unsigned room_behind(const struct progress *p, struct buf *line)
{
    unsigned has = text_columns(buf_text(line)) + 1;

    return !p->output->err_width ? 0 : p->output->err_width > has ? p->output->err_width - has : 1;
}

/* A wrapped line cannot be taken back: where the terminal is too narrow the times are left out, then the end of
 * the text. */
static void running_paint_one(const struct progress *p, const struct progress_stage *s)
{
    char took[TEXT_SHORT_MAX], duration[TEXT_SHORT_MAX], usual[80] = "";
    struct buf text, line;

    buf_init(&text, 4096);
    buf_init(&line, 8192);
    buf_add_text(&text, s->text);
    add_next(s, &text);
    add_download(s, &text);
    if (s->usual_ms >= USUAL_LEAST_MS && s->bytes < 0)
        snprintf(usual, sizeof(usual), "   usually %s",
                 duration_format(duration, (uint64_t)s->usual_ms, false));
    duration_format(took, steady_now_ms() - s->started_at, true);
    add_head(p, s->instance, s->stage, &line);

    unsigned room = room_behind(p, &line);

    if (!add_timed(buf_text(&text), took, usual, room, &line) &&
        !add_timed(buf_text(&text), took, "", room, &line))
        buf_addf(&line, "%.*s", (int)text_cut(buf_text(&text), room), buf_text(&text));
    fprintf(stderr, "\r%.*s\033[K", (int)text_fit(buf_text(&line), p->output->err_width - 1),
            buf_text(&line));
    buf_done(&text);
    buf_done(&line);
}

/* The running lines go back to where the first of them begins, and over themselves. */
static void running_paint(struct progress *p)
{
    if (p->n_lines > 1)
        fprintf(stderr, "\033[%uA", p->n_lines - 1);
    for (unsigned i = 0; i < p->n_running; i++) {
        if (i)
            fputc('\n', stderr);
        running_paint_one(p, &p->running[i]);
    }
    fflush(stderr);
    p->n_lines = p->n_running;
}

/* "ollama:x on gpu1" where there are several. Caller frees. */
static char *subject_of(const struct progress *p, const char *instance)
{
    return instance ? xasprintf("%s on %s", p->subject, instance) : xstrdup(p->subject);
}

/* Off a terminal: "llmhostctl: ollama:x: load (usually 12s)". */
static void plain_say(struct progress *p, struct progress_stage *s, bool first)
{
    _cleanup_free_ char *subject = subject_of(p, s->instance);
    char took[TEXT_SHORT_MAX], usual[TEXT_SHORT_MAX];
    struct buf text, line;

    buf_init(&line, 8192);
    buf_init(&text, 4096);
    buf_add_text(&text, s->text);
    add_next(s, &text);
    add_download(s, &text);
    if (text.len)
        buf_addf(&line, ", %s", buf_text(&text));
    buf_done(&text);
    if (!first)
        buf_addf(&line, ", %s so far", duration_format(took, steady_now_ms() - s->started_at, false));
    if (s->usual_ms >= USUAL_LEAST_MS)
        buf_addf(&line, " (usually %s)", duration_format(usual, (uint64_t)s->usual_ms, false));
    output_hint(p->output, "llmhostctl: %s: %s%s", subject, s->stage, buf_text(&line));
    s->said_at = steady_now_ms();
    buf_done(&line);
}

/* ---- a stage's life ---- */

/* NULL: none. */
static struct progress_stage *running_find(const struct progress *p, const char *instance)
{
    for (unsigned i = 0; i < p->n_running; i++)
        if (streq(p->running[i].instance ? p->running[i].instance : "", instance ? instance : ""))
            return &p->running[i];
    return NULL;
}

static struct progress_stage *running_add(struct progress *p, const char *instance)
{
    struct progress_stage *more = reallocarray(p->running, p->n_running + 1, sizeof *more);

    if (!more)
        abort();
    p->running = more;
    more += p->n_running++;
    *more = (struct progress_stage){.instance = instance ? xstrdup(instance) : NULL};
    return more;
}

/* The one before it stays on the screen where there is but one instance. */
static struct progress_stage *stage_start(struct progress *p, struct progress_stage *s, const char *instance,
                                          const char *stage, int64_t took_ms)
{
    if (!instance)
        progress_leave(p);
    if (!s)
        s = running_add(p, instance);
    free(s->stage);
    s->stage = xstrdup(stage);
    s->started_at = steady_now_ms() - (uint64_t)MAX(took_ms, 0);
    p->any = true;
    return s;
}

static void stage_running(struct progress *p, const char *instance, const char *stage,
                          const struct json *progress)
{
    struct progress_stage *s = running_find(p, instance);
    bool first = !s || !streq(s->stage, stage);
    const char *text = json_get_text(progress, "text");

    if (first)
        s = stage_start(p, s, instance, stage, json_get_int(progress, "took_ms", 0));
    free(s->text);
    s->text = xstrdup(text ? text : "");
    s->usual_ms = json_get_int(progress, "usual_ms", -1);
    s->next_at_ms = json_get_int(progress, "next_at_ms", 0);
    s->bytes = json_get_int(progress, "bytes", -1);
    s->bytes_total = json_get_int(progress, "bytes_total", -1);
    s->rate_bytes = json_get_int(progress, "rate_bytes", -1);
    if (p->output->quiet)
        return;
    if (p->output->err_moves)
        running_paint(p);
    else if (first)
        plain_say(p, s, true);
}

/* What stays is not cut: where it is too long for its line it goes on below its own beginning. */
static void add_over(const struct progress *p, const char *instance, const char *stage, const char *text,
                     const char *time, struct buf *out)
{
    bool failed = strncmp(time, "FAILED", 6) == 0;
    const char *between = !*text || !*time ? "" : failed ? ": " : "  ";
    _cleanup_free_ char *all = xasprintf("%s%s%s", failed ? time : text, between, failed ? text : time);
    struct buf wrapped;

    add_head(p, instance, stage, out);

    unsigned beside = text_columns(buf_text(out));

    if (!*time || !add_timed(text, time, "", room_behind(p, out), out)) {
        buf_init(&wrapped, 8192);
        add_wrapped(&wrapped, beside, p->output->err_width, all);
        if (wrapped.len > beside)
            buf_addf(out, "%.*s", (int)wrapped.len - 1 - (int)beside, buf_text(&wrapped) + beside);
        buf_done(&wrapped);
    }
}

/* Each of its lines clears what stood there. */
static void over_write(struct progress *p, const struct progress_row *row)
{
    struct buf line;

    buf_init(&line, 16384);
    add_over(p, row->instance, row->stage, row->text, row->time, &line);
    fputc('\r', stderr);
    for (const char *at = buf_text(&line); at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        fprintf(stderr, "%.*s\033[K\n", (int)strcspn(at, "\n"), at);
        p->over_lines++;
    }
    buf_done(&line);
}

static void over_note(struct progress *p, const char *instance, const char *stage, const char *text,
                      const char *time)
{
    if (p->n_over == OVER_MAX || p->over_width != p->output->err_width)
        progress_forget(p);
    p->over_width = p->output->err_width;
    if (!p->over)
        p->over = xalloc(OVER_MAX * sizeof *p->over);
    p->over[p->n_over++] = (struct progress_row){.instance = instance ? xstrdup(instance) : NULL,
                                                 .stage = xstrdup(stage),
                                                 .text = xstrdup(text),
                                                 .time = xstrdup(time)};
}

/* On a terminal: over the running lines, which follow below. */
static void over_paint(struct progress *p, const char *instance, const char *stage, const char *text,
                       const char *time)
{
    if (p->n_lines > 1) /* a single one is written over */
        progress_clear(p);
    over_note(p, instance, stage, text, time);
    over_write(p, &p->over[p->n_over - 1]);
    p->n_lines = 0;
}

void progress_widen(struct progress *p, unsigned columns)
{
    const struct output *o = p->output;

    if (columns <= p->instance_columns)
        return;
    p->instance_columns = columns;
    if (!p->n_over || o->quiet || !o->err_moves || p->over_width != o->err_width ||
        p->over_lines + p->n_lines >= o->err_height)
        return;
    progress_clear(p);
    fprintf(stderr, "\033[%uA", p->over_lines);
    p->over_lines = 0;
    for (unsigned i = 0; i < p->n_over; i++)
        over_write(p, &p->over[i]);
    if (p->n_running)
        running_paint(p);
}

/* It was begun, and is not under way any more: nothing of it stays. */
static void stage_left(struct progress *p, const char *instance, const char *stage)
{
    struct progress_stage *s = running_find(p, instance);

    if (!s || !streq(s->stage, stage))
        return;
    progress_clear(p);
    running_remove(p, s);
    if (p->n_running && !p->output->quiet && p->output->err_moves)
        running_paint(p);
}

/* Done, skipped or failed: this line stays. So it does of a card that was refused, for which the stage goes on
 * with the next one. */
static void stage_over(struct progress *p, const char *instance, const char *stage, const char *state,
                       const struct json *progress)
{
    struct progress_stage *s = running_find(p, instance);
    bool ran = s && streq(s->stage, stage), failed = streq(state, "failed"),
         skipped = streq(state, "skipped"), refused = streq(state, "refused") || streq(state, "changed");
    const struct output *o = p->output;
    const char *text = json_get_text(progress, "text");
    int64_t took_ms = json_get_int(progress, "took_ms", -1);
    char took[TEXT_SHORT_MAX] = "", time[80] = "";

    if (took_ms >= 0)
        duration_format(took, (uint64_t)took_ms, true);
    if (!skipped)
        p->any = true;
    snprintf(time, sizeof(time), "%s%s%s", failed ? "FAILED" : "", failed && *took ? " after " : "",
             skipped ? "" : took);
    if (!o->quiet && o->err_moves) {
        over_paint(p, instance, stage, text ? text : "", time);
    } else if (!o->quiet && (failed || refused || (!ran && !skipped))) {
        _cleanup_free_ char *subject = subject_of(p, instance);

        /* Off a terminal a stage has one line; it had it when it began. */
        output_hint(o, "llmhostctl: %s: %s%s%s%s%s", subject, stage, text && *text ? ", " : "",
                    text ? text : "", *time ? " " : "", time);
    }
    if (s && !refused)
        running_remove(p, s);
    if (p->n_running && !o->quiet && o->err_moves)
        running_paint(p);
}

void progress_show(struct progress *p, const struct json *progress)
{
    const char *state = json_get_text(progress, "state"), *name = json_get_text(progress, "stage");
    const char *instance = json_get_text(progress, "instance");
    _cleanup_free_ char *stage = NULL;

    /* That it is ready is the answer, on stdout. */
    if (!name || !state || streq(name, "ready"))
        return;
    stage = words_of(name);
    p->is_rented = p->is_rented || streq(name, "capacity") || streq(name, "power_on");
    progress_headline(p, NULL, NULL);
    if (instance) /* whatever machine comes next */
        progress_widen(p, text_columns(instance));
    if (streq(state, "ahead"))
        stage_left(p, instance, stage);
    else if (streq(state, "done") || streq(state, "failed") || streq(state, "skipped") ||
             streq(state, "refused") || streq(state, "changed"))
        stage_over(p, instance, stage, state, progress);
    else
        stage_running(p, instance, stage, progress);
}

void progress_tick(struct progress *p)
{
    if (!p->n_running || p->output->quiet)
        return;
    output_measure(p->output);
    if (p->output->err_moves) {
        running_paint(p);
        return;
    }
    for (unsigned i = 0; i < p->n_running; i++)
        if (steady_now_ms() - p->running[i].said_at >= SILENCE_MS)
            plain_say(p, &p->running[i], false);
}

uint64_t progress_tick_ms(const struct output *o)
{
    return o->err_moves ? TICK_TERMINAL_MS : TICK_PLAIN_MS;
}
