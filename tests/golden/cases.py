"""The cases. Each runs llmhostctl with argv; columns puts it on a terminal of that width, else it is in pipes; script is the
daemon (server.py), None is no daemon; answers are typed when the question is shown; hidden must not be shown."""
import os
import socket

from steps import case, error, stage, widths

STATUS = [{"reply": {"world": "well"}}]
PS = [{"reply": {"world": "ps"}}]
PS_GPU = [{"reply": {"models": [
    {"name": f"ollama:{name}", "id": name, "engine": "ollama", "state": "ready", "goal": "on_demand", "instance": "gz-4090", "in_flight": 0,
     "held": 0, "requests": 1, "awake": [], "next": {"action": "none"}, "size_bytes": 5600000000, **where}
    for name, where in (
        ("measured", {"size_vram_bytes": 5600000000, "processor": "gpu", "card": "NVIDIA GeForce RTX 4090"}),
        ("told", {"size_vram_bytes": 5600000000}),
        ("lied", {"size_vram_bytes": 5600000000, "processor": "cpu", "card": "NVIDIA GeForce RTX 4090"}),
        ("spilled", {"size_vram_bytes": 5600000000, "processor": "partly", "card": "NVIDIA GeForce RTX 4090"}),
        ("split", {"size_vram_bytes": 2800000000, "processor": "partly", "card": "NVIDIA GeForce RTX 4090"}),
        ("unknown", {}))]}}]
PS_ALL = [{"reply": {"world": "ps-all"}}]
WHY = [{"reply": {"world": "why"}}]
MODEL = "ollama:deepseek-r1:7b"
LINES = [
    {"at_ms": "@-70s", "source": "session", "target": "gz-4090", "level": "notice", "text": "up, 1 request had waited 0.4s, none lost"},
    {"at_ms": "@-60s", "source": "request", "target": MODEL, "level": "info", "text": "req 8f21 chat 412 tok in 6.1s from open-webui"},
    {"source": "engine", "target": MODEL, "level": "info", "text": "llama runner: \u001b[31mslot 0\u0007 released"},
    {"at_ms": "@-50s", "source": "daemon", "level": "warning", "text": "commit took 12s"},
]
ENGINE_LINE = {"source": "engine", "target": "ollama:gemma3:27b", "level": "warning",
               "text": "显存不足 slot print_timing: id  0 | task 66 | prompt eval time =       0.28 ms /     1 tokens (    0.28 ms per token)"}
EVENTS = [
    {"at_ms": "@-70s", "source": "session", "target": "gz-4090", "level": "notice", "kind": "tunnel_restored", "text": "0.6s after resume"},
    {"at_ms": "@-60s", "source": "daemon", "target": None, "level": "err", "kind": "port_taken", "text": "127.0.0.1:11434 is taken by ollama"},
]


HEAD = {"more": {"model": {"world": "ready-model"}}}
STAGES = [
    HEAD,
    stage("ssh", "running", "connect.gz.example:34222", usual_ms=3000),
    stage("ssh", "done", "connect.gz.example:34222", took_ms=3100),
    stage("engine", "done", "ollama 0.12.3", took_ms=1200),
    stage("fetch", "skipped", "already on the data disk"),
    stage("load", "running", "", usual_ms=12000),
    stage("load", "done", "5.6 GB, 100% GPU", took_ms=11600),
    stage("ready", "done", "", took_ms=1),
]
READY = {"reply": {"model": {"world": "ready-model"}, "took_ms": 39100, "usual_ms": 41000, "endpoint": "http://127.0.0.1:11434"}}
KEPT_MODEL = {"name": MODEL, "id": "deepseek-r1:7b", "engine": "ollama", "state": "ready", "goal": "on", "instance": "gz-4090", "in_flight": 0, "held": 0,
              "requests": 184, "awake": [{"cause": "kept", "count": 1, "until_at_ms": "@7200s"}], "next": {"action": "keep_ends", "at_ms": "@7200s"}}
KEPT = {"reply": {"models": [KEPT_MODEL]}}
ALIASES = [{"name": "gpt-4o", "model": "llama.cpp:Qwen/Qwen3-4B-GGUF:Q4_K_M"}, {"name": "r1", "model": MODEL}]
LINGER = "llmhostd ends when you log out, and its tunnels with it; so that it goes on:\nloginctl enable-linger"
TWINS = [{**KEPT_MODEL, "goal": "on_demand", "awake": [], "next": {"action": "none"}, "instance": name} for name in ("gz-4090", "北京一区-3090")]


def stage_on(name, which, state, text="", **more):
    return stage(name, state, text, instance=TWINS[which]["instance"], **more)


BOTH = [
    {"more": {"model": TWINS[0], "models": TWINS}},
    stage_on("ssh", 0, "done", "connect.gz.example:34222", took_ms=900),
    stage_on("engine", 0, "running"),
    stage_on("ssh", 1, "running", "bj.example:41022", usual_ms=3000),
    {"await": "bj.example"},
    stage_on("engine", 0, "done", "ollama 0.12.3", took_ms=1200),
    stage_on("load", 0, "running", usual_ms=12000),
    {"await": "usually 12"},
    stage_on("ssh", 1, "done", "bj.example:41022", took_ms=3100),
    stage_on("fetch", 1, "running", bytes=1200000000, bytes_total=4700000000, rate_bytes=31000000),
    {"await": "1.2 GB"},
    stage_on("load", 0, "done", "5.6 GB, 100% GPU", took_ms=11600),
]
BOTH_READY = {"reply": {"model": TWINS[0], "models": TWINS, "took_ms": 39100, "usual_ms": 41000, "endpoint": "http://127.0.0.1:11434"}}
ONE_FAILS = [stage_on("fetch", 1, "failed", "disk full", took_ms=48000),
             error("EngineFailed", "disk_full", f"{MODEL} is ready on gz-4090, but not on 北京一区-3090", [f"llmhostctl up {MODEL}"], target=MODEL,
                   why="北京一区-3090: the disk of 北京一区-3090 is full: 4.7 GB are needed in /root/autodl-tmp/llmhost, 1.2 GB are free")]
DOWNLOAD = [
    HEAD,
    stage("fetch", "running", "", bytes=0, bytes_total=4700000000, rate_bytes=0),
    {"await": "fetch"},
    stage("fetch", "running", "", bytes=1200000000, bytes_total=4700000000, rate_bytes=31000000),
]
NO_MEMORY = error("EngineFailed", "out_of_memory", "out of GPU memory: the model needs about 64 GB, the card has 24 GB.",
                  ["llmhostctl logs ollama:deepseek-r1:7b -n 50"], why="last line: cudaMalloc failed: out of memory",
                  target=MODEL)
FAILING = STAGES[:3] + [stage("engine", "failed", "ollama 0.12.3", took_ms=48000), NO_MEMORY]
TIMED_OUT = error("TimedOut", "timed_out", "ollama:deepseek-r1:7b is not ready after 5m.", target=MODEL)
WHICH = error("Usage", "which_instance", "there are several instances: which one?", ["llmhostctl up MODEL --on gz-4090"])
TWO = [{"reply": {"instances": [{"world": "gz"}, {"world": "attic"}]}}]
NOW = [{"reply": {"daemon": {"version": "0.1.0", "pid": 4711, "uptime_ms": 4200, "endpoint": "http://127.0.0.1:11434", "gateway_state": "listening",
                             "state_directory": "/var/lib/llmhost"}, "models": [], "trouble": [], **TWO[0]["reply"]}}]
DOWN = [{"more": {"progress": {"stage": "streams", "state": "running", "text": "2 left"}, "done": False}},
        {"more": {"progress": {"stage": "streams", "state": "done", "text": "0 left", "took_ms": 34200}, "done": False}},
        {"more": {"progress": {"stage": "engine", "state": "done", "text": "ollama stopped", "took_ms": 1100}, "done": False}},
        {"reply": {"done": True, "took_ms": 35400}}]
