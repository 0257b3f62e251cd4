"""Breaks each promise once and looks whether its test notices: `python tests/mutants/run.py [WORD ...]`.

A mutant is one exact replacement in a copy of the tree (`mutants.toml`, and `inbound.toml` for the event flow). Words choose
those whose promise, file or text holds one.
Exit code 1 when a mutant survives, 2 when one does not fit the source any more or its test fails without it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

ROOT = Path(__file__).resolve().parents[2]
FILES = ("tests/mutants/mutants.toml", "tests/mutants/inbound.toml")
_COPIED = ("gateway", "connectors", "tests", "pyproject.toml")
_LIMIT = 90  # seconds for one test: a mutant that hangs is noticed too


class Mutant(TypedDict):
    promise: str
    breaks: str
    file: str
    old: str
    new: str
    test: str


def mutants(words: Iterable[str] = ()) -> list[Mutant]:
    found: list[Mutant] = [m for file in FILES for m in tomllib.loads((ROOT / file).read_text())["mutant"]]
    words = [word.lower() for word in words]
    return [m for m in found if not words or any(word in f"{m}".lower() for word in words)]


def red(tree: Path, tests: Iterable[str]) -> bool:
    """Whether one of the tests fails, or does not end, in this tree."""
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ENGINE_RUN": os.environ.get("ENGINE_RUN") or str(ROOT / "tests/real/engine/run"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--timeout={_LIMIT // 3}", *tests]
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return True
    if done.returncode not in {0, 1, 2} or " skipped" in done.stdout:
        sys.exit(f"{' '.join(command)}: no result\n{done.stdout[-2000:]}{done.stderr[-1000:]}")
    return done.returncode != 0


def misfits(tree: Path, chosen: Iterable[Mutant]) -> list[str]:
    """Mutants whose text does not stand in their file exactly once."""
    counts = ((m, (tree / m["file"]).read_text().count(m["old"])) for m in chosen)
    return [f"{m['file']}: {m['old']!r} stands there {count} times, not once" for m, count in counts if count != 1]


def survives(tree: Path, mutant: Mutant) -> bool:
    path = tree / mutant["file"]
    original = path.read_text()
    path.write_text(original.replace(mutant["old"], mutant["new"]))
    try:
        return not red(tree, [mutant["test"]])
    finally:
        path.write_text(original)


def main(words: list[str]) -> int:
    chosen = mutants(words)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("build", "__pycache__", ".*"))
            else:
                shutil.copy(source, tree / name)
        if wrong := misfits(tree, chosen):
            print("\n".join(wrong))
            return 2
        if any(red(tree, [test]) for test in dict.fromkeys(m["test"] for m in chosen)):
            print("a test fails without a mutant: run the tests first")
            return 2
        survivors = 0
        for mutant in chosen:
            began = time.monotonic()
            alive = survives(tree, mutant)
            survivors += alive
            word = "SURVIVES" if alive else "noticed"
            print(f"{word:9}{time.monotonic() - began:5.1f} s  {mutant['promise']:10} {mutant['breaks']}", flush=True)
            if alive:
                print(f"          {mutant['test']} stays green")
    print(f"{len(chosen) - survivors} of {len(chosen)} noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
