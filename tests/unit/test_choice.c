/* links: deployment
 *
 * A model on whichever of several instances comes first: the real manager_choice.c over models, machines and a
 * clock of our own. */
#include <criterion/criterion.h>

#define clock_wall_ms           fake_clock_wall_ms
#define timer_new               fake_timer_new
#define timer_free              fake_timer_free
#define timer_arm               fake_timer_arm
#define timer_disarm            fake_timer_disarm
#define timer_is_armed          fake_timer_is_armed
#define event_publish           fake_event_publish
#define runq_add                fake_runq_add
#define deployment_goal         fake_deployment_goal
#define deployment_state        fake_deployment_state
#define deployment_name         fake_deployment_name
#define deployment_fault        fake_deployment_fault
#define deployment_figures(...) fake_deployment_figures(__VA_ARGS__)
#define deployment_lease        fake_deployment_lease
#define deployment_want         fake_deployment_want
#define deployment_pass         fake_deployment_pass
#define lease_rented            fake_lease_rented
#define lease_session           fake_lease_session
#define lease_name              fake_lease_name
#define lease_is_reachable      fake_lease_is_reachable
#define rented_life             fake_rented_life
#define rented_hunt             fake_rented_hunt
#define rented_record           fake_rented_record
#define rented_figures(...)     fake_rented_figures(__VA_ARGS__)
#define rented_look_until       fake_rented_look_until
#define life_state              fake_life_state
#define life_record(...)        fake_life_record(__VA_ARGS__)
#define store_put_choice        fake_store_put_choice
#define store_remove_choice     fake_store_remove_choice
#define power_find              fake_power_find
#define power_is_kept           fake_power_is_kept
#define life_next_at_ms         fake_life_next_at_ms
#define session_figures         fake_session_figures
#define session_state           fake_session_state
#define manager_find_on         fake_manager_find_on
#define manager_rent(...)       fake_manager_rent(__VA_ARGS__) /* there is a struct of that name */
#define manager_place           fake_manager_place
#include "manager_choice.c"

enum { PLACES = 3 };

/* A model, the machine it is on, all in one; a pointer to it stands for each of them. */
struct place {
    const char *name;
    bool rented, reachable;
    enum deployment_goal goal;
    enum deployment_state state;
    enum life_state life;
    struct life_record record;
    struct fault fault;
    int64_t keep_until_ms;
    bool goes_off_slowly, is_gone;
    struct hunt hunt;
    unsigned tries, n_wants;
    int64_t look_until_ms;
    struct rental_record rental;
    char passed[80]; /* why it is off */
};

static struct world {
    struct manager manager;
    struct place places[PLACES];
    struct managed_deployment deployments[PLACES];
    char kept[200]; /* what is on disk: whose turn it is, and all */
    bool is_kept;
    int64_t now;
    void (*fire)(void *ctx);
    void *fire_ctx;
    bool is_armed, was_freed, cannot_rent;
    unsigned n_rents, n_keeps_told, n_ends;
    uint64_t delay_ms;
} w;

int64_t fake_clock_wall_ms(void)
{
    return w.now;
}

struct timer *fake_timer_new(struct loop *l, void (*fire)(void *ctx), void *ctx)
{
    (void)l;
    w.fire = fire;
    w.fire_ctx = ctx;
    return NULL;
}

struct timer *fake_timer_free(struct timer *t)
{
    w.is_armed = false;
    w.was_freed = true;
    return t;
}

void fake_timer_arm(struct timer *t, uint64_t delay_ms)
{
    (void)t;
    w.is_armed = true;
    w.delay_ms = delay_ms;
}

void fake_timer_disarm(struct timer *t)
{
    (void)t;
    w.is_armed = false;
}

bool fake_timer_is_armed(const struct timer *t)
{
    (void)t;
    return w.is_armed;
}

void fake_event_publish(enum log_level level, enum log_source source, const char *target, const char *kind,
                        const char *format, ...)
{
    (void)level, (void)source, (void)target, (void)kind;
    w.n_keeps_told += strstr(format, "its keep on %s is over") != NULL;
}

