"""Two plugin distributions, written to a folder in one version after the other: what the storm of reloads reloads.

`stormy` has several modules, which import one another at the top and inside functions, in every way there is;
`stormy_addon` is another distribution, which imports it. Each module knows its version, and a run tells all it saw.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pluginhub import loading

__all__ = ["BROKEN", "Distributions", "installed", "unimport"]

BROKEN = ("syntax", "import", "constructor", "activate", "restore_state", "health")
"""How a version may be broken. `activate` is slow; the others fail."""

STATE_EVERY = 100
"""After how many versions the shape of the counter's state changes."""

_STORMY = {
    "__init__.py": """
VERSION = @VERSION@
""",
    "shapes.py": """
from __future__ import annotations

from dataclasses import dataclass, field

import stormy

VERSION = @VERSION@


@dataclass(slots=True)
class Parcel:
    weight: int
    inner: Parcel | None = None
    seen: list[int] = field(default_factory=lambda: [VERSION, stormy.VERSION])
""",
    "orders.py": """
from __future__ import annotations

from pydantic import BaseModel

VERSION = @VERSION@


class Order(BaseModel):
    lines: list[Line]
    version: int = VERSION


class Line(BaseModel):
    number: int
    order: Order | None = None
""",
    "inner/__init__.py": """
VERSION = @VERSION@
""",
    "inner/deep.py": """
from .. import VERSION as OUTER
from . import VERSION as INNER

VERSION = @VERSION@
""",
    "late.py": """
from stormy.inner.deep import INNER, OUTER

VERSION = @VERSION@
""",
    "lazy.py": """
VERSION = @VERSION@
""",
    "telling.py": """
from __future__ import annotations

import asyncio

import stormy
import stormy.inner.deep as deep
from pluginhub import Plugin
from stormy import orders, shapes
from stormy.shapes import Parcel

from . import inner
from .orders import Line, Order

VERSION = @VERSION@


def before() -> list[int]:
    return [
        VERSION, stormy.VERSION, stormy.orders.VERSION, inner.VERSION, orders.VERSION, shapes.VERSION, deep.VERSION,
        deep.OUTER, deep.INNER, *Parcel(1).seen,
    ]


def after() -> list[int]:
    import stormy.lazy
    import stormy.late as late
    from stormy import VERSION as package
    from stormy.inner import deep as again
    from stormy.orders import Line as SameLine
    from stormy.shapes import Parcel as SameParcel

    from . import lazy
    from .late import INNER, OUTER
    from .late import VERSION as relative

    order = Order.model_validate({"lines": [{"number": 1, "order": {"lines": []}}]})
    parcel = Parcel(1, Parcel(2))
    same = [type(order.lines[0]) is SameLine is Line, isinstance(parcel.inner, SameParcel)]
    seen = [stormy.lazy.VERSION, late.VERSION, package, again.VERSION, lazy.VERSION, INNER, OUTER, relative]
    return [*seen, order.version, order.lines[0].order.version, *parcel.seen, *(() if all(same) else (-1,))]


class Tell(Plugin):
    VERSION = VERSION

    async def process(self, value, context):
        seen = before()
        await asyncio.sleep(0.005)
        return {"seen": seen + after(), "parcel": Parcel(1)}
""",
    "counting.py": """
from __future__ import annotations

import os
import threading
import time

from pluginhub import Plugin

VERSION = @VERSION@
BROKEN = "@BROKEN@"


class Count(Plugin):
    VERSION = VERSION
    state_version = 1 + VERSION // @STATE_EVERY@

    def __init__(self, config=None):
        super().__init__(config)
        if BROKEN == "constructor":
            raise RuntimeError("broken on purpose")
        self.count = 0
        self.lock = threading.Lock()

    def activate(self, context):
        if BROKEN == "activate":
            time.sleep(@SLOW@)

    def process(self, value, context):
        with self.lock:
            self.count += 1
            count = self.count
        return {"pid": os.getpid(), "count": count, "seen": sorted({*value["seen"], VERSION})}

    def get_state(self):
        return {f"count{self.state_version}": self.count}

    def restore_state(self, state):
        if BROKEN == "restore_state":
            raise RuntimeError("broken on purpose")
        self.count = state[f"count{self.state_version}"]

    @classmethod
    def migrate_state(cls, state, from_version):
        return {f"count{cls.state_version}": state[f"count{from_version}"]}

    def health(self):
        return BROKEN != "health"
""",
}

_ADDON = {
    "__init__.py": "",
    "following.py": """
import stormy.late
from pluginhub import Plugin
from stormy.shapes import Parcel


class Follow(Plugin):
    def process(self, value, context):
        from stormy import VERSION, lazy

        known = isinstance(value["parcel"], Parcel)
        return {"seen": [*value["seen"], VERSION, lazy.VERSION, stormy.late.VERSION, *(() if known else (-1,))]}
""",
}

_DAMAGE = {"syntax": "\ndef broken(:\n", "import": "\nimport stormy.nowhere\n"}

_POINTS = {
    "stormy": "stormy-tell = stormy.telling:Tell\nstormy-count = stormy.counting:Count\n",
    "stormy_addon": "stormy-follow = stormy_addon.following:Follow\n",
}


class Distributions:
    """Both distributions in a folder to import from, as an installer leaves them there."""

    def __init__(self, folder: Path, *, slow: float) -> None:
        self.folder = folder
        self.slow = slow
        self._installed: dict[str, Path] = {}
        for name, source in _ADDON.items():
            self._put(folder / "stormy_addon" / name, source)
        self._describe("stormy_addon", 1)

    def write(self, version: int, broken: str = "", *, remove_first: bool = False) -> None:
        """Replace `stormy` by another version, file by file, while others may be reading.

        With `remove_first` there is nothing for a moment, as when pip upgrades.
        """
        if remove_first:
            self._remove("stormy")
        for name, source in _STORMY.items():
            damage = _DAMAGE.get(broken, "") if name == "telling.py" else ""
            self._put(self.folder / "stormy" / name, self._filled(source, version, broken) + damage)
        self._describe("stormy", version)

    def _filled(self, source: str, version: int, broken: str) -> str:
        given = {"VERSION": version, "BROKEN": broken, "STATE_EVERY": STATE_EVERY, "SLOW": self.slow}
        for name, value in given.items():
            source = source.replace(f"@{name}@", str(value))
        return source

    def _describe(self, name: str, version: int) -> None:
        about = self.folder / f"{name}-{version}.dist-info"
        self._put(about / "entry_points.txt", f"[pluginhub.plugins]\n{_POINTS[name]}")
        self._put(about / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        before = self._installed.get(name)
        if before is not None and before != about:
            shutil.rmtree(before, ignore_errors=True)
        self._installed[name] = about

    def _remove(self, name: str) -> None:
        gone = self.folder / f"~{name}"
        (self.folder / name).rename(gone)
        shutil.rmtree(gone)
        shutil.rmtree(self._installed.pop(name))

    def _put(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f"{path.name}.new")
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)


@contextmanager
def installed(folder: Path, *, slow: float = 1.0) -> Iterator[Distributions]:
    """Have both distributions, in version 1, in a folder that this process imports from, too."""
    folder.mkdir()
    distributions = Distributions(folder, slow=slow)
    distributions.write(1)
    sys.path.insert(0, str(folder))
    loading.forget()
    try:
        yield distributions
    finally:
        sys.path.remove(str(folder))
        loading.forget()
        unimport()


def unimport() -> None:
    """Forget the modules that this process has under the packages' own names."""
    for name in [name for name in sys.modules if name.partition(".")[0] in _POINTS]:
        del sys.modules[name]
