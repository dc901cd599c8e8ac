"""What cases are made of: steps of a script (server.py), and a case at one width or at two."""


def stage(name, state, text="", **more):
    return {"more": {"progress": {"stage": name, "state": state, "text": text, **more}}}


def error(name, code, message, next=(), **more):
    return {"error": name, "code": code, "message": message, "next": list(next), **more}


def case(name, argv, script=None, **more):
    return {"name": name, "argv": argv.split() if isinstance(argv, str) else argv, "script": script, **more}


def widths(name, argv, script, **more):
    return [case(f"{name}-{columns}", argv, script, columns=columns, **more) for columns in (80, 60)]
