/* The words of the command line: every verb and every option there is. What the command line may hold, help and completion all
 * come from these two tables. */
#pragma once

#include "client/verb.h"

enum kind { FLAG, TEXT, MAYBE, LINES, PORT, DURATION, SINCE, UNTIL, MONEY, GIGABYTES }; /* MAYBE: a text behind =, or "" */

struct option {
    const char *name;
    char letter; /* 0: none */
    enum kind kind;
    bool global;
    size_t at; /* in struct options */
    const char *only; /* this verb's alone; NULL: of all that name it */
    const char *value, *help;
};

/* One after the other; NULL beyond the last. */
const struct verb *verb_at(size_t i);
const struct option *option_at(size_t i);
#define VERBS_MAX   64      /* at most so many of each */
#define OPTIONS_MAX 72

const struct verb *verb_find(const char *name);
/* "instance" is the noun of "instance add". */
bool verb_is_of_noun(const struct verb *v, const char *noun);
bool is_noun(const char *word);

/* Does v take it? NULL: before any verb. */
bool option_fits(const struct option *o, const struct verb *v);
/* By name (n bytes) or, NULL, by letter; NULL: v takes none such. */
const struct option *option_find(const struct verb *v, const char *name, size_t n, char letter);
/* Is word in list, whose words have blanks between them? */
bool list_has(const char *list, const char *word);
