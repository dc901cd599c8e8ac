"""The rental company's bill, to the second, its real machines of both kinds, and its command line.

Facts: reference/autodl.md, §N, l.N are its sections and lines."""
import fractions
import json
import os
import shutil
import subprocess
import tempfile
import time
import unittest

import company as companies
import host as hosts
from company import Company
from customer import NO_MACHINE, ORDER, WithCompany, ask, good, listed, pro, running, seconds, turn_off, web
from host import until

LIMIT_S = 120
SSH = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]


class Money(WithCompany):
    """What is billed is what the stamps say, to the second (l.489); thousandths, rounded, at least ten of them (l.490)."""

    def amount(self, rate, length):
        exact = fractions.Fraction(rate * length, 3600)
        return max(10, int(exact + fractions.Fraction(1, 2)))

    def rows(self, uuid):
        return [r for r in self.c.bill() if r["instance"] == uuid]

    def test_bill_over_several_cycles(self):
        c, cycles = self.c, []
        c.price("4090D", 99000)                             # so that a second is more than the least
        before = good(ask(c, "POST", "/api/v1/dev/wallet/balance"))["assets"]
        uuid = running(c, req_gpu_amount=2)
        for price in (50001, 1880, None):
            rate = good(pro(c, "snapshot", instance_uuid=uuid))["payg_price"]
            time.sleep(1.2)
            if price:
                c.price("4090D", price)                     # from the next power-on
            turn_off(c, uuid)
            item = listed(c, uuid)
            cycles.append((seconds(item["started_at"]), seconds(item["stopped_at"]), rate))
            if price:
                good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
                c.until(uuid, "running")
        self.assertEqual([rate for _, _, rate in cycles], [2 * 99000, 2 * 50001, 2 * 1880])
        self.assertEqual([(r["start"], r["end"], r["rate"]) for r in self.rows(uuid)], cycles)
        amounts = [self.amount(rate, round(end - start)) for start, end, rate in cycles]
        self.assertEqual([r["amount"] for r in self.rows(uuid)], amounts)
        self.assertEqual(amounts[2], 10)
        self.assertGreater(amounts[0], 50)
        self.assertEqual(before - good(ask(c, "POST", "/api/v1/dev/wallet/balance"))["assets"], sum(amounts))
        for row, ups in zip(self.rows(uuid), [e for e in c.events() if e["instance"] == uuid and e["status"] == "running"]):
            self.assertEqual(row["start"], int(ups["at"]))

    def test_low_balance(self):
        """l.509: stopped, not released; and nothing new (l.480)."""
        c = self.c
        uuid, paid = running(c), c.rent(name="paid", charge="monthly", price=5)
        good(web(c, "POST", "/power_on", instance_uuid=paid))
        c.until(paid, "running")
        c.account(assets=0)
        c.until(uuid, "shutdown")
        self.assertEqual([e["why"] for e in c.events() if e["instance"] == uuid and e["status"] == "shutting_down"], ["low balance"])
        self.refused(pro(c, "power_on", instance_uuid=uuid, payload="gpu"), "InternalError", "余额")
        self.refused(pro(c, "create", **ORDER), "InternalError", "余额")
        self.assertEqual(c.instance(paid)["status"], "running")

    def test_rentals_paid_in_advance(self):
        c = self.c
        uuid = c.rent(name="day", charge="daily", for_s=3, price=40000, auto_payg=True)
        good(web(c, "POST", "/power_on", instance_uuid=uuid))
        c.until(uuid, "running")
        item = good(web(c, "POST", "", charge_type=["daily"]))["list"][0]
        self.assertEqual((item["uuid"], item["auto_trans_to_payg"], item["expired_at"]["Valid"]), (uuid, True, True))
        self.assertEqual([(r["kind"], r["amount"], r["rate"]) for r in self.rows(uuid)], [("prepaid", 40000, 0), ("compute", 0, 0)])
        until(lambda: c.instance(uuid)["charge"] == "payg", 5, "end of the rental")
        self.assertEqual([r["rate"] for r in self.rows(uuid)], [0, 0, 1880])
        self.assertEqual(self.rows(uuid)[1]["end"], self.rows(uuid)[2]["start"])
        ends = c.rent(name="end", charge="weekly", for_s=2, price=1)
        good(web(c, "POST", "/power_on", instance_uuid=ends))
        c.until(ends, "running")
        c.until(ends, "shutdown")

    def test_fifteen_days_off(self):
        """l.494: counted from stopped_at; a power-on starts it anew."""
        c, uuid = self.c, running(self.c)
        stopped = turn_off(c, uuid)["stopped"]
        c.age(uuid, 14.9)
        self.assertEqual(seconds(listed(c, uuid)["stopped_at"]), stopped - 14.9 * 86400)
        time.sleep(0.3)
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        c.until(uuid, "running")
        turn_off(c, uuid)
        time.sleep(0.3)
        c.age(uuid, 15)
        until(lambda: c.instance(uuid) is None, 3, "the release")
        self.assertEqual(c.events()[-1]["why"], "off for too long")

    def test_disks_cost_also_while_off(self):
        """l.526: ¥0.0066 a GB and day."""
        uuid = self.c.rent(name="d", disk_gb=100)
        self.c.midnight()
        self.assertEqual([(r["kind"], r["amount"]) for r in self.rows(uuid)], [("disk", 660)])