/* Those that nothing came of are looked for. */
void fake_runq_add(struct loop *l, struct work *work)
{
    (void)l;
    cr_assert_eq(work, &w.manager.forget);
    w.n_ends++;
}

#define PLACE(p) ((const struct place *)(const void *)(p))

enum deployment_goal fake_deployment_goal(const struct deployment *d)
{
    return PLACE(d)->goal;
}

enum deployment_state fake_deployment_state(const struct deployment *d)
{
    return PLACE(d)->state;
}

struct lease *fake_deployment_lease(const struct deployment *d)
{
    return (struct lease *)(uintptr_t)d;
}

uint64_t fake_deployment_want(struct deployment *d, enum deployment_goal goal, bool cut)
{
    struct place *p = (struct place *)(void *)d;

    (void)cut;
    p->goal = goal;
    p->n_wants += goal != GOAL_OFF;
    p->state = goal == GOAL_OFF ? DEPLOYMENT_OFF : DEPLOYMENT_CONNECTING;
    if (goal != GOAL_OFF || !p->goes_off_slowly)
        p->life = goal == GOAL_OFF ? LIFE_ABSENT : LIFE_CREATING;
    else if (p->life == LIFE_RUNNING)
        p->life = LIFE_STOPPING;
    p->hunt.rounds = 0;
    return 1;
}

uint64_t fake_deployment_pass(struct deployment *d, const char *why, bool cut)
{
    snprintf(((struct place *)(void *)d)->passed, sizeof w.places[0].passed, "%.79s", why);
    return fake_deployment_want(d, GOAL_OFF, cut);
}

const char *fake_deployment_name(const struct deployment *d)
{
    (void)d;
    return "ollama:m";
}

const struct fault *fake_deployment_fault(const struct deployment *d)
{
    return &PLACE(d)->fault;
}

void fake_deployment_figures(const struct deployment *d, struct deployment_figures *ret)
{
    *ret = (struct deployment_figures){.keep_until_at_ms = PLACE(d)->keep_until_ms};
}

const struct life_record *fake_life_record(const struct life *l)
{
    return &PLACE(l)->record;
}

void fake_rented_figures(const struct rented *r, struct rented_figures *ret)
{
    *ret = (struct rented_figures){.rate_milli = PLACE(r)->reachable ? 1880 : 0};
}

struct power *fake_power_find(struct manager *m, const struct lease *l)
{
    (void)m;
    return (struct power *)(void *)PLACE(l);
}

bool fake_power_is_kept(const struct power *p)
{
    cr_assert_not_null(p);
    return w.is_kept;
}

store_ticket fake_store_put_choice(struct store *s, const struct choice_record *r)
{
    (void)s;
    cr_assert_str_eq(r->model, "ollama:m");
    snprintf(w.kept, sizeof w.kept, "%u of %s until %lld", r->turn, r->places, (long long)r->until_at_ms);
    return 1;
}

store_ticket fake_store_remove_choice(struct store *s, const char *model)
{
    (void)s;
    cr_assert_str_eq(model, "ollama:m");
    w.kept[0] = '\0';
    return 1;
}

struct rented *fake_lease_rented(const struct lease *l)
{
    return PLACE(l)->rented ? (struct rented *)(uintptr_t)l : NULL;
}

struct session *fake_lease_session(struct lease *l)
{
    return (struct session *)(void *)l;
}

const char *fake_lease_name(const struct lease *l)
{
    return PLACE(l)->name;
}

bool fake_lease_is_reachable(const struct lease *l)
{
    return PLACE(l)->reachable;
}

const struct life *fake_rented_life(const struct rented *r)
{
    return (const struct life *)(const void *)r;
}

const struct hunt *fake_rented_hunt(const struct rented *r)
{
    return &PLACE(r)->hunt;
}

const struct rental_record *fake_rented_record(const struct rented *r)
{
    return &PLACE(r)->rental;
}

