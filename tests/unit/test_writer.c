/* The thread alone, with jobs that do as the test says. */
#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "store/writer.h"
#include "tests/fixture/loop_fixture.h"

static struct loop *loop;
static struct writer *writer;
static atomic_uint runs, drops;
static unsigned overs;
static sem_t go_on, dropped;

struct test_job {
    struct job job;
    unsigned number; /* by which it must run and be over */
    bool hangs;
};

static void setup(void)
{
    sem_init(&go_on, 0, 0);
    sem_init(&dropped, 0, 0);
    loop = loop_new();
    writer = writer_new(loop, NULL);
}

static void teardown(void)
{
    writer = writer_free(writer);
    loop_free_dry(loop);
}

TestSuite(writer, .init = setup, .fini = teardown);

static void job_run(struct job *j, struct database *d)
{
    struct test_job *t = CONTAINER_OF(j, struct test_job, job);

    (void)d;
    if (t->hangs)
        sem_wait(&go_on);
    cr_assert_eq(atomic_fetch_add(&runs, 1), t->number);
}

static void job_over(struct job *j)
{
    struct test_job *t = CONTAINER_OF(j, struct test_job, job);

    cr_assert_eq(overs++, t->number);
    free(t);
}

static void job_drop(struct job *j)
{
    atomic_fetch_add(&drops, 1);
    free(CONTAINER_OF(j, struct test_job, job));
    sem_post(&dropped);
}

static void send_job(unsigned number, bool hangs)
{
    struct test_job *t = xnew(struct test_job);

    t->job = (struct job){.run = job_run, .over = job_over, .drop = job_drop};
    t->number = number;
    t->hangs = hangs;
    writer_send(writer, &t->job);
}

Test(writer, jobs_are_done_in_order_and_reported_on_the_loop)
{
    for (unsigned i = 0; i < 1000; i++)
        send_job(i, false);
    cr_assert(LOOP_UNTIL(loop, overs == 1000));
    cr_assert_eq(atomic_load(&drops), 0);
    cr_assert_not(loop_turn(loop, false), "an idle writer keeps no loop alive");
    send_job(1000, false);
    cr_assert(LOOP_UNTIL(loop, overs == 1001));
}

Test(writer, waiting_runs_what_is_over_and_is_bounded)
{
    send_job(0, false);
    send_job(1, false);
    cr_assert(writer_wait(writer, 10000));
    cr_assert_eq(overs, 2);
    send_job(2, true);
    cr_assert_not(writer_wait(writer, 20));
    cr_assert_eq(overs, 2);
    sem_post(&go_on);
    cr_assert(writer_wait(writer, 10000));
    cr_assert_eq(overs, 3);
}

Test(writer, freed_it_drops_what_is_not_over)
{
    send_job(0, true);
    send_job(1, false);
    sem_post(&go_on);
    writer = writer_free(writer);
    loop_turns(loop, 3);
    cr_assert_eq(overs, 0);
    cr_assert_eq(atomic_load(&drops), 2);
}

Test(writer, a_thread_that_hangs_is_left_to_itself)
{
    send_job(0, true);
    send_job(1, false);
    cr_assert_not(writer_wait(writer, 20));
    writer = writer_free(writer);
    cr_assert_eq(atomic_load(&drops), 0);
    sem_post(&go_on); /* much later */
    sem_wait(&dropped);
    sem_wait(&dropped);
    cr_assert_eq(overs, 0);
}
