"""Names as people type them. Short names of models, as people type them and as applications ask by them: the openai library and the ollama command line, unchanged,
against a real engine that knows its own names alone. And the Tab key."""
import json
import os
import pty
import select
import shutil
import signal
import subprocess
import unittest

import daemon as daemons
import host as hosts
import models
import road
from road import DEEPSEEK, ID
from test_clients import clean_env, python

LIMIT_S = 120
ALIAS = "gpt-4o"


class Aliases(road.Road):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        entered = road.Road.road(cls("test_works_wherever_a_model_is_typed"))
        cls.d, cls.h = entered.__enter__()
        cls.addClassCleanup(entered.__exit__, None, None, None)
        cls.d.ctl("up", DEEPSEEK)
        cls.d.ctl("alias", "set", ALIAS, ID)

    def test_works_wherever_a_model_is_typed(self):
        d = self.d
        self.assertRegex(d.ctl("alias", "list").stdout, rf"(?m)^{ALIAS} +{DEEPSEEK}$")
        self.assertIn(DEEPSEEK, d.ctl("status", ALIAS).stdout)
        self.assertEqual(d.ctl("ps", "-q", ALIAS).stdout, DEEPSEEK + "\n")
        for words in (("why", ALIAS), ("wait", ALIAS), ("logs", ALIAS), ("doctor", ALIAS), ("up", ALIAS), ("keep", ALIAS, "1h"),
                      ("keep", "--off", ALIAS)):
            d.ctl(*words)
        self.assertEqual(d.ctl("alias", "set", ALIAS + "/x", ID, check=2, json=True)["error"]["code"], "bad_alias")
        self.assertEqual(d.ctl("alias", "set", "x", ALIAS, check=2, json=True)["error"]["code"], "alias_of_alias")
        self.assertEqual(d.ctl("alias", "set", "x", "ollama:unheard", check=4, json=True)["error"]["code"], "no_such_model")
        self.assertEqual(d.ctl("alias", "set", "gpu1", ID, check=12, json=True)["error"]["code"], "name_is_taken")

    def test_openai_library_asks_by_it(self):
        said = python(self.d, f"""
import openai
c = openai.OpenAI()
ask = dict(model={ALIAS!r}, messages=[{{"role": "user", "content": "count"}}], temperature=0, seed=1)
SAID = [c.chat.completions.create(**ask).choices[0].message.content,
        "".join(p.choices[0].delta.content or "" for p in c.chat.completions.create(stream=True, **ask) if p.choices),
        [m.id for m in c.models.list()], c.models.retrieve({ALIAS!r}).id]
""")
        self.assertEqual(said, [models.answer(), models.answer(), [ID, ALIAS], ALIAS])

    def test_ollama_library_and_command_line_ask_by_it(self):
        said = python(self.d, f"""
import ollama
SAID = [ollama.chat({ALIAS!r}, [{{"role": "user", "content": "count"}}], options={{"temperature": 0}}).message.content,
        [m.model for m in ollama.list().models]]
""")
        self.assertEqual(said, [models.answer(), [ID, ALIAS]])

        def ollama(*words):
            return subprocess.run([hosts.engine_path("ollama-0.32.15"), *words], env=clean_env(self.d), text=True, check=True,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60).stdout

        self.assertEqual(ollama("run", "--nowordwrap", ALIAS, "count").strip(), models.answer().strip())
        self.assertIn("llama", ollama("show", ALIAS))
        self.assertIn(ALIAS, ollama("list"))

    def test_a_body_in_the_file_is_sent_with_the_models_own_name(self):
        """Longer than is kept in memory. The engine knows nobody by the alias, and names the model in its answer."""
        ask = {"messages": road.QUESTION, "stream": False, "options": {"num_predict": 1}, "nobody reads this": "x" * (1 << 20)}
        for body in (dict(ask, model=ALIAS), dict(model=ALIAS, **ask)):
            answer = self.d.post("/api/chat", body)
            self.assertEqual((answer.status, answer.json().get("model")), (200, ID), answer.text[:300])

    def test_latest_or_not_is_one_model(self):
        self.d.ctl("up", DEEPSEEK)
        self.d.ctl("up", "ollama:unheard-of", "--no-wait")
        self.d.ctl("up", "ollama:unheard-of:latest", "--no-wait")
        names = [m["name"] for m in self.d.call("Status")["models"]]
        self.assertEqual(names, [DEEPSEEK, "ollama:unheard-of"], json.dumps(names))
        self.d.ctl("down", "ollama:unheard-of:latest", "--forget")


