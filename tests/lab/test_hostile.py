"""Hosts that are hostile in one way each: what is said of them by instance add, by doctor and by up, and what works all the same."""
import os
import socket
import subprocess
import time

import daemon as daemons
import host as hosts
import road

LIMIT_S = 120
SCRIPTED = "ollama:scripted:gpu1"
# reference/runtimes.md §7.2, the table of llama.cpp issue 10556.
NPU_SMI = """#!/bin/sh
cat <<'END'
+------------------------------------------------------------------------------------------------+
| npu-smi 23.0.rc3                 Version: 23.0.rc3                                             |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B2               | OK            | 90.5        38                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3162 / 65536         |
+===========================+===============+====================================================+
END
"""


class Hostile(road.Road):
    def add(self, d, h, *words, **more):
        """Adds it; the notes that were made of it."""
        return d.ctl("instance", "add", h.name, h.ssh_command, *words, password=h.password, json=True, **more).get("notes") or []

    def check(self, d, name, target="gpu1"):
        """The row of the doctor, or None."""
        return next((c for c in d.call("Doctor", target=target)["checks"] if c["id"] == name), None)

    def fails(self, d, model=SCRIPTED, code=13):
        error = d.ctl("up", model, check=code, json=True, timeout=60)["error"]
        self.assertNotIn(". ", error["message"], "one sentence")
        return error

    def program(self, h, name, text):
        h.put("/usr/local/bin/" + name, text if text.startswith("#!") else "#!/bin/sh\n" + text, 0o755)

    def nvidia(self, h, line):
        self.program(h, "nvidia-smi", f"case \"$*\" in *--query-gpu=*) ;; *) exit 1 ;; esac\necho '{line}'\n")


class Sshd(Hostile):
    def test_forbidden_forwarding_is_said_before_the_first_up(self):
        for option in ("AllowTcpForwarding no", "DisableForwarding yes"):
            with self.subTest(option), self.host(engines=["scripted"], opt=[option]) as h, daemons.Daemon() as d:
                self.assertRegex(" ".join(self.add(d, h)), '"AllowTcpForwarding yes"')
                self.assertEqual(self.check(d, "ssh.forwards")["level"], "fail")
                self.assertEqual(self.fails(d, code=9)["code"], "forwarding_forbidden")
        with self.host() as h, daemons.Daemon() as d:
            self.assertEqual(self.add(d, h), [])
            self.assertEqual(self.check(d, "ssh.forwards")["level"], "ok")

    def test_one_session_channel_is_enough(self):
        """sshd counts those that run commands: one is left, which the ping had."""
        with self.host(engines=["scripted"], opt=["MaxSessions 1"]) as h, daemons.Daemon() as d:
            self.assertEqual(self.add(d, h), [])
            hosts.until(lambda: "own key added" in d.log(), 10, "our own key")
            row = self.check(d, "ssh.sessions")
            self.assertEqual(row["level"], "warn")
            self.assertIn("MaxSessions 1", row["message"])
            d.ctl("up", SCRIPTED)
            self.assertEqual(self.chat(d, "scripted:gpu1").status, 200)
            # Commands at once, beside one that never ends.
            following = start(d, "logs", "-f", SCRIPTED, "--source=engine")
            hosts.until(lambda: h.pids(r"^tail "), 10, "a command that goes on for ever")
            self.assertEqual([p.wait(30) for p in [start(d, "doctor", "gpu1") for _ in range(4)]], [0] * 4)
            following.kill()
            following.wait()
            # It is found dead as soon as any other, and comes back.
            h.fault("blackhole")
            self.assertLess(d.wait_tunnel("gpu1", "connecting", 12), 11)
            h.heal()
            d.wait_tunnel("gpu1", "up")
            d.ctl("up", SCRIPTED)
            d.ctl("down", SCRIPTED)

    def test_nothing_but_an_rsa_host_key(self):
        """libssh2 1.10 knows ssh-rsa alone, which signs with SHA-1; from 1.11 on rsa-sha2 is fine."""
        with self.host(engines=[]) as h, daemons.Daemon() as d:
            h.run("ssh-keygen -q -t rsa -b 2048 -N '' -f /etc/ssh/rsa")
            knows = "out of its reach" not in self.check(d, "ssh.library", None)["message"]
            for algorithms, works in (("rsa-sha2-512,rsa-sha2-256", knows), ("ssh-rsa", False)):
                h.down()
                h.up(opt=["HostKey /etc/ssh/rsa", "HostKeyAlgorithms " + algorithms])
                add = ("instance", "add", "gpu1", h.ssh_command)
                if works:
                    d.ctl(*add, password=h.password)
                    d.ctl("instance", "remove", "gpu1")
                else:
                    error = d.ctl(*add, password=h.password, check=9, json=True)["error"]
                    self.assertEqual(error["code"], "protocol")
                    self.assertIn("gpu1 shows nothing but an RSA host key", error["message"])
                    self.assertIn("ssh-keygen -A", error["message"])
                    self.assertEqual(len(error["message"].split(". ")), 1, "one sentence")
            self.assertNotIn("Failed password", h.console())

    def test_account_that_floods_either_output(self):
        """No shell, and no end: bounded in time and in processor."""
        for where in ("", " >&2"):
            with self.subTest(where), self.host(engines=["scripted"], opt=["ForceCommand yes flood" + where]) as h, daemons.Daemon() as d:
                started, used = time.monotonic(), cpu_of(d)
                self.add(d, h)
                self.assertRegex(self.fails(d, code=9)["message"], "it says: flood$")
                took, used = time.monotonic() - started, cpu_of(d) - used
                print(f"flooded{where}: {took:.1f} s, {used:.2f} s of processor", flush=True)
                self.assertLess(took, 20)
                self.assertLess(used, 10)

    def test_account_with_a_command_of_its_own_is_quoted(self):
        with self.host(engines=["scripted"], opt=["ForceCommand echo 'Welcome, this account is for git only'"]) as h, \
                daemons.Daemon() as d:
            self.assertRegex(" ".join(self.add(d, h)), "it says: Welcome, this account is for git only")
            row = self.check(d, "machine.shell")
            self.assertEqual(row["level"], "fail")
            self.assertIn("git only", row["message"])
            started = time.monotonic()
            error = self.fails(d, code=9)
            self.assertIn("git only", error["message"])
            self.assertLess(time.monotonic() - started, 10)


