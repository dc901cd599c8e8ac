"""A password, a key, a passphrase and a prompt that can be recognised are planted, used well and badly, and looked for wherever
they must not be: raw, in base64 at any alignment, in hex, as JSON and as a URL would write them."""
import base64
import contextlib
import json
import os
import secrets
import subprocess
import threading
import urllib.parse

import daemon as daemons
import planted
import road
from road import DEEPSEEK

LIMIT_S = 180


class Planted:
    """The secrets of one test, and the search for them."""

    def __init__(self, **words):
        self.words, self.shapes = {}, {}
        for name, word in words.items():
            self.add(name, word)

    def add(self, name, word):
        self.words[name], self.shapes[name] = planted.register(name, word), planted.shapes(word)

    def in_data(self, data, without=()):
        return sorted(n for n, all_of_it in self.shapes.items() if n not in without and any(s in data for s in all_of_it))

    def in_folder(self, folder, allowed=()):
        found = []
        for place, _, names in os.walk(folder):
            for name in names:
                path = os.path.relpath(os.path.join(place, name), folder)
                with contextlib.suppress(OSError), open(os.path.join(place, name), "rb") as f:
                    found += [(path, n) for n in self.in_data(f.read())]
        return sorted(f for f in found if f not in allowed)


def memory_holds(pid, word):
    """How often WORD stands in what a process may write to; the sanitizer keeps what was freed for a long time."""
    found = 0
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            at, _, end = line.split()[0].partition("-")
            at, end = int(at, 16), int(end, 16)
            if "rw" not in line.split()[1] or end - at > 1 << 32:       # the sanitizer's own books
                continue
            with contextlib.suppress(OSError):
                mem.seek(at)
                found += mem.read(end - at).count(word)
    return found


class Sampler:
    """Reads command line and environment of every process there is, again and again, hosts' processes included."""

    def __init__(self, planted):
        self.planted, self.found, self.rounds, self.end = planted, set(), 0, threading.Event()
        self.seen = set()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.end.wait(0.002):
            for entry in os.listdir("/proc"):
                if not entry.isdigit() or entry == str(os.getpid()):
                    continue
                for what in ("cmdline", "environ"):
                    with contextlib.suppress(OSError), open(f"/proc/{entry}/{what}", "rb") as f:
                        data = f.read()
                        self.seen.add(os.path.basename(data.split(b"\0")[0].decode("utf-8", "replace")))
                        self.found.update((what, n, data[:80]) for n in self.planted.in_data(data))
            self.rounds += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join(10)


def key_body(path):
    with open(path) as f:
        return planted.key_body(f.read())


