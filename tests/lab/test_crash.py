"""The daemon is killed in the middle of `up` and `down`, at one of its own system calls: what was promised is there afterwards,
and nothing is there twice.

strace (-e inject=CALL:signal=KILL:when=K) kills it when it is about to make the K-th CALL: the product has no hooks for this. An
undisturbed run is traced first, then CALL and K are drawn from all that it made.

$CRASH_KILLS: how many kills (`tests/run crash`: many); $CRASH_SEED draws the same ones again.
"""
import collections
import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time
import unittest

import daemon as daemons
import host as hosts
import road

LIMIT_S = 240
KILLS = int(os.environ.get("CRASH_KILLS", "80"))
SEED = int(os.environ.get("CRASH_SEED", time.time_ns() % 1_000_000))
SCRIPTED = "ollama:scripted:gpu1"
# What may leave something behind: on the disk, at the machine, at a caller. Reading and waiting do not.
CALLS = ["write", "writev", "pwrite64", "sendto", "sendmsg", "fsync", "fdatasync", "ftruncate", "openat", "rename", "renameat",
         "unlink", "unlinkat", "mkdir", "socket", "connect", "bind", "listen", "accept4", "clone", "clone3", "futex", "close"]


class Trace:
    """strace on a daemon that runs already; out of its calls, or until one of them is its last."""

    def __init__(self, d, *words):
        self.process = subprocess.Popen(["strace", "-f", "-p", str(d.pid), *words], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        said = self.process.stderr.readline()
        if "attached" not in said:
            raise daemons.DaemonError(f"strace: {said}{self.process.stderr.read()}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """SIGKILL, after which the kernel lets go of all that it traced. An strace (6.1) that ends in order waits for the first thread
        of whom it traced; when that one is killed in the same moment, its status is not told before those of the other threads are
        collected, which strace does not do: both wait for ever, and so does whoever waits for the daemon."""
        self.process.kill()
        self.process.communicate()

    def end(self):
        """In order, with all that it saw written: of a daemon that stays."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)


def count_calls(d, verb):
    """How often each call is made while VERB() runs, by the thread that makes it most."""
    place = d.dir + "/trace"
    with Trace(d, "-o", place, "-e", "trace=" + ",".join(CALLS)) as trace:
        verb()
        trace.end()
    made = collections.Counter()
    with open(place) as f:
        for line in f:
            found = re.match(r"(\d+) +(\w+)\(", line)
            if found:
                made[found.groups()] += 1
    most = {}
    for (_, call), times in made.items():
        most[call] = max(times, most.get(call, 0))
    return most


def draw(rng, most):
    """Each kind of call alike, so that the few writes to the disk come up as often as the many to sockets."""
    call = rng.choice(sorted(most))
    return call, rng.randint(1, most[call])


def kill_in(d, verb, call, k):
    """Starts llmhostctl VERB... and kills the daemon at its K-th CALL, or at rest if it makes fewer: the verb's exit status."""
    with Trace(d, "-o", "/dev/null", "-e", "trace=" + call, "-e", f"inject={call}:signal=KILL:when={k}"):
        with subprocess.Popen(d.ctl_words(*verb), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
            try:
                status = client.wait(60)
            finally:
                client.kill()
        if status != 0:
            hosts.until(lambda: hosts.is_over(d.pid), 10, f"the end of the daemon, as {verb[0]} ended with {status}")
    d.process.kill()
    if d.process.wait(10) != -signal.SIGKILL:
        raise daemons.DaemonError(f"the daemon ended with {d.process.returncode} at {call} {k}")
    return status


def goal_on_disk(d, model):
    """What a database as it was left says, looked at in a copy; fails when it is not whole."""
    with contextlib.ExitStack() as stack:
        place = d.dir + "/copy"
        os.mkdir(place)
        stack.callback(shutil.rmtree, place)
        for name in os.listdir(d.state):
            if name.startswith("llmhost.db"):
                shutil.copy(f"{d.state}/{name}", place)
        with contextlib.closing(sqlite3.connect(place + "/llmhost.db")) as db:
            verdict = db.execute("PRAGMA integrity_check").fetchall() + db.execute("PRAGMA foreign_key_check").fetchall()
            if verdict != [("ok",)]:
                raise daemons.DaemonError(f"the database is not whole: {verdict}")
            found = db.execute("SELECT goal FROM deployment WHERE name = ?", (model,)).fetchone()
            return found[0] if found else "off"


class Crash(road.Road):
    # Large enough that a pull takes a while.
    gguf = {"pad_bytes": 8 << 20}

    def setUp(self):
        super().setUp()
        self.inside = collections.Counter()     # True: killed before the verb had its answer

    def servers(self, h):
        return len(h.pids("ollama serve"))

    def goal(self, d, model):
        found = d.model(model)
        return found["goal"] if found else "off"

    def check_host(self, h):
        def keys():                             # a machine that was just added has none until the first tunnel put it there
            return h.run("cat", "/root/.ssh/authorized_keys", check=False).stdout.count("llmhost-")
        self.assertEqual(hosts.until(keys, 20, "our key"), 1)
        self.assertLessEqual(self.servers(h), 1)

    def check_after(self, d, h, model, goal):
        """A plain start: the goal is what the disk said, and the machine follows it."""
        d.start()
        self.assertEqual(self.goal(d, model), goal)
        if goal == "off":
            hosts.until(lambda: self.servers(h) == 0, 20, "no server for a model that is off")
        else:
            self.wait_state(d, "ready", model, 40)
            self.assertEqual(self.servers(h), 1)
        self.check_host(h)
        self.assertEqual(d.call("Status")["trouble"], [])

    def kill_and_check(self, d, h, model, verb, promised, call, k):
        status = kill_in(d, verb, call, k)
        self.inside[status != 0] += 1
        goal = goal_on_disk(d, model)
        if status == 0:
            self.assertEqual(goal, promised, "acknowledged, and not on the disk")
        self.check_after(d, h, model, goal)

    def cycle(self, d, h, model, up_at, down_at):
        """Killed in up, brought up; killed in down, brought down. It begins and ends at rest, with the model off."""
        self.kill_and_check(d, h, model, ("up", model), "on_demand", *up_at)
        d.ctl("up", model)
        self.assertEqual(self.servers(h), 1)
        self.check_host(h)
        self.kill_and_check(d, h, model, ("down", model), "off", *down_at)
        d.ctl("down", model)
        self.assertEqual(self.servers(h), 0)

    def counts(self, d, model):
        d.ctl("up", model)                      # the first time is another story: the model is placed, things are made
        d.ctl("down", model)
        return (count_calls(d, lambda: d.ctl("up", model)), count_calls(d, lambda: d.ctl("down", model)))

    def test_kills_in_up_and_down(self):
        rng = random.Random(SEED)
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", SCRIPTED)               # the first time is another story: the model is placed, things are made
            d.ctl("down", SCRIPTED)
            up = count_calls(d, lambda: d.ctl("up", SCRIPTED))
            down = count_calls(d, lambda: d.ctl("down", SCRIPTED))
            self.assertTrue({"fdatasync", "pwrite64"} <= set(up) and {"fdatasync", "pwrite64"} <= set(down), "the disk is written")
            for _ in range(KILLS // 2):
                up_at, down_at = draw(rng, up), draw(rng, down)
                whole = False
                with self.subTest(seed=SEED, up_at=up_at, down_at=down_at):
                    self.cycle(d, h, SCRIPTED, up_at, down_at)
                    whole = True
                if not whole:                   # those after it would tell of what it left
                    break
            print(f"seed {SEED}: {self.inside[True]} kills before the answer, {self.inside[False]} after; "
                  f"of {sum(up.values())} calls of up, {sum(down.values())} of down", flush=True)
        self.assertGreater(self.inside[True], KILLS // 2)

    def test_kills_around_a_real_pull(self):
        rng = random.Random(SEED)
        size = os.path.getsize(self.dir + "/tiny.gguf")
        with self.road() as (d, h):
            up = count_calls(d, lambda: d.ctl("up", road.DEEPSEEK))
            down = count_calls(d, lambda: d.ctl("down", road.DEEPSEEK))
            self.assertLess(self.registry.sent, 1.01 * size)        # its configuration is a blob, too
        for n in range(max(2, KILLS // 10)):
            call, k = ("pull", 0) if n % 2 else draw(rng, up)
            with self.road() as (d, h), self.subTest(seed=SEED, up_at=(call, k)):
                self.registry.fault(rate=8 << 20)
                self.registry.sent = 0
                self.pull_and_check(d, h, call, k, draw(rng, down), size)
        print(f"seed {SEED}: {self.inside[True]} kills before the answer, {self.inside[False]} after", flush=True)

    def pull_and_check(self, d, h, call, k, down_at, size):
        if call == "pull":                      # in the middle of it, which no count of calls tells
            client = subprocess.Popen(d.ctl_words("up", road.DEEPSEEK), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            hosts.until(lambda: self.registry.sent > size // 3, 20, "a third of the model")
            d.kill()
            self.inside[True] += 1
            client.wait(10)
            self.check_after(d, h, road.DEEPSEEK, goal_on_disk(d, road.DEEPSEEK))
        else:
            self.kill_and_check(d, h, road.DEEPSEEK, ("up", road.DEEPSEEK), "on_demand", call, k)
        d.ctl("up", road.DEEPSEEK)
        self.assertEqual(self.servers(h), 1)
        # Once; or, where it was cut, from there on. What was on its way then is lost: the buffers of two sockets.
        self.assertLess(self.registry.sent, 1.5 * size, self.pulls())
        self.assertEqual(road.text_of(self.chat(d)), road.models.answer())
        self.kill_and_check(d, h, road.DEEPSEEK, ("down", road.DEEPSEEK), "off", *down_at)
        d.ctl("down", road.DEEPSEEK)
        self.assertEqual(self.servers(h), 0)


if __name__ == "__main__":
    unittest.main()
