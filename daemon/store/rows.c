/* Writing changes and reading rows. Every change stands in a savepoint of its own, so that one that breaks a
 * constraint leaves no trace and takes nobody with it; whatever else goes wrong ends the whole transaction.
 */
#include <errno.h>

#include "base/fault.h"
#include "store/database.h"

#define EVENTS_PRUNE_EVERY 1000

/* ---- writing ---- */

static int run(struct database *d, const char *sql)
{
    return sqlite3_exec(d->sql, sql, NULL, NULL, NULL);
}

int database_bind(sqlite3_stmt *statement, const struct change *c)
{
    int code = SQLITE_OK;

    for (unsigned i = 0; i < c->n_values && code == SQLITE_OK; i++) {
        const struct value *v = &c->values[i];
        int at = (int)i + 1;

        switch (v->type) {
        case VALUE_NULL: code = sqlite3_bind_null(statement, at); break;
        case VALUE_INT: code = sqlite3_bind_int64(statement, at, v->number); break;
        case VALUE_TEXT:
            code = sqlite3_bind_text64(statement, at, v->data, v->n, SQLITE_STATIC, SQLITE_UTF8);
            break;
        case VALUE_BLOB: code = sqlite3_bind_blob64(statement, at, v->data, v->n, SQLITE_STATIC); break;
        }
    }
    return code;
}

static int execute(struct database *d, struct change *c)
{
    sqlite3_stmt **statement = &d->statements[c->kind];
    int code = SQLITE_OK;

    if (!*statement)
        code = sqlite3_prepare_v3(d->sql, change_specs[c->kind].sql, -1, SQLITE_PREPARE_PERSISTENT, statement,
                                  NULL);
    if (code == SQLITE_OK)
        code = database_bind(*statement, c);
    if (code == SQLITE_OK)
        code = sqlite3_step(*statement);
    if (*statement) {
        sqlite3_reset(*statement);
        sqlite3_clear_bindings(*statement);
    }
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The change itself is to blame, not the disk. */
static bool is_refusal(int code)
{
    switch (code & 0xff) {
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG: return true;
    default: return false;
    }
}

static void refuse(struct database *d, struct change *c, int code)
{
    const struct change_spec *spec = &change_specs[c->kind];
    const char *name = spec->keys > 0 && c->values[0].data ? c->values[0].data : "";

    c->fault = xnew(struct fault);
    if (code == SQLITE_CONSTRAINT_FOREIGNKEY && spec->parent >= 0)
        fault_set(c->fault, FAULT_GONE, -ENOENT, "%s %s: there is no instance %s", spec->noun, name,
                  c->values[spec->parent].data);
    else
        fault_set(c->fault, FAULT_INVALID, -EINVAL, "%s %s: refused by the database (%s)", spec->noun, name,
                  sqlite3_errmsg(d->sql));
}

static int write_one(struct database *d, struct change *c)
{
    int code = run(d, "SAVEPOINT one");

    if (code != SQLITE_OK)
        return code;
    code = execute(d, c);
    if (is_refusal(code)) {
        refuse(d, c, code);
        code = run(d, "ROLLBACK TO one");
    } else if (code == SQLITE_OK && c->kind == CHANGE_RESERVE && sqlite3_changes(d->sql) == 0) {
        database_refuse_reservation(d, c);
    }
    if (code == SQLITE_OK)
        code = run(d, "RELEASE one");
    if (c->kind == CHANGE_PUT_EVENT)
        d->events_since_prune++;
    return code;
}

static int prune_events(struct database *d)
{
    _cleanup_free_ char *sql =
        xasprintf("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - %d", DATABASE_EVENTS_MAX);

    if (d->events_since_prune < EVENTS_PRUNE_EVERY)
        return SQLITE_OK;
    d->events_since_prune = 0;
    return run(d, sql);
}

static int write_all(struct database *d, struct list *changes)
{
    int code = run(d, "BEGIN IMMEDIATE");

    if (code != SQLITE_OK)
        return code;
    LIST_FOREACH (c, changes, struct change, node) {
        code = write_one(d, c);
        if (code != SQLITE_OK)
            return code;
    }
    code = prune_events(d);
    return code == SQLITE_OK ? run(d, "COMMIT") : code;
}

/* SQLite goes on writing to a file that was moved or removed, where nobody will find it. */
static int check_place(struct database *d, struct fault *f)
{
    int moved = 0;

    if (sqlite3_file_control(d->sql, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved)
        return database_fault(d, SQLITE_READONLY_DBMOVED, f);
    return 0;
}

int database_write(struct database *d, struct list *changes, struct fault *f)
{
    int r = d->read_only ? database_reopen(d, f) : 0;

    if (r == 0)
        r = check_place(d, f);
    if (r < 0)
        return r;
    int code = write_all(d, changes);

    if (code == SQLITE_OK)
        return 0;
    r = database_fault(d, code, f); /* before ROLLBACK: it would overwrite the reason */

    if (!sqlite3_get_autocommit(d->sql))
        run(d, "ROLLBACK");
    LIST_FOREACH (c, changes, struct change, node) {
        free(c->fault); /* nothing is decided before the others are on disk too */
        c->fault = NULL;
    }
    return r;
}

/* ---- reading ---- */

char *database_text_at(sqlite3_stmt *row, int column)
{
    return (char *)sqlite3_column_text(row, column);
}

int database_each_row(struct database *d, const char *sql, void (*see)(sqlite3_stmt *row, void *to), void *to,
                      struct fault *f)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(d->sql, sql, -1, &statement, NULL);

    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW)
            see(statement, to);
    }
    int r = code == SQLITE_DONE ? 0 : database_fault(d, code, f);

    sqlite3_finalize(statement);
    return r;
}

