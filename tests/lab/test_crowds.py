"""Many at once: fifty instances behind one address, whose logins sshd must never have a reason to drop; five hundred streams over
one of them; a port that does not answer, and bulk, beside what somebody waits for."""
import concurrent.futures
import contextlib
import os
import re
import socket
import threading
import time

import daemon as daemons
import host as hosts
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
            time.sleep(2)                       # some tries in vain
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
