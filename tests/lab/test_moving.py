"""A machine gets another port, address, password or host key, and a person tells the daemon: `instance set`. Nothing is lost by
it, and nothing by a mistake in it."""
import os

import daemon as daemons
import host as hosts
import road

LIMIT_S = 120
STAYED = "stays as it was"


class Moving(road.Road):
    SCRIPTED = "ollama:scripted:gpu1"

    def ask(self, d):
        answer = d.post("/v1/chat/completions", {"model": "scripted:gpu1", "script": {"chunks": 3}})
        self.assertEqual(answer.status, 200, answer.text)

    def refused(self, d, code, status, *words, **more):
        error = d.ctl("instance", "set", "gpu1", *words, check=status, json=True, **more)["error"]
        self.assertEqual((error["code"], error["target"]), (code, "gpu1"))
        self.assertIn(STAYED, error["message"])
        return error

    def settings(self, d):
        return d.ctl("instance", "show", "gpu1", json=True)["settings"]

    def secrets(self, d):
        found = {}
        for name in os.listdir(d.state + "/secrets"):
            with open(f"{d.state}/secrets/{name}") as f:
                found[name] = f.read()
        return found

    def test_new_port_is_told_and_all_that_was_wanted_goes_on(self):
        with self.road(engines=("scripted",)) as (d, h):
            d.ctl("up", self.SCRIPTED)
            d.ctl("forward", "add", "gpu1", "7000")
            before, key = self.secrets(d), d.instance("gpu1")["host_key"]
            h.down()
            h.up(port=2022)
            hosts.until(lambda: not d.tunnel_is("gpu1", "up"), 15, "the loss")
            shown = d.ctl("instance", "set", "gpu1", h.ssh_command, json=True)["instance"]
            self.assertEqual(shown["address"], f"{h.ip}:2022")
            self.ask(d)
            self.assertEqual((self.secrets(d), d.instance("gpu1")["host_key"]), (before, key))
            self.assertEqual([f["listen"] for f in d.ctl("forward", "list", json=True)["forwards"]], ["127.0.0.1:7000"])
            d.restart(hard=True)                # and it is on disk
            d.wait_tunnel("gpu1", "up")
            self.ask(d)
            self.assertEqual(self.settings(d)["port"], "2022")
            self.assertIn("instance-changed", d.ctl("logs", "--events").stdout)

    def test_mistake_changes_nothing_and_the_connection_there_is_goes_on(self):
        with self.road(engines=("scripted",)) as (d, h), self.host("gpu2") as stranger:
            d.ctl("up", self.SCRIPTED)
            before, settings = self.secrets(d), self.settings(d)
            self.refused(d, "unreachable", 9, "--port", "2023")
            self.refused(d, "unreachable", 9, f"ssh -p 22 root@{h.ip[:-1]}x.invalid", password="other")
            self.refused(d, "host_key", 9, stranger.ssh_command, password=stranger.password)
            self.refused(d, "host_key", 9, stranger.ssh_command, "--accept-new-host-key=" + h.fingerprint)
            self.refused(d, "bad_key", 5, "--key-file", d.config)
            d.ctl("instance", "set", "gpu9", "--port", "2023", check=4)
            d.ctl("instance", "set", "gpu1", "--port", "70000", check=2)
            error = d.ctl("instance", "add", "gpu1", stranger.ssh_command, password="x", check=12, json=True)["error"]
            self.assertIn("instance set gpu1", " ".join(error["next"]))
            self.assertEqual((self.secrets(d), self.settings(d)), (before, settings))
            tunnel = d.instance("gpu1")["tunnel"]
            self.assertEqual((tunnel["state"], tunnel["reconnects"], tunnel.get("last_break") or ""), ("up", 0, ""))
            self.ask(d)

    def test_new_password_is_tried_before_it_takes_the_place_of_the_old_one(self):
        with self.host("gpu1") as h, daemons.Daemon() as d:
            d.ctl("instance", "add", "gpu1", h.ssh_command, "--install-key=no", password=h.password)
            old = h.password
            h.down()
            h.up(password="Kirsche 77")
            d.wait_tunnel("gpu1", "refused")
            self.assertIn("instance set gpu1 --password-file", d.ctl("status", "gpu1", check=False).stdout)
            self.refused(d, "login_refused", 5, password="Pflaume 78")
            self.assertEqual(self.secrets(d)["gpu1.password"].strip(), old)
            d.ctl("instance", "set", "gpu1", password="Kirsche 77")
            d.wait_tunnel("gpu1", "up")
            self.assertEqual(self.secrets(d)["gpu1.password"].strip(), "Kirsche 77")
            self.assertNotIn("daemon.key", self.secrets(d), "what was not given stays: no key of ours there")

    def test_machine_that_was_installed_anew_elsewhere_needs_its_key_named(self):
        with self.road() as (d, h):
            h.down()
            h.up(new_key=True, wipe=True, port=2024)
            self.assertIn(h.fingerprint, self.refused(d, "host_key", 9, "--port", "2024")["message"])
            d.ctl("instance", "set", "gpu1", "--port", "2024", "--accept-new-host-key=" + h.fingerprint)
            d.wait_tunnel("gpu1", "up")
            self.assertEqual(d.instance("gpu1")["host_key"], h.fingerprint)
            d.restart()
            d.wait_tunnel("gpu1", "up")

    def test_this_very_host_and_two_changes_at_once(self):
        with self.road() as (d, h):
            d.ctl("instance", "add", "here", "local")
            d.ctl("instance", "set", "here", "--port", "5", check=2)
            h.fault("blackhole")
            with d.varlink() as one:
                one.send("InstanceSet", {"name": "gpu1", "options": {"port": "2022"}})
                self.refused(d, "in_trial", 12, "--port", "2023")
            d.ctl("instance", "remove", "gpu1")             # the first one ended with its caller
