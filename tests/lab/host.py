"""A rented machine: own address, disk, processes, sshd, power switch, and everything that can go wrong with its link.

    gpu = Host("gpu1", engines=["ollama"])
    gpu.up()                            # returns when the SSH banner answers
    gpu.ssh_command, gpu.password       # what a provider's page shows
    gpu.fault("blackhole"); gpu.heal()
    gpu.down()                          # the plug: silence, no FIN, no RST
    gpu.up(port=30122)                  # disk and host key are kept; wipe=True and new_key=True say otherwise

A host is a set of namespaces below the enclosure (lab.py). Its root is an overlay of this machine's, so what is
installed here is there; /root /tmp /home /mnt /srv are hidden and start empty. Its disk is a tmpfs of its own, which
survives power-off and can be filled up. What happens at boot is in boot.sh.
"""
import collections
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time

import kept
import lab
import planted

HERE = os.path.dirname(os.path.realpath(__file__))
REPO = os.path.dirname(os.path.dirname(HERE))
STATE = "/run/lab"
ENGINES = os.environ.get("ENGINES") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "llmhost/engines")
PROGRAMS = {                # what an engine is called in Host(engines=...), and where it lies below ENGINES
    "ollama": ("ollama", "ollama-0.32.15/bin/ollama"),
    "ollama-0.32.15": ("ollama", "ollama-0.32.15/bin/ollama"),
    "ollama-0.11.4": ("ollama", "ollama-0.11.4/bin/ollama"),
    "llama-server": ("llama-server", "llama/usr/bin/llama-server"),
    "scripted": ("ollama", None),               # http_engine.py, copied to the host
}
HIDDEN = ("root", "tmp", "home", "mnt", "srv")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BANNER_S = 15
SSHD_CONFIG = """\
Port {port}
HostKey /etc/ssh/lab_host_key
PidFile none
PermitRootLogin yes
PasswordAuthentication yes
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""

Process = collections.namedtuple("Process", "pid outer_pid name words")     # pid: as the host itself counts


class HostError(Exception):
    pass


def until(true, limit_s, what, step_s=0.02):
    """Waits for TRUE() to be true and returns what it returned."""
    due = time.monotonic() + limit_s
    while True:
        value = true()
        if value:
            return value
        if time.monotonic() > due:
            raise HostError(f"{what}: not within {limit_s:g} s")
        time.sleep(step_s)


def command(*words, check=True, **more):
    done = subprocess.run(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **more)
    if check and done.returncode != 0:
        raise HostError(f"{shlex.join(words)}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def is_over(pid):
    """Ended, whether or not somebody has asked for its status."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def next_number():
    with open(STATE + "/count", "a+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        f.seek(0)
        n = int(f.read() or 0) + 1
        f.truncate(0)
        f.write(str(n))
    return n


def engine_path(name):
    """The program of an engine on this machine; the lab fails loudly without it, never skips."""
    if PROGRAMS[name][1] is None:
        return HERE + "/http_engine.py"
    path = os.path.join(ENGINES, PROGRAMS[name][1])
    if not os.access(path, os.X_OK):
        raise HostError(f"{path} is missing: run tests/engines")
    return path


class Host:
    kept = ("ip", "port", "password", "disk", "data", "engines", "number")

    def __init__(self, name, ip=None, port=22, password=None, disk="64m", data=None, engines=(), number=None):
        if not lab.is_inside():
            raise HostError("hosts live in an enclosure: tests/lab/lab -- COMMAND")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,11}", name):
            raise HostError(f"{name!r}: a host's name is up to 12 of a-z 0-9 -")
        self.name, self.port, self.disk, self.data = name, port, disk, data
        self.password = planted.register(f"password of {name}", password) if password else planted.new(f"password of {name}")
        self.engines = list(engines)
        self.number = number or next_number()
        self.ip = ip or f"10.99.{1 + self.number // 250}.{1 + self.number % 250}"
        self.dir = f"{STATE}/{name}"
        self.link = "v-" + name
        self.console_log = self.dir + "/console"
        os.makedirs(self.dir, exist_ok=True)

    @classmethod
    def find(cls, name):
        """A host this enclosure already has, or a new one."""
        try:
            with open(f"{STATE}/{name}/host.json") as f:
                return cls(name, **json.load(f))
        except FileNotFoundError:
            return cls(name)

    def save(self):
        with open(self.dir + "/host.json", "w") as f:
            json.dump({k: getattr(self, k) for k in self.kept}, f)

    # What a provider's page shows ------------------------------------------------------------------------------------

    @property
    def ssh_command(self):
        return f"ssh -p {self.port} root@{self.ip}"

    @property
    def fingerprint(self):
        """SHA256:... of the host key in use."""
        return command("ssh-keygen", "-lf", self.dir + "/key/id.pub").split()[1]

    @property
    def pid(self):
        """The first process of the host, as the enclosure counts; None while it is off."""
        try:
            with open(self.dir + "/pid") as f:
                pid = int(f.read() or 0)        # 0: it is being written
            if not pid:
                return None
            os.kill(pid, 0)
            return pid
        except (FileNotFoundError, ProcessLookupError):
            return None

    # The power switch ------------------------------------------------------------------------------------------------

    def up(self, wipe=False, new_key=False, opt=(), wait=True, sshd=True, **change):
        """Powers on. CHANGE: any of ip port password disk data engines, kept from now on; opt: lines for sshd, first
        wins. wait=False returns before sshd answers; sshd=False: it does not come until sshd_start()."""
        if self.pid:
            raise HostError(f"{self.name} is on already")
        for key, value in change.items():
            if key not in self.kept:
                raise TypeError(f"a host has no {key}")
            setattr(self, key, value)
        self.save()
        self.prepare_disk(wipe)
        self.prepare_key(new_key)
        self.prepare_files(opt)
        self.plug_in()
        self.boot(sshd)
        if wait and sshd:
            until(self.banner, BANNER_S, f"{self.name}: an SSH banner at {self.ip}:{self.port}; console:\n"
                  + self.console())
        return self

    def upper(self, path=""):
        return f"{self.dir}/disk/upper{path}"

    def prepare_disk(self, wipe):
        disk = self.dir + "/disk"
        if not os.path.ismount(disk):
            os.makedirs(disk, exist_ok=True)
            command("mount", "-t", "tmpfs", "-o", f"size={self.disk},mode=755", self.name, disk)
            wipe = True
        for made in (self.dir + "/root", self.dir + "/kept"):
            os.makedirs(made, exist_ok=True)
        if not wipe:
            return
        command("rm", "-rf", disk + "/upper", disk + "/work")
        os.makedirs(disk + "/work")
        for name in HIDDEN:                     # opaque: nothing of the machine's own shines through
            os.makedirs(self.upper("/" + name))
            os.setxattr(self.upper("/" + name), "trusted.overlay.opaque", b"y")
        os.chmod(self.upper("/root"), 0o700)
        os.chmod(self.upper("/tmp"), 0o1777)

    def prepare_key(self, new_key):
        key = self.dir + "/key/id"
        if new_key or not os.path.exists(key):
            command("rm", "-rf", self.dir + "/key")
            os.makedirs(self.dir + "/key")
            command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", key)

    def prepare_files(self, opt):
        os.makedirs(self.upper("/etc/ssh"), exist_ok=True)
        with open("/etc/shadow") as f:
            others = [line for line in f if not line.startswith("root:")]
        hashed = command("openssl", "passwd", "-6", "-stdin", input=self.password + "\n").strip()
        self.write_upper("/etc/shadow", f"root:{hashed}:20000:0:99999:7:::\n" + "".join(others), 0o600)
        with open(self.dir + "/key/id") as f:
            self.write_upper("/etc/ssh/lab_host_key", f.read(), 0o600)
        # The first value counts, but for MaxStartups; sshd's own would drop a burst of logins at random.
        lines = list(opt) + ([] if any("MaxStartups" in o for o in opt) else ["MaxStartups 200"])
        self.write_upper("/etc/ssh/lab_sshd_config", "\n".join(lines) + "\n" + SSHD_CONFIG.format(port=self.port))
        wanted = {PROGRAMS[e][0]: engine_path(e) for e in self.engines}
        os.makedirs(self.upper("/usr/local/bin"), exist_ok=True)
        for program in {p for p, _ in PROGRAMS.values()}:
            self.hide("/usr/bin/" + program)
            self.hide("/usr/local/bin/" + program)
            if program in wanted:
                place = self.upper("/usr/local/bin/" + program)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(place)
                if wanted[program].startswith(HERE):    # the checkout need not be visible over there
                    shutil.copy(wanted[program], place)
                else:
                    os.symlink(wanted[program], place)

    def write_upper(self, path, text, mode=0o644):
        fd = os.open(self.upper(path), os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode)
        with open(fd, "w") as f:
            f.write(text)
            os.fchmod(fd, mode)

    def hide(self, path):
        """What this machine has installed for itself is not there on the host."""
        place = self.upper(path)
        if os.path.islink(place) or os.path.isfile(place):
            os.unlink(place)
        if os.path.lexists(path) and not os.path.lexists(place):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            os.mknod(place, 0o600, 0)               # overlayfs: device 0/0 is a whiteout

    def plug_in(self):
        command("ip", "netns", "add", self.name)
        command("ip", "-batch", "-", input=f"""
            link add {self.link} type veth peer name eth0 netns {self.name}
            link set {self.link} master {lab.BRIDGE} up
        """)
        command("ip", "-n", self.name, "-batch", "-", input=f"""
            link set lo up
            addr add {self.ip}/16 dev eth0
            link set eth0 up
            route add default via {lab.ADDRESS}
        """)
        self.forget_neighbour()

    def boot(self, sshd=True):
        env = {"PATH": PATH, "NAME": self.name, "ROOT": self.dir + "/root", "DISK": self.dir + "/disk",
               "DATA": self.dir + "/kept" if self.data else "", "DATA_AT": self.data or "",
               "ENGINES": os.path.realpath(ENGINES) if os.path.isdir(ENGINES) else "", "SSHD": "1" if sshd else ""}
        with open(self.console_log, "ab") as console:
            outer = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.name}", "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork",
                 "--propagation", "private", "sh", HERE + "/boot.sh"],
                env=env, stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True)

        def first_child():
            if outer.poll() is not None:
                raise HostError(f"{self.name} did not boot:\n{self.console()}")
            with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as f:
                return f.read().split()
        pid = until(first_child, 5, f"{self.name}: a first process", 0.005)[0]
        with open(self.dir + "/pid", "w") as f:
            f.write(pid)
        self.outer = outer                      # reaped in down()

    def banner(self):
        """The line sshd greets with, or None."""
        if not self.pid:
            raise HostError(f"{self.name} died:\n{self.console()}")
        try:
            with socket.create_connection((self.ip, self.port), 2) as s:
                s.settimeout(2)
                text = s.recv(256).decode("ascii", "replace")
                return text.strip() if text.startswith("SSH-") else None
        except OSError:
            return None

    def down(self, clean=False):
        """Off. Like a pulled plug: the link goes silent before anything ends, so that peers learn nothing. clean: the
        host ends its programs first, and peers see their connections closed. Disk, key, data directory stay."""
        pid = self.pid
        if not clean:
            command("ip", "link", "set", self.link, "down", check=False)
        if pid:
            os.kill(pid, signal.SIGTERM if clean else signal.SIGKILL)
            try:
                until(lambda: not os.path.exists(f"/proc/{pid}/ns/pid") or self.reap(), 3, "end of the host")
            except HostError:
                os.kill(pid, signal.SIGKILL)
            self.reap()
        if clean:
            time.sleep(0.3)                     # the last packets are on the wire, however busy this machine is
        self.clear_faults()
        self.keep()
        command("ip", "link", "del", self.link, check=False)
        command("ip", "netns", "del", self.name, check=False)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.dir + "/pid")

    def keep(self):
        """The console, and what stands on the disk where something could have been written: not its own /etc."""
        name = f"host.{self.name}.{self.number}.{os.getpid()}"
        kept.small_files(self.upper(), name, without=("etc", "usr"))
        kept.file(self.console_log, name + "/console")

    def reap(self):
        outer = getattr(self, "outer", None)
        if outer is None:
            return not self.pid
        try:
            outer.wait(0.01)
            return True
        except subprocess.TimeoutExpired:
            return False

    def wipe(self):
        """A new system disk, at the next power-on or now by a power cycle; host key and data directory stay."""
        if self.pid:
            self.down()
        self.up(wipe=True)

    def console(self):
        """What the host wrote to its console: sshd's log, above all."""
        try:
            with open(self.console_log, errors="replace") as f:
                return f.read()[-4000:]
        except FileNotFoundError:
            return ""

    # Inside, without SSH ---------------------------------------------------------------------------------------------

    def enter_words(self):
        if not self.pid:
            raise HostError(f"{self.name} is off")
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-u", "-i", "-n", "-r", "-w",
                "env", "-i", "HOME=/root", "PATH=" + PATH]

    def run(self, *words, check=True, capture=True, input=None, timeout=30):
        """As on the provider's web console. One word is a shell command. Returns a CompletedProcess."""
        if len(words) == 1:
            words = ("sh", "-c", words[0])
        pipe = subprocess.PIPE if capture else None
        done = subprocess.run(self.enter_words() + list(words), stdout=pipe, stderr=pipe, text=True, input=input,
                              timeout=timeout, stdin=subprocess.DEVNULL if capture and input is None else None)
        if check and done.returncode != 0:
            raise HostError(f"{self.name}: {shlex.join(words)}: status {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(self, *words, env=(), log=None):
        """Leaves a program running inside. env: pairs. log: a file of the enclosure."""
        out = open(log, "ab") if log else subprocess.DEVNULL
        try:
            return subprocess.Popen(self.enter_words() + [f"{k}={v}" for k, v in dict(env).items()] + list(words),
                                    stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
        finally:
            if log:
                out.close()

    def put(self, path, data, mode=0o644):
        """A file on the host, missing directories made."""
        if isinstance(data, str):
            data = data.encode()
        done = subprocess.run(self.enter_words() + ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"',
                                                    "put", path, f"{mode:o}"], input=data, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise HostError(f"{self.name}: {path}: {done.stderr.decode()}")

    def get(self, path):
        return self.run("cat", path).stdout

    def pids(self, pattern=None):
        """Processes in the host's own pid namespace, those only whose command line matches PATTERN."""
        first, found = self.pid, []
        if not first:
            return []
        try:
            space = os.readlink(f"/proc/{first}/ns/pid")
        except FileNotFoundError:       # it went off just now
            return []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if os.readlink(f"/proc/{entry}/ns/pid") != space:
                    continue
                with open(f"/proc/{entry}/status") as f:
                    status = dict(line.split(":", 1) for line in f if ":" in line)
                with open(f"/proc/{entry}/cmdline") as f:
                    words = f.read().split("\0")[:-1]
            except OSError:
                continue
            if status["State"].split()[0] == "Z":
                continue
            p = Process(int(status["NSpid"].split()[-1]), int(entry), status["Name"].strip(), words)
            if pattern is None or re.search(pattern, " ".join(words) or p.name):
                found.append(p)
        return sorted(found)

    def trust(self, ca_pem, names, ip=lab.ADDRESS):
        """NAMES lead to IP, and certificates of this CA are good: how a host comes to use a registry of ours."""
        self.put("/etc/hosts", f"127.0.0.1 localhost\n{self.ip} {self.name}\n{ip} {' '.join(names)}\n")
        bundle = "/etc/ssl/certs/ca-certificates.crt"
        self.put(bundle, self.run(f"cat {bundle} 2>/dev/null", check=False).stdout + ca_pem)

    def sshd_stop(self, sessions=True):
        """The SSH server ends and stays away; sessions=False leaves those that are open. Everything else lives on."""
        self.run("touch /run/no-sshd")
        listener = int(self.get("/run/sshd.pid"))
        for p in self.pids():
            if p.pid == listener or (sessions and p.name == "sshd"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p.outer_pid, signal.SIGTERM if p.pid == listener else signal.SIGKILL)
        until(lambda: all(p.pid != listener for p in self.pids()), 5, "end of sshd")

    def sshd_start(self):
        self.run("rm -f /run/no-sshd")
        until(self.banner, BANNER_S, f"{self.name}: sshd again")

    # Faults of the link ----------------------------------------------------------------------------------------------

    def fault(self, kind, arg=None):
        """One fault; heal() undoes all. What peers notice of each: see the table in test_lab.py."""
        method = getattr(self, "fault_" + kind, None)
        if not method:
            raise HostError(f"no such fault: {kind}")
        method(*([] if arg is None else [arg]))

    SYN = "tcp flags & (syn | ack) == syn"

    def fault_blackhole(self):
        """Packets vanish, both ways."""
        self.rules("drop", "drop")

    def fault_nosyn(self):
        """New connections get no answer, open ones live."""
        self.rules(None, self.SYN + " drop")

    def fault_refuse(self):
        """New connections are refused, open ones live."""
        self.rules(None, self.SYN + " reject with tcp reset")

    def fault_unreach(self):
        self.rules("drop", "reject with icmp type host-unreachable")

    def fault_loss(self, percent):
        lose = f"numgen random mod 1000 < {round(float(percent) * 10)} drop"
        self.rules(lose, lose)

    def fault_rst(self):
        """Every open connection of the host is reset, now and once."""
        command("ip", "netns", "exec", self.name, "ss", "-K", "-t", "state", "connected", "src", self.ip)

    def fault_blackhole_after(self, count):
        """As blackhole, from the packet on with which COUNT bytes have come from the host: a cut in the middle."""
        self.rules(f"quota over {int(count)} bytes drop", f"quota over {int(count)} bytes drop")

    def fault_rst_after(self, count):
        """As rst, when COUNT bytes have come from the host; no byte beyond them is let through before it. Returns at
        once; self.cut is set when it has happened."""
        self.rst_when_over(count, from_host=True)

    def fault_rst_after_sent(self, count):
        """The same, when COUNT bytes have gone to the host."""
        self.rst_when_over(count, from_host=False)

    def rst_when_over(self, count, from_host):
        rule = f"tcp flags & rst == 0 quota over {count} bytes counter drop"
        self.rules(rule if from_host else None, None if from_host else rule)
        self.cut = threading.Event()

        def watch(cut, pid):
            while self.pid == pid and not cut.is_set():
                seen = self.counted()
                if seen is None:                        # healed
                    return
                if seen[0] > 0:
                    self.fault_rst()
                    command("nft", "delete", "table", "ip", self.table(), check=False)
                    cut.set()
                time.sleep(0.005)
        threading.Thread(target=watch, args=(self.cut, self.pid), daemon=True).start()

    def count(self, from_host=True):
        """Counts from now on what comes from the host, or goes to it: see counted()."""
        self.rules("counter" if from_host else None, None if from_host else "counter")

    def counted(self):
        """(packets, bytes) of the rule that counts; None without one."""
        seen = re.search(r"counter packets (\d+) bytes (\d+)", command("nft", "list", "table", "ip", self.table(), check=False))
        return seen and (int(seen[1]), int(seen[2]))

    def fault_linkdown(self):
        command("ip", "link", "set", self.link, "down")

    def fault_linkup(self):
        """The bridge may need a second to notice, and "no route" is remembered until it is asked again."""
        command("ip", "link", "set", self.link, "up")

        def answers():
            self.forget_neighbour()
            return subprocess.run(["ping", "-c1", "-W0.2", "-q", self.ip], stdout=subprocess.DEVNULL).returncode == 0
        if not self.rules_on():
            until(answers, 5, f"{self.name}: an echo after the link came back")

    def fault_freeze(self):
        self.signal_all(signal.SIGSTOP)

    def fault_thaw(self):
        self.signal_all(signal.SIGCONT)

    def fault_rate(self, kbit):
        for words in (["tc"], ["ip", "netns", "exec", self.name, "tc"]):
            device = self.link if words == ["tc"] else "eth0"
            command(*words, "qdisc", "replace", "dev", device, "root", "tbf", "rate", f"{kbit}kbit", "burst", "8k",
                    "latency", "200ms")

    def fault_delay(self, spec):
        """MS[,JITTER_MS[,LOSS_PERCENT]], each way; may be changed while connections live."""
        delay, jitter, loss = (str(spec).split(",") + ["0", "0"])[:3]
        self.end_delay()
        queues = self.queues()
        with open(self.console_log, "ab") as log:
            helper = subprocess.Popen([delay_program()] + queues + ["--", delay, jitter, loss], stderr=log,
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        with helper.stdout:
            if helper.stdout.readline() != b"bound\n":
                raise HostError(f"delay: {self.console()}")
        with open(self.dir + "/delay.pid", "w") as f:
            f.write(str(helper.pid))
        for rule in self.queue_rules():
            command("iptables", "-w", "-A", *rule)

    def fault_sshd_restart(self):
        self.sshd_stop()
        self.sshd_start()

    def fault_heal(self):
        self.heal()

    def heal(self):
        self.clear_faults()
        if self.pid:
            self.fault_linkup()
            self.fault_thaw()
            if os.path.exists(f"/proc/{self.pid}/root/run/no-sshd"):
                self.sshd_start()

    def clear_faults(self):
        command("nft", "delete", "table", "ip", self.table(), check=False)
        command("tc", "qdisc", "del", "dev", self.link, "root", check=False)
        command("ip", "netns", "exec", self.name, "tc", "qdisc", "del", "dev", "eth0", "root", check=False)
        self.end_delay()

    def table(self):
        return "lab_" + self.name.replace("-", "_")

    def rules_on(self):
        return subprocess.run(["nft", "list", "table", "ip", self.table()], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 0

    def rules(self, inbound, outbound):
        """One rule for packets from the host, one for packets to it, wherever they come along (ours, other hosts')."""
        rule_in = f"ip saddr {self.ip} {inbound}" if inbound else ""
        rule_out = f"ip daddr {self.ip} {outbound}" if outbound else ""
        command("nft", "delete", "table", "ip", self.table(), check=False)
        command("nft", "-f", "-", input=f"""
            table ip {self.table()} {{
                chain here_in {{ type filter hook input priority 0; {rule_in}
                }}
                chain here_out {{ type filter hook output priority 0; {rule_out}
                }}
                chain through {{ type filter hook forward priority 0; {rule_in}
                    {rule_out}
                }}
            }}""")

    def signal_all(self, number):
        """Twice, for those that were born meanwhile."""
        for _ in range(2):
            for p in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p.outer_pid, number)

    def queues(self):
        return [str(2 * self.number), str(2 * self.number + 1)]

    def queue_rules(self):
        to_us, to_it = self.queues()
        return (["INPUT", "-s", self.ip, "-j", "NFQUEUE", "--queue-num", to_us, "--queue-bypass"],
                ["OUTPUT", "-d", self.ip, "-j", "NFQUEUE", "--queue-num", to_it, "--queue-bypass"])

    def end_delay(self):
        try:
            with open(self.dir + "/delay.pid") as f:
                pid = int(f.read())
        except FileNotFoundError:
            return
        for rule in self.queue_rules():
            command("iptables", "-w", "-D", *rule, check=False)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: is_over(pid), 5, "end of the delay")      # a queue has one owner at a time
        os.unlink(self.dir + "/delay.pid")

    def forget_neighbour(self):
        """The address may have a new hardware address, or be remembered as unreachable."""
        command("ip", "neigh", "flush", "to", self.ip, "dev", lab.BRIDGE, check=False)


def delay_program():
    """delay.c, compiled once for each of its versions."""
    with open(HERE + "/delay.c", "rb") as f:
        version = hashlib.sha256(f.read()).hexdigest()[:12]
    folder = os.path.join(os.environ.get("BUILD") or REPO + "/build", "lab")
    program = f"{folder}/delay-{version}"
    if not os.path.exists(program):
        os.makedirs(folder, exist_ok=True)
        new = f"{program}.{os.getpid()}"
        command("cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-o", new, HERE + "/delay.c",
                "-lnetfilter_queue")
        os.rename(new, program)
    return program
