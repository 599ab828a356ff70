"""The VMM_DRIVER_ACTION_DATA document that drivers get on stdin."""

import base64
import copy
from dataclasses import dataclass

from lxml import etree

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element, node


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFields:
    """The scalar fields, in the order of the document. Paths and commands may be empty."""

    host: str
    migr_host: str = ""
    deploy_id: str = ""
    local_deployment_file: str = ""
    remote_deployment_file: str = ""
    checkpoint_file: str = ""
    tm_command: str = ""
    tm_command_rollback: str = ""
    disk_target_path: str = ""


def action_document(fields: ActionFields, vm: Element, datastore: Element | None) -> str:
    """The document as text without white space. *vm* keeps only its last history record."""
    root = node(
        "VMM_DRIVER_ACTION_DATA",
        None,
        node("HOST", fields.host),
        _plain("MIGR_HOST", fields.migr_host),
        _plain("DEPLOY_ID", fields.deploy_id),
        _plain("LOCAL_DEPLOYMENT_FILE", fields.local_deployment_file),
        _plain("REMOTE_DEPLOYMENT_FILE", fields.remote_deployment_file),
        _plain("CHECKPOINT_FILE", fields.checkpoint_file),
        _command("TM_COMMAND", fields.tm_command),
        _command("TM_COMMAND_ROLLBACK", fields.tm_command_rollback),
        _plain("DISK_TARGET_PATH", fields.disk_target_path),
        with_last_record(vm),
    )
    if datastore is not None:
        root.append(copy.deepcopy(datastore))
    return doc.dumps(root)


def with_last_record(vm: Element) -> Element:
    """A copy of *vm* whose history holds the newest record only."""
    short = copy.deepcopy(vm)
    parent = short.find("HISTORY_RECORDS")
    if parent is not None:
        for old in list(parent)[:-1]:
            parent.remove(old)
    return short


def for_local_script(text: str) -> bytes:
    """*text* as scripts that run on the front-end get it: Base64 on one line (contract 2.3)."""
    return base64.b64encode(text.encode())


def for_remote_script(text: str) -> bytes:
    """*text* as scripts get it through the ssh here-document: ended by a newline."""
    return (text + "\n").encode()


def _plain(tag: str, text: str) -> Element:
    return node(tag, text or None)


def _command(tag: str, text: str) -> Element:
    element = etree.Element(tag)
    if text:
        element.text = etree.CDATA(f"{text}\n")
    return element
