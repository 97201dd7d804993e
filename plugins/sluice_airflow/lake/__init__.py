"""The page Lake of the web UI: what Airflow is given of it when it reads the plugin, in every process.

Nothing of FastAPI is imported here: each task imports the plugins as well. The application is made by its first
request, in the API server.
"""

from __future__ import annotations

import threading
from typing import Any

PREFIX = "/lake"
"""Path of the application below the address of the web UI."""

REACT_APPS: list[dict[str, Any]] = [
    {
        "name": "Lake",
        "bundle_url": f"{PREFIX}/static/lake.js",
        "icon": f"{PREFIX}/static/lake.svg",
        "destination": "nav",
        "url_route": "lake",
        "nav_top_level": True,
    },
    {
        "name": "Lake verdict",
        "bundle_url": f"{PREFIX}/static/verdict.js",
        "destination": "dashboard",
        "url_route": "lake-verdict",
    },
    # One route each: Airflow drops a second app of the same route.
    *(
        {
            "name": "Data",
            "bundle_url": f"{PREFIX}/static/data.js",
            "icon": f"{PREFIX}/static/lake.svg",
            "destination": destination,
            "url_route": route,
        }
        for destination, route in (("dag", "data"), ("dag_run", "run-data"))
    ),
]


class LazyApp:
    """An ASGI application that is imported and made by its first request."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        if self._app is None:
            with self._lock:
                if self._app is None:
                    from sluice_airflow.lake.app import make_app

                    self._app = make_app()
        await self._app(scope, receive, send)


FASTAPI_APPS: list[dict[str, Any]] = [{"name": "lake", "app": LazyApp(), "url_prefix": PREFIX}]