class Secrets(road.Road):
    def setUp(self):
        super().setUp()
        mark = secrets.token_hex(6)
        self.planted = Planted(password=f"pAss/{mark}+Wört", passphrase=f"phrAse {mark} '\"$", wrong=f"wrOng-{mark}-one",
                               prompt=f"prOmpt {mark} whisper", api_key=f"sk-{mark}-{mark}", cookie=f"cOokie{mark}")
        self.said = b""

    def file(self, text):
        path = f"{self.dir}/{secrets.token_hex(4)}"
        with open(path, "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(text)
        return path

    def key(self, passphrase=""):
        path = f"{self.dir}/key{secrets.token_hex(4)}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "planted", "-f", path], check=True)
        with open(path + ".pub") as f:
            return path, f.read()

    def ctl(self, d, *words, **more):
        done = d.ctl(*words, check=False, **more)
        self.said += (done.stdout + done.stderr).encode()
        return done.returncode

    def everything_said(self, d):
        for words in (("status",), ("instance", "list"), ("instance", "show", "by-word"), ("instance", "show", "by-key"), ("logs", "-n", "5000"),
                      ("logs", "--events"), ("doctor",), ("version",), ("instance", "secret", "by-word", "password")):
            self.ctl(d, *words)
            self.ctl(d, *words, "--json")
        for method, parameters in (("Status", {}), ("InstanceList", {}), ("InstanceShow", {"name": "by-word"}), ("Doctor", {}),
                                   ("Logs", {"lines": 10000}), ("Logs", {"events": True})):
            self.said += json.dumps(d.call(method, **parameters), ensure_ascii=False).encode()
        for path in ("/v1/models", "/api/tags", "/api/ps", "/health", "/metrics"):
            self.said += d.get(path).body

    def test_planted_secrets_are_found_in_their_files_alone(self):
        with self.host(password=self.planted.words["password"], engines=["ollama"]) as h, self.host("stranger") as stranger, \
                daemons.Daemon(log={"level": "debug"}) as d:
            plain, public = self.key()
            locked, public2 = self.key(self.planted.words["passphrase"])
            h.put("/root/.ssh/authorized_keys", public + public2, 0o600)
            self.planted.add("plain key", key_body(plain))
            self.planted.add("locked key", key_body(locked))
            password, wrong = self.file(self.planted.words["password"] + "\n"), self.file(self.planted.words["wrong"])
            passphrase = self.file(self.planted.words["passphrase"])
            with Sampler(self.planted) as sampler:
                self.use_well(d, h, password, plain, locked, passphrase)
                self.use_badly(d, stranger, wrong, locked)
                h.fault("rst")
                d.wait_tunnel("by-word", "up")
                self.everything_said(d)
                while_it_runs = self.planted.in_folder(d.dir, allowed=self.ALLOWED)
                d.restart(hard=True)
                d.wait_tunnel("by-word", "up")
                self.everything_said(d)
            self.assertEqual(sampler.found, set())
            self.assertGreater(sampler.rounds, 50)
            self.assertTrue({"llmhostd", "llmhostctl"} <= sampler.seen, "the ones in question were looked at")
            self.assertEqual(self.planted.in_data(self.said), [])
            self.assertEqual(while_it_runs, [], "also in the write-ahead log")
            d.stop()
            self.assertEqual(self.planted.in_folder(d.dir, allowed=self.ALLOWED), [])
            self.assertEqual([f for f in self.planted.in_folder(d.state) if f[0].startswith("secrets/")],
                             sorted((p.removeprefix("state/"), n) for p, n in self.ALLOWED), "they are where they belong")
            for place, _, names in os.walk(d.state):
                for name in names:
                    self.assertEqual(os.stat(os.path.join(place, name)).st_mode & 0o077, 0, name)
            self.assertEqual([f for f in self.planted.in_folder(h.upper()) if f[0] != "etc/shadow"], [], "nor on the machine")
            d.start()

    ALLOWED = (("state/secrets/by-word.password", "password"), ("state/secrets/by-key.key", "plain key"),
               ("state/secrets/by-lock.key", "locked key"), ("state/secrets/by-lock.passphrase", "passphrase"))

    def use_well(self, d, h, password, plain, locked, passphrase):
        self.assertEqual(self.ctl(d, "instance", "add", "by-word", h.ssh_command, "--password-file", password), 0, self.said)
        self.assertEqual(self.ctl(d, "instance", "add", "by-key", h.ssh_command, "-i", plain, "--install-key=no"), 0, self.said)
        self.assertEqual(self.ctl(d, "instance", "add", "by-lock", h.ssh_command, "-i", locked, "--passphrase-file", passphrase,
                                  "--install-key=no"), 0, self.said)
        self.assertEqual(self.ctl(d, "up", DEEPSEEK, "--on", "by-word"), 0, self.said)
        headers = {"Authorization": "Bearer " + self.planted.words["api_key"], "Cookie": "a=" + self.planted.words["cookie"]}
        for stream in (False, True):
            answer = d.post("/v1/chat/completions", {"model": road.ID, "stream": stream, "messages": [
                {"role": "user", "content": self.planted.words["prompt"]}]}, headers=headers)
            self.assertEqual(answer.status, 200)

    def use_badly(self, d, h, wrong, locked):
        """Each way to fail with a secret in hand."""
        bad = self.planted.words["wrong"]
        add = ("instance", "add", "bad")
        self.assertEqual(self.ctl(d, *add, h.ssh_command, "--password-file", wrong), 5, self.said)
        self.assertEqual(self.ctl(d, *add, h.ssh_command, "-i", locked, "--passphrase-file", wrong), 5, self.said)
        self.assertEqual(self.ctl(d, *add, h.ssh_command, "-i", wrong), 5, self.said)                   # no key at all
        self.assertEqual(self.ctl(d, *add, f"ssh -p 1 root@{h.ip}", "--password-file", wrong), 9, self.said)
        self.assertEqual(self.ctl(d, *add, "ssh", "--password-file", wrong), 2, self.said)
        self.assertEqual(self.ctl(d, "instance", "add", "by-word", h.ssh_command, "--password-file", wrong), 12, self.said)
        for parameters in ({"name": "bad", "command": "ssh root@h", "password": bad}, {"name": "bad", "password": {"text": bad, "x": 1}},
                           {"name": "bad", "password": {"text": [bad]}}, {"name": "Bad Name", "password": {"text": bad}},
                           {"name": "bad", "unheard_of": bad}, {"name": "bad", "command": "ssh root@h", "key": {"text": bad}}):
            with d.varlink() as v:
                v.send("InstanceAdd", parameters)
                self.said += json.dumps(v.receive()).encode()
        with d.varlink() as v:                  # broken in the middle of the word
            v.send_bytes(b'{"method":"io.llmhost.InstanceAdd","parameters":{"password":{"text":"' + bad.encode() + b'\0')
            self.said += json.dumps(v.receive()).encode()
        d.post("/v1/chat/completions", {"model": "unheard-of", "messages": [{"content": self.planted.words["prompt"]}]})
        d.post("/v1/chat/completions", b'{"model": "' + self.planted.words["prompt"].encode())

    def test_what_is_found_is_found(self):
        """The search itself, against leaks of every shape."""
        word = self.planted.words["password"]
        for leak in (word.encode(), b"xx" + base64.b64encode(b"u" + word.encode() + b"tail"), base64.b64encode(b"ab" + word.encode()),
                     word.encode().hex().encode(), json.dumps({"a": word}).encode(), urllib.parse.quote(word).encode()):
            self.assertEqual(self.planted.in_data(b"before " + leak + b" after"), ["password"], leak)
        self.assertEqual(self.planted.in_data(b"nothing of the kind"), [])
        with Sampler(self.planted) as sampler:
            subprocess.run(["sleep", "0.3"], env={"LEAK": word, "PATH": os.environ["PATH"]}, check=True)
        self.assertIn(("environ", "password"), {f[:2] for f in sampler.found})

    def test_secret_is_shown_on_a_terminal_alone(self):
        word = self.planted.words["password"]
        with self.road(password=word) as (d, _):
            refused = d.ctl("instance", "secret", "gpu1", "password", check=2)
            self.assertNotIn(word, refused.stdout + refused.stderr)
            self.assertNotIn(word, json.dumps(d.ctl("instance", "secret", "gpu1", "password", json=True, check=2),
                                              ensure_ascii=False))
            status, said = d.ctl_on_terminal("instance", "secret", "gpu1", "password")
            self.assertEqual(status, 0)
            self.assertIn(word, said)
            self.assertNotIn(word, d.log())

    def test_password_typed_on_a_terminal_is_not_echoed(self):
        word = self.planted.words["password"]
        with self.host(password=word) as h, daemons.Daemon() as d:
            status, said = d.ctl_on_terminal("instance", "add", "gpu1", h.ssh_command, answers=[word])
            self.assertEqual(status, 0, said)
            self.assertIn("password", said)
            self.assertEqual(self.planted.in_data(said.encode()), [])

    def test_nothing_is_left_for_a_core_file_or_a_child(self):
        with self.road(password=self.planted.words["password"]) as (d, _):
            with open(f"/proc/{d.pid}/limits") as f:
                self.assertRegex(f.read(), r"Max core file size +0 +0")
            self.assertEqual(os.stat(d.state).st_mode & 0o777, 0o700)
            self.assertEqual(os.stat(d.state + "/secrets").st_mode & 0o777, 0o700)

    def test_what_was_read_is_wiped_from_memory(self):
        with self.host(password=self.planted.words["password"]) as h, daemons.Daemon() as d:
            plain, public = self.key()
            locked, public2 = self.key(self.planted.words["passphrase"])
            h.put("/root/.ssh/authorized_keys", public + public2, 0o600)
            d.ctl("instance", "add", "by-word", h.ssh_command, "--install-key=no", password=self.planted.words["password"])
            d.ctl("instance", "add", "by-key", h.ssh_command, "-i", plain, "--install-key=no")
            d.ctl("instance", "add", "by-lock", h.ssh_command, "-i", locked, "--passphrase-file",
                  self.file(self.planted.words["passphrase"]), "--install-key=no")
            self.assertGreater(memory_holds(d.pid, b"by-word"), 0, "the search finds what is there")
            words = {n: self.planted.words[n].encode() for n in ("password", "passphrase")}
            words.update(key=key_body(plain).encode(), locked=key_body(locked).encode())
            self.assertEqual({n: count for n, w in words.items() if (count := memory_holds(d.pid, w))}, {})

    def test_removed_instance_takes_its_secrets_along(self):
        with self.road(password=self.planted.words["password"]) as (d, _):
            d.ctl("instance", "remove", "gpu1")
            self.assertEqual(self.planted.in_folder(d.dir), [])
