"""How a job's attempt ends, and what its row says then.

`succeeded`: it returned. `cancelled`: somebody cancelled it. `failed`: an error that trying again cannot mend, such as
`Fatal`, `Refuse` or an unknown target. Any other error is tried again after a pause, until the attempts are used up:
`dead`. So is a job whose worker died at its last attempt.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from django.db import InterfaceError, OperationalError, connections

from pluginhub import payloads
from pluginhub.exceptions import (
    BreakerOpen,
    DeadlineExceeded,
    Fatal,
    PluginHubError,
    RateLimited,
    RetryLater,
    problem_of,
)
from pluginhub.jobs import bells, claiming
from pluginhub.jobs.claiming import Claim
from pluginhub.jobs.keeping import Cancelled, Held, LeaseLost, TimeUp
from pluginhub.models import Job

__all__ = ["RESULT_BYTES", "back_off", "fail", "succeed"]

log = logging.getLogger("pluginhub.jobs")

RESULT_BYTES = 1_048_576
RESULT_NODES = 100_000
BACK_OFF_SECONDS = 1.0
LONGEST_BACK_OFF_SECONDS = 300.0

_WORTH_ANOTHER_TRY = (409, 429)


def succeed(held: Held, result: Any, revision: int | None) -> None:
    """Record a result; one that is no JSON fails the job at once, for the work is done."""
    try:
        plain = json.loads(payloads.render(result))
        payloads.check(plain, max_bytes=RESULT_BYTES, max_nodes=RESULT_NODES)
    except PluginHubError as error:
        problem = problem_of(error)
        _record(held, claiming.end, Job.Status.FAILED, problem=problem, revision=revision, progress=held.progress)
        return
    _record(held, claiming.end, Job.Status.SUCCEEDED, result=plain, revision=revision, progress=held.progress)


def fail(held: Held, error: BaseException) -> None:
    """Record what an error means for the job: its end, or another attempt later."""
    claim = held.claim
    if isinstance(error, LeaseLost):
        log.warning("Job %s was taken over by another worker.", claim.id)
    elif isinstance(error, Cancelled) or held.interrupt is Cancelled:
        _record(held, claiming.end, Job.Status.CANCELLED, progress=held.progress)
    else:
        _try_again_or_end(held, _overdue(claim) if isinstance(error, TimeUp) else error)


def back_off(attempt: int) -> float:
    """Return the pause after a failed attempt, in seconds: 1, 2, 4, … up to 300."""
    return float(min(BACK_OFF_SECONDS * 2 ** min(attempt - 1, 30), LONGEST_BACK_OFF_SECONDS))


def _try_again_or_end(held: Held, error: BaseException) -> None:
    claim, problem = held.claim, problem_of(error)
    log.warning("Attempt %s of job %s (%s) failed.", claim.attempt, claim.id, claim.name, exc_info=error)
    if _is_final(error):
        _record(held, claiming.end, Job.Status.FAILED, problem=problem, progress=held.progress)
    elif claim.is_last:
        _record(held, claiming.end, Job.Status.DEAD, problem=problem, progress=held.progress)
    else:
        _record(held, claiming.put_back, delay=_pause(error, claim), problem=problem)


def _is_final(error: BaseException) -> bool:
    if isinstance(error, Fatal):
        return True
    return isinstance(error, PluginHubError) and 400 <= error.status < 500 and error.status not in _WORTH_ANOTHER_TRY


def _pause(error: BaseException, claim: Claim) -> float:
    asked = error.delay if isinstance(error, RetryLater) else None
    if isinstance(error, RateLimited | BreakerOpen):
        asked = error.retry_after
    return back_off(claim.attempt) if asked is None else max(0.0, asked)


def _overdue(claim: Claim) -> DeadlineExceeded:
    return DeadlineExceeded(f"The job took longer than its {claim.seconds:g} seconds and was interrupted.")


def _record(held: Held, write: Any, *args: Any, **kwargs: Any) -> None:
    """Write once more on a new connection if the first was cut: the token makes a second write harmless."""
    try:
        recorded = write(held.claim, *args, **kwargs)
    except (OperationalError, InterfaceError):
        connections[claiming.alias()].close()
        recorded = write(held.claim, *args, **kwargs)
    if not recorded:
        log.warning("The end of job %s was not recorded: another worker has it by now.", held.claim.id)
    bells.hint(held.claim.schema, held.claim.id)
