/* Ports and IP addresses as people write them. The way back is host_port_format() in text.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IP_TEXT_MAX 48

/* 1 to 5 digits, up to 65535; 0 is a port here. 0 or -EINVAL. */
int port_parse(const char *text, uint16_t *ret);
/* "127.0.0.1:11434" "[::1]:11434"; no names. 0 or -EINVAL. */
int ip_port_parse(const char *text, char ret_ip[static IP_TEXT_MAX], uint16_t *ret_port);
/* 127.0.0.0/8 and ::1. What is no address is not. */
bool ip_is_loopback(const char *ip);
