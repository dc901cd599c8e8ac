/* links: control
 * wraps: rental_find rental_at keeper_state rented_is_anothers rented_stop_by_guard shape_ask
 *
 * Accounts and their tokens, and what can be rented with them, as callers meet them. */
#include "tests/unit/control_rent_world.h"

TestSuite(control_rent_account, .init = begin, .fini = world_end, .timeout = 60);

/* ---- accounts ---- */

Test(control_rent_account, account_is_kept_when_its_token_is_good)
{
    _cleanup_json_ struct json *v = answers("ProviderAdd", ADD);
    const struct json *a = json_get(v, "account");

    cr_assert_str_eq(json_get_text(a, "title"), "AutoDL");
    cr_assert_eq(json_get_int(json_get(a, "balance"), "milli", 0), 41300);
    cr_assert_gt(json_get_int(a, "day_milli", 0), 0, "without a word there is a limit of a day");
    cr_assert_gt(json_get_int(a, "floor_milli", 0), 0);
    refuses(CALL("ProviderAdd", ADD), "io.llmhost.Conflict", "code", "account_exists");
}

Test(control_rent_account, account_of_a_refused_token_is_not_kept)
{
    refuses(CALL("ProviderAdd", "{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}"),
            "io.llmhost.CredentialsRefused", "code", "token_refused");

    _cleanup_json_ struct json *v = answers("ProviderList", "{}");
    _cleanup_secret_ char *token = NULL;

    cr_assert_eq(json_count(json_get(v, "accounts")), 0);
    cr_assert_str_eq(json_text(first(v, "known")), "autodl");
    cr_assert_eq(secrets_get(w.secrets, "autodl", "token", &token), -ENOENT);
}

Test(control_rent_account, limits_are_changed_one_by_one)
{
    begin_account();
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"month_milli\":500000}"));

    _cleanup_json_ struct json *v = answers("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":0}");
    const struct json *a = json_get(v, "account");

    cr_assert_eq(json_get_int(a, "month_milli", 0), 500000);
    cr_assert_eq(json_get_int(a, "day_milli", -1), -1, "none");
    at.is_silent = true; /* of limits alone the company need not hear */
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":4000}"));
    refuses(CALL("ProviderSet", "{\"provider\":\"autodl\",\"day_milli\":-1}"),
            "org.varlink.service.InvalidParameter", "parameter", "day_milli");
    refuses(CALL("ProviderSet", "{\"provider\":\"elsewhere\"}"), "io.llmhost.NotFound", "code",
            "unknown_provider");
}

static void proposes(const char *parameters, const char *next)
{
    _cleanup_free_ char *call = xasprintf("{\"method\":\"io.llmhost.ProviderAdd\",\"parameters\":%s}", parameters);
    _cleanup_json_ struct json *v = ask(call);

    cr_assert_str_eq(json_text(first(json_get(v, "parameters"), "next")), next);
}

Test(control_rent_account, what_cannot_be_an_account_is_refused_before_anybody_is_asked)
{
    static const char *const urls[] = {"ftp://x", "file:///etc/passwd", "x.example", "https://", "http:///x"};
    char token[SECRET_BYTES_MAX + 2] = "";

    for (size_t i = 0; i < ELEMENTS(urls); i++) {
        _cleanup_free_ char *call =
            xasprintf(CALL("ProviderAdd",
                           "{\"provider\":\"autodl\",\"base_url\":\"%s\",\"token\":{\"text\":\"right\"}}"),
                      urls[i]);

        refuses(call, "io.llmhost.Usage", "code", "bad_url");
    }
    proposes("{\"provider\":\"autodl\",\"base_url\":\"127.0.0.1:8300\",\"token\":{\"text\":\"right\"}}",
             "llmhostctl provider add autodl --base-url=http://127.0.0.1:8300");
    proposes("{\"provider\":\"autodl\",\"base_url\":\"api.example/v1\",\"token\":{\"text\":\"right\"}}",
             "llmhostctl provider add autodl --base-url=https://api.example/v1");
    proposes("{\"provider\":\"autodl\",\"base_url\":\"ftp://x\",\"token\":{\"text\":\"right\"}}",
             "llmhostctl provider add autodl --base-url=https://HOST");
    proposes("{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}",
             "llmhostctl provider add autodl --token-file=FILE");
    memset(token, 'x', SECRET_BYTES_MAX + 1);
    _cleanup_free_ char *call =
        xasprintf(CALL("ProviderAdd", "{\"provider\":\"autodl\",\"token\":{\"text\":\"%s\"}}"), token);

    refuses(call, "io.llmhost.CredentialsRefused", "message",
            "autodl was not added: that is no token of autodl: it is longer than 65 kB");
    refuses(CALL("ProviderAdd", "{\"provider\":\"nobody\",\"token\":{\"text\":\"x\"}}"), "io.llmhost.Usage",
            "message",
            "nobody was not added: \"nobody\" is nobody this version can rent from; there are: autodl");
}

