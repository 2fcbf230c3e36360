"""Users and groups as the task's own /etc/passwd and /etc/group know them (libc's look-ups would ask the host's services)."""

from __future__ import annotations


class Person:
    """Whom a task runs as."""

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def resolve(user: str) -> Person:
    """`user`, `uid`, `user:group` or `uid:gid`; "" is root. Raises LookupError in Docker's words for an unknown name."""
    name, _, group = user.partition(":")
    name = name or "0"
    entry = _find("/etc/passwd", name)
    if entry is None and not name.isdigit():
        raise LookupError(f"unable to find user {name}: no matching entries in passwd file")
    uid = int(entry[2]) if entry else int(name)
    home = entry[5] if entry and len(entry) > 5 and entry[5] else "/"
    if group:
        return Person(uid, group_id(group), [], home)
    gid = int(entry[3]) if entry else 0
    login = entry[0] if entry else ""
    return Person(uid, gid, [int(row[2]) for row in _rows("/etc/group") if login and login in row[3].split(",")], home)


def user_id(name: str) -> int:
    """The number of a user given by number or name."""
    return int(name) if name.isdigit() else resolve(name).uid


def group_id(name: str) -> int:
    """The number of a group given by number or name; LookupError if unknown."""
    if name.isdigit():
        return int(name)
    entry = _find("/etc/group", name)
    if entry is None:
        raise LookupError(f"unable to find group {name}: no matching entries in group file")
    return int(entry[2])


def _find(path: str, name: str) -> list[str] | None:
    for row in _rows(path):
        if name in (row[0], row[2]):
            return row
    return None


def _rows(path: str) -> list[list[str]]:
    """The file's well-formed rows; none if there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            rows = [line.rstrip("\n").split(":") for line in lines]
    except OSError:
        return []
    return [row for row in rows if len(row) >= 4 and row[2].isdigit()]
