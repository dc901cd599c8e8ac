"""New client connections per second on loopback, one and eight at a time: each connects, asks once, sees the end.

Who closes first matters: before 10.1 sshd leaves Nagle on for sessions that never ran a command, and then the far
end's close waits for the acknowledgement of its last bytes, 40 ms. HTTP servers close first, an echo does not.
Eight at a time acknowledge each other's bytes, and no such time is left to win: then sshd itself, one process
for both tunnels, is the limit, and its part of each connection stands in the note."""
import bench
from bench import load, median, rounds, show, spent_by, spread

COUNT = {1: 200, 8: 1600}
COUNT_SSH = {("http", 1): 20, ("http", 8): 800, ("echo", 1): 200, ("echo", 8): 1600}


def with_sshd(port, count, clients, kind):
    before = spent_by("sshd")
    got = load("connections", port, count, clients, kind)
    return dict(got, sshd_us=1e6 * (spent_by("sshd") - before) / count)


def measure(ours_port, peer, clients, kind, name):
    got = rounds(5, {"ours": lambda: with_sshd(ours_port, COUNT[clients], clients, kind),
                     "ssh": lambda: with_sshd(peer.port, COUNT_SSH[kind, clients], clients, kind),
                     "direct": lambda: load("connections", floor[kind], COUNT[clients], clients, kind)})
    ours, ssh, direct = (median(got[side], "per_s") for side in ("ours", "ssh", "direct"))
    goal = 5 if kind == "http" and bench.sshd_version() < (10, 1) else 0.8
    show(f"new connections, {name}, {clients} at a time", "1/s", ours, ssh, f">= {goal} x ssh", ours >= goal * ssh,
         f"no tunnel {direct:.0f}, of sshd {median(got['ours'], 'sshd_us'):.0f} us each, with ssh "
         f"{median(got['ssh'], 'sshd_us'):.0f}, spread {100 * spread(got['ours'], 'per_s'):.0f} %, "
         f"of ssh {100 * spread(got['ssh'], 'per_s'):.0f} %")


servers, floor = {}, {}
for kind, program, port in (("http", "http", 20999), ("echo", "pipe", 20998)):
    servers[kind], floor[kind] = bench.direct(program, port)
with bench.World() as w, w.ssh(w.engine) as model, w.ssh(bench.PIPE_PORT) as pipe:
    forward_model, forward_pipe = w.forward(w.engine), w.forward()
    for clients in (1, 8):
        measure(w.gateway, model, clients, "http", "gateway")
        measure(forward_model, model, clients, "http", "forward, far end closes first")
        measure(forward_pipe, pipe, clients, "echo", "forward, client closes first")
for server in servers.values():
    server.kill()
