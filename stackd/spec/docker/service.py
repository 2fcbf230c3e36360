"""The body of a service."""

from __future__ import annotations

from collections.abc import Callable

from stackd.base.errors import StackdError
from stackd.spec import shorthand
from stackd.spec.docker.body import IMAGE_LABEL, Body, labels, said
from stackd.spec.docker.mounts import MountBodies
from stackd.spec.document import (
    AmountsDocument,
    AttachmentDocument,
    CredentialDocument,
    HealthcheckDocument,
    PortDocument,
    ReferenceDocument,
    Said,
    ServiceDocument,
    StackDocument,
    UpdateDocument,
)
from stackd.spec.names import PREDEFINED_NETWORKS, name_of, scoped
from stackd.spec.placed import PlacedProblems
from stackd.spec.resolve.container import effective_capabilities, environment_of, hosts_of
from stackd.spec.resolve.links import Links, networks_of
from stackd.spec.stack import ServiceMode
from stackd.spec.surroundings import Surroundings


class ServiceBodies:
    """Makes the bodies of one stack's services."""

    def __init__(self, document: StackDocument, stack: str, around: Surroundings, problems: PlacedProblems) -> None:
        self._document = document
        self._stack = stack
        self._problems = problems
        self._links = Links(document, stack, around.files.directory, around.environment, problems)
        self._mounts = MountBodies(document, stack, self._links, problems)

    def body(self, service: ServiceDocument) -> Body:
        deploy = service.deploy
        return said(
            Name=scoped(self._stack, service.name),
            Labels=labels(self._stack, {**deploy.labels, IMAGE_LABEL: service.image}),
            TaskTemplate=self._task(service),
            Mode=self._mode(service),
            UpdateConfig=_update(deploy.update_config),
            RollbackConfig=_update(deploy.rollback_config),
            EndpointSpec=said(Mode=deploy.endpoint_mode.lower(), Ports=[_port(port.value) for port in service.ports]),
        )

    def _mode(self, service: ServiceDocument) -> Body:
        mode, replicas = service.deploy.mode or ServiceMode.REPLICATED, service.deploy.replicas
        path = f"{service.path}.deploy.mode"
        if mode not in list(ServiceMode):
            message = f'{path} must be one of {", ".join(ServiceMode)}; it is "{mode}"'
            self._problems.error("spec.value.choice", message, path)
        if mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB) and replicas is not None:
            message = f"replicas can't be given for a {mode} service"
            self._problems.error("spec.deploy.mode", message, path)
        counts = None if replicas is None else replicas
        match mode:
            case ServiceMode.GLOBAL:
                return {"Global": {}}
            case ServiceMode.GLOBAL_JOB:
                return {"GlobalJob": {}}
            case ServiceMode.REPLICATED_JOB:
                return {"ReplicatedJob": {} if counts is None else {"MaxConcurrent": counts, "TotalCompletions": counts}}
            case _:
                return {"Replicated": {} if counts is None else {"Replicas": counts}}

    def _task(self, service: ServiceDocument) -> Body:
        placement = service.deploy.placement
        preferences = [{"Spread": {"SpreadDescriptor": one.spread}} for one in placement.preferences]
        logging = service.logging
        return said(
            ContainerSpec=self._container(service),
            Resources=self._resources(service),
            RestartPolicy=self._restart(service),
            Placement=said(
                Constraints=list(placement.constraints), Preferences=preferences, MaxReplicas=placement.max_replicas_per_node
            ),
            Networks=[body for key, one in networks_of(service).items() if (body := self._network(service, key, one))],
            LogDriver=None if logging is None else said(Name=logging.driver, Options=logging.options or None),
        )

    def _container(self, service: ServiceDocument) -> Body:
        cap_add, cap_drop = effective_capabilities(service.cap_add, service.cap_drop)
        grace = service.stop_grace_period
        container = said(
            Image=self._image(service),
            Command=list(service.entrypoint),
            Args=list(service.command),
            Hostname=service.hostname,
            Hosts=list(hosts_of(service.extra_hosts)),
            DNSConfig=said(Nameservers=list(service.dns), Search=list(service.dns_search), Options=list(service.dns_opt))
            or None,
            Healthcheck=self._healthcheck(service.healthcheck, service.path),
            Env=list(environment_of(service)),
            Labels=labels(self._stack, service.labels),
            Dir=service.working_dir,
            User=service.user,
            Groups=list(service.group_add),
            Mounts=[self._mounts.body(mount) for mount in service.volumes],
            StopSignal=service.stop_signal,
            TTY=service.tty,
            OpenStdin=service.stdin_open,
            ReadOnly=service.read_only,
            Secrets=self._references("secret", service.secrets),
            Configs=[*self._references("config", service.configs), *self._runtime_configs(service)],
            Privileges=self._privileges(service),
            Isolation=service.isolation,
            Sysctls=service.sysctls or None,
            CapabilityAdd=list(cap_add),
            CapabilityDrop=list(cap_drop),
            Ulimits=[
                {"Name": name, "Soft": limit.single or limit.soft, "Hard": limit.single or limit.hard}
                for name, limit in sorted(service.ulimits.items())
            ],
            OomScoreAdj=service.oom_score_adj,
        )
        # These two are told apart from an absent field when they are zero or false.
        if grace is not None:
            container["StopGracePeriod"] = grace
        if service.init is not None:
            container["Init"] = service.init
        return container

    def _image(self, service: ServiceDocument) -> str:
        """The image with the tag that one without a tag means."""
        path = f"{service.path}.image"
        if not service.image:
            self._problems.key_error("spec.image.missing", f"{service.path} has no image", service.path)
            return ""
        self._check(shorthand.image, service.image, path)
        return shorthand.understood(shorthand.image_with_tag, service.image, service.image)

    def _healthcheck(self, check: HealthcheckDocument | None, path: str) -> Body | None:
        if check is None:
            return None
        if check.disable:
            if check.test:
                message = f"{path}.healthcheck has a test, and is disabled"
                self._problems.key_error("spec.healthcheck.bad", message, f"{path}.healthcheck.disable")
            return {"Test": ["NONE"]}
        return said(
            Test=list(check.test),
            Interval=check.interval,
            Timeout=check.timeout,
            StartPeriod=check.start_period,
            StartInterval=check.start_interval,
            Retries=check.retries,
        )

    def _network(self, service: ServiceDocument, key: str, written: AttachmentDocument | None) -> Body | None:
        found = self._links.attachment(service, key, written)
        if found is None:
            return None
        aliases = list(written.aliases) if written else []
        if found.network not in PREDEFINED_NETWORKS:
            aliases.append(service.name)
        return said(Target=found.network, Aliases=aliases, DriverOpts=dict(found.driver_options) or None)

    def _references(self, kind: str, references: tuple[Said[ReferenceDocument], ...]) -> list[Body]:
        """Files made of configs or secrets, sorted by the object's name."""
        known = self._document.secrets if kind == "secret" else self._document.configs
        found: list[Body] = []
        targets: set[str] = set()
        for item in references:
            reference = item.value
            if not self._links.is_defined(kind, reference.source, known, item):
                continue
            name = name_of(self._stack, reference.source, known[reference.source])
            file = {
                "Name": reference.target or reference.source,
                "UID": reference.uid or "0",
                "GID": reference.gid or "0",
                "Mode": 0o444 if reference.mode is None else reference.mode,
            }
            if file["Name"] in targets:
                message = f"{item.path}: {file['Name']} is already taken"
                self._problems.error_at("spec.mount.duplicate", message, item, "use another target")
            targets.add(str(file["Name"]))
            title = kind.capitalize()
            found.append({"File": file, f"{title}ID": name, f"{title}Name": name})
        return sorted(found, key=lambda body: str(body[f"{kind.capitalize()}Name"]))

    def _runtime_configs(self, service: ServiceDocument) -> list[Body]:
        """The config of a credential spec, which is no file in the task."""
        credentials = self._links.credentials(service)
        if credentials is None or not credentials.config:
            return []
        return [{"ConfigID": credentials.config, "ConfigName": credentials.config, "Runtime": {}}]

    def _privileges(self, service: ServiceDocument) -> Body:
        """Always sent, with all of its fields."""
        credentials = None
        found = self._links.credentials(service) if service.credential_spec != CredentialDocument() else None
        if found is not None:
            credentials = {"Config": found.config, "File": found.file, "Registry": found.registry}
        return {"CredentialSpec": credentials, "SELinuxContext": None, "NoNewPrivileges": False}

    def _resources(self, service: ServiceDocument) -> Body:
        resources = service.deploy.resources
        for name in ("limits", "reservations"):
            amounts = getattr(resources, name)
            if amounts is not None and amounts.cpus:
                self._check(shorthand.nano_cpus, amounts.cpus, f"{service.path}.deploy.resources.{name}.cpus")
        limits = None if resources.limits is None else _amounts(resources.limits)
        if service.pids_limit:
            limits = {"Pids": service.pids_limit, **(limits or {})}
        reserved = None if resources.reservations is None else _amounts(resources.reservations)
        return said(Limits=limits, Reservations=reserved)

    def _check(self, parse: Callable[[str], object], text: str, path: str) -> None:
        """Reports a text that can't be sent, because there is no value for it."""
        try:
            parse(text)
        except StackdError as error:
            self._problems.error(error.code, f"{path}: {error.message}", path, error.hint)

    def _restart(self, service: ServiceDocument) -> Body | None:
        policy = service.deploy.restart_policy
        if policy is not None:
            body = said(Condition=policy.condition)
            for name, value in (("Delay", policy.delay), ("MaxAttempts", policy.max_attempts), ("Window", policy.window)):
                if value is not None:
                    body[name] = value
            return body
        self._check(shorthand.restart, service.restart, f"{service.path}.restart")
        short = shorthand.understood(shorthand.restart, service.restart, None)
        return None if short is None else said(Condition=str(short.condition), MaxAttempts=short.max_attempts)


def _port(port: PortDocument) -> Body:
    return said(Protocol=str(port.protocol), TargetPort=port.target, PublishedPort=port.published, PublishMode=str(port.mode))


def _update(update: UpdateDocument | None) -> Body | None:
    if update is None:
        return None
    body = said(
        Delay=update.delay,
        FailureAction=update.failure_action,
        Monitor=update.monitor,
        MaxFailureRatio=_number(update.max_failure_ratio),
        Order=update.order,
    )
    return {**body, "Parallelism": 1 if update.parallelism is None else update.parallelism}


def _number(value: float) -> float | int:
    """A number as JSON writes it best."""
    return int(value) if value.is_integer() else value


def _amounts(amounts: AmountsDocument) -> Body:
    named = [one.discrete_resource_spec for one in amounts.generic_resources]
    return said(
        NanoCPUs=shorthand.understood(shorthand.nano_cpus, amounts.cpus, 0),
        MemoryBytes=amounts.memory,
        Pids=amounts.pids,
        GenericResources=[{"DiscreteResourceSpec": said(Kind=one.kind, Value=one.value)} for one in named if one is not None],
    )
