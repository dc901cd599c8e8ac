/* links: provider
 *
 * What AutoDL's answers mean, from its documentation's samples and from the traps others fell into
 * (reference/autodl.md). */
#include <criterion/criterion.h>
#include <errno.h>

#include "base/fault.h"
#include "proto/buf.h"
#include "proto/mem.h"
#include "provider/autodl_offers.h"
#include "provider/autodl_tables.h"
#include "provider/autodl_wire.h"

static struct autodl_tables t;
static struct fault f;

static void tables_read(void)
{
    char *why = NULL;

    cr_assert_eq(autodl_tables_parse(provider_autodl_ini, strlen(provider_autodl_ini), &t, &why), 0, "%s",
                 why);
    f = (struct fault){0};
}

TestSuite(autodl, .init = tables_read);

static struct autodl_answer says(const char *text, bool asked)
{
    return (struct autodl_answer){.text = text, .n = strlen(text), .status = 200, .asked = asked};
}

/* ---- the tables ---- */

Test(autodl, a_card_is_found_as_people_write_it)
{
    cr_assert_str_eq(autodl_find_card(&t, "4090d")->spec, "4090D");
    cr_assert_str_eq(autodl_find_card(&t, "H800")->spec, "h800");
    cr_assert_str_eq(autodl_find_card(&t, "5090")->spec, "5090-p");
    cr_assert_null(autodl_find_card(&t, "4090"), "the API has no plain 4090");
    cr_assert_eq(autodl_find_card(&t, "4090D")->price_milli, 1880);
    cr_assert_eq(autodl_find_card(&t, "h800")->price_milli, 0, "unknown is not a price");
}

Test(autodl, tables_that_are_wrong_name_the_line)
{
    static const struct {
        const char *text, *why;
    } wrong[] = {
        {"[card x]\ngpu = X\n", "the section of x is not whole"},
        {"[card x]\ngpu = X\nmemory = many\n", "line 3 is not understood"},
        {"[card x]\ngpu = X\nmemory = 24\nprice = cheap\n", "line 4 is not understood"},
        {"[planet x]\nname = X\n", "line 2 is not understood"},
        {"[error x]\ncode = *\nkind = odd\ntext = t\n", "line 3 is not understood"},
        {"[error x]\ncode = *\nkind = gone\n", "the section of x is not whole"},
        {"nonsense\n", "line 1 is not understood"},
    };

    for (unsigned i = 0; i < ELEMENTS(wrong); i++) {
        _cleanup_free_ char *why = NULL;

        cr_assert_eq(autodl_tables_parse(wrong[i].text, strlen(wrong[i].text), &t, &why), -EINVAL, "%s",
                     wrong[i].text);
        cr_assert_str_eq(why, wrong[i].why);
    }
}

/* ---- what people ask for by name ---- */

Test(autodl, a_card_is_offered_with_what_the_table_knows)
{
    struct rental_offer offer;
    char *why = NULL;

    cr_assert_eq(autodl_pick_card(&t, "rtx 4090d", &offer, &why), 0);
    cr_assert_str_eq(offer.card, "4090D");
    cr_assert_str_eq(offer.gpu, "4090D");
    cr_assert_eq(offer.memory_gib, 24);
    cr_assert_eq(offer.price_milli, 1880);
    cr_assert_str_eq(offer.price_day, "2026-09-01");
    cr_assert_eq(offer.stock, -1);
    cr_assert_not(offer.unofficial);
    cr_assert_eq(autodl_pick_card(&t, "h800", &offer, &why), 0);
    cr_assert_eq(offer.price_milli, 0);
    cr_assert_null(offer.price_day, "no price has no day");
}

/* Plain 4090s are rented out in the console only (reference/autodl.md §4.2). */
Test(autodl, a_card_that_the_api_lacks_is_answered_with_the_other_ways)
{
    _cleanup_free_ char *why = NULL;
    struct rental_offer offer;

    cr_assert_eq(autodl_pick_card(&t, "4090", &offer, &why), -ENOENT);
    cr_assert_str_eq(
        why,
        "AutoDL's API has no card 4090 (it has H800, vGPU-48GB, vGPU-48GB-350W, 4090D, PRO6000, vGPU-32GB "
        "and 5090): take one of these, or rent it in the console "
        "(https://www.autodl.com/console/instance/list) and tell us the way in: llmhostctl instance add "
        "NAME 'ssh …', or llmhostctl provider add autodl --console for the machines that you rented there");
    cr_assert_lt(strlen(why), sizeof f.text, "it is told whole");
}