void fake_rented_look_until(struct rented *r, int64_t at_ms)
{
    ((struct place *)(void *)r)->look_until_ms = at_ms;
}

enum life_state fake_life_state(const struct life *l)
{
    return PLACE(l)->life;
}

int64_t fake_life_next_at_ms(const struct life *l)
{
    (void)l;
    return w.now + 30000;
}

void fake_session_figures(const struct session *s, struct session_figures *ret)
{
    *ret = (struct session_figures){.tries = PLACE(s)->tries};
}

enum session_state fake_session_state(const struct session *s)
{
    (void)s;
    return SESSION_CONNECTING;
}

struct deployment *fake_manager_find_on(struct manager *m, const char *name, const char *instance)
{
    (void)m;
    cr_assert_str_eq(name, "ollama:m");
    for (unsigned i = 0; i < PLACES; i++)
        if (!w.places[i].is_gone && streq(w.places[i].name, instance))
            return (struct deployment *)(void *)&w.places[i];
    return NULL;
}

void manager_tell_lease(struct manager *m, struct lease *lease, bool gone)
{
    (void)m, (void)lease;
    cr_assert_not(gone);
}

bool manager_may_name(struct manager *m, const char *provider)
{
    (void)m, (void)provider;
    return true;
}

int fake_manager_rent(struct manager *m, const struct manager_rent *r, bool check, struct lease **ret,
                      uint64_t *ret_ticket, struct fault *f)
{
    (void)m, (void)check, (void)ret_ticket;
    w.n_rents++;
    cr_assert(r->anew && !r->name);
    cr_assert_str_eq(r->gpu, "4090D,5090");
    if (w.cannot_rent)
        return fault_code(f, FAULT_INVALID, "price", "all are too dear");
    *ret = (struct lease *)(void *)&w.places[1];
    return 0;
}

int fake_manager_place(struct manager *m, const char *model, const char *on, const struct json *arguments,
                       struct deployment **ret, struct fault *f)
{
    (void)m, (void)model, (void)arguments, (void)f;
    *ret = fake_manager_find_on(m, model, on);
    return 0;
}

/* ---- the stories ---- */

static void begins(int64_t until_ms)
{
    static const char *const names[] = {"a", "b", "attic"};

    w = (struct world){.now = 1000000};
    for (unsigned i = 0; i < PLACES; i++)
        w.places[i] =
            (struct place){.name = names[i], .rented = i < 2, .goal = GOAL_OFF, .state = DEPLOYMENT_OFF};
    list_init(&w.manager.choices);
    list_init(&w.manager.deployments);
    for (unsigned i = 0; i < PLACES; i++) {
        w.places[i].record.ours = true;
        w.deployments[i].deployment = (struct deployment *)(void *)&w.places[i];
        list_init(&w.deployments[i].node);
        list_append(&w.manager.deployments, &w.deployments[i].node);
    }
    fake_deployment_want((struct deployment *)(void *)&w.places[0], GOAL_ON_DEMAND, false);
    manager_choose(&w.manager, "ollama:m", names, PLACES, NULL, until_ms);
    choices_changed(&w.manager);
}

static void end(void)
{
    choices_drop(&w.manager);
    cr_assert(w.was_freed);
}

/* The one whose turn it is; two of them would be two machines. */
static const char *turn(void)
{
    const char *name = "nobody";
    unsigned n = 0;

    for (unsigned i = 0; i < PLACES; i++)
        if (w.places[i].goal != GOAL_OFF) {
            name = w.places[i].name;
            n++;
        }
    cr_assert_leq(n, 1);
    return name;
}

static void is_sold_out(unsigned i)
{
    w.places[i].life = LIFE_WAITING;
    w.places[i].hunt.rounds = 1;
    choices_changed(&w.manager);
}

static void time_comes(void)
{
    cr_assert(w.is_armed);
    w.is_armed = false;
    w.now += (int64_t)w.delay_ms;
    w.fire(w.fire_ctx);
    choices_changed(&w.manager);
}

