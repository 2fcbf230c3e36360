"""Admission: what inputs change before the stages look at the result.

A command is carried out completely or refused with a sentence, having changed nothing. Reports of nodes never fail: what is
late, foreign or unknown in them is ignored.
"""

from __future__ import annotations

from typing import assert_never

from stackd.engine.admit.authority import finish_root_rotation, found_authority, rotate_root, rotate_token
from stackd.engine.admit.cluster import put_user, remove_user, update_cluster
from stackd.engine.admit.deploy import deploy_revision, remove_stack, stage_content
from stackd.engine.admit.membership import admit_node, leave_cluster, report_managers, update_node
from stackd.engine.admit.nodes import lose_sight, register_node, remove_node, report_node, report_tasks
from stackd.engine.admit.objects import create_file, create_network, remove_object
from stackd.engine.admit.refusal import Refusal
from stackd.engine.admit.services import force_update, remove_service, rollback_service, scale_service, set_spec
from stackd.engine.admit.sources import put_source, report_source
from stackd.engine.dirty import UNFILLED, Dirty
from stackd.engine.draft import Draft
from stackd.engine.inputs import (
    AdmitNode,
    Applied,
    CreateFile,
    CreateNetwork,
    DeployRevision,
    FinishRootRotation,
    ForceUpdate,
    FoundAuthority,
    FullPass,
    Input,
    LeaveCluster,
    PutSource,
    PutUser,
    RegisterNode,
    Rejected,
    RemoveNode,
    RemoveObject,
    RemoveService,
    RemoveStack,
    RemoveUser,
    Reply,
    ReportManagers,
    ReportNode,
    ReportSource,
    ReportTasks,
    RollbackService,
    RotateRoot,
    RotateToken,
    ScaleService,
    SetAvailability,
    SetSpec,
    StageContent,
    UpdateCluster,
    UpdateNode,
    Wake,
)
from stackd.engine.model import Cluster
from stackd.engine.rollout import grant_time

__all__ = ["admit"]


def admit(draft: Draft, dirty: Dirty, given: Input) -> Reply:
    """Write what the input says to the draft and mark where to look; a refusal leaves no trace, nor does a fault of ours."""
    savepoint = draft.savepoint()
    try:
        return _dispatch(draft, dirty, given)
    except Refusal as refusal:
        draft.rollback(savepoint)
        return refusal.reply
    except Exception as error:  # one input must not stop all others
        draft.rollback(savepoint)
        return Rejected(code="engine.fault", message=f"stackd failed to decide on this: {type(error).__name__}: {error}")


def _dispatch(draft: Draft, dirty: Dirty, given: Input) -> Applied:
    match given:
        case ReportTasks():
            return report_tasks(draft, dirty, given)
        case Wake():
            if given.whole:
                dirty.mark(given.services)
            else:
                dirty.mark_due(given.services)
            for service in given.unfilled:
                dirty.mark_slot(service, UNFILLED)
            return Applied(changed=False)
        case FullPass():
            return _full_pass(draft, dirty, given)
        case StageContent():
            return stage_content(draft, given)
        case DeployRevision():
            return deploy_revision(draft, dirty, given)
        case RemoveStack():
            return remove_stack(draft, dirty, given)
        case ScaleService():
            return scale_service(draft, dirty, given)
        case ForceUpdate():
            return force_update(draft, dirty, given)
        case SetSpec():
            return set_spec(draft, dirty, given)
        case RollbackService():
            return rollback_service(draft, dirty, given)
        case RemoveService():
            return remove_service(draft, dirty, given)
        case RegisterNode():
            return register_node(draft, dirty, given)
        case ReportNode():
            return report_node(draft, dirty, given)
        case SetAvailability():
            return update_node(
                draft, dirty, UpdateNode(id=given.id, availability=given.availability, principal=given.principal)
            )
        case RemoveNode():
            return remove_node(draft, dirty, given)
        case AdmitNode():
            return admit_node(draft, given)
        case UpdateNode():
            return update_node(draft, dirty, given)
        case LeaveCluster():
            return leave_cluster(draft, dirty, given)
        case ReportManagers():
            return report_managers(draft, dirty, given)
        case FoundAuthority():
            return found_authority(draft, given)
        case RotateToken():
            return rotate_token(draft, given)
        case RotateRoot():
            return rotate_root(draft, given)
        case FinishRootRotation():
            return finish_root_rotation(draft, given)
        case PutUser():
            return put_user(draft, given)
        case RemoveUser():
            return remove_user(draft, given)
        case UpdateCluster():
            return update_cluster(draft, dirty, given)
        case CreateNetwork():
            return create_network(draft, dirty, given)
        case CreateFile():
            return create_file(draft, given)
        case RemoveObject():
            return remove_object(draft, dirty, given)
        case PutSource():
            return put_source(draft, given)
        case ReportSource():
            return report_source(draft, given)
        case other:
            assert_never(other)


def _full_pass(draft: Draft, dirty: Dirty, given: FullPass) -> Applied:
    """A new leader looks at everything, of which it has seen nothing yet; the first of all also makes the cluster's own
    record."""
    dirty.mark_all(draft)
    lose_sight(draft)
    grant_time(draft)
    if draft.cluster is not None:
        return Applied(changed=False)
    draft.put(Cluster(id=given.cluster_id or draft.new_id(), created_at=draft.now))
    return Applied(changed=True, version=draft.next_version)
