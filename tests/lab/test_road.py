"""The road of the first day, on real parts: from a pasted ssh command to an answer on 127.0.0.1, and back to nothing."""
import json
import os
import re
import signal
import subprocess
import tempfile
import time

import daemon as daemons
import host as hosts
import models
import road
from road import DEEPSEEK, ID, QUESTION

LIMIT_S = 300
PASSWORD = "Kirschkern 4711 'x\""
# libssh2 1.10 loses a number of each ecdsa key it reads from memory (gen_publickey_from_ec_openssh_priv_data).
LIBSSH2_LEAKS = {"ASAN_OPTIONS": "fast_unwind_on_malloc=0",
                 "LSAN_OPTIONS": f"suppressions={hosts.HERE}/libssh2.supp:print_suppressions=0"}
OWN_KEY = "/root/.ssh/authorized_keys"


def start_ctl(d, *words):
    return subprocess.Popen(d.ctl_words(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


class Adding(road.Road):
    """instance add: what is asked, what is kept, and what is said when it does not work."""

    def fresh(self, **settings):
        d = daemons.Daemon(**settings)
        self.addCleanup(d.__exit__, None, None, None)
        return d

    def key(self, kind, passphrase=""):
        path = f"{self.dir}/{self._testMethodName}.{kind}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", path], check=True)
        with open(path + ".pub") as f:
            return path, f.read()

    def assertNothingKept(self, d, secret=PASSWORD):
        self.assertEqual(d.ctl("instance", "list", json=True)["instances"], [])
        self.assertEqual(road.words_in(d.dir, secret.encode()), [])
        self.assertEqual([n for n in os.listdir(d.state + "/secrets") if n != "daemon.key"], [])

    def test_password_is_in_its_file_and_nowhere_else(self):
        with self.host(password=PASSWORD) as h:
            d = self.fresh()
            done = d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD)
            self.assertIn(h.fingerprint, done.stdout)
            self.assertTrue(d.tunnel_is("gpu1", "up"))
            said = done.stdout + done.stderr
            for words in (("instance", "show", "gpu1"), ("instance", "list"), ("status",), ("logs",), ("logs", "--events")):
                said += d.ctl(*words).stdout + d.ctl(*words, "--json").stdout
            self.assertNotIn(PASSWORD, said)
            self.assertEqual(road.words_in(d.dir, PASSWORD.encode()), ["state/secrets/gpu1.password"])
            self.assertEqual(os.stat(d.state + "/secrets/gpu1.password").st_mode & 0o777, 0o600)
            self.assertEqual(os.stat(d.state + "/secrets").st_mode & 0o777, 0o700)

    def test_wrong_password_is_5_and_nothing_is_kept(self):
        with self.host() as h:
            d = self.fresh()
            done = d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD, check=5)
            self.assertIn("refuses the login of root", done.stderr)
            self.assertNothingKept(d)
            error = d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD, check=5, json=True)["error"]
            self.assertEqual((error["code"], error["exit"]), ("login_refused", 5))
            self.assertNotIn("tunnel_refused", [e.get("kind") for e in d.call("Logs", events=True)["lines"]], "it would page somebody")
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)

    def test_unreachable_host_is_9_and_nothing_is_kept(self):
        with self.host() as h:
            d = self.fresh()
            h.fault("refuse")
            error = d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD, check=9, json=True)["error"]
            self.assertEqual(error["code"], "unreachable")
            self.assertRegex(error["message"], re.escape(h.ip) + " port 22: Connection refused")
            h.fault("blackhole")
            started = time.monotonic()
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD, check=9)
            self.assertLess(time.monotonic() - started, 40)
            self.assertNothingKept(d)

    def test_name_that_leads_nowhere_is_9(self):
        d = self.fresh()
        done = d.ctl("instance", "add", "gpu1", "ssh -p 22 root@nowhere.invalid", password=PASSWORD, check=9)
        self.assertIn("nowhere.invalid", done.stderr)
        self.assertNothingKept(d)

    def test_command_that_is_none_is_2(self):
        d = self.fresh()
        for command in ("scp root@h:/x .", "ssh", "ssh -p 99999 root@h", "ssh -p root@h", "ssh 'root@h", "ssh root@h; id",
                        "rsync root@h", ""):
            with self.subTest(command):
                done = d.ctl("instance", "add", "gpu1", command, password=PASSWORD, check=2)
                self.assertTrue(done.stderr.strip())
        d.ctl("instance", "add", "Not a name", "ssh root@10.99.0.1", password=PASSWORD, check=2)
        d.ctl("instance", "add", "gpu1", "ssh root@10.99.0.1", check=2)         # no password, and nobody to ask
        self.assertNothingKept(d)

    def test_whole_line_of_a_provider_and_options_do_as_well(self):
        with self.host(port=46464) as h:
            d = self.fresh()
            done = d.ctl("instance", "add", "gpu1", f"ssh -CNg -L 6006:127.0.0.1:6006 root@{h.ip} -p 46464",
                         password=h.password)
            self.assertIn("forward add", done.stdout + done.stderr)     # what was left out, and how to have it
            d.ctl("instance", "add", "gpu2", "--host", h.ip, "--port", "46464", "--user", "root", password=h.password)
            self.assertEqual([i["address"] for i in d.call("InstanceList")["instances"]], [f"{h.ip}:46464"] * 2)
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password, check=12)

    def test_server_that_asks_by_keyboard_alone(self):
        with self.host(password=PASSWORD, opt=["PasswordAuthentication no", "KbdInteractiveAuthentication yes"]) as h:
            d = self.fresh()
            d.ctl("instance", "add", "gpu1", h.ssh_command, password="another", check=5)
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD)
            hosts.until(lambda: "Accepted keyboard-interactive" in h.console(), 5, "word of the server")

    def test_key_files_of_both_kinds(self):
        with self.host(opt=["PasswordAuthentication no"]) as h:
            d = self.fresh(env=LIBSSH2_LEAKS)
            for kind in ("ed25519", "ecdsa"):
                path, public = self.key(kind)
                h.put(OWN_KEY, public, 0o600)
                d.ctl("instance", "add", kind, "ssh", "-i", path, f"root@{h.ip}")
                self.assertTrue(d.tunnel_is(kind, "up"))
            self.assertIn("Accepted publickey for root", h.console())
            d.ctl("instance", "add", "gpu3", h.ssh_command, "-i", "/nonexistent", check=2)

    def test_key_and_password_are_both_needed(self):
        """The first correct one is no refusal, and the password alone is one."""
        with self.host(opt=["AuthenticationMethods publickey,password"]) as h:
            d = self.fresh()
            path, public = self.key("ed25519")
            h.put(OWN_KEY, public, 0o600)
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password, check=5)
            d.ctl("instance", "add", "gpu1", h.ssh_command, "-i", path, password=h.password)
            self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_encrypted_key_wants_its_passphrase(self):
        with self.host(opt=["PasswordAuthentication no"]) as h:
            d = self.fresh()
            path, public = self.key("ed25519", PASSWORD)
            h.put(OWN_KEY, public, 0o600)
            add = ("instance", "add", "gpu1", h.ssh_command, "-i", path)
            self.assertIn("passphrase", d.ctl(*add, check=2).stderr)            # nobody to ask
            error = d.ctl(*add, "--passphrase-file", "-", input="wrong\n", json=True, check=5)["error"]
            self.assertEqual(error["code"], "passphrase_needed")
            self.assertNothingKept(d)
            d.ctl(*add, "--passphrase-file", "-", input=PASSWORD + "\n")
            self.assertEqual(road.words_in(d.dir, PASSWORD.encode()), ["state/secrets/gpu1.passphrase"])
            d.restart()
            d.wait_tunnel("gpu1", "up")

    def test_own_key_makes_the_password_needless(self):
        with self.host(password=PASSWORD) as h:
            d = self.fresh()
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=PASSWORD)
            hosts.until(lambda: "llmhost" in h.run(f"cat {OWN_KEY}", check=False).stdout, 10, "our key over there")
            d.stop()
            os.unlink(d.state + "/secrets/gpu1.password")
            d.start()
            d.wait_tunnel("gpu1", "up")
            self.assertRegex(h.console(), r"Accepted publickey for root.*ED25519")
            self.assertEqual(h.get(OWN_KEY).count("\n"), 1)
            d.ctl("instance", "remove", "gpu1")
            hosts.until(lambda: not h.run(f"cat {OWN_KEY}", check=False).stdout.strip(), 10, "our key gone from there")
            self.assertEqual([n for n in os.listdir(d.state + "/secrets") if n.startswith("gpu1")], [])

    def test_own_key_stays_while_another_instance_logs_in_with_it(self):
        with self.host() as h:
            d = self.fresh()
            for name in ("gpu1", "gpu2"):
                d.ctl("instance", "add", name, h.ssh_command, password=h.password)
            hosts.until(lambda: "llmhost" in h.run(f"cat {OWN_KEY}", check=False).stdout, 10, "our key over there")
            d.ctl("instance", "remove", "gpu1")
            self.assertEqual(h.get(OWN_KEY).count("llmhost-"), 1)
            self.assertIn("gpu2 logs in with it", d.log())
            h.fault("rst")
            hosts.until(lambda: d.instance("gpu2")["tunnel"]["reconnects"] == 1, 10, "gpu2 back")
            d.ctl("instance", "remove", "gpu2")
            hosts.until(lambda: not h.run(f"cat {OWN_KEY}", check=False).stdout.strip(), 10, "our key gone from there")

    def test_own_key_is_not_installed_where_it_is_not_wanted(self):
        with self.host() as h:
            d = self.fresh()
            h.put(OWN_KEY, "# mine\n", 0o600)
            d.ctl("instance", "add", "gpu1", h.ssh_command, "--install-key=no", password=h.password)
            d.restart()
            d.wait_tunnel("gpu1", "up")
            self.assertEqual(h.get(OWN_KEY), "# mine\n")
            self.assertEqual(h.console().count("Accepted password"), 2)


