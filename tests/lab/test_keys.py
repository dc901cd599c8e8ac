"""API keys: what listens beyond loopback answers nobody without one, and a key is nowhere but with who was shown it."""
import contextlib
import socket
import subprocess

import daemon as daemons
import host as hosts
import planted
import road
from road import DEEPSEEK
from test_secrets import memory_holds

LIMIT_S = 120


def new_key(d, name):
    """As a script takes it. What is kept of the tests' own doings must not have it, so not by Daemon.ctl()."""
    done = subprocess.run(d.ctl_words("key", "add", name), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    key = done.stdout.removesuffix("\n")
    assert key not in done.stderr and " " not in key and "\n" not in key, done
    return planted.register(f"API key {name}", key)


class Keys(road.Road):
    def status(self, d, path="/v1/models", **headers):
        return d.get(path, headers=headers).status

    def test_beyond_loopback_nobody_is_answered_without_one(self):
        with self.road(sections={"gateway": {"listen": "0.0.0.0:11434"}}) as (d, _):
            checked = subprocess.run([daemons.BUILD + "/llmhostd", "--check-config", "-c", d.config], capture_output=True, text=True)
            self.assertEqual(checked.returncode, 0, checked.stderr)
            self.assertIn("can be reached from other hosts", checked.stderr)
            nowhere = d.dir + "/nowhere.conf"           # what the start refuses, the check refuses
            with open(nowhere, "w") as f:
                f.write("[gateway]\nlisten = 192.0.2.77:11434\n")
            checked = subprocess.run([daemons.BUILD + "/llmhostd", "--check-config", "-c", nowhere], capture_output=True, text=True)
            self.assertEqual(checked.returncode, 2, checked.stdout)
            self.assertIn("[gateway] listen: 192.0.2.77:11434 cannot be had: Cannot assign requested address", checked.stderr)
            d.ctl("up", DEEPSEEK)
            for path in ("/v1/models", "/api/tags", "/metrics", "/health", "/"):
                self.assertEqual(self.status(d, path), 401, path)
            self.assertEqual(self.chat(d).status, 401)
            trouble = d.ctl("status", "--check", check=2).stdout
            self.assertIn("no API key", trouble)
            self.assertIn("llmhostctl key add NAME", trouble)
            web = new_key(d, "web")
            d.restart(hard=True)                        # what was shown is on disk
            bearer = {"Authorization": f"Bearer {web}"}
            self.assertEqual(self.status(d, **bearer), 200)
            self.assertEqual(self.status(d, **{"x-api-key": web}), 200)
            self.assertEqual(self.status(d, **{"api-key": web[:-1]}), 401)
            self.assertEqual(self.chat(d, headers=bearer).status, 200)
            self.assertIn(f'llmhost_requests_total{{model="{DEEPSEEK}",client="web"}} 1\n', d.get("/metrics", headers=bearer).text)
            d.ctl("status", "--check")
            self.assertIn(" from web", "".join(x["text"] for x in d.call("Logs", sources=["request"])["lines"]))
            self.assertRegex(d.ctl("key", "list").stdout, r"(?m)^web +\S+ ago$")
            d.ctl("key", "add", "web", check=12)
            d.ctl("key", "remove", "web")
            self.assertEqual(self.status(d, **bearer), 401)
            d.ctl("key", "remove", "web", check=4)
            d.restart(hard=True)
            self.assertEqual(self.status(d, **bearer), 401)
            self.assertEqual(road.words_in(d.dir, web.encode()), [], "it is kept somewhere")

    def test_the_door_moves_and_stays_there(self):
        with daemons.Daemon() as d:
            d.ctl("listen", "nowhere", check=2)
            self.assertEqual(d.ctl("listen", "0.0.0.0:11434", check=10, json=True)["error"]["code"], "no_api_key")
            self.assertEqual(self.status(d), 200)
            done = subprocess.run(d.ctl_words("listen", "0.0.0.0:11434", "--new-key"), stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, check=True)
            key = planted.register("API key listen", done.stdout.strip())
            for _ in range(2):
                self.assertEqual([self.status(d), self.status(d, Authorization="Bearer " + key)], [401, 200])
                d.restart(hard=True)
            self.assertEqual(road.words_in(d.dir, key.encode()), [], "it is kept somewhere")
            d.ctl("listen", "127.0.0.1:11434")
            self.assertEqual(self.status(d), 200)
            d.restart()
            self.assertEqual(d.call("Status")["daemon"]["endpoint"], "http://127.0.0.1:11434")

    def test_it_is_wiped_from_memory_after_use(self):
        """Whole requests, on connections that go and that stay; a body behind it; a head that is refused; one that never ends."""
        with daemons.Daemon() as d:
            key = new_key(d, "phone")
            d.restart()                                 # who was shown it had it from another process
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n".encode()
            self.assertEqual([self.status(d, Authorization="Bearer " + key) for _ in range(3)], [200] * 3)
            with contextlib.ExitStack() as stack:
                for data, status in ((b"Content-Length: 13\r\n\r\n" + b'{"model":"x"}', b" 404 "), (b"Content-Length: 1\r\n no\r\n\r\n", b" 400 ")):
                    stays = stack.enter_context(socket.create_connection(("127.0.0.1", d.port), 20))
                    stays.sendall(head + data)
                    self.assertIn(status, stays.recv(65536))
                half = stack.enter_context(socket.create_connection(("127.0.0.1", d.port), 20))
                half.sendall(head)
                hosts.until(lambda: memory_holds(d.pid, key.encode()), 10, "the search finds what is there")
            hosts.until(lambda: not memory_holds(d.pid, key.encode()), 10, "nothing of it is left")

    def test_on_loopback_it_is_only_a_name(self):
        with daemons.Daemon() as d:
            key = new_key(d, "phone")
            self.assertEqual([self.status(d), self.status(d, Authorization="Bearer ollama"), self.status(d, **{"api-key": key})], [200] * 3)
            self.assertEqual(d.call("KeyList")["needed"], False)
            d.ctl("key", "add", "phone", "--json", check=2)
