/* links: base
 * Any text as llmhostd.conf. What is refused has a complaint; what is accepted, written out as --check-config
 * shows it, means the same when it is read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"
#include "proto/buf.h"
#include "proto/mem.h"

/* As a file: what was given, section by section. */
static void write_out(const struct settings *s, struct buf *out)
{
    const char *section, *key, *value, *where, *last = "";

    for (unsigned i = 0; settings_at(s, i, &section, &key, &value, &where); i++) {
        if (!where)
            continue;
        if (!streq(section, last))
            buf_addf(out, "[%s]\n", section);
        last = section;
        buf_addf(out, "%s=%s\n", key, value ? value : "");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    _cleanup_free_ char *text = strndup((const char *)data, n), *why = NULL, *why_again = NULL;
    struct settings *s = NULL, *again = NULL;
    struct buf first, second;

    if (!text)
        abort();
    if (settings_parse(text, "fuzz.conf", &s, &why) < 0) {
        if (!why || !strstr(why, "fuzz.conf"))
            abort();
        return 0;
    }
    buf_init(&first, SIZE_MAX);
    buf_init(&second, SIZE_MAX);
    write_out(s, &first);
    if (settings_parse(buf_text(&first), "again.conf", &again, &why_again) < 0)
        abort();
    write_out(again, &second);
    if (strcmp(buf_text(&first), buf_text(&second)) != 0)
        abort();
    settings_free(s);
    settings_free(again);
    buf_done(&first);
    buf_done(&second);
    return 0;
}
