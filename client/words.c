/* Two tables say all there is. */
#include "client/words.h"

#include <string.h>

#include "proto/mem.h"

static const struct verb verbs[] = {
    {"status", "[TARGET...]", 0, 1000, "watch check", "daemon, models, instances, trouble; from memory only",
     verb_status},
    {"ps", "[TARGET...]", 0, 1000, "all filter", "the models in memory: size, processor, context, requests",
     verb_ps},
    {"why", "[TARGET...]", 0, 1000, "", "what keeps it awake, or asleep, down, off", verb_why},
    {"up", "MODEL [-- ENGINE-ARGUMENT...]", 1, 1,
     "on or unverified no-wait timeout gpu provider max-price disk image region until over-budget no-guard "
     "anyway --",
     "wanted from now on: wake it, and wait until it answers", verb_up},
    {"down", "TARGET...", 1, 1000, "on now forget at timeout", "drain, unload, stop; stays off until up",
     verb_down},
    {"sleep", "TARGET...", 1, 1000, "on now timeout", "drain and unload; any request wakes it again",
     verb_sleep},
    {"keep", "TARGET TIME | --off TARGET", 1, 2, "on off no-card",
     "no sleep, no stop for so long (90m, 2h); --off: that is over", verb_keep},
    {"wait", "TARGET", 1, 1, "for timeout", "a gate for scripts: returns when the target is there",
     verb_wait},
    {"logs", "[TARGET]", 0, 1, "follow lines since source events",
     "lines of all sources on one clock; what happened", verb_logs},
    {"cost", "[INSTANCE...]", 0, 1000, "refresh since",
     "money: now, today, this month, limits, balance, when stopped", verb_cost},
    {"doctor", "[TARGET]", 0, 1, "accept-new-host-key drill",
     "checks, and the commands that help; changes nothing", verb_doctor},
    {"offers", "", 0, 0, "gpu for provider", "what can be rented, what it costs, what a model fits on",
     verb_offers},
    {"release", "INSTANCE", 1, 1, "at confirm timeout", "gives a rented machine back, with its data",
     verb_release},
    {"image save", "INSTANCE NAME", 2, 2, "no-wait timeout", "saves the disk of a rented machine that is off",
     verb_image_save},
    {"image list", "", 0, 0, "provider", "all saved disks, from which machines can be rented",
     verb_image_list},
    {"provider add", "NAME", 1, 1,
     "console token-file base-url budget-day budget-month max-price balance-floor",
     "an account at a company that rents machines out", verb_provider_add},
    {"provider set", "NAME", 1, 1,
     "token token-file base-url budget-day budget-month max-price balance-floor",
     "another token, other limits", verb_provider_set},
    {"provider list", "", 0, 0, "", "all accounts: balance, what is spent, limits", verb_provider_list},
    {"provider remove", "NAME", 1, 1, "", "forgets an account that has no machines", verb_provider_remove},
    {"instance add", "NAME ['ssh ...']", 1, 100,
     "provider id host port user jump proxy-command password-file key-file passphrase-file agent "
     "install-key stop",
     "a machine: the pasted ssh command, this host, or one at a company", verb_instance_add},
    {"instance set", "NAME ['ssh ...']", 1, 100,
     "host port user jump proxy-command password-file key-file passphrase-file agent install-key stop "
     "accept-new-host-key",
     "another address, port, password or stop of a machine", verb_instance_set},
    {"instance list", "", 0, 0, "at", "all machines; --at: all that the account there has",
     verb_instance_list},
    {"instance show", "NAME", 1, 1, "", "one machine and its settings", verb_instance_show},
    {"instance secret", "NAME [password|key|passphrase]", 1, 2, "", "shows a secret, on a terminal only",
     verb_instance_secret},
    {"instance take", "NAME", 1, 1, "", "its guard is ours from now on, whoever's it was",
     verb_instance_take},
    {"instance remove", "NAME", 1, 1, "", "forgets a machine; it is not switched off", verb_instance_remove},
    {"forward add", "INSTANCE [IP:]PORT[:HOST:PORT]", 2, 2, "",
     "a local port that leads to one on the instance", verb_forward_add},
    {"forward list", "[INSTANCE]", 0, 1, "", "all forwards", verb_forward_list},
    {"forward remove", "INSTANCE [IP:]PORT", 2, 2, "", "closes a local port", verb_forward_remove},
    {"alias set", "NAME MODEL", 2, 2, "", "a short name for a model, here and for applications",
     verb_alias_set},
    {"alias list", "", 0, 0, "", "all short names", verb_alias_list},
    {"alias remove", "NAME", 1, 1, "", "takes a short name away; the model stays", verb_alias_remove},
    {"key add", "NAME", 1, 1, "", "an API key for applications, shown once", verb_key_add},
    {"key list", "", 0, 0, "", "the names of all keys", verb_key_list},
    {"key remove", "NAME", 1, 1, "", "what it opened is refused from now on", verb_key_remove},
    {"listen", "IP:PORT", 1, 1, "new-key", "where applications connect, from now on", verb_listen},
    {"completion", "bash|zsh|fish", 1, 1, "", "a script for your shell, so that Tab completes",
     verb_completion},
    {"version", "", 0, 0, "", "versions of llmhostctl and llmhostd", verb_version},
};