class Chips(Hostile):
    def test_910b_is_refused_before_anything_is_copied(self):
        for engines in ([], ["scripted"]):
            with self.subTest(engines), self.host(engines=engines) as h, daemons.Daemon() as d:
                self.program(h, "npu-smi", NPU_SMI)
                self.program(h, "uname", "[ \"$1\" = -m ] && echo aarch64 || exec /usr/bin/uname \"$@\"\n")
                self.assertIn("gpu1 has an Ascend NPU (910B2) and no NVIDIA card: there is no ollama for it", self.add(d, h))
                self.assertIn("910B2", self.check(d, "machine.gpu")["message"])
                self.assertIn("arm64", self.check(d, "machine.gpu")["message"])
                self.assertEqual(self.check(d, "engine.fit")["level"], "warn")
                error = self.fails(d)
                self.assertEqual(error["code"], "engine_unfit")
                self.assertIn("Ascend NPU", error["message"])
                self.assertEqual(self.check(d, "engine.fit")["level"], "fail")
                self.assertEqual(h.run("ls -A ~/.llmhost/engines", check=False).stdout, "")

    def test_arm_box_without_an_archive_is_refused(self):
        with self.host(engines=[]) as h, daemons.Daemon() as d:
            self.program(h, "uname", "[ \"$1\" = -m ] && echo armv7l || exec /usr/bin/uname \"$@\"\n")
            self.add(d, h)
            self.assertIn("armv7l", self.check(d, "machine.gpu")["message"])
            error = self.fails(d)
            self.assertEqual(error["code"], "engine_unfit")
            self.assertIn("architecture of gpu1 (armv7l)", error["message"])

    def test_card_that_no_version_knows_any_more(self):
        with self.host(engines=[]) as h, daemons.Daemon() as d:
            self.nvidia(h, "Tesla K80, 470.82.01, 11441, 0, 3.7")
            self.assertRegex(" ".join(self.add(d, h)), "Tesla K80 of gpu1 is too old for ollama")
            self.assertEqual(self.fails(d)["code"], "engine_unfit")
            self.assertIn("compute capability 3.7", self.check(d, "engine.fit")["message"])

    def test_driver_too_old_for_the_version_that_is_wanted(self):
        with self.host(engines=[]) as h, daemons.Daemon(**{"engine.ollama": {"version": "0.32.9"}}) as d:
            self.nvidia(h, "NVIDIA GeForce RTX 4090, 535.104.05, 24564, 18, 8.9")
            self.assertEqual(self.add(d, h), [])
            self.assertRegex(self.fails(d)["message"], r"the driver of gpu1 \(535.104.05, .*\) is too old for ollama 0.32.9 .* it needs 550")

    def test_engine_too_old_for_the_card_is_a_row(self):
        with self.host(engines=[]) as h, daemons.Daemon() as d:
            self.program(h, "ollama", 'case "$1" in --version) echo "ollama version is 0.5.7" ;; *) exec sleep 1000 ;; esac\n')
            self.nvidia(h, "NVIDIA GeForce RTX 5090, 570.86.10, 32607, 4, 12.0")
            self.add(d, h)
            d.ctl("up", SCRIPTED, "--no-wait")
            hosts.until(lambda: (d.model(SCRIPTED) or {}).get("engine_version"), 10, "the engine's version")
            row = self.check(d, "engine.fit")
            self.assertEqual(row["level"], "fail")
            self.assertIn("ollama 0.5.7 is too old for the NVIDIA GeForce RTX 5090 of gpu1", row["message"])

    def test_card_whose_driver_hangs(self):
        with self.host(engines=["scripted"]) as h, daemons.Daemon() as d:
            self.program(h, "nvidia-smi", "exec sleep 1000\n")
            started = time.monotonic()
            self.assertRegex(" ".join(self.add(d, h)), "its driver does not answer")
            self.assertLess(time.monotonic() - started, 15)
            self.assertIn("its driver does not answer", self.check(d, "machine.gpu")["message"])


