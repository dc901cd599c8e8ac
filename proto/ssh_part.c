/* Hosts, users and ports, as strict as what they are handed to: a name may end in a shell. */
#include "proto/ssh_part.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/address.h"
#include "proto/mem.h"

#define HOST_BYTES_MAX 253

int ssh_refuse(char **ret_why, const char *format, ...)
{
    va_list args;
    int n;

    if (!ret_why)
        return -EINVAL;
    va_start(args, format);
    n = vasprintf(ret_why, format, args);
    va_end(args);
    if (n < 0)
        *ret_why = NULL;
    return n < 0 ? -ENOMEM : -EINVAL;
}

int ssh_text_keep(char **to, const char *text)
{
    char *copy = strdup(text);

    if (!copy)
        return -ENOMEM;
    free(*to);
    *to = copy;
    return 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_alnum(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_ip6(const char *text)
{
    unsigned char address[16];
    char plain[INET6_ADDRSTRLEN];
    size_t n = strcspn(text, "%");

    if (n >= sizeof(plain))
        return false;
    memcpy(plain, text, n);
    plain[n] = '\0';
    if (text[n] == '%') { /* a zone: the name of an interface */
        const char *zone = text + n + 1;

        if (!*zone || strlen(zone) > 15)
            return false;
        for (; *zone; zone++)
            if (!is_alnum(*zone) && !strchr("-_.", *zone))
                return false;
    }
    return inet_pton(AF_INET6, plain, address) == 1;
}

/* Labels of 1 to 63 letters, digits, - and _; what ends in a number must be a whole IPv4 address. */
static bool is_name_or_ip4(const char *text)
{
    unsigned char address[4];
    size_t n = strlen(text), label = 0;
    bool number = true;

    if (n == 0 || n > HOST_BYTES_MAX)
        return false;
    for (const char *c = text; *c; c++) {
        if (*c == '.') {
            if (label == 0)
                return false;
            if (c[1] != '\0') {
                label = 0;
                number = true;
            }
            continue;
        }
        if ((!is_alnum(*c) && *c != '-' && *c != '_') || (*c == '-' && label == 0) || ++label > 63)
            return false;
        number = number && is_digit(*c);
    }
    return !number || inet_pton(AF_INET, text, address) == 1;
}

/* A host as written, brackets around IPv6 or not. */
int ssh_host_keep(char **to, const char *text)
{
    char plain[HOST_BYTES_MAX + 1];
    size_t n = strlen(text);

    if (n > HOST_BYTES_MAX)
        return -EINVAL;
    if (n > 2 && text[0] == '[' && text[n - 1] == ']') {
        memcpy(plain, text + 1, n - 2);
        plain[n - 2] = '\0';
        return is_ip6(plain) ? ssh_text_keep(to, plain) : -EINVAL;
    }
    return is_name_or_ip4(text) || is_ip6(text) ? ssh_text_keep(to, text) : -EINVAL;
}

/* A port to connect to or to listen on, never 0. */
int ssh_port_take(const char *text, uint16_t *ret)
{
    uint16_t port;

    if (port_parse(text, &port) < 0 || port == 0)
        return -EINVAL;
    *ret = port;
    return 0;
}

/* As strict as OpenSSH since 9.6, which refuses what a shell on the way could take for a command. */
bool ssh_is_user(const char *text)
{
    if (!*text || *text == '-' || strlen(text) > 255)
        return false;
    for (; *text; text++)
        if (*text <= ' ' || *text > '~' || strchr("'`\"\\;&<>|(){}", *text))
            return false;
    return true;
}
