"""Which roles each route opens to: the union of every module's ``PERMISSIONS``, deny by default.

The gate matches an address as the router will, before anything of the request is read. A route
that no module names opens to nobody; an address without a route is left to the router (404, 405).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount, compile_path

from inference.domain.roles import CONFINED_ROLES, Permissions, Role

WEBSOCKET = "WEBSOCKET"
"""Stands for the method of a route that is a WebSocket."""

OPEN_ROUTES = frozenset(
    {
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/sign-in"),
        ("POST", "/sign-in"),
        ("GET", "/sign-in/provider"),
        ("GET", "/sign-in/provider/answer"),
        ("POST", "/sign-out"),
        ("POST", "/language"),
        ("GET", "/static/{path:path}"),
    }
)
"""(method, template) of what needs no identity; it shows nothing of a patient."""

RouteKey = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class GatedRoute:
    """One route of the application: ``is_page`` ones lead a stranger to the sign-in form."""

    template: str
    methods: frozenset[str]
    pattern: re.Pattern[str] = field(repr=False)
    is_page: bool


@dataclass(frozen=True, kw_only=True)
class Match:
    """What the router will make of an address; ``key`` is None where no route takes the method."""

    key: RouteKey | None = None
    is_page: bool = False
    params: Mapping[str, str] = field(default_factory=dict)
    other_methods: frozenset[str] = frozenset()
    """Where ``key`` is None: the methods that the address does take."""

    @property
    def is_open(self) -> bool:
        """Whether no identity is needed."""
        return self.key in OPEN_ROUTES


class RouteGate:
    """Decides who may ask; empty until `close`, and shut for every route until then."""

    def __init__(self) -> None:
        self.routes: tuple[GatedRoute, ...] = ()
        self.permissions: dict[RouteKey, frozenset[Role]] = {}
        self.compartment_aware: frozenset[RouteKey] = frozenset()

    def close(
        self,
        routes: Sequence[BaseRoute],
        permissions: Iterable[Permissions],
        compartment_aware: Iterable[RouteKey] = (),
    ) -> None:
        """Take the application's routes and every module's word.

        Raises
        ------
        ValueError
            Two modules name the same route.
        """
        self.routes = tuple(_gated(context) for context in iter_route_contexts(routes))
        union: dict[RouteKey, frozenset[Role]] = {}
        for one in permissions:
            for key, roles in one.items():
                if key in union:
                    raise ValueError(f"{' '.join(key)} is named by two modules")
                union[key] = frozenset(roles)
        self.permissions = union
        self.compartment_aware = frozenset(compartment_aware)

    def match(self, method: str, path: str) -> Match:
        """Find the route in the router's order; the first that takes path and method."""
        other_methods: frozenset[str] = frozenset()
        for route in self.routes:
            found = route.pattern.match(path)
            if found is None:
                continue
            if method in route.methods:
                return Match(
                    key=(method, route.template), is_page=route.is_page, params=found.groupdict()
                )
            other_methods |= route.methods
        return Match(other_methods=other_methods - {WEBSOCKET})

    def acting(self, key: RouteKey, roles: frozenset[Role]) -> frozenset[Role]:
        """Return the roles that open a route to somebody; empty: it stays shut."""
        opening = roles & self.permissions.get(key, frozenset())
        if key not in self.compartment_aware:
            opening -= CONFINED_ROLES
        return opening

    def keys(self) -> tuple[RouteKey, ...]:
        """Every (method, template) of the application."""
        return tuple(
            (method, route.template) for route in self.routes for method in sorted(route.methods)
        )


def _gated(context: Any) -> GatedRoute:
    route = context.original_route
    template = context.path or ""
    if isinstance(route, Mount):
        template = f"{template}/{{path:path}}"
    methods = frozenset(context.methods or ())
    if not methods:
        methods = frozenset({"GET"}) if isinstance(route, Mount) else frozenset({WEBSOCKET})
    return GatedRoute(
        template=template,
        methods=methods,
        pattern=compile_path(template)[0],
        is_page=not getattr(context, "include_in_schema", True) and template != "/openapi.json",
    )
