#!/usr/bin/env python3
"""Machines to try llmhost with, on this one: each an sshd of your own on a loopback port.

A host has a key for login, a directory that stands for its disk (seen as the home directory over there), and processes
of its own that all end with its power switch. No root: it runs as you, inside unshare's user and pid namespaces. As
root the user namespace is left out, because sshd then wants more than one user.

    hosts.py up NAME [--port N] [--bind DIR]...     prints the command to paste: ssh -p N -i KEY user@127.0.0.1
    hosts.py down NAME [--wipe]                     power off; --wipe: forget the disk and the keys too
    hosts.py cut NAME                               ends its live SSH connections, as a bad network does
    hosts.py list
options: --dir DIR (where hosts are kept; default $XDG_STATE_HOME/llmhost-sandbox), --sshd FILE|DIR (the program, or a
directory the package openssh-server was unpacked in), --json. --bind shows one more directory over there, read-only, at
the same place, for instance one with engines that lies in your home.
"""
import argparse
import getpass
import json
import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

# A rented host (class Rented; the company in company.py has them) is more like what providers give: the user is root and has a password,
# /root is the disk, /usr/bin/shutdown switches it off, a command of the customer's runs at power-on. Without root that root has your own
# uid, which such a host's sudo does not mind; sshd reads its name and password from files of the host's own.

