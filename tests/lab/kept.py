"""What tests leave in $LAB_LOGS for those who look afterwards, people and tests/secrets.sh: the daemons' state, what both programs
said, command lines and environments, hosts' small files. Without $LAB_LOGS nothing is kept."""
import contextlib
import os
import shutil
import threading

import planted

FOLDER = planted.LOGS
SMALL_BYTES = 1 << 18
EVERY_S = 0.1


def said(name, data):
    """Appends what was said to NAME's file."""
    if FOLDER and data:
        with open(f"{FOLDER}/{name}.said", "ab") as f:
            f.write(data.encode() if isinstance(data, str) else data)


def state(name, folder):
    """A daemon's directory as it is now, but for the secrets in it; its keys count as planted from now on."""
    if not FOLDER:
        return
    with contextlib.suppress(OSError):
        for key in (k for k in os.listdir(folder + "/secrets") if k.endswith(".key")):
            with open(f"{folder}/secrets/{key}") as f:
                planted.register(f"{key} of {name}", planted.key_body(f.read()))
    small_files(folder, f"{name}.state", without=("secrets",), most=1 << 26)


def file(path, name):
    with contextlib.suppress(OSError):
        if FOLDER:
            os.makedirs(os.path.dirname(f"{FOLDER}/{name}"), exist_ok=True)
            shutil.copyfile(path, f"{FOLDER}/{name}")


def small_files(folder, name, without=(), most=SMALL_BYTES):
    """Files of at most so many bytes, in the same places below NAME."""
    if not FOLDER:
        return
    for place, folders, names in os.walk(folder):
        folders[:] = [f for f in folders if f not in without]
        for path in (f"{place}/{n}" for n in names):
            with contextlib.suppress(OSError):
                if os.path.isfile(path) and not os.path.islink(path) and os.path.getsize(path) <= most:
                    file(path, f"{name}/{os.path.relpath(path, folder)}")


class Processes:
    """Command line and environment of every process there is, hosts' processes included, read now and then; each text once.
    What a test starts itself is not looked at, unless it is one of ours: a test may know secrets."""

    def __init__(self, name):
        self.path, self.seen, self.end = f"{FOLDER}/{name}.processes", set(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def ours(self, pid):
        with open(f"/proc/{pid}/stat") as f:
            _, _, rest = f.read().partition("(")
        name, _, rest = rest.rpartition(")")
        return name.startswith("llmhost") or int(rest.split()[1]) != os.getpid()

    def look(self, out):
        for pid in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if not pid.isdigit() or int(pid) == os.getpid() or not self.ours(pid):
                    continue
                for what in ("cmdline", "environ"):
                    with open(f"/proc/{pid}/{what}", "rb") as f:
                        text = f.read()
                    if text not in self.seen:
                        self.seen.add(text)
                        out.write(f"{what} of {pid}: ".encode() + text + b"\n")

    def run(self):
        with open(self.path, "ab", 0) as out:
            while not self.end.wait(EVERY_S):
                self.look(out)

    def __enter__(self):
        if FOLDER:
            self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        if FOLDER:
            self.thread.join(10)
