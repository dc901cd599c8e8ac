"""Connections cut at random bytes: of large transfers, through the gateway and through a forward, both ways; and of a new
connection, from its first packet to the first answer over it. What came is whole and in order, what was cut says so, nothing is done
twice, and others notice nothing: those of the same machine get the same word, those of another machine go on.

$CUTS: at how many bytes each is cut (5; `tests/run tunnels`: 20). $SEED repeats a run."""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import random
import re
import socket
import struct
import threading
import time

import daemon as daemons
import host as hosts
import road
from test_tunnel import BACK_S, Eye, Stream

LIMIT_S = 240
CUTS = int(os.environ.get("CUTS") or 5)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
SIZE = 10_000_000
SETTLED_S = 1.2             # a tunnel lost sooner than that is tried again more slowly, as it should be
# Port 7000 sends SIZE bytes, 7001 takes as many and says on 7002 how many came in order before the end; 7003 echoes.
SERVER = f"""
import socket, struct, sys, threading
NUMBERS = b"".join(struct.pack(">I", n) for n in range({SIZE} // 4))
took = []
def give(c):
    try: c.sendall(NUMBERS); c.shutdown(socket.SHUT_WR); c.recv(1)
    except OSError: pass
    c.close()
def take(c):
    got, end = b"", "EOF"
    try:
        while data := c.recv(65536): got += data
    except OSError as e: end = type(e).__name__
    took.append(f"{{len(got)}} {{NUMBERS.startswith(got)}} {{end}}")
    c.close()
def tell(c):
    c.sendall("\\n".join(took).encode()); took.clear(); c.close()
def echo(c):
    try:
        while data := c.recv(65536): c.sendall(data)
    except OSError: pass
    c.close()
def serve(port, what):
    s = socket.create_server(("127.0.0.1", port))
    while True: threading.Thread(target=what, args=(s.accept()[0],), daemon=True).start()
for port, what in (7000, give), (7001, take), (7002, tell): threading.Thread(target=serve, args=(port, what), daemon=True).start()
serve(7003, echo)
"""
NUMBERS = b"".join(struct.pack(">I", n) for n in range(SIZE // 4))


def numbers_of(body):
    return [int(x) for x in re.findall(rb"data: (\d+)", body)]


class Echo:
    """A connection through a forward that is never idle, and checks what comes back."""

    def __init__(self, port):
        self.socket, self.end, self.rounds, self.error = socket.create_connection(("127.0.0.1", port), 5), threading.Event(), 0, None
        self.socket.settimeout(BACK_S)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            with self.socket as s:
                while not self.end.wait(0.02):
                    text, got = b"%08d" % self.rounds, b""
                    s.sendall(text)
                    while len(got) < len(text):
                        piece = s.recv(len(text) - len(got))
                        if not piece:
                            raise ConnectionError("an end")
                        got += piece
                    if got != text:
                        raise ValueError(f"{text} came back as {got}")
                    self.rounds += 1
        except Exception as e:
            self.error = e

    def close(self):
        self.end.set()
        self.thread.join(BACK_S)


class Cuts(road.Road):
    PORTS = iter(range(20000, 30000))

    def setUp(self):
        super().setUp()
        print(f"SEED={SEED}, {CUTS} cuts each", flush=True)

    @contextlib.contextmanager
    def machines(self, names):
        """A daemon with these, each with its scripted model and servers; and beside them one that is never cut, with a stream and an
        echo that must not notice anything."""
        with contextlib.ExitStack() as stack:
            d = stack.enter_context(daemons.Daemon())
            found = {n: stack.enter_context(self.host(n, ("scripted",))) for n in (*names, "calm")}
            for n, h in found.items():
                d.ctl("instance", "add", n, h.ssh_command, password=h.password)
                d.ctl("up", f"ollama:scripted:{n}", "--on", n)
                h.start("/usr/bin/python3", "-c", SERVER)
                hosts.until(lambda: "7003" in h.run("ss -Hltn").stdout, 10, "servers over there")
            calm = found.pop("calm")
            echo, stream = Echo(self.forward(d, "calm", 7003)), Stream(d, "scripted:calm", chunks=100_000, gap_ms=20)
            self.assertTrue(stream.begun.wait(10))
            yield d, found
            before = echo.rounds, len(stream.body)
            hosts.until(lambda: echo.rounds > before[0] and len(stream.body) > before[1], 5, "others go on")
            self.assertEqual((echo.error, stream.error), (None, None))
            echo.close()
            stream.wait(0)
            numbers = numbers_of(stream.body)
            self.assertEqual(numbers, list(range(len(numbers))))
            self.assertEqual(d.instance("calm")["tunnel"]["reconnects"], 0)
            self.assertTrue(calm.pid)

    def forward(self, d, name, port):
        local = next(self.PORTS)
        d.ctl("forward", "add", name, f"{local}:127.0.0.1:{port}")
        return local

    def together(self, one, d, found):
        with concurrent.futures.ThreadPoolExecutor(len(found)) as pool:
            done = {n: pool.submit(one, d, n, h) for n, h in found.items()}
        for n in found:
            with self.subTest(n):
                done[n].result()

    # Transfers -------------------------------------------------------------------------------------------------------

    def gateway_down(self, d, name, h, cut):
        chunk = 4000
        stream = Stream(d, "scripted:" + name, chunks=SIZE // chunk, bytes=chunk, gap_ms=0)
        self.assertTrue(stream.wait(30), "the end of the cut stream")
        self.assertIsNone(stream.error)
        if stream.status == 200:
            numbers = numbers_of(stream.body)
            self.assertEqual(numbers, list(range(len(numbers))))
            self.assertLess(len(numbers), SIZE // chunk)
            self.assertNotIn(b"[DONE]", stream.body)
        else:
            self.assertEqual(stream.status, 502)
        self.assertEqual(stream.last()["error"]["code"], "tunnel_lost", stream.body[-300:])

    def gateway_up(self, d, name, h, cut):
        """The engine gets it whole once, or not at all."""
        body = json.dumps({"model": "scripted:" + name, "cut": cut, "pad": "x" * SIZE}).encode()
        answer = d.post("/v1/chat/completions", body)
        self.assertEqual((answer.status, answer.json()["error"]["code"]), (502, "tunnel_lost"), answer.text)
        h.heal()
        hosts.until(lambda: d.tunnel_is(name, "up"), BACK_S, "up again")
        whole = [a for a in self.asked(h) if a["sha256"] == hashlib.sha256(body).hexdigest()]
        self.assertEqual(whole, [], "answered 502, so it must not have been asked")

    def forward_down(self, d, name, h, cut):
        got = b""
        with socket.create_connection(("127.0.0.1", self.down), 5) as s:
            s.settimeout(30)
            with self.assertRaises(ConnectionResetError, msg="a cut must not look like an end"):
                while piece := s.recv(65536):
                    got += piece
        self.assertLess(len(got), SIZE)
        self.assertTrue(NUMBERS.startswith(got), "what came is whole and in order")

    def forward_up(self, d, name, h, cut):
        with socket.create_connection(("127.0.0.1", self.up), 5) as s:
            s.settimeout(30)
            with self.assertRaises(OSError, msg="a cut must not look like an end"):
                s.sendall(NUMBERS)
                s.shutdown(socket.SHUT_WR)
                s.recv(1)
                raise EOFError("an orderly end")
        hosts.until(lambda: d.tunnel_is(name, "up"), BACK_S, "up again")
        hosts.until(lambda: "True" in self.took(d), BACK_S, "the word of the server", 0.1)
        for line in self.told:
            count, in_order, _ = line.split()
            self.assertLess(int(count), SIZE)
            self.assertEqual(in_order, "True", line)

    def took(self, d):
        """What port 7001 says of connections that ended."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.tell), 5) as s:
            s.settimeout(5)
            text = b""
            while piece := s.recv(65536):
                text += piece
            self.told = text.decode().splitlines()
            return text.decode()
        return ""

    def asked(self, h):
        return json.loads(road.beside(h, "/_asked", model="ollama", method="GET")[2])

    def test_large_transfers_cut_anywhere(self):
        ways = {"gw-down": (self.gateway_down, "rst_after"), "gw-up": (self.gateway_up, "rst_after_sent"),
                "fw-down": (self.forward_down, "rst_after"), "fw-up": (self.forward_up, "rst_after_sent")}

        def one(d, name, h):
            way, fault = ways[name]
            dice = random.Random(f"{SEED} {name}")
            for n in range(CUTS):
                eye = Eye(d, name)
                eye.until(lambda t: t["state"] == "up", BACK_S, "up")
                time.sleep(SETTLED_S)
                echo, stream = Echo(echoes[name]), Stream(d, "scripted:" + name, chunks=100_000, gap_ms=20)
                self.assertTrue(stream.begun.wait(10))
                before, offset = eye.look(), dice.randrange(10_000, SIZE * 9 // 10)
                try:
                    h.fault(fault, offset)
                    way(d, name, h, n)
                    self.assertTrue(h.cut.wait(10), "the cut")
                    self.assertTrue(stream.wait(15), "its neighbour is told")
                    self.assertIsNone(stream.error)
                    self.assertEqual(stream.last()["error"]["code"], "tunnel_lost")
                    numbers = numbers_of(stream.body)
                    self.assertEqual(numbers, list(range(len(numbers))))
                    echo.thread.join(BACK_S)
                    self.assertIsInstance(echo.error, OSError, "and so is the forward's")
                    eye.until(lambda t: t["reconnects"] == before["reconnects"] + 1, BACK_S, "one loss, one return")
                except Exception as e:
                    raise AssertionError(f"{name}, cut {n} at byte {offset}: {type(e).__name__} {e}") from e
                finally:
                    echo.close()
                    h.heal()
        with self.machines(ways) as (d, found):
            self.down, self.up = self.forward(d, "fw-down", 7000), self.forward(d, "fw-up", 7001)
            self.tell = self.forward(d, "fw-up", 7002)
            echoes = {n: self.forward(d, n, 7003) for n in ways}
            self.together(one, d, found)

    # A new connection ------------------------------------------------------------------------------------------------

    def measured(self, d, name, h, from_host):
        """How many bytes go one way from the first packet of a new connection to the answer of a first request over it."""
        h.count(from_host)
        h.fault("rst")
        self.assertEqual(d.post("/v1/chat/completions", {"model": "scripted:" + name}).status, 200)
        count = h.counted()[1]
        h.heal()
        return count

    def test_new_connection_cut_anywhere_before_its_first_answer(self):
        """The requests of the outage are answered after it; those the engine may have seen are not asked again."""
        names = {"rst-in": "rst_after", "rst-out": "rst_after_sent", "hole-1": "blackhole_after", "hole-2": "blackhole_after"}

        def one(d, name, h):
            dice, fault = random.Random(f"{SEED} {name}"), names[name]
            eye = Eye(d, name)
            time.sleep(SETTLED_S)
            whole = self.measured(d, name, h, from_host=fault != "rst_after_sent")
            for n in range(CUTS):
                eye.until(lambda t: t["state"] == "up", BACK_S, "up")
                time.sleep(SETTLED_S)
                before, offset = eye.look()["reconnects"], int((n + dice.random()) / CUTS * whole)
                try:
                    h.fault(fault, offset)
                    h.fault("rst")
                    held = [Stream(d, "scripted:" + name, chunks=3, mark=f"{n} {k}") for k in range(3)]
                    if fault == "blackhole_after":
                        time.sleep(dice.uniform(0.5, 3))
                        h.heal()
                    for stream in held:
                        self.assertTrue(stream.wait(BACK_S + 10), "an answer")
                        self.assertIsNone(stream.error)
                        if stream.status == 200 and b"[DONE]" not in stream.body and b"error" in stream.body:
                            self.assertEqual(stream.last()["error"]["code"], "tunnel_lost")
                        elif stream.status == 200:
                            self.assertEqual(numbers_of(stream.body), [0, 1, 2], stream.body)
                        else:
                            self.assertEqual((stream.status, stream.last()["error"]["code"]), (502, "tunnel_lost"))
                    eye.until(lambda t: t["state"] == "up" and t["reconnects"] > before, BACK_S, "back")
                    asked = [a["sha256"] for a in self.asked(h) if a["path"] == "/v1/chat/completions"]
                    for stream in held:
                        times = asked.count(hashlib.sha256(json.dumps(stream.question).encode()).hexdigest())
                        self.assertLessEqual(times, 1, "asked twice")
                        self.assertTrue(times == 1 or stream.status == 502)
                except Exception as e:
                    raise AssertionError(f"{name}, cut {n} at byte {offset} of {whole}: {type(e).__name__} {e}") from e
                finally:
                    h.heal()
        with self.machines(names) as (d, found):
            self.together(one, d, found)
