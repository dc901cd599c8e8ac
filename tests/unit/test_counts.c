/* What is counted of whom, and what of it a restart or a kill leaves.
 * wraps: timer_arm */
#include "gateway/counts.h"

#include "base/timer.h"
#include "tests/unit/store_world.h"

static struct counts *counts;
static uint64_t flush_in_ms;

void __real_timer_arm(struct timer *t, uint64_t delay_ms);
/* Nobody waits 30 s here. */
void __wrap_timer_arm(struct timer *t, uint64_t delay_ms);
void __wrap_timer_arm(struct timer *t, uint64_t delay_ms)
{
    flush_in_ms = delay_ms;
    __real_timer_arm(t, 0);
}

static void open_counts(void)
{
    struct fault f = {0};

    cr_assert_eq(counts_new(loop, store, &counts, &f), 0, "%s", f.text);
}

static void counts_setup(void)
{
    setup();
    open_counts();
}

static void counts_teardown(void)
{
    counts = counts_free(counts);
    teardown();
}

TestSuite(counts, .init = counts_setup, .fini = counts_teardown);

static void add(const char *model, const char *client)
{
    counts_add(counts, &(struct count_sample){.model = model,
                                              .client = client,
                                              .answered = true,
                                              .first_ms = 40,
                                              .total_ms = 900,
                                              .request_bytes = 100,
                                              .answer_bytes = 2000,
                                              .prompt_tokens = 21,
                                              .answer_tokens = 388});
}

static const struct count *of(const char *model, const char *client)
{
    const struct count *one;

    for (unsigned i = 0; (one = counts_at(counts, i)); i++)
        if (streq(one->model, model) && streq(one->client, client))
            return one;
    return NULL;
}

static void restart(void)
{
    counts = counts_free(counts);
    reopen_store();
    open_counts();
}

Test(counts, each_client_of_each_model_is_counted_by_itself)
{
    struct count all;

    add("ollama:a", "curl");
    add("ollama:a", "curl");
    add("ollama:a", "web");
    add("ollama:b", "curl");
    counts_add(counts,
               &(struct count_sample){.model = "ollama:a", .client = "web", .failed = true, .total_ms = 7});
    cr_assert_eq(of("ollama:a", "curl")->requests, 2);
    cr_assert_eq(of("ollama:a", "web")->requests, 2);
    cr_assert_eq(of("ollama:a", "web")->errors, 1);
    cr_assert_eq(of("ollama:b", "curl")->answer_tokens, 388);
    counts_of_model(counts, "ollama:a", &all);
    cr_assert_eq(all.requests, 4);
    cr_assert_eq(all.errors, 1);
    cr_assert_eq(all.prompt_tokens, 63);
    cr_assert_eq(all.request_bytes, 300);
    cr_assert_eq(all.answer_bytes, 6000);
    cr_assert_eq(histogram_count(&all.first), 3, "who was never answered has no first byte");
    cr_assert_eq(histogram_count(&all.total), 4);
    counts_of_model(counts, "ollama:c", &all);
    cr_assert_eq(all.requests, 0);
}

Test(counts, a_restart_leaves_all_of_it)
{
    struct count before, after;

    add("ollama:a", "curl");
    add("ollama:a", "web");
    restart();
    add("ollama:a", "web");
    counts_of_model(counts, "ollama:a", &before);
    restart();
    counts_of_model(counts, "ollama:a", &after);
    cr_assert_eq(after.requests, 3);
    cr_assert_eq(memcmp(&before, &after, sizeof(before)), 0);
    cr_assert_eq(of("ollama:a", "web")->requests, 2);
}

Test(counts, what_is_forgotten_stays_forgotten)
{
    add("ollama:a", "curl");
    add("ollama:b", "curl");
    restart();
    counts_forget(counts, "ollama:a");
    cr_assert_null(of("ollama:a", "curl"));
    restart();
    cr_assert_null(of("ollama:a", "curl"));
    cr_assert_eq(of("ollama:b", "curl")->requests, 1);
}

Test(counts, a_client_with_ever_new_names_does_not_fill_the_memory)
{
    struct count all;
    unsigned n = 0;
    char name[16];

    for (unsigned i = 0; i < 1000; i++) {
        snprintf(name, sizeof(name), "c%u", i);
        add("ollama:a", name);
    }
    add("ollama:b", "late");
    while (counts_at(counts, n))
        n++;
    cr_assert_eq(n, COUNTS_CLIENTS_MAX + 2);
    cr_assert_eq(of("ollama:a", COUNTS_OTHERS)->requests, 1000 - COUNTS_CLIENTS_MAX);
    cr_assert_eq(of("ollama:b", "late")->requests, 1);
    counts_of_model(counts, "ollama:a", &all);
    cr_assert_eq(all.requests, 1000);
}

Test(counts, without_a_store_they_are_counted_all_the_same)
{
    struct fault f = {0};

    counts = counts_free(counts);
    cr_assert_eq(counts_new(loop, NULL, &counts, &f), 0);
    add("ollama:a", "curl");
    cr_assert_eq(of("ollama:a", "curl")->requests, 1);
    counts_forget(counts, "ollama:a");
    cr_assert_null(counts_at(counts, 0));
}

static int64_t requests_on_disk(void)
{
    sqlite3 *sql;
    sqlite3_stmt *row;
    int64_t n;

    cr_assert_eq(sqlite3_open_v2(database, &sql, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_prepare_v2(sql, "SELECT total(requests) FROM count", -1, &row, NULL), SQLITE_OK);
    cr_assert_eq(sqlite3_step(row), SQLITE_ROW);
    n = sqlite3_column_int64(row, 0);
    sqlite3_finalize(row);
    sqlite3_close(sql);
    return n;
}

Test(counts, a_kill_loses_thirty_seconds_at_most)
{
    add("ollama:a", "curl");
    cr_assert_eq(flush_in_ms, COUNTS_FLUSH_MS);
    cr_assert_eq(requests_on_disk(), 0);
    add("ollama:a", "curl");
    cr_assert(LOOP_UNTIL(loop, requests_on_disk() == 2));
    add("ollama:b", "curl"); /* and from then on again */
    cr_assert(LOOP_UNTIL(loop, requests_on_disk() == 3));
}
