"""What a stack file says, typed, before anything outside of it is looked at.

The records of `stack.py` are used wherever what is written is what is meant. What is not yet: mounts have their source
as written, the container has no environment, and references are only names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stackd.base.records import Pairs
from stackd.spec.stack import (
    ContainerSpec,
    FileRef,
    Mount,
    Placement,
    Port,
    Resources,
    RestartPolicy,
    ServiceSettings,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Said(Generic[T]):
    """A value and the path under which the file says it."""

    path: str
    value: T


@dataclass(frozen=True, slots=True)
class Deploy:
    """The `deploy` section. `restart` is None where it has no restart_policy."""

    settings: ServiceSettings = ServiceSettings()
    limits: Resources = Resources()
    reservations: Resources = Resources()
    restart: RestartPolicy | None = None
    placement: Placement = Placement()


@dataclass(frozen=True, slots=True)
class ServiceDocument:
    """One service. In `environment` None stands for a KEY without a value; `restart` is the short key beside `deploy`."""

    name: str
    path: str
    container: ContainerSpec
    environment: dict[str, str | None]
    env_files: tuple[Said[str], ...]
    ports: tuple[Said[Port], ...]
    mounts: tuple[Said[Mount], ...]
    configs: tuple[Said[FileRef], ...]
    secrets: tuple[Said[FileRef], ...]
    deploy: Deploy
    restart: RestartPolicy | None


@dataclass(frozen=True, slots=True)
class VolumeDocument:
    """A volume of the top level. `name` is None where the stack's name and the key make it."""

    name: str | None = None
    external: bool = False
    driver: str = ""
    driver_options: Pairs = ()
    labels: Pairs = ()


@dataclass(frozen=True, slots=True)
class StackDocument:
    """The whole file. Configs and secrets are the paths of their files; "" where an error was reported."""

    name: Said[str] | None = None
    services: tuple[ServiceDocument, ...] = ()
    volumes: dict[str, VolumeDocument] = field(default_factory=dict)
    configs: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
