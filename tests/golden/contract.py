"""Reads a Varlink interface description and holds calls, replies and errors against it, from its own text."""
import re

TOKEN = re.compile(r"\s+|#[^\n]*|->|\[\]|\[string\]|[A-Za-z_][A-Za-z0-9_.]*|[(){}:,?]")


class Contract:
    def __init__(self, text):
        self.types, self.methods, self.errors = {}, {}, {}
        self.tokens = [t for t in TOKEN.findall(text) if t.strip() and not t.startswith("#")]
        self.take("interface")
        self.name = self.tokens.pop(0)
        while self.tokens:
            kind, name = self.tokens.pop(0), self.tokens.pop(0)
            if kind == "type":
                self.types[name] = self.read_struct()
            elif kind == "error":
                self.errors[name] = self.read_struct()
            elif kind == "method":
                taken = self.read_struct()
                self.take("->")
                self.methods[name] = (taken, self.read_struct())
            else:
                raise ValueError(f"unexpected {kind}")

    def take(self, token):
        found = self.tokens.pop(0)
        if found != token:
            raise ValueError(f"expected {token}, found {found}")

    def read_struct(self):
        self.take("(")
        fields = {}
        while self.tokens[0] != ")":
            name = self.tokens.pop(0)
            self.take(":")
            fields[name] = self.read_type()
            if self.tokens[0] == ",":
                self.tokens.pop(0)
        self.take(")")
        return fields

    def read_type(self):
        token = self.tokens.pop(0)
        if token in ("?", "[]", "[string]"):
            return (token, self.read_type())
        return token

    def wrong(self, fields, value, path):
        """The first thing that is wrong, as a sentence; None when all is well."""
        if not isinstance(value, dict):
            return f"{path}: not an object"
        for name in value:
            if name not in fields:
                return f"{path}.{name}: unknown"
        for name, kind in fields.items():
            found = self.wrong_value(kind, value.get(name), f"{path}.{name}")
            if found:
                return found
        return None

    def wrong_value(self, kind, value, path):
        if isinstance(kind, tuple):
            wrapper, inner = kind
            if wrapper == "?":
                return None if value is None else self.wrong_value(inner, value, path)
            if not isinstance(value, list if wrapper == "[]" else dict):
                return f"{path}: not {wrapper}"
            rows = enumerate(value) if wrapper == "[]" else value.items()
            return next(filter(None, (self.wrong_value(inner, v, f"{path}[{k}]") for k, v in rows)), None)
        if kind in self.types:
            return self.wrong(self.types[kind], value, path)
        fits = {
            "string": isinstance(value, str),
            "bool": isinstance(value, bool),
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, (int, float)) and not isinstance(value, bool),
        }[kind]
        return None if fits else f"{path}: not {kind}"

    def wrong_call(self, method, parameters):
        if method not in self.methods:
            return f"no method {method}"
        return self.wrong(self.methods[method][0], parameters, method)

    def wrong_reply(self, method, parameters):
        return self.wrong(self.methods[method][1], parameters, f"{method} reply")

    def wrong_error(self, error, parameters):
        if error not in self.errors:
            return f"no error {error}"
        return self.wrong(self.errors[error], parameters, error)
