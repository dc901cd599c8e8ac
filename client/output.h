/* What can be shown, and to whom: sentences and tables to people (output_table.c, output_status.c, progress.c), JSON to
 * scripts (output_json.c). stdout carries the answer and nothing else; progress, warnings and hints go to stderr.
 *
 * Everything that comes from the daemon is a reply as a JSON tree; a screen is a function that writes one into a buffer,
 * so that it can be looked at by a test and painted again by `status -w`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/buf.h"
#include "proto/error.h"
#include "proto/json.h"
#include "proto/text.h"

#define SCREEN_BYTES_MAX (4u << 20)

struct output {
    bool json;                          /* --json: every line on stdout is an envelope */
    bool quiet;                         /* -q: stderr for errors only */
    bool out_terminal, err_terminal;
    bool err_moves;                     /* stderr can take a line back: a terminal that is not "dumb" */
    bool out_colour, err_colour;
    unsigned out_width, err_width;      /* columns of the terminal; 0: none, so no limit */
    unsigned out_height, err_height;    /* likewise */
};

/* Looks at the descriptors, TERM, NO_COLOR and COLUMNS. */
void output_init(struct output *o, bool json, bool quiet);
/* The terminal may have changed its size. */
void output_measure(struct output *o);

typedef void (*screen_fn)(const struct output *o, const struct json *data, struct buf *out);

