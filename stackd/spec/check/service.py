"""Checks one service: settings that exclude each other, and what a task could not be given."""

from __future__ import annotations

from stackd.base.errors import StackdError
from stackd.base.time import MILLISECOND
from stackd.spec import constraints, mounts, templating
from stackd.spec.check.template import check_template
from stackd.spec.constraints import Attribute
from stackd.spec.document import BuildDocument, HealthcheckDocument, PlacementDocument, Said, ServiceDocument
from stackd.spec.placed import PlacedProblems
from stackd.spec.resolve.deploy import GLOBAL_MODES, JOB_MODES, limits_of, mode_of, reservations_of, settings_of
from stackd.spec.resolve.links import SECRETS_FOLDER
from stackd.spec.stack import ServiceMode, UpdateOrder


def check_service(service: ServiceDocument, problems: PlacedProblems) -> None:
    checker = _Checker(service, problems)
    checker.check_image()
    checker.check_mode()
    checker.check_update()
    checker.check_room()
    checker.check_resources()
    if service.healthcheck is not None:
        checker.check_healthcheck(service.healthcheck)
    checker.check_targets()
    checker.check_templates()


class _Checker:
    def __init__(self, service: ServiceDocument, problems: PlacedProblems) -> None:
        self._service = service
        self._problems = problems
        self._path = service.path

    def check_image(self) -> None:
        if not self._service.image:
            is_built = self._service.build != BuildDocument()
            hint = (
                "push what is built to a registry, and name it here"
                if is_built
                else "each service names the image that it runs"
            )
            self._problems.key_error("spec.image.missing", f"{self._path} has no image", self._path, hint)

    def check_mode(self) -> None:
        deploy, mode = self._service.deploy, mode_of(self._service)
        if mode in GLOBAL_MODES and deploy.replicas is not None:
            hint = f"it has one task on each node; remove replicas, or mode: {mode}"
            message = f"replicas can't be given for a {mode.replace('-', ' ')} service"
            self._problems.key_error("spec.deploy.mode", message, f"{self._path}.deploy.replicas", hint)
        for name in ("update_config", "rollback_config"):
            if mode in JOB_MODES and getattr(deploy, name) is not None:
                path = f"{self._path}.deploy.{name}"
                message = f"{path} has no effect: a job isn't updated, it runs again"
                self._problems.key_warning("spec.key.ignored", message, path, "remove it")

    def check_update(self) -> None:
        """Warns of an update that stops all tasks at once, which nobody means who asked for several."""
        settings = settings_of(self._service)
        said = self._service.deploy.update_config
        if said is None or said.parallelism is None or settings.update.order is UpdateOrder.START_FIRST:
            return
        at_once = said.parallelism or settings.replicas
        if 1 < settings.replicas <= at_once and mode_of(self._service) not in JOB_MODES:
            path = f"{self._path}.deploy.update_config.parallelism"
            message = f"{path}: an update stops all {settings.replicas} tasks at once"
            hint = f"use at most {settings.replicas - 1}, or order: start-first"
            self._problems.warning("spec.update.outage", message, path, hint)

    def check_room(self) -> None:
        """Warns where the one node that the constraints name is full, for whatever starts first finds no place there."""
        placement, settings = self._service.deploy.placement, settings_of(self._service)
        room, path = placement.max_replicas_per_node, f"{self._path}.deploy"
        if not room or mode_of(self._service) is not ServiceMode.REPLICATED or not _is_pinned(placement):
            return
        if settings.replicas > room:
            message = f"{path}: {settings.replicas} tasks don't fit on the one node that the constraints name; it takes {room}"
            self._problems.warning("spec.placement.room", message, f"{path}.replicas", "raise max_replicas_per_node")
        elif settings.replicas == room and settings.update.order is UpdateOrder.START_FIRST:
            message = f"{path}: a new task doesn't fit beside the old ones on the one node that the constraints name"
            hint = "use order: stop-first, or raise max_replicas_per_node"
            self._problems.warning("spec.placement.room", message, f"{path}.update_config.order", hint)

    def check_resources(self) -> None:
        limits, reserved = limits_of(self._service), reservations_of(self._service)
        path = f"{self._path}.deploy.resources"
        for name, limit, amount in (
            ("cpus", limits.nano_cpus, reserved.nano_cpus),
            ("memory", limits.memory_bytes, reserved.memory_bytes),
        ):
            if limit and amount > limit:
                message = f"{path} reserves more {name} than its limit allows to use"
                self._problems.key_error("spec.resources.exceeded", message, path, "raise the limit or lower the reservation")
        said = self._service.deploy.resources.limits
        if said is not None and said.pids and self._service.pids_limit not in (0, said.pids):
            message = f"{self._path}.pids_limit and {path}.limits.pids say different things"
            self._problems.error("spec.resources.conflict", message, f"{self._path}.pids_limit", "keep one of them")

    def check_healthcheck(self, said: HealthcheckDocument) -> None:
        """The engine takes no times of a check below a millisecond; 0 is its default (semantics 27)."""
        path = f"{self._path}.healthcheck"
        if said.disable and said.test and said.test != ("NONE",):
            message = f"{path} has a test, and is disabled"
            self._problems.key_error("spec.healthcheck.bad", message, f"{path}.disable", "remove one of the two")
        for name in ("interval", "timeout", "start_period", "start_interval"):
            if 0 < (getattr(said, name) or 0) < MILLISECOND:
                at = f"{path}.{name}"
                self._problems.error("spec.value.range", f"{at} must be at least 1ms", at, "0s means the default")

    def check_targets(self) -> None:
        """No two mounts, configs or secrets stand at one place inside of the task."""
        seen: dict[str, str] = {}
        for said, target in self._placed():
            if target in seen:
                message = f"{said.path}: {target} is already taken by {seen[target]}"
                self._problems.error_at("spec.mount.duplicate", message, said, "use another target")
            seen.setdefault(target, said.path)

    def _placed(self) -> list[tuple[Said[object], str]]:
        service = self._service
        named: list[tuple[Said[object], str]] = [(said, said.value.target) for said in service.volumes]
        named += [(said, _beneath("/", said.value.target or said.value.source)) for said in service.configs]
        named += [(said, _beneath(SECRETS_FOLDER, said.value.target or said.value.source)) for said in service.secrets]
        placed = [(said, normal) for said, target in named if (normal := _normal(target))]
        taken = {target for _, target in placed}
        for index, text in enumerate(service.tmpfs):
            path = f"{self._path}.tmpfs.{index}"
            if (target := _normal(text.partition(":")[0])) in taken and target:
                self._problems.error("spec.mount.duplicate", f"{path}: {target} is already taken", path, "use another target")
        return placed

    def check_templates(self) -> None:
        """Templates may stand in values of the environment, in the host's name and in mounts (semantics 25)."""
        settings = [(f"{self._path}.hostname", self._service.hostname)]
        settings += [(f"{self._path}.environment.{name}", value or "") for name, value in self._service.environment.items()]
        for path, text in settings:
            check_template(text, path, self._problems)
        for said in self._service.volumes:
            try:
                templating.check_setting(said.value.source)
                templating.check_setting(said.value.target)
            except StackdError as error:
                self._problems.error_at(error.code, f"{said.path}: {error.message}", said, error.hint)


def _is_pinned(placement: PlacementDocument) -> bool:
    """Whether the constraints leave no more than one node."""
    pinning = (f"{Attribute.NODE_ID} == ", f"{Attribute.HOSTNAME} == ")
    return any(constraints.canonical(text).startswith(pinning) for text in placement.constraints)


def _beneath(folder: str, target: str) -> str:
    return target if target.startswith("/") else f"{folder}/{target}"


def _normal(target: str) -> str:
    """The target in one spelling; "" where it can't be one, which was reported where it was read."""
    try:
        return mounts.mount_target(target)
    except StackdError:
        return ""
