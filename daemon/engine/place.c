/* Every step sends the whole script with its arguments in front, so nothing of ours has to lie on the
 * machine. */
#include "engine/place.h"

#include "engine/script.h"
#include "proto/address.h"
#include "proto/mem.h"

extern const char engine_place_sh[];

/* The slowest step is a stop that needs every escalation. */
#define PLACE_MS (40 * 1000)
/* Linux counts CPU time in hundredths of a second wherever people see it (USER_HZ, sysconf(_SC_CLK_TCK)). */
#define TICK_MS 10

struct place {
    struct host *host;
    char *owner;
    struct place_facts facts;
    place_done_fn done; /* of the step in flight */
    void *ctx;
};

static void facts_clear(struct place_facts *f)
{
    free(f->base);
    free(f->program);
    free(f->version);
    free(f->log);
    free(f->models);
    free(f->last_line);
    free(f->last_words);
    free(f->owner);
    free(f->foreign);
    *f = (struct place_facts){};
}

/* What only find tells stays; what every answer tells is as new as the answer. */
static void place_on_answer(void *ctx)
{
    struct place_facts *f = &((struct place *)ctx)->facts;

    f->pid = f->ended = f->kills = f->limit_bytes = f->computed_ms = f->moved_bytes = f->layers =
        f->layers_on_gpu = -1;
    f->port = 0;
    f->restarted = f->stopped = f->other = false;
    free(f->last_line);
    free(f->last_words);
    free(f->owner);
    free(f->foreign);
    f->last_line = f->last_words = f->owner = f->foreign = NULL;
}

struct place *place_new(struct host *h, const char *owner)
{
    struct place *p = xnew(struct place);

    p->host = h;
    p->owner = xstrdup(owner ? owner : "");
    place_on_answer(p);
    return p;
}

struct place *place_free(struct place *p)
{
    if (!p)
        return NULL;
    facts_clear(&p->facts);
    free(p->owner);
    free(p);
    return NULL;
}

const struct place_facts *place_facts(const struct place *p)
{
    return &p->facts;
}

/* "20/37 layers" */
static void take_layers(struct place_facts *f, const char *value)
{
    int on_gpu, all;

    if (sscanf(value, "%6d/%6d", &on_gpu, &all) != 2 || all <= 0 || on_gpu < 0 || on_gpu > all)
        return;
    f->layers = all;
    f->layers_on_gpu = on_gpu;
}

static bool place_take(void *ctx, const char *key, const char *value)
{
    struct place_facts *f = &((struct place *)ctx)->facts;
    const struct {
        const char *key;
        char **to;
    } texts[] = {
        {"base", &f->base},
        {"program", &f->program},
        {"version", &f->version},
        {"log", &f->log},
        {"models", &f->models},
        {"last_line", &f->last_line},
        {"last_words", &f->last_words},
        {"owner", &f->owner},
        {"foreign", &f->foreign},
    };
    const struct {
        const char *key;
        int64_t *to;
    } numbers[] = {{"pid", &f->pid},
                   {"ended", &f->ended},
                   {"kills", &f->kills},
                   {"limit", &f->limit_bytes},
                   {"moved", &f->moved_bytes}};

    for (size_t i = 0; i < ELEMENTS(texts); i++)
        if (streq(key, texts[i].key)) {
            script_take_text(texts[i].to, value);
            return true;
        }
    for (size_t i = 0; i < ELEMENTS(numbers); i++)
        if (streq(key, numbers[i].key)) {
            *numbers[i].to = strtoll(value, NULL, 10);
            return true;
        }
    if (streq(key, "chip"))
        f->is_ascend = streq(value, "ascend");
    else if (streq(key, "unverified"))
        f->unverified = true;
    else if (streq(key, "other"))
        f->other = true;
    else if (streq(key, "port"))
        port_parse(value, &f->port); /* 0 already: none */
    else if (streq(key, "layers"))
        take_layers(f, value);
    else if (streq(key, "ticks"))
        f->computed_ms = strtoll(value, NULL, 10) * TICK_MS;
    else if (streq(key, "state"))
        f->stopped = *value == 'T' || *value == 't';
    else if (streq(key, "restarted"))
        f->restarted = true;
    else
        return streq(key, "gone");
    return true;
}

static void place_on_done(void *ctx, const struct fault *f)
{
    struct place *p = ctx;

    p->done(p->ctx, f);
}

static void place_step(struct place *p, const char *const *words, struct op **slot, place_done_fn done,
                       void *ctx)
{
    const struct script_call call = {.text = engine_place_sh,
                                     .words = words,
                                     .timeout_ms = PLACE_MS,
                                     .begin = place_on_answer,
                                     .take = place_take};

    p->done = done;
    p->ctx = ctx;
    script_run(p->host, &call, slot, place_on_done, p);
}

void place_find(struct place *p, const char *server, const char *program, const char *usual, const char *path,
                const char *arguments, struct op **slot, place_done_fn done, void *ctx)
{
    const char *const words[] = {"find", server, p->owner, program, path ? path : "", usual, arguments, NULL};

    facts_clear(&p->facts);
    place_step(p, words, slot, done, ctx);
}

void place_start(struct place *p, const char *server, const char *environment, const char *command,
                 const char *arguments, int64_t hung_pid, struct op **slot, place_done_fn done, void *ctx)
{
    char hung[24];
    const char *const words[] = {"start", server, p->owner, environment, command, arguments, hung, NULL};

    snprintf(hung, sizeof hung, "%lld", (long long)hung_pid);
    place_step(p, words, slot, done, ctx);
}

void place_look(struct place *p, const char *server, struct op **slot, place_done_fn done, void *ctx)
{
    const char *const words[] = {"look", server, p->owner, NULL};

    place_step(p, words, slot, done, ctx);
}

void place_stop(struct place *p, const char *server, struct op **slot, place_done_fn done, void *ctx)
{
    const char *const words[] = {"stop", server, p->owner, NULL};

    place_step(p, words, slot, done, ctx);
}
