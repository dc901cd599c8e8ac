/* The two languages applications speak, as JSON texts. Everything is answered from memory. Each function adds a whole document
 * to out, with a newline at its end where the dialect has one; 0, -ENOBUFS, -ENOMEM. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "gateway/route.h"

struct buf;
struct deployment;
struct manager;

/* {"error":{"message","type","param","code"}} */
int openai_error(struct buf *out, unsigned status, const char *code, const char *text);
/* /v1/models, aliases behind the others, and /v1/models/ID: name is its id or an alias. started_at_ms stands for the time of making where none is known. */
int openai_models(struct manager *m, int64_t started_at_ms, struct buf *out);
int openai_model(const struct deployment *d, const char *name, int64_t started_at_ms, struct buf *out);

/* {"error":"text"} */
int ollama_error(struct buf *out, const char *text);
int ollama_tags(struct manager *m, int64_t started_at_ms, struct buf *out);
/* Those that are loaded now. */
int ollama_ps(struct manager *m, struct buf *out);
int ollama_version(struct manager *m, struct buf *out);
int ollama_show(const struct deployment *d, struct buf *out);
/* What `ollama stop` wants to hear: the model is not in memory. chat: as an answer of /api/chat. */
int ollama_unloaded(const char *model, bool chat, struct buf *out);
/* A line of /api/pull. */
int ollama_status(struct buf *out, const char *status);
/* The same of a download, as ollama tells it: its program draws a bar for it. */
int ollama_download(struct buf *out, const struct deployment *d, int64_t bytes, int64_t bytes_total);

int dialect_error(enum dialect d, struct buf *out, unsigned status, const char *code, const char *text);
