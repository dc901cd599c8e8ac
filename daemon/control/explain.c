/* One table. What is not in it is explained by the kind of its fault. */
#include "control/explain.h"

#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "engine/engine.h"
#include "manager.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"

struct explanation {
    const char *code;
    enum exit_status status;
    const char *next; /* lines; every %s is the target */
};

#define LOOK "llmhostctl logs %s"

static const struct explanation table[] = {
    {"host_key", EXIT_TUNNEL, "llmhostctl doctor %s"},
    {"login_refused", EXIT_CREDENTIALS, "llmhostctl instance set %s --password-file F"},
    {"jump_refused", EXIT_CREDENTIALS,
     "llmhostctl instance show %s\nllmhostctl instance set %s --jump=USER@HOST"},
    {"jump_host_key", EXIT_TUNNEL, "llmhostctl instance show %s"},
    {"passphrase_needed", EXIT_CREDENTIALS, "llmhostctl instance add %s 'ssh …' --passphrase-file FILE"},
    {"bad_key", EXIT_CREDENTIALS, ""},
    {"unreachable", EXIT_TUNNEL, "llmhostctl doctor %s"},
    {"ping", EXIT_TUNNEL, LOOK},
    {"lost", EXIT_TUNNEL, LOOK},
    {"protocol", EXIT_TUNNEL, "llmhostctl doctor %s"},
    {"forbidden", EXIT_TUNNEL, "llmhostctl doctor %s"},
    {"forwarding_forbidden", EXIT_TUNNEL, "llmhostctl up %s"},
    {"no_shell", EXIT_TUNNEL, "llmhostctl doctor %s"},
    {"timeout", EXIT_TUNNEL, "llmhostctl doctor %s"},
    {"bad_model", EXIT_USAGE, "llmhostctl up ollama:deepseek-r1:7b"},
    {"unknown_engine", EXIT_USAGE, "llmhostctl up ollama:deepseek-r1:7b"},
    {"bad_arguments", EXIT_USAGE, "llmhostctl up llama.cpp:NAME -- -c 16384"},
    {"bad_argument", EXIT_ENGINE, LOOK "\nllmhostctl up %s -- OTHER ARGUMENTS\nllmhostctl up %s --"},
    {"bad_name", EXIT_USAGE, "llmhostctl instance add gpu1 'ssh …'"},
    {"bad_command", EXIT_USAGE, "llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'"},
    {"unknown_provider", EXIT_USAGE, "llmhostctl provider list"},
    {"bad_url", EXIT_USAGE, "llmhostctl provider list"},
    {"no_instance", EXIT_USAGE, "llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'"},
    {"which_instance", EXIT_USAGE, "llmhostctl instance list\nllmhostctl up %s --on INSTANCE"},
    {"no_such_instance", EXIT_NOT_FOUND, "llmhostctl instance list"},
    {"exists", EXIT_CONFLICT, "llmhostctl instance show %s"},
    {"bad_stop", EXIT_USAGE, "llmhostctl instance show %s"},
    {"stop_ends_no_bill", EXIT_USAGE, "llmhostctl instance set %s --stop=never"},
    {"switched_off", EXIT_NOT_RUNNING,
     "llmhostctl instance show %s\nllmhostctl instance set %s 'ssh -p PORT USER@HOST'"},
    {"no_address", EXIT_USAGE, "llmhostctl instance add NAME 'ssh -p PORT USER@HOST'"},
    {"in_trial", EXIT_CONFLICT, "llmhostctl instance show %s"},
    {"not_found", EXIT_NOT_FOUND, "llmhostctl instance list"},
    {"in_use", EXIT_CONFLICT, "llmhostctl down %s"},
    {"bad_alias", EXIT_USAGE, "llmhostctl alias set r1 ollama:deepseek-r1:7b"},
    {"name_is_taken", EXIT_CONFLICT, "llmhostctl status"},
    {"name_is_alias", EXIT_CONFLICT, "llmhostctl alias list\nllmhostctl alias remove ALIAS"},
    {"alias_of_alias", EXIT_USAGE, "llmhostctl alias list"},
    {"no_such_model", EXIT_NOT_FOUND, "llmhostctl status\nllmhostctl up ollama:deepseek-r1:7b"},
    {"too_many_aliases", EXIT_CONFLICT, "llmhostctl alias list"},
    {"being_removed", EXIT_CONFLICT, "llmhostctl instance list"},
    {"port_taken", EXIT_CONFLICT, ""},
    {"bad_listen", EXIT_USAGE, "ip address\nllmhostd --check-config"},
    {"port_passed", EXIT_CONFLICT, "systemctl --user edit llmhostd-gateway.socket"},
    {"no_api_key", EXIT_USAGE, "llmhostctl key add NAME"},
    {"bad_forward", EXIT_USAGE, "llmhostctl forward add gpu1 6006:127.0.0.1:6006"},
    {"forward_exists", EXIT_CONFLICT, "llmhostctl forward list"},
    {"stopped_by_user", EXIT_NOT_RUNNING, "llmhostctl up %s"},
    {"passed_over", EXIT_NOT_RUNNING, "llmhostctl up %s"},
    {"in_foreign_use", EXIT_CONFLICT, "llmhostctl up %s\nllmhostctl down %s --forget"},
    {"engine_missing", EXIT_ENGINE, LOOK "\nllmhostctl up %s\nllmhostctl down %s --forget"},
    {"engine_unverified", EXIT_ENGINE, "llmhostctl up %s --unverified\nllmhostctl down %s --forget"},
    {"engine_unfit", EXIT_ENGINE, "llmhostctl instance list"},
    {"engine_damaged", EXIT_ENGINE, "llmhostctl up %s"},
    {"model_unknown", EXIT_ENGINE, LOOK "\nllmhostctl down %s --forget"},
    {"tag_unknown", EXIT_ENGINE, LOOK "\nllmhostctl down %s --forget"},
    {"login_needed", EXIT_CREDENTIALS, LOOK "\nllmhostctl down %s --forget"},
    {"registry_busy", EXIT_ENGINE, "llmhostctl up %s"},
    {"registry_failed", EXIT_ENGINE, LOOK "\nllmhostctl up %s"},
    {"registry_unreachable", EXIT_ENGINE, LOOK "\nllmhostctl up %s\nllmhostctl down %s --forget"},
    {"disk_full", EXIT_ENGINE, "llmhostctl up %s"},
    {"digest_mismatch", EXIT_ENGINE, "llmhostctl up %s"},
    {"out_of_memory", EXIT_ENGINE, LOOK},
    {"machine_out_of_memory", EXIT_ENGINE, LOOK},
    {"driver_unfit", EXIT_ENGINE, LOOK "\nllmhostctl instance list"},
    {"gpu_unfit", EXIT_ENGINE, LOOK "\nllmhostctl instance list"},
    {"cpu_unfit", EXIT_ENGINE, LOOK "\nllmhostctl instance list"},
    {"library_missing", EXIT_ENGINE, LOOK},
    {"machine_restarted", EXIT_ENGINE, "llmhostctl up %s"},
    {"engine_ended_elsewhere", EXIT_ENGINE, "llmhostctl up %s"},
    {"engine_crashed", EXIT_ENGINE, LOOK "\nllmhostctl up %s"},
    {"engine_exited", EXIT_ENGINE, LOOK "\nllmhostctl up %s"},
    {"engine_failed", EXIT_ENGINE, LOOK},
    {"model_unreadable", EXIT_ENGINE, LOOK},
    {"gpu_unused", EXIT_ENGINE, "llmhostctl doctor %s"},
    {"engine_stuck", EXIT_ENGINE, "llmhostctl down %s\n" LOOK},
    {"no_answer", EXIT_ENGINE, LOOK},
    {"refused", EXIT_ENGINE, LOOK},
    {"busy", EXIT_ENGINE, "llmhostctl up %s"},
    {"stalled", EXIT_ENGINE, "llmhostctl up %s"},
    {"timed_out", EXIT_ENGINE, LOOK "\nllmhostctl up %s"},
    /* Accounts and rented machines: account.c, manager_rent.c, life.c, keeper.c, autodl.ini. */
    {"no_provider", EXIT_NOT_FOUND, "llmhostctl provider list\nllmhostctl provider add autodl"},
    {"which_provider", EXIT_USAGE, "llmhostctl provider list\nllmhostctl up %s --gpu=GPU --provider=NAME"},
    {"no_such_card", EXIT_USAGE, "llmhostctl offers"},
    {"no_such_image", EXIT_USAGE, "llmhostctl image list"},
    {"image_not_ready", EXIT_CONFLICT, "llmhostctl image list"},
    {"no_images", EXIT_USAGE, "llmhostctl provider list"},
    {"no_such_region", EXIT_USAGE, "llmhostctl offers"},
    {"price", EXIT_REFUSED, "llmhostctl offers\nllmhostctl up %s --max-price=AMOUNT"},
    {"no_capacity", EXIT_NO_CAPACITY, "llmhostctl offers\nllmhostctl down %s"},
    {"host_full", EXIT_NO_CAPACITY, "llmhostctl offers\nllmhostctl down %s"},
    {"budget", EXIT_REFUSED, "llmhostctl cost\nllmhostctl provider set %s --budget-day=AMOUNT"},
    {"budget_month", EXIT_REFUSED, "llmhostctl cost\nllmhostctl provider set %s --budget-month=AMOUNT"},
    {"budget_hour", EXIT_REFUSED, "llmhostctl offers\nllmhostctl provider set %s --max-price=AMOUNT"},
    {"clock_off", EXIT_FAILED, "timedatectl set-ntp true"},
    {"budget_near", EXIT_FAILED, "llmhostctl cost\nllmhostctl provider set %s --budget-day=AMOUNT"},
    {"low_balance", EXIT_REFUSED, "llmhostctl cost\nllmhostctl provider set %s --balance-floor=AMOUNT"},
    {"in_arrears", EXIT_REFUSED, "llmhostctl cost"},
    {"not_off", EXIT_CONFLICT, "llmhostctl down %s"},
    {"image_not_off", EXIT_CONFLICT, "llmhostctl down %s"},
    {"no_permission", EXIT_CREDENTIALS, "llmhostctl provider list"},
    {"bad_request", EXIT_FAILED, LOOK},
    {"bad_start_mode", EXIT_FAILED, LOOK},
    {"disk", EXIT_FAILED, "llmhostctl status"},
    {"boot_failed", EXIT_NO_CAPACITY, "llmhostctl why %s\nllmhostctl up %s"},
    {"machine_gone", EXIT_NOT_RUNNING, "llmhostctl up %s"},
    {"stopped_elsewhere", EXIT_NOT_RUNNING, "llmhostctl why %s"},
    {"started_late", EXIT_NOT_RUNNING, "llmhostctl why %s"},
    {"started_elsewhere", EXIT_FAILED, "llmhostctl down %s"},
    {"over_budget", EXIT_FAILED, "llmhostctl down %s"},
    {"search_is_on", EXIT_CONFLICT, "llmhostctl down %s"},
    {"no_such_machine", EXIT_NOT_FOUND, "llmhostctl instance list --at autodl"},
    {"is_instance", EXIT_CONFLICT, "llmhostctl instance list"},
    {"is_orphan", EXIT_CONFLICT, "llmhostctl status"},
    {"orphan", EXIT_NOT_CONFIRMED, "llmhostctl status"},
    {"not_listed", EXIT_FAILED, "llmhostctl instance list --at autodl"},
    {"has_orphan", EXIT_CONFLICT, "llmhostctl status"},
    {"not_ours", EXIT_CONFLICT, "llmhostctl instance list --at autodl"},
    {"made_by_hand", EXIT_USAGE, "llmhostctl provider list"},
    {"no_timer", EXIT_FAILED, "llmhostctl status %s"},
    {"by_hand", EXIT_USAGE, "llmhostctl instance remove %s"},
    {"vanished", EXIT_NOT_FOUND, "llmhostctl status %s\nllmhostctl release %s"},
    {"two_machines", EXIT_NOT_CONFIRMED, "llmhostctl down %s --now"},
    {"stop_not_confirmed", EXIT_NOT_CONFIRMED, "llmhostctl down %s --now"},
    {"released_soon", EXIT_FAILED, "llmhostctl instance show %s"},
    {"not_rented", EXIT_USAGE, "llmhostctl instance list"},
    {"is_rented", EXIT_CONFLICT, "llmhostctl down %s\nllmhostctl release %s"},
    {"machine_off", EXIT_NOT_RUNNING, "llmhostctl why %s\nllmhostctl up %s"},
    {"token_refused", EXIT_CREDENTIALS, "llmhostctl provider set %s --token-file=FILE"},
    {"not_verified", EXIT_CREDENTIALS, "llmhostctl provider list"},
    {"certificate", EXIT_CREDENTIALS, "llmhostctl provider list"},
    {"provider_unreachable", EXIT_FAILED, "llmhostctl logs --source=provider"},
    {"provider_error", EXIT_FAILED, LOOK},
    {"no_way", EXIT_TUNNEL, "llmhostctl why %s\nllmhostctl down %s"},
    /* Their guards: keeper.c. */
    {"no_guard", EXIT_REFUSED, "llmhostctl doctor %s"},
    {"guard_failed", EXIT_FAILED, "llmhostctl instance show %s\nllmhostctl doctor %s --drill"},
    {"other_owner", EXIT_CONFLICT, "llmhostctl instance show %s\nllmhostctl instance take %s"},
    {"guard_shared", EXIT_CONFLICT, "llmhostctl instance show %s"},
    {"guard_left", EXIT_FAILED, "llmhostctl instance show %s"},
    {"guard_acts", EXIT_NOT_RUNNING, "llmhostctl status\nllmhostctl up %s"},
    /* The daemon's own disk, nobody's engine or password; the target is its directory. */
    {"store", EXIT_FAILED, "df -h %s"},
    {"store_full", EXIT_FAILED, "df -h %s\ndf -i %s"},
    {"store_read_only", EXIT_FAILED, "ls -ld %s\nfindmnt -T %s"},
    {"clock", EXIT_FAILED, "timedatectl set-ntp true"},
    {"gone", EXIT_NOT_FOUND, "llmhostctl status"},
    {"shutting_down", EXIT_FAILED, "llmhostctl status"},
};

