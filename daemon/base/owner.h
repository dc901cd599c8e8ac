/* Who has a TCP port of this machine, as far as /proc tells. */
#pragma once

#include <stdint.h>

/* "ollama (pid 1880)"; of another user's program "a program of user ollama"; NULL: nothing is known. Caller frees. */
char *owner_of_port(const char *ip, uint16_t port);
