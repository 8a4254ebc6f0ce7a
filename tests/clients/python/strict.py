"""Varied valid requests to every route; every reply and every event of a stream, in strict mode, in the official clients'
own pydantic models. The requests are made by a seeded generator: a failure prints the seed and the request.

Where Ollama itself sends what a model does not allow, its shape is kept; `as_the_models_have_it` is the whole list.
"""

import base64
import functools
import json
import os
import random
import struct
import sys

import httpx
import ollama
from anthropic.types import Message, RawMessageStreamEvent
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from part import BASE, BLUE, GET_WEATHER, KEY, by_schema, run, tool

SEED = int(os.environ.get("SEED", "20261125"))
ROUNDS = int(os.environ.get("ROUNDS", "50"))
CAN = {
    "gemma:a": (),
    "tooly": ("tools",),
    "thinky": ("thinking",),
    "seer": ("vision",),
    "omni": ("tools", "thinking", "vision"),
}
TEXTS = [
    "Why is the sky blue?",
    "Grüße aus Köln, ¿qué tal?",
    "日本の首都はどこですか",
    "👩‍👩‍👧‍👦 and 🏳️‍🌈, joined",
    "e\u0301 is two code points, \u00e9 is one",
    "a tab\t, a line\nand \"quotes\" \\ and </script> & <b>",
    "zero\u200bwidth, \u2028 line and \u2029 paragraph separators, \x7f",
    "\U0001d4d0\U0001d4d1 beyond the basic plane",
    "word " * 60,
    " ",
]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "legs": {"type": "integer"},
        "weight": {"type": "number"},
        "tame": {"type": "boolean"},
        "names": {"type": "array", "items": {"type": "string"}},
        "kind": {"enum": ["cat", "dog"]},
    },
    "required": ["name", "legs", "tame"],
}


TOOLS = [
    GET_WEATHER,
    tool("add", {"a": {"type": "number"}, "b": {"type": "integer"}, "exact": {"type": "boolean"}}),
    tool("now", {}),
]
CALL = {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3, "big": 12345678901234567890, "deep": {"a": [1.0]}}}


class ModelList(BaseModel):
    """What the `openai` client makes of `/v1/models`, which it has no class for that can stand alone."""

    object: str
    data: list[Model]


class Dice(random.Random):
    def some(self, **fields):
        """Each field or not; a value that is a list of choices is one of them."""
        return {name: self.choice(choices) for name, choices in fields.items() if self.random() < 0.4}

    def text(self):
        return self.choice(TEXTS)

    def stops(self):
        return self.sample([" the", "\n", "。", "e", "zzz", "🏳️", ". "], self.randint(1, 4))


def native_options(dice):
    options = dice.some(
        temperature=[0, 0.7, 1.5],
        seed=[0, 7, 2**31],
        top_k=[1, 40],
        top_p=[0.1, 1],
        min_p=[0.05],
        repeat_penalty=[1.1],
        presence_penalty=[-1.5, 0.5],
        stop=[dice.stops()],
        num_ctx=[2048],
    )
    return {**options, "num_predict": dice.choice([dice.randint(1, 30), 80])}


def native_messages(dice, model):
    messages = [{"role": "system", "content": dice.text()}] if dice.random() < 0.3 else []
    for _ in range(dice.randint(0, 2)):
        messages += [{"role": "user", "content": dice.text()}, {"role": "assistant", "content": dice.text()}]
    ask = {"role": "user", "content": dice.text()}
    if "vision" in CAN[model]:
        ask["images"] = [BLUE] * dice.randint(0, 2)
    messages.append(ask)
    if "tools" in CAN[model] and dice.random() < 0.5:
        call = {"id": "call_1", "function": {"index": 0, **CALL}}
        messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_name": "get_weather", "content": dice.text(), "tool_call_id": "call_1"})
    return messages


def text_fields(dice, model):
    fields = dice.some(
        format=["json", SCHEMA], truncate=[True, False], keep_alive=["5m", -1, 300], logprobs=[True], unknown=[{"a": 1}]
    )
    if fields.get("logprobs"):
        fields |= dice.some(top_logprobs=[0, 1, 5, 20])
    if "thinking" in CAN[model]:
        fields |= dice.some(think=[True, False, "low", "high"])
    return {**fields, "options": native_options(dice)}