Test(choice, each_has_its_turn_and_then_the_first_again)
{
    begins(0);
    cr_assert_str_eq(turn(), "a");
    cr_assert_not(w.is_armed, "it is being asked for");
    is_sold_out(0);
    cr_assert_eq(w.delay_ms, 2000);
    time_comes();
    cr_assert_str_eq(turn(), "b");
    cr_assert_str_eq(w.places[0].passed, "nothing came of a: now b");
    is_sold_out(1);
    time_comes();
    cr_assert_str_eq(turn(), "attic");
    w.places[2].tries = 2;
    choices_changed(&w.manager);
    time_comes();
    cr_assert_str_eq(turn(), "a");
    cr_assert_eq(w.places[0].n_wants, 2);
    cr_assert(manager_chooses(&w.manager, "ollama:m"));
    end();
}

Test(choice, it_goes_on_with_the_search_of_the_first_and_both_have_one_end)
{
    struct deployment *a = (struct deployment *)(void *)&w.places[0];
    static const char *const names[] = {"a", "b"};

    begins(1300000);
    cr_assert_eq(w.places[0].look_until_ms, 1300000);
    w.places[0].rental.wanted_at_ms = 995000;
    w.places[0].rental.search_until_at_ms = 1300000;
    manager_choose(&w.manager, "ollama:m", names, 2, NULL, 0);
    cr_assert_eq(manager_choice_began(&w.manager, a), 995000);
    cr_assert_eq(manager_choice_until(&w.manager, "ollama:m"), 1300000, "as it was said");
    cr_assert_eq(w.places[0].look_until_ms, 1300000);
    manager_choice_look_until(&w.manager, a, 1500000);
    cr_assert_eq(manager_choice_until(&w.manager, "ollama:m"), 1500000);
    cr_assert_str_eq(w.kept, "0 of a,b until 1500000");
    end();
}

Test(choice, it_stays_on_the_one_that_comes)
{
    begins(0);
    is_sold_out(0);
    time_comes();
    w.places[1].life = LIFE_RUNNING;
    w.places[1].reachable = true;
    choices_changed(&w.manager);
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"));
    cr_assert_str_eq(turn(), "b");
    cr_assert_eq(w.n_ends, 1, "what nothing came of is looked for");
}

Test(choice, nothing_happens_while_a_call_is_unsure)
{
    begins(0);
    is_sold_out(0);
    w.places[0].life = LIFE_UNKNOWN;
    choices_changed(&w.manager);
    cr_assert_not(w.is_armed);
    is_sold_out(0);
    w.places[0].life = LIFE_CREATING; /* it tries again by itself just then */
    w.is_armed = false;
    w.fire(w.fire_ctx);
    cr_assert_str_eq(turn(), "a");
    end();
}

Test(choice, part_of_a_round_is_no_turn)
{
    begins(0);
    w.places[0].life = LIFE_WAITING;
    choices_changed(&w.manager);
    cr_assert_not(w.is_armed, "its other cards come first");
    end();
}

Test(choice, a_word_ends_it)
{
    begins(0);
    is_sold_out(0);
    w.places[0].goal = GOAL_OFF;
    choices_changed(&w.manager);
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"));
    cr_assert_str_eq(turn(), "nobody");
}

Test(choice, when_all_have_failed_the_last_one_says_why)
{
    begins(0);
    for (unsigned i = 0; i < PLACES; i++) {
        w.places[i].state = DEPLOYMENT_FAILED;
        choices_changed(&w.manager);
        if (i + 1 < PLACES)
            time_comes();
    }
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"));
    cr_assert_str_eq(turn(), "attic");
    cr_assert_eq(w.places[2].state, DEPLOYMENT_FAILED);
}

Test(choice, its_end_is_that_of_each_search)
{
    begins(1000000 + 3000);
    is_sold_out(0);
    time_comes();
    cr_assert_eq(w.places[1].look_until_ms, 1000000 + 3000);
    is_sold_out(1);
    time_comes();
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"), "the time is over");
    cr_assert_str_eq(turn(), "b");
}

