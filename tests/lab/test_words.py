"""What people read when something does not work, from a real daemon through the real client: the sentence, the exit status and the
command that helps. The rows of this kind that need no machine are in test_words.c, and every screen is among tests/golden."""
import os
import re
import signal
import socket
import subprocess

import daemon as daemons
import host as hosts
import road
from road import DEEPSEEK, ID

LIMIT_S = 200
MISTYPED = "ollama:deepseek-r1:77b"


class Words(road.Road):
    def said(self, d, status, *words):
        """What llmhostctl says, on both streams; it must end with that status."""
        done = d.ctl(*words, check=status)
        return done.stdout + done.stderr

    def test_mistyped_model_is_told_and_can_be_forgotten(self):
        with self.road() as (d, gpu):
            d.ctl("up", DEEPSEEK)
            said = self.said(d, 13, "up", MISTYPED)
            self.assertRegex(said, rf"cannot be fetched: .*\n  next:  llmhostctl logs {MISTYPED}\n +llmhostctl down {MISTYPED} --forget\n")
            self.assertIn("MODEL UNKNOWN", self.said(d, 0, "status"))
            self.assertNotIn(MISTYPED, self.said(d, 0, "status", DEEPSEEK), "who asks about one is not told of another")
            self.said(d, 0, "status", "gpu1")
            self.said(d, 3, "status", MISTYPED)
            said = self.said(d, 3, "sleep", MISTYPED)
            self.assertIn(f"{MISTYPED} has failed and is not in memory", said)
            self.assertIn(f"llmhostctl up {MISTYPED}", said)
            self.assertIn("MODEL UNKNOWN", self.said(d, 0, "status"), "sleep hides no failure")
            self.said(d, 0, "down", MISTYPED, "--forget")
            self.assertIn(f"close: {DEEPSEEK}", self.said(d, 4, "status", MISTYPED))
            self.assertNotIn(MISTYPED, self.said(d, 0, "status"))
            self.assertEqual(self.chat(d, MISTYPED.partition(":")[2]).status, 404)
            self.assertEqual(self.chat(d).status, 200, "the other one is as it was")
            d.ctl("down", DEEPSEEK)
            answer = self.chat(d)
            self.assertEqual(answer.status, 503)
            self.assertRegex(answer.json()["error"]["message"], rf"^{DEEPSEEK} is off since .* \(llmhostctl down\). "
                             rf"bring it back: llmhostctl up {DEEPSEEK}$")
            self.assertIn(f"next:  llmhostctl up {DEEPSEEK}", self.said(d, 3, "wait", DEEPSEEK))

    def test_what_is_typed_wrong_is_named_with_what_helps(self):
        with daemons.Daemon() as d, socket.create_server(("127.0.0.1", 7005)):
            d.ctl("instance", "add", "here", "--provider", "local")
            for status, words, told in (
                    (2, ("keep", "here", "40d"), "a keep lasts at most 30 days"),
                    (2, ("keep", "here", "3x"), '"3x" is no time; write 90m or 2h'),
                    (4, ("keep", "here", "2h"), "llmhostctl up ollama:NAME --on here"),
                    (4, ("sleep", "here"), "llmhostctl up ollama:NAME --on here"),
                    (2, ("key", "add", "My Phone"), '"My Phone" cannot name a key: small letters, digits and -'),
                    (2, ("logs", "-n", "0"), "1 to 10000"),
                    (12, ("instance", "add", "here", "--provider", "local"), "llmhostctl instance show here"),
                    (12, ("listen", "127.0.0.1:7005"), "llmhostctl listen 127.0.0.1:11500"),
                    (2, ("instance", "secret", "here"), "llmhostctl instance secret here"),
                    (2, ("listen", "127.0.0.1:0"), "is not IP:PORT (port 1 to 65535)"),
                    (2, ("instance", "set", "here", "--port", "33"), "llmhostctl instance add NAME 'ssh -p PORT USER@HOST'"),
                    (2, ("forward", "add", "here", "7006"), "here is this very host: port 7006 is here already"),
                    (12, ("forward", "add", "here", "7005:127.0.0.1:22"), "(pid")):
                said = self.said(d, status, *words)
                self.assertIn(told, said, words)
                self.assertNotIn("different versions", said, words)
            self.assertNotIn("close:", self.said(d, 4, "status", "nix"), "another word is not close")

    def test_engine_that_ends_without_a_word_is_given_no_reason(self):
        with self.road() as (d, gpu):
            d.ctl("up", DEEPSEEK)
            self.assertEqual(self.chat(d).status, 200)
            shown = self.said(d, 0, "status", DEEPSEEK)
            self.assertRegex(shown, r"(?m)^[\d:.]+ request +\w+ chat ")
            self.assertNotRegex(shown, r"(?m)^ {13}engine ", "its chatter is for logs")
            hosts.until(lambda: "/api/ps" in self.engine_log(gpu), 40, "a probe in the engine's own log")
            self.assertNotIn("/api/ps", self.said(d, 0, "logs", DEEPSEEK))
            for server in gpu.pids("ollama"):
                os.kill(server.outer_pid, signal.SIGKILL)
            hosts.until(lambda: "engine-lost" in self.said(d, 0, "logs", "--events"), 40, "the loss is noticed")
            self.assertRegex(self.said(d, 0, "logs", "--events"), r"ollama ended on gpu1, by SIGKILL; its log ends with: \S")
            self.wait_state(d, "ready")

    def engine_log(self, gpu):
        return gpu.run("sh", "-c", "cat $HOME/*/llmhost/run/*.log $HOME/.llmhost/run/*.log 2>/dev/null || true").stdout

    def test_machine_that_is_not_up_is_told_while_it_is_waited_for(self):
        with self.road() as (d, gpu):
            d.ctl("up", DEEPSEEK)
            gpu.down()
            d.wait_tunnel("gpu1", "down")
            said = self.said(d, 7, "down", DEEPSEEK, "--timeout", "1s")
            self.assertIn("the tunnel is down; it stops when that is back", said)
            self.assertIn(f"watch:  llmhostctl wait {DEEPSEEK} --for=stopped", said)
            status, shown = d.ctl_on_terminal("up", DEEPSEEK, keys=[(r"ssh +cannot connect to", b"\x03")])
            self.assertEqual(status, 130, shown)
            self.assertIn(f"give up:  llmhostctl down {DEEPSEEK}", shown)
            self.assertRegex(self.said(d, 0, "why"), r"gpu1 +DOWN +tunnel down .*: cannot connect to")

    def test_taken_port_is_told_by_up_with_its_owner(self):
        with socket.create_server(("127.0.0.1", 11434)), daemons.Daemon() as d:
            d.ctl("instance", "add", "here", "--provider", "local")
            said = self.said(d, 12, "up", DEEPSEEK)
            self.assertRegex(said, r"cannot listen on http://127\.0\.0\.1:11434: taken by \"?python3")
            self.assertIn("next:  llmhostctl listen 127.0.0.1:11500", said)
            self.assertRegex(self.said(d, 0, "status"), r"TAKEN by \"?python3.*\(pid " + str(os.getpid()))
            self.said(d, 12, "status", "--check")
            self.assertTrue(re.search(r"FAIL +cannot listen", self.said(d, 1, "doctor")))

    def test_a_daemon_that_does_not_start_says_where_and_what_next(self):
        with daemons.Daemon() as d:
            def starts(text, *options):
                with open(d.dir + "/other.conf", "w") as f:
                    f.write(text)
                return subprocess.run([daemons.BUILD + "/llmhostd", "-c", d.dir + "/other.conf", *options], capture_output=True, text=True,
                                      timeout=60, env=dict(os.environ, XDG_STATE_HOME=d.dir + "/other", XDG_RUNTIME_DIR=d.dir + "/other-run"))

            done = starts("[gateway]\n\nlisten = 192.0.2.77:11434\n")
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"other\.conf:3: \[gateway\] listen: 192\.0\.2\.77:11434 cannot be had: .*\n  next:  ip address\n")
            done = starts("[gateway]\nlisten = 192.0.2.77:11434\n", "--check-config")
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, r"other\.conf:2: \[gateway\] listen: .*\n  next:  ip address\n")
            self.assertRegex(done.stdout, r"(?m)^listen = 192\.0\.2\.77:11434    # .*/other\.conf:2$")
            self.assertRegex(done.stdout, r"(?m)^hold = 10m    # default$")
            done = starts("[gatway]\n")
            self.assertEqual(done.returncode, 2)
            self.assertRegex(done.stderr, r"other\.conf:1: unknown section .*\n  next:  llmhostd --check-config\n")
            with open(d.dir + "/not-a-folder", "w") as f:
                f.write("")
            done = subprocess.run([daemons.BUILD + "/llmhostd", "-c", "/dev/null"], capture_output=True, text=True, timeout=60,
                                  env=dict(os.environ, STATE_DIRECTORY=d.dir + "/not-a-folder", XDG_RUNTIME_DIR=d.dir + "/other-run"))
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"Not a directory\n  next:  ls -ld .*/not-a-folder ")
