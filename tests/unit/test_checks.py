"""Each misconfiguration is a system check, with its whole message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dishka import Provider, provide
from django.conf import settings
from django.core.checks import CheckMessage, Error, run_checks
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.test.utils import override_settings
from django_tenants.middleware.main import TenantMainMiddleware

from pluginhub import checks
from pluginhub.checks import (
    check_apps,
    check_channel_layers,
    check_database,
    check_middleware,
    check_plugins,
    check_providers,
    check_queues,
    check_settings,
)
from pluginhub.scopes import PROCESS

TENANT = "django_tenants.middleware.main.TenantMainMiddleware"


class OwnTenantMiddleware(TenantMainMiddleware):  # type: ignore[misc]
    """What a host may have written itself."""


def of(check: Any, **overrides: Any) -> list[CheckMessage]:
    with override_settings(**overrides):
        return list(check(None))


def test_the_reference_site_has_nothing_to_complain_about() -> None:
    assert run_checks(tags=["pluginhub"]) == []


def test_every_check_that_is_documented_exists_and_the_other_way_round() -> None:
    code = Path(checks.__file__).read_text()
    documented = {line.split()[1] for line in (checks.__doc__ or "").splitlines() if line.startswith("| pluginhub.")}
    assert documented == {f"pluginhub.E{number:03}" for number in range(1, 16)}
    assert all(code.count(f'id="{name}"') == 1 for name in documented)


def test_e001_a_key_that_does_not_exist() -> None:
    assert of(check_settings, PLUGINHUB={"PLUGIN_DIR": "x"}) == [
        Error(
            "PLUGINHUB['PLUGIN_DIR'] is no setting.",
            hint="Did you mean 'PLUGINS_DIR', 'PLUGINS'? See docs/hosting.md.",
            id="pluginhub.E001",
        )
    ]


def test_e001_a_value_that_does_not_fit() -> None:
    assert of(check_settings, PLUGINHUB={"JOB_ATTEMPTS": 0}) == [
        Error(
            "PLUGINHUB['JOB_ATTEMPTS'] does not fit: Input should be greater than or equal to 1.",
            hint="It is of type int. See docs/hosting.md.",
            id="pluginhub.E001",
        )
    ]


@pytest.mark.parametrize(
    ("shared", "tenant"),
    [(["pluginhub.fleet"], []), (["pluginhub.fleet", "pluginhub"], ["pluginhub.apps.PluginHubConfig"])],
)
def test_e002_the_app_is_a_tenant_s_only(shared: list[str], tenant: list[str]) -> None:
    assert of(check_apps, SHARED_APPS=shared, TENANT_APPS=tenant) == [
        Error(
            "'pluginhub' must be in TENANT_APPS, and not in SHARED_APPS.",
            hint="Each tenant has its own registrations; in the public schema, other tenants' would be found.",
            id="pluginhub.E002",
        )
    ]


@pytest.mark.parametrize(
    ("shared", "tenant"), [([], ["pluginhub"]), (["pluginhub.fleet"], ["pluginhub", "pluginhub.fleet"])]
)
def test_e003_the_fleet_is_shared_only(shared: list[str], tenant: list[str]) -> None:
    assert of(check_apps, SHARED_APPS=shared, TENANT_APPS=tenant) == [
        Error(
            "'pluginhub.fleet' must be in SHARED_APPS, and not in TENANT_APPS.",
            hint="What spans tenants lives in the public schema; a tenant's own copy would hide it.",
            id="pluginhub.E003",
        )
    ]


def test_apps_of_several_types_of_tenants_are_looked_at_together() -> None:
    kinds = {"public": {"APPS": ["pluginhub.fleet"]}, "big": {"APPS": ["pluginhub"]}, "small": {"APPS": []}}
    assert of(check_apps, HAS_MULTI_TYPE_TENANTS=True, TENANT_TYPES=kinds, SHARED_APPS=[], TENANT_APPS=[]) == []


def test_e004_no_middleware() -> None:
    assert of(check_middleware, MIDDLEWARE=[TENANT]) == [
        Error(
            "'pluginhub.middleware.PluginMiddleware' is not in MIDDLEWARE.",
            hint="Add it after the tenant and authentication middlewares: it enters the tenant of each request.",
            id="pluginhub.E004",
        )
    ]


@pytest.mark.parametrize("tenant", [TENANT, f"{__name__}.OwnTenantMiddleware"])
def test_e005_the_middleware_before_the_tenant_s(tenant: str) -> None:
    assert of(check_middleware, MIDDLEWARE=[checks.MIDDLEWARE, tenant]) == [
        Error(
            "'pluginhub.middleware.PluginMiddleware' stands before the tenant middleware in MIDDLEWARE.",
            hint="Move it behind, and behind authentication: it needs the request's tenant.",
            id="pluginhub.E005",
        )
    ]


def test_e006_limited_set_calls() -> None:
    assert of(check_database, TENANT_LIMIT_SET_CALLS=True) == [
        Error(
            "TENANT_LIMIT_SET_CALLS is on.",
            hint="Remove it: behind PgBouncer in transaction mode it serves one tenant's rows to another.",
            id="pluginhub.E006",
        )
    ]


@pytest.mark.parametrize(
    "config", [{}, {"hosts": ["redis://x"]}, {"hosts": [{"address": "redis://x"}]}, {"hosts": [("x", 6379)]}]
)
def test_e007_a_channel_layer_that_times_out(config: dict[str, Any]) -> None:
    layers = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}}
    assert of(check_channel_layers, CHANNEL_LAYERS=layers) == [
        Error(
            "The channel layer 'default' drops an idle socket's messages every 5 s with redis-py 8.",
            hint='Write each host as {"address": "redis://…", "socket_timeout": None} '
            "(https://github.com/django/channels_redis/issues/422).",
            id="pluginhub.E007",
        )
    ]


def test_other_channel_layers_are_left_alone() -> None:
    layers = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert of(check_channel_layers, CHANNEL_LAYERS=layers) == []


def test_e008_a_queue_that_does_not_exist() -> None:
    assert of(check_queues, PLUGINHUB={"QUEUE": "hub"}, RQ_QUEUES={"default": {}, "slow": {}}) == [
        Error(
            "PLUGINHUB['QUEUE'] names the queue 'hub', which is not in RQ_QUEUES.",
            hint="RQ_QUEUES has: default, slow.",
            id="pluginhub.E008",
        )
    ]


def test_e009_a_queue_that_runs_jobs_at_once() -> None:
    assert of(check_queues, RQ_QUEUES={"default": {"ASYNC": False}}) == [
        Error(
            "The queue 'default' has ASYNC off: jobs would run inside the request that asks for them.",
            hint="Remove ASYNC from RQ_QUEUES, and run manage.py pluginhub_worker.",
            id="pluginhub.E009",
        )
    ]


@pytest.mark.parametrize("rq", [{"COMMIT_MODE": "request_finished"}, {"AUTOCOMMIT": False}])
def test_e010_bells_held_back(rq: dict[str, Any]) -> None:
    assert of(check_queues, RQ=rq) == [
        Error(
            "RQ holds jobs back until a request is finished.",
            hint="Set RQ = {'COMMIT_MODE': 'on_db_commit'}: commands and workers finish no request.",
            id="pluginhub.E010",
        )
    ]


def test_wrong_settings_do_not_break_the_check_of_queues() -> None:
    assert of(check_queues, PLUGINHUB={"QUEU": "x"}) == []


@pytest.mark.parametrize("level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE])
def test_e011_transactions_that_see_the_past(level: IsolationLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    database = {**settings.DATABASES["default"], "OPTIONS": {"isolation_level": level}}
    monkeypatch.setattr(settings, "DATABASES", {"default": database})
    assert of(check_database) == [
        Error(
            "The tenants' database has an isolation_level other than READ COMMITTED.",
            hint="Remove it from OPTIONS: who publishes must see what others published while he waited.",
            id="pluginhub.E011",
        )
    ]


def test_e012_another_public_schema() -> None:
    assert of(check_database, PUBLIC_SCHEMA_NAME="everyone") == [
        Error(
            "PUBLIC_SCHEMA_NAME is 'everyone'.",
            hint="PluginHub needs what spans tenants in the schema 'public'.",
            id="pluginhub.E012",
        )
    ]


def test_e013_providers_that_cannot_be_imported() -> None:
    assert of(check_providers, PLUGINHUB={"PROVIDERS": ["shop.services.Services", "json.JSONDecoder"]}) == [
        Error(
            "PLUGINHUB['PROVIDERS'] names 'shop.services.Services', which cannot be imported: "
            "ModuleNotFoundError: No module named 'shop'.",
            hint="Write 'package.module.ProviderClass'.",
            id="pluginhub.E013",
        ),
        Error(
            "PLUGINHUB['PROVIDERS'] holds 'json.JSONDecoder', which is no dishka Provider.",
            hint="Subclass dishka.Provider.",
            id="pluginhub.E013",
        ),
    ]


class Unprovided:
    """What nobody provides."""


class Made:
    def __init__(self, lacking: Unprovided) -> None:
        raise AssertionError("a check makes no service")


class Lacking(Provider):
    made = provide(Made, scope=PROCESS)


def test_e013_providers_that_do_not_fit_together() -> None:
    assert of(check_providers, PLUGINHUB={"PROVIDERS": [f"{__name__}.Lacking"]}) == [
        Error(
            "Made needs Unprovided, and no provider makes it: Made → Unprovided.",
            hint="Add a provider of Unprovided to PLUGINHUB['PROVIDERS'].",
            id="pluginhub.E013",
        )
    ]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("shout", "':shout' names no class. Write 'package.module:Class'."),
        (
            "no.such:Shout",
            "There is no module 'no.such' with Python source. Install the distribution that contains it.",
        ),
        ("tests.integration.samples:Shuot", "Module 'tests.integration.samples' defines no class 'Shuot'."),
    ],
    ids=["malformed", "module", "class"],
)
def test_e014_plugins_that_are_not_there(path: str, problem: str) -> None:
    (error,) = of(check_plugins, PLUGINHUB={"PLUGINS": {"good": "tests.integration.samples:Shout", "bad": path}})
    assert (error.id, error.hint) == (
        "pluginhub.E014",
        "Correct or remove it; PLUGINHUB_SAFE_MODE=1 starts without plugins.",
    )
    assert error.msg.startswith(f"PLUGINHUB['PLUGINS']['bad'] cannot be loaded: {problem}")


def test_e015_a_folder_of_plugins_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "plugins"
    assert of(check_plugins, PLUGINHUB={"PLUGINS_DIR": path}) == [
        Error(
            f"PLUGINHUB['PLUGINS_DIR'] is {str(path)!r}, which is no folder.",
            hint="Create it, or remove the setting.",
            id="pluginhub.E015",
        )
    ]


def test_plugins_are_not_looked_at_in_safe_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
    assert of(check_plugins, PLUGINHUB={"PLUGINS": {"bad": "no.such:Shout"}, "PLUGINS_DIR": "/no/such"}) == []


@pytest.mark.parametrize("check", [check_providers, check_plugins])
def test_settings_that_cannot_be_read_are_told_once(check: Any) -> None:
    assert of(check, PLUGINHUB={"PLUGIN_DIR": "x"}) == []
