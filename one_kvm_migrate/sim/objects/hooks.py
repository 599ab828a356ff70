"""one.hook.*, one.hookpool.*, one.hooklog.*"""

from one_kvm_migrate.sim import auth, doc
from one_kvm_migrate.sim.auth import Right
from one_kvm_migrate.sim.call import Call, Handler
from one_kvm_migrate.sim.doc import node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.events import RESOURCES
from one_kvm_migrate.sim.objects import common
from one_kvm_migrate.sim.states import HostState, ImageState, LcmState, VmState
from one_kvm_migrate.sim.store import Obj
from one_kvm_migrate.sim.template import Template

# ON -> (STATE, LCM_STATE); CUSTOM takes them from the template.
ON = {
    "PROLOG": ("ACTIVE", "PROLOG"),
    "RUNNING": ("ACTIVE", "RUNNING"),
    "SHUTDOWN": ("ACTIVE", "EPILOG"),
    "STOP": ("STOPPED", "LCM_INIT"),
    "DONE": ("DONE", "LCM_INIT"),
    "UNKNOWN": ("ACTIVE", "UNKNOWN"),
}
NETWORK_STATES = ("INIT", "READY", "LOCK_CREATE", "LOCK_DELETE", "DONE", "ERROR")
NO_TIME, ANY_HOOK = -1, -1
FAILED, SUCCEEDED = -1, 1


def _normalise(template: Template, kind: str) -> None:
    """Bring *template* into the form oned keeps; raises OnedError for what it refuses."""
    if not template.get("COMMAND"):
        raise _refused("COMMAND attribute is missing.")
    template.set("REMOTE", "YES" if template.yes("REMOTE") else "NO")
    if kind == "api":
        call = template.get("CALL")
        if not call.startswith("one.") or call.endswith(".info"):
            raise _refused(f"Invalid API call: {call}")
        return
    resource = template.get("RESOURCE").upper()
    if resource not in RESOURCES:
        raise _refused(f"Invalid resource type: {resource}")
    template.set("RESOURCE", resource)
    if resource == "VM":
        _set_vm_state(template)
        return
    names = {"HOST": HostState.__members__, "IMAGE": ImageState.__members__}
    if template.get("STATE").upper() not in names.get(resource, NETWORK_STATES):
        raise _refused(f"Unkown state condition: {template.get('STATE')}")
    template.set("STATE", template.get("STATE").upper())


def _set_vm_state(template: Template) -> None:
    on = template.get("ON").upper()
    if not template.has("ON") and template.has("STATE") and template.has("LCM_STATE"):
        on = "CUSTOM"
    template.remove("ON")
    if on == "CUSTOM":
        state, lcm_state = template.get("STATE").upper(), template.get("LCM_STATE").upper()
        if state not in VmState.__members__ or lcm_state not in LcmState.__members__:
            raise _refused(f"Invalid LCM_STATE or STATE: {state} {lcm_state}")
    elif on in ON:
        state, lcm_state = ON[on]
    else:
        # oned writes it like this.
        raise _refused(f"Unkown state condition: {on}")
    template.set("STATE", state)
    template.set("LCM_STATE", lcm_state)


def _refused(why: str) -> OnedError:
    return OnedError(Code.INTERNAL, why)


def allocate(call: Call, text: str) -> int:
    """one.hook.allocate"""
    template = common.parse(text)
    auth.require_owner_admin(call)
    name, kind = (
        "".join(str(value) for value in template.remove(key)[:1]) for key in ("NAME", "TYPE")
    )
    problem = common.check_name(name)
    if problem:
        raise _refused(problem)
    if kind.lower() not in ("state", "api"):
        raise _refused(f"Invalid Hook TYPE: {kind}")
    _normalise(template, kind.lower())
    common.require_new_name(call, "hook", name, None)
    oid = call.sim.store.new_id("hook")
    head = (node("ID", oid), node("NAME", name), node("TYPE", kind.lower()))
    call.sim.store.put(Obj("hook", oid, node("HOOK", None, *head, template.to_xml())))
    return oid


def delete(call: Call, oid: int) -> int:
    """one.hook.delete"""
    hook = call.sim.store.get("hook", oid)
    auth.require(call, Right.MANAGE, hook)
    call.sim.store.delete("hook", oid)
    return oid


def _fix(call: Call, hook: Obj, template: Template) -> None:
    for key in ("NAME", "TYPE"):
        template.remove(key)
    _normalise(template, hook.text("TYPE"))


def info(call: Call, oid: int, decrypt: bool = False) -> str:
    """one.hook.info, with the log of its executions."""
    hook = call.sim.store.get("hook", oid)
    auth.require(call, Right.USE, hook)
    hook.body.append(_log(call, oid))
    return hook.xml()


def _log(call: Call, oid: int | None) -> doc.Element:
    records = call.sim.store.records("hook", oid)
    return node("HOOKLOG", None, *(doc.parse(record.body) for _, record in records))


def log_info(
    call: Call, since: int = NO_TIME, until: int = NO_TIME, oid: int = ANY_HOOK, outcome: int = 0
) -> str:
    """one.hooklog.info: executions in a time span, all hooks with -1, failed only with -1."""
    auth.require_owner_admin(call)
    log = _log(call, None if oid == ANY_HOOK else oid)
    for record in list(log):
        time, rc = doc.get_int(record, "TIMESTAMP"), doc.get_int(record, "EXECUTION_RESULT/CODE")
        outside = (since != NO_TIME and time <= since) or (until != NO_TIME and time >= until)
        if outside or (outcome == FAILED and rc == 0) or (outcome == SUCCEEDED and rc != 0):
            log.remove(record)
    return doc.dumps(log)


def retry(call: Call, oid: int, execution_id: int) -> int:
    """one.hook.retry"""
    hook = call.sim.store.get("hook", oid)
    auth.require(call, Right.USE, hook)
    call.sim.events.retry(oid, execution_id)
    return oid


METHODS: dict[str, Handler] = {
    "one.hook.allocate": allocate,
    "one.hook.delete": delete,
    "one.hook.info": info,
    "one.hook.update": common.updater("hook", _fix),
    "one.hook.rename": common.renamer("hook", per_owner=False),
    "one.hook.lock": common.locker("hook"),
    "one.hook.unlock": common.unlocker("hook"),
    "one.hook.retry": retry,
    "one.hookpool.info": common.lister("hook", "HOOK_POOL"),
    "one.hooklog.info": log_info,
}
