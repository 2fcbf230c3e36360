"""The bodies of a service's mounts."""

from __future__ import annotations

from stackd.spec.docker.body import Body, labels, said
from stackd.spec.document import MountDocument, Said, StackDocument
from stackd.spec.names import name_of
from stackd.spec.placed import PlacedProblems
from stackd.spec.resolve.links import Links
from stackd.spec.stack import MountType


class MountBodies:
    """Makes the bodies of one stack's mounts."""

    def __init__(self, document: StackDocument, stack: str, links: Links, problems: PlacedProblems) -> None:
        self._document = document
        self._stack = stack
        self._links = links
        self._problems = problems

    def body(self, said_mount: Said[MountDocument]) -> Body:
        mount = said_mount.value
        self._check_options(said_mount)
        common = said(
            Type=str(mount.type),
            Target=mount.target,
            Source=mount.source,
            ReadOnly=mount.read_only,
            Consistency=mount.consistency,
        )
        return common | self._own(said_mount)

    def _own(self, said_mount: Said[MountDocument]) -> Body:
        """What a mount of its type has beside the rest, its source among it."""
        mount = said_mount.value
        match mount.type:
            case MountType.VOLUME if mount.source:
                return self._volume(said_mount)
            case MountType.BIND | MountType.NPIPE:
                return self._bind(said_mount)
            case MountType.TMPFS if mount.tmpfs is not None:
                return {"TmpfsOptions": said(SizeBytes=mount.tmpfs.size, Mode=mount.tmpfs.mode)}
            case MountType.CLUSTER:
                return {"ClusterOptions": {}, "Source": self._links.mount(said_mount).source}
            case _:
                return {}

    def _bind(self, said_mount: Said[MountDocument]) -> Body:
        mount = said_mount.value
        source = self._links.host_path(said_mount) if mount.type == MountType.BIND else mount.source
        if mount.bind is None:
            return {"Source": source}
        options = said(Propagation=mount.bind.propagation, CreateMountpoint=mount.bind.create_host_path)
        return {"Source": source, "BindOptions": options}

    def _volume(self, said_mount: Said[MountDocument]) -> Body:
        mount = said_mount.value
        options = said(NoCopy=mount.volume.nocopy, Subpath=mount.volume.subpath) if mount.volume else {}
        if not self._links.is_defined("volume", mount.source, self._document.volumes, said_mount):
            return {}
        volume = self._document.volumes[mount.source]
        if not volume.external:
            options["Labels"] = labels(self._stack, volume.labels)
            driver = said(Name=volume.driver, Options=volume.driver_opts or None)
            options |= {"DriverConfig": driver} if driver else {}
        return {"Source": name_of(self._stack, mount.source, volume), "VolumeOptions": options}

    def _check_options(self, said_mount: Said[MountDocument]) -> None:
        """What the official client refuses: a type that there isn't, a source or options that don't go with it."""
        mount = said_mount.value
        if mount.type not in list(MountType):
            message = f'{said_mount.path}: "{mount.type}" is no type of mount'
            self._problems.error_at("spec.value.choice", message, said_mount, f"it is one of {', '.join(MountType)}")
        if mount.type == MountType.TMPFS and mount.source:
            message = f"{said_mount.path}: a tmpfs has no source"
            self._problems.error_at("spec.mount.options", message, said_mount, "remove source")
        if mount.type in (MountType.CLUSTER, MountType.NPIPE, MountType.IMAGE) and not mount.source:
            message = f"{said_mount.path}: a mount of type {mount.type} needs a source"
            self._problems.error_at("spec.mount.bad", message, said_mount)
        own = MountType.BIND if mount.type == MountType.NPIPE else mount.type
        for section in (MountType.BIND, MountType.VOLUME, MountType.TMPFS):
            if getattr(mount, section) is not None and section != own:
                message = f"{said_mount.path}: {section} options are incompatible with type {mount.type}"
                self._problems.error_at("spec.mount.options", message, said_mount, "remove them, or change the type")
