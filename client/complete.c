/* `llmhostctl __complete WORD...`: what the last WORD, which may be empty, could become, a line each: the
 * word, and behind a tab what it is. The scripts of the shells (contrib/completions) do nothing but ask this,
 * so they know every verb and option there is. A line with nothing in front of the tab says that a file is
 * meant.
 *
 * What is known here is said first. Then the daemon is asked; one that is not there or slow has nothing to
 * add. */
#include "client/complete.h"

#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "client/words.h"
#include "proto/buf.h"
#include "proto/mem.h"

#define PATIENCE_S 1 /* of somebody who pressed the Tab key; an answer takes milliseconds */

/* The command line up to the word that is being typed. */
struct typed {
    struct run *run;
    const struct verb *verb;
    const char *noun;
    const struct option *value_of; /* this one's value is being typed */
    char **arguments;              /* of the verb */
    unsigned n_arguments;
    bool only_words, is_over; /* behind "--"; nothing of ours follows */
    const char *at;           /* of --at: whose machines are meant */
    const char *word;         /* being typed */
    const char *lead;         /* stands in front of every answer: "--on=" */
    size_t n_lead;
    struct buf said; /* "\nONE\nTWO\n": each is said once */
};

/* ---- saying ---- */

static void offer(struct typed *t, const char *word, const char *about)
{
    _cleanup_free_ char *line = NULL;

    if (!word || strncmp(word, t->word, strlen(t->word)) != 0)
        return;
    line = xasprintf("\n%s\n", word);
    if (strstr(buf_text(&t->said), line))
        return;
    buf_addf(&t->said, "%s\n", word);
    printf("%.*s%s\t%s\n", (int)t->n_lead, t->lead, word, about ? about : "");
}

/* "yes|no", ", " as well: each of them. */
static void offer_list(struct typed *t, const char *list, const char *between)
{
    while (*list) {
        size_t n = strcspn(list, between);
        _cleanup_free_ char *word = strndup(list, n);

        if (n)
            offer(t, word, NULL);
        list += n + strspn(list + n, between);
    }
}

static void offer_files(void)
{
    fputs("\tfiles\n", stdout);
}

/* ---- what the daemon knows ---- */

static void on_alarm(int sig)
{
    (void)sig;
    _exit(EXIT_DONE); /* what was said is flushed */
}

/* NULL: no answer, for whatever reason. Caller frees. */
static struct json *ask(struct typed *t, const char *method)
{
    struct itimerval limit = {.it_value.tv_sec = PATIENCE_S};
    _cleanup_call_ struct call call = {.method = method, .limit_ms = PATIENCE_S * 1000};
    _cleanup_json_ struct json *error = NULL;

    fflush(stdout);
    signal(SIGALRM, on_alarm);
    setitimer(ITIMER_REAL, &limit, NULL);
    if (!t->run->connection &&
        connection_open(t->run->options.socket, &t->run->connection, &error) != EXIT_DONE)
        return NULL;
    return connection_run(t->run->connection, &call) == EXIT_DONE ? TAKE_PTR(call.answer) : NULL;
}

static bool is_awake(const struct json *model)
{
    const char *state = member_text(model, "state", "");

    return !streq(state, "asleep") && !streq(state, "off") && !streq(state, "failed");
}

static void offer_models(struct typed *t, const struct json *models, bool awake)
{
    for (size_t i = 0; i < json_count(models); i++) {
        const struct json *m = json_at(models, i);
        _cleanup_free_ char *about =
            xasprintf("%s on %s", member_text(m, "state", "?"), member_text(m, "instance", "?"));

        if (is_awake(m) == awake)
            offer(t, json_get_text(m, "name"), about);
    }
}

static void offer_instance(struct typed *t, const struct json *instance)
{
    char price[AMOUNT_MAX];
    bool priced = is_rental(instance);
    _cleanup_free_ char *about =
        xasprintf("%s, %s%s%s", member_text(instance, "provider", "?"), member_text(instance, "state", "?"),
                  priced ? ", " : "",
                  priced ? amount_format(price, json_get(json_get(instance, "rental"), "rate"), "/h") : "");

    offer(t, json_get_text(instance, "name"), about);
}

