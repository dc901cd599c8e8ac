"""Several callers at once at the control socket: each gets the answer to its own call, and what one takes away does not hurt the
other. No machine is needed: the instance is this host."""
import concurrent.futures
import threading
import unittest

import daemon as daemons

LIMIT_S = 120
ROUNDS = 60


def error_code(fn, **parameters):
    try:
        fn(**parameters)
    except daemons.CallError as e:
        return e.parameters["code"]
    return None


class Callers(unittest.TestCase):
    def setUp(self):
        self.d = daemons.Daemon()
        self.addCleanup(self.d.__exit__, None, None, None)

    def add(self):
        self.d.call("InstanceAdd", name="here", provider="local")

    def test_forwards_added_at_once_are_each_told_to_who_asked(self):
        self.add()
        ports = [daemons.free_port() for _ in range(8)]
        with concurrent.futures.ThreadPoolExecutor(len(ports)) as many:
            told = many.map(lambda p: self.d.call("ForwardAdd", instance="here", spec=f"{p}:127.0.0.1:1"), ports)
            self.assertEqual([t["forward"]["listen"] for t in told], [f"127.0.0.1:{p}" for p in ports])

    def test_instance_removed_while_it_is_being_kept(self):
        over = threading.Event()

        def remove():
            while not over.is_set():
                self.assertIn(error_code(self.d.call, method="InstanceRemove", name="here"),
                              (None, "not_found", "being_removed"))

        with concurrent.futures.ThreadPoolExecutor(1) as other:
            removing = other.submit(remove)
            try:
                for _ in range(ROUNDS):
                    self.assertIn(error_code(self.d.call, method="InstanceAdd", name="here", provider="local"),
                                  (None, "gone", "exists"))
            finally:
                over.set()
            removing.result()
        self.assertTrue(self.d.is_running())

    def test_answers_stay_in_order_on_one_connection(self):
        self.add()
        with self.d.varlink() as v:
            for _ in range(ROUNDS):
                v.send("Up", {"model": "ollama:tiny", "wait": False})
                v.send("Down", {"target": "here"})
                v.send("InstanceList")
            for _ in range(ROUNDS):
                up, down, listed = v.receive(), v.receive(), v.receive()
                self.assertTrue("model" in up.get("parameters", {}) or "error" in up, up)
                self.assertTrue("done" in down.get("parameters", {}) or "error" in down, down)
                self.assertIn("instances", listed["parameters"])

    def test_doctor_takes_a_glob(self):
        self.add()
        checks = self.d.call("Doctor", target="he*")["checks"]
        self.assertEqual((checks[0]["id"], {c["target"] for c in checks}), ("instance.local", {"here"}))

    def test_watch_tells_what_is_gone(self):
        self.add()
        watch = self.d.stream("Watch", targets=["here"])
        next(watch)
        self.d.call("InstanceRemove", name="here")
        seen = []
        for reply in watch:
            seen.append(reply)
            if reply.get("event", {}).get("kind") == "instance_removed":
                break
        self.assertEqual([r["gone"] for r in seen if "gone" in r], ["here"])
        self.assertEqual(self.d.call("InstanceList")["instances"], [])
