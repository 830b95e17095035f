"""`manage.py pluginhub_worker`: run the tenants' jobs."""

from __future__ import annotations

import logging
import signal
import time
from types import FrameType
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandParser
from django_rq.workers import get_worker
from redis.exceptions import RedisError

from pluginhub import jobs
from pluginhub.conf import settings
from pluginhub.jobs.bells import SERIALIZER

log = logging.getLogger("pluginhub.jobs")

PAUSE_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Run the tenants' jobs from PLUGINHUB['QUEUE'], and nothing else that may stand in it. "
        "SIGTERM ends it after the job in hand; a second one ends it at once."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", help="The worker's name in django-rq's pages; random unless given.")
        parser.add_argument("--burst", action="store_true", help="Quit when no bell waits.")

    def handle(self, *args: Any, **options: Any) -> None:
        level = {0: "WARNING", 1: "INFO"}.get(options["verbosity"], "DEBUG")
        while True:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, _quit)  # until the worker takes over
            if _work(options["name"], burst=options["burst"], level=level):
                return
            time.sleep(PAUSE_SECONDS)


def _work(name: str | None, *, burst: bool, level: str) -> bool:
    """Work until told to stop; return false when Redis failed, which calls for a new worker."""
    worker: jobs.Worker | None = None
    try:
        worker = cast(
            jobs.Worker,
            get_worker(settings.QUEUE, worker_class=jobs.Worker, job_class=jobs.Bell, serializer=SERIALIZER, name=name),
        )
        worker.work(burst=burst, logging_level=level)
    except (RedisError, OSError) as error:
        log.warning("Redis does not answer, trying again: %s", error)
    return worker is not None and (burst or worker.was_stopped)


def _quit(signum: int, frame: FrameType | None) -> None:
    raise SystemExit(0)
