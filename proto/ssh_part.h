/* The parts of which a pasted ssh command line, a forward and a jump are made. Shared by the files that read these. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* -EINVAL with the reason (caller frees), which may not be wanted; -ENOMEM. */
int ssh_refuse(char **ret_why, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A copy takes the place of *to. 0 or -ENOMEM. */
int ssh_text_keep(char **to, const char *text);
/* The same for a host as written: a name, an IPv4 address, an IPv6 address with or without brackets. -EINVAL: none of these. */
int ssh_host_keep(char **to, const char *text);
/* 1 to 65535, else -EINVAL. */
int ssh_port_take(const char *text, uint16_t *ret);
bool ssh_is_user(const char *text);
