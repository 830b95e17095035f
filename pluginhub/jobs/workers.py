"""The worker: django-rq's, which also sweeps, forks without open connections, and stops between two jobs."""

from __future__ import annotations

import os
import signal
from typing import Any

import rq
from django.db import connections
from rq.job import Job

from pluginhub import loading, watching
from pluginhub.jobs import horses
from pluginhub.jobs.bells import BellOrJob
from pluginhub.jobs.sweeping import Sweeper
from pluginhub.registry import registry

__all__ = ["Worker"]


class Worker(rq.Worker):
    """Runs bells beside the host's own RQ jobs, or bells only, when its job class is `Bell`.

    Name it in `RQ = {"WORKER_CLASS": "pluginhub.jobs.Worker"}` to have plain `manage.py rqworker` run it, too.
    """

    max_connection_wait_time = 5.0

    def __init__(self, queues: Any, *args: Any, job_class: Any = None, **kwargs: Any) -> None:
        kwargs["job_class"] = BellOrJob if job_class is None or job_class is Job else job_class
        super().__init__(queues, *args, **kwargs)
        self.sweeper = Sweeper()

    @property
    def was_stopped(self) -> bool:
        """Whether a signal asked for the end, rather than trouble with Redis."""
        return self._shutdown_requested_date is not None

    def work(self, *args: Any, **kwargs: Any) -> bool:
        signal.signal(horses.STOP_SIGNAL, signal.SIG_IGN)  # inherited: a horse that is not ready yet must not die of it
        registry.refrain()
        loading.current().pin()  # horses load the code that there was when their worker began, or was told to reload
        self.sweeper.start()
        try:
            return super().work(*args, **kwargs)
        finally:
            self.sweeper.stop()

    def fork_work_horse(self, job: Job, queue: rq.Queue) -> None:
        with self.sweeper.paused():
            watching.look()  # a horse runs what its worker has read
            connections.close_all()
            super().fork_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        super().setup_work_horse_signals()  # type: ignore[no-untyped-call]
        horses.become()
        registry.refrain()

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]
        if self.horse_pid:
            try:
                os.kill(self.horse_pid, horses.STOP_SIGNAL)
            except ProcessLookupError:
                pass  # it has just finished
