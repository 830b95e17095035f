"""`manage.py pluginhub_reload <plugin>[==version]`: new code, in every process, without a restart."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from pluginhub import reloading
from pluginhub.exceptions import PluginHubError
from pluginhub.fleet.models import Generation
from pluginhub.management.commanding import OPERATOR, failure

__all__ = ["Command"]


class Command(BaseCommand):
    help = "Have every process load a plugin's package anew, from the code that is installed now."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("plugin", metavar="plugin[==version]", help="A plugin's name, with the installed version.")
        parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS", help="For the fleet; 0: do not.")
        parser.add_argument("--note", default="", help="Kept with the generation.")
        parser.add_argument(
            "--no-rehearsal", action="store_true", help="Do not bring the new code up here before anybody else does."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        plugin, _, version = options["plugin"].partition("==")
        try:
            generation = reloading.reload(
                plugin.strip(),
                version.strip(),
                author=OPERATOR.name,
                note=options["note"],
                rehearse=not options["no_rehearsal"],
            )
        except PluginHubError as error:
            raise failure(error) from error
        self.stdout.write(f"Generation {generation.number}: {', '.join(sorted(reloading.changed(generation)))}")
        self._watch(generation, options["wait"])

    def _watch(self, generation: Generation, seconds: float) -> None:
        """Print how each process of the fleet fares, as it does. Fails if one keeps older code."""
        until, said = time.monotonic() + seconds, dict[Any, str]()
        while True:
            found = reloading.progress(generation)
            for each in found:
                if said.get(each.process) != each.told:
                    said[each.process] = each.told
                    self.stdout.write(f"  {each.process}: {each.told}")
            if all(each.is_done for each in found) or time.monotonic() > until:
                break
            time.sleep(0.1)
        behind = [each for each in found if not each.runs]
        if behind and seconds:
            raise CommandError(f"{len(behind)} of {len(found)} processes keep the code they have.")
