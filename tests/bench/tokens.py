"""How long a token of a stream is under way, at 1,000 tokens a second, gateway included, against `ssh -L`."""
import bench
from bench import load, median, rounds, show

server, floor = bench.direct()
with server, bench.World() as w, w.ssh(w.engine) as peer:
    got = rounds(5, {"ours": lambda: load("tokens", w.gateway, 2000, 1000),
                     "ssh": lambda: load("tokens", peer.port, 2000, 1000),
                     "direct": lambda: load("tokens", floor, 2000, 1000)})
    for field in ("p50_ms", "p99_ms"):
        ours, ssh, direct = (median(got[side], field) for side in ("ours", "ssh", "direct"))
        show(f"1,000 tokens/s, {field[:3]}", "ms", ours, ssh, "<= ssh" if field == "p99_ms" else "",
             ours <= ssh if field == "p99_ms" else None, f"no tunnel {direct:.3f}")
    server.kill()
