"""What every row of the bench shares: a machine, a daemon with a model that is ready, the peer, and a table.

    with World() as w:                          # inside an enclosure (tests/lab/lab)
        w.gateway                               # port here: a model server behind our gateway
        peer = w.ssh(w.engine)                  # port here: `ssh -N -L` to the same server
        rounds(5, {"ours": lambda: ..., "ssh": lambda: ...})       # interleaved; {"ours": [...], "ssh": [...]}
        show("1 KiB, keep-alive, p50", "ms", ours, ssh, "<= ssh + 0.1 ms", ours <= ssh + 0.1)

A row never fails because of a time: it says met or short, and fails only when something did not work.
"""
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "lab"))
import host as hosts
from daemon import Daemon
from host import Host

PROGRAMS = os.environ.get("BENCH_PROGRAMS", "")         # where run put serve and load
MODEL = "/root/bench.gguf"                              # never read: the server is ours
PIPE_PORT = 7000
REACHED_S = 60
# The words of llama-server that the daemon uses; anything else it says goes to a log nobody reads.
LLAMA_SERVER = """#!/bin/sh
case " $* " in *" --version "*) echo "version: 11669 (bench)"; exit 0 ;; esac
while [ $# -gt 0 ]; do [ "$1" = --port ] && port=$2; shift; done
exec /usr/local/bin/bench-serve http "$port" WORKERS
"""
SSH = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
       "-o", "LogLevel=ERROR", "-o", "ExitOnForwardFailure=yes"]


class Peer:
    """A tunnel of ssh or autossh, and its port here."""

    def __init__(self, host, key, far_port, words=None, env=None):
        self.port = next_port()
        self.process = subprocess.Popen(
            (words or SSH) + (SSH[1:] if words else []) + ["-i", key, "-p", str(host.port), "-N", "-L",
                                                          f"127.0.0.1:{self.port}:127.0.0.1:{far_port}", f"root@{host.ip}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=dict(os.environ, **(env or {})), start_new_session=True)

    def __enter__(self):
        hosts.until(lambda: listens(self.port), REACHED_S, "the tunnel of ssh", 0.005)
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 15)
        self.process.wait()


class World:
    """One machine with a model server and a byte server, our daemon connected to it, the model ready."""

    def __init__(self, name="gpu1", daemon=None, model=True, workers=64):
        self.workers = workers
        self.name, self.daemon, self.with_model, self.owns = name, daemon, model, daemon is None

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            self.host = machine(self.name, self.workers)
            self.key = key()
            let_in(self.host, self.key)
            if self.owns:
                self.daemon = stack.enter_context(Daemon())
            add(self.daemon, self.host)
            if self.with_model:
                self.daemon.ctl("up", "llama.cpp:" + MODEL, "--on", self.name, timeout=REACHED_S)
                self.engine = engine_port(self.host)
            self.gateway = self.daemon.port
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *failed):
        self.stack.__exit__(*failed)
        self.host.down()

    def ssh(self, far_port):
        return Peer(self.host, self.key, far_port)

    def forward(self, far_port=PIPE_PORT):
        port = next_port()
        self.daemon.ctl("forward", "add", self.name, f"127.0.0.1:{port}:127.0.0.1:{far_port}")
        hosts.until(lambda: listens(port), REACHED_S, "our forward", 0.005)
        return port


def machine(name, workers=64):
    host = Host(name)
    host.up()
    with open(PROGRAMS + "/serve", "rb") as f:
        host.put("/usr/local/bin/bench-serve", f.read(), 0o755)
    host.put("/usr/local/bin/llama-server", LLAMA_SERVER.replace("WORKERS", str(workers)), 0o755)
    host.start("/usr/local/bin/bench-serve", "pipe", str(PIPE_PORT), "1200")
    return host


def direct(kind="http", port=20999):
    """The same server without any tunnel: the floor, and how much noise there is today."""
    server = subprocess.Popen([PROGRAMS + "/serve", kind, str(port)], stdout=subprocess.DEVNULL)
    hosts.until(lambda: listens(port), REACHED_S, "a server here", 0.005)
    return server, port


def key():
    path = "/run/lab/bench-key"
    if not os.path.exists(path):
        hosts.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)
    return path


def let_in(host, path):
    with open(path + ".pub") as f:
        host.put("/root/.ssh/authorized_keys", f.read(), 0o600)


def add(daemon, host):
    daemon.ctl("instance", "add", host.name, host.ssh_command, password=host.password)
    daemon.wait_tunnel(host.name, "up", REACHED_S)


