/* Ports and addresses: what is taken, and what only looks like one. */
#include "proto/address.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "proto/mem.h"

Test(address, a_port_is_up_to_five_digits)
{
    static const char *const bad[] = {"",      " 1",    "1 ",     "+1",   "-1", "0x1",
                                      "65536", "99999", "000022", "http", "1\n"};
    static const struct {
        const char *text;
        uint16_t port;
    } good[] = {{"0", 0}, {"1", 1}, {"00022", 22}, {"65535", 65535}};
    uint16_t port = 7;

    for (size_t i = 0; i < ELEMENTS(bad); i++)
        cr_assert_eq(port_parse(bad[i], &port), -EINVAL, "\"%s\"", bad[i]);
    cr_assert_eq(port, 7);
    for (size_t i = 0; i < ELEMENTS(good); i++) {
        cr_assert_eq(port_parse(good[i].text, &port), 0, "%s", good[i].text);
        cr_assert_eq(port, good[i].port);
    }
}

Test(address, an_address_and_its_port)
{
    static const char *const bad[] = {"",
                                      "80",
                                      ":80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "localhost:80",
                                      "::1:80",
                                      "[::1]",
                                      "[]:80",
                                      "[::1:80",
                                      "[127.0.0.1]:1",
                                      "1.2.3:80",
                                      "*:80",
                                      "[::1%lo]:1",
                                      "127.0.0.1:65536",
                                      "1111111111111111111111111111111111111111111111111111:1"};
    char ip[IP_TEXT_MAX] = "x";
    uint16_t port;

    for (size_t i = 0; i < ELEMENTS(bad); i++)
        cr_assert_eq(ip_port_parse(bad[i], ip, &port), -EINVAL, "\"%s\"", bad[i]);
    cr_assert_str_eq(ip, "x");
    cr_assert_eq(ip_port_parse("127.0.0.1:11434", ip, &port), 0);
    cr_assert_str_eq(ip, "127.0.0.1");
    cr_assert_eq(port, 11434);
    cr_assert_eq(ip_port_parse("[fe80::1]:0", ip, &port), 0);
    cr_assert_str_eq(ip, "fe80::1");
    cr_assert_eq(port, 0);
}

Test(address, loopback_is_this_machine_alone)
{
    static const char *const ours[] = {"127.0.0.1", "127.255.0.9", "::1"};
    static const char *const others[] = {"0.0.0.0",         "::",        "10.0.0.1", "128.0.0.1",
                                         "::ffff:10.0.0.1", "localhost", ""};

    for (size_t i = 0; i < ELEMENTS(ours); i++)
        cr_assert(ip_is_loopback(ours[i]), "%s", ours[i]);
    for (size_t i = 0; i < ELEMENTS(others); i++)
        cr_assert_not(ip_is_loopback(others[i]), "%s", others[i]);
}
