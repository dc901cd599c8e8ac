/* Are two trees the same, in all that can be seen of them? */
#pragma once

#include <string.h>

#include "proto/json.h"

static inline bool json_same(const struct json *a, const struct json *b)
{
    size_t n_a = 0, n_b = 0;
    const char *text_a = json_text_n(a, &n_a), *text_b = json_text_n(b, &n_b);
    double real_a = 0, real_b = 0;
    int64_t int_a = 0, int_b = 0;

    if (!a != !b || json_type(a) != json_type(b) || json_count(a) != json_count(b) ||
        json_is_true(a) != json_is_true(b) || n_a != n_b || (n_a && memcmp(text_a, text_b, n_a) != 0))
        return false;
    if (json_to_real(a, &real_a) != json_to_real(b, &real_b) || real_a != real_b ||
        json_to_int(a, &int_a) != json_to_int(b, &int_b) || int_a != int_b)
        return false;
    for (size_t i = 0; i < json_count(a); i++)
        if (!json_same(json_at(a, i), json_at(b, i)) ||
            (json_key_at(a, i) && strcmp(json_key_at(a, i), json_key_at(b, i)) != 0))
            return false;
    return true;
}
