"""Stories of rented machines in which somebody else decides: a company that hears a stop and does nothing, another llmhostd on the
same machine, a clock that is set, buttons that were pressed in the console.

Facts of the company: reference/autodl.md; what must hold: reference/lease.md §1, §2."""
import os
import re
import socket
import subprocess
import threading
import time

import daemon as daemons
import host as hosts
from clocks import Clock
from rented import MODEL, SCRIPT, AtOnce, World

LIMIT_S = 200
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so
DAY_S = 86400
ALARM_S, POLL_S, STOP_S = 12, 5, 15             # a stop is looked at every 5 s
SETTLE_S, LATE_S = 8, 25                        # when a call is given up, and when it acts
LOOK_S, WATCH_S = 30, 60                        # between two lists: while a machine runs, while it is off


class Journal:
    """What journald would have heard of a daemon: fields of all that it said."""
    place = "/run/systemd/journal/socket"

    def __init__(self, d):
        os.makedirs(os.path.dirname(self.place), exist_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.place)
        self.heard, self.reader = [], threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        d.wrap = ["sh", "-c", 'JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2) exec "$@"', "sh"]
        d.restart()

    def read(self):
        while said := self.socket.recv(1 << 20):
            self.heard.append(dict(line.split("=", 1) for line in said.decode().splitlines() if "=" in line))

    def events(self, kind):
        return [e for e in self.heard if e.get("LLMHOST_EVENT") == kind]

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.place)
        self.reader.join()
        self.socket.close()
        os.unlink(self.place)


def message_id(kind):
    with open(hosts.REPO + "/daemon/base/event.c") as f:
        return re.search(rf'{{"{kind}", "([0-9a-f]{{32}})"}}', f.read())[1]


def guard(d, name):
    return next(i for i in d.call("Status")["instances"] if i["name"] == name)["rental"]["guard"]


