/* links: provider
 *
 * The console's calls as ops: over a real socket to a scripted server. */
#define PROVIDER "autodl-console"
#include "tests/unit/autodl_world.h"

#include "base/clock.h"

#define AT        "/api/v1/instance"
#define ANSWER(x) OK_HEAD "{\"code\":\"Success\",\"msg\":\"\",\"data\":" x "}"
#define TIME(x)   "{\"Time\":\"" x "\",\"Valid\":true}"
/* One of the list as it was captured (reference/autodl.md §3.2), its values changed. */
#define ROW(id, status, more)                                                                                \
    "{\"uuid\":\"" id "\",\"name\":\"mine\",\"status\":\"" status                                            \
    "\",\"snapshot_gpu_alias_name\":\"RTX 4090\","                                                           \
    "\"req_gpu_amount\":2,\"payg_price\":3960,\"charge_type\":\"payg\",\"start_mode\":\"non_gpu\","          \
    "\"proxy_host\":\"connect.h.example\",\"ssh_port\":34222,\"root_password\":\"secret-2\"," more           \
    "\"expired_at\":{\"Time\":\"0001-01-01T00:00:00Z\",\"Valid\":false}}"
#define TIMED "\"timed_shutdown_at\":" TIME("2026-11-28T22:10:00+08:00") ","

static const struct http_script good[] = {
    {.path = AT,
     .pieces = {ANSWER(
         "{\"list\":[" ROW("a-1", "running", TIMED) "," ROW("a-2", "shutdown", "") "],\"max_page\":1}")},
     .then = HTTP_CLOSE},
    {.path = AT "/timed/shutdown", .pieces = {ANSWER("null")}, .then = HTTP_CLOSE},
    {.path = AT "/power_on", .pieces = {OK_HEAD "{\"code\":\"OK\",\"data\":null}"}, .then = HTTP_CLOSE},
    {.path = AT "/power_off", .pieces = {ANSWER("null")}, .then = HTTP_CLOSE},
    {.path = "/api/v1/user/machine/list",
     .pieces = {ANSWER(
         "{\"list\":["
         "{\"gpu_name\":\"RTX 4090\",\"gpu_order_num\":2,\"payg_price\":2080},"
         "{\"gpu_name\":\"RTX 4090\",\"gpu_order_num\":3,\"payg_price\":1910},"
         "{\"gpu_name\":\"TITAN Xp\",\"gpu_order_num\":1,\"payg_price\":500}],\"max_page\":1}")},
     .then = HTTP_CLOSE},
};
static const struct http_script bad[] = {
    {.path = AT "/timed/shutdown",
     .pieces = {OK_HEAD "{\"code\":\"RequestParameterIsWrong\",\"msg\":\"请求参数错误\"}"},
     .then = HTTP_CLOSE},
    {.path = AT "/power_on",
     .pieces = {OK_HEAD "{\"code\":\"InstanceError\",\"msg\":\"该主机空闲GPU不足, 主机GPU空闲数量：0 卡\"}"},
     .then = HTTP_CLOSE},
    {.path = AT,
     .pieces = {OK_HEAD "{\"code\":\"AuthorizeFailed\",\"data\":null,\"msg\":\"登陆超时，请重新登录\"}"},
     .then = HTTP_CLOSE},
    {.path = AT "/power_off", .then = HTTP_CLOSE},
    {.path = "/api/v1/user/machine/list", .pieces = {OK_HEAD "<html>"}, .then = HTTP_CLOSE},
};

static const struct http_script busy[] = {
    {.path = AT "/timed/shutdown",
     .pieces = {"HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n"},
     .then = HTTP_CLOSE},
    {.path = AT "/power_on", .then = HTTP_CLOSE},
};
static const struct http_script lost[] = {
    {.path = AT "/timed/shutdown", .pieces = {ANSWER("null")}, .then = HTTP_CLOSE},
    {.path = AT "/power_on", .then = HTTP_CLOSE},
};

TestSuite(autodl_console, .init = setup, .fini = teardown);

static void answered(void)
{
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_NONE, "%s", heard.fault.text);
}