/* Rented ones, those first that are off and can be given back. */
static void offer_released(struct typed *t)
{
    _cleanup_json_ struct json *status = ask(t, "Status");
    const struct json *instances = json_get(status, "instances");

    for (unsigned off = 2; off-- > 0;)
        for (size_t i = 0; i < json_count(instances); i++) {
            const struct json *l = json_at(instances, i);

            if (is_rental(l) && streq(member_text(l, "state", ""), "stopped") == (off == 1))
                offer_instance(t, l);
        }
}

/* Machines of one company that no instance knows, by their ids. */
static void offer_orphans(struct typed *t)
{
    _cleanup_json_ struct json *status = ask(t, "Status");
    const struct json *orphans = json_get(status, "orphans");

    for (size_t i = 0; i < json_count(orphans); i++) {
        const struct json *machine = json_at(orphans, i);
        _cleanup_free_ char *about =
            xasprintf("%s, %s", member_text(machine, "gpu", "?"), member_text(machine, "state", "?"));

        if (streq(member_text(machine, "provider", t->at), t->at))
            offer(t, json_get_text(machine, "id"), about);
    }
}

static void offer_instances(struct typed *t, const struct json *instances)
{
    for (size_t i = 0; i < json_count(instances); i++)
        offer_instance(t, json_at(instances, i));
}

static void offer_aliases(struct typed *t)
{
    _cleanup_json_ struct json *answer = ask(t, "AliasList");
    const struct json *list = json_get(answer, "aliases");

    for (size_t i = 0; i < json_count(list); i++)
        offer(t, json_get_text(json_at(list, i), "name"), json_get_text(json_at(list, i), "model"));
}

/* Those first that the verb does something to. */
static void offer_targets(struct typed *t, bool models, bool instances)
{
    _cleanup_json_ struct json *status = ask(t, "Status");
    bool awake_first = !streq(t->verb->name, "up");

    if (models) {
        offer_models(t, json_get(status, "models"), awake_first);
        offer_models(t, json_get(status, "models"), !awake_first);
        if (status)
            offer_aliases(t);
    }
    if (instances)
        offer_instances(t, json_get(status, "instances"));
}

static void offer_keys(struct typed *t)
{
    _cleanup_json_ struct json *answer = ask(t, "KeyList");
    const struct json *list = json_get(answer, "keys");

    for (size_t i = 0; i < json_count(list); i++)
        offer(t, json_get_text(json_at(list, i), "name"), NULL);
}

/* known: those that could be added. */
static void offer_providers(struct typed *t, bool known)
{
    _cleanup_json_ struct json *answer = ask(t, "ProviderList");
    const struct json *list = json_get(answer, known ? "known" : "accounts");

    for (size_t i = 0; i < json_count(list); i++)
        offer(t, known ? json_text(json_at(list, i)) : json_get_text(json_at(list, i), "provider"),
              known ? NULL : json_get_text(json_at(list, i), "title"));
}

/* Those that were saved; the company is asked, and may be too slow. */
static void offer_images(struct typed *t)
{
    _cleanup_json_ struct json *answer = ask(t, "ImageList");
    const struct json *list = json_get(answer, "images");

    for (size_t i = 0; i < json_count(list); i++)
        if (json_get_bool(json_at(list, i), "ready", false))
            offer(t, json_get_text(json_at(list, i), "name"), json_get_text(json_at(list, i), "id"));
}

static void offer_forwards(struct typed *t)
{
    _cleanup_json_ struct json *answer = ask(t, "ForwardList");
    const struct json *list = json_get(answer, "forwards");

    for (size_t i = 0; i < json_count(list); i++)
        if (t->n_arguments && streq(member_text(json_at(list, i), "instance", ""), t->arguments[0]))
            offer(t, json_get_text(json_at(list, i), "listen"), json_get_text(json_at(list, i), "target"));
}

