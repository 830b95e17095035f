from __future__ import annotations

from django.apps import AppConfig

__all__ = ["FleetConfig"]


class FleetConfig(AppConfig):
    name = "pluginhub.fleet"
    label = "pluginhub_fleet"
    verbose_name = "PluginHub fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Fence every connection of this process, and put tenancy around the engine's pool threads."""
        from django.db import connections

        from pluginhub import crossing, tenancy

        tenancy.install()
        crossing.around_thread = tenancy.around_thread
        crossing.in_transaction = tenancy.in_transaction
        crossing.leave_thread = connections.close_all
