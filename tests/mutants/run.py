"""`make mutants`: breaks each promise in a copy of the tree and expects its test to fail there.

First all the tests must pass unbroken. Exit code 0: every mutant was caught; 1: one survived, or a patch no longer fits.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.mutants.mutants import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 180  # seconds for one test


def copy(target: Path) -> None:
    """The files of the work tree that git knows or would know."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def run(tree: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Runs tests in a tree, whose packages win over those installed."""
    environment = os.environ | {
        "PYTHONPATH": str(tree),
        "ENGINE_RUN": str(ROOT / "tests/real/engine/run"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, timeout=LIMIT * len(tests), check=False
    )


def judge(tree: Path, mutant: Mutant) -> str | None:
    """What is wrong with a mutant; None when its test caught it."""
    file = tree / mutant.file
    text = file.read_text()
    if text.count(mutant.old) != 1:
        return f"the patch does not fit: its text stands {text.count(mutant.old)} times in {mutant.file}"
    file.write_text(text.replace(mutant.old, mutant.new))
    try:
        done = run(tree, mutant.test)
    except subprocess.TimeoutExpired:
        return f"its test neither passed nor failed in {LIMIT} s"
    finally:
        file.write_text(text)
    if done.returncode == 1:
        return None
    return "it survived" if done.returncode == 0 else f"pytest ended with {done.returncode}: {done.stdout[-300:]}"


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder)
        copy(tree)
        sound = run(tree, *dict.fromkeys(m.test for m in MUTANTS))
        if sound.returncode != 0:
            print(sound.stdout[-2000:])
            print("the tests do not pass unbroken")
            return 1
        wrong = 0
        for mutant in MUTANTS:
            trouble = judge(tree, mutant)
            wrong += trouble is not None
            print(f"{mutant.promise:10} {trouble or 'caught'}: {mutant.test}", flush=True)
    print(f"{len(MUTANTS) - wrong} passed, {wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
