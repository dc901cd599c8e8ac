"""Machines that cost money, from nothing to an answer and off again, at the rental company on this machine.

Facts of the company: reference/autodl.md; of a life: reference/lease.md §2."""
import concurrent.futures
import os
import re
import subprocess
import tempfile
import time

import host as hosts
from rented import MODEL, AtOnce, World

LIMIT_S = 240
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so


class Rent(AtOnce):
    def test_from_nothing_to_an_answer_and_off_and_on_again(self):
        with World(foreign="running") as w:
            w.up(max_price_milli=2200)
            self.assertEqual(len(w.calls("create")), 1)
            self.assertEqual(w.calls("power_on"), [], "creating boots")
            self.assertEqual(w.ask(), 200)
            machine = w.machine()
            self.assertEqual((machine["state"], machine["rental"]["guard"]["state"]), ("running", "kept"))
            self.assertEqual(machine["rental"]["rate"], {"milli": 1880, "unit": "CNY", "estimate": False, "unknown": False})
            self.assertRegex(w.d.ctl("status").stdout, rf"{machine['name']} +autodl +running +up .*¥1\.88/h")
            before, key = w.ours()[0], machine["host_key"]

            w.wait("stopped")                   # nobody asks
            self.assertEqual(w.paid(), [])
            self.assertEqual(w.model_is("asleep")["goal"], "on_demand")
            self.assertRegex(w.d.ctl("status").stdout, rf"{machine['name']} +autodl +stopped ")
            w.check_bill()

            self.assertEqual(w.ask(), 200)      # wakes it
            after = w.ours()[0]
            self.assertEqual((len(w.ours()), after["uuid"]), (1, before["uuid"]))
            self.assertNotEqual(after["place"]["port"], before["place"]["port"])
            self.assertNotEqual(after["place"]["password"], before["place"]["password"])
            self.assertEqual(w.machine()["host_key"], key)
            self.assertEqual((len(w.calls("create")), len(w.calls("power_on"))), (1, 1))

            said = w.d.ctl("down", MODEL)
            self.assertRegex(said.stdout + said.stderr, r"confirmed")
            self.assertEqual((w.paid(), w.state()), ([], "stopped"))
            w.check_bill()
            self.assertEqual(len(w.spent()), 2)
            refused = w.ask()
            self.assertEqual((refused, w.paid()), (503, []), "down is down")
            self.assertEqual(w.c.instance(w.foreign)["status"], "running")

    def test_a_machine_is_given_back_by_its_name_and_only_when_off(self):
        with World(NEVER) as w:
            w.up()
            name = w.machine()["name"]
            self.assertEqual(w.d.ctl("release", name, f"--confirm={name}", check=False).returncode, 12)
            w.d.ctl("keep", name, "1h")
            hosts.until(lambda: w.machine()["rental"]["guard"].get("hold_until_at_ms"), 10, "a hold on the box")
            w.down()
            self.assertEqual(len(w.paid()), 1, "kept, whatever its models do")
            w.d.ctl("down", name)
            self.assertEqual((w.state(), w.paid()), ("stopped", []), "down ends when it is off")
            self.assertEqual(w.d.ctl("release", name, "--confirm=other", check=False).returncode, 2)
            self.assertEqual(len(w.ours()), 1)
            w.d.ctl("release", name, f"--confirm={name}")
            self.assertEqual((w.ours(), w.machines()), ([], []))
            self.assertEqual(len(w.calls("release")), 1)
            w.up()
            self.assertEqual((w.machine()["name"], len(w.ours())), (name, 1), "one of that name can be rented again")

    def test_nothing_is_drained_through_a_tunnel_that_is_dead(self):
        """The company answers, and is asked as soon as nobody answers on the machine."""
        with World(NEVER) as w:
            w.up()
            w.c.box(w.ours()[0]["uuid"]).fault("freeze")
            begun = time.monotonic()
            said = w.d.ctl("down", MODEL)
            self.assertLess(time.monotonic() - begun, 45, "silence is known after 25 s at most")
            text = re.sub(r"\s+", " ", said.stdout + said.stderr)
            self.assertRegex(text, r"the tunnel is down; AutoDL is asked to switch it off; until then it is on at ¥1\.88/h, its guard ends it by \d\d:\d\d")
            self.assertRegex(text, r"confirmed")
            self.assertEqual((w.state(), w.paid()), ("stopped", []))
            w.check_bill()

            w.up()
            w.c.box_up(w.ours()[0]["uuid"]).fault("blackhole")
            hosts.until(lambda: w.machine()["tunnel"]["state"] != "up", 40, "the end of the tunnel")
            begun = time.monotonic()
            w.d.call("Sleep", 60, target=MODEL)
            self.assertLess(time.monotonic() - begun, 10, "at once, where it is known")
            self.assertEqual((w.state(), w.paid(), w.model_is("asleep")["goal"]), ("stopped", [], "on_demand"))

    def test_a_machine_that_is_kept_goes_off_by_its_name_behind_a_dead_tunnel(self):
        """Its model alone leaves it on: that is no reason to wait, nor to end it."""
        with World(NEVER) as w:
            w.up()
            name = w.machine()["name"]
            w.d.ctl("keep", name, "1h")
            hosts.until(lambda: w.machine()["rental"]["guard"].get("hold_until_at_ms"), 10, "a hold on the box")
            w.c.box(w.ours()[0]["uuid"]).fault("freeze")
            said = w.d.ctl("down", MODEL, "--timeout", "25s", check=7)
            self.assertIn("the tunnel is down; it stops when that is back", re.sub(r"\s+", " ", said.stderr))
            self.assertEqual((w.state(), len(w.paid())), ("running", 1))
            begun = time.monotonic()
            w.d.ctl("down", name)
            self.assertLess(time.monotonic() - begun, 10, "its tunnel is known to be lost")
            self.assertEqual((w.state(), w.paid()), ("stopped", []))

    def test_a_down_whose_company_refuses_says_what_bills_on(self):
        with World(NEVER) as w:
            w.up()
            w.c.fault("denied", on="power_off", times=0)
            said = w.d.ctl("down", MODEL, "--timeout", "4s", check=7)
            text = re.sub(r"\s+", " ", said.stderr)
            self.assertRegex(text, r"4090d is not confirmed off after 4s: AutoDL does not accept the token")
            self.assertRegex(text, r"4090d is on at ¥1\.88/h, its guard ends it by \d\d:\d\d; it is asked again and again")
            self.assertIn("llmhostctl wait 4090d --for=confirmed", text)
            off = re.sub(r"\s+", " ", w.d.ctl("wait", MODEL, "--for=stopped").stdout)
            self.assertRegex(off, rf"{MODEL} is off\. its machine 4090d is (still on|not confirmed off), at ¥1\.88/h; until its company says that it is off: llmhostctl wait 4090d --for=confirmed")
            w.c.heal()
            w.wait("stopped", 60)

    def test_each_of_several_that_go_off_tells_its_bill_and_since_when(self):
        def off_since(name):
            line, = [line for line in w.d.ctl("why", name, json=True)["lines"] if line["target"] == name]
            return {c["cause"]: c.get("since_at_ms") for c in line["causes"]}.get("machine_off")

        with World(NEVER) as w:
            for i, name in enumerate(("one", "two")):
                w.up(f"{MODEL}:{i}", on=name)
            said = re.sub(r"\s+", " ", w.d.ctl("down", "ollama:*").stdout)
            for name in "one", "two":
                self.assertRegex(said, rf"{name} is off, and autodl says so: billed ¥\d")
            self.assertEqual(w.paid(), [])
            since = off_since("one")
            w.d.restart()
            self.assertEqual(hosts.until(lambda: off_since("one"), 10, "its first look"), since, "it is off since then, whichever daemon saw it")

    def test_a_stop_that_comes_while_it_starts_is_asked_again(self):
        with World(NEVER, boot=4) as w:
            w.up(wait=False)
            uuid = hosts.until(w.ours, 10, "a machine")[0]["uuid"]
            w.c.until(uuid, "starting")
            w.down()
            self.assertEqual((w.state(), w.paid()), ("stopped", []))
            self.assertGreater(len(w.calls("power_off")), 1, "the first was not heard (l.215)")
            self.assertIn("running", [e["status"] for e in w.c.events() if e["instance"] == uuid])

    def test_lost_answers_make_one_machine(self):
        """Each call took effect, and its answer did not come."""
        with World(NEVER) as w:
            w.c.fault("reset", on="create")
            w.up()
            self.assertEqual((len(w.calls("create")), len(w.ours())), (1, 1))
            w.c.fault("html_after", on="power_off")
            w.d.call("Sleep", 60, target=MODEL)
            w.wait("stopped")
            self.assertEqual(w.paid(), [])
            w.c.fault("cut_after", on="power_on")
            self.assertEqual(w.ask(), 200)
            self.assertEqual((len(w.calls("power_on")), len(w.ours())), (1, 1))
            w.c.fault("lost", on="power_off")   # heard, and nothing happens
            w.down()
            self.assertEqual((w.paid(), w.most_at_once()), ([], 1))
            w.check_bill()

    def test_no_card_is_waited_for(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D", "--timeout", "3s", check=6)
            self.assertRegex(said.stderr, "no free card")
            self.assertEqual((w.state(), w.ours()), ("waiting", []))
            self.assertRegex(w.d.ctl("status").stdout, rf"{MODEL} +(no GPU|waking) ")
            w.c.stock("4090D", 1)
            w.model_is("ready", limit_s=60)
            self.assertEqual(len(w.ours()), 1)

    def test_a_second_machine_is_said_first_and_ends_alone(self):
        with World(NEVER) as w:
            w.up()
            w.c.stock("5090-p", 0)
            said = w.d.ctl("up", MODEL, "--gpu", "5090", "--max-price", "3", "--timeout", "6s", check=6).stderr
            self.assertRegex(" ".join(said.split()), "is already ready on 4090d, at ¥1.88/h; this rents a second machine beside it")
            self.assertRegex(said, rf"llmhostctl down {MODEL} --on 5090")
            w.d.ctl("down", MODEL, "--on", "5090")
            self.assertEqual((w.ask(), len(w.ours())), (200, 1))
            w.down()
            self.assertEqual((w.paid(), w.most_at_once()), ([], 1))

    def test_a_spent_budget_buys_nothing(self):
        with World(account={"day_milli": 100}) as w:
            said = w.d.ctl("up", MODEL, "--gpu", "4090D,5090", "--max-price", "2.20", check=10)
            self.assertRegex(said.stderr, r"¥0\.10")
            self.assertEqual(w.calls("create", "power_on"), [])
            hosts.until(lambda: not w.machines() and not w.d.call("Status")["models"], 10, "nothing left behind")
            again = re.search(rf"llmhostctl (up {MODEL} --gpu=4090D,5090 --max-price=2\.20 --over-budget)", re.sub(r"\s+", " ", said.stderr))
            self.assertTrue(again, said.stderr)
            w.d.restart()
            self.assertEqual(w.machines(), [])
            w.d.ctl(*again[1].split())
            self.assertEqual((len(w.ours()), w.ask()), (1, 200))
            w.down()
            w.check_bill()

    def test_two_for_the_last_of_the_money_start_one(self):
        """Each needs 1.88 an hour for 2 min, the guard's lease and 20 s: about ¥0.55."""
        models = {"one": "ollama:scripted:0", "two": "ollama:scripted:1"}
        with World(NEVER) as w:
            with concurrent.futures.ThreadPoolExecutor() as pool:
                for done in [pool.submit(w.up, model, on=name) for name, model in models.items()]:
                    done.result()
                for name, model in models.items():
                    w.down(model)
                spent = w.d.call("Cost")["accounts"][0]["today"]["milli"]
                w.d.call("ProviderSet", provider="autodl", day_milli=spent + 800)
                n = len(w.calls("power_on"))
                ups = [pool.submit(w.d.ctl, "up", model, check=False) for model in models.values()]
                self.assertEqual(sorted(up.result().returncode for up in ups), [0, 10])
            self.assertEqual((len(w.calls("power_on")) - n, len(w.paid())), (1, 1))
            for model in models.values():
                w.down(model)
            self.assertEqual(w.paid(), [])

    def test_somebody_else_switches_it_off(self):
        with World(NEVER) as w:
            w.up()
            uuid = w.ours()[0]["uuid"]
            w.c.press("power_off", uuid)
            w.wait("stopped", 60)
            self.assertEqual(w.model_is("asleep")["goal"], "on_demand")
            self.assertRegex(w.d.ctl("status").stdout + w.d.ctl("why").stdout, "not by us")
            n = len(w.calls("power_on"))
            time.sleep(6)                       # longer than between two looks
            self.assertEqual((len(w.calls("power_on")), w.paid()), (n, []), "not on again by itself")
            self.assertEqual(w.ask(), 200)
            self.assertEqual((len(w.calls("power_on")), len(w.calls("create"))), (n + 1, 1))

    def test_a_refused_token_is_told(self):
        """By a hook as well."""
        folder = self.enterContext(tempfile.TemporaryDirectory())
        hook = folder + "/tell"
        with open(hook, "w") as f:
            f.write(f"#!/bin/sh\necho $#; env | sort >{folder}/told\n")
        os.chmod(hook, 0o700)
        with World({"hook.phone": {"command": hook}}, account=False) as w:
            self.assertIn("hook \"phone\" runs " + hook, w.d.ctl("doctor", check=False).stdout)
            told = w.d.ctl("provider", "add", "autodl", "--base-url", w.c.url, "--token-file", "-", input="wrong\n", check=False)
            self.assertEqual(told.returncode, 5)
            self.assertEqual(w.d.call("ProviderList")["accounts"], [])
            w.d.ctl("provider", "add", "autodl", "--base-url", w.c.url, "--token-file", "-", input=w.c.developer_token + "\n")
            token = w.c.developer_token
            w.c.account(developer_token="another")
            told = w.d.ctl("up", MODEL, "--gpu", "4090D", "--timeout", "5s", check=5)
            self.assertRegex(told.stderr, "does not accept the token")
            self.assertEqual(w.ours(), [])
            ran = f'hook "phone" ran for failed {MODEL}, exit 0'
            hosts.until(lambda: ran in w.d.ctl("logs", "--events").stdout, 10, ran)
            with open(folder + "/told") as f:
                told = dict(line.split("=", 1) for line in f.read().splitlines())
            self.assertEqual((told["LLMHOST_EVENT"], told["LLMHOST_TARGET"], told["LLMHOST_LEVEL"]), ("failed", MODEL, "err"))
            self.assertIn("does not accept the token", told["LLMHOST_TEXT"])
            self.assertEqual(told["LLMHOST_CONFIG_DIRECTORY"], w.d.dir)
            self.assertLess(abs(int(told["LLMHOST_AT_MS"]) / 1000 - time.time()), 60)
            of_a_shell = {"PATH", "HOME", "USER", "LANG", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"}
            self.assertEqual(set(told) - of_a_shell,
                             {"LLMHOST_" + n for n in ("EVENT", "TARGET", "LEVEL", "TEXT", "AT_MS", "CONFIG_DIRECTORY")})
            w.c.account(developer_token=token)

    def test_kept_it_stays_on_and_its_guard_knows_for_how_long(self):
        with World() as w:
            w.up()
            name = w.machine()["name"]
            kept = w.d.call("Keep", target=name, for_ms=2 * 3600 * 1000)
            self.assertAlmostEqual(kept["cost"]["milli"], 2 * 1880, delta=100)
            hold = hosts.until(lambda: w.machine()["rental"]["guard"].get("hold_until_at_ms"), 10, "a hold on the box")
            self.assertAlmostEqual(hold / 1000 - time.time(), 7200, delta=30)
            w.model_is("asleep")
            time.sleep(4)                       # [idle] stop is 2 s
            self.assertEqual((w.state(), w.machine()["rental"]["stays"]), ("running", "kept"))
            w.d.call("Keep", target=name, for_ms=0)
            w.wait("stopped")
            w.check_bill()

    def test_drill_shows_whether_the_guards_stop_ends_the_bill(self):
        with World(NEVER) as w:
            w.up()
            machine = w.machine()
            self.assertFalse(machine["rental"]["guard"]["proved"])
            self.assertRegex(w.d.ctl("status").stdout, "unproved")
            w.d.ctl("doctor", machine["name"], "--drill", timeout=90)
            self.assertEqual((w.calls("power_off"), w.paid()), ([], []))
            w.up()
            self.assertTrue(w.machine()["rental"]["guard"]["proved"])
            w.down()

    def test_low_balance(self):
        with World() as w:
            w.c.account(assets=0)
            w.d.ctl("up", MODEL, "--gpu", "4090D", "--timeout", "5s", check=10)
            self.assertEqual(w.ours(), [])

    def test_the_day_it_will_be_given_back_is_shown(self):
        with World() as w:
            w.up()
            w.wait("stopped")
            self.assertAlmostEqual((w.machine()["rental"]["released_at_ms"] / 1000 - time.time()) / 86400, 15, delta=0.1)
            self.assertRegex(w.d.ctl("status").stdout, "released in 14d23h")


class Killed(AtOnce):
    """The daemon dies while the company has its call in hand; the next one finds out what became of it."""

    def killed_in(self, w, call, ask):
        w.c.fault("slow", on=call, seconds=2)   # it happens at once, and is answered later
        n = len(w.calls(call))
        ask()
        hosts.until(lambda: len(w.calls(call)) > n, 20, call)
        time.sleep(0.3)
        w.d.kill()
        w.d.start()

    def test_in_create_and_in_power_on(self):
        with World(NEVER) as w:
            self.killed_in(w, "create", lambda: w.up(wait=False))
            w.model_is("ready", limit_s=60)
            self.assertEqual((len(w.calls("create")), len(w.paid())), (1, 1))
            w.down()
            self.assertEqual(w.paid(), [])
            self.killed_in(w, "power_on", lambda: w.up(wait=False))
            w.model_is("ready", limit_s=60)
            self.assertEqual((len(w.ours()), len(w.paid()), w.most_at_once()), (1, 1, 1))
            w.down()
            self.assertEqual(w.paid(), [])
            w.check_bill()

    def test_in_the_stop(self):
        with World(NEVER) as w:
            w.up()
            w.c.fault("lost", on="power_off")   # and nothing happens
            self.killed_in(w, "power_off", lambda: subprocess.Popen(w.d.ctl_words("down", MODEL), stdout=subprocess.DEVNULL,
                                                                    stderr=subprocess.DEVNULL))
            w.wait("stopped", 60)
            self.assertEqual((w.paid(), len(w.ours())), ([], 1))
            w.check_bill()

    def test_for_ever_and_the_guard_ends_it(self):
        """Worst case: the lease and 40 s."""
        with World({**NEVER, "guard": {"lease": "20s"}}) as w:
            w.up()
            guard = w.machine()["rental"]["guard"]
            self.assertEqual(guard["state"], "kept")
            w.d.kill()
            killed = time.time()
            w.nothing_bills(20 + 40 + 5)
            off = next(e["at"] for e in reversed(w.c.events()) if e["status"] == "shutting_down")
            self.assertLess(off - killed, 20 + 40)
            self.assertEqual(w.calls("power_off"), [])
            w.d.start()                         # and is told of it; believes it when its own call cannot act any more
            hosts.until(lambda: w.machine()["rental"].get("provider_state") == "shutdown", 20, "the provider's word")
            self.assertEqual(w.calls("power_off"), [])
