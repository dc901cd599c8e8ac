"""Machines that somebody else made at the rental company on this machine, and that become instances of ours.

Facts of the company: reference/autodl.md; of a life: reference/lease.md §2."""
import time

import host as hosts
from rented import MODEL, AtOnce, World

LIMIT_S = 150
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so


class Adopted(World):
    """With one machine that was made by its owner's hand; NAME here: mine."""
    def __init__(self, *words, running=False, **more):
        super().__init__(*words, **more)
        self.mine = self.c.rent(name="by-hand", family="pro")
        if running:
            self.c.press("power_on", self.mine)
            self.c.until(self.mine, "running")

    def add(self, name="mine", **more):
        return self.d.call("InstanceAdd", name=name, provider="autodl", id=self.mine, **more)["instance"]

    def adopted(self):
        return self.machine("mine")

    def is_made_by_nobody(self):
        return self.calls("create") == []


class Adopt(AtOnce):
    def test_one_that_exists_is_used_like_a_rented_one(self):
        with Adopted() as w:
            listed = w.d.ctl("instance", "list", "--at", "autodl").stdout
            self.assertRegex(listed, rf"{w.mine} +1 x 4090D +shutdown +- +¥1\.88/h~ +- +by-hand")
            said = w.d.ctl("instance", "add", "mine", "--provider", "autodl", "--id", w.mine)
            self.assertRegex(said.stdout, rf"1 x 4090D, id {w.mine}, .*\n.*neither switched on nor off")
            self.assertRegex(w.d.ctl("instance", "list", "--at", "autodl").stdout, rf"{w.mine} .*shutdown +mine ")
            w.wait("stopped", name="mine")
            self.assertEqual(w.calls("power_on", "power_off"), [])
            w.d.kill()
            w.d.start()
            w.wait("stopped", name="mine")

            w.d.ctl("up", MODEL, "--on", "mine")
            self.assertEqual(w.ask(), 200)
            rental = w.adopted()["rental"]
            self.assertEqual((rental["id"], rental["gpu"], rental["adopted"], rental["guard"]["state"]),
                             (w.mine, "4090D", True, "kept"))
            w.wait("stopped", name="mine")      # nobody asks
            self.assertEqual(w.paid(), [])
            w.check_bill()
            self.assertEqual(w.ask(), 200)      # wakes it
            self.assertEqual(w.d.ctl("instance", "remove", "mine", check=False).returncode, 12)
            w.d.ctl("down", MODEL)
            self.assertEqual((w.state("mine"), w.paid()), ("stopped", []))
            w.check_bill()
            removed = w.d.ctl("instance", "remove", "mine")
            self.assertRegex(removed.stdout + removed.stderr, r"(?s)removed.*goes\s+on\s+existing")
            self.assertEqual((w.machines(), w.c.instance(w.mine)["status"]), ([], "shutdown"))
            self.assertTrue(w.is_made_by_nobody())

    def test_one_that_runs_when_it_is_added_is_let_alone_until_it_is_wanted(self):
        with Adopted(running=True) as w:
            w.add()
            w.wait("running", name="mine")
            hosts.until(lambda: w.adopted()["tunnel"]["state"] == "up", 20, "the way in")
            time.sleep(4)                       # longer than [idle] stop
            machine = w.adopted()
            self.assertEqual((machine["state"], machine["rental"]["stays"], machine["rental"]["guard"]["state"]),
                             ("running", "not_by_us", "not_ours"))
            self.assertRegex(w.d.ctl("status").stdout, r"not by us")
            self.assertRegex(w.d.ctl("why", "mine").stdout, r"switched on elsewhere")
            self.assertEqual(w.calls("power_on", "power_off"), [])
            w.d.ctl("up", MODEL, "--on", "mine")
            self.assertEqual((w.ask(), w.adopted()["rental"]["guard"]["state"]), (200, "kept"))
            w.wait("stopped", name="mine")
            self.assertEqual((w.paid(), w.calls("power_on")), ([], []))
            w.check_bill()
            self.assertTrue(w.is_made_by_nobody())

    def test_one_that_vanished_is_never_made_anew(self):
        with Adopted(NEVER) as w:
            w.add()
            w.wait("stopped", name="mine")
            w.d.ctl("up", MODEL, "--on", "mine")
            w.down()
            w.c.age(w.mine, 100)                # its company gave it back
            hosts.until(lambda: w.c.instance(w.mine) is None, 10, "its end")
            told = w.d.ctl("up", MODEL, "--timeout", "60s", check=False)
            self.assertRegex(told.stderr, r"no longer has the machine")
            self.assertEqual((told.returncode, w.state("mine"), w.adopted()["trouble"]["code"]), (4, "absent", "vanished"))
            again = w.d.ctl("up", MODEL, "--timeout", "60s", check=False)
            self.assertEqual((again.returncode, w.adopted()["rental"]["goal"]), (4, "off"))
            self.assertTrue(w.is_made_by_nobody())
            w.down()
            removed = w.d.ctl("instance", "remove", "mine")
            self.assertRegex(" ".join((removed.stdout + removed.stderr).split()), "no longer lists it; if it is there after all, it may bill")
            self.assertEqual(w.machines(), [])

    def test_one_that_the_list_leaves_out_is_not_called_off(self):
        with Adopted(NEVER) as w:
            w.add()
            w.wait("stopped", name="mine")
            w.d.ctl("up", MODEL, "--on", "mine")
            w.d.kill()                          # nobody is logged in
            w.c.fault("hidden", on="list", times=0)
            w.c.fault("lost", on="power_off", times=0)
            w.d.start()
            told = w.d.ctl("down", "mine", "--timeout", "15s", check=False)
            self.assertEqual(told.returncode, 11, told.stdout + told.stderr)
            self.assertRegex(told.stderr, r"(?s)STOP NOT CONFIRMED: mine may still be billed.*does not list it")
            self.assertEqual((w.c.instance(w.mine)["status"], w.state("mine")), ("running", "stopping"))
            self.assertEqual(w.adopted()["trouble"]["code"], "vanished")
            self.assertRegex(" ".join(w.d.ctl("status").stdout.split()), "no longer lists the machine.*may still be billed")
            w.c.heal()
            w.wait("stopped", name="mine")
            self.assertEqual((w.c.instance(w.mine)["status"], w.adopted().get("trouble")), ("shutdown", None))
            self.assertTrue(w.is_made_by_nobody())

    def test_one_of_the_console_is_on_without_its_card_until_its_time_is_over(self):
        with World(NEVER, account=False) as w:
            w.d.call("ProviderAdd", provider="autodl-console", token={"text": w.c.web_token}, base_url=w.c.url)
            mine = w.c.rent(name="by-hand")
            w.d.call("InstanceAdd", name="mine", provider="autodl-console", id=mine)
            w.wait("stopped", name="mine")
            w.d.ctl("keep", "mine", "12s", "--no-card")
            hosts.until(lambda: w.calls("console/power_on"), 10, "the power-on")   # killed before it, the next daemon is in doubt
            w.d.kill()                          # it is on disk, whatever its guard has heard
            w.d.start()
            self.assertEqual(w.d.ctl("keep", "mine", "1h", "--no-card", check=False).returncode, 12)
            w.wait("running", name="mine")
            self.assertEqual(w.c.instance(mine)["mode"], "non_gpu")
            self.assertRegex(w.d.ctl("status").stdout, r"mine .*running .*¥0\.10/h~ .*without its card")
            w.wait("stopped", name="mine")
            self.assertEqual(w.paid(), [])
            (row,) = [r for r in w.d.call("Cost", since_at_ms=1)["rows"] if r["kind"] == "compute"]
            self.assertEqual((row.get("no_card"), row["rate_milli"], row["rate_basis"]), (True, 100, "list"))
            ((_, begun, ended, rate, _),) = w.billed()
            self.assertEqual((row["from_at_ms"] // 1000, row["to_at_ms"] // 1000, rate), (begun, ended, 100))
            self.assertEqual(w.d.ctl("release", "mine", "--confirm=mine", check=False).returncode, 2, "by hand")
            w.d.ctl("instance", "remove", "mine")

    def test_what_cannot_be_adopted_is_told_with_what_there_is(self):
        with Adopted(NEVER) as w:
            def refused(status, *words, name="other"):
                told = w.d.ctl("instance", "add", name, *words, check=False)
                self.assertEqual((told.returncode, [m["name"] for m in w.machines()]), (status, names), told.stderr)
                return " ".join(told.stderr.split())
            names = []
            self.assertRegex(refused(4, "--provider", "autodl", "--id", "pro-none"), rf"no machine pro-none.*{w.mine} \(by-hand, 4090D, "
                             r"shutdown\).*instance list --at autodl")
            self.assertRegex(refused(4, "--provider", "autodl"), rf"no machine is named.*{w.mine}")
            self.assertRegex(refused(2, "--id", w.mine), "--provider says which")
            self.assertRegex(refused(2, "ssh root@there", "--provider", "autodl", "--id", w.mine), "come from the company")
            w.add()
            names.append("mine")
            self.assertRegex(refused(12, "--provider", "autodl", "--id", w.mine), "the instance mine already")
            self.assertRegex(refused(12, "--provider", "autodl", "--id", w.mine, name="mine"), "there is an instance mine")
            w.up(on="found", wait=False)
            names.insert(0, "found")
            ours = hosts.until(lambda: [i for i in w.ours() if i["uuid"] != w.mine], 10, "a machine")[0]["uuid"]
            self.assertRegex(refused(12, "--provider", "autodl", "--id", ours), "the instance found already")
            w.down()
