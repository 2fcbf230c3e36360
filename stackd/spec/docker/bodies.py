"""The bodies of a whole stack: networks, secrets, configs and services, in the order in which they would be created."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from stackd.spec.contents import Contents
from stackd.spec.docker.body import Body, labels, said
from stackd.spec.docker.service import ServiceBodies
from stackd.spec.document import FileObjectDocument, NetworkDocument, StackDocument
from stackd.spec.names import name_of
from stackd.spec.placed import PlacedProblems
from stackd.spec.problems import Problems
from stackd.spec.resolve.links import DEFAULT_NETWORK, networks_of
from stackd.spec.resolve.stack import stack_name
from stackd.spec.sourcemap import SourceMap
from stackd.spec.surroundings import Surroundings


def docker_bodies(
    document: StackDocument, around: Surroundings, sources: SourceMap, problems: Problems
) -> dict[str, list[Body]]:
    """The bodies by kind (`networks`, `secrets`, `configs`, `services`), each list sorted by name. What can't be sent goes
    to `problems`. Objects that are declared external are taken to exist; IDs of configs and secrets are their names."""
    stack = stack_name(document, around, problems)
    placed = PlacedProblems(problems, sources)
    contents = Contents(around.files, around.environment, placed, may_be_empty=True)
    services = ServiceBodies(document, stack, around, placed)
    bodies = {
        "networks": [_network(stack, key, document.networks.get(key)) for key in _own_networks(document)],
        "secrets": _file_objects(stack, "secrets", document.secrets, contents),
        "configs": _file_objects(stack, "configs", document.configs, contents),
        "services": [services.body(service) for service in document.services.values()],
    }
    return {kind: sorted(found, key=lambda body: str(body["Name"])) for kind, found in bodies.items()}


def _own_networks(document: StackDocument) -> set[str]:
    """The networks that services use and that the stack makes itself."""
    used = {key for service in document.services.values() for key in networks_of(service)}
    defined = {key for key in used if key in document.networks or key == DEFAULT_NETWORK}
    return {key for key in defined if key not in document.networks or not document.networks[key].external}


def _network(stack: str, key: str, written: NetworkDocument | None) -> Body:
    network = written or NetworkDocument()
    pools = [said(Subnet=pool.subnet, Gateway=pool.gateway, IPRange=pool.ip_range) for pool in network.ipam.config]
    ipam = said(Driver=network.ipam.driver, Config=pools)
    return said(
        Name=name_of(stack, key, network),
        Driver=network.driver or "overlay",
        Options=network.driver_opts or None,
        Internal=network.internal,
        Attachable=network.attachable,
        EnableIPv6=network.enable_ipv6,
        IPAM=ipam or None,
        Labels=labels(stack, network.labels),
        CheckDuplicate=True,
    )


def _file_objects(stack: str, section: str, items: Mapping[str, FileObjectDocument], contents: Contents) -> list[Body]:
    own = ((key, item) for key, item in items.items() if not item.external)
    return [_file_object(stack, key, item, contents.of(section, key, item)) for key, item in own]


def _file_object(stack: str, key: str, item: FileObjectDocument, data: bytes) -> Body:
    return said(
        Name=name_of(stack, key, item),
        Labels=labels(stack, item.labels),
        Data=base64.b64encode(data).decode(),
        Driver=said(Name=item.driver, Options=item.driver_opts or None) if item.driver else None,
        Templating=said(Name=item.template_driver) if item.template_driver else None,
    )