def native_chat(dice):
    model = dice.choice(list(CAN))
    body = {"model": model, "messages": native_messages(dice, model), **text_fields(dice, model)}
    if "tools" in CAN[model] and dice.random() < 0.8:
        body["tools"] = dice.sample(TOOLS, dice.randint(1, 3))
    return "/api/chat", body, ollama.ChatResponse, ollama.ChatResponse


def native_generate(dice):
    model = dice.choice(["gemma:a", "thinky", "seer", "omni"])
    body = {"model": model, "prompt": dice.text(), **text_fields(dice, model)}
    if "vision" in CAN[model]:
        body["images"] = [BLUE]
    body |= dice.choice([{"raw": True}, dice.some(system=TEXTS, context=[[1, 2, 3], [2**40]])])
    return "/api/generate", body, ollama.GenerateResponse, ollama.GenerateResponse


def inputs(dice):
    return dice.choice([dice.text(), [dice.text() for _ in range(dice.randint(1, 7))]])


def native_embed(dice):
    more = dice.some(dimensions=[1, 8, 63], truncate=[True, False], keep_alive=["5m"])
    return "/api/embed", {"model": "tinybert", "input": inputs(dice), **more}, ollama.EmbedResponse, None


def native_embeddings(dice):
    return "/api/embeddings", {"model": "tinybert", "prompt": dice.text()}, ollama.EmbeddingsResponse, None


def v1_sampling(dice):
    fields = dice.some(
        temperature=[0, 0.7, 2],
        seed=[0, 7],
        top_p=[0.1, 1],
        frequency_penalty=[-2, 0.5],
        presence_penalty=[0.5],
        stop=[dice.choice([" the", dice.stops()])],
        user=["somebody"],
        n=[1],
    )
    return {**fields, "max_tokens": dice.choice([dice.randint(1, 30), 80])}


def v1_content(dice, model):
    texts = [{"type": "text", "text": dice.text()} for _ in range(dice.randint(1, 3))]
    if "vision" in CAN[model]:
        return [*texts, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BLUE}"}}]
    return dice.choice([dice.text(), texts])


def v1_messages(dice, model):
    messages = []
    if dice.random() < 0.4:
        messages.append({"role": dice.choice(["system", "developer"]), "content": dice.text()})
    for _ in range(dice.randint(0, 2)):
        messages += [{"role": "user", "content": dice.text()}, {"role": "assistant", "content": dice.text()}]
    messages.append({"role": "user", "content": v1_content(dice, model)})
    if "tools" in CAN[model] and dice.random() < 0.5:
        function = {"name": CALL["name"], "arguments": json.dumps(CALL["arguments"])}
        calls = [{"id": "call_1", "type": "function", "function": function}]
        messages.append({"role": "assistant", "content": dice.choice([None, "", "I look."]), "tool_calls": calls})
        messages.append({"role": "tool", "tool_call_id": "call_1", "content": dice.text()})
    return messages


def v1_chat(dice):
    model = dice.choice(list(CAN))
    schema = {"type": "json_schema", "json_schema": {"name": "animal", "strict": True, "schema": SCHEMA}}
    body = {"model": model, "messages": v1_messages(dice, model), **v1_sampling(dice)}
    body |= dice.some(response_format=[{"type": "text"}, {"type": "json_object"}, schema], logprobs=[True])
    if body.get("logprobs"):
        body |= dice.some(top_logprobs=[0, 1, 5, 20])
    if dice.random() < 0.3:
        body["max_completion_tokens"] = body.pop("max_tokens")
    if "thinking" in CAN[model]:
        body |= dice.choice(
            [
                dice.some(reasoning_effort=["none", "minimal", "low", "medium", "high", "xhigh"]),
                dice.some(reasoning=[{"effort": "low"}, {"effort": "none"}]),
            ]
        )
    if "tools" in CAN[model] and dice.random() < 0.8:
        body |= {"tools": dice.sample(TOOLS, dice.randint(1, 3)), **dice.some(tool_choice=["auto", "none"])}
    return "/v1/chat/completions", body, ChatCompletion, ChatCompletionChunk


