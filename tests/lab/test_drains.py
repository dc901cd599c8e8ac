"""What becomes of open answers of a real engine when somebody says `down` or `sleep` or starts the daemon anew: they are whole, token for
token what they are when nobody disturbs them, or what came of them is a beginning of that and the last word is an error event."""
import concurrent.futures
import json

import daemon as daemons
import host as hosts
import road
from road import DEEPSEEK, ID

LIMIT_S = 150
TOKENS = 300
BOTH = ("/v1/chat/completions", "/api/chat")


class Answer:
    """A stream, read to its end."""

    def __init__(self, d, path):
        options = {"stream_options": {"include_usage": True}, "max_tokens": TOKENS} if path.startswith("/v1") else {
            "options": {"num_predict": TOKENS, "temperature": 0}}
        self.connection = d.connect(timeout_s=60)
        self.connection.request("POST", path, json.dumps({"model": ID, "messages": road.QUESTION, "stream": True, "temperature": 0, **options}),
                                {"Content-Type": "application/json"})
        self.text, self.tokens, self.error, self.ended = "", None, None, False
        self.answer, self.rest = self.connection.getresponse(), b""

    def begin(self):
        while not self.text:
            self.take(self.answer.read1(65536))
        return self

    def read(self):
        self.take(self.answer.read())
        self.connection.close()
        if self.answer.status != 200:           # it had not begun: its status, and a document
            self.take(b"\n")
        assert not self.rest, f"half a line: {self.rest}"
        return self.text, self.tokens, self.ended

    def take(self, data):
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            line = line.removeprefix(b"data: ").strip()
            assert not (line and self.error), f"after the error: {line}"
            if line == b"[DONE]":
                self.ended = True
            elif line and not line.startswith(b":"):
                self.part(json.loads(line))

    def part(self, part):
        self.error = self.error or part.get("error")
        for choice in part.get("choices") or []:
            self.text += choice["delta"].get("content") or ""
        self.text += part.get("message", {}).get("content", "")
        if part.get("usage"):
            self.tokens = part["usage"]["completion_tokens"]
        if part.get("done"):
            self.tokens, self.ended = part["eval_count"], True


class Drains(road.Road):
    gguf = {"count": 9, "loop": True, "pad_bytes": 16 << 20}

    def disturbed(self, d, how):
        """Two streams, of which the first has begun, and HOW() in the middle of them."""
        answers = [Answer(d, BOTH[0]).begin()]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            second = pool.submit(Answer, d, BOTH[1])
            hosts.until(lambda: d.model(DEEPSEEK)["in_flight"] == 2, 10, "both are open")
            done = pool.submit(how)
            answers[0].read()
            answers.append(second.result())
            answers[1].read()
            done.result()
        return answers

    def test_down_sleep_and_a_restart(self):
        with self.road() as (d, h):
            d.ctl("up", DEEPSEEK)
            whole = {path: Answer(d, path).read() for path in BOTH}
            for path in BOTH:
                self.assertEqual(whole[path][1:], (TOKENS, True), path)
                self.assertGreaterEqual(len(whole[path][0].split()), TOKENS - 2)
            for verb in ("down", "sleep"):
                for path, a in zip(BOTH, self.disturbed(d, lambda verb=verb: d.ctl(verb, DEEPSEEK))):
                    with self.subTest(verb, path=path):
                        self.assertIsNone(a.error)
                        self.assertEqual((a.text, a.tokens, a.ended), whole[path])
                self.assertEqual(self.state(d), {"down": "off", "sleep": "asleep"}[verb])
                d.ctl("up", DEEPSEEK)
            for how, word in ((d.restart, "stopped"), (lambda: d.ctl("down", DEEPSEEK, "--now"), "stopped"),
                              (lambda: d.ctl("sleep", DEEPSEEK, "--now"), "put to sleep")):
                for path, a in zip(BOTH, self.disturbed(d, how)):
                    with self.subTest(word, path=path):
                        self.assertIn(word, json.dumps(a.error))
                        self.assertFalse(a.ended)
                        self.assertTrue(whole[path][0].startswith(a.text))
                        self.assertLess(len(a.text), len(whole[path][0]))
                d.ctl("up", DEEPSEEK)
            self.assertEqual(Answer(d, BOTH[0]).read(), whole[BOTH[0]])
