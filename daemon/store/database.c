/* Opening. Everything that can be wrong with a database is found here, before anything is changed, and said
 * with the name of the file and what to do about it. One that cannot be written is read all the same, and
 * opened anew before each write until that works. One that is damaged is left exactly as it is. */
#include "store/database.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "base/fault.h"
#include "proto/buf.h"
#include "store/directory.h"

#define APPLICATION_ID  0x6c6c6d68 /* "llmh" */
#define BUSY_TIMEOUT_MS 250

extern const char store_schema[];

/* ---- words ---- */

static int fault_full(const char *path, int error, struct fault *f)
{
    int r = fault_set(f, FAULT_EXHAUSTED, error,
                      error == -EDQUOT ? "the disk quota is used up: %s" : "the disk is full: %s", path);

    if (f)
        strcpy(f->code, "store_full");
    return r;
}

static int fault_read_only(const char *path, int error, const char *why, struct fault *f)
{
    int r = fault_set(f, FAULT_DENIED, error, "%s cannot be written (%s)", path, why);

    if (f)
        strcpy(f->code, "store_read_only");
    return r;
}

int database_fault_errno(const char *path, int error, struct fault *f)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT: return fault_full(path, error, f);
    case -EROFS: return fault_read_only(path, error, "read-only file system", f);
    case -EACCES:
    case -EPERM: return fault_read_only(path, error, "permission denied", f);
    default: return fault_set(f, FAULT_TRANSIENT, error, "%s cannot be written (%s)", path, strerror(-error));
    }
}

static int fault_damaged(const char *path, const char *why, struct fault *f)
{
    int r = fault_set(f, FAULT_INVALID, -EBADMSG,
                      "%s is damaged (%s): move it away together with the files that begin with its name, "
                      "and a new one is made at the next start",
                      path, why);

    if (f)
        strcpy(f->code, "store_damaged");
    return r;
}

/* SQLite says "readonly" for a file system, for permissions, and for a file that was moved under its feet. */
static int fault_readonly_code(const struct database *d, int code, struct fault *f)
{
    struct statvfs fs;

    if (code == SQLITE_READONLY_DBMOVED)
        return fault_read_only(d->path, -ESTALE, "it was moved or removed while in use", f);
    if (statvfs(d->path, &fs) == 0 && (fs.f_flag & ST_RDONLY))
        return fault_read_only(d->path, -EROFS, "read-only file system", f);
    return fault_read_only(d->path, -EACCES, "permission denied", f);
}

/* SQLite forgets the errno of a failed write to the log on its way up; the file itself still knows. Negative,
 * 0: not known. */
static int last_errno(struct database *d)
{
    int error = d->sql ? sqlite3_system_errno(d->sql) : EIO;
    sqlite3_file *log = NULL;

    if (error == 0 && sqlite3_file_control(d->sql, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log) == SQLITE_OK &&
        log && log->pMethods)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &error);
    if (error == 0)
        sqlite3_file_control(d->sql, "main", SQLITE_FCNTL_LAST_ERRNO, &error);
    return -error;
}

/* What keeps files from being made or from growing, where SQLite's last errno tells of something else that it
 * tried. */
static int look_for_reason(const struct database *d)
{
    _cleanup_free_ char *directory = strndup(d->path, (size_t)(strrchr(d->path, '/') - d->path));
    struct statvfs fs;

    if (access(directory, W_OK) < 0)
        return -errno;
    if (statvfs(directory, &fs) == 0 && (fs.f_bavail == 0 || (fs.f_files > 0 && fs.f_favail == 0)))
        return -ENOSPC;
    return -EIO;
}

int database_fault(struct database *d, int code, struct fault *f)
{
    int error = last_errno(d);

    switch (code & 0xff) {
    case SQLITE_FULL: return fault_full(d->path, error == -EDQUOT ? error : -ENOSPC, f);
    case SQLITE_READONLY: return fault_readonly_code(d, code, f);
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
        return database_fault_errno(d->path, error == 0 || error == -ENOENT ? look_for_reason(d) : error, f);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return fault_set(f, FAULT_TRANSIENT, -EBUSY, "%s is locked by another program", d->path);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return fault_damaged(d->path, sqlite3_errmsg(d->sql), f);
    case SQLITE_NOMEM: return fault_set(f, FAULT_EXHAUSTED, -ENOMEM, "no memory for the database");
    default: return fault_set(f, FAULT_INVALID, -EIO, "%s: %s", d->path, sqlite3_errmsg(d->sql));
    }
}

