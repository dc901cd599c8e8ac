"""Many at once: fifty instances behind one address, whose logins sshd must never have a reason to drop; five hundred streams over
one of them; a port that does not answer, and bulk, beside what somebody waits for."""
import concurrent.futures
import contextlib
import json
import os
import re
import threading
import time

import daemon as daemons
import host as hosts
import http_engine
import road
import test_tunnel

LIMIT_S = 240
CROWD = 50
SSHD_DEFAULT = "MaxStartups 10:30:100"      # what sshd has when nobody tells it otherwise
DROPPED = re.compile(r"drop connection|MaxStartups throttling")
ALL_S = 60


def names(count=CROWD):
    return [f"i{n:02}" for n in range(count)]


class Crowd(test_tunnel.Echo):
    """One host that is fifty instances: for its sshd there is no difference."""

    @contextlib.contextmanager
    def crowd(self, count=CROWD):
        with self.host("gate", [], [SSHD_DEFAULT]) as h, daemons.Daemon() as d:
            self.add_at_once(d, h, names(count))
            yield d, h

    def add_at_once(self, d, h, wanted):
        with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
            list(pool.map(lambda n: d.call("InstanceAdd", timeout_s=ALL_S, name=n, command=h.ssh_command,
                                           password={"text": h.password}), wanted))

    def tunnels(self, d):
        return {i["name"]: i["tunnel"] for i in d.call("Status")["instances"]}

    def up(self, d):
        return sum(t["state"] == "up" for t in self.tunnels(d).values())

    def wait_all(self, d, reconnects, limit_s=ALL_S):
        def back():
            found = self.tunnels(d).values()
            return len(found) == CROWD and all(t["state"] == "up" and t["reconnects"] >= reconnects for t in found)
        started = time.monotonic()
        hosts.until(back, limit_s, f"all {CROWD} tunnels", 0.05)
        return time.monotonic() - started

    def check_none_dropped(self, h, when):
        with open(h.console_log, errors="replace") as f:
            said = [line for line in f if DROPPED.search(line)]
        self.assertEqual(said, [], when)


