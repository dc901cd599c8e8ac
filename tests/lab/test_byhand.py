"""A machine rented by hand, added with its ssh command: its guard switches it off from inside. Its /usr/bin/shutdown ends it, as that of
such a company does; nobody but this test switches it on again."""
import contextlib
import os
import re
import shutil
import tempfile
import threading
import time

import daemon as daemons
import guarded
import host as hosts
import road

LIMIT_S = 260
MODEL = "ollama:scripted"
TIMES = {"idle": {"unload": "1s", "min_up": "0s", "stop": "3s"}, "guard": {"lease": "6s", "first": "1m"}}


# Its card computes as /root/use says, or the question hangs.
SMI = """#!/bin/sh
case "$*" in *utilization.gpu*) ;; *) echo 'NVIDIA GeForce RTX 4090, 550.54.14, 24564, 18, 8.9'; exit ;; esac
[ -e /root/use ] || exec sleep 4321
cat /root/use
"""


class ByHand(road.Road):
    @contextlib.contextmanager
    def box(self, name, **more):
        with self.host(name, engines=["scripted"], **more) as h:
            for path in guarded.STOPS:
                h.run(f"rm -f {path}")
            h.put("/usr/bin/shutdown", guarded.SHUTDOWN, 0o755)
            try:
                yield h
            finally:
                self.unplug(h)

    @contextlib.contextmanager
    def known(self, h):
        """Its ssh command, with a name of a company's hosts."""
        name = f"connect.{h.name}.seetacloud.com"
        with tempfile.NamedTemporaryFile("w") as ours:
            with open("/etc/hosts") as f:
                print(f.read().rstrip("\n"), f"{h.ip} {name}", sep="\n", file=ours, flush=True)
            hosts.command("mount", "--bind", ours.name, "/etc/hosts")
            try:
                yield lambda: h.ssh_command.replace(h.ip, name)
            finally:
                hosts.command("umount", "/etc/hosts")

    def unplug(self, h):
        """What is left in the enclosure of one that ended by itself."""
        if os.path.exists(f"/run/netns/{h.name}"):
            h.down()

    def add(self, d, h, *words, **more):
        return d.ctl("instance", "add", h.name, h.ssh_command, *words, password=h.password, **more)

    def state(self, d, name):
        return d.instance(name)["state"]

    def off(self, h, limit_s):
        hosts.until(lambda: h.pid is None, limit_s, f"{h.name} off")

    def guard(self, d, name):
        return d.instance(name)["in_box"]["guard"]

    def test_idle_stop_wake_by_hand_and_keep(self):
        with self.box("gpu1") as h, self.box("gpu2") as plain, self.known(h) as ssh, daemons.Daemon(**TIMES) as d:
            self.add(d, plain)
            status, said = d.ctl_on_terminal("instance", "add", "gpu1", ssh(), answers=[h.password, ""])
            self.assertEqual(status, 0, said)
            self.assertRegex(said, "(?s)looks like a machine of AutoDL.*switches it off then.*doctor gpu1 --drill")
            self.kept(d, "gpu1")
            d.ctl("up", MODEL, "--on", "gpu1")
            self.assertRegex(d.ctl("status").stdout, r"gpu1 .*by its guard; guard unproved, lease to \d\d:\d\d")
            self.off(h, 15)
            hosts.until(lambda: self.state(d, "gpu1") == "stopped?", 5, "seen to be gone")
            self.assertRegex(d.ctl("status").stdout, r"gpu1 .*stopped\? .*asked to switch off at \d\d:\d\d, not confirmed by")
            self.assertRegex(" ".join(d.ctl("why", "gpu1").stdout.split()),
                             "its guard was told to switch it off, and nobody confirms .*autodl.com/console.*instance set gpu1 'ssh")
            self.assertRegex(d.ctl("status").stdout, r"asleep .* wakes once it is switched on")
            self.assertEqual(d.call("Status")["trouble"], [])
            for words in (("keep", "gpu1", "1h"), ("doctor", "gpu1", "--drill")):
                self.assertIn("gpu1 is off; switch it on at https://www.autodl.com/console", d.ctl(*words, check=False).stderr)

            refused = d.post("/v1/chat/completions", {"model": "scripted", "messages": road.QUESTION},
                             headers={"X-LLMHost-Max-Wait": "1"})
            self.assertEqual((refused.status, refused.json()["error"]["code"]), (503, "switched_off"))
            self.assertRegex(refused.json()["error"]["message"],
                             "gpu1 is off; switch it on at https://www.autodl.com/console.*: llmhostctl instance set gpu1 'ssh ...'")
            answers = []
            asks = threading.Thread(target=lambda: answers.append(self.chat_scripted(d)))
            asks.start()
            self.unplug(h)
            h.up(port=30122)
            d.ctl("instance", "set", "gpu1", ssh())
            asks.join(20)
            self.assertEqual([a.status for a in answers], [200])
            self.assertEqual(self.state(d, "gpu1"), "running")

            d.ctl("keep", "gpu1", "1h")
            hosts.until(lambda: self.guard(d, "gpu1").get("hold_until_at_ms"), 5, "the hold in its guard's record")
            time.sleep(5)
            self.assertIsNotNone(h.pid)
            d.ctl("keep", MODEL, "30m")
            for words, end in ((("keep", "--off", MODEL), "keep --off"), (("down", MODEL), "down")):
                self.assertRegex(d.ctl(*words).stdout,
                                 rf"gpu1 stays on until \d\d:\d\d \(kept\), at \?/h; end it:\n +llmhostctl {end} gpu1\n")
            self.assertIsNotNone(h.pid)
            self.assertIn("nobody confirms that it is off", d.ctl("down", "gpu1").stdout)
            self.assertIsNone(h.pid)
            self.assertIsNotNone(plain.pid)
            self.assertEqual(plain.pids(r"\.llmhost\.sh"), [])

    def chat_scripted(self, d):
        return d.post("/v1/chat/completions", {"model": "scripted", "messages": road.QUESTION})

    def kept(self, d, name):
        hosts.until(lambda: self.guard(d, name)["state"] == "kept", 10, "its guard")

    def test_drill(self):
        """gpu1 goes and stays away; gpu2 is on again at once, which nobody but a drill takes for its own doing."""
        times = dict(TIMES, idle=dict(TIMES["idle"], stop="5m"))
        with self.box("gpu1") as h, self.box("gpu2") as back, daemons.Daemon(**times) as d:
            for box in (h, back):
                self.add(d, box, "--stop=shutdown")
            self.kept(d, "gpu1")
            self.kept(d, "gpu2")
            self.assertIn("guard unproved", d.ctl("status").stdout)
            self.assertIn("doctor gpu1 --drill", d.ctl("doctor", "gpu1", check=False).stdout)
            told = {}
            calls = [threading.Thread(target=lambda name=box.name: told.update(
                {name: d.ctl("doctor", name, "--drill", check=False, timeout=120)})) for box in (h, back)]
            for call in calls:
                call.start()
            self.off(back, 15)
            self.unplug(back)
            back.up()
            for call in calls:
                call.join(90)
            self.assertEqual(told["gpu1"].returncode, 0, told["gpu1"])
            self.assertRegex(told["gpu1"].stdout, "went away and stayed away .*bill ended as well is seen at the company's console alone")
            self.assertEqual(told["gpu2"].returncode, 1, told["gpu2"])
            self.assertIn("came back by itself", told["gpu2"].stdout)
            self.assertEqual([t["code"] for t in d.call("Status")["trouble"]], ["guard_failed"])

            d.kill()
            with open(d.state + "/guards") as guards:
                self.assertRegex(guards.read(), r"\Agpu2 running \d{13} 0 -\n\Z")
            d.start()
            self.assertEqual(self.state(d, "gpu1"), "stopped?")
            self.unplug(h)
            h.up()
            self.kept(d, "gpu1")
            self.assertRegex(d.ctl("instance", "show", "gpu1").stdout, r"guard +ok, .*tried at \d\d:\d\d")
            self.assertIn("went away and stayed away", d.ctl("doctor", "gpu1", check=False).stdout)

    def test_killed_after_down(self):
        with self.box("gpu1") as h, daemons.Daemon(**dict(TIMES, guard={"lease": "5m", "first": "5m"})) as d:
            self.add(d, h, "--stop=shutdown")
            self.kept(d, "gpu1")
            h.fault("linkdown")
            d.wait_tunnel("gpu1", "down", 20)
            self.assertEqual(d.ctl("down", "gpu1", "--timeout=1s", check=False).returncode, 7)
            asked = d.instance("gpu1")["in_box"]["stop_asked_at_ms"]
            d.restart(hard=True)
            self.assertEqual(self.state(d, "gpu1"), "stopping")
            self.assertEqual(d.instance("gpu1")["in_box"]["stop_asked_at_ms"], asked)
            self.assertRegex(d.ctl("status").stdout, r"gpu1 .*asked \d+s ago")
            self.assertIsNotNone(h.pid)
            h.fault("linkup")
            self.off(h, 30)
            hosts.until(lambda: self.state(d, "gpu1") == "stopped?", 5, "seen to be gone")
            d.restart(hard=True)
            self.assertRegex(d.ctl("status").stdout, r"gpu1 .*stopped\? .*asked to switch off at \d\d:\d\d, not confirmed by")
            self.assertEqual(d.instance("gpu1")["in_box"]["stop_asked_at_ms"], asked)

    def test_its_guard_goes_with_the_word(self):
        with self.box("gpu1") as h, self.box("gpu2") as away, self.box("gpu3") as lost, daemons.Daemon(**TIMES) as d:
            for box in (h, away, lost):
                self.add(d, box, "--stop=shutdown")
                hosts.until(lambda box=box: self.guard(d, box.name)["state"] == "kept", 10, "its guard")
                d.ctl("keep", box.name, "1h")
            d.ctl("instance", "set", "gpu1", "--stop=never")
            self.assertEqual(h.pids(r"\.llmhost\.sh"), [])
            self.assertNotIn("trouble", d.instance("gpu1"))
            d.ctl("instance", "set", "gpu1", "--stop=shutdown")
            hosts.until(lambda: self.guard(d, "gpu1")["state"] == "kept", 10, "another guard")
            d.ctl("keep", "gpu1", "1h")

            away.fault("blackhole")
            r = d.ctl("instance", "set", "gpu2", "--stop=never", timeout=30)
            self.assertRegex(" ".join(r.stderr.split()), r"the guard on gpu2 still switches it off at \d\d:\d\d, unless it is reached")
            self.assertEqual(d.instance("gpu2")["trouble"]["code"], "guard_left")
            self.assertRegex(" ".join(d.ctl("status").stdout.split()), r"the guard on gpu2 still switches it off at \d\d:\d\d, unless it is reached")

            lost.fault("blackhole")
            self.before = [d.instance("gpu2"), d.instance("gpu3")]
            d.restart(hard=True)
            for name in ("gpu2", "gpu3"):
                self.assertRegex(d.ctl("instance", "remove", name).stderr, r"the guard on it switches it off at \d\d:\d\d", f"{name} {self.before}")
            d.ctl("instance", "remove", "gpu1")
            self.assertEqual(h.pids(r"\.llmhost\.sh"), [])
            self.assertIsNotNone(h.pid)

    def test_its_time_goes_on_over_a_start(self):
        idle = {"stop": "1h", "unload": "1h", "min_up": "0s", "max_up": "20s"}
        with self.box("gpu1") as h, daemons.Daemon(**{**TIMES, "idle": idle}) as d:
            self.add(d, h, "--stop=shutdown")
            self.kept(d, "gpu1")
            d.ctl("up", MODEL, "--on", "gpu1")
            begun = time.monotonic()
            self.assertRegex(d.ctl("cost").stdout, r"gpu1 +\? +\? +\? +\? +running +- +rented by hand")
            time.sleep(10)
            d.kill()
            d.start()
            self.off(h, 25)
            self.assertLess(time.monotonic() - begun, 28, "anew it would have been 30 s and more")

    def test_a_card_that_computes_is_use_where_that_is_asked_for(self):
        with self.box("gpu1") as h, daemons.Daemon(**{**TIMES, "idle": {**TIMES["idle"], "gpu_use": "5%"}}) as d:
            h.put("/root/use", "0\n61\n")
            h.put("/usr/local/bin/nvidia-smi", SMI, 0o755)
            self.add(d, h, "--stop=shutdown")
            self.kept(d, "gpu1")
            d.ctl("up", MODEL, "--on", "gpu1")
            hosts.until(lambda: re.search(r"its card computed \(61%\) \d+s ago", d.ctl("why", "gpu1").stdout), 12, "the reason")
            time.sleep(6)
            self.assertIsNotNone(h.pid, "twice the time after which it goes off")
            self.assertRegex(d.ctl("status").stdout, "gpu1 .*its card computed")
            limit = time.monotonic() + 20
            h.run("rm /root/use")               # from now on nobody answers
            most = 0
            while h.pid is not None and time.monotonic() < limit:
                most = max(most, len(h.pids("sleep 4321")))
            self.assertIsNone(h.pid)
            self.assertEqual(most, 1, "and no second one is asked beside it")

    def test_no_start_leaves_another_nvidia_smi_that_hangs(self):
        times = {**TIMES, "idle": {**TIMES["idle"], "gpu_use": "5%"}}
        with self.box("gpu1") as h, daemons.Daemon(**times) as d:
            h.put("/usr/local/bin/nvidia-smi", SMI, 0o755)
            self.add(d, h, "--stop=shutdown")
            self.kept(d, "gpu1")
            d.ctl("keep", "gpu1", "1h")
            hosts.until(lambda: self.guard(d, "gpu1").get("hold_until_at_ms"), 5, "the hold, with which it stays on")
            for _ in range(4):
                hosts.until(lambda: h.pids("^sleep 4321"), 20, "it is asked, and hangs")
                d.restart(hard=True)
                self.kept(d, "gpu1")
                limit = time.monotonic() + 2
                while time.monotonic() < limit:
                    self.assertLessEqual(len(h.pids("^sleep 4321")), 1)
            hosts.until(lambda: h.pids("^sleep 4321"), 20, "and once more")
            d.kill()
            hosts.until(lambda: not h.pids("sleep 4321"), 13, "with nobody there it ends by itself")
            self.assertIsNotNone(h.pid)
            d.start()

    def test_two_with_copies_of_one_database_are_told_of_each_other(self):
        times = {**TIMES, "idle": {**TIMES["idle"], "stop": "1h"}, "guard": {"lease": "15s", "first": "1m"}}
        with self.box("gpu1") as h, daemons.Daemon(**times) as d, daemons.Daemon(start=False, **times) as copy:
            self.add(d, h, "--stop=shutdown")
            self.kept(d, "gpu1")
            time.sleep(6)
            self.assertEqual(d.call("Status")["trouble"], [], "alone it is nobody's but ours")
            d.restart(hard=True)
            self.kept(d, "gpu1")
            time.sleep(6)
            self.assertEqual(d.call("Status")["trouble"], [], "nor after a start")
            d.stop()
            shutil.copytree(d.state, copy.state, dirs_exist_ok=True)
            d.start()
            copy.start()
            hosts.until(lambda: any("guard_shared" in [t["code"] for t in one.call("Status")["trouble"]] for one in (d, copy)), 40, "one of them says so")
            copy.stop()

    def test_daemon_killed(self):
        with self.box("gpu1") as h, daemons.Daemon(**TIMES) as d:
            self.add(d, h, "--stop=never")
            self.assertNotIn("in_box", d.instance("gpu1"))
            d.ctl("instance", "set", "gpu1", "--stop=shutdown")
            hosts.until(lambda: self.guard(d, "gpu1")["state"] == "kept", 10, "its guard")
            d.kill()
            self.off(h, 46)
