/* Private to varlink_contract.c (reads descriptions) and varlink_check.c (holds values against them). */
#pragma once

#include "proto/varlink.h"

enum varlink_kind {
    VARLINK_BOOL,
    VARLINK_INT,
    VARLINK_FLOAT,
    VARLINK_STRING,
    VARLINK_OBJECT, /* anything at all */
    VARLINK_ENUM,   /* fields are its words */
    VARLINK_STRUCT,
    VARLINK_ARRAY, /* of */
    VARLINK_MAP,   /* of */
    VARLINK_NAMED, /* name; decl once the whole text is read */
};

struct varlink_type {
    enum varlink_kind kind;
    bool maybe;
    unsigned line;
    char *name;
    const struct varlink_decl *decl;
    struct varlink_type *of;
    struct varlink_field *fields, **fields_end; /* in the order of the text */
};

struct varlink_field {
    struct varlink_field *next;
    char *name;
    struct varlink_type *type; /* NULL: the word of an enum */
};

struct varlink_decl {
    struct varlink_decl *next;
    enum varlink_decl_kind { DECL_TYPE, DECL_METHOD, DECL_ERROR } kind;
    char *name;
    struct varlink_type *in;  /* of a type or error: what it is */
    struct varlink_type *out; /* of a method only */
};

struct varlink_contract {
    char *text;
    char *name;
    struct varlink_decl *decls, **decls_end;
    struct varlink_block *blocks; /* everything above, freed as one */
};

/* name: with or without the interface in front. NULL: none of that kind. */
const struct varlink_decl *varlink_contract_find(const struct varlink_contract *c,
                                                 enum varlink_decl_kind kind, const char *name);
const struct varlink_field *varlink_field_find(const struct varlink_type *type, const char *name);
