"""The contract of the control socket, read from its own text (proto/io.llmhost.varlink): what a call may say, and whether a
reply says what it must."""
import functools
import re

import host as hosts

FILE = hosts.REPO + "/proto/io.llmhost.varlink"
SERVICE_FILE = hosts.REPO + "/proto/org.varlink.service.varlink"
WORD = re.compile(r"\s*(->|[A-Za-z][A-Za-z0-9_.]*|\[string\]|\[\]|[?(),:])")


class Contract:
    def __init__(self, text=None):
        if text is None:
            with open(FILE) as f:
                text = f.read()
        text = re.sub(r"#[^\n]*", "", text)
        self.words, at = [], 0
        while m := WORD.match(text, at):
            self.words.append(m[1])
            at = m.end()
        if text[at:].strip():
            raise ValueError(f"not understood: {text[at:][:60]!r}")
        self.types, self.methods, self.errors = {}, {}, {}
        self.read()

    def take(self, expected=None):
        word = self.words.pop(0)
        if expected and word != expected:
            raise ValueError(f"{word!r} instead of {expected!r}")
        return word

    def read(self):
        self.take("interface")
        self.name = self.take()
        while self.words:
            kind, name = self.take(), self.take()
            if kind == "type":
                self.types[name] = self.struct()
            elif kind == "error":
                self.errors[name] = self.struct()
            elif kind == "method":
                asked = self.struct()
                self.take("->")
                self.methods[name] = (asked, self.struct())
            else:
                raise ValueError(f"{kind} {name}")

    def struct(self):
        self.take("(")
        fields = {}
        while self.words[0] != ")":
            name = self.take()
            self.take(":")
            fields[name] = self.type()
            if self.words[0] == ",":
                self.take()
        self.take(")")
        return fields

    def type(self):
        """A struct as a dict, ("?", type), ("[]", type), ("[string]", type), or a name."""
        word = self.words[0]
        if word == "(":
            return self.struct()
        self.take()
        return (word, self.type()) if word in ("?", "[]", "[string]") else word

    def complaint(self, kind, value, place):
        """What is wrong with VALUE as a KIND, or None."""
        if isinstance(kind, dict):
            if not isinstance(value, dict):
                return f"{place}: {value!r} is no object"
            for name in value:
                if name not in kind:
                    return f"{place}.{name}: not in the contract"
            return next((c for n, k in kind.items() if (c := self.complaint(k, value.get(n), f"{place}.{n}"))), None)
        if isinstance(kind, tuple):
            how, inner = kind
            if how == "?":
                return None if value is None else self.complaint(inner, value, place)
            if not isinstance(value, list if how == "[]" else dict):
                return f"{place}: {value!r} is no {how}"
            items = enumerate(value) if how == "[]" else value.items()
            return next((c for i, v in items if (c := self.complaint(inner, v, f"{place}[{i}]"))), None)
        if kind in self.types:
            return self.complaint(self.types[kind], value, place)
        good = {"string": isinstance(value, str), "bool": isinstance(value, bool),
                "int": isinstance(value, int) and not isinstance(value, bool),
                "float": isinstance(value, (int, float)) and not isinstance(value, bool)}[kind]
        return None if good else f"{place}: {value!r} is no {kind}"

    def check_reply(self, method, parameters):
        problem = self.complaint(self.methods[method][1], parameters, method)
        if problem:
            raise AssertionError(problem)

    def check_error(self, reply):
        interface, _, name = reply["error"].rpartition(".")
        if interface == self.name:
            problem = self.complaint(self.errors[name], reply.get("parameters") or {}, name)
            if problem:
                raise AssertionError(problem)

    def wrong_values(self, kind):
        """Values that are none of KIND."""
        if isinstance(kind, tuple) and kind[0] == "?":
            return self.wrong_values(kind[1])
        if isinstance(kind, tuple):
            inner = self.wrong_values(kind[1])
            return [1, "x", True] + ([{"a": 1}] + [[w] for w in inner] if kind[0] == "[]" else
                                     [["a"]] + [{"a": w} for w in inner])
        if isinstance(kind, dict) or kind in self.types:
            fields = kind if isinstance(kind, dict) else self.types[kind]
            right = self.right_value(kind)
            return [1, "x", [], {"unheard_of": 1}, dict(right, unheard_of=1)] + [
                dict(right, **{n: w}) for n, k in fields.items() for w in self.wrong_values(k)]
        return {"string": [1, 1.5, True, [], {}], "int": ["1", 1.5, True, [], {}], "bool": ["true", 1, [], {}],
                "float": ["1", True, [], {}]}[kind]

    def right_value(self, kind):
        if isinstance(kind, tuple):
            return None if kind[0] == "?" else [] if kind[0] == "[]" else {}
        if isinstance(kind, dict) or kind in self.types:
            return {n: self.right_value(k) for n, k in (kind if isinstance(kind, dict) else self.types[kind]).items()}
        return {"string": "x", "int": 1, "bool": False, "float": 1.5}[kind]


@functools.cache
def contracts():
    with open(SERVICE_FILE) as f:
        return {c.name: c for c in (Contract(), Contract(f.read()))}


def check(method, reply):
    """Holds a whole REPLY to a call of METHOD (with its interface) against the contract; an assertion fails when it does not fit."""
    if unknown := set(reply) - {"error", "parameters", "continues"}:
        raise AssertionError(f"{method}: {unknown} in a reply")
    interface, _, name = method.rpartition(".")
    if "error" in reply:
        of = contracts().get(reply["error"].rpartition(".")[0])
        if not of:
            raise AssertionError(f"{method}: the error {reply['error']} is in no contract")
        of.check_error(reply)
    else:
        contracts()[interface].check_reply(name, reply.get("parameters") or {})
