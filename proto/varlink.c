/* The messages: framing, calls, replies. Writing goes piece by piece into the buffer and takes everything
 * back when it does not fit, so that a half message never leaves. */
#include "proto/varlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/buf.h"
#include "proto/json.h"

int varlink_frame(const struct buf *in, const char **ret_text, size_t *ret_n)
{
    /* The longest message has its NUL right behind the limit. */
    const char *end =
        in->len ? memchr(in->data, '\0', MIN(in->len, (size_t)VARLINK_MESSAGE_BYTES_MAX + 1)) : NULL;

    if (!end)
        return in->len > VARLINK_MESSAGE_BYTES_MAX ? -EMSGSIZE : 0;
    *ret_text = in->data;
    *ret_n = (size_t)(end - in->data);
    return 1;
}

/* ---- reading ---- */

/* Like a member that is not there: null. */
static const struct json *member_get(const struct json *message, const char *key)
{
    const struct json *v = json_get(message, key);

    return json_type(v) == JSON_NULL ? NULL : v;
}

static int message_parse(const char *text, size_t n, const char *const *members, size_t n_members,
                         struct json **ret)
{
    _cleanup_json_ struct json *message = NULL;
    int r = n <= VARLINK_MESSAGE_BYTES_MAX ? json_parse(text, n, &message) : -EBADMSG;

    if (r < 0)
        return r;
    if (json_type(message) != JSON_OBJECT)
        return -EBADMSG;
    for (size_t i = 0; i < json_count(message); i++) {
        bool known = false;

        for (size_t k = 0; k < n_members; k++)
            known |= streq(json_key_at(message, i), members[k]);
        if (!known)
            return -EBADMSG;
    }
    *ret = TAKE_PTR(message);
    return 0;
}

static int flag_take(const struct json *message, const char *key, bool *ret)
{
    const struct json *v = member_get(message, key);

    if (v && json_type(v) != JSON_BOOL)
        return -EBADMSG;
    *ret = json_is_true(v);
    return 0;
}

/* A name: not empty, and no NUL behind which something could hide. *ret is NULL when there is none. */
static int name_take(const struct json *message, const char *key, char **ret)
{
    const struct json *v = member_get(message, key);
    const char *text;
    size_t n;

    *ret = NULL;
    if (!v)
        return 0;
    text = json_text_n(v, &n);
    if (!text || n == 0 || strlen(text) != n)
        return -EBADMSG;
    *ret = strdup(text);
    return *ret ? 0 : -ENOMEM;
}

static int parameters_take(struct json *message, struct json **ret)
{
    const struct json *v = member_get(message, "parameters");

    if (v && json_type(v) != JSON_OBJECT)
        return -EBADMSG;
    *ret = v ? json_take(message, "parameters") : json_object();
    return *ret ? 0 : -ENOMEM;
}

int varlink_call_parse(const char *text, size_t n, struct varlink_call *ret)
{
    static const char *const members[] = {"method", "parameters", "more", "oneway", "upgrade"};
    _cleanup_json_ struct json *message = NULL;
    struct varlink_call call = {0};
    bool upgrade;
    int r = message_parse(text, n, members, ELEMENTS(members), &message);

    if (r < 0)
        return r;
    if ((r = flag_take(message, "more", &call.more)) < 0 ||
        (r = flag_take(message, "oneway", &call.oneway)) < 0 ||
        (r = flag_take(message, "upgrade", &upgrade)) < 0)
        return r;
    /* An answer in parts to one who wants none makes no sense; another protocol on this socket is not
     * offered. */
    if ((call.more && call.oneway) || upgrade)
        return -EBADMSG;
    r = name_take(message, "method", &call.method);
    if (r == 0)
        r = call.method ? parameters_take(message, &call.parameters) : -EBADMSG;
    if (r < 0) {
        varlink_call_done(&call);
        return r;
    }
    *ret = call;
    return 0;
}

void varlink_call_done(struct varlink_call *c)
{
    free(c->method);
    json_free(c->parameters);
    *c = (struct varlink_call){0};
}

int varlink_reply_parse(const char *text, size_t n, struct varlink_reply *ret)
{
    static const char *const members[] = {"error", "parameters", "continues"};
    _cleanup_json_ struct json *message = NULL;
    struct varlink_reply reply = {0};
    int r = message_parse(text, n, members, ELEMENTS(members), &message);

    if (r < 0)
        return r;
    r = flag_take(message, "continues", &reply.continues);
    if (r == 0)
        r = name_take(message, "error", &reply.error);
    if (r == 0)
        r = reply.error && reply.continues ? -EBADMSG : parameters_take(message, &reply.parameters);
    if (r < 0) {
        varlink_reply_done(&reply);
        return r;
    }
    *ret = reply;
    return 0;
}

void varlink_reply_done(struct varlink_reply *r)
{
    free(r->error);
    json_free(r->parameters);
    *r = (struct varlink_reply){0};
}

/* ---- writing ---- */

/* {"WORD":"NAME","parameters":{…}FLAGS} and its NUL; word and name NULL: without them. */
static int message_add(struct buf *out, const char *word, const char *name, const struct json *parameters,
                       const char *flags)
{
    _cleanup_json_ struct json *text = NULL;
    int r = buf_add_text(out, "{");

    if (r == 0 && name) {
        text = json_string(name);
        if ((r = buf_addf(out, "\"%s\":", word)) == 0 && (r = json_write(text, out)) == 0)
            r = buf_add_text(out, ",");
    }
    if (r == 0)
        r = buf_add_text(out, "\"parameters\":");
    if (r == 0)
        r = parameters ? json_write(parameters, out) : buf_add_text(out, "{}");
    if (r == 0)
        r = buf_add_text(out, flags);
    return r < 0 ? r : buf_add(out, "}", 2);
}

static int message_write(struct buf *out, const char *word, const char *name, const struct json *parameters,
                         const char *flags)
{
    size_t len = out->len;
    int r = message_add(out, word, name, parameters, flags);

    if (r == 0 && out->len - len - 1 > VARLINK_MESSAGE_BYTES_MAX)
        r = -EMSGSIZE;
    if (r < 0)
        out->len = len;
    return r;
}

int varlink_call_write(struct buf *out, const char *method, const struct json *parameters, bool more,
                       bool oneway)
{
    const char *flags = more ? ",\"more\":true" : oneway ? ",\"oneway\":true" : "";

    return message_write(out, "method", method, parameters, flags);
}

int varlink_reply_write(struct buf *out, const struct json *parameters, bool continues)
{
    return message_write(out, NULL, NULL, parameters, continues ? ",\"continues\":true" : "");
}

int varlink_error_write(struct buf *out, const char *error, const struct json *parameters)
{
    return message_write(out, "error", error, parameters, "");
}