class Netns(WithCompany):
    """Real machines of the lab."""
    times = {}

    def login(self, uuid, command="true", password=None):
        s = good(pro(self.c, "snapshot", instance_uuid=uuid))
        return subprocess.run(["sshpass", "-p", password or s["root_password"], *s["ssh_command"].split(), *SSH, command], text=True,
                              timeout=20, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def logged_in(self, uuid, command="true"):
        self.c.box_up(uuid)                     # before, its address does not answer for seconds
        done = until(lambda: (d := self.login(uuid, command)).returncode != 255 and d, 10, "a login")
        return done.stdout

    def test_a_machine_and_its_power_cycles(self):
        c = self.c
        c.fault("sshd_late", seconds=2.5)
        uuid = running(c, start_command="date +%s%N >>/root/booted; sleep 4713 & echo $AutoDL >/dev/null")
        c.box_up(uuid)
        self.assertIn("refused", self.login(uuid).stdout)              # running, and no sshd yet (l.553)
        self.assertEqual(self.logged_in(uuid, "id -u; pwd; wc -l <booted; ps ax -o args | grep -c '^sleep 4713'"), "0\n/root\n1\n1\n")
        first, key = good(pro(c, "snapshot", instance_uuid=uuid)), c.box(uuid).fingerprint
        turn_off(c, uuid)
        self.assertIsNone(c.box(uuid).pid)
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu", start_command="echo other >/root/other"))
        c.until(uuid, "running")
        self.assertEqual(self.logged_in(uuid, "wc -l <booted; cat other; ps ax -o args | grep -c '^sleep 4713'"), "1\nother\n0\n")
        self.assertEqual(c.box(uuid).fingerprint, key)
        self.assertNotEqual(self.login(uuid, password=first["root_password"]).returncode, 0)
        turn_off(c, uuid)
        c.fault("new_host_key")
        c.press("power_on", uuid)                                       # the console's button runs the first command again
        c.until(uuid, "running")
        self.assertEqual(self.logged_in(uuid, "wc -l <booted"), "2\n")
        self.assertNotEqual(c.box(uuid).fingerprint, key)

    def test_shutdown_inside_ends_machine_and_bill(self):
        """l.506."""
        uuid = running(self.c)
        self.logged_in(uuid)
        self.login(uuid, "/usr/bin/shutdown")
        item = self.c.until(uuid, "shutdown")
        row = [r for r in self.c.bill() if r["instance"] == uuid][-1]
        self.assertEqual((row["start"], row["end"]), (item["started"], item["stopped"]))
        self.assertIsNone(self.c.box(uuid).pid)
        self.assertIn("from inside", [e["why"] for e in self.c.events() if e["instance"] == uuid])

    def test_shutdown_inside_that_ends_no_bill(self):
        """l.508: nobody has seen it end a Pro bill; an account may be one where it does not."""
        c, uuid = self.c, running(self.c)
        c.account(shutdown="bills")
        self.logged_in(uuid)
        self.login(uuid, "shutdown -h now")
        until(lambda: not c.instance(uuid)["is_on"], 5, "the machine's end")
        time.sleep(0.5)
        self.assertEqual(good(pro(c, "status", instance_uuid=uuid)), "running")
        self.assertIsNone([r for r in c.bill() if r["instance"] == uuid][-1]["end"])
        turn_off(c, uuid)
        good(pro(c, "power_on", instance_uuid=uuid, payload="gpu"))
        c.until(uuid, "running")
        self.logged_in(uuid)

    def test_restart_by_the_platform_runs_no_start_command(self):
        c, uuid = self.c, running(self.c, start_command="touch /run/started")
        self.assertEqual(self.logged_in(uuid, "sleep 0.3; ls /run/started"), "/run/started\n")
        init = c.box(uuid).pid
        c.press("restart_box", uuid)
        until(lambda: c.box(uuid).pid not in (None, init), 5, "another first process")
        self.assertEqual(c.box_up(uuid).run("ls -d /root/autodl-tmp; command -v shutdown").stdout, "/root/autodl-tmp\n/usr/bin/shutdown\n")
        self.assertIn("No such file", self.logged_in(uuid, "ls /run/started"))
        self.assertEqual(len([r for r in c.bill() if r["instance"] == uuid]), 1)

    def test_release_takes_the_disk(self):
        uuid = running(self.c)
        self.logged_in(uuid)
        turn_off(self.c, uuid)
        place = self.c.box(uuid).dir
        self.assertTrue(os.path.ismount(place + "/disk"))
        good(pro(self.c, "release", instance_uuid=uuid))
        until(lambda: not os.path.exists(place), 5, "the end of the disk")
        self.assertFalse(os.path.ismount(place + "/disk"))

    def test_end_leaves_nothing(self):
        with Company() as c:
            uuid = running(c)
            pid = c.box_up(uuid).pid
            self.assertEqual(c.stop(), 0)
            self.assertTrue(hosts.is_over(pid))
            self.assertFalse(os.path.exists("/run/netns/" + uuid[:12]))
            self.assertNotIn(uuid[:12], hosts.command("mount"))
            self.assertFalse(os.path.exists(c.control))
            self.assertEqual(c.said(), "")


class Processes:
    """Machines for a demonstration, with the rights of whoever starts it."""
    how = {}

    def setUp(self):
        self.place = tempfile.mkdtemp(dir="/run/lab")
        os.chmod(self.place, 0o755)
        self.sandbox = shutil.copytree(companies.FOLDER, self.place + "/sandbox", ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.place + "/key"], check=True)
        os.mkdir(self.place + "/image")
        with open(self.place + "/image/given", "w") as f:
            f.write("given\n")
        self.c = self.enterContext(Company("process", self.sandbox + "/sandbox", ["--account-key", self.place + "/key.pub", "--image",
                                        self.place + "/image"], self.how, "/usr/bin/python3"))

    def login(self, uuid, command, key=False):
        s = good(pro(self.c, "snapshot", instance_uuid=uuid))
        words = s["ssh_command"].split()
        words = [*words, "-i", self.place + "/key", "-o", "BatchMode=yes"] if key else ["sshpass", "-p", s["root_password"], *words]
        return until(lambda: (d := subprocess.run([*words, *SSH, command], text=True, timeout=20, stdin=subprocess.DEVNULL,
                                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)).returncode != 255 and d.stdout,
                     10, f"a login; {self.c.said()}")

    def test_root_with_a_password_and_a_disk(self):
        uuid = running(self.c, start_command="echo started >/root/started; sleep 4714")
        self.assertEqual(self.login(uuid, "whoami; pwd; sleep 0.2; cat given started; sudo -n true 2>/dev/null && echo sudo"),
                         "root\n/root\ngiven\nstarted\nsudo\n")
        self.assertEqual(self.login(uuid, "ls started /usr/bin/shutdown", key=True), "/usr/bin/shutdown\nstarted\n")
        self.assertEqual(self.login(uuid, "ls -A /dev/shm; touch /dev/shm/llmhost-test && echo written"), "written\n")
        self.assertFalse(os.path.exists("/dev/shm/llmhost-test"))
        turn_off(self.c, uuid)
        self.assertNotEqual(subprocess.run(["pgrep", "-f", "^sleep 4714"], stdout=subprocess.DEVNULL).returncode, 0)
        good(pro(self.c, "power_on", instance_uuid=uuid, payload="gpu", start_command="true"))
        self.c.until(uuid, "running")
        self.assertEqual(self.login(uuid, "cat started"), "started\n")
        self.assertEqual(self.c.stop(), 0)
        self.assertEqual(os.listdir(self.c.dir), ["log"])
        self.assertEqual(self.c.said(), "")

    def test_shutdown_inside(self):
        uuid = running(self.c)
        self.login(uuid, "echo in; (sleep 0.2; exec shutdown -h now) >/dev/null 2>&1 &")
        item = self.c.until(uuid, "shutdown")
        self.assertEqual([(r["start"], r["end"]) for r in self.c.bill()], [(item["started"], item["stopped"])])

    def test_machines_end_with_a_sandbox_that_was_killed(self):
        uuid = running(self.c, start_command="exec sleep 4715")
        self.login(uuid, "echo in")
        alive = lambda: subprocess.run(["pgrep", "-f", "^sleep 4715"], stdout=subprocess.DEVNULL).returncode == 0
        self.assertTrue(alive())
        self.c.process.kill()
        until(lambda: not alive(), 5, "the machine's end")


