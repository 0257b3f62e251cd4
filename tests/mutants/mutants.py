"""For each promise of the README: small patches that break it, and the test that must go red."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """In `file`, `old` (which stands there once) becomes `new`; then `test` fails."""

    promise: str
    file: str
    old: str
    new: str
    test: str


WORKER, FLOW = "tests/outbound/test_worker.py", "tests/flow/test_flow.py"
GUARD = "tests/http_client/test_guard.py"

MUTANTS = [
    Mutant(
        "delivery",
        "gateway/outbound/delivery.py",
        "        except (TransientError, Unauthenticated) as e:\n            last = e\n",
        "        except (TransientError, Unauthenticated) as e:\n            return Delivered.EXPIRED, e\n            last = e\n",
        f"{WORKER}::test_a_completion_is_sent_until_the_engine_has_it_and_the_connector_called_once",
    ),
    Mutant(
        "delivery",
        "gateway/outbound/lease.py",
        "return self.state in {State.HELD, State.OVERDUE} and now < self.deadline",
        "return True",
        "tests/outbound/test_delivery.py::test_a_lost_lease_sends_nothing",
    ),
    Mutant(
        "delivery",
        "gateway/outbound/lease.py",
        "lease.deadline - now <= self.seconds / 2",
        "lease.deadline - now <= 0",
        "tests/outbound/test_lease.py::test_a_lease_is_extended_at_half_time_and_not_before",
    ),
    Mutant(
        "bounded",
        "gateway/limits.py",
        "        if count > self.free:\n            return False\n",
        "",
        f"{FLOW}::test_more_jobs_than_permits_are_all_done_and_never_more_at_once_than_permits[embedded]",
    ),
    Mutant(
        "bounded",
        "gateway/limits.py",
        "                self.give_back()  # served and cancelled in the same turn of the loop\n",
        "                pass\n",
        "tests/test_limits.py::test_a_waiter_cancelled_in_the_moment_it_is_served_passes_its_permit_on",
    ),
    Mutant(
        "isolation",
        "gateway/outbound/worker.py",
        "            self.permits.give_back()\n        if running.total:",
        "            pass\n        if running.total:",
        f"{WORKER}::test_permits_are_all_back_whatever_handlers_do",
    ),
    Mutant(
        "isolation",
        "gateway/watchdog.py",
        "if late > self._limit and beat != reported:",
        "if False:",
        "tests/test_watchdog.py",
    ),
    Mutant(
        "drain",
        "gateway/outbound/worker.py",
        "await self._commands.fail_job(job.key, retries=job.retries,",
        "await self._commands.fail_job(job.key, retries=job.retries - 1,",
        f"{FLOW}::test_what_runs_at_the_end_is_handed_back_with_the_retries_it_had[embedded]",
    ),
    Mutant(
        "drain",
        "gateway/outbound/worker.py",
        "        self._stopped_reading = True\n        self._return_declined()\n",
        "        self._stopped_reading = True\n",
        f"{WORKER}::test_a_drain_hands_back_what_was_under_way_without_using_up_a_retry",
    ),
    Mutant(
        "recovery",
        "gateway/outbound/worker.py",
        '                self._troubled("a job stream broke", e)\n',
        '                self._troubled("a job stream broke", e)\n                return\n',
        f"{WORKER}::test_a_broken_stream_is_opened_again_with_growing_pauses",
    ),
    Mutant(
        "recovery",
        "gateway/engine/transport.py",
        "                await self._replace(connection)\n",
        "",
        "tests/engine/test_transport.py::test_after_a_silent_connection_a_new_one_carries_streams_and_calls",
    ),
    Mutant(
        "secrets",
        "gateway/secrets.py",
        "    return lambda text: _masked(text, secrets)",
        "    return lambda text: text",
        "tests/faults/test_canary.py",
    ),
    Mutant(
        "egress",
        "gateway/http_client/guard.py",
        "if self.enabled and (reason := self.denial(address)) is not None:",
        "if False and (reason := self.denial(address)) is not None:",
        f"{GUARD}::test_the_connection_itself_is_guarded_in_every_spelling",
    ),
    Mutant(
        "bad input",
        "gateway/outbound/outcome.py",
        "    if is_input_error(error) or isinstance(error, HeaderInvalid):\n        return 0\n",
        "",
        "tests/outbound/test_outcome.py::test_how_many_retries_are_left",
    ),
    Mutant(
        "bad input",
        "gateway/binding.py",
        '    lines = [f" - Property: {path}: Validation failed. Original message: {message}" for path, message in found]',
        '    lines = [f" - Property: ?: Validation failed. Original message: {message}" for path, message in found]',
        f"{FLOW}::test_bad_input_is_an_incident_at_once_that_names_the_field[embedded]",
    ),
]