struct load {
    const struct store_readers *readers;
    void *ctx;
};

/* From column 12 on; false: it is not rented. */
static bool see_rental(sqlite3_stmt *row, struct rental_record *ret)
{
    if (sqlite3_column_type(row, 12) == SQLITE_NULL)
        return false;
    *ret = (struct rental_record){
        .state = database_text_at(row, 12),
        .goal = database_text_at(row, 13),
        .id = database_text_at(row, 14),
        .made = (unsigned)sqlite3_column_int64(row, 15),
        .asked_at_ms = sqlite3_column_int64(row, 16),
        .create_open = sqlite3_column_int(row, 17) != 0,
        .ours = sqlite3_column_int(row, 18) != 0,
        .was_on = sqlite3_column_int(row, 19) != 0,
        .card = database_text_at(row, 20),
        .image = database_text_at(row, 21),
        .region = database_text_at(row, 22),
        .gpu = database_text_at(row, 23),
        .cards = (unsigned)sqlite3_column_int64(row, 24),
        .disk_gb = (unsigned)sqlite3_column_int64(row, 25),
        .max_price_milli = sqlite3_column_int64(row, 26),
        .rate_milli = sqlite3_column_int64(row, 27),
        .guard_seq = (uint64_t)sqlite3_column_int64(row, 28),
        .stopped_at_ms = sqlite3_column_int64(row, 29),
        .prepaid_until_at_ms = sqlite3_column_int64(row, 30),
        .drilled_at_ms = sqlite3_column_int64(row, 31),
        .over_budget = sqlite3_column_int(row, 32) != 0,
        .no_guard = sqlite3_column_int(row, 33) != 0,
        .adopted = sqlite3_column_int(row, 34) != 0,
        .no_card = sqlite3_column_int(row, 35) != 0,
        .used_at_ms = sqlite3_column_int64(row, 36),
        .search_until_at_ms = sqlite3_column_int64(row, 37),
        .acted = sqlite3_column_int(row, 38) != 0,
        .made_at_ms = sqlite3_column_int64(row, 39),
        .hold_until_at_ms = sqlite3_column_int64(row, 40),
        .never_made = sqlite3_column_int(row, 41) != 0,
        .by_search = sqlite3_column_int(row, 42) != 0,
        .wanted_at_ms = sqlite3_column_int64(row, 43),
        .never_seen = sqlite3_column_int(row, 44) != 0,
    };
    return true;
}

#define BOXED_COLUMNS 10 /* the last ones */

