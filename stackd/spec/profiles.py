"""Profiles: services that are only there when somebody asks for them."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

from stackd.spec.document import ServiceDocument, StackDocument

ALL = "*"
"""Makes every profile active."""


def with_profiles(document: StackDocument, active: Set[str]) -> StackDocument:
    """The stack without the services of which no profile is active. A service without profiles is always there."""
    services = {name: service for name, service in document.services.items() if _is_active(service, active)}
    inactive = frozenset(document.services.keys() - services.keys())
    return replace(document, services=services, inactive=inactive) if inactive else document


def _is_active(service: ServiceDocument, active: Set[str]) -> bool:
    return not service.profiles or ALL in active or not active.isdisjoint(service.profiles)
