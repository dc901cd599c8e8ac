"""Whether the tests would notice: one line of what decides (the state machines of deployments, machines and tunnels, daemon/policy/,
guard.sh) is changed at a time, in a copy of the tree, and the tests that concern its file must fail. `tests/run mutations` asks for it.

    $MUTATIONS      how many (20), or "all"         $MUTATION_SEED  the same ones again, as the first line names them (random)
    $MUTATION_FILES only files with this in their path

What is changed: a comparison, a `!` or a guarded command, a number, a name of an enum for its sister, a whole statement. Not: comments,
texts, lines of the log, and what does not compile. Those in EQUIVALENT change nothing that anybody could see.

A change that no test notices is printed and fails it. Either a test is missing, or the condition cannot matter: then it can go.
"""
import collections
import contextlib
import difflib
import functools
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

REPO = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILES = ("daemon/*/*_fsm.c", "daemon/policy/*.c", "daemon/guard/guard.sh")
LIMIT_S = 240           # of one program of tests as it is
PATIENCE = 4            # so many times as long as that it may take for a change (10 s at least); one that hangs has noticed
Mutation = collections.namedtuple("Mutation", "file number what before after")

# The unit tests of a file, the likeliest first; of guard.sh the lab's, with what is run of them.
TESTS = {
    "deployment_fsm.c": ["deployment_fsm", "deployment_facts", "deployment", "deployment_deaths", "deployment_sleep", "deployment_rented",
                         "control_model", "control", "power", "power_stay"],
    "life_fsm.c": ["life_fsm", "life_facts", "life", "rented", "rented_guard", "rented_course"],
    "session_fsm.c": ["session_facts", "session_scenes", "session_fsm", "session", "session_key"],
    "alive.c": ["alive", "request_cure", "deployment_deaths", "deployment"],
    "fits.c": ["fits", "fit", "control_rent_account"],
    "idle.c": ["idle", "deployment_facts", "deployment_sleep", "deployment_rented"],
    "money.c": ["money"],
    "retry.c": ["retry", "session_fsm", "session"],
    "room.c": ["room", "control_several"],
    "stay.c": ["stay", "power", "power_stay", "control_rent"],
    "guard.sh": ["guard_script", "lab/test_guard guard.Requests guard.Ends guard.Holds", "lab/test_guard guard.Killed guard.Stops guard.Adversity"],
}

# (file, a line's beginning before, after): nobody can tell, and why.
EQUIVALENT = {
    # What is needed is -1 or at least a GiB.
    ("fits.c", "if (f.needs_bytes < 0) {", "if (f.needs_bytes <= 0) {"),
    ("fits.c", "if (f.needs_bytes < 0) {", "if (f.needs_bytes < 1) {"),
    ("fits.c", "return f.verdict == FITS_UNKNOWN || f.needs_bytes < 0", "return f.verdict == FITS_UNKNOWN || f.needs_bytes <= 0"),
    ("fits.c", "return f.verdict == FITS_UNKNOWN || f.needs_bytes < 0", "return f.verdict == FITS_UNKNOWN || f.needs_bytes < 1"),
    # No doubling of 200 is 15000, and what is more is cut to it.
    ("retry.c", "for (unsigned i = 1; i < tries && delay_ms < RETRY_MOST_MS; i++)",
     "for (unsigned i = 1; i < tries && delay_ms <= RETRY_MOST_MS; i++)"),
    # At the same second it is set to what it is.
    ("guard.sh", '[ "$hold" -le $((up + grace)) ] || hold=$((up + grace))', '[ "$hold" -lt $((up + grace)) ] || hold=$((up + grace))'),
}

SWAPS = {"==": ["!="], "!=": ["=="], "<": ["<=", ">"], "<=": ["<", ">"], ">": [">=", "<"], ">=": [">", "<"], "&&": ["||"], "||": ["&&"]}
SHELL_SWAPS = {"-lt": ["-le"], "-le": ["-lt"], "-gt": ["-ge"], "-ge": ["-gt"], "-eq": ["-ne"], "-ne": ["-eq"], "=": ["!="], "!=": ["="],
               "&&": ["||"], "||": ["&&"]}


# ---- what may be changed ----

