"""The installed units under a real systemd: what is said to it, what it does for us, and what nobody notices.

Runs inside tests/box/box, on a machine that vanishes: programs and units are installed as `ninja install` does, the user and
the directory made as a package would. The system service stands in front of an sshd of this machine; the user service runs
below a `systemd --user` of its own, with a scripted model server of the provider local.
"""
import concurrent.futures
import grp
import http.client
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import types
import unittest

import daemon as daemons
import host as hosts
import kept
import planted
import test_crowd as crowd

LIMIT_S = 150
UNITS = ("llmhostd.service", "llmhostd.socket", "llmhostd-gateway.socket")
SOCKETS = UNITS[1:]
PASSWORD = planted.new("password only systemd knows")
SCRIPTED = "ollama:scripted:latest"


def run(*words, check=True, **more):
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}")
    return done


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)


def installed_at(variable, build=daemons.BUILD):
    """A directory of the build's choice."""
    with open(build + "/CMakeCache.txt") as f:
        cache = dict(re.findall(r"^(\w+):\w+=(.*)$", f.read(), re.M))
    return os.path.join(cache["CMAKE_INSTALL_PREFIX"], cache[variable])


def setUpModule():
    if os.environ.get("BOX") != "1":
        raise unittest.SkipTest("needs tests/box/box around it")
    run("cmake", "--install", daemons.BUILD)
    run("systemd-sysusers")
    run("systemd-tmpfiles", "--create", "llmhostd.conf")
    run("journalctl", "--update-catalog")
    # Built with sanitizers; the one for leaks would trace its own process, which the unit forbids, and rightly.
    for place in ("/etc/systemd/system", "/etc/systemd/user"):
        write(place + "/llmhostd.service.d/test.conf", "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n")
    run("systemctl", "daemon-reload")


def tearDownModule():
    """For those who look afterwards: what is in the journal, compressed or not, and the state of both services."""
    if os.environ.get("BOX") == "1" and kept.FOLDER:
        with open(kept.FOLDER + "/box.journal", "wb") as f:
            subprocess.run(["journalctl", "-o", "export", "--no-pager"], stdout=f, check=True)
        kept.state("box.system", "/var/lib/llmhost")
        kept.state("box.alice", "/home/alice/.local/state/llmhost")


class Manager:
    """systemctl of the system, or of a person."""
    gateway_port = 11434

    def __init__(self, prefix=(), own=(), runtime="/run", journal=("-u", "llmhostd.service"), units="/etc/systemd/system"):
        self.prefix, self.own, self.socket, self.journal = list(prefix), list(own), runtime + "/llmhost/control", list(journal)
        self.units = units

    def ctl(self, *words, check=True):
        return run(*self.prefix, "systemctl", *self.own, *words, check=check).stdout.strip()

    def show(self, name, unit="llmhostd.service"):
        return self.ctl("show", "--value", "-p", name, unit)

    def running(self):
        """The pid of the daemon that is ready, or None."""
        state = dict(l.split("=", 1) for l in self.ctl("show", "-p", "ActiveState", "-p", "MainPID", "llmhostd.service").splitlines())
        return int(state["MainPID"]) if state["ActiveState"] == "active" else None

    @property
    def pid(self):
        pid = self.running()
        if not pid:
            raise AssertionError("the daemon does not run")
        return pid

    def wait_other(self, pid):
        """Until another daemon than that one is ready."""
        hosts.until(lambda: self.running() not in (None, pid), 15, "another daemon")

    def wait_status(self, pattern):
        hosts.until(lambda: re.search(pattern, self.show("StatusText")), 15, f"{pattern}, it is {self.show('StatusText')}")

    def lines(self, *matches):
        """The daemon's lines in the journal, as dicts."""
        run("journalctl", "--sync")
        text = run("journalctl", "-o", "json", "--no-pager", *self.journal, *matches).stdout
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def said_by_systemd(self):
        return run("journalctl", "--no-pager", "-u", "llmhostd.service", "_PID=1").stdout

    def explained(self, event, line):
        """Whether the journal has such a line of the event, and what `journalctl -x` says about it."""
        matching = lambda: [l for l in self.lines(f"LLMHOST_EVENT={event}") if re.search(line, l["MESSAGE"])]
        hosts.until(matching, 15, f"a line {line} of {event}")
        last = matching()[-1]
        return run("journalctl", "-x", "--no-pager", *self.journal, "MESSAGE_ID=" + last["MESSAGE_ID"]).stdout

    def call(self, method, **parameters):
        with daemons.Varlink(self.socket) as v:
            v.send(method, parameters)
            return list(v.replies())[-1]

    def verb(self, *words, check=True):
        done = run(*self.prefix, "llmhostctl", *words, check=check, timeout=40)
        kept.said("box", done.stdout)
        return done

    def get(self, path="/v1/models"):
        c = http.client.HTTPConnection("127.0.0.1", self.gateway_port, timeout=20)
        try:
            c.request("GET", path)
            answer = c.getresponse()
            return answer.status, answer.read()
        finally:
            c.close()

    def stop(self):
        self.ctl("stop", *UNITS, check=False)
        self.ctl("reset-failed", *UNITS, check=False)

    def open(self):
        """Both sockets are there, the daemon is not."""
        self.stop()
        self.ctl("start", *SOCKETS)


