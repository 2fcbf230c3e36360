"""Checks a stack as a whole, and each of its services."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from stackd.spec import shorthand, templating
from stackd.spec.check.dependencies import check_dependencies
from stackd.spec.check.ports import check_ports
from stackd.spec.check.service import check_service
from stackd.spec.check.template import check_template
from stackd.spec.document import FileObjectDocument, PoolDocument, StackDocument, VolumeDocument
from stackd.spec.names import Named, name_of, scoped
from stackd.spec.placed import PlacedProblems


def check(document: StackDocument, stack: str, problems: PlacedProblems) -> None:
    """Reports what contradicts itself within a service or between services; `stack` is the stack's name."""
    if not document.services and not problems.form_is_wrong:
        _report_no_services(document, problems)
    for service in document.services.values():
        _check_scoped_name(stack, service.name, problems)
        check_service(service, problems)
    check_ports(document.services.values(), problems)
    check_dependencies(document, problems)
    sections: tuple[tuple[str, Mapping[str, Named]], ...] = (
        ("networks", document.networks),
        ("configs", document.configs),
        ("secrets", document.secrets),
    )
    for section, items in sections:
        _check_names(stack, section, items, problems)
    for key, network in document.networks.items():
        for index, pool in enumerate(network.ipam.config):
            _check_pool(f"networks.{key}.ipam.config.{index}", pool, problems)
    for key, volume in document.volumes.items():
        _check_volume(f"volumes.{key}", volume, problems)
    for section, objects in (("configs", document.configs), ("secrets", document.secrets)):
        for key, item in objects.items():
            _check_template_driver(f"{section}.{key}", item, problems)


def _report_no_services(document: StackDocument, problems: PlacedProblems) -> None:
    message = "the stack has no services"
    hint = "the smallest stack is: services: {web: {image: nginx}}; to remove a stack, remove its file"
    if document.inactive:
        message = "no profile of any service is active"
        hint = "name one in COMPOSE_PROFILES, or give the stack a service without profiles"
    problems.key_error("spec.services.missing", message, "services", hint)


def _check_scoped_name(stack: str, service: str, problems: PlacedProblems) -> None:
    name = scoped(stack, service)
    if stack and len(name) > shorthand.MAX_NAME:
        message = f'the service is called "{name}" in the cluster, which has more than {shorthand.MAX_NAME} characters'
        problems.key_error("spec.name.bad", message, f"services.{service}", "use a shorter name")


def _check_names(stack: str, section: str, items: Mapping[str, Named], problems: PlacedProblems) -> None:
    """Two objects of one kind can't be one in the cluster."""
    first: dict[str, str] = {}
    for key, item in items.items():
        other = first.setdefault(name_of(stack, key, item), key)
        if other != key:
            message = f"{section}.{key} and {section}.{other} have the same name in the cluster"
            problems.key_error("spec.name.taken", message, f"{section}.{key}", "name one of them, and refer to it twice")


def _check_pool(path: str, pool: PoolDocument, problems: PlacedProblems) -> None:
    """A gateway and a range lie within their subnet (semantics 27)."""
    try:
        subnet = ipaddress.ip_network(pool.subnet, strict=False) if pool.subnet else None
        gateway = ipaddress.ip_network(pool.gateway) if pool.gateway else None
        span = ipaddress.ip_network(pool.ip_range, strict=False) if pool.ip_range else None
    except ValueError:
        return  # reported where it was read
    if subnet is None and (gateway or span):
        hint = "write the subnet too, such as 10.1.0.0/16"
        problems.error("spec.network.pool", f"{path} has addresses, and no subnet that they are in", path, hint)
    for name, inner in (("gateway", gateway), ("ip_range", span)):
        if subnet is not None and inner is not None and not _is_within(inner, subnet):
            message = f"{path}.{name} lies outside of {subnet}"
            problems.error("spec.network.pool", message, f"{path}.{name}", "take an address of the subnet")


_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _is_within(inner: _Network, outer: _Network) -> bool:
    return inner.version == outer.version and inner.network_address in outer and inner.broadcast_address in outer


def _check_volume(path: str, volume: VolumeDocument, problems: PlacedProblems) -> None:
    """Labels and options of volumes may hold templates (semantics 25)."""
    for section, values in (("labels", volume.labels), ("driver_opts", volume.driver_opts)):
        for name, text in values.items():
            check_template(text, f"{path}.{section}.{name}", problems)


def _check_template_driver(path: str, item: FileObjectDocument, problems: PlacedProblems) -> None:
    if item.template_driver not in ("", templating.DRIVER):
        message = f'{path}: there is no template driver "{item.template_driver}"'
        at = f"{path}.template_driver"
        problems.error("spec.template.driver", message, at, f"the only one is {templating.DRIVER}")
