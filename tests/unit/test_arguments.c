#include "proto/arguments.h"

#include <criterion/criterion.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json.h"
#include "proto/mem.h"

/* The words have blanks between. */
static struct json *list_of(const char *words)
{
    struct json *list = json_array();

    for (const char *at = words; *at; at += strcspn(at, " "), at += *at == ' ') {
        _cleanup_free_ char *word = xasprintf("%.*s", (int)strcspn(at, " "), at);

        json_append_string(list, word);
    }
    return list;
}

Test(arguments, shows_no_secret_and_all_else)
{
    static const char *const rows[][2] = {
        {"--hf-token hunter2 -c 512", "--hf-token <secret> -c 512"},
        {"--api-key=hunter2", "--api-key=<secret>"},
        {"--api_key hunter2", "--api_key <secret>"},
        {"-API-KEY hunter2", "-API-KEY <secret>"},
        {"HF_TOKEN=hunter2 -np 2", "HF_TOKEN=<secret> -np 2"},
        {"--db-password -hunter2", "--db-password <secret>"},
        {"--set {\"password\":\"hunter2\"}", "--set <secret>"},
        {"--set={\"client-secret\":\"hunter2\"}", "--set=<secret>"},
        {"-hft hunter2", "-hft <secret>"},
        {"-mu https://me:hunter2@host/m.gguf", "-mu https://me:<secret>"},
        {"--model-url=https://hunter2@host/m.gguf", "--model-url=https://<secret>"},
        {"-mu https://host/m.gguf?a=1&X-Amz-Signature=hunter2", "-mu https://host/m.gguf?a=1&X-Amz-Signature=<secret>"},
        {"-mu https://host/m?token=hunter2&a=1", "-mu https://host/m?token=<secret>"},
        {"--api-key", "--api-key"},
        {"", ""},
    };
    static const char *const plain[] = {
        "--max-tokens 5",     "--tokenizer=qwen3",  "-c 512 --no-mmap", "--cache-type-k q8_0",
        "/models/token.gguf", "the secret garden=", "--set {\"keyword\":1}", "--n=2",
        "-mu https://host/key/token@1/m.gguf?a=1&b", "--url https://host?", "--url ://",
    };

    for (size_t i = 0; i < ELEMENTS(rows); i++) {
        _cleanup_json_ struct json *list = list_of(rows[i][0]), *wanted = list_of(rows[i][1]),
                                   *shown = arguments_show(list);
        struct buf a, b;

        buf_init(&a, 4096);
        buf_init(&b, 4096);
        json_write(shown, &a);
        json_write(wanted, &b);
        cr_assert_str_eq(buf_text(&a), buf_text(&b));
        cr_assert_eq(arguments_hold_secret(list), *rows[i][0] != '\0', "%s", rows[i][0]);
        buf_done(&a);
        buf_done(&b);
    }
    for (size_t i = 0; i < ELEMENTS(plain); i++) {
        _cleanup_json_ struct json *list = list_of(plain[i]);

        cr_assert_not(arguments_hold_secret(list), "%s", plain[i]);
    }
    cr_assert_not(arguments_hold_secret(NULL));
}
