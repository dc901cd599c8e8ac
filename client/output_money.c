/* Money as people read it: two decimals and the currency; "~" behind an estimate, "?" for what is not known.
 */
#include <errno.h>
#include <string.h>

#include "client/output.h"
#include "proto/mem.h"

bool amount_is_known(const struct json *money)
{
    return json_type(money) == JSON_OBJECT &&
           (json_get_int(money, "milli", 0) || !json_get_bool(money, "unknown", false));
}

const char *amount_format(char out[static AMOUNT_MAX], const struct json *money, const char *per)
{
    char figure[TEXT_SHORT_MAX];

    if (!amount_is_known(money))
        return "?";
    snprintf(out, AMOUNT_MAX, "%s%s%s%s",
             money_format(figure, json_get_int(money, "milli", 0), member_text(money, "unit", "")), per,
             json_get_bool(money, "estimate", false) ? "~" : "",
             json_get_bool(money, "unknown", false) ? "+?" : "");
    return out;
}

const char *amount_cell(char out[static AMOUNT_MAX], const struct json *money, const char *per)
{
    if (amount_is_known(money) && !json_get_int(money, "milli", 0))
        return "0";
    return amount_format(out, money, per);
}

/* ---- read ---- */

int money_parse(const char *text, int64_t *ret_milli)
{
    static const char *const signs[] = {"\xc2\xa5", "\xef\xbf\xa5", "$", "\xe2\x82\xac"};
    int64_t milli = 0, scale = 1000;
    size_t n;

    for (size_t i = 0; i < ELEMENTS(signs); i++)
        if (strncmp(text, signs[i], strlen(signs[i])) == 0) {
            text += strlen(signs[i]);
            break;
        }
    n = strspn(text, "0123456789");
    if (n == 0 || n > 9)
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        milli = milli * 10 + (text[i] - '0') * 1000;
    text += n;
    if (*text == '.' && !*++text)
        return -EINVAL;
    for (; *text >= '0' && *text <= '9' && scale > 1; text++)
        milli += (*text - '0') * (scale /= 10);
    if (*text && strcmp(text, "\xe5\x85\x83") != 0) /* 元 */
        return -EINVAL;
    *ret_milli = milli;
    return 0;
}

/* ---- accounts ---- */

static void add_balance(const struct json *account, struct buf *out)
{
    const struct json *balance = json_get(account, "balance");
    int64_t at_ms = json_get_int(account, "balance_at_ms", 0);
    char text[AMOUNT_MAX], age[TEXT_SHORT_MAX];

    if (json_type(balance) != JSON_OBJECT)
        return;
    buf_addf(out, "  balance %s", amount_format(text, balance, ""));
    if (at_ms && now_at_ms() - at_ms >= FRESH_MS)
        buf_addf(out, " (seen %s ago)", age_format(age, at_ms));
}

/* How long the balance lasts as things are, if that is known: what is on is switched off at the floor. */
static void add_lasts(const struct json *account, struct buf *out)
{
    int64_t balance = json_get_int(json_get(account, "balance"), "milli", 0),
            rate = json_get_int(json_get(account, "rate"), "milli", 0);
    int64_t floor = json_get_int(account, "floor_milli", 0);
    char left[TEXT_SHORT_MAX], least[TEXT_SHORT_MAX];

    if (balance <= floor || rate <= 0 || json_get_bool(json_get(account, "rate"), "unknown", false))
        return;
    buf_addf(out, ", about %s at the present rate",
             duration_format(left, (uint64_t)((double)(balance - floor) / (double)rate * 3600000), false));
    if (floor)
        buf_addf(out, " to the floor of %s", money_format(least, floor, member_text(account, "unit", "")));
}

/* alert_key: of what is said before the limit is reached; NULL: nothing. */
static void add_spent(const struct json *account, const char *words, const char *key, const char *limit_key,
                      const char *alert_key, struct buf *out)
{
    int64_t alert = alert_key ? json_get_int(account, alert_key, 0) : 0;
    int64_t limit = json_get_int(account, limit_key, 0);
    char text[AMOUNT_MAX];

    buf_addf(out, "%s %s", words, amount_format(text, json_get(account, key), ""));
    if (limit)
        buf_addf(out, " of %s", money_format(text, limit, member_text(account, "unit", "")));
    if (alert)
        buf_addf(out, " (alert at %s)", money_format(text, alert, member_text(account, "unit", "")));
}

void add_exempt(const struct output *o, const struct json *account, unsigned indent, struct buf *out)
{
    const struct json *names = json_get(account, "exempt");

    for (size_t i = 0; i < json_count(names); i++) {
        _cleanup_free_ char *text =
            xasprintf("%s runs beyond the limits of %s (--over-budget) until it is off, or one of them is set lower.",
                      json_text(json_at(names, i)), member_text(account, "provider", "?"));

        add_wrapped(out, indent, o->out_width, text);
    }
}

char *account_text(const struct json *account, bool named, bool whole)
{
    struct buf out;

    buf_init(&out, 4096);
    if (named)
        buf_addf(&out, "%s: ", member_text(account, "provider", "?"));
    add_spent(account, "today", "today", "day_milli", whole ? "alert_milli" : NULL, &out);
    if (whole || json_get_int(account, "month_milli", 0))
        add_spent(account, "  month", "month", "month_milli", NULL, &out);
    if (whole && json_type(json_get(account, "reserved")) == JSON_OBJECT) {
        char text[AMOUNT_MAX];

        buf_addf(&out, "  reserved %s", amount_format(text, json_get(account, "reserved"), ""));
    }
    add_balance(account, &out);
    if (whole)
        add_lasts(account, &out);
    return buf_take(&out);
}
