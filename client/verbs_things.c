/* instance and forward: things that are added, listed, removed. */
#include <ctype.h>
#include <errno.h>

#include "client/ask.h"
#include "client/progress.h"
#include "client/verb.h"
#include "proto/mem.h"
#include "proto/ssh_command.h"

#define QUICK_MS    30000
#define PROVIDER_MS 120000 /* a company is asked, which may be slow */

/* ---- instance add, instance set: what is on the command line ---- */

struct adding {
    bool is_change;              /* instance set: what is not given stays */
    const char *name, *provider; /* "ssh", "local", a company */
    char *command;               /* the pasted line; NULL: --host */
    char *login;                 /* user@host, for questions */
    char *key_path;
    struct secret password, key, passphrase;
};

static void adding_done(struct adding *a)
{
    free(a->command);
    free(a->login);
    free(a->key_path);
    secret_done(&a->password);
    secret_done(&a->key);
    secret_done(&a->passphrase);
}
#define _cleanup_adding_ _cleanup_(adding_done)

/* The pasted line may come as one word in quotes or as several; a word of several is quoted again. */
static char *command_join(char **words, unsigned n)
{
    struct buf b;

    if (n == 1)
        return xstrdup(words[0]);
    buf_init(&b, SSH_COMMAND_BYTES_MAX);
    for (unsigned i = 0; i < n; i++) {
        if (i)
            buf_add_text(&b, " ");
        if (shell_quote(&b, words[i]) < 0)
            break;
    }
    return buf_take(&b);
}

/* In quotes no shell has replaced the tilde. */
static char *home_expand(const char *path)
{
    const char *home = getenv("HOME");

    if (path[0] == '~' && path[1] == '/' && home)
        return xasprintf("%s%s", home, path + 1);
    return xstrdup(path);
}

/* user@host alone will do as well: that is one word. */
static bool names_ssh(const char *command)
{
    const char *word = command + strspn(command, " "), *end = word + strcspn(word, " "), *name = end;

    while (name > word && name[-1] != '/')
        name--;
    return !*end || (end - name == 3 && strncmp(name, "ssh", 3) == 0) || *word == '-';
}

static enum exit_status adding_read_command(struct run *r, struct adding *a)
{
    struct ssh_command command;
    _cleanup_free_ char *why = NULL;

    if (ssh_command_parse(a->command, &command, &why) < 0) {
        _cleanup_free_ char *message = xasprintf("the ssh command for %s cannot be used: %s.", a->name, why);

        return verb_usage(r, message, names_ssh(a->command) ? NULL : "it does not begin with ssh",
                          a->is_change ? "llmhostctl instance set NAME 'ssh -p PORT USER@HOST'"
                                       : "llmhostctl instance add NAME 'ssh -p PORT USER@HOST'");
    }
    a->login = command.user ? xasprintf("%s@%s", command.user, command.host) : xstrdup(command.host);
    if (command.identity_file && !a->key_path)
        a->key_path = home_expand(command.identity_file);
    ssh_command_done(&command);
    return EXIT_DONE;
}

/* What the daemon is told of --agent: a path, "" for none from now on; NULL: nothing. */
static const char *agent_socket(const struct options *o)
{
    if (!o->agent || streq(o->agent, "none"))
        return o->agent ? "" : NULL;
    return *o->agent ? o->agent : getenv("SSH_AUTH_SOCK");
}

static bool has_agent(const struct options *o)
{
    const char *socket = agent_socket(o);

    return socket && *socket;
}

/* Flags that mean nothing for this host are mistakes, not noise. */
static enum exit_status adding_check_local(struct run *r, const struct adding *a)
{
    const struct options *o = &r->options;

    if (a->command || o->host || o->user || o->port >= 0 || o->password_file || o->key_file ||
        o->passphrase_file || o->install_key || o->agent || o->jump || o->proxy_command || o->stop)
        return verb_usage(r, "this host needs no ssh command, address, password, key or stop.", NULL,
                          "llmhostctl instance add NAME --provider=local");
    return EXIT_DONE;
}

/* A machine that there is at a company. */
static enum exit_status adding_check_company(struct run *r, const struct adding *a)
{
    const struct options *o = &r->options;

    if (a->command || o->host || o->user || o->port >= 0 || o->password_file || o->key_file ||
        o->passphrase_file || o->install_key || o->agent || o->jump || o->proxy_command)
        return verb_usage(r, "its address, its password and the way there come from the company.", NULL,
                          "llmhostctl instance add NAME --provider=PROVIDER --id=ID");
    return EXIT_DONE;
}