def blank(text, shell):
    """The text with comments and quoted words as blanks of the same length."""
    pattern = r"(?m)(^|(?<=\s))#[^\n]*|'[^'\n]*'" if shell else r"/\*.*?\*/|//[^\n]*|\"(\\.|[^\"\\\n])*\"|'(\\.|[^'\\])'|(?m:^)#include[^\n]*"
    return re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def changes(line, code, shell, sisters):
    """(what, the line afterwards) for each way to change it. CODE: the line, blanked."""
    put = lambda m, text: line[:m.start()] + text + line[m.end():]
    swaps = SHELL_SWAPS if shell else SWAPS
    operator = r"(?<=\s)(-lt|-le|-gt|-ge|-eq|-ne|!?=|&&|\|\|)(?=\s)" if shell else r"(?<=\s)(==|!=|<=|>=|<|>|&&|\|\|)(?=\s)"
    for m in re.finditer(operator, code):
        for other in swaps[m[0]]:
            yield f"{m[0]} is {other}", put(m, other)
    for m in re.finditer(r"(?<![\w$])! " if shell else r"!(?=[\w(*])", code):
        yield "no !", put(m, "")
    for m in re.finditer(r"(?<![\w.$>{/])\d+(?![\w.}>])" if shell else r"(?<![\w.{])\d+(?=(u|l|ll|ull)?\b)(?!\.)", code):
        other = other_number(int(m[0]), code[:m.start()])
        if other is not None:
            yield f"{m[0]} is {other}", put(m, str(other))
    if not shell:
        for m in re.finditer(r"\b[A-Z]+_[A-Z_]+\b", code):
            for other in sisters.get(m[0], []) if not code[:m.start()].endswith("case ") else ():     # all cases are there already
                yield f"{m[0]} is {other}", put(m, other)
    statement = r"\s+[\w$({!\[].*" if shell else r"\s+[\w*>()-]+.*;\s*"
    if re.fullmatch(statement, code) and not re.match(r"\s*(return|break|case|fi|do|done|then|else|for|while|if|esac)\b", code):
        yield "not done", line[:len(line) - len(line.lstrip())] + (":" if shell else ";")


def other_number(n, code):
    """One that means something else: of what is negative, and of a status that is only asked whether it is one, it is the sign that counts."""
    if re.search(r"case \w+$|\[$", code):
        return None
    if re.search(r"(^|[(,=?:&|]|return) *-$", code):
        return 0
    return 1 - n if re.search(r"return $", code) and n <= 1 else n * 2 + 1


@functools.cache
def enums():
    """The names of each enum of the headers."""
    found = []
    for path in glob.glob("**/*.h", root_dir=REPO + "/daemon", recursive=True):
        with open(f"{REPO}/daemon/{path}") as f:
            for body in re.findall(r"\benum\s*\w*\s*\{([^}]*)\}", blank(f.read(), False)):
                found.append([n for n in re.findall(r"\b[A-Z]+_[A-Z_]+\b", body) if not re.search(r"_(MAX|COUNT)$", n)])
    return found


def sisters_of():
    """For each name of an enum the two that follow it there."""
    return {name: [e[(i + n) % len(e)] for n in (1, 2) if len(e) > n] for e in enums() for i, name in enumerate(e)}


def is_left_alone(code):
    return re.match(r"\s*(\w*log_\w+|assert|#(if|endif|pragma))\b", code) is not None or " LOG_" in code


def is_equivalent(name, before, after):
    return any(name == f and before.startswith(b) and after.startswith(a) and before[len(b):] == after[len(a):] for f, b, a in EQUIVALENT)


def mutations_of(file):
    shell = file.endswith(".sh")
    with open(os.path.join(REPO, file)) as f:
        text = f.read()
    code = blank(text, shell)
    sisters = {} if shell else sisters_of()
    for number, (line, seen) in enumerate(zip(text.split("\n"), code.split("\n")), 1):
        if is_left_alone(seen):
            continue
        for what, after in changes(line, seen, shell, sisters):
            if not is_equivalent(os.path.basename(file), line.strip(), after.strip()):
                yield Mutation(file, number, what, line, after)


# ---- a tree to change ----

