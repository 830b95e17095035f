from __future__ import annotations

from django.apps import AppConfig

__all__ = ["PluginHubConfig"]


class PluginHubConfig(AppConfig):
    name = "pluginhub"
    label = "pluginhub"
    verbose_name = "PluginHub"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from pluginhub import building, checks, jobs, reloading, watching  # noqa: F401 - importing the checks registers them
        from pluginhub.registry import registry

        building.make_jobs = jobs.TenantJobs
        registry.catch_up = reloading.catch_up
        registry.watch = watching.begin
