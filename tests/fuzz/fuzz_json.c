/* Both readers on any bytes. What the tree reads is written and read again: the same must come back. */
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json.h"
#include "tests/fuzz/json_same.h"

static void scan(const uint8_t *data, size_t n, size_t piece, struct json_member *ret, int *ret_r)
{
    static const char *const keys[] = {"model", "a"};
    struct json_scan *s = json_scan_new(keys, ELEMENTS(keys));

    if (!s)
        abort();
    for (size_t i = 0; i < n; i += piece)
        json_scan_feed(s, data + i, MIN(piece, n - i));
    *ret_r = json_scan_end(s);
    json_scan_member(s, "a", ret);
    ret->text = NULL;
    json_scan_free(s);
}

/* However the bytes are cut, the scan finds the same. */
static void check_scan(const uint8_t *data, size_t n)
{
    struct json_member whole, pieces;
    int r_whole, r_pieces;

    scan(data, n, n + 1, &whole, &r_whole);
    scan(data, n, 1 + n % 7, &pieces, &r_pieces);
    if (!r_whole != !r_pieces)
        abort();
    if (r_whole == 0 && (whole.found != pieces.found || whole.type != pieces.type ||
                         whole.number != pieces.number || whole.count != pieces.count ||
                         whole.from_bytes != pieces.from_bytes || whole.to_bytes != pieces.to_bytes))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_json_ struct json *v = NULL, *again = NULL;
    struct buf first, second;

    check_scan(data, n);
    if (json_parse((const char *)data, n, &v) < 0)
        return 0;
    buf_init(&first, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    if (json_write(v, &first) < 0 || json_parse(first.data, first.len, &again) < 0 ||
        json_write(again, &second) < 0 || !json_same(v, again))
        abort();
    if (first.len != second.len || memcmp(first.data, second.data, first.len) != 0)
        abort();
    buf_done(&first);
    buf_done(&second);
    return 0;
}
