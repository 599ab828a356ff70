"""State changes and API calls reach hooks, run as onehem runs them.

A hook's command is relative to remotes/hooks; its arguments go to argv or, with
ARGUMENTS_STDIN, to stdin. ``$TEMPLATE`` and ``$API`` become base64 documents.
"""

import base64
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.errors import DeadlineExceeded, EnvironmentMissing
from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element, node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.jobs import Jobs
from one_kvm_migrate.sim.states import HostState, ImageState, LcmState, VmState
from one_kvm_migrate.sim.store import Obj, Record
from one_kvm_migrate.sim.template import is_yes

if TYPE_CHECKING:
    from one_kvm_migrate.sim.service import Sim

# RESOURCE of a state hook -> our kind.
RESOURCES = {"VM": "vm", "HOST": "host", "IMAGE": "image", "NET": "vnet"}
# Place of the password among the parameters after the session: hooks never get to see it.
HIDDEN = {"one.user.allocate": 1, "one.user.passwd": 1, "one.user.chauth": 2}
NO_TIMEOUT_S = 24 * 3600.0
# Ruby's spawn goes through a shell only if one of these is in the command.
SHELL_CHARACTERS = frozenset("*?{}[]<>()~&|\\$;'`\"\n#")
LINE = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One run of a hook that is due. ``arguments`` are ready, documents included."""

    hook_id: int
    arguments: str
    remote_host: str = ""
    retry: bool = False


class Events:
    """Finds the hooks of an event and runs them in worker threads."""

    def __init__(self, sim: "Sim") -> None:
        self._sim = sim
        self.jobs = Jobs("hook", workers=2, step=sim.config.step)

    def update(self, obj: Obj) -> None:
        """Write *obj* as oned's pools do: a changed state is an event, then becomes PREV_*.

        Call it inside a transaction, for VMs, hosts, images and networks.
        """
        if _state_changed(obj):
            self.emit_state(obj)
            obj.set("PREV_STATE", obj.number("STATE"))
            if obj.kind == "vm":
                obj.set("PREV_LCM_STATE", obj.number("LCM_STATE"))
        self._sim.store.put(obj)

    def emit_state(self, obj: Obj) -> None:
        """Queue the state hooks that match *obj* as it is now."""
        state, lcm_state = state_names(obj)
        for hook in self._sim.store.all("hook"):
            wanted = hook.template()
            if hook.text("TYPE") != "state" or RESOURCES[wanted.get("RESOURCE")] != obj.kind:
                continue
            if wanted.get("STATE") != state:
                continue
            if obj.kind == "vm" and wanted.get("LCM_STATE") != lcm_state:
                continue
            remote = _remote_host(obj) if wanted.yes("REMOTE") else ""
            self._queue(hook, _pretty(obj.body), remote)

    def about_to_delete(self, method: str, params: Sequence[object]) -> Element | None:
        """The object that a delete call is going to remove, for api_called; None for others."""
        return self._subject(method, ".delete", params[0] if params else None)

    def api_called(
        self,
        method: str,
        params: Sequence[object],
        result: Sequence[object],
        deleted: Element | None = None,
    ) -> None:
        """Queue the API hooks of *method*, whether the call succeeded or not.

        Hooks of allocate and delete calls are told the object they made or removed.
        """
        for hook in self._sim.store.all("hook"):
            if hook.text("TYPE") == "api" and hook.template().get("CALL") == method:
                made = deleted
                if result[0] is True and made is None:
                    made = self._subject(method, ".allocate", result[1])
                extra = [made] if made is not None and result[0] is True else []
                shown = [
                    "****" if place == HIDDEN.get(method) else value
                    for place, value in enumerate(params)
                ]
                info = _call_info(shown, result)
                info.append(node("EXTRA", None, *extra))
                self._queue(hook, _pretty(info), "")

    def _subject(self, method: str, operation: str, oid: object) -> Element | None:
        if not method.endswith(operation) or type(oid) is not int:
            return None
        kind = method.removeprefix("one.").removesuffix(operation)
        obj = self._sim.store.find("vnet" if kind == "vn" else kind, oid)
        return None if obj is None else obj.body

    def retry(self, hook_id: int, execution_id: int) -> None:
        """Queue a recorded execution once more; raises OnedError if there is no such record."""
        for _, record in self._sim.store.records("hook", hook_id):
            if record.seq == execution_id:
                arguments = doc.get(doc.parse(record.body), "ARGUMENTS")
                self._submit(Execution(hook_id=hook_id, arguments=arguments, retry=True))
                return
        raise OnedError(Code.ACTION, f"Cannot find execution record {execution_id}.")

    def _queue(self, hook: Obj, document: str, remote_host: str) -> None:
        encoded = base64.b64encode(document.encode()).decode()
        words = [
            encoded if word in ("$TEMPLATE", "$API") else word
            for word in hook.template().get("ARGUMENTS").split()
        ]
        self._submit(
            Execution(hook_id=hook.oid, arguments=" ".join(words), remote_host=remote_host)
        )

    def _submit(self, execution: Execution) -> None:
        label = f"hook {execution.hook_id}"
        self._sim.store.after_commit(
            lambda: self.jobs.submit(lambda: self._execute(execution), label=label)
        )

    def _execute(self, execution: Execution) -> None:
        hook = self._sim.store.find("hook", execution.hook_id)
        if hook is None:
            return
        template = hook.template()
        command = template.get("COMMAND")
        if not command.startswith("/"):
            command = f"{self._sim.remotes}/hooks/{command}"
        stdin = ""
        if is_yes(template.get("ARGUMENTS_STDIN")) or template.get("ARGUMENTS_STDIN") == "true":
            stdin = execution.arguments
        elif execution.arguments:
            command = f"{command} {execution.arguments}"
        timeout = template.get("TIMEOUT")
        deadline = Deadline(float(timeout) if timeout.isdigit() else NO_TIMEOUT_S)
        result = self._run(command, stdin, execution.remote_host, deadline)
        self._record(execution, node("EXECUTION_RESULT", None, node("COMMAND", command), *result))

    def _run(self, command: str, stdin: str, host: str, deadline: Deadline) -> list[Element]:
        if SHELL_CHARACTERS.intersection(command):
            argv = ["/bin/sh", "-c", command]
        else:
            argv = shlex.split(command)
        prefix = next((item.prefix for item in self._sim.config.hosts if item.name == host), ())
        try:
            done = self._sim.processes.run(
                [*prefix, *argv], deadline=deadline, stdin=stdin.encode(), cwd=str(self._sim.var)
            )
        except EnvironmentMissing:
            missing = f"Internal error No such file or directory - {argv[0]}"
            return _result("", missing, 255)
        except PermissionError:
            return _result("", f"Internal error Permission denied - {argv[0]}", 255)
        except DeadlineExceeded:
            return _result("", f"Timeout executing {command}", 255)
        rc = done.rc if done.rc >= 0 else 255
        return _result(done.stdout.decode("utf-8", "replace"), done.stderr_tail, rc)

    def _record(self, execution: Execution, result: Element) -> None:
        store = self._sim.store
        with store.transaction():
            if store.find("hook", execution.hook_id) is None:
                return
            number = store.new_id(f"hook:{execution.hook_id}")
            now = int(time.time())
            body = node(
                "HOOK_EXECUTION_RECORD",
                None,
                node("HOOK_ID", execution.hook_id),
                node("EXECUTION_ID", number),
                node("TIMESTAMP", now),
                node("ARGUMENTS", execution.arguments),
                result,
            )
            if execution.remote_host:
                body.append(node("REMOTE_HOST", execution.remote_host))
            if execution.retry:
                body.append(node("RETRY", "yes"))
            keep = self._sim.oned.template().vector("HOOK_LOG_CONF") or {}
            store.add_record(
                "hook",
                execution.hook_id,
                Record(number, now, doc.dumps(body)),
                keep=int(keep.get("LOG_RETENTION", "20")),
            )


def state_names(obj: Obj) -> tuple[str, str]:
    """Names of STATE and LCM_STATE as hooks write them; LCM_STATE is empty but for VMs."""
    number = obj.number("STATE")
    if obj.kind == "vm":
        return VmState(number).name, LcmState(obj.number("LCM_STATE")).name
    names: dict[str, type[ImageState] | type[HostState]] = {"image": ImageState, "host": HostState}
    if obj.kind in names:
        return names[obj.kind](number).name, ""
    return {2: "READY", 5: "ERROR"}.get(number, "INIT"), ""


def _state_changed(obj: Obj) -> bool:
    changed = obj.number("STATE") != obj.number("PREV_STATE")
    if obj.kind == "vm":
        changed = changed or obj.number("LCM_STATE") != obj.number("PREV_LCM_STATE")
    return changed


def _remote_host(obj: Obj) -> str:
    if obj.kind == "host":
        return obj.name
    names = [item.text or "" for item in obj.body.findall("HISTORY_RECORDS/HISTORY/HOSTNAME")]
    return names[-1] if names else ""


def _call_info(params: Sequence[object], result: Sequence[object]) -> Element:
    # The session is the first parameter and never shown.
    pairs = [("IN", value) for value in ("****", *params)]
    given = len(pairs)
    pairs += [("OUT", value) for value in result[:4]]
    parameters = node("PARAMETERS")
    for index, (kind, value) in enumerate(pairs):
        position = index + 1 if kind == "IN" else index + 1 - given
        parameters.append(
            node(
                "PARAMETER",
                None,
                node("POSITION", position),
                node("TYPE", kind),
                _value(_shown(kind, value)),
            )
        )
    return node("CALL_INFO", None, node("RESULT", int(bool(result[0]))), parameters)


def _value(text: str) -> Element:
    """VALUE as oned writes it: not escaped, so markup in a parameter becomes markup here."""
    try:
        return doc.parse(f"<VALUE>{text}</VALUE>")
    except etree.XMLSyntaxError:
        return node("VALUE", text)


def _shown(kind: str, value: object) -> str:
    if isinstance(value, bool):
        return str(int(value)) if kind == "IN" else str(value).lower()
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value)


def _pretty(element: Element) -> str:
    """*element* indented by two blanks, as the message reaches hook scripts."""
    copy = doc.parse(doc.dumps(element))
    for item in copy.iter():
        # An element with no text and no CDATA section is written self-closed.
        if not len(item) and not item.text and b"CDATA" not in etree.tostring(item):
            item.text = None
    return str(etree.tostring(copy, pretty_print=True, encoding="unicode")).rstrip("\n")


def _result(stdout: str, stderr: str, rc: int) -> list[Element]:
    return [
        node("STDOUT", _lines_of_base64(stdout)),
        node("STDERR", _lines_of_base64(stderr)),
        node("CODE", rc),
    ]


def _lines_of_base64(text: str) -> str:
    encoded = base64.b64encode(text.encode()).decode()
    return "".join(encoded[at : at + LINE] + "\n" for at in range(0, len(encoded), LINE))
