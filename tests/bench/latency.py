"""Latency of a 1 KiB request over a warm tunnel, gateway included, against `ssh -L` to the same server."""
import bench
from bench import load, median, rounds, show


def measure(w, peer, floor, delay_ms, mode, count, gap_us=0):
    got = rounds(5, {"ours": lambda: load("latency", w.gateway, count, mode, gap_us),
                     "ssh": lambda: load("latency", peer.port, count, mode, gap_us),
                     "direct": lambda: load("latency", floor, count, mode, gap_us)})
    client = "new connection each" if mode == "new" else "200 a second" if gap_us else "keep-alive client"
    name = f"1 KiB request, {delay_ms} ms, {client}"
    ours, ssh, direct = (median(got[side], "p50_ms") for side in ("ours", "ssh", "direct"))
    note = f"no tunnel {direct:.3f}"
    if delay_ms and mode == "new":
        show(name + ", p50", "ms", ours, ssh, f"<= ssh - {delay_ms} ms (+ 0.5)", ours <= ssh - delay_ms + 0.5, note)
    else:
        show(name + ", p50", "ms", ours, ssh, "<= ssh + 0.1 ms", ours <= ssh + 0.1, note)
    ours, ssh, direct = (median(got[side], "p99_ms") for side in ("ours", "ssh", "direct"))
    note = f"no tunnel {direct:.3f}" + (": noise" if direct > 0.5 else "")
    show(name + ", p99", "ms", ours, ssh, "" if delay_ms else "<= 1 ms", None if delay_ms else ours <= 1, note)


server, floor = bench.direct()
with server, bench.World() as w, w.ssh(w.engine) as peer:
    measure(w, peer, floor, 0, "keep", 2000)
    measure(w, peer, floor, 0, "new", 200)
    measure(w, peer, floor, 0, "keep", 200, gap_us=5000)
    with bench.far_away(w.host, 40):
        measure(w, peer, floor, 40, "keep", 100)
        measure(w, peer, floor, 40, "new", 40)
    server.kill()
