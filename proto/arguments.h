/* What is typed for an engine, behind "--": an array of strings. A word whose name says so holds a secret, or the word behind it does: "--hf-token=X",
 * "--api-key X", "API_KEY=X", "{"password": "X"}". */
#pragma once

#include <stdbool.h>

struct json;

/* Of a command that is proposed, which does not repeat them then. */
#define ARGUMENTS_LEFT_OUT "what was typed behind -- is not repeated, for it holds a secret: type it again"

bool arguments_hold_secret(const struct json *arguments);
/* For screens and logs: a copy with "<secret>" in the place of each. */
struct json *arguments_show(const struct json *arguments);
