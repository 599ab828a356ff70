"""The proof that a machine works: its console answers, and something inside is alive.

A running domain proves nothing: a guest without its disk runs too. The verdict needs a VNC
handshake, a screen with something on it, and a sign of life by agent or serial line.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded, GuestPanic, VerifyError
from one_kvm_migrate.proof.agent import GuestAgent
from one_kvm_migrate.proof.link import PAUSED, RUNNING, DomainLink, open_link
from one_kvm_migrate.proof.serial import SerialConsole, SerialSigns, read_signs
from one_kvm_migrate.proof.vnc import VncEndpoint, VncFacts, take_screenshot

PROVEN = "proven"
LIBVIRT_TIMEOUT_S = 15.0
LOOK_EVERY_S = 0.5
SILENCE_S = 10.0
AGENT_GRACE_S = 5.0
SHOT_EVERY_S = 1.0
TAIL_LINES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofTarget:
    """Which machine: ``domain`` is its name or UUID at ``libvirt_uri`` (None: not reachable).

    ``label`` is what people call it; the domain, if left empty.
    """

    domain: str
    vnc: VncEndpoint
    libvirt_uri: str | None = None
    label: str = ""

    @property
    def called(self) -> str:
        """What sentences about it begin with."""
        return self.label or f"the machine {self.domain}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """Everything seen, as plain data.

    ``verdict`` is ``proven``, or ``screen-only`` when libvirt could not be asked. ``evidence``
    names the signs of life that decided.
    """

    verdict: str
    evidence: tuple[str, ...]
    seconds: float
    vnc: dict[str, Any]
    agent: dict[str, Any]
    serial: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, without any password."""
        return {
            "verdict": self.verdict,
            "evidence": list(self.evidence),
            "seconds": self.seconds,
            "vnc": self.vnc,
            "agent": self.agent,
            "serial": self.serial,
        }


@dataclass(slots=True)
class _Life:
    """What is known about the inside so far."""

    agent: dict[str, Any] = field(default_factory=lambda: {"state": "not asked"})
    serial: dict[str, Any] = field(default_factory=lambda: {"state": "not read"})
    strong: tuple[str, ...] = ()
    weak: tuple[str, ...] = ()


def prove(target: ProofTarget, *, deadline: Deadline, workdir: Path) -> Proof:
    """Prove that *target* works, or say why not; the screenshot lands in *workdir*.

    Changes nothing in the guest but a line feed on a silent serial line. May be repeated.
    Raises VncFailed (no console, wrong password), GuestPanic (the kernel gave up, or has no root
    disk), VerifyError (blank screen or no sign of life before *deadline*).
    """
    started = time.monotonic()
    png = workdir / f"{target.domain}.png"
    take_screenshot(target.vnc, png, deadline=deadline)
    life, reachable = _Life(), False
    if target.libvirt_uri is not None:
        with _reached(target, life, deadline) as link:
            if link is not None:
                reachable = True
                _wait_for_life(link, life, target, deadline)
    shot = _drawn_screen(target.vnc, png, deadline)
    return Proof(
        verdict=PROVEN if reachable else "screen-only",
        evidence=(*life.strong, *life.weak, "screen"),
        seconds=round(time.monotonic() - started, 1),
        vnc=shot.as_dict(),
        agent=life.agent,
        serial=life.serial,
    )


@contextmanager
def _reached(target: ProofTarget, life: _Life, deadline: Deadline) -> Iterator[DomainLink | None]:
    assert target.libvirt_uri is not None
    with ExitStack() as stack:
        patience = Deadline(min(LIBVIRT_TIMEOUT_S, deadline.left_s()))
        try:
            link = stack.enter_context(
                open_link(target.libvirt_uri, target.domain, deadline=patience)
            )
        except (VerifyError, DeadlineExceeded) as exc:
            life.agent = life.serial = {"state": "unreachable", "reason": exc.message}
            yield None
            return
        yield link


