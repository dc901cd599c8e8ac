/* Hooks: programs of the user's own, run for events ([hook.NAME] of llmhostd.conf). What happened is in their environment:
 *   LLMHOST_EVENT   the kind, as stop_not_confirmed       LLMHOST_TARGET  model, instance or account; "" for the daemon
 *   LLMHOST_LEVEL   err, warning, notice, info, debug     LLMHOST_TEXT    the sentence
 *   LLMHOST_AT_MS   since 1970                            LLMHOST_CONFIG_DIRECTORY  where llmhostd.conf is
 * Never on their arguments, which everybody can read. The event of a hook's own end runs none. */
#pragma once

struct loop;
struct settings;
struct hooks;

/* Listens from now on. Borrows loop and settings. config_directory is copied. */
struct hooks *hooks_new(struct loop *loop, const struct settings *settings, const char *config_directory);
/* Those that run are ended. */
struct hooks *hooks_free(struct hooks *h);
