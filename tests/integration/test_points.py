"""Points: the host asks what a tenant hung there, or answers itself."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models.signals import post_save
from django.dispatch import Signal
from django.test.utils import CaptureQueriesContext
from pydantic import AfterValidator, BaseModel

from pluginhub import Context, Plugin, Stop, publishing, tenancy
from pluginhub.configuration import Configuration, PointSpec, RegistrationSpec
from pluginhub.exceptions import (
    DeadlineExceeded,
    HookError,
    InvalidInput,
    NotReady,
    PublishRefused,
    TooLarge,
    place_of,
)
from pluginhub.models import Job, StoredValue
from pluginhub.points import Point
from pluginhub.registry import registry
from pluginhub.types import PUBLIC, Tenant

Ask = Callable[..., Any]


class Add(Plugin):
    """Add a number to the list, or to the number."""

    class Config(BaseModel):
        by: int = 1

    def process(self, value: Any, context: Context) -> Any:
        if isinstance(value, list):
            value.append(self.config.by)
            return sum(value)
        return value + self.config.by


class Double(Plugin):
    """Double a number, asynchronously."""

    async def process(self, value: Any, context: Context) -> Any:
        await asyncio.sleep(0)
        return value * 2


class Silent(Plugin):
    """Answer nothing."""

    def process(self, value: Any, context: Context) -> None:
        return None


class Emptying(Plugin):
    """Empty the list, and answer nothing."""

    def process(self, value: Any, context: Context) -> None:
        value.clear()


class Failing(Plugin):
    """Fail."""

    class Config(BaseModel):
        words: str = "no"

    def process(self, value: Any, context: Context) -> Any:
        raise LookupError(self.config.words)


class Words(Plugin):
    """Answer what is no number."""

    def process(self, value: Any, context: Context) -> str:
        return "many"


class Stopping(Plugin):
    """Stop with 7."""

    def process(self, value: Any, context: Context) -> Any:
        return Stop(7)


class Fragile(Plugin):
    """Never come up."""

    def activate(self, context: Context) -> None:
        raise RuntimeError("no connection")

    def process(self, value: Any, context: Context) -> Any:
        return value


class Slow(Plugin):
    """Take a while, and answer nothing."""

    class Config(BaseModel):
        seconds: float = 0.2

    def process(self, value: Any, context: Context) -> None:
        time.sleep(self.config.seconds)


class Keeping(Plugin):
    """Keep the value; say in which thread, and how many values there are."""

    def process(self, value: Any, context: Context) -> Any:
        context.storage.set(str(value), value)
        return [threading.get_ident(), StoredValue.objects.count()]


class Meeting(Plugin):
    """Wait until two are here at once."""

    waiting: ClassVar[asyncio.Barrier | None] = None

    async def process(self, value: Any, context: Context) -> Any:
        Meeting.waiting = Meeting.waiting or asyncio.Barrier(2)
        async with asyncio.timeout(20):
            await Meeting.waiting.wait()
        return value


class Shipment(BaseModel):
    weight: float


class Quote(BaseModel):
    price: float


class Priced(Plugin):
    """Price a shipment."""

    Input = Shipment
    Output = Quote

    def process(self, value: Any, context: Context) -> Any:
        return {"price": value["weight"] * 2}


class Rounded(Plugin):
    """Round a price."""

    Input = Quote
    Output = Quote

    def process(self, value: Any, context: Context) -> Any:
        return {"price": round(value["price"])}


PLUGINS = {
    each.__name__.lower(): f"{__name__}:{each.__name__}"
    for each in (
        Add,
        Double,
        Silent,
        Emptying,
        Failing,
        Words,
        Stopping,
        Fragile,
        Slow,
        Keeping,
        Meeting,
        Priced,
        Rounded,
    )
}


@pytest.fixture(autouse=True)
def plugins(settings: Any) -> None:
    settings.PLUGINHUB = {**settings.PLUGINHUB, "PLUGINS": PLUGINS}


@pytest.fixture
def make() -> Iterator[Callable[..., Point]]:
    """Declare points that are gone after the test."""
    made: list[Point] = []

    def declare(several: Any = "chain", name: str = "test.point", **about: Any) -> Point:
        made.append(Point(name, several=several, **about))
        return made[-1]

    yield declare
    for point in made:
        Point._registry.pop(point.name, None)


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask a point in either colour. The default says "ours"."""

    def sync(point: Point, value: Any, **options: Any) -> Any:
        return point.run(value, **{"default": lambda _: "ours", **options})

    async def acall(point: Point, value: Any, **options: Any) -> Any:
        return await point.arun(value, **{"default": lambda _: "ours", **options})

    return sync if request.param == "sync" else async_to_sync(acall)


