"""Each error AutoDL is known to answer, and what people are told: the rows of autodl_errors."""
import os

import host as hosts
from rented import AtOnce, World

LIMIT_S = 240
NEVER = {"idle": {"stop": "1h"}}


def rows(call):
    with open(os.path.join(hosts.HERE, "autodl_errors")) as f:
        found = [line.split(None, 4) for line in f if line.strip() and not line.startswith("#")]
    return [r for r in found if r[1] == call]


class Errors(AtOnce):
    def check(self, w, row, name, said):
        answer, call, state, status, text = row
        now = w.state(name) if any(i["name"] == name for i in w.machines()) else "none"
        self.assertRegex(f"{now} {said.returncode}", f"^({state}) ({status})$", f"{answer} to {call}: {said.stderr}")
        self.assertRegex(said.stderr, text.strip(), f"{answer} to {call}")
        self.assertGreater(len(w.calls(call)), 0)
        self.assertEqual(w.paid(), [])

    def test_of_create(self):
        with World(NEVER) as w:
            for n, row in enumerate(rows("create")):
                name, model = f"e{n}", f"ollama:scripted:{n}"
                w.c.fault(row[0], on="create", times=0)
                said = w.d.ctl("up", model, "--gpu", "4090D", "--on", name, "--timeout", "3s", check=False)
                self.check(w, row, name, said)
                w.d.ctl("down", model, "--timeout", "1s", check=False)
                w.c.heal()

    def test_of_power_on(self):
        with World(NEVER) as w:
            w.up(on="box")
            for row in rows("power_on"):
                w.down(timeout_ms=60000)
                w.c.fault(row[0], on="power_on", times=0)
                said = w.d.ctl("up", "ollama:scripted", "--timeout", "3s", check=False)
                self.check(w, row, "box", said)
                w.c.heal()

    def test_of_image_save(self):
        with World(NEVER) as w:
            w.up(on="box")
            w.down()
            for row in rows("image_save"):
                w.c.fault(row[0], on="image_save", times=0)
                said = w.d.ctl("image", "save", "box", "mine", check=False)
                self.check(w, row, "box", said)
                w.c.heal()

    def test_of_release(self):
        with World(NEVER) as w:
            w.up(on="box")
            w.down()
            for row in rows("release"):
                w.c.fault(row[0], on="release", times=0)
                said = w.d.ctl("release", "box", "--confirm=box", "--timeout", "5s", check=False)
                self.check(w, row, "box", said)
                w.c.heal()