class ProcessesOfRoot(Processes, unittest.TestCase):
    pass


class ProcessesOfNobody(Processes, unittest.TestCase):
    how = {"user": 61235, "group": 61235, "extra_groups": [], "cwd": "/"}

    @classmethod
    def setUpClass(cls):
        home = tempfile.mkdtemp(dir="/run/lab")
        os.chmod(home, 0o755)
        os.chown(home, 61235, 61235)
        with open("/etc/passwd") as f, open(home + ".passwd", "w") as own:
            own.write(f.read() + f"renter:x:61235:61235::{home}:/bin/sh\n")
        os.chmod(home + ".passwd", 0o644)
        subprocess.run(["mount", "--bind", home + ".passwd", "/etc/passwd"], check=True)
        cls.addClassCleanup(subprocess.run, ["umount", "/etc/passwd"], check=True)
        cls.how = dict(cls.how, env={"HOME": home, "PATH": "/usr/bin:/bin:/usr/sbin"})


class CommandLine(unittest.TestCase):
    def sandbox(self, *words, status=0):
        done = subprocess.run([companies.FOLDER + "/sandbox", *words], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=20)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_words(self):
        with Company(**NO_MACHINE) as c:
            at = ["--control", c.control]
            uuid = running(c)
            self.sandbox("ctl", "fault", "lost", "power_off", "times=2", *at)
            good(pro(c, "power_off", instance_uuid=uuid))
            self.assertIn("power_off", self.sandbox("calls", *at))
            self.assertRegex(self.sandbox("calls", *at), rf"power_off +api +{uuid} +Success +- +lost")
            self.assertEqual(json.loads(self.sandbox("ctl", "faults", *at))[0]["used"], 1)
            self.assertRegex(self.sandbox("bill", *at), rf"{uuid} +llmhost-1 +compute +[\d:]+ running +\d+ +1.880")
            self.assertEqual(json.loads(self.sandbox("bill", "--json", *at))[0]["instance"], uuid)
            self.sandbox("ctl", "press", "power_off", uuid, *at)
            c.until(uuid, "shutdown")
            self.assertEqual(json.loads(self.sandbox("ctl", "account", "verified=false", *at))["verified"], False)
            self.assertIn("no such instance: x", self.sandbox("ctl", "press", "power_off", "x", *at, status=1))
            self.assertIn("an account has no x", self.sandbox("ctl", "account", "x=1", *at, status=1))

    def test_what_is_said_wrongly_is_answered_with_what_may_be_said(self):
        specs = "h800 v-48g v-48g-350w 4090D pro6000-p v-32g-p 5090-p"
        wrong = {
            "x": "there are fault faults heal", "stock any": f"stock SPEC N|any .* SPEC: {specs}", "stock": "stock SPEC N", "stock 4090 1": f"there are {specs}",
            "stock 4090D x": "whole number", "stock 4090D 1 2": "too many words: stock SPEC", "stock 4090D 1 after=x": "seconds",
            "stock 4090D 0 region=x": "there are west-C", "stock 4090D 3 region=west-C": "0 or any", "stock 4090D 1 x=1": "stock SPEC N",
            "advertise 4090D": "advertise SPEC N", "advertise x 1": specs, "price 4090D 1.5": "whole number", "price x 1": specs,
            "account assets=x": "whole number", "account verified=x": "there are true false", "account shutdown=x": "there are ends bills", "account x": "too many words",
            "rent a b": "too many words", "rent gpus=0": "1 or more", "rent spec=x": specs, "rent charge=x": "payg daily", "rent for_s=x": "seconds",
            "rent family=x": "console pro", "rent x=1": r"rent \[name=\]", "prepay": "prepay INSTANCE", "prepay x": "none yet", "host x": "host INSTANCE IDLE",
            "age x x": "days", "press": "press BUTTON", "press x": "there are power_on", "press power_on": "which instance.*none yet",
            "fault": "fault NAME", "fault x": "there are timeout_before", "fault lost on=x": "console/power_on", "fault lost times=x": "whole number",
            "fault lost seconds=x": "seconds", "fault lost instance=x": "no such instance", "fault lost x=1": "fault NAME", "faults x": "too many words",
            "heal x": "too many words", "midnight x": "too many words", "instances x": "too many words", "bill x": "too many words",
            "calls x": "whole number", "events since=x": "whole number", "messages x": "too many words"}
        with Company(**NO_MACHINE) as c:
            for words, told in wrong.items():
                with self.subTest(words):
                    said = self.sandbox("ctl", *words.split(), "--control", c.control, status=1)
                    self.assertRegex(said, f"^sandbox: .*{told}")
                    self.assertEqual(said.count("\n"), 1, said)
            self.assertEqual((c.instances(), c.faults(), c.said()), ([], [], ""))
        for words in ("x", "start x", "bill --x", "start --listen x", "start --boot x", "calls x"):
            self.assertRegex(self.sandbox(*words.split(), status=1), r"^sandbox: [^\n]*sandbox -h\n$")

    def test_one_company_at_a_place(self):
        with Company(**NO_MACHINE) as c:
            self.assertIn("is open at", self.sandbox("start", "--dir", c.dir, status=1))
            c.process.kill()
            c.process.wait()
            with subprocess.Popen([companies.FOLDER + "/sandbox", "start", "--json", "--dir", c.dir], stdout=subprocess.PIPE) as next:
                self.assertEqual(json.loads(next.stdout.readline())["control"], c.control)
                next.terminate()
                self.assertEqual(next.wait(20), 0)

    def test_help(self):
        for told in self.sandbox("--help"), self.sandbox("ctl", "stock", "--help"):
            self.assertIn("5090-p (5090-32G)", told)
        self.assertIn("--hosts process|netns", self.sandbox("--help"))
        told = self.sandbox("ctl", "help")
        for name in ("timeout_late", "bad_gateway", "no_stock", "press", "boot_fails", "console/power_on"):
            self.assertIn(name, told)
        self.assertIn("no company is open here", self.sandbox("bill", "--dir", "/run/lab/nowhere", status=1))
