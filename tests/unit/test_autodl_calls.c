/* links: provider
 *
 * AutoDL's calls as ops: over a real socket to a scripted server. */
#define PROVIDER "autodl"
#include "tests/unit/autodl_world.h"

#define PRO(x)  "/api/v1/dev/instance/pro/" x
#define STOCK   "/api/v1/dev/machine/region/gpu_stock"
#define ROW(id) "{\"uuid\":\"" id "\",\"name\":\"n\",\"status\":\"running\"}"

static const struct http_script good[] = {
    {.path = PRO("list"),
     .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":{\"list\":[" ROW("pro-1") "," ROW(
         "pro-2") "],\"max_page\":2}}"},
     .then = HTTP_CLOSE},
    {.path = PRO("create"),
     .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":\"pro-3\"}"},
     .then = HTTP_CLOSE},
    {.path = PRO("power_on"), .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":null}"}, .then = HTTP_CLOSE},
    {.path = PRO("power_off"),
     .pieces = {OK_HEAD "{\"code\":\"RecordNotFoundError\",\"msg\":\"未查询到相关实例\"}"},
     .then = HTTP_CLOSE},
    {.path = PRO("release"),
     .pieces = {OK_HEAD "{\"code\":\"BadRequest\",\"msg\":\"请在实例关机状态下执行释放操作\"}"},
     .then = HTTP_CLOSE},
    {.path = PRO("snapshot?instance_uuid=pro-1"),
     .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":{\"proxy_host\":\"h.example\",\"ssh_port\":2222,"
                        "\"root_password\":\"secret-1\",\"payg_price\":1970}}"},
     .then = HTTP_CLOSE},
    {.path = PRO("image/save"),
     .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":{\"image_uuid\":\"image-7\"}}"},
     .then = HTTP_CLOSE},
    {.path = PRO("image/private/list"),
     .pieces = {OK_HEAD
                "{\"code\":\"Success\",\"data\":{\"list\":[{\"image_uuid\":\"image-7\",\"name\":\"b\","
                "\"status\":\"finished\"}],\"max_page\":2}}"},
     .then = HTTP_CLOSE},
    {.path = "/api/v1/dev/wallet/balance",
     .pieces = {"HTTP/1.1 200 OK\r\nDate: Sun, 29 Nov 2026 10:20:30 GMT\r\nConnection: close\r\n\r\n"
                "{\"code\":\"Success\",\"data\":{\"assets\":52340}}"},
     .then = HTTP_CLOSE},
    {.path = STOCK,
     .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":[{\"RTX 4090D\":{\"idle_gpu_num\":70}}]}"},
     .then = HTTP_CLOSE},
};
/* Each call is heard, and nothing comes back. */
static const struct http_script cut[] = {
    {.path = PRO("list"), .then = HTTP_CLOSE},
    {.path = PRO("create"), .then = HTTP_CLOSE},
    {.path = PRO("power_on"), .then = HTTP_CLOSE},
    {.path = PRO("image/save"), .then = HTTP_CLOSE},
    {.path = PRO("image/private/list"), .then = HTTP_CLOSE},
    {.path = PRO("power_off"), .pieces = {"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>"}},
    {.path = "/api/v1/dev/wallet/balance", .then = HTTP_CLOSE},
};

static const struct http_script no_stock[] = {
    {.path = STOCK,
     .pieces = {OK_HEAD "{\"code\":\"BadRequest\",\"msg\":\"无当前资源访问权限\"}"},
     .then = HTTP_CLOSE},
};

/* One call is heard, and is not answered. */
static const struct http_script silent[] = {
    {.path = PRO("create"), .then = HTTP_HANG},
    {.path = "/api/v1/dev/wallet/balance",
     .pieces = {OK_HEAD "{\"code\":\"Success\",\"data\":{\"assets\":52340}}"},
     .then = HTTP_CLOSE},
};

TestSuite(autodl_calls, .init = setup, .fini = teardown);

