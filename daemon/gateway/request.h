/* One request's life: read, route, hold, send, stream, count. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct client;
struct deployment;
struct gateway;
struct http1_head;
struct http1_refusal;
struct request;

/* Borrows all; the head lasts as long as the request. */
struct request *request_new(struct gateway *g, struct client *c, const struct http1_head *head);
/* Where an engine is at work for it, the engine sees its connection break. */
struct request *request_free(struct request *r);

/* The head is there: may it be asked, and what is it? False: it has been answered (with a refusal) already. */
bool request_begin(struct request *r);
/* A piece of its body. False: as above. */
bool request_body(struct request *r, const char *data, size_t n);
/* The body makes no sense, or there is no memory for it: answers so. */
void request_body_broken(struct request *r, const struct http1_refusal *why);
/* All of it is there: from here on it answers in its own time, and calls client_answered() or client_abort() in the end. */
void request_body_over(struct request *r);

/* The application takes bytes again. */
void request_resume(struct request *r);
/* d is another now, and not the only one of its name: a request that has not gone out yet may have better prospects elsewhere. */
void request_look_elsewhere(struct request *r, const struct deployment *d);
/* d is another now, or (gone) ceases to be. */
void request_deployment_changed(struct request *r, struct deployment *d, bool gone);
/* Ends it now: an error event where the answer has begun, 503 where not. */
void request_cut(struct request *r, const char *code, const char *text);

/* An answer to a head that could not be read. */
void request_reply_bare(struct client *c, unsigned status, const char *text);
