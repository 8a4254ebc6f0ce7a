"""What `litellm` is asked, whichever provider carries it. One part per run, named on the command line."""

import asyncio
import json
import os
from dataclasses import dataclass

# its table of prices would come from the network
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm  # noqa: E402
from part import HASTY, KEY, PIXEL, QUESTION, SNOW, THROTTLED, WEATHER, leave_unanswered, refused, run, say, told  # noqa: E402
from pydantic import BaseModel  # noqa: E402

litellm.suppress_debug_info = True
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Weather in a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


class Animal(BaseModel):
    name: str
    legs: int
    tame: bool


@dataclass
class Provider:
    chat: str
    embed: str
    base: str

    @property
    def native(self):
        return self.chat != "openai"

    def to(self, model, key=KEY, **more):
        return {"model": f"{self.chat}/{model}", "api_base": self.base, "api_key": key, "max_retries": 0, **more}

    def ask(self, model="gemma:a", messages=QUESTION, **more):
        return litellm.completion(**self.to(model, messages=messages, **more))

    def embeds(self, model="tinybert", **more):
        where = {"api_base": self.base, "api_key": KEY, "max_retries": 0}
        return litellm.embedding(model=f"{self.embed}/{model}", **{**where, **more})


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def lists(on):
    where = {"custom_llm_provider": on.embed, "api_base": on.base, "api_key": KEY}
    names = litellm.get_valid_models(check_provider_endpoint=True, **where)
    assert any("gemma:a" in name for name in names) and not any("stamped" in name for name in names), names


def talks(on):
    once = on.ask(max_tokens=12)
    assert once.choices[0].message.content and once.choices[0].finish_reason == "length", once
    assert once.usage.completion_tokens == 12 and once.usage.prompt_tokens > 0, once
    chunks = list(on.ask(max_tokens=12, stream=True))
    assert text_of(chunks) == once.choices[0].message.content, "streamed as at once"
    assert chunks[-1].choices[0].finish_reason == "length", chunks[-1]
    usage = list(on.ask(max_tokens=12, stream=True, stream_options={"include_usage": True}))[-1].usage
    assert usage.completion_tokens == 12, usage

    async def streamed():
        stream = await litellm.acompletion(**on.to("gemma:a", messages=QUESTION, max_tokens=12, stream=True))
        return text_of([chunk async for chunk in stream])

    assert asyncio.run(streamed()) == once.choices[0].message.content


def tools(on):
    choice = on.ask("tooly", WEATHER, tools=TOOLS).choices[0]
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls" and call.function.name == "get_weather" and call.id, choice
    assert json.loads(call.function.arguments) == {"city": "Paris"}, call
    chunks = list(on.ask("tooly", WEATHER, tools=TOOLS, stream=True))
    built = litellm.stream_chunk_builder(chunks, messages=WEATHER).choices[0]
    (streamed,) = built.message.tool_calls
    assert json.loads(streamed.function.arguments) == {"city": "Paris"}, built
    assert built.finish_reason == "tool_calls", built
    result = {"role": "tool", "tool_call_id": call.id, "name": "get_weather", "content": "sunny"}
    history = [*WEATHER, choice.message.model_dump(exclude_none=True), result]
    assert on.ask("tooly", history, tools=TOOLS).choices[0].finish_reason


def shapes(on):
    Animal.model_validate_json(on.ask(response_format=Animal).choices[0].message.content, strict=True)
    Animal.model_validate_json(text_of(on.ask(response_format=Animal, stream=True)), strict=True)
    told = on.ask(response_format={"type": "json_object"}).choices[0].message.content
    assert isinstance(json.loads(told), dict), told


def vectors(on):
    one, two = on.embeds(input="a"), on.embeds(input=["a", "b"])
    assert [len(item["embedding"]) for item in two.data] == [64, 64], two
    assert two.data[0]["embedding"] == one.data[0]["embedding"] != two.data[1]["embedding"], two
    assert one.usage.prompt_tokens > 0, one
    assert len(on.embeds(input="a", dimensions=8, allowed_openai_params=["dimensions"]).data[0]["embedding"]) == 8


