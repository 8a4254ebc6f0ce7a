"""The `openai` client for Python on `/v1/responses`, against a running gateway. One part per run, named on the command
line. (`strict.py` holds replies and events against the client's own models, which it does not do by itself.)
"""

import asyncio
import json

import openai
from openai_sdk import by_header, by_path, refused
from part import BASE, BLUE, GET_WEATHER, HASTY, KEY, QUESTION, RED, SNOW, THROTTLED, WEATHER
from part import Animal, leave_unanswered, run, say, until_told

TOOL = {"type": "function", "strict": False, **GET_WEATHER["function"]}
SHORT = {"model": "gemma:a", "input": QUESTION, "max_output_tokens": 12}
LONG = {"model": "gemma:a", "input": QUESTION}


def streamed(client, **ask):
    """All events of a stream, whose numbers and items are in order."""
    events = list(client.responses.create(**ask, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events))), events
    kinds = [event.type for event in events]
    assert kinds[:2] == ["response.created", "response.in_progress"] and kinds[-1] == "response.completed", kinds
    items = [event.item for event in events if event.type == "response.output_item.done"]
    assert items == events[-1].response.output, "the items that were done are the output"
    added = [event for event in events if event.type == "response.output_item.added"]
    assert [event.output_index for event in added] == list(range(len(items))), added
    assert [event.item.id for event in added] == [item.id for item in items], added
    return events


def helped(client, **ask):
    """The kinds of all events of the client's own helper, and what it makes of them."""
    with client.responses.stream(**ask) as stream:
        return [event.type for event in stream], stream.get_final_response()


def deltas(events, kind="output_text"):
    return "".join(event.delta for event in events if event.type == f"response.{kind}.delta")


def answers(client):
    told = client.responses.create(**SHORT)
    (item,) = told.output
    assert told.id.startswith("resp_") and told.status == "completed" and told.model == "gemma:a", told
    assert item.role == "assistant" and item.status == "completed" and told.output_text, told
    assert told.usage.output_tokens == 12 and told.usage.total_tokens == told.usage.input_tokens + 12, told
    assert told.max_output_tokens == 12 and told.completed_at >= told.created_at, told
    events = streamed(client, **SHORT)
    assert deltas(events) == told.output_text == events[-1].response.output_text, "streamed as at once"
    assert events[-1].response.id not in ("", told.id) and events[-1].response.usage == told.usage, events[-1]
    kinds, final = helped(client, **SHORT)
    assert kinds == [event.type for event in events] and final.output_text == told.output_text, final

    text = client.responses.create(**{**SHORT, "input": "Why is the sky blue?"})
    assert text.output_text == told.output_text, "a text is a user's message"
    rich = client.responses.create(
        **SHORT, instructions="Be brief.", temperature=0.5, top_p=0.9, metadata={"a": "b"}, truncation="auto",
        store=False, user="u", safety_identifier="s", service_tier="auto", include=["reasoning.encrypted_content"],
    )
    echo = (rich.instructions, rich.temperature, rich.top_p, rich.metadata, rich.truncation)
    assert echo == ("Be brief.", 0.5, 0.9, {"a": "b"}, "auto"), rich
    # the whole talk comes with each turn, since nothing is stored
    more = [*QUESTION, *told.output, {"role": "developer", "content": "Be brief."}, *WEATHER]
    longer = client.responses.create(**{**SHORT, "input": more})
    assert longer.usage.input_tokens > told.usage.input_tokens and longer.output_text, longer


def calls(client):
    ask = {"model": "tooly", "input": WEATHER, "tools": [TOOL]}
    told = client.responses.create(**ask)
    (call,) = [item for item in told.output if item.type == "function_call"]
    assert call.name == "get_weather" and json.loads(call.arguments) == {"city": "Paris"} and call.call_id, told
    assert told.tools[0].name == "get_weather" and told.tool_choice == "auto", told
    events = streamed(client, **ask)
    assert json.loads(deltas(events, "function_call_arguments")) == {"city": "Paris"}, events
    kinds, final = helped(client, **ask)
    assert "response.function_call_arguments.done" in kinds, kinds
    assert final.output[-1].model_dump(include={"name", "arguments"}) == call.model_dump(include={"name", "arguments"}), final
    for output in ("sunny", [{"type": "input_text", "text": "sunny"}]):
        history = [*WEATHER, *told.output, {"type": "function_call_output", "call_id": call.call_id, "output": output}]
        assert client.responses.create(**{**ask, "input": history}).status == "completed", "a result comes back"
        streamed(client, **{**ask, "input": history})
    none = client.responses.create(**ask, tool_choice="none", max_output_tokens=5)
    assert [item.type for item in none.output] == ["message"], "tool_choice none offers no tools"


