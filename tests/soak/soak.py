"""Two hours of an ordinary day: eight machines, a light load, a cut every ten minutes, default times throughout.

usage (inside an enclosure): soak.py SECONDS

What must stay flat is the daemon's own memory, its descriptors, threads and queues. A sample is taken each half minute in a
pause of the load, so that equal moments are compared: nothing in flight, all tunnels up. What grows for a reason is told
apart: the database grows by events, and is bounded by their number (store.h); the ring of log lines fills to its 4 MiB once and
is measured by itself.
Every request must have got the answer its script says, byte for byte or piece by piece, but for those a cut met: these must have
been told so.
"""
import collections
import contextlib
import json
import os
import random
import re
import socket
import sys
import threading
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HERE + "/../lab")
import daemon as daemons
import host as hosts
import http_engine

HOSTS = 8
CUTS = ("rst", "blackhole", "freeze", "linkdown", "refuse", "sshd_restart", "power")
TAIL = 600                      # of an answer, for TOLD and for people
# What somebody is told whose answer a cut has ended: an error in the dialect; a length that is not reached, where it is too late for words.
TOLD = re.compile(r'"error"|IncompleteRead|ConnectionReset')
AWAY_S = 12                     # longer than the daemon may take to notice
SAMPLE_S = 30
REQUESTS_PER_S = 3
WARM_SHARE = 0.25               # what comes before is warming up: pools, caches, the log's ring
RING_KIB = 4096
# How much the straight line through the samples may rise in an hour, after warming up.
FLAT = {"own_kib": 256, "descriptors": 0.5, "threads": 0.1, "sockets_in": 0.5, "sockets_out": 0.5}


class Sample:
    """The daemon from outside."""

    def __init__(self, d):
        self.at = time.monotonic()
        rollup = read(f"/proc/{d.pid}/smaps_rollup")
        self.rss_kib = number(rollup, "Rss")
        self.pss_kib = number(rollup, "Pss")
        self.ring_kib = ring_of(d.pid)
        self.own_kib = number(rollup, "Private_Dirty") - self.ring_kib
        targets = collections.Counter(kind_of(f"/proc/{d.pid}/fd/{n}") for n in os.listdir(f"/proc/{d.pid}/fd"))
        self.descriptors, self.kinds = sum(targets.values()), targets
        self.threads = len(os.listdir(f"/proc/{d.pid}/task"))
        self.wakes = sum(int(n) for n in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", read(f"/proc/{d.pid}/status"), re.M))
        self.cpu_s = sum(int(n) for n in read(f"/proc/{d.pid}/stat").rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")
        tcp = [line.split() for line in read(f"/proc/{d.pid}/net/tcp").splitlines()[1:]]
        gateway = f":{d.port:04X}"
        self.sockets_in = sum(t[1].endswith(gateway) and t[3] == "01" for t in tcp)
        self.sockets_out = sum(t[2].endswith(":0016") and t[3] == "01" for t in tcp)
        status = d.call("Status")
        self.in_flight = sum(m["in_flight"] for m in status["models"])
        self.held = sum(m["held"] for m in status["models"])
        self.up = sum(i["tunnel"]["state"] == "up" for i in status["instances"])
        self.reconnects = sum(i["tunnel"]["reconnects"] for i in status["instances"])
        self.requests = sum(m["requests"] for m in status["models"])
        self.database_kib = sum(os.path.getsize(f"{d.state}/{n}") for n in os.listdir(d.state)
                                if n.startswith("llmhost.db")) // 1024

    def line(self):
        return (f"rss {self.rss_kib} pss {self.pss_kib} own {self.own_kib} ring {self.ring_kib} KiB  fds {self.descriptors}  threads {self.threads}  "
                f"in/out {self.sockets_in}/{self.sockets_out}  flight/held {self.in_flight}/{self.held}  up {self.up}  "
                f"reconnects {self.reconnects}  requests {self.requests}  db {self.database_kib} KiB  cpu {self.cpu_s:.1f} s")


def ring_of(pid):
    """What is filled of the block in which log lines are kept (daemon/base/log.c): the only mapping of about its size."""
    for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", read(f"/proc/{pid}/smaps"), flags=re.M)[1:]:
        if RING_KIB <= number(mapping, "Size") <= RING_KIB + 64:
            return number(mapping, "Private_Dirty")
    return 0


def read(path):
    with open(path) as f:
        return f.read()


def number(text, name):
    return int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])


def kind_of(path):
    with contextlib.suppress(OSError):
        return re.sub(r"[:/].*", "", os.readlink(path)) or "file"
    return "gone"