static const struct option options[] = {
#define AT(member)          offsetof(struct options, member), NULL
#define AT_OF(verb, member) offsetof(struct options, member), verb
    {"socket", 's', TEXT, true, AT(socket), "SOCKET", "the daemon's control socket"},
    {"json", 0, FLAG, true, AT(json), NULL, "JSON on stdout"},
    {"quiet", 'q', FLAG, true, AT(quiet), NULL, "only errors on stderr; status, ps: names"},
    {"help", 'h', FLAG, true, AT(help), NULL, "this text"},
    {"version", 0, FLAG, true, AT(version), NULL, "the version of llmhostctl"},
    {"watch", 'w', FLAG, false, AT(watch), NULL, "go on, with each change"},
    {"check", 0, FLAG, false, AT(check), NULL, "trouble becomes the exit status"},
    {"all", 'a', FLAG, false, AT(all), NULL, "also those that are not in memory"},
    {"filter", 0, TEXT, false, AT(filter), "state=STATE",
     "those asleep, off, waking, ready, draining or failed"},
    {"on", 0, TEXT, false, AT(on), "INSTANCE[,...]", "where, when there are several"},
    {"or", 0, TEXT, false, AT(or_on), "INSTANCE[,...]", "or there, where --on or --gpu has no card"},
    {"unverified", 0, FLAG, false, AT(unverified), NULL, "also an engine that nobody can verify"},
    {"no-wait", 0, FLAG, false, AT(no_wait), NULL, "return once the daemon has accepted"},
    {"timeout", 0, DURATION, false, AT(timeout_ms), "TIME", "wait so long (90s, 5m); the work goes on"},
    {"now", 0, FLAG, false, AT(now), NULL, "cut open requests"},
    {"off", 0, FLAG, false, AT(off), NULL, "the keep is over"},
    {"refresh", 0, FLAG, false, AT(refresh), NULL, "ask the companies for the balance first"},
    {"no-card", 0, FLAG, false, AT(no_card), NULL, "a machine that is off: on without its card"},
    {"forget", 0, FLAG, false, AT(forget), NULL, "and take it out of the list"},
    {"for", 0, TEXT, false, AT_OF("wait", until), "ready|idle|stopped|tunnel|confirmed", "default: ready"},
    {"for", 0, TEXT, false, AT_OF("offers", for_model), "MODEL", "which cards hold it, cheapest first"},
    {"follow", 'f', FLAG, false, AT(follow), NULL, "go on with what is written from now on"},
    {"lines", 'n', LINES, false, AT(lines), "N", "1 to 10000 of them (default 200)"},
    {"since", 0, SINCE, false, AT(since_at_ms), "TIME", "10m (ago), 12:20, today, 2026-11-20"},
    {"source", 0, TEXT, false, AT(sources), "LIST", "daemon, session, engine, request, provider"},
    {"events", 0, FLAG, false, AT(events), NULL, "what happened and why, instead of lines"},
    {"accept-new-host-key", 0, TEXT, false, AT(accept_new_host_key), "SHA256:...",
     "accept exactly this host key"},
    {"provider", 0, TEXT, false, AT_OF("instance add", provider), "PROVIDER",
     "ssh (default), local: this host, or a company"},
    {"id", 0, TEXT, false, AT(id), "ID", "of a machine there is at that company"},
    {"at", 0, TEXT, false, AT_OF("instance list", at), "PROVIDER", "asks that company for its machines"},
    {"at", 0, TEXT, false, AT_OF("down", at), "PROVIDER", "a machine there by its id, which no instance here is"},
    {"at", 0, TEXT, false, AT_OF("release", at), "PROVIDER", "a machine there by its id, which no instance here is"},
    {"provider", 0, TEXT, false, AT_OF("offers", provider), "PROVIDER", "at this company alone"},
    {"provider", 0, TEXT, false, AT_OF("image list", provider), "PROVIDER", "of this company alone"},
    {"provider", 0, TEXT, false, AT_OF("up", provider), "PROVIDER", "where to rent"},
    {"gpu", 0, TEXT, false, AT_OF("up", gpu), "CARD[,...]",
     "rent a machine with it, or with the next: 4090D,5090"},
    {"gpu", 0, TEXT, false, AT_OF("offers", gpu), "CARD", "this card alone"},
    {"max-price", 0, MONEY, false, AT(price_milli), "MONEY", "of an hour: nothing dearer is switched on (2.20)"},
    {"disk", 0, GIGABYTES, false, AT(disk_gb), "SIZE", "a disk of this size beside the system's (100G)"},
    {"image", 0, TEXT, false, AT(image), "IMAGE", "what is on the machine: a public one, or one of yours"},
    {"region", 0, TEXT, false, AT(region), "REGION[,...]", "where it stands, or the next; else anywhere"},
    {"until", 0, UNTIL, false, AT(search_until_at_ms), "TIME", "look for a card so long: 2h, 18:00"},
    {"over-budget", 0, FLAG, false, AT(over_budget), NULL, "this once beyond the limits of money"},
    {"no-guard", 0, FLAG, false, AT(no_guard), NULL, "this once without a guard: it may bill for ever"},
    {"anyway", 0, FLAG, false, AT(anyway), NULL, "also on a card that will not hold it"},
    {"console", 0, FLAG, false, AT(console), NULL,
     "by what its web console calls: unofficial, with that page's token"},
    {"token-file", 0, TEXT, false, AT(token_file), "FILE", "its first line is the token; -: stdin"},
    {"token", 0, FLAG, false, AT(token), NULL, "ask for a new token"},
    {"base-url", 0, TEXT, false, AT(base_url), "URL", "where its API is, instead of its own"},
    {"budget-day", 0, MONEY, false, AT(day_milli), "MONEY", "so much a day (50); 0: no limit"},
    {"budget-month", 0, MONEY, false, AT(month_milli), "MONEY", "so much a month; 0: no limit"},
    {"balance-floor", 0, MONEY, false, AT(floor_milli), "MONEY", "all is stopped when less is left (1)"},
    {"confirm", 0, TEXT, false, AT(confirm), "NAME", "the machine's name, instead of typing it"},
    {"drill", 0, FLAG, false, AT(drill), NULL, "let its guard stop it now, and see that it goes off"},
    {"host", 0, TEXT, false, AT(host), "HOST", "instead of the ssh command, or over it"},
    {"port", 0, PORT, false, AT(port), "PORT", "likewise"},
    {"user", 0, TEXT, false, AT(user), "USER", "likewise"},
    {"jump", 'J', TEXT, false, AT(jump), "HOST[,...]", "the hosts to jump over, as ssh -J; none: no more"},
    {"proxy-command", 0, TEXT, false, AT(proxy_command), "COMMAND",
     "instead of a TCP connection, as ssh; or none"},
    {"password-file", 0, TEXT, false, AT(password_file), "FILE", "its first line is the password; -: stdin"},
    {"key-file", 'i', TEXT, false, AT(key_file), "FILE", "a private key, as ssh -i"},
    {"passphrase-file", 0, TEXT, false, AT(passphrase_file), "FILE", "what unlocks that key; -: stdin"},
    {"agent", 0, MAYBE, false, AT(agent), "SOCKET", "with the keys of your ssh-agent ($SSH_AUTH_SOCK)"},
    {"new-key", 0, MAYBE, false, AT(new_key), "NAME", "make an API key for it, shown once (default: listen)"},
    {"stop", 0, TEXT, false, AT(stop), "shutdown|never", "it bills: off from inside when nobody uses it"},
    {"install-key", 0, TEXT, false, AT(install_key), "yes|no",
     "put the daemon's own key there (default yes)"},
#undef AT
#undef AT_OF
};

