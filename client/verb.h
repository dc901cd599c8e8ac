/* The verbs: what the command line is taken apart into, and what carries it out. main.c has the tables. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/connection.h"
#include "client/output.h"
#include "proto/error.h"

struct option;
/* An option as it was typed: without a value, NULL. */
struct typed_option {
    const struct option *option;
    const char *value;
};
#define TYPED_MAX 32

/* All options of all verbs; main.c lets through only those the verb names. Texts point into argv. */
struct options {
    const char *socket;
    bool json, quiet, help, version;
    const char *on, *or_on, *until, *sources, *filter, *provider, *host, *user, *accept_new_host_key;
    const char *password_file, *key_file, *passphrase_file, *install_key, *agent, *new_key, *jump, *proxy_command, *stop;
    bool no_wait, unverified, now, off, forget, watch, check, follow, events, all;
    uint64_t timeout_ms;        /* 0: not given */
    int64_t lines, port;        /* -1: not given */
    int64_t since_at_ms, search_until_at_ms;        /* -1: not given */
    const char *token_file, *base_url, *gpu, *for_model, *image, *region, *confirm;
    const char *id, *at;
    bool token, over_budget, no_guard, anyway, drill, refresh, console, no_card;
    int64_t day_milli, month_milli, price_milli, floor_milli, disk_gb;      /* -1: not given */
    char **arguments;           /* what is left: targets, names */
    unsigned n_arguments;
    char **engine_arguments;    /* of up, behind "--"; NULL: there was no "--" */
    unsigned n_engine_arguments;
    struct typed_option typed[TYPED_MAX];      /* in their order; beyond that many they are not remembered */
    unsigned n_typed;
};

/* One run of llmhostctl. */
struct run {
    const struct verb *verb;            /* the one that runs */
    struct options options;
    struct output output;
    struct connection *connection;      /* NULL until verb_connect() */
};

struct verb {
    const char *name;           /* "up", "instance add" */
    const char *arguments;      /* for the usage line */
    unsigned n_min, n_max;
    const char *options;        /* names of those it takes, besides the global ones; "--": the engine's, behind that */
    const char *summary;
    enum exit_status (*run)(struct run *r);
};

/* verb.c: what verbs share. */

/* Connects; a problem is shown and its status returned. With changes, a daemon of another version is refused (1). */
enum exit_status verb_connect(struct run *r, bool changes);
/* A parameters object with the arguments as targets; without one when there are none. */
struct json *verb_targets(const struct options *opt);
/* From now on the arguments are what the daemon took them for: an alias is the name of its model. They last as long as reply. */
void verb_take_targets(struct run *r, const struct json *reply);
/* One call to its end; an error is shown. Interrupted: nothing is shown. */
enum exit_status verb_call(struct run *r, struct call *call);
/* As verb_call(), of one that takes long: who is refused is refused at once, so text is said when nothing came for a second. NULL: it is not. */
enum exit_status verb_call_waiting(struct run *r, struct call *call, const char *text);
/* A call that changes things and answers nothing: with what was asked, screen says that it is done. */
enum exit_status verb_change(struct run *r, struct call *call, screen_fn screen);
/* Shows the error the call ended with. */
enum exit_status verb_failed(struct run *r, const struct call *call);
/* The notes of a reply, as hints. */
void verb_notes(const struct output *o, const struct json *reply);
/* What holds a secret must not become a core file. */
void verb_no_core(void);
struct secret;
/* A secret from a file or standard input (path NULL: none), as secret_read(); what went wrong is shown. */
enum exit_status verb_secret_from(struct run *r, const char *what, const char *path, bool one_line, struct secret *ret);
/* A question for it; flag: the command for where nobody can be asked. */
enum exit_status verb_secret_asked(struct run *r, const char *what, const char *about, const char *flag, struct secret *ret);
/* As a Secret of the contract; text NULL: nothing. */
void verb_put_secret(struct json *parameters, const char *key, const char *text, size_t n);
/* A mistake on the command line: shown, EXIT_USAGE. */
enum exit_status verb_usage(struct run *r, const char *message, const char *why, const char *next);

enum exit_status verb_up(struct run *r);
enum exit_status verb_down(struct run *r);
enum exit_status verb_sleep(struct run *r);
enum exit_status verb_keep(struct run *r);
enum exit_status verb_wait(struct run *r);
enum exit_status verb_status(struct run *r);
enum exit_status verb_ps(struct run *r);
enum exit_status verb_why(struct run *r);
enum exit_status verb_logs(struct run *r);
enum exit_status verb_doctor(struct run *r);
enum exit_status verb_version(struct run *r);
enum exit_status verb_instance_add(struct run *r);
enum exit_status verb_instance_set(struct run *r);
enum exit_status verb_instance_list(struct run *r);
enum exit_status verb_instance_show(struct run *r);
enum exit_status verb_instance_secret(struct run *r);
enum exit_status verb_instance_remove(struct run *r);
enum exit_status verb_forward_add(struct run *r);
enum exit_status verb_forward_list(struct run *r);
enum exit_status verb_forward_remove(struct run *r);
enum exit_status verb_alias_set(struct run *r);
enum exit_status verb_alias_list(struct run *r);
enum exit_status verb_alias_remove(struct run *r);
enum exit_status verb_key_add(struct run *r);
enum exit_status verb_key_list(struct run *r);
enum exit_status verb_key_remove(struct run *r);
enum exit_status verb_listen(struct run *r);
enum exit_status verb_instance_take(struct run *r);
enum exit_status verb_provider_add(struct run *r);
enum exit_status verb_provider_set(struct run *r);
enum exit_status verb_provider_list(struct run *r);
enum exit_status verb_provider_remove(struct run *r);
enum exit_status verb_offers(struct run *r);
enum exit_status verb_cost(struct run *r);
enum exit_status verb_release(struct run *r);
enum exit_status verb_image_save(struct run *r);
enum exit_status verb_image_list(struct run *r);
enum exit_status verb_completion(struct run *r);
