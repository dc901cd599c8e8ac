"""What machines do to a model server behind our back, and what their sshd does not allow."""
import os
import subprocess
import unittest

import daemon as daemons
import host as hosts
import road
from road import DEEPSEEK

LIMIT_S = 120
SCRIPTED = "ollama:scripted:gpu1"
STRANGER = """
import http.server, sys
class Stranger(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.send_header("Content-Length", "8")
        self.end_headers()
        self.wfile.write(b"stranger")
    do_GET = do_POST
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Stranger).serve_forever()
"""


class Misfortune(road.Road):
    def ask(self, d):
        return self.chat(d, "scripted:gpu1", timeout_s=40)

    def test_whoever_takes_the_port_of_a_dead_server_is_left_alone(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", SCRIPTED)
            self.assertEqual(self.ask(d).status, 200)
            h.put("/root/stranger.py", STRANGER)
            server, port = h.pids("ollama serve")[0], road.engine_port(h)
            os.kill(server.outer_pid, 9)
            h.start("/usr/bin/python3", "/root/stranger.py", str(port))
            hosts.until(lambda: h.run(f"ss -Htln 'sport = :{port}'").stdout, 10, "the stranger")
            hosts.until(lambda: h.pids("ollama serve"), 20, "a new server")
            self.wait_state(d, "ready", SCRIPTED)
            self.assertNotEqual(road.engine_port(h), port)
            for _ in range(5):
                self.assertNotEqual(self.ask(d).body, b"stranger")

    def test_nothing_is_called_ready_that_cannot_be_reached(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", SCRIPTED)
            h.sshd_stop()
            hosts.until(lambda: not d.tunnel_is("gpu1", "up"), 10, "the loss")
            d.ctl("up", SCRIPTED, "--timeout", "1s", check=7)
            d.ctl("wait", SCRIPTED, "--timeout", "1s", check=7)
            waiting = [subprocess.Popen(d.ctl_words(verb, SCRIPTED), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                       for verb in ("up", "wait")]
            h.sshd_start()
            self.assertEqual([p.wait(30) for p in waiting], [0, 0])

    def test_nothing_is_called_ready_where_nobody_is_let_in(self):
        with self.host(engines=["scripted"]) as h, daemons.Daemon() as d:
            d.ctl("instance", "add", "gpu1", h.ssh_command, "--install-key=no", password=h.password)
            d.ctl("up", SCRIPTED)
            h.down(clean=True)
            h.password = "another"
            h.up()
            d.wait_tunnel("gpu1", "refused", 30)
            refusals = lambda: h.console().count("Failed password")
            self.assertEqual(refusals(), 2, "the file is read once more, then it is for the user to say something")
            h.fault("linkdown")
            h.heal()
            self.assertEqual(refusals(), 2)
            for verb in ("up", "wait"):
                error = d.ctl(verb, SCRIPTED, check=5, json=True)["error"]
                self.assertEqual((error["code"], error["target"]), ("login_refused", "gpu1"))

    def test_machine_that_is_gone_for_good_can_be_removed(self):
        with self.road(engines=["scripted"]) as (d, h):
            d.ctl("up", SCRIPTED)
            h.down()
            d.ctl("instance", "remove", "gpu1", check=12)           # wanted still
            d.ctl("down", SCRIPTED, "--timeout", "1s", check=7)
            hosts.until(lambda: not d.tunnel_is("gpu1", "up"), 15, "the loss")
            waiting = subprocess.Popen(d.ctl_words("down", SCRIPTED), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            d.ctl("instance", "remove", "gpu1")
            self.assertIn(waiting.wait(10), (0, 4))
            self.assertEqual((d.call("Status")["instances"], d.call("Status")["models"]), ([], []))
            d.restart()
            self.assertEqual(d.call("Status")["models"], [])

    def test_sshd_that_forbids_forwarding_is_named_at_once(self):
        for option in ("AllowTcpForwarding no", "PermitOpen none"):
            with self.subTest(option), self.road(engines=["scripted"], opt=[option]) as (d, h):
                error = d.ctl("up", SCRIPTED, check=9, json=True, timeout=15)["error"]
                self.assertEqual(error["code"], "forwarding_forbidden")
                self.assertIn("AllowTcpForwarding", error["message"])
                self.assertEqual(self.ask(d).status, 503)
                h.down()
                h.up()
                d.wait_tunnel("gpu1", "up")
                d.ctl("up", SCRIPTED)


class TwoDaemons(road.Road):
    def test_one_does_not_stop_what_the_other_started(self):
        with self.road() as (d, h), daemons.Daemon(gateway={"listen": "127.0.0.1:11500"}) as other:
            other.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
            d.ctl("up", DEEPSEEK)
            pid = d.model(DEEPSEEK)["pid"]
            self.assertIn(", which another llmhostd started", self.up_engine(other))
            self.assertEqual(other.model(DEEPSEEK)["pid"], pid)
            self.assertIn(f"left running (pid {pid}): another llmhostd started it", other.ctl("down", DEEPSEEK).stderr)
            self.assertEqual(other.model(DEEPSEEK)["state"], "off")
            self.assertIn("goes on running, for another llmhostd started it",
                          "".join(x["text"] for x in other.call("Logs", events=True)["lines"]))
            answer = self.chat(d)                       # it loads the model again, if it must
            self.assertEqual(answer.status, 200, answer.text)
            self.assertEqual(d.model(DEEPSEEK)["pid"], pid)
            other.ctl("up", DEEPSEEK)
            self.assertNotIn("left running", d.ctl("down", DEEPSEEK).stderr)
            self.assertNotIn(pid, [p.pid for p in h.pids()])
            hosts.until(lambda: other.model(DEEPSEEK)["state"] == "ready" and other.model(DEEPSEEK).get("pid") not in (None, pid), 20,
                        "the other one starts a server of its own")
            self.assertIn("was another llmhostd's, and has ended", "".join(x["text"] for x in other.call("Logs", events=True)["lines"]))
            self.assertNotIn("engine_restarted", str(other.call("Status")), "which is no death")
            other.ctl("down", DEEPSEEK)
            self.assertEqual(h.pids("ollama serve"), [])


if __name__ == "__main__":
    unittest.main()
