"""What it costs to be there: memory for sessions and streams, processor time and wake-ups of a daemon nobody asks."""
import subprocess
import time

import bench
from bench import own_kb, pss_kb, show, spent_s, switches
from daemon import Daemon

SOME, ALL = 8, 10
STREAMS = 500
QUIET_S = 20


def quiet(pid):
    """Share of one core and wake-ups a second, over QUIET_S."""
    cpu, count, begun = spent_s(pid), switches(pid), time.monotonic()
    time.sleep(QUIET_S)
    took = time.monotonic() - begun
    return (spent_s(pid) - cpu) / took, (switches(pid) - count) / took


def show_quiet(d, sessions, goal):
    share, wakes = quiet(d.pid)
    show(f"wake-ups with {sessions} sessions", "1/s", wakes, None, f"<= {goal}/s" if goal else "0",
         wakes <= goal if goal else wakes < 0.06)
    show(f"idle processor time with {sessions} sessions", "%", 100 * share, None, "< 0.05 %", share < 0.0005)


def connect(d, n):
    host = bench.machine(f"gpu{n}")
    bench.let_in(host, bench.key())
    bench.add(d, host)
    return host


def stream_cost(d, host):
    """Memory for each stream that was used once and is idle now."""
    port = bench.next_port()
    d.ctl("forward", "add", host.name, f"127.0.0.1:{port}:127.0.0.1:{bench.PIPE_PORT}")
    bench.settle()
    before = own_kb(d.pid)
    held = subprocess.Popen([bench.PROGRAMS + "/load", "hold", str(port), str(STREAMS)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, text=True)
    if held.stdout.readline() != "held\n":
        raise SystemExit("streams could not be opened")
    bench.settle()
    after = own_kb(d.pid)
    held.stdin.close()
    held.wait()
    return (after - before) / STREAMS


with Daemon() as d:
    bench.settle(3)
    show_quiet(d, 0, 0)
    hosts = [connect(d, 1)]
    bench.settle()
    first = own_kb(d.pid)
    hosts += [connect(d, n) for n in range(2, SOME + 1)]
    bench.settle()
    some, each = pss_kb(d.pid), (own_kb(d.pid) - first) / (SOME - 1)
    peers = [bench.Peer(h, bench.key(), bench.PIPE_PORT) for h in hosts]
    bench.settle(3)
    ssh_kb, ssh_own_kb = sum(pss_kb(p.process.pid) for p in peers), sum(own_kb(p.process.pid) for p in peers)
    for p in peers:
        p.end()
    show(f"memory, {SOME} sessions (Pss)", "MB", some / 1e3, ssh_kb / 1e3, "<= 8 MB", some <= 8000,
         f"{own_kb(d.pid) / 1e3:.1f} its own; the rest are libraries, which count less where others run that have them")
    show("memory for each further session, not shared", "KiB", each, ssh_own_kb / SOME, "<= 64 KiB", each <= 64)
    hosts += [connect(d, n) for n in range(SOME + 1, ALL + 1)]
    bench.settle(8)
    show_quiet(d, ALL, 3)
    each = stream_cost(d, hosts[0])
    show("memory for each idle stream", "KiB", each, None, "<= 4 KiB", each <= 4)
    for h in hosts:
        h.down()