UNKNOWN = error("NotFound", "not_found", 'no model "ollama:deepseek-r1:8b".', ["llmhostctl status"],
                why="close: ollama:deepseek-r1:7b", target="ollama:deepseek-r1:8b")
CHECKS = [
    {"id": "daemon.version", "target": None, "level": "ok", "message": "llmhostd 0.1.0, control socket 0660", "next": []},
    {"id": "gateway.port", "target": None, "level": "ok", "message": "127.0.0.1:11434 is ours", "next": []},
    {"id": "ssh", "target": "gz-4090", "level": "ok", "message": "ssh in 0.9s, host key pinned 3 Nov", "next": []},
    {"id": "gpu", "target": "gz-4090", "level": "warn", "message": "gemma3:27b runs 41% on the CPU:\nneeds ~26 GB, card has 24 GB", "next": []},
    {"id": "ssh", "target": "hz-3090", "level": "fail", "message": "the host key changed", "next": ["llmhostctl doctor hz-3090 --accept-new-host-key=SHA256:Lr2d"]},
]
FULL_CHECKS = [
    {"id": "daemon.running", "level": "ok", "message": "llmhostd 0.1.0, control socket /run/llmhost/control 0660", "next": []},
    {"id": "daemon.linger", "level": "warn", "message": "ends when you log out, and all tunnels with it: lingering is not enabled",
     "next": ["loginctl enable-linger"]},
    {"id": "daemon.clock", "level": "fail", "message": "the clock of this host says 1970-01-01: times in logs and events are wrong",
     "next": ["timedatectl set-ntp true"]},
    {"id": "gateway.port", "level": "ok", "message": "http://127.0.0.1:11434 is ours", "next": []},
    {"id": "store.space", "level": "warn", "message": "71 MB free for /var/lib/llmhost: without room what you change is not kept", "next": []},
    {"id": "ssh.library", "level": "ok", "next": [],
     "message": "libssh2 1.10.0: a server whose only host key is RSA is out of its reach"},
    {"id": "ssh.host_key", "target": "gz-4090", "level": "ok", "message": "host key SHA256:9qzWm0bXkq5mLwYk0 pinned", "next": []},
    {"id": "ssh.session", "target": "gz-4090", "level": "ok", "message": "ssh is up, logged in by password", "next": []},
    {"id": "ssh.own_key", "target": "gz-4090", "level": "warn", "next": ["llmhostctl logs gz-4090 --source=session"],
     "message": "the password is used at each login: our own key did not work there (~/.ssh/authorized_keys, PubkeyAuthentication)"},
    {"id": "ssh.forwards", "target": "gz-4090", "level": "ok", "message": "forwards allowed", "next": []},
    {"id": "ssh.sessions", "target": "gz-4090", "level": "warn", "next": [],
     "message": "its sshd runs one command at a time (MaxSessions 1 in its sshd_config): it works, and what is asked of it waits in line"},
    {"id": "machine.gpu", "target": "gz-4090", "level": "ok", "message": "NVIDIA GeForce RTX 4090, 26 GB, driver 535.104.05, amd64", "next": []},
    {"id": "engine.fit", "target": "gz-4090", "level": "fail", "next": [],
     "message": "the driver of gz-4090 (535.104.05, which only its owner can change) is too old for ollama 0.32.9 with a "
                "NVIDIA GeForce RTX 4090: it needs 550"},
    {"id": "machine.space", "target": "gz-4090", "level": "ok", "message": "37 GB free for models in /root/autodl-tmp/llmhost", "next": []},
    {"id": "machine.port", "target": "gz-4090", "level": "warn", "next": [],
     "message": "ollama (pid 812) has port 11434 there and was not started by us: a model it has loaded takes memory"},
    {"id": "engine.found", "target": "gz-4090", "level": "ok", "message": "ollama 0.12.3 at /usr/local/bin/ollama", "next": []},
    {"id": "forward.port", "target": "gz-4090", "level": "ok", "next": [],
     "message": "127.0.0.1:8888 leads to 127.0.0.1:8888, where jupyter-lab (pid 93) listens"},
    {"id": "forward.port", "target": "gz-4090", "level": "fail", "message": "127.0.0.1:6006 leads nowhere: tensorboard (pid 1203) has that port here",
     "next": ["llmhostctl forward remove gz-4090 127.0.0.1:6006"]},
    {"id": "model.memory", "target": "ollama:gemma3:27b", "level": "warn", "next": [],
     "message": "41% of it runs on the CPU, which is slow: it takes 19 GB, and 11 GB of that fit on the GPU"},
]
ADDED = [stage("ssh", "running", "connect.gz.example:34222"), stage("ssh", "done", "logged in by password", took_ms=900),
         {"reply": {"instance": {"world": "gz"}, "notes": ["-L 6006 was left out: llmhostctl forward add gz-4090 6006"]}}]
SSH = "ssh -p 34222 root@connect.gz.example"
OFFERED = ADDED[:2] + [{"reply": {"instance": {"world": "gz"}, "notes": [], "offers_stop": "AutoDL"}}]
PASSPHRASE = error("CredentialsRefused", "passphrase_needed", "the key is locked.", ["llmhostctl instance add ... --passphrase-file FILE"])
PROVIDER = error("NoCapacity", "no_capacity", "no card free on bj-4090 after 5m (10 tries).", ["llmhostctl down ollama:qwen3:14b"],
                 retry_after_ms=30000, provider={"name": "autodl", "code": "NoStock", "message": "当前算力规格暂无库存"})
FORWARD = {"instance": "gz-4090", "listen": "127.0.0.1:6006", "target": "127.0.0.1:6006", "state": "listening", "connections": 2}
TOKEN = error("CredentialsRefused", "token_refused", "AutoDL refused the token.", ["llmhostctl provider set autodl --token"],
              provider={"name": "autodl", "code": "AuthorizeFailed", "message": "登录超时", "request_id": "8f21"})
API_DOWN = error("Failed", "provider_down", "AutoDL API: 502 for 3m; running machines are not touched, leases go on.", ["llmhostctl logs gz-4090 --source=provider"],
                 target="gz-4090", retry_after_ms=15000)
BALANCE = error("Refused", "balance_low", "balance ¥2.10 ends in about 1h03m; gz-4090 will drain and stop at ¥1.00.", ["llmhostctl cost"], target="gz-4090")
UNCONFIRMED = error("StopNotConfirmed", "stop_unconfirmed", "STOP NOT CONFIRMED: hz-3090 may still be billed at ¥1.48/h.", ["llmhostctl down hz-3090 --now"],
                    why="the daemon asks again every 30s; the guard on the machine switches it off by 14:58.\ncheck: https://www.autodl.com/console/instance/list",
                    target="hz-3090", provider={"name": "autodl", "code": "running", "message": "运行中"})
STOPPING = [{"more": {"progress": {"stage": "power_off", "state": "done", "text": "asked 3 times"}, "done": False}},
            {"more": {"progress": {"stage": "confirmed", "state": "failed", "text": "autodl still says \"running\"", "took_ms": 120000}, "done": False}}]
PORT = error("Conflict", "port_taken", "cannot listen on http://127.0.0.1:11434: taken by \"ollama\" (pid 1880).", ["llmhostctl listen 127.0.0.1:11500"],
             why="stop it, or let llmhostd listen elsewhere", target=MODEL)
HOST_KEY = error("TunnelFailed", "host_key", "gz-4090 shows another host key than before: expected SHA256:9qzWm0bXkq5mLwYk0, got SHA256:Lr2dc8E; "
                 "not connected, no password was sent.", ["llmhostctl doctor gz-4090"], target="gz-4090")
PASSWORD = error("CredentialsRefused", "login_refused", "gz-4090 refused the password for root.",
                 ["llmhostctl instance set gz-4090 --password-file F"], target="gz-4090")
MISSING = error("EngineFailed", "engine_missing", "ollama is not installed on gz-4090, and 0.32.9 cannot be fetched: github.com: Could not resolve host: github.com "
                "(from there); github.com: The requested URL returned error: 503 (from here)", [f"llmhostctl up {MODEL}"], target=MODEL)
