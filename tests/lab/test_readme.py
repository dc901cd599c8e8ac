"""Does what README.md tells its reader to do, word for word.

Every fenced block marked sh is run, in order, in one shell on a terminal, in an empty home directory. The machine in the
pasted ssh command is a host of the lab that answers to that name, port and user; its ollama pulls from a registry of ours.
Where the README does not start the daemon itself, one is running. A block that cannot be run here (it installs, or needs
systemd) has a line above it that says why: <!-- not run: REASON -->. The first two commands, contrib/demo and tests/run, are
run by the gate, and only looked at here."""
import fcntl
import os
import pty
import re
import select
import shlex
import subprocess
import tempfile
import termios
import time
import unittest

import daemon as daemons
import host as hosts
import models
import registry
from host import Host

LIMIT_S = 180
README = hosts.REPO + "/README.md"
BY_THE_GATE = re.compile(r"(\./)?(contrib/demo|tests/run)\b")
PASTED = re.compile(r"ssh\s[^']*?-p\s*(\d+)[^']*?\b(\w+)@([\w.-]+)")
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
    """A shell on a terminal that answers when it is asked for a password."""

    def __init__(self, script, env):
        self.said = b""
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
                asked = len(re.findall(rb"(?i)password[^\n]*: ?", self.said))
                if asked > answered:
                    os.write(self.ours, PASSWORD.encode() + b"\n")
                    answered = asked
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
        script = "\n".join(b for b in self.blocks if not all(
            BY_THE_GATE.match(l) for l in b.splitlines() if l.strip() and not l.startswith("#")))
        script = "\n".join(l for l in script.splitlines() if not BY_THE_GATE.match(l))
        self.assertIn("llmhostctl", script, "the README shows how to use it")
        home = tempfile.mkdtemp(dir="/run/lab")
        self.make_machines(script, home)
        env = {"HOME": home, "USER": "root", "TERM": "xterm", "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": home + "/run",
               "PATH": f"{daemons.BUILD}:{os.path.dirname(hosts.engine_path('ollama'))}:{os.environ['PATH']}"}
        os.mkdir(home + "/run", 0o700)
        if "llmhostd" not in re.sub(r"llmhostd\.\w+", "", script):
            running = daemons.Daemon()
            self.addCleanup(running.__exit__, None, None, None)
            env["LLMHOST_SOCKET"] = running.socket_path
        status, said = Terminal("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || :' EXIT\nset -v\n" + script,
                                env).run(LIMIT_S - 40)
        self.assertEqual(status, 0, said)
        self.assertNotRegex(said, daemons.SANITIZER)

    def make_machines(self, script, home):
        """A host for every machine that is pasted, under its own name."""
        models.write_gguf(home + "/tiny.gguf")
        for name in set(re.findall(r"\bollama:([\w./-]+:[\w.-]+)", script)):
            models.store_in_ollama(home + "/store", name, home + "/tiny.gguf")
        shop = registry.Registry(home + "/store", port=443)
        self.addCleanup(shop.close)
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