/* False: nothing is known of the kind. */
static bool see_boxed(sqlite3_stmt *row, struct boxed_record *ret)
{
    int at = sqlite3_column_count(row) - BOXED_COLUMNS;

    if (sqlite3_column_type(row, at) == SQLITE_NULL)
        return false;
    *ret = (struct boxed_record){
        .state = database_text_at(row, at),
        .cycle = database_text_at(row, at + 1),
        .since_at_ms = sqlite3_column_int64(row, at + 2),
        .stop_asked_at_ms = sqlite3_column_int64(row, at + 3),
        .told = sqlite3_column_int(row, at + 4) != 0,
        .no_guard = sqlite3_column_int(row, at + 5) != 0,
        .acts_at_ms = sqlite3_column_int64(row, at + 6),
        .trial = database_text_at(row, at + 7),
        .tried_at_ms = sqlite3_column_int64(row, at + 8),
        .used_s = sqlite3_column_int64(row, at + 9),
    };
    return true;
}

static void see_instance(sqlite3_stmt *row, void *to)
{
    struct load *load = to;
    struct rental_record rental;
    struct boxed_record boxed;
    struct instance_record r = {
        .name = database_text_at(row, 0),
        .provider = database_text_at(row, 1),
        .host = database_text_at(row, 2),
        .user = database_text_at(row, 3),
        .port = (uint16_t)sqlite3_column_int(row, 4),
        .install_key = sqlite3_column_int(row, 5) != 0,
        .added_at_ms = sqlite3_column_int64(row, 6),
        .host_key = (uint8_t *)sqlite3_column_blob(row, 7),
        .n_host_key = (size_t)sqlite3_column_bytes(row, 7),
        .host_key_at_ms = sqlite3_column_int64(row, 8),
        .agent = database_text_at(row, 9),
        .proxy = database_text_at(row, 10),
        .stop = database_text_at(row, 11),
        .rental = see_rental(row, &rental) ? &rental : NULL,
        .boxed = see_boxed(row, &boxed) ? &boxed : NULL,
    };

    if (load->readers->instance)
        load->readers->instance(load->ctx, &r);
}

static void see_deployment(sqlite3_stmt *row, void *to)
{
    struct load *load = to;
    struct deployment_record r = {
        .name = database_text_at(row, 0),
        .instance = database_text_at(row, 1),
        .goal = database_text_at(row, 2),
        .goal_at_ms = sqlite3_column_int64(row, 3),
        .touched = sqlite3_column_int(row, 4) != 0,
        .shown = database_text_at(row, 5),
        .requests = sqlite3_column_int64(row, 6),
        .last_used_at_ms = sqlite3_column_int64(row, 7),
        .arguments = database_text_at(row, 8),
        .asleep = database_text_at(row, 9),
        .asleep_at_ms = sqlite3_column_int64(row, 10),
        .keep_until_at_ms = sqlite3_column_int64(row, 11),
    };

    if (load->readers->deployment)
        load->readers->deployment(load->ctx, &r);
}

static void see_forward(sqlite3_stmt *row, void *to)
{
    struct load *load = to;
    struct forward_record r = {
        .listen_ip = database_text_at(row, 0),
        .listen_port = (uint16_t)sqlite3_column_int(row, 1),
        .instance = database_text_at(row, 2),
        .address = database_text_at(row, 3),
        .port = (uint16_t)sqlite3_column_int(row, 4),
    };

    if (load->readers->forward)
        load->readers->forward(load->ctx, &r);
}

int database_load(struct database *d, const struct store_readers *readers, void *ctx, struct fault *f)
{
    struct load load = {.readers = readers, .ctx = ctx};
    int r = database_each_row(
        d,
        "SELECT name, provider, host, user, port, install_key, added_at_ms, host_key, host_key_at_ms, agent,"
        " proxy, stop, rental.state, goal, id, made, asked_at_ms, create_open, ours, was_on, card, image, "
        "region, "
        "gpu, "
        "cards,"
        " disk_gb, max_price_milli, rate_milli, guard_seq, stopped_at_ms, prepaid_until_at_ms, drilled_at_ms,"
        " over_budget, rental.no_guard, adopted, no_card, used_at_ms, search_until_at_ms, acted, made_at_ms,"
        " hold_until_at_ms, never_made, by_search, wanted_at_ms, never_seen,"
        " boxed.state, cycle, since_at_ms, stop_asked_at_ms, told, boxed.no_guard, acts_at_ms, trial, "
        "tried_at_ms, used_s"
        " FROM instance LEFT JOIN rental ON rental.instance = name LEFT JOIN boxed ON boxed.instance = name"
        " ORDER BY added_at_ms, name",
        see_instance, &load, f);

    if (r == 0)
        r = database_each_row(
            d,
            "SELECT name, instance, goal, goal_at_ms, touched, shown, requests, last_used_at_ms, "
            "arguments, asleep, asleep_at_ms, keep_until_at_ms"
            " FROM deployment ORDER BY name, instance",
            see_deployment, &load, f);
    if (r == 0)
        r = database_each_row(d,
                              "SELECT listen_ip, listen_port, instance, address, port"
                              " FROM forward ORDER BY instance, listen_port, listen_ip",
                              see_forward, &load, f);
    return r;
}

