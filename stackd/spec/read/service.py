"""Reads one service: every key that it may have, in its long form."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stackd.base.errors import StackdError
from stackd.spec import shorthand
from stackd.spec.document import (
    AttachmentDocument,
    BuildDocument,
    CredentialDocument,
    DependencyDocument,
    DeployDocument,
    EnvFileDocument,
    Extension,
    Said,
    ServiceDocument,
)
from stackd.spec.nodes import Scalar, shortened
from stackd.spec.read import keys
from stackd.spec.read.amounts import duration
from stackd.spec.read.container import (
    read_credentials,
    read_devices,
    read_healthcheck,
    read_hosts,
    read_logging,
    read_name_servers,
    read_shm_size,
    read_ulimits,
)
from stackd.spec.read.deploy import read_deploy
from stackd.spec.read.environment import read_environment
from stackd.spec.read.extension import read_service_extension
from stackd.spec.read.mounts import read_mounts, read_references
from stackd.spec.read.ports import read_ports
from stackd.spec.read.value import EXTENSION, Fields, Value
from stackd.spec.stack import DependencyCondition

_PULL_POLICIES = ("always", "missing", "never", "if_not_present")
_ISOLATIONS = ("default", "process", "hyperv")
_PROFILE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Base:
    """The service that another one extends; `file` "" is the file itself."""

    service: str
    file: str = ""


@dataclass(frozen=True, slots=True)
class WrittenService:
    """A service as one file writes it: before its env files are read and its base is looked up."""

    document: ServiceDocument
    env_files: tuple[Said[EnvFileDocument], ...] = ()
    base: Said[Base] | None = None


def read_service(name: str, value: Value) -> WrittenService:
    fields = value.fields(keys.SERVICE)
    return WrittenService(
        document=_service(name, value, fields),
        env_files=fields.read("env_file", _env_files, ()),
        base=fields.read("extends", _base, None),
    )


def _service(name: str, value: Value, fields: Fields) -> ServiceDocument:
    return ServiceDocument(
        name=name,
        path=value.path,
        build=fields.read("build", _build, BuildDocument()),
        cap_add=fields.read("cap_add", _capabilities, ()),
        cap_drop=fields.read("cap_drop", _capabilities, ()),
        cgroup_parent=fields.read("cgroup_parent", Value.text, ""),
        cgroupns_mode=fields.read("cgroupns_mode", Value.text, ""),
        command=fields.read("command", _command, ()),
        configs=fields.read("configs", read_references, ()),
        container_name=fields.read("container_name", Value.text, ""),
        credential_spec=fields.read("credential_spec", read_credentials, CredentialDocument()),
        depends_on=fields.read("depends_on", _dependencies, {}),
        deploy=fields.read("deploy", read_deploy, DeployDocument()),
        devices=fields.read("devices", read_devices, ()),
        dns=fields.read("dns", read_name_servers, ()),
        dns_opt=fields.read("dns_opt", Value.distinct_texts, ()),
        dns_search=fields.read("dns_search", Value.text_or_texts, ()),
        domainname=fields.read("domainname", Value.text, ""),
        entrypoint=fields.read("entrypoint", _command, ()),
        environment=fields.read("environment", read_environment, {}),
        expose=fields.read("expose", _scalars, ()),
        external_links=fields.read("external_links", Value.distinct_texts, ()),
        extra_hosts=fields.read("extra_hosts", read_hosts, ()),
        group_add=fields.read("group_add", _scalars, ()),
        healthcheck=fields.read("healthcheck", read_healthcheck, None),
        hostname=fields.read("hostname", lambda field: field.sound_text(shorthand.hostname), ""),
        image=fields.read("image", lambda field: field.sound_text(shorthand.image), ""),
        init=fields.read("init", Value.boolean, None),
        ipc=fields.read("ipc", Value.text, ""),
        isolation=fields.read("isolation", lambda field: field.choice(_ISOLATIONS), ""),
        labels=fields.read("labels", Value.labels, {}),
        links=fields.read("links", Value.distinct_texts, ()),
        logging=fields.read("logging", read_logging, None),
        mac_address=fields.read("mac_address", Value.text, ""),
        network_mode=fields.read("network_mode", Value.text, ""),
        networks=fields.read("networks", _networks, {}),
        oom_score_adj=fields.read("oom_score_adj", lambda field: field.integer(-1000, 1000), 0),
        pid=fields.read("pid", lambda field: "" if field.is_empty() else field.text(), ""),
        pids_limit=fields.read("pids_limit", lambda field: field.integer(-1), 0),
        platform=fields.read("platform", lambda field: field.sound_text(shorthand.platform), ""),
        ports=fields.read("ports", read_ports, ()),
        privileged=fields.read("privileged", Value.boolean, None),
        profiles=fields.read("profiles", _profiles, ()),
        pull_policy=fields.read("pull_policy", _pull_policy, ""),
        read_only=fields.read("read_only", Value.boolean, None),
        restart=fields.read("restart", _restart, ""),
        runtime=fields.read("runtime", Value.text, ""),
        secrets=fields.read("secrets", read_references, ()),
        security_opt=fields.read("security_opt", Value.distinct_texts, ()),
        shm_size=fields.read("shm_size", read_shm_size, ""),
        stdin_open=fields.read("stdin_open", Value.boolean, None),
        stop_grace_period=fields.read("stop_grace_period", duration, None),
        stop_signal=fields.read("stop_signal", lambda field: field.sound_text(shorthand.signal), ""),
        sysctls=fields.read("sysctls", Value.labels, {}),
        tmpfs=fields.read("tmpfs", _tmpfs, ()),
        tty=fields.read("tty", Value.boolean, None),
        ulimits=fields.read("ulimits", read_ulimits, {}),
        user=fields.read("user", Value.text, ""),
        userns_mode=fields.read("userns_mode", Value.text, ""),
        volumes=fields.read("volumes", read_mounts, ()),
        working_dir=fields.read("working_dir", lambda field: field.sound_text(shorthand.absolute_path), ""),
        extension=fields.read(EXTENSION, read_service_extension, Extension()),
        extras={name: said for name, said in fields.extras().items() if name != EXTENSION},
    )


def _command(value: Value) -> tuple[str, ...]:
    """A command line or a list of words. An empty one means the image's own, as in the official client."""
    if value.is_empty():
        return ()
    if value.is_list():
        return value.texts()
    words: tuple[str, ...] = ()
    return value.parsed(shorthand.command, words)


