"""Streams: a plugin's generator, pulled as far as its client asks and no further.

- `open` gives a `Source`: pulled page by page in its tenant, closed with its generator's `finally` blocks run;
- `Stream` is the same for the host's own `for` and `async for`;
- `sse` renders a source as server-sent events; the websocket's frames are made in `consumers`.
"""

from pluginhub.streaming.events import Events, resumed_from, sse
from pluginhub.streaming.iteration import Stream
from pluginhub.streaming.sources import Source, open  # noqa: A004

__all__ = ["Events", "Source", "Stream", "open", "resumed_from", "sse"]
