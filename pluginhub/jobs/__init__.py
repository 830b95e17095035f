"""Jobs: runs in a worker. The row in the tenant's schema is the job; Redis only carries the bell that says so.

Nothing committed is lost, an end is recorded once, a start may happen twice: see `docs/jobs.md`.
"""

from pluginhub.jobs.bells import Bell, BellOrJob, ring
from pluginhub.jobs.claiming import claim
from pluginhub.jobs.enqueueing import aenqueue, enqueue
from pluginhub.jobs.rows import cancel, retry, status
from pluginhub.jobs.running import bell, work
from pluginhub.jobs.sweeping import sweep
from pluginhub.jobs.tenant import TenantJobs
from pluginhub.jobs.workers import Worker

__all__ = [
    "Bell",
    "BellOrJob",
    "TenantJobs",
    "Worker",
    "aenqueue",
    "bell",
    "cancel",
    "claim",
    "enqueue",
    "retry",
    "ring",
    "status",
    "sweep",
    "work",
]
