"""Where the pair of a checkout lives: known without asking anyone, so that settings need not start it."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from pluginhub.exceptions import PluginHubError

__all__ = ["Addresses", "EmbeddedError", "Places", "addresses", "places"]


class EmbeddedError(PluginHubError):
    """The embedded servers cannot be used here."""

    title = "Embedded servers failed"


@dataclass(frozen=True, slots=True)
class Addresses:
    """How to reach the pair: Unix sockets, so no port can be taken and no other user gets in."""

    database_url: str
    redis_url: str


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one checkout's pair. `home` is kept, `run` lives as long as the pair."""

    base: Path
    home: Path
    run: Path

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def valkey_socket(self) -> Path:
        return self.run / "valkey.sock"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def supervisor_log(self) -> Path:
        return self.home / "supervisor.log"

    @property
    def addresses(self) -> Addresses:
        return Addresses(
            f"postgresql://postgres@/pluginhub?host={self.run}",
            f"unix://{self.valkey_socket}?db=0",
        )


def addresses(base_dir: Path | str) -> Addresses:
    """Return where the pair of the checkout at `base_dir` answers once it is up. Starts nothing, touches nothing."""
    return places(base_dir).addresses


def places(base_dir: Path | str) -> Places:
    """Name the folders. Sockets go to a short path in /tmp: a socket's path may have about 100 bytes only."""
    base = Path(base_dir).resolve()
    label = hashlib.sha256(os.fsencode(base)).hexdigest()[:12]
    home = base / ".pluginhub"
    if os.geteuid() == 0 and not open_to_others(base):
        # PostgreSQL refuses to run as root, and its user could not get at a checkout in root's home.
        home = Path("/var/tmp") / f"pluginhub-{label}"
    return Places(base, home, Path("/tmp") / f"pluginhub-{os.geteuid()}-{label}")


def server_user() -> pwd.struct_passwd | None:
    """The unprivileged user that the servers run as when we are root; else `None`: they run as we do."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def open_to_others(path: Path) -> bool:
    """Whether any user may reach `path`."""
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.parents) if folder.exists())


def make_private(folder: Path) -> None:
    """Create a folder that belongs to the servers' user alone. Raises `EmbeddedError` as `refuse_foreign` does."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_foreign(folder)
    user = server_user()
    os.chown(folder, os.geteuid() if user is None else user.pw_uid, -1)
    folder.chmod(0o700)


def refuse_foreign(folder: Path) -> None:
    """Raise `EmbeddedError` for a folder that somebody else has put there, to listen in or to answer in our stead."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    user = server_user()
    ours = {os.geteuid()} if user is None else {os.geteuid(), user.pw_uid}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in ours:
        raise EmbeddedError(f"{folder} belongs to somebody else.", hint="Remove it, or set DATABASE_URL and REDIS_URL.")