class Completion(unittest.TestCase):
    """The Tab key in a bash that knows nothing but the script the client writes."""

    def typed(self, d, keys):
        """What stands on the line after these keys."""
        pid, master = pty.fork()
        if pid == 0:
            env = dict(os.environ, LLMHOST_SOCKET=d.socket_path, PATH=daemons.BUILD + ":" + os.environ["PATH"], HOME=d.dir, TERM="dumb",
                       INPUTRC="/dev/null", ASAN_OPTIONS="detect_leaks=0")
            os.chdir(d.dir)
            os.execvpe("bash", ["bash", "--norc", "-i"], env)
        said = b""

        def read_until(word):
            nonlocal said
            while word not in said:
                self.assertTrue(select.select([master], [], [], 20)[0], said)
                said += os.read(master, 65536)

        try:
            os.write(master, b"PS1='> '; bind 'set enable-bracketed-paste off'; source <(llmhostctl completion bash); echo rea''dy\n")
            read_until(b"ready\r\n> ")
            said = b""
            os.write(master, keys.encode() + b"|end")      # what is typed behind it tells that the Tab is over
            read_until(b"|end")
            return said.split(b"|end")[0].decode().split("\n")[-1].removeprefix("> ")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(master)

    def test_tab_completes_verbs_options_models_and_instances(self):
        with daemons.Daemon() as d:
            d.ctl("instance", "add", "here", "--provider", "local")
            d.ctl("up", "ollama:tiny:1b", "--no-wait")
            d.ctl("alias", "set", "small", "ollama:tiny:1b")
            open(d.dir + "/secret-file", "w").close()
            for keys, line in (("llmhostctl inst\tli\t", "llmhostctl instance list "),
                               ("llmhostctl down oll\t", "llmhostctl down ollama:tiny:1b "),
                               ("llmhostctl down ollama:ti\t", "llmhostctl down ollama:tiny:1b "),
                               ("llmhostctl status sm\t", "llmhostctl status small "),
                               ("llmhostctl up small --on he\t", "llmhostctl up small --on here "),
                               ("llmhostctl up small --on=he\t", "llmhostctl up small --on=here "),
                               ("llmhostctl up small --no-w\t", "llmhostctl up small --no-wait "),
                               ("llmhostctl wait here --for t\t", "llmhostctl wait here --for tunnel "),
                               ("llmhostctl instance add x --password-file sec\t", "llmhostctl instance add x --password-file secret-file "),
                               ("llmhostctl alias remove s\t", "llmhostctl alias remove small ")):
                with self.subTest(keys):
                    self.assertEqual(self.typed(d, keys), line)
            d.ctl("down", "small", "--forget")

    def test_without_a_daemon_it_is_quick_silent_and_knows_the_verbs(self):
        env = dict(os.environ, LLMHOST_SOCKET="/nowhere/control")
        for words, said in ((["sta"], "status\tdaemon"), (["up", ""], ""), (["instance", "show", ""], ""), (["nonsense", ""], "")):
            done = subprocess.run([daemons.BUILD + "/llmhostctl", "__complete", *words], env=env, capture_output=True, text=True, timeout=20)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            self.assertTrue(done.stdout.startswith(said) if said else not done.stdout, done.stdout)

    def test_scripts_are_right_for_their_shells(self):
        for shell in ("bash", "zsh", "fish"):
            script = subprocess.run([daemons.BUILD + "/llmhostctl", "completion", shell], capture_output=True, text=True, check=True).stdout
            self.assertIn("__complete", script)
            if shutil.which(shell):
                subprocess.run([shell, "-n", "/dev/stdin"], input=script, text=True, check=True)
