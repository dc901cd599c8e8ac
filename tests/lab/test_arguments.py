"""up MODEL -- ARGUMENTS, with a real llama-server: they arrive as they were typed, stay, and others start it anew."""
import threading

import models
import road

LIMIT_S = 240
MODEL = "llama.cpp:" + road.GGUF
# What a shell might take for something else.
STRANGE = ["a b", "it's", 'say "no"', "two\nlines", "$(touch /root/pwned)", "`touch /root/pwned`", "; touch /root/pwned", "& * ? [x] #",
           "\\", "@PORT@", "通义千问", "ünïcödé", "'"]


class Arguments(road.Road):
    def the_road(self):
        return self.road(engines=["llama-server"])

    def words(self, h):
        return h.pids("llama-server .*tiny.gguf")[0].words

    def test_they_arrive_stay_and_others_start_it_anew(self):
        with self.the_road() as (d, h):
            self.give_model(h)
            d.ctl("up", MODEL, "--", "-c", "512", "--chat-template-kwargs", '{"a b": "it\'s"}')
            before = d.model(MODEL)
            self.assertEqual(before["context"], 512, "the last one counts")
            self.assertEqual(self.words(h)[-4:], ["-c", "512", "--chat-template-kwargs", '{"a b": "it\'s"}'])
            self.assertIn("arguments  -c 512 --chat-template-kwargs '{\"a b\": ", d.ctl("status", MODEL).stdout)
            self.assertIn("already ready", d.ctl("up", MODEL).stdout)
            d.restart(hard=True)
            self.wait_state(d, "ready", MODEL)
            self.assertEqual((d.model(MODEL)["pid"], d.model(MODEL)["arguments"]), (before["pid"], before["arguments"]))

            d.ctl("up", MODEL, "--", "-c", "1024")
            after = d.model(MODEL)
            self.assertEqual((after["context"], after["arguments"], after["state"]), (1024, ["-c", "1024"], "ready"))
            self.assertNotEqual(after["pid"], before["pid"])
            self.assertEqual(len(h.pids("llama-server")), 1)
            self.assertEqual(road.text_of(self.chat(d, after["id"])), models.answer())

            d.ctl("down", MODEL)
            d.ctl("up", MODEL)
            self.assertEqual(d.model(MODEL)["context"], 1024)
            d.ctl("up", MODEL, "--")
            self.assertNotIn("arguments", d.model(MODEL))
            self.assertEqual(self.words(h)[-1], "4")

    def test_a_server_with_others_is_replaced_when_the_daemon_was_away(self):
        """The goal is on the disk, and the daemon dies before it has come to it."""
        with self.the_road() as (d, h):
            self.give_model(h)
            d.ctl("up", MODEL, "--", "-c", "512")
            pid = d.model(MODEL)["pid"]
            h.fault("blackhole")
            d.ctl("up", MODEL, "--no-wait", "--", "-c", "1024")
            d.kill()
            self.assertEqual(len(h.pids("llama-server")), 1)
            h.heal()
            d.start()
            self.wait_state(d, "ready", MODEL)
            self.assertEqual(d.model(MODEL)["context"], 1024)
            self.assertNotEqual(d.model(MODEL)["pid"], pid)
            self.assertEqual(len(h.pids("llama-server")), 1)

    def test_no_shell_reads_them(self):
        with self.the_road() as (d, h):
            self.give_model(h)
            words = [w for strange in STRANGE for w in ("--reverse-prompt", strange)]
            d.ctl("up", MODEL, "--", *words)
            self.assertEqual(self.words(h)[-len(words):], words)
            self.assertEqual(d.model(MODEL)["arguments"], words)
            self.assertEqual(road.text_of(self.chat(d, d.model(MODEL)["id"])), models.answer())
            d.restart(hard=True)
            d.ctl("wait", MODEL)
            self.assertEqual(len(h.pids("llama-server")), 1)
            self.assertEqual(d.model(MODEL)["arguments"], words)
            self.assertFalse(h.run("sh", "-c", "ls /root | grep -x pwned || true").stdout)

    def test_one_the_server_refuses_is_told_in_its_own_words(self):
        with self.the_road() as (d, h):
            self.give_model(h)
            said = d.ctl("up", MODEL, "--", "--no-such-thing", check=13)
            self.assertIn("invalid argument: --no-such-thing", said.stderr)
            self.assertIn(f"llmhostctl up {MODEL} --\n", said.stderr)
            self.assertEqual(d.model(MODEL)["trouble"]["code"], "bad_argument")
            said = d.ctl("up", MODEL, "--", "-c", "many", check=13)
            self.assertIn('error while handling argument "-c"', said.stderr)
            d.ctl("up", MODEL, "--")
            self.assertEqual(d.model(MODEL)["state"], "ready")

    def test_those_of_llmhost_are_refused_and_nothing_changes(self):
        with self.the_road() as (d, h):
            self.give_model(h)
            d.ctl("up", MODEL, "--", "-c", "512")
            for word in ("--port", "--host", "-m", "--alias", "--api-key", "--hf_repo"):
                self.assertIn(word, d.ctl("up", MODEL, "--", word, "1", check=2).stderr)
            said = d.ctl("up", road.DEEPSEEK, "--", "-c", "1", check=2).stderr
            self.assertIn("num_ctx", said)
            self.assertEqual([m["name"] for m in d.call("Status")["models"]], [MODEL])
            self.assertEqual(d.model(MODEL)["arguments"], ["-c", "512"])
            self.assertEqual(d.model(MODEL)["state"], "ready")

    def test_open_requests_are_waited_for_and_new_ones_held(self):
        with self.the_road() as (d, h):
            self.give_model(h)
            d.ctl("up", MODEL)
            name, answers = d.model(MODEL)["id"], []

            def ask():
                answers.append(road.text_of(self.chat(d, name)))

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for t in threads[:4]:
                t.start()
            change = threading.Thread(target=d.ctl, args=("up", MODEL, "--", "-c", "1024"))
            change.start()
            for t in threads[4:]:
                t.start()
            for t in threads + [change]:
                t.join(30)
            self.assertEqual(answers, [models.answer()] * 8)
            self.assertEqual(d.model(MODEL)["context"], 1024)
