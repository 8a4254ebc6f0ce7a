"""The official `anthropic` client for Python against a running gateway. One part per run, named on the command line.

Replies are also validated strictly against the client's own models, which it does not do by itself.
"""

import asyncio
import json
from datetime import datetime

import anthropic
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from part import BASE, BLUE, GET_WEATHER, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, WEATHER
from part import Animal, all_of, by_schema, leave_unanswered, run, say, until_told

TOOLS = [by_schema(GET_WEATHER)]
EVENT = TypeAdapter(RawMessageStreamEvent)
SHORT = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 12}
LONG = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 500}


def by_header(key=KEY, **more):
    return anthropic.Anthropic(base_url=BASE, api_key=key, max_retries=0, **more)


def by_path():
    # the client wants a key and always sends it: the same one
    return anthropic.Anthropic(base_url=f"{BASE}/k/{KEY}", api_key=KEY, max_retries=0)


def refused(kind, call, part):
    """The error of a call that must fail with this in its text."""
    try:
        call()
    except kind as error:
        assert part in error.api_message, f"{part}: {error.body}"
        return error
    raise AssertionError("it was answered")


def strict(raw):
    """A raw reply in the client's model, every field checked."""
    Message.model_validate_json(raw.text(), strict=True)
    return raw.parse()


def strict_events(events):
    for event in events:
        EVENT.validate_json(event.model_dump_json(exclude_unset=True), strict=True)
        yield event


def deltas(events, kind="text"):
    """What the pieces of this kind say together."""
    pieces = [event.delta for event in events if event.type == "content_block_delta"]
    return "".join(getattr(piece, kind, "") for piece in pieces)


def chats(client):
    once = strict(client.messages.with_raw_response.create(**SHORT))
    (block,) = once.content
    assert once.id.startswith("msg_") and once.role == "assistant" and once.type == "message", once
    assert once.model == "gemma:a" and once.stop_reason == "max_tokens" and block.text, once
    assert once.usage.output_tokens == 12 and once.usage.input_tokens > 0, once

    events = list(strict_events(client.messages.create(**SHORT, stream=True)))
    assert deltas(events) == block.text, "streamed as at once"
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"], kinds
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"], kinds
    assert set(kinds[2:-3]) == {"content_block_delta"} and len(kinds) > 8, kinds
    assert events[0].message.id not in ("", once.id) and events[0].message.content == [], events[0]
    assert events[-2].delta.stop_reason == "max_tokens", events[-2]
    assert events[-2].usage.model_dump(exclude_none=True) == once.usage.model_dump(exclude_none=True), events[-2]

    with client.messages.stream(**SHORT) as stream:
        assert "".join(stream.text_stream) == block.text, "the helper reads the same"
        final = stream.get_final_message()
    assert final.content[0].text == block.text and final.usage.output_tokens == 12, final
    with client.messages.stream(**SHORT) as stream:
        assert {"text", "content_block_stop", "message_stop"} <= {event.type for event in stream}
        assert stream.get_final_text() == block.text

    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "Why is"}, {"type": "text", "text": "the sky blue?"}]}]
    ask = {"model": "gemma:a", "messages": parts, "system": system, "max_tokens": 3, "metadata": {"user_id": "u"}}
    # what this version of the client has no arguments for any more
    told = client.messages.create(**ask, extra_body={"temperature": 0.5, "top_k": 5, "top_p": 0.9})
    assert told.content[0].text and told.usage.output_tokens == 3, told
    stop = block.text.split()[1]
    cut = client.messages.create(**SHORT, stop_sequences=[stop])
    assert stop not in cut.content[0].text and cut.stop_reason == "end_turn", cut


def tools(client):
    ask = {"model": "tooly", "tools": TOOLS, "max_tokens": 200}
    told = strict(client.messages.with_raw_response.create(**ask, messages=WEATHER))
    (call,) = [block for block in told.content if block.type == "tool_use"]
    assert told.stop_reason == "tool_use" and call.id, told
    assert call.name == "get_weather" and call.input == {"city": "Paris"}, call

    events = list(strict_events(client.messages.create(**ask, messages=WEATHER, stream=True)))
    (start,) = [event for event in events if event.type == "content_block_start" and event.content_block.type == "tool_use"]
    assert start.content_block.name == "get_weather" and start.content_block.input == {}, start
    assert json.loads(deltas(events, "partial_json")) == {"city": "Paris"} and events[-2].delta.stop_reason == "tool_use", events
    with client.messages.stream(**ask, messages=WEATHER) as stream:
        (streamed,) = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert streamed.input == {"city": "Paris"}, streamed

    for content in ("sunny", [{"type": "text", "text": "sunny"}]):
        result = {"type": "tool_result", "tool_use_id": call.id, "content": content}
        history = [*WEATHER, {"role": "assistant", "content": told.content}, {"role": "user", "content": [result]}]
        assert strict(client.messages.with_raw_response.create(**ask, messages=history)).stop_reason, "answered"
        assert list(strict_events(client.messages.create(**ask, messages=history, stream=True)))[-1].type == "message_stop"
    none = client.messages.create(**ask, messages=WEATHER, tool_choice={"type": "none"})
    assert all(block.type != "tool_use" for block in none.content), "tool_choice none offers no tools"
    beta = client.beta.messages.create(**ask, messages=WEATHER, betas=["some-beta-2026-01-01"])
    assert beta.stop_reason == "tool_use", beta