/* ---- judging and migrating ---- */

static int run(struct database *d, const char *sql, struct fault *f)
{
    int code = sqlite3_exec(d->sql, sql, NULL, NULL, NULL);

    return code == SQLITE_OK ? 0 : database_fault(d, code, f);
}

static int read_int(struct database *d, const char *sql, int64_t *ret, struct fault *f)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(d->sql, sql, -1, &statement, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *ret = sqlite3_column_int64(statement, 0);
    int r = code == SQLITE_ROW ? 0 : database_fault(d, code, f);

    sqlite3_finalize(statement);
    return r;
}

static int check_pages(struct database *d, struct fault *f)
{
    sqlite3_stmt *statement = NULL;
    int r = 0, code = sqlite3_prepare_v2(d->sql, "PRAGMA quick_check(1)", -1, &statement, NULL);

    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        const char *word = (const char *)sqlite3_column_text(statement, 0);

        if (!word || !streq(word, "ok"))
            r = fault_damaged(d->path, word ? word : "no word from quick_check", f);
    } else {
        r = database_fault(d, code, f);
    }
    sqlite3_finalize(statement);
    return r;
}

/* The text below "-- version N", up to the next such line; NULL: no such version. Caller frees. */
static char *schema_section(const char *schema, int64_t version)
{
    char mark[40];

    snprintf(mark, sizeof(mark), "\n-- version %lld\n", (long long)version);
    const char *start = strstr(schema, mark);

    if (!start)
        return NULL;
    start += strlen(mark);
    const char *end = strstr(start, "\n-- version ");

    return xasprintf("%.*s", end ? (int)(end - start) : (int)strlen(start), start);
}

static int64_t schema_newest(const char *schema)
{
    for (int64_t version = 0;; version++) {
        _cleanup_free_ char *next = schema_section(schema, version + 1);

        if (!next)
            return version;
    }
}

static int migrate_steps(struct database *d, const char *schema, int64_t from, int64_t to, struct fault *f)
{
    for (int64_t version = from + 1; version <= to; version++) {
        _cleanup_free_ char *section = schema_section(schema, version);
        int r = run(d, section, f);

        if (r < 0) {
            char where[80];

            snprintf(where, sizeof(where), "schema version %lld", (long long)version);
            fault_prefix(f, where);
            return r;
        }
    }
    char words[100];

    snprintf(words, sizeof(words), "PRAGMA application_id = %d; PRAGMA user_version = %lld", APPLICATION_ID,
             (long long)to);
    return run(d, words, f);
}

/* Ours, and not from the future: then its version. */
static int judge(struct database *d, int64_t newest, int64_t *ret_version, struct fault *f)
{
    int64_t application = 0, version = 0, tables = 0;
    int r = read_int(d, "PRAGMA application_id", &application, f);

    if (r == 0)
        r = read_int(d, "PRAGMA user_version", &version, f);
    if (r == 0)
        r = read_int(d, "SELECT count(*) FROM sqlite_schema", &tables, f);
    if (r < 0)
        return r;
    if (application != APPLICATION_ID && (application != 0 || tables != 0 || version != 0))
        return fault_set(f, FAULT_INVALID, -EBADMSG, "%s is the database of another program: move it away",
                         d->path);
    if (version > newest)
        return fault_set(f, FAULT_INVALID, -ENOTSUP,
                         "%s was written by a newer llmhostd (schema %lld, this one knows %lld): "
                         "install that version again, or move the file away",
                         d->path, (long long)version, (long long)newest);
    *ret_version = tables > 0 ? version : 0;
    return 0;
}

int database_migrate(struct database *d, const char *schema, struct fault *f)
{
    int64_t version = 0, newest = schema_newest(schema);
    int r = judge(d, newest, &version, f);

    if (r < 0 || version == newest)
        return r;
    r = run(d, "BEGIN IMMEDIATE", f);
    if (r < 0)
        return r;
    r = migrate_steps(d, schema, version, newest, f);
    if (r == 0)
        r = run(d, "COMMIT", f);
    if (r < 0 && !sqlite3_get_autocommit(d->sql))
        run(d, "ROLLBACK", NULL);
    return r;
}