static const struct instance_wish wish = {.name = "llmhost-1",
                                          .card = "4090D",
                                          .image = "base-image-l2t43iu6uk",
                                          .cards = 1,
                                          .start = {.start_command = "true"}};

/* ---- answers ---- */

Test(autodl_calls, the_list_is_read_page_by_page_and_each_machine_once)
{
    account_opens(good, ELEMENTS(good));
    ops->list(account, &heard.op, on_list, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_NONE, "%s", heard.fault.text);
    cr_assert_eq(heard.n_seen, 2);
    cr_assert_str_eq(heard.seen[1].id, "pro-2");
    cr_assert_eq(http_fixture_requests(server), 2);
    cr_assert(asked_with("{\"page_index\":2,\"page_size\":50}"));
    cr_assert(asked_with("\r\nAuthorization: token-1\r\n"), "as it is");
}

Test(autodl_calls, each_call_says_what_it_should_and_hands_on_what_came)
{
    account_opens(good, ELEMENTS(good));
    ops->create(account, &wish, &heard.op, on_made, NULL);
    answers();
    cr_assert_str_eq(heard.id, "pro-3");
    cr_assert(asked_with("\"cuda_v_from\":124"), "the image needs 11.8, the engines more");
    ops->start(account, "pro-1", &(struct instance_start){.start_command = "sh first"}, &heard.op, on_done,
               NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_NONE);
    cr_assert(asked_with("{\"instance_uuid\":\"pro-1\",\"payload\":\"gpu\",\"start_command\":\"sh first\"}"));
    ops->stop(account, "pro-1", &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_GONE);
    ops->release(account, "pro-1", &heard.op, on_done, NULL);
    answers();
    cr_assert_str_eq(heard.fault.code, "not_off");
    ops->reach(account, "pro-1", &heard.op, on_way, NULL);
    answers();
    cr_assert_str_eq(heard.way.host, "h.example");
    cr_assert_eq(heard.way.port, 2222);
    cr_assert_str_eq(heard.way.password, "secret-1");
    cr_assert(asked_with("GET /api/v1/dev/instance/pro/snapshot?instance_uuid=pro-1 "));
    ops->balance(account, &heard.op, on_money, NULL);
    answers();
    cr_assert_eq(heard.milli, 52340);
}

Test(autodl_calls, the_time_at_the_company_is_what_its_answers_say)
{
    account_opens(good, ELEMENTS(good));
    ops->list(account, &heard.op, on_list, NULL);
    answers();
    cr_assert_eq(their_at_ms, 0, "these do not");
    ops->balance(account, &heard.op, on_money, NULL);
    answers();
    cr_assert_eq(their_at_ms, 1795947630000ll);
}

Test(autodl_calls, an_image_is_saved_and_the_list_of_them_is_read_page_by_page)
{
    account_opens(good, ELEMENTS(good));
    ops->save_image(account, "pro-1", "base", &heard.op, on_made, NULL);
    answers();
    cr_assert_str_eq(heard.id, "image-7");
    cr_assert(asked_with("{\"instance_uuid\":\"pro-1\",\"image_name\":\"base\"}"));
    ops->images(account, &heard.op, on_images, NULL);
    answers();
    cr_assert_eq(heard.n_images, 2);
    cr_assert_eq(http_fixture_requests(server), 3);
}

Test(autodl_calls, an_image_may_have_been_saved_when_nothing_comes_back)
{
    account_opens(cut, ELEMENTS(cut));
    ops->save_image(account, "pro-1", "base", &heard.op, on_made, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN);
    ops->images(account, &heard.op, on_images, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_TRANSIENT);
}

static int stock_of(const char *gpu)
{
    for (unsigned i = 0; i < heard.n_offers; i++)
        if (streq(heard.offers[i].gpu, gpu))
            return heard.offers[i].stock;
    return -2;
}

