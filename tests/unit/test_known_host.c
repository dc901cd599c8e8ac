/* links: provider
 *
 * Whose machine it is, by the name of its host. */
#include <criterion/criterion.h>

#include "proto/mem.h"
#include "provider/known_host.h"

static void expect(const char *host, const char *title, bool shutdown_ends_bill)
{
    const struct known_host *k = known_host_find(host);

    cr_assert_not_null(k, "%s", host);
    cr_assert_str_eq(k->title, title, "%s", host);
    cr_assert_eq(k->shutdown_ends_bill, shutdown_ends_bill, "%s", host);
    cr_assert_eq(strncmp(k->console_url, "https://", 8), 0);
}

Test(known_host, companies)
{
    expect("connect.westb.seetacloud.com", "AutoDL", true);
    expect("connect.nmb1.seetacloud.com", "AutoDL", true);
    expect("Connect.BJB1.SeetaCloud.com.", "AutoDL", true);
    expect("connect.xxx.autodl.com", "AutoDL", true);
    expect("region-3.autodl.com", "AutoDL", true);
    expect("connect.sg1.gpuhub.com", "AutoDL", true);
    expect("dsw-notebook-22-a1.dsw-a1.dsw.pai.alibaba.com", "PAI-DSW", false);
}

Test(known_host, nobody)
{
    static const char *const names[] = {"",
                                        "example.org",
                                        "10.0.0.5",
                                        "connect.westb.seetacloud.com.evil.example",
                                        "autodl.com",
                                        "notautodl.com",
                                        "seetacloud.com",
                                        "fe80::1",
                                        "*",
                                        "connect.gz.example",
                                        "."};
    char endless[400];

    for (size_t i = 0; i < ELEMENTS(names); i++)
        cr_assert_null(known_host_find(names[i]), "%s", names[i]);
    cr_assert_null(known_host_find(NULL));
    memset(endless, 'a', sizeof endless);
    strcpy(endless + sizeof endless - 12, ".autodl.com");
    cr_assert_null(known_host_find(endless), "too long for a name");
}