class Places(Hostile):
    def test_ports_and_who_has_them(self):
        with self.host(engines=["scripted"]) as h, daemons.Daemon() as d:
            self.add(d, h)
            self.assertIsNone(self.check(d, "machine.port"))
            for port in ("11434", "8888"):
                h.start("/usr/bin/python3", "-m", "http.server", port, "--bind", "127.0.0.1")
                hosts.until(lambda p=port: h.run(f"ss -Htln 'sport = :{p}'").stdout, 10, "a listener")
            self.assertRegex(self.check(d, "machine.port")["message"], r"python3 \(pid \d+\) has port 11434 there")
            here = daemons.free_port()
            d.ctl("forward", "add", "gpu1", f"{here}:127.0.0.1:8888")
            self.assertRegex(self.check(d, "forward.port")["message"], rf"{here} leads to 127.0.0.1:8888, where python3 \(pid \d+\) listens")
            d.ctl("forward", "remove", "gpu1", str(here))
            d.ctl("forward", "add", "gpu1", f"{here}:127.0.0.1:9999")
            row = self.check(d, "forward.port")
            self.assertEqual((row["level"], row["message"]), ("warn", f"127.0.0.1:{here} leads to 127.0.0.1:9999, where nobody listens"))

    def test_port_that_somebody_took_here_while_we_were_away(self):
        with self.host(engines=[]) as h, daemons.Daemon() as d:
            here = daemons.free_port()
            self.add(d, h)
            d.ctl("forward", "add", "gpu1", str(here))
            d.stop()
            with socket_at(here):
                d.start()
                d.wait_tunnel("gpu1", "up")
                row = self.check(d, "forward.port")
                self.assertEqual(row["level"], "fail")
                self.assertRegex(row["message"], rf"127.0.0.1:{here} leads nowhere: \S+ \(pid {os.getpid()}\) has that port here")

    def test_little_room_is_told_before_a_pull(self):
        with self.host(engines=["scripted"], disk="64m") as h, daemons.Daemon() as d:
            self.add(d, h)
            row = self.check(d, "machine.space")
            self.assertEqual(row["level"], "warn")
            self.assertRegex(row["message"], r"^\d+ MB free for models in /root/.llmhost: hardly any fits")
            self.assertFalse(h.run("test -e /root/.llmhost", check=False).returncode == 0, "the doctor changes nothing")

    def test_machine_that_falls_silent_does_not_hold_up_the_doctor(self):
        with self.host(engines=["scripted"]) as h, daemons.Daemon() as d:
            self.add(d, h)
            h.fault("freeze")
            started = time.monotonic()
            checks = d.call("Doctor", timeout_s=40)["checks"]
            self.assertLess(time.monotonic() - started, 20)
            self.assertTrue([c for c in checks if c["id"] == "ssh.session"])
            h.heal()


def cpu_of(d):
    """Seconds of processor the daemon has used."""
    with open(f"/proc/{d.pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(d, *words):
    return subprocess.Popen(d.ctl_words(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def socket_at(port):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen()
    return s
