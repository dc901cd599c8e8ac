"""The sandbox's process hosts (contrib/sandbox/hosts.py), as root and as nobody in particular."""
import json
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import unittest

import host as hosts

SCRIPT = hosts.REPO + "/contrib/sandbox/hosts.py"
SSH = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
       "-o", "BatchMode=yes"]
USER = "sandboxer"


def setUpModule():
    """A person without rights, known to this enclosure alone."""
    base = tempfile.mkdtemp(dir="/run/lab")
    home = base + "/home"
    os.mkdir(home)
    os.chmod(base, 0o755)
    with open("/etc/passwd") as f:
        users = f.read() + f"{USER}:x:61234:61234::{home}:/bin/sh\n"
    with open(base + "/passwd", "w") as f:
        f.write(users)
    os.chmod(base + "/passwd", 0o644)
    os.chown(home, 61234, 61234)
    subprocess.run(["mount", "--bind", base + "/passwd", "/etc/passwd"], check=True)
    shutil.copy(SCRIPT, home + "/hosts.py")             # the checkout may lie where others cannot look


def tearDownModule():
    subprocess.run(["umount", "/etc/passwd"], check=True)


class Sandbox:
    """What both have in common; as_user runs a command as the owner of the hosts."""

    def hosts(self, *words, check=True):
        done = self.as_user(["/usr/bin/python3", self.home + "/hosts.py", "--dir", self.dir, *words])
        if check:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def ssh(self, running, command, **more):
        return self.as_user(["ssh", *SSH, "-p", str(running["port"]), "-i", running["key"],
                             f"{running['user']}@127.0.0.1", command], **more)

    def setUp(self):
        self.running = json.loads(self.hosts("up", "a", "--json").stdout)
        self.addCleanup(self.hosts, "down", "a", "--wipe")

    def test_login_lands_on_a_disk_of_its_own(self):
        self.assertEqual(self.ssh(self.running, "pwd; echo x >here; ls -A").stdout.split()[0], self.home)
        self.assertTrue(os.path.exists(self.running["disk"] + "/here"))
        self.assertFalse(os.path.exists(self.home + "/here"))
        self.assertEqual(self.ssh(self.running, "ls hosts.py").returncode, 2)
        self.assertEqual(self.ssh(self.running, "ls -A /mnt; touch /mnt/x 2>&1 || echo refused").stdout.split()[-1], "refused")

    def test_own_key_of_a_guest_lets_it_in(self):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir + "/guest"], check=True)
        os.chown(self.dir + "/guest", os.stat(self.dir).st_uid, -1)
        with open(self.dir + "/guest.pub") as f:
            self.ssh(self.running, f"mkdir -p .ssh && echo '{f.read().strip()}' >>.ssh/authorized_keys")
        self.assertEqual(self.ssh(dict(self.running, key=self.dir + "/guest"), "echo in").stdout, "in\n")

    def test_cut_ends_connections_and_leaves_programs(self):
        self.ssh(self.running, "nohup sleep 4711 >/dev/null 2>&1 </dev/null &")
        session = self.as_user(["ssh", *SSH, "-p", str(self.running["port"]), "-i", self.running["key"],
                                f"{self.running['user']}@127.0.0.1", "echo in; sleep 60"], popen=True)
        self.assertEqual(session.stdout.readline(), "in\n")
        self.assertIn("1 connections cut", self.hosts("cut", "a").stdout)
        self.assertEqual(session.wait(10), 255)
        session.stdout.close()
        session.stderr.close()
        self.assertIn("sleep 4711", self.ssh(self.running, "ps ax -o args").stdout)

    def test_power_switch_ends_everything_and_keeps_the_disk(self):
        self.ssh(self.running, "echo kept >file; nohup sleep 4712 >/dev/null 2>&1 </dev/null &")
        self.hosts("down", "a")
        self.assertNotEqual(subprocess.run(["pgrep", "-f", "^sleep 4712"], stdout=subprocess.DEVNULL).returncode, 0)
        self.assertRegex(self.hosts("list").stdout, r"^a +off")
        again = json.loads(self.hosts("up", "a", "--json").stdout)
        self.assertEqual(again["port"], self.running["port"])
        self.assertEqual(self.ssh(again, "cat file").stdout, "kept\n")

    def test_bound_directory_is_seen_in_spite_of_the_disk(self):
        self.hosts("down", "a")
        shown = self.home + "/shown"
        self.as_user(["sh", "-c", f"mkdir -p {shown} && echo 1 >{shown}/file"])
        running = json.loads(self.hosts("up", "a", "--json", "--bind", shown).stdout)
        self.assertEqual(self.ssh(running, f"cat {shown}/file").stdout, "1\n")

    def test_unknown_things_are_said_in_a_sentence(self):
        self.assertIn("is on already", self.hosts("up", "a", check=False).stderr)
        self.assertIn("is off", self.hosts("cut", "b", check=False).stderr)


class AsNobodyInParticular(Sandbox, unittest.TestCase):
    def setUp(self):
        self.home = pwd.getpwnam(USER).pw_dir
        self.dir = self.home + "/hosts"                 # below the home, which the disk will cover
        super().setUp()

    def as_user(self, words, popen=False):
        how = dict(text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/",
                   env={"HOME": self.home, "PATH": "/usr/bin:/bin:/usr/sbin"}, user=61234, group=61234, extra_groups=[])
        return subprocess.Popen(words, **how) if popen else subprocess.run(words, timeout=30, **how)


class AsRoot(Sandbox, unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(dir="/run/lab")
        self.home = pwd.getpwuid(0).pw_dir
        super().setUp()

    def hosts(self, *words, check=True):
        done = self.as_user(["/usr/bin/python3", SCRIPT, "--dir", self.dir, *words])
        if check:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done

    def as_user(self, words, popen=False):
        how = dict(text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/")
        return subprocess.Popen(words, **how) if popen else subprocess.run(words, timeout=30, **how)
