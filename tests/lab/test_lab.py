"""Proves the ground the other lab tests stand on: that a host is a machine of its own, that a fault looks to a peer as
the same fault does out there, that the engines are real, and that our servers fail as ordered."""
import concurrent.futures
import contextlib
import errno
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import daemon
import host as hosts
import lab
import models
import registry
from host import Host

LIMIT_S = 240
LAB = os.path.join(hosts.HERE, "lab")
DEEPSEEK = "deepseek-r1:7b"
ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except OSError:
            pass
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer.daemon_threads = True
socketserver.ThreadingTCPServer(("", 7000), Echo).serve_forever()
"""


def ssh(host, *words, password=None, options=(), timeout=20):
    """The ssh program, with a password; returns (status, what it said)."""
    known = f"/run/lab/known.{host.name}"
    done = subprocess.run(
        ["sshpass", "-p", password or host.password, "ssh", "-p", str(host.port), "-o", f"UserKnownHostsFile={known}",
         "-o", "StrictHostKeyChecking=accept-new", "-o", "LogLevel=ERROR", *options, f"root@{host.ip}", *words],
        text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    return done.returncode, done.stdout.strip()


def echo_up(host):
    host.start("/usr/bin/python3", "-c", ECHO)
    hosts.until(lambda: connect_once(host) == "works", 10, "an echo")


def connect_once(host, port=7000, limit_s=4.0):
    """What a new connection meets: works, silent (accepted, no echo), or the name of the error."""
    try:
        with socket.create_connection((host.ip, port), limit_s) as s:
            s.settimeout(1)
            s.sendall(b"x")
            return "works" if s.recv(1) else "EOF"
    except TimeoutError as e:
        return "silent" if "timed out" in str(e) and connected_in(host, port) else "times out"
    except OSError as e:
        return errno.errorcode[e.errno]


def connected_in(host, port):
    try:
        socket.create_connection((host.ip, port), 1).close()
        return True
    except OSError:
        return False


class Peer:
    """Two connections to the echo and what they see until the window closes: one only waits, one writes and gives up
    after two seconds without an acknowledgement."""

    def __init__(self, host):
        self.saw = {"idle": "nothing", "writer": "nothing"}
        self.end = threading.Event()
        for name in self.saw:
            s = socket.create_connection((host.ip, 7000), 4)
            s.settimeout(0.2)
            if name == "writer":
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2000)
            threading.Thread(target=self.watch, args=(name, s), daemon=True).start()

    def watch(self, name, s):
        with s:
            while not self.end.is_set():
                try:
                    if name == "writer":
                        s.sendall(b"x")
                    if s.recv(100) == b"":
                        self.saw[name] = "EOF"
                        return
                    time.sleep(0.05)
                except TimeoutError as e:
                    if e.errno:
                        self.saw[name] = errno.errorcode[e.errno]
                        return
                except OSError as e:
                    self.saw[name] = errno.errorcode[e.errno]
                    return


def post(address, path, body, timeout=60):
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=timeout)) as c:
        c.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = c.getresponse()
        return answer.status, answer.read()


def chat(address, model):
    status, body = post(address, "/v1/chat/completions",
                        {"model": model, "messages": [{"role": "user", "content": "hi"}]})
    return json.loads(body)["choices"][0]["message"]["content"] if status == 200 else f"{status}: {body!r}"


def listens(address):
    with contextlib.suppress(OSError):
        socket.create_connection(address, 1).close()
        return True


class Enclosure(unittest.TestCase):
    def test_status_of_the_command_comes_out(self):
        self.assertEqual(subprocess.run([LAB, "--", "sh", "-c", "exit 9"]).returncode, 9)

    def test_limit_ends_the_command_with_124(self):
        started = time.monotonic()
        done = subprocess.run([LAB, "-t", "0.5", "--", "sleep", "60"], stderr=subprocess.DEVNULL)
        self.assertEqual(done.returncode, lab.TIMED_OUT)
        self.assertLess(time.monotonic() - started, 4)

    def test_killing_it_ends_everything_inside(self):
        mark = f"88{os.getpid()}"
        outer = subprocess.Popen([LAB, "--", "sh", "-c", f"setsid sleep {mark} & setsid -f sleep {mark}; wait"],
                                 stderr=subprocess.DEVNULL)
        asleep = lambda: subprocess.run(["pgrep", "-f", f"^sleep {mark}"], stdout=subprocess.DEVNULL).returncode == 0
        hosts.until(asleep, 10, "sleepers")
        outer.kill()
        outer.wait()
        hosts.until(lambda: not asleep(), 5, "end of the sleepers")

    def test_hosts_refuse_to_live_outside(self):
        code = "import host\ntry: host.Host('a')\nexcept host.HostError as e: print(e)"
        env = {k: v for k, v in os.environ.items() if k != lab.INSIDE}
        said = subprocess.run([sys.executable, "-c", code], cwd=hosts.HERE, env=env, text=True, stdout=subprocess.PIPE)
        self.assertIn("enclosure", said.stdout)


class Login(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.host = Host("login", password="s p'a$ce").up()

    @classmethod
    def tearDownClass(cls):
        cls.host.down()

    def test_password(self):
        self.assertEqual(ssh(self.host, "hostname; id -u"), (0, "login\n0"))

    def test_wrong_password_is_refused(self):
        self.assertEqual(ssh(self.host, "true", password="other")[0], 5)

    def test_key(self):
        key = tempfile.mkdtemp(dir="/run/lab") + "/key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        with open(key + ".pub") as f:
            self.host.put("/root/.ssh/authorized_keys", f.read(), 0o600)
        done = subprocess.run(["ssh", "-i", key, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                               "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", f"root@{self.host.ip}",
                               "echo", "in"], text=True, stdout=subprocess.PIPE, timeout=20)
        self.assertEqual(done.stdout, "in\n")

    def test_terminal(self):
        self.assertIn("/dev/pts/", ssh(self.host, "tty", options=["-tt"])[1])

    def test_unfriendly_server(self):
        with contextlib.closing(Owned("unfriendly", opt=["PasswordAuthentication no", "MaxSessions 1"])) as h:
            status, said = ssh(h.host, "true")
            self.assertNotEqual(status, 0)
            self.assertIn("Permission denied (publickey)", said)

    def test_sshd_restart_cuts_sessions_and_nothing_else(self):
        self.host.start("sleep", "7777")
        session = subprocess.Popen(["sshpass", "-p", self.host.password, "ssh", "-o", "StrictHostKeyChecking=no",
                                    "-o", "UserKnownHostsFile=/dev/null", f"root@{self.host.ip}", "echo in; sleep 60"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.assertEqual(session.stdout.readline(), "in\n")
        self.host.fault("sshd_restart")
        self.assertEqual(session.wait(10), 255)
        session.stdout.close()
        self.assertEqual(len(self.host.pids("^sleep 7777")), 1)
        self.assertEqual(ssh(self.host, "echo again"), (0, "again"))


class Owned:
    """A host for one test."""

    def __init__(self, name, opt=(), **settings):
        self.host = Host(name, **settings)
        self.host.up(opt=opt)

    def close(self):
        if self.host.pid:
            self.host.down()


class Machine(unittest.TestCase):
    def test_its_files_and_processes_are_its_own(self):
        with contextlib.closing(Owned("own")) as o:
            h = o.host
            engines = os.path.relpath(os.path.realpath(hosts.ENGINES), "/root").split("/")[0]
            self.assertEqual(h.run("ls -A /root").stdout.split(), [] if engines == ".." else [engines])
            h.run("echo x >/usr/bin/only-here; echo y >/tmp/t")
            self.assertFalse(os.path.exists("/usr/bin/only-here"))
            self.assertEqual([p.pid for p in h.pids()][0], 1)
            self.assertNotEqual(h.run("cat /proc/1/cmdline").stdout, open("/proc/1/cmdline").read())
            self.assertNotEqual(h.run("echo 60 >/proc/sys/vm/swappiness", check=False).returncode, 0)

    def test_disk_is_kept_wiped_and_full(self):
        with contextlib.closing(Owned("disk", disk="16m", data="/root/autodl-tmp")) as o:
            h, key = o.host, o.host.fingerprint
            h.run("echo 1 >/root/system; echo 2 >/root/autodl-tmp/data")
            h.down()
            h.up(port=2201)
            self.assertEqual((h.get("/root/system"), h.fingerprint), ("1\n", key))
            self.assertIn("-p 2201", h.ssh_command)
            full = h.run("cat /dev/zero >/root/zeros", check=False)
            self.assertIn("No space left on device", full.stderr)
            h.wipe()
            self.assertEqual(h.run("ls /root/system", check=False).returncode, 2)
            self.assertEqual(h.get("/root/autodl-tmp/data"), "2\n")

    def test_other_address_and_other_key_on_the_old_address(self):
        with contextlib.closing(Owned("mover", ip="10.99.5.9")) as a:
            self.assertEqual(ssh(a.host, "true"), (0, ""))
            a.host.down()
            a.host.up(ip="10.99.5.10")
            with contextlib.closing(Owned("stranger", ip="10.99.5.9")) as b:
                self.assertNotEqual(a.host.fingerprint, b.host.fingerprint)
                self.assertEqual(ssh(a.host, "hostname", options=["-o", "CheckHostIP=no"])[1], "mover")
                self.assertEqual(ssh(b.host, "hostname")[1], "stranger")
            a.host.down()
            before = a.host.fingerprint
            a.host.up(new_key=True)
            self.assertNotEqual(a.host.fingerprint, before)
            self.assertIn("changed", ssh(a.host, "true", options=["-o", "CheckHostIP=no"])[1].lower())

    def test_engine_that_is_not_wanted_is_not_there(self):
        with contextlib.closing(Owned("bare")) as o:
            self.assertNotEqual(o.host.run("command -v ollama llama-server", check=False).returncode, 0)
            o.host.down()
            o.host.up(engines=["ollama-0.11.4"])
            self.assertIn("0.11.4", o.host.run("ollama --version").stdout)


class Faults(unittest.TestCase):
    # What each does to a connection that waits, to one that writes, and to a new one. Where nobody answers for the
    # address any more, the kernel says so only after it has asked for it in vain, which can take longer than we wait.
    SEEN = {
        "blackhole": ("nothing", "ETIMEDOUT", "times out"),
        "nosyn": ("nothing", "nothing", "times out"),
        "refuse": ("nothing", "nothing", "ECONNREFUSED"),
        "unreach": ("nothing", "EHOSTUNREACH", "EHOSTUNREACH"),
        "rst": ("ECONNRESET", "ECONNRESET", "works"),
        "linkdown": ("nothing", "EHOSTUNREACH|ETIMEDOUT", "EHOSTUNREACH|times out"),
        "freeze": ("nothing", "nothing", "silent"),
        "plug": ("nothing", "EHOSTUNREACH|ETIMEDOUT", "EHOSTUNREACH|times out"),
        "shutdown": ("EOF", "EOF|EPIPE|ECONNRESET", "EHOSTUNREACH|times out"),
    }

    def one(self, kind):
        with contextlib.closing(Owned(kind)) as o:
            h = o.host
            echo_up(h)
            peer = Peer(h)
            time.sleep(0.3)
            if kind in ("plug", "shutdown"):
                h.down(clean=kind == "shutdown")
            else:
                h.fault(kind)
            new = connect_once(h)
            time.sleep(4)
            seen = (peer.saw["idle"], peer.saw["writer"], new)
            peer.end.set()
            healed = None
            if h.pid:
                h.heal()
                healed = connect_once(h)
            return kind, seen, healed

    def test_each_looks_to_a_peer_as_the_real_one(self):
        with concurrent.futures.ThreadPoolExecutor(len(self.SEEN)) as pool:
            for kind, seen, healed in pool.map(self.one, self.SEEN):
                with self.subTest(kind):
                    for saw, pattern in zip(seen, self.SEEN[kind]):
                        self.assertRegex(saw, f"^({pattern})$")
                    self.assertIn(healed, (None, "works"))

    def test_delay_can_be_changed_and_taken_away_under_a_connection(self):
        with contextlib.closing(Owned("far")) as o:
            h = o.host
            echo_up(h)
            with socket.create_connection((h.ip, 7000), 4) as s:
                s.settimeout(10)
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

                def round_trip_ms():
                    started = time.monotonic()
                    s.sendall(b"x")
                    s.recv(1)
                    return (time.monotonic() - started) * 1000
                self.assertLess(min(round_trip_ms() for _ in range(5)), 10)
                h.fault("delay", "40")
                self.assertTrue(79 < min(round_trip_ms() for _ in range(5)) < 120)
                h.fault("delay", "10,20")
                self.assertTrue(19 < min(round_trip_ms() for _ in range(8)) < 80)
                h.heal()
                self.assertLess(min(round_trip_ms() for _ in range(5)), 10)

    def flood(self, kind, count):
        """How much of an endless download came before a fault at COUNT bytes, and how it ended."""
        with contextlib.closing(Owned("flood")) as o:
            h = o.host
            h.start("/usr/bin/python3", "-c", "import socket\ns = socket.create_server(('', 7000))\n"
                    "while True:\n  c = s.accept()[0]\n  try:\n    while True: c.sendall(bytes(65536))\n"
                    "  except OSError: pass")
            hosts.until(lambda: listens((h.ip, 7000)), 10, "a flood")
            h.fault(kind, count)
            got = 0
            try:
                with socket.create_connection((h.ip, 7000), 2) as s:
                    s.settimeout(1)
                    while data := s.recv(65536):
                        got += len(data)
            except OSError as e:
                return got, errno.errorcode.get(e.errno, "silence")
            return got, "EOF"

    def test_cut_in_the_middle_comes_at_the_byte_ordered(self):
        got, end = self.flood("rst_after", 500_000)
        self.assertEqual(end, "ECONNRESET")
        self.assertTrue(400_000 < got < 500_000, got)           # the rest are headers, and what lay in the queue
        got, end = self.flood("blackhole_after", 500_000)
        self.assertEqual(end, "silence")
        self.assertTrue(400_000 < got < 500_000, got)

    def test_rate_and_loss(self):
        with contextlib.closing(Owned("slow")) as o:
            h = o.host
            h.fault("rate", 2000)
            started = time.monotonic()
            self.assertEqual(ssh(h, "head -c 300000 /dev/zero | tr '\\0' x")[0], 0)
            self.assertGreater(time.monotonic() - started, 0.8)
            h.heal()
            h.fault("loss", 30)
            said = subprocess.run(["ping", "-i", "0.01", "-c", "200", "-q", h.ip], text=True,
                                  stdout=subprocess.PIPE).stdout
            received = int(re.search(r"(\d+) received", said)[1])
            self.assertTrue(60 < received < 140, said)          # 49 % of 200 are expected


class Engines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(dir="/run/lab")
        models.write_gguf(cls.dir + "/tiny.gguf")
        with open(cls.dir + "/tiny.gguf", "rb") as f:
            cls.gguf = f.read()

    def serve(self, h, name):
        h.put("/root/tiny.gguf", self.gguf)
        if name == "llama-server":
            h.start("llama-server", "-m", "/root/tiny.gguf", "--host", h.ip, "--port", "8080", "--offline", "-t", "1",
                    log=h.console_log)
        else:
            store = self.dir + "/" + h.name
            models.store_in_ollama(store, DEEPSEEK, self.dir + "/tiny.gguf")
            archive = subprocess.run(["tar", "-C", store, "-c", "."], stdout=subprocess.PIPE, check=True).stdout
            h.put("/root/store.tar", archive)
            h.run("mkdir -p /root/models && tar -C /root/models -xf /root/store.tar")
            h.start("ollama", "serve", log=h.console_log,
                    env={"OLLAMA_HOST": h.ip + ":8080", "OLLAMA_MODELS": "/root/models", "OLLAMA_NO_CLOUD": "1"})
        hosts.until(lambda: listens((h.ip, 8080)), 20, f"{name} at its port:\n{h.console()}")
        return h.ip, 8080

    def answers(self, engine, host_name, process):
        with contextlib.closing(Owned(host_name, engines=[engine])) as o:
            address = self.serve(o.host, engine)
            said = hosts.until(lambda: (lambda c: c if c.startswith(" ") else None)(chat(address, DEEPSEEK)), 20,
                               "an answer", 0.2)
            self.assertEqual(said, models.answer())
            found = o.host.pids(process)
            self.assertTrue(found, "the engine's pid is in the host's pid namespace")
            o.host.fault("blackhole")
            with self.assertRaises(OSError):
                post(address, "/v1/chat/completions", {}, timeout=1)

    def test_llama_server_counts_on_the_host(self):
        self.answers("llama-server", "lcpp", "^llama-server .*tiny.gguf")

    def test_ollama_of_the_first_generation_counts_on_the_host(self):
        self.answers("ollama-0.11.4", "old", "ollama runner")

    def test_ollama_of_the_second_generation_counts_on_the_host(self):
        self.answers("ollama-0.32.15", "new", "llama-server .*sha256-")

    def test_looping_model_goes_on_until_the_limit(self):
        models.write_gguf(self.dir + "/loop.gguf", count=9, loop=True)
        server = subprocess.Popen([hosts.engine_path("llama-server"), "-m", self.dir + "/loop.gguf", "--port", "8099",
                                   "--offline", "-t", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            hosts.until(lambda: listens(("127.0.0.1", 8099)), 20, "llama-server")
            ask = lambda: post(("127.0.0.1", 8099), "/completion", {"prompt": "hi", "n_predict": 12})
            status, body = hosts.until(lambda: (lambda a: a if a[0] == 200 else None)(ask()), 20, "an answer", 0.1)
            self.assertEqual(json.loads(body)["content"], models.answer(9) + " 1 2 3")
        finally:
            server.kill()
            server.wait()


class Pulls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp(dir="/run/lab")
        models.write_gguf(cls.dir + "/padded.gguf", pad_bytes=1 << 20)
        models.store_in_ollama(cls.dir + "/store", DEEPSEEK, cls.dir + "/padded.gguf")
        cls.registry = registry.Registry(cls.dir + "/store", port=443)

    @classmethod
    def tearDownClass(cls):
        cls.registry.close()

    def setUp(self):
        self.registry.fault()
        self.registry.asked.clear()

    def pull(self, engine, host_name):
        """A pull by the name a user would type, on a fresh host; returns the last line of ollama's stream."""
        with contextlib.closing(Owned(host_name, engines=[engine])) as o:
            h = o.host
            self.registry.serve_host(h)
            h.start("ollama", "serve", log=h.console_log, env={"OLLAMA_HOST": h.ip + ":8080", "OLLAMA_NO_CLOUD": "1"})
            hosts.until(lambda: listens((h.ip, 8080)), 20, "ollama")
            status, body = post((h.ip, 8080), "/api/pull", {"model": DEEPSEEK})
            last = json.loads(body.splitlines()[-1])
            if last.get("status") == "success":
                self.assertEqual(chat((h.ip, 8080), DEEPSEEK), models.answer())
            return last

    def test_bare_name_is_pulled_over_tls_by_both_generations(self):
        for engine, name in (("ollama-0.11.4", "pull-old"), ("ollama-0.32.15", "pull-new")):
            self.assertEqual(self.pull(engine, name), {"status": "success"}, engine)

    def ranges(self):
        return [a[2] for a in self.registry.asked if a[2] and a[3] == 206 and int(a[2].split("-")[1]) > 400_000]

    def test_closed_download_is_resumed_where_it_was(self):
        self.registry.fault(close_after=400_000, times=1)
        self.assertEqual(self.pull("ollama-0.32.15", "closed"), {"status": "success"})
        self.assertEqual([r.split("-")[0] for r in self.ranges()], ["bytes=0", "bytes=400000"])

    def test_reset_download_begins_again(self):
        self.registry.fault(reset_after=400_000, times=1)
        self.assertEqual(self.pull("ollama-0.32.15", "reset"), {"status": "success"})
        self.assertEqual([r.split("-")[0] for r in self.ranges()], ["bytes=0", "bytes=0"])

    def test_unknown_model_and_flipped_bit_are_errors(self):
        self.registry.fault(status=404)
        self.assertIn("file does not exist", self.pull("ollama-0.32.15", "unknown")["error"])
        self.registry.fault(wrong_digest=True)
        self.assertIn("digest mismatch", self.pull("ollama-0.32.15", "flipped")["error"])


