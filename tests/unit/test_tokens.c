/* Token counts found in answers of every kind, wherever they are cut. */
#include "gateway/tokens.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/mem.h"

struct row {
    const char *what, *answer;
    int64_t prompt, tokens;
};

static const struct row rows[] = {
    {"a chat",
     "{\"choices\":[{\"message\":{\"content\":\"hi\"}}],\"usage\":{\"prompt_tokens\":21,\"completion_"
     "tokens\":388,\"total_tokens\":409}}",
     21, 388},
    {"with white space", "{\"usage\" : { \"prompt_tokens\" : 7 , \"completion_tokens\": 9\n} }", 7, 9},
    {"usage in front of a long array",
     "{\"usage\":{\"prompt_tokens\":5,\"total_tokens\":5},\"data\":[{\"embedding\":[0.25,-1e-3]}]}", 5, 0},
    {"a stream, its last event",
     "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\ndata: "
     "{\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n",
     3, 4},
    {"a stream that counts on the way: the last counts",
     "data: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}\n\ndata: "
     "{\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n",
     3, 2},
    {"ollama",
     "{\"response\":\"x\",\"done\":false}\n{\"done\":true,\"context\":[1,2,3],\"total_duration\":9,\"prompt_"
     "eval_count\":26,\"eval_count\":298,\"eval_duration\":4}\n",
     26, 298},
    {"responses",
     "data: "
     "{\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":11,\"input_tokens_details\":"
     "{\"cached_tokens\":2},\"output_tokens\":12}}}\n\n",
     11, 12},
    {"what a model says about them is no count",
     "{\"content\":\"{\\\"prompt_tokens\\\":1,\\\"eval_count\\\": 2}\",\"a\":\"eval_count\"}", 0, 0},
    {"a word of a list is no key", "[\"eval_count\",5,\"prompt_tokens\"]", 0, 0},
    {"other types are none",
     "{\"eval_count\":\"5\",\"prompt_tokens\":-3,\"completion_tokens\":1.5,\"output_tokens\":1e3}", 0, 0},
    {"more digits than there can be", "{\"eval_count\":12345678901234567890}", 0, 0},
    {"longer words", "{\"total_prompt_tokens\":1,\"eval_counts\":2,\"prompt_tokens_details\":3}", 0, 0},
    {"nothing", "", 0, 0},
};

Test(tokens, are_found_in_every_kind_of_answer)
{
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct tokens t = {0};

        tokens_pass(&t, rows[i].answer, strlen(rows[i].answer));
        cr_assert_eq(t.prompt, rows[i].prompt, "%s: %lld", rows[i].what, (long long)t.prompt);
        cr_assert_eq(t.answer, rows[i].tokens, "%s: %lld", rows[i].what, (long long)t.answer);
    }
}

Test(tokens, are_found_wherever_an_answer_is_cut)
{
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        size_t n = strlen(rows[i].answer);

        for (size_t at = 0; at <= n; at++) {
            struct tokens t = {0};

            tokens_pass(&t, rows[i].answer, at);
            tokens_pass(&t, rows[i].answer + at, n - at);
            cr_assert(t.prompt == rows[i].prompt && t.answer == rows[i].tokens, "%s, cut at %zu",
                      rows[i].what, at);
        }
    }
}

Test(tokens, are_found_byte_by_byte)
{
    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        struct tokens t = {0};

        for (const char *p = rows[i].answer; *p; p++)
            tokens_pass(&t, p, 1);
        cr_assert(t.prompt == rows[i].prompt && t.answer == rows[i].tokens, "%s", rows[i].what);
    }
}
