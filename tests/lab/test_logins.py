"""Ways to be let in: the keys of an ssh-agent, two factors, hosts that allow only some ways."""
import base64
import contextlib
import hashlib
import os
import shutil
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading
import time

import daemon as daemons
import host as hosts
import road

LIMIT_S = 120


@contextlib.contextmanager
def agent(folder, *keys):
    """A real ssh-agent that holds the keys; $SSH_AUTH_SOCK names it meanwhile."""
    socket = folder + "/agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    was = os.environ.get("SSH_AUTH_SOCK")
    try:
        hosts.until(lambda: os.path.exists(socket), 5, "an agent")
        os.environ["SSH_AUTH_SOCK"] = socket
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], check=True, stderr=subprocess.DEVNULL)
        yield socket
    finally:
        os.environ.pop("SSH_AUTH_SOCK", None)
        if was:
            os.environ["SSH_AUTH_SOCK"] = was
        process.kill()
        process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)


class Token:
    """A key in a token, made of software: sshd checks what it signs like that of any other (PROTOCOL.u2f of OpenSSH 9.2)."""
    TYPE, APPLICATION = b"sk-ssh-ed25519@openssh.com", b"ssh:"

    def __init__(self, folder):
        self.file, self.counter = folder + "/token.pem", 6
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", self.file], check=True)
        der = subprocess.run(["openssl", "pkey", "-in", self.file, "-pubout", "-outform", "DER"], check=True, stdout=subprocess.PIPE).stdout
        self.blob = text(self.TYPE) + text(der[-32:]) + text(self.APPLICATION)
        self.line = self.TYPE.decode() + " " + base64.b64encode(self.blob).decode() + " token\n"

    def sign(self, data):
        self.counter += 1
        seal = b"\x01" + struct.pack(">I", self.counter)           # somebody touched it
        with tempfile.NamedTemporaryFile() as f:
            f.write(hashlib.sha256(self.APPLICATION).digest() + seal + hashlib.sha256(data).digest())
            f.flush()
            signed = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.file, "-in", f.name], check=True,
                                    stdout=subprocess.PIPE).stdout
        return text(self.TYPE) + text(signed) + seal


def text(data):
    return struct.pack(">I", len(data)) + data


