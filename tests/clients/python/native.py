"""The official `ollama` client for Python against a running gateway. One part per run, named on the command line."""

import asyncio
import base64
import json

import ollama
from part import BASE, BLUE, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, WEATHER
from part import Animal, all_of, leave_unanswered, run, say, until_told

SHORT = {"num_predict": 12}


def by_header(key=KEY):
    return ollama.Client(host=BASE, headers={"Authorization": f"Bearer {key}"})


def by_path(key=KEY):
    return ollama.Client(host=f"{BASE}/k/{key}")


def refused(call, readable=True):
    """The error of a call that must fail."""
    try:
        call()
    except ollama.ResponseError as error:
        assert error.error.strip(), "an error without a text"
        assert not readable or "{" not in error.error, f"a text to read, not JSON: {error.error}"
        return error
    raise AssertionError("it was answered")


def get_weather(city: str) -> str:
    """Weather in a city

    Args:
      city: the city
    """
    return f"sunny in {city}"


def talks(client):
    """Everything that is asked of a model."""
    once = client.chat(model="gemma:a", messages=QUESTION, options=SHORT)
    assert once.done and once.done_reason == "length" and once.eval_count == 12, once
    assert once.message.role == "assistant" and once.message.content, once
    assert once.total_duration > 0 and once.prompt_eval_count > 0, once

    pieces = list(client.chat(model="gemma:a", messages=QUESTION, options=SHORT, stream=True))
    assert len(pieces) > 3 and [piece.done for piece in pieces[:-1]] == [False] * (len(pieces) - 1), pieces
    assert pieces[-1].done and pieces[-1].done_reason == "length" and pieces[-1].eval_count == 12, pieces[-1]
    assert "".join(piece.message.content for piece in pieces) == once.message.content, "streamed as at once"

    once = client.generate(model="gemma:a", prompt="Why?", options=SHORT)
    assert once.response and once.done and once.context, once
    pieces = list(client.generate(model="gemma:a", prompt="Why?", options=SHORT, stream=True))
    assert "".join(piece.response for piece in pieces) == once.response, "streamed as at once"
    assert pieces[-1].done and pieces[-1].context == once.context, pieces[-1]

    load = client.generate(model="gemma:a")
    assert load.done_reason == "load", load


def tools(client):
    told = client.chat(model="tooly", messages=WEATHER, tools=[get_weather])
    (call,) = told.message.tool_calls
    assert call.function.name == "get_weather" and call.function.arguments == {"city": "Paris"}, call
    streamed = list(client.chat(model="tooly", messages=WEATHER, tools=[get_weather], stream=True))
    (call,) = [call for piece in streamed for call in piece.message.tool_calls or []]
    assert call.function.arguments == {"city": "Paris"} and streamed[-1].done, streamed
    result = {"role": "tool", "tool_name": "get_weather", "content": get_weather(**call.function.arguments)}
    after = client.chat(model="tooly", messages=[*WEATHER, told.message, result], tools=[get_weather])
    assert after.done, after
    ask = {"model": "tooly", "messages": [*WEATHER, told.message, result], "tools": [get_weather], "stream": True}
    assert list(client.chat(**ask))[-1].done


def shapes(client):
    schema = Animal.model_json_schema()
    told = client.chat(model="gemma:a", messages=QUESTION, format=schema)
    Animal.model_validate_json(told.message.content, strict=True)
    streamed = client.generate(model="gemma:a", prompt="An animal", format=schema, stream=True)
    Animal.model_validate_json("".join(piece.response for piece in streamed), strict=True)
    told = client.chat(model="gemma:a", messages=QUESTION, format="json")
    assert isinstance(json.loads(told.message.content), dict), told


def embeds(client):
    one = client.embed(model="tinybert", input="a")
    two = client.embed(model="tinybert", input=["a", "b"])
    assert len(one.embeddings) == 1 and len(one.embeddings[0]) == 64, one
    assert len(two.embeddings) == 2 and two.embeddings[0] == one.embeddings[0] != two.embeddings[1], two
    assert len(client.embed(model="tinybert", input="a", dimensions=8).embeddings[0]) == 8
    assert len(client.embeddings(model="tinybert", prompt="a").embedding) == 64


