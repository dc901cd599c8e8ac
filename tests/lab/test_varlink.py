"""The control socket as other people's programs see it: the varlink package of Python, varlinkctl, and clients that are wrong,
slow, or leave. Each reply is held against the contract's own text."""
import concurrent.futures
import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time

import contract
import daemon as daemons
import host as hosts
import road
from road import DEEPSEEK

LIMIT_S = 180
PYTHON = os.path.join(hosts.ENGINES, "venv/bin/python")
VARLINKCTL = os.path.join(hosts.ENGINES, "varlinkctl/usr/bin/varlinkctl")
SERVICE = "org.varlink.service."
BACKLOG_BYTES = 1 << 20


def python(script, d, timeout=60):
    """A program that uses the varlink package; CLIENT is connected to the daemon, what it says as JSON comes back."""
    head = f"import json, sys, varlink\nCLIENT = varlink.Client.new_with_address('unix:{d.socket_path}')\n"
    done = subprocess.run([PYTHON, "-c", head + script], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout)


def varlinkctl(d, *words, check=0, timeout=60):
    done = subprocess.run([VARLINKCTL, "--no-pager", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout, env={"PATH": os.environ["PATH"], "SYSTEMD_LOG_LEVEL": "info"})
    if check is not None and done.returncode != check:
        raise AssertionError(f"varlinkctl {words}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def descriptors(d):
    return len(os.listdir(f"/proc/{d.pid}/fd"))


class Others(road.Road):
    """Programs that were not written here."""
    gguf = {"pad_bytes": 1 << 20}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.contract = contract.Contract()

    def test_python_reads_status_and_brings_a_model_up_and_down(self):
        with self.road() as (d, h):
            self.registry.fault(rate=os.path.getsize(self.dir + "/tiny.gguf") // 2)
            said = python(f"""
with CLIENT.open("io.llmhost") as c:
    before = c.Status()
    up = list(c.Up(model="{DEEPSEEK}", _more=True))
    after = c.Status(targets=["{DEEPSEEK}"])
    waited = c.Wait(target="{DEEPSEEK}")
    down = list(c.Down(target="{DEEPSEEK}", _more=True))
json.dump([before, up, after, waited, down], sys.stdout)
""", d)
            before, up, after, waited, down = said
            for method, reply in [("Status", before), ("Status", after), ("Wait", waited)] + [("Up", r) for r in up] + [
                    ("Down", r) for r in down]:
                self.contract.check_reply(method, reply)
            self.assertEqual(before["instances"][0]["name"], "gpu1")
            self.assertEqual(before["models"], [])
            stages = [r["progress"]["stage"] for r in up if r.get("progress")]
            self.assertEqual(sorted(set(stages), key=stages.index)[:4], ["ssh", "engine", "fetch", "load"])
            self.assertTrue(any((r.get("progress") or {}).get("bytes") for r in up))
            self.assertGreater(up[-1]["took_ms"], 0)
            self.assertEqual(after["models"][0]["state"], "ready")
            self.assertTrue(down[-1]["done"])
            self.assertEqual(h.pids("ollama"), [])

    def test_python_watches(self):
        with self.road() as (d, _):
            watcher = subprocess.Popen([PYTHON, "-u", "-c", f"""
import json, varlink
with varlink.Client.new_with_address('unix:{d.socket_path}').open("io.llmhost") as c:
    for reply in c.Watch(_more=True):
        print(json.dumps(reply), flush=True)
        if (reply.get("model") or {{}}).get("state") == "off":
            break
"""], stdout=subprocess.PIPE, text=True)
            seen = [json.loads(watcher.stdout.readline())]          # the whole, at once
            d.ctl("up", DEEPSEEK)
            d.ctl("down", DEEPSEEK)
            out, _ = watcher.communicate(timeout=20)
            seen += [json.loads(line) for line in out.splitlines()]
            for reply in seen:
                self.contract.check_reply("Watch", reply)
            self.assertEqual(seen[0]["instances"][0]["name"], "gpu1")
            states = [r["model"]["state"] for r in seen if r.get("model")]
            order = [s for n, s in enumerate(states) if n == 0 or states[n - 1] != s]
            self.assertEqual(order[-4:], ["loading", "ready", "draining", "off"], order)
            self.assertTrue(any(r.get("event") for r in seen))

    def test_python_gets_errors_by_their_names(self):
        with daemons.Daemon() as d:
            said = python("""
said = []
def attempt(call):
    try:
        call()
        said.append(None)
    except varlink.VarlinkError as e:
        said.append([e.error(), e.parameters(namespaced=False)])
with CLIENT.open("io.llmhost") as c:
    attempt(lambda: c.Up(model="ollama:x"))
    attempt(lambda: c.Down(target="ollama:x"))
    attempt(lambda: c.InstanceShow(name="x"))
    attempt(lambda: c.InstanceAdd(name="x", password={"text": "geheim"}))
json.dump(said, sys.stdout)
""", d)
            self.assertEqual([s and s[0] for s in said], ["io.llmhost." + e for e in ("Usage", "NotFound", "NotFound", "Usage")])
            for name, parameters in said:
                self.contract.check_error({"error": name, "parameters": parameters})
            self.assertNotIn("geheim", json.dumps(said) + d.log())

    def test_introspection_returns_the_very_file(self):
        with open(contract.FILE) as f:
            text = f.read()
        with daemons.Daemon() as d:
            said = python("""
json.dump([CLIENT.get_interface("io.llmhost").description, CLIENT.get_interfaces()], sys.stdout)
""", d)
            self.assertEqual(said[0], text)
            self.assertEqual(sorted(said[1]), ["io.llmhost", "org.varlink.service"])
            self.assertEqual(d.call(SERVICE + "GetInterfaceDescription", interface="io.llmhost")["description"], text)
            with self.assertRaises(daemons.CallError) as e:
                d.call(SERVICE + "GetInterfaceDescription", interface="io.other")
            self.assertEqual(e.exception.full_name, SERVICE + "InterfaceNotFound")

    def test_varlinkctl_understands_it_all(self):
        varlinkctl(None, "validate-idl", contract.FILE)
        with self.road() as (d, _):
            socket = d.socket_path
            self.assertRegex(varlinkctl(d, "info", socket).stdout, r"llmhost")
            self.assertIn("io.llmhost", varlinkctl(d, "list-interfaces", socket).stdout)
            self.assertIn("method Status", varlinkctl(d, "introspect", socket, "io.llmhost").stdout)
            methods = varlinkctl(d, "list-methods", socket, "io.llmhost").stdout.split()
            self.assertEqual(sorted(m.rsplit(".", 1)[1] for m in methods), sorted(self.contract.methods))
            status = json.loads(varlinkctl(d, "call", "--json=short", socket, "io.llmhost.Status", "{}").stdout)
            self.contract.check_reply("Status", status)
            up = varlinkctl(d, "call", "--more", "--json=short", socket, "io.llmhost.Up",
                            json.dumps({"model": DEEPSEEK})).stdout
            replies = [json.loads(line) for line in up.replace("\x1e", "").splitlines() if line.strip()]
            for reply in replies:
                self.contract.check_reply("Up", reply)
            self.assertEqual(replies[-1]["model"]["state"], "ready")
            failed = varlinkctl(d, "call", socket, "io.llmhost.InstanceShow", '{"name":"x"}', check=None)
            self.assertNotEqual(failed.returncode, 0)
            self.assertIn("io.llmhost.NotFound", failed.stdout + failed.stderr)

            watch = subprocess.Popen([VARLINKCTL, "call", "-E", "--json=short", socket, "io.llmhost.Watch", "{}"],
                                     stdout=subprocess.PIPE, text=True)
            first = json.loads(watch.stdout.readline().replace("\x1e", ""))
            self.contract.check_reply("Watch", first)
            d.ctl("down", DEEPSEEK)
            second = json.loads(watch.stdout.readline().replace("\x1e", ""))
            self.contract.check_reply("Watch", second)
            watch.kill()
            watch.communicate()


class Contract(road.Road):
    """Each method with each parameter missing, unknown, of each wrong type."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.contract = contract.Contract()

    def right(self, method):
        asked = self.contract.methods[method][0]
        return {n: self.contract.right_value(k) for n, k in asked.items() if not (isinstance(k, tuple) and k[0] == "?")}

    def refused(self, v, method, parameters, about):
        v.send(method, parameters)
        reply = v.receive()
        self.assertEqual(reply.get("error"), SERVICE + "InvalidParameter", (method, parameters, reply))
        self.assertEqual(re.split(r"[.\[]", reply["parameters"]["parameter"])[0], about, (method, parameters, reply))

    def parameters(self):
        """(METHOD, RIGHT PARAMETERS, NAME, TYPE) of each parameter of each method."""
        for method, (asked, _) in self.contract.methods.items():
            for name, kind in asked.items():
                yield method, self.right(method), name, kind

    def test_every_wrong_parameter_is_named(self):
        with daemons.Daemon() as d, d.varlink() as v:
            for method, (asked, _) in self.contract.methods.items():
                right = self.right(method)
                with self.subTest(method):
                    self.refused(v, method, dict(right, unheard_of=1), "unheard_of")
                    for name, kind in asked.items():
                        if name in right:
                            self.refused(v, method, {n: x for n, x in right.items() if n != name}, name)
                            self.refused(v, method, dict(right, **{name: None}), name)
                        for wrong in self.contract.wrong_values(kind):
                            self.refused(v, method, dict(right, **{name: wrong}), name)
            self.assertEqual(d.call("Status")["instances"], [])

    def test_integers_at_the_ends_of_64_bits_and_beyond(self):
        """What a 64-bit integer can be is answered; a number beyond is none, and ends the connection like any other noise."""
        tried = 0
        with daemons.Daemon() as d:
            for method, right, name, kind in self.parameters():
                if kind not in ("int", ("?", "int")):
                    continue
                for value in (-1, 0, (1 << 63) - 1, -(1 << 63)):
                    with self.subTest(f"{method}.{name} = {value}"), d.varlink() as v:
                        v.send(method, dict(right, **{name: value}))
                        self.assertIsNotNone(v.receive())           # and it fits the contract
                        tried += 1
            for method, right, name, kind in self.parameters():
                for value in (str(1 << 63), str(-(1 << 63) - 1), "1" + "0" * 400, "1e400", "1" * 5000):
                    with self.subTest(f"{method}.{name} = {value[:30]}"), d.varlink() as v:
                        text = json.dumps({"method": "io.llmhost." + method, "parameters": dict(right, **{name: "HERE"})})
                        v.send_bytes(text.replace('"HERE"', value).encode() + b"\0")
                        self.assertIsNone(v.receive())
            self.assertGreaterEqual(tried, 4)
            self.assertEqual((d.call("Status")["models"], d.call("Status")["instances"]), ([], []))

    def test_nesting_is_refused_by_name_up_to_its_limit_and_noise_beyond(self):
        with daemons.Daemon() as d:
            for method, right, name, kind in self.parameters():
                for opening, closing in (("[", "]"), ('{"a":', "}")):
                    for depth in (2, 29, 30, 31, 1000, 200_000):
                        with self.subTest(f"{method}.{name}, {depth} {opening}"), d.varlink() as v:
                            text = json.dumps({"method": "io.llmhost." + method, "parameters": dict(right, **{name: "HERE"})})
                            value = opening * depth + "1" + closing * depth
                            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                                v.send_bytes(text.replace('"HERE"', value).encode() + b"\0")
                                reply = v.receive()
                                if depth > 30:                      # 32, with the message and its parameters
                                    self.assertIsNone(reply)
                                    continue
                                self.assertEqual(reply["error"], SERVICE + "InvalidParameter")
                                self.assertEqual(re.split(r"[.\[]", reply["parameters"]["parameter"])[0], name)
            self.assertEqual(d.call("Status")["instances"], [])

    def test_texts_of_any_size_and_depth_are_survived(self):
        with daemons.Daemon() as d:
            for text in ("", "x" * 100_000, "\u0000", "\ud83d\ude00" * 1000, "'\"\\\n\t", "../../etc/passwd", "%s%n", "-h", "a" * 255):
                for method, name in (("InstanceShow", "name"), ("Up", "model"), ("Down", "target"), ("Wait", "target"),
                                     ("Doctor", "target"), ("InstanceRemove", "name")):
                    with d.varlink() as v:
                        v.send(method, dict({name: text}, **({"timeout_ms": 100} if method == "Wait" else {})))
                        reply = v.receive()
                        self.assertTrue(reply is None or "error" in reply, (method, text[:20], reply))
                        if reply:
                            self.contract.check_error(reply)
            self.assertEqual(d.call("Status")["models"], [])

    def test_noise_is_answered_by_the_end_of_the_connection(self):
        with daemons.Daemon() as d:
            before = descriptors(d)
            for noise in (b"hello\0", b"\0", b"[]\0", b"{\0", b"{}\0", b'{"method":1}\0', b'{"method":"x"}\0', b'{"method":"io.llmhost."}\0',
                          b'{"method":"io.llmhost.Nothing"}\0', b'{"method":"io.other.Status"}\0', b"\xff\xfe\0",
                          b'{"method":"io.llmhost.Status","parameters":[]}\0', b'{"method":"io.llmhost.Status","more":1}\0',
                          b"[" * 5000 + b"\0", b'{"method":"io.llmhost.Status","method":"io.llmhost.Status"}\0',
                          b"x" * (9 << 20)):
                with d.varlink() as v:
                    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                        v.send_bytes(noise)
                        reply = v.receive() if noise.endswith(b"\0") else None
                        self.assertTrue(reply is None or "error" in reply, (noise[:40], reply))
            self.assertIn("daemon", d.call("Status"))
            hosts.until(lambda: descriptors(d) <= before, 5, "all connections closed")

    def test_calls_behind_one_another_and_in_pieces_are_answered_in_order(self):
        with daemons.Daemon() as d, d.varlink() as v:
            call = b'{"method":"io.llmhost.Status"}\0{"method":"io.llmhost.InstanceShow","parameters":{"name":"x"}}\0'
            v.send_bytes(call * 20 + call[:10])
            for _ in range(20):
                self.assertIn("daemon", v.receive()["parameters"])
                self.assertEqual(v.receive()["error"], "io.llmhost.NotFound")
            for byte in call[10:]:
                v.send_bytes(bytes([byte]))
            self.assertIn("daemon", v.receive()["parameters"])
            self.assertEqual(v.receive()["error"], "io.llmhost.NotFound")
            v.send("Status", oneway=True)                           # no answer is due
            v.send("InstanceList")
            self.assertIn("instances", v.receive()["parameters"])

    def test_what_needs_more_says_so(self):
        with daemons.Daemon() as d:
            with self.assertRaises(daemons.CallError) as e:
                d.call("Logs", follow=True)
            self.assertEqual(e.exception.full_name, SERVICE + "ExpectedMore")
            with self.assertRaises(daemons.CallError) as e:
                d.call("Nothing")
            self.assertEqual(e.exception.full_name, SERVICE + "MethodNotFound")


class Manners(road.Road):
    """Slow readers, and callers that leave."""

    def test_slow_reader_of_a_stream_is_dropped_with_an_error(self):
        with self.road(engines=["scripted"]) as (d, _):
            d.ctl("up", "ollama:scripted")
            with d.varlink() as slow, d.varlink() as quick:
                slow.send("Watch", more=True)
                quick.send("Watch", more=True)
                end, heard = threading.Event(), 0

                def ask(_):
                    while not end.is_set():
                        d.post("/v1/chat/completions", {"model": "scripted"})
                with concurrent.futures.ThreadPoolExecutor(4) as pool:
                    asking = [pool.submit(ask, n) for n in range(4)]
                    due = time.monotonic() + 60
                    while heard < 4 * BACKLOG_BYTES and time.monotonic() < due:
                        heard += len(quick.socket.recv(65536))
                    end.set()
                    for a in asking:
                        a.result(20)
                self.assertGreater(heard, 4 * BACKLOG_BYTES, "who reads hears it all")
                size, reply = 0, {}
                while "error" not in reply:
                    reply = slow.receive()
                    self.assertIsNotNone(reply, "the last word is an error")
                    size += len(json.dumps(reply))
                self.assertEqual(reply["error"], "io.llmhost.Failed")
                self.assertEqual(reply["parameters"]["code"], "slow_reader")
                contract.Contract().check_error(reply)
                self.assertTrue(BACKLOG_BYTES / 2 < size < 3 * BACKLOG_BYTES, size)
                slow.send("Status")             # the connection is good for another call
                self.assertIn("daemon", slow.receive()["parameters"])

    def test_caller_that_leaves_stops_nothing(self):
        gguf = os.path.getsize(self.dir + "/tiny.gguf")
        with self.road() as (d, _):
            before = descriptors(d)
            self.registry.fault(rate=gguf // 2)
            with d.varlink() as v:
                v.send("Up", {"model": DEEPSEEK}, more=True)
                self.assertIsNotNone(v.receive())
            for method in ("Watch", "Up", "Wait", "Logs"):
                for _ in range(10):
                    with d.varlink() as v:
                        v.send(method, {"Up": {"model": DEEPSEEK}, "Wait": {"target": DEEPSEEK}, "Logs": {"follow": True}}.get(method),
                               more=method != "Wait")
            hosts.until(lambda: self.state(d) == "ready", 20, "ready in spite of it")
            self.assertEqual(self.chat(d).status, 200)
            hosts.until(lambda: descriptors(d) <= before + 8, 5, f"descriptors as before ({before}): {descriptors(d)}")

    def test_up_without_more_answers_once_with_the_last(self):
        with self.road() as (d, _), d.varlink() as v:
            v.send("Up", {"model": DEEPSEEK})
            reply = v.receive()
            self.assertNotIn("continues", reply)
            contract.Contract().check_reply("Up", reply["parameters"])
            self.assertEqual(reply["parameters"]["model"]["state"], "ready")
            v.send("Up", {"model": DEEPSEEK, "wait": False})
            self.assertEqual(v.receive()["parameters"]["model"]["goal"], "on_demand")

    def test_socket_is_for_its_owner_and_its_group(self):
        with daemons.Daemon() as d:
            self.assertEqual(os.stat(d.socket_path).st_mode & 0o777, 0o660)
            d.stop()
            self.assertFalse(os.path.exists(d.socket_path))
            d.start()
            d.kill()                            # leaves the socket behind, which the next one takes over
            d.start()
            second = daemons.Daemon(port=daemons.free_port(), start=False)
            second.runtime = d.runtime
            second.start(wait=False)
            self.assertNotEqual(second.process.wait(10), 0, "one daemon per directory")
            self.assertIn("daemon", d.call("Status"))
            shutil.rmtree(second.dir)
