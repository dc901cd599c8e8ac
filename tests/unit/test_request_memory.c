/* links: gateway
 * wraps: http1_new
 *
 * No memory for one more parser: of an application's connection, or of an engine's answer. */
#include "gateway/http1.h"

#include "tests/fixture/gateway_world.h"

TestSuite(request_memory, .init = world_open, .fini = world_close);

#define MODEL "{\"model\":\"deepseek-r1:7b\"}"

static unsigned missing[2]; /* how many times, by kind */

struct http1 *__real_http1_new(enum http1_kind kind);
struct http1 *__wrap_http1_new(enum http1_kind kind);

struct http1 *__wrap_http1_new(enum http1_kind kind)
{
    if (missing[kind]) {
        missing[kind]--;
        return NULL;
    }
    return __real_http1_new(kind);
}

static void is_served(unsigned link)
{
    struct app *a = app_new();

    app_post(a, "/v1/chat/completions", MODEL);
    cr_assert(LOOP_UNTIL(world.loop, link_has(link, MODEL)));
    link_say(link, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    app_wants(a, "\r\n\r\nok");
    app_free(a);
}

Test(request_memory, a_connection_without_is_closed_and_the_next_is_served)
{
    struct gateway_figures figures;
    struct app *a;

    missing[HTTP1_REQUEST] = 1;
    a = app_new();
    cr_assert(LOOP_UNTIL(world.loop, app_is_over(a)));
    app_free(a);
    cr_assert_eq(missing[HTTP1_REQUEST], 0);
    is_served(0);
    cr_assert(LOOP_UNTIL(world.loop, (gateway_figures(world.gateway, &figures), figures.open == 0)));
}

Test(request_memory, a_request_whose_answer_could_not_be_read_is_not_sent_and_tried_again)
{
    missing[HTTP1_ANSWER] = 1;
    is_served(1);
    cr_assert_eq(missing[HTTP1_ANSWER], 0);
    cr_assert_not(link_has(0, "POST"));
}