class Together(road.Road):
    """Several who want the same, or who change their mind."""
    gguf = {"pad_bytes": 2 << 20}

    def slowly(self, seconds):
        self.registry.fault(rate=os.path.getsize(self.dir + "/tiny.gguf") // seconds)

    def test_second_up_joins_the_first(self):
        with self.road() as (d, h):
            self.slowly(3)
            first = start_ctl(d, "up", DEEPSEEK)
            self.wait_state(d, "fetching")
            second = start_ctl(d, "up", DEEPSEEK)
            by_request = self.chat(d)
            for up in (first, second):
                status, out, err = road.ended(up, 30)
                self.assertEqual(status, 0, err)
                self.assertIn("ready", out)
            self.assertEqual(road.text_of(by_request), models.answer())
            self.assertEqual(len(self.pulls()), 1, self.pulls())
            self.assertEqual(len(h.pids("ollama serve")), 1)

    def test_ctrl_c_leaves_and_the_load_goes_on(self):
        with self.road() as (d, _):
            self.slowly(3)
            up = start_ctl(d, "up", DEEPSEEK)
            self.wait_state(d, "fetching")
            up.send_signal(signal.SIGINT)
            status, out, err = road.ended(up, 5)
            self.assertEqual(status, 130)
            self.assertIn("llmhostctl down", err)
            self.assertNotEqual(self.state(d), "off")
            d.ctl("wait", DEEPSEEK, "--timeout", "20s")
            self.assertEqual(self.state(d), "ready")

    def test_no_wait_returns_and_timeout_gives_up_waiting_alone(self):
        with self.road() as (d, _):
            self.slowly(4)
            started = time.monotonic()
            d.ctl("up", DEEPSEEK, "--no-wait")
            self.assertLess(time.monotonic() - started, 2)
            done = d.ctl("up", DEEPSEEK, "--timeout", "500ms", check=7)
            self.assertIn("llmhostctl wait", done.stderr)
            self.assertNotEqual(self.state(d), "ready")
            d.ctl("wait", DEEPSEEK, "--timeout", "500ms", check=7)
            d.ctl("wait", DEEPSEEK, "--timeout", "20s")
            self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_down_in_the_middle_of_a_download(self):
        with self.road() as (d, h):
            self.slowly(30)
            up = start_ctl(d, "up", DEEPSEEK)
            self.wait_state(d, "fetching")
            d.ctl("down", DEEPSEEK, timeout=20)
            status, out, err = road.ended(up, 5)
            self.assertNotEqual(status, 0, out)
            self.assertTrue(err.strip())
            self.assertEqual(h.pids("ollama"), [])
            self.registry.fault()
            d.ctl("up", DEEPSEEK)
            self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_daemon_killed_in_the_middle_of_a_download_goes_on_with_it(self):
        with self.road() as (d, h):
            self.slowly(4)
            d.ctl("up", DEEPSEEK, "--no-wait")
            self.wait_state(d, "fetching")
            serve = [p.pid for p in h.pids("ollama serve")]
            d.kill()
            d.start()
            d.ctl("wait", DEEPSEEK, "--timeout", "30s")
            self.assertEqual([p.pid for p in h.pids("ollama serve")], serve)
            self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_two_models_share_a_server_and_end_one_by_one(self):
        models.store_in_ollama(self.dir + "/store", "second:1b", self.dir + "/tiny.gguf")
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            d.ctl("up", "ollama:second:1b")
            self.assertEqual(len(h.pids("ollama serve")), 1)
            listed = [m["id"] for m in d.get("/v1/models").json()["data"]]
            self.assertEqual(sorted(listed), [ID, "second:1b"])
            d.ctl("down", DEEPSEEK)
            self.assertEqual(self.chat(d).status, 503)
            self.assertEqual(road.text_of(self.chat(d, "second:1b")), models.answer())
            d.ctl("down", "ollama:second:1b")
            self.assertEqual(h.pids("ollama"), [])


class Down(road.Road):
    """With open streams, by an engine that answers as slowly as it is told."""

    def setUp(self):
        super().setUp()
        if not hasattr(self, "scripted"):
            self.scripted = "ollama:scripted"

    def stream(self, d, dialect="/v1/chat/completions", **script):
        """Begins a stream and returns when its first bytes are there."""
        c = d.connect()
        c.request("POST", dialect, json.dumps({"model": "scripted", "stream": True, "messages": QUESTION, "script": script}),
                  {"Content-Type": "application/json"})
        answer = c.getresponse()
        self.assertEqual(answer.status, 200)
        return c, answer, answer.read1(10)

    def test_open_stream_is_drained_while_new_requests_are_refused(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", self.scripted)
            c, answer, begun = self.stream(d, chunks=30, gap_ms=100)
            down = start_ctl(d, "down", self.scripted)
            self.wait_state(d, "draining", self.scripted)
            refused = self.chat(d, "scripted")
            self.assertEqual((refused.status, refused.json()["error"]["code"]), (503, "stopped_by_user"))
            self.assertIsNone(down.poll())
            body = begun + answer.read()
            self.assertEqual(re.findall(rb"data: (\d+)", body), [b"%d" % n for n in range(30)])
            self.assertEqual(road.ended(down, 10)[0], 0)
            self.assertEqual(h.pids("ollama"), [])
            c.close()

    def test_now_cuts_and_says_so_in_the_stream(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", self.scripted)
            c, answer, begun = self.stream(d, chunks=600, gap_ms=100)
            c2, answer2, begun2 = self.stream(d, "/api/chat", chunks=600, gap_ms=100)
            started = time.monotonic()
            d.ctl("down", self.scripted, "--now")
            body, body2 = begun + answer.read(), begun2 + answer2.read()        # a clean end, not an exception
            self.assertLess(time.monotonic() - started, 5)
            last = [line for line in body.decode().split("\n") if line][-1]
            self.assertEqual(json.loads(last.removeprefix("data: "))["error"]["code"], "stopped_by_user")
            self.assertNotIn(b"[DONE]", body)
            self.assertIn("error", json.loads(body2.decode().strip().split("\n")[-1]), body2[-300:])
            self.assertEqual(h.pids("ollama"), [])
            c.close()
            c2.close()

    def test_up_during_the_drain_ends_the_drain(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", self.scripted)
            c, answer, begun = self.stream(d, chunks=30, gap_ms=100)
            down = start_ctl(d, "down", self.scripted)
            self.wait_state(d, "draining", self.scripted)
            d.ctl("up", self.scripted, timeout=30)
            self.assertEqual(len(re.findall(rb"data: \d+", begun + answer.read())), 30)
            self.assertNotEqual(road.ended(down, 10)[0], 0)
            self.assertEqual(self.state(d, self.scripted), "ready")
            c.close()


class Refusals(road.Road):
    """What does not work is said in a sentence, with the status that belongs to it."""

    def test_box_without_the_engine_is_13_in_one_sentence(self):
        with self.road(engines=[], disk="8g") as (d, _):      # room for an ollama, and no way to one
            for model, program in ((DEEPSEEK, "ollama"), ("llama.cpp:/root/tiny.gguf", "llama-server")):
                error = d.ctl("up", model, check=13, json=True)["error"]
                self.assertEqual((error["code"], error["exit"]), ("engine_missing", 13))
                self.assertIn(program, error["message"])
                self.assertEqual(error["message"].count(". ") + 1, 1, error["message"])
                self.assertEqual(self.state(d, model), "failed")
                refused = self.chat(d, d.model(model)["id"])
                self.assertEqual(refused.status, 503)
                d.ctl("down", model)

    def test_account_with_a_command_of_its_own_is_quoted(self):
        with self.road(engines=["scripted"], opt=["ForceCommand echo 'Only tunnels here.'; exit 1"]) as (d, _):
            started = time.monotonic()
            error = d.ctl("up", "ollama:scripted", check=False, json=True)["error"]
            self.assertIn("it says: Only tunnels here", error["message"])
            self.assertLess(time.monotonic() - started, 5)

    def test_engine_that_is_where_the_settings_say(self):
        with self.host(engines=["ollama"]) as h:
            h.run("mkdir -p /opt/x && mv /usr/local/bin/ollama /opt/x/")
            with daemons.Daemon(**{"engine.ollama": {"path": "/opt/x/ollama"}}) as d:
                d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
                d.ctl("up", DEEPSEEK)
                self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_model_the_registry_does_not_have_is_13(self):
        with self.road() as (d, _):
            error = d.ctl("up", "ollama:no-such-model:1b", check=13, json=True)["error"]
            self.assertEqual(error["code"], "model_unknown")
            self.assertIn("no-such-model", error["message"])

    def test_file_that_is_not_there_or_no_model_is_13(self):
        with self.road(engines=["llama-server"]) as (d, h):
            error = d.ctl("up", "llama.cpp:/root/absent.gguf", check=13, json=True)["error"]
            self.assertIn("/root/absent.gguf", error["message"])
            h.put("/root/noise.gguf", os.urandom(10000))
            error = d.ctl("up", "llama.cpp:/root/noise.gguf", check=13, json=True)["error"]
            self.assertIn(error["code"], ("model_unreadable", "engine_exited"))

    def test_damaged_download_is_tried_once_more_and_told(self):
        with self.road() as (d, h):
            self.registry.fault(wrong_digest=True)
            error = d.ctl("up", DEEPSEEK, check=13, json=True)["error"]
            self.assertEqual(error["code"], "digest_mismatch")
        with self.road() as (d, h):
            self.registry.fault(wrong_digest=True, times=1)
            d.ctl("up", DEEPSEEK)
            self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_registry_that_fails_for_a_while(self):
        with self.road() as (d, h):
            self.registry.fault(status=503, times=1)
            d.ctl("up", DEEPSEEK)
            self.assertEqual(road.text_of(self.chat(d)), models.answer())

    def test_several_instances_and_no_word_which(self):
        with self.host("gpu1") as a, self.host("gpu2") as b, daemons.Daemon() as d:
            d.ctl("up", DEEPSEEK, check=2)                      # none at all
            for h in (a, b):
                d.ctl("instance", "add", h.name, h.ssh_command, password=h.password)
            error = d.ctl("up", DEEPSEEK, check=2, json=True)["error"]
            self.assertEqual(error["code"], "which_instance")
            self.assertIn("gpu1", error["message"] + str(error.get("why")))
            self.assertIn("--on", " ".join(error["next"]))
            d.ctl("up", DEEPSEEK, "--on", "gpu2")
            self.assertEqual((len(a.pids("ollama")) > 0, len(b.pids("ollama")) > 0), (False, True))
            d.ctl("up", DEEPSEEK, "--on", "gpu3", check=4)
            d.ctl("up", "vllm:x", "--on", "gpu1", check=2)
            d.ctl("instance", "remove", "gpu2", check=12)
            d.ctl("down", "ollama:unheard-of", check=4)

    def test_model_nobody_asked_for_is_404(self):
        with daemons.Daemon() as d:
            for path, body in (("/v1/chat/completions", {"model": "x", "messages": QUESTION}), ("/api/chat", {"model": "x"})):
                answer = d.post(path, body)
                self.assertEqual(answer.status, 404, answer.text)
                self.assertIn("x", answer.text)
            d.ctl("status", "ollama:x", check=4)


class ThisHost(road.Road):
    def test_local_provider_goes_the_same_road(self):
        """A daemon on a host of its own, which is that host."""
        with tempfile.TemporaryDirectory(dir="/run/lab") as home:
            models.store_in_ollama(home + "/.ollama/models", ID, self.dir + "/tiny.gguf")
            path = os.path.dirname(hosts.engine_path("ollama"))
            with daemons.Daemon(env={"HOME": home, "PATH": f"{path}:{os.environ['PATH']}"}) as d:
                d.ctl("instance", "add", "here", "local")
                d.ctl("up", DEEPSEEK)
                self.assertEqual(road.text_of(self.chat(d)), models.answer())
                self.assertEqual(d.instance("here")["tunnel"]["state"], "none")
                pid = d.model(DEEPSEEK)["pid"]
                os.kill(pid, 0)
                d.kill()
                d.start()
                d.ctl("wait", DEEPSEEK, "--timeout", "20s")
                self.assertEqual(d.model(DEEPSEEK)["pid"], pid)
                d.ctl("down", DEEPSEEK)
                hosts.until(lambda: hosts.is_over(pid), 5, "end of the engine")
