"""Changes of the cluster's certificate authority.

Keys and secrets come sealed, and certificates made: nothing here knows cryptography. A change is made for the authority that
was seen; if another one was quicker, it is refused, and whoever asked looks again.
"""

from __future__ import annotations

import msgspec

from stackd.engine.admit.refusal import Refusal
from stackd.engine.draft import Draft
from stackd.engine.inputs import Applied, FinishRootRotation, FoundAuthority, RotateRoot, RotateToken
from stackd.engine.model import Authority
from stackd.engine.view import View


def found_authority(draft: Draft, given: FoundAuthority) -> Applied:
    """The first one that is given stays: a second `init` finds it."""
    if draft.authority is not None:
        return Applied(changed=False, version=draft.authority.version)
    draft.put(msgspec.structs.replace(given.authority, created_at=draft.now, version=draft.next_version))
    draft.event("cluster.authority", "cluster", "the certificate authority was made", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def rotate_token(draft: Draft, given: RotateToken) -> Applied:
    authority = _authority(draft, given.version)
    changed = msgspec.structs.replace(authority, sealed_secrets=given.sealed_secrets, version=draft.next_version)
    draft.put(changed)
    draft.event("cluster.token", "cluster", f"the join token of {given.role}s was replaced", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def rotate_root(draft: Draft, given: RotateRoot) -> Applied:
    """During a rotation the new aim takes the place of the one before; nodes go to it from wherever they are."""
    authority = _authority(draft, given.version)
    rotation = msgspec.structs.replace(given.rotation, started_at=draft.now)
    draft.put(msgspec.structs.replace(authority, rotation=rotation, version=draft.next_version))
    draft.event("cluster.root", "cluster", "the root certificate is being replaced", principal=given.principal)
    return Applied(changed=True, version=draft.next_version)


def finish_root_rotation(draft: Draft, given: FinishRootRotation) -> Applied:
    authority = _authority(draft, given.version)
    rotation = authority.rotation
    if rotation is None:
        return Applied(changed=False, version=authority.version)
    if behind := nodes_behind(draft):
        raise Refusal("cluster.root.rotating", f"{len(behind)} nodes still use a certificate of the old root")
    draft.put(
        msgspec.structs.replace(
            authority,
            root_pem=rotation.root_pem,
            issuer=rotation.issuer,
            sealed_key=rotation.sealed_key,
            sealed_secrets=given.sealed_secrets,
            rotation=None,
            version=draft.next_version,
        )
    )
    draft.event("cluster.root", "cluster", "every node uses the new root certificate; join tokens are new")
    return Applied(changed=True, version=draft.next_version)


def nodes_behind(view: View) -> list[str]:
    """The nodes that don't use a certificate of the newest root, in order: they hold up the end of a rotation, also those that
    are down, since the old root is all that they know (semantics 20)."""
    authority = view.authority
    if authority is None:
        return []
    newest = authority.rotation.issuer if authority.rotation is not None else authority.issuer
    certificates = ((node.id, view.node_statuses.get(node.id)) for node in view.nodes.values())
    return sorted(
        node_id
        for node_id, status in certificates
        if status is None or status.certificate is None or status.certificate.issuer != newest
    )


def _authority(draft: Draft, seen: int) -> Authority:
    authority = draft.authority
    if authority is None:
        raise Refusal("cluster.authority.missing", "the cluster has no certificates", "`stackd cluster init` makes them")
    if authority.version != seen:
        raise Refusal("cluster.authority.stale", "the certificate authority was changed by somebody else", "look again")
    return authority
