/* From a request's head to what it asks for, and from a name to a model. Pure but for looking at the manager's list. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct deployment;
struct http1_head;
struct manager;

enum dialect { DIALECT_OPENAI, DIALECT_OLLAMA };

enum route_kind {
    ROUTE_ROOT,             /* "Ollama is running" */
    ROUTE_HEALTH,
    ROUTE_PREFLIGHT,
    ROUTE_MODELS,           /* /v1/models */
    ROUTE_MODEL,            /* /v1/models/ID */
    ROUTE_TAGS,
    ROUTE_PS,
    ROUTE_VERSION,
    ROUTE_METRICS,
    ROUTE_SHOW,
    ROUTE_PULL,
    ROUTE_ENGINE,           /* the model in the body decides */
    ROUTE_FORBIDDEN,        /* /api/create and the like: the model's home is the rented machine, and its life ours */
    ROUTE_BAD_METHOD,
    ROUTE_UNKNOWN,
};

#define ROUTE_WORD_MAX 32

struct route {
    enum route_kind kind;
    enum dialect dialect;
    const char *path;           /* within the head's target: from its first slash, with the query */
    const char *allow;          /* ROUTE_BAD_METHOD: what would do */
    char word[ROUTE_WORD_MAX];  /* for the log: "chat", "tags" */
};

void route_take(const struct http1_head *head, struct route *ret);
/* The ID of ROUTE_MODEL with %XX resolved. Caller frees; NULL: not well formed. */
char *route_model_id(const struct route *r);

/* ---- who asks ---- */

#define ROUTE_CLIENT_MAX 33
/* The program's name out of User-Agent, "curl" or "openai/python"; "local" when it has none. */
void route_take_client(const struct http1_head *head, char ret[static ROUTE_CLIENT_MAX]);

/* ---- who may ask ---- */

/* Host names beyond localhost and numeric addresses, and origins of browser pages; words separated by commas or spaces. */
struct route_access {
    const char *hosts, *origins;        /* NULL: none */
};
/* True: *ret_why says what to write, and where; caller frees. */
bool route_refuses_host(const struct route_access *a, const struct http1_head *head, char **ret_why);
bool route_allows_origin(const struct route_access *a, const char *origin);

/* ---- names ---- */

/* Adds what to say about a name nobody has: names that look like it, and the command that would make one. */
void route_explain_unknown(struct manager *m, const char *name, struct buf *out);
