"""The official `openai` client for Python against a running gateway. One part per run, named on the command line.

Replies are also validated strictly against the client's own models, which it does not do by itself.
"""

import asyncio
import json

import openai
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from part import BASE, BLUE, GET_WEATHER, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, WEATHER
from part import Animal, all_of, leave_unanswered, run, say, until_told

TOOLS = [GET_WEATHER]
PNG = "data:image/png;base64,"


def by_header(key=KEY):
    return openai.OpenAI(base_url=f"{BASE}/v1", api_key=key, max_retries=0)


def by_path():
    # the client wants an `api_key` and always sends it: the same one
    return openai.OpenAI(base_url=f"{BASE}/k/{KEY}/v1", api_key=KEY, max_retries=0)


def refused(kind, call):
    """The error of a call that must fail."""
    try:
        call()
    except kind as error:
        assert isinstance(error.body, dict) and error.body["message"].strip(), error.body
        return error
    raise AssertionError("it was answered")


def strict(model, raw):
    """A raw reply in the client's model, every field checked."""
    model.model_validate_json(raw.text, strict=True)
    return raw.parse()


def strict_chunks(chunks):
    for chunk in chunks:
        ChatCompletionChunk.model_validate_json(chunk.model_dump_json(exclude_unset=True), strict=True)
        yield chunk


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def chats(client):
    ask = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 12}
    once = strict(ChatCompletion, client.chat.completions.with_raw_response.create(**ask))
    (choice,) = once.choices
    assert choice.finish_reason == "length" and choice.message.role == "assistant" and choice.message.content, once
    assert once.usage.completion_tokens == 12, once
    assert once.usage.total_tokens == once.usage.prompt_tokens + 12, once
    capped = client.chat.completions.create(model="gemma:a", messages=QUESTION, max_completion_tokens=5)
    assert capped.usage.completion_tokens == 5, "max_completion_tokens is honoured"

    chunks = list(strict_chunks(client.chat.completions.create(**ask, stream=True)))
    assert text_of(chunks) == choice.message.content, "streamed as at once"
    assert chunks[0].choices[0].delta.role == "assistant", chunks[0]
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length", chunks[-1]
    assert len({chunk.id for chunk in chunks}) == 1 and chunks[0].id != once.id, "one id per answer"
    assert all(chunk.usage is None for chunk in chunks), "nobody asked for usage"
    usage = list(client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert not usage[-1].choices and usage[-1].usage.completion_tokens == 12, usage[-1]

    with client.chat.completions.stream(**ask) as events:
        kinds = {event.type for event in events}
        final = events.current_completion_snapshot
    assert {"chunk", "content.delta", "content.done"} <= kinds, kinds
    assert final.choices[0].message.content == choice.message.content, final

    parts = [{"role": "user", "content": [{"type": "text", "text": "Why is"}, {"type": "text", "text": "the sky blue?"}]}]
    assert client.chat.completions.create(model="gemma:a", messages=parts, max_tokens=3).choices[0].message.content
    logprobs = client.chat.completions.create(**ask, logprobs=True, top_logprobs=2).choices[0].logprobs
    assert len(logprobs.content[0].top_logprobs) == 2, logprobs


def completes(client):
    ask = {"model": "gemma:a", "prompt": "The capital of France is", "max_tokens": 12}
    once = strict(Completion, client.completions.with_raw_response.create(**ask))
    assert once.choices[0].text and once.choices[0].finish_reason == "length", once
    assert once.usage.completion_tokens == 12, once
    chunks = list(client.completions.create(**ask, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == once.choices[0].text, "streamed as at once"
    assert chunks[-1].choices[0].finish_reason == "length", chunks[-1]


def tools(client):
    ask = {"model": "tooly", "tools": TOOLS}
    told = strict(ChatCompletion, client.chat.completions.with_raw_response.create(**ask, messages=WEATHER)).choices[0]
    (call,) = told.message.tool_calls
    assert told.finish_reason == "tool_calls" and call.type == "function" and call.id, told
    assert call.function.name == "get_weather" and json.loads(call.function.arguments) == {"city": "Paris"}, call

    chunks = list(strict_chunks(client.chat.completions.create(**ask, messages=WEATHER, stream=True)))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert {call.index for call in calls} == {0} and calls[0].id, calls
    assert json.loads("".join(call.function.arguments for call in calls)) == {"city": "Paris"}, calls
    assert chunks[-1].choices[0].finish_reason == "tool_calls", chunks[-1]
    with client.chat.completions.stream(**ask, messages=WEATHER) as events:
        done = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert len(done) == 1 and json.loads(done[0].arguments) == {"city": "Paris"}, done

    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    history = [*WEATHER, told.message.model_dump(exclude_none=True), result]
    assert client.chat.completions.create(**ask, messages=history).choices[0].finish_reason
    streamed = list(strict_chunks(client.chat.completions.create(**ask, messages=history, stream=True)))
    assert streamed[-1].choices[0].finish_reason, streamed
    none = client.chat.completions.create(**ask, messages=WEATHER, tool_choice="none", max_tokens=5)
    assert not none.choices[0].message.tool_calls, "tool_choice none offers no tools"


def shapes(client):
    parsed = client.chat.completions.parse(model="gemma:a", messages=QUESTION, response_format=Animal)
    assert isinstance(parsed.choices[0].message.parsed, Animal), parsed
    with client.chat.completions.stream(model="gemma:a", messages=QUESTION, response_format=Animal) as events:
        final = events.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Animal), final
    told = client.chat.completions.create(
        model="gemma:a", messages=QUESTION, response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(told.choices[0].message.content), dict), told


def embeds(client):
    # the client asks for base64 by itself, and decodes it
    one = client.embeddings.create(model="tinybert", input="a")
    two = client.embeddings.create(model="tinybert", input=["a", "b"])
    floats = strict(
        CreateEmbeddingResponse,
        client.embeddings.with_raw_response.create(model="tinybert", input="a", encoding_format="float"),
    )
    assert len(one.data[0].embedding) == 64 and one.usage.prompt_tokens > 0, one
    assert [item.index for item in two.data] == [0, 1], two
    assert two.data[0].embedding == one.data[0].embedding != two.data[1].embedding, two
    apart = [abs(a - b) for a, b in zip(one.data[0].embedding, floats.data[0].embedding, strict=True)]
    assert max(apart) < 1e-6, "base64 is the same vector"
    coded = client.embeddings.create(model="tinybert", input="a", encoding_format="base64")
    assert isinstance(coded.data[0].embedding, str), coded
    both = client.embeddings.create(model="tinybert", input=["a", "b"], encoding_format="float")
    near = [abs(a - b) for x, y in zip(both.data, two.data, strict=True) for a, b in zip(x.embedding, y.embedding)]
    assert len(near) == 128 and max(near) < 1e-6, "the same batch either way"
    assert len(client.embeddings.create(model="tinybert", input="a", dimensions=8).data[0].embedding) == 8


def thinks(client):
    ask = {"model": "thinky", "messages": SNOW}
    told = client.chat.completions.create(**ask, reasoning_effort="low").choices[0].message
    assert told.reasoning == "Snow is white, so it is white." and told.content == "Yes, snow is white.\n", told
    chunks = list(client.chat.completions.create(**ask, reasoning_effort="low", stream=True))
    reasoning = "".join(getattr(chunk.choices[0].delta, "reasoning", None) or "" for chunk in chunks)
    assert reasoning == told.reasoning and text_of(chunks) == told.content, chunks
    silent = client.chat.completions.create(**ask, reasoning_effort="none").choices[0].message
    assert not getattr(silent, "reasoning", None), silent


def looks_at(url):
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]


def sees(client):
    """Pictures as data URLs, other URLs, and a model that has no eyes."""
    create = client.chat.completions.create
    told = {}
    for url in (PNG + BLUE, PNG + RED):
        ask = {"model": "seer", "messages": looks_at(url), "max_tokens": 12}
        once = strict(ChatCompletion, client.chat.completions.with_raw_response.create(**ask))
        assert once.usage.prompt_tokens > 100, "a picture is tokens too"
        told[url] = once.choices[0].message.content
        assert text_of(strict_chunks(create(**ask, stream=True))) == told[url], "streamed as at once"
    assert told[PNG + BLUE] and told[PNG + BLUE] != told[PNG + RED], f"it sees what is different: {told}"

    for model, url, part in (
        ("gemma:a", PNG + BLUE, "does not support multimodal requests"),
        ("seer", "https://example.com/x.png", "image URLs are not currently supported"),
        ("seer", "data:image/gif;base64,R0lGODlh", "invalid image input"),
    ):
        for stream in (False, True):
            call = lambda: create(model=model, messages=looks_at(url), stream=stream)
            assert part in refused(openai.BadRequestError, call).body["message"]


def lists(client):
    names = [model.id for model in client.models.list()]
    assert "gemma:a" in names and "stamped:latest" not in names, f"not this application's: {names}"
    model = strict(Model, client.models.with_raw_response.retrieve("gemma:a"))
    assert model.id == "gemma:a" and model.object == "model", model
    refused(openai.NotFoundError, lambda: client.models.retrieve("nowhere"))


def refusals():
    wrong = by_header("gk_nothing")
    for call in (
        wrong.models.list,
        lambda: wrong.chat.completions.create(model="gemma:a", messages=QUESTION),
        lambda: wrong.chat.completions.create(model="gemma:a", messages=QUESTION, stream=True),
        lambda: wrong.completions.create(model="gemma:a", prompt="x"),
        lambda: wrong.embeddings.create(model="tinybert", input="a"),
    ):
        error = refused(openai.AuthenticationError, call)
        assert "key" in error.body["message"] and "gk_nothing" not in str(error), error
        assert error.type == "authentication_error", error
    client = by_header()
    ask = client.chat.completions.create
    for call in (
        lambda: ask(model="nowhere", messages=QUESTION),
        lambda: ask(model="nowhere", messages=QUESTION, stream=True),
        lambda: client.embeddings.create(model="nowhere", input="x"),
    ):
        assert "nowhere" in refused(openai.NotFoundError, call).body["message"]
    error = refused(openai.PermissionDeniedError, lambda: ask(model="stamped", messages=QUESTION))
    assert "stamped" in error.body["message"], error
    for field, value in (("temperature", "hot"), ("max_tokens", "many"), ("stream_options", 7)):
        for stream in (False, True):
            call = lambda: ask(model="gemma:a", messages=QUESTION, stream=stream, **{field: value})
            error = refused(openai.BadRequestError, call)
            assert field in error.body["message"] and error.type == "invalid_request_error", error
    error = refused(openai.BadRequestError, lambda: ask(model="gemma:a", messages=QUESTION, tools=TOOLS))
    assert "does not support tools" in error.body["message"], error
    error = refused(openai.BadRequestError, lambda: ask(model="gemma:a", messages=QUESTION, n=2))
    assert error.param == "n" and error.type == "invalid_request_error", error

    throttled = by_header(THROTTLED)
    throttled.chat.completions.create(model="gemma:a", messages=QUESTION, max_tokens=3)
    for stream in (False, True):
        ask = throttled.chat.completions.create
        error = refused(openai.RateLimitError, lambda: ask(model="gemma:a", messages=QUESTION, stream=stream))
        assert "per minute" in error.body["message"] and error.type == "rate_limit_error", error
        headers = error.response.headers
        assert 0 < int(headers["retry-after"]) <= 60, headers
        assert headers["x-ratelimit-remaining-requests"] == "0", headers


def queued():
    """The only slot is taken: a client that may not wait, then one that will not."""
    ask = {"model": "gemma:a", "messages": QUESTION}
    now = by_header().with_options(default_headers={"X-Gaucho-Deadline": "0"})
    for kind, part, client in (
        (openai.RateLimitError, "max_queued", by_header(HASTY)),
        (openai.InternalServerError, "X-Gaucho-Deadline", now),
    ):
        for call in (
            lambda: client.chat.completions.create(**ask),
            lambda: client.chat.completions.create(**ask, stream=True),
            lambda: client.completions.create(model="gemma:a", prompt="Why?"),
        ):
            error = refused(kind, call)
            assert part in error.body["message"] and error.status_code in (429, 503), error
            assert int(error.response.headers["retry-after"]) > 0 and error.code, error


def headers(client):
    ask = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 3}
    for reply in (
        client.chat.completions.with_raw_response.create(**ask),
        client.chat.completions.with_raw_response.create(**ask, stream=True),
        client.embeddings.with_raw_response.create(model="tinybert", input="a"),
    ):
        assert reply.headers["x-ratelimit-limit-requests"] == "6000", reply.headers
        assert int(reply.headers["x-ratelimit-remaining-requests"]) < 6000, reply.headers
        assert reply.headers["x-ratelimit-reset-requests"].endswith("s"), reply.headers
        assert reply.request_id == reply.headers["x-request-id"] and reply.request_id, reply.headers
        reply.parse() if "stream" not in reply.headers["content-type"] else list(reply.parse())
    with client.chat.completions.with_streaming_response.create(**ask, stream=True) as reply:
        assert reply.headers["content-type"] == "text/event-stream", reply.headers
        assert list(reply.iter_lines())[-2:] == ["data: [DONE]", ""], "the last words of a stream"