Test(control_rent_account, the_balance_is_asked_for_only_when_that_is_said)
{
    begin_account();
    at.balance_milli = 7000;

    _cleanup_json_ struct json *old = answers("Cost", "{}"), *now = answers("Cost", "{\"refresh\":true}");

    cr_assert_eq(json_get_int(json_get(first(old, "accounts"), "balance"), "milli", 0), 41300);
    cr_assert_eq(json_get_int(json_get(first(now, "accounts"), "balance"), "milli", 0), 7000);
    cr_assert_eq(json_count(json_get(now, "not_asked")), 0);
}

Test(control_rent_account, balance_that_could_not_be_read_is_told_as_such)
{
    begin_account();
    cr_assert_eq(secrets_put(w.secrets, "autodl", "token", "wrong"), 0);

    _cleanup_json_ struct json *v = answers("Cost", "{\"refresh\":true}");
    const struct json *why = first(v, "not_asked");

    cr_assert_str_eq(json_get_text(why, "target"), "autodl");
    cr_assert_str_eq(json_get_text(why, "code"), "token_refused");
    cr_assert_eq(json_get_int(why, "exit", 0), 5);
    cr_assert_eq(json_get_int(json_get(first(v, "accounts"), "balance"), "milli", 0), 41300, "what was read last stays");
}

Test(control_rent_account, cards_without_a_name_are_no_cards)
{
    static const char *const gpus[] = {"", ",4090D", "4090D,", "4090D,,5090", ","};

    begin_account();
    for (size_t i = 0; i < ELEMENTS(gpus); i++) {
        _cleanup_free_ char *call =
            xasprintf(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"%s\",\"anyway\":true}"), gpus[i]);

        refuses(call, "io.llmhost.Usage", "code", "gpu_needed");
    }
}

Test(control_rent_account, address_that_was_no_good_is_not_kept)
{
    begin_account();
    refuses(CALL("ProviderSet", "{\"provider\":\"autodl\",\"base_url\":\"https://other.example\","
                                "\"token\":{\"text\":\"wrong\"}}"),
            "io.llmhost.CredentialsRefused", "code", "token_refused");
    cr_assert_str_eq(at.url, "its own", "who pays can reach it still");

    _cleanup_json_ struct json *v = answers("ProviderList", "{}");

    cr_assert_null(json_get_text(first(v, "accounts"), "base_url"));
}

/* What is put back is what was there before: with two of them at once that would be what the other one tries.
 */
Test(control_rent_account, one_word_about_an_account_is_tried_at_a_time)
{
    struct caller_end other;
    _cleanup_secret_ char *token = NULL;

    begin_account();
    at.is_silent = true;
    caller_comes(&other);
    say(&other, CALL("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}"));
    loop_turns(w.loop, 10);
    refuses(CALL("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"also wrong\"}}"),
            "io.llmhost.Conflict", "code", "in_trial");
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "message",
            "autodl was not removed: another word about it is being tried");
    caller_leaves(&other);
    loop_turns(w.loop, 10);
    cr_assert_eq(secrets_get(w.secrets, "autodl", "token", &token), 0);
    cr_assert_str_eq(token, "right");
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
}

static void token_is(const char *kind, const char *expected)
{
    _cleanup_secret_ char *token = NULL;

    cr_assert_eq(secrets_get(w.secrets, "autodl", kind, &token), expected ? 0 : -ENOENT, "%s", kind);
    cr_assert(!expected || streq(token, expected), "%s is %s", kind, token);
}

/* Killed in the middle: without a token nothing could be switched off any more. */
Test(control_rent_account, token_that_was_being_tried_does_not_outlive_the_daemon)
{
    begin_account();
    at.is_silent = true;
    say(&w.caller, CALL("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"wrong\"}}"));
    loop_turns(w.loop, 10);
    token_is("token", "wrong");
    token_is("token_before", "right");
    caller_leaves(&w.caller);
    daemon_ends();
    cr_assert_eq(secrets_put(w.secrets, "autodl", "token", "wrong"), 0); /* as if it had been killed */
    cr_assert_eq(secrets_put(w.secrets, "autodl", "token_before", "right"), 0);
    daemon_begins();
    token_is("token", "right");
    token_is("token_before", NULL);
    at.is_silent = false;
    caller_comes(&w.caller);
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"token\":{\"text\":\"right\"}}"));
    token_is("token_before", NULL);
}