def _env_files(value: Value) -> tuple[Said[EnvFileDocument], ...]:
    items = value.distinct_items() if value.is_list() else [value]
    found = [Said(item.path, _env_file(item), item.node) for item in items]
    return tuple(said for said in found if said.value.path)


def _env_file(value: Value) -> EnvFileDocument:
    if not value.is_mapping():
        return EnvFileDocument(path=value.filled_text())
    fields = value.fields(keys.ENV_FILE)
    if "path" not in fields:
        value.error("spec.value.form", f"{value.path} has no path", "path is the file with the variables")
    fields.read("format", lambda field: field.choice(("raw",)), "")
    return EnvFileDocument(
        path=fields.read("path", Value.filled_text, ""), required=fields.read("required", Value.boolean, True)
    )


def _base(value: Value) -> Said[Base] | None:
    if not value.is_mapping():
        name = value.filled_text()
        return Said(value.path, Base(name), value.node) if name else None
    fields = value.fields(keys.EXTENDS)
    if "service" not in fields:
        value.error("spec.extends.bad", f"{value.path} names no service", "write service: NAME")
    base = Base(fields.read("service", Value.filled_text, ""), fields.read("file", Value.filled_text, ""))
    return Said(value.path, base, value.node) if base.service else None


def _build(value: Value) -> BuildDocument:
    """What is shown of the section, which is another program's; what it has besides is not looked at."""
    if not value.is_mapping():
        return BuildDocument(context=value.text())
    fields = Fields({name: field for name, field in value.entries().items() if name in keys.BUILD})
    return BuildDocument(
        context=fields.read("context", Value.text, ""),
        dockerfile=fields.read("dockerfile", Value.text, ""),
        args=fields.read("args", Value.text_pairs, {}),
        labels=fields.read("labels", Value.labels, {}),
        cache_from=fields.read("cache_from", Value.texts, ()),
        extra_hosts=fields.read("extra_hosts", read_hosts, ()),
        network=fields.read("network", Value.text, ""),
        target=fields.read("target", Value.text, ""),
    )


