/* The model server program on a machine: find it, start it, fetch a model, load it, and the way back. A driver is one file
 * (ollama.c, llamacpp.c) and a line in the list in engine.c.
 *
 * A driver translates: it asks one thing of the machine and reports. It arms no timer, repeats nothing and decides nothing;
 * "not yet" is an answer, and the deployment asks again. What runs on the machine is written down there (place.h), so a new
 * daemon finds it again and two daemons' worth of requests start one server. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/fault.h"
#include "engine/gpu.h"
#include "session/host.h"

struct engine;
struct http;
struct json;
struct op;
struct resolver;
struct settings;

/* For a probe, unless its owner says otherwise. */
#define ENGINE_PATIENCE_MS 5000

/* How applications may speak to it. */
enum engine_dialects { ENGINE_OPENAI = 1, ENGINE_OLLAMA = 2 };

struct engine_progress {
    const char *text;                   /* "pulling manifest", "5.6 GB, 100% GPU": what is being done, or how it ended */
    int64_t bytes, bytes_total;         /* of a download; -1: unknown or none */
};

/* Where an answer goes: one op, and progress as often as there is some (about 10 a second at most) before it. */
struct engine_reply {
    struct op **slot;
    /* again: not yet, ask once more after a moment. f: it failed; codes: engine_missing, engine_unfit, engine_damaged, model_unknown, tag_unknown, login_needed,
     * registry_unreachable, registry_failed, registry_busy, disk_full, digest_mismatch, stalled, bad_argument, machine_restarted,
     * engine_ended_elsewhere, no_answer, and those of reason.h. */
    void (*done)(void *ctx, bool again, const struct fault *f);
    void (*progress)(void *ctx, const struct engine_progress *p);
    void *ctx;
};

/* What is known of the server and the model; texts may be NULL, numbers -1. */
struct engine_facts {
    const char *version, *path;         /* of the program */
    bool unverified;                    /* we put it there, and nobody could tell whether it is what it should be */
    const char *log;                    /* its log file on the machine */
    int64_t pid;                        /* as the machine counts */
    uint16_t port;                      /* on the machine's 127.0.0.1; 0: no server */
    bool foreign;                       /* another llmhostd started it: it is used, and not stopped */
    /* As of the last look at a server that did not answer: what it and all it started have computed, -1 unknown; whether it was stopped. */
    int64_t computed_ms;
    bool stopped;
    int64_t size_bytes, size_vram_bytes, context;   /* as the engine plans or says */
    int64_t load_bytes, free_bytes;     /* as of prepare: what a load will take at least, 0: it is loaded; the memory that is free */
    struct gpu_facts gpu;               /* the machine's cards, as of the last load */
    enum gpu_verdict measured;          /* by their memory: where the model is */
    /* The engine's own description of the model as of its last load: {"show": /api/show, "tag": its entry of /api/tags,
     * "version": "0.32.15"}; for llama.cpp {"model": its entry of /v1/models, "version"}. Owned by the engine. */
    const struct json *shown;
};

/* What a server does while it says nothing. */
struct engine_life {
    int64_t pid;                        /* -1: it is no more */
    int64_t computed_ms, moved_bytes;   /* it and all it started: CPU time; bytes read, with the memory they have; -1 unknown */
    bool stopped;                       /* by SIGSTOP */
};
typedef void (*engine_life_fn)(void *ctx, const struct engine_life *life, const struct fault *f);

/* What a model is made of, as its registry says. */
#define ENGINE_FILES_MAX 64
struct engine_manifest {
    int64_t bytes;
    unsigned n;
    char names[ENGINE_FILES_MAX][300];  /* of its files, within the directory */
};
/* How large they are, and where its first one is, which has the model's head (gguf.h). */
struct engine_weights {
    int64_t bytes, download_bytes;      /* of what is loaded; of all that is fetched */
    char *url;                          /* caller frees; NULL: not known */
};
struct engine_hub {
    const char *accept;                 /* which answer is wanted */
    const char *directory;              /* where its files come; @BASE@ is ours */
    char *(*url)(const struct engine *e);       /* caller frees; NULL: it comes from nowhere */
    /* Pure; < 0: it is no such answer. */
    int (*read)(const char *model, const char *text, size_t n, struct engine_manifest *ret);
    /* The same answer, for shape.h. e: of it nothing but model and model_mirror is known. < 0 as above; -ENOENT: there is no such model. */
    int (*weigh)(const struct engine *e, const char *text, size_t n, struct engine_weights *ret);
};