Test(choice, the_last_of_a_round_waits_until_it_would_try_again)
{
    begins(0);
    choices_drop(&w.manager);
    manager_choose(&w.manager, "ollama:m", (const char *const[]){"a", "b"}, 2, NULL, 0);
    is_sold_out(0);
    time_comes();
    is_sold_out(1);
    cr_assert_eq(w.delay_ms, 29000);
    time_comes();
    cr_assert_str_eq(turn(), "a");
    end();
}

static void begins_with_one_that_is_off(void)
{
    const struct manager_rent rent = {.gpu = "4090D,5090", .name = "said for the first"};

    begins(0);
    choices_drop(&w.manager);
    snprintf(w.places[0].record.id, sizeof w.places[0].record.id, "pro-1");
    manager_choose(&w.manager, "ollama:m", (const char *const[]){"a", "attic"}, 2, &rent, 0);
    is_sold_out(0);
    cr_assert_eq(w.n_rents, 0, "not before it is its turn");
    time_comes();
}

Test(choice, a_machine_is_made_when_the_one_that_is_off_has_no_card)
{
    begins_with_one_that_is_off();
    cr_assert_str_eq(turn(), "b");
    is_sold_out(1);
    time_comes();
    cr_assert_str_eq(turn(), "attic");
    w.places[2].tries = 2;
    choices_changed(&w.manager);
    time_comes();
    is_sold_out(0);
    time_comes();
    cr_assert_str_eq(turn(), "b");
    cr_assert_eq(w.n_rents, 1, "it is there now");
    end();
}

Test(choice, where_no_machine_can_be_made_it_ends_and_the_first_goes_on)
{
    begins_with_one_that_is_off();
    choices_drop(&w.manager);
    w.cannot_rent = true;
    w.n_rents = 0;
    w.places[1].goal = GOAL_OFF;
    fake_deployment_want((struct deployment *)(void *)&w.places[0], GOAL_ON_DEMAND, false);
    manager_choose(&w.manager, "ollama:m", (const char *const[]){"a"}, 1,
                   &(struct manager_rent){.gpu = "4090D,5090"}, 0);
    cr_assert_str_eq(w.kept, "0 of a,+ until 8202000");
    is_sold_out(0);
    time_comes();
    cr_assert_eq(w.n_rents, 1);
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"));
    cr_assert_str_eq(turn(), "a");
}

Test(choice, a_keep_ends_with_the_turn_and_that_is_said)
{
    begins(0);
    w.places[0].keep_until_ms = 9000000;
    is_sold_out(0);
    cr_assert_eq(w.n_keeps_told, 0);
    time_comes();
    cr_assert_eq(w.n_keeps_told, 1);
    is_sold_out(1);
    time_comes();
    cr_assert_eq(w.n_keeps_told, 1);
    end();
}

static void has_failed_of(unsigned i, const char *code)
{
    w.places[i].state = DEPLOYMENT_FAILED;
    fault_code(&w.places[i].fault, FAULT_DENIED, code, "that was it");
    choices_changed(&w.manager);
}

Test(choice, one_that_is_too_dear_is_off_before_the_next_begins_and_has_no_other_turn)
{
    begins(0);
    w.places[0].life = LIFE_RUNNING;
    w.places[0].goes_off_slowly = true;
    has_failed_of(0, "price");
    time_comes();
    cr_assert_str_eq(turn(), "nobody", "it is not off yet");
    cr_assert_str_eq(w.kept, "0 of b,attic until 8200000");
    for (unsigned i = 0; i < 3; i++)
        time_comes();
    cr_assert_str_eq(turn(), "nobody");
    w.places[0].life = LIFE_STOPPED;
    time_comes();
    cr_assert_str_eq(turn(), "b");
    is_sold_out(1);
    time_comes();
    w.places[2].tries = 2;
    choices_changed(&w.manager);
    time_comes();
    cr_assert_str_eq(turn(), "b", "a has had its only turn");
    cr_assert_eq(w.places[0].n_wants, 1);
    end();
}

