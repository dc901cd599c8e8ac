/* Read as a hint: what cannot be understood is left out. */
#include "client/guards.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/output.h"
#include "proto/mem.h"

#define GUARDS_MAX 1000 /* lines; a file of more is not the daemon's */

static FILE *open_below(const char *directory, const char *below)
{
    _cleanup_free_ char *path =
        directory && directory[0] == '/' ? xasprintf("%s%s/guards", directory, below) : NULL;

    return path ? fopen(path, "re") : NULL;
}

/* As the daemon looks for its state directory: the one it is given, the user's, the system's. */
static FILE *guards_open(void)
{
    FILE *f = open_below(getenv("STATE_DIRECTORY"), "");

    if (!f)
        f = open_below(getenv("XDG_STATE_HOME"), "/llmhost");
    if (!f)
        f = open_below(getenv("HOME"), "/.local/state/llmhost");
    return f ? f : open_below("/var/lib/llmhost", "");
}

/* NULL: half a line, or one of a machine that has stopped since. */
static struct json *guard_parse(const char *line)
{
    struct json *guard, *rate;
    char name[64], state[32], unit[16];
    long long at_ms, milli;

    if (sscanf(line, "%63s %31s %lld %lld %15s", name, state, &at_ms, &milli, unit) != 5 || !name_is_instance(name) ||
        (at_ms && at_ms <= now_at_ms()))
        return NULL;
    guard = json_object();
    rate = json_object();
    json_put_string(guard, "instance", name);
    json_put_string(guard, "state", state);
    if (at_ms)
        json_put_int(guard, "acts_at_ms", at_ms);
    json_put_int(rate, "milli", milli);
    json_put_string(rate, "unit", unit);
    json_put_bool(rate, "unknown", milli <= 0);
    json_put(guard, "rate", rate);
    return guard;
}

void guards_note(struct json *error)
{
    struct json *guards = json_array(), *guard;
    FILE *f = guards_open();
    char line[256];

    for (unsigned i = 0; f && i < GUARDS_MAX && fgets(line, sizeof(line), f); i++)
        if ((guard = guard_parse(line)))
            json_append(guards, guard);
    if (f)
        fclose(f);
    if (json_count(guards))
        json_put(error, "guards", guards);
    else
        json_free(guards);
}
