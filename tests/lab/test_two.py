"""One name on two machines: what has not begun is answered by the other one, what has begun is never begun again, and of two that
sleep one is woken. Each request is told apart by the hash of its body, which the scripted engine writes down."""
import contextlib
import hashlib
import json
import os
import signal
import socket
import threading
import time

import daemon as daemons
import host as hosts
import road
import test_crowd
from test_crowd import LOAD, MODEL, NAME, all_take

LIMIT_S = 240
HELD, RUNNING = 20, 20


class Asker(test_crowd.Waiter):
    """One request on a connection of its own."""
    numbers = iter(range(10**9))

    def __init__(self, d, stream=False, **script):
        body = json.dumps({"model": MODEL, "stream": stream, "n": next(self.numbers), "script": {"chunks": 3, "bytes": 40, **script}}).encode()
        self.hash, self.stream, self.got, self.ended = hashlib.sha256(body).hexdigest(), stream, b"", False
        self.socket = socket.create_connection(("127.0.0.1", d.port), 20)
        self.socket.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.socket.setblocking(False)


class Two(road.Road):
    @contextlib.contextmanager
    def two(self):
        with self.host("gpu1", ("scripted",)) as a, self.host("gpu2", ("scripted",)) as b, daemons.Daemon() as d:
            for h in (a, b):
                d.ctl("instance", "add", h.name, h.ssh_command, password=h.password)
            yield d, a, b

    def load_does(self, h, **what):
        h.put(LOAD, json.dumps(what).encode())

    def models(self, d):
        return {m["instance"]: m for m in d.call("Status", targets=[NAME])["models"]}

    def until(self, d, limit_s=20, **states):
        def there():
            found = {n: m["state"] for n, m in self.models(d).items()}
            return all(found[n] == s for n, s in states.items())
        hosts.until(there, limit_s, str(states))

    def held(self, d):
        return {n: m["held"] for n, m in self.models(d).items()}

    def asked(self, h):
        return json.loads(road.beside(h, "/_asked", model=NAME, method="GET")[2])

    def hashes(self, h):
        return [a["sha256"] for a in self.asked(h) if a["path"] == "/v1/chat/completions"]

    def loads(self, h):
        return sum(a["path"] == "/api/generate" for a in self.asked(h))

    def ask(self, d, count, **script):
        askers = [Asker(d, stream=n % 2 == 0, **script) for n in range(count)]
        self.addCleanup(lambda: [a.leave() for a in askers])
        return askers

    def answered_once_by(self, askers, h):
        """Each has one whole answer, 200, and each went once to that machine."""
        self.assertEqual([a.got for a in all_take(askers)], [], "no answer")
        for a in askers:
            self.assertEqual((a.got.count(b"HTTP/1.1 "), a.status()), (1, 200), a.got)
            self.assertNotIn(b'"error"', a.got)
        there = self.hashes(h)
        self.assertEqual([there.count(a.hash) for a in askers], [1] * len(askers))

    def quiet(self, d):
        hosts.until(lambda: all(m["held"] == m["in_flight"] == 0 for m in self.models(d).values()), 10, "nobody is left")

    # -----------------------------------------------------------------------------------------------------------------

    def test_a_machine_dies_with_requests_held_and_running(self):
        with self.two() as (d, a, b):
            d.ctl("up", NAME, "--on", "gpu1")
            streams = [Asker(d, stream=True, chunks=1000, gap_ms=100) for _ in range(RUNNING // 2)]
            running = streams + [Asker(d, delay_ms=60_000) for _ in range(RUNNING // 2)]
            self.addCleanup(lambda: [r.leave() for r in running])
            test_crowd.streams_begin(streams)
            hosts.until(lambda: self.models(d)["gpu1"]["in_flight"] == RUNNING, 10, "they run")
            d.ctl("sleep", NAME, "--timeout=1s", check=7)       # it waits for them
            self.until(d, gpu1="draining")
            held = self.ask(d, HELD)
            hosts.until(lambda: self.held(d)["gpu1"] == HELD, 10, "held for the one that drains")
            self.load_does(b, wait=True)
            d.ctl("up", NAME, "--on", "gpu2", "--no-wait")
            self.until(d, gpu2="loading")
            self.assertEqual(self.held(d)["gpu1"], HELD)
            a.down()
            hosts.until(lambda: self.held(d) == {"gpu1": 0, "gpu2": HELD}, 20, "they have moved")
            all_take(running, 20)
            for r in running:
                self.assertEqual((r.got.count(b"HTTP/1.1 "), r.got.count(b'{"error":')), (1, 1), r.got[-400:])
            self.load_does(b)
            self.answered_once_by(held, b)
            there = self.hashes(b)
            self.assertEqual([r.hash for r in running if r.hash in there], [], "what ran is not begun again")
            self.assertEqual(self.models(d)["gpu2"]["requests"], HELD)
            self.quiet(d)
            moved = [line for line in d.ctl("logs", "--source=request", "-n", "500").stdout.splitlines() if "goes to gpu2" in line]
            self.assertEqual(len(moved), HELD)

    def test_one_is_switched_off_while_requests_wait_for_its_load(self):
        with self.two() as (d, a, b):
            for h in (a, b):
                self.load_does(h, wait=True)
            d.ctl("up", NAME, "--on", "gpu1,gpu2", "--no-wait")
            self.until(d, gpu1="loading", gpu2="loading")
            askers = self.ask(d, HELD)
            hosts.until(lambda: sum(self.held(d).values()) == HELD, 10, "held")
            self.assertGreater(min(self.held(d).values()), 0, "for both")
            d.ctl("down", NAME, "--on", "gpu1")
            self.assertEqual(self.held(d), {"gpu1": 0, "gpu2": HELD})
            self.load_does(b)
            self.answered_once_by(askers, b)
            self.assertEqual({n: m["requests"] for n, m in self.models(d).items()}, {"gpu1": 0, "gpu2": HELD})
            self.quiet(d)

    def test_the_first_that_is_ready_answers_and_a_failure_of_the_other_is_nobodys(self):
        with self.two() as (d, a, b):
            for h in (a, b):
                self.load_does(h, wait=True)
            d.ctl("up", NAME, "--on", "gpu1,gpu2", "--no-wait")
            self.until(d, gpu1="loading", gpu2="loading")
            askers = self.ask(d, HELD)
            hosts.until(lambda: sum(self.held(d).values()) == HELD, 10, "held")
            self.load_does(a, error="cudaMalloc failed: out of memory")
            self.until(d, gpu1="failed")
            self.assertEqual(self.held(d), {"gpu1": 0, "gpu2": HELD})
            self.load_does(b)
            self.answered_once_by(askers, b)

    def test_one_sleeps_and_one_is_ready(self):
        with self.two() as (d, a, b):
            d.ctl("up", NAME, "--on", "gpu1,gpu2")
            self.assertIn("asleep", d.ctl("sleep", NAME, "--on", "gpu2").stdout)
            self.until(d, gpu1="ready", gpu2="asleep")
            self.answered_once_by(self.ask(d, 6), a)
            self.until(d, gpu2="asleep")
            a.down()
            d.wait_tunnel("gpu1", "down")
            self.answered_once_by(self.ask(d, 6), b)
            self.quiet(d)

    def test_of_two_that_sleep_one_is_woken(self):
        with self.two() as (d, a, b):
            d.ctl("up", NAME, "--on", "gpu1,gpu2")
            d.ctl("sleep", NAME)
            self.until(d, gpu1="asleep", gpu2="asleep")
            askers = self.ask(d, HELD)
            self.assertEqual([w.got for w in all_take(askers)], [])
            self.assertEqual({w.status() for w in askers}, {200})
            states = sorted(m["state"] for m in self.models(d).values())
            self.assertEqual(states, ["asleep", "ready"])
            self.assertEqual(sorted(m["requests"] for m in self.models(d).values()), [0, HELD])

    def test_under_load_nobody_is_refused_when_one_dies_and_comes_back(self):
        with self.two() as (d, a, b):
            d.ctl("up", NAME, "--on", "gpu1,gpu2")
            end, answers = threading.Event(), []

            def ask():
                while not end.is_set():
                    body = {"model": MODEL, "n": next(Asker.numbers), "script": {"chunks": 1, "bytes": 40, "delay_ms": 20}}
                    said = d.post("/v1/chat/completions", body)
                    answers.append((said.status, said.text))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for t in threads:
                t.start()
            try:
                time.sleep(1)
                engine = a.pids("ollama serve")[0].outer_pid
                os.kill(engine, signal.SIGKILL)
                time.sleep(2)
                b.down()
                d.wait_tunnel("gpu2", "down")
                time.sleep(1)
                b.up()
                self.until(d, 40, gpu1="ready", gpu2="ready")
                time.sleep(0.5)
            finally:
                end.set()
                for t in threads:
                    t.join(60)
            self.assertEqual({status for status, _ in answers} - {200, 502}, set(), [s for s in answers if s[0] not in (200, 502)][:3])
            lost = [text for status, text in answers if status == 502]
            print(f"{len(answers)} requests, {len(lost)} were told that they were lost")
            self.assertLessEqual(len(lost), 16, "only what ran there in the two moments")
            for text in lost:
                self.assertTrue("engine_lost" in text or "tunnel_lost" in text, text)
            self.quiet(d)

    def test_up_tells_of_both(self):
        with self.two() as (d, a, b):
            said = d.ctl("up", NAME, "--on", "gpu1,gpu2")
            self.assertIn("ready on gpu1, gpu2 in ", said.stdout)
            for name in ("gpu1", "gpu2"):
                self.assertIn(f"llmhostctl: {NAME} on {name}: load", said.stderr)
            self.assertIn("already ready on gpu1, gpu2", d.ctl("up", NAME, "--on", "gpu1,gpu2").stdout)
            d.ctl("down", NAME)
            self.assertEqual({m["state"] for m in self.models(d).values()}, {"off"})
            self.load_does(b, error="cudaMalloc failed: out of memory")
            failed = d.ctl("up", NAME, "--on", "gpu1,gpu2", check=13, json=True)["error"]
            self.assertEqual((failed["code"], failed["message"]), ("out_of_memory", f"{NAME} is ready on gpu1, but not on gpu2"))
            self.assertIn("gpu2: ", failed["why"])
            self.assertEqual(self.chat(d, MODEL).status, 200)
            d.ctl("up", NAME, "--on", "gpu1,gpu3", check=4)
            d.ctl("keep", NAME, "5m")
            self.assertEqual(self.models(d)["gpu1"]["goal"], "on")