Test(autodl, an_image_is_found_by_its_word_or_its_id)
{
    static const struct {
        const char *name, *image;
    } images[] = {
        {NULL, "base-image-l2t43iu6uk"},          {"PyTorch-2.0", "base-image-l2t43iu6uk"},
        {"miniconda", "base-image-mbr2n4urrc"},   {"base-image-l2843iu23k", "base-image-l2843iu23k"},
        {"image-0a1b2c3d4e", "image-0a1b2c3d4e"},
    };
    static const char *const none[] = {"ubuntu", "", "image-a\"b", "image-a b"};
    const char *image;

    for (unsigned i = 0; i < ELEMENTS(images); i++) {
        char *why = NULL;

        cr_assert_eq(autodl_pick_image(&t, images[i].name, &image, &why), 0, "%s", images[i].name);
        cr_assert_str_eq(image, images[i].image);
    }
    for (unsigned i = 0; i < ELEMENTS(none); i++) {
        _cleanup_free_ char *why = NULL;

        cr_assert_eq(autodl_pick_image(&t, none[i], &image, &why), -ENOENT, "%s", none[i]);
        cr_assert(strstr(why, "there are pytorch-2.0, miniconda and pytorch-1.11, and"), "%s", why);
    }
}

Test(autodl, a_region_is_one_where_machines_can_be_made)
{
    _cleanup_free_ char *why = NULL;
    const char *region = "x";

    cr_assert_eq(autodl_pick_region(&t, NULL, &region, &why), 0);
    cr_assert_null(region, "any");
    cr_assert_eq(autodl_pick_region(&t, "westdc3", &region, &why), 0);
    cr_assert_str_eq(region, "westDC3");
    cr_assert_eq(autodl_pick_region(&t, "北京B区", &region, &why), 0);
    cr_assert_str_eq(region, "beijingDC2");
    cr_assert_eq(autodl_pick_region(&t, "beijingDC1", &region, &why), -ENOENT);
    cr_assert_str_eq(why, "AutoDL's API rents no machines out in beijingDC1, but in westDC3 (西北B区) and "
                          "beijingDC2 (北京B区)");
}

/* ---- errors: reference/autodl.md §4.5, row by row ---- */

Test(autodl, each_error_has_its_meaning)
{
    static const struct {
        const char *code, *message;
        enum fault_kind kind;
        const char *word;
    } errors[] = {
        {"RequestParameterIsWrong", "请求参数错误", FAULT_INVALID, "bad_request"},
        {"RecordNotFoundError", "未查询到相关实例", FAULT_GONE, "no_such_instance"},
        {"TORealName", "未完成实名认证", FAULT_DENIED, "not_verified"},
        {"BadRequest", "无当前资源访问权限", FAULT_DENIED, "no_permission"},
        {"BadRequest", "请在实例关机状态下执行释放操作", FAULT_INVALID, "not_off"},
        {"InternalError", "当前算力规格暂无库存, 请修改配置或稍等再试", FAULT_EXHAUSTED, "no_capacity"},
        {"InternalError", "保存实例镜像前，请确保实例是关机状态", FAULT_INVALID, "image_not_off"},
        {"ServerError", "不支持的启动模式", FAULT_INVALID, "bad_start_mode"},
        {"AuthorizeFailed", "登陆超时，请重新登录; 登录超时，请重新登录", FAULT_DENIED, "token_refused"},
        {"InstanceError", "该主机空闲GPU不足，主机GPU空闲数量：0 卡", FAULT_EXHAUSTED, "host_full"},
        {"AnyCode", "账户余额不足", FAULT_EXHAUSTED, "low_balance"},
        {"AnyCode", "账户已欠费", FAULT_EXHAUSTED, "in_arrears"},
    };

    for (unsigned i = 0; i < ELEMENTS(errors); i++) {
        _cleanup_free_ char *text =
            xasprintf("{\"code\":\"%s\",\"msg\":\"%s\",\"data\":null}", errors[i].code, errors[i].message);
        struct autodl_answer a = says(text, true);

        cr_assert_lt(autodl_read_done(&t, &a, &f), 0);
        cr_assert_eq(f.kind, errors[i].kind, "%s: %s", errors[i].message, fault_kind_name(f.kind));
        cr_assert_str_eq(f.code, errors[i].word);
        cr_assert(strstr(f.text, errors[i].message), "%s", f.text);
    }
}