def thinks(client):
    told = client.chat(model="thinky", messages=SNOW, think=True)
    assert told.message.thinking == "Snow is white, so it is white.", told
    assert told.message.content == "Yes, snow is white.\n", told
    pieces = list(client.chat(model="thinky", messages=SNOW, think=True, stream=True))
    assert "".join(piece.message.thinking or "" for piece in pieces) == told.message.thinking, pieces
    assert "".join(piece.message.content or "" for piece in pieces) == told.message.content, pieces
    assert not client.chat(model="thinky", messages=SNOW, think=False).message.thinking
    told = client.generate(model="thinky", prompt="Is snow white?", think=True)
    assert told.thinking == "Snow is white, so it is white." and told.response == "Yes, snow is white.\n", told
    error = refused(lambda: client.chat(model="gemma:a", messages=SNOW, think=True))
    assert error.status_code == 400 and "thinking" in error.error, error


def sees(client):
    """Pictures: as bytes, as base64, in a chat, in a generate, and before a model that has no eyes."""
    blind = client.chat(model="seer", messages=QUESTION, options=SHORT)
    told = {}
    for name, picture in (("blue", BLUE), ("red", RED)):
        ask = {"model": "seer", "messages": [{**QUESTION[0], "images": [picture]}], "options": SHORT}
        told[name] = client.chat(**ask)
        assert told[name].prompt_eval_count > blind.prompt_eval_count + 100, "a picture is tokens too"
        pieces = list(client.chat(**ask, stream=True))
        assert "".join(piece.message.content for piece in pieces) == told[name].message.content, pieces
    texts = {blind.message.content, *(answer.message.content for answer in told.values())}
    assert len(texts) == 3, f"it sees what is different: {texts}"
    raw = [{**QUESTION[0], "images": [ollama.Image(value=base64.b64decode(BLUE))]}]
    assert client.chat(model="seer", messages=raw, options=SHORT).message.content == told["blue"].message.content
    assert client.generate(model="seer", prompt="What is it?", images=[BLUE], options=SHORT).response

    # Ollama passes on what its runner says, which is JSON in a string
    for stream in (False, True):
        ask = {"model": "gemma:a", "messages": raw, "stream": stream}
        error = refused(lambda: list(client.chat(**ask)), readable=False)
        assert error.status_code == 400 and "does not support multimodal requests" in error.error, error
    error = refused(lambda: client.chat(model="seer", messages=[{"role": "user", "content": "x", "images": ["%%%%"]}]))
    assert error.status_code == 400 and "base64" in error.error, error


def lists(client):
    names = [model.model for model in client.list().models]
    assert "gemma:a" in names and "tinybert:latest" in names, names
    assert "hidden:latest" not in names and "stamped:latest" not in names, f"not this application's: {names}"
    shown = client.show("tooly")
    assert shown.capabilities == ["completion", "tools"] and shown.modelinfo and shown.details.family, shown
    loaded = client.ps().models
    assert any(model.model == "gemma:a" and model.size > 0 and model.expires_at for model in loaded), loaded


def refusals():
    for client in (by_header("gk_nothing"), by_path("gk_nothing"), ollama.Client(host=BASE)):
        for call in (
            client.list,
            client.ps,
            lambda: client.show("gemma:a"),
            lambda: client.chat(model="gemma:a", messages=QUESTION),
            lambda: next(iter(client.chat(model="gemma:a", messages=QUESTION, stream=True))),
            lambda: client.embed(model="tinybert", input="a"),
        ):
            error = refused(call)
            assert error.status_code == 403 and "key" in error.error, error
            assert "gk_nothing" not in error.error, "a key in an error's text"
    client = by_header()
    for call in (
        lambda: client.chat(model="nowhere", messages=QUESTION),
        lambda: next(iter(client.generate(model="nowhere", prompt="x", stream=True))),
        lambda: client.show("nowhere"),
        lambda: client.embed(model="nowhere", input="x"),
    ):
        error = refused(call)
        assert error.status_code == 404 and "nowhere" in error.error, error
    for name, value in (("temperature", "hot"), ("num_predict", "many"), ("stop", 7)):
        for stream in (False, True):
            ask = {"model": "gemma:a", "messages": QUESTION, "options": {name: value}, "stream": stream}
            error = refused(lambda: list(client.chat(**ask)))
            assert error.status_code == 400 and name in error.error, error
    error = refused(lambda: client.chat(model="gemma:a", messages=QUESTION, tools=[get_weather]))
    assert error.status_code == 400 and "does not support tools" in error.error, error
    error = refused(lambda: client.chat(model="stamped", messages=QUESTION))
    assert error.status_code == 403 and "stamped" in error.error, error
    error = refused(lambda: client.pull("gemma:a"))
    assert error.status_code == 403 and "ollama pull" in error.error, error
    error = refused(lambda: client.delete("gemma:a"))
    assert error.status_code == 403 and "ollama rm" in error.error, error
    seen, throttled = spied(THROTTLED)
    throttled.chat(model="gemma:a", messages=QUESTION, options=SHORT)
    for call in (
        lambda: throttled.chat(model="gemma:a", messages=QUESTION),
        lambda: next(iter(throttled.chat(model="gemma:a", messages=QUESTION, stream=True))),
    ):
        error = refused(call)
        assert error.status_code == 429 and "per minute" in error.error, error
        assert 0 < int(seen[-1]["retry-after"]) <= 60, seen[-1]


