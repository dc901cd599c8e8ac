/* The proposed command is read as a shell would read it, and completed only where it is the one that was typed:
 * the same verb with the same arguments. What it says itself stands; and where it says anything of the place,
 * nothing else that was typed of the place is added, for the two would be no place together. So it is with the token. */
#include "client/again.h"

#include <string.h>

#include "client/verb.h"
#include "client/words.h"
#include "proto/arguments.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

#define COMMAND_BYTES_MAX 65536
#define PLACE             "gpu on or region image disk provider" /* where a model runs: one answer to that, not two */
#define TOKEN             "token token-file"                    /* where a token comes from: likewise */
#define WAITING           "timeout no-wait watch follow"        /* how long somebody looks on */

/* The next word of a command from p on, as a shell would read it: in *ret, which the caller frees. NULL: no more. */
static const char *next_word(const char *p, char **ret)
{
    struct buf word;
    bool quoted = false;

    p += strspn(p, " ");
    if (!*p)
        return NULL;
    buf_init(&word, COMMAND_BYTES_MAX);
    for (; *p && (quoted || *p != ' '); p++) {
        if (*p == '\'')
            quoted = !quoted;
        else if (*p == '\\' && !quoted && p[1])
            buf_addf(&word, "%c", *++p); /* a quote, as shell_quote() writes it */
        else if (*p != '\\' || quoted)
            buf_add(&word, p, 1);
        else if (p[1])
            buf_add(&word, ++p, 1);
    }
    *ret = buf_take(&word);
    return p;
}

static bool is_typed(const struct run *r, const char *name)
{
    for (unsigned i = 0; i < r->options.n_typed; i++)
        if (streq(r->options.typed[i].option->name, name))
            return true;
    return false;
}

/* What a command is made of: of its options the names, with a blank behind each. says_where, says_token: not what
 * was typed of it. */
struct command {
    unsigned n_arguments;
    bool is_same; /* its verb and its arguments are those typed */
    bool has_engine_arguments, says_where, says_token;
    struct buf options;
};

static void command_done(struct command *c)
{
    buf_done(&c->options);
}

/* True: its value is the next word. */
static bool take_option_word(struct command *c, const struct run *r, const char *word)
{
    size_t n = strcspn(word + 2, "=");
    _cleanup_free_ char *name = strndup(word + 2, n);
    const struct option *o = option_find(r->verb, word + 2, n, 0);

    if (!name)
        return false;
    buf_addf(&c->options, "%s ", name);
    c->says_where = c->says_where || (list_has(PLACE, name) && !is_typed(r, name));
    c->says_token = c->says_token || (list_has(TOKEN, name) && !is_typed(r, name));
    return o && o->kind != FLAG && o->kind != MAYBE && !word[2 + n];
}

/* A model may have got the engine in front that was left out. */
static bool is_same_argument(const char *word, const char *typed)
{
    size_t n = strlen(word), m = strlen(typed);

    return streq(word, typed) || (n > m + 1 && word[n - m - 1] == ':' && streq(word + n - m, typed));
}

static void command_read(struct command *c, const char *text, const struct run *r)
{
    _cleanup_free_ char *head = xasprintf("llmhostctl %s", r->verb->name);
    const char *p = text + strlen(head);
    bool is_value = false;

    *c = (struct command){.is_same = false};
    buf_init(&c->options, COMMAND_BYTES_MAX);
    if (strncmp(text, head, strlen(head)) != 0 || (*p && *p != ' '))
        return;
    c->is_same = true;
    for (;;) {
        _cleanup_free_ char *word = NULL;

        p = next_word(p, &word);
        if (!p || !word)
            break;
        if (streq(word, "--")) {
            c->has_engine_arguments = true;
            break;
        }
        if (is_value || strncmp(word, "--", 2) == 0) {
            is_value = !is_value && take_option_word(c, r, word);
            continue;
        }
        c->is_same = c->is_same && c->n_arguments < r->options.n_arguments &&
                     is_same_argument(word, r->options.arguments[c->n_arguments]);
        c->n_arguments++;
    }
    c->is_same = c->is_same && c->n_arguments == r->options.n_arguments;
}

static bool says(struct command *c, const struct option *o)
{
    return list_has(buf_text(&c->options), o->name) || (c->says_where && list_has(PLACE, o->name)) ||
           (c->says_token && list_has(TOKEN, o->name));
}

static bool has_secret(const struct options *o)
{
    _cleanup_json_ struct json *arguments = json_array();

    for (unsigned i = 0; i < o->n_engine_arguments; i++)
        json_append_string(arguments, o->engine_arguments[i]);
    return arguments_hold_secret(arguments);
}

/* Caller frees; NULL: there is nothing to add. *left_out: what stood behind -- was not, as it holds a secret. */
static char *completed(const char *text, const struct run *r, bool *left_out)
{
    const struct options *o = &r->options;
    struct command c;
    struct buf out;
    size_t n;

    command_read(&c, text, r);
    if (!c.is_same || c.has_engine_arguments) {
        command_done(&c);
        return NULL;
    }
    buf_init(&out, COMMAND_BYTES_MAX);
    buf_add_text(&out, text);
    n = out.len;
    for (unsigned i = 0; i < o->n_typed; i++) {
        const struct typed_option *t = &o->typed[i];

        if (t->option->global || list_has(WAITING, t->option->name) || says(&c, t->option))
            continue;
        buf_addf(&out, " --%s", t->option->name);
        if (t->value) {
            buf_add_text(&out, "=");
            shell_quote(&out, t->value);
        }
    }
    bool is_secret = has_secret(o);

    *left_out |= is_secret;
    for (unsigned i = 0; !is_secret && i < o->n_engine_arguments; i++) {
        buf_add_text(&out, i ? " " : " -- ");
        shell_quote(&out, o->engine_arguments[i]);
    }
    command_done(&c);
    if (out.len > n)
        return buf_take(&out);
    buf_done(&out);
    return NULL;
}

/* What stood behind -- of the command that was typed is missing in one that is proposed. */
static void note_left_out(struct json *error)
{
    const char *why = json_get_text(error, "why");
    _cleanup_free_ char *more = NULL;

    if (why && strstr(why, ARGUMENTS_LEFT_OUT))
        return;
    more = why ? xasprintf("%s; %s", why, ARGUMENTS_LEFT_OUT) : xstrdup(ARGUMENTS_LEFT_OUT);
    json_put_string(error, "why", more);
}

/* Nothing else that was typed is wrong: what is missing, or was, is said in what is proposed. */
static bool is_mended(const struct json *error)
{
    const char *code = json_get_text(error, "code");

    return code && list_has("price_unknown bad_url bad_model unknown_engine gpu_needed", code);
}

void again_complete(struct json *error, const struct run *r)
{
    const struct json *next = json_get(error, "next");
    struct json *commands;
    bool left_out = false;

    if (!r->verb || (error_status(error) == EXIT_USAGE && !is_mended(error)) || !json_count(next))
        return;
    commands = json_array();
    for (size_t i = 0; i < json_count(next); i++) {
        const char *text = json_text(json_at(next, i));
        _cleanup_free_ char *more = text ? completed(text, r, &left_out) : NULL;

        json_append_string(commands, more ? more : text);
    }
    json_put(error, "next", commands);
    if (left_out)
        note_left_out(error);
}