static enum exit_status adding_check_ssh(struct run *r, struct adding *a)
{
    const struct options *o = &r->options;

    if (o->install_key && !streq(o->install_key, "yes") && !streq(o->install_key, "no"))
        return verb_usage(r, "--install-key: it can be yes or no.", NULL,
                          a->is_change ? "llmhostctl instance set -h" : "llmhostctl instance add -h");
    if (o->stop && !streq(o->stop, "shutdown") && !streq(o->stop, "never"))
        return verb_usage(r, "--stop: it can be shutdown or never.", NULL,
                          a->is_change ? "llmhostctl instance set -h" : "llmhostctl instance add -h");
    if (o->agent && !*o->agent && (!getenv("SSH_AUTH_SOCK") || getenv("SSH_AUTH_SOCK")[0] != '/'))
        return verb_usage(r, "there is no ssh-agent: SSH_AUTH_SOCK does not name its socket.", NULL,
                          "eval $(ssh-agent); ssh-add");
    if (o->key_file)
        a->key_path = home_expand(o->key_file);
    if (a->command)
        return adding_read_command(r, a);
    if (a->is_change)
        return EXIT_DONE;
    if (!o->host)
        return verb_usage(r, "no way to the instance is given.", "paste the ssh command, or give --host",
                          "llmhostctl instance add NAME 'ssh -p PORT USER@HOST'");
    a->login = o->user ? xasprintf("%s@%s", o->user, o->host) : xstrdup(o->host);
    return EXIT_DONE;
}

static enum exit_status adding_init(struct run *r, struct adding *a)
{
    const struct options *o = &r->options;
    unsigned first = 1;

    a->name = o->arguments[0];
    a->provider = o->provider;
    if (!a->provider && o->n_arguments == 2 && streq(o->arguments[1], "local")) {
        a->provider = "local";
        first = 2;
    }
    if (!a->provider)
        a->provider = "ssh";
    if (o->n_arguments > first)
        a->command = command_join(o->arguments + first, o->n_arguments - first);
    if (streq(a->provider, "local"))
        return adding_check_local(r, a);
    if (!streq(a->provider, "ssh"))
        return adding_check_company(r, a);
    if (o->id)
        return verb_usage(r, "--id names a machine at a company: --provider says which.", NULL,
                          "llmhostctl instance list --at=PROVIDER");
    return adding_check_ssh(r, a);
}

static enum exit_status setting_init(struct run *r, struct adding *a)
{
    const struct options *o = &r->options;

    a->is_change = true;
    a->name = o->arguments[0];
    a->provider = "ssh";
    if (o->n_arguments > 1)
        a->command = command_join(o->arguments + 1, o->n_arguments - 1);
    else if (!o->host && !o->user && o->port < 0 && !o->password_file && !o->key_file &&
             !o->passphrase_file && !o->install_key && !o->agent && !o->jump && !o->proxy_command &&
             !o->stop && !o->accept_new_host_key)
        return verb_usage(r, "nothing to change is given.",
                          "paste the new ssh command, or give --port, --password-file ...",
                          "llmhostctl instance set NAME 'ssh -p PORT USER@HOST'");
    return adding_check_ssh(r, a);
}

/* ---- instance add, instance set: secrets ---- */

static enum exit_status adding_read_secrets(struct run *r, struct adding *a)
{
    const struct options *o = &r->options;
    const char *files[] = {o->password_file, o->key_file, o->passphrase_file};
    enum exit_status status;
    unsigned from_stdin = 0;

    for (unsigned i = 0; i < ELEMENTS(files); i++)
        from_stdin += files[i] && streq(files[i], "-");
    if (from_stdin > 1)
        return verb_usage(r, "only one of them can come from standard input.", NULL,
                          "llmhostctl instance add -h");
    status = verb_secret_from(r, "password", o->password_file, true, &a->password);
    if (status == EXIT_DONE)
        status = verb_secret_from(r, "key", a->key_path, false, &a->key);
    if (status == EXIT_DONE)
        status = verb_secret_from(r, "passphrase", o->passphrase_file, true, &a->passphrase);
    if (status == EXIT_DONE && !a->is_change && streq(a->provider, "ssh") && !a->password.text &&
        !a->key.text && !has_agent(o))
        status = verb_secret_asked(r, "password", a->login,
                                   "llmhostctl instance add ... --password-file FILE", &a->password);
    return status;
}

/* ---- instance add, instance set: the call ---- */

static struct json *adding_parameters(const struct run *r, const struct adding *a)
{
    const struct options *o = &r->options;
    struct json *parameters = json_object(), *options = json_object();
    char port[24];

