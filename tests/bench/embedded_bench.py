"""How many one-task instances a second the embedded engine takes from creation to end, in-process, on one core.

    python tests/bench/embedded_bench.py [--instances 20000] [--in-flight 100] [--records 0]

Create, push over a stream, complete; `in-flight` instances are open at a time. Prints instances/s, the time of one, and memory.
"""

import argparse
import asyncio
import resource
import time

from gateway.engine import JobActivation, Resource
from gateway.engine.embedded import EmbeddedEngine

PLAIN = """<b:definitions xmlns:b="http://www.omg.org/spec/BPMN/20100524/MODEL"
  xmlns:z="http://camunda.org/schema/zeebe/1.0" id="d" targetNamespace="bench">
<b:process id="{id}" isExecutable="true"><b:startEvent id="s"/><b:serviceTask id="t"><b:extensionElements>
<z:taskDefinition type="{id}"/>{mappings}</b:extensionElements></b:serviceTask><b:endEvent id="e"/>
<b:sequenceFlow id="f" sourceRef="s" targetRef="t"/><b:sequenceFlow id="g" sourceRef="t" targetRef="e"/></b:process>
</b:definitions>"""
MAPPINGS = """<z:ioMapping><z:input source="= order.id" target="request.id"/><z:input source="= order.total * 1.19"
 target="request.gross"/><z:input source="POST" target="method"/><z:output source="= response.status" target="status"/></z:ioMapping>"""
VARIABLES = '{"order":{"id":"A-17","total":99.5,"items":[1,2,3]},"customer":"c-1"}'
RESULT = '{"response":{"status":200,"body":{"ok":true}}}'


async def measure(process: str, instances: int, in_flight: int, records: int) -> float:
    """Seconds for so many instances."""
    engine = EmbeddedEngine(keep_records=records)
    for name, mappings in (("plain", ""), ("mapped", MAPPINGS)):
        await engine.deploy([Resource(f"{name}.bpmn", PLAIN.format(id=name, mappings=mappings).encode())])
    stream = engine.stream_jobs(JobActivation(process, "bench", 300_000))
    begin = time.perf_counter()
    done = 0
    while done < instances:
        for _ in range(in_flight):
            await engine.create_process_instance(bpmn_process_id=process, variables=VARIABLES)
        for _ in range(in_flight):
            job = await stream.read()
            assert job is not None
            await engine.complete_job(job.key, RESULT)
        done += in_flight
    seconds = time.perf_counter() - begin
    assert engine.instances() == []
    await engine.close()
    return seconds


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--instances", type=int, default=20_000)
    options.add_argument("--in-flight", type=int, default=50)
    options.add_argument("--records", type=int, default=0)
    given = options.parse_args()
    for process in ("plain", "mapped"):
        seconds = asyncio.run(measure(process, given.instances, given.in_flight, given.records))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rate, each = given.instances / seconds, seconds / given.instances * 1e6
        print(f"{process}: {rate:,.0f} instances/s, {each:.0f} us each, {memory:.0f} MB at most")


if __name__ == "__main__":
    main()
