"""Models that nobody uses sleep, and requests wake them; with real engines, and in a race with a scripted one.

$RACES: how often a request comes in the very moment of going to sleep (100)."""
import concurrent.futures
import json
import os
import random
import re
import threading
import time

import daemon as daemons
import host as hosts
import models
import road
from road import DEEPSEEK, ID

LIMIT_S = 360
RACES = int(os.environ.get("RACES") or 100)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
LLAMACPP = "llama.cpp:" + road.GGUF
SOON = {"idle": {"unload": "2s", "min_up": "0s"}}
SCRIPTED = "ollama:scripted"
ASLEEP_S = 12


class Sleep(road.Road):
    def asleep(self, d, name=DEEPSEEK, limit_s=ASLEEP_S):
        self.wait_state(d, "asleep", name, limit_s)

    def loaded(self, h):
        """What ollama has in memory; nothing: also when its server does not run."""
        if not h.pids("ollama serve"):
            return []
        status, _, body = road.beside(h, "/api/ps", method="GET")
        return [m["name"] for m in json.loads(body)["models"]] if status == 200 else []

    def stream(self, d, name, **script):
        c = d.connect(timeout_s=60)
        c.request("POST", "/v1/chat/completions", json.dumps({"model": name, "stream": True, "script": script}),
                  {"Content-Type": "application/json"})
        return c.getresponse()

    def test_idle_model_of_ollama_sleeps_is_seen_asleep_and_wakes_by_a_request(self):
        with self.road(sections=SOON) as (d, h):
            d.ctl("up", DEEPSEEK)
            self.assertIn(ID, self.loaded(h))
            self.assertEqual(d.model(DEEPSEEK)["next"]["action"], "unload")
            self.asleep(d)
            self.assertEqual(self.loaded(h), [])
            self.assertEqual(d.get("/api/ps").json()["models"], [])
            self.assertIn(ID, [m["name"] for m in d.get("/api/tags").json()["models"]])
            self.assertIn(ID, [m["id"] for m in d.get("/v1/models").json()["data"]])
            for look in ("/api/tags", "/api/ps", "/v1/models", "/api/version", "/health"):
                d.get(look)
            d.post("/api/show", {"model": ID})
            self.assertEqual(self.state(d), "asleep", "looking wakes nobody")
            self.assertRegex(d.ctl("status").stdout, rf"{re.escape(DEEPSEEK)} +asleep +0 +wakes (in ~|at a request)")
            self.assertRegex(d.ctl("why", DEEPSEEK).stdout, r"ASLEEP +idle for \ds \d+s ago; wakes at a request")
            self.assertRegex(d.ctl("wait", DEEPSEEK).stdout, "is asleep; a request wakes it")
            self.assertEqual(d.ctl("status", DEEPSEEK, check=0).returncode, 0, "a model that is asleep is healthy")

            self.assertEqual(road.text_of(self.chat(d)), models.answer())
            self.assertEqual(self.state(d), "ready")
            self.asleep(d)

    def test_own_server_of_a_model_ends_and_begins_anew(self):
        with self.road(engines=["llama-server"], sections=SOON) as (d, h):
            self.give_model(h)
            d.ctl("up", LLAMACPP)
            name = d.model(LLAMACPP)["id"]
            self.asleep(d, LLAMACPP)
            self.assertEqual(h.pids("llama-server"), [])
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda _: road.text_of(self.chat(d, name)), range(8)))
            self.assertEqual(answers, [models.answer()] * 8)
            self.assertEqual(len(h.pids("llama-server")), 1, "one wake for all")

    def test_open_stream_keeps_it_awake_and_those_who_only_look_do_not(self):
        with self.road(engines=["scripted"], sections=SOON) as (d, _):
            d.ctl("up", SCRIPTED)
            over = threading.Event()

            def poll():
                while not over.wait(0.3):
                    for path in ("/api/tags", "/api/ps", "/api/version", "/v1/models", "/health", "/metrics", "/"):
                        d.get(path)
                    d.post("/api/show", {"model": "scripted"})
            threading.Thread(target=poll, daemon=True).start()
            try:
                answer = self.stream(d, "scripted", chunks=14, gap_ms=500)
                body = answer.read()
                self.assertEqual(body.count(b"data: "), 14)
                self.assertEqual(self.state(d, SCRIPTED), "ready")
                self.assertGreater(self.wait_state(d, "asleep", SCRIPTED, ASLEEP_S), 1, "two seconds from its last byte")
            finally:
                over.set()

    def test_sleep_drains_and_keep_holds(self):
        with self.road(engines=["scripted"], sections=SOON) as (d, _):
            d.ctl("up", SCRIPTED)
            answer = self.stream(d, "scripted", chunks=6, gap_ms=300)
            done = d.ctl("sleep", SCRIPTED)
            self.assertIn("is asleep", done.stdout)
            self.assertEqual(answer.read().count(b"data: "), 6, "it was waited for")
            self.assertEqual(self.state(d, SCRIPTED), "asleep")

            d.ctl("keep", SCRIPTED, "1h")
            self.wait_state(d, "ready", SCRIPTED)
            time.sleep(4)
            self.assertEqual((self.state(d, SCRIPTED), d.model(SCRIPTED)["goal"]), ("ready", "on"))
            self.assertRegex(d.ctl("why", SCRIPTED).stdout, r"kept for 59m")
            d.restart(hard=True)
            self.wait_state(d, "ready", SCRIPTED)
            self.assertEqual(d.model(SCRIPTED)["goal"], "on")
            self.assertIn("sleeps again", d.ctl("keep", SCRIPTED, "--off").stdout)
            self.asleep(d, SCRIPTED)

            d.ctl("keep", SCRIPTED, "2s")
            self.wait_state(d, "ready", SCRIPTED)
            self.asleep(d, SCRIPTED)
            d.ctl("keep", SCRIPTED, check=2)
            d.ctl("keep", SCRIPTED, "soon", check=2)
            d.ctl("keep", SCRIPTED, "2h", "--off", check=2)
            d.ctl("keep", "ollama:nobody", "2h", check=4)

    def test_sleep_on_the_way_up_and_the_end_of_a_keep(self):
        with self.road(engines=["scripted"]) as (d, _):
            for _ in range(5):
                d.ctl("up", SCRIPTED, "--no-wait")
                d.ctl("sleep", SCRIPTED, "--now")
                self.assertEqual(self.state(d, SCRIPTED), "asleep")
                d.ctl("keep", SCRIPTED, "--off")
                self.assertEqual(self.state(d, SCRIPTED), "asleep", "the end of a keep wakes nobody")
                self.assertEqual([self.chat(d, "scripted").status for _ in range(2)], [200, 200])
            self.assertNotIn("woken soon", d.ctl("why", SCRIPTED).stdout, "by hand is no flapping")
            d.ctl("down", SCRIPTED)
            self.assertIn("is off", d.ctl("keep", SCRIPTED, "1h", check=3).stderr)
            self.assertEqual(self.state(d, SCRIPTED), "off")

    def test_cut_ends_streams_with_an_error(self):
        with self.road(engines=["scripted"]) as (d, _):
            d.ctl("up", SCRIPTED)
            answer = self.stream(d, "scripted", chunks=1000, gap_ms=100)
            answer.read(40)
            d.ctl("sleep", SCRIPTED, "--now")
            self.assertIn(b'"error"', answer.read())
            self.assertEqual(self.state(d, SCRIPTED), "asleep")

    def test_it_sleeps_over_a_restart_and_is_not_woken_by_it(self):
        with self.road(sections=SOON) as (d, h):
            d.ctl("up", DEEPSEEK)
            self.asleep(d)
            since = d.model(DEEPSEEK)["since_at_ms"]
            for hard in (False, True):
                d.restart(hard=hard)
                d.wait_tunnel("gpu1", "up")
                time.sleep(1)
                self.assertEqual((self.state(d), d.model(DEEPSEEK)["since_at_ms"]), ("asleep", since))
            self.assertEqual(self.loaded(h), [])
            self.assertEqual(road.text_of(self.chat(d)), models.answer())
            d.ctl("sleep", DEEPSEEK)
            d.ctl("down", DEEPSEEK)
            self.assertEqual(self.state(d), "off")
            self.assertEqual(h.pids("ollama serve"), [])
            self.assertIn("is off", d.ctl("sleep", DEEPSEEK, check=3).stderr)

    def test_sleep_that_was_asked_for_behind_a_cut_is_not_forgotten(self):
        with self.road(sections={"idle": {"unload": "0"}}) as (d, h):
            d.ctl("up", DEEPSEEK)
            self.assertIn("stays up", d.ctl("status").stdout)
            h.fault("blackhole")
            d.wait_tunnel("gpu1", "down", 15)
            d.ctl("sleep", DEEPSEEK, "--timeout", "1s", check=7)
            d.kill()
            h.heal()
            d.start()
            self.asleep(d)
            self.assertEqual(self.loaded(h), [])

    def test_ollama_stop_is_sleep_and_wakes_nobody(self):
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            for _ in range(2):
                answer = d.post("/api/generate", {"model": ID, "keep_alive": 0})
                self.assertEqual((answer.status, answer.json()["done_reason"]), (200, "unload"))
                self.asleep(d)
                self.assertEqual(self.loaded(h), [])

    def test_keep_alive_of_a_request_does_not_fight(self):
        """ollama's own timer, which a request sets, ends before ours: it sleeps, nobody calls that a crash."""
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            for _ in range(2):
                answer = d.post("/api/generate", {"model": ID, "prompt": "count", "stream": False, "keep_alive": "1s"})
                self.assertEqual(answer.status, 200, answer.text)
                self.asleep(d, limit_s=30)
                self.assertNotIn("crash", d.ctl("why", DEEPSEEK).stdout)
            self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_keep_alive_of_a_request_does_not_end_a_keep(self):
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            d.ctl("keep", DEEPSEEK, "1h")
            answer = d.post("/api/generate", {"model": ID, "prompt": "count", "stream": False, "keep_alive": "1s"})
            self.assertEqual(answer.status, 200, answer.text)
            hosts.until(lambda: self.loaded(h) == [], 10, "ollama's own timer")
            hosts.until(lambda: self.loaded(h) == [ID] and self.state(d) == "ready", 30, "it is kept all the same")
            self.assertEqual(d.model(DEEPSEEK)["goal"], "on")

    def test_waking_soon_after_is_noticed_and_it_sleeps_later(self):
        with self.road(engines=["scripted"], sections=SOON) as (d, _):
            d.ctl("up", SCRIPTED)
            self.asleep(d, SCRIPTED)
            self.chat(d, "scripted")
            self.assertRegex(d.ctl("why", SCRIPTED).stdout, r"woken soon after it slept, 1 time: sleeps only after 4s")
            self.assertGreater(self.wait_state(d, "asleep", SCRIPTED, ASLEEP_S), 3)

    def test_request_in_the_moment_of_going_to_sleep_is_answered(self):
        dice = random.Random(SEED)
        with self.road(engines=["scripted"]) as (d, h), concurrent.futures.ThreadPoolExecutor(2) as pool:
            d.ctl("up", SCRIPTED)

            def put_to_sleep(after_s):
                time.sleep(after_s)
                with d.varlink() as v:
                    v.send("Sleep", {"target": SCRIPTED})
                    return v.receive()

            for n in range(RACES):
                sleeper = pool.submit(put_to_sleep, dice.uniform(0, 0.02))
                time.sleep(dice.uniform(0, 0.02))
                answer = self.chat(d, "scripted", timeout_s=20)
                self.assertEqual(answer.status, 200, f"race {n}, SEED={SEED}: {answer.text}")
                sleeper.result()
            self.assertEqual(len(h.pids("ollama serve")), 1 if self.state(d, SCRIPTED) == "ready" else 0)