    json_put_string(parameters, "name", a->name);
    json_put_string(parameters, "provider", a->is_change ? NULL : a->provider);
    json_put_string(parameters, "id", o->id);
    json_put_string(parameters, "command", a->command);
    json_put_string(parameters, "accept_new_host_key", o->accept_new_host_key);
    json_put_string(parameters, "stop", o->stop);
    json_put_string(options, "host", o->host);
    json_put_string(options, "user", o->user);
    json_put_string(options, "agent", agent_socket(o));
    json_put_string(options, "jump", o->jump);
    if (o->port >= 0) {
        snprintf(port, sizeof(port), "%d", (int)o->port);
        json_put_string(options, "port", port);
    }
    if (json_count(options))
        json_put(parameters, "options", options);
    else
        json_free(options);
    verb_put_secret(parameters, "proxy_command", o->proxy_command,
                    o->proxy_command ? strlen(o->proxy_command) : 0);
    verb_put_secret(parameters, "password", a->password.text, a->password.n);
    verb_put_secret(parameters, "key", a->key.text, a->key.n);
    verb_put_secret(parameters, "passphrase", a->passphrase.text, a->passphrase.n);
    if (o->install_key)
        json_put_bool(parameters, "install_key", streq(o->install_key, "yes"));
    return parameters;
}

static void add_on_reply(void *ctx, const struct json *reply)
{
    progress_show(ctx, json_get(reply, "progress"));
}

static void add_on_tick(void *ctx)
{
    progress_tick(ctx);
}

static enum exit_status adding_call(struct run *r, const struct adding *a, struct progress *p,
                                    struct call *call)
{
    enum exit_status status;

    *call = (struct call){.method = a->is_change ? "InstanceSet" : "InstanceAdd",
                          .more = true,
                          .parameters = adding_parameters(r, a),
                          .needs = "instance",
                          .on_reply = add_on_reply,
                          .on_tick = add_on_tick,
                          .tick_ms = progress_tick_ms(&r->output),
                          .ctx = p};
    status = connection_run(r->connection, call);
    progress_leave(p);
    return status;
}

static bool wants_passphrase(const struct call *call)
{
    const char *code = json_get_text(call->error, "code");

    return error_status(call->error) == EXIT_CREDENTIALS && code && streq(code, "passphrase_needed");
}

static void instance_screen(const struct json *reply, const char *what, struct buf *out)
{
    const struct json *instance = json_get(reply, "instance");
    const char *address = json_get_text(instance, "address"), *user = json_get_text(instance, "user");
    const char *key = json_get_text(instance, "host_key"), *name = json_get_text(instance, "name");
    const char *via = json_get_text(instance, "via");
    _cleanup_free_ char *machine = rented_machine_text(instance);

    buf_addf(out, "%s is %s", name ? name : "the instance", what);
    if (machine)
        buf_addf(out, ": %s\n  it was neither switched on nor off", machine);
    if (address)
        buf_addf(out, ": %s%s%s", user ? user : "", user ? "@" : "", address);
    buf_add_text(out, "\n");
    if (via)
        buf_addf(out, "  via       %s\n", via);
    if (key)
        buf_addf(out, "  host key  %s\n", key);
}

static void added_screen(const struct output *o, const struct json *reply, struct buf *out)
{
    (void)o;
    instance_screen(reply, "added", out);
}

static void changed_screen(const struct output *o, const struct json *reply, struct buf *out)
{
    (void)o;
    instance_screen(reply, "changed", out);
}

static void added_hints(const struct run *r, const struct adding *a, const struct json *reply)
{
    verb_notes(&r->output, reply);
    if (!r->output.json && !a->is_change)
        output_hint(&r->output, "  next: llmhostctl up ollama:NAME --on %s", a->name);
}

/* ---- instance add: a machine that bills ---- */

/* Yes unless no is said. */
/* 0, or what ask_line() said: nothing was answered, and nothing is wanted. */
static int stop_is_wanted(const struct run *r, const char *name, const char *company, bool *ret)
{
    _cleanup_free_ char *line = NULL;
    int e;

    output_hint(&r->output, "  %s looks like a machine of %s, billed while it is on", name, company);
    e = ask_line("  switch it off from inside when nobody uses it? [Y/n]: ", &line);
    *ret = e == 0 && (!*line || tolower((unsigned char)*line) == 'y');
    return e;
}

/* Its company says that a shutdown inside ends the bill, and nobody has said whether that is wanted. */
static enum exit_status adding_offer_stop(struct run *r, const struct adding *a, const char *company)
{
    _cleanup_call_ struct call call = {.method = "InstanceSet", .needs = "instance", .limit_ms = QUICK_MS};
    enum exit_status status;
    bool wanted = false;
    int e = 0;

