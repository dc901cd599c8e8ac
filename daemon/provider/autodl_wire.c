/* Every reader opens the envelope {"code","msg","data"} first; what was refused becomes a fault by the table
 * of errors. */
#include "provider/autodl_wire.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#include "base/fault.h"
#include "proto/buf.h"
#include "proto/json.h"
#include "proto/text.h"
#include "provider/autodl_tables.h"

#define PAGES_MAX  100
#define STOCK_MAX  1000000
#define SHANGHAI_S (8 * 3600)

/* ---- bodies ---- */

void autodl_write_create(const struct instance_wish *w, unsigned cuda, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_int(v, "req_gpu_amount", w->cards);
    json_put_int(v, "expand_system_disk_by_gb", w->disk_gb);
    json_put_string(v, "gpu_spec_uuid", w->card);
    json_put_string(v, "image_uuid", w->image);
    json_put_int(v, "cuda_v_from", cuda);
    json_put_string(v, "instance_name", w->name);
    json_put_string(v, "start_command", w->start.start_command);
    if (w->region) { /* left out, the platform chooses */
        struct json *list = json_array();

        json_append_string(list, w->region);
        json_put(v, "data_center_list", list);
    }
    json_write(v, out);
}

void autodl_write_start(const char *id, const char *start_command, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_string(v, "instance_uuid", id);
    json_put_string(v, "payload", "gpu");
    json_put_string(v, "start_command", start_command);
    json_write(v, out);
}

/* Most of their bodies name one thing. */
static void write_one(const char *key, const char *value, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_string(v, key, value);
    json_write(v, out);
}

void autodl_write_id(const char *id, struct buf *out)
{
    write_one("instance_uuid", id, out);
}

void autodl_write_page(unsigned page, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_int(v, "page_index", page);
    json_put_int(v, "page_size", AUTODL_PAGE_ROWS);
    json_write(v, out);
}

void autodl_write_console_page(unsigned page, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_string(v, "date_from", "");
    json_put_string(v, "date_to", "");
    json_put_int(v, "page_index", page);
    json_put_int(v, "page_size", AUTODL_PAGE_ROWS);
    json_put(v, "status", json_array());
    json_put(v, "charge_type", json_array());
    json_write(v, out);
}

void autodl_write_power_on(const char *id, bool no_card, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_string(v, "instance_uuid", id);
    json_put_string(v, "payload", no_card ? "non_gpu" : "gpu");
    json_write(v, out);
}

void autodl_write_timer(const char *id, int64_t off_at_ms, bool in_ms, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();
    time_t at = (time_t)(off_at_ms / 1000 + SHANGHAI_S);
    struct tm there;
    char text[32];

    json_put_string(v, "instance_uuid", id);
    if (!off_at_ms)
        json_put(v, "shutdown_at", json_null());
    else if (in_ms)
        json_put_int(v, "shutdown_at", off_at_ms);
    else {
        strftime(text, sizeof text, "%Y-%m-%d %H:%M", gmtime_r(&at, &there));
        json_put_string(v, "shutdown_at", text);
    }
    json_write(v, out);
}

void autodl_write_market(unsigned page, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_string(v, "charge_type", "payg");
    json_put_int(v, "page_index", page);
    json_put_int(v, "page_size", AUTODL_PAGE_ROWS);
    json_write(v, out);
}

void autodl_write_save(const char *id, const char *image, struct buf *out)
{
    _cleanup_json_ struct json *v = json_object();

    json_put_string(v, "instance_uuid", id);
    json_put_string(v, "image_name", image);
    json_write(v, out);
}

void autodl_write_stock(const char *region, struct buf *out)
{
    write_one("region_sign", region, out);
}

/* ---- answers ---- */

/* Not theirs at all, or cut: a call may have happened all the same. */
static int not_an_answer(const struct autodl_answer *a, struct fault *f)
{
    return fault_code(f, a->asked ? FAULT_UNCERTAIN : FAULT_TRANSIENT, "provider_unreachable",
                      "AutoDL answered with something that is no answer (HTTP %d, %zu bytes)", a->status,
                      a->n);
}

/* The message is for people who read Chinese; ours stands before it. */
static int refused(const struct autodl_tables *t, const struct autodl_answer *a, const struct json *v,
                   struct fault *f)
{
    const char *code = json_get_text(v, "code"), *message = json_get_text(v, "msg");
    const struct autodl_error *e;
    struct buf said;

    if (!message)
        message = "";
    e = autodl_find_error(t, code, message);
    buf_init(&said, sizeof f->text / 2);
    utf8_clean(&said, message, MIN(strlen(message), (size_t)150), false);
    const char *words = buf_text(&said);

