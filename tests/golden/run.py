#!/usr/bin/env python3
"""Golden screens: the real llmhostctl against a scripted daemon, its screens compared letter by letter.

usage: run.py [-w] [-k WORD] [LLMHOSTCTL]      -w writes the screens anew (look at the difference before committing them)
                                               -k runs the cases whose name has WORD
Each case of cases.py has a file in screens/: the command, what it showed, its exit status, and what the daemon was asked.
Clock times are written HH:MM:SS or HH:MM there; a terminal's screen is shown as it stands at the end.

Beside the letters some rules are held: from 60 columns on nothing but lines of logs, JSON and commands to copy is wider than its terminal, and some
words stand neither on a screen nor in a text of the programs. The manual page has every verb and every option."""
import fcntl
import json
import os
import pathlib
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unicodedata

from cases import CASES
from contract import Contract
from rent import RENT
from server import Server

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
LIMIT_S = 30
FORBIDDEN = re.compile(r"\b(terminated|offline|unknown error|please)\b", re.IGNORECASE)
TEXTS = ("client/*.[ch1]", "daemon/**/*.[ch58]", "daemon/**/*.sh", "proto/*.[ch]", "proto/*.varlink", "units/**/*", "contrib/*.example", "README.md")
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')      # comments may speak of bytes
LOG_LINE = re.compile(r"HH:MM:SS |             engine ")
COMMAND = re.compile(r" +(\w+: +)?llmhostctl ")    # as it was typed, and to be typed: it is not cut
SANITIZER = re.compile(r"(Address|Leak|UndefinedBehavior)Sanitizer|runtime error")


class Client:
    """One run of llmhostctl, in pipes or on a terminal of its own."""

    def __init__(self, argv, env, case):
        self.out, self.err, self.case = b"", b"", case
        self.changed = threading.Condition()
        self.master = None
        options = {"env": env, "start_new_session": True}
        if case.get("nobody") and os.getuid() == 0:
            options |= {"user": 65534, "group": 65534, "extra_groups": []}
        if case.get("columns"):
            self.start_on_terminal(argv, options, case["columns"])
        else:
            self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                            **options)
            self.threads = [self.reader(self.process.stdout.fileno(), "out"), self.reader(self.process.stderr.fileno(), "err")]
            self.process.stdin.write(case.get("stdin", "").encode())
            self.process.stdin.close()
        if self.master is not None:
            threading.Thread(target=self.type_answers, daemon=True).start()

    def start_on_terminal(self, argv, options, columns):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        # Ctrl-C drops what waits to be shown, after the signal: the last words of a quick program with it.
        modes = termios.tcgetattr(slave)
        modes[3] |= termios.NOFLSH
        termios.tcsetattr(slave, termios.TCSANOW, modes)

        def take_terminal():
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, preexec_fn=take_terminal, **options)
        os.close(slave)
        self.threads = [self.reader(self.master, "out")]

    def reader(self, fd, where):
        def read():
            while True:
                try:
                    data = os.read(fd, 65536)
                except OSError:
                    return
                if not data:
                    return
                with self.changed:
                    setattr(self, where, getattr(self, where) + data)
                    self.changed.notify_all()

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def type_answers(self):
        for question, answer in self.case.get("answers", []):
            if self.wait_shown(question):
                os.write(self.master, answer.encode())

    def wait_shown(self, pattern):
        wanted = re.compile(pattern.encode())
        with self.changed:
            return self.changed.wait_for(lambda: wanted.search(self.out) or wanted.search(self.err), LIMIT_S / 2)

    def interrupt(self):
        if self.master is not None:
            os.write(self.master, b"\x03")
        else:
            os.kill(self.process.pid, signal.SIGINT)

    def wait(self):
        try:
            status = self.process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "none within the limit"
        for thread in self.threads:
            thread.join(2)
        if self.master is not None:
            os.close(self.master)
        return status


