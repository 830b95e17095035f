"""The host's own places for plugins.

```python
TOTAL = Point("order.total", input=Order, output=Total)
total = TOTAL.run(order, default=compute_total)
```

Without a tenant, without anything hung there, or where the tenant cannot be read, the host's default answers.
"""

from __future__ import annotations

from pluginhub.points.answering import Several
from pluginhub.points.calling import Call, Calls, calls_of
from pluginhub.points.declaring import Point, declared

__all__ = ["Call", "Calls", "Point", "Several", "calls_of", "declared"]
