"""Tunnels break in every way there is, idle and with somebody waiting, are noticed in time, and come back.

State comes from Status, times from this clock, both limits from the design: a dead peer is found within 10 s when nobody
waits, within 3 s when somebody does."""
import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import re
import socket
import threading
import time

import daemon as daemons
import host as hosts
import road

LIMIT_S = 240
IDLE_S, WAITER_S = 10, 3
BUSY_S = 0.7                # what the machine itself may take: sanitizers, other tests
BACK_S = 20                 # the longest pause between two tries is 15 s
FAULTS = ("rst", "blackhole", "freeze", "sshd_restart", "linkdown", "refuse")
SILENT = ("blackhole", "freeze", "linkdown")    # no connection ends by these themselves


def begin(h, kind):
    """The fault, and for those that only stop new connections: the end of the open ones too."""
    h.fault(kind)
    if kind == "refuse":
        h.fault("rst")


class Eye:
    """Looks at one instance through a connection of its own, as often as it can."""

    def __init__(self, d, name):
        self.varlink, self.name = d.varlink(), name
        self.before = self.look()

    def look(self):
        self.varlink.send("Status", {"targets": [self.name]})
        return next(self.varlink.replies())["instances"][0]["tunnel"]

    def until(self, true, limit_s, what):
        started = time.monotonic()
        hosts.until(lambda: true(self.look()), limit_s, f"{self.name}: {what}; it is {self.look()}", 0.02)
        return time.monotonic() - started

    def noticed(self, started, limit_s):
        """It is down now, or has been: when, after STARTED."""
        self.until(lambda t: t["state"] != "up" or self.has_been_away(t), limit_s + 5, "noticed")
        return time.monotonic() - started

    def has_been_away(self, t):
        return t.get("last_break") != self.before.get("last_break")

    def back(self):
        return self.until(lambda t: t["state"] == "up" and self.has_been_away(t), BACK_S, "back")


class Knocker:
    """Asks the gateway every few milliseconds whether it is there; counts when it is not."""

    def __init__(self, d):
        self.d, self.end, self.times, self.failures = d, threading.Event(), 0, []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.end.wait(0.05):
            try:
                if self.d.get("/health", timeout_s=5).status not in (200, 503):
                    self.failures.append("another status")
            except OSError as e:
                self.failures.append(repr(e))
            self.times += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(10)


class Stream:
    """A streamed answer of the scripted engine, read by a thread of its own."""

    def __init__(self, d, model, path="/v1/chat/completions", **script):
        self.connection, self.body, self.error, self.begun = d.connect(60), b"", None, threading.Event()
        self.question = {"model": model, "stream": True, "messages": road.QUESTION, "script": script}
        self.path = path
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.connection.request("POST", self.path, json.dumps(self.question), {"Content-Type": "application/json"})
            answer = self.connection.getresponse()
            self.status = answer.status
            while piece := answer.read1(65536):
                self.body += piece
                self.begun.set()
        except Exception as e:
            self.error = e
        self.ended_at = time.monotonic()

    def wait(self, limit_s):
        self.thread.join(limit_s)
        self.connection.close()
        return not self.thread.is_alive()

    def last(self):
        """The last event or line, as the object it holds."""
        text = [line for line in self.body.decode().split("\n") if line][-1]
        return json.loads(text.removeprefix("data: "))


