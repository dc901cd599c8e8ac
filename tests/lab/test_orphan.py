"""A machine that bills while nothing here knows it: the database is that of an older day.

Facts of the company: reference/autodl.md; of what is adopted and what is not: reference/lease.md §2.1."""
import shutil
import unittest

import host as hosts
from rented import MODEL, World

LIMIT_S = 90
NEVER = {"idle": {"stop": "1h"}}                # until somebody says so


class Orphan(unittest.TestCase):
    def test_one_that_an_older_database_does_not_know_is_shown_and_ended_by_a_word(self):
        with World(NEVER) as w:
            w.d.stop()
            shutil.copytree(w.d.state, w.d.state + ".old")
            w.d.start()
            w.up()
            lost = w.ours()[0]["uuid"]
            w.d.kill()
            shutil.rmtree(w.d.state)
            shutil.copytree(w.d.state + ".old", w.d.state)
            w.d.start()

            orphan = hosts.until(lambda: w.d.call("Status")["orphans"], 10, "what nothing knows")[0]
            self.assertEqual((orphan["id"], orphan["power"], orphan["orphan"]), (lost, "on", True))
            self.assertEqual(w.machines(), [])
            shown = w.d.ctl("status", "--check", check=False)
            self.assertEqual(shown.returncode, 11)
            self.assertRegex(" ".join(shown.stdout.split()), rf"ORPHAN {lost} AutoDL: running for \d+s at ¥1\.88/h~, and no instance here knows it .*"
                             rf"elsewhere .* llmhostctl down --at autodl {lost}")
            self.assertRegex(w.d.ctl("doctor", check=False).stdout, rf"FAIL +{lost} [^\n]*running(.|\n)*llmhostctl down --at autodl {lost}")
            self.assertRegex(w.d.ctl("instance", "list", "--at", "autodl").stdout, rf"{lost} +1 x 4090D +running +ORPHAN")
            self.assertIn("orphan", [e["kind"] for e in w.d.call("Logs", events=True)["lines"]])
            told = w.d.ctl("up", MODEL, "--gpu", "4090D", "--on", "4090d", check=False)
            self.assertRegex(told.stderr, rf"4090d is the name of {lost}")
            told = w.d.ctl("release", "--at", "autodl", lost, f"--confirm={lost}", check=False)
            self.assertEqual((told.returncode, w.calls("power_off", "release")), (12, []), told.stderr)
            told = w.d.ctl("down", "--at", "autodl", w.foreign, check=False)
            self.assertRegex(" ".join(told.stderr.split()), "was not rented from here")

            w.c.fault("lost", on="power_off")      # the first is never carried out
            w.d.ctl("down", "--at", "autodl", lost, "--timeout", "1s", check=False)
            w.d.kill()                          # the word goes with it, the machine does not
            w.d.start()
            hosts.until(lambda: w.d.call("Status")["orphans"], 10, "it, once more")
            said = w.d.ctl("down", "--at", "autodl", lost)
            self.assertRegex(said.stdout, rf"{lost} is off, after .*\n.*autodl says so: shutdown\n")
            self.assertEqual(w.paid(), [])
            self.assertEqual([b[0] for b in w.billed()], [lost], "one machine, and its bill has ended")
            self.assertRegex(w.d.ctl("status").stdout, rf"llmhostctl release --at autodl {lost}")

            w.d.ctl("release", "--at", "autodl", lost, f"--confirm={lost}")
            self.assertEqual((w.c.instance(lost), w.d.call("Status")["orphans"], w.d.call("Status")["trouble"]), (None, [], []))
            w.up()                              # and a name that was given before is given again
            w.down(MODEL)
            self.assertEqual(w.paid(), [])


if __name__ == "__main__":
    unittest.main()
