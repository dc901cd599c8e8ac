/* Private to store/. How long things took the last 15 times, in memory. */
#pragma once

#include <stdint.h>

#define USUAL_KEPT 15

struct usual;

struct usual *usual_new(void);
struct usual *usual_free(struct usual *u);
/* As usual_add() returned it; words that are no numbers are left out. */
void usual_load(struct usual *u, const char *what, const char *last);
/* Returns all that is kept, oldest first, separated by spaces; caller frees. */
char *usual_add(struct usual *u, const char *what, uint64_t ms);
/* The median; 0: never seen. At least 1 otherwise. */
uint64_t usual_ms(const struct usual *u, const char *what);
