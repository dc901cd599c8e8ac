"""How soon each kind of outage is noticed and how soon the tunnel is back, beside what ssh itself takes to the same host.

Every kind on hosts of its own, one where nobody waits and one with a request that waits, all at the same time, $RUNS
times over (3; `tests/run tunnels`: 20). $SEED repeats the moments at which the faults come. The table of the worst values goes
to $LAB_LOGS/test_outages.table, which tests/run prints.

Two things are taken apart: how long the daemon waited before it had a TCP connection again (at most one pause between two tries,
where the path was away for longer), and how long it took from there; the second is what ssh is held against. What this
machine was late itself meanwhile, seen by a thread that only sleeps, and what TCP waited before it sent something again that this
machine's links had lost, as the kernel counts it, are added to a limit; nothing else is."""
import bisect
import concurrent.futures
import contextlib
import json
import os
import random
import re
import select
import socket
import statistics
import struct
import subprocess
import threading
import time

import daemon as daemons
import host as hosts
import road

LIMIT_S = 240
RECONNECTS = int(os.environ.get("RECONNECTS") or 100)
RUNS = int(os.environ.get("RUNS") or 3)
SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
NOTICED_S = {"idle": 10, "waiter": 3}
PAUSE_S = 15                # the longest between two tries
SETTLED_S = 2               # a tunnel lost sooner than that is tried again more slowly, as it should be
AWAY_S = (0.1, 3.0)         # how long the path stays away after that was noticed
KINDS = ("rst", "blackhole", "freeze", "unreach", "linkdown", "sshd_restart", "reboot", "address", "port")
RTO_S = 0.21                # the shortest, and what a timer adds
HOSTS_FILE = "/run/lab/hosts"
WAITING = {"script": {"delay_ms": 60_000}}


class Lateness:
    """Sleeps, and notes how much later than asked it woke up: what the machine adds to everything."""
    STEP_S = 0.01

    def __init__(self):
        self.at, self.late = [], []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            due = time.monotonic() + self.STEP_S
            time.sleep(self.STEP_S)
            self.late.append(time.monotonic() - due)
            self.at.append(due)

    def worst(self, start, end):
        first = bisect.bisect_left(self.at, start)
        return max(self.late[first:bisect.bisect_right(self.at, end) + 1], default=0)


class Watcher:
    """The tunnels of all instances as the daemon tells of them, with the time of this clock."""

    def __init__(self, d):
        self.seen, self.news = {}, threading.Condition()
        threading.Thread(target=self.run, args=(d,), daemon=True).start()

    def run(self, d):
        with contextlib.suppress(OSError, daemons.DaemonError):
            for reply in d.stream("Watch", timeout_s=3600):
                now = time.monotonic()
                with self.news:
                    for i in reply.get("instances") or [reply.get("instance")]:
                        if i:
                            self.seen.setdefault(i["name"], []).append((now, i["tunnel"]))
                    self.news.notify_all()

    def until(self, name, after, true, limit_s, what):
        """When the first tunnel after AFTER was seen for which TRUE holds."""
        found = lambda: next((at for at, t in self.seen.get(name, ()) if at >= after and true(t)), None)
        with self.news:
            self.news.wait_for(found, limit_s)
            if not found():
                raise hosts.HostError(f"{name}: {what}: not within {limit_s} s; {self.seen.get(name, [None])[-1]}")
            return found()


class Connections:
    """When TCP connections from here to a host came to be."""
    STEP_S = 0.004

    def __init__(self):
        self.since = {}
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            now, there = time.monotonic(), {}
            with open("/proc/net/tcp") as f:
                for line in f.readlines()[1:]:
                    _, local, remote, state = line.split()[:4]
                    if state == "01":
                        ip = socket.inet_ntoa(struct.pack("=I", int(remote[:8], 16)))
                        there[ip, local] = self.since.get((ip, local), now)
            self.since = there
            time.sleep(self.STEP_S)

    def of(self, ip):
        return {local: at for (there, local), at in self.since.items() if there == ip}


def sent_again_s(ip, local_ports):
    """What TCP waited in these connections: 0.2 s before it sent something again, doubling."""
    said = hosts.command("ss", "-tinHO", "dst", ip)
    longest = 0
    for line in said.splitlines():
        again = re.search(r":(\d+)\s+\S+:\d+\s.*\bretrans:\d+/(\d+)", line)
        if again and int(again[1]) in local_ports:
            longest = max(longest, RTO_S * (2 ** min(int(again[2]), 6) - 1))
    return longest