/* The answer on stdout: data through screen for people, in the envelope for scripts, with exit beside it when not 0. */
void output_answer(const struct output *o, const struct json *data, screen_fn screen, enum exit_status exit);
/* A finished text on stdout. */
void output_flush(const struct buf *out);
/* A line of progress, a warning or a hint on stderr; nothing with -q. */
void output_hint(const struct output *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, broken between words where the terminal ends. */
void output_hint_wrapped(const struct output *o, const char *text);
/* An error: on stderr for people (also with -q), as the envelope on stdout for scripts. */
void output_error(const struct output *o, const struct json *error);

/* An error object: what the daemon's named errors carry, and "exit". why may be NULL; next are commands up to NULL. */
struct json *error_make(enum exit_status exit, const char *code, const char *message, const char *why, ...)
    __attribute__((sentinel));
enum exit_status error_status(const struct json *error);
/* As people read it: message, why, what the provider said, what to type. */
void screen_error(const struct output *o, const struct json *error, struct buf *out);

/* {"v":1,"ok":…}, one line. exit is left out when 0. */
void envelope_write(struct buf *out, const struct json *data, const struct json *error, enum exit_status exit);

/* Tables. Cells are added row by row and never wrap. On a terminal the table gives up columns from the right until it
 * fits; a column of plain words may be cut with an ellipsis, one of names never is. */
enum style { STYLE_PLAIN, STYLE_HEAD, STYLE_GOOD, STYLE_BUSY, STYLE_BAD, STYLE_FAINT };
struct column {
    const char *head;
    bool right;         /* flush right: numbers */
    bool words;         /* may be cut */
};
struct table;
struct table *table_new(const struct column *columns, unsigned n_columns);      /* borrows columns */
struct table *table_free(struct table *t);
DEFINE_CLEANUP(struct table *, table_free)
#define _cleanup_table_ _cleanup_(cleanup_table_free)
void table_add(struct table *t, enum style style, const char *text);            /* copies; NULL or "" shows as - */
void table_keep_last(struct table *t); /* never cut: where a row has no room for the last column, it stands below */
void table_write(const struct table *t, unsigned width, bool colour, struct buf *out);

/* Columns a text takes on a terminal (wcwidth; Chinese letters take two). */
unsigned text_columns(const char *text);
/* The longest beginning of text that takes at most so many columns: its length in bytes. */
size_t text_fit(const char *text, unsigned columns);
/* Adds text and then spaces up to so many columns. */
void add_padded(struct buf *out, const char *text, unsigned columns);
/* Adds text as lines with so many columns in front of each; lines that would pass width are broken between words (0: never). */
void add_wrapped(struct buf *out, unsigned indent, unsigned width, const char *text);
void add_styled(struct buf *out, bool colour, enum style style, const char *text);

/* "  engine     ollama 0.12, pid 2214", going on below its own beginning where the terminal ends; nothing without a text. */
void add_field(const struct output *o, struct buf *out, const char *name, const char *text);
/* One more of a list with commas. */
void add_part(struct buf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The member's text, or what to show without it. */
const char *member_text(const struct json *object, const char *key, const char *otherwise);
/* "power_on" -> "power on"; caller frees. */
char *words_of(const char *code);

/* Times for people. */
#define CLOCK_MAX 40
int64_t now_at_ms(void);
const char *age_format(char out[static TEXT_SHORT_MAX], int64_t since_at_ms);
/* "14:31:02", with the date in front when not today, with ".204" when millis. */
const char *clock_format(char out[static CLOCK_MAX], int64_t at_ms, bool millis);
/* "14:31", with the date in front when not today. */
const char *minute_format(char out[static CLOCK_MAX], int64_t at_ms);
#define FRESH_MS 60000      /* what was heard longer ago is shown with its age */

#define AMOUNT_MAX 64
/* "2.20", "¥50", as people type it: thousandths. 0 or -EINVAL. */
int money_parse(const char *text, int64_t *ret_milli);
/* A Money of the contract, per behind it: "¥1.98/h", "¥0.02/h~"; "?" for what nobody knows, "¥2.00+?" where a part of it is not known. */
bool amount_is_known(const struct json *money);
const char *amount_format(char out[static AMOUNT_MAX], const struct json *money, const char *per);
/* The same for a table: nothing is "0". */
const char *amount_cell(char out[static AMOUNT_MAX], const struct json *money, const char *per);
/* "today ¥7.42 of ¥30.00  balance ¥41.30" of an Account; whole: the month as well. Caller frees. */
void add_exempt(const struct output *o, const struct json *account, unsigned indent, struct buf *out); /* what no limit of it stops, and until when */
char *account_text(const struct json *account, bool named, bool whole);

/* Rented machines (output_rent.c). What is not rented, or is told of without its rental, has no lines here. */
bool is_rental(const struct json *instance);
const struct json *stop_of(const struct json *instance);    /* its Rental, or its InBox; NULL: nothing stops it */
bool is_stopped_by_us(const struct json *instance);      /* that, or switched off from inside */
/* When it stops by itself, and with guard what its guard does; its state, with its age where it is old. Caller frees. */
/* What it is: "1 x 4090D · …"; NULL: it is not rented. Caller frees. */
char *rented_machine_text(const struct json *instance);
char *rented_stops_text(const struct json *instance, bool guard);
char *rented_state_text(const struct json *instance);
/* It waits because no card is free; "try 14 in 21s", caller frees. */
bool rented_lacks_card(const struct json *instance);
bool rented_is_looked_for(const struct json *instance); /* ... and the search has its end */
char *rented_try_text(const struct json *instance);
enum style rented_style(const struct json *instance);
/* The fields of its long form; of a model's the guard alone. */
void screen_guard(const struct output *o, const struct json *instance, struct buf *out);
void screen_rental(const struct output *o, const struct json *instance, struct buf *out);
/* What guards_note() has found, below the error. */
void screen_guards(const struct output *o, const struct json *guards, struct buf *out);
/* Can machines be rented at one of these accounts? */
bool any_account_rents(const struct json *accounts);
/* In a table of machines that may be woken: "2 x 4090D"; what an hour costs while it is on. NULL: it is not rented. Caller frees the first. */
char *rented_card_text(const struct json *instance);
const char *rented_hour_text(char out[static AMOUNT_MAX], const struct json *instance);
const char *rented_price_text(char out[static AMOUNT_MAX], const struct json *instance);

/* What status says of a model, and the other screens too. state_word: as people say it ("waking"); next_text: what happens by
 * itself, and when; caller frees. */
const char *state_word(const char *state);
enum style state_style(const char *state);
char *next_text(const struct json *model);
const char *plural(int64_t n);
/* Of its way: "up 3h05m"; when a machine stops by itself, with guard also what its guard does. Caller frees. */
char *tunnel_text(const struct json *tunnel);
char *stops_text(const struct json *instance, bool guard);
const struct json *instance_find(const struct json *status, const char *name);      /* NULL: none */

/* Screens. */
void screen_status(const struct output *o, const struct json *status, struct buf *out);
void screen_names(const struct output *o, const struct json *status, struct buf *out);
/* The first model, the first instance of a Status in the long form; trouble stands apart, since it comes last. */
void screen_model(const struct output *o, const struct json *status, struct buf *out);
void screen_instance(const struct output *o, const struct json *status, struct buf *out);
void screen_trouble(const struct output *o, const struct json *status, struct buf *out);
void screen_instances(const struct output *o, const struct json *reply, struct buf *out);
void screen_show(const struct output *o, const struct json *reply, struct buf *out);
void screen_aliases(const struct output *o, const struct json *reply, struct buf *out);
void screen_keys(const struct output *o, const struct json *reply, struct buf *out);
void screen_forwards(const struct output *o, const struct json *reply, struct buf *out);
/* Of Ps: what is in memory; all there is, with states. */
void screen_ps(const struct output *o, const struct json *reply, struct buf *out);
void screen_ps_all(const struct output *o, const struct json *reply, struct buf *out);
void screen_why(const struct output *o, const struct json *reply, struct buf *out);
void screen_doctor(const struct output *o, const struct json *reply, struct buf *out);
void screen_accepted(const struct output *o, const struct json *reply, struct buf *out);     /* of a Doctor that changed something */
/* Of Cost: of all; of targets, whose sum is their own. */
void screen_cost(const struct output *o, const struct json *reply, struct buf *out);
void screen_cost_of(const struct output *o, const struct json *reply, struct buf *out);
void screen_machines(const struct output *o, const struct json *reply, struct buf *out);         /* of an account */
void screen_offers(const struct output *o, const struct json *reply, struct buf *out);
void screen_accounts(const struct output *o, const struct json *reply, struct buf *out);
/* One Account: what it has and may spend. */
void screen_account(const struct output *o, const struct json *account, struct buf *out);
/* One line of a log; events put the target and the kind where others have the source. known: the target that need not be told.
 * cut: where the terminal ends, so does it. */
void screen_line(const struct output *o, const struct json *line, bool events, const char *known, bool cut, struct buf *out);
