"""The way from a person's own machine to a cluster: a blocking channel to whichever of its managers answers.

Any manager will do, since one that doesn't lead carries calls on. They are tried one after the other, each for a moment only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import grpc

from stackd.api.secure import CLIENT_OPTIONS, MANAGER_NAME, TlsMaterial, client_credentials
from stackd.base.errors import Unavailable

TRY_SECONDS = 5.0
"""How long one manager may take to answer before the next one is tried."""


def open_channel(addresses: Sequence[str], material: TlsMaterial) -> tuple[Any, str]:
    """A channel to the first of these managers (HOST:PORT) that answers, and its address.
    Raises Unavailable("api.manager.unreachable")."""
    for address in addresses:
        channel = _channel(address, material)
        with contextlib.suppress(grpc.FutureTimeoutError):
            grpc.channel_ready_future(channel).result(TRY_SECONDS)
            return channel, address
        channel.close()
    raise Unavailable(
        "api.manager.unreachable",
        f"no manager answers at {' or '.join(addresses)}",
        hint="check the address, and that the certificate is of this cluster; `stackd cluster ca user` issues a new one",
    )


def _channel(address: str, material: TlsMaterial) -> Any:
    options = (*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", MANAGER_NAME))
    return grpc.secure_channel(address, client_credentials(material), options=options)
