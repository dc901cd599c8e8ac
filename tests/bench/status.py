"""`llmhostctl status` with 100 deployments: from the start of the program to its end."""
import subprocess
import time

import bench
from bench import median, rounds, show

MODELS = 100


def timed(words):
    begun = time.monotonic()
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return {"ms": (time.monotonic() - begun) * 1e3, "text": done.stdout, "status": done.returncode}


# The machine is known and off: nothing may be asked of it.
with bench.World(model=False) as w:
    d = w.daemon
    w.host.down()
    for n in range(MODELS):
        d.ctl("up", f"llama.cpp:/root/model-{n:03}.gguf", "--on", "gpu1", "--no-wait")
    known = len(d.call("Status")["models"])
    if known != MODELS:
        raise SystemExit(f"{known} deployments instead of {MODELS}")
    got = rounds(15, {"ours": lambda: timed(d.ctl_words("status")), "json": lambda: timed(d.ctl_words("status", "--json")),
                      "nothing": lambda: timed(d.ctl_words("--version"))})
    shown = sum("model-" in line for line in got["ours"][0]["text"].splitlines())
    bare = median(got["nothing"], "ms")
    note = f"start of the program alone {bare:.1f} ms; {shown} lines"
    for side, name in (("ours", "status"), ("json", "status --json")):
        ours = median(got[side], "ms")
        show(f"llmhostctl {name}, {MODELS} deployments", "ms", ours, None, "<= 20 ms", ours <= 20, note)
