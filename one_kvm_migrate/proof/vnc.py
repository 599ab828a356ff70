"""Does the machine's VNC console answer, and what is on its screen?"""

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import DeadlineExceeded, VncFailed
from one_kvm_migrate.secret import Secret

if TYPE_CHECKING:
    from PIL import Image

    from one_kvm_migrate.proof.rfb import Session

CONNECT_TIMEOUT_S = 20.0
# A cursor alone on a black text screen is 0.006 % of it, one line of text about 0.3 %.
BLANK_BELOW = 0.0005


@dataclass(frozen=True, slots=True, kw_only=True)
class VncEndpoint:
    """Where the console listens. RFB uses the first 8 characters of the password."""

    host: str
    port: int
    password: Secret | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScreenFacts:
    """What a screen shows: sizes in pixels, ``drawn_share`` = not of the commonest colour."""

    width: int
    height: int
    colours: int
    drawn_share: float
    blank: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VncFacts:
    """A finished handshake and screenshot. ``security`` is ``vnc`` (password) or ``none``."""

    host: str
    port: int
    protocol: str
    security: str
    name: str
    screenshot: str
    screen: ScreenFacts

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON data, without any password."""
        return asdict(self)


def take_screenshot(endpoint: VncEndpoint, png: Path, *, deadline: Deadline) -> VncFacts:
    """Shake hands with *endpoint* and write its screen to *png* (replaced in one step).

    A port that does not answer yet is tried again for up to 20 s within *deadline*.
    Raises VncFailed (no answer, wrong password, not a VNC server).
    """
    session = _session(endpoint, deadline)
    partial = png.with_name(png.name + ".partial")
    session.screen.save(partial, format="PNG")
    partial.rename(png)
    return VncFacts(
        host=endpoint.host,
        port=endpoint.port,
        protocol=session.banner.removeprefix("RFB ").lstrip("0").replace(".00", "."),
        security="vnc" if session.password_asked else "none",
        name=session.name,
        screenshot=str(png),
        screen=screen_facts(session.screen),
    )


def screen_facts(image: "Image.Image") -> ScreenFacts:
    """Measure *image* (RGB): is there anything on it?"""
    counts = Counter({colour: n for n, colour in image.getcolors(image.width * image.height) or []})
    drawn = 1 - max(counts.values()) / (image.width * image.height)
    return ScreenFacts(
        width=image.width,
        height=image.height,
        colours=len(counts),
        drawn_share=round(drawn, 6),
        blank=drawn < BLANK_BELOW,
    )


def _session(endpoint: VncEndpoint, deadline: Deadline) -> "Session":
    from one_kvm_migrate.proof.rfb import SessionFailed, SessionRefused, look

    where = f"the VNC console at {endpoint.host}:{endpoint.port}"
    attempts = Deadline(min(CONNECT_TIMEOUT_S, deadline.left_s()))
    reasons = ["no answer"]

    def attempt() -> "Session | None":
        try:
            each = Deadline(max(1.0, attempts.left_s()))
            return look(endpoint.host, endpoint.port, endpoint.password, deadline=each)
        except SessionRefused as exc:
            raise VncFailed(
                f"{where} refused us: {exc}", hint="Compare GRAPHICS/PASSWD of the VM."
            ) from exc
        except SessionFailed as exc:
            reasons.append(str(exc))
            return None

    try:
        return wait_until(attempt, attempts, what=where, interval_s=0.5)
    except DeadlineExceeded as exc:
        raise VncFailed(
            f"{where} does not answer: {reasons[-1]}",
            hint="Check GRAPHICS/LISTEN and GRAPHICS/PORT of the VM and the firewall.",
        ) from exc