def end_all(p):
    """With its process group; and, where it is ninja, which gives each a group of its own and ends them when it is asked."""
    os.killpg(p.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        p.wait(2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(p.pid, signal.SIGKILL)


class Tree:
    """A copy of the tree with a build of its own, in a folder that goes away. The same one each time: so ccache knows it."""

    def __init__(self, folder):
        shutil.rmtree(folder, ignore_errors=True)               # of one that was killed
        self.top, self.build, self.took_s = folder, folder + "/build", {}
        files = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=REPO, check=True,
                               stdout=subprocess.PIPE, text=True).stdout.split("\0")
        for name in filter(None, files):
            os.makedirs(os.path.dirname(f"{self.top}/{name}"), exist_ok=True)
            with contextlib.suppress(FileNotFoundError):        # removed, and not committed yet
                shutil.copy2(f"{REPO}/{name}", f"{self.top}/{name}", follow_symlinks=False)
        cache = ["-DCMAKE_C_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
        self.environment = dict(os.environ, CCACHE_BASEDIR=folder, CCACHE_NOHASHDIR="1", BUILD=self.build,
                                LAB_RESULTS=self.build + ".results", LAB_LOGS=self.build, PYTHONDONTWRITEBYTECODE="1")
        self.do("cmake", "-S", self.top, "-B", self.build, "-G", "Ninja", "-DSANITIZE=ON", "-DWERROR=ON", *cache)

    def do(self, *words, check=True, limit_s=None):
        """Its status and what it said; status None: its time was over."""
        with subprocess.Popen(words, cwd=self.top, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True) as p:
            try:
                said = p.communicate(timeout=limit_s)[0]
            except subprocess.TimeoutExpired:
                end_all(p)
                return None, p.communicate()[0]
            except BaseException:                               # told to end: nothing of it goes on
                end_all(p)
                raise
        if check and p.returncode:
            sys.exit(f"{' '.join(words)}: status {p.returncode}\n{said[-3000:]}")
        return p.returncode, said

    def builds(self, tests):
        programs = ["test_" + t for t in tests if "/" not in t] + (["guard_asks"] if any("/" in t for t in tests) else [])
        return self.do("nice", "ninja", "-C", self.build, *programs, check=False)[0] == 0

    def passes(self, test):
        limit_s = max(10, PATIENCE * self.took_s[test]) if test in self.took_s else LIMIT_S
        if "/" in test:
            return self.lab_passes(test, limit_s)
        status, said = self.do(f"{self.build}/test_{test}", "-j1", "--fail-fast", check=False, limit_s=limit_s)
        return status == 0 and not re.search(r"Sanitizer|runtime error", said)

    def lab_passes(self, test, limit_s):
        """Ended at its first failure."""
        file, *names = test.split()
        words = ["tests/lab/lab", "-t", str(int(limit_s)), "--", "python3", "tests/lab/cases.py", f"{self.top}/tests/{file}.py", *names]
        results = self.environment["LAB_RESULTS"]
        open(results, "w").close()
        with subprocess.Popen(words, cwd=self.top, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as p:
            try:
                while p.poll() is None:
                    time.sleep(0.5)
                    with open(results) as f:
                        if re.search("(?m)^fail", f.read()):
                            return False
            finally:
                p.kill()                                # and its enclosure with it
        return p.returncode == 0

    def must_be_green(self, tests):
        """As it is; a test that fails anyway notices nothing."""
        if tests and not self.builds(tests):
            sys.exit("it does not build as it is")
        for test in tests:
            begun = time.monotonic()
            if not self.passes(test):
                sys.exit(f"{test} fails as it is")
            self.took_s[test] = time.monotonic() - begun

    def try_out(self, m):
        """The test that noticed, "" for none, None where it is no program any more."""
        tests = TESTS[os.path.basename(m.file)]
        self.must_be_green([t for t in tests if t not in self.took_s])
        path = f"{self.top}/{m.file}"
        with open(path) as f:
            whole = f.read()
        lines = whole.split("\n")
        assert lines[m.number - 1] == m.before
        lines[m.number - 1] = m.after
        try:
            with open(path, "w") as f:
                f.write("\n".join(lines))
            if m.file.endswith(".sh") and self.do("sh", "-n", path, check=False)[0] != 0:
                return None
            for test in tests:                                  # each built when it is its turn: most are noticed by the first
                if not self.builds([test]):
                    return None
                if not self.passes(test):
                    return test
            return ""
        finally:
            with open(path, "w") as f:
                f.write(whole)


def ended(signum, _):
    """The copy of the tree goes, too; told again, it is not stopped in that."""
    signal.signal(signum, signal.SIG_IGN)
    sys.exit(128 + signum)


def main():
    count, seed = os.environ.get("MUTATIONS") or 20, int(os.environ.get("MUTATION_SEED") or random.SystemRandom().randrange(1 << 32))
    files = sorted(f for pattern in FILES for f in glob.glob(pattern, root_dir=REPO) if os.environ.get("MUTATION_FILES", "") in f)
    nobodys = [f for f in files if os.path.basename(f) not in TESTS]
    if nobodys:
        sys.exit(f"which tests concern {', '.join(nobodys)}? TESTS of {__file__} does not say")
    drawn = [m for f in files for m in mutations_of(f)]
    count = len(drawn) if count == "all" else int(count)
    for signum in signal.SIGTERM, signal.SIGHUP:
        signal.signal(signum, ended)
    print(f"MUTATION_SEED={seed}, {count} of {len(drawn)} changes in {len(files)} files", flush=True)
    random.Random(seed).shuffle(drawn)
    survived, tried = [], 0
    place = os.environ.get("BUILD") or REPO + "/build"         # not /tmp, of which the lab has one of its own
    with contextlib.ExitStack() as stack:
        folder = place + "/mutations"
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        tree = Tree(folder)
        for m in drawn:
            if tried == count:
                break
            begun = time.monotonic()
            noticed = tree.try_out(m)
            if noticed is None:
                continue
            tried += 1
            said = f"noticed by {noticed}" if noticed else "NOT NOTICED"
            print(f"{tried:3} {m.file}:{m.number}: {m.what}: {said} ({time.monotonic() - begun:.1f} s)", flush=True)
            if not noticed:
                survived.append(m)
                print("\n".join(difflib.unified_diff([m.before], [m.after], m.file, m.file, lineterm="", n=0)), flush=True)
    print(f"{tried} changes, {tried - len(survived)} noticed, {len(survived)} not; MUTATION_SEED={seed}")
    return 1 if survived or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
