"""Networks, configs and secrets for people: their lists and their pages. Pure. What is secret isn't in the records at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stackd.api.control import ConfigDetail
from stackd.api.views import ConfigView, NetworkView, SecretView
from stackd.base.time import Instant
from stackd.cli.output import page, table
from stackd.cli.wording import SHORT_ID, ago, binary_size, yes_no

_SERVICES_SHOWN = 3


def network_table(networks: Sequence[NetworkView], *, wide: bool) -> str:
    headers: tuple[str, ...] = ("ID", "NAME", "DRIVER", "SUBNET", "STATE", "SERVICES")
    rows = [_network_row(one) for one in networks]
    if wide:
        headers = (*headers, "GATEWAY", "ADDRESSES", "VXLAN ID", "STACK", "MESSAGE")
        rows = [(*row, *_network_details(one)) for row, one in zip(rows, networks, strict=True)]
    return table(headers, rows)


def _network_row(one: NetworkView) -> tuple[str, ...]:
    subnets = ", ".join(part.subnet for part in one.subnets)
    return one.id[:SHORT_ID], one.name, one.driver, subnets, one.state, _services(one.services)


def _network_details(one: NetworkView) -> tuple[str, ...]:
    gateways = ", ".join(part.gateway for part in one.subnets)
    return gateways, _addresses(one), str(one.vxlan_id or ""), one.stack, one.message


def _addresses(one: NetworkView) -> str:
    return f"{one.addresses} of {one.capacity}" if one.capacity else ""


def _services(names: Sequence[str]) -> str:
    """A few names, and how many there are besides."""
    more = len(names) - _SERVICES_SHOWN
    return ", ".join(names[:_SERVICES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def config_table(configs: Sequence[ConfigView], now: Instant, *, wide: bool) -> str:
    headers: tuple[str, ...] = ("ID", "NAME", "SIZE", "SERVICES", "CREATED", "UPDATED")
    rows: list[tuple[str, ...]] = [
        (one.id[:SHORT_ID], one.name, binary_size(one.size_bytes), _services(one.services), *_times(one, now))
        for one in configs
    ]
    if wide:
        headers = (*headers, "STATE", "STACK", "DIGEST", "LABELS")
        rows = [
            (*row, one.state, one.stack, one.digest[:SHORT_ID], _pairs(one.labels))
            for row, one in zip(rows, configs, strict=True)
        ]
    return table(headers, rows)


def secret_table(secrets: Sequence[SecretView], now: Instant, *, wide: bool) -> str:
    headers: tuple[str, ...] = ("ID", "NAME", "SERVICES", "CREATED", "UPDATED")
    rows: list[tuple[str, ...]] = [(one.id[:SHORT_ID], one.name, _services(one.services), *_times(one, now)) for one in secrets]
    if wide:
        headers = (*headers, "STATE", "STACK", "LABELS")
        rows = [(*row, one.state, one.stack, _pairs(one.labels)) for row, one in zip(rows, secrets, strict=True)]
    return table(headers, rows)


def _times(one: ConfigView | SecretView, now: Instant) -> tuple[str, str]:
    return ago(one.created_at, now), ago(one.updated_at, now)


def _pairs(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))


def network_page(one: NetworkView, now: Instant) -> str:
    return page(
        {
            "Name": one.name,
            "ID": one.id,
            "Stack": one.stack,
            "Driver": one.driver,
            "State": one.state,
            "Message": one.message,
            "Subnet": ", ".join(part.subnet for part in one.subnets),
            "Gateway": ", ".join(part.gateway for part in one.subnets),
            "Range": ", ".join(part.ip_range for part in one.subnets if part.ip_range),
            "Addresses": f"{_addresses(one)} in use" if one.capacity else "",
            "VXLAN id": str(one.vxlan_id or ""),
            "Internal": yes_no(one.internal),
            "Attachable": yes_no(one.attachable),
            "IPv6": yes_no(one.ipv6),
            "Options": _pairs(one.driver_options),
            "Labels": _pairs(one.labels),
            "Services": ", ".join(one.services),
            "Created": ago(one.created_at, now),
        }
    )


def config_page(detail: ConfigDetail, now: Instant) -> str:
    """The config and its content, as far as it is text."""
    one = detail.config
    head = page(
        {
            "Name": one.name,
            "ID": one.id,
            "Stack": one.stack,
            "State": one.state,
            "Digest": one.digest,
            "Size": binary_size(one.size_bytes),
            "Template": one.template,
            "Labels": _pairs(one.labels),
            "Services": ", ".join(one.services),
            "Created": ago(one.created_at, now),
            "Updated": ago(one.updated_at, now),
        }
    )
    try:
        text = detail.data.decode()
    except UnicodeDecodeError:
        text = f"({len(detail.data)} bytes that are no text)"
    return f"{head}\nContent:\n{text}".rstrip("\n")


def secret_page(one: SecretView, now: Instant) -> str:
    return page(
        {
            "Name": one.name,
            "ID": one.id,
            "Stack": one.stack,
            "State": one.state,
            "Template": one.template,
            "Labels": _pairs(one.labels),
            "Services": ", ".join(one.services),
            "Created": ago(one.created_at, now),
            "Updated": ago(one.updated_at, now),
        }
    )
