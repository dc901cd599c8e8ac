/* image: the saved system disks of rented machines. */
#include <time.h>

#include "client/progress.h"
#include "client/verbs_model.h"
#include "proto/mem.h"
#include "proto/text.h"

#define PROVIDER_MS 120000 /* a company is asked, which may be slow */

static void screen_saved(const struct output *o, const struct json *reply, struct buf *out)
{
    const struct json *image = json_get(reply, "image");
    const char *name = member_text(image, "name", "?");

    (void)o;
    if (!json_get_bool(image, "ready", false)) {
        buf_addf(out, "%s (%s) is being saved.\n", name, member_text(image, "id", "?"));
        return;
    }
    buf_addf(out, "saved: %s (%s)\n  rent with it: llmhostctl up MODEL --gpu CARD --image ", name,
             member_text(image, "id", "?"));
    shell_quote(out, name);
    buf_add_text(out, "\n");
}

enum exit_status verb_image_save(struct run *r)
{
    const struct options *o = &r->options;
    _cleanup_progress_ struct progress p;
    _cleanup_call_ struct call call = {
        .method = "ImageSave", .more = !o->no_wait, .parameters = json_object(), .needs = "image"};
    enum exit_status status;

    progress_init(&p, &r->output, o->arguments[1]);
    if (o->no_wait && o->timeout_ms)
        return verb_usage(r, "--no-wait does not wait, --timeout does: not both.", NULL,
                          "llmhostctl image save -h");
    json_put_string(call.parameters, "instance", o->arguments[0]);
    json_put_string(call.parameters, "name", o->arguments[1]);
    if (o->no_wait)
        json_put_bool(call.parameters, "wait", false);
    model_call_prepare(r, &call, &p);
    status = verb_connect(r, true);
    if (status == EXIT_DONE)
        status = connection_run(r->connection, &call);
    progress_leave(&p);
    if (status == EXIT_INTERRUPTED)
        return model_detached(r, "detached; the provider goes on saving it.", "llmhostctl image list", NULL);
    if (status != EXIT_DONE)
        return call.error ? verb_failed(r, &call) : status;
    output_answer(&r->output, call.answer, screen_saved, EXIT_DONE);
    if (o->no_wait)
        output_hint(&r->output, "  watch: llmhostctl image list");
    return EXIT_DONE;
}

static const char *day_format(char out[static CLOCK_MAX], int64_t at_ms)
{
    time_t at = (time_t)(at_ms / 1000);
    struct tm then;

    localtime_r(&at, &then);
    strftime(out, CLOCK_MAX, "%Y-%m-%d", &then);
    return out;
}

static void add_image(struct table *t, const struct json *image)
{
    int64_t bytes = json_get_int(image, "bytes", 0), made = json_get_int(image, "made_at_ms", 0);
    bool ready = json_get_bool(image, "ready", false);
    char size[TEXT_SHORT_MAX], at[CLOCK_MAX];

    table_add(t, STYLE_PLAIN, member_text(image, "name", "?"));
    table_add(t, STYLE_PLAIN, bytes > 0 ? bytes_format(size, (uint64_t)bytes) : "?");
    table_add(t, ready ? STYLE_GOOD : STYLE_BUSY,
              ready ? "ready" : member_text(image, "provider_state", "?"));
    table_add(t, STYLE_PLAIN, made ? day_format(at, made) : "?");
    table_add(t, STYLE_PLAIN, member_text(image, "provider", "?"));
    table_add(t, STYLE_PLAIN, member_text(image, "id", "?"));
}

static void screen_images(const struct output *o, const struct json *reply, struct buf *out)
{
    static const struct column columns[] = {{"NAME", false, false},  {"SIZE", true, false},
                                            {"STATE", false, false}, {"MADE", false, false},
                                            {"AT", false, true},     {"ID", false, true}};
    const struct json *images = json_get(reply, "images");
    _cleanup_table_ struct table *t = table_new(columns, ELEMENTS(columns));

    if (!json_count(images)) {
        buf_add_text(out,
                     "no image is saved. of a machine that is off: llmhostctl image save INSTANCE NAME\n");
        return;
    }
    for (size_t i = 0; i < json_count(images); i++)
        add_image(t, json_at(images, i));
    table_write(t, o->out_width, o->out_colour, out);
}

enum exit_status verb_image_list(struct run *r)
{
    _cleanup_call_ struct call call = {
        .method = "ImageList", .limit_ms = PROVIDER_MS, .parameters = json_object()};
    enum exit_status status = verb_connect(r, false);

    json_put_string(call.parameters, "provider", r->options.provider);
    if (status == EXIT_DONE)
        status = verb_call(r, &call);
    if (status == EXIT_DONE)
        output_answer(&r->output, call.answer, screen_images, EXIT_DONE);
    if (status == EXIT_DONE && !r->output.json && json_count(json_get(call.answer, "images")))
        output_hint(&r->output, "  deleted and renamed: in the company's console only");
    return status;
}
