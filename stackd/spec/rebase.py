"""Makes the relative paths of a file in another folder start from the project's folder."""

from __future__ import annotations

import posixpath
from dataclasses import replace

from stackd.spec.document import FileObjectDocument, MountDocument, Said, ServiceDocument, StackDocument
from stackd.spec.mounts import is_windows_path
from stackd.spec.stack import MountType


def rebased_service(service: ServiceDocument, folder: str) -> ServiceDocument:
    """The service with its bind mounts and env files seen from `folder`'s parent; "" is the project's own folder."""
    if not folder:
        return service
    volumes = tuple(Said(said.path, _mount(said.value, folder), said.node) for said in service.volumes)
    env_file = tuple(replace(file, path=posixpath.join(folder, file.path)) for file in service.env_file)
    return replace(service, volumes=volumes, env_file=env_file)


def rebased_stack(stack: StackDocument, folder: str) -> StackDocument:
    """The stack with its configs and secrets seen from there; its services have been."""
    if not folder:
        return stack
    return replace(
        stack,
        configs={name: _file_object(config, folder) for name, config in stack.configs.items()},
        secrets={name: _file_object(secret, folder) for name, secret in stack.secrets.items()},
    )


def _mount(mount: MountDocument, folder: str) -> MountDocument:
    if mount.type != MountType.BIND or not mount.source or is_fixed(mount.source):
        return mount
    return replace(mount, source=posixpath.join(folder, mount.source))


def _file_object(item: FileObjectDocument, folder: str) -> FileObjectDocument:
    return replace(item, file=posixpath.join(folder, item.file)) if item.file else item


def is_fixed(path: str) -> bool:
    """Whether the path of a bind mount doesn't depend on where its file stands."""
    return path.startswith(("/", "~", "\\")) or is_windows_path(path) or "{{" in path[:2]
