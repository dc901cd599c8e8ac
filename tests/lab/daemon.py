"""The daemon under test, in directories of its own, and the three ways to talk to it.

    with Daemon() as d:                             # or Daemon(gateway={"hold": "5s"}, ssh={...})
        d.ctl("instance", "add", "gpu1", gpu.ssh_command, password=gpu.password)
        d.ctl("up", "ollama:deepseek-r1:7b")        # llmhostctl; json=True returns the envelope's data
        d.call("Status")                            # Varlink, as any client speaks it; a dict
        for reply in d.stream("Watch"): ...         # "more"
        d.post("/v1/chat/completions", {...})       # the gateway; a Response
        d.kill(); d.start()                         # SIGKILL, and again with the same state

Leaving the with block ends it with SIGTERM, and fails if it does not end well or a sanitizer had a word to say.
Programs are taken from $BUILD (default: build/ of the checkout). $LAB_LOGS, if set, keeps the logs, and
what kept.py says.
"""
import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import termios
import time

import contract
import host as hosts
import kept
import lab

BUILD = os.environ.get("BUILD") or hosts.REPO + "/build"
SANITIZER = re.compile(r"(Address|Leak|UndefinedBehavior|Thread)Sanitizer|runtime error:")
SAFETY_S = 20                                   # more than anything here should take
STOP_S = 15


class DaemonError(Exception):
    pass


class CallError(Exception):
    """An error reply of the control socket. name: without the interface; parameters as they came."""

    def __init__(self, reply):
        self.full_name, self.parameters = reply["error"], reply.get("parameters") or {}
        self.name = self.full_name.rsplit(".", 1)[1]
        super().__init__(f"{self.full_name}: {json.dumps(self.parameters, ensure_ascii=False)}")


class Response:
    def __init__(self, answer, body):
        self.status, self.headers, self.body = answer.status, answer.headers, body

    @property
    def text(self):
        return self.body.decode("utf-8", "replace")

    def json(self):
        return json.loads(self.body)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def name_of(socket_path):
    """What a daemon's kept things are called: its directory's name."""
    return os.path.basename(os.path.dirname(os.path.dirname(socket_path)))


class Varlink:
    """One connection to a control socket: NUL-terminated JSON both ways. Every reply is held against the contract, as long as
    all that was sent went through send()."""

    def __init__(self, path, timeout_s=SAFETY_S):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(timeout_s)
        self.socket.connect(path)
        self.pending = b""
        self.asked = []                         # the methods whose last reply is to come; None: we cannot know
        self.name, self.asked_for_secret = name_of(path), False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, method, parameters=None, **flags):
        if "." not in method:
            method = "io.llmhost." + method
        message = dict({"method": method}, **flags)
        if parameters:
            message["parameters"] = parameters
        self.asked_for_secret |= method.endswith((".InstanceSecret", ".KeyAdd"))
        if self.asked is not None and not flags.get("oneway"):
            self.asked.append(method)
        self.socket.sendall(json.dumps(message).encode() + b"\0")

    def send_bytes(self, data):
        self.asked = None
        self.socket.sendall(data)

    def receive(self):
        """The next reply as it is, or None at the end of the connection."""
        while b"\0" not in self.pending:
            data = self.socket.recv(65536)
            if not data:
                return None
            self.pending += data
        message, self.pending = self.pending.split(b"\0", 1)
        if not self.asked_for_secret:
            kept.said(self.name, message + b"\n")
        reply = json.loads(message)
        if self.asked is not None:
            contract.check(self.asked[0], reply)
            if not reply.get("continues"):
                self.asked.pop(0)
        return reply

    def replies(self):
        """The parameters of every reply until the last. An error reply is raised."""
        while True:
            reply = self.receive()
            if reply is None:
                raise DaemonError("the daemon closed the connection")
            if "error" in reply:
                raise CallError(reply)
            yield reply.get("parameters") or {}
            if not reply.get("continues"):
                return


