"""Instances behind another host, and behind a program: jumps and proxy commands that work, die, hang, complain, are killed in the
middle, and never outlive their connection or the daemon."""
import contextlib
import os
import re
import subprocess
import time

import daemon as daemons
import host as hosts
import lab
import road

LIMIT_S = 240
SCRIPTED = "ollama:scripted:gpu1"
SOCAT = "socat - TCP:%h:%p"


def descendants(pid):
    found = []
    with contextlib.suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                for child in map(int, f.read().split()):
                    found += [child] + descendants(child)
    return found


def words_of(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as f:
        return f.read().decode("utf-8", "replace").replace("\0", " ").strip()
    return ""


def all_over(pids, limit_s=5):
    hosts.until(lambda: all(map(hosts.is_over, pids)), limit_s, f"the end of {[(p, words_of(p)) for p in pids if not hosts.is_over(p)]}")


class Proxies(road.Road):
    """ssh of this machine knows what its own configuration says: a key, and the host keys in a file of ours."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.key, cls.known = cls.dir + "/jump-key", cls.dir + "/known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cls.key], check=True)
        with open(cls.dir + "/ssh_config", "w") as f:
            f.write(f"UserKnownHostsFile {cls.known}\nGlobalKnownHostsFile /dev/null\nIdentityFile {cls.key}\nIdentitiesOnly yes\n")
        hosts.command("mount", "--bind", cls.dir + "/ssh_config", "/etc/ssh/ssh_config")
        cls.addClassCleanup(hosts.command, "umount", "-l", "/etc/ssh/ssh_config")

    def setUp(self):
        super().setUp()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.known)

    @contextlib.contextmanager
    def bastion(self, **settings):
        with self.host("bastion", engines=(), port=2200, **settings) as b:
            with open(self.key + ".pub") as f:
                b.put("/root/.ssh/authorized_keys", f.read(), 0o600)
            yield b

    def trust(self, *known):
        with open(self.known, "w") as f:
            for h in known:
                with open(h.dir + "/key/id.pub") as key:
                    f.write(f"[{h.ip}]:{h.port} {' '.join(key.read().split()[:2])}\n")

    @contextlib.contextmanager
    def behind(self, b, **settings):
        """A host that answers the bastion alone."""
        with self.host(engines=("scripted",), **settings) as h:
            h.run("ip", "route", "add", "blackhole", lab.ADDRESS + "/32")
            yield h

    def add(self, d, h, *options, **more):
        return d.ctl("instance", "add", h.name, *options, "--host", h.ip, "--port", str(h.port), "--user", "root", password=h.password, **more)

    def refused(self, d, h, *options, code=None):
        error = self.add(d, h, *options, check=5 if code == "jump_refused" else 9, json=True)["error"]
        self.assertIn(error["code"], (code,) if code else ("unreachable", "lost"), error)
        self.assertEqual(d.call("InstanceList")["instances"], [])
        return error["message"]

    def ask(self, d):
        answer = d.post("/v1/chat/completions", {"model": "scripted:gpu1", "script": {"chunks": 3}})
        self.assertEqual(answer.status, 200, answer.text)

    def proxies(self, d):
        """The programs that carry connections, without those that wait for the daemon's end."""
        return [p for p in descendants(d.pid) if re.search("socat|ssh ", words_of(p)) and not words_of(p).startswith("/bin/sh -c { read")]

    def test_host_that_only_a_bastion_reaches(self):
        with self.bastion() as b, self.behind(b) as h, daemons.Daemon() as d:
            via = f"root@{b.ip}:{b.port}"
            self.assertIn("no answer", self.refused(d, h))
            self.assertIn(f"the jump over {via} ended with status 255: Host key verification failed (log in there once",
                          self.refused(d, h, "-J", via, code="jump_host_key"))
            self.trust(b)
            shown = d.ctl("instance", "add", "gpu1", f"ssh -J {via} -o ServerAliveInterval=30 root@{h.ip}", password=h.password)
            self.assertIn("via       " + via, shown.stdout)
            self.assertIn("left out: -o ServerAliveInterval", shown.stderr)
            self.assertEqual(d.instance("gpu1")["host_key"], h.fingerprint)
            self.assertEqual(d.instance("gpu1")["via"], via)
            self.assertIn(via, d.ctl("status", "gpu1").stdout)
            self.assertIn(f"ssh is up through {via}, logged in by", d.ctl("doctor", "gpu1", check=False).stdout.replace("\n", " "))
            self.assertEqual(d.call("InstanceShow", name="gpu1")["settings"]["jump"], via)
            d.ctl("up", SCRIPTED)
            self.ask(d)
            left = descendants(d.pid)
            self.assertTrue(self.proxies(d))
            d.kill()
            all_over(left)
            d.start()
            d.wait_tunnel("gpu1", "up")
            self.ask(d)
            error = d.ctl("instance", "set", "gpu1", "--jump=none", check=9, json=True)["error"]
            self.assertIn("stays as it was", error["message"])
            self.ask(d)
            left = descendants(d.pid)
            d.stop()
            all_over(left)
            d.start()

    def test_chain_of_jumps_and_a_bastion_that_knows_nobody(self):
        with self.bastion() as b, self.host("outer", engines=()) as outer, self.behind(b) as h, daemons.Daemon() as d:
            outer.put("/root/.ssh/authorized_keys", b.get("/root/.ssh/authorized_keys"), 0o600)
            self.trust(b, outer)
            with open(self.known, "a") as f, open(outer.dir + "/key/id.pub") as key:
                f.write(f"{outer.ip} {key.read()}")
            self.add(d, h, f"--jump=root@{outer.ip},root@{b.ip}:{b.port}")
            self.assertTrue(d.tunnel_is("gpu1", "up"))
            d.ctl("instance", "remove", "gpu1")
            b.run("rm", "/root/.ssh/authorized_keys")
            said = self.refused(d, h, f"--jump=root@{b.ip}:{b.port}", code="jump_refused")
            self.assertRegex(said, r"the jump over .* ended with status 255: root@.*: Permission denied \(.*publickey.*\)")

    def test_bastion_that_forgets_us_is_not_asked_all_night(self):
        with self.bastion() as b, self.behind(b) as h, daemons.Daemon() as d:
            self.trust(b)
            keys, via = b.get("/root/.ssh/authorized_keys"), f"root@{b.ip}:{b.port}"
            self.add(d, h, "--jump=" + via)
            b.run("rm", "/root/.ssh/authorized_keys")
            d.restart(hard=True)
            d.wait_tunnel("gpu1", "refused")
            trouble = d.instance("gpu1")["trouble"]
            self.assertEqual((trouble["code"], trouble["exit"]), ("jump_refused", 5), trouble)
            self.assertIn(f"the jump over {via} ended with status 255: root@", trouble["message"])
            self.assertEqual(d.instance("gpu1")["tunnel"]["tries"], 2)
            b.put("/root/.ssh/authorized_keys", keys, 0o600)
            d.ctl("up", SCRIPTED)                       # somebody asks again
            self.ask(d)

    def test_commands_that_carry_it(self):
        with self.bastion() as b, self.host(engines=("scripted",)) as h, daemons.Daemon() as d:
            self.trust(b)
            for command in (SOCAT, f"ssh -W %h:%p -p {b.port} root@{b.ip}", "busybox nc %h %p",
                            "sh -c 'echo welcome >&2; exec socat - TCP:%h:%p'", "env A=b socat - TCP:$(echo %h):%p | cat"):
                with self.subTest(command):
                    d.ctl("instance", "add", "gpu1", f"ssh -o ProxyCommand=\"{command.replace('$', chr(92) + '$')}\" -p {h.port} root@{h.ip}",
                          password=h.password)
                    self.assertEqual(d.instance("gpu1")["host_key"], h.fingerprint)
                    self.assertEqual(d.call("InstanceShow", name="gpu1")["proxy_command"]["text"], command)
                    d.ctl("up", SCRIPTED)
                    self.ask(d)
                    d.ctl("down", SCRIPTED)
                    left = descendants(d.pid)
                    d.ctl("instance", "remove", "gpu1")
                    all_over(left)

    def test_commands_that_bring_nothing(self):
        with self.host(engines=()) as h, daemons.Daemon() as d:
            for command, why in (
                    ("sh -c 'echo the way is closed. >&2; exit 7'", r"the proxy command ended with status 7: the way is closed$"),
                    ("no-such-program %h", r"ended with status 127: no-such-program: not found$"),
                    ("sh -c 'kill -9 $$'", r"was killed by signal 9$"),
                    ("true", r"closed the connection during the SSH handshake$"),
                    (f"socat - TCP:%h:{h.port + 1}", r"ended with status 1: .*refused$"),
                    ("echo HTTP/1.1 400 Bad Request", r"closed the connection during the SSH handshake|ended")):
                with self.subTest(command):
                    started = time.monotonic()
                    self.assertRegex(self.refused(d, h, "--proxy-command", command), why)
                    self.assertLess(time.monotonic() - started, 5)
            started = time.monotonic()
            self.assertRegex(self.refused(d, h, "--proxy-command", "sh -c 'echo still trying >&2; exec sleep 1000'"),
                             "no answer through the proxy command within 15 s: still trying")
            self.assertLess(time.monotonic() - started, 20)
            hosts.until(lambda: not descendants(d.pid), 5, "nobody left")

    def test_names_are_words(self):
        with self.host(engines=()) as h, daemons.Daemon() as d:
            for options in (("--host=$(touch /run/lab/no)", "--proxy-command", SOCAT), ("--host=a;b", "--jump=bastion"),
                            ("--host=-oProxyCommand=x", "--jump=bastion"), ("--host=box", "--jump=-x@bastion"), ("--host=box", "--jump=a b"),
                            ("--host=box", "--proxy-command", "nc %k"), ("--host=box", "--jump=a", "--proxy-command=b")):
                with self.subTest(options):
                    error = d.ctl("instance", "add", "gpu1", *options, "--user=root", password="x", check=2, json=True)["error"]
                    self.assertEqual(error["code"], "bad_command")
            self.assertFalse(os.path.exists("/run/lab/no"))

    def test_killed_in_the_middle_it_is_back(self):
        with self.host(engines=("scripted",)) as h, daemons.Daemon() as d:
            self.add(d, h, "--proxy-command", SOCAT)
            d.ctl("up", SCRIPTED)
            for _ in range(5):
                time.sleep(1.2)                 # the connection has settled: a loss of it is a first loss
                before = d.instance("gpu1")["tunnel"]["reconnects"]
                for pid in self.proxies(d):
                    os.kill(pid, 9)
                started = time.monotonic()
                hosts.until(lambda: d.instance("gpu1")["tunnel"]["reconnects"] > before and d.tunnel_is("gpu1", "up"), 5, "the tunnel", 0.01)
                self.assertLess(time.monotonic() - started, 3)
                self.ask(d)
            self.assertRegex(d.instance("gpu1")["tunnel"]["last_break"], "proxy command was killed by signal 9")
            self.assertEqual(len(self.proxies(d)), 1)

    def test_stream_that_loses_its_way_says_so(self):
        with self.host(engines=("scripted",)) as h, daemons.Daemon() as d:
            self.add(d, h, "--proxy-command", SOCAT)
            d.ctl("up", SCRIPTED)
            body = {"model": "scripted:gpu1", "stream": True, "script": {"chunks": 200, "gap_ms": 50, "stream": True}}
            with contextlib.closing(d.connect()) as c:
                c.request("POST", "/v1/chat/completions", body=daemons.json.dumps(body), headers={"Content-Type": "application/json"})
                answer = c.getresponse()
                said = answer.read1(4096)
                for pid in self.proxies(d):
                    os.kill(pid, 9)
                said += answer.read()
            self.assertIn(b'"error"', said)
            self.assertNotIn(b"[DONE]", said)
            d.wait_tunnel("gpu1", "up")
            self.ask(d)

    def test_silence_behind_a_living_command_is_noticed(self):
        with self.bastion() as b, self.behind(b) as h, daemons.Daemon() as d:
            self.trust(b)
            self.add(d, h, "-J", f"root@{b.ip}:{b.port}")
            d.ctl("up", SCRIPTED)
            self.ask(d)
            for dead, fault, end in ((h, "freeze", "thaw"), (b, "blackhole", "heal")):
                time.sleep(1.2)
                dead.fault(fault)
                hosts.until(lambda: not d.tunnel_is("gpu1", "up"), 10.5, "the loss")
                dead.fault(end)
                d.wait_tunnel("gpu1", "up", 30)
                self.ask(d)
            self.assertLessEqual(len(self.proxies(d)), 2)       # the one that fell silent keeps what it carries

    def test_nobody_is_left_behind_a_daemon_that_is_killed(self):
        """Whatever the command is made of: what ignores signals, and what ignores the end of its input."""
        with self.host(engines=()) as h, daemons.Daemon() as d:
            self.add(d, h, "--proxy-command", "sh -c 'trap \"\" TERM HUP INT; sleep 1000 & socat - TCP:%h:%p; sleep 1000'")
            left = descendants(d.pid)
            self.assertEqual(sum("sleep 1000" == words_of(p) for p in left), 1)
            d.kill()
            all_over(left)
            d.start()
            d.wait_tunnel("gpu1", "up")
            left = descendants(d.pid)
            d.stop()
            all_over(left)

    def test_the_way_is_changed_and_removed(self):
        with self.bastion() as b, self.host(engines=("scripted",)) as h, daemons.Daemon() as d:
            self.trust(b)
            via = f"root@{b.ip}:{b.port}"
            self.add(d, h)
            d.ctl("up", SCRIPTED)
            key = d.instance("gpu1")["host_key"]
            for words, shown, carried in ((("--proxy-command", SOCAT), "a proxy command", "socat"), (("--jump", via), via, "ssh -o BatchMode"),
                                          (("--port", str(h.port)), via, "ssh -o BatchMode"), (("--jump=none",), None, None),
                                          (("-J", via), via, "ssh -o BatchMode"), ((h.ssh_command,), None, None)):
                with self.subTest(words):
                    d.ctl("instance", "set", "gpu1", *words)
                    self.assertEqual((d.instance("gpu1").get("via"), d.instance("gpu1")["host_key"]), (shown, key))
                    self.ask(d)
                    hosts.until(lambda: [carried in words_of(p) for p in self.proxies(d)] == ([True] if carried else []), 5,
                                f"the way over {carried}, there are {[words_of(p) for p in self.proxies(d)]}")
            error = d.ctl("instance", "set", "gpu1", "--proxy-command", "false", check=9, json=True)["error"]
            self.assertIn("stays as it was", error["message"])
            self.ask(d)

    def test_another_machine_behind_the_same_way_is_refused(self):
        with self.host(engines=()) as h, self.host("gpu2", engines=()) as other, daemons.Daemon() as d:
            self.add(d, h, "--proxy-command", SOCAT)
            error = d.ctl("instance", "set", "gpu1", "--proxy-command", f"socat - TCP:{other.ip}:22", check=9, json=True)["error"]
            self.assertEqual(error["code"], "host_key")

    def test_command_with_a_password_is_told_to_its_owner_alone(self):
        word = "pAssw0rd-of-a-proxy"
        command = f"env WORD={word} socat - TCP:%h:%p"
        with self.host(engines=()) as h, daemons.Daemon(log={"level": "debug"}) as d:
            d.ctl("instance", "add", "gpu1", f"ssh -o 'ProxyCommand={command}' root@{h.ip}", password=h.password)
            self.assertIn(command, d.ctl("instance", "show", "gpu1").stdout)
            for p in [d.pid] + descendants(d.pid):
                self.assertNotIn(word, words_of(p))
            shown = repr(d.call("Status")) + d.ctl("status", "gpu1").stdout + d.ctl("doctor", "gpu1").stdout + d.ctl("logs").stdout
            shown += d.ctl("logs", "--events").stdout + d.ctl("instance", "list", "--json").stdout
            d.ctl("instance", "set", "gpu1", "--proxy-command", command + " x", check=False)
            self.assertNotIn(word, shown + d.log())


if not hosts.shutil.which("socat"):
    raise SystemExit("no socat")
