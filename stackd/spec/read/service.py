"""Reads one service: the program that its tasks run, and what they are given."""

from __future__ import annotations

from stackd.base.time import MILLISECOND, Duration
from stackd.spec import shorthand
from stackd.spec.document import Deploy, Said, ServiceDocument
from stackd.spec.nodes import Scalar
from stackd.spec.read import keys
from stackd.spec.read.deploy import read_deploy, read_duration
from stackd.spec.read.mounts import read_config_references, read_mounts, read_ports, read_secret_references
from stackd.spec.read.value import Fields, Value
from stackd.spec.stack import ContainerSpec, Healthcheck, RestartPolicy

_TEST_FORMS = ("CMD", "CMD-SHELL", "NONE")
_DEFAULT_NETWORK = "default"


def read_service(name: str, value: Value) -> ServiceDocument:
    fields = value.fields(keys.SERVICE)
    if "networks" in fields:
        _check_networks(fields["networks"])
    return ServiceDocument(
        name=name,
        path=value.path,
        container=_container(value, fields),
        environment=fields.read("environment", Value.text_pairs, {}),
        env_files=fields.read("env_file", _env_files, ()),
        ports=fields.read("ports", read_ports, ()),
        mounts=fields.read("volumes", read_mounts, ()),
        configs=fields.read("configs", read_config_references, ()),
        secrets=fields.read("secrets", read_secret_references, ()),
        deploy=fields.read("deploy", read_deploy, Deploy()),
        restart=fields.read("restart", _restart, None),
    )


def _container(value: Value, fields: Fields) -> ContainerSpec:
    default = ContainerSpec(image="")
    return ContainerSpec(
        image=_image(value, fields),
        entrypoint=fields.read("entrypoint", _command, None),
        command=fields.read("command", _command, None),
        working_dir=fields.read("working_dir", lambda field: field.parsed(shorthand.absolute_path, ""), ""),
        user=fields.read("user", Value.text, ""),
        hostname=fields.read("hostname", lambda field: field.parsed(shorthand.hostname, ""), ""),
        labels=fields.read("labels", Value.labels, ()),
        healthcheck=fields.read("healthcheck", _healthcheck, None),
        stop_signal=fields.read("stop_signal", lambda field: field.parsed(shorthand.signal, ""), ""),
        stop_grace_ns=fields.read("stop_grace_period", read_duration, default.stop_grace_ns),
    )


def _image(value: Value, fields: Fields) -> str:
    if "image" in fields:
        return fields["image"].parsed(shorthand.image, "")
    if value.is_mapping():
        is_built = "build" in value.entries()
        hint = "push what is built to a registry, and name it here" if is_built else "each service names the image that it runs"
        value.key_error("spec.image.missing", f"{value.path} has no image", hint)
    return ""


def _command(value: Value) -> tuple[str, ...] | None:
    """A command line or a list of words. An empty one means the image's own, as in the official client."""
    if value.is_empty():
        return None
    if value.is_list():
        return value.texts() or None
    words: tuple[str, ...] = ()
    return value.parsed(shorthand.command, words) or None


def _env_files(value: Value) -> tuple[Said[str], ...]:
    items = value.items() if value.is_list() else [value]
    return tuple(Said(item.path, path) for item in items if (path := item.filled_text()))


def _healthcheck(value: Value) -> Healthcheck:
    fields = value.fields(keys.HEALTHCHECK)
    test: tuple[str, ...] = ()
    test = fields.read("test", _test, test)
    if fields.read("disable", Value.boolean, False):
        if test and test != ("NONE",):
            hint = "remove one of the two"
            fields["disable"].key_error("spec.healthcheck.bad", f"{value.path} has a test, and is disabled", hint)
        test = ("NONE",)
    return Healthcheck(
        test=test,
        interval_ns=fields.read("interval", _check_duration, Duration(0)),
        timeout_ns=fields.read("timeout", _check_duration, Duration(0)),
        start_period_ns=fields.read("start_period", _check_duration, Duration(0)),
        retries=fields.read("retries", Value.integer, 0),
    )


def _test(value: Value) -> tuple[str, ...]:
    """Docker's form: a text is a line for the shell, a list says in its first word what the others are."""
    if not value.is_list():
        text = value.filled_text()
        return ("CMD-SHELL", text) if text else ()
    words = value.texts()
    if words and words[0] not in _TEST_FORMS:
        hint = f'put "CMD" before the words, or write one text for the shell: the first word is one of {", ".join(_TEST_FORMS)}'
        value.error("spec.healthcheck.bad", f'{value.path} begins with "{words[0]}"', hint)
    if words and words[0] != "NONE" and len(words) == 1:
        value.error("spec.healthcheck.bad", f"{value.path} names no command after {words[0]}")
    return words


def _check_duration(value: Value) -> Duration:
    """The engine takes no check interval below a millisecond; 0 is its default (semantics 27)."""
    duration = read_duration(value)
    if 0 < duration < MILLISECOND:
        value.error("spec.value.range", f"{value.path} must be at least 1ms", "0s means the default")
    return duration


def _restart(value: Value) -> RestartPolicy | None:
    """The short form. The official client takes `no` for "nothing said", which restarts; whoever wrote it is told."""
    policy = value.parsed(shorthand.restart, None)
    if isinstance(value.node, Scalar) and value.node.value == "no":
        hint = "write deploy.restart_policy.condition: none"
        value.warning("spec.value.ignored", f'{value.path}: "no" has no effect in a stack, tasks are restarted', hint)
    return policy


def _check_networks(value: Value) -> None:
    """A service is in the default network and in no other, for now."""
    if value.is_list():
        for item in value.items():
            _check_network_name(item.text(), item)
        return
    for name, network in value.entries().items():
        _check_network_name(name, network)
        if not network.is_empty():
            network.fields(keys.SERVICE_NETWORK)


def _check_network_name(name: str, value: Value) -> None:
    if name and name != _DEFAULT_NETWORK:
        hint = "remove it: all services of a stack reach each other in the default network"
        value.key_error("spec.network.unsupported", f'{value.path}: the network "{name}" is not supported yet', hint)