def v1_completions(dice):
    body = {"model": dice.choice(["gemma:a", "thinky"]), "prompt": dice.text(), **v1_sampling(dice), **dice.some(logprobs=[2])}
    return "/v1/completions", body, Completion, Completion


def v1_embeddings(dice):
    more = dice.some(dimensions=[1, 8, 63], encoding_format=["float", "base64"], user=["somebody"])
    return "/v1/embeddings", {"model": "tinybert", "input": inputs(dice), **more}, CreateEmbeddingResponse, None


def anthropic_messages(dice, model):
    messages = []
    for _ in range(dice.randint(0, 2)):
        messages += [{"role": "user", "content": dice.text()}, {"role": "assistant", "content": dice.text()}]
    blocks = [{"type": "text", "text": dice.text()} for _ in range(dice.randint(1, 3))]
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BLUE}}
    if "vision" in CAN[model]:
        blocks.insert(dice.randint(0, 1), picture)
    messages.append({"role": "user", "content": dice.choice([dice.text(), blocks])})
    if "tools" in CAN[model] and dice.random() < 0.5:
        call = {"type": "tool_use", "id": "toolu_1", "name": CALL["name"], "input": CALL["arguments"]}
        thought = {"type": "thinking", "thinking": dice.text(), "signature": "s"}
        messages.append({"role": "assistant", "content": dice.choice([[call], [thought, call], [{"type": "text", "text": "I look."}, call]])})
        content = dice.choice([dice.text(), [{"type": "text", "text": dice.text()}], []])
        result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}
        messages.append({"role": "user", "content": [{**result, **dice.some(is_error=[True, False])}]})
    return messages


