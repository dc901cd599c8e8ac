"""The enclosure: a test, its daemon, its hosts and their links in namespaces that vanish with the test.

enter() puts a command into its own mount, pid, network, uts and ipc namespaces. Inside, /run is empty and private, so
that names of network namespaces, sockets and pid files never meet those of the machine, and a bridge carries
10.99.0.1/16, where hosts (host.py) are plugged in. The first process in there, serve(), waits for the command and
collects orphans; when it ends, for whatever reason, the kernel ends everything else.

Needs root. /tmp and the checkout are the machine's own.
"""
import os
import signal
import subprocess
import sys
import time

BRIDGE = "lab0"
ADDRESS = "10.99.0.1"
SKIP = 77               # ctest's and our word for "not here"
TIMED_OUT = 124         # as timeout(1)
INSIDE = "LLMHOST_LAB"
TERM_GRACE_S = 5


def is_inside():
    return os.environ.get(INSIDE) == "1"


def enter(limit_s, command):
    """Replaces this process by COMMAND in an enclosure. limit_s 0: no limit."""
    if os.geteuid() != 0:
        print("lab: needs root, to have namespaces of its own", file=sys.stderr)
        sys.exit(SKIP)
    inner = [sys.executable, os.path.abspath(__file__), "--serve", str(limit_s)] + command
    os.execvp("setpriv", ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--net", "--uts", "--ipc",
                          "--propagation", "private", "--fork", "--kill-child=KILL"] + inner)


def furnish():
    """What every enclosure has: /proc and /run of its own, a loopback, a bridge."""
    run = lambda *words, **more: subprocess.run(words, check=True, **more)
    run("mount", "-t", "proc", "proc", "/proc")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    for name in ("netns", "lab", "lock", "sshd"):
        os.mkdir("/run/" + name)
    run("hostname", "lab")
    run("ip", "-batch", "-", text=True, input=f"""
        link set lo up
        link add {BRIDGE} type bridge forward_delay 0
        addr add {ADDRESS}/16 dev {BRIDGE}
        link set {BRIDGE} up
    """)
    with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
        f.write("1")


def status_of(wait_status):
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def serve(limit_s, command):
    """The first process inside: runs the command, passes signals on, collects orphans, keeps the limit."""
    furnish()
    os.environ[INSIDE] = "1"
    due = time.monotonic() + limit_s if limit_s else None
    signals = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    child = subprocess.Popen(command, preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, signals))
    late = False
    while True:
        while True:                                     # everybody who ended, ours or adopted
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == child.pid:
                return TIMED_OUT if late else status_of(wait_status)
            if pid == 0:
                break
        got = signal.sigtimedwait(signals, max(0, due - time.monotonic()) if due else 3600)
        if got and got.si_signo != signal.SIGCHLD:
            os.kill(child.pid, got.si_signo)
        if due and time.monotonic() >= due:
            if late:
                print("lab: did not end after SIGTERM, killed", file=sys.stderr)
                return TIMED_OUT                        # our end is everybody's
            print(f"lab: {limit_s:g} s are over", file=sys.stderr)
            late, due = True, time.monotonic() + TERM_GRACE_S
            os.kill(child.pid, signal.SIGTERM)


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] != "--serve":
        sys.exit("lab.py: start tests/lab/lab instead")
    sys.exit(serve(float(sys.argv[2]), sys.argv[3:]))
