"""Money that is not the time of a machine: rentals paid in advance, disks, a price that changes while it runs.

Facts of the company: reference/autodl.md §5; of the ledger: reference/lease.md §3."""
import concurrent.futures
import contextlib
import json
import re
import sqlite3
import time

import host as hosts
from daemon import CallError
from clocks import Clock
from rented import MODEL, AtOnce, World
from test_console import Console

LIMIT_S = 120
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so
DAY_MS = 86400000
PAID_S = 14


def rows(w, kind):
    return [r for r in w.d.call("Cost", since_at_ms=1)["rows"] if r["kind"] == kind]


def times(w):
    """The machine's time, as both sides have it: (from, to, rate)."""
    mine = sorted((r["from_at_ms"] // 1000, r["to_at_ms"] // 1000, r["rate_milli"]) for r in rows(w, "compute") if r.get("to_at_ms"))
    return mine, [row[1:4] for row in w.billed()]


class Money(AtOnce):
    def test_time_that_is_paid_in_advance(self):
        with World() as w:
            w.up()
            name, uuid = w.machine()["name"], w.ours()[0]["uuid"]
            w.wait("stopped")
            w.c.prepay(uuid, for_s=PAID_S, price=40000)
            ends = w.c.instance(uuid)["expires"]
            self.assertEqual(w.ask(), 200)
            machine = hosts.until(lambda: (m := w.machine())["rental"].get("stays") == "prepaid" and m, 10, "a prepaid machine")
            self.assertEqual(machine["rental"]["prepaid_until_at_ms"], int(ends) * 1000)
            # from there to its clock and back, by whole looks
            self.assertAlmostEqual(machine["rental"]["until_at_ms"], int(ends) * 1000, delta=1000, msg="that is when idle counts again")
            self.assertEqual(machine["rental"]["rate"], {"milli": 0, "unit": "CNY", "estimate": False, "unknown": False})
            self.assertRegex(w.d.ctl("status").stdout, rf"{name} +autodl +running +up .* prepaid .*not before .*\(prepaid\)")
            self.assertRegex(w.d.ctl("why", name).stdout, r"AWAKE +prepaid until ")
            cost = w.d.ctl("cost").stdout
            self.assertRegex(cost, rf"{name} .* running +4090D +prepaid until ")
            self.assertRegex(cost, rf"(?m)^{name} +0 +\S+\+\? ", "nobody knows what was paid")
            n = len(w.calls("power_off"))
            hosts.until(lambda: time.time() > ends - 1, PAID_S, "the last second that is paid for")
            self.assertEqual((w.state(), len(w.calls("power_off"))), ("running", n), "idle for longer than 2 s, and not stopped")
            self.assertEqual(w.ask(), 200)
            w.wait("stopped", 60)               # the list says payg, and nobody asks
            paid, = rows(w, "prepaid")
            self.assertEqual((paid["to_at_ms"], paid["amount"]), (int(ends) * 1000, {"milli": 0, "unit": "CNY", "estimate": False, "unknown": True}))
            self.assertNotIn("prepaid_until_at_ms", w.machine()["rental"])
            mine, bill = hosts.until(lambda: (both := times(w))[0] == both[1] and both, 5, f"ledger and bill: {times(w)}")
            self.assertEqual([rate for _, _, rate in mine], [1880, 0, 1880])
            self.assertEqual(mine[1][1], int(ends), "by time from the end of what was paid")

    def test_what_a_call_without_an_answer_costs_is_not_0(self):
        """Until it is settled; also in the sums."""
        with World({**NEVER, "guard": {"settle": "6s"}}) as w:
            w.c.fault("cut", on="create")       # nothing happens, and nobody hears that
            w.up(wait=False)
            hosts.until(lambda: w.calls("create"), 20, "the call")
            cost = w.d.ctl("cost").stdout
            self.assertRegex(cost, r"(?m)^4090d +\? +\? +\? ")
            self.assertRegex(cost, r"(?m)^total +\? +\? +\?")
            self.assertRegex(re.sub(r"\s+", " ", cost), r"4090d: nobody knows whether it bills now: AutoDL has not answered the call that makes it\.")
            line, = json.loads(w.d.ctl("cost", "--json").stdout)["data"]["lines"]
            self.assertEqual((line.get("now"), line["now_unknown"], line["today"]["unknown"]), (None, "AutoDL has not answered the call that makes it", True))
            w.down()
            self.assertRegex(w.d.ctl("cost").stdout, r"(?m)^4090d +0 +0 +0 ")
            self.assertEqual(w.machines()[0]["state"], "absent")

    def test_a_price_that_changes_while_it_runs_is_an_estimate(self):
        """Nobody knows whether the bill follows: at this company it does not, until the next power-on."""
        with World(NEVER) as w:
            w.up()
            box = w.c.box(w.ours()[0]["uuid"])
            w.c.price("4090D", 2500)
            box.fault("refuse")                 # the way in is read anew, and the price with it
            box.fault("rst")
            hosts.until(lambda: len(rows(w, "compute")) == 2, 20, "another interval")
            box.heal()
            was, now = rows(w, "compute")
            self.assertEqual((was["rate_milli"], was["from_basis"], was["to_basis"]), (1880, "stamp", "price"))
            self.assertEqual((now["rate_milli"], now["from_basis"], now["from_at_ms"]), (2500, "seen", was["to_at_ms"]))
            self.assertTrue(was["amount"]["estimate"] and now["amount"]["estimate"])
            self.assertRegex(w.d.ctl("cost").stdout, r"¥2\.50/h +¥\d+\.\d+~ ")
            w.down()
            self.assertEqual((len(w.billed()), w.spent()), (1, []), "never called equal to the bill")

    def test_a_card_whose_price_nobody_knows_is_rented_within_a_limit(self):
        """Also by way of `--or` and in a choice of cards; what it costs is read when it is on."""
        with World(NEVER) as w:
            for words in ("--gpu", "H800"), ("--gpu", "4090D,H800"):
                said = w.d.ctl("up", MODEL, *words, check=2)
                self.assertRegex(re.sub(r"\s+", " ", said.stderr), rf"H800 costs is not known.* llmhostctl up {MODEL} --gpu={words[1]} --max-price=AMOUNT")
            self.assertEqual((w.calls("create"), w.machines()), ([], []))
            w.d.ctl("up", MODEL, "--gpu", "H800", "--max-price", "3", check=10)
            w.nothing_bills()
            self.assertEqual((len(w.calls("create")), w.wait("stopped")["trouble"]["code"]), (1, "price"))
            said = w.d.ctl("up", MODEL, "--on", w.machine()["name"], "--max-price", "4", check=10)
            self.assertIn("costs ¥8.88 an hour, and at most ¥4.00 is allowed", re.sub(r"\s+", " ", said.stderr))
            self.assertEqual(w.calls("power_on"), [])
            w.d.ctl("up", MODEL, "--on", w.machine()["name"], "--max-price", "9")
            self.assertEqual(w.ask(), 200)

    def test_a_disk_costs_each_day_also_when_nobody_looks(self):
        with World() as w:
            w.up(disk_gb=50)
            name = w.machine()["name"]
            w.wait("stopped")
            cost = w.d.ctl("cost").stdout
            self.assertRegex(cost, rf"(?m)^{name} +¥0\.01/h~ .* ¥0\.01/h~ +stopped +4090D +data disk 50 GB", "what it costs now is its disk")
            self.assertRegex(cost, r"(?m)^total +¥0\.01/h~ ")
            self.assertRegex(cost, r"today ¥\S+ of ¥50\.00 \(alert at ¥40\.00\)")
            self.assertRegex(w.d.ctl("status").stdout, rf"(?m)^{name} +autodl +stopped +- +4090D +¥0\.01/h~ ")
            for words in ("--max-price", "0"), ("--max-price", "-1"), ("--max-price", "2,20"), ("--max-price", "nan"), ("--max-price", "1e18"):
                self.assertEqual(w.d.ctl("up", MODEL, "--gpu", "5090", *words, check=False).returncode, 2, words)
            for milli in -1, 10 ** 18, 1.5, "50":
                with self.assertRaises(CallError, msg=milli):
                    w.d.call("ProviderSet", provider="autodl", day_milli=milli)
                with self.assertRaises(CallError, msg=milli):
                    w.up(gpu="5090", max_price_milli=milli)
            self.assertEqual(len(w.machines()), 1)
            self.assertEqual(rows(w, "disk"), [])
            w.d.stop()
            with contextlib.closing(sqlite3.connect(w.d.state + "/llmhost.db")) as db, db:     # three days ago
                db.execute("DROP TRIGGER spent_closed")
                db.execute("UPDATE spent SET from_at_ms = from_at_ms - ?1, to_at_ms = to_at_ms - ?1, seen_at_ms = seen_at_ms - ?1", (3 * DAY_MS,))
                db.execute("UPDATE instance SET added_at_ms = added_at_ms - ?1", (3 * DAY_MS,))
                db.execute("UPDATE rental SET made_at_ms = made_at_ms - ?1", (3 * DAY_MS,))
            for _ in range(3):
                w.c.midnight()
            w.d.start()
            disk = hosts.until(lambda: rows(w, "disk"), 10, "rows of the disk")
            self.assertEqual(sum(r["amount"]["milli"] for r in disk), sum(r["amount"] for r in w.c.bill() if r["kind"] == "disk"))
            self.assertEqual([r["amount"] for r in disk], 3 * [{"milli": 330, "unit": "CNY", "estimate": True, "unknown": False}])
            self.assertEqual([r["to_basis"] for r in disk[:2]], ["guess", "guess"])
            self.assertEqual([(r["to_at_ms"] + 8 * DAY_MS // 24) % DAY_MS for r in disk], [0, 0, 0], "days are the provider's")
            w.d.restart(hard=True)
            hosts.until(lambda: w.machine()["rental"].get("provider_state") == "shutdown", 10, "a reading")
            self.assertEqual(rows(w, "disk"), disk)

    def test_a_cycle_that_nobody_saw_has_its_times_and_no_known_price(self):
        """The list keeps the last pair of stamps; what an hour cost in it stands nowhere."""
        with World() as w:
            w.up()
            uuid = w.ours()[0]["uuid"]
            w.wait("stopped")
            w.check_bill()
            w.d.kill()
            w.c.price("4090D", 2500)
            w.c.press("power_on", uuid)
            w.c.until(uuid, "running")
            time.sleep(2)
            w.c.press("power_off", uuid)
            w.c.until(uuid, "shutdown")
            w.c.price("4090D", 1880)
            w.d.start()
            hosts.until(lambda: len(rows(w, "compute")) == 2, 20, "the cycle in between")
            first, unseen = rows(w, "compute")
            mine, bill = times(w)
            self.assertEqual([t[:2] for t in mine], [t[:2] for t in bill], "to the second")
            self.assertNotEqual(mine[1][2], bill[1][2], "a list price, and they took another")
            self.assertTrue(unseen["amount"]["estimate"] and not unseen["by_us"])
            self.assertEqual((first["amount"]["estimate"], unseen["rate_basis"]), (False, "list"))
            self.assertEqual(w.spent(), w.billed()[:1], "never called equal")
            self.assertRegex(w.d.ctl("cost", "--since", "today").stdout, r"(?m)compute, not by us +¥\d+\.\d+~ ")

    def test_time_without_a_card_is_to_the_second_also_after_a_crash(self):
        with Console(NEVER) as w:
            w.d.ctl("keep", "mine", "1h", "--no-card")
            w.wait("running", name="mine")
            w.d.restart(hard=True)
            w.wait("running", name="mine")
            w.d.kill()
            w.c.press("power_off", w.mine)
            w.c.until(w.mine, "shutdown")
            w.d.start()
            w.wait("stopped", name="mine")
            mine, bill = hosts.until(lambda: (both := times(w))[0] == both[1] and both, 10, f"ledger and bill: {times(w)}")
            self.assertEqual([rate for _, _, rate in mine], [100])
            row, = rows(w, "compute")
            self.assertTrue(row["no_card"] and row["amount"]["estimate"], "its price is the list's")
            self.assertEqual((row["from_basis"], row["to_basis"]), ("stamp", "stamp"))

    def test_a_clock_that_is_a_month_ahead(self):
        self.count_by_their_clock(30 * 86400, "ahead of")

    def test_a_clock_that_is_a_month_behind(self):
        self.count_by_their_clock(-30 * 86400, "behind")

    def count_by_their_clock(self, off_s, words):
        with Clock() as clock:
            clock.set(off_s)
            with World(env=clock.env()) as w:
                w.up()
                self.assertRegex(w.d.ctl("status").stdout, rf"the clock of this computer is (30d00h|29d23h) {words}\s+AutoDL's")
                self.assertEqual(w.d.call("Status")["instances"][0]["state"], "running", "no limit is reached by it")
                clock.set(0)                    # while it runs
                w.wait("stopped")
                w.check_bill()
                spent = w.spent_today()
                self.assertEqual(spent, sum(row[4] for row in w.billed()))
                hosts.until(lambda: "clock_off" not in [t["code"] for t in w.d.call("Status")["trouble"]], 10, "no trouble any more")
                clock.set(off_s)
                w.d.restart()
                w.d.call("ProviderSet", provider="autodl", day_milli=spent + 1)
                told = w.d.ctl("up", MODEL, check=False)
                self.assertEqual(told.returncode, 10, told.stderr)
                self.assertRegex(re.sub(r"\s+", " ", told.stderr), "for a day at autodl")
                self.assertEqual(w.spent_today(), spent, "today is theirs")
                self.assertEqual(w.paid(), [])
                w.check_bill()

    def test_a_keep_takes_its_whole_cost_and_two_cannot_have_the_last(self):
        models = {"one": "ollama:scripted:0", "two": "ollama:scripted:1"}
        with World(NEVER) as w:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                for done in [pool.submit(w.up, model, on=name) for name, model in models.items()]:
                    done.result()
                held = w.reserved()
                w.d.call("ProviderSet", provider="autodl", day_milli=w.spent_today() + held + 4000)     # two hours of one, and a bit
                keeps = [pool.submit(w.d.ctl, "keep", name, "2h", check=False) for name in models]
                said = sorted((k.result() for k in keeps), key=lambda k: k.returncode)
            self.assertEqual([k.returncode for k in said], [0, 10])
            self.assertRegex(said[1].stderr, r"of ¥\d+\.\d\d for a day at autodl .* are left, and \w+ for 2h00m takes ¥3\.77; (no keep|the longest)")
            self.assertRegex(said[1].stderr, "provider set autodl --budget-day")
            kept, = [n for n in models if w.machine(n)["rental"].get("stays") == "kept"]
            other, = set(models) - {kept}
            w.d.restart(hard=True)              # it is in the database
            hosts.until(lambda: all(w.machine(n)["rental"]["guard"]["state"] == "kept" for n in models), 40, "both guards")
            self.assertEqual(w.d.ctl("keep", models[other], "2h", check=False).returncode, 10, "a model's takes as much")
            w.d.ctl("keep", kept, "--off")
            w.d.ctl("keep", models[other], "2h")
            self.assertEqual(w.d.ctl("keep", kept, "2h", check=False).returncode, 10)
            for model in models.values():
                w.down(model)
            w.nothing_bills()
            self.assertEqual(w.reserved(), 0)

    def test_a_word_beyond_the_limits_is_for_one_power_on_and_the_limits_as_they_were(self):
        """A keep is held to them, and so is what runs as soon as one is set lower; one that is raised ends nothing."""
        with World(NEVER, account={"day_milli": 300}) as w:
            self.assertEqual(w.d.ctl("up", MODEL, "--gpu", "4090D", check=False).returncode, 10)
            w.d.ctl("up", MODEL, "--gpu", "4090D", "--over-budget")
            name = w.machine()["name"]
            beyond = rf"{name} runs beyond the limits of autodl \(--over-budget\) until it is off, or one of them is set lower"
            said = lambda *words, **more: re.sub(r"\s+", " ", (r := w.d.ctl(*words, **more)).stdout + r.stderr)
            self.assertRegex(said("status"), beyond)
            self.assertRegex(said("cost"), beyond)
            self.assertRegex(said("cost"), r"reserved ¥0\.\d\d .* reserved: set aside from the limits")
            w.d.restart()
            w.wait("running")
            self.assertRegex(said("cost"), beyond + r".* reserved: set aside from the limits")
            self.assertRegex(said("keep", name, "1h", check=10), r"of ¥0\.30 for a day")
            self.assertRegex(said("provider", "set", "autodl", "--budget-day", "0.4"), beyond)
            self.assertEqual(w.state(), "running")
            said_now = said("provider", "set", "autodl", "--balance-floor", "1000000")
            self.assertRegex(said_now, rf"are to stay there: {name} is switched off within 2 minutes")
            self.assertNotRegex(said_now, beyond)
            w.nothing_bills(180)
            self.assertIn("low_balance", [t["code"] for t in w.d.call("Status")["trouble"]])


if __name__ == "__main__":
    import unittest
    unittest.main()