def thinks(on):
    message = on.ask("thinky", SNOW, reasoning_effort="low").choices[0].message
    assert message.reasoning_content == "Snow is white, so it is white.", message
    assert message.content == "Yes, snow is white.\n", message
    chunks = list(on.ask("thinky", SNOW, reasoning_effort="low", stream=True))
    reasoning = "".join(getattr(chunk.choices[0].delta, "reasoning_content", None) or "" for chunk in chunks)
    assert (reasoning, text_of(chunks)) == (message.reasoning_content, message.content), chunks


def sees(on):
    image = {"type": "image_url", "image_url": {"url": PIXEL}}
    looks = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]}]
    assert on.ask("seer", looks, max_tokens=12).usage.prompt_tokens > 100, "a picture is tokens too"
    refused(litellm.BadRequestError, lambda: on.ask("gemma:a", looks), "multimodal")


def refusals(on):
    """`litellm` has types of its own; they carry our status and our words."""
    wrong, forbidden = (
        ((403, litellm.PermissionDeniedError), (403, litellm.PermissionDeniedError))
        if on.native
        else ((401, litellm.AuthenticationError), (403, litellm.APIError))
    )
    absent, bad = (404, litellm.NotFoundError), (400, litellm.BadRequestError)
    for (status, kind), part, ask in (
        (absent, "nowhere", {"model": "nowhere"}),
        (forbidden, "stamped", {"model": "stamped"}),
        (wrong, "this key is not valid", {"key": "gk_nothing"}),
        (bad, "temperature", {"temperature": "hot"}),
        (bad, "does not support tools", {"tools": TOOLS}),
    ):
        for stream in (False, True):
            error = refused(kind, lambda: list(on.ask(**ask, stream=stream)), part)
            assert error.status_code == status and "gk_nothing" not in str(error), repr(error)
    refused(litellm.NotFoundError, lambda: on.embeds("nowhere", input="x"), "nowhere")
    on.ask(key=THROTTLED, max_tokens=3)
    for stream in (False, True):
        error = refused(litellm.RateLimitError, lambda: on.ask(key=THROTTLED, stream=stream), "per minute")
        waits(on, error)


def waits(on, error):
    """The provider `ollama_chat` drops the headers of a refusal."""
    assert on.native or 0 < int(error.response.headers["retry-after"]) <= 60, error.response.headers


def main(on):
    def everyday():
        for part in (lists, talks, tools, shapes, vectors, thinks, sees, refusals):
            part(on)

    def broken():
        """A fault for each of five streams, then one for an answer at once."""
        told()
        # `ollama_chat` takes an error line for a chunk with a hole in it, and quotes it
        kind = litellm.BadRequestError if on.native else litellm.exceptions.MidStreamFallbackError
        server = ("the Ollama server broke off", "an error was encountered while running the model")
        for part in (server[0], server[1], server[0], server[0], server[1]):
            pieces = []

            def read():
                for piece in on.ask(stream=True):
                    pieces.append(piece)

            say(f"the error reads: {refused(kind, read, part)!r}")
            assert len(pieces) == 2, pieces
        refused(litellm.InternalServerError, on.ask, server[1])
        assert on.ask(max_tokens=3).choices, "the next one is answered"

    def leaves():
        async def leaving():
            stream = await litellm.acompletion(**on.to("gemma:a", messages=QUESTION, stream=True))
            for _ in range(3):
                await anext(stream)
            await stream.aclose()
            say("left")
            await asyncio.to_thread(told)
            await leave_unanswered(litellm.acompletion(**on.to("gemma:a", messages=QUESTION)))

        asyncio.run(leaving())
        assert on.ask(max_tokens=3).choices, "the slot is free again"

    def queued():
        """The only slot is taken: a client that may not wait, then one that will not."""
        now = {"X-Gaucho-Deadline": "0"}
        for kind, part, more in (
            (litellm.RateLimitError, "max_queued", {"key": HASTY}),
            (litellm.ServiceUnavailableError, "X-Gaucho-Deadline", {"extra_headers": now}),
        ):
            for stream in (False, True):
                waits(on, refused(kind, lambda: on.ask(stream=stream, **more), part))

    run(everyday=everyday, broken=broken, leaves=leaves, queued=queued)