BANNER_S = 15
SHUTDOWN = """\
#!/bin/sh
# What a rental company puts in the place of the real one: the machine ends, and they notice.
kill -TERM 1
"""
SUDO = """\
#!/bin/sh
# This root is root in name alone.
while :; do
    case $1 in
    -*) shift ;;
    *) exec "$@" ;;
    esac
done
"""
CONFIG = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {place}/host_key
AuthorizedKeysFile {place}/authorized_keys .ssh/authorized_keys
PidFile none
StrictModes no
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
PrintMotd no
PermitRootLogin {root}
MaxStartups 200
Subsystem sftp internal-sftp
"""

# Runs as the first thing in the new mount namespace, while it may still mount; $1 is what to become. Directories below
# the home that must stay visible are bound into the disk first, because the disk then covers the home.
SETUP = """\
set -eu
for seen in $SHOW; do
    case $seen in
    "$OVER"/*)
        at=$DISK/${seen#"$OVER"/}
        mkdir -p "$at"
        mount --bind "$seen" "$at"
        ;;
    esac
done
if [ "$(id -u)" = 0 ]; then
    if [ ! -d /run/sshd ]; then
        case $PLACE in
        /run/*) ;;
        *) mount -t tmpfs -o mode=755 run /run ;;
        esac
        mkdir /run/sshd
    fi
fi
for file in passwd shadow; do
    [ ! -f "$PLACE/$file" ] || mount --bind "$PLACE/$file" /etc/$file
done
for folder in bin sbin; do
    [ ! -d "$PLACE/$folder" ] || mount -t overlay -o "lowerdir=$PLACE/$folder:/usr/$folder" commands /usr/$folder
done
# This machine's own data disks are no part of it.
for own in /mnt /data; do
    [ -d $own ] || continue
    case " $SHOW $OVER" in
    *" $own/"*) ;;
    *) mount -t tmpfs -o ro,mode=755 none $own ;;
    esac
done
mount --rbind "$DISK" "$OVER"
[ -z "$RENTED" ] || [ "$OVER" = /root ] || mount --rbind "$DISK" /root
[ -z "$RENTED" ] || mount -t tmpfs -o mode=1777,size=64m shm /dev/shm
if [ -n "$RENTED" ]; then           # stdin ends with whoever holds the other end: then we end too
    exec 3<&0 </dev/null
    { read -r over || kill -TERM $$; } <&3 3<&- &
    exec 3<&-
fi
if [ -n "$START" ]; then
    HOME=/root setsid setpriv --inh-caps=-all --ambient-caps=-all -- sh -c "$START" >/dev/null 2>&1 &
fi
unset START
exec setpriv --inh-caps=-all --ambient-caps=-all -- "$@"
"""


class Trouble(Exception):
    pass


def default_dir():
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(base, "llmhost-sandbox")


def find_sshd(wanted):
    """The program, and the directories of libraries that were unpacked beside it."""
    if not wanted:
        found = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if not found:
            raise Trouble("sshd is missing: install openssh-server, or unpack the package and say --sshd DIR")
        return os.path.realpath(found), ""
    if not os.path.isdir(wanted):
        return os.path.realpath(wanted), ""
    root = os.path.realpath(wanted)
    program = root + "/usr/sbin/sshd"
    if not os.access(program, os.X_OK):
        raise Trouble(f"no usr/sbin/sshd below {root}")
    libraries = []
    for top in (root + "/usr/lib", root + "/lib"):
        if os.path.isdir(top):
            libraries += [os.path.join(top, d) for d in os.listdir(top) if d.endswith("-linux-gnu")]
    return program, ":".join(libraries)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def parents():
    """pid -> (parent, program, start time) of everything that runs."""
    table = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    head, _, rest = f.read().rpartition(")")
            except OSError:
                continue
            fields = rest.split()
            table[int(entry)] = (int(fields[1]), head.split("(", 1)[1], fields[19])
    return table


class Host:
    def __init__(self, folder, name):
        if not name.replace("-", "").replace("_", "").isalnum():
            raise Trouble(f"{name!r} is no name for a host: letters, digits, - and _")
        self.name, self.place = name, os.path.join(os.path.abspath(folder), name)
        self.disk = self.place + "/disk"

    def load(self):
        try:
            with open(self.place + "/running.json") as f:
                return json.load(f)
        except FileNotFoundError:
            return None

    def is_up(self):
        """The pid may have been given to somebody else since."""
        running = self.load()
        return bool(running) and parents().get(running["pid"], (0, "", ""))[2] == running["started"]

    def ssh_command(self, port):
        return shlex.join(["ssh", "-p", str(port), "-i", self.place + "/key", f"{getpass.getuser()}@127.0.0.1"])

    def keys(self):
        os.makedirs(self.disk, mode=0o700, exist_ok=True)
        for name in ("host_key", "key"):
            path = f"{self.place}/{name}"
            if not os.path.exists(path):
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"sandbox {self.name}", "-f", path],
                               check=True)
        shutil.copyfile(self.place + "/key.pub", self.place + "/authorized_keys")

    def last_port(self):
        """The port it had, if nobody else has it now: an address that changes at each power-on is a nuisance."""
        try:
            with open(self.place + "/sshd_config") as f:
                port = int(f.readline().split()[1])
            with socket.socket() as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", port))
                return port
        except OSError:
            return None

    def accounts(self):
        """As root sshd wants an unprivileged user of its own, here too where the package is only unpacked."""
        with open("/etc/passwd") as f:
            users = f.read()
        if os.geteuid() == 0 and not any(line.startswith("sshd:") for line in users.splitlines()):
            self.write("passwd", users + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")

    def write(self, name, text, mode=0o644):
        os.makedirs(os.path.dirname(f"{self.place}/{name}"), exist_ok=True)
        with open(os.open(f"{self.place}/{name}", os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "w") as f:
            f.write(text)

    logins = {"passwords": "no", "root": "prohibit-password"}

    def environment(self, home, show):
        return dict(os.environ, SHOW=" ".join(show), OVER=os.path.realpath(home), DISK=self.disk, PLACE=self.place, RENTED="",
                    START="")

    def up(self, port, sshd, binds):
        if self.is_up():
            raise Trouble(f"{self.name} is on already: {self.load()['ssh']}")
        program, libraries = find_sshd(sshd)
        home = pwd.getpwuid(os.getuid()).pw_dir
        if not os.path.isdir(home) or home == "/":
            raise Trouble(f"a host's disk takes the place of the home directory, and {home} is none")
        self.keys()
        self.accounts()
        port = port or self.last_port() or free_port()
        with open(self.place + "/sshd_config", "w") as f:
            f.write(CONFIG.format(port=port, place=self.place, **self.logins))
        show = [self.place, os.path.dirname(program)] + [d for d in libraries.split(":") if d]
        show += [os.path.realpath(b) for b in binds]
        for missing in (s for s in show if not os.path.isdir(s)):
            raise Trouble(f"{missing} is no directory that could be shown there")
        if any(" " in s for s in show):
            raise Trouble("paths with spaces are more than this sandbox can do")
        spaces = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
        env = self.environment(home, show)
        if libraries:
            env["LD_LIBRARY_PATH"] = libraries
        with open(self.place + "/log", "ab") as log:
            process = subprocess.Popen(
                ["unshare", *spaces, "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL",
                 "sh", "-c", SETUP, "setup", program, "-D", "-e", "-f", self.place + "/sshd_config"],
                env=env, cwd="/", stdin=subprocess.PIPE if env["RENTED"] else subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        self.process = process
        self.wait_for_banner(process, port)
        running = {"pid": process.pid, "started": parents()[process.pid][2], "port": port, "key": self.place + "/key",
                   "user": getpass.getuser(), "disk": self.disk, "ssh": self.ssh_command(port)}
        with open(self.place + "/running.json", "w") as f:
            json.dump(running, f)
        return running

    def wait_for_banner(self, process, port):
        due = time.monotonic() + BANNER_S
        while time.monotonic() < due:
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as s:
                    s.settimeout(2)
                    if s.recv(4) == b"SSH-":
                        return
            except OSError:
                pass
            if process.poll() is not None:
                break
            time.sleep(0.02)
        process.kill()
        with open(self.place + "/log", errors="replace") as f:
            raise Trouble(f"{self.name} did not come up:\n{f.read()[-2000:]}")

    def inside(self):
        """Everything that runs on the host: the descendants of its first process, as this machine counts them."""
        table, found = parents(), set()
        queue = [self.load()["pid"]]
        while queue:
            above = queue.pop()
            below = [pid for pid, (parent, _, _) in table.items() if parent == above]
            found.update(below)
            queue += below
        return found, table

    def down(self, wipe):
        if self.is_up():
            pid = self.load()["pid"]
            everything, table = self.inside()
            os.kill(pid, signal.SIGKILL)        # the first process inside dies with it, and all others with that one
            wait_gone({p: table[p][2] for p in everything | {pid}})
        if os.path.exists(self.place + "/running.json"):
            os.unlink(self.place + "/running.json")
        if wipe:
            shutil.rmtree(self.place, ignore_errors=True)

    def cut(self):
        """Ends the sshd processes of connections; the listener and everything that was started stay."""
        if not self.is_up():
            raise Trouble(f"{self.name} is off")
        everything, table = self.inside()
        first = [p for p in everything if table[p][0] == self.load()["pid"]]
        sessions = [p for p in everything if table[p][1].startswith("sshd") and p not in first]
        for pid in sessions:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return len([p for p in sessions if table[p][0] in first])


class Rented(Host):
    """A host with root's password, that ends when the process which powered it on does."""

    logins = {"passwords": "yes", "root": "yes"}

    def __init__(self, folder, name, key=None, image=None):
        super().__init__(folder, name)
        self.key, self.image, self.password, self.start = key, image, "", ""

    def keys(self):
        if self.image and not os.path.exists(self.disk):
            shutil.copytree(self.image, self.disk, symlinks=True)
        super().keys()
        if self.key:                            # the account's, as the console has a place for one
            with open(self.place + "/authorized_keys", "a") as f:
                f.write(self.key.strip() + "\n")

    def accounts(self):
        with open("/etc/passwd") as f:
            others = [line for line in f if not line.startswith(("root:", "sshd:"))]
        self.write("passwd", f"root:x:{os.getuid()}:{os.getgid()}:root:/root:/bin/bash\n" + "".join(others)
                   + "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n")
        hashed = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=self.password + "\n", text=True, check=True,
                                stdout=subprocess.PIPE).stdout.strip()
        self.write("shadow", f"root:{hashed}:20000:0:99999:7:::\n", 0o600)
        self.write("bin/shutdown", SHUTDOWN, 0o755)
        if os.path.lexists("/usr/sbin/shutdown"):           # systemd's, which stands in front of it and is no use there
            self.write("sbin/shutdown", SHUTDOWN, 0o755)
        if os.geteuid() != 0:
            self.write("bin/sudo", SUDO, 0o755)

    def environment(self, home, show):
        return dict(super().environment(home, show), RENTED="1", START=self.start)

    def ssh_command(self, port):
        return f"ssh -p {port} root@127.0.0.1"


def wait_gone(started):
    """Waits for the end of these processes: pid -> start time."""
    due = time.monotonic() + 5
    while time.monotonic() < due:
        table = parents()
        if not any(p in table and table[p][2] == t and not is_dead(p) for p, t in started.items()):
            return
        time.sleep(0.02)
    raise Trouble("some of its processes do not end")


def is_dead(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def names(folder):
    return sorted(n for n in os.listdir(folder) if os.path.isdir(os.path.join(folder, n))) if os.path.isdir(folder) else []


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("\n\n")[2] + "\n")
    p.add_argument("verb", choices=["up", "down", "cut", "list"])
    p.add_argument("name", nargs="?")
    p.add_argument("--dir", default=default_dir())
    p.add_argument("--port", type=int)
    p.add_argument("--sshd")
    p.add_argument("--bind", action="append", default=[])
    p.add_argument("--wipe", action="store_true")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    if o.verb == "list":
        for name in names(o.dir):
            host = Host(o.dir, name)
            print(f"{name:12} {'up   ' + host.load()['ssh'] if host.is_up() else 'off'}")
        return
    if not o.name:
        p.error("which host?")
    host = Host(o.dir, o.name)
    if o.verb == "up":
        running = host.up(o.port, o.sshd, o.bind)
        print(json.dumps(running) if o.json else running["ssh"])
    elif o.verb == "down":
        host.down(o.wipe)
    else:
        print(f"{host.cut()} connections cut")


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(f"hosts.py: {trouble}")
    except FileNotFoundError as missing:
        sys.exit(f"hosts.py: {missing.filename}: not there")