    if (e)
        fault_code(f, e->kind, e->word, "%s%s%s%s", e->text, *message ? " (" : "", words ? words : "",
                   *message ? ")" : "");
    else /* an error nobody has written down yet: a call is looked for, a question is asked again */
        fault_code(f, a->asked ? FAULT_UNCERTAIN : FAULT_TRANSIENT, "provider_error",
                   "AutoDL refused: %.40s %s", code, words ? words : "");
    buf_done(&said);
    return f->error ? f->error : -EPROTO;
}

/* The data of an answer that says Success; the envelope owns it. */
static int open_envelope(const struct autodl_tables *t, const struct autodl_answer *a, struct json **ret,
                         struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    const char *code;

    if (json_parse(a->text, a->n, &v) < 0 || !(code = json_get_text(v, "code")))
        return not_an_answer(a, f);
    if (!streq(code, "Success") && !streq(code, "OK")) /* §1: some of the console's say OK */
        return refused(t, a, v, f);
    *ret = TAKE_PTR(v);
    return 0;
}

int autodl_read_done(const struct autodl_tables *t, const struct autodl_answer *a, struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;

    return open_envelope(t, a, &v, f);
}

/* An id goes into the query string of later calls and into our own records. */
static bool take_id(const char *text, char id[static INSTANCE_ID_MAX])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

    if (!text || !*text || strlen(text) >= INSTANCE_ID_MAX || text[strspn(text, letters)])
        return false;
    snprintf(id, INSTANCE_ID_MAX, "%s", text);
    return true;
}

int autodl_read_made(const struct autodl_tables *t, const struct autodl_answer *a,
                     char id[static INSTANCE_ID_MAX], struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    int r = open_envelope(t, a, &v, f);

    if (r < 0)
        return r;
    return take_id(json_get_text(v, "data"), id) ? 0
                                                 : not_an_answer(a, f); /* made, and we do not know what */
}

int autodl_read_saved(const struct autodl_tables *t, const struct autodl_answer *a,
                      char id[static INSTANCE_ID_MAX], struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    int r = open_envelope(t, a, &v, f);

    if (r < 0)
        return r;
    return take_id(json_get_text(json_get(v, "data"), "image_uuid"), id) ? 0 : not_an_answer(a, f);
}

/* A time that may be missing: {"Time":"…","Valid":true}. */
static int64_t read_time(const struct json *v)
{
    const char *text = json_get_text(v, "Time");
    int64_t at_ms;

    if (!json_get_bool(v, "Valid", false) || !text || rfc3339_parse(text, &at_ms) < 0 || at_ms < 0)
        return 0;
    return at_ms;
}

/* §4.1: whatever is neither of the two is on its way. */
static enum instance_power read_power(const char *word)
{
    return streq(word, "running") ? INSTANCE_ON : streq(word, "shutdown") ? INSTANCE_OFF : INSTANCE_CHANGING;
}

/* By the day, week, month or year (§4.1: the words for it are not known): whatever is not by time, and has an
 * end. */
static int64_t read_prepaid(const struct json *v)
{
    const char *charge = json_get_text(v, "charge_type");

    return charge && *charge && !streq(charge, "payg") ? read_time(json_get(v, "expired_at")) : 0;
}

/* For people: as much as there is room for. */
static void take_text(const char *text, char *out, size_t size)
{
    snprintf(out, size, "%.*s", (int)utf8_valid(text, MIN(strlen(text), size - 1)), text);
}

/* A card that the table does not know is told as they write it. */
static void read_card(const struct autodl_tables *t, const struct json *v, struct instance_seen *ret)
{
    const char *spec = json_get_text(v, "gpu_spec_uuid"), *mode = json_get_text(v, "start_mode");
    int64_t price = json_get_int(v, "payg_price", 0);
    const struct autodl_card *card = spec ? autodl_find_card(t, spec) : NULL;
    const char *alias = json_get_text(v, "snapshot_gpu_alias_name"); /* of an ordinary one */
    const char *gpu = card ? card->gpu : spec ? spec : alias ? alias : "";
    int64_t cards = json_get_int(v, "req_gpu_amount", 0);

    take_text(gpu, ret->gpu, sizeof ret->gpu);
    ret->cards = cards > 0 && cards <= RENTAL_CARDS_MAX ? (unsigned)cards : 0;
    ret->no_card = ret->power != INSTANCE_OFF && mode && streq(mode, "non_gpu");
    ret->off_at_ms = read_time(json_get(v, "timed_shutdown_at"));
    ret->price_milli = price > 0 && price < INT_MAX ? price : 0;
}

