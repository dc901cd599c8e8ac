"""Many at once: 500 streams over a long wire, what a stream costs whose reader does not read, and a thousand forwards."""
import socket
import subprocess
import time

import bench
from bench import cpu_s, load, median, own_kb, rounds, show, spent_s

STREAMS, COUNT, PERIOD_US = 500, 50, 100_000
STALLED, STALLED_KIB = 10, 256          # SSH_WINDOW_STREAM, and what stands between it and the client
FORWARDS = 1000


def far_streams(w):
    """Over 40 ms, against `ssh -L`. New connections, as in bulk.py."""
    with bench.far_away(w.host, 40), w.ssh(w.engine) as peer:
        w.daemon.restart()
        w.daemon.wait_tunnel(w.name, "up")
        got = rounds(3, {"ours": lambda: load("streams", w.gateway, STREAMS, COUNT, PERIOD_US),
                         "ssh": lambda: load("streams", peer.port, STREAMS, COUNT, PERIOD_US)})
    share = {side: median([r["slowest_ms"] / r["median_ms"] for r in got[side]]) for side in got}
    show(f"{STREAMS} streams at 40 ms, the slowest against the median", "x", share["ours"], share["ssh"], "<= 2", share["ours"] <= 2)
    ours, ssh = (median(got[side], "pause_ms") for side in ("ours", "ssh"))
    show(f"{STREAMS} streams at 40 ms, longest pause of any", "ms", ours, ssh, "<= ssh", ours <= ssh, "a token each 100 ms")


def ask_and_never_read(port):
    """More than all buffers on the way hold. Ours here is small, so that it is the daemon which keeps the rest."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.settimeout(bench.REACHED_S)
    s.connect(("127.0.0.1", port))
    body = b'{"model":"%s","stream":true,"max_tokens":10000000,"period_us":1}' % bench.MODEL.encode()
    s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    if not s.recv(12) == b"HTTP/1.1 200":
        raise SystemExit("a stream was not answered")
    return s


def until_still(pid):
    """Until nothing moves any more: the windows are full, and before them the kernel's buffers, which grow to megabytes."""
    for _ in range(120):
        before = spent_s(pid)
        bench.settle()
        if spent_s(pid) - before < 0.005:
            return
    raise SystemExit("the streams did not come to rest")


def stalled_streams(w):
    load("streams", w.gateway, STALLED, 10, 1000)       # what the first ones cost once
    bench.settle(2)
    before = own_kb(w.daemon.pid)
    open_ones = [ask_and_never_read(w.gateway) for _ in range(STALLED)]
    until_still(w.daemon.pid)
    each = (own_kb(w.daemon.pid) - before) / STALLED
    if w.daemon.model("llama.cpp:" + bench.MODEL)["in_flight"] != STALLED:
        raise SystemExit("the streams did not wait for their readers")
    show("memory for each stalled stream", "KiB", each, None, f"<= {STALLED_KIB} KiB", each <= STALLED_KIB, "of small events")
    for s in open_ones:
        s.close()


def many_forwards(w):
    """Each is asked for on its own, then all of them are connected at once and used, by one loop on one core."""
    ports = [bench.next_port() for _ in range(FORWARDS)]
    before, begun = own_kb(w.daemon.pid), time.monotonic()
    with w.daemon.varlink(60) as v:
        for port in ports:
            v.send("ForwardAdd", {"instance": w.name, "spec": f"127.0.0.1:{port}:127.0.0.1:{bench.PIPE_PORT}"})
            list(v.replies())
    took = time.monotonic() - begun
    show(f"{FORWARDS} forwards, added", "1/s", FORWARDS / took, None, "", None)
    show("memory for each forward", "KiB", (own_kb(w.daemon.pid) - before) / FORWARDS, None, "", None)
    cpu, begun = cpu_s(w.daemon.pid), time.monotonic()
    open_ones = [socket.create_connection(("127.0.0.1", port)) for port in ports]
    for s in open_ones:
        s.settimeout(60)
        s.sendall(b"e" + bytes(8) + b"x")
    wrong = sum(s.recv(1) != b"x" for s in open_ones)
    if wrong:
        raise SystemExit(f"{wrong} forwards gave another byte")
    took, cpu = time.monotonic() - begun, cpu_s(w.daemon.pid) - cpu
    show(f"{FORWARDS} forwards, all connected and answered", "s", took, None, "on one core", cpu <= took, f"{cpu:.2f} s of it ours")
    for s in open_ones:
        s.close()


with bench.World(workers=STREAMS + 50) as w:
    stalled_streams(w)
    many_forwards(w)
    far_streams(w)
