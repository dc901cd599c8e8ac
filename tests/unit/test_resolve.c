/* getaddrinfo() is ours here: it hangs until it is let go, and answers as each test wants. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <string.h>

#include "base/fault.h"
#include "base/op.h"
#include "base/resolve.h"
#include "proto/mem.h"
#include "tests/fixture/loop_fixture.h"

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hangs;
    unsigned running, most_running, asked;
    int error;
    unsigned addresses; /* how many it answers with */
    unsigned char last; /* last byte of the first */
} net = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .addresses = 1, .last = 1};

static struct addrinfo *make_list(unsigned n)
{
    struct addrinfo *list = NULL;

    for (unsigned i = n; i-- > 0;) {
        struct addrinfo *a = xnew(struct addrinfo);
        struct sockaddr_in *in = xnew(struct sockaddr_in);
        char ip[32];

        snprintf(ip, sizeof(ip), "192.0.2.%u", net.last + i);
        inet_pton(AF_INET, ip, &in->sin_addr);
        in->sin_family = AF_INET;
        *a = (struct addrinfo){.ai_family = AF_INET,
                               .ai_addr = (struct sockaddr *)in,
                               .ai_addrlen = sizeof(*in),
                               .ai_next = list};
        list = a;
    }
    return list;
}

int getaddrinfo(const char *restrict node, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict ret)
{
    int r;

    (void)node;
    (void)service;
    (void)hints;
    pthread_mutex_lock(&net.lock);
    net.asked++;
    net.running++;
    net.most_running = MAX(net.most_running, net.running);
    while (net.hangs)
        pthread_cond_wait(&net.changed, &net.lock);
    net.running--;
    r = net.error;
    if (r == 0)
        *ret = make_list(net.addresses);
    pthread_mutex_unlock(&net.lock);
    return r;
}

void freeaddrinfo(struct addrinfo *list)
{
    while (list) {
        struct addrinfo *next = list->ai_next;

        free(list->ai_addr);
        free(list);
        list = next;
    }
}

static void net_hangs(bool hangs)
{
    pthread_mutex_lock(&net.lock);
    net.hangs = hangs;
    pthread_cond_broadcast(&net.changed);
    pthread_mutex_unlock(&net.lock);
}

static unsigned net_running(void)
{
    unsigned n;

    pthread_mutex_lock(&net.lock);
    n = net.running;
    pthread_mutex_unlock(&net.lock);
    return n;
}

struct asker {
    struct op *op;
    unsigned calls;
    bool slot_was_clear;
    struct addresses found;
    struct fault fault;
};

static void on_resolved(void *ctx, const struct addresses *found, const struct fault *f)
{
    struct asker *a = ctx;

    a->calls++;
    a->slot_was_clear = a->op == NULL;
    cr_assert_neq(found == NULL, f == NULL);
    a->found = found ? *found : (struct addresses){0};
    a->fault = f ? *f : (struct fault){0};
}

static struct loop *l;
static struct resolver *r;

static void setup(void)
{
    l = loop_new();
    r = resolver_new(l);
}

static void teardown(void)
{
    net_hangs(false);
    resolver_free(r);
    loop_free_dry(l);
}

TestSuite(resolve, .init = setup, .fini = teardown);

static void ask(struct asker *a, const char *host)
{
    *a = (struct asker){0};
    resolve(r, host, 22, &a->op, on_resolved, a);
    cr_assert_eq(a->calls, 0, "not from inside the call");
    cr_assert_not_null(a->op);
}

static void ask_and_wait(struct asker *a, const char *host)
{
    ask(a, host);
    cr_assert(LOOP_UNTIL(l, a->calls));
    cr_assert(a->slot_was_clear);
}

static void expect_first(const struct asker *a, const char *expected)
{
    char text[64];

    cr_assert_gt(a->found.n, 0);
    cr_assert_str_eq(address_format(&a->found.at[0], text, sizeof(text)), expected);
}

Test(resolve, answer)
{
    struct asker a;

    net.addresses = 3;
    ask_and_wait(&a, "gpu.example");
    cr_assert_eq(a.found.n, 3);
    expect_first(&a, "192.0.2.1:22");
    net.addresses = 20;
    ask_and_wait(&a, "many.example");
    cr_assert_eq(a.found.n, RESOLVE_ADDRESSES_MAX);
}

Test(resolve, numbers_need_no_look_up)
{
    struct asker a;

    ask_and_wait(&a, "10.1.2.3");
    expect_first(&a, "10.1.2.3:22");
    ask_and_wait(&a, "fe80::1");
    expect_first(&a, "[fe80::1]:22");
    cr_assert_eq(net.asked, 0);
}

Test(resolve, fault)
{
    struct asker a;

    net.error = EAI_NONAME;
    ask_and_wait(&a, "nowhere.example");
    cr_assert_eq(a.fault.kind, FAULT_GONE);
    cr_assert_not_null(strstr(a.fault.text, "nowhere.example"));
    net.error = EAI_AGAIN;
    ask_and_wait(&a, "nowhere.example");
    cr_assert_eq(a.fault.kind, FAULT_TRANSIENT);
    net.error = 0;
    net.addresses = 0;
    ask_and_wait(&a, "nothing.example");
    cr_assert_eq(a.fault.kind, FAULT_GONE);
}

Test(resolve, a_name_that_cannot_be_one_is_a_fault_from_the_loop)
{
    char longest[300];
    struct asker a;

    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    ask_and_wait(&a, longest);
    cr_assert_eq(a.fault.kind, FAULT_GONE);
    ask_and_wait(&a, "");
    cr_assert_eq(a.fault.kind, FAULT_GONE);
    cr_assert_eq(net.asked, 0);
}