/* By .dump, since .recover is not everywhere (Debian 12's sqlite3 3.40.1 answers "SQL logic error", tried
 * 2026-11-27). It forgets what a file says of itself, and ends with ROLLBACK where something could not be
 * read. */
char *store_rescue(const char *directory)
{
    return xasprintf(
        "  keep it:       mkdir %s/damaged && mv %s/llmhost.db* %s/damaged/\n"
        "  save the rest: (sqlite3 %s/damaged/llmhost.db .dump | grep -vE '^(ROLLBACK|COMMIT);'; "
        "echo 'COMMIT; PRAGMA application_id = %d; PRAGMA user_version = %lld;') | sqlite3 %s/llmhost.db\n",
        directory, directory, directory, directory, APPLICATION_ID, (long long)schema_newest(store_schema),
        directory);
}

/* ---- who we are ---- */

/* 32 letters and digits, without l, o, 0 and 1, which people misread. */
static void make_id(char out[static 9])
{
    unsigned char random[8];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        abort();
    for (int i = 0; i < 8; i++)
        out[i] = "abcdefghijkmnpqrstuvwxyz23456789"[random[i] % 32];
    out[8] = 0;
}

static int put_id(struct database *d, struct fault *f)
{
    char id[9];

    make_id(id);
    _cleanup_free_ char *insert =
        xasprintf("INSERT OR IGNORE INTO daemon(key, value) VALUES ('id', '%s')", id);

    return run(d, insert, f);
}

static int read_id(struct database *d, struct fault *f)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(d->sql, "SELECT value FROM daemon WHERE key = 'id'", -1, &statement, NULL);
    int r = 0;

    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        snprintf(d->daemon_id, sizeof(d->daemon_id), "%s", (const char *)sqlite3_column_text(statement, 0));
    else if (code == SQLITE_DONE)
        r = fault_damaged(d->path, "it has no name of its daemon", f);
    else
        r = database_fault(d, code, f);
    sqlite3_finalize(statement);
    return r;
}

/* ---- opening ---- */

static void close_sql(struct database *d)
{
    for (int i = 0; i < CHANGE_KINDS; i++) {
        sqlite3_finalize(d->statements[i]);
        d->statements[i] = NULL;
    }
    sqlite3_close(d->sql);
    d->sql = NULL;
}

/* The page cache is small: everything is read once. */
static int open_sql(struct database *d, const char *name, int flags, struct fault *f)
{
    int code = sqlite3_open_v2(name, &d->sql, flags | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_PRIVATECACHE, NULL);

    if (!d->sql)
        return fault_set(f, FAULT_EXHAUSTED, -ENOMEM, "no memory for the database");
    if (code != SQLITE_OK)
        return database_fault(d, code, f);
    sqlite3_extended_result_codes(d->sql, 1);
    sqlite3_busy_timeout(d->sql, BUSY_TIMEOUT_MS);
    int r = run(d, "PRAGMA trusted_schema = OFF; PRAGMA cache_size = -256", f);

    return r < 0 ? r : check_pages(d, f);
}

