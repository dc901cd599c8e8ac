/* Private to json.c and json_tree.c: what a value is made of. */
#pragma once

#include "proto/json.h"

struct json_slot {
    char *key; /* NULL in an array */
    struct json *value;
};

struct json {
    enum json_type type;
    bool broken; /* something that belongs in here found no memory */
    union {
        int64_t number; /* JSON_INT, JSON_BOOL */
        double real;
        size_t length; /* JSON_STRING: the terminated text stands behind this struct */
        struct {
            struct json_slot *slots;
            unsigned count, room;
        };
    };
};

/* Takes value and, on success, key. 0 or -ENOMEM. Does not look for twins. */
int json_add(struct json *holder, char *key, struct json *value);
/* Does an object have a key twice? 1, 0 or -ENOMEM. */
int json_has_twins(const struct json *object);
