"""What only the real llama-server can show: a conversation that reuses its own beginning, and its names of formats."""

from __future__ import annotations

import socket
import struct
import subprocess
import uuid

import msgspec
import pytest

from agenttrace.agents.tool_calling import agent_spec
from agenttrace.campaign.options import Options, served
from agenttrace.host.images import name as image_name
from agenttrace.models import pins
from agenttrace.models.gguf import read_facts, same_quantization
from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.endpoint import wait_until_ready
from agenttrace.serving.tenancy import LOST

pytestmark = pytest.mark.docker

DEMO = pins.BUNDLED / "agenttrace-demo.gguf"
SAMPLER = msgspec.structs.replace(profiles.sampler(), max_tokens=64)


class Server:
    """A llama-server in a container, with the arguments of a profile."""

    def __init__(self, weights, *arguments):
        self.name = f"agenttrace-real-{uuid.uuid4().hex[:8]}"
        with socket.create_server(("127.0.0.1", 0)) as free:  # named, as a restart would change one of the engine's
            self._port = free.getsockname()[1]
        self._argv = [
            "docker", "run", "--detach", "--name", self.name, "--publish", f"127.0.0.1:{self._port}:8080",
            "--volume", f"{weights.parent}:/m:ro", image_name("server"), "--model", f"/m/{weights.name}", *arguments,
        ]  # fmt: skip

    def __enter__(self):
        subprocess.run(self._argv, check=True, capture_output=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["docker", "rm", "--force", self.name], capture_output=True)

    def restart(self):
        subprocess.run(["docker", "restart", "--time", "0", self.name], check=True, capture_output=True)
        wait_until_ready(self.url, timeout_s=60)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}/v1"


@pytest.fixture
def server():
    arguments = served(Options())[1].args
    with Server(DEMO, *arguments[arguments.index("--ctx-size") :]) as made:
        wait_until_ready(made.url, timeout_s=60)
        yield made


def talk(server, *, restart_before=(), steps=4):
    """Return what the model says in a conversation, with the counts of tokens, and what failed."""
    spec = agent_spec()
    fixed = fixed_part(model="m", sampler=SAMPLER, tools=spec.tools, cache_prompt=None)
    models = ChatModel(server.url, fixed, reuses_own=True)
    model = models.for_trace("a", seed=1)
    messages = [{"role": "system", "content": spec.system_prompt}, {"role": "user", "content": "Count the files."}]
    said, failed = [], []
    for number in range(steps):
        if number in restart_before:
            server.restart()
        reply = model.complete(messages)
        failed += reply.failed_tries or ()
        timings = reply.timings
        said.append((reply.content, reply.reasoning, reply.tool_calls, timings.prompt_n, timings.cached_n))
        messages += [
            {"role": "assistant", "content": reply.content or ""},
            {"role": "user", "content": f"{number} " + "and then count the lines of every file. " * 20},
        ]
    model.over()
    model.close()
    return said, failed


def test_a_conversation_goes_on_from_its_own_beginning_whatever_was_before_and_between(server):
    whole, failed = talk(server)
    assert failed == []
    cached = [one[-1] for one in whole]
    assert cached[0] == 0
    assert all(count > 100 for count in cached[1:])
    assert talk(server) == (whole, [])
    again, failed = talk(server, restart_before=(2,))
    assert again == whole
    assert failed == [LOST]


@pytest.mark.parametrize("kind", [0, 2, 10, 11, 12, 15, 17, 21, 25, 26, 27, 30, 31, 36, 38, 99])
def test_a_format_has_the_servers_name_for_it(tmp_path, kind):
    data = bytearray(DEMO.read_bytes())
    at = data.index(b"general.file_type") + len(b"general.file_type") + 4
    data[at : at + 4] = struct.pack("<I", kind)
    (tmp_path / "x.gguf").write_bytes(data)
    tmp_path.chmod(0o755)
    with Server(tmp_path / "x.gguf", "--ctx-size", "512", "--threads", "1") as made:
        reported = wait_until_ready(made.url, timeout_s=60).quantization
    pinned = read_facts(tmp_path / "x.gguf").quantization
    assert same_quantization(reported, pinned) is (None if kind == 99 else True), (reported, pinned)