class Row:
    """What was measured of one fault, idle or with a waiter."""

    def __init__(self, kind, who):
        self.kind, self.who = kind, who
        self.noticed, self.waited, self.connected, self.ssh, self.late = [], [], [], [], []

    def wrong(self):
        limit_ssh = statistics.median(self.ssh)
        for noticed, waited, connected, (late, late_back) in zip(self.noticed, self.waited, self.connected, self.late):
            if noticed > NOTICED_S[self.who] + late:
                yield f"noticed after {noticed:.2f} s, machine late {late:.2f} s"
            if waited > PAUSE_S + late_back:
                yield f"{waited:.2f} s without a try, machine late {late_back:.2f} s"
            if connected > limit_ssh + late_back:
                yield f"connected in {connected:.3f} s, ssh {limit_ssh:.3f} s, machine late {late_back:.3f} s"

    TITLE = (f"{'fault':13} {'who':7} {'noticed':>8} {'limit':>6}   {'next try':>8} {'limit':>6}   {'connected':>9} {'ssh':>6}"
             f"   {'machine late':>12}")

    def __str__(self):
        return (f"{self.kind:13} {self.who:7} {max(self.noticed):7.2f}s {NOTICED_S[self.who]:5}s   {max(self.waited):7.2f}s "
                f"{PAUSE_S:5}s   {1000 * max(self.connected):7.0f}ms {1000 * statistics.median(self.ssh):4.0f}ms   "
                f"{1000 * max(max(l) for l in self.late):10.0f}ms")


