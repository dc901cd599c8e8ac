/* The module itself, over an allocator that fails on demand. */
#include <criterion/criterion.h>
#include <stdbool.h>
#include <stdlib.h>

static bool memory_is_gone;

static void *test_malloc(size_t n)
{
    return memory_is_gone ? NULL : malloc(n);
}

#define malloc test_malloc
#include "proto/buf.c"
#undef malloc

Test(buf, holds_no_memory_until_something_is_added)
{
    struct buf b;

    buf_init(&b, 10);
    cr_assert_null(b.data);
    cr_assert_str_eq(buf_text(&b), "");
    cr_assert_eq(buf_add(&b, NULL, 0), 0);
    cr_assert_null(b.data);
    buf_done(&b);
}

Test(buf, adds_bytes_text_and_formats)
{
    struct buf b;

    buf_init(&b, 100);
    cr_assert_eq(buf_add(&b, "ab\0c", 4), 0);
    cr_assert_eq(buf_add_text(&b, "de"), 0);
    cr_assert_eq(buf_addf(&b, "%d-%s", 12, "x"), 0);
    cr_assert_eq(b.len, 10);
    cr_assert_arr_eq(b.data, "ab\0cde12-x", 10);
    buf_done(&b);
    cr_assert_null(b.data);
    cr_assert_eq(buf_add_text(&b, "again"), 0);
    cr_assert_str_eq(buf_text(&b), "again");
    buf_done(&b);
}

Test(buf, refuses_what_would_pass_the_ceiling_and_stays_as_it_was)
{
    struct buf b;
    char *room;

    buf_init(&b, 5);
    cr_assert_eq(buf_add_text(&b, "abc"), 0);
    cr_assert_eq(buf_add_text(&b, "def"), -ENOBUFS);
    cr_assert_eq(buf_addf(&b, "%s", "def"), -ENOBUFS);
    cr_assert_eq(buf_reserve(&b, SIZE_MAX, &room), -ENOBUFS);
    cr_assert_str_eq(buf_text(&b), "abc");
    cr_assert_eq(buf_add_text(&b, "de"), 0);
    cr_assert_str_eq(buf_text(&b), "abcde");
    cr_assert_eq(buf_add_text(&b, "x"), -ENOBUFS);
    buf_drop(&b, 1);
    cr_assert_eq(buf_add_text(&b, "x"), 0);
    cr_assert_str_eq(buf_text(&b), "bcdex");
    buf_done(&b);
}

Test(buf, without_a_ceiling_does_not_overflow)
{
    struct buf b;
    char *room;

    buf_init(&b, SIZE_MAX);
    cr_assert_eq(buf_add_text(&b, "abc"), 0);
    cr_assert_eq(buf_reserve(&b, SIZE_MAX - 3, &room), -ENOBUFS);
    cr_assert_str_eq(buf_text(&b), "abc");
    buf_done(&b);
}

Test(buf, gives_room_to_write_into)
{
    struct buf b;
    char *room;

    buf_init(&b, 1000);
    cr_assert_eq(buf_reserve(&b, 1000, &room), 0);
    memset(room, 'x', 1000);
    buf_grew(&b, 3);
    cr_assert_str_eq(buf_text(&b), "xxx");
    buf_done(&b);
}

Test(buf, keeps_order_through_any_mix_of_adding_and_dropping)
{
    unsigned in = 0, out = 0, seed = 1;
    struct buf b;

    buf_init(&b, 300);
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245u + 12345u;
        size_t n = (seed >> 16) % 90;

        if (seed >> 31) {
            for (; n > 0 && b.len < 300; n--) {
                char c = (char)in++;

                cr_assert_eq(buf_add(&b, &c, 1), 0);
            }
        } else {
            n = n < b.len ? n : b.len;
            for (size_t k = 0; k < n; k++)
                cr_assert_eq(b.data[k], (char)out++);
            buf_drop(&b, n);
        }
        cr_assert_eq(b.len, in - out);
        cr_assert_leq(b.size, 301);
    }
    buf_done(&b);
}

Test(buf, dropping_more_than_there_is_empties)
{
    struct buf b;

    buf_init(&b, 100);
    buf_drop(&b, 5);
    cr_assert_eq(buf_add_text(&b, "abc"), 0);
    buf_drop(&b, 99);
    cr_assert_eq(b.len, 0);
    cr_assert_str_eq(buf_text(&b), "");
    cr_assert_eq(buf_add_text(&b, "d"), 0);
    buf_clear(&b);
    cr_assert_eq(b.len, 0);
    buf_done(&b);
}

Test(buf, hands_over_terminated_bytes)
{
    struct buf b;
    char *text;

    buf_init(&b, 100);
    cr_assert_eq(buf_add_text(&b, "hello world"), 0);
    buf_drop(&b, 6);
    text = buf_take(&b);
    cr_assert_str_eq(text, "world");
    free(text);
    cr_assert_eq(b.len, 0);
    cr_assert_eq(b.max_bytes, 100);
    text = buf_take(&b);
    cr_assert_str_eq(text, "");
    free(text);
}

Test(buf, wipe_leaves_nothing_and_stays_usable)
{
    struct buf b;

    buf_init(&b, 100);
    buf_wipe(&b);
    cr_assert_eq(buf_add_text(&b, "secret"), 0);
    buf_wipe(&b);
    cr_assert_null(b.data);
    cr_assert_eq(b.len, 0);
    cr_assert_eq(b.max_bytes, 100);
}

Test(buf, survives_missing_memory)
{
    struct buf b;
    char *room;

    buf_init(&b, 100000);
    memory_is_gone = true;
    cr_assert_eq(buf_add_text(&b, "abc"), -ENOMEM);
    memory_is_gone = false;
    cr_assert_eq(buf_add_text(&b, "abc"), 0);
    memory_is_gone = true;
    cr_assert_eq(buf_reserve(&b, 5000, &room), -ENOMEM);
    cr_assert_eq(buf_addf(&b, "%5000d", 1), -ENOMEM);
    cr_assert_str_eq(buf_text(&b), "abc");
    buf_done(&b);
}