class Named(AtOnce):
    def test_a_stop_that_the_company_hears_and_does_not_do(self):
        with World({**NEVER, "guard": {"stop_alarm": f"{ALARM_S}s"}}) as w:
            journal = Journal(w.d)
            self.addCleanup(journal.close)
            w.up()
            name = w.machine()["name"]
            w.c.fault("lost", on="power_off", times=0)
            asked = time.time()
            down = subprocess.Popen(w.d.ctl_words("down", MODEL), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

            def alarms():
                return [t for t in w.d.call("Status")["trouble"] if t["code"] == "stop_not_confirmed"]
            hosts.until(lambda: w.state() == "stopping", 20, "a stop")
            self.assertEqual(alarms(), [])
            hosts.until(alarms, ALARM_S + 2 * POLL_S, "the alarm")
            self.assertGreaterEqual(time.time() - asked, ALARM_S)
            self.assertEqual(alarms()[0]["target"], name)
            told, = hosts.until(lambda: journal.events("stop_not_confirmed"), 5, "the event")
            self.assertEqual((told["MESSAGE_ID"], told["PRIORITY"]), (message_id("stop_not_confirmed"), "3"))
            self.assertRegex(w.d.ctl("logs", "--events").stdout, rf"{name} +stop-not-confirmed +error: ")
            shown = w.d.ctl("status", check=False)
            self.assertRegex(shown.stdout, rf"(?s)STOP NOT CONFIRMED +{name} .*may still be billed at ¥1\.88/h")
            self.assertRegex(shown.stdout, rf"{name} +autodl +STOPPING ")
            self.assertEqual((len(w.paid()), w.state()), (1, "stopping"), "nothing is called off that is not")

            def goes_on():
                n = len(w.calls("power_off"))
                hosts.until(lambda: len(w.calls("power_off")) >= n + 2, 6 * POLL_S, "further tries")
            goes_on()
            w.d.kill()                          # the next one has it from the disk
            w.d.start()
            goes_on()
            self.assertEqual(len(w.paid()), 1)
            w.c.heal()
            w.wait("stopped", limit_s=6 * POLL_S)
            self.assertEqual((w.paid(), alarms()), ([], []))
            self.assertNotIn("NOT CONFIRMED", w.d.ctl("status").stdout)
            self.assertNotEqual(down.wait(10), 0, "its daemon was killed")
            w.check_bill()

    def test_two_llmhostd_and_one_machine(self):
        when = {"idle": {"stop": "1h", "unload": "0"}, "guard": {"lease": "30s"}}      # the model's server is the first one's, too
        with World(when) as w, daemons.Daemon(port=daemons.free_port(), **when) as other:
            w.up()
            uuid, first = w.ours()[0]["uuid"], w.machine()
            w.add_account(other)
            other.ctl("instance", "add", "theirs", "--provider", "autodl", "--id", uuid)

            def theirs():
                return next(i for i in other.call("Status")["instances"] if i["name"] == "theirs")
            hosts.until(lambda: theirs()["tunnel"]["state"] == "up", 30, "its way in")
            other.ctl("up", MODEL, "--on", "theirs")            # it may be used
            mine, = [i for i in w.machines()]
            held = hosts.until(lambda: (g := theirs()["rental"]["guard"])["state"] == "refused" and g, 10, "whose guard it is")
            self.assertTrue(mine["rental"]["id"] == uuid and w.ours()[0]["name"].startswith(held["owner"] + "-"), held)
            self.assertRegex(other.ctl("status").stdout, rf"(?s)guard is another llmhostd's: {held['owner']}.*OTHER OWNER +theirs .*"
                             r"llmhostctl instance take theirs")
            for words in (["down", "theirs"], ["keep", "theirs", "1h"], ["doctor", "theirs", "--drill"]):
                refused = other.ctl(*words, check=12 if words[0] != "doctor" else False)
                self.assertNotEqual(refused.returncode, 0, words)
                if words[0] != "doctor":
                    self.assertRegex(refused.stderr, rf"(?s){held['owner']}.*llmhostctl instance take theirs")
            other.ctl("down", MODEL)                            # of its model there, not of the machine
            self.assertEqual(w.ask(), 200)
            self.assertEqual((w.state(), guard(w.d, first["name"])["state"], w.calls("power_off")), ("running", "kept", []))

            other.ctl("up", MODEL, "--on", "theirs")
            other.ctl("instance", "take", "theirs")
            self.assertEqual(theirs()["rental"]["guard"]["state"], "kept")
            lost = hosts.until(lambda: (g := guard(w.d, first["name"]))["state"] == "refused" and g, 20, "that the first has heard of it")
            self.assertNotEqual(lost["owner"], held["owner"])
            self.assertRegex(w.d.ctl("status", check=False).stdout, rf"OTHER OWNER +{first['name']} +another llmhostd \({lost['owner']}\)")
            w.d.ctl("down", MODEL)
            w.d.ctl("down", first["name"], check=12)
            time.sleep(12)                                      # more than a third of the lease: renewed by the other one alone
            self.assertEqual((len(w.paid()), w.calls("power_off"), guard(w.d, first["name"])["state"]), (1, [], "refused"))
            self.assertEqual(other.post("/v1/chat/completions", dict(SCRIPT, model=MODEL.partition(":")[2])).status, 200)
            other.ctl("down", MODEL)                            # now it is the other's to end
            w.nothing_bills(20)
            w.wait("stopped", limit_s=40)
            w.check_bill()

    def test_the_clock_is_set_by_a_month_while_a_machine_runs(self):
        """The daemon's own; the company's and the machine's go on."""
        clock = Clock()
        with clock, World({"idle": {"stop": f"{STOP_S}s", "max_up": "1h"}}, env=clock.env()) as w:
            w.up()
            for days in (30, -30, 0):
                clock.set(days * DAY_S)
                used = time.time()
                self.assertEqual(w.ask(), 200)
                time.sleep(6)                   # two looks at what is used
                self.assertEqual((w.state(), len(w.paid()), w.calls("power_off")), ("running", 1, []), f"{days} days")
                self.assertEqual(w.machine()["rental"]["guard"]["state"], "kept")
            clock.set(30 * DAY_S)
            w.wait("stopped", limit_s=40)       # nobody asks
            off = next(e["at"] for e in reversed(w.c.events()) if e["status"] == "shutting_down")
            self.assertTrue(STOP_S - 1 <= off - used <= STOP_S + 10, off - used)
            clock.set(-30 * DAY_S)
            self.assertEqual(w.ask(), 200)
            w.down()
            self.assertEqual(w.paid(), [])
            self.within_the_bill(w, 2)
            w.d.kill()                          # nor does the next one, which begins a month before what it reads
            w.d.start()
            self.assertEqual(w.ask(), 503, "down is down")
            w.up()
            w.down()
            self.assertEqual(w.paid(), [])
            self.within_the_bill(w, 3)

    def within_the_bill(self, w, n):
        """What is told as exact is what was billed; and no second is told twice, or that was not."""
        rows = [r for r in w.d.call("Cost", since_at_ms=1)["rows"] if r["kind"] == "compute"]
        self.assertLessEqual(set(w.spent()), set(w.billed()))
        self.assertEqual((len(rows), len(w.billed())), (n, n))
        told = sum((r["to_at_ms"] - r["from_at_ms"]) // 1000 for r in rows)
        self.assertLessEqual(told, sum(to - begun for _, begun, to, _, _ in w.billed()))

    def test_a_create_that_acts_when_another_machine_was_made(self):
        """Two until the next look at the list; then it is shown, and one is stopped."""
        with World({**NEVER, "guard": {"settle": f"{SETTLE_S}s"}}) as w:
            w.c.fault("bad_gateway_late", on="create", seconds=LATE_S)
            w.up()
            first, = w.paid()
            hosts.until(lambda: len(w.paid()) == 2, LATE_S + 10, "the other one")
            self.assertEqual(w.ask(), 200)
            hosts.until(lambda: w.paid() == [first], LOOK_S + 10, "one")
            self.assertEqual({e["instance"] for e in w.calls("power_off")}, {i["uuid"] for i in w.ours()} - {first})
            late, = {i["uuid"] for i in w.ours()} - {first}
            self.assertRegex(w.d.ctl("logs", "--events").stdout, rf"{w.machine()['name']} +two-machines +error: {late} came up late, beside {first}")
            self.assertEqual((w.state(), w.ask(), w.most_at_once(), len(w.calls("create"))), ("running", 200, 2, 2))
            w.down()
            w.nothing_bills(1)

            def told():                         # the price of the late one was never read, so its sum is an estimate
                return sorted((r["from_at_ms"] // 1000, r.get("to_at_ms", 0) // 1000, r["rate_milli"]) for r in
                              w.d.call("Cost", since_at_ms=1)["rows"] if r["kind"] == "compute")
            hosts.until(lambda: told() == sorted(row[1:4] for row in w.billed()), 20, f"both are in the ledger: {told()} {w.billed()}")

    def test_a_power_on_that_acts_when_nobody_wants_it_any_more(self):
        with World({**NEVER, "guard": {"settle": f"{SETTLE_S}s"}}) as w:
            w.up()
            w.down()
            w.c.fault("bad_gateway_late", on="power_on", seconds=LATE_S)
            w.up(wait=False)
            hosts.until(lambda: w.calls("power_on"), 10, "the call")
            w.down()                            # believed when the call is older than any that acts
            self.assertEqual((w.state(), w.paid()), ("stopped", []))
            hosts.until(w.paid, LATE_S + 5, "that it acts all the same")
            w.nothing_bills(WATCH_S + 15)
            self.assertEqual((len(w.calls("power_on")), len(w.billed())), (1, 2), "nobody said a word")
            w.wait("stopped")

    def test_one_that_is_on_without_its_card_comes_back_with_it(self):
        """Switched on so in the console, or by a word here."""
        with World({**NEVER, "guard": {"settle": "10s"}}, account=False) as w:
            w.d.call("ProviderAdd", provider="autodl-console", token={"text": w.c.web_token}, base_url=w.c.url)
            mine = w.c.rent(name="by-hand")
            w.c.press("no_gpu", mine)
            w.c.until(mine, "running")
            w.d.ctl("instance", "add", "mine", "--provider", "autodl-console", "--id", mine)
            w.wait("running", name="mine")
            self.assertRegex(w.d.ctl("status").stdout, r"mine +autodl-console +running .*¥0\.10/h~ .*not by us")
            self.wants_its_card(w, mine)
            w.down()
            w.d.ctl("keep", "mine", "1h", "--no-card")
            w.c.until(mine, "running")
            w.wait("running", name="mine")
            self.assertRegex(w.d.ctl("status").stdout, r"mine .*running .*¥0\.10/h~ .*without its card")
            self.wants_its_card(w, mine)
            w.down()
            self.assertEqual(w.paid(), [])
            rates = [(mode, rate) for mode, rate in ((r["mode"], r["rate"]) for r in w.c.bill() if r["kind"] == "compute")]
            self.assertEqual(rates, [("non_gpu", 100), ("gpu", 1880)] * 2)

    def wants_its_card(self, w, mine):
        self.assertEqual(w.c.instance(mine)["mode"], "non_gpu")
        n = w.d.ctl("logs", "--events").stdout.count("comes back with its card")
        w.d.ctl("up", MODEL, "--on", "mine")
        self.assertEqual((w.ask(), w.c.instance(mine)["mode"]), (200, "gpu"))
        hosts.until(lambda: w.machine("mine")["rental"]["rate"]["milli"] == 1880, 10, "its price")
        self.assertEqual(w.d.ctl("logs", "--events").stdout.count("comes back with its card"), n + 1)


if __name__ == "__main__":
    import unittest
    unittest.main()