def rendered(data):
    """What a terminal shows in the end: carriage returns, cleared lines and steps upwards carried out, colours left as \\e."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[H|\x1b\[2?J|\x1b\[K|\x1b\[\d*A|\x1b\[[0-9;]*m|\r|\n|[^\r\n\x1b]+|\x1b", data):
        if part == "\x1b[H":     # a new picture; what was cleared of the old one is gone anyway
            lines, row, column = [""], 0, 0
        elif part.endswith("J"):
            continue
        elif part == "\x1b[K":
            lines[row] = lines[row][:column]
        elif part.startswith("\x1b[") and part.endswith("A"):
            row = max(0, row - int(part[2:-1] or 1))
        elif part == "\r":
            column = 0
        elif part == "\n":
            row, column = row + 1, 0
            if row == len(lines):
                lines.append("")
        else:
            part = part.replace("\x1b", "\\e")
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part):]
            column += len(part)
    return "\n".join(lines)


def tidied(text, folder, minutes):
    text = text.replace(str(folder), "/FOLDER")
    text = re.sub(r"(\d{4}-\d\d-\d\d )?\b\d\d:\d\d:\d\d(\.\d{3})?\b", "HH:MM:SS", text)
    if minutes:
        text = re.sub(r"\b(to|until|before|by|at|and) (\d{4}-\d\d-\d\d )?\d\d:\d\d\b", r"\1 HH:MM", text)
        text = re.sub(r"\b(\d{4}-\d\d-\d\d) \d\d:\d\d\b", r"\1 HH:MM", text)
    # Whether some daemon runs on this machine is chance, too.
    text = re.sub(r"llmhostd runs \(pid \d+\) but its socket is not yours", "the socket /FOLDER/control is not yours", text)
    text = re.sub(r"pid \d{2,}\)", "pid N)", text)
    text = re.sub(r"kill \d{2,};", "kill N;", text)
    text = re.sub(r'"pid":\d{2,}', '"pid":N', text)
    text = re.sub(r'at_ms":\d{13}', 'at_ms":N', text)
    # The terminal's own echo of Ctrl-C may have been painted over or not; how long the running stage took is chance.
    text = text.replace("^C", "")
    text = re.sub(r" *\d+\.\ds(?=(   usually [^\n]*)?\s*\n(detached|llmhostd went))", " N.Ns", text)
    return "".join(line.rstrip(" ") + "\n" for line in text.splitlines())


def screen_of(case, client, status, server, folder):
    words = " ".join(shlex.quote(a) for a in case["argv"])
    where = f"   ({case['columns']} columns)" if case.get("columns") else ""
    text = f"$ llmhostctl {words}{where}\n"
    if case.get("columns"):
        text += rendered(client.out.decode())
    else:
        text += client.out.decode()
        if client.err:
            text += "-- stderr --\n" + client.err.decode()
    text = tidied(text, folder, case.get("minutes")) + f"-- exit {status} --\n"
    for method, parameters, more in server.calls if server else []:
        shown = json.dumps(parameters, ensure_ascii=False).replace(str(folder), "/FOLDER")
        shown = re.sub(r'_at_ms": \d{13}', '_at_ms": N', shown)
        text += f"asked: {method}{' more' if more else ''} {shown}\n"
    return text


def world(value):
    """{"world": NAME} stands for worlds/NAME.json."""
    if isinstance(value, dict):
        if set(value) == {"world"}:
            return world(json.loads((HERE / "worlds" / (value["world"] + ".json")).read_text()))
        return {k: world(v) for k, v in value.items()}
    return [world(v) for v in value] if isinstance(value, list) else value


def noon():
    """A zone in which it is about noon, so that what comes within hours is of the same day, at whatever time this runs."""
    return f"NOON{time.gmtime().tm_hour - 12:+d}"


def environment(folder, case):
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "TZ": noon(), "LANG": "C", "TERM": "xterm",
           "LLMHOST_SOCKET": str(folder / "control"), "XDG_RUNTIME_DIR": str(folder / "runtime")}
    if not case.get("colour"):
        env["NO_COLOR"] = "1"
    for key, value in case.get("env", {}).items():
        env[key] = value.replace("/FOLDER", str(folder))
    return {k: v for k, v in env.items() if v}


def run_case(program, contract, case, folder):
    for name, text in case.get("files", {}).items():
        (folder / name).write_text(text)
    (folder / "runtime/systemd").mkdir(parents=True, exist_ok=True)     # a systemd of one's own runs
    server = None
    path = folder / case.get("socket", "control")
    path.parent.mkdir(parents=True, exist_ok=True)
    if case.get("script") is not None:
        server = Server(str(path), world(case["script"]), contract, case.get("version", "0.1.0"))
    if case.get("prepare"):
        case["prepare"](folder)
    if case.get("nobody"):      # who may not look into the build folder
        program = shutil.copy(program, folder / "llmhostctl")
    argv = [program] + [a.replace("/FOLDER", str(folder)) for a in case["argv"]]
    client = Client(argv, environment(folder, case), case)
    if server:
        server.watch(client)
    status = client.wait()
    if server:
        server.stop()
    text = screen_of(case, client, status, server, folder)
    return text, (server.complaints if server else []), client


def columns_of(text):
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def too_wide(case, text):
    columns = case.get("columns") or 0
    if columns < 60 or "--json" in case["argv"]:
        return []
    shown = text.split("\n-- exit ")[0].split("\n")[1:]
    plain = [re.sub(r"\\e\[[0-9;]*m", "", line) for line in shown]
    return [f"wider than {columns} columns: {line}" for line in plain if columns_of(line) > columns and not LOG_LINE.match(line) and not COMMAND.match(line)]


def forbidden_words():
    """Places where a word stands that says nothing, or begs."""
    files = sorted({f for pattern in TEXTS for f in ROOT.glob(pattern) if f.is_file()} | set((HERE / "screens").iterdir()))
    assert len(files) > 200, "the sources are not where they were"
    return [f"{f.relative_to(ROOT)}:{n}: the word \"{found[0]}\"" for f in files
            for n, line in enumerate(f.read_text().splitlines(), 1)
            if (found := FORBIDDEN.search(" ".join(STRING.findall(line)) if f.suffix in (".c", ".h") else line))]


def not_in_the_manual():
    """Verbs and options that llmhostctl has and its manual page has not. The tables of words.c say what there is."""
    tables, page = (ROOT / "client/words.c").read_text(), (ROOT / "client/llmhostctl.1").read_text().replace("\\-", "-")
    verbs = re.findall(r'^    \{"([a-z ]+)", "[^"]*", \d+, \d+,', tables, re.MULTILINE)
    options = re.findall(r"""^    \{"([a-z-]+)", (?:0|'.'), [A-Z]+, (?:true|false),""", tables, re.MULTILINE)
    assert len(verbs) > 15 and len(options) > 25, "the tables are not where they were"
    return [f"llmhostctl.1: nothing about {what}" for what in verbs + ["--" + o for o in options] if what not in page]


def judge(case, text, complaints, client, write):
    file = HERE / "screens" / (case["name"] + ".txt")
    raw = (client.out + client.err).decode()
    problems = list(complaints)
    if SANITIZER.search(raw):
        problems.append("a sanitizer complains:\n" + raw)
    problems += too_wide(case, text)
    problems += [f"shows what must stay hidden: {word}" for word in case.get("hidden", []) if word in raw]
    if not case.get("columns") and "\r" in raw:
        problems.append("carriage returns off a terminal")
    if write and not problems:
        file.write_text(text)
    expected = file.read_text() if file.exists() else "(no screen yet: run.py -w)\n"
    if text != expected:
        problems.append(f"expected:\n{expected}shown:\n{text}")
    return problems


def main():
    arguments = sys.argv[1:]
    write = "-w" in arguments
    word = arguments[arguments.index("-k") + 1] if "-k" in arguments else ""
    rest = [a for a in arguments if a not in ("-w", "-k", word)]
    program = os.path.abspath(rest[0] if rest else os.environ.get("LLMHOSTCTL", ROOT / "build" / "llmhostctl"))
    if not os.access(program, os.X_OK):
        sys.exit(f"no llmhostctl at {program}: build it, or name it")
    contract = Contract((ROOT / "proto" / "io.llmhost.varlink").read_text())
    passed, complaints = 0, forbidden_words() + not_in_the_manual()
    failed = len(complaints)
    for complaint in complaints:
        print(f"FAIL {complaint}")
    for case in CASES + RENT:
        if word not in case["name"]:
            continue
        with tempfile.TemporaryDirectory(prefix="golden") as folder:
            os.chmod(folder, 0o755)
            problems = judge(case, *run_case(program, contract, case, pathlib.Path(folder)), write)
        passed, failed = passed + (not problems), failed + bool(problems)
        for problem in problems:
            print(f"FAIL {case['name']}: {problem}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