_Static_assert(ELEMENTS(verbs) <= VERBS_MAX && ELEMENTS(options) <= OPTIONS_MAX, "");

const struct verb *verb_at(size_t i)
{
    return i < ELEMENTS(verbs) ? &verbs[i] : NULL;
}

const struct option *option_at(size_t i)
{
    return i < ELEMENTS(options) ? &options[i] : NULL;
}

bool list_has(const char *list, const char *word)
{
    size_t n = strlen(word);

    while (*list) {
        size_t len = strcspn(list, " ");

        if (len == n && strncmp(list, word, n) == 0)
            return true;
        list += len + (list[len] == ' ');
    }
    return false;
}

bool option_fits(const struct option *o, const struct verb *v)
{
    return o->global || (v && list_has(v->options, o->name) && (!o->only || streq(o->only, v->name)));
}

const struct option *option_find(const struct verb *v, const char *name, size_t n, char letter)
{
    for (size_t i = 0; i < ELEMENTS(options); i++) {
        const struct option *o = &options[i];

        if (!option_fits(o, v))
            continue;
        if (name ? strlen(o->name) == n && strncmp(o->name, name, n) == 0 : o->letter == letter)
            return o;
    }
    return NULL;
}

const struct verb *verb_find(const char *name)
{
    for (size_t i = 0; i < ELEMENTS(verbs); i++)
        if (streq(verbs[i].name, name))
            return &verbs[i];
    return NULL;
}

bool verb_is_of_noun(const struct verb *v, const char *noun)
{
    size_t n = strlen(noun);

    return strncmp(v->name, noun, n) == 0 && v->name[n] == ' ';
}

bool is_noun(const char *word)
{
    for (size_t i = 0; i < ELEMENTS(verbs); i++)
        if (verb_is_of_noun(&verbs[i], word))
            return true;
    return false;
}