class Load:
    """Requests of every kind, a few a second, by a handful of clients."""

    KINDS = ("plain", "stream", "chat", "leave", "list", "status", "slow")

    def __init__(self, d, names, dice):
        self.d, self.names, self.dice = d, names, dice
        self.end, self.pause = threading.Event(), threading.Event()
        self.counts, self.problems, self.lock, self.busy = collections.Counter(), [], threading.Lock(), 0
        self.cut_until = {name: 0.0 for name in names}      # answers may say so until then
        self.threads = [threading.Thread(target=self.run, args=(random.Random(dice.random()),), daemon=True)
                        for _ in range(REQUESTS_PER_S)]
        for t in self.threads:
            t.start()

    def run(self, dice):
        while not self.end.wait(dice.uniform(0.5, 1.5)):
            if self.pause.is_set():
                continue
            kind, name = dice.choice(self.KINDS), dice.choice(self.names)
            with self.lock:
                self.busy += 1
            begun = time.monotonic()
            try:
                said = getattr(self, kind)(name, dice)
            except Exception as e:
                said = repr(e)
            with self.lock:
                self.busy -= 1
                self.counts[kind] += 1
                excused = begun <= self.cut_until[name]
                if said is not None:
                    told = excused and TOLD.search(said) is not None
                    self.counts["told of a cut" if told else "problem"] += 1
                    if not told and len(self.problems) < 20:
                        self.problems.append(f"{kind} to {name}{', in a cut and not told of it' if excused else ''}: {said}")

    def ask(self, path, name, script, stream=False, limit_s=120):
        body = {"model": f"scripted:{name}", "stream": stream, "messages": [{"role": "user", "content": "count"}], "script": script}
        return self.d.post(path, body, timeout_s=limit_s)

    @staticmethod
    def counted(answer, n, pattern):
        found = [int(x) for x in re.findall(pattern, answer.body)]
        if answer.status != 200 or found != list(range(n)):
            return f"status {answer.status}, {len(found)} of {n} pieces: {answer.text[-TAIL:]}"
        return None

    def whole(self, name, script):
        """An unstreamed answer is what the engine said, byte for byte."""
        answer = self.ask("/v1/chat/completions", name, script)
        n, size = script.get("chunks", 1), script.get("bytes", 20)
        expected = b"".join(http_engine.piece_of(i, size, False) for i in range(n))
        if answer.status == 200 and answer.body == expected:
            return None
        return f"status {answer.status}, {len(answer.body)} of {len(expected)} bytes: {answer.text[-TAIL:]}"

    def plain(self, name, dice):
        return self.whole(name, {"chunks": 3, "bytes": dice.choice((20, 5000))})

    def stream(self, name, dice):
        n = dice.randrange(1, 60)
        return self.counted(self.ask("/v1/chat/completions", name, {"chunks": n, "gap_ms": 30}, True), n, rb"data: (\d+)")

    def chat(self, name, dice):
        n = dice.randrange(1, 60)
        return self.counted(self.ask("/api/chat", name, {"chunks": n, "gap_ms": 30}, True), n, rb'"n":(\d+)')

    def slow(self, name, dice):
        return self.whole(name, {"delay_ms": dice.randrange(2000, 15000)})

    def leave(self, name, dice):
        """A client that goes away in the middle of its answer."""
        with contextlib.closing(self.d.connect(30)) as c:
            c.request("POST", "/v1/chat/completions", json.dumps({
                "model": f"scripted:{name}", "stream": True, "script": {"chunks": 200, "gap_ms": 20}}), {"Content-Type": "application/json"})
            time.sleep(dice.uniform(0, 1))

    def list(self, name, dice):
        answer = self.d.get(dice.choice(("/v1/models", "/api/tags", "/api/ps", "/health")))
        return None if answer.status in (200, 503) else f"status {answer.status}"

    def status(self, name, dice):
        method = dice.choice(("Status", "Ps", "Why", "Logs", "Doctor", "InstanceList"))
        return None if self.d.call(method) else "no answer"

    def quiet(self):
        """No new requests, and the end of those there are."""
        self.pause.set()
        hosts.until(lambda: self.busy == 0, 120, "the end of open requests")

    def go_on(self):
        self.pause.clear()

    def stop(self):
        self.end.set()
        for t in self.threads:
            t.join(130)


class Follower:
    """Somebody who watches, or follows the log, all day."""

    def __init__(self, d, method, **parameters):
        self.varlink, self.replies, self.error = d.varlink(None), 0, None
        self.varlink.send(method, parameters, more=True)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            for _ in self.varlink.replies():
                self.replies += 1
        except Exception as e:
            self.error = e


class Forward:
    """A connection through a forward that is kept, and made anew when a cut has ended it."""

    def __init__(self, d, name, port):
        self.port, self.failures, self.socket = port, 0, None
        d.ctl("forward", "add", name, f"127.0.0.1:{port}:127.0.0.1:22")

    def look(self):
        """The banner of sshd, through sshd."""
        try:
            with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 30)) as s:
                if not s.recv(64).startswith(b"SSH-"):
                    self.failures += 1
        except OSError:
            self.failures += 1


def cut(host, kind):
    if kind == "power":
        host.down()
        time.sleep(AWAY_S)
        host.up()
        return
    host.fault(kind)
    if kind == "refuse":
        host.fault("rst")
    if kind != "rst":
        time.sleep(AWAY_S)
        host.heal()


