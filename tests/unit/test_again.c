/* links: client
 *
 * Proposed commands, completed by what was typed. */
#include <criterion/criterion.h>
#include <string.h>

#include "client/again.h"
#include "client/verb.h"
#include "client/words.h"
#include "proto/error.h"
#include "proto/json.h"
#include "proto/mem.h"

static void expect(struct run *r, enum exit_status status, const char *next, const char *wanted)
{
    _cleanup_json_ struct json *error = error_make(status, "price", "no", NULL, next, NULL);

    again_complete(error, r);
    cr_assert_str_eq(json_text(json_at(json_get(error, "next"), 0)), wanted);
}

static void type(struct run *r, const char *name, const char *value)
{
    const struct option *o = option_find(r->verb, name, strlen(name), 0);

    cr_assert_not_null(o, "%s", name);
    r->options.typed[r->options.n_typed++] = (struct typed_option){o, value};
}

Test(again, says_what_was_typed_and_the_command_does_not_say)
{
    char *arguments[] = {(char *)"ollama:phi4"}, *engine[] = {(char *)"-c", (char *)"16 k"};
    struct run r = {.verb = verb_find("up"), .options = {.arguments = arguments, .n_arguments = 1}};

    expect(&r, EXIT_REFUSED, "llmhostctl up ollama:phi4 --max-price=AMOUNT",
           "llmhostctl up ollama:phi4 --max-price=AMOUNT");
    type(&r, "gpu", "4090D,5090");
    type(&r, "max-price", "1");
    type(&r, "anyway", NULL);
    type(&r, "timeout", "1m");
    type(&r, "json", NULL);
    expect(&r, EXIT_REFUSED, "llmhostctl up ollama:phi4 --max-price=AMOUNT",
           "llmhostctl up ollama:phi4 --max-price=AMOUNT --gpu=4090D,5090 --anyway");
    expect(&r, EXIT_REFUSED, "llmhostctl up ollama:phi4 --max-price 2 --on=gz",
           "llmhostctl up ollama:phi4 --max-price 2 --on=gz --anyway");
    type(&r, "or", "it's");
    expect(&r, EXIT_REFUSED, "llmhostctl up ollama:phi4 --max-price=2 --gpu=4090D,5090",
           "llmhostctl up ollama:phi4 --max-price=2 --gpu=4090D,5090 --anyway --or='it'\\''s'");
    r.options.n_typed--;
    r.options.engine_arguments = engine;
    r.options.n_engine_arguments = 2;
    expect(&r, EXIT_REFUSED, "llmhostctl up ollama:phi4",
           "llmhostctl up ollama:phi4 --gpu=4090D,5090 --max-price=1 --anyway -- -c '16 k'");
    expect(&r, EXIT_REFUSED, "llmhostctl up ollama:phi4 -- -np 2", "llmhostctl up ollama:phi4 -- -np 2");
}

Test(again, a_secret_of_an_engine_is_not_repeated_and_that_is_said)
{
    char *arguments[] = {(char *)"llama.cpp:m"}, *engine[] = {(char *)"-c", (char *)"512", (char *)"--hf-token",
                                                              (char *)"hunter2"};
    struct run r = {.verb = verb_find("up"),
                    .options = {.arguments = arguments, .n_arguments = 1, .engine_arguments = engine,
                                .n_engine_arguments = ELEMENTS(engine)}};
    _cleanup_json_ struct json *error = error_make(EXIT_REFUSED, "price", "no", "it is dear",
                                                   "llmhostctl up llama.cpp:m --max-price=2", NULL);

    type(&r, "gpu", "4090D");
    again_complete(error, &r);
    cr_assert_str_eq(json_text(json_at(json_get(error, "next"), 0)),
                     "llmhostctl up llama.cpp:m --max-price=2 --gpu=4090D");
    cr_assert_str_eq(json_get_text(error, "why"), "it is dear; what was typed behind -- is not repeated, for it "
                                                  "holds a secret: type it again");
    again_complete(error, &r);
    cr_assert_str_eq(strrchr(json_get_text(error, "why"), ';'), "; what was typed behind -- is not repeated, for it "
                                                                "holds a secret: type it again", "said once");
}