static const struct explanation *explain_find(const char *code)
{
    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (streq(table[i].code, code))
            return &table[i];
    return NULL;
}

const char *explain_code(const struct fault *f)
{
    return *f->code ? f->code : fault_kind_name(f->kind);
}

enum exit_status explain_status(const struct fault *f)
{
    const struct explanation *e = explain_find(f->code);

    if (e)
        return e->status;
    switch (f->kind) {
    case FAULT_DENIED: return EXIT_CREDENTIALS;
    case FAULT_GONE: return EXIT_NOT_FOUND;
    case FAULT_NONE: return EXIT_DONE;
    case FAULT_TRANSIENT:
    case FAULT_UNCERTAIN:
    case FAULT_EXHAUSTED:
    case FAULT_INVALID: break;
    }
    return EXIT_FAILED;
}

static const char *store_directory; /* one in a process, as its store */

void explain_store_is_in(const char *directory)
{
    store_directory = directory;
}

/* A machine is wanted by a model on it; only a model has a colon in its name. */
static bool is_up_of_machine(const char *p, const char *target)
{
    return target && !strchr(target, ':') && strncmp(p, "up %s", 5) == 0 && strchr("\n ", p[5]);
}

void explain_next(const struct fault *f, const char *target, struct buf *out)
{
    explain_next_for(f, target, NULL, out);
}

