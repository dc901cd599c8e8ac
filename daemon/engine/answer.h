/* What the servers of engines say, read: bytes in, facts out; no I/O, no clock. Any bytes may come.
 *
 * Shapes observed with ollama 0.11.4 and 0.32.15 and llama-server 0.7.0 (2026-11-20; tests/fuzz/corpus has some of them). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/buf.h"

struct json;

#define OLLAMA_LAYERS_MAX 64

/* One blob of a pull; what is reported goes back when a part is tried again, so the highest counts. */
struct ollama_layer {
    char digest[80];
    int64_t total, completed;
};

/* The answer of /api/pull: a JSON object in each line, the last one with "success" or an error. */
struct ollama_pull {
    struct buf line; /* not whole yet */
    struct ollama_layer layers[OLLAMA_LAYERS_MAX];
    unsigned n_layers;
    int64_t bytes, bytes_total; /* over all layers seen so far; neither ever falls */
    char status[80];            /* of the last line that had one */
    bool is_step;               /* that line was about another step than a layer's bytes */
    bool success;
    char *error; /* the engine's words, NULL: none */
};

void ollama_pull_init(struct ollama_pull *p);
void ollama_pull_done(struct ollama_pull *p);
/* Adds bytes of the answer; a line beyond 256 KiB is dropped. */
void ollama_pull_add(struct ollama_pull *p, const char *data, size_t n);
/* Reads one line: true when it had a status. False: none is whole. The rest that has no newline counts as one when is_end. */
bool ollama_pull_next(struct ollama_pull *p, bool is_end);

/* A registry's manifest: its layers are known from now on, with their whole sizes. Returns how many bytes all of it is, -1: it is no
 * manifest, or one of too many layers, and nothing has changed. */
int64_t ollama_pull_expect(struct ollama_pull *p, const char *text, size_t n);

/* The same, for those who only want to know: of the layers, those that are loaded; digest: of the model's own, "sha256:…". -EBADMSG: it is no
 * manifest of a model. */
struct ollama_weights {
    int64_t bytes, download_bytes;
    char digest[72];
};
int ollama_read_weights(const char *text, size_t n, struct ollama_weights *ret);

/* Where a registry has the manifest of NAME; tag NULL: NAME's own. Caller frees. */
char *ollama_manifest_url(const char *name, const char *tag);
/* What NAME is called at a mirror (a host's name, perhaps with a port) of ollama's own registry; NULL: it is of another registry. Caller
 * frees. */
char *ollama_mirrored_name(const char *name, const char *mirror);
/* "7b" of "deepseek-r1:7b"; static or within NAME. */
const char *ollama_tag(const char *name);

/* /api/version; caller frees. NULL: it says none. */
char *ollama_read_version(const char *text, size_t n);
/* The words of {"error": …}; caller frees. NULL: it is no such answer. */
char *ollama_read_error(const char *text, size_t n);
/* The entry of one model in the answer of /api/tags or /api/ps; caller frees. NULL: it is not listed. name: as people write it,
 * "qwen3" finds "qwen3:latest". */
struct json *ollama_read_entry(const char *text, size_t n, const char *name);

/* What llama-server would fetch of a repository of Hugging Face's kind. */
struct hub_files {
    char blobs[64][72];     /* their names in its cache: the hash, or what stands for it */
    unsigned n;
    int64_t bytes;          /* of all of them */
    char first[300];        /* the path of the first of them; "": too long */
};

/* The answer of /api/models/REPOSITORY/tree/main?recursive=true, searched as common/download.cpp at 0.7.0 does; tag NULL: its usual ones.
 * 0, -ENOENT: no file has that tag, -EBADMSG: it is no such list, or one of too many parts. */
int hub_read_tree(const char *text, size_t n, const char *tag, struct hub_files *ret);

/* The model of llama-server's /v1/models; caller frees. NULL: it names none. */
struct json *llamacpp_read_model(const char *text, size_t n);
