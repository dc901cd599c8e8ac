"""The guard of daemon/guard/guard.sh on real boxes, without a daemon: each story in dash, bash and busybox's ash. Whatever ends the
asking, the box ends itself not before its lease and at most two periods and the stop itself after it (at full size: lease + 40 s)."""
import concurrent.futures
import functools
import os
import random
import shlex
import sys
import time
import unittest

import guarded
import host as hosts
from guarded import Box, uptime

LIMIT_S = 240
BUSY_S = 2.5            # what this machine may take for a turn with all the others around
check = unittest.TestCase()
begun = {}
pool = concurrent.futures.ThreadPoolExecutor(12)


def in_shells(*shells):
    """A test from a story told once for each shell. All that were asked for go on at once: they mostly wait."""
    def made(story):
        @functools.wraps(story)
        def test(self):
            for shell in shells:
                with self.subTest(shell):
                    begin(story, shell).result()
        test.story, test.shells = story, shells
        return test
    return made


in_each_shell = in_shells(*guarded.SHELLS)


def begin(story, shell):
    if (story, shell) not in begun:
        begun[story, shell] = pool.submit(told, story, shell)
    return begun[story, shell]


def told(story, shell):
    boxes = []

    def box(**more):
        boxes.append(Box(shell, **more))
        return boxes[-1]
    try:
        story(box)
    finally:
        for b in boxes:
            guarded.close(b)