/* An error nobody wrote down may have happened behind a call, and says nothing behind a question. */
Test(autodl, what_is_not_known_is_uncertain_behind_a_call)
{
    static const char *const odd[] = {"{\"code\":\"Novel\",\"msg\":\"新\"}",
                                      "<html>502 Bad Gateway</html>",
                                      "",
                                      "{\"code\":1}",
                                      "{\"code\":\"Success\"",
                                      "[]",
                                      "null"};

    for (unsigned i = 0; i < ELEMENTS(odd); i++) {
        struct autodl_answer call = says(odd[i], true), question = says(odd[i], false);

        cr_assert_lt(autodl_read_done(&t, &call, &f), 0, "%s", odd[i]);
        cr_assert_eq(f.kind, FAULT_UNCERTAIN, "%s", odd[i]);
        cr_assert_lt(autodl_read_done(&t, &question, &f), 0, "%s", odd[i]);
        cr_assert_eq(f.kind, FAULT_TRANSIENT, "%s", odd[i]);
    }
}

/* ---- answers: §2.2 ---- */

Test(autodl, create_answers_with_the_id_as_a_plain_string)
{
    struct autodl_answer good =
        says("{\"code\":\"Success\",\"msg\":\"\",\"data\":\"pro-0a1b2c3d4e5f\",\"request_id\":\"x\"}", true);
    struct autodl_answer odd = says("{\"code\":\"Success\",\"data\":{\"instance_uuid\":\"pro-1\"}}", true);
    struct autodl_answer bad = says("{\"code\":\"Success\",\"data\":\"pro-1&x=2\"}", true);
    char id[INSTANCE_ID_MAX];

    cr_assert_eq(autodl_read_made(&t, &good, id, &f), 0);
    cr_assert_str_eq(id, "pro-0a1b2c3d4e5f");
    cr_assert_lt(autodl_read_made(&t, &odd, id, &f), 0);
    cr_assert_eq(f.kind, FAULT_UNCERTAIN, "something was made");
    cr_assert_lt(autodl_read_made(&t, &bad, id, &f), 0);
}

Test(autodl, a_power_call_answers_with_nothing_or_with_a_sentence)
{
    struct autodl_answer nothing = says("{\"code\":\"Success\",\"msg\":\"\",\"data\":null}", true);
    struct autodl_answer words =
        says("{\"code\":\"Success\",\"data\":{\"description\":\"开机指令已下发\"}}", true);

    cr_assert_eq(autodl_read_done(&t, &nothing, &f), 0);
    cr_assert_eq(autodl_read_done(&t, &words, &f), 0);
}

#define ROW(uuid, name, status, started, stopped)                                                            \
    "{\"uuid\":\"" uuid "\",\"name\":\"" name "\",\"status\":\"" status "\",\"started_at\":" started         \
    ",\"stopped_at\":" stopped ",\"start_mode\":\"gpu\",\"charge_type\":\"payg\"}"
#define AT(time) "{\"Time\":\"" time "\",\"Valid\":true}"
#define NEVER    "{\"Time\":\"0001-01-01T00:00:00Z\",\"Valid\":false}"

