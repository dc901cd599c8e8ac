"""What becomes of a rented machine that is not where it was left: gone at its provider, never up, on or off by others, near the day it is
given back.

Facts of the company: reference/autodl.md; of a life: reference/lease.md §2."""
import contextlib
import re
import sqlite3
import time

import host as hosts
from rented import MODEL, AtOnce, World

LIMIT_S = 240
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so


def starts_later(w):
    """A daemon that finds its last call to be of ten minutes ago: it cannot act any more."""
    with contextlib.closing(sqlite3.connect(w.d.state + "/llmhost.db")) as db, db:
        db.execute("UPDATE rental SET asked_at_ms = asked_at_ms - 600000")
    w.d.start()


class More(AtOnce):
    def test_one_that_vanished_is_made_anew_by_a_word_alone(self):
        with World(NEVER) as w:
            w.up()
            first = w.ours()[0]["uuid"]
            w.d.kill()                          # its owner gives it back meanwhile
            w.c.press("power_off", first)
            w.c.until(first, "shutdown")
            w.c.age(first, 100)
            hosts.until(lambda: w.c.instance(first) is None, 10, "its end")
            starts_later(w)
            self.assertEqual(w.wait("absent")["trouble"]["code"], "vanished")
            self.assertEqual(w.model_is("off")["goal"], "off")
            self.assertRegex(w.d.ctl("why", MODEL).stdout, "vanished at its provider")
            self.assertEqual((len(w.calls("create")), w.ours()), (1, []), "no other is made for nobody")
            refused = w.d.post("/v1/chat/completions", {"model": "scripted", "messages": []})
            self.assertEqual(refused.status, 503)
            self.assertRegex(refused.body.decode(), rf"4090d vanished at its provider, and no request rents another.*llmhostctl up {MODEL}")
            self.assertRegex(w.d.ctl("wait", MODEL, check=3).stderr, rf"next: +llmhostctl up {MODEL}")
            self.assertEqual((len(w.calls("create")), w.ours()), (1, []))
            w.up(gpu=None)
            self.assertEqual(w.ask(), 200)
            self.assertEqual((len(w.calls("create")), len(w.ours())), (2, 1))
            w.down()
            self.assertEqual((w.paid(), w.most_at_once()), ([], 1))

    def test_a_boot_that_fails_three_times_ends_with_its_reason(self):
        with World(NEVER) as w:
            w.c.fault("boot_fails", times=0)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D", "--timeout", "170s", check=6, timeout=180)
            self.assertRegex(said.stderr, "went off again by itself")
            self.assertEqual((len(w.calls("create")), len(w.calls("power_on")), w.paid()), (1, 2, []))
            self.assertEqual(w.machine()["rental"]["goal"], "off")

    def test_ten_days_off_are_a_warning_with_the_day(self):
        with World(NEVER) as w:
            w.up()
            w.down()
            w.c.age(w.ours()[0]["uuid"], 11)
            w.d.stop()
            starts_later(w)
            risk = hosts.until(lambda: re.search(r"AutoDL gives 4090d back with its data in 3d2\dh.*", w.d.ctl("status").stdout), 30,
                               "the warning")
            self.assertRegex(risk[0], r"20\d\d-\d\d-\d\d|\d\d? [A-Z][a-z]{2}", "the day")
            self.assertRegex(w.d.ctl("doctor", check=False).stdout, "gives 4090d back")
            self.assertEqual(w.paid(), [])

    def test_one_that_nothing_here_knows_any_more_is_told_and_left_alone(self):
        with World(NEVER) as w:
            w.up()
            w.down()
            uuid = w.ours()[0]["uuid"]
            w.d.stop()
            with contextlib.closing(sqlite3.connect(w.d.state + "/llmhost.db")) as db:      # it is lost
                db.execute("PRAGMA foreign_keys = ON")
                db.execute("DELETE FROM instance WHERE name = '4090d'")
                db.commit()
            w.c.press("power_on", uuid)
            w.d.start()
            told = w.d.ctl("doctor", check=False)
            self.assertRegex(" ".join(told.stdout.split()), rf"FAIL {uuid} .*and bills: it was rented from here, .*no instance here knows it "
                         rf"llmhostctl down --at autodl {uuid}")
            self.assertEqual(told.returncode, 1)
            self.assertEqual(len(w.calls("power_off", "release")), 1, "nobody touches it")
            w.c.press("power_off", uuid)

    def test_down_ends_one_that_was_switched_on_in_the_console(self):
        with World(NEVER) as w:
            w.up()
            w.down()
            uuid = w.ours()[0]["uuid"]
            w.c.press("power_on", uuid)
            w.wait("running", 60)
            said = w.d.ctl("down", MODEL)
            self.assertRegex(said.stdout + said.stderr, "confirmed")
            self.assertEqual((w.state(), w.paid()), ("stopped", []))
            w.check_bill()

    def test_its_guard_ends_it_where_its_provider_cannot_be_reached(self):
        with World(NEVER) as w:
            w.up()
            uuid = w.ours()[0]["uuid"]
            w.c.fault("unavailable", on="*", times=0)
            time.sleep(68)                      # two looks at it come to nothing
            told = w.d.ctl("down", MODEL, "--timeout", "2s", check=False)
            self.assertNotEqual(told.returncode, 0, "nobody has confirmed it")
            w.c.until(uuid, "shutdown", 30)
            self.assertEqual(w.state(), "stopping")
            self.assertRegex(w.d.ctl("logs", "--events").stdout, "cannot be reached: its guard is told to stop it")
            hosts.until(lambda: len(w.calls("power_off")) > 1, 60, "that it is asked nevertheless")
            w.c.heal()
            w.wait("stopped", 60)
            self.assertEqual(w.paid(), [])

    def test_a_token_that_is_refused_and_a_balance_that_is_low_while_it_runs(self):
        with World(NEVER, account={"floor_milli": 1000}) as w:
            w.up()
            token = w.c.developer_token
            w.c.account(developer_token="another")
            told = w.d.ctl("down", MODEL, "--timeout", "8s", check=False)
            self.assertNotEqual(told.returncode, 0, "nobody has confirmed it")
            self.assertEqual((w.state(), len(w.paid())), ("stopping", 1))
            self.assertRegex(w.d.ctl("status").stdout, "does not accept the token")
            w.c.account(developer_token=token)
            w.wait("stopped", 60)
            self.assertEqual(w.paid(), [])

            w.up()
            w.c.account(assets=900)
            w.d.call("Cost", refresh=True)
            w.wait("stopped", 60)
            self.assertEqual((w.paid(), w.d.model(MODEL)["goal"]), ([], "off"))
            w.check_bill()
