#!/usr/bin/env python3
"""What Open WebUI 0.12.4 asks its backends, in its order, with its HTTP library (aiohttp), and what it needs of the answers: read in
the package's own sources, which are too large to be run in a test. Says on its output, as JSON, what it would show.

backend/open_webui, by file:
    routers/ollama.py    verify_connection    GET /api/version; status 200 and JSON, else "error" of the JSON is shown
                         get_all_models       GET /api/tags, then GET /api/ps: {"models": [...]}, each with "model"; expires_at of ps is
                                              read by datetime.fromisoformat(). Both within 10 s. With every page load
                         show_model_info      POST /api/show {"name", "model"}
                         generate_chat_completion   POST /api/chat {"model", "messages", "options", "stream"}; what streams is cut at
                                              line ends, and each line is a JSON document with message.content; done: the counts
                         embed                POST /api/embed {"model", "input", "truncate"}: "embeddings"
                         unload_model         POST /api/generate {"model", "keep_alive": 0, "prompt": ""}: any JSON
                         pull_model           POST /api/pull {"name", "model", "insecure": true}, handed on to the page, which shows each
                                              line's "status" and stops at an "error"
    routers/openai.py    verify_connection and get_models_request   GET {base}/models: {"data": [{"id"}]}, within 10 s
                         generate_chat_completion   POST {base}/chat/completions; is it a stream? text/event-stream says so; else JSON
                         embeddings           POST {base}/embeddings: data[].embedding
    routers/tasks.py     after the first answer, three chats that do not stream: title, tags, follow-up questions
    utils/middleware.py  an error in an OpenAI stream is shown; in an Ollama stream it is not, for utils/response.py, which makes the one
                         of the other, reads message and done only
    utils/headers.py     Content-Type: application/json with each, GET too; Authorization: Bearer KEY where a key is set; X-OpenWebUI-User-…
                         where that is enabled, its values percent-encoded

An answer is read by aiohttp's json(), which wants application/json as its type. No time limit for chats (AIOHTTP_CLIENT_TIMEOUT unset).

usage: openwebui.py {ollama|openai} BASE_URL MODEL [EMBEDDING_MODEL]
"""
import asyncio
import datetime
import json
import sys

import aiohttp

LISTS = aiohttp.ClientTimeout(total=10)
CHATS = aiohttp.ClientTimeout(total=None)
HEADERS = {"Content-Type": "application/json", "X-OpenWebUI-User-Name": "Zhang%20San", "X-OpenWebUI-User-Id": "7d9f",
           "X-OpenWebUI-User-Email": "zhang@example.org", "X-OpenWebUI-User-Role": "user"}
TASKS = ("Create a concise, 3-5 word title.", "Generate 1-3 broad tags.", "Suggest 3-5 relevant follow-up questions.")


class Refused(Exception):
    """What a chat shows instead of an answer."""


async def get(session, url):
    async with session.get(url, headers=HEADERS, timeout=LISTS) as r:
        answer = await r.json()
        if r.status != 200:
            raise Refused(r.status, answer["error"])
        return answer


async def post(session, url, body):
    async with session.post(url, data=json.dumps(body), headers=HEADERS, timeout=CHATS) as r:
        answer = await r.json()
        if not r.ok:
            raise Refused(r.status, answer["error"])
        return answer


async def lines_of(session, url, body):
    """As its stream_chunks_handler() cuts them."""
    async with session.post(url, data=json.dumps(body), headers=HEADERS, timeout=CHATS) as r:
        if not r.ok:
            raise Refused(r.status, (await r.json())["error"])
        rest = b""
        async for data, _ in r.content.iter_chunks():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                yield r.headers["Content-Type"], line
        if rest:
            yield r.headers["Content-Type"], rest


async def ollama_lists(session, base):
    """The models, and until when each of those in memory is."""
    tags = (await get(session, base + "/api/tags"))["models"]
    loaded = (await get(session, base + "/api/ps"))["models"]
    return ([m["model"] for m in tags],
            {m["model"]: datetime.datetime.fromisoformat(m["expires_at"]).timestamp() for m in loaded})


async def ollama(session, base, model, embedding):
    said = {"version": (await get(session, base + "/api/version"))["version"]}
    said["models"], said["loaded"] = await ollama_lists(session, base)
    said["shown"] = sorted(await post(session, base + "/api/show", {"name": model, "model": model}))
    chat = {"model": model, "messages": [{"role": "user", "content": "count"}], "options": {"temperature": 0}, "stream": True}
    text = []
    async for _, line in lines_of(session, base + "/api/chat", chat):
        answer = json.loads(line)
        text.append((answer.get("message") or {}).get("content") or "")
        if answer.get("done"):
            said["counts"] = [answer["prompt_eval_count"] > 0, answer["eval_count"]]
    said["text"], said["pieces"] = "".join(text), len(text)
    said["tasks"] = [(await post(session, base + "/api/chat", dict(chat, messages=[{"role": "user", "content": task}], stream=False)))
                     ["message"]["content"] for task in TASKS]
    said["loaded_then"] = (await ollama_lists(session, base))[1]
    if embedding:
        said["embeddings"] = (await post(session, base + "/api/embed", {"model": embedding, "input": ["a", "b"], "truncate": True}))[
            "embeddings"]
    said["pulled"] = [json.loads(line) async for _, line in lines_of(
        session, base + "/api/pull", {"name": model, "model": model, "insecure": True})]
    said["unloaded"] = (await post(session, base + "/api/generate", {"model": model, "keep_alive": 0, "prompt": ""}))["done_reason"]
    said["unknown_pull"] = [json.loads(line) async for _, line in lines_of(
        session, base + "/api/pull", {"name": "deepseek-r1:8b", "model": "deepseek-r1:8b", "insecure": True})]
    return said


async def openai(session, base, model, embedding):
    said = {"models": [m.get("id") or m.get("name") for m in (await get(session, base + "/models"))["data"]]}
    chat = {"model": model, "messages": [{"role": "user", "content": "count"}], "temperature": 0, "stream": True,
            "stream_options": {"include_usage": True}}
    text, ended = [], False
    async for kind, line in lines_of(session, base + "/chat/completions", chat):
        if "text/event-stream" not in kind:
            raise Refused(kind, line.decode())
        if not line.startswith(b"data:"):       # comments and empty lines are skipped
            continue
        data = line[len(b"data:"):].strip()
        if data == b"[DONE]":
            ended = True
            continue
        event = json.loads(data)
        if "error" in event:
            raise Refused(200, event["error"])
        text += [c["delta"].get("content") or "" for c in event["choices"]]
    said.update(text="".join(text), pieces=len(text), ended=ended)
    said["tasks"] = [(await post(session, base + "/chat/completions", {
        "model": model, "messages": [{"role": "user", "content": task}], "temperature": 0, "stream": False}))
        ["choices"][0]["message"]["content"] for task in TASKS]
    if embedding:
        answer = await post(session, base + "/embeddings", {"model": embedding, "input": ["a", "b"]})
        said["embeddings"] = [e["embedding"] for e in answer["data"]]
    return said


async def main():
    backend, base, model, *embedding = sys.argv[1:]
    async with aiohttp.ClientSession(trust_env=True) as session:
        try:
            said = await {"ollama": ollama, "openai": openai}[backend](session, base, model, embedding[0] if embedding else None)
        except Refused as e:
            said = {"refused": e.args}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