class Outages(road.Road):
    LATENESS, CONNECTIONS, NAMES = Lateness(), Connections(), threading.Lock()

    # What a kind does ------------------------------------------------------------------------------------------------

    def begin(self, h, kind):
        if kind in ("reboot", "address", "port"):
            h.down()
        else:
            h.fault(kind)

    def end(self, d, h, kind, name):
        """Returns when the path is back."""
        if kind == "reboot":
            h.up()
        elif kind == "address":
            h.up(ip=f"10.99.200.{hosts.next_number()}")
            self.name_leads_to(name, h.ip)
        elif kind == "port":
            h.up(port=h.port + 1)
        elif kind not in ("rst", "sshd_restart"):       # which are over by themselves
            h.heal()

    def name_leads_to(self, name, ip):
        """In this enclosure alone. Written in place: it is mounted over."""
        with self.NAMES:
            with open(HOSTS_FILE) as f:
                others = [line for line in f if not line.endswith(f" {name}.lab\n")]
            with open(HOSTS_FILE, "w") as f:
                f.write("".join(others) + f"{ip} {name}.lab\n")

    # One host --------------------------------------------------------------------------------------------------------

    def ssh_s(self, h):
        """From the start of ssh to the end of `true` over there, with the default algorithms and a key."""
        started = time.monotonic()
        done = subprocess.run(
            ["ssh", "-i", self.key, "-p", str(h.port), "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o",
             "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"root@{h.ip}", "true"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=30)
        self.assertEqual(done.returncode, 0, done.stderr)
        return time.monotonic() - started

    def ask(self, d, model):
        """A request that gets no byte for a minute, unless something happens to it."""
        asked = d.connect()
        asked.request("POST", "/v1/chat/completions", json.dumps(dict({"model": model}, **WAITING)),
                      {"Content-Type": "application/json"})
        hosts.until(lambda: d.model("ollama:" + model)["in_flight"] == 1, 10, f"{model}: a request in flight", 0.05)
        time.sleep(0.7)                                 # the engine has it
        return asked

    def once(self, d, watcher, h, row, name, dice):
        asked = None
        if row.who == "waiter":
            d.ctl("up", f"ollama:scripted:{name}")      # after a power-on the engine is started anew
        time.sleep(SETTLED_S + dice.uniform(0, 3))
        if row.who == "waiter":
            asked = self.ask(d, f"scripted:{name}")
        known = set(self.CONNECTIONS.of(h.ip))
        started = time.monotonic()
        self.begin(h, row.kind)
        begun = time.monotonic()
        noticed = watcher.until(name, started, lambda t: t["state"] != "up", NOTICED_S[row.who] + 5, "noticed")
        if row.kind == "rst":
            back = min(begun, noticed)
        elif row.kind == "sshd_restart":
            back = begun
        else:
            time.sleep(dice.uniform(*AWAY_S))
            self.end(d, h, row.kind, name)
            back = time.monotonic()
        if row.kind == "port":                          # which only a person can tell
            d.ctl("instance", "set", name, h.ssh_command)
        up = watcher.until(name, max(noticed, started), lambda t: t["state"] == "up", PAUSE_S + 10, "up")
        made = {local: at for local, at in self.CONNECTIONS.of(h.ip).items() if local not in known}
        tried = max(back, min(made.values(), default=up))       # none: the old one was heard again
        again = sent_again_s(h.ip, {int(local.partition(":")[2], 16) for local in made})
        row.noticed.append(max(0, noticed - begun))
        row.waited.append(tried - back)
        row.connected.append(max(0, up - tried))
        row.late.append((self.LATENESS.worst(started, noticed), self.LATENESS.worst(back, up) + again))
        row.ssh.append(self.ssh_s(h))
        if asked:
            self.judge(row.kind, asked)

    def judge(self, kind, asked):
        """It was with the engine, so it is not asked again: that it is lost is said soon, or it waits on where only silence was."""
        with contextlib.closing(asked):
            silence = kind in ("blackhole", "freeze", "unreach", "linkdown")
            if select.select([asked.sock], [], [], 0 if silence else NOTICED_S["idle"])[0]:
                answer = asked.getresponse()
                self.assertEqual((answer.status, json.loads(answer.read())["error"]["code"]), (502, "tunnel_lost"))
            else:
                self.assertTrue(silence, "it still waits")

    def row(self, d, watcher, h, row, name):
        dice = random.Random(f"{SEED} {name}")
        with open(self.key + ".pub") as f:
            h.put("/root/.ssh/authorized_keys", f.read(), 0o600)
        self.name_leads_to(name, h.ip)
        command = h.ssh_command.replace(h.ip, name + ".lab") if row.kind == "address" else h.ssh_command
        d.ctl("instance", "add", name, command, password=h.password)
        if row.who == "waiter":
            d.ctl("up", f"ollama:scripted:{name}", "--on", name)
        for n in range(RUNS):
            try:
                self.once(d, watcher, h, row, name, dice)
            except Exception as e:
                raise AssertionError(f"{row.kind}, {row.who}, run {n + 1}: {e}") from e

    # All of them -----------------------------------------------------------------------------------------------------

    def show(self, rows):
        table = "\n".join([f"worst of {RUNS} runs each, SEED={SEED}", Row.TITLE] + [str(r) for r in rows if r.late]) + "\n"
        print(table)
        if os.environ.get("LAB_LOGS"):
            with open(os.environ["LAB_LOGS"] + "/test_outages.table", "w") as f:
                f.write(table)

    def test_each_is_noticed_in_time_and_the_tunnel_is_back_no_later_than_ssh(self):
        self.key = self.dir + "/key"
        hosts.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key)
        with open("/etc/hosts") as f, open(HOSTS_FILE, "w") as ours:
            ours.write(f.read().rstrip("\n") + "\n")
        hosts.command("mount", "--bind", HOSTS_FILE, "/etc/hosts")
        rows = [Row(kind, who) for kind in KINDS for who in NOTICED_S]
        names = {f"{r.kind[:6].replace('_', '-')}-{r.who[:1]}": r for r in rows}
        with contextlib.ExitStack() as stack:
            d = stack.enter_context(daemons.Daemon())
            machines = {n: stack.enter_context(self.host(n, ("scripted",))) for n in names}
            watcher = Watcher(d)
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                done = {n: pool.submit(self.row, d, watcher, machines[n], row, n) for n, row in names.items()}
            self.show(rows)
            for name, row in names.items():
                with self.subTest(f"{row.kind}, {row.who}"):
                    done[name].result()
                    self.assertEqual(list(row.wrong()), [])


class Reconnects(road.Road):
    INSTANCES = 10              # to one machine, all lost at once

    def held(self, d):
        """Open descriptors, and KiB of memory that are the daemon's own."""
        with open(f"/proc/{d.pid}/smaps_rollup") as f:
            dirty = next(int(line.split()[1]) for line in f if line.startswith("Private_Dirty:"))
        return len(os.listdir(f"/proc/{d.pid}/fd")), dirty

    def test_many_leave_no_descriptor_and_no_byte_behind(self):
        """What was lost for good the sanitizer says at the end; freed memory it must not keep for long meanwhile."""
        with self.host("often") as h, daemons.Daemon(env={"ASAN_OPTIONS": "quarantine_size_mb=1"}) as d:
            names = [f"often{n}" for n in range(self.INSTANCES)]
            for name in names:
                d.ctl("instance", "add", name, h.ssh_command, password=h.password)
            rounds = RECONNECTS // self.INSTANCES
            for n in range(1, rounds + 1):
                time.sleep(SETTLED_S / 2)
                if n == (rounds + 1) // 2:              # our own last connection to it is closed by now
                    descriptors, before = self.held(d)
                h.fault("rst")
                back = lambda: all(i["tunnel"]["state"] == "up" and i["tunnel"]["reconnects"] == n
                                   for i in d.call("Status")["instances"])
                hosts.until(back, PAUSE_S, f"all of them back for the {n}. time", 0.05)
            time.sleep(SETTLED_S / 2)
            after = self.held(d)
            self.assertLessEqual(after[0], descriptors)
            print(f"{RECONNECTS} reconnects: {after[0]} descriptors, {after[1] - before} KiB more in the second half")
            # Under the sanitizer the same run ends anywhere between 3 MiB less and 1.5 MiB more. One session left behind each time
            # would be 67 KiB without it, and more with it.
            self.assertLess(after[1] - before, 3 * 1024)