    if (!company)
        return EXIT_DONE;
    if (!r->output.json && ask_is_possible())
        e = stop_is_wanted(r, a->name, company, &wanted);
    else
        output_hint(&r->output, "  %s looks like a machine of %s, billed while it is on", a->name, company);
    if (!wanted) {
        output_hint(&r->output, "  nothing here switches it off when nobody uses it; to have that:");
        output_hint(&r->output, "    llmhostctl instance set %s --stop=shutdown", a->name);
        return e == -EINTR ? EXIT_INTERRUPTED : EXIT_DONE;
    }
    call.parameters = json_object();
    json_put_string(call.parameters, "name", a->name);
    json_put_string(call.parameters, "stop", "shutdown");
    status = connection_run(r->connection, &call);
    if (status != EXIT_DONE)
        return verb_failed(r, &call);
    output_hint(&r->output, "  its guard switches it off then; only you can switch it on again");
    output_hint(&r->output, "  whether that works, with nobody on it:  llmhostctl doctor %s --drill",
                a->name);
    return EXIT_DONE;
}

static enum exit_status add_interrupted(struct run *r, const struct adding *a)
{
    _cleanup_free_ char *message =
        xasprintf("interrupted: %s may have been %s or not.", a->name, a->is_change ? "changed" : "added");
    _cleanup_json_ struct json *error =
        error_make(EXIT_INTERRUPTED, "interrupted", message, NULL, "llmhostctl instance list", NULL);

    output_error(&r->output, error);
    return EXIT_INTERRUPTED;
}

static enum exit_status adding_run(struct run *r, struct adding *a)
{
    _cleanup_progress_ struct progress p;
    _cleanup_call_ struct call call = {0};
    enum exit_status status;

    progress_init(&p, &r->output, a->name);
    status = adding_call(r, a, &p, &call);
    if (!a->passphrase.text &&
        wants_passphrase(&call)) { /* one that was given and is wrong: say so, ask nothing */
        call_done(&call);
        secret_done(&a->passphrase);
        status = verb_secret_asked(r, "passphrase", a->key_path ? a->key_path : "the key",
                                   a->is_change ? "llmhostctl instance set ... --passphrase-file FILE"
                                                : "llmhostctl instance add ... --passphrase-file FILE",
                                   &a->passphrase);
        if (status != EXIT_DONE)
            return status;
        status = adding_call(r, a, &p, &call);
    }
    if (status == EXIT_INTERRUPTED)
        return add_interrupted(r, a);
    if (status != EXIT_DONE)
        return verb_failed(r, &call);
    output_answer(&r->output, call.answer, a->is_change ? changed_screen : added_screen, EXIT_DONE);
    added_hints(r, a, call.answer);
    return adding_offer_stop(r, a, json_get_text(call.answer, "offers_stop"));
}

static enum exit_status verb_adding(struct run *r, enum exit_status (*init)(struct run *r, struct adding *a))
{
    _cleanup_adding_ struct adding a = {0};
    enum exit_status status;

    verb_no_core();
    status = init(r, &a);
    if (status == EXIT_DONE)
        status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = adding_read_secrets(r, &a);
    if (status == EXIT_DONE)
        status = adding_run(r, &a);
    return status;
}

enum exit_status verb_instance_add(struct run *r)
{
    return verb_adding(r, adding_init);
}

enum exit_status verb_instance_set(struct run *r)
{
    return verb_adding(r, setting_init);
}

/* ---- the others ---- */

/* A call with one answer that a screen shows. */
static enum exit_status simple(struct run *r, struct call *call, bool changes, screen_fn screen)
{
    enum exit_status status = verb_connect(r, changes);

    if (status == EXIT_DONE)
        status = verb_call(r, call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call->answer, screen, EXIT_DONE);
    return status;
}

enum exit_status verb_instance_list(struct run *r)
{
    const char *at = r->options.at;
    _cleanup_call_ struct call call = {
        .method = "InstanceList", .limit_ms = at ? PROVIDER_MS : QUICK_MS, .parameters = json_object()};

    json_put_string(call.parameters, "at", at);
    return simple(r, &call, false, at ? screen_machines : screen_instances);
}

enum exit_status verb_instance_show(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "InstanceShow", .limit_ms = QUICK_MS, .parameters = json_object()};

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    return simple(r, &call, false, screen_show);
}