/* ---- what may stand here ---- */

static void offer_verbs(struct typed *t)
{
    const struct verb *v;

    for (size_t i = 0; (v = verb_at(i)); i++) {
        const char *blank = strchr(v->name, ' ');
        _cleanup_free_ char *first = strndup(v->name, strcspn(v->name, " "));

        if (t->noun && verb_is_of_noun(v, t->noun))
            offer(t, blank + 1, v->summary);
        else if (!t->noun)
            offer(t, first, blank ? "" : v->summary);
    }
}

static void offer_options(struct typed *t)
{
    const struct option *o;

    for (size_t i = 0; (o = option_at(i)); i++) {
        _cleanup_free_ char *name = xasprintf("--%s", o->name);

        if (option_fits(o, t->verb))
            offer(t, name, o->help);
    }
}

/* "gpu1,gp": the last of them is typed. */
static void offer_instance_list(struct typed *t)
{
    const char *comma = strrchr(t->word, ',');

    if (comma) {
        if (!t->n_lead)
            t->lead = t->word;
        t->n_lead = (size_t)(comma + 1 - t->lead);
        t->word = comma + 1;
    }
    offer_targets(t, false, true);
}

static void offer_value(struct typed *t, const struct option *o)
{
    if (!o->value)
        return;
    if (streq(o->value, "INSTANCE[,...]"))
        offer_instance_list(t);
    else if (streq(o->value, "IMAGE"))
        offer_images(t);
    else if (streq(o->value, "FILE") || streq(o->value, "SOCKET"))
        offer_files();
    else if (streq(o->value, "PROVIDER")) {
        if (streq(t->verb->name, "instance add"))
            offer_list(t, "ssh|local", "|");
        offer_providers(t, false);
    } else if (streq(o->value, "MODEL"))
        offer_targets(t, true, false);
    else if (streq(o->value, "LIST"))
        offer_list(t, o->help, ", ");
    else if (strchr(o->value, '|'))
        offer_list(t, o->value, "|");
}

/* The word of the usage line for the argument that is being typed, without brackets: "TARGET". NULL: none.
 * Caller frees. */
static char *argument_word(const struct typed *t)
{
    const char *p = t->verb->arguments, *last = NULL;
    size_t n = 0;

    for (unsigned i = 0; *p && i <= t->n_arguments; i++) {
        last = p + strspn(p, "[");
        n = strcspn(last, "]. ");
        p += strcspn(p, " ");
        if (strncmp(last + n, "...", 3) == 0)
            return strndup(last, n); /* any number of them */
        if (i < t->n_arguments)
            last = NULL;
        p += *p == ' ';
    }
    return last ? strndup(last, n) : NULL;
}

static void offer_names(struct typed *t)
{
    const char *verb = t->verb->name;

    if (verb_is_of_noun(t->verb, "alias"))
        offer_aliases(t);
    else if (streq(verb, "key remove"))
        offer_keys(t);
    else if (verb_is_of_noun(t->verb, "provider"))
        offer_providers(t, streq(verb, "provider add"));
    else if (verb_is_of_noun(t->verb, "instance") && !streq(verb, "instance add"))
        offer_targets(t, false, true);
}

static void offer_argument(struct typed *t)
{
    _cleanup_free_ char *word = argument_word(t);

    if (!word)
        return;
    if (t->at && (streq(t->verb->name, "down") || streq(t->verb->name, "release")))
        offer_orphans(t);
    else if (streq(word, "TARGET"))
        offer_targets(t, true, true);
    else if (streq(word, "MODEL"))
        offer_targets(t, true, false);
    else if (streq(t->verb->name, "release") || (streq(t->verb->name, "image save") && !t->n_arguments))
        offer_released(t);
    else if (streq(word, "INSTANCE"))
        offer_targets(t, false, true);
    else if (streq(word, "NAME"))
        offer_names(t);
    else if (strchr(word, '|'))
        offer_list(t, word, "|");
    else if (streq(t->verb->name, "forward remove"))
        offer_forwards(t);
}

