/* A word is judged by what it says of itself: no list of the options of all engines would be whole. */
#include "proto/arguments.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "proto/json.h"
#include "proto/mem.h"
#include "proto/text.h"

/* One of the words that text is made of says it; "--max-tokens" and "--tokenizer" do not. hft: llama-server's short --hf-token. */
static bool says_secret(const char *text, size_t n)
{
    static const char *const words[] = {"key",    "keys",       "apikey",     "token",  "password",  "hft",
                                        "passwd", "passphrase", "credential", "secret", "signature"};

    for (size_t i = 0, len; i < n; i += len + 1) {
        for (len = 0; i + len < n && isalnum((unsigned char)text[i + len]);)
            len++;
        for (size_t k = 0; k < ELEMENTS(words); k++)
            if (strlen(words[k]) == len && strncasecmp(text + i, words[k], len) == 0)
                return true;
    }
    return false;
}

static bool is_structure(const char *text)
{
    return *text == '{' || *text == '[';
}

/* "https://me:X@host/", "https://X@host/", "https://host/file?a=1&token=X": from there on. NULL: none. */
static const char *find_in_url(const char *word)
{
    const char *host = strstr(word, "://"), *at, *colon;

    if (!host)
        return NULL;
    host += strlen("://");
    at = memchr(host, '@', strcspn(host, "/?#"));
    if (at) {
        colon = memchr(host, ':', (size_t)(at - host));
        return colon ? colon + 1 : host;
    }
    for (const char *p = host + strcspn(host, "?"); *p; p += strcspn(p, "&")) {
        size_t n = strcspn(++p, "=&");

        if (p[n] == '=' && says_secret(p, n))
            return p + n + 1;
    }
    return NULL;
}

/* Where the secret begins in it; at its end: the next word is one. NULL: there is none. */
static const char *find_secret(const char *word)
{
    size_t n = strcspn(word, "=");
    const char *value = word[n] ? word + n + 1 : word + n;

    if (is_structure(word))
        return says_secret(word, strlen(word)) ? word : NULL;
    const char *in_url = find_in_url(word), *url = strstr(word, "://");

    if (in_url || (url && url < word + n)) /* its path says nothing */
        return in_url;
    if ((*word == '-' || *value) && says_secret(word, n))
        return value;
    return is_structure(value) && says_secret(value, strlen(value)) ? value : NULL;
}

static const char *word_at(const struct json *arguments, size_t i)
{
    const char *word = json_text(json_at(arguments, i));

    return word ? word : "";
}

bool arguments_hold_secret(const struct json *arguments)
{
    for (size_t i = 0; i < json_count(arguments); i++)
        if (find_secret(word_at(arguments, i)))
            return true;
    return false;
}

struct json *arguments_show(const struct json *arguments)
{
    struct json *shown = json_array();
    bool is_secret = false;

    for (size_t i = 0; i < json_count(arguments); i++) {
        const char *word = word_at(arguments, i), *value = find_secret(word);
        _cleanup_free_ char *hidden = NULL;

        if (is_secret)
            hidden = xstrdup("<secret>");
        else if (value && *value)
            hidden = xasprintf("%.*s<secret>", (int)(value - word), word);
        is_secret = value && !*value;
        json_append_string(shown, hidden ? hidden : word);
    }
    return shown;
}
