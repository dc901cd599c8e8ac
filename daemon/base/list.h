/* A ring of nodes that live inside their objects. An initialised node that is in no list points at itself. */
#pragma once

#include <stdbool.h>

#include "proto/mem.h"

struct list {
    struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_remove(struct list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    list_init(node);
}

/* The node must be in no list. */
static inline void list_append(struct list *head, struct list *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}

static inline void list_prepend(struct list *head, struct list *node)
{
    list_append(head->next, node);
}

/* NULL when empty. */
#define LIST_FIRST(head, type, member)                                                                       \
    (list_is_empty(head) ? NULL : CONTAINER_OF((head)->next, type, member))

#define LIST_FOREACH(p, head, type, member)                                                                  \
    for (type *p = CONTAINER_OF((head)->next, type, member); &p->member != (head);                           \
         p = CONTAINER_OF(p->member.next, type, member))

/* The current element may be removed or freed in the body, no other. */
#define LIST_FOREACH_SAFE(p, head, type, member)                                                             \
    for (type *p = CONTAINER_OF((head)->next, type, member), *p##_next;                                      \
         &p->member != (head) && (p##_next = CONTAINER_OF(p->member.next, type, member), true); p = p##_next)