Test(autodl, a_page_of_the_list_is_read_row_by_row)
{
    struct autodl_answer a = says(
        "{\"code\":\"Success\",\"data\":{\"list\":[" ROW(
            "pro-1", "llmhost-7f3a-1", "running", AT("2026-01-02T03:04:05+08:00"),
            NEVER) "," ROW("pro-2", "", "shutdown", AT("2026-01-02T03:04:05+08:00"),
                           AT("2026-01-02T04:04:05+08:00")) "," ROW("pro-3", "x", "shutting_down", NEVER,
                                                                    NEVER) "," ROW("pro-4", "x", "novel",
                                                                                   NEVER,
                                                                                   NEVER) "],\"page_index\":"
                                                                                          "1,\"max_page\":2,"
                                                                                          "\"result_total\":"
                                                                                          "54}}",
        false);
    struct autodl_page page;

    cr_assert_eq(autodl_read_page(&t, &a, &page, &f), 0, "%s", f.text);
    cr_assert_eq(page.n, 4u);
    cr_assert_eq(page.n_pages, 2u);
    cr_assert_str_eq(page.seen[0].id, "pro-1");
    cr_assert_str_eq(page.seen[0].name, "llmhost-7f3a-1");
    cr_assert_eq(page.seen[0].power, INSTANCE_ON);
    cr_assert_eq(page.seen[0].started_at_ms, 1767294245000);
    cr_assert_eq(page.seen[0].stopped_at_ms, 0);
    cr_assert_eq(page.seen[1].power, INSTANCE_OFF);
    cr_assert_eq(page.seen[1].stopped_at_ms - page.seen[1].started_at_ms, 3600000);
    cr_assert_eq(page.seen[2].power, INSTANCE_CHANGING);
    cr_assert_eq(page.seen[3].power, INSTANCE_CHANGING, "a word we do not know is no error");
    cr_assert_str_eq(page.seen[3].word, "novel");
}

/* The words for a rental by the day or longer are not known: it is one that is not by time and has an end. */
Test(autodl, time_that_is_paid_in_advance_is_read)
{
    static const struct {
        const char *charge, *end;
        int64_t until_at_ms;
    } rows[] = {
        {"\"payg\"", AT("2026-01-02T03:04:05+08:00"), 0},
        {"\"daily\"", AT("2026-01-02T03:04:05+08:00"), 1767294245000},
        {"\"novel\"", AT("2026-01-02T03:04:05+08:00"), 1767294245000},
        {"\"daily\"", NEVER, 0},
        {"\"\"", AT("2026-01-02T03:04:05+08:00"), 0},
        {"null", NEVER, 0},
    };
    struct autodl_page page;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        _cleanup_free_ char *text =
            xasprintf("{\"code\":\"Success\",\"data\":{\"list\":[{\"uuid\":\"a\",\"status\":"
                      "\"shutdown\",\"charge_type\":%s,\"expired_at\":%s}]}}",
                      rows[i].charge, rows[i].end);
        struct autodl_answer a = says(text, false);

        cr_assert_eq(autodl_read_page(&t, &a, &page, &f), 0, "%s", f.text);
        cr_expect_eq(page.seen[0].prepaid_until_at_ms, rows[i].until_at_ms, "%s", text);
    }
}

Test(autodl, the_disk_of_an_ordinary_instance_is_told_in_bytes)
{
    struct autodl_answer a = says("{\"code\":\"Success\",\"data\":{\"list\":[{\"uuid\":\"a\",\"status\":"
                                  "\"shutdown\",\"expand_data_disk_size\":"
                                  "53687091200},{\"uuid\":\"b\",\"status\":\"shutdown\",\"expand_data_disk_"
                                  "size\":-1}],\"max_page\":1}}",
                                  false);
    struct autodl_page page;

    cr_assert_eq(autodl_read_page(&t, &a, &page, &f), 0, "%s", f.text);
    cr_assert_eq(page.seen[0].disk_gb, 50u);
    cr_assert_eq(page.seen[1].disk_gb, 0u);
}

Test(autodl, a_disk_costs_by_the_day)
{
    cr_assert_eq(autodl_disk_day_milli(&t, 0), 0);
    cr_assert_eq(autodl_disk_day_milli(&t, 50), 330);
    cr_assert_eq(autodl_disk_day_milli(&t, 33), 218);
    t.disk.free_gb = 40;
    cr_assert_eq(autodl_disk_day_milli(&t, 40), 0);
    cr_assert_eq(autodl_disk_day_milli(&t, 50), 66);
}

