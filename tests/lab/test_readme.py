"""Does what README.md and contrib/quickstart.zh-CN.md tell their readers to do, word for word.

Every fenced block marked sh is run, in order, in one shell on a terminal, in an empty home directory. The machine in the
pasted ssh command is a host of the lab that answers to that name, port and user; its ollama pulls from a registry of ours.
Where the README does not start the daemon itself, one is running. A block that cannot be run here (it installs, or needs
systemd) has a line above it that says why: <!-- not run: REASON -->. The first two commands, contrib/demo and tests/run, are
run by the gate, and only looked at here. Machines are rented at the company of contrib/sandbox: `provider add` gets its address, and the
company that the page opens itself the place of the engine, the words that are not on the page."""
import fcntl
import os
import pty
import re
import select
import shlex
import subprocess
import tempfile
import termios
import threading
import time
import unittest

import company as companies
import daemon as daemons
import host as hosts
import models
import registry
from host import Host

LIMIT_S = 300
RUN_S = 200
README = hosts.REPO + "/README.md"
QUICKSTART = hosts.REPO + "/contrib/quickstart.zh-CN.md"
BY_THE_GATE = re.compile(r"(\./)?(contrib/demo|tests/run)\b")
PASTED = re.compile(r"ssh\s[^']*?-p\s*(\d+)[^']*?\b(\w+)@([\w.-]+)")
RELEASED = re.compile(r"(?m)^llmhostctl release (\S+)")
PASSWORD = "the one on the page"


def blocks(text):
    """The sh blocks of a page, those left out that say why."""
    found, lines, why = [], text.splitlines(), None
    inside = None
    for line in lines:
        if inside is None and line.startswith("```"):
            inside, language = [], line[3:].strip()
        elif inside is not None and line.startswith("```"):
            if language == "sh" and why is None:
                found.append("\n".join(re.sub(r"^\$ ", "", l) for l in inside))
            inside, why = None, None
        elif inside is not None:
            inside.append(line)
        elif line.startswith("<!-- not run:"):
            why = line
    return found


