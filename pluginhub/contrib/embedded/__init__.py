"""An embedded PostgreSQL and Valkey for one checkout, from PyPI wheels: no root, no Docker, nothing to install.

All processes of a checkout share one pair. A supervisor in a session of its own keeps it, and ends it about a second
after its last user has gone, however that user went. Needs the extra `embedded`. For development and tests.
"""

from __future__ import annotations

from pluginhub.contrib.embedded.client import leave, urls
from pluginhub.contrib.embedded.places import Addresses, EmbeddedError, addresses

__all__ = ["Addresses", "EmbeddedError", "addresses", "leave", "urls"]