class Tunnels(road.Road):
    @contextlib.contextmanager
    def several(self, names, engines=("scripted",), up=True, **sections):
        """One daemon with a host per name, and on each a model scripted:NAME."""
        with contextlib.ExitStack() as stack:
            d = stack.enter_context(daemons.Daemon(**sections))
            found = {}
            for n in names:
                h = stack.enter_context(self.host(n, engines))
                d.ctl("instance", "add", n, h.ssh_command, password=h.password)
                if up:
                    d.ctl("up", f"ollama:scripted:{n}", "--on", n)
                found[n] = h
            yield d, found

    def together(self, one, d, found):
        with concurrent.futures.ThreadPoolExecutor(len(found)) as pool:
            for kind, problem in pool.map(lambda k: (k, self.protected(one, d, k, found[k])), found):
                with self.subTest(kind):
                    if problem:
                        raise problem

    @staticmethod
    def protected(one, *words):
        try:
            one(*words)
        except Exception as e:
            return e

    NAMES = {kind.replace("_", "-"): kind for kind in FAULTS}
    LONG = {f"{kind}-10": kind for kind in SILENT}

    def test_idle_tunnels_are_noticed_and_come_back(self):
        def one(d, name, h):
            eye = Eye(d, name)
            started = time.monotonic()
            begin(h, self.NAMES[name])
            took = eye.noticed(started, IDLE_S)
            self.assertLess(took, IDLE_S + BUSY_S)
            time.sleep(0.2)                     # some tries in vain
            h.heal()
            eye.back()
            self.assertRegex(eye.look()["last_break"], r"^[\d.]+m?s, ")
        with self.several(self.NAMES, up=False) as (d, found), Knocker(d) as knocker:
            self.together(one, d, found)
            pids = {n: len(h.pids(r"cat")) for n, h in found.items()}
            self.assertTrue(all(n <= 4 for n in pids.values()), f"nothing is left behind over there: {pids}")
        self.assertEqual(knocker.failures, [])
        self.assertGreater(knocker.times, 20)

    def test_tunnels_with_a_waiter_are_noticed_sooner_and_told_in_its_stream(self):
        """Where only silence tells, what was open goes on if it ends within 10 s; requests made meanwhile never wait for that."""
        def one(d, name, h):
            kind = kinds[name]
            model = f"scripted:{name}"
            eye, stream = Eye(d, name), Stream(d, model, chunks=3000, gap_ms=20)
            self.assertTrue(stream.begun.wait(10))
            started = time.monotonic()
            begin(h, kind)
            took = eye.noticed(started, WAITER_S)
            self.assertLess(took, WAITER_S + BUSY_S)
            held = Stream(d, model, chunks=3)
            time.sleep(9 if name in self.LONG else 0.5)
            h.heal()
            eye.back()
            self.assertTrue(held.wait(BACK_S), "the request of the outage is answered after it")
            self.assertEqual((held.error, held.status), (None, 200), held.body)
            self.assertEqual(re.findall(rb"data: (\d+)", held.body), [b"0", b"1", b"2"])
            if name in self.NAMES and kind in SILENT:
                before = len(stream.body)
                hosts.until(lambda: len(stream.body) > before + 1000, IDLE_S, "the stream goes on")
                self.assertIsNone(stream.error)
                numbers = [int(x) for x in re.findall(rb"data: (\d+)\n", stream.body)]
                self.assertEqual(numbers, list(range(len(numbers))), "nothing lost, nothing doubled")
                stream.wait(0)
                return
            self.assertTrue(stream.wait(15), "the broken stream ends")
            self.assertIsNone(stream.error, "and ends in good order")
            self.assertIn("error", stream.last(), stream.body[-300:])
            self.assertLess(stream.ended_at - started, IDLE_S + BUSY_S)
            self.assertNotIn(b"[DONE]", stream.body)
        kinds = {**self.NAMES, **self.LONG}
        with self.several(kinds) as (d, found), Knocker(d) as knocker:
            self.together(one, d, found)
        self.assertEqual(knocker.failures, [])

    def test_many_wait_and_all_are_answered(self):
        with self.several(["many"]) as (d, found):
            h, eye = found["many"], Eye(d, "many")
            begin(h, "refuse")
            eye.noticed(time.monotonic(), IDLE_S)
            waiting = [Stream(d, "scripted:many", ("/v1/chat/completions", "/api/chat")[n % 2], chunks=3) for n in range(40)]
            hosts.until(lambda: d.model("ollama:scripted:many")["held"] == 40, 10, "all of them held")
            self.assertEqual(d.model("ollama:scripted:many")["in_flight"], 0)
            h.heal()
            for stream in waiting:
                self.assertTrue(stream.wait(BACK_S))
                self.assertEqual((stream.error, stream.status), (None, 200), stream.body)
                self.assertEqual(len(re.findall(rb'(?:data: |"n":)\d', stream.body)), 3)
            hosts.until(lambda: d.model("ollama:scripted:many")["held"] == 0, 5, "none held")

    def test_waiting_has_an_end_and_it_is_said_in_the_dialect(self):
        def ask(d, path):
            started = time.monotonic()
            return path, d.post(path, {"model": "scripted:end", "messages": road.QUESTION}), time.monotonic() - started
        with self.several(["end"], gateway={"hold": "4s"}) as (d, found):      # before heartbeats begin
            h, eye = found["end"], Eye(d, "end")
            begin(h, "refuse")
            eye.noticed(time.monotonic(), IDLE_S)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                for path, answer, took in pool.map(lambda p: ask(d, p), ("/v1/chat/completions", "/api/chat")):
                    self.assertEqual((answer.status, answer.headers["x-should-retry"]), (503, "false"))
                    self.assertIn("Retry-After", answer.headers)
                    self.assertTrue(3.9 < took < 6, took)
                    error = answer.json()["error"]
                    self.assertIn("tunnel", error if path == "/api/chat" else error["message"])

    def test_silent_engine_is_not_taken_for_a_dead_peer(self):
        with self.several(["slow"]) as (d, _):
            eye = Eye(d, "slow")
            answer = d.post("/v1/chat/completions", {"model": "scripted:slow", "script": {"delay_ms": 8000}})
            self.assertEqual((answer.status, eye.look()["reconnects"]), (200, 0))

    def test_it_comes_back_again_and_again(self):
        with self.several(["often"]) as (d, found):
            h, eye = found["often"], Eye(d, "often")
            for n in range(1, 6):
                h.fault("rst")
                eye.until(lambda t: t["state"] == "up" and t["reconnects"] >= n, BACK_S, f"back for the {n}. time")
                answer = d.post("/v1/chat/completions", {"model": "scripted:often"})
                self.assertEqual(answer.status, 200, answer.text)

    def test_streams_cut_at_any_byte_say_so(self):
        """Both dialects, at offsets all over the answer; what came before the cut is whole, in order, and nothing else."""
        dice = random.Random(4711)
        offsets = {f"cut{n}": dice.randrange(200, 120_000) for n in range(8)}

        def one(d, name, h):
            path = ("/v1/chat/completions", "/api/chat")[int(name[3:]) % 2]
            h.fault("rst_after", offsets[name])
            stream = Stream(d, "scripted:" + name, path, chunks=2000, bytes=100, gap_ms=1)
            self.assertTrue(h.cut.wait(30), "the cut")
            self.assertTrue(stream.wait(20), "the end")
            self.assertIsNone(stream.error)
            if stream.status == 200:
                numbers = [int(x) for x in re.findall(rb'(?:data: |"n":)(\d+)', stream.body)]
                self.assertEqual(numbers, list(range(len(numbers))))
                self.assertLess(len(numbers), 2000)
            else:
                self.assertEqual(stream.status, 502)
            self.assertIn("error", stream.last(), stream.body[-300:])
        with self.several(offsets) as (d, found):
            self.together(one, d, found)

    def test_unstreamed_answer_is_never_passed_off_as_whole(self):
        with self.several(["whole"]) as (d, found):
            h = found["whole"]
            for offset in (3000, 200_000):
                h.fault("rst_after", offset)
                try:
                    answer = d.post("/v1/chat/completions", {"model": "scripted:whole", "script": {
                        "chunks": 500, "bytes": 1000, "delay_ms": 50}})
                    self.assertEqual(answer.status, 502, answer.text[:200])
                    self.assertIn("error", answer.json())
                except (ConnectionResetError, http.client.IncompleteRead):
                    pass                        # too late to say anything: fewer bytes than were announced
                h.heal()

    def test_link_that_is_slow_and_loses_packets_is_not_dead(self):
        with self.several(["far"]) as (d, found):
            found["far"].fault("delay", "150,30,1")
            eye, due = Eye(d, "far"), time.monotonic() + 12
            while time.monotonic() < due:
                answer = d.post("/v1/chat/completions", {"model": "scripted:far", "script": {"chunks": 5, "gap_ms": 50}})
                self.assertEqual(answer.status, 200)
            self.assertEqual(eye.look()["reconnects"], 0)

    def test_daemon_starts_while_the_host_is_away(self):
        with self.several(["away"]) as (d, found):
            h = found["away"]
            h.fault("blackhole")
            d.restart()
            held = Stream(d, "scripted:away", chunks=2)
            eye = Eye(d, "away")
            eye.until(lambda t: t["tries"] >= 1 and t["state"] in ("connecting", "down"), 20, "tried")
            self.assertFalse(held.wait(1))
            held.connection = d.connect()
            h.heal()
            eye.until(lambda t: t["state"] == "up", BACK_S, "up")
            held.thread.join(BACK_S)
            self.assertEqual((held.error, held.status), (None, 200), held.body)


