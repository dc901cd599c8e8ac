"""A login that somebody types into is use of a rented machine; one that is only open is none.

What keeps a machine on: daemon/policy/stay.h. The clock of a terminal goes in steps of 8 s."""
import os
import pty
import subprocess
import time
import unittest

import host as hosts
from rented import MODEL, World

LIMIT_S = 120
STOP_S = 14             # longer than a step of a terminal's clock and a reading together
WHEN = {"idle": {"stop": f"{STOP_S}s"}, "guard": {"lease": "6s"}}
SSH = ["-tt", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]


class Login:
    """Of a person, by their own ssh, on a terminal."""
    def __init__(self, w):
        box = w.c.box(w.ours()[0]["uuid"])
        self.keyboard, end = pty.openpty()
        words = box.ssh_command.split()
        self.ssh = subprocess.Popen(["sshpass", "-p", box.password, *words[:1], *SSH, *words[1:]], stdin=end, stdout=subprocess.PIPE,
                                    stderr=subprocess.STDOUT)
        os.close(end)
        self.type("echo it-is-$((40 + 2))\n")
        said = b""
        while b"it-is-42" not in said:
            said += os.read(self.ssh.stdout.fileno(), 4096)

    def type(self, text):
        os.write(self.keyboard, text.encode())

    def __enter__(self):
        return self

    def __exit__(self, *why):
        os.close(self.keyboard)
        self.ssh.kill()
        self.ssh.wait()
        self.ssh.stdout.close()


class Typed(unittest.TestCase):
    def test_a_login_holds_the_machine_while_it_is_typed_into_and_no_longer(self):
        with World(WHEN) as w:
            w.up()
            with Login(w) as login:
                begun = time.monotonic()
                while time.monotonic() < begun + STOP_S + 10:
                    login.type(" ")
                    time.sleep(2)
                self.assertEqual((w.state(), w.machine()["rental"]["stays"]), ("running", "quiet_use"))
                self.assertRegex(w.d.ctl("why").stdout, r"a login was typed into \d+s ago: on for")
                w.wait("stopped", limit_s=STOP_S + 20)          # though it is open
            self.assertEqual(w.paid(), [])
            events = [e["text"] for e in w.d.call("Logs", events=True)["lines"] if e.get("kind") == "power_off"]
            self.assertEqual(len(events), 1, events)
            self.assertEqual(w.ask(), 200)                      # and a request wakes it again
            w.down(MODEL)


if __name__ == "__main__":
    unittest.main()