class Box(unittest.TestCase):
    def assertNoSanitizer(self, manager):
        lines = manager.lines()
        self.assertTrue(lines)
        for line in lines:
            self.assertNotRegex(str(line["MESSAGE"]), daemons.SANITIZER)

    def setting(self, name, text):
        """A drop-in for this test alone."""
        path = f"{self.m.units}/llmhostd.service.d/{name}.conf"
        write(path, text)
        self.m.ctl("daemon-reload")
        self.addCleanup(self.m.ctl, "daemon-reload")
        self.addCleanup(os.unlink, path)

    def hammer(self, strike, times, may_cut=False):
        """Strikes at the daemon that often while clients come in at both doors, a new connection each time: all are answered,
        and rightly. may_cut: those it had taken already may lose their connection; nobody is refused, and nobody waits in vain."""
        self.m.ctl("start", "llmhostd.service")
        over, answers, cut = threading.Event(), {"gateway": 0, "control": 0}, []

        def ask(door, question):
            while not over.is_set():
                try:
                    self.assertEqual(question(), True)
                    answers[door] += 1
                except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected, daemons.DaemonError) as e:
                    cut.append((door, repr(e)))
                except Exception as e:
                    raise AssertionError(f"{door}, after {answers[door]} answers: {e!r}") from e

        with concurrent.futures.ThreadPoolExecutor() as pool:
            clients = [pool.submit(ask, "gateway", lambda: self.m.get()[0] == 200) for _ in range(2)]
            clients.append(pool.submit(ask, "control", lambda: "product" in self.m.call("org.varlink.service.GetInfo")))
            try:
                for _ in range(times):
                    pid, before = self.m.pid, dict(answers)
                    strike(pid)
                    self.m.wait_other(pid)
                    hosts.until(lambda: all(answers[d] > before[d] + 20 for d in answers) or any(c.done() for c in clients), 15,
                                "answers of the next one")
            finally:
                over.set()
            for client in clients:
                client.result(timeout=20)
        self.assertLessEqual(len(cut), times * len(clients) if may_cut else 0, cut)