class HostKeys(road.Road):
    """A host that notes every password it is given: PAM runs a program with it before it is judged."""
    NOTES = "/run/passwords"                    # not on the disk, where tests/secrets.sh would find them

    def taking_notes(self, h):
        pam = h.get("/etc/pam.d/sshd")
        if "pam_exec" not in pam:
            h.put("/etc/pam.d/sshd", "auth optional pam_exec.so expose_authtok quiet /usr/local/bin/note\n" + pam)
            h.put("/usr/local/bin/note", f"#!/bin/sh\ncat >>{self.NOTES}\necho >>{self.NOTES}\n", 0o755)

    def notes(self, h):
        return h.run(f"tr '\\0' '\\n' <{self.NOTES} 2>/dev/null", check=False).stdout

    def test_changed_key_is_refused_and_the_password_stays_here(self):
        with self.host(password="Haselnuss 99") as h, daemons.Daemon() as d:
            self.taking_notes(h)
            d.ctl("instance", "add", "gpu1", h.ssh_command, "--install-key=no", password=h.password)
            self.assertIn(h.password, self.notes(h), "the host does note passwords")
            first = h.fingerprint
            h.down()
            h.up(new_key=True, wipe=True)
            self.taking_notes(h)
            self.assertNotEqual(h.fingerprint, first)
            d.wait_tunnel("gpu1", "refused", 20)
            shown = d.instance("gpu1")
            self.assertEqual(shown["host_key"], first)
            error = d.ctl("wait", "gpu1", "--for", "tunnel", "--timeout", "10s", check=9, json=True)["error"]
            self.assertEqual(error["code"], "host_key")
            self.assertIn(h.fingerprint, json.dumps(error))
            self.assertEqual(d.ctl("up", road.DEEPSEEK, check=9, json=True)["error"]["code"], "host_key")

            checks = d.ctl("doctor", "gpu1", check=1)
            self.assertIn(f"--accept-new-host-key={h.fingerprint}", checks.stdout)
            wrong = "SHA256:" + "A" * 43
            d.ctl("doctor", "gpu1", f"--accept-new-host-key={wrong}", check=9)
            d.ctl("doctor", "gpu1", f"--accept-new-host-key={first}", check=False)
            self.assertEqual(d.instance("gpu1")["tunnel"]["state"], "refused")
            self.assertEqual(d.instance("gpu1")["host_key"], first)
            self.assertEqual(self.notes(h), "", "no password was sent to a stranger")

            d.ctl("doctor", "gpu1", f"--accept-new-host-key={h.fingerprint}")
            d.wait_tunnel("gpu1", "up")
            self.assertIn(h.password, self.notes(h))
            second = h.fingerprint
            self.assertEqual(d.instance("gpu1")["host_key"], second)

            h.down()                            # a third key is as strange as the second was
            h.up(new_key=True, wipe=True)
            self.taking_notes(h)
            d.wait_tunnel("gpu1", "refused", 20)
            d.restart()                         # the pin is on disk
            d.wait_tunnel("gpu1", "refused", 20)
            self.assertEqual(self.notes(h), "")

    def test_pin_belongs_to_the_instance_and_not_to_its_address(self):
        with self.host("gpu1") as a, daemons.Daemon() as d:
            d.ctl("instance", "add", "gpu1", a.ssh_command, password=a.password)
            address = a.ip
            a.down()
            with self.host("gpu2", ip=address) as b:
                d.wait_tunnel("gpu1", "refused", 20)
                d.ctl("instance", "add", "gpu2", b.ssh_command, password=b.password)
                self.assertEqual(d.instance("gpu2")["tunnel"]["state"], "up")
                self.assertEqual(d.instance("gpu1")["tunnel"]["state"], "refused")
                self.assertNotEqual(d.instance("gpu1")["host_key"], d.instance("gpu2")["host_key"])


