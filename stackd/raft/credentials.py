"""How a member shows who it is, and learns who others are: the port to certificates. It makes none and stores none."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The factories are asked for each new connection; their contexts must demand a certificate and speak TLS 1.3 only. They
    raise StackdError when there is no certificate to show.

    `name_of` gives the node id of a verified certificate, in the form of `ssl.SSLSocket.getpeercert`. It raises ValueError if
    that isn't a manager's, or one that was removed: whoever passes is heard, also before this member knows it as another."""

    to_dial: Callable[[], ssl.SSLContext]
    to_accept: Callable[[], ssl.SSLContext]
    name_of: Callable[[Mapping[str, Any]], str]


def common_name(certificate: Mapping[str, Any]) -> str:
    """The subject's common name. Raises ValueError if there isn't exactly one."""
    names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
    if len(names) != 1:
        raise ValueError(f"its certificate has {len(names)} common names")
    return str(names[0])


def checked(context: ssl.SSLContext) -> ssl.SSLContext:
    """`context`, if it is as strict as it has to be. Raises ValueError: anything else is a mistake of ours."""
    if context.verify_mode is not ssl.CERT_REQUIRED or context.minimum_version < ssl.TLSVersion.TLSv1_3:
        raise ValueError("a context between members must demand a certificate and speak TLS 1.3 only")
    return context
