/* A command that a daemon proposes, completed by what was typed: it knows neither files nor all options of the line that led there. */
#pragma once

struct json;
struct run;

/* Of an error's "next": each command with the verb and the arguments of r says the options of r as well, unless it names others instead. A usage error
 * stays as it is, for what was typed was wrong; but for price_unknown, where only a limit is missing. */
void again_complete(struct json *error, const struct run *r);