Test(autodl, a_row_of_the_list_tells_the_card)
{
    struct autodl_answer a =
        says("{\"code\":\"Success\",\"data\":{\"list\":["
             "{\"uuid\":\"pro-1\",\"status\":\"running\",\"start_mode\":\"gpu\",\"charge_type\":\"payg\","
             "\"gpu_spec_uuid\":"
             "\"4090D\",\"req_gpu_amount\":2,\"timed_shutdown_at\":" AT(
                 "2026-01-02T03:04:05+08:00") "},"
                                              "{\"uuid\":\"pro-2\",\"status\":\"running\",\"start_mode\":"
                                              "\"non_gpu\",\"charge_type\":\"daily\",\"gpu_spec_uuid\":"
                                              "\"novel\",\"req_gpu_amount\":999,\"expired_at\":" AT(
                                                  "2026-01-02T03:04:05+08:00") "},"
                                                                               "{\"uuid\":\"pro-3\","
                                                                               "\"status\":\"shutdown\","
                                                                               "\"start_mode\":\"non_gpu\","
                                                                               "\"charge_type\":\"payg\","
                                                                               "\"expired_at\":" AT(
                                                                                   "2026-01-02T03:04:05+08:"
                                                                                   "00") "}]}}",
             false);
    struct autodl_page page;

    cr_assert_eq(autodl_read_page(&t, &a, &page, &f), 0, "%s", f.text);
    cr_assert_str_eq(page.seen[0].gpu, "4090D");
    cr_assert_eq(page.seen[0].cards, 2);
    cr_assert_eq(page.seen[0].off_at_ms, 1767294245000);
    cr_assert_not(page.seen[0].no_card);
    cr_assert_str_eq(page.seen[1].gpu, "novel", "a card we do not know is told as it is");
    cr_assert_eq(page.seen[1].cards, 0);
    cr_assert(page.seen[1].no_card);
    cr_assert_str_eq(page.seen[2].gpu, "");
    cr_assert_not(page.seen[2].no_card, "it is off");
}

Test(autodl, a_list_that_may_be_short_is_no_list)
{
    static const char *const wrong[] = {
        "{\"code\":\"Success\",\"data\":null}",
        "{\"code\":\"Success\",\"data\":{\"list\":{}}}",
        "{\"code\":\"Success\",\"data\":{\"list\":[{\"name\":\"x\",\"status\":\"running\"}]}}",
        "{\"code\":\"Success\",\"data\":{\"list\":[{\"uuid\":\"pro-1\"}]}}",
        "{\"code\":\"Success\",\"data\":{\"list\":[],\"max_page\":100000}}",
    };
    struct autodl_answer empty =
        says("{\"code\":\"Success\",\"data\":{\"list\":null,\"max_page\":0}}", false);
    struct autodl_page page;

    for (unsigned i = 0; i < ELEMENTS(wrong); i++) {
        struct autodl_answer a = says(wrong[i], false);

        cr_assert_lt(autodl_read_page(&t, &a, &page, &f), 0, "%s", wrong[i]);
        cr_assert_eq(f.kind, FAULT_TRANSIENT);
    }
    cr_assert_eq(autodl_read_page(&t, &empty, &page, &f), 0);
    cr_assert_eq(page.n, 0u);
    cr_assert_eq(page.n_pages, 1u);
}

Test(autodl, the_way_in_is_whole_or_not_there_yet)
{
    struct autodl_answer whole =
        says("{\"code\":\"Success\",\"data\":{\"payg_price\":1970,\"proxy_host\":\"connect.bjb1.example\","
             "\"ssh_port\":34222,\"root_password\":\"abc\"}}",
             false);
    struct autodl_answer half =
        says("{\"code\":\"Success\",\"data\":{\"payg_price\":1970,\"proxy_host\":\"\",\"ssh_port\":34222}}",
             false);
    struct autodl_answer evil =
        says("{\"code\":\"Success\",\"data\":{\"proxy_host\":\"-oProxyCommand=x\",\"ssh_port\":22,"
             "\"root_password\":\"abc\"}}",
             false);
    struct instance_way s;

    cr_assert_eq(autodl_read_snapshot(&t, &whole, &s, &f), 0);
    cr_assert_str_eq(s.host, "connect.bjb1.example");
    cr_assert_eq(s.port, 34222);
    cr_assert_str_eq(s.password, "abc");
    cr_assert_eq(s.price_milli, 1970);
    cr_assert_eq(autodl_read_snapshot(&t, &half, &s, &f), 0);
    cr_assert_str_eq(s.host, "");
    cr_assert_eq(autodl_read_snapshot(&t, &evil, &s, &f), 0);
    cr_assert_str_eq(s.host, "", "no name of a machine begins like that");
}

