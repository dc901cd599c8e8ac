/* What the shells ask when somebody presses the Tab key. */
#pragma once

#include "client/verb.h"

/* The words behind "llmhostctl __complete", the last of which is being typed: what it could become, on stdout, a line each. */
enum exit_status complete(struct run *r, char **words, unsigned n);