/* Of an ordinary instance, beyond what is free; a Pro one's is not told. */
static unsigned read_disk(const struct json *v)
{
    int64_t bytes = json_get_int(v, "expand_data_disk_size", 0);

    return bytes > 0 && bytes <= (int64_t)1 << 50 ? (unsigned)(bytes >> 30) : 0;
}

static bool read_row(const struct autodl_tables *t, const struct json *v, struct instance_seen *ret)
{
    const char *word = json_get_text(v, "status"), *name = json_get_text(v, "name");
    const char *region = json_get_text(v, "region_name"); /* region_sign is no code of theirs */

    *ret = (struct instance_seen){0};
    if (!word || !take_id(json_get_text(v, "uuid"), ret->id))
        return false;
    take_text(word, ret->word, sizeof ret->word);
    if (name && strlen(name) < sizeof ret->name) /* a longer one is nobody's of ours */
        snprintf(ret->name, sizeof ret->name, "%s", name);
    ret->power = read_power(word);
    ret->started_at_ms = read_time(json_get(v, "started_at"));
    ret->stopped_at_ms = read_time(json_get(v, "stopped_at"));
    ret->prepaid_until_at_ms = read_prepaid(v);
    ret->disk_gb = read_disk(v);
    take_text(region ? region : "", ret->region, sizeof ret->region);
    read_card(t, v, ret);
    return true;
}

/* {"list":[…],"max_page":N}: the rows of a page, at most AUTODL_PAGE_ROWS. They are in *ret, which the caller frees
 * also when this fails. */
static int open_page(const struct autodl_tables *t, const struct autodl_answer *a, struct json **ret,
                     const struct json **ret_list, unsigned *ret_pages, struct fault *f)
{
    int r = open_envelope(t, a, ret, f);

    if (r < 0)
        return r;
    const struct json *data = json_get(*ret, "data"), *list = json_get(data, "list");
    int64_t pages = json_get_int(data, "max_page", -1);

    if (json_type(data) != JSON_OBJECT ||
        (list && json_type(list) != JSON_ARRAY && json_type(list) != JSON_NULL) ||
        json_count(list) > AUTODL_PAGE_ROWS || pages > PAGES_MAX)
        return not_an_answer(a, f);
    if (pages < 0 && json_count(list) == AUTODL_PAGE_ROWS)
        return not_an_answer(a, f); /* there may be more, and it does not say so */
    *ret_pages = pages > 0 ? (unsigned)pages : 1;
    *ret_list = list;
    return 0;
}

/* A row that cannot be read spoils the page: a machine that is overlooked is one that bills. */
int autodl_read_page(const struct autodl_tables *t, const struct autodl_answer *a, struct autodl_page *ret,
                     struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    const struct json *list;

    *ret = (struct autodl_page){0};
    int r = open_page(t, a, &v, &list, &ret->n_pages, f);

    if (r < 0)
        return r;
    for (size_t i = 0; i < json_count(list); i++)
        if (!read_row(t, json_at(list, i), &ret->seen[ret->n++]))
            return not_an_answer(a, f);
    return 0;
}

/* §2.2: one word is known, "finished"; with any other it cannot be used yet, or never. */
static bool read_image(const struct json *v, struct rental_image *ret)
{
    const char *word = json_get_text(v, "status"), *name = json_get_text(v, "name"),
               *made = json_get_text(v, "create_at");
    int64_t bytes = json_get_int(v, "image_size", 0);

    *ret = (struct rental_image){0};
    if (!word || !take_id(json_get_text(v, "image_uuid"), ret->id))
        return false;
    take_text(word, ret->word, sizeof ret->word);
    take_text(name ? name : "", ret->name, sizeof ret->name);
    ret->ready = streq(word, "finished");
    ret->bytes = MAX(bytes, (int64_t)0);
    if (!made || rfc3339_parse(made, &ret->made_at_ms) < 0 || ret->made_at_ms < 0)
        ret->made_at_ms = 0;
    return true;
}

/* An image that cannot be read cannot be used; the others can. */
int autodl_read_images(const struct autodl_tables *t, const struct autodl_answer *a,
                       struct autodl_images *ret, struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    const struct json *list;

    *ret = (struct autodl_images){0};
    int r = open_page(t, a, &v, &list, &ret->n_pages, f);

    if (r < 0)
        return r;
    for (size_t i = 0; i < json_count(list); i++)
        ret->n += read_image(json_at(list, i), &ret->all[ret->n]);
    return 0;
}

/* A name or address that a connection is made to; it comes from outside. */
static bool is_host(const char *text, size_t size)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-:";

    return text && *text && *text != '-' && strlen(text) < size && !text[strspn(text, letters)];
}