/* §2.2: "create_at" is how they write it; other words than "finished" are unknown. */
Test(autodl, images_are_ready_when_they_say_so)
{
    struct autodl_answer a =
        says("{\"code\":\"Success\",\"data\":{\"list\":["
             "{\"image_uuid\":\"image-1\",\"name\":\"base\",\"status\":\"finished\",\"image_size\":54000000,"
             "\"create_at\":\"2026-10-01T08:00:00+08:00\"},"
             "{\"image_uuid\":\"image-2\",\"name\":\"next\",\"status\":\"saving\",\"image_size\":-1,\"create_"
             "at\":7},"
             "{\"image_uuid\":\"image 3\",\"name\":\"odd\",\"status\":\"finished\"}],\"max_page\":3}}",
             false);
    struct autodl_answer odd = says("{\"code\":\"Success\",\"data\":[]}", false);
    struct autodl_images images;

    cr_assert_eq(autodl_read_images(&t, &a, &images, &f), 0);
    cr_assert_eq(images.n, 2, "one has an id that nobody can say");
    cr_assert_eq(images.n_pages, 3);
    cr_assert_str_eq(images.all[0].name, "base");
    cr_assert(images.all[0].ready && !images.all[1].ready);
    cr_assert_eq(images.all[0].bytes, 54000000);
    cr_assert_eq(images.all[0].made_at_ms, 1790812800000);
    cr_assert_str_eq(images.all[1].word, "saving");
    cr_assert(images.all[1].bytes == 0 && images.all[1].made_at_ms == 0);
    cr_assert_lt(autodl_read_images(&t, &odd, &images, &f), 0);
}

Test(autodl, a_saved_image_has_an_id_or_nobody_knows_what_was_saved)
{
    struct autodl_answer a = says("{\"code\":\"Success\",\"data\":{\"image_uuid\":\"image-1\"}}", true);
    struct autodl_answer none = says("{\"code\":\"Success\",\"data\":{}}", true);
    struct autodl_answer on =
        says("{\"code\":\"InternalError\",\"msg\":\"保存实例镜像前，请确保实例是关机状态\"}", true);
    char id[INSTANCE_ID_MAX];

    cr_assert_eq(autodl_read_saved(&t, &a, id, &f), 0);
    cr_assert_str_eq(id, "image-1");
    cr_assert_lt(autodl_read_saved(&t, &none, id, &f), 0);
    cr_assert_eq(f.kind, FAULT_UNCERTAIN);
    cr_assert_lt(autodl_read_saved(&t, &on, id, &f), 0);
    cr_assert_str_eq(f.code, "image_not_off");
}

Test(autodl, the_balance_is_what_is_not_blocked)
{
    struct autodl_answer a =
        says("{\"code\":\"Success\",\"data\":{\"assets\":52340,\"blocked_asset\":340,\"voucher_balance\":0}}",
             false);
    struct autodl_answer odd = says("{\"code\":\"Success\",\"data\":{\"assets\":\"much\"}}", false);
    int64_t milli;

    cr_assert_eq(autodl_read_balance(&t, &a, &milli, &f), 0);
    cr_assert_eq(milli, 52000);
    cr_assert_lt(autodl_read_balance(&t, &odd, &milli, &f), 0);
}

/* §2.3: an array of objects with one key each; ESD's cards are in it, too. */
Test(autodl, stock_is_counted_for_the_cards_of_the_table)
{
    struct autodl_answer a =
        says("{\"code\":\"Success\",\"data\":[{\"RTX 4090\":{\"idle_gpu_num\":3,\"total_gpu_num\":1807,"
             "\"chip_corp\":\"nvidia\",\"cpu_arch\":\"x86\"}},{\"RTX 4090D\":{\"idle_gpu_num\":140}}]}",
             false);
    struct autodl_answer none = says("{\"code\":\"Success\",\"data\":[]}", false);
    int stock[AUTODL_ROWS_MAX] = {0};

    cr_assert_eq(autodl_read_stock(&t, &a, stock, &f), 0, "%s", f.text);
    cr_assert_eq(autodl_read_stock(&t, &a, stock, &f), 0, "another region");
    cr_assert_eq(autodl_read_stock(&t, &none, stock, &f), 0);
    for (unsigned i = 0; i < t.n_cards; i++)
        cr_assert_eq(stock[i], streq(t.cards[i].spec, "4090D") ? 280 : 0, "%s", t.cards[i].spec);
}

