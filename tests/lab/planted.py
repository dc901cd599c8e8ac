"""Secrets that can be recognised, what they look like when they have leaked, and the search for them: tests/secrets.sh.

usage: planted.py [-h] [GROUP...]       GROUP: lab box readme, of which there must be something to search

What tests use as a password, a passphrase or a key is written down in a list beside the folder of their logs ($LAB_LOGS, see
kept.py), and afterwards looked for in that folder. Outside of a run, with no $LAB_LOGS, nothing is written down.
"""
import base64
import collections
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import urllib.parse

LOGS = os.environ.get("LAB_LOGS")
SHORTEST = 8            # bytes: what is shorter stands somewhere by chance
# What a group must have left, or the search has not looked at what it is for.
LEFT = {"lab": ("daemon.*.log", "daemon.*.state/llmhost.db", "daemon.*.state/llmhost.db-wal", "daemon.*.said", "host.*/console",
                "test_*.processes"),
        "box": ("box.journal", "box.*.state/llmhost.db", "test_box.processes"),
        "readme": ("daemon.*.log", "host.*/console", "test_readme.processes")}


def shapes(secret):
    """What it can look like when it has leaked: the bytes, and what they are called."""
    raw = secret.encode()
    found = {raw.hex().encode(): "hex", raw.hex().upper().encode(): "hex", raw.hex(" ").encode(): "hex",
             json.dumps(secret)[1:-1].encode(): "JSON", json.dumps(secret)[1:-1].replace("/", "\\/").encode(): "JSON",
             json.dumps(secret, ensure_ascii=False)[1:-1].replace("/", "\\/").encode(): "JSON",
             urllib.parse.quote(secret).encode(): "percent", urllib.parse.quote(secret, safe="").encode(): "percent",
             urllib.parse.quote_plus(secret, safe="").encode(): "percent"}
    for shift in range(3):                      # without the letters that depend on what stands before and behind
        core = base64.b64encode(b"\0" * shift + raw).rstrip(b"=")[(0, 2, 3)[shift]:-1]
        found.update({core: f"base64, {shift} bytes in", core.replace(b"+", b"-").replace(b"/", b"_"): f"base64, {shift} bytes in"})
    found[raw] = "raw"
    return {s: name for s, name in found.items() if len(s) >= SHORTEST}


def list_of(logs):
    return os.path.join(os.path.dirname(logs), "planted")


def register(name, word):
    """WORD is a secret from now on, wherever it will turn up."""
    if LOGS and len(word.encode()) >= SHORTEST:
        with open(list_of(LOGS), "a") as f:
            f.write(json.dumps([name, word]) + "\n")
    return word


def word():
    """A secret nobody else has, with something in it that each way of writing escapes in its own way."""
    return f"pAss/{secrets.token_hex(6)}+Wört"


def new(name):
    return register(name, word())


def key_body(text):
    """The part of a private key's file that nobody else has: its last full line."""
    lines = [line.strip() for line in text.splitlines() if not line.startswith("-----")]
    return lines[-2] if len(lines[-1]) < 40 else lines[-1]


def planted(logs):
    """Each word that was registered, with its name."""
    with open(list_of(logs)) as f:
        return {word: name for name, word in map(json.loads, f)}


def search(folder, words):
    """Where WORDS {word: name} stand below FOLDER, in any shape: {(file, name, shape)}."""
    known = {pattern: (name, shape) for word, name in words.items() for pattern, shape in shapes(word).items()}
    with tempfile.NamedTemporaryFile() as patterns:
        patterns.write(b"".join(p + b"\n" for p in known))
        patterns.flush()
        # grep looks for all at once; -o with a NUL behind the file's name, so that nothing in there can be mistaken.
        done = subprocess.run(["grep", "-roaFZ", "-f", patterns.name, "."], cwd=folder, stdout=subprocess.PIPE,
                              env=dict(os.environ, LC_ALL="C"))
    if done.returncode > 1:
        raise OSError(f"grep: status {done.returncode}")
    found = set()
    for line in filter(None, done.stdout.split(b"\n")):
        path, _, pattern = line.partition(b"\0")
        found.add((path.decode().removeprefix("./"), *known[pattern]))
    return found


def files(folder):
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            yield os.path.relpath(path, folder), os.path.getsize(path)


def like(pattern):
    return re.compile(re.escape(pattern).replace(r"\*", "[^/]*") + "$")


def missing(found, groups):
    """What should have been left there, and was not, or has nothing in it."""
    return sorted({p for g in groups for p in LEFT[g] if not any(size and like(p).match(name) for name, size in found)})


def sweep(logs, groups):
    """The whole search, with a find that must be found; returns what is wrong."""
    try:
        words = planted(logs)
    except FileNotFoundError:
        return ["no secret was planted"]
    decoy = word()
    with tempfile.TemporaryDirectory(dir=logs, prefix="decoy.") as place:
        for number, pattern in enumerate(shapes(decoy)):
            with open(f"{place}/{number}", "wb") as f:
                f.write(b"\0\xff before" + pattern + b"after \n")
        found = search(logs, dict(words, **{decoy: "decoy"}))
    decoys = {f for f in found if f[1] == "decoy"}
    wrong = [f"{name} (as {shape}) in {path}" for path, name, shape in sorted(found - decoys)]
    left = list(files(logs))
    wrong += [f"a planted find was not found: {shape}" for shape in sorted(set(shapes(decoy).values()) - {d[2] for d in decoys})]
    wrong += [f"nothing to search: no {pattern}" for pattern in missing(left, groups)]
    kinds = collections.Counter(os.path.splitext(name)[1] or name for name, _ in left)
    print(f"searched {len(left)} files, {sum(size for _, size in left)} bytes, for {len(words)} secrets in"
          f" {sum(len(shapes(w)) for w in words)} shapes; {len(decoys)} planted finds were found;"
          f" {', '.join(f'{n} {kind}' for kind, n in kinds.most_common(8))}")
    return wrong


def main(groups):
    if groups[:1] == ["-h"] or not set(groups) <= set(LEFT):
        print(__doc__.strip())
        return 0 if groups[:1] == ["-h"] else 2
    wrong = sweep(LOGS, groups)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
