/* A command that a daemon proposes, completed by what was typed: it knows neither files nor all options of the line that led there. */
#pragma once

struct json;
struct run;

/* Of an error's "next": each command with the verb and the arguments of r says the options of r as well, unless it names others instead. A usage error
 * stays as it is, for what was typed was wrong; but for those where the command says itself what is missing, or was wrong: a card, a limit of the price, an
 * engine, the address of a company. */
void again_complete(struct json *error, const struct run *r);
