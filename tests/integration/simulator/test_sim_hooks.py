"""Hooks of the simulator are run as onehem runs them."""

import base64
import logging
import os
from pathlib import Path

import pytest
from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.sim.service import Sim, SimConfig
from tests.integration.simulator.asker import (
    TIMEOUT_S,
    Asker,
)


class TestHooks:
    def install(self, sim: Sim, name: str, text: str) -> Path:
        path = sim.remotes / "hooks" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def records(self, ask: Asker, hook: int) -> list[etree._Element]:
        ask.settle()
        return ask.xml("one.hook.info", hook).findall("HOOKLOG/HOOK_EXECUTION_RECORD")

    def test_state_hook_gets_the_document(self, sim: Sim, ask: Asker, tmp_path: Path) -> None:
        self.install(
            sim, "save.sh", f"echo $1 > {tmp_path}/word; echo $2 | base64 -d > {tmp_path}/doc"
        )
        text = "NAME=h\nTYPE=state\nRESOURCE=IMAGE\nSTATE=READY\nCOMMAND=save.sh\n"
        hook = ask("one.hook.allocate", text + 'ARGUMENTS="ready $TEMPLATE"')
        ask("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1", 1)
        record = self.records(ask, hook)[0]
        assert record.findtext("EXECUTION_RESULT/CODE") == "0"
        assert (tmp_path / "word").read_text() == "ready\n"
        image = etree.parse(tmp_path / "doc").getroot()
        assert (image.tag, image.findtext("STATE")) == ("IMAGE", "1")

    def test_api_hook_gets_the_call_on_stdin(self, sim: Sim, ask: Asker, tmp_path: Path) -> None:
        self.install(sim, "stdin.sh", f"cat > {tmp_path}/stdin; echo out; echo err >&2; exit 3")
        text = "NAME=h\nTYPE=api\nCALL=one.host.allocate\nCOMMAND=stdin.sh\nARGUMENTS_STDIN=yes\n"
        hook = ask("one.hook.allocate", text + 'ARGUMENTS="x $API"')
        ask("one.host.allocate", "h1", "kvm", "kvm", -1)
        result = self.records(ask, hook)[0].find("EXECUTION_RESULT")
        assert result is not None
        streams = [base64.b64decode(result.findtext(tag) or "") for tag in ("STDOUT", "STDERR")]
        assert (streams, result.findtext("CODE")) == ([b"out\n", b"err\n"], "3")
        word, document = (tmp_path / "stdin").read_text().split()
        call = etree.fromstring(base64.b64decode(document))
        values = [item.text for item in call.iterfind("PARAMETERS/PARAMETER/VALUE")]
        assert (word, values[:2], call.findtext("RESULT")) == ("x", ["****", "h1"], "1")
        assert call.findtext("EXTRA/HOST/NAME") == "h1"

    def test_passwords_stay_hidden(
        self, ask: Asker, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.install(ask.sim, "save.sh", f"cat > {tmp_path}/seen")
        text = "NAME=h\nTYPE=api\nCALL=one.user.allocate\nCOMMAND=save.sh\nARGUMENTS_STDIN=yes\n"
        hook = ask("one.hook.allocate", text + "ARGUMENTS=$API")
        with caplog.at_level(logging.DEBUG):
            ask("one.user.allocate", "bob", "unspeakable", "core", [1])
            Asker(ask.sim, "bob:wrongunspeakable").refusal("one.user.info", -1)
            assert len(self.records(ask, hook)) == 1
        seen = base64.b64decode((tmp_path / "seen").read_text()).decode()
        assert "<VALUE>bob</VALUE>" in seen
        assert "unspeakable" not in seen + caplog.text + ask("one.hook.info", hook)

    def test_a_missing_command_and_a_slow_one(self, sim: Sim, ask: Asker) -> None:
        self.install(sim, "slow.sh", "sleep 60")
        text = "NAME={}\nTYPE=api\nCALL=one.cluster.allocate\nCOMMAND={}\nTIMEOUT=1"
        hooks = [ask("one.hook.allocate", text.format(name, name)) for name in ("no.sh", "slow.sh")]
        ask("one.cluster.allocate", "c")
        results = [self.records(ask, hook)[0].find("EXECUTION_RESULT") for hook in hooks]
        texts = [base64.b64decode(r.findtext("STDERR") or "") for r in results if r is not None]
        assert texts[0].startswith(b"Internal error No such file or directory - ")
        assert texts[1].startswith(b"Timeout executing ")
        failed = ask.xml("one.hooklog.info", -1, -1, -1, -1)
        assert len(failed) == 2
        assert len(ask.xml("one.hooklog.info", -1, -1, -1, 1)) == 0

    def test_retry_runs_it_again(self, sim: Sim, ask: Asker, tmp_path: Path) -> None:
        self.install(sim, "count.sh", f"echo x >> {tmp_path}/count")
        text = "NAME=h\nTYPE=api\nCALL=one.cluster.allocate\nCOMMAND=count.sh"
        hook = ask("one.hook.allocate", text)
        ask("one.cluster.allocate", "c")
        assert len(self.records(ask, hook)) == 1
        ask("one.hook.retry", hook, 0)
        assert self.records(ask, hook)[1].findtext("RETRY") == "yes"
        assert (tmp_path / "count").read_text() == "x\nx\n"
        assert ask.refusal("one.hook.retry", hook, 99)[0] == 2048

    def test_stopping_ends_a_running_hook(self, settings: SimConfig, tmp_path: Path) -> None:
        with Sim(settings) as sim:
            ask = Asker(sim)
            self.install(sim, "hang.sh", f"echo $$ > {tmp_path}/pid; exec sleep 600")
            ask("one.hook.allocate", "NAME=h\nTYPE=api\nCALL=one.cluster.allocate\nCOMMAND=hang.sh")
            ask("one.cluster.allocate", "c")
            pid_file = tmp_path / "pid"
            wait_until(
                lambda: (pid_file.read_text().strip() or None) if pid_file.exists() else None,
                Deadline(TIMEOUT_S),
                what="the hook to start",
            )
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid_file.read_text()), 0)
