"""The power goes while the daemon writes: whatever it had acknowledged is there when the machine is on again.

Its state lies on an ext4 in a file, the file on a btrfs. Copying the file by reference (cp --reflink) takes the disk as it is at
one moment, without what only the page cache has: what a power cut leaves. The copy is mounted, as a boot would, and the daemon is
started on it. Every other time the daemon is stopped (SIGSTOP) just before, so that nothing more reaches the disk between the
last promise and the cut. A kill finds no missing fsync, since the page cache outlives it; this does: with
"PRAGMA synchronous = NORMAL" in database.c 30 of 30 cuts were caught, and without the fsync of a file in secrets.c as many.

$POWER_CUTS: how many (`tests/run powercut`: many); $POWER_SEED draws the same moments again.
"""
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import unittest

import daemon as daemons
import host as hosts
import lab
from host import Host

LIMIT_S = 120
CUTS = int(os.environ.get("POWER_CUTS", "10"))
SEED = int(os.environ.get("POWER_SEED", time.time_ns() % 1_000_000))
GONE = "gone"
# A network of its own: the ports of a restored daemon are those of the one that goes on.
ALONE = ["unshare", "--net", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]


class Disk:
    """An ext4 that is committed when somebody asks for it, and by itself every 300 s; copies of it as a power cut leaves them."""

    def __init__(self, folder):
        self.host, self.live, self.snap = (f"{folder}/{name}" for name in ("host", "live", "snap"))
        for made in (self.host, self.live, self.snap):
            os.makedirs(made)
        hosts.command("mount", "-t", "tmpfs", "-o", "size=600m", "powercut", folder + "/host")
        hosts.command("truncate", "-s", "512m", self.host + "/btrfs")
        hosts.command("mkfs.btrfs", "-q", "-M", self.host + "/btrfs")
        hosts.command("mount", "-o", "loop,nodatasum", self.host + "/btrfs", self.host)
        hosts.command("truncate", "-s", "96m", self.host + "/disk")
        hosts.command("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.host + "/disk")
        hosts.command("mount", "-o", "loop,commit=300", self.host + "/disk", self.live)

    def cut(self):
        hosts.command("cp", "--reflink=always", self.host + "/disk", self.host + "/cut")

    @contextlib.contextmanager
    def boot(self):
        """What the cut left, as the next boot mounts it."""
        hosts.command("mount", "-o", "loop", self.host + "/cut", self.snap)
        try:
            yield self.snap
        finally:
            hosts.command("umount", self.snap)
            os.unlink(self.host + "/cut")


class Promises:
    """What was asked for and what was acknowledged, per thing; a thing's value is a word."""

    def __init__(self):
        self.lock, self.asked, self.acknowledged, self.count = threading.Lock(), {}, {}, 0

    def make(self, thing, value, change):
        with self.lock:
            values = self.asked.setdefault(thing, [GONE])
            values.append(value)
            number = len(values) - 1
        change()
        with self.lock:
            self.acknowledged[thing] = number
            self.count += 1

    def last(self, thing):
        with self.lock:
            return self.asked.get(thing, [GONE])[-1]

    def made(self):
        with self.lock:
            return dict(self.acknowledged)

    def allowed(self, made):
        """Of each thing: what was acknowledged by then, or anything that was asked for since."""
        with self.lock:
            return {thing: values[made.get(thing, 0):] for thing, values in self.asked.items()}


class PowerCuts(unittest.TestCase):
    def setUp(self):
        self.folder = "/run/lab/powercut"
        self.disk = Disk(self.folder)
        self.h = Host("gpu1").up(wipe=True, opt=["MaxStartups 200"])
        self.addCleanup(self.h.down)
        self.promises, self.over, self.broken = Promises(), threading.Event(), []

    def daemon(self, state, **more):
        d = daemons.Daemon(start=False, **more)
        d.state = state
        return d.start()

    # The writers: each asks for one change after the other and notes what was acknowledged ---------------------------

    def goals(self, d, n):
        model = f"ollama:m{n % 20}"
        if self.promises.last(model) == "on_demand":
            self.promises.make(model, "off", lambda: d.call("Down", target=model, now=True))
        else:
            self.promises.make(model, "on_demand", lambda: d.call("Up", model=model, on="here", wait=False))

    def forwards(self, d, n):
        port = 20000 + n % 40
        if self.promises.last(port) == "there":
            self.promises.make(port, GONE, lambda: d.call("ForwardRemove", instance="gpu1", listen=str(port)))
        else:
            self.promises.make(port, "there", lambda: d.call("ForwardAdd", instance="gpu1", spec=str(port)))

    def instances(self, d, n):
        name = f"i{n % 5}"
        if self.promises.last(name) == "there":
            self.promises.make(name, GONE, lambda: d.call("InstanceRemove", name=name))
        else:
            self.promises.make(name, "there", lambda: d.call(
                "InstanceAdd", name=name, command=self.h.ssh_command, install_key=False, password={"text": self.h.password}))

    def write(self, d, change):
        try:
            for n in range(1_000_000):
                if self.over.is_set():
                    return
                change(d, n)
        except Exception as e:
            if not self.over.is_set():
                self.broken.append(e)

    # What a boot finds -------------------------------------------------------------------------------------------------

    def found_by_sqlite(self, state):
        """In a copy: looking must not mend anything."""
        place = self.folder + "/copy"
        os.mkdir(place)
        try:
            for name in os.listdir(state):
                if name.startswith("llmhost.db"):
                    shutil.copy(f"{state}/{name}", place)
            with contextlib.closing(sqlite3.connect(place + "/llmhost.db")) as db:
                self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
                found = dict(db.execute("SELECT name, goal FROM deployment"))
                found.update((port, "there") for port, in db.execute("SELECT listen_port FROM forward"))
                found.update((name, "there") for name, in db.execute("SELECT name FROM instance WHERE host_key IS NOT NULL"))
                return found
        finally:
            shutil.rmtree(place)

    def found_by_daemon(self, state):
        with self.daemon(state, wrap=ALONE) as d:
            status = d.call("Status")
            found = {m["name"]: m["goal"] for m in status["models"]}
            found.update((int(f["listen"].rsplit(":", 1)[1]), "there") for f in d.call("ForwardList")["forwards"])
            found.update((i["name"], "there") for i in status["instances"])
            return found

    def check(self, what, found, allowed):
        for thing, values in allowed.items():
            self.assertIn(found.get(thing, GONE), values, f"{what}: {thing}")

    def check_secrets(self, state, allowed):
        for thing, values in allowed.items():
            if str(thing).startswith("i") and values == ["there"]:
                with open(f"{state}/secrets/{thing}.password") as f:
                    self.assertEqual(f.read(), self.h.password, thing)

    def cut_and_check(self, d, stopped):
        if stopped:
            os.kill(d.pid, signal.SIGSTOP)
        made = self.promises.made()
        self.disk.cut()
        allowed = self.promises.allowed(made)
        if stopped:
            os.kill(d.pid, signal.SIGCONT)
        with self.disk.boot() as place:
            state = place + "/state"
            self.check("sqlite", self.found_by_sqlite(state), allowed)
            self.check_secrets(state, allowed)
            self.check("llmhostd", self.found_by_daemon(state), allowed)

    def test_what_was_acknowledged_survives(self):
        rng, bad = random.Random(SEED), 0
        os.mkdir(self.disk.live + "/state", mode=0o700)
        with self.daemon(self.disk.live + "/state") as d:
            d.ctl("instance", "add", "gpu1", self.h.ssh_command, password=self.h.password)
            d.ctl("instance", "add", "here", "--provider", "local")
            hosts.command("sync", "-f", self.disk.live)
            writers = [threading.Thread(target=self.write, args=(d, change))
                       for change in (self.goals, self.forwards, self.instances)]
            for writer in writers:
                writer.start()
            try:
                for n in range(CUTS):
                    time.sleep(rng.uniform(0.05, 0.5))
                    with self.subTest(seed=SEED, cut=n, promises=self.promises.count):
                        bad += 1
                        self.cut_and_check(d, stopped=n % 2 == 0)
                        bad -= 1
            finally:
                self.over.set()
                for writer in writers:
                    writer.join()
            self.assertEqual(self.broken, [])
            print(f"seed {SEED}: {CUTS} cuts, {self.promises.count} promises, {bad} cuts broke one", flush=True)
            self.assertGreater(self.promises.count, 10 * CUTS)


if __name__ == "__main__":
    unittest.main()
