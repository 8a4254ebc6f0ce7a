"""What the scripts share: the environment, the talk with the test that started them, and what they ask."""

import asyncio
import os
import sys

BASE, KEY, THROTTLED, HASTY = (os.environ[name] for name in ("BASE_URL", "KEY", "THROTTLED_KEY", "HASTY_KEY"))
QUESTION = [{"role": "user", "content": "Why is the sky blue?"}]
WEATHER = [{"role": "user", "content": "weather in Paris?"}]
SNOW = [{"role": "user", "content": "Is snow white?"}]
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def say(line):
    print(line, flush=True)


def told():
    """Waits until the test says to go on."""
    sys.stdin.readline()


def refused(kind, call, part):
    """The error of a call that must fail with this text in it."""
    try:
        call()
    except kind as error:
        assert part in str(error), f"{part}: {error!r}"
        return error
    raise AssertionError("it was answered")


async def leave_unanswered(request):
    """Leaves when the test says so, while the request still waits."""
    task = asyncio.create_task(request)
    await asyncio.to_thread(told)
    assert not task.done(), "it was answered before it could leave"
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), task
    say("left")
    await asyncio.to_thread(told)


def run(**parts):
    """Runs the part that the command line names."""
    parts[sys.argv[1]]()
    say("done")