Test(choice, one_that_somebody_keeps_on_is_not_waited_for)
{
    begins(0);
    w.places[0].life = LIFE_RUNNING;
    w.places[0].goes_off_slowly = true;
    w.is_kept = true;
    has_failed_of(0, "engine_died");
    time_comes();
    cr_assert_str_eq(turn(), "b");
    end();
}

Test(choice, a_machine_is_made_after_the_one_that_was_too_dear)
{
    const struct manager_rent rent = {.gpu = "4090D,5090"};

    begins(0);
    choices_drop(&w.manager);
    manager_choose(&w.manager, "ollama:m", (const char *const[]){"a"}, 1, &rent, 0);
    is_sold_out(0);
    cr_assert_not(w.is_armed, "it asks for both cards itself");
    snprintf(w.places[0].record.id, sizeof w.places[0].record.id, "pro-1");
    has_failed_of(0, "price");
    time_comes();
    cr_assert_str_eq(turn(), "b");
    cr_assert_str_eq(w.kept, "0 of b,+ until 8200000");
    is_sold_out(1);
    cr_assert_not(w.is_armed);
    end();
}

Test(choice, what_the_company_refused_to_make_is_not_asked_for_again)
{
    const struct manager_rent rent = {.gpu = "4090D,5090"};

    begins(0);
    choices_drop(&w.manager);
    manager_choose(&w.manager, "ollama:m", (const char *const[]){"a", "attic"}, 2, &rent, 0);
    has_failed_of(0, "not_verified");
    time_comes();
    cr_assert_str_eq(turn(), "attic");
    cr_assert_eq(w.n_rents, 0);
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"), "nobody else is left");
    cr_assert_str_eq(w.kept, "");
}

Test(choice, a_word_takes_one_away_and_it_goes_on_with_the_others)
{
    begins(0);
    manager_choose_without(&w.manager, (struct deployment *)(void *)&w.places[0]);
    fake_deployment_want((struct deployment *)(void *)&w.places[0], GOAL_OFF, false);
    cr_assert_str_eq(w.kept, "0 of b,attic until 8200000");
    time_comes();
    cr_assert_str_eq(turn(), "b");
    w.places[2].is_gone = true; /* its instance was removed */
    choices_changed(&w.manager);
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"), "b is looked for alone");
    cr_assert_str_eq(turn(), "b");
}

Test(choice, a_word_about_all_of_them_ends_it)
{
    begins(0);
    for (unsigned i = 0; i < PLACES; i++) {
        manager_choose_without(&w.manager, (struct deployment *)(void *)&w.places[i]);
        fake_deployment_want((struct deployment *)(void *)&w.places[i], GOAL_OFF, false);
    }
    cr_assert_not(manager_chooses(&w.manager, "ollama:m"));
    cr_assert_str_eq(w.kept, "");
    cr_assert_not(w.is_armed);
}

Test(choice, a_restart_goes_on_with_the_same_ones_in_the_same_order)
{
    const struct choice_record record = {
        .model = (char *)"ollama:m", .places = (char *)"a,b,attic", .turn = 1, .until_at_ms = 5000000};

    begins(0);
    choices_drop(&w.manager);
    w.places[0].goal = GOAL_OFF;
    w.places[0].life = LIFE_UNKNOWN; /* it may be on */
    choices_restore(&w.manager, &record);
    time_comes();
    cr_assert_str_eq(turn(), "nobody", "what became of the first one is looked at");
    w.places[0].life = LIFE_ABSENT;
    time_comes();
    cr_assert_str_eq(turn(), "b");
    cr_assert_eq(w.places[1].look_until_ms, 5000000);
    is_sold_out(1);
    time_comes();
    cr_assert_str_eq(turn(), "attic");
    cr_assert_str_eq(w.kept, "2 of a,b,attic until 5000000");
    w.places[2].tries = 2;
    choices_changed(&w.manager);
    time_comes();
    cr_assert_str_eq(turn(), "a");
    end();
}
