"""A box with the guard of daemon/guard on it, and what its two files say.

    box = Box("dash")                   # powered on, sh is dash, the script lies in /dev/shm
    box.guard(first=4, period=1)        # as the installer starts it
    box.ask("me", 1, 3)                 # (0, record): a renewal as the daemon asks for it
    box.off(limit_s=8)                  # waits for it; the second of /proc/uptime at which its stop command was called

Hosts share the kernel's uptime with the enclosure, so seconds of a record can be compared with seconds here.
"""
import collections
import itertools
import os
import shlex
import signal

import host as hosts

FIELDS = "magic boot init pid born beat owner seq lease hold hpid hborn state tries taken ways note end"
Record = collections.namedtuple("Record", FIELDS)
SHELLS = {"dash": "/usr/bin/dash", "bash": "/usr/bin/bash", "ash": "/usr/bin/busybox"}
SOURCE = hosts.REPO + "/daemon/guard"
STOPS = ("/usr/bin/shutdown", "/usr/sbin/shutdown", "/usr/bin/poweroff", "/usr/sbin/poweroff")
# The note lies on the box's disk, which outlives it: without its last line this would leave the box to another way.
SHUTDOWN = "#!/bin/sh\nread -r t rest </proc/uptime\necho ${t:-0} \"$0\" $* >>/root/off\nkill -TERM 1\n"
numbers = itertools.count(1)


def source(name):
    with open(f"{SOURCE}/{name}") as f:
        return f.read()


def uptime():
    with open("/proc/uptime") as f:
        return float(f.read().split()[0])


def read(text):
    """The record of a line, or None: ours, and whole."""
    words = text.split()
    if len(words) != len(Record._fields) or words[0] != "llmhost1" or words[-1] != ".":
        return None
    return Record(*(int(w) if w.isdigit() else w for w in words))


class Box:
    def __init__(self, shell, folder="/dev/shm", stops=("/usr/bin/shutdown",), user=None, bare=False):
        self.host = hosts.Host(f"box{next(numbers)}", disk="32m").up()
        self.shell, self.folder, self.user = shell, folder, user
        self.host.run("ln -sf %s /usr/local/bin/sh; rm -f %s" % (SHELLS[shell], " ".join(STOPS)))
        for stop in stops:
            self.stub(stop, SHUTDOWN)
        if not bare:
            self.put_script()

    def stub(self, path, text):
        self.host.put(path, text, 0o755)

    @property
    def script(self):
        return self.folder + "/.llmhost.sh"

    def put_script(self):
        self.host.put(self.script, source("guard.sh"), 0o755)

    def words(self, *words):
        """WORDS as the user the guard belongs to."""
        return (["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"] if self.user else []) + list(words)

    def guard(self, first=60, period=1, grace=300, count=1, env=""):
        line = shlex.join(self.words("setsid", "sh", self.script, "run", str(first), str(period), str(grace)))
        self.host.run(f"i=0; while [ $i -lt {count} ]; do {env} {line} </dev/null >/dev/null 2>&1 & i=$((i + 1)); done")
        return self.settled()

    def guards(self):
        """Those that guard: a child that has yet to become sleep has the same words for a moment."""
        mine = self.host.pids(r"\.llmhost\.sh run")
        return [p for p in mine if self.parent(p.outer_pid) not in {m.outer_pid for m in mine}]

    @staticmethod
    def parent(pid):
        try:
            with open(f"/proc/{pid}/stat") as f:
                return int(f.read().rpartition(")")[2].split()[1])
        except OSError:
            return None

    def settled(self):
        """The record of a guard that lives."""
        def one():
            record = self.record()
            return record and any(p.pid == record.pid for p in self.host.pids(r"\.llmhost\.sh run")) and record
        return hosts.until(one, 10, f"{self.host.name}: a guard")

    def path(self, name):
        """A file of the box, seen from the enclosure; while it is on."""
        return f"/proc/{self.host.pid}/root{name}"

    def text(self, name):
        try:
            with open(self.path(name), errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def record(self):
        return read(self.text(self.folder + "/.llmhost-guard"))

    def wait(self, true, limit_s, what):
        """The record, when TRUE(record) holds."""
        def right():
            record = self.record()
            return record and true(record) and record
        return hosts.until(right, limit_s, f"{self.host.name}: {what}")

    def ask(self, owner, seq, seconds, hold="=", hpid=0, *take):
        done = self.host.run(*self.words("sh", self.script, "ask", owner, str(seq), str(seconds), str(hold), str(hpid), *take), check=False)
        return done.returncode, read(done.stdout.partition("\n")[0])

    def program(self):
        program = "/root/guard_asks"
        if not os.path.exists(self.path(program)):
            with open(os.environ.get("BUILD", hosts.REPO + "/build") + "/guard_asks", "rb") as f:
                self.host.put(program, f.read(), 0o755)
            self.host.run("chmod 755 /root")
        return program

    def keeper(self, *words):
        """A daemon that keeps it until this is killed."""
        return Keeper(self, *words)

    def daemon(self, *words):
        """What the daemon makes of it: the words guard_asks prints."""
        done = self.host.run(*self.words(self.program(), *[str(w) for w in words]), check=False)
        if done.returncode != 0:
            raise AssertionError(f"guard_asks {words}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.split()

    def renew(self, owner, seq, seconds, **more):
        """One that must be taken."""
        status, record = self.ask(owner, seq, seconds, **more)
        if status != 0:
            raise AssertionError(f"not taken: status {status}, {record}")
        return record

    def kill_guard(self):
        self.host.run(f"kill -KILL {self.record().pid}")

    def is_off(self):
        return self.host.pid is None

    def off(self, limit_s):
        hosts.until(self.is_off, limit_s, f"{self.host.name} off; its record: {self.record()}")
        return self.stopped_at()

    def notes(self):
        """What the stop commands wrote, whether it is on or off."""
        try:
            with open(self.host.upper("/root/off")) as f:
                return [line.split() for line in f]
        except FileNotFoundError:
            return []

    def stopped_at(self):
        """When the first stop command was called; where it could not tell, now."""
        notes = self.notes()
        return notes and float(notes[0][0]) or uptime()

    def end(self):
        self.host.down()


class Keeper:
    """guard_asks keep WORDS on a box: a daemon that lives there."""
    def __init__(self, box, owner, *words):
        self.box, self.owner = box, owner
        self.log = f"{box.host.dir}/keeper{next(numbers)}.log"
        self.process = box.host.start(*box.words(box.program(), "keep", owner, *[str(w) for w in words]), log=self.log)

    def lines(self):
        with open(self.log) as f:
            return [line for line in f.read().splitlines() if not line[:1].isdigit()]       # others are of the daemon's log

    def says(self, line, limit_s=10):
        hosts.until(lambda: line in self.lines(), limit_s, f"{self.box.host.name}: {line!r} of {self.owner}: {self.lines()}")

    def kill(self):
        for process in self.box.host.pids(rf"guard_asks keep {self.owner} "):
            os.kill(process.outer_pid, signal.SIGKILL)
        self.process.wait()


def close(box):
    if box.host.pid or os.path.exists(f"/sys/class/net/{box.host.link}"):
        box.end()
