"""The catalog knows plugins from their source alone; loading imports them once."""

from __future__ import annotations

import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.test.utils import override_settings

from pluginhub import loading
from pluginhub.exceptions import NotReady
from pluginhub.loading import Entry, discovery, importing
from pluginhub.loading.sources import Library
from pluginhub.plugins import Plugin

GROUP = "pluginhub.tested"
Write = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test looks at the disk whenever it asks, sees its own distributions only, and leaves no module behind."""
    before = set(sys.modules)
    monkeypatch.setattr(discovery, "GROUP", GROUP)
    monkeypatch.setattr(discovery, "CHECK_SECONDS", 0.0)
    loading.forget()
    yield
    loading.forget()
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("acme_plugins", "acme_space", discovery.FILES):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A PLUGINS_DIR."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with override_settings(PLUGINHUB={"PLUGINS_DIR": str(folder)}):
        yield folder


@pytest.fixture
def write(folder: Path) -> Write:
    """Write a file into PLUGINS_DIR."""

    def write(name: str, source: str) -> Path:
        path = folder / name
        path.write_text(textwrap.dedent(source))
        return path

    return write


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed distributions."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    return site


def install(
    site: Path, files: dict[str, str], points: dict[str, str], name: str = "acme-plugins", version: str = "1.2"
) -> None:
    """Install a distribution as pip would leave it on the disk."""
    for path, source in files.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(textwrap.dedent(source))
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{point} = {target}" for point, target in points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]) + "\n")
    loading.forget()


def read(write: Write, source: str) -> Entry:
    """The entry of the only plugin in a file."""
    path = write("sample.py", source)
    found = loading.entry("sample")
    assert found.path == str(path)
    return found


def leave_a_mark(path: Path, text: str) -> str:
    """A line of source whose execution can be seen afterwards."""
    return f"with open({str(path)!r}, 'a') as file: file.write({text!r})\n"


PLAIN = """
from pluginhub import Plugin

class Redact(Plugin):
    '''Mask personal data.

    More about it.
    '''
    def process(self, value, context):
        return value
