"""The wall clock of a daemon alone, which a test sets (clock.c); the others' and its own time since boot go on as they are.

    clock = Clock()
    with clock, World(env=clock.env()) as w:
        clock.set(30 * 86400)           # from here on it is a month ahead of this machine's
"""
import os
import tempfile
import threading
import time

import daemon as daemons
import host as hosts


class Clock:
    library, making = None, threading.Lock()    # for LD_PRELOAD, made when it is needed first

    def __init__(self):
        self.file = tempfile.NamedTemporaryFile("w+")
        self.set(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def set(self, seconds):
        """clock.c begins in 1970, at boot."""
        self.file.seek(0)
        print(f"{round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)) + seconds:<20d}", file=self.file, flush=True)

    def env(self):
        return {"LD_PRELOAD": self.preload(), "CLOCK_MOVED": self.file.name}

    @classmethod
    def preload(cls):
        with cls.making:
            if not cls.library:
                cls.library = tempfile.NamedTemporaryFile(suffix=".so")
                hosts.command("gcc", "-shared", "-fPIC", "-o", cls.library.name, hosts.HERE + "/clock.c")
        sanitized = "libasan" in hosts.command("ldd", os.path.join(daemons.BUILD, "llmhostd"))
        first = [hosts.command("gcc", "-print-file-name=libasan.so").strip()] if sanitized else []
        return " ".join(first + [cls.library.name])