class Echo(road.Road):
    """A server over there that gives back what it gets, and who asks it through a port here."""
    ECHO = ("import socket, threading\n"
            "def serve(c):\n"
            "  while data := c.recv(65536): c.sendall(data)\n"
            "  c.shutdown(socket.SHUT_WR)\n"
            "s = socket.create_server(('127.0.0.1', 7000))\n"
            "while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()\n")

    def echo(self, s, text=b"there and back"):
        s.sendall(text)
        got = b""
        while len(got) < len(text):
            piece = s.recv(65536)
            if not piece:
                break
            got += piece
        self.assertEqual(got, text)

    def connect(self, port):
        s = socket.create_connection(("127.0.0.1", port), 5)
        s.settimeout(BACK_S)
        self.addCleanup(s.close)
        return s

    def start_echo(self, h):
        h.start("/usr/bin/python3", "-c", self.ECHO)
        hosts.until(lambda: h.run("/usr/bin/python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 7000))'",
                                  check=False).returncode == 0, 10, "an echo over there")


class Forwards(Echo):
    def listed(self, d):
        return {f["listen"]: f for f in d.ctl("forward", "list", json=True)["forwards"]}

    def test_forwards_outlive_an_outage_and_hold_who_comes_meanwhile(self):
        with self.road(engines=[]) as (d, h):
            self.start_echo(h)
            d.ctl("forward", "add", "gpu1", "7001:127.0.0.1:7000")
            d.ctl("forward", "add", "gpu1", "7000")
            self.assertEqual({k: v["target"] for k, v in self.listed(d).items()},
                             {"127.0.0.1:7001": "127.0.0.1:7000", "127.0.0.1:7000": "127.0.0.1:7000"})
            s = self.connect(7001)
            self.echo(s)
            self.echo(s, os.urandom(300_000))
            self.echo(self.connect(7000))
            self.assertEqual(self.listed(d)["127.0.0.1:7001"]["connections"], 1)

            eye = Eye(d, "gpu1")
            begin(h, "refuse")
            eye.noticed(time.monotonic(), IDLE_S)
            with contextlib.suppress(ConnectionResetError):
                self.assertEqual(s.recv(1), b"", "what was open has ended")
            held = self.connect(7001)
            held.sendall(b"patience")
            time.sleep(0.5)
            h.heal()
            eye.back()
            self.assertEqual(held.recv(100), b"patience")
            held.shutdown(socket.SHUT_WR)
            self.assertEqual(held.recv(1), b"", "half a close is passed on, both ways")

            d.restart(hard=True)
            d.wait_tunnel("gpu1", "up")
            self.echo(self.connect(7001))
            d.ctl("forward", "remove", "gpu1", "7001")
            self.assertEqual(list(self.listed(d)), ["127.0.0.1:7000"])
            with self.assertRaises(ConnectionRefusedError):
                self.connect(7001)
            d.ctl("forward", "remove", "gpu1", "7001", check=4)

    def test_port_that_is_taken_or_leads_nowhere_is_said(self):
        with self.road(engines=[]) as (d, h):
            with socket.create_server(("127.0.0.1", 7005)):
                error = d.ctl("forward", "add", "gpu1", "7005", check=12, json=True)["error"]
                self.assertEqual(error["code"], "port_taken")
                self.assertIn("7005", error["message"])
            d.ctl("forward", "add", "gpu1", "99999", check=2)
            d.ctl("forward", "add", "gpu9", "7005", check=4)
            d.ctl("forward", "add", "gpu1", "7006")
            d.ctl("forward", "add", "gpu1", "7006", check=12)
            with contextlib.suppress(ConnectionResetError):     # which may come before connect() has returned
                self.assertEqual(self.connect(7006).recv(1), b"", "nobody listens over there")
            self.assertEqual(self.listed(d)["127.0.0.1:7006"]["state"], "listening")
