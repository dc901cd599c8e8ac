"""The daemon's own disk: full, read-only, damaged, taken away, wanted by two; and a clock that was never set. Nothing of it is silent,
what is known is read and served, stops work, and it mends itself when the disk does."""
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import unittest

import daemon as daemons
import host as hosts
import road

LIMIT_S = 180
SCRIPTED = "ollama:scripted:gpu1"
OTHER = "ollama:scripted"


def fill(place):
    """Takes all the room there is."""
    with contextlib.suppress(OSError), open(place + "/ballast", "ab", 0) as f:
        size = 65536
        while size:
            try:
                f.write(b"x" * size)
            except OSError:
                size //= 2


class State(road.Road):
    @contextlib.contextmanager
    def small_disk(self):
        """A daemon whose state has a disk of 2 MB; it knows a host where a model is ready."""
        place = tempfile.mkdtemp(dir="/run/lab")
        hosts.command("mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "state", place)
        try:
            with self.host(engines=["scripted"]) as h, daemons.Daemon(start=False) as d:
                d.state = place
                d.start()
                d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
                d.ctl("up", SCRIPTED)
                yield d, h
        finally:
            hosts.command("umount", "-l", place)
            os.rmdir(place)

    def room(self, d):
        os.unlink(d.state + "/ballast")

    def trouble(self, d):
        return {t["code"]: t for t in d.call("Status")["trouble"]}

    def refused(self, d, code, *words, **more):
        error = d.ctl(*words, check=1, json=True, **more)["error"]
        self.assertEqual(error["code"], code)
        self.assertIn(d.state, error.get("why", "") + error["message"])
        return error

    def check_degraded(self, d, h, code, words):
        """Everything a user meets while nothing can be kept."""
        self.wait_state(d, "ready", SCRIPTED)
        self.assertEqual(self.chat(d, "scripted:gpu1").status, 200)
        trouble = self.trouble(d)[code]
        self.assertIn(words, trouble["message"])
        self.assertIn(d.state, trouble["message"])
        error = self.refused(d, code, "up", OTHER)
        self.assertIn("kept", error["message"])
        self.assertIn(d.state, error["next"][0])
        self.assertIsNone(d.model(OTHER), "nothing was begun")
        self.refused(d, code, "forward", "add", "gpu1", "8888")
        self.refused(d, code, "instance", "add", "gpu2", h.ssh_command, password=h.password)
        self.assertIsNone(d.instance("gpu2"))
        self.assertFalse([f for f in os.listdir(d.state + "/secrets") if "gpu2" in f])
        self.assertEqual(d.ctl("up", SCRIPTED).returncode, 0)       # wanted already: nothing new to keep
        checks = {c["id"]: c for c in d.ctl("doctor", json=True, check=False)["checks"]}
        self.assertEqual(checks["store.writable"]["level"], "fail")
        self.assertIn(words, checks["store.writable"]["message"])

    def check_down(self, d, h, code):
        """A stop waits for no disk, and says at its end that it is not kept."""
        error = self.refused(d, code, "down", SCRIPTED)
        self.assertIn("off, but not on disk", error["message"])
        self.assertEqual(h.pids("ollama serve"), [])
        self.assertEqual(self.state(d, SCRIPTED), "off")

    def wanted(self, d, *words):
        """There is room again: the next try of somebody, or of the daemon itself, is a second after the last at most."""
        hosts.until(lambda: d.ctl(*words, check=False).returncode == 0, 5, " ".join(words), 0.1)

    def check_mended(self, d, h):
        """Nothing that was done meanwhile is lost."""
        self.wanted(d, "up", OTHER)
        self.assertEqual(d.call("Status")["trouble"], [])
        d.ctl("forward", "add", "gpu1", "8888")
        self.assertIn("is written again", d.log())
        d.restart(hard=True)
        self.wait_state(d, "ready", OTHER)
        self.assertEqual(self.state(d, SCRIPTED), "off")
        self.assertEqual(len(d.call("ForwardList")["forwards"]), 1)
        d.ctl("down", OTHER)

    def test_start_on_a_full_disk(self):
        with self.small_disk() as (d, h):
            d.stop()
            fill(d.state)
            d.start()
            self.check_degraded(d, h, "store_full", "the disk is full")
            self.check_down(d, h, "store_full")
            self.room(d)
            self.check_mended(d, h)

    def test_start_on_a_read_only_disk(self):
        for how in ("stop", "kill"):
            with self.subTest(how), self.small_disk() as (d, h):
                getattr(d, how)()
                hosts.command("mount", "-o", "remount,ro", d.state)
                d.start()
                self.check_degraded(d, h, "store_read_only", "read-only file system")
                self.check_down(d, h, "store_read_only")
                hosts.command("mount", "-o", "remount,rw", d.state)
                self.check_mended(d, h)

    def test_disk_fills_up_under_it(self):
        with self.small_disk() as (d, h):
            fill(d.state)
            # Whoever comes first finds out: what it asked for is not begun either.
            for n in range(2000):
                done = d.ctl("forward", "add", "gpu1", str(20000 + n), check=False)
                if done.returncode:
                    break
            self.assertIn("the disk is full", done.stderr)
            self.check_degraded(d, h, "store_full", "the disk is full")
            self.check_down(d, h, "store_full")
            self.room(d)
            for f in d.call("ForwardList")["forwards"]:
                self.wanted(d, "forward", "remove", "gpu1", f["listen"])
            self.check_mended(d, h)

    def test_body_that_finds_no_room_is_507_and_nothing_else_suffers(self):
        size, half = 3 << 20, 1 << 20
        body = json.dumps({"model": "scripted:gpu1", "pad": "x" * size}).encode()
        with self.small_disk() as (d, h), socket.create_connection(("127.0.0.1", d.port), 20) as s:
            names, room = sorted(os.listdir(d.state)), os.statvfs(d.state).f_bavail
            other = d.connect()
            other.request("POST", "/v1/chat/completions", json.dumps({"model": "scripted:gpu1", "stream": True, "script": {"chunks": 20, "gap_ms": 100}}))
            answer = other.getresponse()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:half])
            hosts.until(lambda: os.statvfs(d.state).f_bavail < room * 3 // 4, 10, "it is written to that disk")
            self.assertEqual(sorted(os.listdir(d.state)), names, "and has no name there")
            with contextlib.suppress(ConnectionError):      # it is answered before all of it is there
                s.sendall(body[half:])
            said = s.recv(65536)
            self.assertTrue(said.startswith(b"HTTP/1.1 507 "), said)
            self.assertIn(b'"spool_full"', said)
            hosts.until(lambda: os.statvfs(d.state).f_bavail >= room * 9 // 10, 10, "its room is given back")
            self.assertEqual(answer.read().count(b"data: "), 20)
            self.assertEqual(self.chat(d, "scripted:gpu1").status, 200)
            d.ctl("forward", "add", "gpu1", "8888")
            self.assertEqual(self.trouble(d), {})
            d.restart(hard=True)
            self.assertEqual(len(d.call("ForwardList")["forwards"]), 1)

    def test_up_that_finds_the_disk_full_begins_nothing(self):
        with self.small_disk() as (d, h):
            d.ctl("down", SCRIPTED)
            d.restart()                     # what was in the log is in the database: it has no room of its own left
            fill(d.state)
            with open(d.state + "/llmhost.db-wal", "rb") as f:
                self.assertLess(len(f.read()), 100_000)
            found = None
            for _ in range(50):             # as long as the log has room, it is kept, and goes on
                done = d.ctl("up", SCRIPTED, json=True, check=False)
                if "ok" in done:
                    found = done["error"]
                    break
                d.ctl("down", SCRIPTED, check=False)
            self.assertEqual(found["code"], "store_full")
            hosts.until(lambda: self.state(d, SCRIPTED) == "off" and not h.pids("ollama serve"), 20, "nothing that runs")
            self.room(d)
            self.wanted(d, "up", SCRIPTED)
            d.ctl("down", SCRIPTED)

    def test_state_is_taken_away_under_it(self):
        with self.small_disk() as (d, h):
            shutil.copytree(d.state, d.dir + "/backup")
            for name in os.listdir(d.state):
                if name.startswith("llmhost.db"):
                    os.unlink(f"{d.state}/{name}")
            error = self.refused(d, "store_read_only", "up", OTHER)
            self.assertIn("moved or removed", error["why"] + error["message"])
            self.assertEqual(self.chat(d, "scripted:gpu1").status, 200)
            self.check_down(d, h, "store_read_only")

    def test_two_daemons_on_one_directory(self):
        with self.small_disk() as (d, h), daemons.Daemon(port=daemons.free_port(), start=False) as second:
            second.state = d.state
            second.start(wait=False)
            self.assertEqual(second.process.wait(20), 1)
            self.assertIn(f"{d.state} is in use by another llmhostd (process {d.pid})", second.log())
            self.assertEqual(self.chat(d, "scripted:gpu1").status, 200)

    def test_secrets_that_cannot_be_kept(self):
        with self.small_disk() as (d, h):
            secrets = d.state + "/secrets"
            hosts.command("mount", "--bind", secrets, secrets)
            hosts.command("mount", "-o", "remount,bind,ro", secrets)
            try:
                d.restart()
                self.wait_state(d, "ready", SCRIPTED)
                error = self.refused(d, "store_read_only", "instance", "add", "gpu2", h.ssh_command, password=h.password)
                self.assertIn(secrets, error["message"])
            finally:
                hosts.command("umount", "-l", secrets)
            d.restart()
            d.ctl("instance", "add", "gpu2", h.ssh_command, password=h.password)

    def start_fails(self, d):
        """What is said then."""
        said = len(d.log())
        d.start(wait=False)
        self.assertEqual(d.process.wait(20), 1)
        return d.log()[said:]

    def test_damaged_database_is_kept_and_what_is_whole_is_saved_as_the_message_says(self):
        with self.small_disk() as (d, h):
            d.ctl("down", SCRIPTED)
            d.stop()
            with open(d.state + "/llmhost.db", "r+b") as f:
                events = self.page_of(d, "event")
                f.seek(4096 * (events - 1))
                f.write(b"\x5a" * 4096)
                f.seek(0)
                damaged = f.read()
            said = self.start_fails(d)
            self.assertIn(d.state + "/llmhost.db is damaged", said)
            commands = re.findall(r"^  \w[\w ]*: +(.*)$", said, re.M)
            self.assertEqual(len(commands), 2, said)
            for command in commands:
                hosts.command("sh", "-c", command)
            with open(d.state + "/damaged/llmhost.db", "rb") as f:
                self.assertEqual(f.read(), damaged, "as it was")
            d.start()
            self.assertEqual([i["name"] for i in d.call("InstanceList")["instances"]], ["gpu1"])
            self.assertEqual(self.state(d, SCRIPTED), "off")
            d.ctl("up", SCRIPTED)
            d.ctl("down", SCRIPTED)

    def page_of(self, d, table):
        said = hosts.command("sqlite3", d.state + "/llmhost.db", f"SELECT rootpage FROM sqlite_schema WHERE name = '{table}'")
        return int(said)

    def test_damages_are_named_and_nothing_is_replaced(self):
        def header(place):
            with open(place, "r+b") as f:
                f.write(b"\0" * 100)

        def empty(place):
            os.truncate(place, 0)

        def newer(place):
            hosts.command("sqlite3", place, "PRAGMA user_version = 999")
        with self.small_disk() as (d, h):
            d.ctl("down", SCRIPTED)
            d.stop()
            place = d.state + "/llmhost.db"
            shutil.copy(place, d.dir + "/whole")
            for damage, words in ((header, "is damaged"), (empty, "is damaged (it is empty)"), (newer, "was written by a newer llmhostd")):
                with self.subTest(words):
                    shutil.copy(d.dir + "/whole", place)
                    damage(place)
                    with open(place, "rb") as f:
                        before = f.read()
                    self.assertIn(f"{place} {words}", self.start_fails(d))
                    with open(place, "rb") as f:
                        self.assertEqual(f.read(), before)
            shutil.copy(d.dir + "/whole", place)
            d.start()
            self.assertEqual(self.state(d, SCRIPTED), "off")

    def test_clock_that_was_never_set(self):
        unset = self.dir + "/clock.so"
        hosts.command("gcc", "-shared", "-fPIC", "-o", unset, hosts.HERE + "/clock.c")
        libraries = [hosts.command("gcc", "-print-file-name=libasan.so").strip()] if self.is_sanitized() else []
        env = {"LD_PRELOAD": " ".join(libraries + [unset])}
        with self.host(engines=["scripted"]) as h, daemons.Daemon(env=env) as d:
            self.assertIn("the clock of this host", d.log())
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
            d.ctl("up", SCRIPTED)
            self.assertEqual(self.chat(d, "scripted:gpu1").status, 200)
            trouble = self.trouble(d)["clock"]
            self.assertIn("the clock of this host says 1970", trouble["message"])
            self.assertEqual(trouble["next"], ["timedatectl set-ntp true"])
            d.env.clear()                   # it is set: records of then are no trouble
            d.restart()
            self.assertEqual(self.trouble(d), {})
            self.wait_state(d, "ready", SCRIPTED)
            d.ctl("down", SCRIPTED)

    def is_sanitized(self):
        return "libasan" in hosts.command("ldd", os.path.join(daemons.BUILD, "llmhostd"))


if __name__ == "__main__":
    unittest.main()
