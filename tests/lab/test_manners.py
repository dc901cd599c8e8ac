"""Both doors before people without manners: half messages and then silence, floods, a thousand who only stand there, readers
who do not read, and no descriptors left. All the while `status` answers quickly, and the daemon stays small and idle."""
import contextlib
import os
import resource
import socket
import statistics
import subprocess
import threading
import time
import unittest

import contract
import daemon as daemons
import host as hosts

LIMIT_S = 150
IDLE = 1000
MANY = 10000
PLACES = 2048          # GATEWAY_CLIENTS_MAX
CALL = b'{"method":"io.llmhost.Status"}\0'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
# `status` takes 20 ms at most; that is measured in tests/bench. With sanitizers, beside other tests, no more than this.
QUICK_S = 0.2


def cpu_s(d):
    """Processor time of the daemon so far."""
    with open(f"/proc/{d.pid}/stat") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(d):
    with open(f"/proc/{d.pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Doors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        cls.addClassCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))

    def setUp(self):
        self.open = contextlib.ExitStack()
        self.addCleanup(self.open.close)

    def control(self, d, data=b""):
        s = self.open.enter_context(socket.socket(socket.AF_UNIX))
        s.settimeout(daemons.SAFETY_S)
        s.connect(d.socket_path)
        s.sendall(data)
        return s

    def gateway(self, d, data=b""):
        s = self.open.enter_context(socket.create_connection(("127.0.0.1", d.port), daemons.SAFETY_S))
        s.sendall(data)
        return s

    def flood(self, d, s, data):
        """Sends DATA again and again from a thread, until the connection is closed."""
        def run():
            with contextlib.suppress(OSError):
                while True:
                    s.sendall(data)
        s.settimeout(None)
        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def end():
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            thread.join(10)
        self.open.callback(end)

    def answers_quickly(self, d, what, times=40):
        took = []
        with d.varlink() as v:
            for _ in range(times):
                begun = time.monotonic()
                v.send("Status")
                self.assertIn("daemon", v.receive()["parameters"])
                took.append(time.monotonic() - begun)
        print(f"status beside {what}: median {statistics.median(took) * 1e3:.2f} ms, worst {max(took) * 1e3:.1f} ms", flush=True)
        self.assertLess(statistics.median(took), QUICK_S, what)
        self.assertEqual(d.get("/v1/models").status, 200, what)

    def rests(self, d, what, for_s=2):
        """It waits, it does not spin."""
        before = cpu_s(d)
        time.sleep(for_s)
        used = cpu_s(d) - before
        print(f"processor beside {what}: {used / for_s:.1%}", flush=True)
        self.assertLess(used, for_s / 4, what)

    def everybody_has_left(self, d, before):
        self.open.close()
        hosts.until(lambda: len(os.listdir(f"/proc/{d.pid}/fd")) <= before, 10, f"descriptors as before ({before})")

    def test_half_messages_and_silence(self):
        with daemons.Daemon() as d:
            before = len(os.listdir(f"/proc/{d.pid}/fd"))
            for n in range(100):
                self.control(d, CALL[:1 + n % (len(CALL) - 1)])
                self.gateway(d, HEAD[:1 + n % (len(HEAD) - 1)])
                self.gateway(d, HEAD + b"\r\n" + b"{" * n)
            self.answers_quickly(d, "300 half messages")
            self.rests(d, "300 half messages")
            self.everybody_has_left(d, before)

    def test_a_thousand_who_only_stand_there(self):
        with daemons.Daemon() as d:
            before, size = len(os.listdir(f"/proc/{d.pid}/fd")), resident_bytes(d)
            for n in range(IDLE):
                self.control(d)
                asked = self.gateway(d, GET if n % 2 else b"")
                if n % 2:
                    self.assertTrue(asked.recv(65536).startswith(b"HTTP/1.1 200"))
            print(f"memory of each: {(resident_bytes(d) - size) / IDLE / 2 / 1024:.1f} KiB, with sanitizers", flush=True)
            self.control(d, CALL * 2000)                    # and one who asks and does not read
            self.answers_quickly(d, f"{IDLE} idle clients at each door and a slow reader")
            self.rests(d, f"{IDLE} idle clients at each door")
            self.everybody_has_left(d, before)

    def test_ten_thousand_connections_leave_room_for_who_asks(self):
        """More than there are places for: whoever had no answer for longest goes, silent or with half a head; who asks now and then is
        never among them."""
        with daemons.Daemon() as d:
            before, took = len(os.listdir(f"/proc/{d.pid}/fd")), []
            patient = self.gateway(d)
            for half, many in ((b"", MANY), (HEAD[:-9], 3000)):
                for n in range(many):
                    self.gateway(d, half or (GET if n % 3 else b""))
                    if n % 250 == 0:
                        patient.sendall(GET)
                        answer = b""
                        while not answer.endswith(b"}"):
                            answer += patient.recv(65536) or self.fail(f"closed beside {n} with {half}")
                        begun = time.monotonic()
                        self.assertEqual(d.get("/v1/models").status, 200)
                        took.append(time.monotonic() - begun)
            print(f"a new client beside {MANY} silent ones and 3000 half heads: median {statistics.median(took) * 1e3:.1f} ms, worst {max(took) * 1e3:.0f} ms", flush=True)
            self.assertLess(statistics.median(took), QUICK_S)
            hosts.until(lambda: len(os.listdir(f"/proc/{d.pid}/fd")) < before + PLACES + 10, 2, "no more places than there are, once the "
                        "last that came are sorted")
            self.answers_quickly(d, f"{MANY} connections")
            self.rests(d, f"{MANY} connections")
            self.everybody_has_left(d, before)

    def test_calls_and_requests_without_end(self):
        """Floods of what is right, of which no answer is read, or none is due."""
        with daemons.Daemon() as d:
            before = len(os.listdir(f"/proc/{d.pid}/fd"))
            oneway = b'{"method":"io.llmhost.Status","oneway":true}\0' * 1000
            for data in (CALL * 1000, oneway, oneway + CALL):
                self.flood(d, self.control(d), data)
            for data in (GET * 1000, HEAD + b"\r\n" + b"x" * 1000):
                self.flood(d, self.gateway(d), data)
            self.answers_quickly(d, "floods at both doors")
            self.everybody_has_left(d, before)

    def test_thousands_of_calls_in_one_go_are_all_answered(self):
        with daemons.Daemon() as d, d.varlink() as v:
            thread = threading.Thread(target=v.send_bytes, args=(CALL * 5000,), daemon=True)
            thread.start()
            for _ in range(5000):
                self.assertIn("daemon", v.receive()["parameters"])
            thread.join(10)
            v.send("InstanceList")
            self.assertIn("instances", v.receive()["parameters"])

    def test_megabytes_without_an_end_are_cut_off(self):
        with daemons.Daemon(env={"ASAN_OPTIONS": "quarantine_size_mb=1"}) as d:     # what is freed does not count
            size = resident_bytes(d)
            for connect, data in ((self.control, b"x"), (self.control, b'{"method":"' + b"y" * 100), (self.gateway, b"x"),
                                  (self.gateway, b"GET /" + b"z" * 100), (self.gateway, GET[:-2] + b"A: b\r\n" * 20)):
                s = connect(d)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    s.sendall(data)
                    for _ in range(16):
                        s.sendall(b"a" * (1 << 20))
                    while said := s.recv(65536):
                        self.assertRegex(said, rb"^HTTP/1.1 4\d\d ")
            self.answers_quickly(d, "16 MiB in one message, five times")
            self.assertLess(resident_bytes(d) - size, 16 << 20)

    def test_one_who_follows_the_log_and_does_not_read_is_dropped_with_an_error(self):
        with daemons.Daemon(log={"level": "debug"}) as d:
            with d.varlink() as slow, d.varlink() as v:
                slow.send("Logs", {"follow": True}, more=True)
                self.assertIsNotNone(slow.receive())
                for _ in range(1500):               # each is a line of 3 KB
                    v.send("InstanceShow", {"name": "x" * 3000})
                    v.receive()
                self.answers_quickly(d, "one who does not read")
                size, reply = 0, {}
                while "error" not in reply:
                    reply = slow.receive()
                    self.assertIsNotNone(reply, "the last word is an error")
                    size += len(str(reply))
                self.assertEqual((reply["error"], reply["parameters"]["code"]), ("io.llmhost.Failed", "slow_reader"))
                contract.Contract().check_error(reply)
                self.assertTrue(1 << 19 < size < 3 << 20, size)

    def test_no_descriptors_left(self):
        """Room for 64: both doors run out, and neither spins; when somebody leaves there is room again."""
        with daemons.Daemon(wrap=("prlimit", "--nofile=64:64")) as d:
            before = len(os.listdir(f"/proc/{d.pid}/fd"))
            with contextlib.ExitStack() as crowd:
                for _ in range(40):
                    for family, address in ((socket.AF_UNIX, d.socket_path), (socket.AF_INET, ("127.0.0.1", d.port))):
                        s = crowd.enter_context(socket.socket(family))
                        s.settimeout(daemons.SAFETY_S)
                        s.connect(address)
                hosts.until(lambda: len(os.listdir(f"/proc/{d.pid}/fd")) >= 60, 10, "the last descriptors in use")
                self.rests(d, "both doors without a descriptor")
            hosts.until(lambda: len(os.listdir(f"/proc/{d.pid}/fd")) <= before, 10, f"descriptors as before ({before})")
            self.answers_quickly(d, "nobody, after all descriptors were in use")
            self.assertEqual(d.ctl("status").returncode, 0)

    def test_started_with_nothing_open(self):
        """As by `<&- >&- 2>&-`: nothing that is opened afterwards gets what is meant for people."""
        closed = ("bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash")
        with daemons.Daemon(wrap=closed) as d:
            for fd in "012":
                self.assertEqual(os.readlink(f"/proc/{d.pid}/fd/{fd}"), "/dev/null")
            said = subprocess.run(["bash", "-c", 'exec "$@" >&-', "bash", *d.ctl_words("status")], stderr=subprocess.PIPE, text=True)
            self.assertEqual((said.returncode, said.stderr), (1, "llmhostctl: the answer cannot be written.\n"))
            self.assertEqual(d.ctl("status").returncode, 0)


if __name__ == "__main__":
    unittest.main()