@contextlib.contextmanager
def scripted_agent(folder, keys=(), list_s=0, sign_s=0):
    """Speaks draft-miller-ssh-agent, but takes its time. keys: Tokens."""
    class Agent(socketserver.StreamRequestHandler):
        def handle(self):
            while head := self.rfile.read(4):
                asked = self.rfile.read(struct.unpack(">I", head)[0])
                answer = b"\x05"
                if asked[0] == 11:
                    over.wait(list_s)
                    answer = b"\x0c" + struct.pack(">I", len(keys)) + b"".join(text(k.blob) + text(b"the token") for k in keys)
                elif asked[0] == 13:
                    over.wait(sign_s)
                    n = struct.unpack(">I", asked[1:5])[0]
                    blob, rest = asked[5:5 + n], asked[5 + n:]
                    data = rest[4:4 + struct.unpack(">I", rest[:4])[0]]
                    answer = b"\x0e" + text(next(k for k in keys if k.blob == blob).sign(data))
                with contextlib.suppress(OSError):
                    self.wfile.write(text(answer))
    path, over = folder + "/scripted", threading.Event()
    server = socketserver.ThreadingUnixStreamServer(path, Agent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    was = os.environ.get("SSH_AUTH_SOCK")
    os.environ["SSH_AUTH_SOCK"] = path
    try:
        yield path
    finally:
        over.set()
        os.environ.pop("SSH_AUTH_SOCK", None)
        if was:
            os.environ["SSH_AUTH_SOCK"] = was
        server.shutdown()
        server.server_close()
        os.unlink(path)


@contextlib.contextmanager
def delayed(folder, real, seconds):
    """The real agent, which signs late."""
    class Between(socketserver.StreamRequestHandler):
        def handle(self):
            with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
                s.connect(real)
                answers = s.makefile("rb")
                while head := self.rfile.read(4):
                    asked = self.rfile.read(struct.unpack(">I", head)[0])
                    time.sleep(seconds if asked[0] == 13 else 0)
                    s.sendall(text(asked))
                    self.wfile.write(text(answers.read(struct.unpack(">I", answers.read(4))[0])))
    path = folder + "/delayed"
    server = socketserver.ThreadingUnixStreamServer(path, Between)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["SSH_AUTH_SOCK"] = path
    try:
        yield path
    finally:
        os.environ["SSH_AUTH_SOCK"] = real
        server.shutdown()
        server.server_close()
        os.unlink(path)


class Logins(road.Road):
    def key(self, h, kind="ed25519", allow=True):
        path = f"{self.dir}/{h.name}-{kind}"
        if not os.path.exists(path):
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "agent's", "-f", path], check=True)
        if allow:
            with open(path + ".pub") as f:
                h.put("/root/.ssh/authorized_keys", f.read(), 0o600)
        return path

    def up(self, d, *options, **more):
        h = self.machine
        return d.ctl("instance", "add", h.name, h.ssh_command, *options, **more)

    def test_agent_is_needed_once(self):
        for kind in ("ed25519", "rsa"):
            with self.subTest(kind), self.host(engines=[], opt=["PasswordAuthentication no"]) as self.machine, daemons.Daemon() as d:
                with agent(self.dir, self.key(self.machine, kind)) as socket:
                    self.up(d, "--agent")
                    self.assertEqual(d.call("InstanceShow", name="gpu1")["settings"]["agent"], socket)
                hosts.until(lambda: "own key added" in d.log(), 10, "our own key")
                d.restart()
                d.wait_tunnel("gpu1", "up")

    def test_without_an_agent_it_is_said(self):
        with self.host(engines=[]) as self.machine, daemons.Daemon() as d:
            os.environ.pop("SSH_AUTH_SOCK", None)
            self.assertIn("SSH_AUTH_SOCK", self.up(d, "--agent", check=2).stderr)
            with agent(self.dir):               # one without a key
                error = self.up(d, "--agent", check=5, json=True)["error"]
                self.assertEqual(error["code"], "login_refused")
                self.assertIn("holds no key", error["message"])
            self.assertEqual(d.call("InstanceList")["instances"], [])

    def test_token_is_waited_for_with_a_message(self):
        token = Token(self.dir)
        with self.host(engines=[], opt=["PasswordAuthentication no"]) as self.machine, daemons.Daemon() as d, \
                scripted_agent(self.dir, [token], sign_s=2.5):
            h = self.machine
            h.put("/root/.ssh/authorized_keys", token.line, 0o600)
            checks = {c["id"]: c["message"] for c in d.call("Doctor")["checks"]}
            if "out of its reach" in checks["ssh.library"]:         # 1.10: no word of it would be understood
                error = self.up(d, "--agent", check=5, json=True)["error"]
                self.assertIn("it needs 1.11", error["message"])
                return
            done = self.up(d, "--agent")
            self.assertIn('waiting for a touch of the key "the token"', " ".join(done.stderr.split()))
            self.assertIn("ED25519-SK", h.console())

    def test_touch_is_asked_for_in_the_progress(self):
        """Of a key of any kind: the agent may ask its owner."""
        with self.host(engines=[], opt=["PasswordAuthentication no"]) as self.machine, daemons.Daemon() as d:
            with agent(self.dir, self.key(self.machine)) as real, delayed(self.dir, real, 2.5):
                h = self.machine
                options = {"agent": os.environ["SSH_AUTH_SOCK"]}
                seen = [r.get("progress") for r in d.stream("InstanceAdd", name="gpu1", command=h.ssh_command, options=options)]
                self.assertEqual([(p["stage"], p["state"]) for p in seen if p], [("ssh", "running")])
                self.assertIn("waiting for a touch of the key \"agent's\"", seen[0]["text"])

    def test_agent_that_hangs_holds_up_nobody(self):
        for hangs in ("to list its keys", "to sign"):
            with self.subTest(hangs), self.host(engines=[]) as self.machine, daemons.Daemon() as d, contextlib.ExitStack() as agents:
                h = self.machine
                d.ctl("instance", "add", "gpu2", h.ssh_command, password=h.password)
                if hangs == "to sign":
                    agents.enter_context(delayed(self.dir, agents.enter_context(agent(self.dir, self.key(h))), 60))
                else:
                    agents.enter_context(scripted_agent(self.dir, list_s=60))
                adding = subprocess.Popen(d.ctl_words("instance", "add", "gpu1", h.ssh_command, "--agent"), stdin=subprocess.DEVNULL,
                                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                longest, until = 0, time.monotonic() + 4
                while time.monotonic() < until:
                    asked = time.monotonic()
                    d.call("Status")
                    longest = max(longest, time.monotonic() - asked)
                    self.assertTrue(d.tunnel_is("gpu2", "up"))
                print(f"asked {hangs} it hangs: status in {longest * 1000:.0f} ms at most", flush=True)
                self.assertLess(longest, 1)
                adding.kill()
                adding.wait()

    def test_two_factors(self):
        for methods, options in (("publickey,password", ("--agent",)), ("publickey,keyboard-interactive", ("-i",)),
                                 ("password,publickey", ("-i",))):
            sshd = [f"AuthenticationMethods {methods}", "KbdInteractiveAuthentication yes"]
            with self.subTest(methods), self.host(engines=[], opt=sshd) as self.machine, daemons.Daemon() as d:
                key = self.key(self.machine)
                with agent(self.dir, key):
                    self.up(d, *(options if options == ("--agent",) else ("-i", key)), password=self.machine.password)
                    self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_two_factors_without_a_key(self):
        for methods in ("password,keyboard-interactive", "keyboard-interactive,password",
                        "publickey,keyboard-interactive password,keyboard-interactive"):
            sshd = [f"AuthenticationMethods {methods}", "KbdInteractiveAuthentication yes"]
            with self.subTest(methods), self.host(engines=[], opt=sshd) as self.machine, daemons.Daemon() as d:
                self.up(d, password=self.machine.password)
                self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_three_factors(self):
        sshd = ["AuthenticationMethods publickey,password,keyboard-interactive", "KbdInteractiveAuthentication yes"]
        with self.host(engines=[], opt=sshd) as self.machine, daemons.Daemon() as d:
            self.up(d, "-i", self.key(self.machine), password=self.machine.password)
            self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_half_of_two_factors_is_a_refusal_that_names_the_rest(self):
        with self.host(engines=[], opt=["AuthenticationMethods publickey,password"]) as self.machine, daemons.Daemon() as d:
            error = self.up(d, "-i", self.key(self.machine), check=5, json=True)["error"]
            self.assertIn("it offers password", error["message"])

    def test_hosts_with_one_way_in(self):
        for line in ("AuthenticationMethods keyboard-interactive", "AuthenticationMethods password"):
            with self.subTest(line), self.host(engines=[], opt=[line, "KbdInteractiveAuthentication yes"]) as self.machine, \
                    daemons.Daemon() as d:
                self.up(d, password=self.machine.password)
                self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_many_hosts_behind_one_name_have_pins_of_their_own(self):
        with self.host("gpu1", engines=[]) as a, self.host("gpu2", engines=[], port=2200) as b, daemons.Daemon() as d:
            for h in (a, b):
                d.ctl("instance", "add", h.name, h.ssh_command, password=h.password)
            self.assertNotEqual(d.instance("gpu1")["host_key"], d.instance("gpu2")["host_key"])


if shutil.which("ssh-agent") is None:
    raise SystemExit("no ssh-agent (package openssh-client)")