class Terminal:
    """A shell on a terminal that answers when it is asked for something: {the end of what is shown then: the answer}."""

    def __init__(self, script, env, answers):
        self.said, self.answers = b"", answers
        self.ours, theirs = pty.openpty()
        self.process = subprocess.Popen(["bash", "-c", script], stdin=theirs, stdout=theirs, stderr=theirs, env=env,
                                        cwd=hosts.REPO, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(theirs)

    def run(self, limit_s):
        due, answered = time.monotonic() + limit_s, 0
        while time.monotonic() < due:
            if select.select([self.ours], [], [], 0.2)[0]:
                try:
                    data = os.read(self.ours, 65536)
                except OSError:                 # the last one that had it open is gone
                    break
                self.said += data
                for question, answer in self.answers.items():
                    if re.search(rb"(?i)\b" + question + rb"\b[^\n]*: ?$", self.said[answered:]):
                        os.write(self.ours, answer.encode() + b"\n")
                        answered = len(self.said)
            elif self.process.poll() is not None:
                break
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(), self.said.decode("utf-8", "replace")


@unittest.skipUnless(os.path.exists(README), "README.md is not there")
class Readme(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(README) as f:
            cls.text = f.read()
        cls.blocks = blocks(cls.text)

    def test_its_first_commands_are_the_demonstration_and_the_tests(self):
        commands = [l.split("#")[0].strip() for b in self.blocks for l in b.splitlines() if l.strip()]
        self.assertRegex(commands[0], r"contrib/demo")
        self.assertRegex(commands[1], r"tests/run")
        for command in commands[:2]:
            self.assertTrue(os.access(os.path.join(hosts.REPO, shlex.split(command)[0]), os.X_OK), command)

    def test_links_lead_somewhere(self):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", self.text):
            self.assertTrue(os.path.exists(os.path.join(hosts.REPO, target)), target)

    def test_what_it_tells_to_type_works(self):
        self.type("\n".join(self.blocks))

    def test_what_the_quick_start_tells_to_type_works(self):
        with open(QUICKSTART) as f:
            self.type("\n".join(blocks(f.read())))

    def type(self, script):
        script = "\n".join(l for l in script.splitlines() if not BY_THE_GATE.match(l))
        self.assertIn("llmhostctl", script, "the page shows how to use it")
        home = tempfile.mkdtemp(dir="/run/lab")
        shop = self.make_machines(script, home)
        c = self.enterContext(companies.Company(options=["--engine", "ollama", "--disk", "256m"], sshd=2))
        self.serve_rented(c, shop)
        script = re.sub(r"provider add autodl(?! --base-url)", f"provider add autodl --base-url {c.url}", script)
        engine = hosts.engine_path("ollama")
        script = script.replace("sandbox start", f"sandbox start --bind {hosts.ENGINES}")
        env = {"HOME": home, "USER": "root", "TERM": "xterm", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": home + "/run",
               "PATH": f"{daemons.BUILD}:{os.path.dirname(hosts.engine_path('ollama'))}:{os.environ['PATH']}"}
        os.mkdir(home + "/run", 0o700)
        if "llmhostd" not in re.sub(r"llmhostd\.\w+", "", script):
            running = daemons.Daemon(**{"engine.ollama": {"path": engine}})
            self.addCleanup(running.__exit__, None, None, None)
            env["LLMHOST_SOCKET"] = running.socket_path
        answers = {b"password": PASSWORD, b"token": c.developer_token, b"day": "30", b"switch it off": "n"}
        released = RELEASED.findall(script)
        if released:
            answers[b"type the name"] = released[0]
        status, said = Terminal("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || :' EXIT\nset -v\n" + script,
                                env, answers).run(RUN_S)
        self.assertEqual(status, 0, said)
        self.assertNotRegex(said, daemons.SANITIZER)
        made = [e["instance"] for e in c.calls() if e["call"] == "create" and e["code"] == "Success"]
        self.assertEqual(len(made), 1, "one machine was rented")
        self.assertEqual([i for i in c.instances() if i["status"] not in companies.OFF], [], "and is off")
        self.assertEqual(c.instance(made[0]) is None, bool(released), "and given back where the page says so")

    def serve_rented(self, c, shop):
        """Machines that are rented find the registry, too: known to each before it has an sshd."""
        over = threading.Event()

        def watch():
            served = set()
            while not over.wait(0.1):
                for i in c.instances():
                    if i["is_ready"] and i["uuid"] not in served:
                        shop.serve_host(c.box(i["uuid"]))
                        served.add(i["uuid"])
        watcher = threading.Thread(target=watch)
        watcher.start()
        self.addCleanup(watcher.join)
        self.addCleanup(over.set)

    def make_machines(self, script, home):
        """A host for every machine that is pasted, under its own name; the registry of all."""
        models.write_gguf(home + "/tiny.gguf")
        for name in set(re.findall(r"\bollama:([\w./-]+:[\w.-]+)", script)):
            models.store_in_ollama(home + "/store", name, home + "/tiny.gguf")
        shop = registry.Registry(home + "/store", port=443)
        self.addCleanup(shop.close)
        shop.serve_here()
        with open("/etc/hosts") as f:
            lines = f.read()
        for number, (port, user, name) in enumerate(dict.fromkeys(PASTED.findall(script))):
            self.assertEqual(user, "root", "hosts of the lab know root alone")
            h = Host(f"machine{number}", port=int(port), password=PASSWORD, engines=["ollama"]).up()
            self.addCleanup(h.down)
            shop.serve_host(h)
            lines += f"{h.ip} {name}\n"
        with open(home + "/hosts", "w") as f:
            f.write(lines)
        subprocess.run(["mount", "--bind", home + "/hosts", "/etc/hosts"], check=True)
        self.addCleanup(subprocess.run, ["umount", "/etc/hosts"], check=True)
        return shop
