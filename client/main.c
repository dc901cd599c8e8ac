/* llmhostctl: takes the command line apart, finds the verb, lets it run. words.c says which there are.
 *
 * Options may stand anywhere, as --name=value or --name value; a verb takes the global ones and those its row
 * names. What a verb does not take is an error: nothing is accepted and then ignored. */
#include <errno.h>
#include <time.h>

#include "client/complete.h"
#include "client/words.h"
#include "proto/mem.h"
#include "proto/stdfds.h"

/* ---- finding ---- */

/* The name fewest letters away, if it is close enough to have been meant. */
static const char *closest(const char *word, const char *const *names, size_t n)
{
    unsigned best = strlen(word) < 4 ? 2 : MAX(2u, (unsigned)strlen(word) / 3) + 1;
    const char *found = NULL;

    for (size_t i = 0; i < n; i++) {
        unsigned d = text_distance(word, names[i], best);

        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return found;
}

static const char *closest_verb(const char *word)
{
    const char *names[VERBS_MAX];
    size_t n = 0;

    for (; verb_at(n); n++)
        names[n] = verb_at(n)->name;
    return closest(word, names, n);
}

static const char *closest_option(const struct verb *v, const char *word)
{
    const char *names[OPTIONS_MAX];
    size_t n = 0;

    for (size_t i = 0; option_at(i); i++)
        if (option_fits(option_at(i), v))
            names[n++] = option_at(i)->name;
    return closest(word, names, n);
}

/* ---- help ---- */

static void print_option(FILE *f, const struct option *o)
{
    char left[64];

    snprintf(left, sizeof(left), "%c%c%s --%s%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
             o->letter ? "," : " ", o->name,
             o->kind == MAYBE ? "[="
             : o->value       ? "="
                              : "",
             o->value ? o->value : "", o->kind == MAYBE ? "]" : "");
    fprintf(f, "  %-32s  %s\n", left, o->help);
}

static void print_verbs_of(FILE *f, const char *noun)
{
    for (size_t i = 0; verb_at(i); i++)
        if (verb_is_of_noun(verb_at(i), noun))
            fprintf(f, "llmhostctl %s%s%s%s\n  %s\n\n", verb_at(i)->name,
                    *verb_at(i)->options ? " [OPTION...]" : "", *verb_at(i)->arguments ? " " : "",
                    verb_at(i)->arguments, verb_at(i)->summary);
}

/* Of one verb, of those with the noun, or of all. */
static void print_help(FILE *f, const struct verb *v, const char *noun)
{
    if (noun && !v) {
        print_verbs_of(f, noun);
    } else if (v) {
        fprintf(f, "llmhostctl %s%s%s%s\n  %s\n\n", v->name, *v->options ? " [OPTION...]" : "",
                *v->arguments ? " " : "", v->arguments, v->summary);
        for (size_t i = 0; option_at(i); i++)
            if (!option_at(i)->global && option_fits(option_at(i), v))
                print_option(f, option_at(i));
    } else {
        fprintf(f, "llmhostctl VERB [ARGUMENT...]    talks to llmhostd\n\n");
        for (size_t i = 0; verb_at(i); i++)
            fprintf(f, "  %-16s  %s\n", verb_at(i)->name, verb_at(i)->summary);
        fprintf(f, "\nA TARGET is a model (ollama:deepseek-r1:7b) or its alias, an instance\n"
                   "(gz-4090) or a glob ('ollama:*').\n\n");
    }
    for (size_t i = 0; option_at(i); i++)
        if (option_at(i)->global)
            print_option(f, option_at(i));
    fprintf(f, "\nMore: llmhostctl VERB -h, man llmhostctl\n");
}

/* ---- values ---- */

static int number_parse(const char *text, int64_t most, int64_t *ret)
{
    char *end;
    long long n;

    errno = 0;
    n = strtoll(text, &end, 10);
    if (errno || *end || end == text || n < 0 || n > most)
        return -EINVAL;
    *ret = n;
    return 0;
}

/* "100G", in whole gigabytes. */
static int gigabytes_parse(const char *text, int64_t *ret)
{
    uint64_t bytes;

    if (size_parse(text, &bytes) < 0 || bytes < 1000000000 || bytes > 1000000000000000)
        return -EINVAL;
    *ret = (int64_t)((bytes + 999999999) / 1000000000);
    return 0;
}

/* A time of day is today's, or yesterday's when today has not come so far. */
static int since_parse(const char *text, int64_t *ret_at_ms)
{
    static const char *const formats[] = {"%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%H:%M:%S",
                                          "%H:%M"};
    time_t now = time(NULL);
    struct tm today, then;
    uint64_t ago_ms;

    localtime_r(&now, &today);
    if (duration_parse(text, &ago_ms) == 0) {
        *ret_at_ms = MAX(now_at_ms() - (int64_t)ago_ms, 0);
        return 0;
    }
    if (rfc3339_parse(text, ret_at_ms) == 0)
        return 0;
    for (size_t i = 0; i <= ELEMENTS(formats); i++) {
        const char *end;

        then = today;
        then.tm_hour = then.tm_min = then.tm_sec = 0;
        then.tm_isdst = -1;
        end = i < ELEMENTS(formats) ? strptime(text, formats[i], &then) : streq(text, "today") ? "" : NULL;
        if (end && !*end) {
            then.tm_mday -= i >= 3 && mktime(&then) > now;
            *ret_at_ms = (int64_t)mktime(&then) * 1000;
            return *ret_at_ms >= 0 ? 0 : -EINVAL;
        }
    }
    return -EINVAL;
}

/* A time of day that has passed is tomorrow's. */
static int until_parse(const char *text, int64_t *ret_at_ms)
{
    time_t now = time(NULL);
    struct tm then;
    uint64_t left_ms;
    const char *end;

    if (duration_parse(text, &left_ms) == 0) {
        *ret_at_ms = now_at_ms() + (int64_t)left_ms;
        return left_ms ? 0 : -EINVAL;
    }
    localtime_r(&now, &then);
    then.tm_sec = 0;
    then.tm_isdst = -1;
    end = strptime(text, "%H:%M", &then);
    if (!end || *end)
        return -EINVAL;
    then.tm_mday += mktime(&then) <= now;
    *ret_at_ms = (int64_t)mktime(&then) * 1000;
    return 0;
}

static int option_set(struct run *r, const struct option *o, const char *value)
{
    void *at = (char *)&r->options + o->at;

    switch (o->kind) {
    case FLAG: *(bool *)at = true; return 0;
    case TEXT: *(const char **)at = value; return *value ? 0 : -EINVAL;
    case MAYBE: *(const char **)at = value ? value : ""; return value && !*value ? -EINVAL : 0;
    case LINES: return number_parse(value, 10000, at) < 0 || !*(int64_t *)at ? -EINVAL : 0;
    case PORT: return number_parse(value, 65535, at) < 0 || !*(int64_t *)at ? -EINVAL : 0;
    case DURATION: return duration_parse(value, at) < 0 || !*(uint64_t *)at ? -EINVAL : 0;
    case MONEY: return money_parse(value, at);
    case GIGABYTES: return gigabytes_parse(value, at);
    case SINCE: return since_parse(value, at);
    case UNTIL: return until_parse(value, at);
    }
    return -EINVAL;
}

/* ---- the command line ---- */

static char *help_command(const struct verb *v)
{
    return v ? xasprintf("llmhostctl %s -h", v->name) : xstrdup("llmhostctl -h");
}

/* "it belongs to: up, down", or NULL. Caller frees. */
static char *option_owners(const char *word)
{
    struct buf out;
    bool any = false;

    if (strncmp(word, "--", 2) != 0)
        return NULL;
    buf_init(&out, 4096);
    for (size_t i = 0; verb_at(i); i++)
        if (list_has(verb_at(i)->options, word + 2)) {
            buf_addf(&out, "%s%s", any ? ", " : "it belongs to: ", verb_at(i)->name);
            any = true;
        }
    if (any)
        return buf_take(&out);
    buf_done(&out);
    return NULL;
}

static enum exit_status unknown_option(struct run *r, const struct verb *v, const char *word)
{
    size_t n = strcspn(word, "=");
    _cleanup_free_ char *name = strndup(word, n), *why = NULL, *message = NULL, *help = help_command(v);
    const char *close = name && strncmp(name, "--", 2) == 0 ? closest_option(v, name + 2) : NULL;

    message = v ? xasprintf("%s has no option %.*s.", v->name, (int)n, word)
                : xasprintf("there is no option %.*s before the verb.", (int)n, word);
    why = close ? xasprintf("close: --%s", close) : name ? option_owners(name) : NULL;
    return verb_usage(r, message, why, help);
}

static enum exit_status bad_value(struct run *r, const struct verb *v, const struct option *o,
                                  const char *value)
{
    _cleanup_free_ char *message = NULL, *help = help_command(v);

    if (!value)
        message = xasprintf("--%s needs a value: %s.", o->name, o->value);
    else
        message = xasprintf("--%s: \"%s\" does not do; it is %s: %s.", o->name, value, o->value,
                            o->kind == PORT ? "1 to 65535" : o->help);
    return verb_usage(r, message, NULL, help);
}

/* The last one would count, and what was asked for before be silently left out: an instance, or a key. */
static bool is_given_twice(const struct run *r, const struct option *o, const char *value)
{
    const char *before =
        o->kind == TEXT && !o->global ? *(const char *const *)((const char *)&r->options + o->at) : NULL;

    return before && !streq(before, value);
}

static enum exit_status take_option(struct run *r, const struct verb *v, const struct option *o,
                                    const char *value)
{
    if (is_given_twice(r, o, value)) {
        _cleanup_free_ char *message = xasprintf("--%s is there twice.", o->name), *help = help_command(v);
        bool is_list = o->value && strstr(o->value, "[,...]");

        return verb_usage(r, message, is_list ? "several go into one, with commas between them" : NULL, help);
    }
    if (option_set(r, o, value) < 0)
        return bad_value(r, v, o, value);
    if (r->options.n_typed < TYPED_MAX)
        r->options.typed[r->options.n_typed++] = (struct typed_option){o, value};
    return EXIT_DONE;
}

static enum exit_status long_option(struct run *r, const struct verb *v, char **argv, int *i)
{
    const char *word = argv[*i], *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    const struct option *o = option_find(v, word + 2, n, 0);
    const char *value = NULL;

    if (!o)
        return unknown_option(r, v, word);
    if (o->kind == FLAG && equals) {
        _cleanup_free_ char *message = xasprintf("--%s takes no value.", o->name), *help = help_command(v);

        return verb_usage(r, message, NULL, help);
    }
    if (o->kind == MAYBE) {
        value = equals ? equals + 1 : NULL;
    } else if (o->kind != FLAG) {
        value = equals ? equals + 1 : argv[*i + 1];
        *i += !equals && value;
        if (!value)
            return bad_value(r, v, o, NULL);
    }
    return take_option(r, v, o, value);
}

/* -f, -fw, -n5, -n 5 */
static enum exit_status short_options(struct run *r, const struct verb *v, char **argv, int *i)
{
    const char *word = argv[*i];

    for (const char *p = word + 1; *p; p++) {
        const struct option *o = option_find(v, NULL, 0, *p);
        const char *value = NULL;

        if (!o)
            return unknown_option(r, v, word);
        if (o->kind != FLAG && o->kind != MAYBE) {
            value = p[1] ? p + 1 : argv[*i + 1];
            *i += !p[1] && value;
            if (!value)
                return bad_value(r, v, o, NULL);
        }
        enum exit_status status = take_option(r, v, o, value);

        if (status != EXIT_DONE || value)
            return status;
    }
    return EXIT_DONE;
}

static enum exit_status unknown_verb(struct run *r, const char *word)
{
    const char *close = closest_verb(word);
    _cleanup_free_ char *message = xasprintf("there is no verb \"%s\".", word);
    _cleanup_free_ char *why = close ? xasprintf("close: %s", close) : NULL;

    return verb_usage(r, message, why, "llmhostctl -h");
}

/* One word that is no option: first the verb, of one word or two, then its arguments. */
static enum exit_status take_word(struct run *r, const struct verb **v, char **noun, char *word)
{
    _cleanup_free_ char *both = NULL;

    if (*v) {
        r->options.arguments[r->options.n_arguments++] = word;
        return EXIT_DONE;
    }
    if (!*noun && is_noun(word)) {
        *noun = word;
        return EXIT_DONE;
    }
    both = *noun ? xasprintf("%s %s", *noun, word) : xstrdup(word);
    *v = verb_find(both);
    return *v ? EXIT_DONE : unknown_verb(r, both);
}

static enum exit_status count_check(struct run *r, const struct verb *v)
{
    const struct options *o = &r->options;
    _cleanup_free_ char *message = NULL, *usage = NULL;

    if (o->n_arguments >= v->n_min && o->n_arguments <= v->n_max)
        return EXIT_DONE;
    message = o->n_arguments < v->n_min
                  ? xasprintf("%s needs %s", v->name, v->arguments)
                  : xasprintf("%s does not take \"%s\".", v->name, o->arguments[v->n_max]);
    usage = xasprintf("llmhostctl %s%s%s", v->name, *v->arguments ? " " : "", v->arguments);
    return verb_usage(r, message, NULL, usage);
}

static enum exit_status noun_alone(struct run *r, const char *noun)
{
    _cleanup_free_ char *message = xasprintf("%s what?", noun), *why = NULL;
    _cleanup_free_ char *help = xasprintf("llmhostctl %s -h", noun);
    struct buf out;

    buf_init(&out, 4096);
    buf_add_text(&out, "one of:");
    for (size_t i = 0; verb_at(i); i++)
        if (verb_is_of_noun(verb_at(i), noun))
            buf_addf(&out, "%s", verb_at(i)->name + strlen(noun));
    why = buf_take(&out);
    return verb_usage(r, message, why, help);
}

/* An ssh command pasted without quotes: from the word ssh on all of it is the command, with options of its
 * own. */
static bool begins_command(const struct run *r, const struct verb *v, const char *word)
{
    return v && (streq(v->name, "instance add") || streq(v->name, "instance set")) &&
           r->options.n_arguments >= 1 && streq(word, "ssh");
}

static enum exit_status command_line(struct run *r, int argc, char **argv, const struct verb **ret,
                                     char **ret_noun)
{
    const struct verb *v = NULL;
    bool only_words = false;
    char *noun = NULL;
    enum exit_status status = EXIT_DONE;

    for (int i = 1; i < argc && status == EXIT_DONE; i++) {
        char *word = argv[i];

        if (!only_words && v && r->options.n_arguments && streq(word, "--") && list_has(v->options, "--")) {
            r->options.engine_arguments = argv + i + 1;
            r->options.n_engine_arguments = (unsigned)(argc - i - 1);
            break;
        }
        only_words |= begins_command(r, v, word);
        if (!only_words && streq(word, "--"))
            only_words = true;
        else if (!only_words && strncmp(word, "--", 2) == 0)
            status = long_option(r, v, argv, &i);
        else if (!only_words && word[0] == '-' && word[1])
            status = short_options(r, v, argv, &i);
        else
            status = take_word(r, &v, &noun, word);
    }
    if (status == EXIT_DONE && noun && !v && !r->options.help)
        status = noun_alone(r, noun);
    *ret = v;
    *ret_noun = noun;
    return status;
}

/* Whether errors of the command line itself are wanted as JSON is known only by looking ahead. */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && !streq(argv[i], "--"); i++)
        if (streq(argv[i], "--json"))
            return true;
    return false;
}

