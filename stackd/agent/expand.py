"""Filling in what only the node knows: templates in a task's settings and files, and the generic resources it was given.

Templates are Go's, as in Swarm (semantics 25): in the values of the environment, the host name, mounts with their volumes'
labels and driver options, and the contents of configs and secrets that say `template_driver: golang`. Image, command and
labels are taken as they are. Pure: a task's assignment and its node's description are all that goes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from stackd.agent.executor.base import TaskContext
from stackd.base.errors import TaskFault
from stackd.base.records import Pairs
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import FileRef, GenericResource, Mount
from stackd.spec.template import FUNCTIONS, Function, TemplateError, parse, render
from stackd.spec.template.functions import Value

ENGINE = "golang"
"""The only template engine there is."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a config or secret holds for one task. `secret`: it must never be on a disk, as it is a secret or tells one."""

    data: bytes
    secret: bool


def expanded(context: TaskContext, node: NodeDescription) -> TaskContext:
    """The same task with its settings as they are on this node; raises TaskFault if one can't be filled in."""
    container = context.spec.container
    values = _values(context, node)
    env = tuple(_after_name(item, values) for item in container.env)
    filled = msgspec.structs.replace(
        container,
        env=(*env, *_resources(context.assignment.generic)),
        hostname=_filled(container.hostname, values, "hostname"),
        mounts=tuple(_mount(mount, values) for mount in container.mounts),
    )
    return replace(context, spec=msgspec.structs.replace(context.spec, container=filled))


def content_of(context: TaskContext, ref: FileRef, node: NodeDescription) -> Content | None:
    """What `ref` holds for this (expanded) task; None if a content that it needs has yet to come. Raises TaskFault if its
    template can't be filled in."""
    container = context.spec.container
    data = context.files.get(ref.digest)
    secret = ref in container.secrets
    if data is None:
        return None
    if not ref.template:
        return Content(data, secret)
    if ref.template != ENGINE:
        raise TaskFault("agent.template", f"{ref.source}: there is no template engine {ref.template}")
    files = _Files(context)
    try:
        text = render(parse(_text(data), files.functions.keys()), _values(context, node), files.functions)
    except _Awaited:
        return None
    except TemplateError as error:
        reason = "its template can't be filled in" if secret else str(error)  # which might quote the secret
        raise TaskFault("agent.template", f"{ref.source}: {reason}") from error
    return Content(text.encode("utf-8", "surrogateescape"), secret or files.told_secret)


class _Awaited(Exception):
    """A template uses a content that has yet to come."""


class _Files:
    """The functions that a config's or secret's template has in addition: what the task itself is given, by target."""

    def __init__(self, context: TaskContext) -> None:
        self._context = context
        self._env = dict(_name_and_value(item) for item in context.spec.container.env)
        self.told_secret = False
        self.functions: Mapping[str, Function] = {
            **FUNCTIONS,
            "env": self._variable,
            "config": self._config,
            "secret": self._secret,
        }

    def _variable(self, name: Value) -> str:
        return self._env.get(name, "") if isinstance(name, str) else ""

    def _config(self, target: Value) -> str:
        return self._text(self._context.spec.container.configs, "config", target)

    def _secret(self, target: Value) -> str:
        self.told_secret = True
        return self._text(self._context.spec.container.secrets, "secret", target)

    def _text(self, refs: tuple[FileRef, ...], kind: str, target: Value) -> str:
        """The content as it was submitted: templates inside it aren't filled in."""
        ref = next((ref for ref in refs if ref.target == target), None)
        if ref is None:
            raise TemplateError(f"the task has no {kind} with this target")
        data = self._context.files.get(ref.digest)
        if data is None:
            raise _Awaited
        return _text(data)


def _text(data: bytes) -> str:
    """Bytes as a text that gives exactly them again, also those that are no UTF-8."""
    return data.decode("utf-8", "surrogateescape")


def _values(context: TaskContext, node: NodeDescription) -> Mapping[str, Value]:
    """What templates can name. The slot of a task that belongs to a node is the node."""
    task = context.assignment
    return {
        "Service": {"ID": task.service_id, "Name": task.service, "Labels": dict(task.service_labels)},
        "Node": {
            "ID": task.node_id,
            "Hostname": node.hostname,
            "Platform": {"OS": node.os, "Architecture": node.arch},
        },
        "Task": {"ID": task.id, "Name": task.name, "Slot": str(task.slot or task.node_id)},
    }


def _filled(text: str, values: Mapping[str, Value], where: str) -> str:
    if "{{" not in text:
        return text
    try:
        return render(parse(text), values)
    except TemplateError as error:
        raise TaskFault("agent.template", f"{where}: {error}") from error


def _after_name(item: str, values: Mapping[str, Value]) -> str:
    """A variable with its value filled in; its name is taken as it is."""
    name, sign, value = item.partition("=")
    return f"{name}{sign}{_filled(value, values, name)}"


def _mount(mount: Mount, values: Mapping[str, Value]) -> Mount:
    where = f"the mount at {mount.target}"
    return msgspec.structs.replace(
        mount,
        source=_filled(mount.source, values, where),
        target=_filled(mount.target, values, where),
        labels=_pairs(mount.labels, values, where),
        driver_options=_pairs(mount.driver_options, values, where),
    )


def _pairs(pairs: Pairs, values: Mapping[str, Value], where: str) -> Pairs:
    return tuple((key, _filled(value, values, where)) for key, value in pairs)


def _name_and_value(item: str) -> tuple[str, str]:
    name, _, value = item.partition("=")
    return name, value


def _resources(given: tuple[GenericResource, ...]) -> tuple[str, ...]:
    """Variables that tell a task which generic resources are its own (semantics 18)."""
    return tuple(
        f"DOCKER_RESOURCE_{resource.kind.upper()}={','.join(resource.names) if resource.names else resource.amount}"
        for resource in given
    )