def shapes(client):
    ask = {"model": "gemma:a", "input": "A dog."}
    assert isinstance(client.responses.parse(**ask, text_format=Animal).output_parsed, Animal)
    kinds, final = helped(client, **ask, text_format=Animal)
    assert isinstance(final.output_parsed, Animal) and "response.output_text.done" in kinds, final
    shape = {"type": "json_schema", "name": "animal", "strict": True, "schema": Animal.model_json_schema()}
    told = client.responses.create(**ask, text={"format": shape})
    Animal.model_validate_json(told.output_text, strict=True)
    assert told.text.format.name == "animal" and told.text.format.schema_ == shape["schema"], told
    told = client.responses.create(**ask, text={"format": {"type": "json_object"}})
    assert isinstance(json.loads(told.output_text), dict), told


def thinks(client):
    ask = {"model": "thinky", "input": SNOW, "reasoning": {"effort": "low", "summary": "auto"}}
    told = client.responses.create(**ask)
    thought, said = told.output
    assert (thought.type, said.type) == ("reasoning", "message"), told
    assert thought.summary[0].text == "Snow is white, so it is white." and told.output_text == "Yes, snow is white.\n", told
    events = streamed(client, **ask)
    assert deltas(events, "reasoning_summary_text") == thought.summary[0].text, events
    assert deltas(events) == told.output_text, events
    kinds, final = helped(client, **ask)
    assert {"response.reasoning_summary_part.added", "response.reasoning_summary_part.done"} <= set(kinds), kinds
    assert final.output[0].summary == thought.summary and final.output_text == told.output_text, final
    silent = client.responses.create(**{**ask, "reasoning": {"effort": "none"}})
    assert [item.type for item in silent.output] == ["message"], silent
    more = client.responses.create(**{**ask, "input": [*SNOW, *told.output, *SNOW]})
    assert more.usage.input_tokens > told.usage.input_tokens, "what it thought comes back"


def looks_at(url):
    image = {"type": "input_image", "detail": "auto", "image_url": url}
    return [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, image]}]


def sees(client):
    """Pictures as data URLs, other URLs, and a model that has no eyes."""
    told = {}
    for picture in (BLUE, RED):
        ask = {"model": "seer", "input": looks_at(f"data:image/png;base64,{picture}"), "max_output_tokens": 12}
        reply = client.responses.create(**ask)
        assert reply.usage.input_tokens > 100, "a picture is tokens too"
        told[picture] = reply.output_text
        assert deltas(streamed(client, **ask)) == told[picture], "streamed as at once"
    assert told[BLUE] and told[BLUE] != told[RED], f"it sees what is different: {told}"
    for model, url, part in (
        ("gemma:a", f"data:image/png;base64,{BLUE}", "does not support multimodal requests"),
        ("seer", "https://example.com/x.png", "image URLs are not currently supported"),
        ("seer", "data:image/gif;base64,R0lGODlh", "invalid image input"),
    ):
        for stream in (False, True):
            call = lambda: client.responses.create(model=model, input=looks_at(url), stream=stream)
            assert part in refused(openai.BadRequestError, call).body["message"]


def finds(client):
    """What an application with a store of its own does: list, embed, then ask."""
    assert "gemma:a" in [model.id for model in client.models.list()]
    assert client.embeddings.create(model="tinybert", input="Why is the sky blue?").data[0].embedding
    assert client.responses.create(**SHORT, instructions="The sky scatters blue light.").output_text


def headers(client):
    for reply in (
        client.responses.with_raw_response.create(**SHORT),
        client.responses.with_raw_response.create(**SHORT, stream=True),
    ):
        assert reply.headers["x-ratelimit-limit-requests"] == "6000", reply.headers
        assert reply.request_id == reply.headers["x-request-id"] and reply.request_id, reply.headers
        reply.parse() if "stream" not in reply.headers["content-type"] else list(reply.parse())
    with client.responses.with_streaming_response.create(**SHORT, stream=True) as reply:
        assert reply.headers["content-type"] == "text/event-stream", reply.headers
        lines = list(reply.iter_lines())
    assert lines[0] == "event: response.created" and "event: response.completed" in lines, lines