def shapes(client):
    ask = {"model": "gemma:a", "messages": QUESTION, "max_tokens": 500}
    parsed = client.messages.parse(**ask, output_format=Animal)
    assert isinstance(parsed.parsed_output, Animal), parsed
    with client.messages.stream(**ask, output_format=Animal) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Animal)
    schema = {"type": "json_schema", "schema": Animal.model_json_schema()}
    told = client.messages.create(**ask, output_config={"format": schema})
    Animal.model_validate_json(told.content[0].text, strict=True)


def thinks(client):
    ask = {"model": "thinky", "messages": SNOW, "max_tokens": 2000}
    on = {"type": "enabled", "budget_tokens": 1024}
    told = client.messages.create(**ask, thinking=on)
    thinking, text = told.content
    assert thinking.type == "thinking" and thinking.thinking == "Snow is white, so it is white.", told
    assert text.text == "Yes, snow is white.\n" and told.stop_reason == "end_turn", told
    with client.messages.stream(**ask, thinking=on) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert "".join(event.thinking for event in events if event.type == "thinking") == thinking.thinking, events
    assert [block.type for block in final.content] == ["thinking", "text"] and final.content[1].text == text.text, final
    off = client.messages.create(**ask, thinking={"type": "disabled"})
    assert [block.type for block in off.content] == ["text"], off
    effort = client.messages.create(**ask, output_config={"effort": "low"})
    assert [block.type for block in effort.content] == ["thinking", "text"], effort
    # a client that always asks for thinking, of a model that has none
    assert client.messages.create(**SHORT, thinking=on).content[0].type == "text"
    history = [*SNOW, {"role": "assistant", "content": told.content}, *SNOW]
    assert client.messages.create(model="thinky", messages=history, max_tokens=9).content, "what it thought comes back"


def looks_at(source):
    return [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]}]


def png(data):
    return {"type": "base64", "media_type": "image/png", "data": data}


def sees(client):
    """Pictures in blocks, other sources, and a model that has no eyes."""
    create = client.messages.create
    told = {}
    for picture in (BLUE, RED):
        ask = {"model": "seer", "messages": looks_at(png(picture)), "max_tokens": 12}
        once = strict(client.messages.with_raw_response.create(**ask))
        assert once.usage.input_tokens > 100, "a picture is tokens too"
        told[picture] = once.content[0].text
        assert deltas(strict_events(create(**ask, stream=True))) == told[picture], "streamed as at once"
    assert told[BLUE] and told[BLUE] != told[RED], f"it sees what is different: {told}"
    for model, source, part in (
        ("gemma:a", png(BLUE), "does not support multimodal requests"),
        ("seer", {"type": "url", "url": "https://example.com/x.png"}, "Only base64 images are supported"),
        ("seer", png("%%%%"), "base64"),
    ):
        for stream in (False, True):
            call = lambda: create(model=model, messages=looks_at(source), max_tokens=9, stream=stream)
            refused(anthropic.BadRequestError, call, part)


def lists(client):
    names = [model.id for model in client.models.list()]
    assert "gemma:a" in names and "stamped:latest" not in names, f"not this application's: {names}"
    assert client.models.retrieve("gemma:a").id == "gemma:a"
    refused(anthropic.NotFoundError, lambda: client.models.retrieve("nowhere"), "nowhere")


def headers(client):
    for reply in (
        client.messages.with_raw_response.create(**SHORT),
        client.messages.with_raw_response.create(**SHORT, stream=True),
    ):
        at = "anthropic-ratelimit-requests-"
        assert reply.headers[f"{at}limit"] == "6000" and int(reply.headers[f"{at}remaining"]) < 6000, reply.headers
        assert datetime.fromisoformat(reply.headers[f"{at}reset"]), reply.headers
        assert reply.request_id == reply.headers["x-request-id"] != "", reply.headers
        list(reply.parse()) if "stream" in reply.headers["content-type"] else reply.parse()
    assert client.messages.create(**SHORT)._request_id.startswith("req_")
    with client.messages.stream(**SHORT) as stream:
        assert stream.request_id.startswith("req_")
    with client.messages.with_streaming_response.create(**SHORT, stream=True) as reply:
        assert reply.headers["content-type"] == "text/event-stream", reply.headers
        lines = list(reply.iter_lines())
    assert lines[0] == "event: message_start" and 'data: {"type":"message_stop"}' in lines, lines