class Scripted(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.owned = Owned("scripted", engines=["scripted"])
        h = cls.owned.host
        h.start("ollama", "serve", env={"OLLAMA_HOST": h.ip + ":8080"}, log=h.console_log)
        cls.address = (h.ip, 8080)
        hosts.until(lambda: listens(cls.address), 10, "the scripted engine")

    @classmethod
    def tearDownClass(cls):
        cls.owned.close()

    def play(self, **script):
        return post(self.address, "/v1/chat/completions", {"model": "scripted", "script": script}, timeout=3)

    def test_whole_answer_has_the_size_ordered(self):
        self.assertEqual(self.play(chunks=3, bytes=100, status=429), (429, b"".join(
            (b"%d " % n).ljust(100, b".") for n in range(3))))

    def test_stream_arrives_in_numbered_events(self):
        status, body = self.play(stream=True, chunks=4, gap_ms=1)
        self.assertEqual(re.findall(rb"data: (\d)", body), [b"0", b"1", b"2", b"3"])

    def test_ends_as_ordered(self):
        for end, error in (("fin", http.client.IncompleteRead), ("rst", OSError), ("silence", TimeoutError)):
            with self.subTest(end), self.assertRaises(error):
                self.play(chunks=2, end=end)
        with self.assertRaises((http.client.RemoteDisconnected, ConnectionResetError)):
            self.play(nothing=True, end="fin")

    def test_it_tells_what_it_was_asked(self):
        self.play(chunks=1)
        with contextlib.closing(http.client.HTTPConnection(*self.address, timeout=5)) as c:
            c.request("GET", "/_asked")
            last = json.loads(c.getresponse().read())[-1]
        self.assertEqual((last["method"], last["path"], last["ended"]), ("POST", "/v1/chat/completions", "clean"))


class Helpers(unittest.TestCase):
    """daemon.py: the daemon as tests see it."""

    def test_three_ways_to_talk_to_it(self):
        with daemon.Daemon() as d:
            self.assertEqual(d.call("Status")["daemon"]["pid"], d.pid)
            self.assertEqual(d.ctl("status", json=True)["daemon"]["pid"], d.pid)
            self.assertEqual(next(d.stream("Watch"))["daemon"]["endpoint"], f"http://127.0.0.1:{d.port}")
            self.assertEqual(d.get("/api/tags").json(), {"models": []})
            with self.assertRaises(daemon.CallError) as e:
                d.call("InstanceShow", name="nobody")
            self.assertEqual(e.exception.name, "NotFound")
            self.assertEqual(d.ctl("status", "nobody", check=4).returncode, 4)
            with self.assertRaises(daemon.DaemonError):
                d.ctl("status", "nobody")

    def test_state_outlives_a_kill(self):
        with contextlib.closing(Owned("kept")) as o, daemon.Daemon() as d:
            d.ctl("instance", "add", "gpu1", o.host.ssh_command, password=o.host.password)
            d.wait_tunnel("gpu1", "up")
            first = d.pid
            d.restart(hard=True)
            self.assertNotEqual(d.pid, first)
            self.assertEqual([i["name"] for i in d.call("InstanceList")["instances"]], ["gpu1"])
            d.wait_tunnel("gpu1", "up")

    def test_bad_end_and_a_word_of_a_sanitizer_are_failures(self):
        d = daemon.Daemon()
        with open(d.log_file, "a") as log:
            log.write("==1==ERROR: LeakSanitizer: detected memory leaks\n")
        with self.assertRaisesRegex(daemon.DaemonError, "sanitizer"):
            d.stop()
        self.assertFalse(d.is_running())
        with self.assertRaisesRegex(daemon.DaemonError, "ended with"):
            daemon.Daemon(nonsense={"key": "value"}, dir=tempfile.mkdtemp(dir="/run/lab"))
