"""Disk steps: convert straight into the datastore, then register the file by SOURCE."""

import os
from dataclasses import asdict
from pathlib import Path

from one_kvm_migrate.deadline import Deadline
from one_kvm_migrate.disks.convert import adopt, convert, partial_of
from one_kvm_migrate.disks.origin import fingerprint
from one_kvm_migrate.errors import ConfigError, SourceChanged
from one_kvm_migrate.opennebula import images
from one_kvm_migrate.pipeline.plan import DiskPlan, file_name, target_path
from one_kvm_migrate.pipeline.steps.base import CONVERT_TIMEOUT_S, RPC_WAIT_S, Result, StepContext

IMAGE_MODE = 0o660


class ConvertStep:
    """Make the compressed qcow2 file of one disk inside the datastore's folder."""

    def __init__(self, disk: DiskPlan) -> None:
        self.disk = disk
        self.name = f"convert:{disk.index}"

    def act(self, ctx: StepContext) -> Result:
        """Convert; the result is the ConvertedImage as a dict."""
        if fingerprint(self.disk.source) != self.disk.fingerprint:
            raise SourceChanged(
                f"{self.disk.source.path} changed since the run was planned",
                hint="Roll the run back and start a new one.",
            )
        target = self._target(ctx)
        image = convert(
            self.disk.source,
            target,
            deadline=Deadline(CONVERT_TIMEOUT_S),
            on_progress=ctx.on_progress,
            overwrite=True,
        )
        _hand_over(target)
        return asdict(image)

    def recover(self, ctx: StepContext) -> Result | None:
        """A file under its final name is complete: only its facts are read again."""
        target = self._target(ctx)
        if not target.is_file():
            return None
        _hand_over(target)
        return asdict(adopt(self.disk.source, target, deadline=Deadline(CONVERT_TIMEOUT_S)))

    def undo(self, ctx: StepContext) -> None:
        """Remove the file (deleting the image has done so already) and any partial one."""
        target = self._target(ctx)
        for path in (target, partial_of(target)):
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                raise _not_ours(path, exc) from exc

    def _target(self, ctx: StepContext) -> Path:
        return target_path(ctx.plan, ctx.run_id, ctx.machine.index, self.disk.index)


class RegisterStep:
    """Register the converted file as an image."""

    def __init__(self, disk: DiskPlan) -> None:
        self.disk = disk
        self.name = f"register:{disk.index}"

    def act(self, ctx: StepContext) -> Result:
        """Allocate the image and wait until it is READY."""
        converted = ctx.results[f"convert:{self.disk.index}"]
        options = ctx.plan.options
        image = images.NewImage(
            name=self.disk.image_name,
            source=self._source(ctx),
            virtual_bytes=converted["virtual_bytes"],
            sha256=converted["sha256"],
            persistent=options.persistent,
            dev_prefix=self.disk.dev_prefix,
            description=f"Migrated from {self.disk.source.path} by one-kvm-migrate",
        )
        number = images.register(ctx.client, image, ctx.marker(self.name), ctx.plan.datastore.id)
        images.wait_ready(ctx.client, number, Deadline(RPC_WAIT_S))
        return {"image_id": number, "source": image.source}

    def recover(self, ctx: StepContext) -> Result | None:
        """Look the image up by its mark: the answer to the allocation may have been lost."""
        source = self._source(ctx)
        number = images.find_by_marker(ctx.client, ctx.marker(self.name), source)
        if number is None:
            return None
        images.wait_ready(ctx.client, number, Deadline(RPC_WAIT_S))
        return {"image_id": number, "source": source}

    def undo(self, ctx: StepContext) -> None:
        """Delete the image, and with it its file."""
        marker = ctx.marker(self.name)
        images.delete(ctx.client, marker, self._source(ctx), Deadline(RPC_WAIT_S))

    def _source(self, ctx: StepContext) -> str:
        name = file_name(ctx.run_id, ctx.machine.index, self.disk.index)
        return ctx.plan.datastore.source(name)


def _hand_over(path: Path) -> None:
    """Make the file what oneadmin and qemu need: theirs (if we are root), and writable."""
    try:
        path.chmod(IMAGE_MODE)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as exc:
        raise _not_ours(path, exc) from exc


def _not_ours(path: Path, exc: OSError) -> ConfigError:
    return ConfigError(
        f"cannot change {path}: {exc.strerror}",
        hint="Make the datastore's folder writable, then resume or roll back.",
    )
