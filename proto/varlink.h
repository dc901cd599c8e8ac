/* Varlink (varlink.org): NUL-terminated JSON objects over a stream socket, and a contract to hold them against.
 *
 * The contract is an interface description as text. The daemon checks each call before it is carried out and each reply
 * before it leaves; the client uses the same code to read replies. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "proto/mem.h"

struct buf;
struct json;

#define VARLINK_MESSAGE_BYTES_MAX (1u << 20)

/* The two interfaces we speak, embedded at build time from proto/ (the .varlink files, word for word). */
extern const char varlink_io_llmhost[];
extern const char varlink_org_varlink_service[];

/* One message of a stream of them. 1: *ret_text points into in, to *ret_n bytes without the NUL; drop *ret_n + 1 when done.
 * 0: not whole yet. -EMSGSIZE: longer than VARLINK_MESSAGE_BYTES_MAX. */
int varlink_frame(const struct buf *in, const char **ret_text, size_t *ret_n);

struct varlink_call {
    char *method;
    struct json *parameters;        /* an object, empty when the message has none */
    bool more, oneway;
};
/* 0 or -EBADMSG, -E2BIG, -EEXIST, -ERANGE, -ENOMEM (see json_parse). Unknown top-level members are -EBADMSG. */
int varlink_call_parse(const char *text, size_t n, struct varlink_call *ret);
void varlink_call_done(struct varlink_call *c);
/* Writing adds a whole message with its NUL, or nothing: 0, -EMSGSIZE (longer than VARLINK_MESSAGE_BYTES_MAX), -ENOBUFS,
 * -ENOMEM. NULL parameters are written as an empty object. */
int varlink_call_write(struct buf *out, const char *method, const struct json *parameters, bool more, bool oneway);

struct varlink_reply {
    char *error;                    /* NULL: an answer */
    struct json *parameters;        /* an object */
    bool continues;
};
int varlink_reply_parse(const char *text, size_t n, struct varlink_reply *ret);
void varlink_reply_done(struct varlink_reply *r);
int varlink_reply_write(struct buf *out, const struct json *parameters, bool continues);
int varlink_error_write(struct buf *out, const char *error, const struct json *parameters);

/* A parsed interface description. */
struct varlink_contract;
/* 0, or -EBADMSG: *ret_why names line and reason, caller frees; -ENOMEM. */
int varlink_contract_parse(const char *text, struct varlink_contract **ret, char **ret_why);
struct varlink_contract *varlink_contract_free(struct varlink_contract *c);
DEFINE_CLEANUP(struct varlink_contract *, varlink_contract_free)
const char *varlink_contract_name(const struct varlink_contract *c);    /* "io.llmhost" */
const char *varlink_contract_text(const struct varlink_contract *c);

/* method, error: with or without the interface's name in front.
 * 0; -ENOENT: no such method or error; -EINVAL: *ret_where names the first parameter that is missing, unknown or of the
 * wrong type, as a path ("options.port", "models[2].state"; empty: parameters is no object), caller frees; -ENOMEM.
 * An explicit null stands for a missing value; an int will do where a float is wanted, a text with a NUL inside nowhere.
 * NULL parameters are an empty object; ret_where may be NULL. */
int varlink_check_call(const struct varlink_contract *c, const char *method, const struct json *parameters, char **ret_where);
int varlink_check_reply(const struct varlink_contract *c, const char *method, const struct json *parameters, char **ret_where);
int varlink_check_error(const struct varlink_contract *c, const char *error, const struct json *parameters, char **ret_where);
/* The first parameter that the last reply to method must have and parameters has not; NULL: none, or no such method. Less than
 * varlink_check_reply(): for a reply of a younger or older contract. Lives as long as c. */
const char *varlink_reply_lacks(const struct varlink_contract *c, const char *method, const struct json *parameters);
/* Walks the methods, for tests and for messages: NULL beyond the last. */
const char *varlink_contract_method(const struct varlink_contract *c, size_t i);

/* A copy of a call's parameters with every value of the type Secret shown as "<secret>", for the log; what does
 * not fit the contract as "<unknown>", since a secret may stand under a misspelt name. Caller frees; NULL: no memory. */
struct json *varlink_hide_secrets(const struct varlink_contract *c, const char *method, const struct json *parameters);