Test(again, a_limit_that_is_missing_is_no_mistake_in_what_was_typed)
{
    char *arguments[] = {(char *)"ollama:m"};
    struct run r = {.verb = verb_find("up"), .options = {.arguments = arguments, .n_arguments = 1}};
    _cleanup_json_ struct json *error = error_make(
        EXIT_USAGE, "price_unknown", "no", NULL, "llmhostctl up ollama:m --gpu=H800 --max-price=AMOUNT", NULL);

    type(&r, "gpu", "H800");
    type(&r, "until", "2m");
    type(&r, "timeout", "1m");
    again_complete(error, &r);
    cr_assert_str_eq(json_text(json_at(json_get(error, "next"), 0)),
                     "llmhostctl up ollama:m --gpu=H800 --max-price=AMOUNT --until=2m");
}

Test(again, a_name_and_an_address_that_are_mended_keep_what_was_typed_beside_them)
{
    char *arguments[] = {(char *)"qwen3:0.6b"}, *account[] = {(char *)"autodl"};
    struct run r = {.verb = verb_find("up"), .options = {.arguments = arguments, .n_arguments = 1}},
               add = {.verb = verb_find("provider add"), .options = {.arguments = account, .n_arguments = 1}};
    _cleanup_json_ struct json *error = error_make(EXIT_USAGE, "unknown_engine", "no", NULL,
                                                   "llmhostctl up ollama:qwen3:0.6b", "llmhostctl up ollama:3:0.6b", NULL),
                               *url = error_make(EXIT_USAGE, "bad_url", "no", NULL,
                                                 "llmhostctl provider add autodl --base-url=http://127.0.0.1:1", NULL);

    type(&r, "gpu", "4090D");
    again_complete(error, &r);
    cr_assert_str_eq(json_text(json_at(json_get(error, "next"), 0)), "llmhostctl up ollama:qwen3:0.6b --gpu=4090D");
    cr_assert_str_eq(json_text(json_at(json_get(error, "next"), 1)), "llmhostctl up ollama:3:0.6b", "another one");
    type(&add, "base-url", "127.0.0.1:1");
    type(&add, "token-file", "t");
    again_complete(url, &add);
    cr_assert_str_eq(json_text(json_at(json_get(url, "next"), 0)),
                     "llmhostctl provider add autodl --base-url=http://127.0.0.1:1 --token-file=t");
}

Test(again, a_token_comes_from_one_place)
{
    char *account[] = {(char *)"autodl"};
    struct run r = {.verb = verb_find("provider set"), .options = {.arguments = account, .n_arguments = 1}};

    type(&r, "token", NULL);
    type(&r, "max-price", "3");
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider set autodl --token-file=FILE",
           "llmhostctl provider set autodl --token-file=FILE --max-price=3");
}

Test(again, a_quote_in_a_value_is_one_as_a_shell_reads_it)
{
    char *arguments[] = {(char *)"it's a --model"};
    struct run r = {.verb = verb_find("up"), .options = {.arguments = arguments, .n_arguments = 1}};

    type(&r, "image", "o'clock --on=x");
    type(&r, "anyway", NULL);
    expect(&r, EXIT_REFUSED, "llmhostctl up 'it'\\''s a --model'",
           "llmhostctl up 'it'\\''s a --model' --image='o'\\''clock --on=x' --anyway");
    expect(&r, EXIT_REFUSED, "llmhostctl up 'it'\\''s a --model' --image='o'\\''clock --on=x'",
           "llmhostctl up 'it'\\''s a --model' --image='o'\\''clock --on=x' --anyway");
}

Test(again, other_commands_and_mistakes_stay)
{
    char *arguments[] = {(char *)"autodl"};
    struct run r = {.verb = verb_find("provider add"), .options = {.arguments = arguments, .n_arguments = 1}};

    type(&r, "base-url", "http://127.0.0.1:8080");
    type(&r, "token-file", "/tmp/a token");
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider add autodl",
           "llmhostctl provider add autodl --base-url=http://127.0.0.1:8080 --token-file='/tmp/a token'");
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider add autodl-console", "llmhostctl provider add autodl-console");
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider address autodl", "llmhostctl provider address autodl");
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider list", "llmhostctl provider list");
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider add 'autodl' more", "llmhostctl provider add 'autodl' more");
    expect(&r, EXIT_USAGE, "llmhostctl provider add autodl", "llmhostctl provider add autodl");
    arguments[0] = (char *)"it's -- a \\ b";
    r.options.n_typed = 1;
    expect(&r, EXIT_CREDENTIALS, "llmhostctl provider add 'it'\\''s -- a \\ b'",
           "llmhostctl provider add 'it'\\''s -- a \\ b' --base-url=http://127.0.0.1:8080");
}