Test(autodl_console, it_neither_makes_machines_nor_gives_them_back)
{
    account_opens(good, ELEMENTS(good));
    cr_assert(ops->unofficial && ops->has_no_card);
    cr_assert_null(ops->create);
    cr_assert_null(ops->release);
    cr_assert_null(ops->balance);
    cr_assert_null(ops->images);
}

Test(autodl_console, the_list_tells_what_each_machine_is)
{
    account_opens(good, ELEMENTS(good));
    ops->list(account, &heard.op, on_list, NULL);
    answered();
    cr_assert(
        asked_with("{\"date_from\":\"\",\"date_to\":\"\",\"page_index\":1,\"page_size\":50,\"status\":[],"
                   "\"charge_type\":[]}"));
    cr_assert(asked_with("\r\nAuthorization: token-1\r\n"));
    cr_assert_eq(heard.n_seen, 2);
    cr_assert_eq(heard.seen[0].power, INSTANCE_ON);
    cr_assert(heard.seen[0].no_card, "it is on without its card");
    cr_assert_eq(heard.seen[0].off_at_ms, 1795875000000);
    cr_assert_str_eq(heard.seen[0].gpu, "RTX 4090");
    cr_assert_eq(heard.seen[0].cards, 2);
    cr_assert_eq(heard.seen[0].price_milli, 3960);
    cr_assert_eq(heard.seen[1].power, INSTANCE_OFF);
    cr_assert_not(heard.seen[1].no_card, "how it was on last says nothing");
    cr_assert_eq(heard.seen[1].off_at_ms, 0);
}

Test(autodl_console, the_way_in_is_that_of_a_machine_that_runs)
{
    account_opens(good, ELEMENTS(good));
    ops->reach(account, "a-1", &heard.op, on_way, NULL);
    answered();
    cr_assert_str_eq(heard.way.host, "connect.h.example");
    cr_assert_eq(heard.way.port, 34222);
    cr_assert_str_eq(heard.way.password, "secret-2");
    cr_assert_eq(heard.way.price_milli, 3960);
    ops->reach(account, "a-2", &heard.op, on_way, NULL);
    answered();
    cr_assert_str_empty(heard.way.host, "what stands there while it is off is of the boot before");
    ops->reach(account, "a-3", &heard.op, on_way, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_GONE);
}

Test(autodl_console, the_timer_is_set_before_it_is_switched_on)
{
    account_opens(good, ELEMENTS(good));
    ops->start(account, "a-2", &(struct instance_start){.first_ms = 1800000}, &heard.op, on_done, NULL);
    answered();
    cr_assert_eq(http_fixture_requests(server), 2);
    cr_assert(asked_with("{\"instance_uuid\":\"a-2\",\"payload\":\"gpu\"}"));
    ops->start(account, "a-2", &(struct instance_start){.no_card = true}, &heard.op, on_done, NULL);
    answered();
    cr_assert_eq(http_fixture_requests(server), 3, "nothing is set where nothing was asked for");
    cr_assert(asked_with("\"payload\":\"non_gpu\""));
    ops->stop(account, "a-2", &heard.op, on_done, NULL);
    answered();
    cr_assert(asked_with("{\"instance_uuid\":\"a-2\"}"));
}

Test(autodl_console, the_first_time_is_counted_by_its_own_clock)
{
    account_opens(busy, ELEMENTS(busy));
    their_at_ms = 1795873140000;
    ops->start(account, "a-2", &(struct instance_start){.first_ms = 1800000}, &heard.op, on_done, NULL);
    answers();
    cr_assert(asked_with("\"shutdown_at\":\"2026-11-28 22:09\""));
}

Test(autodl_console, its_timer_knows_whole_minutes_of_shanghai)
{
    account_opens(good, ELEMENTS(good));
    ops->set_timer(account, "a-1", 1795874940001, &heard.op, on_done, NULL);
    answered();
    cr_assert(asked_with("{\"instance_uuid\":\"a-1\",\"shutdown_at\":\"2026-11-28 22:10\"}"),
              "never earlier");
    ops->set_timer(account, "a-1", 0, &heard.op, on_done, NULL);
    answered();
    cr_assert(asked_with("{\"instance_uuid\":\"a-1\",\"shutdown_at\":null}"));
}