class Logins(Crowd):
    def test_none_is_dropped_when_they_are_added_started_cut_or_away_together(self):
        with self.crowd() as (d, h):
            self.check_none_dropped(h, "added together")
            d.restart()
            self.wait_all(d, 0)
            self.check_none_dropped(h, "the daemon's start")
            h.fault("rst")
            self.wait_all(d, 1)
            self.check_none_dropped(h, "cut")
            h.fault("refuse")
            h.fault("rst")
            hosts.until(lambda: self.up(d) == 0, 15, "all of them down")
            hosts.until(lambda: min(i["tunnel"]["tries"] for i in d.call("Status")["instances"]) >= 2, 20, "tries in vain")
            h.heal()
            self.wait_all(d, 2)
            self.check_none_dropped(h, "refused for a while")
            h.fault("blackhole")
            hosts.until(lambda: self.up(d) == 0, 20, "all of them down")
            time.sleep(12)                      # until no connection can live on
            h.heal()
            self.wait_all(d, 3)
            self.check_none_dropped(h, "silent for a while")

    def test_who_is_waited_for_goes_first(self):
        with self.crowd() as (d, h):
            self.start_echo(h)
            d.ctl("forward", "add", names()[-1], "7001:127.0.0.1:7000")
            self.echo(self.connect(7001))
            h.fault("delay", "100,0,0")         # a login takes more than a second
            h.fault("rst")
            hosts.until(lambda: self.up(d) < CROWD // 2, 20, "cut")
            self.echo(self.connect(7001))
            self.assertLess(self.up(d), CROWD // 2, "the others are not all back yet")
            h.heal()
            self.wait_all(d, 1)
            self.check_none_dropped(h, "cut, with somebody waiting")


class Together(Crowd):
    def test_fifty_instances_are_used_at_once_and_none_gets_a_wrong_byte(self):
        with self.crowd() as (d, h):
            self.start_echo(h)
            for n, name in enumerate(names()):
                d.ctl("forward", "add", name, f"{7100 + n}:127.0.0.1:7000")
            open_ones = [self.connect(7100 + n) for n in range(CROWD)]

            def use(s):
                for _ in range(5):
                    self.echo(s, os.urandom(100_000))
            with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
                list(pool.map(use, open_ones))
            self.assertEqual(sum(t["reconnects"] for t in self.tunnels(d).values()), 0)
            self.check_none_dropped(h, "used at once")


class Streams(test_tunnel.Echo):
    STREAMS, CHUNKS, GAP_MS = 500, 30, 200

    def ask(self, d, n, all_there):
        """Three kinds of answer, each of a length of its own; None, or what was wrong with it."""
        path, stream, kind = (("/v1/chat/completions", True, "text/event-stream"), ("/api/chat", True, "application/x-ndjson"),
                              ("/v1/chat/completions", False, None))[n % 3]
        script = {"chunks": self.CHUNKS, "bytes": 40 + n, "gap_ms": self.GAP_MS}
        with contextlib.closing(d.connect(ALL_S)) as c:
            c.request("POST", path, json.dumps({"model": "scripted", "stream": stream, "messages": road.QUESTION,
                                                "script": script}), {"Content-Type": "application/json"})
            answer = c.getresponse()
            all_there.wait(ALL_S)
            body = answer.read()
        wanted = b"".join(http_engine.piece_of(k, 40 + n, kind) for k in range(self.CHUNKS))
        return None if (answer.status, body) == (200, wanted) else f"{n}: {answer.status} {body[:200]} ... {body[-100:]}"

    def test_five_hundred_at_once_on_one_instance_are_each_whole(self):
        """Everybody has the head of his answer before anybody reads on: they are open at the same time. On a busy machine the first
        may take as long as heartbeats need to begin, and each answer is held against every byte it must have."""
        all_there = threading.Barrier(self.STREAMS)
        with self.road(engines=["scripted"], sections={"gateway": {"heartbeat": "off"}}) as (d, h):
            d.ctl("up", "ollama:scripted")
            with concurrent.futures.ThreadPoolExecutor(self.STREAMS) as pool:
                wrong = list(pool.map(lambda n: self.ask(d, n, all_there), range(self.STREAMS)))
            self.assertEqual([w for w in wrong if w], [])
            self.assertEqual(d.instance("gpu1")["tunnel"]["reconnects"], 0)

    def test_bulk_beside_streams_holds_them_up_no_second(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", "ollama:scripted")
            self.start_echo(h)
            d.ctl("forward", "add", "gpu1", "7001:127.0.0.1:7000")
            stop, moved = threading.Event(), []

            def move():
                s, sent = self.connect(7001), os.urandom(1 << 20)
                while not stop.is_set():
                    self.echo(s, sent)
                    moved.append(len(sent))
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                mover = pool.submit(move)
                hosts.until(lambda: moved, ALL_S, "bulk under way")
                streams = [test_tunnel.Stream(d, "scripted", chunks=100, gap_ms=50) for _ in range(10)]
                pause, seen, at = 0, 0, time.monotonic()
                while any(s.thread.is_alive() for s in streams):
                    now, total = time.monotonic(), sum(len(s.body) for s in streams)
                    if total > seen:
                        pause, seen, at = max(pause, now - at if seen else 0), total, now
                    time.sleep(0.01)
                stop.set()
                mover.result(ALL_S)
            for s in streams:
                self.assertIsNone(s.error)
                self.assertEqual([int(x) for x in re.findall(rb"data: (\d+)", s.body)], list(range(100)))
            self.assertGreater(len(moved), 3)
            self.assertLess(pause, 1)
            self.assertEqual(d.instance("gpu1")["tunnel"]["reconnects"], 0)


class Silence(test_tunnel.Echo):
    """A port whose queue is full: the kernel over there neither accepts nor refuses, and sshd waits."""
    FULL = ("import socket, time\n"
            "s = socket.create_server(('127.0.0.1', 7009), backlog=0)\n"
            "c = [socket.socket() for _ in range(4)]\n"
            "for one in c: one.setblocking(False); one.connect_ex(('127.0.0.1', 7009))\n"
            "time.sleep(600)\n")
    DELAY_S = 3

    def hangs(self, h, port):
        return int(h.run(f"ss -Htn state syn-sent dst 127.0.0.1:{port} | wc -l").stdout)

    def test_a_port_that_does_not_answer_delays_others_for_three_seconds_at_most(self):
        with self.road(engines=[]) as (d, h):
            self.start_echo(h)
            h.start("/usr/bin/python3", "-c", self.FULL)
            d.ctl("forward", "add", "gpu1", "7001:127.0.0.1:7000")
            d.ctl("forward", "add", "gpu1", "7009:127.0.0.1:7009")
            hosts.until(lambda: self.hangs(h, 7009) >= 2, 10, "a full queue")
            before = self.hangs(h, 7009)
            silent = [self.connect(7009) for _ in range(6)]
            hosts.until(lambda: self.hangs(h, 7009) > before, 10, "sshd waits")
            took, answered = [], []
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                began = time.monotonic()        # commands wait behind it as dials do
                command = pool.submit(d.call, "Doctor", target="gpu1")
                command.add_done_callback(lambda _: answered.append(time.monotonic() - began))
                for _ in range(4):
                    started = time.monotonic()
                    self.echo(self.connect(7001))
                    took.append(time.monotonic() - started)
            self.assertLess(max(took), self.DELAY_S + test_tunnel.BUSY_S, took)
            self.assertIn("machine.space", [c["id"] for c in command.result()["checks"]])
            self.assertLess(answered[0], self.DELAY_S + test_tunnel.BUSY_S + 2, "two more for what the doctor looks at")
            self.assertLess(max(took[1:]), 1, "known by then")
            time.sleep(16)                      # those who waited for the silent port were told by now
            more = [self.connect(7009) for _ in range(3)]
            time.sleep(3)
            started = time.monotonic()
            self.echo(self.connect(7001))
            self.assertLess(time.monotonic() - started, 1, "whoever asks for it again blocks nobody else")
            self.assertEqual(d.instance("gpu1")["tunnel"]["reconnects"], 0)
            self.assertEqual(len(silent) + len(more), 9)


class Channels(road.Road):
    def test_a_server_of_few_session_channels_is_given_further_connections(self):
        """Of three, our own ping has one; six people who follow the engine's log want one each, for as long as they like."""
        with self.road(engines=["scripted"], opt=["MaxSessions 3"]) as (d, h), contextlib.ExitStack() as stack:
            d.ctl("up", "ollama:scripted")
            followers = [stack.enter_context(d.varlink()) for _ in range(6)]
            for v in followers:
                v.send("Logs", {"target": "ollama:scripted", "sources": ["engine"], "follow": True}, more=True)
            hosts.until(lambda: len(h.pids(r"tail .*-[a-zA-Z]*[fF]")) >= 6, 20, "six who follow")
            connections = int(h.run("ss -Htn state established sport = :22 | wc -l").stdout)
            self.assertTrue(2 < connections <= 4, connections)
            self.assertEqual(self.chat(d, "scripted").status, 200)
            d.ctl("down", "ollama:scripted")
            self.assertEqual(d.instance("gpu1")["tunnel"]["reconnects"], 0)
