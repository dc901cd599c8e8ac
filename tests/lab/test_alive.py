"""Engines that die, hang, or whose machine is restarted: they are started again without anybody, and what is said is true."""
import contextlib
import os
import re
import signal
import subprocess
import threading
import time

import host as hosts
import road
from road import DEEPSEEK, ID

LIMIT_S = 400
SCRIPTED = "ollama:scripted:gpu1"
LLAMA = "llama.cpp:" + road.GGUF
CGROUP = "/sys/fs/cgroup/memory"
# Somebody who takes the port an engine was told to use, before it can.
THIEF = """#!/bin/sh
case $1 in serve) ;; *) exec /opt/real/ollama "$@" ;; esac
if [ -e /root/thief ]; then
    /usr/bin/python3 -c 'import socket, sys, time
s = socket.create_server(("127.0.0.1", int(sys.argv[1].split(":")[1])))
open("/root/thief.up", "w").close()
time.sleep(1000)' "$OLLAMA_HOST" &
    until [ -e /root/thief.up ]; do sleep 0.02; done
    rm /root/thief.up
fi
exec /opt/real/ollama "$@"
"""


class Alive(road.Road):
    def why(self, d, model=DEEPSEEK):
        line = next(x for x in d.ctl("why", json=True)["lines"] if x["target"] == model)
        return {c["cause"]: c for c in line["causes"]}

    def kill(self, h, pattern, number=signal.SIGKILL):
        found = h.pids(pattern)
        self.assertTrue(found, f"{pattern} runs")
        for p in found:
            os.kill(p.outer_pid, number)
        return found

    def ask_after_a_death(self, d, model):
        """One request may go out on a connection that was just opened, before its end is heard of: that is told, and not repeated."""
        answer = self.chat(d, d.model(model)["id"])
        if answer.status == 502:
            self.assertEqual(answer.json()["error"]["code"], "engine_lost")
            answer = self.chat(d, d.model(model)["id"])
        return answer

    def wait_new_server(self, d, old_pid, model=DEEPSEEK, limit_s=30):
        hosts.until(lambda: (d.model(model)["state"], d.model(model).get("pid") not in (None, old_pid)) == ("ready", True),
                    limit_s, f"another server than {old_pid}")
        return d.model(model)["pid"]

    def ask_in_background(self, d, answers, timeout_s=60, **body):
        body = dict({"model": ID, "messages": road.QUESTION}, **body)
        t = threading.Thread(target=lambda: answers.append(d.post("/v1/chat/completions", body, timeout_s=timeout_s)))
        t.start()
        return t