struct load_aliases {
    void (*alias)(void *ctx, const char *name, const char *model);
    void *ctx;
};

static void see_alias(sqlite3_stmt *row, void *to)
{
    struct load_aliases *load = to;

    load->alias(load->ctx, database_text_at(row, 0), database_text_at(row, 1));
}

int database_load_aliases(struct database *d, void (*alias)(void *ctx, const char *name, const char *model),
                          void *ctx, struct fault *f)
{
    struct load_aliases load = {.alias = alias, .ctx = ctx};

    return database_each_row(d, "SELECT name, model FROM alias ORDER BY name", see_alias, &load, f);
}

struct load_choices {
    void (*choice)(void *ctx, const struct choice_record *r);
    void *ctx;
};

static void see_choice(sqlite3_stmt *row, void *to)
{
    struct load_choices *load = to;
    const struct choice_record r = {
        .model = database_text_at(row, 0),
        .places = database_text_at(row, 1),
        .turn = (unsigned)sqlite3_column_int64(row, 2),
        .until_at_ms = sqlite3_column_int64(row, 3),
        .provider = database_text_at(row, 4),
        .gpu = database_text_at(row, 5),
        .image = database_text_at(row, 6),
        .region = database_text_at(row, 7),
        .disk_gb = (unsigned)sqlite3_column_int64(row, 8),
        .max_price_milli = sqlite3_column_int64(row, 9),
        .over_budget = sqlite3_column_int64(row, 10) != 0,
        .begun_at_ms = sqlite3_column_int64(row, 11),
    };

    load->choice(load->ctx, &r);
}

int database_load_choices(struct database *d, void (*choice)(void *ctx, const struct choice_record *r),
                          void *ctx, struct fault *f)
{
    struct load_choices load = {.choice = choice, .ctx = ctx};

    return database_each_row(
        d,
        "SELECT model, places, turn, until_at_ms, provider, gpu, image, region, disk_gb, "
        "max_price_milli, over_budget, begun_at_ms FROM choice ORDER BY model",
        see_choice, &load, f);
}

struct load_durations {
    void (*duration)(void *ctx, const char *what, const char *last);
    void *ctx;
};

static void see_duration(sqlite3_stmt *row, void *to)
{
    struct load_durations *load = to;

    load->duration(load->ctx, database_text_at(row, 0), database_text_at(row, 1));
}

int database_load_durations(struct database *d,
                            void (*duration)(void *ctx, const char *what, const char *last), void *ctx,
                            struct fault *f)
{
    struct load_durations load = {.duration = duration, .ctx = ctx};

    return database_each_row(d, "SELECT what, last FROM duration", see_duration, &load, f);
}

struct load_counts {
    void (*count)(void *ctx, const struct count_record *r);
    void *ctx;
};

static void see_count(sqlite3_stmt *row, void *to)
{
    struct load_counts *load = to;
    struct count_record r = {
        .model = database_text_at(row, 0),
        .client = database_text_at(row, 1),
        .requests = sqlite3_column_int64(row, 2),
        .errors = sqlite3_column_int64(row, 3),
        .prompt_tokens = sqlite3_column_int64(row, 4),
        .answer_tokens = sqlite3_column_int64(row, 5),
        .request_bytes = sqlite3_column_int64(row, 6),
        .answer_bytes = sqlite3_column_int64(row, 7),
        .first = database_text_at(row, 8),
        .total = database_text_at(row, 9),
    };

    load->count(load->ctx, &r);
}

