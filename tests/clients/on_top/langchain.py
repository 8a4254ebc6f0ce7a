"""`langchain-ollama` (ChatOllama, OllamaEmbeddings) against a running gateway. One part per run, named on the command line."""

import asyncio
import json

import ollama
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings
from part import BASE, HASTY, KEY, PIXEL, QUESTION, SNOW, THROTTLED, leave_unanswered, refused, run, say, told
from pydantic import BaseModel

WHY = QUESTION[0]["content"]


def reach(key=KEY, **headers):
    return {"base_url": BASE, "client_kwargs": {"headers": {"Authorization": f"Bearer {key}", **headers}}}


def by_path(key=KEY):
    return {"base_url": f"{BASE}/k/{key}"}


def chat(model="gemma:a", on=None, **more):
    return ChatOllama(model=model, **(on or reach()), **more)


@tool
def get_weather(city: str) -> str:
    """Weather in a city"""
    return f"sunny in {city}"


class Animal(BaseModel):
    """An animal"""

    name: str
    legs: int
    tame: bool


def talks(on):
    model = chat(on=on, num_predict=12)
    once = model.invoke(WHY)
    assert once.content and once.response_metadata["done_reason"] == "length", once
    assert once.usage_metadata["output_tokens"] == 12 and once.usage_metadata["input_tokens"] > 0, once
    pieces = list(model.stream(WHY))
    assert len(pieces) > 3 and "".join(piece.content for piece in pieces) == once.content, pieces
    assert [answer.content for answer in model.batch([WHY] * 3)] == [once.content] * 3

    async def streamed():
        return "".join([piece.content async for piece in model.astream(WHY)])

    assert asyncio.run(streamed()) == once.content
    logprobs = chat(on=on, num_predict=3, logprobs=True, top_logprobs=2).invoke(WHY).response_metadata["logprobs"]
    assert len(logprobs) == 3 and len(logprobs[0]["top_logprobs"]) == 2, logprobs


def tools(on):
    model = chat("tooly", on).bind_tools([get_weather])
    asked = HumanMessage("weather in Paris?")
    answer = model.invoke([asked])
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("get_weather", {"city": "Paris"}) and call["id"], call
    whole = None
    for piece in model.stream([asked]):
        whole = piece if whole is None else whole + piece
    assert [call["args"] for call in whole.tool_calls] == [{"city": "Paris"}], whole
    result = get_weather.invoke(call)
    assert isinstance(result, ToolMessage) and isinstance(answer, AIMessage)
    assert model.invoke([asked, answer, result]).response_metadata["done"]


def shapes(on):
    for method in ("json_schema", "function_calling"):
        model = chat("gemma:a" if method == "json_schema" else "tooly", on)
        told = model.with_structured_output(Animal, method=method).invoke(WHY)
        assert isinstance(told, Animal), told
    told = chat(on=on).with_structured_output(Animal.model_json_schema(), method="json_schema").invoke(WHY)
    Animal.model_validate(told, strict=True)
    assert isinstance(json.loads(chat(on=on, format="json").invoke(WHY).content), dict)


def vectors(on):
    embedder = OllamaEmbeddings(model="tinybert", **on)
    one, two = embedder.embed_query("a"), embedder.embed_documents(["a", "b"])
    assert len(one) == 64 and two[0] == one != two[1], two
    assert asyncio.run(embedder.aembed_query("a")) == one
    assert len(OllamaEmbeddings(model="tinybert", dimensions=8, **on).embed_query("a")) == 8


def thinks(on):
    answer = chat("thinky", on, reasoning=True).invoke(SNOW)
    assert answer.additional_kwargs["reasoning_content"] == "Snow is white, so it is white.", answer
    assert answer.content == "Yes, snow is white.\n", answer
    pieces = list(chat("thinky", on, reasoning=True).stream(SNOW))
    assert "".join(piece.content for piece in pieces) == answer.content, pieces
    assert not chat("thinky", on, reasoning=False).invoke(SNOW).additional_kwargs.get("reasoning_content")


def sees(on):
    looks = HumanMessage([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}])
    assert chat("seer", on, num_predict=12).invoke([looks]).usage_metadata["input_tokens"] > 100, "a picture is tokens"
    assert status(400, lambda: chat(on=on).invoke([looks]), "does not support multimodal requests")


def status(code, call, part):
    """The client's own error, with our status and our words."""
    error = refused(ollama.ResponseError, call, part)
    assert error.status_code == code, error
    return error


def refusals():
    embedder = OllamaEmbeddings(model="nowhere", **reach())
    status(404, lambda: embedder.embed_query("x"), "nowhere")
    for ask in (lambda model: model.invoke(WHY), lambda model: list(model.stream(WHY))):
        status(404, lambda: ask(chat("nowhere")), "nowhere")
        status(403, lambda: ask(chat("stamped")), "stamped")
        for wrong in (reach("gk_nothing"), by_path("gk_nothing")):
            assert "gk_nothing" not in str(status(403, lambda: ask(chat(on=wrong)), "key"))
        status(400, lambda: ask(chat().bind(options={"temperature": "hot"})), "temperature")
        status(400, lambda: ask(chat().bind_tools([get_weather])), "does not support tools")
        status(400, lambda: ask(chat(reasoning=True)), "does not support thinking")
    # it looks for the model when it is made, and says so in a type of its own
    assert "nowhere" in str(refused(ValueError, lambda: chat("nowhere", validate_model_on_init=True), "not found"))
    chat(validate_model_on_init=True)
    throttled = chat(on=reach(THROTTLED), num_predict=3)
    throttled.invoke(WHY)
    status(429, lambda: throttled.invoke(WHY), "per minute")
    status(429, lambda: list(throttled.stream(WHY)), "per minute")


def everyday():
    for on in (reach(), by_path()):
        for part in (talks, tools, shapes, vectors, thinks, sees):
            part(on)
    refusals()


def broken():
    """A fault for each of five streams, then one for an answer at once."""
    told()
    for _ in range(5):
        pieces = []

        def read():
            for piece in chat().stream(WHY):
                pieces.append(piece)

        say(f"the error reads: {refused(ollama.ResponseError, read, '').error}")
        assert len(pieces) == 2, pieces
    error = refused(ollama.ResponseError, lambda: chat().invoke(WHY), "")
    say(f"the error reads: {error.error} {error.status_code}")
    assert chat(num_predict=3).invoke(WHY).content, "the next one is answered"


def leaves():
    async def leaving():
        stream = chat().astream(WHY)
        for _ in range(3):
            await anext(stream)
        await stream.aclose()
        say("left")
        await asyncio.to_thread(told)
        await leave_unanswered(chat().ainvoke(WHY))

    asyncio.run(leaving())
    assert chat(num_predict=3).invoke(WHY).content, "the slot is free again"


def queued():
    """The only slot is taken: a client that may not wait, then one that will not."""
    for code, part, on in (
        (429, "max_queued", reach(HASTY)),
        (503, "X-Gaucho-Deadline", reach(**{"X-Gaucho-Deadline": "0"})),
    ):
        status(code, lambda: chat(on=on).invoke(WHY), part)
        status(code, lambda: list(chat(on=on).stream(WHY)), part)


run(everyday=everyday, broken=broken, leaves=leaves, queued=queued)