WHY_RESTARTED = [{"reply": {"not_counted": [], "lines": [{"target": MODEL, "verdict": "awake", "causes": [
    {"cause": "stays_up", "count": 1, "since_at_ms": "@-180s"},
    {"cause": "engine_restarted", "count": 2, "since_at_ms": "@-185s", "text": "ollama ended on gz-4090, by SIGSEGV"}]}]}}]
WHY_CHINESE = [{"target": "gz-4090", "verdict": "awake", "causes": [{"cause": "not_rented", "count": 1}]},
               {"target": "ollama:通义千问:7b", "verdict": "failed", "causes": [{"cause": "failure", "count": 1, "since_at_ms": "@-185s",
                "text": "引擎失败: 显存不足, 模型大约需要六十四吉字节, 而这块显卡只有二十四吉字节, 请换一块更大的显卡"}]}]
CHECKS_CHINESE = [{"id": "engine.found", "target": "gz-4090", "level": "ok", "message": "ollama 0.12.3 在 /usr/local/bin/ollama", "next": []},
                  {"id": "model.state", "target": "ollama:通义千问:7b", "level": "fail", "next": ["llmhostctl logs ollama:通义千问:7b"],
                   "message": "引擎失败: 显存不足, 模型大约需要六十四吉字节, 而这块显卡只有二十四吉字节, 请换一块更大的显卡"}]
NO_MEMORY_CHINESE = error("EngineFailed", "out_of_memory", "显存不足: 模型大约需要六十四吉字节, 而这块显卡只有二十四吉字节, 请换一块更大的显卡",
                          ["llmhostctl logs ollama:通义千问:7b"], target="ollama:通义千问:7b")
LINES_CHINESE = [{"at_ms": "@-70s", "source": "engine", "target": "ollama:通义千问:7b", "level": "info", "text": "加载模型 通义千问"},
                 {"at_ms": "@-60s", "source": "provider", "target": "gz-4090", "level": "warning", "text": "当前算力规格暂无库存, 请修改配置或稍等再试"}]
RENEWED = [{"at_ms": "@-70s", "source": "provider", "target": "gz-4090", "level": "info", "text": "GET status -> running (0.21s)"},
           {"at_ms": "@-69s", "source": "session", "target": "gz-4090", "level": "notice", "text": "new password read from the provider, connected."}]
KEYS = [{"name": "web", "made_at_ms": "@-11100s"}, {"name": "ann-phone", "made_at_ms": "@-3s"}]
TAKEN = {**FORWARD, "listen": "127.0.0.1:8888", "target": "10.0.0.5:80", "state": "taken", "connections": 0, "reason": "jupyter (pid 99) has the port"}


def nobody_listens(folder):
    s = socket.socket(socket.AF_UNIX)
    s.bind(str(folder / "control"))
    s.close()


def not_yours(folder):
    os.chmod(folder / "control", 0)


BY_HAND = [
    *widths("byhand-list", "instance list", {"InstanceList": [{"reply": {"instances": [{"world": "byhand"}, {"world": "byhand-gone"}]}}]}),
    case("byhand-show", "instance show gz-4090", {"InstanceShow": [{"reply": {"instance": {"world": "byhand"}, "models": [MODEL],
         "settings": {"host": "connect.westb.seetacloud.com", "stop": "shutdown"}}}]}, columns=80),
    case("byhand-why", "why gz-3090", {"Why": [{"reply": {"not_counted": [], "lines": [{"target": "gz-3090", "verdict": "off", "causes": [
         {"cause": "gone_off", "count": 1, "since_at_ms": "@-600s", "text": "its guard was told to switch it off"}]}]}}]}, columns=80),
    case("byhand-down", "down gz-3090", {"Down": [{"more": {"progress": {"stage": "power_off", "state": "running", "text": "its guard stops it"}, "done": False}},
         {"more": {"progress": {"stage": "power_off", "state": "done", "text": "it went away"}, "done": False}},
         {"more": {"progress": {"stage": "confirmed", "state": "skipped", "text": "by nobody: there is no account here"}, "done": False}},
         {"reply": {"done": True, "took_ms": 1200, "instance": {"world": "byhand-gone"}}}]}, columns=80),
    case("byhand-asks", ["instance", "add", "gz-4090", SSH, "--password-file=/FOLDER/pw"], {"InstanceAdd": OFFERED, "InstanceSet": [
         {"reply": {"instance": {"world": "byhand"}}}]}, columns=80, files={"pw": "x\n"}, answers=[(r"/n\]: ", "\n")]),
    case("byhand-asks-no", ["instance", "add", "gz-4090", SSH, "--password-file=/FOLDER/pw"], {"InstanceAdd": OFFERED}, columns=80,
         files={"pw": "x\n"}, answers=[(r"/n\]: ", "n\n")]),
    case("byhand-pipe", ["instance", "add", "gz-4090", SSH, "--password-file=/FOLDER/pw"], {"InstanceAdd": OFFERED}, files={"pw": "x\n"}),
    case("byhand-set", "instance set gz-4090 --stop=shutdown", {"InstanceSet": [{"reply": {"instance": {"world": "byhand"}}}]}, columns=80),
    case("byhand-drill", "doctor gz-4090 --drill", {"Doctor": [{"reply": {"healthy": True, "checks": [
         {"id": "rented.proof", "target": "gz-4090", "level": "ok", "next": [],
          "message": "its guard was told to switch it off, and it went away and stayed away (at 12:02); that its bill ended as well is seen at "
                     "https://www.autodl.com/console/instance/list alone"}]}}]}, columns=80),
    case("byhand-failed", "instance show gz-4090", {"InstanceShow": [{"reply": {"instance": {"world": "byhand-failed"}, "models": [],
         "settings": {"host": "connect.westb.seetacloud.com", "stop": "shutdown"}}}]}, columns=110),
    case("byhand-stop-word", "instance set gz-4090 --stop=reboot", None),
]
for one in BY_HAND:
    one["minutes"] = True