struct engine_ops {
    const char *name;                   /* as before the first colon of a model */
    unsigned dialects;
    bool shared;                        /* one server serves all models of a machine: load takes the memory, else start does */
    bool installs;                      /* the catalog has archives of it */
    const struct engine_hub *hub;       /* where its models come from; NULL: nobody can ask there */
    /* Judges the part behind the first colon, no I/O. -EINVAL: *ret_why is static text. */
    int (*check)(const char *model, const char **ret_why);
    /* One of the arguments people give the model's server: may they? -EINVAL: *ret_why says why not, behind the argument; static.
     * NULL: a model has no server of its own. */
    int (*check_argument)(const char *argument, const char **ret_why);
    const char *no_arguments;           /* then: what there is instead */
    struct engine *(*new)(void);
    void (*free)(struct engine *e);
    /* In this order on the way up. Each is harmless when done already. */
    /* The program, the disk, a server of ours that runs; a program that is not there is installed, if the driver can. */
    void (*find)(struct engine *e, struct engine_reply to);
    void (*start)(struct engine *e, struct engine_reply to);        /* the server, detached; again until it answers */
    /* Just before the step that takes its memory: facts.load_bytes and free_bytes as they are now; a server with other arguments ends. */
    void (*prepare)(struct engine *e, struct engine_reply to);
    void (*fetch)(struct engine *e, struct engine_reply to);        /* the model onto the machine's disk */
    void (*load)(struct engine *e, struct engine_reply to);         /* into memory: done means requests are answered */
    /* Once it runs: is it alive? f: no (code says which; no_answer: it runs, and does not answer); again: it is, but the engine has unloaded
     * the model. Refreshes the facts. */
    void (*probe)(struct engine *e, struct engine_reply to);
    /* Beside a step that takes long, and without disturbing it. An op of its own; once at a time. f: the machine did not say. */
    void (*look)(struct engine *e, struct op **slot, engine_life_fn done, void *ctx);
    void (*unload)(struct engine *e, struct engine_reply to);
    void (*stop)(struct engine *e, struct engine_reply to);         /* the server and all it started; done: it is gone */
    /* A line of its log that tells of a probe of ours: nobody wants to read it. NULL: there are none. */
    bool (*is_probe_line)(const char *line);
};

/* Embedded by each driver's own struct. */
struct engine {
    const struct engine_ops *ops;
    struct host *host;                  /* borrowed */
    struct http *http;                  /* borrowed */
    struct loop *loop;
    struct resolver *resolver;          /* borrowed; NULL: no registry is asked by us (shape.h) */
    char *model;                        /* behind the first colon */
    char *path;                         /* [engine.NAME] path=, NULL: look in the usual places */
    char *arguments;                    /* for its server, quoted for sh; "": none */
    char *model_mirror;                 /* [engine.NAME] model_mirror=, NULL: none */
    uint64_t stall_ms;                  /* [engine.NAME] stall=: a download that has not grown for so long is asked for anew */
    char *socket_directory;             /* where Unix sockets for our own calls may be made */
    bool unverified;                    /* the user wants it also without a hash, for this way up */
    struct install *install;            /* ops->installs: puts the program there (install.h); else NULL */
    char *instance;                     /* for names and messages */
    const char *owner;                  /* who we are to other llmhostds (store_daemon_id()); borrowed, NULL: nobody in particular */
    uint64_t patience_ms;               /* how long the next probe waits for an answer */
    int64_t hung_pid;                   /* this server answers nobody: a start ends it, and starts another; 0: none such */
    bool suspect;                       /* its connections ended: the next probe asks whether it is still the same process */
    struct engine_facts facts;
};

/* By the engine part of a model's name; NULL: none such. */
const struct engine_ops *engine_find_ops(const char *name);
/* Names of all drivers, NULL beyond the last. */
const char *engine_name_at(unsigned i);

/* Borrows loop, host and http; copies the rest. */
struct engine *engine_new(const struct engine_ops *ops, struct loop *l, struct host *h, struct http *http, const char *instance,
                          const char *model, const struct settings *settings, const char *socket_directory,
                          const char *state_directory);
/* arguments: an array of strings, NULL: none. Judges without I/O. Negative with *f: bad_arguments. */
int engine_check_arguments(const struct engine_ops *ops, const struct json *arguments, struct fault *f);
/* From the next find on. */
void engine_set_arguments(struct engine *e, const struct json *arguments);
/* The server goes on running: that is what stop is for. */
struct engine *engine_free(struct engine *e);