/* Of each region where machines can be made: two. */
Test(autodl_calls, offers_are_the_table_with_the_stock_of_all_regions)
{
    account_opens(good, ELEMENTS(good));
    ops->offers(account, &heard.op, on_offers, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_NONE, "%s", heard.fault.text);
    cr_assert_eq(heard.n_offers, 7);
    cr_assert_eq(stock_of("4090D"), 140);
    cr_assert_eq(stock_of("5090"), 0);
    cr_assert_eq(http_fixture_requests(server), 2);
    cr_assert(asked_with("{\"region_sign\":\"beijingDC2\"}"));
}

Test(autodl_calls, what_can_be_rented_is_known_without_the_stock)
{
    account_opens(no_stock, ELEMENTS(no_stock));
    ops->offers(account, &heard.op, on_offers, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_NONE, "%s", heard.fault.text);
    cr_assert_eq(heard.n_offers, 7);
    cr_assert_eq(stock_of("4090D"), -1);
    cr_assert_eq(http_fixture_requests(server), 1, "half a sum would be none");
}

Test(autodl_calls, names_are_found_without_a_call)
{
    _cleanup_free_ char *why = NULL;
    struct rental_offer offer;
    const char *word;

    account_opens(good, ELEMENTS(good));
    cr_assert_eq(ops->find_card(account, "4090d", &offer, &why), 0);
    cr_assert_str_eq(offer.card, "4090D");
    cr_assert_eq(ops->find_card(account, "4090", &offer, &why), -ENOENT);
    cr_assert_eq(ops->find_image(account, NULL, &word, NULL), 0);
    cr_assert_str_eq(word, "base-image-l2t43iu6uk");
    cr_assert_eq(ops->find_region(account, "westDC3", &word, NULL), 0);
    cr_assert_str_eq(word, "westDC3");
    cr_assert_eq(http_fixture_connections(server), 0);
}

/* ---- faults ---- */

/* What may have happened is told from what only was not told. */
Test(autodl_calls, a_cut_call_is_uncertain_and_a_cut_question_may_be_asked_again)
{
    account_opens(cut, ELEMENTS(cut));
    ops->create(account, &wish, &heard.op, on_made, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN, "%s", heard.fault.text);
    cr_assert_str_eq(heard.fault.code, "provider_unreachable");
    ops->start(account, "pro-1", &(struct instance_start){.start_command = NULL}, &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN);
    ops->stop(account, "pro-1", &heard.op, on_done, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_UNCERTAIN, "HTML is no answer");
    ops->list(account, &heard.op, on_list, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_TRANSIENT);
    ops->balance(account, &heard.op, on_money, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_TRANSIENT);
    ops->reach(account, "pro-9", &heard.op, on_way, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_TRANSIENT, "404 without a word");
}

Test(autodl_calls, nobody_there_means_that_nothing_was_asked)
{
    account_opens(good, ELEMENTS(good));
    server = http_fixture_free(server);
    ops->create(account, &wish, &heard.op, on_made, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_TRANSIENT);
}

Test(autodl_calls, without_a_token_nothing_is_sent)
{
    account_opens(good, ELEMENTS(good));
    cr_assert_eq(secrets_remove(secrets, "autodl", "token"), 0);
    ops->create(account, &wish, &heard.op, on_made, NULL);
    answers();
    cr_assert_eq(heard.fault.kind, FAULT_DENIED);
    cr_assert_str_eq(heard.fault.code, "token_refused");
    cr_assert_eq(http_fixture_connections(server), 0);
}

Test(autodl_calls, nobody_hears_of_a_call_that_was_cancelled)
{
    account_opens(silent, ELEMENTS(silent));
    ops->list(account, &heard.op, on_list, NULL);
    op_cancel(&heard.op);
    ops->create(account, &wish, &heard.op, on_made, NULL);
    cr_assert(LOOP_UNTIL(loop, http_fixture_requests(server)));
    op_cancel(&heard.op);
    ops->offers(account, &heard.op, on_offers, NULL);
    op_cancel(&heard.op);
    ops->balance(account, &heard.op, on_money, NULL);
    answers();
    cr_assert_eq(heard.milli, 52340);
}
