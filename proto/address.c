/* Strict where the C library is lenient: no blanks, signs, hexadecimal or missing parts. */
#include "proto/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

int port_parse(const char *text, uint16_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    unsigned port = 0;

    if (digits < 1 || digits > 5 || text[digits] != '\0')
        return -EINVAL;
    for (; *text; text++)
        port = port * 10 + (unsigned)(*text - '0');
    if (port > UINT16_MAX)
        return -EINVAL;
    *ret = (uint16_t)port;
    return 0;
}

int ip_port_parse(const char *text, char ret_ip[static IP_TEXT_MAX], uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    bool v6 = n > 2 && text[0] == '[' && colon[-1] == ']';
    char ip[IP_TEXT_MAX], room[16];
    uint16_t port;

    if (v6) {
        text++;
        n -= 2;
    }
    if (n == 0 || n >= sizeof(ip) || port_parse(colon + 1, &port) < 0)
        return -EINVAL;
    memcpy(ip, text, n);
    ip[n] = '\0';
    if (inet_pton(v6 ? AF_INET6 : AF_INET, ip, room) != 1)
        return -EINVAL;
    strcpy(ret_ip, ip);
    *ret_port = port;
    return 0;
}

bool ip_is_loopback(const char *ip)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (inet_pton(AF_INET, ip, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, ip, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
