"""Driver actions of machines: which script, with which words and which document."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import Element
from one_kvm_migrate.sim.vm import context, driver, history, netscripts
from one_kvm_migrate.sim.vm.action_doc import (
    ActionFields,
    action_document,
    for_remote_script,
    with_last_record,
)
from one_kvm_migrate.sim.vm.attributes import Surroundings
from one_kvm_migrate.sim.vm.domain_xml import deployment_file
from one_kvm_migrate.sim.vm.driver import Request, Result
from one_kvm_migrate.sim.vm.machine import Machine, timestamp
from one_kvm_migrate.sim.vm.nodes import host_config, node_tree
from one_kvm_migrate.sim.vm.transfer import Executor, Transfer


class Hypervisor:
    """Driver calls for one machine, as its document is now."""

    def __init__(self, machine: Machine) -> None:
        self._vm = machine
        self._sim = machine.sim
        self._place = machine.place()
        self._dir = machine.system_dir()
        self._executor = Executor(machine.sim.processes)

    # -- transfers ----------------------------------------------------------------------

    def transfer(self, transfers: Sequence[Transfer], phase: str) -> Result:
        """Carry *transfers* out; the lines are kept as oned keeps them."""
        seq = doc.get(self._vm.last(), "SEQ")
        text = "".join(f"{transfer.line}\n" for transfer in transfers)
        (self._vm.work_dir() / f"transfer.{seq}.{phase}").write_text(text, encoding="utf-8")
        for transfer in transfers:
            self._vm.log(transfer.line, part="TM")
        return self._executor.run(transfers)

    def context_transfer(self) -> Transfer | None:
        """The transfer that makes the context CD, or None; its script is written now."""
        variables = self._vm.template().vector("CONTEXT")
        if variables is None or not variables.get("DISK_ID"):
            return None
        script = context.write_script(variables, self._vm.work_dir())
        disk = f"{self._place.host_name}:{self._dir}/disk.{variables['DISK_ID']}"
        where = (str(script), disk, str(self._vm.oid), str(self._place.datastore_id))
        return Transfer(op="CONTEXT", tm_mad=self._place.tm_mad, args=where, form="raw")

    def _make(self, making: Transfer | None) -> Result:
        """Carry out what context_transfer gave."""
        if making is None:
            return Result(ok=True)
        self._vm.log(making.line, part="TM")
        return self._executor.run([making])

    # -- scripts ------------------------------------------------------------------------

    def script(
        self,
        action: str,
        words: Sequence[str],
        fields: ActionFields | None = None,
        *,
        place: history.Place | None = None,
        stdin: str | None = None,
        streamed: bool = True,
    ) -> Result:
        """Run script *action*: its words, then the machine's number and the host."""
        place = place or self._place
        host = host_config(self._sim, place.host_name)
        text = stdin if stdin is not None else self.document(fields, place)
        result = driver.call(
            self._sim.processes,
            Request(
                script=node_tree(self._sim, host) / "vmm" / self._sim.config.driver_dir / action,
                argv=(*words, str(self._vm.oid), place.host_name),
                stdin=for_remote_script(text),
                prefix=host.prefix,
                env={"LIBVIRT_URI": host.libvirt_uri} if host.libvirt_uri else None,
                streamed=streamed,
            ),
        )
        for line in result.log:
            self._vm.log(line, level="I" if result.ok else "E")
        return result

    def network(
        self, step: str, words: Sequence[str], place: history.Place | None = None
    ) -> Result:
        """Run the network drivers' script *step* where the machine is, or at *place*."""
        place = place or self._place
        host = host_config(self._sim, place.host_name)
        body = with_last_record(self._vm.body)
        for name in netscripts.drivers(body):
            script = node_tree(self._sim, host) / "vnm" / name / step
            if not script.exists():
                continue
            stdin = netscripts.reduced(body)
            request = Request(script=script, argv=words, stdin=stdin, prefix=host.prefix)
            result = driver.call(self._sim.processes, request)
            for line in result.log:
                self._vm.log(line, part="VNM", level="I" if result.ok else "E")
            if not result.ok:
                return result
        return Result(ok=True)

    def _up(self, action: Callable[[], Result]) -> Result:
        """pre, *action*, post; what the action brought up is taken down if post fails."""
        ready = self.network("pre", ())
        if not ready.ok:
            return ready
        result = action()
        where = self._place.host_name
        if not result.ok:
            self.network("clean", (where,))
            return result
        deploy_id = self._vm.deploy_id or result.info
        joined = self.network("post", (deploy_id, where))
        if not joined.ok:
            self.script("cancel", (deploy_id, where))
            self.network("clean", (where,))
            return joined
        return result

    def _down(self, result: Result, place: history.Place | None = None) -> Result:
        """clean, once the domain is gone."""
        if not result.ok:
            return result
        where = (place or self._place).host_name
        cleaned = self.network("clean", (where,), place)
        return result if cleaned.ok else cleaned

    def document(
        self, fields: ActionFields | None = None, place: history.Place | None = None
    ) -> str:
        """The action document, for the newest record's host unless *place* says otherwise."""
        place = place or self._place
        fields = fields or ActionFields(host=place.host_name, deploy_id=self._vm.deploy_id)
        datastore = self._sim.store.find("datastore", place.datastore_id)
        body = self._vm.body
        return action_document(fields, body, datastore.body if datastore else None)

    def _with_context(self, **paths: str) -> tuple[ActionFields, Transfer | None]:
        making = self.context_transfer()
        return (
            ActionFields(
                host=self._place.host_name,
                tm_command=making.line if making else "",
                disk_target_path=making.args[1].partition(":")[2] if making else "",
                **paths,
            ),
            making,
        )

    def deploy(self) -> Result:
        """Make the context CD and the deployment file, then create the domain."""
        made = self._make(self.context_transfer())
        if not made.ok:
            return made
        seq = doc.get(self._vm.last(), "SEQ")
        text = deployment_file(self._vm.body, self._surroundings())
        (self._vm.work_dir() / f"deployment.{seq}").write_text(text, encoding="utf-8")
        directory = Path(self._dir)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "vm.xml").write_text(doc.dumps(with_last_record(self._vm.body)))
        datastore = self._sim.store.find("datastore", self._place.datastore_id)
        if datastore is not None:
            (directory / "ds.xml").write_text(datastore.xml())
        words = (f"{self._dir}/deployment.{seq}", self._place.host_name)
        return self._up(lambda: self.script("deploy", words, stdin=text))

    def _surroundings(self) -> Surroundings:
        host = self._sim.store.get("host", self._place.host_id)
        cluster = self._sim.store.find("cluster", self._place.cluster_id)
        kind = self._sim.oned.named("VM_MAD", self._place.vm_mad) or {}
        domain_type = self._sim.config.domain_type
        if domain_type == "auto":
            domain_type = kind.get("TYPE", "kvm")
        return Surroundings(
            domain_type=domain_type,
            system_dir=self._dir,
            deployment_time=timestamp(),
            emulator=self._sim.config.emulator or "",
            host=_template(host.body),
            cluster=_template(cluster.body) if cluster else None,
        )

    def stop(self, *, hard: bool) -> Result:
        """End the domain: ask the guest, or destroy it."""
        words = (self._vm.deploy_id, self._place.host_name)
        return self._down(self.script("cancel" if hard else "shutdown", words))

    def reboot(self, document: str, *, hard: bool) -> Result:
        """Restart the guest: ask it, or reset the machine. *document* is from the request."""
        words = (self._vm.deploy_id, self._place.host_name)
        return self.script("reset" if hard else "reboot", words, stdin=document)

    def save(self, place: history.Place) -> Result:
        """Write the running state to the checkpoint file, where *place* says it runs."""
        path = f"{self._vm.system_dir(place.datastore_id)}/checkpoint"
        fields = ActionFields(
            host=place.host_name, deploy_id=self._vm.deploy_id, checkpoint_file=path
        )
        words = (self._vm.deploy_id, path, place.host_name)
        return self._down(self.script("save", words, fields, place=place), place)

    def restore(self) -> Result:
        """Go on from the checkpoint file."""
        path = f"{self._dir}/checkpoint"
        fields, making = self._with_context(deploy_id=self._vm.deploy_id, checkpoint_file=path)
        made = self._make(making)
        if not made.ok:
            return made
        words = (path, self._place.host_name, self._vm.deploy_id)
        return self._up(lambda: self.script("restore", words, fields))

    def migrate(self) -> Result:
        """Move the running domain from the record before to the newest one's host."""
        source = history.place_of(self._vm.before_last())
        target = self._place
        words = (source.host_name, target.host_name, self._dir, str(self._vm.oid),
                 str(target.datastore_id))  # fmt: skip
        moving = Transfer(op="MIGRATE", tm_mad=source.tm_mad, args=words)
        fields = ActionFields(
            host=source.host_name,
            migr_host=target.host_name,
            deploy_id=self._vm.deploy_id,
            tm_command=moving.line,
            disk_target_path=self._dir,
        )
        ready = self.network("pre", (), target)
        if not ready.ok:
            return ready
        argv = (self._vm.deploy_id, target.host_name, source.host_name)
        result = self.script("migrate", argv, fields, place=source)
        if result.ok:
            # The domain has moved whatever the networks say now.
            self.network("clean", (source.host_name,), source)
            # oned names the source here, although the script runs on the target (recorded).
            self.network("post", (self._vm.deploy_id, source.host_name), target)
        return result

    def resize(self) -> Result:
        """Tell the domain the new capacity; everything is in the document."""
        return self.script("resize", (self._vm.deploy_id,), streamed=False)

    def attach_disk(self, disk: dict[str, str], making: Transfer, undo: Transfer) -> Result:
        """Bring the disk's file and plug it in; a failure takes the file back."""
        path, target = f"{self._dir}/disk.{disk['DISK_ID']}", disk["TARGET"]
        made = self.transfer([making], "attach")
        if not made.ok:
            return made
        fields = ActionFields(
            host=self._place.host_name,
            deploy_id=self._vm.deploy_id,
            tm_command=making.line,
            tm_command_rollback=undo.line,
            disk_target_path=path,
        )
        encoded = base64.b64encode(self.document(fields).encode()).decode()
        index = str(ord(target[-1]) - ord("a"))
        words = (self._vm.deploy_id, path, target, index, encoded)
        plugged = self.script("attach_disk", words, fields)
        if not plugged.ok:
            self.transfer([undo], "attach_rollback")
        return plugged

    def detach_disk(self, disk: dict[str, str], undo: Transfer) -> Result:
        """Unplug the disk, then take its file back."""
        path, target = f"{self._dir}/disk.{disk['DISK_ID']}", disk["TARGET"]
        fields = ActionFields(
            host=self._place.host_name,
            deploy_id=self._vm.deploy_id,
            tm_command=undo.line,
            disk_target_path=path,
        )
        index = str(ord(target[-1]) - ord("a"))
        pulled = self.script("detach_disk", (self._vm.deploy_id, path, target, index), fields)
        return self.transfer([undo], "detach") if pulled.ok else pulled

    def attach_nic(self, nic: dict[str, str]) -> Result:
        """Plug the NIC in, then make the context CD again."""
        fields, making = self._with_context(deploy_id=self._vm.deploy_id)
        words = (nic["MAC"], nic.get("BRIDGE", ""), nic.get("MODEL") or "-",
                 nic.get("VN_MAD", ""), nic["TARGET"])  # fmt: skip
        ready = self.network("pre", ())
        if not ready.ok:
            return ready
        plugged = self.script("attach_nic", (self._vm.deploy_id, *words), fields)
        if plugged.ok:
            plugged = self.network("post", (self._vm.deploy_id, self._place.host_name))
        return self._reconfigure(fields, making) if plugged.ok else plugged

    def detach_nic(self, nic: dict[str, str]) -> Result:
        """Unplug the NIC, then make the context CD again."""
        fields, making = self._with_context(deploy_id=self._vm.deploy_id)
        pulled = self._down(self.script("detach_nic", (self._vm.deploy_id, nic["MAC"]), fields))
        return self._reconfigure(fields, making) if pulled.ok else pulled

    def reconfigure(self) -> Result:
        """Put a new context CD into the running machine."""
        fields, making = self._with_context(deploy_id=self._vm.deploy_id)
        return self._reconfigure(fields, making)

    def _reconfigure(self, fields: ActionFields, making: Transfer | None) -> Result:
        if making is None:
            return Result(ok=True)
        target = (self._vm.template().vector("CONTEXT") or {}).get("TARGET", "")
        result = self.script("prereconfigure", (self._vm.deploy_id, target), fields)
        if result.ok:
            result = self._make(making)
        if not result.ok:
            return result
        words = (self._vm.deploy_id, target, fields.disk_target_path)
        return self.script("reconfigure", words, fields)

    def snapshot(self, action: str, word: str) -> Result:
        """Create (word: number), revert or delete (word: HYPERVISOR_ID) a system snapshot."""
        words = (self._vm.deploy_id, word)
        reverted = action == "revert"
        result = self.script(f"snapshot_{action}", words, streamed=reverted)
        if reverted and result.ok:
            return self.network("post", (self._vm.deploy_id, self._place.host_name))
        return result

    def resize_disk(self, disk: dict[str, str], growing: Transfer) -> Result:
        """Enlarge a plugged disk; the running domain does it itself."""
        fields = ActionFields(
            host=self._place.host_name,
            deploy_id=self._vm.deploy_id,
            tm_command=growing.line,
            disk_target_path=f"{self._dir}/disk.{disk['DISK_ID']}",
        )
        encoded = base64.b64encode(self.document(fields).encode()).decode()
        words = (self._vm.deploy_id, disk["DISK_ID"], disk["SIZE"], encoded, self._place.host_name)
        return self.script("resize_disk", words, fields)


def _template(body: Element) -> Element | None:
    return body.find("TEMPLATE")
