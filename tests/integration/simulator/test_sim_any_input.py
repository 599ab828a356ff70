"""Whatever well-typed values a call gets, the simulator answers; it never breaks off."""

import inspect
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from one_kvm_migrate.sim import rpc
from one_kvm_migrate.sim.call import Handler
from one_kvm_migrate.sim.service import Sim, SimConfig
from tests.integration.simulator.asker import ADMIN, Asker

CALLS = 1500
TEXTS = (
    "", "x", "resume", "terminate-hard", "poweroff", "10", "-1", "200000001", "ñ\u2028", "é" * 200,
    "A=[", "<T><A>1</A></T>", "NAME=a", "NAME={}\nCPU=1\nMEMORY=64", "DISK=[IMAGE_ID=0]",
    "VM=[VMS=1]", "DATASTORE=[ID=0,SIZE=5]", "AR=[TYPE=IP4,IP=1.2.3.4,SIZE=2]",
    "NAME={}\nVN_MAD=dummy", "NAME={}\nSIZE=1\nTYPE=DATABLOCK", "DISK=[SIZE=5,TYPE=fs]",
    "NAME={}\nCPU=1\nMEMORY=16\nDISK=[IMAGE_ID=0]\nNIC=[NETWORK_ID=0]\nGRAPHICS=[TYPE=VNC]",
    "NIC=[NETWORK_ID=0]", "NIC=[NIC_ID=0,NETWORK_ID=9]", "GRAPHICS=[TYPE=VNC]",
    "NAME={}\nTYPE=state\nRESOURCE=VM\nON=RUNNING\nCOMMAND=x", "ID=0", "STATE=1",
    "VCPU=x\nMEMORY=y", "MEMORY=99999999999999999999", "CPU=nan", "CPU=inf\nMEMORY=1",
    "SIZE=99999999999999999999999\nNAME={}", "RESERVED_CPU=-9999999999999999\nRESERVED_MEM=x",
    "LIMIT_MB=9999999999999999999999999999", "NAME={}\nTYPE=SYSTEM_DS\nTM_MAD=qcow2",
)  # fmt: skip
NUMBERS = (0, 0, 0, 1, 2, 3, -1, -2, -3, -4, 99, 100, 101, 2**31 - 1, -(2**31))
# These would lock the caller out.
SKIPPED = {
    "one.user.delete", "one.user.passwd", "one.user.chauth", "one.user.chgrp", "one.user.enable",
}  # fmt: skip


def parameters(handler: Handler, dice: random.Random) -> list[Any]:
    """Values of the types that *handler* takes."""
    makers: dict[Any, Callable[[], Any]] = {
        int: lambda: dice.choice(NUMBERS),
        bool: lambda: dice.random() < 0.5,
        str: lambda: dice.choice(TEXTS).replace("{}", f"n{dice.randrange(10**6)}"),
    }
    values: list[Any] = []
    for parameter in list(inspect.signature(handler).parameters.values())[1:]:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            values += [dice.choice((-1, 0, 1, 5)) for _ in range(dice.choice((8, 9)))]
        else:
            values.append(makers.get(parameter.annotation, lambda: [dice.choice(NUMBERS)])())
    return values


@pytest.mark.parametrize("seed", [1, 2])
def test_every_call_is_answered(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    with Sim(SimConfig(dir=tmp_path / "sim", step=True)) as sim:
        ask = Asker(sim)
        ask("one.host.allocate", "h", "kvm", "kvm", -1)
        ask("one.vn.allocate", "NAME=n\nVN_MAD=dummy\nAR=[TYPE=IP4,IP=10.0.0.1,SIZE=99]", -1)
        ask("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1", 1)
        ask("one.template.allocate", TEXTS[21].replace("{}", "t"))
        ask.settle()
        for number in range(4):
            ask("one.template.instantiate", 0, f"v{number}", number % 2 == 0, "", False)
        names = sorted(sim.methods.keys() - SKIPPED)
        of_machines = [name for name in names if name.startswith("one.vm")]
        answered = 0
        for _ in range(CALLS):
            method = dice.choice(names if dice.random() < 0.5 else of_machines)
            given = parameters(sim.methods[method], dice)
            answer = rpc.answer(sim, method, [ADMIN, *given])
            answered += len(rpc.encode(answer)) > 0
            if dice.random() < 0.3:
                sim.jobs.run_next()
        assert answered == CALLS
