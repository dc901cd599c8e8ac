"""An engine put on a box that has nothing but sshd: fetched there or brought from here, over every kind of trouble on the way."""
import glob
import json
import os
import re
import threading
import time

import archives
import daemon as daemons
import host as hosts
import models
import road
from road import DEEPSEEK

LIMIT_S = 300
ENGINES_DIR = "/root/.llmhost/engines"
OLDER, NEWER = "0.31.0", "0.32.15"               # the same program, for a pull by 0.11.4 takes 3 s


class Install(road.Road):
    disk = "192m"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tgz = archives.pack(cls.dir, NEWER, "tgz", OLDER)
        cls.zst = archives.pack(cls.dir, NEWER, "tar.zst")
        cls.server = archives.Server(cls.dir)
        cls.addClassCleanup(cls.server.close)

    def setUp(self):
        super().setUp()
        self.server.fault()
        self.server.asked.clear()

    def catalog(self, *sections):
        path = f"{self.dir}/catalog-{time.monotonic_ns()}.ini"
        with open(path, "w") as f:
            f.write("\n".join(sections))
        return path

    def box(self, *sections, opt=(), without=(), **settings):
        """A daemon whose catalog has these sections, and a host without an engine, and WITHOUT these programs."""
        ollama = dict({"catalog": self.catalog(*sections)}, **settings)
        return Box(self, ollama, opt, without)

    def section(self, archive, address=hosts.lab.ADDRESS, **change):
        return archives.section(archive, self.server.url(archive.name, address), **change)

    def left(self, h):
        """Names in the engines' directory there."""
        return sorted(os.path.basename(p) for p in glob.glob(h.upper(ENGINES_DIR) + "/*"))

    def works(self, d, h, archive):
        d.ctl("up", DEEPSEEK, timeout=60)
        self.assertEqual(road.text_of(self.chat(d)), models.answer())
        self.assertEqual(d.model(DEEPSEEK)["state"], "ready")
        self.assertEqual(self.left(h), [f"ollama-{archive.version}"])

    def fails(self, d, status=13):
        return d.ctl("up", DEEPSEEK, check=status, json=True, timeout=60)["error"]


class Box:
    def __init__(self, test, ollama, opt, without):
        self.test, self.ollama, self.opt, self.without = test, ollama, opt, without

    def __enter__(self):
        self.road = self.test.road(engines=[], opt=self.opt, sections={"engine.ollama": self.ollama}, disk=self.test.disk)
        d, h = self.road.__enter__()
        for program in self.without:
            h.run("rm", "-f", *(f"{place}/{program}" for place in ("/usr/bin", "/bin", "/usr/local/bin")))
        return d, h

    def __exit__(self, *error):
        return self.road.__exit__(*error)