class UnitFiles(Box):
    def test_systemd_finds_nothing_to_complain_of(self):
        os.makedirs("/run/user/0", exist_ok=True)
        for words, place in ((["--system"], installed_at("SYSTEM_UNITS")), (["--user"], installed_at("USER_UNITS"))):
            with self.subTest(place):
                done = run("systemd-analyze", *words, "verify", *(f"{place}/{u}" for u in UNITS), check=False,
                           env=dict(os.environ, XDG_RUNTIME_DIR="/run/user/0"))
                self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_system_service_is_shut_in(self):
        done = run("systemd-analyze", "security", "--offline=true", "--threshold=15",
                   installed_at("SYSTEM_UNITS") + "/llmhostd.service", check=False)
        self.assertEqual(done.returncode, 0, done.stdout[-3000:])

    def test_a_package_gets_every_file_in_its_place(self):
        run("cmake", "--install", daemons.BUILD, env=dict(os.environ, DESTDIR="/tmp/package"))
        place = "/tmp/package" + installed_at("SYSTEM_UNITS").removesuffix("lib/systemd/system")
        found = sorted(os.path.relpath(f"{folder}/{n}", place) for folder, _, names in os.walk("/tmp/package") for n in names)
        units = [f"lib/systemd/{whose}/{u}" for whose in ("system", "user") for u in UNITS]
        self.assertEqual(found, sorted(units + [
            "bin/llmhostctl", "bin/llmhostd", "lib/systemd/catalog/llmhostd.catalog", "lib/sysusers.d/llmhostd.conf",
            "lib/tmpfiles.d/llmhostd.conf", "lib/llmhost/wechat", "share/man/man1/llmhostctl.1", "share/man/man5/llmhostd.conf.5",
            "share/man/man8/llmhostd.8", "share/bash-completion/completions/llmhostctl",
            "share/fish/vendor_completions.d/llmhostctl.fish", "share/zsh/site-functions/_llmhostctl"]))
        for whose in ("system", "user"):
            with open(f"{place}/lib/systemd/{whose}/llmhostd.service") as f:
                self.assertIn(f"ExecStart={place.removeprefix('/tmp/package')}bin/llmhostd\n", f.read())

    def test_below_usr_everything_is_where_the_distribution_has_it(self):
        with tempfile.TemporaryDirectory() as build:
            run("cmake", "-S", hosts.REPO, "-B", build, "-DCMAKE_INSTALL_PREFIX=/usr")
            for variable, name in (("SYSTEM_UNITS", "systemdsystemunitdir"), ("USER_UNITS", "systemduserunitdir"),
                                   ("SYSUSERS", "sysusersdir"), ("TMPFILES", "tmpfilesdir"), ("CATALOG", "catalogdir")):
                self.assertEqual(installed_at(variable, build), run("pkg-config", "--variable=" + name, "systemd").stdout.strip())

    def test_enabling_the_sockets_enables_all(self):
        m = Manager()
        m.ctl("enable", *SOCKETS)
        self.assertEqual(m.ctl("is-enabled", *UNITS).split(), ["enabled"] * 3)
        m.ctl("disable", "llmhostd.service")
        self.assertEqual(m.ctl("is-enabled", *UNITS, check=False).split(), ["disabled"] * 3)

    def test_pages_about_rented_machines_are_shown(self):
        """Nothing is rented here: lines with the ids of daemon/base/event.c, as the daemon sends them."""
        with open(hosts.REPO + "/daemon/base/event.c") as f:
            ids = dict(re.findall(r'{"(\w+)", "([0-9a-f]{32})"}', f.read()))
        for event, page in (("stop_not_confirmed", "The machine gz-4090 was told to stop and may still be billed"),
                            ("no_guard", "The machine gz-4090 was switched off, for no guard could be put on it")):
            subprocess.run(["logger", "--journald"], text=True, check=True,
                           input=f"MESSAGE_ID={ids[event]}\nMESSAGE=gz-4090: {event}\nLLMHOST_INSTANCE=gz-4090\n")
            run("journalctl", "--sync")
            self.assertIn(page, run("journalctl", "-x", "--no-pager", "MESSAGE_ID=" + ids[event]).stdout)

    def test_user_and_directory_are_as_declared(self):
        user, at = pwd.getpwnam("llmhost"), os.stat("/run/llmhost")
        self.assertEqual((user.pw_dir, user.pw_shell), ("/var/lib/llmhost", "/usr/sbin/nologin"))
        self.assertEqual((at.st_uid, at.st_gid, at.st_mode & 0o7777), (user.pw_uid, grp.getgrnam("llmhost").gr_gid, 0o750))