class Daemon:
    def __init__(self, port=None, dir=None, env=None, wrap=(), start=True, **sections):
        """SECTIONS: of the configuration file, as dicts; engine sections as {"engine.ollama": {...}} via **. PORT of
        the gateway: 11434 in the lab, which has a loopback of its own, else any free one. WRAP: words in front of the
        program (strace ...)."""
        self.port = port or (11434 if lab.is_inside() else free_port())
        self.dir = dir or tempfile.mkdtemp(prefix="daemon.", dir="/run/lab" if lab.is_inside() else None)
        self.env, self.wrap = dict(env or {}), list(wrap)
        self.state, self.runtime, self.config = self.dir + "/state", self.dir + "/run", self.dir + "/llmhostd.conf"
        self.log_file, self.process = self.dir + "/log", None
        for made in (self.state, self.runtime):
            os.makedirs(made, mode=0o700, exist_ok=True)
        self.configure(**sections)
        if start:
            self.start()

    def configure(self, **sections):
        """Writes the configuration; the daemon reads it at its next start."""
        sections = {name: dict(keys) for name, keys in sections.items()}
        sections.setdefault("gateway", {}).setdefault("listen", f"127.0.0.1:{self.port}")
        with open(self.config, "w") as f:
            for name, keys in sections.items():
                f.write(f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in keys.items()) + "\n")

    def __enter__(self):
        return self

    def __exit__(self, failed, *_):
        try:
            if self.is_running():
                self.stop()
            elif not failed:
                self.check_log()
        finally:
            if failed:
                print(f"--- the daemon's last lines\n{self.log()[-6000:]}", flush=True)
            self.keep_log()
            self.keep_state()
            shutil.rmtree(self.dir, ignore_errors=True)

    # Its life --------------------------------------------------------------------------------------------------------

    @property
    def socket_path(self):
        return self.runtime + "/control"

    @property
    def pid(self):
        return self.process.pid if self.process else None

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def start(self, wait=True):
        program = os.path.join(BUILD, "llmhostd")
        if not os.access(program, os.X_OK):
            raise DaemonError(f"{program} is missing: build first, or set BUILD")
        env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "LLMHOST_", "NOTIFY_"))}
        env.update(STATE_DIRECTORY=self.state, RUNTIME_DIRECTORY=self.runtime, **self.env)
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(self.wrap + [program, "-c", self.config], env=env, stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL)
        if wait:
            hosts.until(self.answers, SAFETY_S, "a control socket that answers")
        return self

    def answers(self):
        if self.process.poll() is not None:
            raise DaemonError(f"llmhostd ended with {self.process.returncode}:\n{self.log()[-3000:]}")
        try:
            with Varlink(self.socket_path) as v:
                v.send("org.varlink.service.GetInfo")
                return v.receive() is not None
        except OSError:
            return False

    def stop(self, check=True):
        """An orderly end."""
        self.keep_state()                       # with its write-ahead log
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DaemonError(f"llmhostd did not end within {STOP_S} s of SIGTERM:\n{self.log()[-3000:]}") from None
        if check:
            self.check_log()
            if status != 0:
                raise DaemonError(f"llmhostd ended with {status}:\n{self.log()[-3000:]}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.keep_state()

    def restart(self, hard=False):
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def log(self):
        try:
            with open(self.log_file, errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def check_log(self):
        found = SANITIZER.search(self.log())
        if found:
            raise DaemonError(f"a sanitizer spoke:\n{self.log()[max(0, found.start() - 500):][:5000]}")

    def keep_log(self):
        folder = os.environ.get("LAB_LOGS")
        if folder:
            os.makedirs(folder, exist_ok=True)
            shutil.copyfile(self.log_file, f"{folder}/{os.path.basename(self.dir)}.log")

    def keep_state(self):
        kept.state(name_of(self.socket_path), self.state)

    # llmhostctl ------------------------------------------------------------------------------------------------------

    def ctl_words(self, *words):
        return [os.path.join(BUILD, "llmhostctl"), "-s", self.socket_path, *words]

    def ctl(self, *words, json=False, check=True, input=None, password=None, timeout=60):
        """Runs a verb. Returns a CompletedProcess, or with json=True the data of its envelope. check: the exit status
        it must have (True: 0, False: any). password goes in by --password-file -."""
        words = list(words)
        if password is not None:
            words, input = words + ["--password-file", "-"], password + "\n"
        if json:
            words.append("--json")
        done = subprocess.run(self.ctl_words(*words), input=input if input is not None else "", text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout)
        kept.said(name_of(self.socket_path), done.stdout + done.stderr)
        wanted = 0 if check is True else check
        if SANITIZER.search(done.stderr) or (check is not False and done.returncode != wanted):
            raise DaemonError(f"llmhostctl {' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}"
                              f"--- the daemon's last lines\n{self.log()[-2000:]}")
        return parse(done.stdout) if json else done

    def ctl_on_terminal(self, *words, answers=(), keys=(), timeout=60):
        """As ctl(), on a terminal of 100 columns: exit status, and all that was shown. answers: what is typed at each
        prompt (": " at the end of what is shown), in order; keys: (PATTERN, BYTES) typed when PATTERN has been shown."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        modes = termios.tcgetattr(theirs)       # Ctrl-C drops what waits to be shown, the last words with it
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        process = subprocess.Popen(self.ctl_words(*words), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
                                   env=dict(os.environ, TERM="xterm", LANG="C.UTF-8"))
        os.close(theirs)
        said, asked, answers, keys = "", 0, list(answers), list(keys)
        due = time.monotonic() + timeout
        try:
            while time.monotonic() < due:
                if select.select([ours], [], [], 0.1)[0]:
                    try:
                        said += os.read(ours, 65536).decode("utf-8", "replace")
                    except OSError:             # the last one that had it open is gone
                        break
                if answers and said[asked:].endswith(": "):
                    os.write(ours, answers.pop(0).encode() + b"\n")
                    asked = len(said)
                if keys and re.search(keys[0][0], said):
                    os.write(ours, keys.pop(0)[1])
            return process.wait(max(0.1, due - time.monotonic())), said
        finally:
            if words[:2] != ("instance", "secret"):
                kept.said(name_of(self.socket_path), said)
            process.kill()
            process.wait()
            os.close(ours)

    # The control socket ----------------------------------------------------------------------------------------------

    def varlink(self, timeout_s=SAFETY_S):
        return Varlink(self.socket_path, timeout_s)

    def call(self, method, timeout_s=SAFETY_S, **parameters):
        with self.varlink(timeout_s) as v:
            v.send(method, parameters)
            return list(v.replies())[-1]

    def stream(self, method, timeout_s=SAFETY_S, **parameters):
        with self.varlink(timeout_s) as v:
            v.send(method, parameters, more=True)
            yield from v.replies()

    def model(self, name):
        return next((m for m in self.call("Status")["models"] if m["name"] == name), None)

    def instance(self, name):
        return next((i for i in self.call("Status")["instances"] if i["name"] == name), None)

    def tunnel_is(self, name, state):
        i = self.instance(name)
        return i is not None and i["tunnel"]["state"] == state

    def wait_tunnel(self, name, state, limit_s=SAFETY_S):
        """Waits for a state of the tunnel; returns how long it took, by this clock."""
        started = time.monotonic()
        hosts.until(lambda: self.tunnel_is(name, state), limit_s, f"tunnel of {name} {state}", 0.01)
        return time.monotonic() - started

    # The gateway -----------------------------------------------------------------------------------------------------

    def connect(self, timeout_s=SAFETY_S):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)

    def request(self, method, path, body=None, headers=None, timeout_s=SAFETY_S):
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
        with contextlib.closing(self.connect(timeout_s)) as c:
            c.request(method, path, body=body, headers=dict({"Content-Type": "application/json"}, **(headers or {})))
            answer = c.getresponse()
            return Response(answer, answer.read())

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)


def parse(text):
    """The data of the envelope llmhostctl --json prints, or the envelope itself when it tells of an error."""
    envelope = json.loads(text)
    return envelope["data"] if envelope.get("ok") else envelope