async def at_once():
    """The asynchronous client, several streams on one pool."""
    async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0) as client:

        async def stream():
            ask = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 12}
            return text_of([chunk async for chunk in await client.chat.completions.create(**ask, stream=True)])

        texts = await asyncio.gather(*(stream() for _ in range(4)))
        assert len(set(texts)) == 1 and texts[0], texts


def everyday():
    for client in (by_header(), by_path()):
        for part in (chats, completes, tools, shapes, embeds, thinks, sees, lists, headers):
            part(client)
    asyncio.run(at_once())
    refusals()


def breaks_off(stream):
    """Reads a stream that gives two pieces and then fails."""
    pieces = []
    error = refused(openai.APIError, lambda: all_of(stream, pieces))
    say(f"the error reads: {error.message}")
    assert len(pieces) == 2 and all(piece.choices[0].finish_reason is None for piece in pieces), pieces


def broken():
    """Faults come in this order: four for streamed chats, one for a streamed completion, one for a chat at once."""
    until_told()
    client = by_header()
    for _ in range(4):
        breaks_off(client.chat.completions.create(model="gemma:a", messages=QUESTION, stream=True))
    breaks_off(client.completions.create(model="gemma:a", prompt="Why?", stream=True))
    ask = client.chat.completions.create
    error = refused(openai.InternalServerError, lambda: ask(model="gemma:a", messages=QUESTION))
    say(f"the error reads: {error.message}")
    assert ask(model="gemma:a", messages=QUESTION, max_tokens=3).choices, "the next one is answered"


def leaves():
    client = by_header()
    with client.chat.completions.create(model="gemma:a", messages=QUESTION, stream=True) as stream:
        for _ in range(3):
            assert next(stream).choices[0].finish_reason is None
    say("left")
    until_told()

    async def waiting():
        async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0) as client:
            await leave_unanswered(client.chat.completions.create(model="gemma:a", messages=QUESTION))

    asyncio.run(waiting())
    assert client.chat.completions.create(model="gemma:a", messages=QUESTION, max_tokens=3), "the slot is free again"


def waits():
    """The slot is taken; comment lines come until it is free."""
    ask = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 12, "stream": True}
    client = by_header()
    stream = client.chat.completions.create(**ask, extra_headers={"X-Gaucho-Keepalive": "1s"})
    say("waiting")
    chunks = list(strict_chunks(stream))
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices[0].finish_reason == "length", chunks
    assert text_of(chunks) == text_of(client.chat.completions.create(**ask)), "the same as without waiting"


if __name__ == "__main__":
    run(everyday, broken, leaves, waits, queued)