Test(autodl, stock_that_makes_no_sense_is_none)
{
    static const char *const wrong[] = {
        "null",
        "{}",
        "[1]",
        "[{}]",
        "[{\"RTX 5090\":3}]",
        "[{\"RTX 5090\":{\"idle_gpu_num\":-1}}]",
        "[{\"RTX 5090\":{\"idle_gpu_num\":5000000000}}]",
        "[{\"RTX 5090\":{\"idle_gpu_num\":1},\"H800\":{\"idle_gpu_num\":1}}]",
    };

    for (unsigned i = 0; i < ELEMENTS(wrong); i++) {
        _cleanup_free_ char *text = xasprintf("{\"code\":\"Success\",\"data\":%s}", wrong[i]);
        struct autodl_answer a = says(text, false);
        int stock[AUTODL_ROWS_MAX] = {0};

        cr_assert_lt(autodl_read_stock(&t, &a, stock, &f), 0, "%s", text);
    }
}

/* ---- bodies ---- */

Test(autodl, bodies_say_what_the_documentation_asks_for)
{
    const struct instance_wish wish = {.name = "llmhost-7f3a-1",
                                       .card = "v-48g",
                                       .image = "image-1",
                                       .cards = 1,
                                       .disk_gb = 50,
                                       .start = {.start_command = "true"},
                                       .region = "westDC3"};
    const struct instance_wish least = {.name = "n", .card = "h800", .image = "i", .cards = 2};
    struct buf out;

    buf_init(&out, 4096);
    autodl_write_create(&wish, 124, &out);
    cr_assert_str_eq(buf_text(&out),
                     "{\"req_gpu_amount\":1,\"expand_system_disk_by_gb\":50,\"gpu_spec_uuid\":\"v-48g\","
                     "\"image_uuid\":\"image-1\",\"cuda_v_from\":124,\"instance_name\":\"llmhost-7f3a-1\","
                     "\"start_command\":\"true\",\"data_center_list\":[\"westDC3\"]}");
    buf_clear(&out);
    autodl_write_create(&least, 118, &out);
    cr_assert_str_eq(buf_text(&out),
                     "{\"req_gpu_amount\":2,\"expand_system_disk_by_gb\":0,\"gpu_spec_uuid\":\"h800\","
                     "\"image_uuid\":\"i\",\"cuda_v_from\":118,\"instance_name\":\"n\"}");
    buf_clear(&out);
    autodl_write_start("pro-1", "true", &out);
    cr_assert_str_eq(buf_text(&out),
                     "{\"instance_uuid\":\"pro-1\",\"payload\":\"gpu\",\"start_command\":\"true\"}");
    buf_clear(&out);
    autodl_write_id("pro-1", &out);
    cr_assert_str_eq(buf_text(&out), "{\"instance_uuid\":\"pro-1\"}");
    buf_clear(&out);
    autodl_write_page(3, &out);
    cr_assert_str_eq(buf_text(&out), "{\"page_index\":3,\"page_size\":50}");
    buf_clear(&out);
    autodl_write_stock("westDC3", &out);
    cr_assert_str_eq(buf_text(&out), "{\"region_sign\":\"westDC3\"}");
    buf_done(&out);
}

Test(autodl, count_of_cards_is_cut_off_once_for_all)
{
    static const struct {
        const char *text, *gpu;
        unsigned cards;
    } rows[] = {
        {"4090D", "4090D", 0},
        {"4090Dx1", "4090D", 1},
        {"4090Dx16", "4090D", 16},
        {"4090Dx17", "4090Dx17", 0},
        {"4090Dx100", "4090Dx100", 0},
        {"4090Dx0", "4090Dx0", 0},
        {"4090Dx02", "4090Dx02", 0},
        {"4090Dx", "4090Dx", 0},
        {"4090Dx2y", "4090Dx2y", 0},
        {"x2", "x2", 0},
        {"", "", 0},
        {"vGPU-48x2", "vGPU-48", 2},
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        char gpu[20];

        snprintf(gpu, sizeof gpu, "%s", rows[i].text);
        cr_assert_eq(rental_cut_count(gpu), rows[i].cards, "%s", rows[i].text);
        cr_assert_str_eq(gpu, rows[i].gpu);
    }
}
