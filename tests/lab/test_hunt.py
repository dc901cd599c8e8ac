"""The search for a card: other cards, other regions, saved images, other instances; and its end.

Order and pace: reference/lease.md §4; regions: reference/autodl.md §2.2."""
import concurrent.futures
import re
import time

import customer
import host as hosts
from rented import MODEL, AtOnce, World

LIMIT_S = 180
NEVER = {"idle": {"stop": "1h"}}
WEST = "west-C"                         # what the company calls westDC3 in its list


def waits(w, *words, **more):
    """An `up` that waits for a card; its machine."""
    w.d.ctl("up", MODEL, "--no-wait", "--on", "box", *words, **more)
    return hosts.until(lambda: (m := w.machine())["rental"]["tries"] and m["state"] == "waiting" and m, 15, "a search that waits")


class Hunt(AtOnce):
    def test_the_second_region_has_one(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0, region=WEST)
            w.up(on="box", region="westDC3,北京B区")
            asked = w.calls("create")
            self.assertEqual([e["code"] for e in asked], ["InternalError", "Success"])
            self.assertGreaterEqual(asked[1]["at"] - asked[0]["at"], 2)
            rental = w.machine()["rental"]
            self.assertEqual((rental["gpu"], rental["region"]), ("4090D", "beijingDC2"))
            self.assertEqual(w.ours()[0]["region"], "bj-B2")
            self.assertEqual(w.most_at_once(), 1)
            w.down()
            self.assertEqual(w.paid(), [])

    def test_the_second_card_is_there_and_the_dear_one_is_named(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D,PRO6000,5090", "--on", "box", "--max-price", "3")
            self.assertRegex(said.stderr, r"PRO6000 is left out: ¥5\.98 an hour is more than is allowed")
            self.assertNotIn("no such", said.stderr)
            rental = w.machine()["rental"]
            self.assertEqual((rental["gpu"], rental["rate"]["milli"], rental.get("candidates")), ("5090", 2780, None))
            self.assertEqual([e["code"] for e in w.calls("create")], ["InternalError", "Success"], "nobody asked for the dear one")
            w.d.restart()
            self.assertEqual((w.machine()["rental"]["gpu"], len(w.paid())), ("5090", 1))

    def test_what_is_named_twice_or_not_at_all(self):
        with World(NEVER) as w:
            for words, says in ((("--gpu", "4090Dx2x3"), "4090Dx2x3\" counts its cards twice"), (("--gpu", "4090D,,5090"), "a card that has no name"),
                                (("--gpu", "4090D", "--region", ","), "--region , names a region that has no name"),
                                (("--gpu", "4090D", "--region", "westDC3,"), "a region that has no name"),
                                (("--gpu", "4090D", "--or", "box,"), "--or box, names an instance that has no name")):
                said = w.d.ctl("up", MODEL, "--no-wait", *words, check=False)
                self.assertEqual(said.returncode, 2, f"{words}: {said.stderr}")
                self.assertIn(says, said.stderr)
            self.assertEqual((w.machines(), w.calls("create")), ([], []), "nothing was kept of it, nobody was asked")
            w.c.stock("4090D", 0)
            machine = waits(w, "--gpu", "4090D,4090D,4090Dx2,4090D", "--region", "westDC3,西北B区,westDC3")
            self.assertEqual([c["region"] for c in machine["rental"]["candidates"]], ["westDC3", "westDC3"], "one region, two kinds of machine")
            self.assertEqual(machine["rental"]["gpu"], "4090D,4090Dx2", "each is taken once")

    def test_all_are_sold_out_until_one_comes(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0)
            w.c.stock("5090-p", 0)
            machine = waits(w, "--gpu", "4090D,5090", "--region", "westDC3,beijingDC2", "--until", "20m")
            rental = machine["rental"]
            self.assertAlmostEqual(rental["search_until_at_ms"] / 1000 - time.time(), 1200, delta=15)
            self.assertEqual([(c["gpu"], c["region"]) for c in rental["candidates"]],
                             [("4090D", "westDC3"), ("4090D", "beijingDC2"), ("5090", "westDC3"), ("5090", "beijingDC2")])
            w.d.kill()
            w.d.start()
            self.assertEqual(w.machine()["rental"].get("search_until_at_ms", rental["search_until_at_ms"]), rental["search_until_at_ms"],
                             "the search does not begin anew")
            w.c.stock("5090-p", 1)
            w.wait("running", name="box")
            self.assertEqual(w.machine()["rental"]["gpu"], "5090")
            self.assertEqual(w.most_at_once(), 1)

    def test_a_keep_said_while_it_is_looked_for_holds_when_it_is_there(self):
        with World() as w:
            for card in ("4090D", "5090-p", "pro6000-p"):
                w.c.stock(card, 0)
            waits(w, "--gpu", "4090D,5090,PRO6000", "--region", "westDC3,beijingDC2")
            w.d.ctl("keep", MODEL, "1h")
            was = w.machine()["rental"]["tries"]
            hosts.until(lambda: w.machine()["rental"]["tries"] >= was + 2, 40, "it was refused twice since")
            self.assertGreaterEqual(w.reserved(), 5980, "an hour of the dearest of them")
            w.c.stock("pro6000-p", 1)
            w.wait("running", name="box", limit_s=50)
            w.model_is("ready")
            self.assertGreaterEqual(w.reserved(), 5900)
            time.sleep(4)   # its idle times are 1 and 2 seconds
            self.assertEqual((w.d.model(MODEL)["state"], w.state()), ("ready", "running"))
            w.down()
            hosts.until(lambda: w.reserved() == 0, 20, "its money is given back")

    def test_searches_at_one_account_share_its_pace(self):
        with World(NEVER) as w:
            for card in ("4090D", "5090-p", "pro6000-p"):
                w.c.stock(card, 0)
            for i in range(3):
                w.d.ctl("up", f"ollama:scripted:{i + 1}", "--no-wait", "--on", f"box{i}", "--gpu", "4090D,5090,PRO6000")
            hosts.until(lambda: len(w.calls("create")) >= 9, 60, "three searches of three cards")
            at = [e["at"] for e in w.calls("create")]
            self.assertGreaterEqual(min(b - a for a, b in zip(at, at[1:])), 1.9, at)
            for i in range(3):
                w.d.ctl("down", f"ollama:scripted:{i + 1}")

    def test_the_end_of_a_search(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D", "--on", "box", "--until", "3s", check=False)
            self.assertEqual(said.returncode, 6, said.stderr)
            self.assertIn("no 4090D was free in the time given", said.stderr)
            self.assertIn("暂无库存", said.stderr)
            w.wait("absent")
            said = w.d.ctl("up", MODEL, "--gpu", "4090D", "--on", "box", "--timeout", "2s", check=False)
            self.assertEqual(said.returncode, 6, said.stderr)
            self.assertIn("the search goes on", said.stderr)
            said = w.d.ctl("down", MODEL)
            self.assertIn("nothing was powered on", said.stdout + said.stderr)
            w.wait("absent")
            self.assertEqual((w.paid(), w.ours()), ([], []))

    def test_what_a_search_made_goes_with_it(self):
        with World(NEVER) as w:
            for card in ("4090D", "5090-p"):
                w.c.stock(card, 0)
            for kill in (None, "before", "after"):
                asked = len(w.calls("create"))
                w.d.ctl("up", MODEL, "--gpu", "5090,4090D", "--no-wait")
                hosts.until(lambda: len(w.calls("create")) >= asked + 2, 30, "both cards were asked for")
                hosts.until(lambda: w.machine()["state"] == "waiting", 20, "a plain no to each")
                self.assertEqual(w.machine()["name"], "rented", "the name is free again, whatever it was asked for last")
                why = w.d.ctl("why").stdout
                self.assertRegex(" ".join(why.split()), rf"rented SEARCH looks for 5090 or 4090D, for .*5090: no free card.*{MODEL} SEARCH looks for 5090 or 4090D, for .*4090D: no free card; .*ends at ")
                self.assertNotRegex(why, "AWAKE|stopped with|off for")
                if kill == "before":
                    w.d.kill()
                    w.d.start()
                said = w.d.ctl("down", MODEL)
                if kill == "after":
                    w.d.kill()
                    w.d.start()
                self.assertIn("nothing was powered on", said.stdout)
                self.assertNotIn("engine", said.stdout + said.stderr)
                if not kill:
                    self.assertIn(f"llmhostctl up {MODEL} --gpu 5090,4090D", said.stderr)
                hosts.until(lambda: not w.machines(), 90, "it goes with the search")
                self.assertEqual(w.d.call("Status")["models"], [])
            self.assertEqual((w.paid(), w.ours()), ([], []))
            said = w.d.ctl("release", "nosuch", check=False)
            self.assertEqual(said.returncode, 4, said.stderr)
            self.assertNotIn("--confirm", said.stderr)

    def test_a_machine_that_came_when_nobody_wanted_it_any_more(self):
        with World(NEVER) as w:
            w.c.fault("slow", on="create", seconds=3)
            w.d.ctl("up", MODEL, "--no-wait", "--gpu", "4090D", "--on", "box")
            hosts.until(lambda: w.calls("create"), 10, "a card is asked for")
            said = w.d.ctl("down", MODEL, "--timeout", "60s")
            self.assertRegex(said.stdout + said.stderr, r"one machine was powered on for \d+\.?\d*s, ¥0\.\d\d~?, off and confirmed")
            self.assertEqual((w.paid(), len(w.ours())), ([], 1))


STAGES = "capacity|power on|ssh|guard|engine|fetch|load"


def rows(shown):
    """What was painted on a terminal, line by line, in its order."""
    return [row.rstrip() for row in re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", shown)) if row.startswith("  ")]


class Screen(AtOnce):
    def test_each_machine_and_each_card_that_is_tried_has_a_row(self):
        with World(NEVER, boot=1) as w:
            w.up(gpu="5090")
            w.down()
            first, = w.machines()
            w.c.stock("5090-p", 0)
            status, shown = w.d.ctl_on_terminal("up", MODEL, "--gpu", "5090,4090D")
            self.assertEqual(status, 0, shown)
            second, = (m["name"] for m in w.machines() if m["name"] != first["name"])
            seen = [row for row in rows(shown) if re.search(STAGES, row) and "note:" not in row]
            self.assertRegex(seen[0], rf"^  {first['name']} +capacity ")
            self.assertIn(f"  {first['name']}  capacity    no free card", seen)
            turn = next(i for i, row in enumerate(seen) if row.startswith(f"  {second} "))
            refused = f"  {first['name']:<{len(second)}}  capacity    no free card"
            self.assertEqual(seen[turn - 1], refused, "what stands there makes room for the longer name")
            self.assertIn(f"  {second}  capacity    5090: no free card", seen)
            for row in seen[turn:]:
                self.assertRegex(row, rf"^  {second}  ({STAGES})", "in columns, and the first one does not tick on")
            self.assertTrue(any(re.match(rf"  {second} +capacity    4090D( in \S+)?, ¥1\.88/h~? +\d", row) for row in seen), seen)

    def test_one_that_is_off_elsewhere_is_not_taken(self):
        with World(NEVER) as w:
            w.up(on="box", region="westDC3")
            w.down()
            w.wait("stopped")
            w.d.ctl("up", MODEL, "--gpu", "4090D", "--region", "beijingDC2")
            self.assertEqual([m["region"] for m in w.ours()], [WEST, "bj-B2"])
            w.down()

    def test_off_a_terminal_each_is_a_line(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0, region=WEST)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D", "--region", "westDC3,beijingDC2", "--on", "box").stderr
            self.assertIn(f"llmhostctl: {MODEL}: capacity, 4090D in westDC3: no free card\n", said)
            self.assertLess(said.index("no free card"), said.index(f"{MODEL}: power on"))

    def test_a_search_is_one_also_before_the_first_look_of_a_new_daemon(self):
        with World(NEVER) as w:
            w.c.stock("4090D", 0)
            waits(w, "--gpu", "4090D")
            w.d.kill()
            w.c.fault("slow", on="list", seconds=3)
            w.d.start()
            said = w.d.ctl("status").stdout
            self.assertRegex(said, r"box +autodl +waiting +- +4090D +- +- +nothing is on")
            self.assertNotIn("GUARD", said)
            self.assertNotIn("box", open(w.d.state + "/guards").read(), "nothing of it stops by itself, for there is nothing")
            w.d.ctl("down", MODEL)


class Images(AtOnce):
    def test_one_is_saved_and_rented_with(self):
        with World(NEVER) as w:
            w.up(on="box")
            said = w.d.ctl("image", "save", "box", "mine", check=False)
            self.assertEqual(said.returncode, 12, said.stderr)
            self.assertIn("box was not saved: it is not off", said.stderr)
            w.down()
            self.assertIn("no image is saved", w.d.ctl("image", "list").stdout)
            said = w.d.ctl("image", "save", "box", "mine")
            image = re.search(r"saved: mine \((image-\w+)\)", said.stdout)[1]
            self.assertRegex(w.d.ctl("image", "list").stdout, rf"mine +54 MB +ready .*{image}")
            said = w.d.ctl("image", "save", "box", "mine", check=False)
            self.assertEqual(said.returncode, 12, said.stderr)
            self.assertIn(f"the image mine was not saved: there is one of that name ({image})", said.stderr)

            said = w.d.ctl("up", "ollama:scripted:2", "--gpu", "5090", "--image", "other", check=False)
            self.assertEqual(said.returncode, 2, said.stderr)
            self.assertIn("yours: mine", said.stderr)
            other = customer.good(customer.pro(w.c, "image/save", instance_uuid=w.ours()[0]["uuid"], image_name="mine"))["image_uuid"]
            hosts.until(lambda: w.d.ctl("image", "list").stdout.count("ready") == 2, 60, "another one of that name, saved elsewhere")
            said = w.d.ctl("up", "ollama:scripted:2", "--gpu", "5090", "--image", "mine", check=False)
            self.assertEqual(said.returncode, 2, said.stderr)
            self.assertRegex(said.stderr, rf"several images are called mine: (?=.*{image})(?=.*{other})")
            w.up("ollama:scripted:2", gpu="5090", on="second", image=image)
            self.assertEqual(w.machine("second")["rental"]["image"], image)
            self.assertIn(image, [i["image"] for i in w.ours()])

    def test_one_that_is_not_ready_is_not_rented_with(self):
        with World(NEVER, save=600) as w:
            w.up(on="box")
            w.down()
            self.assertIn("is being saved", w.d.ctl("image", "save", "box", "mine", "--no-wait").stdout)
            said = w.d.ctl("up", "ollama:scripted:2", "--gpu", "5090", "--image", "mine", check=False)
            self.assertEqual((said.returncode, len(w.machines())), (12, 1), said.stderr)
            said = w.d.ctl("image", "save", "box", "again", "--timeout", "1s", check=False)
            self.assertEqual(said.returncode, 7, said.stderr)


class Either(AtOnce):
    def two(self, w):
        """Two instances for which there was no card so far; how often it was asked for one."""
        w.c.stock("4090D", 0)
        w.c.stock("5090-p", 0)
        for model, gpu, name in (("ollama:scripted:1", "4090D", "first"), ("ollama:scripted:2", "5090", "second")):
            w.d.ctl("up", model, "--gpu", gpu, "--on", name, "--no-wait")
            w.wait("waiting", name=name)
            w.d.ctl("down", model)
        return len(w.calls("create"))

    def places(self, w):
        return {m["instance"]: m["goal"] for m in w.d.call("Status")["models"] if m["name"] == MODEL}

    def test_the_second_one_is_there(self):
        with World(NEVER) as w:
            before = self.two(w)
            w.c.stock("5090-p", 1)
            said = w.d.ctl("up", MODEL, "--on", "first", "--or", "second")
            self.assertRegex(said.stdout, "ready")
            self.assertEqual(self.places(w), {"first": "off", "second": "on_demand"})
            self.assertEqual((w.state("first"), w.state("second"), len(w.paid())), ("absent", "running", 1))
            self.assertEqual([e["code"] for e in w.calls("create")[before:]], ["InternalError", "Success"])
            self.assertEqual(w.ask(), 200)
            w.c.stock("4090D", 5)
            self.assertIn("already ready on second", w.d.ctl("up", MODEL, "--on", "first", "--or", "second").stdout)
            self.assertEqual(len(w.paid()), 1, "it is there, and not looked for")

    def test_it_goes_round_until_one_has_a_card_or_nobody_wants_it(self):
        with World(NEVER) as w:
            before = self.two(w)
            w.d.ctl("up", MODEL, "--gpu", "4090Dx2", "--on", "third", "--or", "first,second", "--no-wait")
            hosts.until(lambda: len(w.calls("create")) >= before + 3, 20, "all three were tried")
            self.assertEqual(list(self.places(w).values()).count("on_demand"), 1, "one at a time")
            said = w.d.ctl("down", MODEL)
            self.assertNotIn("one machine was powered on", said.stdout)
            self.assertEqual((w.state("first"), w.state("second"), w.state("third"), w.paid()), ("absent", "absent", "absent", []))
            self.assertEqual(set(self.places(w).values()), {"off"})

    def is_ready(self, w, name):
        hosts.until(lambda: any(m["state"] == "ready" and m["instance"] == name for m in w.d.call("Status")["models"]), 60, f"ready on {name}")

    def turns(self, w):
        """Whose turn it was, one after the other, as the log has it."""
        return re.findall(r"nothing came of .*: now (\S+)$", w.d.log(), re.M)

    def test_killed_in_the_middle_it_goes_on_in_the_same_order(self):
        with World(NEVER) as w:
            before = self.two(w)
            w.d.ctl("up", MODEL, "--gpu", "4090Dx2", "--on", "third", "--or", "first,second", "--no-wait", "--until", "20m")
            for turn in ("third", "first", "second"):
                hosts.until(lambda: self.places(w).get(turn) == "on_demand" and w.state(turn) == "waiting" and not w.reserved(), 40, f"the turn of {turn}")
                self.assertEqual(list(self.places(w).values()).count("on_demand"), 1, "one at a time")
                w.d.kill()
                w.d.start()
            asked = w.calls("create")[before:]
            self.assertEqual({e["code"] for e in asked} - {"InternalError", None, ""}, set(), asked)
            w.c.stock("5090-p", 1)
            self.is_ready(w, "second")
            self.assertEqual(self.turns(w), ["first", "second"])
            self.assertEqual((len(w.paid()), len(w.ours()), w.most_at_once()), (1, 1, 1), "exactly one machine")
            apart = [b["at"] - a["at"] for a, b in zip(asked, w.calls("create")[before + 1:])]
            self.assertGreaterEqual(min(apart), 1.9, "one paid call at a time")
            w.d.restart()
            w.c.stock("4090D", 5)
            self.is_ready(w, "second")
            self.assertEqual((self.places(w)["second"], len(w.ours())), ("on_demand", 1), "it came: nobody is looked for any more")

    def test_a_word_takes_one_away_and_the_search_goes_on(self):
        with World(NEVER) as w:
            self.two(w)
            with concurrent.futures.ThreadPoolExecutor() as pool:
                said = pool.submit(w.d.ctl, "up", MODEL, "--on", "first", "--or", "second", check=False)
                hosts.until(lambda: self.places(w).get("first") == "on_demand", 20, "the turn of first")
                w.d.ctl("down", MODEL, "--on", "first", "--forget")
                w.d.ctl("instance", "remove", "first")
                hosts.until(lambda: self.places(w) == {"second": "on_demand"}, 20, "second is looked for alone")
                self.assertFalse(said.done(), "its search goes on")
                w.c.stock("5090-p", 1)
                self.assertRegex(said.result(60).stdout, "ready")
                w.d.ctl("down", MODEL)
                w.nothing_bills()
                w.c.stock("5090-p", 0)
                w.d.ctl("up", "ollama:scripted:3", "--gpu", "4090D", "--on", "third", "--no-wait")
                w.d.ctl("down", "ollama:scripted:3")
                said = pool.submit(w.d.ctl, "up", MODEL, "--on", "second", "--or", "third", check=False)
                hosts.until(lambda: "third" in self.places(w), 20, "a search of two")
                w.d.ctl("down", MODEL)
                over = said.result(30)
                self.assertEqual(over.returncode, 3, over.stderr)
                self.assertIn("was switched off meanwhile", over.stderr)
            self.assertEqual((set(self.places(w).values()), w.paid()), ({"off"}, []))

    def test_another_card_is_looked_for_instead_of_the_one_that_has_none(self):
        with World(NEVER) as w:
            w.up(on="mine")
            w.down()
            for card in ("4090D", "5090-p", "pro6000-p"):
                w.c.stock(card, 0)
            w.d.ctl("up", MODEL, "--no-wait", "--max-price", "3")
            w.wait("waiting", name="mine")
            self.assertIn("the search of mine is changed: 4090D, at most ¥2.50/h (it was 4090D, at most ¥3.00/h)",
                          w.d.ctl("up", MODEL, "--no-wait", "--max-price", "2.5").stderr)
            said = w.d.ctl("up", MODEL, "--no-wait", "--max-price", "1", check=False)
            self.assertEqual(said.returncode, 10, said.stderr)
            self.assertIn("costs ¥1.88 an hour at least, and at most ¥1.00 is allowed", said.stderr)
            said = w.d.ctl("up", MODEL, "--no-wait", "--gpu", "5090", "--max-price", "3")
            self.assertIn(f"{MODEL} waits for mine (4090D, at most ¥2.50/h) no longer", " ".join(said.stderr.split()))
            self.assertEqual(self.places(w), {"mine": "off", "5090": "on_demand"})
            w.wait("stopped", name="mine")
            said = w.d.ctl("up", MODEL, "--no-wait", "--gpu", "5090,PRO6000", "--max-price", "6")
            self.assertIn("the search of 5090 is changed: 5090 or PRO6000, at most ¥6.00/h (it was 5090, at most ¥3.00/h)", " ".join(said.stderr.split()))
            w.c.stock("5090-p", 1)
            self.is_ready(w, "5090")
            self.assertEqual((w.state("mine"), len(w.paid()), w.most_at_once()), ("stopped", 1, 1))
            self.assertRegex(w.d.ctl("logs", "--events", "5090").stdout, r"power-on +is switched on: 5090( in \S+)?, ¥2\.78/h")

    def test_one_that_is_too_dear_is_off_before_the_next_one_is_made(self):
        with World(NEVER) as w:
            w.c.price("4090D", 3000)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D,5090", "--max-price", "2.90")
            self.assertRegex(said.stdout, "ready")
            self.assertEqual([e["code"] for e in w.calls("create")], ["Success", "Success"])
            first, second = sorted((r for r in w.c.bill() if r["instance"] != w.foreign and r["kind"] == "compute"), key=lambda r: r["start"])
            self.assertIsNotNone(first["end"])
            self.assertLessEqual(first["end"], second["start"], "never two at once")
            cards = {m["name"]: (m["rental"]["gpu"], m["state"]) for m in w.machines()}
            self.assertEqual(cards, {"rented": ("4090D", "stopped"), "rented-2": ("5090", "running")})
            self.assertEqual(len(self.turns(w)), 1)
            w.down()
            w.d.restart()
            said = w.d.ctl("up", "ollama:scripted:2", "--gpu", "4090D,5090", "--max-price", "2.90")
            self.assertEqual([m["state"] for m in w.machines()], ["stopped", "running"], "the dear one is known, and left out")
            self.assertEqual((len(w.calls("create")), len(w.calls("power_on"))), (2, 1))

    def test_one_that_its_provider_refuses_is_not_the_end(self):
        with World(NEVER) as w:
            self.two(w)
            w.c.stock("pro6000-p", 0)
            w.d.ctl("up", "ollama:scripted:3", "--gpu", "PRO6000", "--on", "third", "--no-wait")
            w.wait("waiting", name="third")
            w.d.ctl("down", "ollama:scripted:3")
            before = len(w.calls("create"))
            w.c.fault("bad_parameter", on="create", times=1)
            w.c.stock("5090-p", 1)
            said = w.d.ctl("up", MODEL, "--on", "third", "--or", "first,second")
            self.assertRegex(said.stdout, "ready")
            self.assertEqual([e["code"] for e in w.calls("create")[before:]], ["RequestParameterIsWrong", "InternalError", "Success"])
            self.assertEqual((self.turns(w), w.most_at_once()), (["first", "second"], 1))

    def test_it_names_what_is_first(self):
        with World(NEVER) as w:
            self.two(w)
            said = w.d.ctl("up", MODEL, "--or", "second", check=False)
            self.assertEqual(said.returncode, 2, said.stderr)
            self.assertIn("--or says what is tried after one instance", said.stderr)
            self.assertEqual(w.d.ctl("up", MODEL, "--on", "first", "--or", "nowhere", check=False).returncode, 4)
            self.assertEqual((self.places(w), w.paid()), ({}, []))

    def test_one_that_is_off_and_has_no_card_any_more(self):
        with World(NEVER) as w:
            w.up(on="mine")
            w.down()
            w.c.stock("4090D", 0)
            said = w.d.ctl("up", MODEL, "--gpu", "4090D,5090")
            self.assertRegex(said.stdout, "ready")
            self.assertEqual([e["code"] for e in w.calls("power_on")], ["InternalError"], "that one first")
            self.assertEqual([e["code"] for e in w.calls("create")], ["Success", "InternalError", "Success"], "then card by card")
            self.assertEqual((w.state("mine"), len(w.machines()), len(w.paid()), w.most_at_once()), ("stopped", 2, 1, 1))