def _wait_for_life(link: DomainLink, life: _Life, target: ProofTarget, deadline: Deadline) -> None:
    agent = GuestAgent(link)
    with ExitStack() as stack:
        console = _console(stack, link, life)
        nudge, grace = Deadline(SILENCE_S), Deadline(AGENT_GRACE_S)

        def looked() -> bool:
            nonlocal nudge, grace
            if console is not None:
                _listen(console, life, target)
                if nudge.passed() and not life.strong:
                    nudge = Deadline(SILENCE_S)
                    console.press_enter()
            if not life.strong:
                grace = Deadline(AGENT_GRACE_S)
            _ask_agent(link, agent, life, deadline)
            return _enough(life, grace)

        try:
            wait_until(
                lambda: _while_running(link, target, looked),
                deadline,
                what="a sign of life",
                interval_s=LOOK_EVERY_S,
            )
        except DeadlineExceeded as exc:
            if not life.weak:
                raise VerifyError(
                    f"{target.called} runs but shows no sign of life within "
                    f"{deadline.timeout_s:g} s: agent {life.agent['state']}, "
                    f"serial line {life.serial['state']}",
                    hint="Look at its console; install the guest agent for a surer answer.",
                ) from exc


def _while_running(link: DomainLink, target: ProofTarget, look: Callable[[], bool]) -> bool:
    """*look* at the machine; if it ended before or meanwhile, that is what to say."""
    state = link.state()
    if state != RUNNING:
        raise _not_running(target, state)
    try:
        return look()
    except GuestPanic:
        raise
    except VerifyError as exc:
        state = link.state()
        if state == RUNNING:
            raise
        raise _not_running(target, state) from exc


def _not_running(target: ProofTarget, state: str) -> VerifyError:
    if state == PAUSED:
        return VerifyError(
            f"{target.called} is paused instead of booting",
            hint="A full or failing disk of the host pauses guests; mend that and resume it.",
        )
    return VerifyError(
        f"{target.called} {state} while it was booting",
        hint="Look into libvirt's log of it on the host.",
    )


def _enough(life: _Life, grace: Deadline) -> bool:
    """A login prompt comes a moment before the agent: wait a little to hear that one too."""
    return bool(life.strong) and (life.agent["state"] != "silent" or grace.passed())


def _console(stack: ExitStack, link: DomainLink, life: _Life) -> SerialConsole | None:
    if not link.has_console():
        life.serial = {"state": "absent"}
        return None
    try:
        console = stack.enter_context(SerialConsole(link))
    except VerifyError as exc:
        life.serial = {"state": "busy", "reason": exc.message}
        return None
    life.serial = {"state": "silent"}
    return console


def _listen(console: SerialConsole, life: _Life, target: ProofTarget) -> None:
    text = console.read()
    signs = read_signs(text)
    if signs.fatal is not None:
        raise GuestPanic(
            f"{target.called} cannot boot: {signs.fatal}",
            hint="Compare its disk bus and drivers with what it had under VirtualBox.",
        )
    if not text.strip():
        return
    life.serial = {"state": "speaks", "signs": _names(signs), "tail": _tail(text)}
    life.weak = tuple(f"serial: {name}" for name in signs.kernel)
    if signs.userspace:
        heard = tuple(f"serial: {name}" for name in signs.userspace)
        life.strong = tuple(dict.fromkeys((*life.strong, *heard)))


def _ask_agent(link: DomainLink, agent: GuestAgent, life: _Life, deadline: Deadline) -> None:
    channel = link.agent_channel()
    if channel is None:
        life.agent = {"state": "absent"}
    elif channel != "connected" or not agent.alive():
        life.agent = {"state": "silent"}
    else:
        life.agent = {"state": "answers", **_facts(agent, deadline)}
        life.strong = tuple(dict.fromkeys((*life.strong, "agent: answers")))


def _facts(agent: GuestAgent, deadline: Deadline) -> dict[str, Any]:
    try:
        return agent.facts(deadline=deadline)
    except VerifyError as exc:
        return {"reason": exc.message}  # an old agent lacks commands; it is alive all the same


def _drawn_screen(endpoint: VncEndpoint, png: Path, deadline: Deadline) -> VncFacts:
    def drawn() -> VncFacts | None:
        # One more try is granted after the deadline: the guest is alive by now.
        facts = take_screenshot(endpoint, png, deadline=Deadline(max(5.0, deadline.left_s())))
        return None if facts.screen.blank else facts

    try:
        return wait_until(drawn, deadline, what="a drawn screen", interval_s=SHOT_EVERY_S)
    except DeadlineExceeded as exc:
        raise VerifyError(
            f"the screen at {endpoint.host}:{endpoint.port} stays blank",
            hint="Give the guest another graphics model or look at its console.",
        ) from exc


def _names(signs: SerialSigns) -> list[str]:
    return [*signs.userspace, *signs.kernel]


def _tail(text: str) -> list[str]:
    lines = [line for line in text.replace("\r", "").splitlines() if line.strip()]
    return [line[:200] for line in lines[-TAIL_LINES:]]