"""


class TestWhatIsListed:
    def test_an_entry_point_is_listed_with_its_distribution(self, site: Path) -> None:
        install(
            site,
            {"acme_plugins/__init__.py": "", "acme_plugins/redact.py": PLAIN},
            {"redact": "acme_plugins.redact:Redact"},
        )
        found = loading.entry("redact")
        assert (found.origin, found.distribution, found.version) == ("entry point", "acme-plugins", "1.2")
        assert (found.dotted, found.module, found.qualname) == (
            "acme_plugins.redact:Redact",
            "acme_plugins.redact",
            "Redact",
        )
        assert (found.title, found.doc) == ("Redact", "Mask personal data.\n\nMore about it.")
        assert found.problem == ""

    def test_listing_imports_nothing_not_even_a_parent_package(self, site: Path, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        effect = leave_a_mark(trace, "imported")
        install(
            site,
            {
                "acme_plugins/__init__.py": effect,
                "acme_plugins/inner/__init__.py": effect,
                "acme_plugins/inner/redact.py": effect + PLAIN,
            },
            {"redact": "acme_plugins.inner.redact:Redact"},
        )
        assert loading.entry("redact").hooks == {"process"}
        assert not trace.exists()
        assert not any(name.startswith("acme_plugins") for name in sys.modules)
        loading.load("redact")
        assert trace.read_text() == "imported" * 3

    def test_a_file_of_plugins_dir_is_listed_but_not_executed(self, write: Write) -> None:
        write("redact.py", "raise SystemExit('executed')\n" + PLAIN)
        assert loading.entry("redact").origin == "file"

    def test_a_setting_names_a_class_with_a_colon_or_a_dot(self, site: Path) -> None:
        install(site, {"acme_plugins/redact.py": PLAIN}, {})
        paths = {"one": "acme_plugins.redact:Redact", "two": "acme_plugins.redact.Redact"}
        with override_settings(PLUGINHUB={"PLUGINS": paths}):
            assert {loading.entry(name).dotted for name in paths} == {"acme_plugins.redact:Redact"}
            assert loading.entry("one").origin == "setting"

    def test_a_setting_may_name_a_class_inside_a_class(self, site: Path) -> None:
        source = (
            "from pluginhub import Plugin\nclass Outer:\n    class Inner(Plugin):\n        def stream(self, p, c): ..."
        )
        install(site, {"acme_plugins/nested.py": source}, {})
        with override_settings(PLUGINHUB={"PLUGINS": {"inner": "acme_plugins.nested:Outer.Inner"}}):
            assert loading.entry("inner").hooks == {"stream"}
            assert loading.load("inner").__qualname__ == "Outer.Inner"

    def test_a_namespace_package_inside_a_namespace_package_is_found(self, site: Path) -> None:
        install(site, {"acme_space/deep/redact.py": PLAIN}, {"redact": "acme_space.deep.redact:Redact"})
        assert loading.entry("redact").problem == ""
        assert "acme_space" not in sys.modules

    def test_a_finder_of_an_editable_install_is_asked(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = tmp_path / "src" / "acme_plugins"
        source.mkdir(parents=True)
        (source / "__init__.py").write_text("raise SystemExit('executed')")
        (source / "redact.py").write_text(PLAIN)

        class Finder:
            @staticmethod
            def find_spec(name: str, path: object = None, target: object = None) -> object:
                from importlib.util import spec_from_file_location

                return spec_from_file_location(name, source / "__init__.py") if name == "acme_plugins" else None

        monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
        assert Library({}).locate("acme_plugins.redact") == str(source / "redact.py")

    def test_names_come_in_order(self, write: Write) -> None:
        for name in ("b", "c", "a"):
            write(f"{name}.py", PLAIN)
        names = list(loading.catalog())
        assert names == sorted(names)
        assert {"a", "b", "c"} <= set(names)

    def test_while_nothing_changes_it_is_the_same_object(self, write: Write) -> None:
        write("redact.py", PLAIN)
        assert loading.catalog() is loading.catalog()

    def test_a_new_and_a_changed_file_are_seen(self, write: Write) -> None:
        write("redact.py", PLAIN)
        first = loading.entry("redact")
        write("redact.py", PLAIN.replace("Mask", "Blacken"))
        write("other.py", PLAIN)
        assert loading.entry("redact").doc.startswith("Blacken")
        assert loading.entry("redact").digest != first.digest
        assert "other" in loading.catalog()

    def test_the_disk_is_left_alone_for_a_while(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(discovery, "CHECK_SECONDS", 60.0)
        loading.catalog()
        write("redact.py", PLAIN)
        assert "redact" not in loading.catalog()
        loading.forget()
        assert "redact" in loading.catalog()

    def test_another_setting_is_seen_at_once(self, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(discovery, "CHECK_SECONDS", 60.0)
        write("redact.py", PLAIN)
        assert "redact" in loading.catalog()
        with override_settings(PLUGINHUB={}):
            assert "redact" not in loading.catalog()

    def test_two_hundred_files_are_listed_quickly(self, write: Write) -> None:
        for number in range(200):
            write(f"redact{number}.py", PLAIN)
        begun = time.perf_counter()
        loading.catalog()
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        found = loading.catalog()
        assert time.perf_counter() - begun < first
        assert sum(name.startswith("redact") for name in found) == 200
        assert not any(name.startswith(f"{discovery.FILES}.redact") for name in sys.modules)


class TestLookingAgain:
    """Nothing is read while no file and no folder changed; whatever a plugin's facts came from is watched."""

    @pytest.fixture
    def redact(self, site: Path) -> Path:
        """An installed plugin whose base is in another module, looked at already; its package's folder."""
        module = "from acme_plugins.bases import Masking\n\nclass Redact(Masking): ...\n"
        files = {"acme_plugins/redact.py": module, "acme_plugins/bases.py": PLAIN.replace("Redact", "Masking")}
        install(site, files, {"redact": "acme_plugins.redact:Redact", "later": "acme_plugins.inner.later:Redact"})
        assert loading.entry("redact").hooks == {"process"}
        assert loading.entry("later").problem
        return site / "acme_plugins"

    def test_no_file_is_read_and_no_module_looked_for(self, redact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = loading.catalog()
        monkeypatch.setattr(Library, "read", None)
        monkeypatch.setattr(Library, "locate", None)
        assert loading.catalog() is before

    def test_a_changed_base_is_seen(self, redact: Path) -> None:
        (redact / "bases.py").write_text(PLAIN.replace("Redact", "Masking").replace("process", "health"))
        assert loading.entry("redact").hooks == {"health"}

    def test_a_package_that_takes_a_modules_name_is_seen(self, redact: Path) -> None:
        (redact / "bases").mkdir()
        (redact / "bases" / "__init__.py").write_text(PLAIN.replace("Redact", "Masking").replace("process", "health"))
        assert loading.entry("redact").hooks == {"health"}

    def test_a_module_that_was_missing_is_seen(self, redact: Path) -> None:
        (redact / "inner").mkdir()
        (redact / "inner" / "later.py").write_text(PLAIN)
        assert loading.entry("later").problem == ""

    def test_a_module_that_goes_is_missed(self, redact: Path) -> None:
        (redact / "redact.py").unlink()
        assert "no module" in loading.entry("redact").problem

    def test_others_go_by_what_is_known_while_one_thread_looks(
        self, redact: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before, looking, go_on = loading.catalog(), threading.Event(), threading.Event()

        def look_slowly(library: Library) -> bool:
            looking.set()
            return go_on.wait(20) and False

        monkeypatch.setattr(Library, "is_unchanged", look_slowly)
        thread = threading.Thread(target=loading.catalog)
        thread.start()
        assert looking.wait(20)
        assert loading.catalog() is before
        go_on.set()
        thread.join()


class TestFiles:
    def test_several_plugins_bear_the_name_of_file_and_class(self, write: Write) -> None:
        write("money.py", PLAIN.replace("Redact", "Money") + PLAIN.replace("Redact", "RoundHTTPSums"))
        assert {e.dotted.partition(":")[2]: e.name for e in loading.catalog().values() if e.origin == "file"} == {
            "Money": "money",
            "RoundHTTPSums": "money_round_http_sums",
        }

    def test_private_classes_and_files_are_left_out(self, write: Write) -> None:
        write("_shared.py", PLAIN)
        write("money.py", PLAIN.replace("Redact", "_Base") + PLAIN)
        assert [e.name for e in loading.catalog().values() if e.origin == "file"] == ["money"]

    def test_a_file_without_plugin_says_so(self, write: Write) -> None:
        write("money.py", "RATE = 2")
        assert loading.entry("money").problem == (
            "money.py defines no plugin. A file that only helps others begins with an underscore."
        )

    def test_a_file_name_with_a_dot_says_so(self, write: Write) -> None:
        write("money.v2.py", PLAIN)
        assert "Rename the file." in loading.entry("money.v2").problem

    def test_files_import_each_other_relatively(self, write: Write) -> None:
        write("_shared.py", PLAIN)
        write("money.py", "from ._shared import Redact\nclass Money(Redact): ...")
        assert loading.entry("money").hooks == {"process"}
        assert issubclass(loading.load("money"), Plugin)

    def test_a_file_whose_name_is_no_identifier_can_be_loaded(self, write: Write) -> None:
        write("round-sums.py", PLAIN.replace("Redact", "RoundSums"))
        assert loading.load("round-sums").__name__ == "RoundSums"

    def test_the_folder_does_not_join_sys_path(self, write: Write, folder: Path) -> None:
        write("redact.py", PLAIN)
        loading.load("redact")
        assert str(folder) not in sys.path

    def test_a_folder_that_does_not_exist_lists_nothing(self, tmp_path: Path) -> None:
        with override_settings(PLUGINHUB={"PLUGINS_DIR": str(tmp_path / "nowhere")}):
            assert not any(e.origin == "file" for e in loading.catalog().values())


class TestWhatTheSourceSays:
    def test_hooks_and_their_colours(self, write: Write) -> None:
        found = read(
            write,
            """
            import pluginhub as ph

            class Sample(ph.Plugin):
                async def process(self, value, context): ...
                def stream(self, params, context):
                    yield 1
                async def health(self): ...
                if True:
                    def get_state(self): ...
                def other(self): ...
            """,
        )
        assert found.hooks == {"process", "stream", "health", "get_state"}
        assert dict(found.colours) == {"process": "async", "stream": "sync", "health": "async", "get_state": "sync"}

    def test_a_hook_may_be_another_method_or_taken_away(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin

            class _Base(Plugin):
                def process(self, value, context): ...

            class Sample(_Base):
                process = None
                async def pages(self, params, context): ...
                stream = pages
            """,
        )
        assert dict(found.colours) == {"stream": "async"}

    def test_hooks_are_inherited_from_other_modules_of_the_distribution(self, site: Path) -> None:
        install(
            site,
            {
                "acme_plugins/__init__.py": "from .families import *",
                "acme_plugins/families/__init__.py": "from acme_plugins.families.masks import Mask as Masking",
                "acme_plugins/families/masks.py": PLAIN.replace("Redact", "Mask") + "    async def health(self): ...\n",
                "acme_plugins/redact.py": "import acme_plugins as ours\nclass Redact(ours.Masking): ...",
            },
            {"redact": "acme_plugins.redact:Redact"},
        )
        found = loading.entry("redact")
        assert dict(found.colours) == {"process": "sync", "health": "async"}
        assert (found.doc, found.problem) == ("", "")

    def test_the_nearest_definition_counts(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin

            class _Root(Plugin):
                def process(self, value, context): ...
                def health(self): ...

            class _Left(_Root):
                pass

            class _Right(_Root):
                async def process(self, value, context): ...

            class Sample(_Left, _Right):
                pass
            """,
        )
        assert dict(found.colours) == {"process": "async", "health": "sync"}

    def test_a_base_that_cannot_be_found_is_tolerated(self, write: Write) -> None:
        found = read(
            write,
            """
            from nowhere import Mixin
            from pluginhub import Plugin

            class Sample(Mixin, Plugin):
                def process(self, value, context): ...
            """,
        )
        assert (set(found.hooks), found.problem) == ({"process"}, "")

    def test_a_composite_is_known_through_its_bases(self, write: Write) -> None:
        found = read(
            write,
            """
            from typing import Generic, TypeVar
            from pluginhub.plugins import CompositePlugin

            T = TypeVar("T")

            class _Family(CompositePlugin, Generic[T]): ...
            class Sample(_Family[int]): ...
            """,
        )
        assert (found.is_composite, found.problem) == (True, "")

    def test_models_own_and_inherited(self, write: Write) -> None:
        found = read(
            write,
            """
            from pydantic import BaseModel
            from pluginhub import Plugin

            class Money(BaseModel): ...

            class _Base(Plugin):
                class Config(BaseModel): ...
                Params = Money

            class Sample(_Base):
                Output = Money
                Params = None
            """,
        )
        assert found.has == {"Config", "Output"}

    def test_jobs_and_handlers_by_literal_name(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin, job as handler

            NIGHTLY = "nightly"

            class _Base(Plugin):
                @handler("import")
                def fetch(self, data, context): ...

                async def activate(self, context):
                    context.jobs.process("inherited", self.fetch)

            class Sample(_Base):
                @handler(NIGHTLY)
                async def clean(self, data, context): ...

                async def activate(self, context):
                    await super().activate(context)
                    context.jobs.process("export", self.clean)
                    context.jobs.process(name="again", handler=self.clean)
                    context.jobs.process(self.unknown(), self.clean)
            """,
        )
        assert found.jobs == ("import", "nightly")
        assert found.adds_handlers == ("again", "export", "inherited")
        assert not found.adds_middleware

    def test_an_activate_that_does_not_call_super_hides_the_inherited_one(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin

            class _Base(Plugin):
                def activate(self, context):
                    context.middleware.use(print)

            class Sample(_Base):
                def activate(self, context):
                    context.jobs.process("export", print)
            """,
        )
        assert (found.adds_handlers, found.adds_middleware) == (("export",), False)

    def test_middleware_added_in_activate(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin

            class Sample(Plugin):
                def activate(self, context):
                    for scope in ("call", "job"):
                        context.middleware.use(self.wrap, scope=scope)
            """,
        )
        assert found.adds_middleware

    def test_requires_are_the_types_of_the_constructor(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin

            class Sample(Plugin):
                def __init__(self, config: Any, own: Config, it: "Scrubber", *, log: logging.Logger | None = None): ...
                def set_dependencies(self, *, storage: TenantStorage, again: "Scrubber"): ...
            """,
        )
        assert found.requires == ("Scrubber", "logging.Logger | None", "TenantStorage")

    def test_title_and_provides_of_the_class(self, write: Write) -> None:
        found = read(
            write,
            """
            from pluginhub import Plugin

            class Sample(Plugin):
                title = "Quotes, cheapest first"
                provides = (Rates, "prices")
            """,
        )
        assert (found.title, found.provides) == ("Quotes, cheapest first", ("Rates", "prices"))

    def test_whose_interceptors_it_stands_outside_and_inside_of(self, write: Write) -> None:
        found = read(
            write,
            """
            from typing import ClassVar
            from pluginhub import Plugin

            class Outer(Plugin):
                before = ["signing"]
                after = ("timing",)

            class _Further(Outer):
                after: ClassVar[tuple[str, ...]] = ()

            class Sample(_Further): pass
            """,
        )
        assert (found.before, found.after, found.problem) == (("signing",), (), "")
        assert loading.entry("sample_outer").after == ("timing",)

    @pytest.mark.parametrize(
        ("name", "title"),
        [("Redact", "Redact"), ("RedactPersonalData", "Redact personal data"), ("ParseCSVLines", "Parse CSV lines")],
    )
    def test_without_a_title_the_class_name_is_spelt_out(self, write: Write, name: str, title: str) -> None:
        assert read(write, PLAIN.replace("Redact", name)).title == title


class TestProblems:
    @pytest.mark.parametrize(
        "written",
        [
            'before = "signing"',
            "before = SIGNING",
            "before = (SIGNING,)",
            "before = ('a',) + ('b',)",
            "before = tuple('a')",
            "before = ('a', 1)",
            "before = {'a'}",
            "before = {('a',): 1}",
            "before = None",
            "def before(self): ...",
        ],
    )
    def test_an_order_that_is_not_written_out_is_not_passed_over(self, write: Write, written: str) -> None:
        found = read(
            write, f"from pluginhub import Plugin\nSIGNING = 'signing'\nclass Sample(Plugin):\n    {written}\n"
        )
        assert found.problem == (
            "'before' must be a tuple of plugin names, written out as strings: it is read without importing. "
            'Write before = ("signing",) in the class.'
        )
        with pytest.raises(NotReady, match="cannot be loaded: 'before' must be"):
            loading.load("sample")

    def test_a_syntax_error_is_shown_with_its_line_and_harms_no_other(self, write: Write) -> None:
        write("broken.py", "from pluginhub import Plugin\n\nclass Broken(Plugin:\n")
        write("fine.py", PLAIN)
        assert loading.entry("broken").problem.startswith("broken.py, line 3: ")
        assert loading.entry("fine").problem == ""
        with pytest.raises(NotReady, match=r"Plugin 'broken' cannot be loaded: broken\.py, line 3"):
            loading.load("broken")

    @pytest.mark.parametrize("source", [b"x = '\0'", b"\xff\xfe\x00", b"(" * 5000, b"x = " + b"-" * 200_000 + b"1"])
    def test_bytes_that_are_no_source_are_a_problem(self, folder: Path, source: bytes) -> None:
        (folder / "broken.py").write_bytes(source)
        assert loading.entry("broken").problem

    def test_a_missing_distribution(self) -> None:
        with override_settings(PLUGINHUB={"PLUGINS": {"gone": "nowhere.at_all:Gone"}}):
            assert loading.entry("gone").problem == (
                "There is no module 'nowhere.at_all' with Python source. Install the distribution that contains it."
            )
            with pytest.raises(NotReady, match="Install the distribution"):
                loading.load("gone")

    def test_a_missing_module_of_a_package(self) -> None:
        with override_settings(PLUGINHUB={"PLUGINS": {"gone": "pluginhub.gone:Gone"}}):
            assert "though 'pluginhub' is there" in loading.entry("gone").problem

    def test_a_missing_class_names_near_misses(self, site: Path) -> None:
        install(site, {"acme_plugins/redact.py": PLAIN}, {"redact": "acme_plugins.redact:Redcat"})
        assert loading.entry("redact").problem == (
            "Module 'acme_plugins.redact' defines no class 'Redcat'. Did you mean 'Redact'?"
        )

    def test_a_class_that_is_no_plugin(self, site: Path) -> None:
        install(site, {"acme_plugins/redact.py": "class Redact: ..."}, {"redact": "acme_plugins.redact:Redact"})
        assert loading.entry("redact").problem == "acme_plugins.redact:Redact is no subclass of pluginhub.Plugin."

    def test_a_class_that_is_its_own_base(self, site: Path) -> None:
        install(
            site, {"acme_plugins/redact.py": "class A(B): ...\nclass B(A): ..."}, {"redact": "acme_plugins.redact:A"}
        )
        assert "no subclass" in loading.entry("redact").problem

    def test_modules_that_reexport_in_a_circle(self, site: Path) -> None:
        files = {
            "acme_plugins/a.py": "from .b import *\nfrom .b import Base\nclass A(Base): ...",
            "acme_plugins/b.py": "from .a import *\nfrom .a import Base",
        }
        install(site, files, {"redact": "acme_plugins.a:A"})
        assert loading.entry("redact").problem == ""  # the base is unknown, and that is tolerated

    @pytest.mark.parametrize("path", ["redact", "acme:", ":Redact", "acme.1:Redact", "a b:C", "a:b:c"])
    def test_a_path_that_names_no_class(self, path: str) -> None:
        with override_settings(PLUGINHUB={"PLUGINS": {"odd": path}}):
            assert "names no class" in loading.entry("odd").problem

    def test_a_name_claimed_by_two_distributions(self, site: Path) -> None:
        install(site, {"acme_plugins/a.py": PLAIN}, {"redact": "acme_plugins.a:Redact"})
        install(site, {"acme_plugins/b.py": PLAIN}, {"redact": "acme_plugins.b:Redact"}, name="other-plugins")
        assert loading.entry("redact").problem == (
            "'redact' is acme_plugins.a:Redact and acme_plugins.b:Redact. "
            "Choose one in PLUGINHUB['PLUGINS'] = {'redact': …}."
        )
        with override_settings(PLUGINHUB={"PLUGINS": {"redact": "acme_plugins.b:Redact"}}):
            assert loading.load("redact").__module__ == "acme_plugins.b"

    def test_an_unknown_name_names_near_misses(self, write: Write) -> None:
        write("redact.py", PLAIN)
        with pytest.raises(loading.UnknownPlugin) as caught:
            loading.entry("redcat")
        assert caught.value.status == 404
        assert caught.value.extra["near_misses"] == ["redact"]
        assert str(caught.value) == (
            "No plugin named 'redcat' is installed. Did you mean 'redact'? Else install the distribution that brings "
            "it, or name it in PLUGINHUB['PLUGINS']."
        )

    def test_loading_an_unknown_name_is_not_ready(self) -> None:
        with pytest.raises(NotReady, match="No plugin named 'nothing-like-it' is installed"):
            loading.load("nothing-like-it")


class TestLoading:
    def test_it_returns_the_class_again_and_again(self, write: Write) -> None:
        write("redact.py", PLAIN)
        assert loading.load("redact") is loading.load("redact")

    def test_threads_that_ask_together_import_once(self, write: Write, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        slow = f"import time\n{leave_a_mark(trace, 'x')}time.sleep(0.1)\n"
        write("redact.py", slow + PLAIN + "\nMARK = object()\n")
        barrier, found = threading.Barrier(8), []

        def ask() -> None:
            barrier.wait()
            found.append(loading.load("redact"))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert trace.read_text() == "x"
        assert len(found) == 8
        assert len(set(found)) == 1

    def test_a_failed_import_names_plugin_reason_place_and_way_out(self, write: Write) -> None:
        write("redact.py", "\nimport no_such_package\n" + PLAIN)
        with pytest.raises(NotReady) as caught:
            loading.load("redact")
        assert caught.value.detail == (
            "Plugin 'redact' cannot be loaded: "
            "ModuleNotFoundError: No module named 'no_such_package' (redact.py, line 2)."
        )
        assert caught.value.hint.startswith("Install the distribution that provides 'no_such_package'.")
        assert caught.value.problem()["plugin"] == "redact"
        assert caught.value.status == 503

    def test_a_module_that_exits_does_not_end_the_process(self, write: Write) -> None:
        write("redact.py", "raise SystemExit\n" + PLAIN)
        with pytest.raises(NotReady, match="SystemExit"):
            loading.load("redact")

    def test_a_failure_is_remembered_and_tried_again_ever_later(
        self, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trace = tmp_path / "trace"
        trace.touch()
        write("redact.py", leave_a_mark(trace, "x") + "1 / 0\n" + PLAIN)
        clock = 1000.0
        monkeypatch.setattr(importing, "monotonic", lambda: clock)

        def attempts() -> int:
            with pytest.raises(NotReady, match="ZeroDivisionError: division by zero"):
                loading.load("redact")
            return len(trace.read_text())

        assert (attempts(), attempts()) == (1, 1)
        clock += 1.01
        assert (attempts(), attempts()) == (2, 2)
        clock += 1.01
        assert attempts() == 2
        clock += 1.0
        assert attempts() == 3
        for _ in range(10):
            clock += 60.01
            attempts()
        assert attempts() == 13
        importer = loading.current()._importers[discovery.FILES]
        assert importer._slots.popitem()[1].failure.delay == 60.0  # type: ignore[union-attr]

    def test_a_changed_file_is_tried_at_once(self, write: Write) -> None:
        write("redact.py", "1 / 0\n" + PLAIN)
        with pytest.raises(NotReady):
            loading.load("redact")
        write("redact.py", PLAIN)
        assert loading.load("redact").__name__ == "Redact"

    def test_a_forgotten_failure_is_tried_at_once(self, site: Path) -> None:
        install(
            site,
            {"acme_plugins/redact.py": "import acme_space.late\n" + PLAIN},
            {"redact": "acme_plugins.redact:Redact"},
        )
        with pytest.raises(NotReady):
            loading.load("redact")
        (site / "acme_space").mkdir()
        (site / "acme_space" / "late.py").touch()
        loading.forget("redact")
        assert loading.load("redact").__name__ == "Redact"

    def test_a_class_that_turns_out_to_be_no_plugin(self, write: Write) -> None:
        write("redact.py", PLAIN + "\nRedact = dict\n")
        with pytest.raises(NotReady, match=r"no subclass of pluginhub\.Plugin"):
            loading.load("redact")

    def test_what_the_catalog_says_holds_for_the_class(self, write: Write) -> None:
        write("redact.py", PLAIN)
        found, plugin = loading.entry("redact"), loading.load("redact")
        assert all(callable(getattr(plugin, hook)) for hook in found.hooks)
        assert plugin.__module__ == found.module