Test(control_rent_account, account_goes_only_without_machines)
{
    begin_machine();
    refuses(CALL("ProviderRemove", "{\"provider\":\"autodl\"}"), "io.llmhost.Conflict", "code", "in_use");
}

Test(control_rent_account, account_without_machines_goes)
{
    begin_account();
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));

    _cleanup_json_ struct json *v = answers("Status", "{}");

    cr_assert_eq(json_count(json_get(v, "accounts")), 0);
}

Test(control_rent_account, what_an_account_was_asked_is_answered_when_it_is_removed)
{
    struct caller_end other;

    begin_account();
    at.holds_offers = true;
    caller_comes(&other);
    say(&other, CALL("Offers", "{}"));
    cr_assert(LOOP_UNTIL(w.loop, at.held));
    json_free(answers("ProviderRemove", "{\"provider\":\"autodl\"}"));
    op_finish_later(w.loop, &at.held->inner, NULL, answer_on_turn, at.held);

    _cleanup_json_ struct json *v = hear(&other);

    cr_assert_eq(json_type(json_get(json_get(v, "parameters"), "offers")), JSON_ARRAY);
    caller_leaves(&other);
}

/* ---- what can be rented ---- */

Test(control_rent_account, offers_are_told_with_their_prices)
{
    refuses(CALL("Offers", "{}"), "io.llmhost.NotFound", "code", "no_provider");
    begin_account();

    _cleanup_json_ struct json *v = answers("Offers", "{}"), *one = answers("Offers", "{\"gpu\":\"5090\"}");

    cr_assert_eq(json_count(json_get(v, "offers")), 2);
    cr_assert_str_eq(json_get_text(first(v, "offers"), "gpu"), "4090D", "the cheapest first");
    cr_assert_eq(json_get_int(json_get(first(v, "offers"), "price"), "milli", 0), 1880);
    cr_assert_eq(json_count(json_get(one, "offers")), 1);
    cr_assert_null(json_get(first(one, "offers"), "price"), "unknown is not 0");
    refuses(CALL("Offers", "{\"gpu\":\"4090\"}"), "io.llmhost.Usage", "code", "no_such_card");
}

Test(control_rent_account, price_that_a_machine_told_is_known_from_then_on)
{
    begin_account();
    account_learn_price(manager_find_account(w.manager, "autodl"), offers[1].card, 8880);

    _cleanup_json_ struct json *one = answers("Offers", "{\"gpu\":\"5090\"}");
    const struct json *offer = first(one, "offers");

    cr_assert_eq(json_get_int(json_get(offer, "price"), "milli", 0), 8880);
    cr_assert_null(json_get(offer, "price_day"), "it is not of the list");
}

Test(control_rent_account, offers_for_a_model_begin_with_what_holds_it)
{
    begin_account();

    _cleanup_json_ struct json *v = answers("Offers", "{\"for_model\":\"ollama:m\"}");
    const struct json *list = json_get(v, "offers");

    cr_assert_str_eq(json_get_text(json_at(list, 0), "gpu"), "5090", "the cheaper one is too small");
    cr_assert_str_eq(json_get_text(json_at(list, 0), "fits"), "yes");
    cr_assert_gt(json_get_int(json_at(list, 0), "context", 0), 4096);
    cr_assert_str_eq(json_get_text(json_at(list, 1), "fits"), "no");
}

Test(control_rent_account, offers_are_for_a_model_there_is)
{
    begin_account();
    refuses(CALL("Offers", "{\"for_model\":\"tiny\"}"), "io.llmhost.Usage", "code", "bad_model");
    refuses(CALL("Offers", "{\"for_model\":\"vllm:tiny\"}"), "io.llmhost.Usage", "code", "unknown_engine");
    at.registry = "model_unknown";
    refuses(CALL("Offers", "{\"for_model\":\"ollama:m\"}"), "io.llmhost.NotFound", "code", "model_unknown");
    at.registry = "tag_unknown";
    refuses(CALL("Offers", "{\"for_model\":\"ollama:m\"}"), "io.llmhost.NotFound", "code", "tag_unknown");
}

Test(control_rent_account, what_only_the_table_knows_is_marked)
{
    begin_account();

    _cleanup_json_ struct json *heard = answers("Offers", "{\"for_model\":\"ollama:m\"}");

    cr_assert_not(json_get_bool(first(heard, "offers"), "from_table", false));
    at.registry = "registry_unreachable";

    _cleanup_json_ struct json *v = answers("Offers", "{\"for_model\":\"ollama:m\"}");

    cr_assert(json_get_bool(first(v, "offers"), "from_table", false));
    cr_assert_eq(json_count(json_get(v, "notes")), 1);
}