def anthropic(dice):
    model = dice.choice(list(CAN))
    body = {"model": model, "messages": anthropic_messages(dice, model), "max_tokens": dice.choice([dice.randint(1, 30), 80])}
    body |= dice.some(
        system=[dice.text(), [{"type": "text", "text": dice.text(), "cache_control": {"type": "ephemeral"}}]],
        temperature=[0, 0.7],
        top_p=[0.1, 1],
        top_k=[1, 40],
        stop_sequences=[dice.stops()],
        metadata=[{"user_id": "somebody"}],
        thinking=[{"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}],
    )
    config = dice.some(effort=["low", "xhigh", "max"], format=[{"type": "json_schema", "schema": SCHEMA}])
    body |= {"output_config": config} if config else {}
    if "tools" in CAN[model] and dice.random() < 0.8:
        tools = [by_schema(tool) for tool in dice.sample(TOOLS, dice.randint(1, 3))]
        body |= {"tools": tools, **dice.some(tool_choice=[{"type": "auto"}, {"type": "none"}])}
    return "/v1/messages", body, Message, RawMessageStreamEvent


def response_content(dice, model):
    texts = [{"type": "input_text", "text": dice.text()} for _ in range(dice.randint(1, 3))]
    if "vision" in CAN[model]:
        return [*texts, {"type": "input_image", "detail": "auto", "image_url": f"data:image/png;base64,{BLUE}"}]
    return dice.choice([dice.text(), texts])


def response_input(dice, model):
    if dice.random() < 0.2:
        return dice.text()
    items = []
    if dice.random() < 0.4:
        items.append({"role": dice.choice(["system", "developer"]), "content": dice.text()})
    for _ in range(dice.randint(0, 2)):
        said = {"type": "output_text", "text": dice.text(), "annotations": []}
        answer = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [said]}
        thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": dice.text()}
        items += [{"role": "user", "content": dice.text()}, *dice.sample([thought], dice.randint(0, 1)), answer]
    items.append({"type": "message", "role": "user", "content": response_content(dice, model)})
    if "tools" in CAN[model] and dice.random() < 0.5:
        call = {"type": "function_call", "call_id": "call_1", "name": CALL["name"], "arguments": json.dumps(CALL["arguments"])}
        output = dice.choice([dice.text(), [{"type": "input_text", "text": dice.text()}]])
        items += [call, {"type": "function_call_output", "call_id": "call_1", "output": output}]
    return items


def v1_responses(dice):
    model = dice.choice(list(CAN))
    schema = {"type": "json_schema", "name": "animal", "strict": True, "schema": SCHEMA}
    body = {"model": model, "input": response_input(dice, model), "max_output_tokens": dice.choice([dice.randint(1, 30), 80])}
    body |= dice.some(
        temperature=[0, 0.7, 2],
        top_p=[0.1, 1],
        instructions=TEXTS,
        metadata=[{}, {"a": "b"}],
        text=[{"format": {"type": "text"}}, {"format": {"type": "json_object"}}, {"format": schema}, {}],
        truncation=["auto", "disabled"],
        parallel_tool_calls=[True, False],
        store=[False],
        options=[{"seed": 7}],
    )
    if "thinking" in CAN[model]:
        body |= dice.some(reasoning=[{"effort": "low", "summary": "auto"}, {"effort": "none"}, {}])
    if "tools" in CAN[model] and dice.random() < 0.8:
        tools = [{"type": "function", "strict": None, **tool["function"]} for tool in dice.sample(TOOLS, dice.randint(1, 3))]
        body |= {"tools": tools, **dice.some(tool_choice=["auto", "none"])}
    return "/v1/responses", body, Response, ResponseStreamEvent


def as_the_models_have_it(path, text):
    """Ollama's shape, which we keep, in the form that the clients' models want."""
    if path == "/v1/responses":
        # OpenAI counts what it writes to its cache, too
        return text.replace('{"cached_tokens":0}', '{"cached_tokens":0,"cache_write_tokens":0}')
    if path == "/v1/completions":
        # every chunk but the last has a null finish_reason, at Ollama as at OpenAI; the model knows no null
        return text.replace('"finish_reason":null', '"finish_reason":"stop"')
    if path == "/v1/chat/completions" and '"logprobs":{' in text:
        # no list of alternatives where none were asked for; the model wants an empty one
        reply = json.loads(text)
        for choice in reply["choices"]:
            for token in (choice.get("logprobs") or {}).get("content", []):
                token.setdefault("top_logprobs", [])
        return json.dumps(reply)
    if path == "/v1/messages":
        # Ollama signs no thoughts; the model wants a signature
        return text.replace('{"type":"thinking",', '{"type":"thinking","signature":"",')
    if path == "/v1/embeddings" and '"embedding":"' in text:
        # base64, when asked for: the client decodes it before anybody looks
        reply = json.loads(text)
        for item in reply["data"]:
            packed = base64.b64decode(item["embedding"], validate=True)
            item["embedding"] = list(struct.unpack(f"<{len(packed) // 4}f", packed))
        return json.dumps(reply)
    return text


def frames(path, reply):
    """The JSON texts of a stream; its framing is checked on the way."""
    text = reply.content.decode("utf-8")
    if path.startswith("/api/"):
        assert reply.headers["content-type"] == "application/x-ndjson", reply.headers
        assert text.endswith("\n"), text[-40:]
        return text.removesuffix("\n").split("\n")
    assert reply.headers["content-type"] == "text/event-stream", reply.headers
    events = text.removesuffix("\n\n").split("\n\n")
    if path == "/v1/messages":
        named = [event.removeprefix("event: ").split("\ndata: ") for event in events]
        assert all(name == json.loads(data)["type"] for name, data in named), text
        return [data for _, data in named]
    if path == "/v1/responses":
        assert events[-1].startswith("event: response.completed\n"), events[-1:]
        pairs = [event.removeprefix("event: ").split("\ndata: ") for event in events]
        assert all(json.loads(data)["type"] == name for name, data in pairs), text
        return [data for _, data in pairs]
    assert all(event.startswith("data: ") and "\n" not in event for event in events), text
    assert events.pop() == "data: [DONE]", events[-1:]
    return [event.removeprefix("data: ") for event in events]


def said_in_response(reply):
    """The same of a response or one of its events."""
    if "sequence_number" in reply:
        kinds = ("response.output_text.delta", "response.reasoning_summary_text.delta")
        return tuple(reply["delta"] if reply["type"] == kind else "" for kind in kinds)
    contents = [item["content"][0]["text"] for item in reply["output"] if item["type"] == "message"]
    thoughts = [item["summary"][0]["text"] for item in reply["output"] if item["type"] == "reasoning"]
    return "".join(contents), "".join(thoughts)


def said(reply):
    """Content and thinking of one reply or chunk of any dialect."""
    if reply.get("type", "").startswith(("message", "content_block")):
        blocks = [reply["delta"]] if reply["type"] == "content_block_delta" else reply.get("content", [])
        return tuple("".join(block.get(name, "") for block in blocks) for name in ("text", "thinking"))
    if reply.get("object") == "response" or "sequence_number" in reply:
        return said_in_response(reply)
    choice = (reply.get("choices") or [None])[0] if "choices" in reply else reply
    choice = choice or {}
    message = choice.get("message") or choice.get("delta") or choice
    texts = [message.get(name) or "" for name in ("content", "response", "text")]
    return "".join(texts), message.get("thinking") or message.get("reasoning") or ""


def both(path, replies):
    texts = tuple("".join(parts) for parts in zip(*(said(json.loads(reply)) for reply in replies), strict=True))
    # white space before a call is no item of a whole response, at Ollama neither
    return tuple(text.strip() for text in texts) if path == "/v1/responses" else texts


@functools.cache
def validator(kind):
    """What checks a reply; that of a union of all events takes long to make."""
    return TypeAdapter(kind)


def tried(client, count, dice, make):
    path, body, whole, chunk = make(dice)
    try:
        streams = chunk is not None
        more = {"stream": False} if streams else {}
        once = client.post(path, json={**body, **more})
        assert once.status_code == 200, once.text
        validator(whole).validate_json(as_the_models_have_it(path, once.text), strict=True)
        count["replies"] += 1
        if not streams:
            return
        counts = path in ("/v1/chat/completions", "/v1/completions")
        usage = dice.some(stream_options=[{"include_usage": True}]) if counts else {}
        reply = client.post(path, json={**body, **usage, "stream": True})
        assert reply.status_code == 200, reply.text
        texts = frames(path, reply)
        for text in texts:
            validator(chunk).validate_json(as_the_models_have_it(path, text), strict=True)
            count["events"] += 1
        assert both(path, texts) == both(path, [once.text]), f"streamed as at once: {texts} {once.text}"
        last = json.loads(texts[-1])
        if usage:
            assert last["choices"] == [] and last["usage"] == json.loads(once.text)["usage"], last
        assert path.startswith("/v1") or last["done"] is True, last
        if path == "/v1/messages":
            told, whole_reply = json.loads(texts[-2]), json.loads(once.text)
            assert last["type"] == "message_stop" and told["usage"] == whole_reply["usage"], texts[-2:]
            assert told["delta"].get("stop_reason") == whole_reply.get("stop_reason"), texts[-2:]
    except Exception:
        print(f"seed {SEED}: POST {path} {json.dumps(body)}", file=sys.stderr)
        raise


def everything():
    dice, count = Dice(SEED), {"replies": 0, "events": 0}
    makers = (
        native_chat, native_generate, native_embed, native_embeddings, v1_chat, v1_completions, v1_embeddings,
        v1_responses, anthropic,
    )
    with httpx.Client(base_url=BASE, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        for _ in range(ROUNDS):
            for make in makers:
                tried(client, count, dice, make)
        shown = [client.post("/api/show", json={"model": name}) for name in ("gemma:a", "tooly", "tinybert")]
        for kind, reply in [
            (ollama.ListResponse, client.get("/api/tags")),
            (ollama.ProcessResponse, client.get("/api/ps")),
            (ModelList, client.get("/v1/models")),
            (Model, client.get("/v1/models/gemma:a")),
            *((ollama.ShowResponse, reply) for reply in shown),
        ]:
            assert reply.status_code == 200, reply.text
            validator(kind).validate_json(reply.text, strict=True)
            count["replies"] += 1
    print(f"{count['replies']} replies and {count['events']} events, seed {SEED}", flush=True)


if __name__ == "__main__":
    run(everything)
