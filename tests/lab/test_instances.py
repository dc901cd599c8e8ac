"""One model on two machines."""
import contextlib
import threading

import daemon as daemons
import host as hosts
import models
import road
from road import DEEPSEEK

LIMIT_S = 240


class Instances(road.Road):
    @contextlib.contextmanager
    def two(self, **more):
        with self.host("gpu1") as a, self.host("gpu2") as b, daemons.Daemon(**more) as d:
            for h in (a, b):
                d.ctl("instance", "add", h.name, h.ssh_command, password=h.password)
            d.ctl("up", DEEPSEEK, "--on", "gpu1")
            yield d, a, b

    def places(self, d):
        return {m["instance"]: m["state"] for m in d.call("Status")["models"]}

    def counts(self, d):
        return {m["instance"]: m["requests"] for m in d.call("Status")["models"]}

    def test_both_are_kept_and_shown_and_end(self):
        with self.two() as (d, a, b):
            d.ctl("up", DEEPSEEK, "--on", "gpu2")
            self.assertEqual(self.places(d), {"gpu1": "ready", "gpu2": "ready"})
            self.assertTrue(a.pids("ollama") and b.pids("ollama"))
            shown = d.ctl("status", DEEPSEEK).stdout
            self.assertRegex(shown, rf"{DEEPSEEK} +ready .*gpu1\n{DEEPSEEK} +ready .*gpu2\n")
            self.assertIn("already ready on gpu2", d.ctl("up", DEEPSEEK, "--on", "gpu2").stdout)
            self.assertIn("already ready", d.ctl("up", DEEPSEEK).stdout)
            self.assertEqual([m["id"] for m in d.get("/v1/models").json()["data"]], [road.ID])
            self.assertEqual([m["name"] for m in d.get("/api/tags").json()["models"]], [road.ID])
            self.assertEqual([m["name"] for m in d.get("/api/ps").json()["models"]], [road.ID])

            d.restart(hard=True)
            hosts.until(lambda: self.places(d) == {"gpu1": "ready", "gpu2": "ready"}, 20, "both again")
            self.assertIn("gpu1 is off", d.ctl("down", DEEPSEEK, "--on", "gpu1").stdout)
            self.assertEqual(self.places(d), {"gpu1": "off", "gpu2": "ready"})
            self.assertEqual(a.pids("ollama"), [])
            self.assertEqual(road.text_of(self.chat(d)), models.answer())
            d.ctl("down", DEEPSEEK, "--on", "gpu1", "--forget")
            self.assertEqual(self.places(d), {"gpu2": "ready"})
            d.ctl("down", DEEPSEEK, "--on", "gpu1", check=4)
            d.ctl("up", DEEPSEEK, "--on", "gpu1")
            d.ctl("down", DEEPSEEK)
            self.assertEqual(self.places(d), {"gpu1": "off", "gpu2": "off"})
            self.assertEqual(a.pids("ollama") + b.pids("ollama"), [])
            self.assertEqual(d.ctl("up", DEEPSEEK, check=2, json=True)["error"]["code"], "which_instance")

    def test_new_requests_go_to_the_other_when_one_dies(self):
        with self.two() as (d, a, b):
            d.ctl("up", DEEPSEEK, "--on", "gpu2")
            a.down()
            d.wait_tunnel("gpu1", "down")
            for _ in range(3):
                self.assertEqual(road.text_of(self.chat(d, headers={"X-LLMHost-Max-Wait": "5"})), models.answer())
            self.assertEqual(self.counts(d)["gpu2"], 3)
            a.up()
            d.wait_tunnel("gpu1", "up")
            self.wait_ready(d, "gpu1")
            b.down()
            d.wait_tunnel("gpu2", "down")
            self.assertEqual(road.text_of(self.chat(d)), models.answer())
            self.assertEqual(self.counts(d)["gpu2"], 3)

    def wait_ready(self, d, name):
        hosts.until(lambda: self.places(d)[name] == "ready", 40, f"ready on {name}, not {self.places(d)}")

    def test_requests_are_spread_over_both(self):
        with self.two() as (d, a, b):
            d.ctl("up", DEEPSEEK, "--on", "gpu2")
            wrong = []

            def ask():
                for _ in range(5):
                    said = self.chat(d)
                    if said.status != 200 or road.text_of(said) != models.answer():
                        wrong.append(said.text)

            threads = [threading.Thread(target=ask) for _ in range(6)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(60)
            self.assertEqual(wrong, [])
            counts = self.counts(d)
            self.assertEqual(sum(counts.values()), 30)
            self.assertGreater(min(counts.values()), 3, counts)

    def test_one_that_is_off_moves(self):
        with self.two() as (d, a, b):
            d.ctl("down", DEEPSEEK)
            d.ctl("up", DEEPSEEK, "--on", "gpu2")
            self.assertEqual(self.places(d), {"gpu2": "ready"})

    def test_watch_tells_them_apart(self):
        with self.two() as (d, a, b):
            seen = []
            with d.varlink(60) as v:
                v.send("Watch", more=True)
                replies = v.replies()
                next(replies)
                d.ctl("up", DEEPSEEK, "--on", "gpu2", "--no-wait")
                for reply in replies:
                    m = reply.get("model")
                    seen += [(m["instance"], m["state"])] if m else []
                    if ("gpu2", "ready") in seen:
                        break
                d.ctl("down", DEEPSEEK, "--on", "gpu2", "--forget")
                for reply in replies:
                    if reply.get("gone"):
                        self.assertEqual((reply["gone"], reply["gone_on"]), (DEEPSEEK, "gpu2"))
                        break
            self.assertEqual(self.places(d), {"gpu1": "ready"})