class Stories(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for name in unittest.defaultTestLoader.getTestCaseNames(cls):
            test = getattr(cls, name)
            if hasattr(test, "story") and (not sys.argv[2:] or any(n in f"test_guard.{cls.__name__}.{name}" for n in sys.argv[2:])):
                for shell in test.shells:
                    begin(test.story, shell)


def off_in_time(box, end, period=1, late_s=0):
    """Off because of END, neither before it nor much later."""
    at = box.off(limit_s=end - uptime() + 2 * period + late_s + 5 + BUSY_S)
    check.assertGreaterEqual(at, end)
    check.assertLessEqual(at, end + 2 * period + late_s + BUSY_S)


class Ends(Stories):
    """Nobody renews."""

    @in_each_shell
    def test_nobody_ever_asks(box):
        b = box()
        record = b.guard(first=2)
        check.assertEqual((record.owner, record.seq, record.state), ("-", 0, "first"))
        off_in_time(b, record.lease)

    @in_each_shell
    def test_renewals_end(box):
        """The daemon was killed: off at the end of the last lease, at full size within lease + 40 s."""
        b = box()
        b.guard(period=2)
        for seq in range(1, 4):
            record = b.renew("me", seq, 3)
            check.assertEqual((record.owner, record.seq, record.state, record.note), ("me", seq, "lease", "ok"))
            check.assertLessEqual(abs(record.lease - uptime() - 3), 1 + BUSY_S)
            time.sleep(1.2)
        off_in_time(b, b.record().lease, period=2)
        check.assertEqual(b.notes()[0][1], "/usr/bin/shutdown")

    @in_each_shell
    def test_lease_can_be_shortened_to_nothing(box):
        """The daemon's own stop when the provider's API is down."""
        b = box()
        b.guard(period=30)
        b.renew("me", 1, 900)
        asked = uptime()
        check.assertIn(b.ask("me", 2, 0)[0], (0, -9))       # the answer may go down with the box
        check.assertLess(b.off(5) - asked, 1 + BUSY_S)

    @in_each_shell
    def test_nothing_taken_once_it_acts(box):
        """Renewals that race the deadline: the first that is refused is followed by the stop, none is taken after it."""
        b = box(stops=())
        for stop in guarded.STOPS:
            b.stub(stop, "#!/bin/sh\nread -r t rest </proc/uptime\necho $t >>/root/off\n")
        for number in range(4):
            b.host.run("rm -f /dev/shm/.llmhost-* /root/off")
            b.guard(period=2)
            b.renew("me", 1, 2)
            statuses = []
            while 1 not in statuses[:-2]:
                time.sleep(random.choice((0.1, 0.5, 1.1, 1.9, 2.3)) if 1 not in statuses else 0.3)
                if len(statuses) == 4 and 1 not in statuses:
                    time.sleep(2)               # this one is late
                statuses.append(b.ask("me", len(statuses) + 2, 2)[0])
            first = statuses.index(1)
            check.assertEqual(statuses, [0] * first + [1] * (len(statuses) - first))
            record = b.record()
            check.assertEqual((record.state, record.seq), ("acting", first + 1))
            check.assertRegex(record.note, r"^no:late:me:\d+$")
            check.assertTrue(b.notes())
            for p in b.host.pids(r"\.llmhost\.sh"):
                os.kill(p.outer_pid, 9)

    @in_each_shell
    def test_late_is_late_before_the_guard_has_looked(box):
        b = box(stops=())
        b.stub("/usr/bin/shutdown", "#!/bin/sh\nexit 0\n")
        b.guard(period=30)
        lease = b.renew("me", 1, 2).lease
        hosts.until(lambda: uptime() >= lease + 0.2, 5, "the deadline")
        check.assertEqual(b.record().state, "lease")
        status, record = b.ask("me", 2, 600)
        check.assertEqual((status, record.state, record.note, record.seq), (1, "acting", "no:late:me:2", 1))


class Requests(Stories):
    """What is refused, and how that is told."""

    @in_each_shell
    def test_old_lease_replayed(box):
        b = box()
        b.guard(first=20)
        b.renew("me", 1, 600)
        old = b.text("/dev/shm/.llmhost-ask")
        record = b.renew("me", 2, 4)
        b.host.put("/dev/shm/.llmhost-ask", old)
        b.host.run(f"kill -USR1 {record.pid}")
        refused = b.wait(lambda r: r.note == "no:seq:me:1", 3, "the old lease refused")
        check.assertEqual((refused.seq, refused.lease), (2, record.lease))
        check.assertEqual(b.ask("me", 1, 600)[0], 1)
        check.assertEqual(b.ask("me", 2, 600)[1].lease, record.lease)       # its answer is the record, which names what was taken
        b.wait(lambda r: (r.note, r.lease) == ("no:seq:me:2", record.lease), 3, "the same number refused")
        off_in_time(b, record.lease)

    @in_each_shell
    def test_another_owner(box):
        b = box()
        b.guard()
        b.renew("me", 7, 60)
        status, record = b.ask("you", 8, 60)
        check.assertEqual((status, record.note, record.owner), (1, "no:owner:you:8", "me"))
        status, record = b.ask("you", 8, 60, "=", 0, "take")
        check.assertEqual((status, record.note, record.owner, record.seq), (0, "ok", "you", 8))
        status, record = b.ask("me", 9, 60)
        check.assertEqual((status, record.note, record.owner), (1, "no:owner:me:9", "you"))
        check.assertEqual(b.ask("you", 9, 60)[0], 0)

    @in_each_shell
    def test_earlier_refusal_of_the_same_number_is_no_answer(box):
        b = box()
        record = b.guard()
        b.renew("me", 7, 60)
        check.assertEqual(b.ask("you", 8, 60)[0], 1)
        b.host.run(f"kill -STOP {record.pid}")
        with concurrent.futures.ThreadPoolExecutor(1) as one:
            asked = one.submit(b.ask, "you", 8, 60, "=", 0, "take")
            hosts.until(lambda: b.text("/dev/shm/.llmhost-ask").endswith("take .\n"), 5, "the request")
            time.sleep(0.3)
            b.host.run(f"kill -CONT {record.pid}")
            check.assertEqual(asked.result()[0], 0)

    @in_each_shell
    def test_what_is_not_a_request(box):
        b = box()
        b.guard()
        taken = b.renew("me", 1, 60)
        for words in (("me", 2, 1900), ("me", 2, 60, 604900)):
            status, record = b.ask(*words)
            check.assertEqual((status, record.note, record.lease), (1, "no:range:me:2", taken.lease))
        for words in (("-", 2, 60), ("a b", 2, 60), ("o" * 33, 2, 60), ("", 2, 60), ("me", "2x", 60), ("me", 2, -1), ("me", 2, "9" * 13),
                      ("me", 2, 60, "*"), ("me", 2, 60, 5, "$(id)"), ("me", 2, 60, "=", 0, "give")):
            check.assertEqual(b.ask(*words)[0], 64, words)
        whole = b.text("/dev/shm/.llmhost-ask").rstrip().replace(" me 2 ", " me 3 ")
        for half in (whole[:-2], whole[:-2] + "\n", whole, whole.replace("llmhost1", "llmhost2") + "\n", "\n", "", "* * *\n" * 400,
                     whole.replace(" 3 ", " -3 ") + "\n", "x" * 100000 + "\n", whole.replace(" me ", " me me ") + "\n"):
            b.host.put("/dev/shm/.llmhost-ask", half)
            b.host.run(f"kill -USR1 {taken.pid}")
        time.sleep(1.5)
        record = b.record()
        check.assertEqual((record.pid, record.seq, record.lease), (taken.pid, 1, taken.lease))
        check.assertEqual(b.ask("me", 2, 60)[0], 0)
        other = b.text("/dev/shm/.llmhost-ask").split()
        other[1] = "00000000-0000-0000-0000-000000000000"
        other[4] = "3"
        b.host.put("/dev/shm/.llmhost-ask", " ".join(other) + "\n")
        b.host.run(f"kill -USR1 {taken.pid}")
        b.wait(lambda r: r.note == "no:boot:me:3" and r.seq == 2, 3, "a request of another boot refused")

    @in_each_shell
    def test_no_guard_to_ask(box):
        b = box()
        check.assertEqual(b.ask("me", 1, 60), (2, None))
        record = b.guard()
        b.renew("me", 1, 60)
        b.host.run(f"kill -KILL {record.pid}")
        asked = time.monotonic()
        status, last = b.ask("me", 2, 60)
        check.assertEqual((status, last.seq), (2, 1))
        check.assertLess(time.monotonic() - asked, BUSY_S)


class Holds(Stories):
    @in_each_shell
    def test_hold_outlives_the_lease_and_ends(box):
        b = box()
        b.guard()
        b.renew("me", 1, 1, hold=5)
        held = b.record()
        check.assertEqual(b.renew("me", 2, 1).hold, held.hold)         # handed on unchanged
        check.assertGreater(held.hold, held.lease + 3)
        off_in_time(b, held.hold)

    @in_each_shell
    def test_hold_ends_some_time_after_its_process(box):
        b = box()
        b.guard(grace=3)
        job = int(b.host.run("sleep 600 >/dev/null 2>&1 & echo $!").stdout)
        record = b.renew("me", 1, 1, hold=600, hpid=job)
        check.assertEqual((record.hpid > 0, record.hborn > 0), (True, True))
        check.assertEqual(b.renew("me", 2, 1).hpid, job)
        time.sleep(3)
        check.assertFalse(b.is_off())
        b.host.run(f"kill -KILL {job}")
        gone = uptime()
        record = b.wait(lambda r: r.hpid == 0, 3 + BUSY_S, "the end of the job noticed")
        check.assertLessEqual(abs(record.hold - gone - 3), 2 + BUSY_S)
        check.assertEqual(b.renew("me", 3, 1).hold, record.hold)
        off_in_time(b, record.hold)

    @in_each_shell
    def test_process_that_never_was(box):
        b = box()
        b.guard(grace=3)
        b.renew("me", 1, 1, hold=600, hpid=99999)
        record = b.wait(lambda r: r.hpid == 0, 3 + BUSY_S, "no such process")
        check.assertLess(record.hold, uptime() + 4)
        off_in_time(b, record.hold)


class Killed(Stories):
    @in_each_shell
    def test_signals_and_a_new_script_do_not_end_it(box):
        b = box()
        record = b.guard()
        for name in ("HUP", "INT", "TERM", "QUIT", "PIPE"):
            b.host.run(f"kill -{name} {record.pid}")
        b.host.run("printf 'exit 9\\n' >/dev/shm/.llmhost.sh; rm -rf /dev/shm/* /dev/shm/.llmhost.sh")
        b.put_script()
        check.assertEqual(b.renew("me", 1, 3).pid, record.pid)
        b.host.run("rm -f /dev/shm/.llmhost*")
        b.wait(lambda r: r.pid == record.pid and r.seq == 1, 3 + BUSY_S, "its record anew")
        b.put_script()
        off_in_time(b, b.renew("me", 2, 3).lease)

    @in_each_shell
    def test_the_next_one_inherits(box):
        b = box()
        first = b.guard(first=5)
        b.renew("me", 5, 60, hold=90)
        before = b.record()
        b.host.run(f"kill -KILL {first.pid}")
        check.assertEqual(b.ask("me", 6, 60)[0], 2)
        record = b.guard(first=1)
        record = b.wait(lambda r: r.pid != first.pid, 5, "a new guard")
        check.assertEqual((record.owner, record.hold, record.state), ("me", before.hold, "lease"))
        status, record = b.ask("me", 6, 60)
        check.assertEqual((status, record.seq), (0, 6))
        check.assertEqual(b.ask("you", 9, 60)[0], 1)
        check.assertEqual(b.ask("me", 5, 60)[0], 1)

    @in_each_shell
    def test_one_that_is_started_beside_a_living_one_replaces_it(box):
        b = box()
        first = b.guard()
        taken = b.renew("me", 1, 60)
        b.guard(first=1)
        record = b.wait(lambda r: r.pid != first.pid, 5, "a new guard")
        check.assertEqual((record.owner, record.seq, record.lease, record.note), ("me", 1, taken.lease, "ok"))
        hosts.until(lambda: len(b.guards()) == 1, 5, "one guard")
        check.assertEqual(b.ask("me", 2, 60)[0], 0)

    @in_each_shell
    def test_thirteen_at_once(box):
        """One remains, and it acts."""
        b = box()
        b.guard(first=6, count=13)
        hosts.until(lambda: len(b.guards()) == 1, 5 + 3 * BUSY_S, "one guard")
        record = b.wait(lambda r: r.pid == b.guards()[0].pid, 5, "its record")
        off_in_time(b, record.lease)

    @in_each_shell
    def test_second_dog_covers_for_one_that_was_killed(box):
        """first.sh with a period of 1 s for 20, and 3 s for the 60 it waits longer than the guard."""
        b = box()
        b.host.run(short_dog(60) + "\n")
        record = b.guard()
        lease = b.renew("me", 1, 3).lease
        b.host.run(f"kill -KILL {record.pid}")
        off_in_time(b, lease + 3)

    @in_each_shell
    def test_second_dog_leaves_a_guarded_box_alone_and_ends_an_unguarded_one(box):
        b, alone = box(), box()
        due = int(uptime()) + 3
        for each in (b, alone):
            each.host.run(short_dog(3) + "\n")
        b.guard(first=60)
        b.renew("me", 1, 30)
        off_in_time(alone, due)
        check.assertFalse(b.is_off())

    @in_each_shell
    def test_no_room_for_another_process(box):
        """It cannot nap, and lives on: takes, refuses, acts; and naps again when there is room."""
        b = box(user=61000 + os.getpid() % 1000 + next(guarded.numbers))
        b.words = functools.partial(limited, b.user)
        record = b.guard()
        filler = b.host.start("setpriv", f"--reuid={b.user}", "sleep", "600")
        time.sleep(2.5)
        b.words = functools.partial(Box.words, b)
        now = b.wait(lambda r: r.beat >= uptime() - 1, 20 + BUSY_S, "a beat")      # bash itself tries again for 15 s
        check.assertEqual((now.pid, now.born, now.state), (record.pid, record.born, "first"))
        check.assertEqual([p.pid for p in b.guards()], [record.pid])
        if b.shell != "bash":
            check.assertEqual(b.ask("me", 1, 60)[0], 0)
        b.host.run("kill %d" % b.host.pids("^sleep 600$")[0].pid)
        filler.wait()
        hosts.until(lambda: any(b.parent(p.outer_pid) == b.guards()[0].outer_pid for p in b.host.pids("^sleep 1$")), 20, "a nap")


def limited(user, *words):
    """As USER, who may have two processes: the guard and its nap."""
    return ["prlimit", "--nproc=2:2", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] + list(words)


def short_dog(first_s):
    text = guarded.source("first.sh")
    for full, short in (("FIRST", str(first_s)), ("sleep 20", "sleep 1"), ("e+60", "e+3")):
        if text.count(full) != 1:
            raise AssertionError(f"first.sh has not one {full}")
        text = text.replace(full, short)
    return text


class Adversity(Stories):
    @in_each_shell
    def test_root_disk_full(box):
        b = box()
        b.guard()
        b.host.run("cat /dev/zero >/root/fill 2>/dev/null; cat /dev/zero >/tmp/fill 2>/dev/null", check=False)
        check.assertNotEqual(b.host.run("echo x >/root/more", check=False).returncode, 0)
        b.renew("me", 1, 3)
        time.sleep(1)
        off_in_time(b, b.renew("me", 2, 4).lease)

    @in_each_shell
    def test_its_own_file_system_full(box):
        b = box()
        b.guard()
        b.renew("me", 1, 3)
        b.host.run("cat /dev/zero >/dev/shm/fill 2>/dev/null", check=False)
        check.assertNotEqual(b.host.run("cat /dev/zero >/dev/shm/more", check=False).returncode, 0)
        time.sleep(1)
        for seq in (2, 3):
            lease = b.renew("me", seq, 4).lease
            time.sleep(1)
        off_in_time(b, lease)

    @in_shells("dash", "bash")                  # a static busybox would not load the clock that is moved
    def test_wall_clock_moves_a_month(box):
        b = box()
        library = "/dev/shm/clock.so"
        made = f"{b.host.dir}/clock.so"
        hosts.command("gcc", "-shared", "-fPIC", "-o", made, hosts.HERE + "/clock.c")
        with open(made, "rb") as f:
            b.host.put(library, f.read(), 0o755)
        b.host.put("/dev/shm/moved", "0\n")
        b.guard(env=f"LD_PRELOAD={library} CLOCK_MOVED=/dev/shm/moved")
        lease = b.renew("me", 1, 6).lease
        for days in (30, -30, 0):
            b.host.put("/dev/shm/moved", f"{days * 86400}\n")
            shown = b.host.run(f"LD_PRELOAD={library} CLOCK_MOVED=/dev/shm/moved date +%s").stdout
            check.assertLess(abs(int(shown) - days * 86400 - uptime()), 5)
            time.sleep(1.2)
            check.assertFalse(b.is_off())
        off_in_time(b, lease)

    @in_each_shell
    def test_uptime_cannot_be_read(box):
        """The naps are counted: on time but for a period; also when it never could be read."""
        b, blind = box(), box()
        lease = b.guard() and b.renew("me", 1, 6).lease
        for each in (b, blind):
            each.host.run("mount --bind /dev/null /proc/uptime")
            check.assertEqual(each.host.run("cat /proc/uptime").stdout, "")
        started = uptime()
        blind.guard(first=2)
        blind.renew("me", 1, 5)
        check.assertEqual(b.renew("me", 2, 6).seq, 2)
        lease = max(lease, b.record().lease)
        for each in (blind, b):
            each.off(20)
        check.assertLess(lease - 1.5, uptime())
        check.assertLess(uptime(), started + 6 + 2 + 2 * BUSY_S + 3)

    @in_each_shell
    def test_uptime_goes_back(box):
        """As when what made it up for the container is gone."""
        b = box()
        b.guard()
        lease = b.renew("me", 1, 5).lease
        b.host.run("echo 12.34 56.78 >/dev/shm/uptime && mount --bind /dev/shm/uptime /proc/uptime")
        time.sleep(1)
        b.off(5 + 2 + 5 + BUSY_S)
        check.assertLess(abs(uptime() - lease), 3 + 2 * BUSY_S)

    @in_each_shell
    def test_frozen_over_the_deadline(box):
        b = box()
        b.guard()
        lease = b.renew("me", 1, 2).lease
        b.host.fault("freeze")
        time.sleep(max(0, lease - uptime()) + 2)
        check.assertFalse(b.is_off())
        thawed = uptime()
        b.host.fault("thaw")
        b.off(5 + BUSY_S)
        check.assertLess(uptime() - thawed, 1 + BUSY_S)

    @in_each_shell
    def test_container_restarted_with_its_files(box):
        """Old files, the same boot, another first process: the old lease and the old request count for nothing."""
        b = box(folder="/root")
        b.guard()
        b.renew("me", 4, 600, hold=600)
        old = b.record()
        b.host.down()
        b.host.up()
        check.assertEqual(b.text("/root/.llmhost-guard").split()[1], old.boot)
        check.assertEqual(b.ask("me", 5, 600)[0], 2)
        record = b.guard(first=5)
        record = b.wait(lambda r: r.state == "first" and r.seq == 0, 3, "a first guard")
        check.assertEqual((record.boot, record.owner, record.hold), (old.boot, "-", 0))
        check.assertNotEqual(record.init, old.init)
        b.wait(lambda r: r.note == "no:boot:me:4", 3, "the old request refused")
        off_in_time(b, record.lease)


class Stops(Stories):
    """The command that stops the box."""

    @in_each_shell
    def test_one_that_hangs(box):
        b = box(stops=())
        b.stub("/usr/bin/shutdown", "#!/bin/sh\nread -r t rest </proc/uptime\necho $t $* >>/root/off\nsleep 1000\n")
        lease = b.guard(first=2).lease
        at = b.off(2 + 5 + 2 * BUSY_S)
        check.assertGreaterEqual(at, lease)
        check.assertEqual([n[1:] for n in b.notes()], [[], ["-h", "now"]])
        check.assertLess(uptime(), lease + 4 + 2 * BUSY_S)

    @in_each_shell
    def test_none_at_all(box):
        """What is not there is not tried: the first process is asked to end at once."""
        b = box(stops=())
        record = b.guard(first=2)
        check.assertEqual(record.ways, "root:kill")
        b.off(2 + 2 + 2 * BUSY_S)
        check.assertLess(uptime(), record.lease + 2 + 2 * BUSY_S)

    @in_each_shell
    def test_one_that_does_nothing(box):
        b = box(stops=())
        for stop in guarded.STOPS:
            b.stub(stop, "#!/bin/sh\nread -r t rest </proc/uptime\necho $t \"$0\" $* >>/root/off\nexit 1\n")
        record = b.guard(first=2)
        check.assertEqual(record.ways, "root:/usr/bin/shutdown,shutdown,poweroff,kill")
        b.off(2 + 5 + 3 * BUSY_S)
        tried = [n[1:] for n in b.notes()]
        check.assertEqual((tried[0], tried[1][1:], os.path.basename(tried[2][0]), len(tried)), (["/usr/bin/shutdown"], ["-h", "now"], "poweroff", 3))

    @in_each_shell
    def test_without_root(box):
        """It says so, tries for ever, and refuses; the box stays on."""
        b = box(user=65534)
        b.host.run("chmod -x /usr/bin/sudo 2>/dev/null; rm -f /usr/bin/sudo")
        record = b.guard(first=1)
        check.assertEqual(record.ways, "none:/usr/bin/shutdown,shutdown,kill")
        record = b.wait(lambda r: r.tries >= 4, 8 + 3 * BUSY_S, "four tries")
        check.assertEqual(record.state, "acting")
        check.assertEqual(b.ask("me", 1, 60)[0], 1)
        check.assertFalse(b.is_off())

    @in_each_shell
    def test_with_sudo(box):
        b = box(user=65534)
        b.host.put("/etc/hosts", f"127.0.0.1 localhost {b.host.name}\n")       # sudo looks for its name, for long
        b.host.put("/etc/sudoers.d/llmhost", "nobody ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        record = b.guard(first=2)
        check.assertEqual(record.ways, "sudo:/usr/bin/shutdown,shutdown,kill")
        off_in_time(b, record.lease)


class Asked(Stories):
    """As the daemon does it (guard.c), and what it makes of the answers."""

    @in_each_shell
    def test_installed_read_killed_and_installed_again(box):
        b = box(bare=True)
        check.assertEqual(b.daemon("read"), "missing ok 0 - root - 0".split())
        check.assertEqual(b.daemon("ask", "me", 1, 60, 0, 0)[0], "missing")
        words = b.daemon("install", 60, "me", 1, 600, 0, 0)
        check.assertEqual(words[:2] + words[3:], "taken ok /dev/shm root me 1".split())
        check.assertGreater(int(words[2]), 600 - 3 - BUSY_S)
        check.assertEqual(b.daemon("ask", "me", 2, 900, 1200, 0)[0], "taken")
        words = b.daemon("read")
        check.assertEqual(words[:2] + words[3:], "taken ok /dev/shm root me 2".split())
        check.assertGreater(int(words[2]), 1200 - 5 - BUSY_S)
        check.assertEqual(b.daemon("ask", "you", 3, 60, "=", 0)[:2], ["refused", "owner"])
        check.assertEqual(b.daemon("ask", "me", 1, 60, "=", 0)[:2], ["refused", "seq"])
        check.assertEqual(b.daemon("ask", "you", 3, 60, "=", 0, "take")[:2], ["taken", "ok"])
        b.kill_guard()
        check.assertEqual((b.daemon("read")[0], b.daemon("ask", "you", 4, 60, "=", 0)[0]), ("missing", "missing"))
        check.assertEqual(b.daemon("install", 60, "me", 4, 60, "=", 0)[:2], ["refused", "owner"])
        words = b.daemon("install", 60, "you", 4, 60, "=", 0)
        check.assertEqual((words[0], words[5:]), ("taken", ["you", "4"]))
        check.assertGreater(int(words[2]), 1000)                # the hold was inherited

    @in_each_shell
    def test_it_tells_when_a_terminal_was_typed_into(box):
        b = box(bare=True)

        def typed():
            said = b.host.run("set -- read\n" + guarded.source("box.sh")).stdout
            return [int(line[6:]) for line in said.splitlines() if line.startswith("typed=")]
        check.assertEqual(typed(), [], "there is none")
        b.host.run("setsid script -qc 'sleep 300' /dev/null </dev/zero >/dev/null 2>&1 &")
        hosts.until(lambda: b.host.pids("^sleep 300"), 5, "a terminal")
        (age,) = typed()
        check.assertLess(age, 9 + BUSY_S)       # the system's clock of it goes in steps of 8 s
        b.host.run("touch -ad '1 hour ago' /dev/pts/[0-9]*")
        (age,) = typed()
        check.assertTrue(3590 < age < 3600 + BUSY_S, age)
        b.host.run("mkdir /root/bin; ln -s /bin/false /root/bin/stat")
        check.assertNotIn("typed", b.host.run("PATH=/root/bin:$PATH; set -- read\n" + guarded.source("box.sh")).stdout)

    @in_each_shell
    def test_released_nothing_of_it_is_left(box):
        b = box(bare=True)
        check.assertEqual(b.daemon("release", "me")[0], "missing")
        b.host.run(guarded.source("first.sh").replace("FIRST", "1800") + "\n")
        check.assertEqual(b.daemon("install", 60, "me", 1, 2, 0, 0)[0], "taken")
        check.assertEqual(b.daemon("install", 60, "me", 2, 600, 0, 0)[0], "taken")
        check.assertEqual(b.daemon("release", "you")[0], "refused")
        check.assertEqual(len(b.guards()), 1)
        check.assertEqual(b.daemon("release", "me")[0], "missing")
        check.assertEqual((b.guards(), b.host.pids(r"llmhost-first$")), ([], []))
        check.assertEqual(b.host.run("ls -A /dev/shm").stdout, "")
        check.assertEqual(b.daemon("install", 60, "you", 1, 60, 0, 0)[0], "taken")      # as if none had been there

    @in_each_shell
    def test_places_and_the_second_dog(box):
        """It stays beside a guard in /dev/shm that it understands, and is ended beside any other."""
        dogs = r"llmhost-first$"
        usual, old, away = box(bare=True), box(bare=True), box(bare=True)
        for b in (usual, old, away):
            text = guarded.source("first.sh").replace("FIRST", "1800")
            b.host.run((text.replace("llmhost1", "llmhost0") if b is old else text) + "\n")
            hosts.until(lambda: b.host.pids(dogs), 5, "a dog")
        away.host.run("umount /dev/shm")
        old.host.run("touch /dev/shm/.llmhost.sh.new; ln -sf /root/elsewhere /dev/shm/.llmhost.sh")
        for b, folder, kept in ((usual, "/dev/shm", True), (old, "/dev/shm", False), (away, "/run", False)):
            check.assertEqual(b.daemon("install", 60, "me", 1, 60, 0, 0)[3], folder)
            check.assertEqual(bool(b.host.pids(dogs)), kept, folder)
        check.assertEqual(old.host.run("ls /root/elsewhere", check=False).stdout, "")
        check.assertEqual(away.daemon("ask", "me", 2, 60, 0, 0)[:2], ["taken", "ok"])
        usual.host.run("cat /dev/zero >/dev/shm/fill 2>/dev/null", check=False)
        usual.kill_guard()
        check.assertEqual(usual.daemon("install", 60, "me", 2, 60, 0, 0)[:5:3], ["taken", "/dev/shm"])

    @in_each_shell
    def test_no_room_in_dev_shm(box):
        b = box(bare=True)
        b.host.run("cat /dev/zero >/dev/shm/fill 2>/dev/null", check=False)
        check.assertEqual(b.daemon("install", 60, "me", 1, 60, 0, 0)[:5:3], ["taken", "/run"])
        check.assertEqual(b.host.run("ls -A /dev/shm").stdout.split(), ["fill"])

    @in_each_shell
    def test_container_restarted_under_the_daemon(box):
        b = box(bare=True)
        check.assertEqual(b.daemon("install", 60, "me", 9, 60, 0, 0)[0], "taken")
        b.host.down()
        b.host.up()
        check.assertEqual(b.daemon("ask", "me", 10, 60, 0, 0)[0], "missing")
        check.assertEqual(b.daemon("install", 60, "me", 10, 60, 0, 0)[0], "taken")

    @in_each_shell
    def test_who_cannot_stop_it_does_not_count(box):
        b, sudo = box(bare=True, user=65534), box(bare=True, user=65534)
        b.host.run("rm -f /usr/bin/sudo")
        check.assertEqual(b.daemon("install", 60, "me", 1, 60, 0, 0), "does not count ok 0 - none - 0".split())
        check.assertFalse(b.guards())
        sudo.host.put("/etc/hosts", f"127.0.0.1 localhost {sudo.host.name}\n")
        check.assertEqual(sudo.daemon("install", 60, "me", 1, 60, 0, 0)[0], "does")         # sudo asks for a password
        sudo.host.put("/etc/sudoers.d/llmhost", "nobody ALL=(ALL) NOPASSWD: ALL\n", 0o440)
        words = sudo.daemon("install", 60, "me", 1, 60, 0, 0)
        check.assertEqual(words[:2] + words[3:], "taken ok /dev/shm sudo me 1".split())

    @in_each_shell
    def test_login_shells_and_logout(box):
        """All of it goes as standard input of "exec sh -s", whatever the login shell; what was started outlives the session."""
        b = box(bare=True)
        seq = 0
        for login in ("/bin/bash", "/bin/csh", "/usr/bin/fish"):
            if not os.path.exists(login):
                continue
            seq += 1
            b.host.run(f"usermod -s {login} root")
            script = "text=%s\nset -- install 60 me %d 600 0 0\n%s" % (shlex.quote(guarded.source("guard.sh")), seq, guarded.source("box.sh"))
            said = hosts.command("sshpass", "-p", b.host.password, "ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                                 "-o", "LogLevel=ERROR", f"root@{b.host.ip}", "exec sh -s", input=script, timeout=30)
            check.assertIn("said=0\n", said, login)
            check.assertIn("\nok=", said, login)
            hosts.until(lambda: len(b.guards()) == 1, 10, "one guard")
        time.sleep(1.5)
        off_in_time(b, b.renew("me", seq + 1, 3).lease, period=20)


class Kept(Stories):
    """By keeper.c, whose renewals are as many as a lease has thirds; the period of an installed guard is 20 s."""

    @in_each_shell
    def test_renewed_put_there_again_and_off_when_its_keeper_dies(box):
        b = box(bare=True)
        keeper = b.keeper("me", 6)
        keeper.says("kept - me")
        first = b.record()
        b.wait(lambda r: r.seq >= first.seq + 4 and r.lease > first.lease + 5, 12 + BUSY_S, "renewed beyond its first lease")
        b.kill_guard()
        again = b.wait(lambda r: r.pid != first.pid and r.seq > first.seq, 4 + BUSY_S, "another guard")
        check.assertEqual(again.owner, "me")
        check.assertEqual(len(b.guards()), 1)
        keeper.kill()
        off_in_time(b, b.record().lease, period=20)

    @in_each_shell
    def test_begun_anew_it_goes_on_from_what_it_reads(box):
        b = box(bare=True)
        check.assertEqual(b.daemon("install", 60, "me", 70, 60, 300, 0)[0], "taken")
        keeper = b.keeper("me", 60)
        keeper.says("kept - me")
        record = b.record()
        check.assertEqual(record.seq, 71)
        check.assertGreater(record.hold, uptime() + 250)        # handed on
        keeper.kill()

    @in_each_shell
    def test_two_keepers(box):
        """One refuses to touch what is the other's, until it is told to; then the other does."""
        b = box(bare=True)
        one = b.keeper("me", 9)
        one.says("kept - me")
        other = b.keeper("you", 9)
        other.says("refused other_owner me")
        before = b.wait(lambda r: True, 1, "a record")
        b.wait(lambda r: r.seq >= before.seq + 2, 9 + BUSY_S, "renewed by its owner")
        check.assertEqual(b.record().owner, "me")
        check.assertEqual(other.lines()[-1], "refused other_owner me")
        third = b.keeper("them", 9, "take")
        third.says("kept - them")
        one.says("refused other_owner them")
        check.assertEqual(b.record().owner, "them")
        for keeper in (one, other, third):
            keeper.kill()

    @in_each_shell
    def test_stopped_by_word(box):
        b = box(bare=True)
        at = uptime()
        b.keeper("me", 900, "stop")
        check.assertLess(b.off(limit_s=10 + BUSY_S), at + 10 + BUSY_S)

    @in_each_shell
    def test_held_without_its_keeper(box):
        b = box(bare=True)
        keeper = b.keeper("me", 3, "hold=8")
        keeper.says("kept - me")
        held = b.wait(lambda r: r.hold > 0, 5, "a hold")
        keeper.kill()
        off_in_time(b, max(held.hold, b.record().lease), period=20)


if __name__ == "__main__":
    unittest.main()