Test(autodl_console, the_other_form_of_the_time_is_tried_once)
{
    account_opens(bad, ELEMENTS(bad));
    ops->set_timer(account, "a-1", 1795875000000, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_INVALID);
    cr_assert_eq(http_fixture_requests(server), 2);
    cr_assert(asked_with("\"shutdown_at\":1795875000000}"));
    ops->start(account, "a-1", &(struct instance_start){.first_ms = 1800000}, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_INVALID, "without its timer it is not switched on");
    cr_assert_eq(http_fixture_requests(server), 4);
}

/* What may have acted is waited for; here nothing was switched on, whatever became of the timer. */
Test(autodl_console, without_its_timer_nothing_is_in_doubt)
{
    account_opens(busy, ELEMENTS(busy));
    ops->start(account, "a-1", &(struct instance_start){.first_ms = 1800000}, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_EXHAUSTED, "%s", heard.fault.text);
    cr_assert_str_eq(heard.fault.code, "no_timer");
    cr_assert_not_null(strstr(heard.fault.text, "not switched on"));
    ops->start(account, "a-1", &(struct instance_start){0}, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN, "of the power-on it is not known: %s", heard.fault.text);
    cr_assert_eq(http_fixture_requests(server), 2);
}

Test(autodl_console, a_power_on_without_an_answer_is_in_doubt_though_its_timer_was_set)
{
    account_opens(lost, ELEMENTS(lost));
    ops->start(account, "a-1", &(struct instance_start){.first_ms = 1800000}, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN, "%s", heard.fault.text);
    cr_assert_eq(http_fixture_requests(server), 2);
}

Test(autodl_console, refusals_are_what_they_are)
{
    account_opens(bad, ELEMENTS(bad));
    ops->start(account, "a-1", &(struct instance_start){0}, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_EXHAUSTED);
    cr_assert_str_eq(heard.fault.code, "host_full");
    ops->list(account, &heard.op, on_list, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_DENIED);
    cr_assert_str_eq(heard.fault.code, "token_refused");
    ops->stop(account, "a-1", &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN);
}

Test(autodl_console, the_market_is_todays_price_list)
{
    struct rental_offer card;
    char *why = NULL;

    account_opens(good, ELEMENTS(good));
    cr_assert_eq(ops->find_card(account, "NVIDIA GeForce RTX 4090 D", &card, &why), 0);
    cr_assert_str_eq(card.gpu, "4090D");
    cr_assert(card.unofficial);
    ops->offers(account, &heard.op, on_offers, NULL);
    answered();
    cr_assert_eq(ops->find_card(account, "RTX 4090", &card, &why), 0);
    cr_assert_eq(card.price_milli, 1910, "the cheapest");
    cr_assert_eq(heard.offers[0].stock, 5);
    cr_assert_str_eq(heard.offers[0].gpu, "4090");
    cr_assert_eq(ops->find_card(account, "TITAN Xp", &card, &why), -ENOENT, "whose memory nobody knows");
    cr_assert_not_null(strstr(why, "4090"));
    free(why);
}

Test(autodl_console, what_is_in_the_table_is_known_without_the_market)
{
    account_opens(bad, ELEMENTS(bad));
    ops->offers(account, &heard.op, on_offers, NULL);
    answered();
    cr_assert_gt(heard.n_offers, 3);
    cr_assert_eq(heard.offers[0].stock, -1);
    cr_assert_eq(heard.offers[0].price_milli, 1980);
}

Test(autodl_console, image_and_place_are_chosen_by_hand)
{
    const char *found = "";
    char *why = NULL;

    account_opens(good, ELEMENTS(good));
    cr_assert_eq(ops->find_image(account, NULL, &found, &why), 0);
    cr_assert_null(found);
    cr_assert_eq(ops->find_region(account, "beijing-E", &found, &why), -ENOENT);
    cr_assert_not_null(strstr(why, "https://www.autodl.com/console"));
    free(why);
}