def hang(*names: str, point: str = "test.point", config: Mapping[str, dict[str, Any]] = {}) -> None:
    """Publish registrations, named after their plugins with anything behind a dash, and hang them on a point."""
    specs = {
        name: RegistrationSpec(name=name, plugin=name.split("-")[0], config=config.get(name, {})) for name in names
    }
    points = {point: PointSpec(point=point, targets=names)} if names else {}
    publishing.apply_configuration(Configuration(registrations=specs, points=points), author="test")


class TestChain:
    def test_each_takes_what_the_one_before_gave(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("add", "double", config={"add": {"by": 5}})
        assert ask(make(output=int), 1) == 12

    def test_one_that_stops_ends_it(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("stopping", "failing")
        assert ask(make(), 1) == 7

    def test_an_error_names_the_point_and_the_target(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("add", "failing")
        with pytest.raises(LookupError) as caught:
            ask(make(), 1)
        assert place_of(caught.value).steps == (("test.point", "failing"),)

    def test_one_that_cannot_come_up_keeps_the_others_from_running(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("keeping", "fragile")
        with pytest.raises(NotReady, match="could not be activated"):
            ask(make(), 1)
        assert not StoredValue.objects.exists()


class TestAll:
    def test_the_results_come_in_order_each_as_the_host_takes_it(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("double", "add", "stopping")
        assert ask(make("all", input=int, output=float), 3) == [6.0, 4.0, 7.0]

    def test_each_takes_a_copy_of_its_own(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("add", "add-two", config={"add-two": {"by": 2}})
        assert ask(make("all"), [10]) == [11, 12]

    def test_a_result_that_does_not_fit_names_its_target(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("add", "words")
        with pytest.raises(HookError, match=r"'test\.point' gave a result that does not fit") as caught:
            ask(make("all", output=int), 1)
        assert place_of(caught.value).steps == (("test.point", "words"),)

    def test_an_error_names_the_point_and_the_target(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("add", "failing")
        with pytest.raises(LookupError) as caught:
            ask(make("all"), 1)
        assert place_of(caught.value).steps == (("test.point", "failing"),)

    def test_synchronous_host_code_keeps_its_thread_and_its_transaction(self, in_acme: Tenant, make: Any) -> None:
        hang("keeping", "double", "keeping-too")
        with transaction.atomic():
            first, _, second = make("all").run(1, default=str)
            transaction.set_rollback(True)
        assert (first, second) == ([threading.get_ident(), 1], [threading.get_ident(), 2])
        assert not StoredValue.objects.exists()

    def test_in_asynchronous_host_code_they_run_side_by_side(self, in_acme: Tenant, make: Any) -> None:
        hang("meeting", "meeting-too")
        Meeting.waiting = None
        assert async_to_sync(make("all").arun)(1, default=str) == [1, 1]

    def test_where_nothing_hangs_the_default_gives_the_whole_list(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        assert ask(make("all", output=int), 1, default=lambda value: [value, value]) == [1, 1]


class TestFirst:
    def test_none_and_errors_are_no_answers(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("silent", "failing", "double", "add")
        assert ask(make("first", output=int), 4) == 8

    def test_one_that_does_not_fit_is_no_answer(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("words", "add")
        assert ask(make("first", output=int), 4) == 5

    def test_one_that_cannot_come_up_is_no_answer(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("fragile", "add")
        assert ask(make("first"), 4) == 5

    @pytest.mark.parametrize("answer", [0, "", False], ids=repr)
    def test_what_is_empty_is_an_answer(self, in_acme: Tenant, make: Any, ask: Ask, answer: Any) -> None:
        hang("double", "failing")
        assert ask(make("first"), answer) == answer * 2

    def test_each_takes_a_copy_of_its_own(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("emptying", "add")
        assert ask(make("first"), [10]) == 11

    def test_where_all_fail_the_last_error_is_raised(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("failing", "failing-too", "silent", config={"failing-too": {"words": "never"}})
        with pytest.raises(LookupError, match="never") as caught:
            ask(make("first"), 1)
        assert place_of(caught.value).steps == (("test.point", "failing-too"),)

    def test_where_nobody_answers_the_default_does(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("silent", "silent-too")
        assert ask(make("first", output=int), 1) == "ours"

    def test_after_the_deadline_nobody_else_is_asked(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("slow", "keeping", config={"slow": {"seconds": 0.3}})
        point = make("first")
        with pytest.raises(DeadlineExceeded) as caught:
            ask(point, 1, timeout=0.1)
        assert place_of(caught.value).steps == (("test.point", "slow"),)
        assert not StoredValue.objects.exists()


class TestDefault:
    """Where nothing hangs, or nobody can tell, the host answers."""

    @pytest.fixture(params=["chain", "all", "first"])
    def point(self, request: pytest.FixtureRequest, make: Any) -> Point:
        declared: Point = make(request.param, input=int, output=int)
        return declared

    def test_where_nothing_hangs(self, in_acme: Tenant, point: Point, ask: Ask) -> None:
        hang("add", point="test.other")
        assert ask(point, 1) == "ours"

    def test_without_a_tenant(self, point: Point, ask: Ask) -> None:
        assert ask(point, 1) == "ours"

    def test_on_the_public_site(self, acme: Tenant, point: Point, ask: Ask) -> None:
        with tenancy.enter(PUBLIC):
            assert ask(point, 1) == "ours"
            assert point.emit(1) == async_to_sync(point.aemit)(1) == []

    def test_in_a_tenant_that_is_not_migrated(self, acme: Tenant, point: Point, ask: Ask) -> None:
        with tenancy.enter(Tenant("not_there_yet")):
            assert ask(point, 1) == "ours"
            assert point.emit(1) == async_to_sync(point.aemit)(1) == []

    def test_in_safe_mode(self, in_acme: Tenant, point: Point, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
        hang("add")
        monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
        assert ask(point, 1) == "ours"
        registry.clear()
        assert ask(point, 1) == "ours"

    def test_in_a_loaded_tenant_without_a_query_or_a_lease(self, in_acme: Tenant, point: Point, ask: Ask) -> None:
        hang("add", point="test.other")
        ask(point, 1)
        runtime = registry.loaded(in_acme)
        assert runtime is not None
        runtime.retire(lambda ended: None)  # from here on nobody can hold it
        with CaptureQueriesContext(connection) as queries:
            assert ask(point, 1) == "ours"
        assert len(queries) == 0

    def test_a_default_of_either_colour(self, point: Point) -> None:
        async def default(value: int) -> str:
            return f"{value} later"

        assert async_to_sync(point.arun)(1, default=default) == "1 later"


class TestValues:
    def test_a_value_that_does_not_fit_is_the_hosts_error(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        hang("add")
        with pytest.raises(InvalidInput, match=r"does not fit the point 'test\.point'"):
            ask(make(input=int), "one")

    def test_a_way_that_does_not_exist_is_refused_when_declared(self) -> None:
        with pytest.raises(HookError, match="'any' is no way to take several targets"):
            Point("test.never", several="any")  # type: ignore[arg-type]

    def test_what_another_revision_hangs_answers_next(self, in_acme: Tenant, make: Any, ask: Ask) -> None:
        point = make("all")
        hang("add")
        assert ask(point, 1) == [2]
        hang("add", "double")
        registry.look()
        assert ask(point, 1) == [2, 2]


class TestEmit:
    @pytest.fixture(params=["sync", "async"])
    def emit(self, request: pytest.FixtureRequest) -> Callable[..., list[str]]:
        if request.param == "sync":
            return lambda point, data: point.emit(data)
        return lambda point, data: async_to_sync(point.aemit)(data)

    def test_each_target_gets_a_job(self, in_acme: Tenant, make: Any, emit: Any) -> None:
        hang("add", "double")
        ids = emit(make("first", input=int), "3")
        rows = {str(job.id): (job.name, job.data) for job in Job.objects.all()}
        assert [rows[each] for each in ids] == [("add", 3), ("double", 3)]
        assert len(rows) == 2

    def test_nothing_hung_is_no_job_and_no_query(self, in_acme: Tenant, make: Any, emit: Any) -> None:
        hang("add", point="test.other")
        point = make()
        emit(point, 1)
        with CaptureQueriesContext(connection) as queries:
            assert emit(point, 1) == []
        assert len(queries) == 0

    def test_a_rollback_leaves_none(self, in_acme: Tenant, make: Any) -> None:
        hang("add")
        with transaction.atomic():
            make().emit(1)
            assert Job.objects.count() == 1
            transaction.set_rollback(True)
        assert not Job.objects.exists()

    def test_where_one_cannot_be_enqueued_none_is(self, in_acme: Tenant, make: Any) -> None:
        hang("add", "double")

        def refuse(sender: Any, instance: Job, **sent: Any) -> None:
            if instance.name == "double":
                raise LookupError(instance.name)

        post_save.connect(refuse, sender=Job)
        try:
            with pytest.raises(LookupError):
                make().emit(1)
        finally:
            post_save.disconnect(refuse, sender=Job)
        assert not Job.objects.exists()

    def test_data_that_is_too_large_is_refused(self, in_acme: Tenant, make: Any, settings: Any) -> None:
        hang("add")
        settings.PLUGINHUB = {**settings.PLUGINHUB, "MAX_BODY_BYTES": 5}
        with pytest.raises(TooLarge):
            make().emit("too long to be kept")

    def test_a_target_that_is_taken_down_meanwhile_gets_none(self, in_acme: Tenant, make: Any) -> None:
        hang("add", "double")

        def publish(value: int) -> int:  # while the host's value is being checked
            hang("double")
            registry.look()
            return value

        point = make(input=Annotated[int, AfterValidator(publish)])
        assert len(point.emit(1)) == 1
        assert Job.objects.get().name == "double"

    def test_in_safe_mode_the_jobs_wait(
        self, in_acme: Tenant, make: Any, emit: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hang("add")
        monkeypatch.setenv("PLUGINHUB_SAFE_MODE", "1")
        registry.clear()
        assert len(emit(make(), 1)) == 1
        assert Job.objects.get().status == "queued"


def _name(user: User) -> str:
    return user.username


class TestSignals:
    @pytest.fixture
    def point(self, make: Any) -> Point:
        point: Point = make(input=str)
        return point

    @pytest.fixture
    def ends(self) -> Iterator[list[Callable[[], None]]]:
        """Connections that a test made, to be ended after it."""
        made: list[Callable[[], None]] = []
        yield made
        for end in made:
            end()

    def test_a_save_emits_in_its_transaction(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        ends.append(point.on(post_save, sender=User, data=_name))
        with transaction.atomic():
            User.objects.create(username="gone")
            transaction.set_rollback(True)
        User.objects.create(username="rita")
        assert [job.data for job in Job.objects.all()] == ["rita"]

    def test_an_asynchronous_save_emits(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        signal = Signal()
        ends.append(point.on(signal, data=lambda sender, word: word))
        async_to_sync(signal.asend)(sender=None, word="later")
        assert [job.data for job in Job.objects.all()] == ["later"]

    def test_several_senders_and_functions_do_not_collide(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        signal = Signal()

        def saying(word: str) -> Callable[..., str]:
            return lambda sender: f"{word} {sender}"

        for sender, data in (("a", saying("one")), ("b", saying("one")), ("a", saying("two"))):
            ends.append(point.on(signal, sender=sender, data=data))
        signal.send("a")
        signal.send("b")
        assert sorted(str(job.data) for job in Job.objects.all()) == ["one a", "one b", "two a"]

    def test_the_same_connection_twice_emits_once(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        signal, source = Signal(), "def data(sender):\n    return 'once'\n"
        for _ in range(2):  # as a module does that is imported under two names
            module: dict[str, Any] = {}
            exec(compile(source, "receivers.py", "exec"), module)
            ends.append(point.on(signal, data=module["data"]))
        signal.send(None)
        assert Job.objects.count() == 1

    def test_it_can_be_ended(self, in_acme: Tenant, point: Point) -> None:
        hang("words")
        signal = Signal()
        end = point.on(signal, data=lambda sender: "word")
        end()
        end()
        signal.send(None)
        assert not Job.objects.exists()

    def test_when_says_which(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        ends.append(point.on(post_save, sender=User, data=_name, when=lambda created, **_: created))
        user = User.objects.create(username="rita")
        user.save()
        assert Job.objects.count() == 1

    def test_fixtures_that_are_loaded_emit_nothing(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        ends.append(point.on(post_save, sender=User, data=_name))
        post_save.send(User, instance=User(username="raw"), raw=True)
        assert not Job.objects.exists()

    @pytest.mark.parametrize(
        "entered",
        [None, PUBLIC, Tenant("not_there_yet"), Tenant("acme")],
        ids=["no tenant", "the public site", "not migrated", "nothing hung"],
    )
    def test_a_save_goes_on_where_nothing_can_hang(
        self, acme: Tenant, point: Point, ends: Any, entered: Tenant | None
    ) -> None:
        asked: list[Any] = []
        signal = Signal()
        ends.append(point.on(signal, data=asked.append))
        if entered is None:
            signal.send("sender")
        else:
            with tenancy.enter(entered):
                signal.send("sender")
        assert asked == []

    def test_what_the_hosts_function_raises_reaches_the_host(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        signal = Signal()
        ends.append(point.on(signal, data=lambda sender: 1 / 0))
        with pytest.raises(ZeroDivisionError):
            signal.send(None)

    def test_data_that_does_not_fit_reaches_the_host(self, in_acme: Tenant, point: Point, ends: Any) -> None:
        hang("words")
        signal = Signal()
        ends.append(point.on(signal, data=lambda sender: 1))
        with pytest.raises(InvalidInput):
            signal.send(None)


class TestPublishing:
    """Types that surely do not fit are refused in words, where the point is declared."""

    @pytest.mark.parametrize(
        ("several", "types", "names", "said"),
        [
            ("chain", (Quote, None), ["priced"], "'priced' does not take what the host passes: the field 'weight'"),
            (
                "chain",
                (int, None),
                ["priced"],
                "'priced' does not take what the host passes: it is integer, not object",
            ),
            ("chain", (Shipment, Quote), ["priced", "priced-too"], "'priced-too' does not take what 'priced' returns"),
            ("chain", (None, Shipment), ["priced"], "'priced' does not give what the host expects: the field 'weight'"),
            ("all", (Shipment, None), ["priced", "rounded"], "'rounded' does not take what the host passes"),
            ("first", (Shipment, None), ["priced", "rounded"], "'rounded' does not take what the host passes"),
            ("all", (None, list[Quote]), ["priced"], "'priced' does not give what the host expects: it is object"),
        ],
    )
    def test_what_does_not_fit_is_refused(
        self, in_acme: Tenant, make: Any, several: str, types: tuple[Any, Any], names: list[str], said: str
    ) -> None:
        make(several, input=types[0], output=types[1])
        with pytest.raises(PublishRefused) as caught:
            hang(*names)
        ((kind, name, field, message),) = caught.value.problems
        assert (kind, name, field) == ("point", "test.point", "targets")
        assert message.startswith(said)

    @pytest.mark.parametrize("several", ["chain", "all", "first"])
    def test_what_fits_or_tells_nothing_is_published(self, in_acme: Tenant, make: Any, several: str) -> None:
        make(several, input=Shipment, output=Quote)
        hang("priced", *(["rounded"] if several == "chain" else ["priced-too"]))
        hang("add", "words")

    def test_a_point_that_nobody_here_declares_is_published(self, in_acme: Tenant) -> None:
        hang("priced", point="test.elsewhere")

    def test_a_host_that_has_changed_keeps_nobody_from_publishing_something_else(
        self, in_acme: Tenant, make: Any
    ) -> None:
        hang("priced")
        make(input=int)
        draft = publishing.configuration_at("draft")
        more = RegistrationSpec(name="add", plugin="add")
        wanted = draft.model_copy(update={"registrations": {**draft.registrations, "add": more}})
        publishing.apply_configuration(wanted, author="test")
        changed = RegistrationSpec(name="priced", plugin="priced", title="Anew")
        with pytest.raises(PublishRefused, match="does not take"):
            publishing.apply_configuration(
                wanted.model_copy(update={"registrations": {"priced": changed, "add": more}}), author="test"
            )
