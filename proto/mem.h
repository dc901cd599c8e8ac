/* Memory that cleans up after itself. Used by everything. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Runs fn on the variable when it leaves its scope. fn takes a pointer to the variable. */
#define _cleanup_(fn) __attribute__((cleanup(fn)))

/* Makes cleanup_FN(type **) of a free function that takes the pointer itself (and takes NULL). */
#define DEFINE_CLEANUP(type, fn)                                                                             \
    static inline void cleanup_##fn(type *p)                                                                 \
    {                                                                                                        \
        if (*p)                                                                                              \
            fn(*p);                                                                                          \
    }

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Hands the value on and leaves nothing behind: *ret = TAKE_PTR(p). */
#define TAKE_PTR(p)                                                                                          \
    ({                                                                                                       \
        __typeof__(p) take_ptr_ = (p);                                                                       \
        (p) = NULL;                                                                                          \
        take_ptr_;                                                                                           \
    })
#define TAKE_FD(fd)                                                                                          \
    ({                                                                                                       \
        int take_fd_ = (fd);                                                                                 \
        (fd) = -1;                                                                                           \
        take_fd_;                                                                                            \
    })

#define ELEMENTS(a)               (sizeof(a) / sizeof(*(a)))
#define CONTAINER_OF(p, type, m)  ((type *)(void *)((char *)(p)-offsetof(type, m)))
#undef MIN      /* sys/param.h, which uv.h brings along, has its own */
#undef MAX
#define MIN(a, b)                 ((a) < (b) ? (a) : (b))
#define MAX(a, b)                 ((a) > (b) ? (a) : (b))

/* Small, fixed allocations abort when memory is gone: the state is on disk and the service manager starts us again.
 * What is sized by the outside goes through struct buf instead. */
static inline void *xalloc(size_t size)
{
    void *p = calloc(1, size);

    if (!p)
        abort();
    return p;
}
#define xnew(type) ((type *)xalloc(sizeof(type)))

/* NULL stays NULL. */
static inline char *xstrdup(const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy)
        abort();
    return copy;
}

__attribute__((format(printf, 1, 0))) static inline char *xvasprintf(const char *format, __builtin_va_list args)
{
    char *text = NULL;

    if (vasprintf(&text, format, args) < 0)
        abort();
    return text;
}

__attribute__((format(printf, 1, 2))) static inline char *xasprintf(const char *format, ...)
{
    __builtin_va_list args;

    __builtin_va_start(args, format);
    char *text = xvasprintf(format, args);

    __builtin_va_end(args);
    return text;
}

/* Overwrites a secret; the compiler does not leave it out. */
static inline void wipe(void *p, size_t n)
{
    explicit_bzero(p, n);
}

static inline bool streq(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}