Test(control_rent_account, card_that_is_too_small_is_refused_before_it_is_paid_for)
{
    begin_account();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"wait\":false}"), "io.llmhost.Refused",
            "code", "does_not_fit");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"5090,4090D\",\"wait\":false}"),
            "io.llmhost.Refused", "code", "does_not_fit");
    cr_assert_null(manager_lease_at(w.manager, 0));
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx2\",\"wait\":false}"));
    cr_assert_not_null(manager_lease_at(w.manager, 0), "two of them hold it");
}

Test(control_rent_account, price_of_the_account_can_be_passed_over_once)
{
    begin_account();
    json_free(answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":1000}"));
    _cleanup_json_ struct json *dear = ask(CALL("Up", UP));
    const struct json *said = json_get(dear, "parameters");

    cr_assert_str_eq(json_get_text(dear, "error"), "io.llmhost.Refused");
    cr_assert_str_eq(json_get_text(said, "code"), "budget_hour");
    cr_assert_str_eq(json_text(json_at(json_get(said, "next"), 1)), "llmhostctl provider set autodl --max-price=AMOUNT");
    json_free(answers("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"on\":\"box\",\"anyway\":true,"
                            "\"wait\":false,\"over_budget\":true}"));
    box_gets(LIFE_RUNNING);
    time_passes(10000);
    cr_assert_eq(box_state(), LIFE_RUNNING);
}

Test(control_rent_account, words_about_a_machine_need_a_card)
{
    begin_account();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"max_price_milli\":2000}"), "io.llmhost.Usage", "code",
            "gpu_needed");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090\",\"anyway\":true}"), "io.llmhost.Usage",
            "code", "no_such_card");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"anyway\":true,\"max_price_milli\":1000}"),
            "io.llmhost.Refused", "code", "price");
    fake.cards_max = 4;
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090Dx9\",\"anyway\":true}"), "io.llmhost.Usage",
            "message", "AutoDL rents out no machine with 9 cards: at most 4");
    fake.cards_max = 0;
    refuses(CALL("Up", "{\"model\":\"nothing\",\"gpu\":\"4090D\",\"anyway\":true}"), "io.llmhost.Usage",
            "code", "bad_model");
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"disk_gb\":-1}"),
            "org.varlink.service.InvalidParameter", "parameter", "disk_gb");
    cr_assert_null(manager_lease_at(w.manager, 0), "nothing was made");
}

static void ways_are(const char *a, const char *b, const char *c)
{
    _cleanup_json_ struct json *v = ask(CALL("Up", "{\"model\":\"ollama:m\"}"));
    const struct json *p = json_get(v, "parameters"), *next = json_get(p, "next");

    cr_assert_str_eq(json_get_text(p, "code"), "no_instance");
    cr_assert_str_eq(json_text(json_at(next, 0)), a);
    cr_assert_str_eq(json_text(json_at(next, 1)), b);
    cr_assert_str_eq(json_text(json_at(next, 2)), c);
}

Test(control_rent_account, without_an_instance_all_ways_to_one_are_named)
{
    const char *add = "llmhostctl instance add gpu1 'ssh -p 46464 root@HOST'";

    ways_are("llmhostctl provider add autodl", "llmhostctl up ollama:m --gpu=CARD", add);
    begin_account();
    ways_are("llmhostctl offers --for ollama:m", "llmhostctl up ollama:m --gpu=CARD", add);
}

Test(control_rent_account, a_card_is_that_of_the_account_that_rents)
{
    at.has_console = true;
    json_free(answers("ProviderAdd", "{\"provider\":\"a-console\",\"token\":{\"text\":\"right\"}}"));
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"wait\":false}"), "io.llmhost.NotFound",
            "code", "no_provider");
    begin_account();
    refuses(CALL("Up", "{\"model\":\"ollama:m\",\"gpu\":\"4090D\",\"wait\":false}"), "io.llmhost.Refused",
            "code", "does_not_fit");
}

Test(control_rent_account, a_limit_below_the_price_of_what_is_on_is_said)
{
    begin_machine();
    time_passes(10000);
    _cleanup_json_ struct json *enough = answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":1880}"),
                               *less = answers("ProviderSet", "{\"provider\":\"autodl\",\"price_milli\":1000}");

    cr_assert_eq(json_count(json_get(json_get(enough, "account"), "dearer")), 0);
    cr_assert_str_eq(json_text(first(json_get(less, "account"), "dearer")), "box");
    cr_assert_eq(box_state(), LIFE_RUNNING);
}
