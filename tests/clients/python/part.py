"""What the scripts share: the environment, the talk with the test that started them, and what they ask."""

import asyncio
import os
import sys

from pydantic import BaseModel, ConfigDict

BASE, KEY, THROTTLED, HASTY = (os.environ[name] for name in ("BASE_URL", "KEY", "THROTTLED_KEY", "HASTY_KEY"))
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
WEATHER = [{"role": "user", "content": "weather in Paris?"}]
SNOW = [{"role": "user", "content": "Is snow white?"}]
# two pictures of one pixel
BLUE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
RED = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="


class Animal(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    legs: int
    tame: bool


def tool(name, properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": f"{name}: ünïcode", "parameters": parameters}}


def by_schema(tool):
    """The tool as Anthropic has it."""
    function = tool["function"]
    return {"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}


GET_WEATHER = tool("get_weather", {"city": {"type": "string"}})


def say(line):
    print(line, flush=True)


def until_told():
    """Waits until the test says to go on."""
    sys.stdin.readline()


def all_of(stream, seen):
    """Reads a stream into a list, which keeps what came before an error."""
    for piece in stream:
        seen.append(piece)


async def leave_unanswered(request):
    """Leaves when the test says so, while the request still waits."""
    task = asyncio.create_task(request)
    await asyncio.to_thread(until_told)
    assert not task.done(), "it was answered before it could leave"
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task
    say("left")
    await asyncio.to_thread(until_told)


def run(*parts):
    """Runs the part that the command line names."""
    {part.__name__: part for part in parts}[sys.argv[1]]()
    say("done")
