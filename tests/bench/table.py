"""The figures as tables: a line for each peer and case, min/median/max of the rounds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

_COLUMNS: Final = {
    "per_s": "per s",
    "cpu_s_per_1000": "CPU s/1,000",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "start_s": "start s",
    "start_cpu_s": "start CPU s",
    "ready_s": "all up s",
    "rss_idle_mb": "RSS idle MB",
    "rss_load_mb": "RSS load MB",
    "idle_cores": "idle cores",
    "worker_cores": "own cores",
    "other_cores": "other cores",
    "load": "load",
}


def show(title: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Prints one table; columns without a figure are left out."""
    cases: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        cases.setdefault((row["case"], row["peer"]), []).append(row)
    if not cases:
        return
    columns = [name for name in _COLUMNS if any(name in row for found in cases.values() for row in found)]
    table = Table(title=title, box=MARKDOWN, title_justify="left")
    for heading in ("case", "peer", "n", *(_COLUMNS[name] for name in columns)):
        table.add_column(heading, no_wrap=True, justify="left" if heading in {"case", "peer"} else "right")
    for (case, peer), found in cases.items():
        figures = [_spread([row[name] for row in found if name in row]) for name in columns]
        table.add_row(case, peer, str(len(found)), *figures)
    Console(width=400).print(table)


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    three = (min(values), statistics.median(values), max(values))
    return "/".join(_number(value) for value in (three if len(values) > 1 else three[:1]))


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
