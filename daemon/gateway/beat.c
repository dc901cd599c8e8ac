/* An SSE comment is skipped by every client; so is white space before a JSON value, but not an empty line
 * before Ollama's first object, which the ollama program and its Python library take for a broken one
 * (0.32.15, 0.6.3). Only where the answer is known to be one or the other are there beats: /v1/audio/speech
 * could be anything. */
#include "gateway/beat.h"

#include "proto/mem.h"

struct beat_row {
    const char *path;
    int streams; /* without a word about it; -1: whatever "stream" says, it never does */
};

/* Ollama streams unless told not to, OpenAI's API the other way round. */
static const struct beat_row rows[] = {
    {"/v1/chat/completions", 0}, {"/v1/completions", 0}, {"/v1/responses", 0}, {"/v1/embeddings", -1},
    {"/v1/rerank", -1},          {"/api/chat", 1},       {"/api/generate", 1}, {"/api/embed", -1},
    {"/api/embeddings", -1},     {"/api/pull", 1},
};

static const struct beat_row *row_of(const char *path)
{
    size_t n = strcspn(path, "?");

    for (size_t i = 0; i < ELEMENTS(rows); i++)
        if (strlen(rows[i].path) == n && strncmp(path, rows[i].path, n) == 0)
            return &rows[i];
    return NULL;
}

struct beats beats_for(const struct route *r, int stream)
{
    const struct beat_row *row = row_of(r->path);

    if (!row)
        return (struct beats){0};
    if (row->streams < 0 || !(stream < 0 ? row->streams : stream))
        return (struct beats){.type = "application/json", .bytes = " "};
    if (r->dialect == DIALECT_OPENAI)
        return (struct beats){.type = "text/event-stream", .bytes = ": llmhost\n\n", .streams = true};
    return (struct beats){
        .type = "application/x-ndjson", .bytes = r->kind == ROUTE_PULL ? NULL : " ", .streams = true};
}
