"""Builds the engine, the target, the load and the peers into a folder outside of the tree: BENCH_BUILD.

What a machine lacks (Go, a JDK of 21 or later with Maven, Node) is left out and named; only Go is needed in any case.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from gateway.engine._proto import gateway_pb2

HERE: Final = Path(__file__).resolve().parent
BUILD: Final = Path(os.environ.get("BENCH_BUILD") or "~/.cache/connector-gateway-bench").expanduser().resolve()
STUBS: Final = BUILD / "py"
JDK: Final = 21

_GO: Final = ("engine", "target", "load", "webgo")
_PLUGINS: Final = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.5.1",
)
_PROTO: Final = "gateway.proto"
_NODE: Final = ("@camunda8/sdk@8.8.13", "undici@7")


def build() -> list[str]:
    """Builds what is not built yet, Go always (it is quick when nothing changed). Gives what is missing, one line each.

    Raises SystemExit where the engine cannot be built, CalledProcessError where a tool fails.
    """
    if shutil.which("go") is None:
        raise SystemExit("bench: no Go (go), which the synthetic engine is written in")
    BUILD.mkdir(parents=True, exist_ok=True)
    _build_go()
    _build_python()
    return [*_build_java(), *_build_node()]


def _run(command: Sequence[str | Path], *, cwd: Path = BUILD, **environ: str) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, env=os.environ | environ, check=True, stdout=sys.stderr)


def _build_go() -> None:
    """The sources are copied, so that generated code stays out of the tree."""
    source, stubs = BUILD / "src", BUILD / "src" / "engine" / "pb"
    shutil.copytree(HERE, source, dirs_exist_ok=True, ignore=lambda _, names: _not_go(names))
    if not (stubs / "gateway_grpc.pb.go").exists():
        for plugin in _PLUGINS:
            _run(["go", "install", plugin], GOBIN=str(BUILD / "bin"))
        package = f"M{_PROTO}=bench/engine/pb,module=bench"
        for kind in ("go", "go-grpc"):
            _stubs(Path(sys.executable), f"--{kind}_out={source}", f"--{kind}_opt={package}")
    for program in _GO:
        _run(["go", "build", "-o", BUILD / "bin" / program, f"./{program}"], cwd=source)


_CALLS: Final = {
    "ActivateJobs": True,
    "CompleteJob": False,
    "CreateProcessInstance": False,
    "FailJob": False,
    "PublishMessage": False,
    "StreamActivatedJobs": True,
    "ThrowError": False,
    "Topology": False,
}
"""The calls that the engine serves, and which of them answer with a stream."""


def _protocol() -> FileDescriptorProto:
    """The gateway protocol: the messages that the gateway itself speaks, under their names on the wire, and the service."""
    described = FileDescriptorProto()
    gateway_pb2.DESCRIPTOR.CopyToProto(described)
    own, described.package, described.name = described.package, "gateway_protocol", _PROTO
    for message in described.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{own}.", ".gateway_protocol.")
    service = described.service.add(name="Gateway")
    for call, streams in _CALLS.items():
        answer = "ActivatedJob" if call == "StreamActivatedJobs" else f"{call}Response"
        types = {"input_type": f".gateway_protocol.{call}Request", "output_type": f".gateway_protocol.{answer}"}
        service.method.add(name=call, server_streaming=streams, **types)
    return described


def _stubs(python: Path, *options: str) -> None:
    descriptor = BUILD / "gateway.binpb"
    descriptor.write_bytes(FileDescriptorSet(file=[_protocol()]).SerializeToString())
    command = [python, "-m", "grpc_tools.protoc", f"--descriptor_set_in={descriptor}", *options, _PROTO]
    _run(command, PATH=f"{BUILD / 'bin'}{os.pathsep}{os.environ['PATH']}")


def _not_go(names: Sequence[str]) -> list[str]:
    kept = {*_GO, "go.mod", "go.sum"}
    return [name for name in names if name not in kept and not name.endswith(".go")]


def _build_python() -> None:
    """An environment of their own for the peers in Python: theirs are other versions than ours."""
    python, stamp = BUILD / "venv" / "bin" / "python", BUILD / "venv" / ".requirements"
    wanted = (HERE / "peers" / "requirements.txt").read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    if not python.exists():
        _run([sys.executable, "-m", "venv", BUILD / "venv"])
    _run([python, "-m", "pip", "install", "-q", "-r", HERE / "peers" / "requirements.txt"])
    STUBS.mkdir(exist_ok=True)
    _stubs(python, f"--python_out={STUBS}", f"--grpc_python_out={STUBS}")
    stamp.write_text(wanted)


def find_jdk() -> Path | None:
    """A JDK that is new enough: JAVA_HOME, the path's, or one of the system's."""
    on_path = shutil.which("javac")
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    homes += [Path(on_path).resolve().parents[1]] if on_path else []
    homes += sorted(Path("/usr/lib/jvm").glob("*")) if Path("/usr/lib/jvm").is_dir() else []
    for home in homes:
        if (home / "bin" / "javac").exists():
            said = subprocess.run(
                [home / "bin" / "javac", "-version"], capture_output=True, text=True, check=False
            ).stdout
            release = re.match(r"javac (\d+)", said)
            if release and int(release[1]) >= JDK:
                return home
    return None


def _build_java() -> list[str]:
    home, peer, out = find_jdk(), HERE / "peers" / "java", BUILD / "java"
    if home is None or shutil.which("mvn") is None:
        return [f"the Java runtime: no JDK of {JDK} or later (JAVA_HOME) or no Maven (mvn)"]
    services = out / "classes" / "META-INF" / "services"
    services.mkdir(parents=True, exist_ok=True)
    if not (out / "lib").is_dir():
        command = [
            "mvn",
            "-q",
            "-B",
            "-f",
            peer / "pom.xml",
            "dependency:copy-dependencies",
            f"-DoutputDirectory={out / 'lib'}",
        ]
        _run(command, JAVA_HOME=str(home))
    sources = sorted(peer.glob("*.java"))
    _run([home / "bin" / "javac", "-nowarn", "-parameters", "-d", out / "classes", "-cp", f"{out / 'lib'}/*", *sources])
    shutil.copy(peer / "application.properties", out / "classes")
    (services / "io.camunda.connector.api.inbound.InboundConnectorExecutable").write_text("bench.BenchWebhook\n")
    return []


def _build_node() -> list[str]:
    out = BUILD / "node"
    if shutil.which("node") is None or shutil.which("npm") is None:
        return ["the Node SDK: no Node (node, npm)"]
    out.mkdir(exist_ok=True)
    if not (out / "node_modules" / "@camunda8").is_dir():
        (out / "package.json").write_text('{"private": true}\n')
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", *_NODE], cwd=out)
    shutil.copy(HERE / "peers" / "node" / "worker.mjs", out)
    return []