def refusals():
    wrong = by_header("gk_nothing")
    for call in (
        wrong.models.list,
        lambda: wrong.messages.create(**SHORT),
        lambda: wrong.messages.create(**SHORT, stream=True),
    ):
        error = refused(anthropic.AuthenticationError, call, "key")
        assert "gk_nothing" not in str(error) and error.type == "authentication_error", error
    client = by_header()

    def asks(stream=False, **more):
        return lambda: client.messages.create(**SHORT, stream=stream, extra_body=more)

    for stream in (False, True):
        error = refused(anthropic.NotFoundError, asks(model="nowhere", stream=stream), "nowhere")
        assert error.type == "not_found_error", error
        assert error.request_id == error.body["request_id"] == error.response.headers["request-id"], error.body
        error = refused(anthropic.PermissionDeniedError, asks(model="stamped", stream=stream), "stamped")
        assert error.type == "permission_error", error
        for field, value in (
            ("temperature", "hot"),
            ("max_tokens", "many"),
            ("max_tokens", 0),
            ("messages", []),
            ("tool_choice", {"type": "any"}),
            ("compaction", {"type": "summarize"}),
        ):
            error = refused(anthropic.BadRequestError, asks(stream=stream, **{field: value}), field)
            assert error.type == "invalid_request_error", error
    search = [{"type": "web_search_20250305", "name": "web_search"}]
    refused(anthropic.BadRequestError, asks(model="tooly", tools=search), "web_search")
    refused(anthropic.BadRequestError, asks(tools=TOOLS), "does not support tools")
    # Ollama has no such route
    try:
        client.messages.count_tokens(model="gemma:a", messages=QUESTION)
    except anthropic.NotFoundError as error:
        assert error.status_code == 404, error

    throttled = by_header(THROTTLED)
    throttled.messages.create(**SHORT)
    for stream in (False, True):
        error = refused(anthropic.RateLimitError, lambda: throttled.messages.create(**SHORT, stream=stream), "per minute")
        assert error.type == "rate_limit_error", error
        headers = error.response.headers
        assert 0 < int(headers["retry-after"]) <= 60, headers
        assert headers["anthropic-ratelimit-requests-remaining"] == "0", headers


def queued():
    """The only slot is taken: a client that may not wait, then one that will not."""
    now = by_header(default_headers={"X-Gaucho-Deadline": "0"})
    for kind, type_, part, client in (
        (anthropic.RateLimitError, "rate_limit_error", "max_queued", by_header(HASTY)),
        (anthropic.ServiceUnavailableError, "overloaded_error", "X-Gaucho-Deadline", now),
    ):
        for stream in (False, True):
            error = refused(kind, lambda: client.messages.create(**SHORT, stream=stream), part)
            assert error.type == type_ and int(error.response.headers["retry-after"]) > 0, error


async def at_once():
    """The asynchronous client, several streams on one pool."""
    async with anthropic.AsyncAnthropic(base_url=BASE, api_key=KEY, max_retries=0) as client:

        async def stream():
            async with client.messages.stream(**SHORT) as stream:
                return "".join([text async for text in stream.text_stream])

        found = await asyncio.gather(*(stream() for _ in range(4)))
        assert len(set(found)) == 1 and found[0], found


def everyday():
    for client in (by_header(), by_path()):
        for part in (chats, tools, shapes, thinks, sees, lists, headers):
            part(client)
    asyncio.run(at_once())
    refusals()


def breaks_off(events):
    """Reads a stream that gives two pieces and then fails."""
    seen = []
    error = refused(anthropic.APIStatusError, lambda: all_of(events, seen), "")
    say(f"the error reads: {error.api_message}")
    assert error.api_message and error.type == "api_error", error.body
    deltas = [event for event in seen if event.type == "content_block_delta"]
    assert len(deltas) == 2 and all(event.type != "message_stop" for event in seen), seen


def broken():
    """Faults come in this order: five for streams, one for a message at once."""
    until_told()
    client = by_header()
    for _ in range(4):
        breaks_off(client.messages.create(**LONG, stream=True))
    with client.messages.stream(**LONG) as stream:
        breaks_off(stream)
    error = refused(anthropic.InternalServerError, lambda: client.messages.create(**LONG), "")
    say(f"the error reads: {error.api_message}")
    assert client.messages.create(**SHORT).content, "the next one is answered"


def leaves():
    client = by_header()
    with client.messages.create(**LONG, stream=True) as stream:
        for _ in range(4):
            assert next(stream).type != "message_stop"
    say("left")
    until_told()

    async def waiting():
        async with anthropic.AsyncAnthropic(base_url=BASE, api_key=KEY, max_retries=0) as client:
            await leave_unanswered(client.messages.create(**LONG))

    asyncio.run(waiting())
    assert client.messages.create(**{**SHORT, "max_tokens": 3}), "the slot is free again"


def waits():
    """The slot is taken; comment lines come until it is free."""
    client = by_header()
    stream = client.messages.create(**SHORT, stream=True, extra_headers={"X-Gaucho-Keepalive": "1s"})
    say("waiting")
    events = list(strict_events(stream))
    assert events[0].type == "message_start" and events[-2].delta.stop_reason == "max_tokens", events
    assert deltas(events) == client.messages.create(**SHORT).content[0].text, "the same as without waiting"


if __name__ == "__main__":
    run(everyday, broken, leaves, waits, queued)
