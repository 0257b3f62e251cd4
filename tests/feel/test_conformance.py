"""
FEEL against two foreign suites: Camunda's own and the standard's (the DMN TCK), where they are at hand.

The cases are third-party data and no part of the project. FEEL_CASES names their folder; without them this is skipped.
`tck_differences.tsv` lists the cases of the standard that Camunda's dialect answers otherwise, each with its reason.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.feel.conformance import cases, folder, passes, run

pytestmark = [
    pytest.mark.skipif(folder() is None, reason="no FEEL cases: set FEEL_CASES to their folder"),
    pytest.mark.timeout(120),
]

DIFFERENCES = Path(__file__).with_name("tck_differences.tsv")


def test_every_case_of_camunda_passes():
    failed = [case["id"] for case in cases("camunda-cases.jsonl") if not passes(case, run(case))]
    assert failed == []


def test_every_case_of_the_standard_passes_but_those_that_camunda_answers_otherwise():
    known = dict(line.split("\t") for line in DIFFERENCES.read_text(encoding="utf-8").splitlines())
    failed = {case["id"] for case in cases("tck-cases.jsonl") if not passes(case, run(case))}
    assert failed - set(known) == set(), "cases that should pass"
    assert {case["id"] for case in cases("tck-cases.jsonl")} & set(known) == failed, "differences that are gone"


def test_nine_in_ten_cases_of_the_standard_that_expect_a_value_pass():
    outcome = Counter(passes(case, run(case)) for case in cases("tck-cases.jsonl") if not case.get("error_ok"))
    assert outcome[True] / outcome.total() >= 0.92