/* All three or none: half a way in is one of the boot before. */
static void read_way(const struct json *v, struct instance_way *ret)
{
    const char *host = json_get_text(v, "proxy_host"), *password = json_get_text(v, "root_password");
    int64_t port = json_get_int(v, "ssh_port", 0), price = json_get_int(v, "payg_price", 0);

    *ret = (struct instance_way){.price_milli = price > 0 && price < INT_MAX ? price : 0};
    if (!is_host(host, sizeof ret->host) || port <= 0 || port >= 65536 || !password || !*password ||
        strlen(password) >= sizeof ret->password)
        return;
    snprintf(ret->host, sizeof ret->host, "%s", host);
    snprintf(ret->password, sizeof ret->password, "%s", password);
    ret->port = (uint16_t)port;
}

int autodl_read_snapshot(const struct autodl_tables *t, const struct autodl_answer *a,
                         struct instance_way *ret, struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    int r = open_envelope(t, a, &v, f);

    if (r < 0)
        return r;
    const struct json *data = json_get(v, "data");

    read_way(data, ret);
    return json_type(data) == JSON_OBJECT ? 0 : not_an_answer(a, f);
}

int autodl_read_page_way(const struct autodl_tables *t, const struct autodl_answer *a, const char *id,
                         struct instance_way *ret, bool *ret_found, unsigned *ret_pages, struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    const struct json *list;
    int r = open_page(t, a, &v, &list, ret_pages, f);

    *ret_found = false;
    *ret = (struct instance_way){0};
    for (size_t i = 0; r == 0 && !*ret_found && i < json_count(list); i++) {
        const struct json *row = json_at(list, i);
        const char *uuid = json_get_text(row, "uuid"), *word = json_get_text(row, "status");

        *ret_found = uuid && streq(uuid, id);
        /* What stands there while it is off, or on its way, is of the boot before. */
        if (*ret_found && word && read_power(word) == INSTANCE_ON)
            read_way(row, ret);
    }
    return r;
}

int autodl_read_market(struct autodl_tables *t, const struct autodl_answer *a, struct autodl_market *market,
                       unsigned *ret_pages, struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    const struct json *list;
    int r = open_page(t, a, &v, &list, ret_pages, f);

    for (size_t i = 0; r == 0 && i < json_count(list); i++) {
        const struct json *row = json_at(list, i);
        const char *name = json_get_text(row, "gpu_name");
        const struct autodl_card *card = name ? autodl_find_ordinary(t, name) : NULL;
        int64_t free = json_get_int(row, "gpu_order_num", 0), price = json_get_int(row, "payg_price", 0);
        size_t k = card ? (size_t)(card - t->ordinary) : 0;

        if (!card || free < 0 || free > STOCK_MAX || price <= 0 || price > INT_MAX)
            continue; /* a kind that nobody here knows the memory of */
        market->stock[k] = MIN(market->stock[k] + (int)free, STOCK_MAX);
        if (!market->price_milli[k] || price < market->price_milli[k])
            market->price_milli[k] = price;
    }
    return r;
}

/* [{"RTX 4090D":{"idle_gpu_num":3,…}}, …], and cards among them that the API does not rent out. */
int autodl_read_stock(const struct autodl_tables *t, const struct autodl_answer *a, int stock[],
                      struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    int r = open_envelope(t, a, &v, f);

    if (r < 0)
        return r;
    const struct json *data = json_get(v, "data");

    if (json_type(data) != JSON_ARRAY)
        return not_an_answer(a, f);
    for (size_t i = 0; i < json_count(data); i++) {
        const struct json *row = json_at(data, i);
        const char *name = json_key_at(row, 0);
        int64_t idle = json_get_int(json_at(row, 0), "idle_gpu_num", -1);

        if (json_type(row) != JSON_OBJECT || json_count(row) != 1 || idle < 0 || idle > STOCK_MAX)
            return not_an_answer(a, f);
        for (unsigned k = 0; k < t->n_cards; k++)
            if (streq(t->cards[k].stock, name))
                stock[k] = MIN(stock[k] + (int)idle, STOCK_MAX);
    }
    return 0;
}

int autodl_read_balance(const struct autodl_tables *t, const struct autodl_answer *a, int64_t *ret_milli,
                        struct fault *f)
{
    _cleanup_json_ struct json *v = NULL;
    int64_t assets, blocked;
    int r = open_envelope(t, a, &v, f);

    if (r < 0)
        return r;
    const struct json *data = json_get(v, "data");

    if (!json_to_int(json_get(data, "assets"), &assets))
        return not_an_answer(a, f);
    blocked = json_get_int(data, "blocked_asset", 0);
    if (assets < -INT64_MAX / 4 || assets > INT64_MAX / 4 || blocked < 0 || blocked > INT64_MAX / 4)
        return not_an_answer(a, f);
    *ret_milli = assets - blocked;
    return 0;
}