/* ---- the words before ---- */

/* The values that tell what the others can be. */
static void take_value(struct typed *t, const struct option *o, const char *value)
{
    if (streq(o->name, "socket"))
        t->run->options.socket = value;
    else if (streq(o->name, "at"))
        t->at = value;
}

static void take_option(struct typed *t, const char *word)
{
    const char *equals = strchr(word, '=');
    size_t n = equals ? (size_t)(equals - word) - 2 : strlen(word) - 2;
    const struct option *o = strncmp(word, "--", 2) == 0 ? option_find(t->verb, word + 2, n, 0)
                             : word[2]                   ? NULL
                                                         : option_find(t->verb, NULL, 0, word[1]);

    if (o && !equals && o->kind != FLAG && o->kind != MAYBE)
        t->value_of = o;
    if (o && equals)
        take_value(t, o, equals + 1);
}

static void take_word(struct typed *t, char *word)
{
    _cleanup_free_ char *both = NULL;

    if (t->verb) {
        t->arguments[t->n_arguments++] = word;
        return;
    }
    if (!t->noun && is_noun(word)) {
        t->noun = word;
        return;
    }
    both = t->noun ? xasprintf("%s %s", t->noun, word) : xstrdup(word);
    t->verb = verb_find(both);
    t->is_over = !t->verb; /* a mistake: what follows cannot be known */
}

static void take(struct typed *t, char *word)
{
    if (t->value_of) {
        take_value(t, t->value_of, word);
        t->value_of = NULL;
    } else if (!t->only_words && streq(word, "--")) {
        t->only_words = true;
        t->is_over = t->verb && list_has(t->verb->options, "--");
    } else if (!t->only_words && word[0] == '-' && word[1]) {
        take_option(t, word);
    } else {
        take_word(t, word);
    }
}

/* "--on=gz": the value is what is typed. False: it is no option with a value. */
static bool take_lead(struct typed *t)
{
    const char *equals = strchr(t->word, '=');

    if (t->only_words || strncmp(t->word, "--", 2) != 0 || !equals)
        return false;
    t->value_of = option_find(t->verb, t->word + 2, (size_t)(equals - t->word) - 2, 0);
    t->lead = t->word;
    t->n_lead = (size_t)(equals + 1 - t->word);
    t->word = equals + 1;
    return true;
}

enum exit_status complete(struct run *r, char **words, unsigned n)
{
    struct typed t = {.run = r, .word = n ? words[n - 1] : "", .lead = ""};

    t.arguments = xalloc((n + 1) * sizeof(char *));
    buf_init(&t.said, 1 << 20);
    buf_add_text(&t.said, "\n");
    for (unsigned i = 0; i + 1 < n; i++)
        take(&t, words[i]);
    if (t.value_of || take_lead(&t)) {
        if (t.value_of)
            offer_value(&t, t.value_of);
    } else if (!t.is_over && !t.only_words && t.word[0] == '-') {
        offer_options(&t);
    } else if (!t.is_over && t.verb) {
        offer_argument(&t);
    } else if (!t.is_over) {
        offer_verbs(&t);
    }
    buf_done(&t.said);
    free(t.arguments);
    return EXIT_DONE;
}

/* ---- the scripts ---- */

extern const char completion_bash[], completion_zsh[], completion_fish[];

enum exit_status verb_completion(struct run *r)
{
    const char *shell = r->options.arguments[0];
    const char *script = streq(shell, "bash")   ? completion_bash
                         : streq(shell, "zsh")  ? completion_zsh
                         : streq(shell, "fish") ? completion_fish
                                                : NULL;

    if (!script)
        return verb_usage(r, "there is completion for bash, zsh and fish.", NULL, "llmhostctl completion -h");
    fputs(script, stdout);
    return EXIT_DONE;
}
