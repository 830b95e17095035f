"""Small plugins that integration tests register; named in `PLUGINS` by the fixture `samples`."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, ClassVar

from dishka import Provider, Scope, provide
from pydantic import BaseModel, SecretStr

from pluginhub import CompositePlugin, Context, Plugin, Refuse, Stop, job
from pluginhub.storage import TenantStorage

PLUGINS = {
    name: f"tests.integration.samples:{kind}"
    for name, kind in {
        "add": "Add",
        "adder": "Adder",
        "asking": "Asking",
        "cheapest": "Cheapest",
        "counted": "Counted",
        "counting": "Counting",
        "double": "Double",
        "failing": "Failing",
        "fragile": "Fragile",
        "keeper": "Keeper",
        "lingering": "Lingering",
        "more": "More",
        "numbers": "Numbers",
        "refusing": "Refusing",
        "shout": "Shout",
        "stopping": "Stopping",
        "teller": "Teller",
        "waking": "Waking",
        "wrap": "Wrap",
    }.items()
}
MISSING = {"missing": "tests.integration.no_such_module:Plugin"}


class Add(Plugin):
    """Add a number."""

    class Config(BaseModel):
        by: int = 1

    def process(self, value: int, context: Context) -> int:
        return int(value + self.config.by)


class Double(Plugin):
    """Double a number, asynchronously."""

    async def process(self, value: int, context: Context) -> int:
        await asyncio.sleep(0)
        return value * 2


class Clock:
    """A service of the host's."""

    def now(self) -> str:
        return "twelve"


class Clocks(Provider):
    scope = Scope.APP
    clock = provide(Clock)


class Asking(Plugin):
    """Ask the run for a service."""

    def process(self, value: Any, context: Context) -> str:
        return context.get(Clock).now()


class Stopping(Plugin):
    """End at once with the value."""

    def process(self, value: Any, context: Context) -> Any:
        return Stop(value)


class Failing(Plugin):
    """Fail with a text nobody outside may read."""

    def process(self, value: Any, context: Context) -> Any:
        raise RuntimeError("password=hunter2")


class Refusing(Plugin):
    """Refuse everything."""

    def process(self, value: Any, context: Context) -> Any:
        raise Refuse("Not this one.", errors={"origin": "is unknown"})


class Fragile(Plugin):
    """Cannot be activated while its configuration says so."""

    class Config(BaseModel):
        broken: bool = False
        secret: SecretStr | None = None

    def activate(self, context: Context) -> None:
        if self.config.broken:
            raise RuntimeError("no connection")

    def process(self, value: Any, context: Context) -> Any:
        return "alive"


class Waking(Plugin):
    """Come up slowly and asynchronously, reading storage; say in whose tenant that was."""

    ups: ClassVar[int] = 0

    class Config(BaseModel):
        broken: bool = False

    async def activate(self, context: Context) -> None:
        Waking.ups += 1
        self.kept = await context.storage.shared.aget("mine", "nothing")
        await asyncio.sleep(0.05)
        if self.config.broken:
            raise RuntimeError("no connection")

    async def process(self, value: Any, context: Context) -> Any:
        return self.kept


class Lingering(Plugin):
    """Wait until told to go on, and say whether it was still up then."""

    entered: ClassVar[threading.Event] = threading.Event()
    leave: ClassVar[threading.Event] = threading.Event()
    seen: ClassVar[list[bool]] = []

    class Config(BaseModel):
        label: str = "one"

    def activate(self, context: Context) -> None:
        self.up = True

    def deactivate(self, context: Context) -> None:
        self.up = False

    def process(self, value: Any, context: Context) -> None:
        self.entered.set()
        self.leave.wait(30)
        self.seen.append(self.up)


class Teller(Plugin):
    """Tell what a plugin gets to know: tenant, caller, name, thread."""

    def process(self, value: Any, context: Context) -> dict[str, Any]:
        return {
            "tenant": context.tenant.schema,
            "caller": context.caller.name,
            "edge": context.caller.edge,
            "name": context.name,
            "revision": context.revision,
            "thread": threading.current_thread().name,
        }


class Keeper(Plugin):
    """Count calls in storage; built with its storage injected."""

    def __init__(self, storage: TenantStorage) -> None:
        super().__init__()
        self.storage = storage

    def process(self, value: Any, context: Context) -> int:
        return self.storage.increment("calls")


class Counting(Plugin):
    """Count instances and their lives, to see what is carried over."""

    lives: ClassVar[list[str]] = []

    class Config(BaseModel):
        label: str = "one"

    def activate(self, context: Context) -> None:
        self.lives.append(f"up {context.tenant.schema} {self.config.label}")

    def deactivate(self, context: Context) -> None:
        self.lives.append(f"down {context.tenant.schema} {self.config.label}")

    def process(self, value: Any, context: Context) -> str:
        return str(self.config.label)


class Numbers(Plugin):
    """Stream numbers, and import them as a job."""

    class Params(BaseModel):
        until: int = 3

    def stream(self, params: dict[str, Any], context: Context) -> Any:
        yield from range(params["until"])

    @job("import")
    def load(self, data: Any, context: Context) -> int:
        for done in range(3):
            context.progress(done + 1, 3, "loading")
        return len(data or [])


class Counted(Plugin):
    """Stream numbers, asynchronously."""

    async def stream(self, params: dict[str, Any], context: Context) -> Any:
        for number in range(params["until"]):
            yield number


class More(Plugin):
    """Let streams count one further, and none too far."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        if request.value["until"] > 10:
            raise Refuse("Too far.")
        return call_next(request.replace({"until": request.value["until"] + 1}))


class Adder(Plugin):
    """Add an interceptor and a handler when it comes up."""

    def activate(self, context: Context) -> None:
        context.middleware.use(self.around, scope="call")
        context.jobs.process("tidy", self.tidy)

    def around(self, request: Any, call_next: Any) -> Any:
        return ["added", call_next(request)]

    def tidy(self, data: Any, context: Context) -> str:
        return f"tidied {data}"


class Wrap(Plugin):
    """Wrap calls: the result says so."""

    def intercept(self, request: Any, call_next: Any) -> Any:
        return ["wrapped", call_next(request)]


class Shout(Plugin):
    """Wrap calls, asynchronously, and change what goes in."""

    async def intercept(self, request: Any, call_next: Any) -> Any:
        return await call_next(request.replace(value=request.value * 10))


class Cheapest(CompositePlugin):
    """Ask every child and answer with the smallest result."""

    def process(self, value: int, context: Context) -> int:
        return min(int(context.call(child, value)) for child in self.children)
