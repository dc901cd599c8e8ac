"""One stream through a plain forward, each direction, against `ssh -L`; and a request while another session is busy."""
import subprocess

import bench
from bench import cpu_s, load, median, rounds, show, spread


def with_cpu(pid, port, direction, size):
    before = cpu_s(pid)
    got = load("bulk", port, direction, size)
    return dict(got, cpu_s_per_gb=(cpu_s(pid) - before) / (size / 1e9))


def measure(w, forward, peer, direction, name, size, goal, count):
    got = rounds(count, {"ours": lambda: with_cpu(w.daemon.pid, forward, direction, size),
                         "ssh": lambda: with_cpu(peer.process.pid, peer.port, direction, size)})
    ours, ssh = median(got["ours"], "mb_per_s"), median(got["ssh"], "mb_per_s")
    show(f"bulk {direction}, one stream, {name}", "MB/s", ours, ssh, f">= {goal} x ssh", ours >= goal * ssh,
         f"spread {100 * spread(got['ours'], 'mb_per_s'):.0f} %")
    return median(got["ours"], "cpu_s_per_gb"), median(got["ssh"], "cpu_s_per_gb")


def beside_bulk(w, other):
    """Requests to the one machine while the loop moves bytes to another."""
    forward = other.forward()

    def busy():
        mover = subprocess.Popen([bench.PROGRAMS + "/load", "bulk", str(forward), "down", str(20_000_000_000)],
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            bench.settle(0.3)
            return load("latency", w.gateway, 300, "keep", 2000)
        finally:
            mover.kill()
            mover.wait()
            bench.settle(0.3)

    got = rounds(3, {"ours": busy, "quiet": lambda: load("latency", w.gateway, 300, "keep", 2000)})
    ours, quiet = median(got["ours"], "p50_ms"), median(got["quiet"], "p50_ms")
    show("1 KiB request while another session moves bulk, p50", "ms", ours, quiet, "<= quiet + 1 ms", ours <= quiet + 1)


with bench.World() as w, w.ssh(bench.PIPE_PORT) as peer:
    forward = w.forward()
    for direction in ("down", "up"):
        cpu, cpu_ssh = measure(w, forward, peer, direction, "loopback", 300_000_000, 0.4, 5)
        show(f"bulk {direction}, processor time", "s/GB", cpu, cpu_ssh, "<= 3 s/GB", cpu <= 3)
    with bench.World("gpu2", daemon=w.daemon, model=False) as other:
        beside_bulk(w, other)
    # New connections: one that has seen the short wire goes on for a while as if it were on it (TCP's least round trip).
    with bench.far_away(w.host, 40), w.ssh(bench.PIPE_PORT) as peer:
        w.daemon.restart()
        w.daemon.wait_tunnel(w.name, "up")
        for direction, size in (("down", 60_000_000), ("up", 40_000_000)):
            for port in (forward, peer.port):
                load("bulk", port, direction, size)
            measure(w, forward, peer, direction, "40 ms", size, 1.0, 5)