class FromTheBox(Install):
    """The box downloads by itself."""

    def test_nothing_but_sshd_becomes_a_model_that_answers(self):
        with self.box(self.section(self.zst)) as (d, h):
            self.server.fault(rate=self.zst.bytes)
            seen = []
            for reply in d.stream("Up", model=DEEPSEEK):
                p = reply.get("progress")
                if p and p["stage"] == "engine":
                    seen.append((p.get("text"), p.get("bytes"), p.get("bytes_total")))
            self.assertEqual(reply["model"]["state"], "ready")
            moving = [b for t, b, total in seen if t == "ollama 0.32.15: downloading" and total == self.zst.bytes and 0 < b < total]
            self.assertGreater(len(set(moving)), 1, seen)
            self.assertEqual(moving, sorted(moving))
            self.works(d, h, self.zst)
            self.assertEqual([a[2] for a in self.server.asked], [200])
            checks = {c["id"]: c for c in d.ctl("doctor", "gpu1", json=True)["checks"]}
            self.assertIn(ENGINES_DIR + "/ollama-0.32.15/bin/ollama", json.dumps(checks["engine.found"]))

    def test_gzip_with_wget_alone(self):
        archive = archives.pack(self.dir, "0.11.4", "tgz")
        with self.box(self.section(archive), without=["curl", "zstd"]) as (d, h):
            self.server.fault(close_after=archive.bytes // 3, times=2)
            self.works(d, h, archive)
            self.assertEqual(len(self.server.asked), 3)
            self.assertTrue(all(a[1] > 0 for a in self.server.asked[1:]), self.server.asked)

    def test_cut_at_any_byte_goes_on_there(self):
        cuts = [0, 1, 4095, 65537, self.tgz.bytes // 2]
        with self.box(self.section(self.tgz)) as (d, h):
            self.server.fault(cuts=list(cuts))
            self.works(d, h, self.tgz)
            self.assertEqual([a[1] for a in self.server.asked], [sum(cuts[:n]) for n in range(len(cuts) + 1)])

    def test_server_that_cannot_go_on_in_the_middle_is_asked_for_all(self):
        with self.box(self.section(self.tgz)) as (d, h):
            with open(self.tgz.path, "rb") as whole:
                h.put(f"{ENGINES_DIR}/ollama-{OLDER}.{self.tgz.sha256[:12]}.part", whole.read(100_000))
            self.server.fault(no_range=True)
            self.works(d, h, self.tgz)
            self.assertEqual([a[2] for a in self.server.asked], [200, 200])

    def test_download_that_stands_still_is_asked_for_again(self):
        with self.box(self.section(self.tgz), source="box") as (d, h):
            self.server.fault(stall_after=100_000, times=1)
            self.works(d, h, self.tgz)
            self.assertEqual([a[1] for a in self.server.asked], [0, 100_000])

    def test_redirects_are_followed_and_an_endless_row_is_not(self):
        with self.box(self.section(self.tgz), source="box") as (d, h):
            self.server.fault(redirect=9)
            self.assertIn("redirect", self.fails(d)["message"])
            self.server.fault(redirect=2)
            self.works(d, h, self.tgz)

    def test_a_wrong_hash_leaves_nothing_behind(self):
        with self.box(self.section(self.tgz), source="box") as (d, h):
            for fault, code in (({"flip": True}, "engine_damaged"), ({"html": True}, "engine_damaged"), ({"status": 404}, "engine_missing")):
                self.server.fault(**fault)
                error = self.fails(d)
                self.assertEqual((error["code"], error["exit"]), (code, 13), error)
                self.assertEqual(self.left(h), [], error)
                self.assertEqual(error["message"].count(". ") + 1, 1, error["message"])
            self.server.fault()
            self.works(d, h, self.tgz)

    def test_more_than_was_announced_is_not_taken(self):
        with self.box(self.section(self.tgz, bytes=100_000), source="box") as (d, h):
            self.assertEqual(self.fails(d)["code"], "engine_damaged")
            self.assertEqual(self.left(h), [])

    def test_archive_without_what_it_should_have(self):
        with self.box(self.section(self.tgz, tree="bin/ollama lib/ollama/cuda_v12")) as (d, h):
            error = self.fails(d)
            self.assertEqual(error["code"], "engine_damaged")
            self.assertIn("lib/ollama/cuda_v12 is not in", error["message"])
            self.assertNotIn("ollama-" + OLDER, self.left(h))

    def test_the_mirror_is_asked_first_and_the_hash_counts(self):
        mirrors = f"http://{hosts.lab.ADDRESS}:{self.server.port}/mirror/"
        with self.box(self.section(self.tgz, address="10.99.0.77"), mirror=mirrors) as (d, h):
            self.works(d, h, self.tgz)
            self.assertTrue(self.server.asked[0][0].startswith("/mirror/http://10.99.0.77"), self.server.asked)

    def test_the_proxy_of_the_provider_is_used_for_the_download_alone(self):
        with self.box(archives.section(self.tgz, "http://files.invalid/" + self.tgz.name)) as (d, h):
            h.put("/etc/network_turbo", f"export http_proxy=http://{hosts.lab.ADDRESS}:{self.server.port}\n".encode())
            self.works(d, h, self.tgz)
            self.assertEqual(self.server.asked[0][0], "http://files.invalid/" + self.tgz.name)
            with open(f"/proc/{h.pids('ollama serve')[0].outer_pid}/environ") as f:
                self.assertNotIn("proxy", f.read())


class Trouble(Install):
    """What goes on meanwhile."""

    def begin(self, d, h, rate_s=4):
        """An `up` whose download takes a while, and is under way."""
        self.server.fault(rate=self.tgz.bytes // rate_s)
        up = threading.Thread(target=lambda: d.ctl("up", DEEPSEEK, check=False, timeout=60))
        up.start()
        part = h.upper(ENGINES_DIR) + f"/ollama-{OLDER}.{self.tgz.sha256[:12]}.part"
        hosts.until(lambda: os.path.exists(part) and os.path.getsize(part) > self.tgz.bytes // 8, 10, "a part of it")
        return up

    def test_daemon_that_is_killed_finds_the_download_again(self):
        with self.box(self.section(self.tgz)) as (d, h):
            up = self.begin(d, h)
            d.kill()
            up.join()
            d.start()
            d.ctl("wait", DEEPSEEK, "--timeout", "30s", timeout=40)
            self.works(d, h, self.tgz)
            self.assertEqual(len(self.server.asked), 1, "one download")

    def test_a_lost_session_does_not_end_it(self):
        with self.box(self.section(self.tgz)) as (d, h):
            up = self.begin(d, h)
            h.run("pkill", "-f", "sshd: root")
            up.join()
            d.ctl("wait", DEEPSEEK, "--timeout", "30s", timeout=40)
            self.works(d, h, self.tgz)
            self.assertEqual(len(self.server.asked), 1, "one download")

    def test_two_ups_install_once(self):
        with self.box(self.section(self.tgz)) as (d, h):
            up = self.begin(d, h, 3)
            other = d.ctl("up", "ollama:other", check=False, timeout=60)
            up.join()
            self.assertIn("other", other.stdout + other.stderr)
            self.works(d, h, self.tgz)
            self.assertEqual(len(self.server.asked), 1, "one download")

    def test_two_daemons_install_once(self):
        with self.box(self.section(self.tgz)) as (d, h), \
                daemons.Daemon(**{"gateway": {"listen": "127.0.0.1:11500"},
                                  "engine.ollama": {"catalog": self.catalog(self.section(self.tgz))}}) as other:
            other.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
            up = self.begin(d, h, 3)
            other.ctl("up", DEEPSEEK, timeout=60)
            up.join()
            self.works(d, h, self.tgz)
            self.assertEqual(len(self.server.asked), 1, "one download")

    def test_power_cut_in_the_middle(self):
        with self.box(self.section(self.tgz)) as (d, h):
            up = self.begin(d, h)
            h.down()
            self.server.fault()
            h.up()
            self.registry.serve_host(h)
            up.join()
            d.ctl("wait", DEEPSEEK, "--timeout", "30s", timeout=40)
            self.works(d, h, self.tgz)
            self.assertGreater(self.server.asked[-1][1], 0, "it goes on where it was")

    def test_older_one_of_ours_is_replaced_when_it_does_not_run(self):
        catalog = self.catalog(self.section(self.tgz))
        with self.host(engines=[], disk=self.disk) as h, daemons.Daemon(**{"engine.ollama": {"catalog": catalog}}) as d:
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
            self.works(d, h, self.tgz)
            with open(catalog, "w") as f:
                f.write(self.section(self.zst))
            d.restart()
            d.ctl("wait", DEEPSEEK, "--timeout", "20s")
            self.assertEqual(self.left(h), ["ollama-" + OLDER], "what runs stays")
            d.ctl("down", DEEPSEEK)
            self.works(d, h, self.zst)
            # One that cannot be had is no reason not to serve.
            with open(catalog, "w") as f:
                f.write(self.section(self.zst._replace(version="0.99.0"), address="127.0.0.1", sha256="0" * 64))
            d.ctl("down", DEEPSEEK)
            self.works(d, h, self.zst)

    def test_what_nobody_can_verify_is_installed_when_it_is_said_so_and_shown_for_what_it_is(self):
        with self.box(self.section(self.tgz, sha256=None)) as (d, h):
            error = self.fails(d)
            self.assertEqual(error["code"], "engine_unverified")
            self.assertIn(f"llmhostctl up {DEEPSEEK} --unverified", error["next"])
            self.assertEqual((self.server.asked, self.left(h)), ([], []))
            self.assertEqual(self.up_engine(d, unverified=True), f"ollama {NEWER}, not verified")
            self.assertEqual(self.left(h), ["ollama-" + OLDER])
            self.assertTrue(d.model(DEEPSEEK)["engine_unverified"])
            self.assertRegex(d.ctl("status", DEEPSEEK).stdout, r"engine +ollama \S+ \(not verified\)")
            check = next(c for c in d.ctl("doctor", "gpu1", json=True)["checks"] if c["id"] == "engine.found")
            self.assertEqual(check["level"], "warn")
            self.assertIn("was not verified", check["message"])
            d.ctl("down", DEEPSEEK)
            d.restart(hard=True)
            d.ctl("up", DEEPSEEK)                       # it is there, and need not be let in again
            self.assertTrue(d.model(DEEPSEEK)["engine_unverified"])

    def test_version_nobody_knows_is_brought_from_here(self):
        unknown = archives.pack(self.dir, NEWER, "tgz", "0.31.9")
        with self.box(self.section(self.tgz), version="0.31.9", source="upload") as (d, h):
            error = self.fails(d)
            self.assertEqual(error["code"], "engine_unverified")
            self.assertIn("is not in the catalog, which has " + OLDER, error["message"])
            d.ctl("up", DEEPSEEK, "--unverified", timeout=60)
            self.assertEqual([os.path.basename(a[0]) for a in self.server.asked], [unknown.name])
            self.assertEqual(self.left(h), ["ollama-0.31.9"])
            self.assertTrue(d.model(DEEPSEEK)["engine_unverified"])

    def test_foreign_one_is_used_and_never_touched(self):
        catalog = self.catalog(self.section(self.tgz))
        with self.host(engines=["ollama-0.32.15"], disk=self.disk) as h, daemons.Daemon(**{"engine.ollama": {"catalog": catalog}}) as d:
            d.ctl("instance", "add", "gpu1", h.ssh_command, password=h.password)
            d.ctl("up", DEEPSEEK)
            self.assertEqual(d.model(DEEPSEEK)["state"], "ready")
            self.assertEqual((self.server.asked, self.left(h)), ([], []))


class SmallDisk(Install):
    def test_no_room_is_found_before_anything_is_copied(self):
        with self.box(self.section(self.tgz, unpacked=900_000_000)) as (d, h):
            error = self.fails(d)
            self.assertEqual(error["code"], "disk_full")
            self.assertRegex(error["message"], r"needs 9\d\d MB on the data disk of gpu1, and [\d.]+ MB are free")
            self.assertEqual((self.server.asked, self.left(h)), ([], []))

    def test_no_room_in_the_middle_leaves_nothing_behind(self):
        with self.box(self.section(self.tgz, unpacked=1000)) as (d, h):
            free_kb = int(h.run("df -Pk /root | tail -n 1").stdout.split()[3])
            h.run(f"dd if=/dev/zero of=/root/large bs=1k count={free_kb - (self.tgz.bytes + 8_000_000) // 1024}")
            error = self.fails(d)
            self.assertEqual(error["code"], "disk_full", error)
            self.assertEqual(self.left(h), [])
            h.run("rm /root/large")
            self.works(d, h, self.tgz)


class FromHere(Install):
    """The box cannot reach the source, this host can."""

    def here(self, archive, **change):
        return self.section(archive, address="127.0.0.1", **change)

    def test_brought_when_the_box_cannot_reach_it(self):
        with self.box(self.here(self.zst)) as (d, h):
            self.server.fault(close_after=self.zst.bytes // 2, times=1)
            self.works(d, h, self.zst)
            self.assertEqual([a[1] for a in self.server.asked], [0, self.zst.bytes // 2])

    def test_packed_anew_for_a_box_without_zstd(self):
        with self.box(self.here(self.zst), without=["zstd", "curl", "wget"]) as (d, h):
            self.works(d, h, self.zst)

    def begin(self, d, h):
        """An upload that takes a while, and is under way."""
        h.fault("rate", 60_000)
        up = threading.Thread(target=lambda: d.ctl("up", DEEPSEEK, check=False, timeout=60))
        up.start()
        part = h.upper(ENGINES_DIR) + f"/ollama-{OLDER}.{self.tgz.sha256[:12]}.part"
        hosts.until(lambda: os.path.exists(part) and os.path.getsize(part) > 300_000, 20, "a part of it", 0.002)
        return up, os.path.getsize(part), part

    def test_upload_goes_on_after_a_lost_session(self):
        with self.box(self.here(self.tgz), source="upload") as (d, h):
            up, had, part = self.begin(d, h)
            h.run("pkill", "-f", "sshd: root")
            hosts.until(lambda: not os.path.exists(part) or os.path.getsize(part) >= had, 1, "what was there stays")
            up.join()
            d.ctl("wait", DEEPSEEK, "--timeout", "30s", timeout=40)
            self.works(d, h, self.tgz)

    def test_upload_goes_on_with_the_next_daemon(self):
        with self.box(self.here(self.tgz), source="upload") as (d, h):
            up, had, part = self.begin(d, h)
            d.kill()
            up.join()
            d.start()
            sizes = []
            hosts.until(lambda: self.state(d) == "ready" or (os.path.exists(part) and sizes.append(os.path.getsize(part))), 60, "ready", 0.01)
            self.assertGreaterEqual(min(sizes), had, "from where it was")
            self.works(d, h, self.tgz)
            self.assertEqual(len(self.server.asked), 1, "what is here is not fetched again")

    def test_no_room_while_it_is_brought(self):
        with self.box(self.here(self.tgz, unpacked=1000), source="upload") as (d, h):
            free_kb = int(h.run("df -Pk /root | tail -n 1").stdout.split()[3])
            large = threading.Thread(target=lambda: h.run(f"dd if=/dev/zero of=/root/large bs=1k count={free_kb}", check=False))
            up, had, part = self.begin(d, h)
            large.start()
            large.join()
            up.join()
            self.assertEqual(self.state(d), "failed")
            self.assertEqual(d.model(DEEPSEEK)["trouble"]["code"], "disk_full")
            self.assertEqual(self.left(h), [])
            h.run("rm /root/large")
            self.works(d, h, self.tgz)

    def test_two_models_bring_it_once(self):
        with self.box(self.here(self.tgz), source="upload") as (d, h):
            up, had, part = self.begin(d, h)
            d.ctl("up", "ollama:other", check=False, timeout=60)
            up.join()
            self.works(d, h, self.tgz)
            self.assertEqual(len(self.server.asked), 1)

    def test_neither_side_can(self):
        with self.box(self.section(self.tgz, address="127.0.0.1")) as (d, h):
            self.server.fault(status=404)
            error = self.fails(d)
            self.assertEqual(error["code"], "engine_missing")
            self.assertRegex(error["message"], r"127\.0\.0\.1.*\(from there\).*404.*\(from here\)")
            self.assertEqual(self.left(h), [])

    def test_zst_and_nobody_has_zstd_on_the_box_alone(self):
        with self.box(self.section(self.zst), without=["zstd"], source="box") as (d, h):
            error = self.fails(d)
            self.assertIn("install the package zstd on gpu1", error["message"])
            self.assertEqual(self.server.asked, [])


class Unfit(Install):
    """Refused in one sentence before anything is copied."""

    def refused(self, program, text, says):
        with self.box(self.section(self.tgz)) as (d, h):
            h.put("/usr/local/bin/" + program, text.encode())
            h.run("chmod", "755", "/usr/local/bin/" + program)
            error = self.fails(d)
            self.assertEqual((error["code"], error["exit"]), ("engine_unfit", 13))
            self.assertRegex(error["message"], says)
            self.assertEqual(error["message"].count(". ") + 1, 1, error["message"])
            self.assertEqual((self.server.asked, self.left(h)), ([], []))

    def test_an_npu(self):
        self.refused("npu-smi", "#!/bin/sh\n", "gpu1 has an Ascend NPU")

    def test_an_architecture_the_catalog_has_not(self):
        self.refused("uname", "#!/bin/sh\necho riscv64\n", "no ollama for the architecture of gpu1 .riscv64.")
