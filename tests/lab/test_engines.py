"""up, an answer, down, with every engine there is a real one of: both generations of ollama, and llama-server."""
import os
import re
import time

import models
import road
from road import DEEPSEEK, QUESTION, SEEDED

LIMIT_S = 300


class Way:
    """up, an answer, down: for every engine that is found on a host."""
    engine, model, process = None, DEEPSEEK, None
    gguf = {"pad_bytes": 2 << 20}

    def prepare(self, h):
        pass

    def the_road(self):
        return self.road(engines=[self.engine])

    def test_up_answers_and_down_leaves_nothing(self):
        with self.the_road() as (d, h):
            self.prepare(h)
            done = d.ctl("up", self.model)
            self.assertRegex(done.stdout + done.stderr, r"ready in [\d.]+ ?m?s")
            self.assertIn(f"http://127.0.0.1:{d.port}", done.stdout + done.stderr)
            shown = d.model(self.model)
            self.assertEqual((shown["state"], shown["goal"], shown["instance"]), ("ready", "on_demand", "gpu1"))
            found = h.pids(self.process)
            self.assertTrue(found, "the engine is in the host's pid namespace")
            self.assertIn(shown["pid"], [p.pid for p in h.pids()])
            answer = self.chat(d, shown["id"])
            self.assertEqual((answer.status, road.text_of(answer)), (200, models.answer()))
            self.assertIn("already ready", d.ctl("up", self.model).stdout)
            self.looks_well(d)

            d.ctl("down", self.model)
            d.ctl("ps", self.model, check=3)
            verdicts = {line["target"]: line["verdict"] for line in d.ctl("why", json=True)["lines"]}
            self.assertEqual(verdicts, {"gpu1": "awake", self.model: "off"})
            self.assertEqual([p for p in h.pids() if re.search("ollama|llama-server", " ".join(p.words))], [])
            started = time.monotonic()
            refused = self.chat(d, shown["id"])
            self.assertEqual(refused.status, 503)
            self.assertEqual(refused.json()["error"]["code"], "stopped_by_user")
            self.assertIn(f"llmhostctl up {self.model}", refused.json()["error"]["message"])
            self.assertLess(time.monotonic() - started, 1)
            self.assertEqual(d.ctl("status", self.model, check=3, json=True)["models"][0]["state"], "off")

    def looks_well(self, d):
        """ps, why and doctor of a model that is ready."""
        self.assertEqual([m["name"] for m in d.ctl("ps", self.model, json=True)["models"]], [self.model])
        self.assertRegex(d.ctl("ps").stdout, rf"{re.escape(self.model)} +gpu1 .* unload in [45]m")
        lines = {line["target"]: line for line in d.ctl("why", json=True)["lines"]}
        self.assertEqual([lines[name]["verdict"] for name in ("gpu1", self.model)], ["awake", "awake"])
        self.assertEqual([c["cause"] for c in lines[self.model]["causes"]][-2:], ["minimum_up", "idle"])
        checks = {c["id"]: c["level"] for c in d.ctl("doctor", "gpu1", json=True)["checks"]}
        self.assertEqual({checks[name] for name in ("ssh.host_key", "ssh.session", "ssh.forwards", "engine.found")}, {"ok"})

    def compare(self, d, h, path, body):
        """Twice directly, so that the engine has seen the prompt, then through us, then directly again."""
        for _ in range(2):
            before = road.beside(h, path, body, self.model)
        through = d.post(path, body)
        after = road.beside(h, path, body, self.model)
        self.assertEqual(road.without_passing(before[2]), road.without_passing(after[2]))
        self.assertEqual((through.status, through.headers["Content-Type"]), after[:2])
        self.assertEqual(road.without_passing(through.body), road.without_passing(after[2]))
        self.assertGreater(len(through.body), 300)

    def questions(self, name):
        for stream in (False, True):
            yield "/v1/chat/completions", dict(SEEDED, model=name, messages=QUESTION, stream=stream)
            yield "/v1/completions", dict(SEEDED, model=name, prompt="count", stream=stream)

    def test_seeded_answer_is_the_direct_one_byte_for_byte(self):
        with self.the_road() as (d, h):
            self.prepare(h)
            d.ctl("up", self.model)
            for path, body in self.questions(d.model(self.model)["id"]):
                with self.subTest(path, stream=body["stream"]):
                    self.compare(d, h, path, body)

    def test_cut_link_stops_answers(self):
        with self.the_road() as (d, h):
            self.prepare(h)
            d.ctl("up", self.model)
            name = d.model(self.model)["id"]
            h.fault("blackhole")
            answer = self.chat(d, name, headers={"X-LLMHost-Max-Wait": "3"})
            self.assertIn(answer.status, (502, 503), answer.text)       # lost on the way, or not sent any more
            self.assertRegex(answer.json()["error"]["message"], "tunnel")
            again = self.chat(d, name, headers={"X-LLMHost-Max-Wait": "1"})
            self.assertEqual(again.status, 503, again.text)
            self.assertIn("Retry-After", again.headers)
            said = road.beside(h, "/v1/chat/completions", {"model": name, "messages": QUESTION}, self.model)
            self.assertIn(models.answer(), said[2].decode())
            h.heal()
            self.assertEqual(road.text_of(self.chat(d, name)), models.answer())

    def test_daemon_that_was_killed_finds_the_engine_again(self):
        with self.the_road() as (d, h):
            self.prepare(h)
            d.ctl("up", self.model)
            before, asked = d.model(self.model), len(self.registry.asked)
            d.kill()
            self.assertIn(before["pid"], [p.pid for p in h.pids()])
            d.start()
            answer = self.chat(d, before["id"])                 # held until it is found
            self.assertEqual(road.text_of(answer), models.answer())
            self.wait_state(d, "ready", self.model)
            self.assertEqual(d.model(self.model)["pid"], before["pid"])
            self.assertEqual(len(self.registry.asked), asked)

    def test_orderly_end_leaves_the_engine_running_as_well(self):
        with self.the_road() as (d, h):
            self.prepare(h)
            d.ctl("up", self.model)
            pid = d.model(self.model)["pid"]
            d.restart()
            d.ctl("wait", self.model, "--timeout", "20s")
            self.assertEqual(d.model(self.model)["pid"], pid)


