"""What takes hours, with the daemon's true default times: libfaketime makes its clocks run faster, and timerfd.c its timers. The model
server is this host's own and keeps the true time: no tunnel whose patience would be compressed too."""
import json
import os
import shutil
import tempfile
import time

import daemon as daemons
import host as hosts
import road

LIMIT_S = 120
RATE = 60                                       # a minute in each second
SCRIPTED = "ollama:scripted"
IDLE_S, STREAM_S = 5 * 60, 40 * 60
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"


def preloaded(folder):
    """The environment of a program whose time runs RATE times as fast. The sanitizers' library wants to be first."""
    hosts.command("gcc", "-shared", "-fPIC", f"-DRATE={RATE}", "-o", folder + "/timerfd.so", hosts.HERE + "/timerfd.c")
    sanitized = "libasan" in hosts.command("ldd", os.path.join(daemons.BUILD, "llmhostd"))
    libraries = [hosts.command("gcc", "-print-file-name=libasan.so").strip()] if sanitized else []
    return {"LD_PRELOAD": " ".join(libraries + [folder + "/timerfd.so", FAKETIME]), "FAKETIME": f"+0 x{RATE}"}


class Hours(road.Road):
    def test_open_stream_of_forty_minutes_holds_and_five_idle_ones_do_not(self):
        with tempfile.TemporaryDirectory(dir="/run/lab") as home:
            shutil.copy(hosts.HERE + "/http_engine.py", home + "/ollama")
            os.chmod(home + "/ollama", 0o755)
            env = dict(preloaded(home), HOME=home, PATH=f"{home}:{os.environ['PATH']}")
            with daemons.Daemon(env=env) as d:
                d.ctl("instance", "add", "here", "local")
                d.ctl("up", SCRIPTED)
                body = json.dumps({"model": "scripted", "stream": True, "script": {"chunks": 10 * STREAM_S // RATE, "gap_ms": 100}})
                began = time.monotonic()
                c = d.connect(timeout_s=60)
                c.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                answer, got, states = c.getresponse(), 0, set()
                while piece := answer.read1(65536):
                    got += piece.count(b"data: ")
                    states.add(self.state(d, SCRIPTED))
                self.assertGreater((time.monotonic() - began) * RATE, STREAM_S)
                self.assertEqual((got, states), (10 * STREAM_S // RATE, {"ready"}))
                idle_s = self.wait_state(d, "asleep", SCRIPTED, 3 * IDLE_S / RATE) * RATE
                self.assertAlmostEqual(idle_s, IDLE_S, delta=IDLE_S / 2)
                d.ctl("down", SCRIPTED)
