"""`gateway dev`: a folder of processes and connectors at work, reloaded when it changes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.dev import _dotenv
from tests.flow.models import process

HELLO = """
from gateway import JobContext, outbound_connector

@outbound_connector("Hello", type="dev:hello:1", input_variables=("who", "key"))
async def hello(job: JobContext) -> dict[str, str]:
    import json
    given = json.loads(await job.variables())
    return {"text": "GREETING " + given["who"], "key": given["key"]}
"""
ROOT = Path(__file__).parent.parent


class Dev:
    """The running command and what it has said."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self.child = child
        self.said: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.child.stdout is not None
        async for line in self.child.stdout:
            self.said.append(line.decode().rstrip())

    async def says(self, words: str, seconds: float = 15.0) -> str:
        for _ in range(int(seconds * 50)):
            found = next((line for line in self.said if words in line), None)
            if found is not None:
                return found
            assert self.child.returncode is None, "\n".join(self.said)
            await asyncio.sleep(0.02)
        raise AssertionError(f"never said {words!r}:\n" + "\n".join(self.said))

    async def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        if self.child.returncode is None:
            self.child.send_signal(by)
        code = await asyncio.wait_for(self.child.wait(), 10)
        await self._reader
        return code


@asynccontextmanager
async def dev(folder: Path, *options: str, **environment: str) -> AsyncIterator[Dev]:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "dev", str(folder), "--port", "0", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | environment,
        cwd=ROOT,
    )
    running = Dev(child)
    try:
        yield running
    finally:
        await running.stop()


def task(name: str) -> str:
    headers = {"resultExpression": "={text: text, found: key}"}
    return process(name, {"who": "=who", "key": "{{secrets.KEY}}"}, headers, job_type="dev:hello:1", retries=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.bpmn").write_text(task("hello"))
    (tmp_path / "hello.py").write_text(HELLO.replace("GREETING", "Hello,"))
    (tmp_path / ".env").write_text("# a comment\nSECRET_KEY='the key of the folder'\n")
    return tmp_path


async def test_processes_and_connectors_of_the_folder_are_at_work(folder: Path):
    async with dev(folder, "--start", "hello", "--variables", '{"who": "world"}') as run:
        await run.says("deployed    hello.bpmn: hello version 1")
        assert "dev:hello:1" in await run.says("connectors  ")
        ended = await run.says("completed   hello")
        assert '"text": "Hello, world"' in ended
        assert await run.stop() == 0
    assert not any("the key of the folder" in line for line in run.said)
    assert '"found": "***"' in ended


async def test_a_changed_process_is_deployed_again_and_a_broken_one_is_refused_by_name(folder: Path):
    async with dev(folder) as run:
        await run.says("watching")
        (folder / "hello.bpmn").write_text(task("hello").replace('id="task"', 'id="task" name="new"', 1))
        await run.says("deployed    hello.bpmn: hello version 2")
        (folder / "broken.bpmn").write_text(task("broken").replace('targetRef="end"', 'targetRef="nowhere"'))
        refused = await run.says("refused     broken.bpmn")
        assert run.child.returncode is None
    assert "broken.bpmn" in refused


async def test_a_changed_connector_is_loaded_again_while_the_engine_keeps_its_state(folder: Path):
    async with dev(folder, "--start", "hello", "--variables", '{"who": "you"}') as run:
        await run.says('"text": "Hello, you"')
        (folder / "hello.py").write_text(HELLO.replace("GREETING", "Bye,"))
        await run.says("reloading")
        (folder / "second.bpmn").write_text(task("second"))
        await run.says("deployed    second.bpmn: second version 1")
        for _ in range(500):
            if sum("watching" in line for line in run.said) == 2:
                break
            await asyncio.sleep(0.02)
        assert sum("watching" in line for line in run.said) == 2
        assert not any("hello version 2" in line for line in run.said)


HOOK = """<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:zeebe="http://camunda.org/schema/zeebe/1.0">
  <process id="hooked" isExecutable="true">
    <startEvent id="start"><extensionElements><zeebe:properties>
      <zeebe:property name="inbound.type" value="io.camunda:webhook:1"/>
      <zeebe:property name="inbound.context" value="hook"/>
      <zeebe:property name="resultExpression" value="={who: request.body.who}"/>
    </zeebe:properties></extensionElements></startEvent>
    <sequenceFlow id="f" sourceRef="start" targetRef="end"/>
    <endEvent id="end"/>
  </process>
</definitions>"""


async def test_a_webhook_of_the_folder_starts_instances_and_follows_its_process(folder: Path):
    (folder / "hook.bpmn").write_text(HOOK)
    async with dev(folder) as run, aiohttp.ClientSession() as session:
        url = (await run.says("inbound     hooked.start (io.camunda:webhook:1) http://")).split()[-1]
        async with session.post(url, json={"who": "a customer"}) as answer:
            assert answer.status == 200
        assert '"who": "a customer"' in await run.says("completed   hooked")
        (folder / "hook.bpmn").write_text(HOOK.replace('value="hook"', 'value="other"'))
        other = (await run.says("/inbound/other")).split()[-1]
        async with session.post(other, json={"who": "another"}) as answer:
            assert answer.status == 200
        async with session.post(url, json={}) as answer:
            assert answer.status == 404
        assert await run.stop() == 0


async def test_an_inbound_connector_that_does_not_work_says_why(folder: Path):
    (folder / "hook.bpmn").write_text(HOOK.replace('name="inbound.context" value="hook"', 'name="x" value="hook"'))
    async with dev(folder) as run:
        said = await run.says("inbound     hooked.start (io.camunda:webhook:1) failed to activate: ")
        assert "inbound.context" in said


async def test_a_connector_file_that_does_not_run_is_reported_and_the_rest_works(folder: Path):
    (folder / "bad.py").write_text("import nothing_of_this_name\n")
    async with dev(folder, "--start", "hello", "--variables", '{"who": "all"}') as run:
        assert "ModuleNotFoundError" in await run.says("refused     bad.py")
        await run.says('"text": "Hello, all"')


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
async def test_it_ends_with_exit_code_0(folder: Path, by: signal.Signals):
    async with dev(folder) as run:
        await run.says("watching")
        assert await run.stop(by) == 0


def test_env_files_may_quote_export_and_comment():
    text = "A=1\n export B = 'two words' \n#C=3\n\nD=\"x=y\"\nnot a line\n"
    assert _dotenv(text) == [("A", "1"), ("B", "two words"), ("D", "x=y")]