def slope_per_hour(samples, name):
    """Least squares over the samples after warming up."""
    xs, ys = [s.at / 3600 for s in samples], [getattr(s, name) for s in samples]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / spread if spread else 0.0


def judge(samples, seconds):
    """The table, and what is wrong with it."""
    warm = [s for s in samples if s.at - samples[0].at >= WARM_SHARE * seconds]
    if len(warm) < 3:
        return ["too few samples to judge: a longer run is needed"]
    wrong = []
    rows = ("rss_kib", "pss_kib", "own_kib", "ring_kib", "descriptors", "threads", "sockets_in", "sockets_out", "in_flight", "held", "database_kib")
    print(f"{'':14}{'start':>10}{'warm':>10}{'middle':>10}{'end':>10}{'per hour':>12}")
    for name in rows:
        slope = slope_per_hour(warm, name)
        cells = [getattr(s, name) for s in (samples[0], warm[0], warm[len(warm) // 2], warm[-1])]
        print(f"{name:14}" + "".join(f"{c:>10}" for c in cells) + f"{slope:>+12.2f}")
        # Short runs have steep lines through nothing: what counts is the rise over the run itself.
        if name in FLAT and slope > FLAT[name] and warm[-1].at - warm[0].at > 1800:
            wrong.append(f"{name} grows by {slope:.2f} an hour, at most {FLAT[name]} is flat")
    if not any(s.ring_kib for s in samples):
        wrong.append("the ring of log lines was not found among the mappings")
    for s in warm:
        if s.in_flight or s.held:
            wrong.append(f"a queue was not empty in a pause: {s.line()}")
            break
    hours = (samples[-1].at - samples[0].at) / 3600
    cpu, wakes = samples[-1].cpu_s - samples[0].cpu_s, samples[-1].wakes - samples[0].wakes
    print(f"{samples[-1].requests} requests, {samples[-1].reconnects} reconnects in {hours:.2f} h; "
          f"processor {cpu / hours / 36:.2f} %, {wakes / hours / 3600:.0f} wake-ups/s under this load; kinds {dict(samples[-1].kinds)}")
    return wrong


def main(seconds):
    seed = int(os.environ.get("SEED") or random.randrange(1 << 32))
    print(f"seed {seed} (SEED=); {seconds} s, a cut every {seconds / 12:.0f} s", flush=True)
    dice = random.Random(seed)
    names = [f"gpu{n}" for n in range(1, HOSTS + 1)]
    machines = {n: hosts.Host(n, engines=["scripted"]).up(wipe=True) for n in names}
    wrong = []
    with daemons.Daemon() as d:
        for n, h in machines.items():
            d.ctl("instance", "add", n, h.ssh_command, password=h.password)
            d.ctl("up", f"ollama:scripted:{n}", "--on", n)
        followers = [Follower(d, "Watch"), Follower(d, "Logs", follow=True)]
        forwards = [Forward(d, n, 9000 + i) for i, n in enumerate(names[:2])]
        load = Load(d, names, dice)
        samples, begun = [], time.monotonic()
        next_cut, cuts = begun + seconds / 24, 0
        while time.monotonic() < begun + seconds:
            time.sleep(min(SAMPLE_S, seconds / 40))
            if time.monotonic() >= next_cut:
                kind, name = CUTS[cuts % len(CUTS)], dice.choice(names)
                print(f"{time.monotonic() - begun:6.0f} s  cut {name}: {kind}", flush=True)
                with load.lock:
                    load.cut_until[name] = time.monotonic() + 3600
                cut(machines[name], kind)
                d.wait_tunnel(name, "up", 40)
                hosts.until(lambda: d.model(f"ollama:scripted:{name}")["state"] == "ready", 60, f"{name} ready again")
                with load.lock:
                    load.cut_until[name] = time.monotonic()
                cuts, next_cut = cuts + 1, next_cut + seconds / 12
            load.quiet()
            for f in forwards:
                f.look()
            time.sleep(1)
            samples.append(Sample(d))
            load.go_on()
            print(f"{time.monotonic() - begun:6.0f} s  {samples[-1].line()}", flush=True)
        load.stop()
        wrong += judge(samples, seconds) + load.problems
        wrong += [f"a follower ended: {f.error!r}" for f in followers if f.error or not f.replies]
        wrong += [f"the forward at {f.port} failed {f.failures} times" for f in forwards if f.failures]
        print("requests: " + ", ".join(f"{n} {kind}" for kind, n in sorted(load.counts.items())) + f"; {cuts} cuts")
        if samples[-1].up != HOSTS:
            wrong.append(f"{HOSTS - samples[-1].up} tunnels are not up at the end")
    for h in machines.values():
        h.down()
    print("\n".join(["NOT FLAT:"] + wrong) if wrong else "flat")
    return 1 if wrong else 0


sys.exit(main(int(sys.argv[1])))