CASES = [
    *BY_HAND,
    # ---- status ----
    *widths("status", "status", {"Status": STATUS}),
    case("status-pipe", "status", {"Status": STATUS}),
    case("status-two-instances", f"status {MODEL}", {"Status": [{"reply": {"world": "two-instances"}}]}, columns=80),
    case("status-colour", "status", {"Status": [{"reply": {"world": "trouble"}}]}, columns=120, colour=True),
    case("status-json", "status --json", {"Status": STATUS}),
    case("status-names", "status -q", {"Status": STATUS}),
    *widths("status-trouble", "status", {"Status": [{"reply": {"world": "trouble"}}]}),
    case("status-tries", "status", {"Status": [{"reply": {"world": "tries"}}]}, columns=80),
    case("status-trouble-40", "status", {"Status": [{"reply": {"world": "trouble"}}]}, columns=40),
    case("status-check", "status --check -q", {"Status": [{"reply": {"world": "trouble"}}]}),
    case("status-empty", "status", {"Status": [{"reply": {"world": "empty"}}]}, columns=80),
    *widths("status-chinese", "status", {"Status": [{"reply": {"world": "chinese"}}]}),
    case("status-tty-no-colour", "status", {"Status": [{"reply": {"world": "trouble"}}]}, columns=120, env={"NO_COLOR": "1"}, colour=True),
    case("status-dumb", "status", {"Status": [{"reply": {"world": "trouble"}}]}, columns=120, env={"TERM": "dumb"}, colour=True),
    case("status-pipe-colour", "status", {"Status": [{"reply": {"world": "trouble"}}]}, colour=True),
    *widths("status-model", f"status {MODEL}", {"Status#1": [{"reply": {"world": "one-model"}}],
                                                "Status#2": [{"reply": {"world": "one-instance"}}],
                                                "Logs": [{"reply": {"lines": LINES, "older": 0}}]}),
    *widths("status-model-restarted", f"status {MODEL}", {"Status#1": [{"reply": {"world": "restarted-model"}}],
                                                          "Status#2": [{"reply": {"world": "one-instance"}}],
                                                          "Logs": [{"reply": {"lines": [], "older": 0}}]}),
    case("status-model-off", "status ollama:qwen3:14b", {"Status#1": [{"reply": {"world": "off-model"}}],
                                                         "Status#2": [{"reply": {"world": "one-instance"}}],
                                                         "Logs": [{"reply": {"lines": [], "older": 0}}]}),
    case("status-model-off-json", "status ollama:qwen3:14b --json", {"Status": [{"reply": {"world": "off-model"}}]}),
    case("status-model-asleep", "status llama.cpp:bartowski/phi-4-GGUF:Q4_K_M", {"Status": [{"reply": {"world": "asleep-model"}}],
                                                       "Logs": [{"reply": {"lines": [], "older": 0}}]}),
    case("status-model-failed", "status ollama:gemma3:27b", {"Status": [{"reply": {"world": "failed-model"}}],
                                                             "Logs": [{"reply": {"lines": LINES[:1], "older": 0}}]}, columns=80),
    case("status-instance", "status gz-4090", {"Status": [{"reply": {"world": "one-instance"}}],
                                               "Logs": [{"reply": {"lines": LINES[:1], "older": 0}}]}, columns=80),
    case("status-instance-trouble", "status gz-4090", {"Status": [{"reply": {"world": "instance-trouble"}}],
                                                       "Logs": [{"reply": {"lines": LINES[:1], "older": 0}}]}, columns=100),
    case("status-instance-failed-model", "status attic", {"Status": [{"reply": {"world": "attic-failed"}}], "Logs": [{"reply": {"lines": [ENGINE_LINE], "older": 0}}]},
         columns=80),
    case("status-instance-failed-model-pipe", "status attic", {"Status": [{"reply": {"world": "attic-failed"}}], "Logs": [{"reply": {"lines": [ENGINE_LINE], "older": 0}}]}),
    case("status-unknown", "status ollama:deepseek-r1:8b", {"Status": [UNKNOWN]}, columns=80),
    case("status-unknown-json", "status ollama:deepseek-r1:8b --json", {"Status": [UNKNOWN]}),
    case("status-watch-pipe", "status -w", {"Watch": [{"more": {"world": "well"}},
                                                      {"more": {"event": EVENTS[0], "instance": {"world": "gz"}}}, {"close": True}]}),
    case("status-watch-json", "status -w --json", {"Watch": [{"more": {"world": "empty"}},
                                                             {"more": {"event": EVENTS[0]}}, {"close": True}]}),
    case("status-watch-80", "status -w", {"Watch": [{"more": {"world": "off-model"}}, {"await": "off"},
                                                    {"more": {"model": {"world": "ready-model"}, "event": EVENTS[0]}},
                                                    {"await": "busy"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("status-watch-60", "status -w", {"Watch": [{"more": {"world": "trouble"}}, {"await": "logs gz-4090"}, {"interrupt": True}, {"hang": True}]}, columns=60),
    # ---- ps, why ----
    *widths("ps", "ps", {"Ps": PS}),
    case("ps-pipe", f"ps {MODEL}", {"Ps": PS}),
    case("ps-colour", "ps", {"Ps": PS}, columns=120, colour=True),
    case("ps-json", "ps --json ollama:*", {"Ps": [{"reply": {"models": []}}]}),
    case("ps-names", "ps -q", {"Ps": PS}),
    case("ps-none", "ps", {"Ps": [{"reply": {"models": []}}]}),
    case("ps-not-running", f"ps {MODEL} attic ollama:qwen3:14b", {"Ps": PS}),
    *widths("ps-gpu", "ps", {"Ps": PS_GPU}),
    *widths("ps-all", "ps -a", {"Ps": PS_ALL}),
    case("ps-all-not-running", "ps -a ollama:qwen3:14b", {"Ps": PS_ALL}),
    case("ps-filter", "ps --filter state=asleep", {"Ps": PS_ALL}, columns=80),
    case("ps-filter-waking", "ps -aq --filter=state=waking", {"Ps": PS_ALL}),
    case("ps-filter-wrong", "ps --filter state=sleeping", None),
    case("ps-unknown", "ps ollama:deepseek-r1:8b", {"Ps": [UNKNOWN]}, columns=80),
    *widths("why", "why", {"Why": WHY}),
    case("why-pipe", "why gz-4090 attic", {"Why": WHY}),
    case("why-colour", "why", {"Why": WHY}, columns=120, colour=True),
    *widths("why-restarted", "why", {"Why": WHY_RESTARTED}),
    *widths("why-room", "why ollama:qwen3:14b ollama:phi4", {"Why": [{"reply": {"not_counted": [], "lines": [
        {"target": "ollama:qwen3:14b", "verdict": "asleep", "causes": [{"cause": "unloaded", "count": 1, "since_at_ms": "@-250s", "text": "made room for ollama:gemma3:27b"}]},
        {"target": "ollama:phi4", "verdict": "awake", "causes": [{"cause": "held_request", "count": 1, "since_at_ms": "@-8s"}, {"cause": "loading", "count": 1, "since_at_ms": "@-8s"},
         {"cause": "no_room", "count": 1, "since_at_ms": "@-8s",
          "text": "no room (2.1 GB free): waits for the 2 requests of ollama:gemma3:27b; or: llmhostctl down ollama:gemma3:27b"}]}]}}]}),
    *widths("why-sleep", "why", {"Why": [{"reply": {"not_counted": [], "lines": [
        {"target": "ollama:qwen3:14b", "verdict": "awake", "causes": [{"cause": "minimum_up", "count": 1, "since_at_ms": "@-60s", "until_at_ms": "@240s"},
         {"cause": "idle", "count": 1, "since_at_ms": "@-60s", "until_at_ms": "@240s"}]},
        {"target": "ollama:phi4", "verdict": "awake", "causes": [{"cause": "idle", "count": 1, "since_at_ms": "@-400s", "until_at_ms": "@800s"},
         {"cause": "flapping", "count": 2, "text": "20m"}]},
        {"target": "ollama:gemma3:27b", "verdict": "awake", "causes": [{"cause": "kept", "count": 1, "until_at_ms": "@5400s"}]},
        {"target": "ollama:qwen3:8b", "verdict": "asleep", "causes": [{"cause": "unloaded", "count": 1, "since_at_ms": "@-7260s", "text": "llmhostctl sleep"}]}]}}]}),
    *widths("why-two", "why ollama:qwen3:14b", {"Why": [{"reply": {"not_counted": [], "lines": [
        {"target": "ollama:qwen3:14b", "instance": "gz-4090", "verdict": "awake", "causes": [{"cause": "request", "count": 1, "since_at_ms": "@-9s"}]},
        {"target": "ollama:qwen3:14b", "instance": "attic", "verdict": "asleep", "causes": [{"cause": "unloaded", "count": 1, "since_at_ms": "@-250s", "text": "idle for 5m"}]}]}}]}),
    case("why-none", "why", {"Why": [{"reply": {"lines": [], "not_counted": []}}]}),
    case("why-json", "why attic --json", {"Why": [{"reply": {"lines": [{"target": "attic", "verdict": "awake", "causes": [{"cause": "not_rented", "count": 1}]}],
                                                             "not_counted": []}}]}),
    case("why-unknown", "why ollama:deepseek-r1:8b", {"Why": [UNKNOWN]}),
    case("help-ps", "ps -h", None),
    # ---- Chinese names and reasons keep the columns straight, at both widths ----
    *widths("ps-chinese", "ps", {"Ps": [{"reply": {"world": "ps-chinese"}}]}),
    *widths("why-chinese", "why", {"Why": [{"reply": {"lines": WHY_CHINESE, "not_counted": []}}]}),
    *widths("doctor-chinese", "doctor", {"Doctor": [{"reply": {"healthy": False, "checks": CHECKS_CHINESE}}]}),
    *widths("up-chinese", "up ollama:通义千问:7b", {"Up": [stage("ssh", "done", "上海一区:34222", took_ms=900), stage("engine", "done", "ollama 0.12.3", took_ms=1200),
                                                        stage("load", "failed", "显存不足, 需要 64 GB", took_ms=4100), NO_MEMORY_CHINESE]}),
    *widths("logs-chinese", "logs gz-4090", {"Logs": [{"reply": {"lines": LINES_CHINESE, "older": 0}}]}),
    # ---- up ----
    case("up-80", f"up {MODEL}", {"Up": STAGES + [READY]}, columns=80),
    case("up-60", f"up {MODEL} --on gz-4090", {"Up": STAGES + [READY]}, columns=60),
    case("up-pipe", f"up {MODEL}", {"Up": STAGES + [READY]}),
    *widths("up-both", f"up {MODEL} --on gz-4090,北京一区-3090", {"Up": BOTH + [stage_on("fetch", 1, "done", "4.7 GB", took_ms=151000), BOTH_READY]}),
    *widths("up-one-of-both", f"up {MODEL} --on gz-4090,北京一区-3090", {"Up": BOTH + ONE_FAILS}),
    case("up-both-pipe", f"up {MODEL} --on gz-4090,北京一区-3090", {"Up": BOTH + [stage_on("fetch", 1, "done", "4.7 GB", took_ms=151000), BOTH_READY]}),
    case("up-one-of-both-pipe", f"up {MODEL} --on gz-4090,北京一区-3090", {"Up": BOTH + ONE_FAILS}),
    case("up-both-already", f"up {MODEL} --on gz-4090,北京一区-3090", {"Up": [{"reply": {**BOTH_READY["reply"], "took_ms": 0}}]}, columns=80),
    *widths("up-room", f"up {MODEL}", {"Up": [HEAD, stage("engine", "done", "ollama 0.12.3", took_ms=1200), stage("fetch", "done", "already on the disk", took_ms=10),
        stage("room", "running", "no room (2.1 GB free): waits for the 2 requests of ollama:phi4; or: llmhostctl down ollama:phi4", took_ms=10), {"await": "no room"},
        stage("room", "running", "unloads ollama:phi4, idle for 0s, to make room", took_ms=4000), {"await": "unloads"}] + STAGES[5:] + [READY]}),
    case("up-room-pipe", f"up {MODEL}", {"Up": [HEAD, stage("room", "running", "unloads ollama:phi4, idle for 12m, to make room", took_ms=10)] + STAGES[5:] + [READY]}),
    case("up-arguments", ["up", "llama.cpp:phi-4", "--no-wait", "--", "-c", "4096", "--on", "", "two\nlines", "--"],
         {"Up": [{"reply": {"model": {"world": "ready-model"}}}]}),
    case("up-arguments-none", ["up", "llama.cpp:phi-4", "--no-wait", "--"], {"Up": [{"reply": {"model": {"world": "ready-model"}}}]}),
    case("up-arguments-refused", ["up", "llama.cpp:phi-4", "--", "--port", "1"], {"Up": [error("Usage", "bad_arguments",
         "the argument --port was not taken: llmhost chooses where it listens and reaches it there",
         ["llmhostctl up llama.cpp:NAME -- -c 16384"], target="llama.cpp:phi-4")]}),
    case("up-quiet", f"up {MODEL} -q", {"Up": STAGES + [READY]}),
    case("up-json", f"up {MODEL} --json", {"Up": STAGES + [READY]}),
    case("up-download-80", f"up {MODEL}", {"Up": DOWNLOAD + [{"await": "37m|1m5"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("up-download-60", f"up {MODEL}", {"Up": DOWNLOAD + [{"await": "1.2 GB"}, {"interrupt": True}, {"hang": True}]}, columns=60),
    case("up-download-pipe", f"up {MODEL}", {"Up": DOWNLOAD + [stage("fetch", "done", "4.7 GB", took_ms=151000), READY]}),
    case("up-already", f"up {MODEL}", {"Up": [{"reply": {**READY["reply"], "took_ms": 0}}]}, columns=80),
    *widths("up-first", f"up {MODEL}", {"Up": [{"more": {**HEAD["more"], "notes": [LINGER]}}] + STAGES[1:] + [READY]}),
    case("up-first-no-wait", f"up {MODEL} --no-wait", {"Up": [{"reply": {"model": {"world": "ready-model"}, "notes": [LINGER]}}]}),
    case("up-no-wait", f"up {MODEL} --no-wait", {"Up": [{"reply": {"model": {"world": "ready-model"}}}]}),
    case("up-fails-80", f"up {MODEL}", {"Up": FAILING}, columns=80),
    case("up-fails-60", f"up {MODEL}", {"Up": FAILING}, columns=60),
    case("up-fails-pipe", f"up {MODEL}", {"Up": FAILING}),
    case("up-fails-json", f"up {MODEL} --json -q", {"Up": FAILING}),
    case("up-no-capacity", "up ollama:qwen3:14b", {"Up": [PROVIDER]}, columns=80),
    case("up-interrupted-80", f"up {MODEL}", {"Up": STAGES[:2] + [{"await": "usually 3"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("up-quick-stage-80", f"up {MODEL}", {"Up": [HEAD, stage("engine", "running", "", usual_ms=300), {"await": "engine"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("up-interrupted-pipe", f"up {MODEL}", {"Up": STAGES[:2] + [{"await": "usually 3"}, {"interrupt": True}, {"hang": True}]}),
    case("up-interrupted-json", f"up {MODEL} --json -q", {"Up": STAGES[:2] + [{"interrupt": True}, {"hang": True}]}),
    case("up-timeout", f"up {MODEL} --timeout 5m", {"Up": STAGES[:2] + [TIMED_OUT]}),
    case("up-which-asks", f"up {MODEL}", {"Up#1": [WHICH], "Status": NOW, "Up#2": STAGES + [READY]}, columns=80,
         answers=[(r"\[1-2\]: ", "2\n")]),
    case("up-which-pipe", f"up {MODEL}", {"Up": [WHICH]}),
    case("up-version", f"up {MODEL}", {}, version="0.9.0"),
    case("up-daemon-gone-80", f"up {MODEL}", {"Up": STAGES[:2] + [{"await": "usually 3"}, {"close": True}]}, columns=80),
    case("up-daemon-gone-by-hand", f"up {MODEL}", {"Up": STAGES[:2] + [{"close": True}]}, env={"XDG_RUNTIME_DIR": ""}),
    case("up-version-by-hand", f"up {MODEL}", {}, version="0.9.0", env={"XDG_RUNTIME_DIR": "/FOLDER"}),
    case("up-daemon-gone-pipe", f"up {MODEL}", {"Up": STAGES[:2] + [{"close": True}]}),
    case("up-bad-reply", f"up {MODEL}", {"Up": [{"raw": "{\"nonsense\":1}\0"}]}),
    case("up-timeout-wrong", f"up {MODEL} --timeout soon", None),
    case("up-on-twice", f"up {MODEL} --on gz-4090 --on here", None),
    case("up-no-model", "up", None),
    # ---- down, wait ----
    case("down-80", f"down {MODEL}", {"Down": DOWN}, columns=80),
    case("down-pipe", "down gz-4090 --now", {"Down": DOWN}),
    case("add-no-ssh", ["instance", "add", "x2", "shh -p 1 root@h"], None),
    case("down-own-host", "down attic", {"Down": [{"reply": {"done": True, "took_ms": 200, "instance": {"world": "attic"}}}]}, columns=80),
    case("down-several", f"down {MODEL} ollama:deepseek-r1:8b", {"Down#1": DOWN, "Down#2": [UNKNOWN]}),
    case("down-several-json", f"down {MODEL} ollama:deepseek-r1:8b --json -q", {"Down#1": DOWN, "Down#2": [UNKNOWN]}),
    case("down-forget", "down ollama:deepsek --forget", {"Down": [{"reply": {"done": True, "took_ms": 40}}]}, columns=80),
    case("sleep-80", f"sleep {MODEL}", {"Sleep": DOWN}, columns=80),
    case("sleep-pipe", f"sleep {MODEL} --now", {"Sleep": DOWN}),
    case("sleep-off", f"sleep {MODEL}", {"Sleep": [error("NotRunning", "stopped_by_user", f"{MODEL} is off since 14:02 (llmhostctl down)", [f"llmhostctl up {MODEL}"])]}),
    case("keep", f"keep {MODEL} 2h", {"Keep": [KEPT]}),
    case("keep-waking", f"keep {MODEL} 90m", {"Keep": [{"reply": {"models": [{**KEPT_MODEL, "state": "connecting", "next": {"action": "retry"}}]}}]}),
    case("keep-off", f"keep {MODEL} --off", {"Keep": [{"reply": {"models": [{**KEPT_MODEL, "goal": "on_demand"}]}}]}),
    case("keep-json", f"keep {MODEL} 2h --json", {"Keep": [KEPT]}),
    case("keep-endless", f"keep {MODEL}", None),
    case("keep-no-time", f"keep {MODEL} soon", None),
    case("help-keep", "keep -h", None),
    case("help-sleep", "sleep -h", None),
    case("down-on", f"down {MODEL} --on gz-4090", {"Down": [{"reply": {"done": True, "took_ms": 1100}}]}, columns=80),
    case("down-interrupted", f"down {MODEL}", {"Down": DOWN[:1] + [{"await": "2 left"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("wait-pipe", f"wait {MODEL}", {"Wait": [{"more": {"model": {"world": "ready-model"}}}, {"reply": {"model": {"world": "ready-model"}}}]}),
    case("wait-tunnel", "wait gz-4090 --for tunnel", {"Wait": [{"reply": {"instance": {"world": "gz"}}}]}, columns=80),
    case("wait-timeout", f"wait {MODEL} --for=stopped --timeout=1s", {"Wait": [TIMED_OUT]}),
    case("wait-client-limit", f"wait {MODEL} --for=never", None),
    case("wait-interrupted", f"wait {MODEL}", {"Wait": [{"await": "until ready"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    # ---- logs ----
    case("logs-80", "logs gz-4090 -n 4", {"Logs": [{"reply": {"lines": LINES, "older": 1204}}]}, columns=80),
    case("logs-60", "logs gz-4090 -n 4", {"Logs": [{"reply": {"lines": LINES + [ENGINE_LINE], "older": 1204}}]}, columns=60),
    case("logs-events-60", "logs --events", {"Logs": [{"reply": {"lines": EVENTS, "older": 0}}]}, columns=60),
    case("logs-pipe", "logs --source engine,daemon", {"Logs": [{"reply": {"lines": LINES[2:], "older": 0}}]}),
    case("logs-json-verbatim", "logs --json", {"Logs": [{"reply": {"lines": LINES[2:3], "older": 0}}]}),
    case("logs-json", "logs --json", {"Logs": [{"reply": {"lines": LINES[:2], "older": 0}}]}),
    case("logs-events", "logs --events --since 1h", {"Logs": [{"reply": {"lines": EVENTS, "older": 0}}]}),
    case("logs-follow-gone", "logs -fn2", {"Logs": [{"more": {"lines": LINES[:2], "older": 3}}, {"more": {"lines": LINES[3:], "older": 3}}, {"close": True}]}),
    case("logs-follow-interrupted", "logs -f", {"Logs": [{"more": {"lines": LINES[:1], "older": 0}}, {"await": "none lost"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    # ---- doctor, version ----
    case("doctor-80", "doctor", {"Doctor": [{"reply": {"healthy": False, "checks": CHECKS}}]}, columns=80),
    *widths("doctor-full", "doctor", {"Doctor": [{"reply": {"healthy": False, "checks": FULL_CHECKS}}]}),
    case("doctor-healthy", "doctor gz-4090", {"Doctor": [{"reply": {"healthy": True, "checks": CHECKS[2:4]}}]}),
    case("doctor-json", "doctor --json", {"Doctor": [{"reply": {"healthy": False, "checks": CHECKS[4:]}}]}),
    case("doctor-accept", "doctor gz-4090 --accept-new-host-key=SHA256:Lr2d", {"Doctor": [{"reply": {"healthy": True, "checks": CHECKS[2:3]}}]}),
    case("doctor-accept-nobody", "doctor --accept-new-host-key=SHA256:Lr2d", None),
    case("version", "version", {}),
    case("version-json", "version --json", {}),
    case("version-absent", "version", None),
    case("version-option", "--version", None),
    # ---- instance ----
    case("add-asks", ["instance", "add", "gz-4090", SSH], {"InstanceAdd": ADDED}, columns=80,
         answers=[(r"not shown\): ", "tr0ub4dor\n")], hidden=["tr0ub4dor"]),
    case("set-port", "instance set gz-4090 --port 34999", {"InstanceSet": ADDED[:2] + [{"reply": {"instance": {"world": "gz"}, "notes": []}}]}, columns=80),
    case("set-command", ["instance", "set", "gz-4090", "ssh", "-p", "34999", "root@connect.gz.example"],
         {"InstanceSet": [{"reply": {"instance": {"world": "gz"}}}]}),
    case("set-secrets-json", ["instance", "set", "gz-4090", "--password-file", "-", "-i", "/FOLDER/key", "--json"],
         {"InstanceSet": [{"reply": {"instance": {"world": "gz"}}}]}, stdin="tr0ub4dor\n", files={"key": "K\n"}, hidden=["tr0ub4dor"]),
    case("set-typo", "instance set gz-4090 --port 34998", {"InstanceSet": [stage("ssh", "running", "connect.gz.example:34998"),
         error("TunnelFailed", "unreachable", "gz-4090 stays as it was: cannot connect to connect.gz.example port 34998: Connection refused",
               ["llmhostctl instance set gz-4090 'ssh -p PORT USER@HOST'"], target="gz-4090")]}, columns=80),
    case("set-stranger", "instance set gz-4090 --port 34999", {"InstanceSet": [
         error("TunnelFailed", "host_key", "gz-4090 stays as it was: gz-4090 shows another host key than before: expected SHA256:9qzW, got SHA256:Lr2d "
               "at connect.gz.example:34999; not connected, no password was sent",
               ["llmhostctl instance set gz-4090 'ssh -p PORT USER@HOST' --accept-new-host-key=SHA256:..."], target="gz-4090")]}),
    case("set-nothing", "instance set gz-4090", None),
    case("set-interrupted", "instance set gz-4090 --port 34999", {"InstanceSet": [stage("ssh", "running", "x"), {"await": "ssh"}, {"interrupt": True}, {"hang": True}]}, columns=80),
    case("help-set", "instance set -h", None),
    case("add-asks-interrupted", ["instance", "add", "gz-4090", SSH], {}, columns=80, answers=[(r"not shown\): ", "\x03")]),
    case("add-pipe", ["instance", "add", "gz-4090", SSH], {}),
    case("add-password-file", ["instance", "add", "gz-4090", SSH, "--password-file", "-", "--install-key=no"], {"InstanceAdd": ADDED},
         stdin="tr0ub4dor\n", hidden=["tr0ub4dor"]),
    case("add-password-json", ["instance", "add", "gz-4090", SSH, "--password-file=/FOLDER/pw", "--json"], {"InstanceAdd": ADDED},
         files={"pw": "tr0ub4dor\n"}, hidden=["tr0ub4dor"]),
    case("add-password-missing", ["instance", "add", "gz-4090", SSH, "--password-file=/FOLDER/nothing"], {}),
    case("add-key", ["instance", "add", "gz-4090", "ssh -i ~/key -p 34222 root@connect.gz.example"], {"InstanceAdd": ADDED},
         files={"key": "PRIVATE\nKEY\n"}, hidden=["PRIVATE"]),
    case("add-key-locked", ["instance", "add", "gz-4090", SSH, "-i", "/FOLDER/key"], {"InstanceAdd#1": [PASSPHRASE], "InstanceAdd#2": ADDED},
         files={"key": "PRIVATE\nKEY\n"}, columns=80, answers=[(r"not shown\): ", "0penSesame\n")], hidden=["0penSesame", "PRIVATE"]),
    case("add-key-locked-pipe", ["instance", "add", "gz-4090", SSH, "-i", "/FOLDER/key"], {"InstanceAdd": [PASSPHRASE]}, files={"key": "K\n"}),
    case("add-unquoted", ["instance", "add", "gz-4090", "--key-file=/FOLDER/key", "ssh", "-CNg", "-L", "6006:127.0.0.1:6006", "root@connect.gz.example", "-p", "34222"],
         {"InstanceAdd": ADDED}, files={"key": "K\n"}),
    case("add-host", ["instance", "add", "gz-4090", "--host", "h.example", "--port=2222", "--user", "ann", "--password-file=/FOLDER/pw"],
         {"InstanceAdd": ADDED}, files={"pw": "x\n"}),
    case("add-jump", ["instance", "add", "gz-4090", "-i", "/FOLDER/key", "ssh", "-J", "ops@bastion.example:2222", "-o", "StrictHostKeyChecking=no", "root@h.example"],
         {"InstanceAdd": [{"reply": {"instance": {"world": "gz-jump"}, "notes": ["not needed here and left out: -o StrictHostKeyChecking",
          "the first host key that is shown is pinned, and another one refused"]}}]}, files={"key": "K\n"}, columns=80),
    case("add-jump-refused", ["instance", "add", "gz-4090", "-i", "/FOLDER/key", "--jump=bastion", "--host=h.example", "--user=root"], {"InstanceAdd": [
         error("TunnelFailed", "unreachable", "gz-4090 was not added: the jump over bastion ended with status 255: Host key verification failed "
               "(log in there once by hand, to accept its host key)", ["llmhostctl instance add gz-4090 'ssh -p PORT USER@HOST'"], target="gz-4090")]},
         files={"key": "K\n"}, columns=80),
    case("add-proxy-command", ["instance", "add", "gz-4090", "--agent=/run/agent", "--proxy-command", "nc -x 10.0.0.1:1080 %h %p", "--host=h.example", "--user=root"],
         {"InstanceAdd": [{"reply": {"instance": {"world": "gz-proxy"}, "notes": []}}]}),
    case("set-jump-none", "instance set gz-4090 --jump=none --agent=none", {"InstanceSet": [{"reply": {"instance": {"world": "gz"}}}]}),
    case("set-agent-nothing", "instance set gz-4090 --agent=", None),
    case("instance-show-proxy", "instance show gz-4090", {"InstanceShow": [{"reply": {"instance": {"world": "gz-proxy"}, "models": [],
         "settings": {"install_key": "yes"}, "proxy_command": {"text": "nc -x 10.0.0.1:1080 %h %p"}}}]}, columns=80),
    case("add-local", "instance add here local", {"InstanceAdd": [{"reply": {"instance": {"name": "here", "provider": "local", "state": "running",
         "rented": False, "tunnel": {"state": "none", "tries": 0, "reconnects": 0}}}}]}),
    case("add-local-port", "instance add here --provider=local --port 22", None),
    case("add-nothing", "instance add gz-4090", None),
    case("add-bad-command", ["instance", "add", "gz-4090", "ssh -o Ciphers=aes128-ctr root@connect.gz.example"], None),
    case("add-refused", ["instance", "add", "gz-4090", SSH, "--password-file=/FOLDER/pw"], {"InstanceAdd": [stage("ssh", "running", "connect.gz.example:34222"),
         error("CredentialsRefused", "password_refused", "connect.gz.example:34222 refused the password for root; nothing was kept.")]}, files={"pw": "x\n"}),
    case("instance-list-80", "instance list", {"InstanceList": TWO}, columns=80),
    case("instance-list-json", "instance list --json", {"InstanceList": TWO}),
    case("instance-list-none", "instance list", {"InstanceList": [{"reply": {"instances": []}}]}),
    case("instance-show", "instance show gz-4090", {"InstanceShow": [{"reply": {"instance": {"world": "gz"}, "models": [MODEL, "ollama:phi4"],
         "settings": {"command": SSH, "install_key": "yes"}}}]}, columns=80),
    case("instance-secret", "instance secret gz-4090", {"InstanceSecret": [{"reply": {"secret": {"text": "tr0ub4dor"}}}]}, columns=80),
    case("instance-secret-pipe", "instance secret gz-4090", None),
    case("instance-secret-json", "instance secret gz-4090 --json", None, columns=80),
    case("instance-remove", "instance remove gz-4090", {"InstanceRemove": [{"reply": {}}]}),
    case("instance-remove-busy", "instance remove gz-4090", {"InstanceRemove": [error("Conflict", "in_use", "gz-4090 has a model that is wanted: ollama:phi4.",
         ["llmhostctl down ollama:phi4"])]}),
    # ---- forward ----
    case("forward-add", "forward add gz-4090 6006", {"ForwardAdd": [{"reply": {"forward": FORWARD}}]}),
    case("forward-add-anywhere", "forward add gz-4090 0.0.0.0:6006", {"ForwardAdd": [{"reply": {
        "forward": {**FORWARD, "listen": "0.0.0.0:6006"}, "notes": ["0.0.0.0:6006 is not this machine alone: whoever can reach it "
                                                                     "here reaches 127.0.0.1:6006 on gz-4090"]}}]}),
    case("forward-add-taken", "forward add gz-4090 8888:10.0.0.5:80", {"ForwardAdd": [{"reply": {"forward": TAKEN}}]}),
    case("forward-add-wrong", "forward add gz-4090 http", None),
    *widths("forward-list", "forward list", {"ForwardList": [{"reply": {"forwards": [FORWARD, TAKEN]}}]}),
    case("forward-list-json", "forward list gz-4090 --json", {"ForwardList": [{"reply": {"forwards": [FORWARD]}}]}),
    case("forward-remove", "forward remove gz-4090 6006", {"ForwardRemove": [{"reply": {}}]}),
    # ---- the daemon ----
    case("absent-80", "status", None, columns=80),
    case("absent-by-hand", "status", None, columns=80, env={"XDG_RUNTIME_DIR": "/FOLDER"}),
    case("absent-pipe", "up ollama:phi4", None),
    case("absent-json", "status --json", None),
    case("absent-nobody-listens", "status", None, prepare=nobody_listens),
    case("absent-not-yours", "status", {}, prepare=not_yours, nobody=True),
    case("named-socket", "-s /FOLDER/elsewhere version", {}, socket="elsewhere"),
    case("users-socket", "version", {}, socket="run/llmhost/control", env={"LLMHOST_SOCKET": "", "XDG_RUNTIME_DIR": "/FOLDER/run"}),
    case("parameter-refused", "logs", {"Logs": [{"system_error": "InvalidParameter", "parameter": "lines"}]}),
    case("gone-at-once", "status", {"Status": [{"close": True}]}),
    # ---- what does not work ----
    case("version-reads", "status", {"Status": STATUS}, version="0.9.0", columns=80),
    *widths("words-forbidden", f"up {MODEL}", {"Up": [HEAD, error("TunnelFailed", "forwarding_forbidden",
         "gz-4090 lets nobody through to its ports, and models are reached that way: set \"AllowTcpForwarding yes\" in its "
         "sshd_config (or look for DisableForwarding and PermitOpen there), and restart its sshd",
         [f"llmhostctl up {MODEL}"], target=MODEL)]}),
    *widths("words-engine-silent", f"wait {MODEL}", {"Wait": [error("EngineFailed", "no_answer", "ollama runs on gz-4090, but does not answer; its log ends with: llama runner started in 3.10 seconds",
         [f"llmhostctl logs {MODEL}"], target=MODEL)]}),
    *widths("words-off", f"wait {MODEL}", {"Wait": [error("NotRunning", "stopped_by_user", f"{MODEL} is off since 14:02 (llmhostctl down)",
         [f"llmhostctl up {MODEL}"], target=MODEL)]}),
    *widths("words-port-taken", f"up {MODEL}", {"Up": [PORT]}),
    *widths("words-host-key", f"wait {MODEL}", {"Wait": [HOST_KEY]}),
    *widths("words-password-refused", f"up {MODEL}", {"Up": [HEAD, PASSWORD]}),
    *widths("words-engine-missing", f"up {MODEL}", {"Up": [HEAD, stage("engine", "failed", "", took_ms=900), MISSING]}),
    *widths("words-ssh-not-yet", f"up {MODEL}", {"Up": [HEAD, stage("ssh", "running", "no answer yet", usual_ms=12000), {"await": "usually 12s"},
                                                        {"interrupt": True}, {"hang": True}]}),
    # Rows that come with providers and leases: the client shows them already, the daemon has none of them yet.
    *widths("words-token-refused", "up ollama:qwen3:14b", {"Up": [TOKEN]}),
    *widths("words-new-password", "logs gz-4090", {"Logs": [{"reply": {"lines": RENEWED, "older": 0}}]}),
    *widths("words-provider-down", "up ollama:qwen3:14b", {"Up": [API_DOWN]}),
    *widths("words-balance-low", "up ollama:qwen3:14b", {"Up": [BALANCE]}),
    *widths("words-stop-unconfirmed", "down hz-3090", {"Down": STOPPING + [UNCONFIRMED]}),
    case("words-stop-unconfirmed-pipe", "down hz-3090", {"Down": STOPPING + [UNCONFIRMED]}),
    case("words-stop-unconfirmed-json", "down hz-3090 --json -q", {"Down": STOPPING + [UNCONFIRMED]}),
    case("words-no-capacity-60", "up ollama:qwen3:14b", {"Up": [PROVIDER]}, columns=60),
    *widths("words-rented", "status", {"Status": [{"reply": {"world": "rented"}}]}),
    case("words-rented-check", "status --check -q", {"Status": [{"reply": {"world": "rented"}}]}),
    # ---- several targets: the worst decides ----
    case("down-worst", "down a b c d", {"Down#1": [TIMED_OUT], "Down#2": [error("NotFound", "not_found", 'no instance or model "b"')],
                                        "Down#3": STOPPING + [UNCONFIRMED], "Down#4": [HOST_KEY]}),
    case("down-worst-but-one", "down a b c", {"Down#1": [TIMED_OUT], "Down#2": [HOST_KEY], "Down#3": [NO_MEMORY]}),
    case("down-usage-ends-it", "down a b c", {"Down#1": [TIMED_OUT], "Down#2": [error("Usage", "bad_name", "\"b\" is no name")], "Down#3": DOWN}),
    # ---- the command line ----
    case("unknown-verb", "statsu", None),
    case("unknown-verb-json", "statsu --json", None),
    case("unknown-noun-verb", "instance lst", None),
    case("unknown-option", "up ollama:phi4 --timeot=3m", None),
    case("unknown-letter", "status -x", None),
    case("option-of-another", "status --on gz-4090", None),
    case("no-value", "logs -n", None),
    case("no-port", "instance set gz-4090 --port 0", None),
    case("too-many", "instance show a b", None),
    case("no-verb", [], None),
    # ---- the Tab key ----
    case("complete-up", ["__complete", "up", ""], {"Status": STATUS, "AliasList": [{"reply": {"aliases": ALIASES}}]}),
    case("complete-down", ["__complete", "down", ""], {"Status": STATUS, "AliasList": [{"reply": {"aliases": ALIASES}}]}),
    case("complete-on", ["__complete", "up", MODEL, "--on=g"], {"Status": STATUS}),
    case("complete-on-second", ["__complete", "up", MODEL, "--on", "attic,g"], {"Status": STATUS}),
    case("complete-forward", ["__complete", "forward", "remove", "gz-4090", ""], {"ForwardList": [{"reply": {"forwards": [FORWARD, TAKEN]}}]}),
    case("complete-nobody", ["__complete", "down", ""], None),
    case("complete-hangs", ["__complete", "key", "remove", ""], {"KeyList": [{"hang": True}]}),
    case("complete-engine-arguments", ["__complete", "up", MODEL, "--", "-"], {}),
    case("completion-which", "completion ksh", None),
    # ---- alias ----
    case("alias-set", f"alias set r1 {MODEL}", {"AliasSet": [{"reply": {"alias": ALIASES[1]}}]}),
    case("alias-set-model", "alias set deepseek r1", {"AliasSet": [error("Usage", "alias_of_alias",
         f"r1 is a short name itself; name what it stands for: {MODEL}", ["llmhostctl alias list"], target="deepseek")]}, columns=80),
    *widths("alias-list", "alias list", {"AliasList": [{"reply": {"aliases": ALIASES}}]}),
    case("alias-list-none", "alias list", {"AliasList": [{"reply": {"aliases": []}}]}),
    case("alias-list-json", "alias list --json", {"AliasList": [{"reply": {"aliases": ALIASES}}]}),
    case("alias-remove", "alias remove r1", {"AliasRemove": [{"reply": {}}]}),
    # ---- key ----
    case("key-add", "key add web", {"KeyAdd": [{"reply": {"added": KEYS[0], "secret": {"text": "llmhost-n0tAK3y"}}}]}),
    case("key-add-json", "key add web --json", None),
    case("key-add-exists", "key add web", {"KeyAdd": [error("Conflict", "exists", "there is a key web already.", ["llmhostctl key remove web"], target="web")]}),
    *widths("key-list", "key list", {"KeyList": [{"reply": {"keys": KEYS, "needed": True}}]}),
    case("key-list-none", "key list", {"KeyList": [{"reply": {"keys": [], "needed": True}}]}),
    case("key-list-none-needed", "key list", {"KeyList": [{"reply": {"keys": [], "needed": False}}]}),
    case("key-list-json", "key list --json", {"KeyList": [{"reply": {"keys": KEYS, "needed": False}}]}),
    case("key-remove", "key remove web", {"KeyRemove": [{"reply": {}}]}),
    case("key-remove-unknown", "key remove web", {"KeyRemove": [error("NotFound", "not_found", "there is no key web.", ["llmhostctl key list"], target="web")]}),
    case("listen-others", "listen 0.0.0.0:11500", {"Listen": [{"reply": {"endpoint": "http://0.0.0.0:11500"}}]}),
    case("listen", "listen 127.0.0.1:11500", {"Listen": [{"reply": {"endpoint": "http://127.0.0.1:11500"}}]}),
    case("listen-new-key", "listen 0.0.0.0:11434 --new-key", {"Listen": [{"reply": {"endpoint": "http://0.0.0.0:11434",
         "added": {**KEYS[0], "name": "listen"}, "secret": {"text": "llmhost-n0tAK3y"}}}]}),
    case("listen-no-key", "listen 0.0.0.0:11434", {"Listen": [error("Refused", "no_api_key",
         "0.0.0.0:11434 can be reached from other hosts: an API key is needed, and there is none",
         ["llmhostctl listen 0.0.0.0:11434 --new-key"])]}),
    case("noun-alone", "forward", None),
    case("up-no-wait-timeout", "up ollama:phi4 --no-wait --timeout 5m", None),
    case("watch-quiet", "status -wq", None),
    case("watch-check", "status -w --check", None),
    case("help", "--help", None),
    case("help-key", "key --help", None),
    case("help-key-add", "key --help add", None),
    case("secret-kind", "instance secret gz-4090 passwd", None),
    case("ps-quiet-twice", "ps -q", {"Ps": [{"reply": {"models": [KEPT_MODEL, {**KEPT_MODEL, "instance": "attic"}]}}]}),
    case("ps-alias", "ps r1 -q", {"Ps": [{"reply": {"models": [KEPT_MODEL], "targets": [MODEL]}}]}),
    case("help-up", "up -h", None),
    case("help-add", "instance add -h", None),
]