static enum exit_status run(struct run *r, int argc, char **argv)
{
    const struct verb *v = NULL;
    char *noun = NULL;
    enum exit_status status;

    if (argc > 1 && streq(argv[1], "__complete"))
        return complete(r, argv + 2, (unsigned)argc - 2);
    output_init(&r->output, wants_json(argc, argv), false);
    status = command_line(r, argc, argv, &v, &noun);
    if (status != EXIT_DONE)
        return status;
    r->output.json = r->options.json;
    r->output.quiet = r->options.quiet;
    if (r->options.version && !v) {
        printf("llmhostctl %s\n", LLMHOST_VERSION);
        return EXIT_DONE;
    }
    if (r->options.help || !v) {
        print_help(r->options.help ? stdout : stderr, v, noun);
        return r->options.help ? EXIT_DONE : EXIT_USAGE;
    }
    if (r->options.version)
        return verb_usage(r, "--version stands alone.", NULL, "llmhostctl --version");
    r->verb = v;
    status = count_check(r, v);
    return status == EXIT_DONE ? v->run(r) : status;
}

int main(int argc, char **argv)
{
    struct run r = {.options = {.lines = -1,
                                .port = -1,
                                .since_at_ms = -1,
                                .search_until_at_ms = -1,
                                .day_milli = -1,
                                .month_milli = -1,
                                .price_milli = -1,
                                .floor_milli = -1,
                                .disk_gb = -1}};
    enum exit_status status;

    standard_fds_fill(O_RDONLY); /* writing still fails, as it should */
    r.options.arguments = xalloc((size_t)argc * sizeof(char *) + 1);
    status = run(&r, argc, argv);
    connection_free(r.connection);
    free(r.options.arguments);
    /* An answer that could not be written was not given: a full disk, a closed pipe. */
    if ((fflush(stdout) == EOF || ferror(stdout)) && status == EXIT_DONE) {
        fprintf(stderr, "llmhostctl: the answer cannot be written.\n");
        status = EXIT_FAILED;
    }
    return status;
}
