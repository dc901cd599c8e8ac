"""Two hundred requests that wait for one model: half of them leave, the daemon ends in the middle, the engine fails. Who stays gets
exactly one answer, and one load serves them all. And applications that leave a real ollama in the middle of an answer, again
and again: it answers the next one, if need be after the daemon has had the model unloaded.

$LEAVES: how many leave (60; `tests/run heartbeats`: 200); $SEED repeats a run."""
import json
import os
import random
import resource
import select
import socket
import time

import host as hosts
import models
import road
from road import DEEPSEEK, ID
from test_manners import resident_bytes

LIMIT_S = 300
MODEL, NAME = "scripted:latest", "ollama:scripted:latest"
WAITERS = 200
LEAVES = int(os.environ.get("LEAVES") or 60)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
LOAD = "/root/load.json"                        # what the scripted engine does when it is to load
HELD_BYTES_MAX = 64 << 10


class Waiter:
    """One request on a connection of its own; all bytes that come are kept."""

    def __init__(self, d, number, stream):
        body = json.dumps({"model": MODEL, "stream": stream, "n": number, "script": {"chunks": 3, "bytes": 40}}).encode()
        self.stream, self.got, self.ended = stream, b"", False
        self.socket = socket.create_connection(("127.0.0.1", d.port), 20)
        self.socket.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.socket.setblocking(False)

    def fileno(self):
        return self.socket.fileno()

    def leave(self):
        self.socket.close()
        self.ended = True

    def take(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self.got += data
        if not data:
            self.leave()

    def is_whole(self):
        head, _, body = self.got.partition(b"\r\n\r\n")
        if b"chunked" in head:
            return body.endswith(b"0\r\n\r\n")
        length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        return bool(length) and len(body) >= int(length[0].split(b":")[1])

    def status(self):
        return int(self.got.split(b" ", 2)[1])


def streams_begin(waiters, limit_s=20):
    """Until each stream has its 200: what fails from now on is told in it."""
    due, left = time.monotonic() + limit_s, [w for w in waiters if w.stream]
    while left and time.monotonic() < due:
        for w in select.select(left, [], [], 1)[0]:
            w.take()
        left = [w for w in left if not w.got]
    assert not left, f"{len(left)} streams without a head"


def all_take(waiters, limit_s=60):
    """Reads until each has a whole answer or an end, and a moment more, in case one gets a second."""
    due, left = time.monotonic() + limit_s, waiters
    while left and time.monotonic() < due:
        for w in select.select(left, [], [], 1)[0]:
            w.take()
        left = [w for w in left if not w.ended and not w.is_whole()]
    time.sleep(0.5)
    for w in waiters:
        if not w.ended:
            w.take()
    return left


class Crowd(road.Road):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def load_does(self, h, **what):
        h.put(LOAD, json.dumps(what).encode())

    def crowd(self, d, h):
        """All of them, held, and what the daemon grew by for each."""
        self.load_does(h, wait=True)
        d.ctl("up", NAME, "--no-wait")
        self.wait_state(d, "loading", NAME)
        before = resident_bytes(d)
        waiters = [Waiter(d, n, stream=n % 2 == 0) for n in range(WAITERS)]
        self.addCleanup(lambda: [w.leave() for w in waiters])
        hosts.until(lambda: d.model(NAME)["held"] == WAITERS, 30, "all are held")
        return waiters, (resident_bytes(d) - before) / WAITERS

    def one_answer_each(self, waiters, left):
        self.assertEqual([w.got for w in left], [], "no answer")
        self.assertEqual([w.got for w in waiters if w.got.count(b"HTTP/1.1 ") != 1], [], "more than one")

    def test_half_of_them_leave(self):
        with self.road(engines=["scripted"]) as (d, h):
            waiters, each = self.crowd(d, h)
            print(f"{each / 1024:.1f} KiB for each held request (sanitizers included)")
            self.assertLess(each, 2 * HELD_BYTES_MAX, "twice, for the sanitizers")
            gone = set(random.Random(SEED).sample(range(WAITERS), WAITERS // 2))
            for n in gone:
                waiters[n].leave()
            hosts.until(lambda: d.model(NAME)["held"] == WAITERS - len(gone), 20, "half are held")
            self.load_does(h)
            stayed = [w for n, w in enumerate(waiters) if n not in gone]
            self.one_answer_each(stayed, all_take(stayed))
            self.assertEqual({w.status() for w in stayed}, {200})
            asked = json.loads(road.beside(h, "/_asked", model=NAME, method="GET")[2])
            self.assertEqual(len([a for a in asked if a["path"] == "/v1/chat/completions"]), len(stayed))
            self.assertEqual(len([a for a in asked if a["path"] == "/api/generate"]), 1, "one wake for all")
            hosts.until(lambda: d.model(NAME)["in_flight"] == 0 and d.model(NAME)["held"] == 0, 10, "nobody is left")

    def test_daemon_ends_in_the_middle(self):
        with self.road(engines=["scripted"]) as (d, h):
            waiters, _ = self.crowd(d, h)
            streams_begin(waiters)
            d.stop()
            self.one_answer_each(waiters, [w for w in all_take(waiters) if not w.ended])
            for w in waiters:
                self.assertEqual(w.status(), 200 if w.stream else 503, w.got)
                self.assertIn(b"shutting_down", w.got)
                self.assertEqual(w.got.count(b'{"error":'), 1, w.got)

    def test_engine_fails(self):
        with self.road(engines=["scripted"]) as (d, h):
            waiters, _ = self.crowd(d, h)
            streams_begin(waiters)
            self.load_does(h, error="cudaMalloc failed: out of memory")
            self.one_answer_each(waiters, all_take(waiters))
            for w in waiters:
                self.assertEqual(w.status(), 200 if w.stream else 503, w.got)
                self.assertEqual(w.got.count(b'{"error":'), 1, w.got)
                self.assertIn(b"out_of_memory", w.got)


class Leavers(road.Road):
    gguf = {"count": 9, "loop": True, "pad_bytes": 1 << 20}     # answers that last longer than anybody stays

    def leave_one(self, d, moment_s, begun):
        """Goes a moment after it asked, or after the first byte of its answer."""
        body = json.dumps({"model": ID, "messages": road.QUESTION, "stream": True, "max_tokens": 2000}).encode()
        with socket.create_connection(("127.0.0.1", d.port), 90) as s:
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            if begun:
                self.assertTrue(s.recv(1), "it answers")
            time.sleep(moment_s)

    def leave_often(self, engine):
        draw = random.Random(SEED)
        with self.road(engines=[engine]) as (d, _):
            d.ctl("up", DEEPSEEK)
            started = time.monotonic()
            for n in range(LEAVES):
                with self.subTest(seed=SEED, n=n):
                    self.leave_one(d, draw.uniform(0, 0.3), begun=draw.random() < 0.7)
            said = d.post("/v1/chat/completions", {"model": ID, "messages": road.QUESTION, "max_tokens": 9, "temperature": 0}, timeout_s=120)
            self.assertEqual((said.status, road.text_of(said)), (200, models.answer(9)), said.text)
            print(f"{engine}: {LEAVES} left in {time.monotonic() - started:.0f} s; "
                  f"{d.log().count('unloading the model')} times it was stuck")

    def test_first_generation(self):
        self.leave_often("ollama-0.11.4")

    def test_second_generation(self):
        self.leave_often("ollama-0.32.15")