Test(resolve, timeout)
{
    struct asker a;

    net_hangs(true);
    ask(&a, "slow.example");
    cr_assert(LOOP_UNTIL(l, net_running() == 1));
    loop_advance(l, 4900);
    cr_assert_eq(a.calls, 0);
    loop_advance(l, 101);
    cr_assert_eq(a.calls, 1);
    cr_assert(a.slot_was_clear);
    cr_assert_eq(a.fault.kind, FAULT_TRANSIENT);
    cr_assert_eq(a.fault.error, -ETIMEDOUT);
    net_hangs(false);
    cr_assert(LOOP_UNTIL(l, net_running() == 0));
    loop_turns(l, 3);
    cr_assert_eq(a.calls, 1, "the late answer is not told");
}

Test(resolve, cancelled_before_the_answer)
{
    struct asker running, waiting, number;

    net_hangs(true);
    ask(&running, "a.example");
    ask(&waiting, "b.example");
    op_cancel(&waiting.op);
    cr_assert(LOOP_UNTIL(l, net_running() >= 1));
    op_cancel(&running.op);
    ask(&number, "10.0.0.1");
    op_cancel(&number.op);
    net_hangs(false);
    loop_advance(l, 10000);
    cr_assert_eq(running.calls + waiting.calls + number.calls, 0);
}

Test(resolve, owner_freed_before_the_answer)
{
    struct asker *a = xnew(struct asker);

    net_hangs(true);
    ask(a, "a.example");
    cr_assert(LOOP_UNTIL(l, net_running() == 1));
    op_cancel(&a->op);
    free(a);
    net_hangs(false);
    loop_turns(l, 5);
}

Test(resolve, the_resolver_may_be_freed_with_questions_in_flight)
{
    struct asker a[4];

    net_hangs(true);
    for (unsigned i = 0; i < 3; i++)
        ask(&a[i], "a.example");
    cr_assert(LOOP_UNTIL(l, net_running() == 2));
    ask(&a[3], "10.0.0.1");
    r = resolver_free(r);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_null(a[i].op);
    net_hangs(false);
    loop_advance(l, 10000);
    cr_assert_eq(a[0].calls + a[1].calls + a[2].calls + a[3].calls, 0);
}

Test(resolve, two_are_in_flight_and_the_others_wait_for_their_turn)
{
    struct asker a[6];

    net_hangs(true);
    for (unsigned i = 0; i < 6; i++)
        ask(&a[i], "a.example");
    cr_assert(LOOP_UNTIL(l, net_running() == 2));
    loop_turns(l, 3);
    net_hangs(false);
    for (unsigned i = 0; i < 6; i++)
        cr_assert(LOOP_UNTIL(l, a[i].calls == 1), "%u", i);
    cr_assert_eq(net.asked, 6);
    cr_assert_leq(net.most_running, 2);
}

Test(resolve, those_that_wait_have_a_deadline_too_and_hung_look_ups_stay_counted)
{
    struct asker a[4], later;

    net_hangs(true);
    for (unsigned i = 0; i < 4; i++)
        ask(&a[i], "a.example");
    cr_assert(LOOP_UNTIL(l, net_running() == 2));
    loop_advance(l, 5001);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(a[i].fault.error, -ETIMEDOUT, "%u", i);
    ask(&later, "b.example");
    loop_turns(l, 5);
    cr_assert_eq(net.asked, 2, "the pool's other threads stay free");
    net_hangs(false);
    cr_assert(LOOP_UNTIL(l, later.calls));
    expect_first(&later, "192.0.2.1:22");
}

Test(resolve, old_addresses_stand_in_when_the_resolver_is_away)
{
    struct asker a;

    ask_and_wait(&a, "gpu.example");
    net.last = 77;
    net.error = EAI_AGAIN;
    ask_and_wait(&a, "gpu.example");
    expect_first(&a, "192.0.2.1:22");
    net.error = 0;
    ask_and_wait(&a, "gpu.example");
    expect_first(&a, "192.0.2.77:22");
    net_hangs(true);
    ask(&a, "gpu.example");
    loop_advance(l, 5001);
    cr_assert_eq(a.calls, 1);
    expect_first(&a, "192.0.2.77:22");
    net_hangs(false);
    net.error = EAI_NONAME;
    ask_and_wait(&a, "gpu.example");
    cr_assert_eq(a.fault.kind, FAULT_GONE, "that it does not exist is an answer");
}

Test(resolve, memory_is_bounded)
{
    struct asker a;
    char host[32];

    for (unsigned i = 0; i < 70; i++) {
        snprintf(host, sizeof(host), "h%u.example", i);
        ask_and_wait(&a, host);
    }
    net.error = EAI_AGAIN;
    ask_and_wait(&a, "h69.example");
    cr_assert_eq(a.found.n, 1);
    ask_and_wait(&a, "h6.example");
    cr_assert_eq(a.found.n, 1);
    ask_and_wait(&a, "h5.example");
    cr_assert_eq(a.found.n, 0, "the oldest are forgotten");
}

static struct asker second;

static void free_resolver(void *ctx, const struct addresses *found, const struct fault *f)
{
    on_resolved(ctx, found, f);
    r = resolver_free(r);
}

Test(resolve, the_resolver_may_be_freed_inside_done)
{
    struct asker a = {0};

    resolve(r, "a.example", 22, &a.op, free_resolver, &a);
    ask(&second, "b.example");
    cr_assert(LOOP_UNTIL(l, a.calls));
    loop_turns(l, 5);
    cr_assert_null(r);
}