class Ollama(Way):
    def questions(self, name):
        yield from super().questions(name)
        options = dict(SEEDED)
        for stream in (False, True):
            yield "/api/chat", {"model": name, "messages": QUESTION, "stream": stream, "options": options}
            yield "/api/generate", {"model": name, "prompt": "count", "stream": stream, "options": options}

    def test_pull_tells_how_far_it_is(self):
        size = os.path.getsize(self.dir + "/tiny.gguf")
        with self.the_road() as (d, h):
            self.registry.fault(rate=size // 3)
            seen, stages = [], []
            for reply in d.stream("Up", model=DEEPSEEK):
                p = reply.get("progress")
                if p and (not stages or stages[-1] != (p["stage"], p["state"])):
                    stages.append((p["stage"], p["state"]))
                if p and p["stage"] == "fetch" and p["state"] == "running" and p.get("bytes") is not None:
                    seen.append((p["bytes"], p["bytes_total"]))
            moving = sorted({s for s in seen if 0 < s[0] < s[1]})
            self.assertGreater(len(moving), 2, seen)
            self.assertEqual([s[0] for s in seen], sorted(s[0] for s in seen), "it never goes back")
            self.assertGreaterEqual(moving[0][1], size)
            self.assertEqual([s for s, state in stages if state == "done"], ["ssh", "engine", "fetch", "load"])
            self.assertEqual(reply["model"]["state"], "ready")
            self.assertGreater(reply["took_ms"], 1000)
            self.assertEqual(reply["endpoint"], f"http://127.0.0.1:{d.port}")

    def test_client_shows_the_download(self):
        size = os.path.getsize(self.dir + "/tiny.gguf")
        with self.the_road() as (d, _):
            self.registry.fault(rate=size // 3)
            status, said = d.ctl_on_terminal("up", DEEPSEEK)
            self.assertEqual(status, 0, said)
            shown = [int(n) for n in re.findall(r"fetch .*?\((\d+)%\)", said)]
            self.assertTrue(any(0 < n < 100 for n in shown), said)
            self.assertEqual(shown, sorted(shown))


class OllamaOfTheSecondGeneration(Ollama, road.Road):
    engine, process = "ollama-0.32.15", "llama-server .*sha256-"


class OllamaOfTheFirstGeneration(Ollama, road.Road):
    engine, process = "ollama-0.11.4", "ollama runner"


class LlamaServer(Way, road.Road):
    engine, model, process = "llama-server", "llama.cpp:" + road.GGUF, "llama-server .*tiny.gguf"
    gguf = {}

    def prepare(self, h):
        self.give_model(h)
