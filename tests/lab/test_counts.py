"""What is counted of a real engine's answers: its own figures, in every dialect, kept over restarts and kills."""
import re
import time

import road
from road import DEEPSEEK, ID, QUESTION, SEEDED

LIMIT_S = 240
FLUSH_S = 30
SAMPLE = re.compile(r'([a-z_:]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


def parsed(text):
    """Prometheus' text format, strictly: {(name, labels): value}. Each name has its HELP, its TYPE and then its lines, once."""
    found, types, family = {}, {}, None
    assert text.endswith("\n"), "the last line has an end"
    lines = iter(text[:-1].split("\n"))
    for line in lines:
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert family not in types, f"{family} twice"
            kind = re.fullmatch(rf"# TYPE {family} (counter|gauge|histogram)", next(lines))
            assert kind, family
            types[family] = kind[1]
            assert (kind[1] == "counter") == family.endswith("_total"), family
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        name, labels = sample[1], tuple(LABEL.findall(sample[2] or ""))
        of = re.sub(r"_(bucket|sum|count)$", "", name) if types[family] == "histogram" else name
        assert of == family, f"{name} below {family}"
        assert (name, labels) not in found, line
        found[name, labels] = float(sample[3])
    for (name, labels), value in found.items():
        if name.endswith("_bucket"):
            others = tuple(x for x in labels if x[0] != "le")
            row = [v for (n, l), v in found.items() if n == name and tuple(x for x in l if x[0] != "le") == others]
            assert row == sorted(row) and row[-1] == found[name.replace("_bucket", "_count"), others], labels
    return found


class Counts(road.Road):
    def metric(self, d, name, client):
        return parsed(d.get("/metrics").text).get((name, (("model", DEEPSEEK), ("client", client))), 0)

    def said(self, d):
        return [self.metric(d, f"llmhost_{what}_total", "tester")
                for what in ("requests", "request_errors", "prompt_tokens", "answer_tokens")]

    def ask(self, d, path, **body):
        answer = d.post(path, dict({"model": ID}, **body), headers={"User-Agent": "tester/1.0"})
        self.assertEqual(answer.status, 200, answer.text)
        return answer

    def test_the_engines_own_figures_in_every_dialect(self):
        with self.road() as (d, _):
            d.ctl("up", DEEPSEEK)
            prompt = answer = 0
            said = self.ask(d, "/v1/chat/completions", messages=QUESTION, **SEEDED).json()["usage"]
            prompt, answer = prompt + said["prompt_tokens"], answer + said["completion_tokens"]
            stream = self.ask(d, "/v1/chat/completions", messages=QUESTION, stream=True,
                              stream_options={"include_usage": True}, **SEEDED).text
            self.assertIn(f'"completion_tokens":{said["completion_tokens"]}', stream)
            prompt, answer = prompt + said["prompt_tokens"], answer + said["completion_tokens"]
            for path, more in (("/api/chat", {"messages": QUESTION}), ("/api/generate", {"prompt": "count"})):
                for streamed in (True, False):
                    last = self.ask(d, path, stream=streamed, options=SEEDED, **more).text.strip().split("\n")[-1]
                    self.assertIn('"done":true', last)
                    prompt += int(re.search(r'"prompt_eval_count":(\d+)', last)[1])
                    answer += int(re.search(r'"eval_count":(\d+)', last)[1])
            self.assertEqual(self.said(d), [6, 0, prompt, answer])
            self.assertEqual(self.metric(d, "llmhost_first_token_seconds_count", "tester"), 6)
            line = next(x["text"] for x in reversed(d.call("Logs", sources=["request"])["lines"]) if " from tester" in x["text"])
            self.assertRegex(line, r"^[0-9a-f]{4} generate deepseek-r1:7b 200 first \S+s total \S+s \d+ bytes \d+ tok from tester$")
            screen = d.ctl("status", DEEPSEEK).stdout
            self.assertRegex(screen, r"first token \S+s p50 / \S+s p95")
            self.assertIn(f"{prompt} tokens in, {answer} out", screen.replace("\n             ", " "))
            # An orderly end keeps all of it.
            d.restart()
            self.assertEqual(self.said(d), [6, 0, prompt, answer])
            # What only looks is no request.
            before = d.model(DEEPSEEK)["requests"]
            for _ in range(5):
                d.get("/metrics")
            self.assertEqual((d.model(DEEPSEEK)["requests"], self.said(d)[0]), (before, 6))
            d.ctl("down", DEEPSEEK, "--forget")
            self.assertNotIn(DEEPSEEK, d.get("/metrics").text)

    def test_a_kill_loses_what_is_younger_than_half_a_minute(self):
        with self.road() as (d, _):
            d.ctl("up", DEEPSEEK)
            self.ask(d, "/v1/chat/completions", messages=QUESTION, **SEEDED)
            time.sleep(FLUSH_S + 2)
            before = self.said(d)
            self.assertEqual(before[0], 1)
            self.ask(d, "/v1/chat/completions", messages=QUESTION, **SEEDED)
            d.restart(hard=True)
            self.assertEqual(self.said(d), before)