def _capabilities(value: Value) -> tuple[str, ...]:
    return tuple(item.sound_text(shorthand.capability) for item in value.distinct_items())


def _scalars(value: Value) -> tuple[str, ...]:
    """A list of texts or numbers."""
    items = value.distinct_items()
    for item in items:
        if item.is_empty():
            item.expected("text or a number", "give it a value, or remove the line")
    return tuple(text for item in items if (text := item.scalar_text()) is not None)


def _dependencies(value: Value) -> dict[str, DependencyDocument | None]:
    if value.is_list():
        return dict.fromkeys(value.distinct_texts(), None)
    return {name: _dependency(item) for name, item in value.entries().items()}


def _dependency(value: Value) -> DependencyDocument:
    fields = value.fields(keys.DEPENDENCY)
    if "condition" not in fields:
        hint = f"it is one of {', '.join(DependencyCondition)}"
        value.meaning_error("spec.dependency.bad", f"{value.path} has no condition", hint)
    return DependencyDocument(
        condition=fields.read("condition", lambda field: field.choice(DependencyCondition), ""),
        required=fields.read("required", Value.boolean, True),
    )


def _networks(value: Value) -> dict[str, AttachmentDocument | None]:
    if value.is_list():
        return dict.fromkeys(value.distinct_texts(), None)
    return {name: None if item.is_empty() else _attachment(item) for name, item in value.entries().items()}


def _attachment(value: Value) -> AttachmentDocument:
    fields = value.fields(keys.SERVICE_NETWORK)
    return AttachmentDocument(
        aliases=fields.read("aliases", Value.distinct_texts, ()),
        driver_opts=fields.read("driver_opts", Value.options, {}),
        ipv4_address=fields.read("ipv4_address", Value.text, ""),
        ipv6_address=fields.read("ipv6_address", Value.text, ""),
    )


def _profiles(value: Value) -> tuple[str, ...]:
    return tuple(item.sound_text(_profile) for item in value.items())


def _profile(text: str) -> str:
    if _PROFILE.fullmatch(text):
        return text
    hint = "use letters, digits, - _ and ."
    raise StackdError("spec.name.bad", f'"{shortened(text)}" can\'t name a profile', hint=hint)


def _pull_policy(value: Value) -> str:
    """One of Compose's words; `build` builds nothing here, and `daily` and the like are times at which nobody pulls."""
    return value.choice(_PULL_POLICIES)


def _restart(value: Value) -> str:
    """The short form. The official client takes `no` for "nothing said", which restarts; whoever wrote it is told."""
    text = value.sound_text(shorthand.restart)
    if isinstance(value.node, Scalar) and value.node.value == "no":
        hint = "write deploy.restart_policy.condition: none"
        value.warning("spec.value.ignored", f'{value.path}: "no" has no effect in a stack, tasks are restarted', hint)
    return text


def _tmpfs(value: Value) -> tuple[str, ...]:
    """Folders in memory, as `PATH[:OPTIONS]`."""
    items = value.distinct_items() if value.is_list() else [value]
    return tuple(item.sound_text(shorthand.tmpfs) for item in items)