/* foreign_keys and synchronous belong to the connection, WAL to the file. */
static int open_for_writing(struct database *d, struct fault *f)
{
    int r = open_sql(d, d->path, SQLITE_OPEN_READWRITE, f);

    if (r == 0 && sqlite3_db_readonly(d->sql, "main"))
        r = fault_readonly_code(d, SQLITE_READONLY, f);
    if (r == 0)
        r = run(d, "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA journal_mode = WAL", f);
    if (r == 0)
        r = database_migrate(d, store_schema, f);
    if (r == 0)
        r = put_id(d, f);
    if (r == 0)
        r = read_id(d, f);
    if (r < 0 && d->sql) /* a log that does not belong to it must not end up in it */
        sqlite3_db_config(d->sql, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    return r;
}

static bool has_log(const char *path)
{
    _cleanup_free_ char *log = xasprintf("%s-wal", path);
    struct stat st;

    return stat(log, &st) == 0 && st.st_size > 0;
}

/* A URI of SQLite; caller frees. */
static char *uri(const char *path, const char *option)
{
    struct buf out;

    buf_init(&out, 3 * strlen(path) + 40);
    buf_add_text(&out, "file:");
    for (const char *p = path; *p; p++)
        buf_addf(&out, strchr("%?#", *p) ? "%%%02X" : "%c", *p);
    buf_addf(&out, "?%s", option);
    return buf_take(&out);
}

/* Without making or changing any file. What was written last may be in the log, which is read with its index
 * in memory then (https://www.sqlite.org/wal.html, "Read-Only Databases"). */
static int open_for_reading(struct database *d, struct fault *f)
{
    _cleanup_free_ char *name = uri(d->path, has_log(d->path) ? "readonly_shm=1" : "immutable=1");
    int64_t version = 0, newest = schema_newest(store_schema);
    int r = open_sql(d, name, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, f);

    if (r == 0)
        r = judge(d, newest, &version, f);
    if (r == 0 && version < newest)
        r = fault_set(f, FAULT_INVALID, -ENOTSUP, "%s is of an older version", d->path);
    return r < 0 ? r : read_id(d, f);
}

static bool is_about_writing(const struct fault *f)
{
    return streq(f->code, "store_full") || streq(f->code, "store_read_only") || f->error == -EFBIG ||
           f->error == -EIO;
}

static int open_either(struct database *d, struct fault *f)
{
    struct fault ignored;
    int r = open_for_writing(d, f);

    d->read_only = false;
    if (r == 0 || !is_about_writing(f))
        return r;
    close_sql(d);
    if (open_for_reading(d, &ignored) < 0)
        return r;
    d->read_only = true;
    return 0;
}

int database_reopen(struct database *d, struct fault *f)
{
    close_sql(d);
    int r = open_either(d, f);

    return r == 0 && d->read_only ? f->error : r;
}

/* ---- the file ---- */

static void remove_all(const char *path)
{
    static const char *const ends[] = {"", "-journal", "-wal", "-shm"};

    for (size_t i = 0; i < ELEMENTS(ends); i++) {
        _cleanup_free_ char *file = xasprintf("%s%s", path, ends[i]);

        (void)unlink(file);
    }
}

static int move_into_place(const char *directory, const char *from, const char *to)
{
    _cleanup_close_ int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 || rename(from, to) < 0 || fsync(fd) < 0 ? -errno : 0;
}

/* Made beside and moved into place when it is whole, so that a file that is empty or half a database was
 * never one of ours. */
static int make(const char *directory, const char *path, struct fault *f)
{
    _cleanup_free_ char *beside = xasprintf("%s.new", path);
    struct database d = {.path = beside};
    _cleanup_close_ int fd = -1;

    remove_all(beside);
    int r = directory_make_file(beside, &fd,
                                f); /* the right mode, which SQLite also gives to the files beside it */

    if (r < 0)
        return r;
    r = open_for_writing(&d, f);
    close_sql(&d);
    if (r == 0 && has_log(beside))
        r = fault_full(path, -ENOSPC, f); /* closing it should have emptied that */
    if (r == 0) {
        r = move_into_place(directory, beside, path);
        if (r < 0)
            database_fault_errno(path, r, f);
    }
    remove_all(beside);
    return r;
}

/* There and ours; -ENOENT: there is none, and none was there. */
static int look(const char *path, struct fault *f)
{
    struct stat st;

    if (lstat(path, &st) == 0)
        return st.st_size == 0 && S_ISREG(st.st_mode) ? fault_damaged(path, "it is empty", f)
                                                      : directory_check_file(path, &st, f);
    if (errno != ENOENT)
        return database_fault_errno(path, -errno, f);
    if (has_log(path))
        return fault_damaged(
            path, "it is gone, but what it wrote last is there, in the file with \"-wal\" at its end", f);
    return -ENOENT;
}

static int find_or_make(const char *directory, const char *path, struct fault *f)
{
    int r = look(path, f);

    return r == -ENOENT ? make(directory, path, f) : r;
}

int database_open(const char *directory, struct database **ret, struct fault *f)
{
    struct database *d = xnew(struct database);
    int r;

    d->path = xasprintf("%s/llmhost.db", directory);
    d->lock = -1;
    r = directory_check(directory, f);
    if (r == 0)
        r = directory_lock(directory, &d->lock, f);
    if (r == 0)
        r = find_or_make(directory, d->path, f);
    if (r == 0)
        r = open_either(d, f);
    if (r < 0) {
        database_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

struct database *database_free(struct database *d)
{
    if (!d)
        return NULL;
    close_sql(d);
    if (d->lock >= 0)
        close(d->lock);
    free(d->path);
    free(d);
    return NULL;
}