def engine_port(host):
    """The model server's, which the daemon chose: the third word of the pid file it keeps on the machine."""
    return int(host.run("cat /root/.llmhost/run/*.pid").stdout.split()[2])


ports = iter(range(21000, 30000))


def next_port():
    return next(ports)


@contextlib.contextmanager
def far_away(host, round_trip_ms):
    """A longer wire, half of it at each receiver. The lab's own fault holds our packets on their way out, where TCP counts
    them as not yet sent (TCP small queues) and an upload stays below 6 MB/s; a wire does not do that."""
    queue, delay = "60", f"{round_trip_ms / 2:g}"
    ends = (["ip", "netns", "exec", host.name], ["-i", "eth0"]), ([], ["-s", host.ip])
    helpers = []
    try:
        for words, rule in ends:
            helper = subprocess.Popen(words + [hosts.delay_program(), queue, "--", delay, "0", "0"], stdout=subprocess.PIPE)
            helpers.append(helper)
            if helper.stdout.readline() != b"bound\n":
                raise hosts.HostError("no delay")
            hosts.command(*words, "iptables", "-w", "-A", "INPUT", *rule, "-j", "NFQUEUE", "--queue-num", queue, "--queue-bypass")
        yield
    finally:
        for (words, rule), helper in zip(ends, helpers):
            hosts.command(*words, "iptables", "-w", "-F", "INPUT", check=False)
            helper.kill()
            helper.wait()


def sshd_version():
    """(9, 2) for OpenSSH_9.2p1; sshd and ssh come from one package here."""
    said = subprocess.run(["ssh", "-V"], stderr=subprocess.PIPE, text=True).stderr
    return tuple(int(n) for n in re.search(r"OpenSSH_(\d+)\.(\d+)", said).groups())


def listens(port):
    with open("/proc/net/tcp") as f:
        return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in f.readlines()[1:])


def load(*words, timeout=300):
    """Runs load.c's program; the JSON it ends with."""
    done = subprocess.run([PROGRAMS + "/load"] + [str(w) for w in words], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout, env=dict(os.environ, MODEL=MODEL))
    if done.returncode != 0:
        raise hosts.HostError(f"load {' '.join(map(str, words))}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def rounds(count, sides):
    """Calls each side COUNT times, one after the other, in turn from the front and from the back."""
    results = {name: [] for name in sides}
    for n in range(count):
        for name in list(sides) if n % 2 == 0 else reversed(list(sides)):
            results[name].append(sides[name]())
    return results


def median(results, field=None):
    return statistics.median(r[field] if field else r for r in results)


def spread(results, field=None):
    """How far the rounds lie apart, as a share of their median: a figure with a large one is worth little."""
    values = sorted(r[field] if field else r for r in results)
    return (values[-1] - values[0]) / (statistics.median(values) or 1)


def show(what, unit, ours, peer, goal, met, note=""):
    """One line of the table. peer: None where there is none. met: None where there is no goal."""
    line = {"what": what, "unit": unit, "ours": ours, "peer": peer, "ratio": ours / peer if peer else None, "goal": goal,
            "verdict": "" if met is None else "met" if met else "short", "note": note}
    print(text_of(line), flush=True)
    place = os.environ.get("BENCH_RESULTS")
    if place:
        with open(place, "a") as f:
            f.write(json.dumps(line) + "\n")


def number(value):
    return "-" if value is None else f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}" if abs(value) >= 0.01 else f"{value:.4f}"


def text_of(line):
    return (f"{line['what']:<58} {number(line['ours']):>8} {number(line['peer']):>8} {line['unit']:<6} "
            f"{number(line['ratio']):>6}  {line['goal']:<34} {line['verdict']:<5} {line['note']}").rstrip()


TITLE = f"{'':<58} {'ours':>8} {'peer':>8} {'':<6} {'ratio':>6}  goal"


def cpu_s(pid):
    """Seconds of processor time, user and kernel, of a process so far."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spent_s(pid):
    """The same by the scheduler's own clock, for what is little."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            total += int(f.read().split()[0])
    return total / 1e9


def spent_by(name):
    """The same of all processes that are called so."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/comm") as f:
                total += spent_s(pid) if f.read() == name + "\n" else 0
    return total


def pss_kb(pid, line="Pss:"):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(text.split()[1]) for text in f if text.startswith(line))


def own_kb(pid):
    """What it shares with nobody: Pss changes also when others start."""
    return pss_kb(pid, "Private_Dirty:")


def switches(pid):
    """How often any thread of it gave up the processor to wait."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            total += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches"))
    return total


def settle(seconds=1.0):
    """Between two measurements that must not touch: what the one left behind ends here."""
    time.sleep(seconds)