/* Without a shell's quotes. */
static bool is_word(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:/_-";

    return *text && !text[strspn(text, plain)];
}

char *explain_model(const char *name)
{
    const char *engine;
    struct fault f;

    for (unsigned i = 0; name && is_word(name) && (engine = engine_name_at(i)); i++) {
        char *named = xasprintf("%s:%s", engine, name);

        if (manager_check_model(named, &f) == 0)
            return named;
        free(named);
    }
    return NULL;
}

/* The same name, with its engine. */
static bool explain_next_model(const struct fault *f, const char *name, struct buf *out)
{
    bool is_of_name = streq(f->code, "bad_model") || streq(f->code, "unknown_engine");
    _cleanup_free_ char *named = is_of_name ? explain_model(name) : NULL;

    if (named)
        buf_addf(out, "llmhostctl up %s", named);
    return named;
}

void explain_next_for(const struct fault *f, const char *target, const char *model, struct buf *out)
{
    const struct explanation *e = explain_find(f->code);

    if (!e || explain_next_model(f, target, out))
        return;
    if (store_directory && strncmp(f->code, "store", 5) == 0)
        target = store_directory;
    for (const char *p = e->next; *p; p++)
        if (is_up_of_machine(p, target)) {
            buf_addf(out, "up %s --on %s", model ? model : "ollama:NAME", target);
            p += 4;
        } else if (p[0] == '%' && p[1] == 's') {
            buf_add_text(out, target ? target : "NAME");
            p++;
        } else {
            buf_add(out, p, 1);
        }
}

struct json *explain_lines(const char *lines)
{
    struct json *list = json_array();

    for (const char *p = lines; p && *p;) {
        size_t n = strcspn(p, "\n");

        if (n)
            json_append(list, json_string_n(p, n));
        p += n + (p[n] == '\n');
    }
    return list;
}
