"""How a model comes onto a box's disk, by real ollamas of both generations: cuts, faults of the registry, a small disk, mirrors, and what
is left behind."""
import glob
import os

import host as hosts
import models
import registry
import road
from road import DEEPSEEK

LIMIT_S = 600
BLOBS = "/root/.llmhost/ollama/models/blobs"
OWN_REALM = 'Bearer realm="https://registry.ollama.ai/token",service="s",scope="x"'
OLD, NEW = "ollama-0.11.4", "ollama-0.32.15"


class Pull(road.Road):
    gguf = {"pad_bytes": 4 << 20}
    engine = NEW

    def the_road(self, **more):
        return self.road(engines=[self.engine], **more)

    @property
    def size(self):
        return os.path.getsize(self.dir + "/tiny.gguf")

    def slowly(self, seconds):
        self.registry.fault(rate=self.size // seconds)

    def begin(self, d, h, model=DEEPSEEK, seconds=4):
        """A pull that takes a while, and has brought something."""
        self.slowly(seconds)
        sent = self.registry.sent
        d.ctl("up", model, "--no-wait")
        self.wait_state(d, "fetching", model)
        hosts.until(lambda: self.registry.sent > sent + self.size // 4, 20, "a part of it")

    def parts(self, h):
        return sorted(os.path.basename(p) for p in glob.glob(h.upper(BLOBS) + "/*-partial*"))

    def ranges(self):
        """Where the downloads of the model's file began."""
        return [int((a[2] or "bytes=0-")[6:].split("-")[0]) for a in self.pulls() if "/data/" in a[1]]

    def answers(self, d, model=road.ID):
        self.assertEqual(road.text_of(self.chat(d, model)), models.answer())

    def fails(self, d, model=DEEPSEEK, status=13, limit_s=60):
        return d.ctl("up", model, check=status, json=True, timeout=limit_s)["error"]


class Cuts:
    """It goes on where it was."""

    def goes_on(self, d, h, limit="40s"):
        self.registry.fault()
        d.ctl("wait", DEEPSEEK, "--timeout", limit, timeout=60)
        self.answers(d)
        self.assertEqual(self.parts(h), [])

    def resumes(self, d, h):
        before = len(self.ranges())
        self.goes_on(d, h)
        self.assertGreater(min(self.ranges()[before:]), 0, self.ranges())

    def test_network_that_is_cut(self):
        with self.the_road() as (d, h):
            self.begin(d, h)
            h.fault("rst")
            h.heal()
            self.goes_on(d, h)          # ollama takes back what came over a connection that was reset

    def test_tunnel_that_is_cut(self):
        with self.the_road() as (d, h):
            self.begin(d, h)
            h.fault("sshd_restart")
            self.resumes(d, h)

    def test_daemon_that_is_killed(self):
        with self.the_road() as (d, h):
            self.begin(d, h)
            d.kill()
            hosts.until(lambda: not any(self.opened(h)), 10, "the end of the pull")
            d.start()
            self.resumes(d, h)

    def opened(self, h):
        for p in h.pids("ollama serve"):
            for fd in glob.glob(f"/proc/{p.outer_pid}/fd/*"):
                try:
                    yield "-partial" in os.readlink(fd)
                except OSError:
                    continue

    def test_engine_that_is_killed(self):
        with self.the_road() as (d, h):
            self.begin(d, h)
            os.kill(h.pids("ollama serve")[0].outer_pid, 9)
            self.goes_on(d, h)          # what it had not noted down is fetched once more

    def test_machine_that_is_rebooted(self):
        with self.the_road() as (d, h):
            self.begin(d, h)
            h.down()
            h.up()
            self.registry.serve_host(h)
            self.goes_on(d, h)

    def test_registry_that_cuts_again_and_again(self):
        with self.the_road() as (d, h):
            self.registry.fault(close_after=self.size // 3, times=2)
            d.ctl("up", DEEPSEEK, timeout=60)
            self.answers(d)
            self.assertEqual(len([r for r in self.ranges() if r]), 2, self.ranges())

    def test_notes_a_power_cut_left_empty(self):
        with self.the_road() as (d, h):
            self.begin(d, h)
            d.kill()
            h.down()
            for note in glob.glob(h.upper(BLOBS) + "/*-partial-*"):
                open(note, "w").close()
            h.up()
            self.registry.serve_host(h)
            d.start()
            self.goes_on(d, h)


class CutsOfTheFirstGeneration(Cuts, Pull):
    engine = OLD


class CutsOfTheSecondGeneration(Cuts, Pull):
    engine = NEW


class Stuck(Pull):
    """It has come almost to the end, and nothing more comes."""

    def test_five_rounds_then_it_is_told_and_what_came_is_kept(self):
        with self.road(engines=[self.engine], sections={"engine.ollama": {"stall": "2s"}}) as (d, h):
            self.registry.fault(stall_at=self.size * 99 // 100)
            error = self.fails(d, limit_s=60)
            self.assertEqual(error["code"], "stalled", error)
            self.assertIn("has not grown for 2 s", error["message"])
            self.assertGreaterEqual(len(self.ranges()), 5)
            self.assertIn(f"llmhostctl up {DEEPSEEK}", error["next"])
            self.assertNotEqual(self.parts(h), [])
            before = len(self.ranges())
            self.registry.fault()
            d.ctl("up", DEEPSEEK, timeout=60)
            self.answers(d)
            self.assertGreater(min(self.ranges()[before:]), self.size * 9 // 10, self.ranges())

    def test_nothing_comes_at_all(self):
        with self.road(engines=[self.engine], sections={"engine.ollama": {"stall": "1s"}}) as (d, h):
            self.registry.fault(stall_after=0)
            self.assertEqual(self.fails(d)["code"], "stalled")


class Refusals:
    """Each misfortune has its own word and status."""

    def test_model_or_tag_that_is_unknown(self):
        models.store_in_ollama(self.dir + "/store", "other:latest", self.dir + "/tiny.gguf")
        with self.the_road() as (d, h):
            for name, code in (("no-such:1b", "model_unknown"), ("no-such", "model_unknown"), ("other:1b", "tag_unknown")):
                error = self.fails(d, "ollama:" + name)
                self.assertEqual((error["code"], error["exit"]), (code, 13), error)
                self.assertIn(name, error["message"])
                self.assertEqual(error["next"][-1], f"llmhostctl down ollama:{name} --forget")

    def test_registry_that_fails_or_asks_for_patience(self):
        with self.the_road() as (d, h):
            for fault, code in self.statuses:
                self.registry.fault(**fault)
                error = self.fails(d)
                self.assertEqual((error["code"], error["exit"]), (code, 13), error)
                self.assertIn(str(list(fault.values())[0]), error["message"])
            self.registry.fault(status=503, times=3)
            d.ctl("up", DEEPSEEK, timeout=60)
            self.answers(d)

    def test_model_that_wants_a_login(self):
        with self.the_road() as (d, h):
            for challenge in self.challenges:
                self.registry.fault(status=401, challenge=challenge)
                error = self.fails(d, status=5)
                self.assertEqual(error["code"], "login_needed", error)

    def test_registry_that_cannot_be_reached(self):
        with self.the_road() as (d, h):
            h.put("/etc/hosts", "127.0.0.1 localhost registry.ollama.ai\n")
            error = self.fails(d)
            self.assertEqual((error["code"], error["exit"]), ("registry_unreachable", 13), error)
            self.registry.serve_host(h)
            d.ctl("up", DEEPSEEK)
            self.answers(d)

    def test_damaged_files_go_and_the_next_pull_is_well(self):
        with self.the_road() as (d, h):
            self.registry.fault(wrong_digest=True, times=3)     # every blob; ollama removes but the first that it finds wrong
            d.ctl("up", DEEPSEEK, timeout=60)
            self.answers(d)
            for path in glob.glob(h.upper(BLOBS) + "/sha256-*"):
                self.assertEqual(os.path.basename(path), "sha256-" + models.sha256_of(path))
            self.assertIn("digest mismatch", d.log())

    def test_no_room_is_found_before_anything_comes(self):
        with self.the_road(disk="192m") as (d, h):
            free_kb = int(h.run("df -Pk /root | tail -n 1").stdout.split()[3])
            h.run(f"dd if=/dev/zero of=/root/large bs=1k count={free_kb - self.size // 2048}")
            error = self.fails(d)
            self.assertEqual((error["code"], error["exit"]), ("disk_full", 13), error)
            self.assertRegex(error["message"], r"needs [\d.]+ MB more on gpu1, and [\d.]+ [kM]B are free in /root/\.llmhost/ollama/models")
            self.assertEqual(self.ranges(), [])
            h.run("rm -f /usr/bin/curl /usr/bin/wget")  # then by what the pull says of itself
            error = self.fails(d)
            self.assertEqual(error["code"], "disk_full", error)
            h.run("rm /root/large")
            d.ctl("up", DEEPSEEK)
            self.answers(d)

    def test_doctor_says_before_the_pull_whether_it_will_fit(self):
        """The engine is being installed, so that nothing of the model has been asked for yet."""
        def space(d):
            return next((c for c in d.call("Doctor", target=DEEPSEEK)["checks"] if c["id"] == "model.space"), None)

        with self.the_road(disk="192m") as (d, h):
            h.run("mv /usr/local/bin/ollama /root/away")
            h.put("/usr/local/bin/ollama", "#!/bin/sh\nwhile [ ! -e /root/go ]; do sleep 0.1; done\nexec /root/away \"$@\"\n", 0o755)
            d.ctl("up", DEEPSEEK, "--no-wait")
            self.wait_state(d, "installing")
            check = space(d)
            self.assertEqual(check["level"], "ok", check)
            self.assertRegex(check["message"], r"[\d.]+ MB, of which [\d.]+ MB are to come, and [\d.]+ MB are free in /root/")
            before = len(self.ranges())
            free_kb = int(h.run("df -Pk /root | tail -n 1").stdout.split()[3])
            h.run(f"dd if=/dev/zero of=/root/large bs=1k count={free_kb - 2000}")
            check = space(d)
            self.assertEqual(check["level"], "fail", check)
            self.assertIn("it does not fit on the disk of gpu1", check["message"])
            self.assertEqual(len(self.ranges()), before, "nothing was fetched")
            h.run("rm /root/large && touch /root/go")
            self.wait_state(d, "ready", limit_s=60)
            self.assertIsNone(space(d), "it is there")

    def test_no_room_in_the_middle(self):
        with self.the_road(disk="192m") as (d, h):
            self.begin(d, h)
            h.run("dd if=/dev/zero of=/root/large bs=64k; true")
            hosts.until(lambda: self.state(d) == "failed", 30, "the end")
            error = self.fails(d)
            self.assertEqual(error["code"], "disk_full", error)
            h.run("rm /root/large")
            self.registry.fault()
            d.ctl("up", DEEPSEEK)
            self.answers(d)


class RefusalsOfTheFirstGeneration(Refusals, Pull):
    engine = OLD
    statuses = [({"status": 503}, "registry_failed")]
    challenges = [None, OWN_REALM]


class RefusalsOfTheSecondGeneration(Refusals, Pull):
    engine = NEW
    statuses = [({"status": 503}, "registry_failed"), ({"status": 429}, "registry_busy"), ({"blob_status": 500}, "registry_failed")]
    challenges = [None, OWN_REALM, 'Bearer realm="https://elsewhere.test/token",service="s",scope="x"']


class Leavings(Pull):
    """What a download leaves that nobody will go on with."""

    def test_down_takes_the_parts_away(self):
        with self.the_road() as (d, h):
            self.begin(d, h, seconds=10)
            self.assertNotEqual(self.parts(h), [])
            d.ctl("down", DEEPSEEK)
            self.assertEqual(self.parts(h), [])

    def test_only_its_own_while_another_model_is_wanted(self):
        models.write_gguf(self.dir + "/second.gguf", pad_bytes=5 << 20)
        models.store_in_ollama(self.dir + "/store", "second:1b", self.dir + "/second.gguf")
        with self.the_road() as (d, h):
            self.begin(d, h, seconds=10)
            first = self.parts(h)
            self.begin(d, h, "ollama:second:1b", seconds=10)
            hosts.until(lambda: len(self.parts(h)) > len(first), 10, "both")
            d.ctl("down", "ollama:second:1b", "--forget")
            self.assertEqual(self.parts(h), first)
            self.registry.fault()
            d.ctl("wait", DEEPSEEK, "--timeout", "30s")
            self.answers(d)

    def test_a_failure_keeps_them(self):
        with self.the_road() as (d, h):
            self.begin(d, h, seconds=10)
            self.registry.fault(status=503, rate=self.size // 10)       # without, the blob is whole before the cut
            h.fault("rst")
            h.heal()
            self.wait_state(d, "failed", limit_s=60)
            self.assertNotEqual(self.parts(h), [])
            d.ctl("down", DEEPSEEK)
            self.assertEqual(self.parts(h), [])


class Names(Pull):
    """Other registries, and a mirror of ollama's own."""

    def test_names_with_a_registry_of_their_own(self):
        models.store_in_ollama(self.dir + "/store", "someone/tiny-gguf:Q4_K_M", self.dir + "/tiny.gguf")
        with self.the_road() as (d, h):
            for host in ("hf.co", "modelscope.cn", "hf-mirror.com"):
                name = f"{host}/someone/tiny-gguf:Q4_K_M"
                d.ctl("up", "ollama:" + name)
                self.answers(d, name)
                self.assertIn(host, {a[4] for a in self.registry.asked})
                asked = len(self.registry.asked)
                d.ctl("down", "ollama:" + name)
                d.ctl("up", "ollama:" + name)
                self.assertEqual(len(self.registry.asked), asked, "it is there")

    def mirrored(self):
        return self.road(engines=[self.engine], sections={"engine.ollama": {"model_mirror": f"https://{registry.MIRROR}/"}})

    def test_mirror_is_asked_and_the_name_is_the_wanted_one(self):
        with self.mirrored() as (d, h):
            d.ctl("up", DEEPSEEK)
            self.answers(d)
            self.assertNotIn("registry.ollama.ai", {a[4] for a in self.registry.asked})
            self.assertIn(registry.MIRROR, {a[4] for a in self.registry.asked})
            said = road.beside(h, "/api/tags", method="GET")[2].decode()
            self.assertNotIn(registry.MIRROR, said)
            self.assertIn(road.ID, said)

    def test_mirror_that_does_not_have_it_or_fails(self):
        for status in (404, 503, 401):
            with self.subTest(status), self.mirrored() as (d, h):
                self.registry.fault(status=status, only=registry.MIRROR)
                d.ctl("up", DEEPSEEK)
                self.answers(d)
                self.assertIn("registry.ollama.ai", {a[4] for a in self.registry.asked})


class Hub(Pull):
    """What llama-server downloads by itself, from a hub like Hugging Face's."""
    engine, model = "llama-server", "llama.cpp:someone/tiny-GGUF:Q4_K_M"
    cache = "/root/.llmhost/llama.cpp/models/models--someone--tiny-GGUF/blobs"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.dir + "/store/hub/someone/tiny-GGUF"
        os.makedirs(folder)
        os.link(cls.dir + "/tiny.gguf", folder + "/tiny-Q4_K_M.gguf")
        models.write_gguf(folder + "/tiny-Q8_0.gguf", pad_bytes=9 << 20)

    def the_road(self, **more):
        keys = {"model_mirror": f"http://{hosts.lab.ADDRESS}:443", "stall": "2s"}
        return self.road(engines=[self.engine], sections={"engine.llama.cpp": keys}, **more)

    def parts(self, h):
        return [os.path.basename(p) for p in glob.glob(h.upper(self.cache) + "/*.downloadInProgress")]

    def ranges(self):
        return [int((a[2] or "bytes=0-")[6:].split("-")[0]) for a in self.registry.asked if a[0] == "GET" and "/resolve/" in a[1]]

    def fails(self, d, model=model, **more):
        return super().fails(d, model, **more)

    def works(self, d):
        d.ctl("up", self.model, timeout=60)
        self.answers(d, d.model(self.model)["id"])

    def test_the_whole_size_is_told_and_what_is_cached_needs_no_hub(self):
        with self.the_road() as (d, h):
            self.slowly(3)
            seen = []
            for reply in d.stream("Up", model=self.model):
                p = reply.get("progress") or {}
                if p.get("stage") == "fetch" and p.get("bytes") is not None:
                    seen.append((p["bytes"], p["bytes_total"]))
            moving = [s for s in seen if 0 < s[0] < s[1]]
            self.assertGreater(len(moving), 1, seen)
            self.assertEqual({s[1] for s in moving}, {self.size})
            self.answers(d, d.model(self.model)["id"])
            d.ctl("down", self.model)
            self.registry.fault(status=503)
            self.works(d)

    def test_it_goes_on_after_its_server_and_the_machine(self):
        with self.the_road() as (d, h):
            self.begin(d, h, self.model, seconds=8)
            os.kill(h.pids("llama-server")[0].outer_pid, 9)
            hosts.until(lambda: len(self.ranges()) > 1, 20, "a second one")
            self.assertGreater(self.ranges()[-1], 0)
            h.down()
            self.registry.fault()
            h.up()
            d.ctl("wait", self.model, "--timeout", "40s", timeout=50)
            self.answers(d, d.model(self.model)["id"])
            self.assertGreater(self.ranges()[-1], 0)

    def test_refusals_have_their_words(self):
        with self.the_road() as (d, h):
            for name, code in (("someone/nothing:Q4_K_M", "model_unknown"), ("someone/tiny-GGUF:Q2_K", "tag_unknown")):
                error = self.fails(d, "llama.cpp:" + name)
                self.assertEqual((error["code"], error["exit"]), (code, 13), error)
            self.registry.fault(status=401)
            self.assertEqual(self.fails(d, status=5)["code"], "login_needed")
            self.registry.fault(status=503)
            self.assertEqual(self.fails(d)["code"], "registry_failed")
            self.registry.fault()
            self.works(d)

    def test_hub_in_the_name(self):
        name = "hf-mirror.com/someone/tiny-GGUF:Q4_K_M"
        with self.the_road() as (d, h):
            d.ctl("up", "llama.cpp:" + name, timeout=60)
            self.answers(d, name)
            self.assertEqual({a[4] for a in self.registry.asked}, {"hf-mirror.com"})

    def test_no_room(self):
        with self.the_road(disk="192m") as (d, h):
            free_kb = int(h.run("df -Pk /root | tail -n 1").stdout.split()[3])
            h.run(f"dd if=/dev/zero of=/root/large bs=1k count={free_kb - self.size // 2048}")
            error = self.fails(d)
            self.assertEqual(error["code"], "disk_full", error)
            self.assertIn("free in /root/.llmhost/llama.cpp/models", error["message"])
            self.assertEqual(self.ranges(), [])
            h.run("rm -f /root/large /usr/bin/curl /usr/bin/wget")
            h.run(f"dd if=/dev/zero of=/root/large bs=1k count={free_kb - self.size // 2048}")
            error = self.fails(d)
            self.assertEqual(error["code"], "disk_full", error)
            h.run("rm /root/large")
            self.works(d)

    def test_stuck_and_then_given_up(self):
        with self.the_road() as (d, h):
            self.registry.fault(stall_at=self.size * 99 // 100)
            self.assertEqual(self.fails(d)["code"], "stalled")
            self.assertNotEqual(self.parts(h), [])
            d.ctl("down", self.model)
            self.assertEqual(self.parts(h), [])


if __name__ == "__main__":
    import unittest
    unittest.main()