class SystemService(Box):
    @classmethod
    def setUpClass(cls):
        cls.m = Manager()
        os.makedirs("/run/sshd", exist_ok=True)
        run("useradd", "-m", "-s", "/bin/sh", "gpu")
        subprocess.run(["chpasswd"], input=f"gpu:{PASSWORD}\n", text=True, check=True)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/sshd/key")
        cls.sshd = subprocess.Popen(["/usr/sbin/sshd", "-D", "-f", "/dev/null", "-h", "/run/sshd/key", "-p", "2222",
                                     "-o", "PasswordAuthentication=yes", "-o", "UseDNS=no", "-o", "PidFile=none"],
                                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        cls.addClassCleanup(cls.sshd.wait)
        cls.addClassCleanup(cls.sshd.kill)
        # The secret of an instance, handed over by systemd.
        write("/etc/llmhost/gpu1.password", PASSWORD + "\n", 0o600)
        write("/etc/systemd/system/llmhostd.service.d/gpu1.conf",
              "[Service]\nLoadCredential=gpu1.password:/etc/llmhost/gpu1.password\n")
        cls.m.ctl("daemon-reload")

    def setUp(self):
        self.m.open()
        self.addCleanup(self.m.stop)
        self.addCleanup(self.assertNoSanitizer, self.m)

    def with_instance(self):
        """gpu1, whose tunnel is up."""
        if not any(i["name"] == "gpu1" for i in self.m.call("Status")["instances"]):
            self.m.call("InstanceAdd", name="gpu1", command="ssh -p 2222 gpu@127.0.0.1", install_key=False)
        self.m.wait_status("1 of 1 tunnels up")

    def test_first_connection_to_the_control_socket_starts_it(self):
        self.assertFalse(self.m.running())
        self.assertEqual(self.m.call("org.varlink.service.GetInfo")["product"], "llmhostd")
        self.assertTrue(self.m.running())

    def test_first_request_to_the_port_starts_it(self):
        self.assertFalse(self.m.running())
        self.assertEqual(self.m.get(), (200, b'{"object":"list","data":[]}'))
        self.assertTrue(self.m.running())
        said = self.m.verb("doctor").stdout
        self.assertIn("127.0.0.1:11434 is ours", said)
        self.assertNotIn("linger", said, "nobody logs in here")

    def test_ready_means_that_both_doors_are_open_and_status_follows_the_tunnels(self):
        self.m.ctl("start", "llmhostd.service")
        self.assertTrue(self.m.running(), "start returned, so READY came")
        self.assertEqual(self.m.show("NotifyAccess"), "main")
        self.m.wait_status(r"^0 of 0 models ready, \d of \d tunnels up; http://127\.0\.0\.1:11434$")
        self.with_instance()
        self.sshd.send_signal(signal.SIGSTOP)
        run("pkill", "-KILL", "-f", "sshd: gpu")
        self.addCleanup(self.sshd.send_signal, signal.SIGCONT)
        self.m.wait_status("0 of 1 tunnels up")
        self.sshd.send_signal(signal.SIGCONT)
        self.m.wait_status("1 of 1 tunnels up")

    def test_password_of_an_instance_comes_from_systemd_and_is_written_nowhere(self):
        self.with_instance()
        self.assertEqual(os.listdir("/var/lib/llmhost/secrets"), [])
        found = run("grep", "-rlF", PASSWORD, "/var/lib/llmhost", "/run/llmhost", "/run/log/journal", check=False).stdout
        self.assertEqual(found, "")

    def test_killed_it_comes_back_and_knows_what_it_knew(self):
        self.with_instance()
        pid, times = self.m.pid, int(self.m.show("NRestarts"))
        os.kill(pid, signal.SIGKILL)
        self.m.wait_other(pid)
        self.assertEqual(int(self.m.show("NRestarts")), times + 1)
        self.with_instance()
        self.assertEqual([i["name"] for i in self.m.call("Status")["instances"]], ["gpu1"])
        self.assertEqual(self.m.get()[0], 200)

    def test_jumps_and_proxy_commands_run_in_there_too(self):
        home = "/var/lib/llmhost/.ssh"
        self.with_instance()
        run("install", "-d", "-m", "700", "-o", "llmhost", "-g", "llmhost", home)
        run("setpriv", "--reuid=llmhost", "--regid=llmhost", "--clear-groups", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home + "/id_ed25519")
        run("install", "-d", "-m", "700", "-o", "gpu", "/home/gpu/.ssh")
        run("install", "-m", "600", "-o", "gpu", home + "/id_ed25519.pub", "/home/gpu/.ssh/authorized_keys")
        with open("/run/sshd/key.pub") as key:
            write(home + "/known_hosts", "[127.0.0.1]:2222 " + " ".join(key.read().split()[:2]) + "\n")
        self.addCleanup(lambda: self.m.call("InstanceSet", name="gpu1", options={"jump": "none"}))
        for way, via in (({"options": {"jump": "gpu@127.0.0.1:2222"}}, "gpu@127.0.0.1:2222"),
                         ({"proxy_command": {"text": "socat - TCP:%h:%p"}}, "a proxy command")):
            with self.subTest(via):
                self.assertEqual(self.m.call("InstanceSet", name="gpu1", **way)["instance"]["via"], via)
                pid = self.m.pid
                os.kill(pid, signal.SIGKILL)
                self.m.wait_other(pid)
                self.m.wait_status("1 of 1 tunnels up")

    def test_killed_again_and_again_it_is_never_given_up(self):
        self.m.ctl("start", "llmhostd.service")
        self.setting("fast", "[Service]\nRestartSec=50ms\n")
        for _ in range(8):
            pid = self.m.pid
            os.kill(pid, signal.SIGKILL)
            self.m.wait_other(pid)
        self.assertEqual(self.m.get()[0], 200)

    def test_watchdog_ends_one_that_hangs(self):
        self.setting("watchdog", "[Service]\nWatchdogSec=1s\n")
        self.m.ctl("start", "llmhostd.service")
        pid = self.m.pid
        time.sleep(2.5)                 # two and a half times its patience
        self.assertEqual(self.m.pid, pid, "it is fed while all is well")
        os.kill(pid, signal.SIGSTOP)
        self.m.wait_other(pid)
        self.assertIn("Watchdog timeout", self.m.said_by_systemd())
        self.assertEqual(self.m.get()[0], 200)

    def test_restart_refuses_nobody(self):
        self.hammer(lambda pid: self.m.ctl("restart", "llmhostd.service"), 5)

    def test_kill_refuses_nobody(self):
        self.hammer(lambda pid: os.kill(pid, signal.SIGKILL), 3, may_cut=True)

    def test_hang_refuses_nobody(self):
        self.setting("watchdog", "[Service]\nWatchdogSec=1s\n")
        self.hammer(lambda pid: os.kill(pid, signal.SIGSTOP), 2, may_cut=True)

    def test_no_core_is_written_however_it_dies(self):
        self.setting("zz-deadly", "[Service]\nWatchdogSec=1s\nRestartSec=50ms\nEnvironment=ASAN_OPTIONS=detect_leaks=0:handle_segv=0\n")
        self.m.ctl("start", "llmhostd.service")
        for number, name in ((signal.SIGSEGV, "SEGV"), (signal.SIGABRT, "ABRT"), (signal.SIGQUIT, "QUIT")):
            pid = self.m.pid
            os.kill(pid, number)
            self.m.wait_other(pid)
            self.assertIn(f"code=killed, status={int(number)}/{name}", self.m.said_by_systemd())
        with open(f"/proc/{self.m.pid}/limits") as f:
            self.assertRegex(f.read(), r"Max core file size +0 +0")
        self.assertNotIn("code=dumped", self.m.said_by_systemd(), "the kernel says whether it has written one")
        for place in ("/", "/var/lib/llmhost"):
            self.assertEqual([f for f in os.listdir(place) if f.startswith("core")], [])
        with open("/proc/sys/kernel/core_pattern") as f:
            if not f.read().startswith("|"):            # one that may dump, so that "dumped" is what is said of it
                run("systemd-run", "--unit=dumps", "-p", "LimitCORE=infinity", "-p", "WorkingDirectory=/tmp", "python3", "-c", "import os; os.abort()")
                hosts.until(lambda: "code=dumped" in run("journalctl", "--no-pager", "-u", "dumps").stdout, 5, "a core file")

    def test_journal_that_does_not_read_stops_nothing(self):
        write("/etc/llmhost/llmhostd.conf", "[log]\nlevel = debug\n")
        self.addCleanup(os.unlink, "/etc/llmhost/llmhostd.conf")
        self.m.ctl("start", "llmhostd.service")
        journald = int(self.m.show("MainPID", "systemd-journald.service"))
        self.addCleanup(os.kill, journald, signal.SIGCONT)
        os.kill(journald, signal.SIGSTOP)
        for _ in range(1000):           # more than its socket holds; each is a line
            self.m.call("Status")
        os.kill(journald, signal.SIGCONT)
        missing = lambda: self.m.call("Status") and any("lines are missing here" in l["MESSAGE"] for l in self.m.lines())
        hosts.until(missing, 15, "a line that tells of those that are missing")

    def test_members_of_the_group_alone_may_call(self):
        self.m.ctl("start", "llmhostd.service")
        at = os.stat("/run/llmhost/control")
        self.assertEqual((at.st_gid, at.st_mode & 0o7777), (grp.getgrnam("llmhost").gr_gid, 0o660))
        run("useradd", "-G", "llmhost", "member")
        run("useradd", "stranger")
        as_user = lambda name: run("setpriv", "--reuid", name, "--regid", name, "--init-groups", "llmhostctl", "status", check=False)
        self.assertEqual(as_user("member").returncode, 0)
        refused = as_user("stranger")
        self.assertEqual(refused.returncode, 8, refused.stdout)
        self.assertIn("usermod -aG llmhost", refused.stdout)

    def test_it_has_no_ssh_agent_to_ask(self):
        said = self.m.verb("instance", "add", "gpu9", "ssh root@127.0.0.1", "--agent=/run/agent", check=False)
        self.assertEqual(said.returncode, 2)
        self.assertIn("an ssh-agent belongs to a person's session", " ".join(said.stdout.split()))

    def test_lines_of_the_journal_have_their_fields(self):
        self.with_instance()
        of_gpu1 = self.m.lines("LLMHOST_INSTANCE=gpu1")
        self.assertTrue(of_gpu1)
        for line in of_gpu1:
            self.assertTrue(line["MESSAGE"].startswith("gpu1: "), line["MESSAGE"])
            self.assertIn(line["PRIORITY"], "34567")
            self.assertIn(line["LLMHOST_SOURCE"], ("daemon", "session", "engine", "request", "provider"))
            self.assertEqual(line["_SYSTEMD_UNIT"], "llmhostd.service")
        started = [l for l in self.m.lines() if "control socket /run/llmhost/control" in l["MESSAGE"]]
        self.assertEqual((started[-1]["PRIORITY"], started[-1]["LLMHOST_EVENT"]), ("5", "started"))

    def test_what_pages_someone_is_explained(self):
        self.with_instance()
        shutil.copy("/etc/shadow", "/etc/shadow.before")
        self.addCleanup(shutil.copy, "/etc/shadow.before", "/etc/shadow")
        run("usermod", "-p", "*", "gpu")
        run("pkill", "-KILL", "-f", "sshd: gpu")
        said = self.m.explained("tunnel_refused", "^gpu1: ")
        self.assertIn("The machine gpu1 refuses the login", said)
        self.assertIn("llmhostctl doctor gpu1", said)

    def test_full_disk_is_explained_and_over_when_it_is(self):
        self.m.stop()
        os.makedirs("/var/lib/llmhost", exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", "size=1m", "full", "/var/lib/llmhost")
        self.addCleanup(run, "umount", "/var/lib/llmhost")
        self.addCleanup(self.m.stop)
        self.m.ctl("start", "llmhostd.service")
        self.with_instance()
        filler = os.open("/var/lib/llmhost/filler", os.O_CREAT | os.O_WRONLY)
        self.addCleanup(os.close, filler)
        with self.assertRaises(OSError):
            while True:
                os.write(filler, b"x" * 4096)
        with self.assertRaises(daemons.CallError):
            for port in range(20000, 20500):        # the first may fit into what the log has already
                self.m.call("ForwardAdd", instance="gpu1", spec=str(port))
        self.assertIn("cannot be written to disk", self.m.explained("state_not_written", "/var/lib/llmhost"))
        os.ftruncate(filler, 0)
        hosts.until(lambda: self.m.lines("LLMHOST_EVENT=state_written"), 15, "a state that is written again")

    def test_wrong_settings_are_said_once_and_not_tried_again(self):
        write("/etc/llmhost/llmhostd.conf", "[gateway]\nhold = a while\n")
        self.addCleanup(os.unlink, "/etc/llmhost/llmhostd.conf")
        self.m.ctl("start", "llmhostd.service", check=False)
        self.assertEqual(self.m.show("ActiveState"), "failed")
        self.assertEqual((self.m.show("ExecMainStatus"), self.m.show("NRestarts")), ("2", "0"))
        wrong, helps = (line["MESSAGE"] for line in self.m.lines("_TRANSPORT=stdout")[-2:])
        self.assertIn("/etc/llmhost/llmhostd.conf", wrong)
        self.assertEqual(helps, "  next:  llmhostd --check-config")

    def test_a_taken_port_leaves_the_rest_working(self):
        self.m.ctl("stop", *UNITS)
        with socket.create_server(("127.0.0.1", 11434)):
            self.m.ctl("start", "llmhostd-gateway.socket", check=False)
            self.assertEqual(self.m.show("ActiveState", "llmhostd-gateway.socket"), "failed")
            self.m.ctl("start", "llmhostd.service")
            self.m.wait_status("http://127.0.0.1:11434 is taken$")
            self.assertIn("11434", self.m.verb("doctor", check=False).stdout)
            self.assertIn("The port for applications belongs to another program", self.m.explained("port_taken", "11434"))


class UserService(Box):
    """A person's service, with what it has started running beside it."""

    @classmethod
    def setUpClass(cls):
        run("useradd", "-m", "-s", "/bin/sh", "alice")
        cls.user = pwd.getpwnam("alice")
        cls.runtime = f"/run/user/{cls.user.pw_uid}"
        os.makedirs(cls.runtime, 0o700)
        os.chown(cls.runtime, cls.user.pw_uid, cls.user.pw_gid)
        write("/home/alice/bin/ollama", "#!/bin/sh\nexec python3 /usr/local/lib/http_engine.py \"$@\"\n", 0o755)
        shutil.copy(os.path.join(hosts.REPO, "tests/lab/http_engine.py"), "/usr/local/lib/")
        write("/home/alice/.config/llmhost/llmhostd.conf", "[engine.ollama]\npath = /home/alice/bin/ollama\n")
        run("chown", "-R", "alice:alice", "/home/alice")
        # What logind starts for a person who logs in; there is no logind here.
        run("systemd-run", "--unit=manager-of-alice", "-p", "User=alice", "-p", "Type=notify", "-p", "Delegate=yes", "-p",
            f"Environment=XDG_RUNTIME_DIR={cls.runtime}", "/lib/systemd/systemd", "--user")
        cls.addClassCleanup(run, "systemctl", "stop", "manager-of-alice")
        cls.m = Manager(["setpriv", "--reuid", "alice", "--regid", "alice", "--init-groups", "env", "HOME=/home/alice",
                         f"XDG_RUNTIME_DIR={cls.runtime}"], ["--user"], cls.runtime,
                        ["_SYSTEMD_UNIT=manager-of-alice.service"], "/etc/systemd/user")

    def setUp(self):
        self.m.open()
        self.addCleanup(self.m.stop)
        self.addCleanup(self.assertNoSanitizer, self.m)

    def with_this_host(self):
        if not self.m.call("Status")["instances"]:
            self.m.verb("instance", "add", "here", "--provider=local")

    def with_model(self):
        """A model of this host, ready; returns the pid of its server."""
        self.with_this_host()
        self.m.verb("up", SCRIPTED)
        return self.server()

    def server(self):
        return int(run("pgrep", "-u", "alice", "-f", "http_engine.py serve").stdout)

    def state(self):
        return self.m.call("Status")["models"][0]["state"]

    def stream(self):
        """An answer that would go on for a minute, begun."""
        c = http.client.HTTPConnection("127.0.0.1", 11434, timeout=20)
        self.addCleanup(c.close)
        c.request("POST", "/v1/chat/completions", json.dumps(
            {"model": "scripted:latest", "stream": True, "messages": [], "script": {"chunks": 600, "gap_ms": 100}}),
            {"Content-Type": "application/json"})
        answer = c.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.readline().startswith(b"data: "))
        return answer

    def test_its_files_are_the_owners_alone(self):
        self.assertFalse(self.m.running())
        self.assertEqual(self.m.get()[0], 200)
        self.assertTrue(self.m.running())
        self.assertEqual(os.stat(self.m.socket).st_mode & 0o7777, 0o600)
        for place in ("/home/alice/.local/state/llmhost", self.runtime + "/llmhost"):
            at = os.stat(place)
            self.assertEqual((at.st_uid, at.st_mode & 0o7777), (self.user.pw_uid, 0o700), place)

    def test_model_that_cannot_be_brought_up_is_explained(self):
        self.with_this_host()
        os.rename("/home/alice/bin/ollama", "/home/alice/bin/away")
        self.addCleanup(os.rename, "/home/alice/bin/away", "/home/alice/bin/ollama")
        self.assertEqual(self.m.verb("up", SCRIPTED, check=False).returncode, 13)
        said = self.m.explained("failed", "^" + SCRIPTED)
        self.assertIn(f"The model {SCRIPTED} has failed", said)
        self.m.verb("down", SCRIPTED)

    def test_restart_ends_running_streams_with_an_error_and_leaves_models_running(self):
        server = self.with_model()
        self.m.wait_status("^1 of 1 models ready")
        answer = self.stream()
        self.m.ctl("restart", "llmhostd.service")
        rest = answer.read()            # to its end, in order: a cut would raise here
        events = [json.loads(e[6:]) for e in rest.split(b"\n\n") if e.startswith(b"data: {")]
        self.assertEqual(len(events), 1, rest[-500:])
        self.assertEqual(events[0]["error"]["code"], "shutting_down")
        self.assertNotIn(b"[DONE]", rest)
        hosts.until(lambda: self.state() == "ready", 15, "the model is ready again")
        self.assertEqual(self.server(), server, "the same server")
        self.assertTrue(self.stream())

    def test_restart_while_two_hundred_wait_gives_each_one_answer(self):
        """Those the old daemon holds are told that it ends; who comes meanwhile is not refused, and served by the next one."""
        os.chmod("/root", 0o755)                # for alice's server to look at it
        self.addCleanup(lambda: os.path.exists(crowd.LOAD) and os.unlink(crowd.LOAD))
        self.with_model()
        self.m.verb("sleep", SCRIPTED)
        write(crowd.LOAD, '{"wait": true}')
        door = types.SimpleNamespace(port=11434)
        waiters = [crowd.Waiter(door, n, stream=n % 2 == 0) for n in range(crowd.WAITERS)]
        self.addCleanup(lambda: [w.leave() for w in waiters])
        held = lambda: self.m.call("Status")["models"][0]["held"]
        hosts.until(lambda: held() == len(waiters), 30, "all are held")
        pid, late = self.m.pid, []
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            restart = pool.submit(self.m.ctl, "restart", "llmhostd.service")
            while not restart.done() or len(late) < 20:
                late.append(crowd.Waiter(door, len(late), stream=len(late) % 2 == 0))
                time.sleep(0.005)
            restart.result()
        self.addCleanup(lambda: [w.leave() for w in late])
        self.assertNotEqual(self.m.pid, pid)
        self.assertEqual([w.got for w in crowd.all_take(waiters) if not w.ended], [], "no answer")
        os.unlink(crowd.LOAD)
        self.assertEqual([w.got for w in crowd.all_take(late)], [], "no answer")
        for w in waiters + late:
            with self.subTest(number=(waiters + late).index(w)):
                self.assertEqual(w.got.count(b"HTTP/1.1 "), 1, w.got)
                if w in waiters or b"shutting_down" in w.got:
                    self.assertEqual((w.got.count(b'"error":'), b"shutting_down" in w.got), (1, True), w.got)
                else:
                    self.assertEqual(w.status(), 200, w.got)
                    self.assertNotIn(b'"error"', w.got)
        served = sum(b"shutting_down" not in w.got for w in late)
        print(f"{len(late)} came during the restart, {served} of them were served by the next daemon", flush=True)
        self.assertGreater(served, 0)

    def test_what_ends_at_logout_is_said_until_lingering_is_enabled(self):
        hint, linger = "loginctl enable-linger", "/var/lib/systemd/linger/alice"
        self.with_model()
        self.m.verb("down", "here", "--forget")
        self.assertIn(hint, self.m.verb("up", SCRIPTED).stdout, "the first of all")
        self.m.verb("down", SCRIPTED)
        self.assertNotIn(hint, self.m.verb("up", SCRIPTED).stdout)
        self.assertRegex(self.m.verb("doctor").stdout, rf"(?s)warn .*lingering is not enabled\s+{hint}")
        write(linger, "")               # what enable-linger does; there is no logind here
        self.addCleanup(os.unlink, linger)
        self.assertIn("lingering is enabled", self.m.verb("doctor").stdout)
        self.m.verb("down", "here", "--forget")
        self.assertNotIn(hint, self.m.verb("up", SCRIPTED).stdout)

    def test_first_connection_to_the_control_socket_starts_it(self):
        self.assertFalse(self.m.running())
        self.assertEqual(self.m.call("org.varlink.service.GetInfo")["product"], "llmhostd")
        self.assertTrue(self.m.running())

    def test_restart_refuses_nobody(self):
        self.hammer(lambda pid: self.m.ctl("restart", "llmhostd.service"), 3)

    def test_models_outlive_a_daemon_that_was_killed_or_hangs(self):
        self.setting("watchdog", "[Service]\nWatchdogSec=1s\n")
        server = self.with_model()
        for strike in (signal.SIGKILL, signal.SIGSTOP):
            pid = self.m.pid
            os.kill(pid, strike)
            self.m.wait_other(pid)
            hosts.until(lambda: self.state() == "ready", 15, "the model is ready again")
            self.assertEqual(self.server(), server, "the same server")
        self.m.verb("down", SCRIPTED)
        self.assertEqual(run("pgrep", "-u", "alice", "-f", "http_engine.py serve", check=False).stdout, "")
