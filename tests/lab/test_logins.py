"""Ways to be let in: the keys of an ssh-agent, two factors, hosts that allow only some ways."""
import contextlib
import os
import shutil
import subprocess

import daemon as daemons
import host as hosts
import road

LIMIT_S = 120


@contextlib.contextmanager
def agent(folder, *keys):
    """A real ssh-agent that holds the keys; $SSH_AUTH_SOCK names it meanwhile."""
    socket = folder + "/agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    was = os.environ.get("SSH_AUTH_SOCK")
    try:
        hosts.until(lambda: os.path.exists(socket), 5, "an agent")
        os.environ["SSH_AUTH_SOCK"] = socket
        for key in keys:
            subprocess.run(["ssh-add", "-q", key], check=True, stderr=subprocess.DEVNULL)
        yield socket
    finally:
        os.environ.pop("SSH_AUTH_SOCK", None)
        if was:
            os.environ["SSH_AUTH_SOCK"] = was
        process.kill()
        process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(socket)


class Logins(road.Road):
    def key(self, h, kind="ed25519", allow=True):
        path = f"{self.dir}/{h.name}-{kind}"
        if not os.path.exists(path):
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "agent's", "-f", path], check=True)
        if allow:
            with open(path + ".pub") as f:
                h.put("/root/.ssh/authorized_keys", f.read(), 0o600)
        return path

    def up(self, d, *options, **more):
        h = self.machine
        return d.ctl("instance", "add", h.name, h.ssh_command, *options, **more)

    def test_agent_is_needed_once(self):
        for kind in ("ed25519", "rsa"):
            with self.subTest(kind), self.host(engines=[], opt=["PasswordAuthentication no"]) as self.machine, daemons.Daemon() as d:
                with agent(self.dir, self.key(self.machine, kind)) as socket:
                    self.up(d, "--agent")
                    self.assertEqual(d.call("InstanceShow", name="gpu1")["settings"]["agent"], socket)
                hosts.until(lambda: "own key added" in d.log(), 10, "our own key")
                d.restart()
                d.wait_tunnel("gpu1", "up")

    def test_without_an_agent_it_is_said(self):
        with self.host(engines=[]) as self.machine, daemons.Daemon() as d:
            os.environ.pop("SSH_AUTH_SOCK", None)
            self.assertIn("SSH_AUTH_SOCK", self.up(d, "--agent", check=2).stderr)
            with agent(self.dir):               # one without a key
                error = self.up(d, "--agent", check=5, json=True)["error"]
                self.assertEqual(error["code"], "login_refused")
                self.assertIn("holds no key", error["message"])
            self.assertEqual(d.call("InstanceList")["instances"], [])

    def test_two_factors(self):
        for methods, options in (("publickey,password", ("--agent",)), ("publickey,keyboard-interactive", ("-i",)),
                                 ("password,publickey", ("-i",))):
            sshd = [f"AuthenticationMethods {methods}", "KbdInteractiveAuthentication yes"]
            with self.subTest(methods), self.host(engines=[], opt=sshd) as self.machine, daemons.Daemon() as d:
                key = self.key(self.machine)
                with agent(self.dir, key):
                    self.up(d, *(options if options == ("--agent",) else ("-i", key)), password=self.machine.password)
                    self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_two_factors_without_a_key(self):
        for methods in ("password,keyboard-interactive", "keyboard-interactive,password",
                        "publickey,keyboard-interactive password,keyboard-interactive"):
            sshd = [f"AuthenticationMethods {methods}", "KbdInteractiveAuthentication yes"]
            with self.subTest(methods), self.host(engines=[], opt=sshd) as self.machine, daemons.Daemon() as d:
                self.up(d, password=self.machine.password)
                self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_three_factors(self):
        sshd = ["AuthenticationMethods publickey,password,keyboard-interactive", "KbdInteractiveAuthentication yes"]
        with self.host(engines=[], opt=sshd) as self.machine, daemons.Daemon() as d:
            self.up(d, "-i", self.key(self.machine), password=self.machine.password)
            self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_half_of_two_factors_is_a_refusal_that_names_the_rest(self):
        with self.host(engines=[], opt=["AuthenticationMethods publickey,password"]) as self.machine, daemons.Daemon() as d:
            error = self.up(d, "-i", self.key(self.machine), check=5, json=True)["error"]
            self.assertIn("it offers password", error["message"])

    def test_hosts_with_one_way_in(self):
        for line in ("AuthenticationMethods keyboard-interactive", "AuthenticationMethods password"):
            with self.subTest(line), self.host(engines=[], opt=[line, "KbdInteractiveAuthentication yes"]) as self.machine, \
                    daemons.Daemon() as d:
                self.up(d, password=self.machine.password)
                self.assertTrue(d.tunnel_is("gpu1", "up"))

    def test_many_hosts_behind_one_name_have_pins_of_their_own(self):
        with self.host("gpu1", engines=[]) as a, self.host("gpu2", engines=[], port=2200) as b, daemons.Daemon() as d:
            for h in (a, b):
                d.ctl("instance", "add", h.name, h.ssh_command, password=h.password)
            self.assertNotEqual(d.instance("gpu1")["host_key"], d.instance("gpu2")["host_key"])


if shutil.which("ssh-agent") is None:
    raise SystemExit("no ssh-agent (package openssh-client)")
