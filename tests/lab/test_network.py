"""This machine's own network changes: its addresses, its links. No tunnel waits for a pause or an idle ping to end then."""
import time

import host as hosts
import lab
import road
import test_tunnel
from test_tunnel import BUSY_S, Eye, begin

LIMIT_S = 120
ASKED_S = 1.1               # a ping with a deadline of a second, after the tenth that makes a burst one change


def ip(*words):
    hosts.command("ip", *words)


class Network(road.Road):
    several = test_tunnel.Tunnels.several

    def long_pause(self, eye):
        """The pause after a try in vain is over five seconds now, and has just begun."""
        def waits(t):
            return t["state"] == "down" and (t["next_try_at_ms"] or 0) - time.time() * 1000 > 4200
        eye.until(waits, 30, "a long pause")

    def test_new_address_ends_a_pause(self):
        with self.several(["pause"], up=False) as (d, found):
            h, eye = found["pause"], Eye(d, "pause")
            begin(h, "refuse")
            self.long_pause(eye)
            h.heal()
            self.assertEqual(eye.look()["state"], "down")
            ip("address", "add", "10.98.0.1/24", "dev", lab.BRIDGE)
            took = eye.until(lambda t: t["state"] == "up", 10, "up")
            self.assertLess(took, 1 + BUSY_S)
            ip("address", "del", "10.98.0.1/24", "dev", lab.BRIDGE)

    def test_link_that_is_up_again_ends_a_pause(self):
        with self.several(["cable"], up=False) as (d, _):
            eye = Eye(d, "cable")
            ip("link", "set", lab.BRIDGE, "down")
            self.long_pause(eye)
            ip("link", "set", lab.BRIDGE, "up")
            took = eye.until(lambda t: t["state"] == "up", 10, "up")
            self.assertLess(took, 2 + BUSY_S)       # a bridge asks for its neighbours anew

    def test_living_tunnel_stays_and_a_dead_one_is_found_at_once(self):
        with self.several(["live", "dead"], up=False) as (d, found):
            live, dead = Eye(d, "live"), Eye(d, "dead")
            found["dead"].fault("blackhole")
            started = time.monotonic()
            ip("address", "add", "10.98.0.1/24", "dev", lab.BRIDGE)
            self.assertLess(dead.noticed(started, 5), ASKED_S + BUSY_S)
            found["dead"].heal()
            dead.back()
            ip("address", "del", "10.98.0.1/24", "dev", lab.BRIDGE)
            time.sleep(2)
            self.assertEqual([live.look()[k] for k in ("state", "reconnects")], ["up", 0])
            self.assertIn("addresses or its default route changed", d.log())

    def test_connection_whose_address_is_gone_is_replaced(self):
        """As a laptop that goes from one network to another."""
        with self.several(["moved"]) as (d, found):
            eye = Eye(d, "moved")
            try:
                started = time.monotonic()
                ip("address", "del", lab.ADDRESS + "/16", "dev", lab.BRIDGE)
                ip("address", "add", "10.99.0.3/16", "dev", lab.BRIDGE)
                eye.until(lambda t: t["state"] == "up" and t["reconnects"] == 1, 10, "up by another way")
                self.assertLess(time.monotonic() - started, ASKED_S + 1 + BUSY_S)
                answer = d.post("/v1/chat/completions", {"model": "scripted:moved"})
                self.assertEqual(answer.status, 200, answer.text)
            finally:
                ip("address", "del", "10.99.0.3/16", "dev", lab.BRIDGE)
                ip("address", "add", lab.ADDRESS + "/16", "dev", lab.BRIDGE)