def spied(key=KEY, **headers):
    """A client, and what it itself shows nobody: the headers of its replies."""
    seen = []
    hooks = {"response": [lambda response: seen.append(response.headers)]}
    return seen, ollama.Client(host=BASE, headers={"Authorization": f"Bearer {key}", **headers}, event_hooks=hooks)


def queued():
    """The only slot is taken: a client that may not wait, then one that will not."""
    for status, part, (seen, client) in (
        (429, "max_queued", spied(HASTY)),
        (503, "X-Gaucho-Deadline", spied(**{"X-Gaucho-Deadline": "0"})),
    ):
        for call in (
            lambda: client.chat(model="gemma:a", messages=QUESTION),
            lambda: next(iter(client.chat(model="gemma:a", messages=QUESTION, stream=True))),
            lambda: client.generate(model="gemma:a", prompt="Why?"),
        ):
            error = refused(call)
            assert error.status_code == status and part in error.error, error
            assert int(seen[-1]["retry-after"]) > 0, seen[-1]


def headers():
    seen, client = spied()
    client.chat(model="gemma:a", messages=QUESTION, options=SHORT)
    list(client.chat(model="gemma:a", messages=QUESTION, options=SHORT, stream=True))
    for reply in seen:
        assert reply["ratelimit-limit"] == "6000" and reply["x-request-id"], reply
        assert int(reply["ratelimit-remaining"]) < 6000 and "ratelimit-reset" in reply, reply
    assert seen[1]["content-type"] == "application/x-ndjson", seen[1]


async def at_once():
    """The asynchronous client, several streams on one pool."""
    client = ollama.AsyncClient(host=f"{BASE}/k/{KEY}")

    async def stream():
        pieces = [piece async for piece in await client.chat("gemma:a", QUESTION, options=SHORT, stream=True)]
        assert pieces[-1].done and pieces[-1].eval_count == 12, pieces[-1]
        return "".join(piece.message.content for piece in pieces)

    texts = await asyncio.gather(*(stream() for _ in range(4)))
    assert len(set(texts)) == 1 and texts[0], texts


def everyday():
    for client in (by_header(), by_path()):
        for part in (talks, tools, shapes, embeds, thinks, sees, lists):
            part(client)
    headers()
    asyncio.run(at_once())
    refusals()


def breaks_off(stream):
    """Reads a stream that gives two pieces and then fails."""
    pieces = []
    say(f"the error reads: {refused(lambda: all_of(stream, pieces)).error}")
    assert len(pieces) == 2 and not pieces[-1].done, pieces


def broken():
    """Faults come in this order: four for streamed chats, one for a streamed generate, one for a chat at once."""
    client = by_header()

    for _ in range(4):
        breaks_off(client.chat(model="gemma:a", messages=QUESTION, stream=True))
    breaks_off(client.generate(model="gemma:a", prompt="Why?", stream=True))
    error = refused(lambda: client.chat(model="gemma:a", messages=QUESTION))
    assert error.status_code >= 500, error
    assert client.chat(model="gemma:a", messages=QUESTION, options=SHORT).done, "the next one is answered"


def leaves():
    client = by_header()
    stream = client.chat(model="gemma:a", messages=QUESTION, stream=True)
    for _ in range(3):
        assert not next(stream).done
    stream.close()
    say("left")
    until_told()

    waiting = ollama.AsyncClient(host=f"{BASE}/k/{KEY}").chat(model="gemma:a", messages=QUESTION)
    asyncio.run(leave_unanswered(waiting))
    assert client.chat(model="gemma:a", messages=QUESTION, options=SHORT).done, "the slot is free again"


if __name__ == "__main__":
    run(everyday, broken, leaves, queued)
