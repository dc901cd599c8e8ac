"""Ordinary machines of AutoDL, by what its web console calls, on the rental company on this machine.

Facts: reference/autodl.md §3.2, §5.1."""
import time

import host as hosts
from rented import MODEL, AtOnce, World

LIMIT_S = 180
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so


class Console(World):
    """With an account by the web page's token alone, and one machine that was rented there: mine."""
    def __init__(self, *words, **more):
        super().__init__(*words, account=False, **more)
        with open(self.d.dir + "/web-token", "w") as f:
            print(self.c.web_token, file=f)
        self.added = self.d.ctl("provider", "add", "autodl", "--console", "--token-file", f.name, "--base-url", self.c.url)
        self.mine = self.c.rent(name="by-hand", spec="5090-p", idle=1)
        self.d.ctl("instance", "add", "mine", "--provider", "autodl-console", "--id", self.mine)
        self.wait("stopped", name="mine")

    def rental(self):
        return self.machine("mine")["rental"]

    def order(self):
        """What was asked of the machine, in its order."""
        return [e["call"].removeprefix("console/") for e in self.c.calls()
                if e["by"] == "api" and e["call"].removeprefix("console/") in ("power_on", "power_off", "timed_shutdown", "release")]


class Ordinary(AtOnce):
    def test_is_woken_guarded_timed_and_stopped(self):
        with Console() as w:
            self.assertRegex(w.added.stdout + w.added.stderr, r"(?s)unofficial.*whole\s+account")
            self.assertRegex(w.d.ctl("offers", "--gpu", "5090").stdout, r"5090 .*unofficial")
            w.d.ctl("up", MODEL, "--on", "mine")
            self.assertEqual(w.ask(), 200)
            self.assertEqual(w.order()[:2], ["timed_shutdown", "power_on"], "no moment is without an end")
            rental = w.rental()
            self.assertEqual((rental["gpu"], rental["guard"]["state"], rental["rate"]["milli"]), ("5090", "kept", 2780))
            w.wait("stopped", name="mine")      # nobody asks
            self.assertEqual(w.paid(), [])
            w.check_bill()
            self.assertEqual(w.ask(), 200)      # wakes it
            w.d.ctl("down", MODEL)
            w.check_bill()
            self.assertEqual(w.d.ctl("release", "mine", "--confirm=mine", check=False).returncode, 2)
            self.assertNotIn("release", w.order())

    def test_the_timer_is_kept_ahead_and_shown(self):
        with Console(NEVER) as w:
            w.c.account(timed_format="ms")      # which form is accepted is unsure: the other one is found
            w.d.ctl("up", MODEL, "--on", "mine")
            # The first one is rounded up to a whole minute, and a machine that runs is looked at every 30 s.
            hosts.until(lambda: w.rental().get("off_at_ms", 0) > (time.time() + 45 * 60) * 1000, 120, "the timer an hour ahead")
            self.assertNotIn("timer_reason", w.rental())
            self.assertRegex(w.d.ctl("status", "mine").stdout, r"timer +the company switches it off by itself at")
            w.d.kill()                          # and nobody is there any more
            w.d.start()
            self.assertEqual(w.ask(), 200)
            w.down()

    def test_its_cards_may_all_be_rented_by_others(self):
        with Console(NEVER) as w:
            w.c.host(w.mine, 0)
            told = w.d.ctl("up", MODEL, "--on", "mine", "--timeout", "3s", check=False)
            self.assertEqual(told.returncode, 6, told.stderr)
            self.assertRegex(told.stderr, "cards are all rented by others")
            self.assertEqual(w.paid(), [])
            w.c.host(w.mine, 1)
            w.d.call("Wait", 60, target=MODEL)
            self.assertEqual(w.ask(), 200)
            w.down()
            w.check_bill()

    def test_nothing_can_be_rented_there(self):
        with Console(NEVER) as w:
            told = w.d.ctl("up", MODEL, "--gpu", "5090", "--provider", "autodl-console", check=False)
            self.assertEqual(told.returncode, 2)
            self.assertRegex(" ".join(told.stderr.split()), "made by hand.*instance add NAME --provider=autodl-console")
            told = w.d.ctl("up", MODEL, "--gpu", "5090", check=False)
            self.assertRegex(told.stderr, "no account to rent with")
            self.assertEqual([m["name"] for m in w.machines()], ["mine"])

    def test_a_token_that_is_over_stops_nothing_and_is_said(self):
        with Console(NEVER) as w:
            w.d.ctl("up", MODEL, "--on", "mine")
            old = w.c.web_token
            w.c.account(web_token="web-another")
            hosts.until(lambda: any(t["code"] == "token_refused" for t in w.d.call("Status")["trouble"]), 60, "the trouble")
            self.assertEqual(w.ask(), 200)
            w.c.account(web_token=old)
            w.d.ctl("provider", "set", "autodl-console", "--token-file", w.d.dir + "/web-token")
            w.down()
            w.check_bill()