int database_load_counts(struct database *d, void (*count)(void *ctx, const struct count_record *r),
                         void *ctx, struct fault *f)
{
    struct load_counts load = {.count = count, .ctx = ctx};

    return database_each_row(
        d,
        "SELECT model, client, requests, errors, prompt_tokens, answer_tokens, request_bytes,"
        " answer_bytes, first, total FROM count ORDER BY model, client",
        see_count, &load, f);
}

struct load_keys {
    void (*key)(void *ctx, const struct key_record *r);
    void *ctx;
};

static void see_key(sqlite3_stmt *row, void *to)
{
    struct load_keys *load = to;
    struct key_record r = {.name = database_text_at(row, 0), .made_at_ms = sqlite3_column_int64(row, 2)};

    if (sqlite3_column_bytes(row, 1) != sizeof(r.hash))
        return; /* opens nothing */
    memcpy(r.hash, sqlite3_column_blob(row, 1), sizeof(r.hash));
    load->key(load->ctx, &r);
}

int database_load_keys(struct database *d, void (*key)(void *ctx, const struct key_record *r), void *ctx,
                       struct fault *f)
{
    struct load_keys load = {.key = key, .ctx = ctx};

    return database_each_row(d, "SELECT name, hash, made_at_ms FROM api_key ORDER BY made_at_ms, name",
                             see_key, &load, f);
}

/* ---- events ---- */

/* A count of all that match, and the newest of them. */
static int prepare_events(struct database *d, const char *what, const struct database_events *e,
                          sqlite3_stmt **ret)
{
    _cleanup_free_ char *sql = xasprintf("SELECT %s FROM event WHERE at_ms >= ?1%s ORDER BY id DESC LIMIT ?3",
                                         what, e->target ? " AND target = ?2" : "");
    int code = sqlite3_prepare_v2(d->sql, sql, -1, ret, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(*ret, 1, e->since_at_ms);
    if (code == SQLITE_OK && e->target)
        code = sqlite3_bind_text(*ret, 2, e->target, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(*ret, 3, MAX(e->lines, 1u));
    return code;
}

static int count_events(struct database *d, const struct database_events *e, uint64_t *ret)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare_events(d, "count(*)", e, &statement);

    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *ret = (uint64_t)sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return code == SQLITE_ROW ? SQLITE_OK : code;
}

static void fill_row(struct event_row *to, sqlite3_stmt *row)
{
    *to = (struct event_row){
        .at_ms = sqlite3_column_int64(row, 0),
        .level = xstrdup(database_text_at(row, 1)),
        .source = xstrdup(database_text_at(row, 2)),
        .target = xstrdup(database_text_at(row, 3)),
        .kind = xstrdup(database_text_at(row, 4)),
        .text = xstrdup(database_text_at(row, 5)),
    };
}

/* They come newest first and are laid down from the end. */
static int fetch_events(struct database *d, struct database_events *e)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare_events(d, "at_ms, level, source, target, kind, text", e, &statement);

    while (e->n < e->lines && (code == SQLITE_OK || code == SQLITE_ROW)) {
        code = sqlite3_step(statement);
        if (code == SQLITE_ROW)
            fill_row(&e->rows[e->lines - ++e->n], statement);
    }
    sqlite3_finalize(statement);
    return code == SQLITE_DONE || code == SQLITE_ROW ? SQLITE_OK : code;
}

int database_read_events(struct database *d, struct database_events *e, struct fault *f)
{
    uint64_t all = 0;
    int code = count_events(d, e, &all);

    e->lines = (unsigned)MIN((uint64_t)e->lines, all);
    if (code == SQLITE_OK && e->lines > 0) {
        e->rows = xalloc(e->lines * sizeof(*e->rows));
        code = fetch_events(d, e);
        memmove(e->rows, e->rows + e->lines - e->n, e->n * sizeof(*e->rows));
    }
    e->older = all - e->n;
    return code == SQLITE_OK ? 0 : database_fault(d, code, f);
}

void database_events_done(struct database_events *e)
{
    for (unsigned i = 0; i < e->n; i++) {
        free(e->rows[i].level);
        free(e->rows[i].source);
        free(e->rows[i].target);
        free(e->rows[i].kind);
        free(e->rows[i].text);
    }
    free(e->rows);
    e->rows = NULL;
    e->n = 0;
}