def refusals():
    for stream in (False, True):
        error = refused(openai.AuthenticationError, lambda: by_header("gk_nothing").responses.create(**SHORT, stream=stream))
        assert "key" in error.body["message"] and "gk_nothing" not in str(error), error
        create = by_header().responses.create
        ask = lambda **more: lambda: create(**{**SHORT, "stream": stream, "extra_body": more})
        assert "nowhere" in refused(openai.NotFoundError, ask(model="nowhere")).body["message"]
        assert "stamped" in refused(openai.PermissionDeniedError, ask(model="stamped")).body["message"]
        for field, value in (
            ("previous_response_id", "resp_1"),
            ("conversation", "conv_1"),
            ("background", True),
            ("tools", [{"type": "web_search"}]),
            ("tool_choice", "required"),
            ("truncation", "middle"),
        ):
            error = refused(openai.BadRequestError, ask(**{field: value}))
            assert error.param.startswith(field) and field in error.body["message"], error
            assert error.type == "invalid_request_error" and error.code == "bad_request", error
        for field, value in (("temperature", "hot"), ("input", 7), ("input", [{"type": "item_reference"}])):
            error = refused(openai.BadRequestError, ask(**{field: value}))
            assert field in error.body["message"] and error.type == "invalid_request_error", error
        error = refused(openai.BadRequestError, ask(tools=[TOOL]))
        assert "does not support tools" in error.body["message"], error

    throttled = by_header(THROTTLED)
    throttled.responses.create(**SHORT)
    for stream in (False, True):
        error = refused(openai.RateLimitError, lambda: throttled.responses.create(**SHORT, stream=stream))
        assert "per minute" in error.body["message"] and 0 < int(error.response.headers["retry-after"]) <= 60, error


def queued():
    """The only slot is taken: a client that may not wait, then one that will not."""
    now = by_header().with_options(default_headers={"X-Gaucho-Deadline": "0"})
    for kind, part, client in (
        (openai.RateLimitError, "max_queued", by_header(HASTY)),
        (openai.InternalServerError, "X-Gaucho-Deadline", now),
    ):
        for stream in (False, True):
            error = refused(kind, lambda: client.responses.create(**LONG, stream=stream))
            assert part in error.body["message"] and int(error.response.headers["retry-after"]) > 0, error


async def at_once():
    """The asynchronous client, several streams on one pool."""
    async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0) as client:

        async def stream():
            async with client.responses.stream(**SHORT) as stream:
                return (await stream.get_final_response()).output_text

        texts = await asyncio.gather(*(stream() for _ in range(4)))
        assert len(set(texts)) == 1 and texts[0], texts


def everyday():
    for client in (by_header(), by_path()):
        for part in (answers, calls, shapes, thinks, sees, finds, headers):
            part(client)
    asyncio.run(at_once())
    refusals()


def breaks_off(events):
    """Reads a stream that gives two pieces and then fails, which is an event here and no exception."""
    events = list(events)
    last = events[-1]
    assert last.type == "response.failed" and last.response.status == "failed", last
    say(f"the error reads: {last.response.error.message}")
    assert last.response.error.code == "server_error" and last.response.error.message, last
    assert len([event for event in events if event.type == "response.output_text.delta"]) == 2, events
    assert last.response.output[0].content[0].text == deltas(events), "what was said is there"
    assert all(event.type != "response.completed" for event in events), events


def broken():
    """Faults come in this order: five for streams, one for an answer at once."""
    until_told()
    client = by_header()
    for _ in range(4):
        breaks_off(client.responses.create(**LONG, stream=True))
    with client.responses.stream(**LONG) as stream:
        breaks_off(stream)
    error = refused(openai.InternalServerError, lambda: client.responses.create(**LONG))
    say(f"the error reads: {error.message}")
    assert client.responses.create(**SHORT).output_text, "the next one is answered"


def leaves():
    client = by_header()
    with client.responses.stream(**LONG) as stream:
        for event in stream:
            assert event.type != "response.completed"
            if event.type == "response.output_text.delta":
                break
    say("left")
    until_told()

    async def waiting():
        async with openai.AsyncOpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0) as client:
            await leave_unanswered(client.responses.create(**LONG))

    asyncio.run(waiting())
    assert client.responses.create(**{**SHORT, "max_output_tokens": 3}).output_text, "the slot is free again"


def waits():
    """The slot is taken; comment lines come until it is free."""
    client = by_header()
    stream = client.responses.create(**SHORT, stream=True, extra_headers={"X-Gaucho-Keepalive": "1s"})
    say("waiting")
    events = list(stream)
    assert events[0].type == "response.created" and events[-1].type == "response.completed", events
    assert deltas(events) == client.responses.create(**SHORT).output_text, "the same as without waiting"


if __name__ == "__main__":
    run(everyday, broken, leaves, waits, queued)