/* The one place where a secret is shown, and only where a person looks. */
enum exit_status verb_instance_secret(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "InstanceSecret", .limit_ms = QUICK_MS, .parameters = json_object(), .secret = true};
    const char *name = r->options.arguments[0],
               *kind = r->options.n_arguments > 1 ? r->options.arguments[1] : "password", *text;
    _cleanup_free_ char *next = xasprintf("llmhostctl instance secret %s", name);
    enum exit_status status;
    size_t n;

    verb_no_core();
    if (!streq(kind, "password") && !streq(kind, "key") && !streq(kind, "passphrase"))
        return verb_usage(r, "the kind of a secret is password, key or passphrase.", NULL, next);
    if (r->output.json || !r->output.out_terminal)
        return verb_usage(r, "a secret is shown on a terminal only: not in a pipe, a file or with --json.",
                          NULL, next);
    status = verb_connect(r, false);
    if (status != EXIT_DONE)
        return status;
    json_put_string(call.parameters, "name", name);
    json_put_string(call.parameters, "kind", kind);
    status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    text = json_text_n(json_get(json_get(call.answer, "secret"), "text"), &n);
    setvbuf(stdout, NULL, _IONBF, 0);
    if (text)
        fwrite(text, 1, n, stdout);
    if (!text || !n || text[n - 1] != '\n')
        fputc('\n', stdout);
    return EXIT_DONE;
}

static void screen_removed(const struct output *o, const struct json *data, struct buf *out)
{
    (void)o;
    buf_addf(out, "%s is removed.\n", json_get_text(data, "name"));
}

enum exit_status verb_instance_remove(struct run *r)
{
    _cleanup_call_ struct call call = {.method = "InstanceRemove", .parameters = json_object()};

    json_put_string(call.parameters, "name", r->options.arguments[0]);
    enum exit_status status = verb_change(r, &call, screen_removed);

    if (status == EXIT_DONE)
        verb_notes(&r->output, call.answer);
    return status;
}

/* ---- forwards ---- */

static void screen_forward_added(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *f = json_get(reply, "forward");
    const char *state = json_get_text(f, "state"), *reason = json_get_text(f, "reason");

    buf_addf(out, "%s leads to %s on %s", json_get_text(f, "listen"), json_get_text(f, "target"),
             json_get_text(f, "instance"));
    if (state && !streq(state, "listening")) {
        buf_add_text(out, ", but the port is ");
        add_styled(out, o->out_colour, STYLE_BAD, state);
        buf_addf(out, "%s%s", reason ? ": " : "", reason ? reason : "");
    }
    buf_add_text(out, "\n");
}

/* It is kept, but leads nowhere while somebody else has the port. */
static enum exit_status forward_status(const struct json *reply)
{
    const char *state = json_get_text(json_get(reply, "forward"), "state");

    return state && streq(state, "taken") ? EXIT_CONFLICT : EXIT_DONE;
}

enum exit_status verb_forward_add(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "ForwardAdd", .limit_ms = QUICK_MS, .parameters = json_object()};
    struct ssh_forward forward;
    _cleanup_free_ char *why = NULL, *message = NULL;
    enum exit_status status;

    if (ssh_forward_parse(r->options.arguments[1], &forward, &why) < 0) {
        message = xasprintf("this is no forward: %s.", why);
        return verb_usage(r, message, "[LISTEN_IP:]PORT[:HOST:PORT], as after ssh -L",
                          "llmhostctl forward add INSTANCE 8888");
    }
    ssh_forward_done(&forward);
    json_put_string(call.parameters, "instance", r->options.arguments[0]);
    json_put_string(call.parameters, "spec", r->options.arguments[1]);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status != EXIT_DONE)
        return status;
    status = forward_status(call.answer);
    output_answer(&r->output, call.answer, screen_forward_added, status);
    verb_notes(&r->output, call.answer);
    return status;
}

enum exit_status verb_forward_list(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "ForwardList", .limit_ms = QUICK_MS, .parameters = json_object()};

    if (r->options.n_arguments)
        json_put_string(call.parameters, "instance", r->options.arguments[0]);
    return simple(r, &call, false, screen_forwards);
}

static void screen_forward_removed(const struct output *o, const struct json *data, struct buf *out)
{
    (void)o;
    buf_addf(out, "the forward at %s on %s is removed.\n", json_get_text(data, "listen"),
             json_get_text(data, "instance"));
}

enum exit_status verb_forward_remove(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "ForwardRemove", .limit_ms = QUICK_MS, .parameters = json_object()};

    json_put_string(call.parameters, "instance", r->options.arguments[0]);
    json_put_string(call.parameters, "listen", r->options.arguments[1]);
    return verb_change(r, &call, screen_forward_removed);
}
