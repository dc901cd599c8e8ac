/* One line and one sample for each request of a model; of others a line alone. Nothing of what was said in it
 * is written down. */
#include "base/clock.h"
#include "base/log.h"
#include "gateway/counts.h"
#include "gateway/gateway_private.h"
#include "gateway/request_private.h"
#include "proto/mem.h"

static void format_seconds(char out[static 16], uint64_t ms)
{
    snprintf(out, 16, ms < 1000 ? "%.2fs" : "%.1fs", (double)ms / 1000);
}

static void request_log(const struct request *r, uint64_t total_ms, const char *how)
{
    const struct deployment *d = r->deployment;
    enum log_level level = d || r->status >= 400 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
    int64_t n_tokens = r->tokens.answer ? r->tokens.answer : r->tokens.prompt;
    char first[16] = "-", total[16], status[16], tokens[32] = "";

    snprintf(status, sizeof(status), "%u", r->status);
    format_seconds(total, total_ms);
    if (r->first_due)
        format_seconds(first, r->first_due - r->begun_due);
    if (n_tokens)
        snprintf(tokens, sizeof(tokens), " %lld tok", (long long)n_tokens);
    log_line(level, LOG_REQUEST, d ? deployment_name(d) : NULL,
             "%04x %s %s %s%s%s first %s total %s %llu bytes%s from %s", r->id & 0xffff, r->route.word,
             d ? deployment_id(d) : "-", r->status ? status : "", r->status && how ? " " : "", how ? how : "",
             first, total, (unsigned long long)r->relay.bytes, tokens, r->from);
}

/* Who leaves before the end is no error of anybody. */
static bool has_failed(const struct request *r, const char *how)
{
    return r->status >= 400 || r->late_status || (how && !streq(how, "left"));
}

void request_tally(const struct request *r, const char *how)
{
    uint64_t total_ms = clock_now_ms() - r->begun_due;

    request_log(r, total_ms, how);
    if (!r->deployment)
        return;
    counts_add(r->gateway->counts, &(struct count_sample){
                                       .model = deployment_name(r->deployment),
                                       .client = r->from,
                                       .failed = has_failed(r, how),
                                       .answered = r->first_due != 0,
                                       .first_ms = r->first_due ? r->first_due - r->begun_due : 0,
                                       .total_ms = total_ms,
                                       .request_bytes = r->request_bytes,
                                       .answer_bytes = r->relay.bytes,
                                       .prompt_tokens = (uint64_t)r->tokens.prompt,
                                       .answer_tokens = (uint64_t)r->tokens.answer,
                                   });
}