class Deaths(Alive):
    gguf = {"pad_bytes": 2 << 20}

    def test_signals_are_told_apart_and_the_fifth_death_is_the_last(self):
        with self.road(engines=["llama-server"]) as (d, h):
            self.give_model(h)
            d.ctl("up", LLAMA)
            for deaths, (number, code) in enumerate(((signal.SIGILL, "cpu_unfit"), (signal.SIGSEGV, "engine_crashed"),
                                                     (signal.SIGABRT, "engine_crashed"), (signal.SIGKILL, "engine_crashed")), 1):
                pid = d.model(LLAMA)["pid"]
                self.kill(h, "llama-server .*tiny.gguf", number)
                hosts.until(lambda: pid not in [p.pid for p in h.pids("llama-server .*tiny.gguf")], 5, "its end")
                self.assertEqual(self.ask_after_a_death(d, LLAMA).status, 200, "whoever asks need not wait for the next look")
                self.wait_new_server(d, pid, LLAMA)
                restarted = d.model(LLAMA)["restarted"]
                self.assertEqual(restarted["count"], deaths)
                self.assertIn("AVX" if number == signal.SIGILL else "by " + number.name, restarted["text"])
                self.assertEqual(self.why(d, LLAMA)["engine_restarted"]["text"], restarted["text"])
            self.assertIn("(4 times lately): llama.cpp ended on gpu1, by SIGKILL", " ".join(d.ctl("why").stdout.split()))
            self.assertRegex(d.ctl("status", LLAMA).stdout, r"restarted +4 times lately, last .* ago: llama.cpp ended on gpu1")
            pid = d.model(LLAMA)["pid"]
            self.kill(h, "llama-server .*tiny.gguf")
            hosts.until(lambda: pid not in [p.pid for p in h.pids("llama-server .*tiny.gguf")], 5, "its end")
            refused = self.ask_after_a_death(d, LLAMA)
            self.assertEqual((refused.status, refused.json()["error"]["code"]), (503, "engine_crashed"))
            self.assertIn("it died 5 times within 10 min, and is not started again by itself; the last time: llama.cpp ended on gpu1, "
                          "by SIGKILL", refused.json()["error"]["message"])
            self.assertIn("failure", self.why(d, LLAMA))
            d.ctl("up", LLAMA)
            self.assertEqual(self.chat(d, d.model(LLAMA)["id"]).status, 200)

    def test_runner_of_a_killed_server_is_swept_and_no_other_one(self):
        for engine, runner in (("ollama-0.32.15", "llama-server .*sha256-"), ("ollama-0.11.4", "ollama runner")):
            with self.subTest(engine), self.road(engines=[engine]) as (d, h):
                d.ctl("up", DEEPSEEK)
                foreign = h.start("/usr/local/bin/ollama", "serve", env={"OLLAMA_HOST": "127.0.0.1:9999", "HOME": "/root",
                                                                         "OLLAMA_MODELS": "/root/foreign"})
                hosts.until(lambda: h.run("ss -Htln 'sport = :9999'").stdout, 10, "somebody else's ollama")
                foreign_pid = next(p.pid for p in h.pids("ollama serve") if p.pid != d.model(DEEPSEEK)["pid"])
                server, orphan = d.model(DEEPSEEK)["pid"], h.pids(runner)[0].pid
                os.kill(next(p.outer_pid for p in h.pids("ollama serve") if p.pid == server), signal.SIGKILL)
                hosts.until(lambda: server not in [p.pid for p in h.pids()], 5, "end of the server")
                self.assertIn(orphan, [p.pid for p in h.pids(runner)], "the runner outlives its server: that is why it is swept")
                if self.chat(d).status != 200:  # it had gone out on a connection that was just opened: that is told
                    self.assertEqual(self.chat(d).status, 200)
                self.assertNotIn(orphan, [p.pid for p in h.pids()])
                self.assertIn(foreign_pid, [p.pid for p in h.pids("ollama serve")])
                foreign.kill()

    def test_request_it_had_is_told_why(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", SCRIPTED)
            for stream in (False, True):
                answers = []
                t = self.ask_in_background(d, answers, model="scripted:gpu1", stream=stream,
                                           script={"nothing": not stream, "end": "silence", "chunks": 2, "gap_ms": 1})
                hosts.until(lambda: d.model(SCRIPTED)["in_flight"], 5, "the request is under way")
                time.sleep(2.2)                 # before that, it could be a connection that was closed for its age
                pid = d.model(SCRIPTED)["pid"]
                self.kill(h, "ollama serve")
                t.join(20)
                self.assertIn("(ollama ended on gpu1, by SIGKILL)", answers[0].text)
                self.assertEqual(answers[0].status, 200 if stream else 502)
                self.wait_new_server(d, pid, SCRIPTED)

    def test_server_that_was_stopped_while_it_loads_is_started_anew(self):
        with self.road(engines=["scripted"]) as (d, h):
            h.put("/root/load.json", '{"wait": true}')
            up = subprocess.Popen(d.ctl_words("up", SCRIPTED), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            self.wait_state(d, "loading", SCRIPTED)
            stopped = h.pids("ollama serve")[0]
            os.kill(stopped.outer_pid, signal.SIGSTOP)
            began = time.monotonic()
            hosts.until(lambda: stopped.pid not in [p.pid for p in h.pids()], 30, "the end of a server that was stopped")
            took = time.monotonic() - began
            self.assertGreater(took, 9, "it was given no time")
            h.put("/root/load.json", "{}")
            self.assertEqual(up.wait(30), 0, up.communicate()[0])
            self.assertEqual(d.model(SCRIPTED)["state"], "ready")
            self.assertIn("ollama was stopped (SIGSTOP) on gpu1 while it loaded scripted:gpu1",
                          "".join(x["text"] for x in d.call("Logs", target=SCRIPTED)["lines"]))
            print(f"stopped while it loaded: another server after {took:.1f} s", flush=True)

    def test_port_that_is_taken_is_told_with_its_owner(self):
        with self.host(engines=["ollama"]) as h, road.daemons.Daemon() as d:
            h.run("mkdir -p /opt/real && mv /usr/local/bin/ollama /opt/real/ && touch /root/thief")
            h.put("/usr/local/bin/ollama", THIEF, 0o755)
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
            error = d.ctl("up", DEEPSEEK, check=12, json=True, timeout=60)["error"]
            self.assertEqual(error["code"], "port_taken")
            self.assertRegex(error["message"], r"its port was taken by python3[\d.]* \(pid \d+\): .*address already in use")
            h.run("rm /root/thief")
            d.ctl("up", DEEPSEEK)
            self.assertEqual(self.chat(d).status, 200)

    def test_library_that_is_missing_and_disk_that_is_full(self):
        with self.road(engines=["llama-server"], disk="24m") as (d, h):
            self.give_model(h)
            h.run("rm /usr/local/bin/llama-server")
            h.put("/usr/local/bin/llama-server", f"#!/bin/sh\nexec {hosts.engine_path('llama-server')} \"$@\"\n", 0o755)
            h.run("cat /dev/zero >/root/filler 2>/dev/null; true")
            error = d.ctl("up", LLAMA, check=13, json=True)["error"]
            self.assertEqual(error["code"], "disk_full")
            h.run("rm /root/filler")
            h.run("printf 'int main(void) { extern int f(void); return f(); }' >/root/a.c; printf 'int f(void) { return 0; }' >/root/f.c;"
                  "cd /root && cc -shared -o libmissing.so.1 f.c && cc -o prog a.c -L. -l:libmissing.so.1 && rm libmissing.so.1")
            h.put("/usr/local/bin/llama-server", "#!/bin/sh\nexec /root/prog\n", 0o755)
            error = d.ctl("up", LLAMA, check=13, json=True)["error"]
            self.assertEqual(error["code"], "library_missing")
            self.assertIn("libmissing.so.1", error["message"])


class Memory(Alive):
    gguf = {"spare_tokens": 700_000}            # some 200 MB of words

    @contextlib.contextmanager
    def group(self, h):
        """The host's processes in a group of their own, which the host sees as a container does; its files count as well."""
        group = f"{CGROUP}/lab-{h.name}-{os.getpid()}"
        os.mkdir(group)
        try:
            for p in h.pids():                  # what begins and ends just now is of no account
                with contextlib.suppress(ProcessLookupError), open(group + "/cgroup.procs", "w") as f:
                    f.write(str(p.outer_pid))
            h.run(f"mount -t tmpfs none /sys/fs/cgroup && mkdir {CGROUP} && mount -t cgroup -o memory none {CGROUP}")
            yield group
        finally:
            if h.pid:
                h.down()
            hosts.until(lambda: not open(group + "/cgroup.procs").read(), 10, "an empty group")
            hosts.command("umount", "-l", h.dir + "/disk", check=False)     # files hold the group
            hosts.until(lambda: self.rmdir(group), 10, "end of the group")

    def rmdir(self, group):
        with contextlib.suppress(OSError):
            os.rmdir(group)
        return not os.path.exists(group)

    def leave(self, group, mib):
        """So much more than now, and no more."""
        with open(group + "/memory.usage_in_bytes") as f:
            limit = int(f.read()) + (mib << 20)
        with open(group + "/memory.limit_in_bytes", "w") as f:
            f.write(str(limit))

    def test_server_the_kernel_kills_for_want_of_memory(self):
        with self.road(engines=["llama-server"], disk="200m") as (d, h), self.group(h) as group:
            self.give_model(h)
            self.leave(group, 40)
            error = d.ctl("up", LLAMA, check=13, json=True, timeout=90)["error"]
            self.assertEqual(error["code"], "machine_out_of_memory", error)
            self.assertRegex(error["message"], r"the kernel killed it, because the machine's memory was used up \(its limit is [\d.]+ MB\)")

    def test_runner_the_kernel_kills_for_want_of_memory(self):
        with self.road(engines=["ollama-0.11.4"], disk="200m") as (d, h), self.group(h) as group:
            d.ctl("up", DEEPSEEK)
            d.ctl("down", DEEPSEEK)
            self.leave(group, 100)
            error = d.ctl("up", DEEPSEEK, check=13, json=True, timeout=90)["error"]
            self.assertEqual(error["code"], "machine_out_of_memory", error)


class Hung(Alive):
    gguf = {"pad_bytes": 2 << 20}

    def test_stopped_server_is_started_again_and_a_busy_one_is_not(self):
        with self.road("gpu1", engines=["ollama"]) as (d, h):
            d.ctl("up", DEEPSEEK)
            server = d.model(DEEPSEEK)["pid"]
            stopped = time.monotonic()
            answers = []
            self.kill(h, "ollama serve", signal.SIGSTOP)
            t = self.ask_in_background(d, answers, timeout_s=90)
            self.wait_new_server(d, server, limit_s=70)
            self.assertLess(time.monotonic() - stopped, 60)
            t.join(20)
            self.assertEqual(answers[0].status, 502)
            self.assertRegex(answers[0].text, r"ollama was stopped \(SIGSTOP\), has answered nobody for \d+ s, and is started again")
            self.assertEqual(self.chat(d).status, 200)
            self.assertEqual(len(h.pids("sha256-")), 1, "one runner")

    def test_busy_server_is_left_alone(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", SCRIPTED)
            server = d.model(SCRIPTED)["pid"]
            h.put("/root/busy", "")             # it answers no question any more
            answers = []
            t = self.ask_in_background(d, answers, model="scripted:gpu1", stream=True, timeout_s=120, script={"chunks": 60, "gap_ms": 1000})
            t.join(100)
            self.assertEqual(answers[0].status, 200)
            self.assertEqual(len(re.findall(rb"data: \d+", answers[0].body)), 60)
            self.assertEqual(d.model(SCRIPTED)["pid"], server)


class Restart(Alive):
    gguf = {"pad_bytes": 2 << 20}

    def test_machine_that_was_restarted_has_its_engine_again(self):
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            old = h.get("/root/.llmhost/run/ollama.pid")
            h.down()
            h.up()
            # What another process of today would look like in the file of before.
            other = h.start("sleep", "1000")
            pid = hosts.until(lambda: h.pids("sleep 1000"), 5, "another process")[0].pid
            born = h.run(f"sed 's/.*) //' /proc/{pid}/stat | cut -d' ' -f20").stdout.strip()
            h.put("/root/.llmhost/run/ollama.pid", f"{pid} {born} " + " ".join(old.split()[2:]) + "\n")
            hosts.until(lambda: h.pids("ollama serve"), 40, "the engine, without anybody")
            self.wait_state(d, "ready")
            self.assertEqual(self.chat(d).status, 200)
            self.assertIn(pid, [p.pid for p in h.pids("sleep 1000")])
            self.assertNotIn("restarted", d.model(DEEPSEEK), "nobody's fault")
            self.assertIn("gpu1 was restarted, and ollama ended with it", d.ctl("logs", "--events").stdout)
            other.kill()
