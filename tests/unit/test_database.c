/* Migrating, over schemas of the test's own. */
#include <criterion/criterion.h>
#include <errno.h>

#include "base/fault.h"
#include "store/database.h"

static char directory[] = "/tmp/test-database-XXXXXX";
static struct database database;

static void setup(void)
{
    cr_assert_not_null(mkdtemp(directory));
    database.path = xasprintf("%s/db", directory);
    cr_assert_eq(sqlite3_open(database.path, &database.sql), SQLITE_OK);
}

static void teardown(void)
{
    _cleanup_free_ char *command = xasprintf("rm -rf '%s'", directory);

    sqlite3_close(database.sql);
    free(database.path);
    cr_assert_eq(system(command), 0);
}

TestSuite(database, .init = setup, .fini = teardown);

#define ONE   "-- history\n\n-- version 1\nCREATE TABLE a(x);\nINSERT INTO a VALUES (1);\n"
#define TWO   ONE "\n-- version 2\nALTER TABLE a ADD COLUMN y DEFAULT 7;\n"
#define THREE TWO "\n-- version 3\nCREATE TABLE b AS SELECT x + y AS z FROM a;\nDROP TABLE a;"

static int number(const char *sql)
{
    sqlite3_stmt *statement = NULL;
    int n = -1;

    if (sqlite3_prepare_v2(database.sql, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        n = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return n;
}

static void migrate(const char *schema)
{
    struct fault f = {0};

    cr_assert_eq(database_migrate(&database, schema, &f), 0, "%s", f.text);
}

Test(database, a_new_one_goes_through_all_versions)
{
    migrate(THREE);
    cr_assert_eq(number("SELECT z FROM b"), 8);
    cr_assert_eq(number("PRAGMA user_version"), 3);
    cr_assert_eq(number("PRAGMA application_id"), 0x6c6c6d68);
}

Test(database, an_old_one_goes_on_from_where_it_is)
{
    migrate(ONE);
    cr_assert_eq(number("PRAGMA user_version"), 1);
    sqlite3_exec(database.sql, "UPDATE a SET x = 10", NULL, NULL, NULL);
    migrate(TWO);
    migrate(TWO);
    cr_assert_eq(number("SELECT x + y FROM a"), 17);
    migrate(THREE);
    cr_assert_eq(number("SELECT z FROM b"), 17);
}

Test(database, a_step_that_fails_leaves_everything_as_it_was)
{
    struct fault f = {0};

    migrate(ONE);
    cr_assert_lt(
        database_migrate(&database,
                         THREE "\n\n-- version 4\nCREATE TABLE c(x);\nINSERT INTO nowhere VALUES (1);\n", &f),
        0);
    cr_assert_not_null(strstr(f.text, "schema version 4"), "%s", f.text);
    cr_assert_not_null(strstr(f.text, "nowhere"), "%s", f.text);
    cr_assert_eq(number("PRAGMA user_version"), 1);
    cr_assert_eq(number("SELECT x FROM a"), 1);
    cr_assert_eq(number("SELECT count(*) FROM sqlite_schema"), 1);
    cr_assert_neq(sqlite3_get_autocommit(database.sql), 0);
    migrate(TWO);
}

Test(database, a_newer_one_is_left_alone)
{
    struct fault f = {0};

    migrate(THREE);
    cr_assert_eq(database_migrate(&database, TWO, &f), -ENOTSUP);
    cr_assert_not_null(strstr(f.text, "schema 3, this one knows 2"), "%s", f.text);
    cr_assert_eq(number("SELECT z FROM b"), 8);
}

Test(database, one_of_another_program_is_left_alone)
{
    struct fault f = {0};

    sqlite3_exec(database.sql, "CREATE TABLE a(x)", NULL, NULL, NULL);
    cr_assert_eq(database_migrate(&database, ONE, &f), -EBADMSG);
    cr_assert_eq(number("SELECT count(*) FROM sqlite_schema"), 1);
    cr_assert_eq(number("PRAGMA user_version"), 0);
}
