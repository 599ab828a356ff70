"""The simulator asked by real clients: pyone for each family, rights, quotas, files, hooks."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyone
import pytest
from lxml import etree

from one_kvm_migrate.deadline import Deadline, wait_until
from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.sim.objects import vnets
from one_kvm_migrate.sim.service import Sim, SimConfig

ADMIN = "oneadmin:opennebula"
TIMEOUT_S = 20.0
PROGRAM = str(Path(sys.executable).with_name("one-kvm-migrate"))


class Asker:
    """XML-RPC as one user."""

    def __init__(self, sim: Sim, session: str = ADMIN) -> None:
        self.sim = sim
        self.session = session

    def raw(self, method: str, *params: Any) -> list[Any]:
        """The whole answer."""
        server = xmlrpc.client.ServerProxy(self.sim.endpoint)
        answer: list[Any] = getattr(server, method)(self.session, *params)
        return answer

    def __call__(self, method: str, *params: Any) -> Any:
        """The value of a call that must succeed."""
        done, value = self.raw(method, *params)[:2]
        assert done, value
        return value

    def refusal(self, method: str, *params: Any) -> tuple[int, str]:
        """(code, text) of a call that must fail."""
        done, text, code = self.raw(method, *params)[:3]
        assert not done, text
        return code, text

    def xml(self, method: str, *params: Any) -> etree._Element:
        """The document a call answers."""
        return etree.fromstring(self(method, *params))

    def settle(self) -> None:
        """Wait for background work."""
        self.sim.settle(Deadline(TIMEOUT_S))


@pytest.fixture
def settings(tmp_path: Path) -> SimConfig:
    return SimConfig(dir=tmp_path / "sim", monitor_interval_s=60.0)


@pytest.fixture
def sim(settings: SimConfig) -> Iterator[Sim]:
    with Sim(settings) as running:
        yield running


@pytest.fixture
def ask(sim: Sim) -> Asker:
    return Asker(sim)


@pytest.fixture
def ana(ask: Asker) -> Asker:
    """A user of the group "students", number 2 in group 100."""
    gid = ask("one.group.allocate", "students")
    ask("one.user.allocate", "ana", "secret", "core", [gid])
    return Asker(ask.sim, "ana:secret")


@pytest.fixture
def one(sim: Sim) -> Any:
    return pyone.OneServer(sim.endpoint, session=ADMIN)


def qcow2(path: Path, *more: str, size: str = "8M") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *more, path, size], check=True)
    return path


def make_datastore(ask: Asker, safe: Path) -> int:
    text = f'NAME=pics\nDS_MAD=fs\nTM_MAD=qcow2\nTYPE=IMAGE_DS\nSAFE_DIRS="{safe}"'
    return int(ask("one.datastore.allocate", text, -1))


def state(ask: Asker, image: int) -> int:
    return int(ask.xml("one.image.info", image).findtext("STATE") or -1)


class TestPyone:
    def test_system_and_users(self, one: Any) -> None:
        assert one.system.version() == "7.5.80"
        assert one.system.config().DATASTORE_LOCATION[0].endswith("/var//datastores")
        gid = one.group.allocate("crew")
        uid = one.user.allocate("bob", "pw", "core", [gid])
        assert one.user.info(uid).NAME == "bob"
        assert {user.NAME for user in one.userpool.info().USER} >= {"oneadmin", "bob"}
        assert [group.NAME for group in one.grouppool.info().GROUP] == ["crew", "users", "oneadmin"]
        assert len(one.acl.info().ACL) == 9

    def test_hosts_clusters_datastores(self, one: Any) -> None:
        host = one.host.allocate("h1", "kvm", "kvm", -1)
        assert one.host.info(host).NAME == "h1"
        assert one.hostpool.info().HOST[0].STATE == 0
        assert [host] == one.clusterpool.info().CLUSTER[0].HOSTS.ID
        store = one.datastore.allocate("NAME=x\nDS_MAD=fs\nTM_MAD=qcow2", -1)
        assert one.datastore.info(store).BASE_PATH.endswith(f"//datastores/{store}")
        assert {ds.NAME for ds in one.datastorepool.info().DATASTORE} >= {"system", "default", "x"}

    def test_images_templates_networks(self, one: Any) -> None:
        image = one.image.allocate("NAME=i\nTYPE=DATABLOCK\nSIZE=1", 1)
        assert one.image.info(image).TEMPLATE["DEV_PREFIX"] == "sd"
        assert one.imagepool.info(-2, -1, -1).IMAGE[0].NAME == "i"
        template = one.template.allocate("NAME=t\nCPU=1\nMEMORY=64\nDISK=[IMAGE_ID=0]")
        assert one.template.info(template).TEMPLATE["DISK"]["IMAGE_ID"] == "0"
        assert one.templatepool.info(-2, -1, -1).VMTEMPLATE[0].NAME == "t"
        net = one.vn.allocate(
            "NAME=n\nVN_MAD=dummy\nBRIDGE=b\nAR=[TYPE=IP4,IP=10.0.0.1,SIZE=2]", -1
        )
        assert one.vn.info(net).BRIDGE == "b"
        assert one.vnpool.info(-2, -1, -1).VNET[0].NAME == "n"

    def test_hooks(self, one: Any) -> None:
        hook = one.hook.allocate("NAME=k\nTYPE=api\nCALL=one.vm.resize\nCOMMAND=/bin/true")
        assert one.hook.info(hook).TEMPLATE["CALL"] == "one.vm.resize"
        assert one.hookpool.info(-2, -1, -1).HOOK[0].NAME == "k"

    def test_errors_are_pyone_errors(self, sim: Sim, one: Any) -> None:
        with pytest.raises(pyone.OneNoExistsException, match=r"Error getting image \[7\]"):
            one.image.info(7)
        with pytest.raises(pyone.OneAuthenticationException, match="couldn't be authenticated"):
            pyone.OneServer(sim.endpoint, session="oneadmin:wrong").system.version()
        with pytest.raises(pyone.OneException, match="not defined"):
            one.vm.nonsense(1)


class TestRights:
    def test_what_others_own_is_not_shown(self, ask: Asker, ana: Asker) -> None:
        ask("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1", 1)
        assert ana.refusal("one.image.info", 0) == (
            512, "[one.image.info] User [2] : Not authorized to perform USE IMAGE [0].",
        )  # fmt: skip
        assert not len(ana.xml("one.imagepool.info", -2, -1, -1))
        ask("one.image.chmod", 0, -1, -1, -1, -1, -1, -1, 1, -1, -1)
        assert len(ana.xml("one.imagepool.info", -2, -1, -1)) == 1
        assert ana.refusal("one.image.rename", 0, "mine")[0] == 512
        ask("one.image.chown", 0, 2, 100)
        assert ana("one.image.rename", 0, "mine") == 0
        owner = ana.xml("one.image.info", 0)
        assert (owner.findtext("UNAME"), owner.findtext("GNAME")) == ("ana", "students")

    def test_rules_let_groups_in(self, ask: Asker, ana: Asker) -> None:
        refused = ana.refusal("one.template.allocate", "NAME=t\nCPU=1")
        assert refused[1].endswith("Not authorized to perform CREATE TEMPLATE.")
        rule = ask("one.acl.addrule", "200000064", "20400000000", "8", "100000000")
        text = ask.xml("one.acl.info").xpath(f"ACL[ID={rule}]/STRING/text()")
        assert text == ["@100 TEMPLATE/* CREATE #0"]
        assert ana("one.template.allocate", "NAME=t\nCPU=1") == 0
        raw = ana.refusal("one.template.allocate", 'NAME=r\nRAW=[TYPE=kvm,DATA="<a/>"]')
        assert raw[1].endswith("Template includes a restricted attribute RAW/DATA.")
        ask("one.acl.delrule", rule)
        assert ana.refusal("one.template.allocate", "NAME=u")[0] == 512

    def test_only_admins_manage_the_cloud(self, ana: Asker) -> None:
        for method, params in (
            ("one.user.allocate", ("x", "y")),
            ("one.group.allocate", ("x",)),
            ("one.host.allocate", ("x", "kvm", "kvm", -1)),
            ("one.datastore.allocate", ("NAME=x\nTM_MAD=qcow2\nDS_MAD=fs", -1)),
            ("one.cluster.allocate", ("x",)),
            ("one.hook.allocate", ("NAME=x\nTYPE=api\nCALL=one.vm.resize\nCOMMAND=x",)),
            ("one.system.config", ()),
            ("one.user.quota", (2, "VM=[VMS=9]")),
        ):
            assert ana.refusal(method, *params)[0] == 512, method

    def test_a_lock_holds_others(self, ask: Asker, ana: Asker) -> None:
        ask("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1", 1)
        ask("one.image.chown", 0, 2, 100)
        ask("one.image.lock", 0, 2, False)
        assert ask.xml("one.image.info", 0).findtext("LOCK/LOCKED") == "2"
        assert ana.refusal("one.image.rename", 0, "x") == (
            0x8000, "[one.image.rename] IMAGE 0 is locked.",
        )  # fmt: skip
        assert ask.refusal("one.image.lock", 0, 1, True)[0] == 0x8000
        ask("one.image.unlock", 0)
        assert ana("one.image.rename", 0, "x") == 0

    def test_passwords(self, ask: Asker, ana: Asker) -> None:
        ana("one.user.passwd", 2, "new")
        assert ana.refusal("one.user.info", -1)[0] == 256
        again = Asker(ask.sim, "ana:new")
        assert again.xml("one.user.info", -1).findtext("NAME") == "ana"
        ask("one.user.enable", 2, False)
        assert again.refusal("one.user.info", -1)[0] == 256

    def test_groups_of_users(self, ask: Asker, ana: Asker) -> None:
        ask("one.user.addgroup", 2, 1)
        assert ask.xml("one.user.info", 2).xpath("GROUPS/ID/text()") == ["1", "100"]
        ask("one.user.chgrp", 2, 1)
        assert ask.refusal("one.user.delgroup", 2, 1)[1].endswith("the primary group")
        assert ask("one.user.delete", 2) == 2
        assert ask("one.group.delete", 100) == 100
        assert len(ask.xml("one.acl.info")) == 6
        assert ask.refusal("one.user.delete", 0)[0] == 2048


class TestQuotas:
    def test_images_are_counted_and_limited(self, ask: Asker, ana: Asker) -> None:
        ask("one.user.chgrp", 2, 1)
        ask("one.user.quota", 2, "DATASTORE=[ID=1,IMAGES=1,SIZE=10]")
        assert ask.refusal("one.user.quota", 2, "DATASTORE=[ID=x,IMAGES=1]")[0] == 8192
        rule = ("200000001", "100400000000", "1", "100000000")
        assert ask.refusal("one.acl.addrule", *rule)[1].endswith("already exists")
        assert ana("one.image.allocate", "NAME=a\nTYPE=DATABLOCK\nSIZE=4", 1) == 0
        code, text = ana.refusal("one.image.allocate", "NAME=b\nTYPE=DATABLOCK\nSIZE=4", 1)
        assert (code, text) == (
            512,
            "[one.image.allocate] User [2] : user [2] limit of 1 reached for IMAGES quota in"
            " DATASTORE with ID: 1.",
        )
        entry = ask.xml("one.user.info", 2).find("DATASTORE_QUOTA/DATASTORE")
        assert entry is not None
        assert {item.tag: item.text for item in entry} == {
            "ID": "1", "IMAGES": "1", "IMAGES_USED": "1", "SIZE": "10", "SIZE_USED": "4",
        }  # fmt: skip
        ask.settle()
        ana("one.image.delete", 0)
        ask.settle()
        used = ask.xml("one.user.info", 2).xpath("DATASTORE_QUOTA/DATASTORE/IMAGES_USED/text()")
        assert used == ["0"]

    def test_default_limits_hold_for_everybody(self, ask: Asker, ana: Asker) -> None:
        ask("one.user.chgrp", 2, 1)
        ask("one.userquota.update", "DATASTORE=[ID=1,IMAGES=0]")
        assert ana.refusal("one.image.allocate", "NAME=a\nTYPE=DATABLOCK\nSIZE=4", 1)[0] == 512
        assert ask("one.image.allocate", "NAME=a\nTYPE=DATABLOCK\nSIZE=4", 1) == 0


class TestImages:
    def test_path_is_copied(self, ask: Asker, tmp_path: Path) -> None:
        source = qcow2(tmp_path / "in" / "a.qcow2")
        store = make_datastore(ask, source.parent)
        oid = ask("one.image.allocate", f'NAME=i\nPATH="{source}"', store)
        ask.settle()
        image = ask.xml("one.image.info", oid)
        assert (image.findtext("STATE"), image.findtext("SIZE")) == ("1", "8")
        copy = Path(image.findtext("SOURCE") or "")
        base = ask.xml("one.datastore.info", store).findtext("BASE_PATH")
        assert os.path.dirname(image.findtext("SOURCE") or "") == base
        assert copy.read_bytes() == source.read_bytes()
        ask("one.image.delete", oid, False)
        ask.settle()
        assert not copy.exists()
        assert ask.refusal("one.image.info", oid)[0] == 1024
        assert ask.xml("one.datastore.info", store).xpath("IMAGES/ID") == []

    def test_raw_becomes_qcow2_in_a_qcow2_datastore(self, ask: Asker, tmp_path: Path) -> None:
        source = tmp_path / "in" / "a.raw"
        source.parent.mkdir()
        source.write_bytes(b"data" * 1024 * 1024)
        store = make_datastore(ask, source.parent)
        oid = ask("one.image.allocate", f'NAME=i\nPATH="{source}"', store)
        ask.settle()
        image = ask.xml("one.image.info", oid)
        path = image.findtext("SOURCE") or ""
        assert image.findtext("FORMAT") == "qcow2"
        same = ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(source), path]
        assert subprocess.run(same, check=False, stdout=subprocess.DEVNULL).returncode == 0

    def test_unsafe_paths_are_refused(self, ask: Asker, tmp_path: Path) -> None:
        source = qcow2(tmp_path / "a.qcow2")
        why = ask.refusal("one.image.allocate", f'NAME=i\nPATH="{source}"', 1)[1]
        assert why.endswith(f"Cannot parse image SIZE: Not allowed to copy image file {source}")
        store = make_datastore(ask, tmp_path)
        secret = tmp_path / "sim" / "oned.sqlite"
        link = tmp_path / "elsewhere" / "link"
        link.parent.mkdir()
        link.symlink_to("/etc/shadow")
        for path in (link, "/etc/shadow", "http://x/y", tmp_path):
            code, _ = ask.refusal("one.image.allocate", f'NAME=i\nPATH="{path}"', store)
            assert code == 8192, path
        assert secret.exists()

    def test_an_image_that_refers_to_another_file_is_refused(
        self, ask: Asker, tmp_path: Path
    ) -> None:
        base = qcow2(tmp_path / "in" / "base.qcow2")
        overlay = qcow2(tmp_path / "in" / "top.qcow2", "-b", str(base), "-F", "qcow2")
        store = make_datastore(ask, base.parent)
        why = ask.refusal("one.image.allocate", f'NAME=i\nPATH="{overlay}"', store)[1]
        assert "refers to another file" in why

    def test_source_is_ready_unchecked_and_deleted_only_in_place(
        self, ask: Asker, tmp_path: Path
    ) -> None:
        store = make_datastore(ask, tmp_path)
        base = ask.xml("one.datastore.info", store).findtext("BASE_PATH") or ""
        inside = qcow2(Path(base) / "disk")
        text = 'NAME={}\nSOURCE="{}"\nSIZE=8\nFORMAT=qcow2'
        good = ask("one.image.allocate", text.format("good", f"{base}/disk"), store)
        bad = ask("one.image.allocate", text.format("bad", inside), store)
        assert (state(ask, good), state(ask, bad)) == (1, 1)
        ask("one.image.delete", bad, False)
        ask.settle()
        assert state(ask, bad) == 5
        assert "Error removing image" in ask("one.image.info", bad)
        assert inside.exists()
        ask("one.image.delete", bad, True)
        ask("one.image.delete", good, False)
        ask.settle()
        assert ask.refusal("one.image.info", bad)[0] == ask.refusal("one.image.info", good)[0]
        assert not inside.exists()

    def test_a_clone_is_a_file_of_its_own(self, ask: Asker, tmp_path: Path) -> None:
        source = qcow2(tmp_path / "in" / "a.qcow2")
        store = make_datastore(ask, source.parent)
        first = ask("one.image.allocate", f'NAME=i\nPATH="{source}"', store)
        ask.settle()
        second = ask("one.image.clone", first, "copy", -1)
        ask.settle()
        paths = [ask.xml("one.image.info", oid).findtext("SOURCE") for oid in (first, second)]
        assert paths[0] != paths[1]
        assert Path(paths[1] or "").read_bytes() == source.read_bytes()
        assert state(ask, first) == 1

    def test_a_failed_copy_leaves_an_error_and_no_file(self, ask: Asker, tmp_path: Path) -> None:
        source = qcow2(tmp_path / "in" / "a.qcow2")
        store = make_datastore(ask, source.parent)
        base = Path(ask.xml("one.datastore.info", store).findtext("BASE_PATH") or "")
        base.rmdir()
        base.write_text("in the way")
        oid = ask("one.image.allocate", f'NAME=i\nPATH="{source}"', store, True)
        ask.settle()
        image = ask.xml("one.image.info", oid)
        assert image.findtext("STATE") == "5"
        assert "Error copying image in the datastore" in (image.findtext("TEMPLATE/ERROR") or "")

    def test_capacity_is_checked(self, ask: Asker) -> None:
        huge = "NAME=h\nTYPE=DATABLOCK\nSIZE=999999999"
        assert ask.refusal("one.image.allocate", huge, 1) == (
            2048, "[one.image.allocate] Not enough space in datastore",
        )  # fmt: skip
        ask("one.datastore.update", 1, "LIMIT_MB=1", 1)
        small = "NAME=s\nTYPE=DATABLOCK\nSIZE=2"
        assert ask.refusal("one.image.allocate", small, 1)[0] == 2048
        assert ask("one.image.allocate", small, 1, True) == 0

    @pytest.mark.parametrize(
        ("text", "code"),
        [
            ("NAME=i\nTYPE=CDROM\nSIZE=1", 0x4000),
            ("NAME=i\nTYPE=KERNEL\nPATH=/var/tmp/none", 0x2000),
            ("NAME=i\nTYPE=NONSENSE\nSIZE=1", 0x4000),
            ("NAME=i\nSOURCE=/x\nSIZE=1", 0x4000),
            ("NAME=" + "x" * 129 + "\nSIZE=1", 0x4000),
            ("NAME=i\nSIZE=", 0x2000),
            ("NAME=i\nSIZE=[", 0x2000),
        ],
    )
    def test_wrong_templates_are_refused(self, ask: Asker, text: str, code: int) -> None:
        assert ask.refusal("one.image.allocate", text, 1)[0] == code

    def test_persistent_enable_type(self, ask: Asker) -> None:
        oid = ask("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1\nFS=ext4", 1)
        ask.settle()
        ask("one.image.persistent", oid, True)
        ask("one.image.chtype", oid, "OS")
        image = ask.xml("one.image.info", oid)
        assert (image.findtext("PERSISTENT"), image.findtext("TYPE")) == ("1", "0")
        ask("one.image.enable", oid, False)
        assert ask.refusal("one.image.persistent", oid, False)[0] == 8192
        ask("one.image.enable", oid, True)
        assert state(ask, oid) == 1
        with open(image.findtext("SOURCE") or "", "rb") as stream:
            stream.seek(0x438)
            assert stream.read(2) == b"\x53\xef"


class TestNetworks:
    TEXT = "NAME=n\nVN_MAD=dummy\nBRIDGE=b\nAR=[TYPE=IP4,IP=10.0.0.254,SIZE=3]"

    def test_leases_go_round_and_come_back(self, sim: Sim, ask: Asker) -> None:
        net = ask("one.vn.allocate", self.TEXT, -1)
        ask.settle()
        first, second = (vnets.lease(sim, net, vm) for vm in (7, 8))
        assert first == {"AR_ID": "0", "IP": "10.0.0.254", "MAC": "02:00:0a:00:00:fe"}
        assert second["IP"] == "10.0.0.255"
        vnets.release(sim, net, 7, first["MAC"])
        assert vnets.lease(sim, net, 9)["IP"] == "10.0.1.0"
        assert vnets.lease(sim, net, 10, ip="10.0.0.254")["MAC"] == first["MAC"]
        for wanted in ({}, {"ip": "10.0.0.254"}, {"mac": "02:00:00:00:00:01"}):
            with pytest.raises(Exception, match="Cannot get IP/MAC lease from virtual network 0"):
                vnets.lease(sim, net, 11, **wanted)
        leases = ask.xml("one.vn.info", net).findall("AR_POOL/AR/LEASES/LEASE")
        assert sorted(item.findtext("VM") or "" for item in leases) == ["10", "8", "9"]
        assert ask.refusal("one.vn.delete", net)[0] == 2048

    @pytest.mark.parametrize(
        "text",
        [
            "NAME=n\nBRIDGE=b",
            "NAME=n\nVN_MAD=nonsense",
            "NAME=n\nVN_MAD=dummy\nAR=[TYPE=IP4,IP=300.0.0.1,SIZE=1]",
            "NAME=n\nVN_MAD=dummy\nAR=[TYPE=IP4,IP=10.0.0.1,SIZE=0]",
            "VN_MAD=dummy",
        ],
    )
    def test_wrong_networks_are_refused(self, ask: Asker, text: str) -> None:
        assert ask.refusal("one.vn.allocate", text, -1)[0] == 0x4000

    def test_ranges_are_added_and_removed(self, ask: Asker) -> None:
        net = ask("one.vn.allocate", "NAME=n\nVN_MAD=dummy", -1)
        ask.settle()
        ask("one.vn.add_ar", net, "AR=[TYPE=ETHER,SIZE=4]")
        found = ask.xml("one.vn.info", net)
        assert found.findtext("BRIDGE") == f"onebr{net}"
        assert found.findtext("AR_POOL/AR/MAC_END", "").endswith(":03")
        ask("one.vn.rm_ar", net, 0)
        assert ask("one.vn.delete", net) == net
        assert ask.xml("one.cluster.info", 0).xpath("VNETS/ID") == []


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


def test_a_restart_goes_on_with_the_state(settings: SimConfig, tmp_path: Path) -> None:
    with Sim(settings) as sim:
        ask = Asker(sim)
        ask("one.image.allocate", "NAME=kept\nTYPE=DATABLOCK\nSIZE=1", 1)
        ask("one.group.allocate", "students")
        ask.settle()
        before = [ask("one.imagepool.info", -2, -1, -1), ask("one.acl.info")]
    with Sim(settings) as sim:
        ask = Asker(sim)
        assert [ask("one.imagepool.info", -2, -1, -1), ask("one.acl.info")] == before
        assert ask("one.image.allocate", "NAME=next\nTYPE=DATABLOCK\nSIZE=1", 1) == 1
        assert ask("one.group.allocate", "teachers") == 101


def test_interrupted_work_is_taken_up_again(tmp_path: Path) -> None:
    with Sim(SimConfig(dir=tmp_path / "sim", step=True)) as sim:
        ask = Asker(sim)
        ask("one.image.allocate", "NAME=i\nTYPE=DATABLOCK\nSIZE=1", 1)
        ask("one.vn.allocate", "NAME=n\nVN_MAD=dummy", -1)
        assert state(ask, 0) == 4
    with Sim(SimConfig(dir=tmp_path / "sim")) as sim:
        ask = Asker(sim)
        ask.settle()
        assert state(ask, 0) == 1
        assert ask.xml("one.vn.info", 0).findtext("STATE") == "1"


def test_twenty_clients_at_once(sim: Sim) -> None:
    failures: list[str] = []

    def work(number: int) -> None:
        one = pyone.OneServer(sim.endpoint, session=ADMIN)
        for turn in range(5):
            oid = one.template.allocate(f"NAME=t-{number}-{turn}\nCPU=1\nMEMORY=64")
            if f"t-{number}-{turn}" != one.template.info(oid).NAME:
                failures.append(f"{number}/{turn}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert failures == []
    pool = Asker(sim).xml("one.templatepool.info", -2, -1, -1)
    assert {item.text for item in pool.iterfind("VMTEMPLATE/ID")} == {str(i) for i in range(100)}


def test_pages_and_filters_of_pools(ask: Asker) -> None:
    for number in range(6):
        ask("one.template.allocate", f"NAME=t{number}")

    def ids(*params: int) -> list[str | None]:
        pool = ask.xml("one.templatepool.info", *params)
        return [item.text for item in pool.iterfind("VMTEMPLATE/ID")]

    assert ids(-2, 0, -2) == ["5", "4"]
    assert ids(-2, 4, -3) == ["1", "0"]
    assert ids(-2, 1, 2) == ["2", "1"]
    assert ids(-3, -1, -1) == ids(0, -1, -1) == ["5", "4", "3", "2", "1", "0"]
    assert ids(1, -1, -1) == []


def test_names_collide_as_in_oned(ask: Asker) -> None:
    ask("one.template.allocate", "NAME=a")
    ask("one.template.allocate", "NAME=b")
    assert ask.refusal("one.template.allocate", "NAME=a")[0] == 0x4000
    assert ask.refusal("one.template.rename", 0, "b")[1].endswith("collides with TEMPLATE 1.")
    assert ask("one.template.rename", 0, "a") == 0
    assert ask.refusal("one.template.update", 0, "A=1", 7)[0] == 0x1000
    assert ask.refusal("one.template.update", 0, "A==", 0)[1].endswith("columns 2:3")


def test_clusters_hold_their_members(ask: Asker) -> None:
    ask("one.cluster.allocate", "c1")
    ask("one.host.allocate", "h", "kvm", "kvm", 100)
    ask("one.cluster.adddatastore", 100, 1)
    cluster = ask.xml("one.cluster.info", 100)
    assert cluster.xpath("HOSTS/ID/text() | DATASTORES/ID/text()") == ["0", "1"]
    assert ask.refusal("one.cluster.delete", 100)[0] == 2048
    ask("one.cluster.delhost", 100, 0)
    ask("one.cluster.deldatastore", 100, 1)
    assert ask.xml("one.host.info", 0).findtext("CLUSTER") == "default"
    assert ask("one.cluster.delete", 100) == 100
    assert ask("one.host.delete", 0) == 0
    assert ask.xml("one.cluster.info", 0).xpath("HOSTS/ID") == []


def test_a_host_is_monitored_through_libvirt(tmp_path: Path) -> None:
    settings = SimConfig(dir=tmp_path / "sim", libvirt_uri="test:///default", step=True)
    with Sim(settings) as sim:
        ask = Asker(sim)
        ask("one.host.allocate", "h", "kvm", "kvm", -1)
        ask.settle()
        host = ask.xml("one.host.info", 0)
        assert host.findtext("STATE") == "2"
        assert int(host.findtext("HOST_SHARE/MAX_CPU") or 0) == 1600
        assert int(host.findtext("MONITORING/CAPACITY/FREE_MEMORY") or -1) >= 0
        assert len(ask.xml("one.hostpool.monitoring", -1)) == 1
        ask("one.host.status", 0, 1)
        ask.settle()
        assert ask.xml("one.host.info", 0).findtext("STATE") == "4"


def test_a_host_whose_libvirt_is_gone_is_in_error(tmp_path: Path) -> None:
    missing = f"qemu+unix:///system?socket={tmp_path}/none"
    with Sim(SimConfig(dir=tmp_path / "sim", libvirt_uri=missing, step=True)) as sim:
        ask = Asker(sim)
        ask("one.host.allocate", "h", "kvm", "kvm", -1)
        ask.settle()
        host = ask.xml("one.host.info", 0)
        assert host.findtext("STATE") == "3"
        assert "does not answer" in (host.findtext("TEMPLATE/ERROR") or "")


def test_broken_requests_get_faults(sim: Sim) -> None:
    with socket.create_connection(("127.0.0.1", int(sim.endpoint.split(":")[2][:-5]))) as peer:
        peer.sendall(b"POST /RPC2 HTTP/1.1\r\nContent-Length: 3\r\n\r\n<x>")
        answer = b""
        while chunk := peer.recv(4096):
            answer += chunk
    assert b"<i4>-503</i4>" in answer
    server = xmlrpc.client.ServerProxy(sim.endpoint)
    with pytest.raises(xmlrpc.client.Fault, match="Not enough parameters"):
        server.one.image.info(ADMIN)
    with pytest.raises(xmlrpc.client.Fault, match="supposed to be an integer is not"):
        server.one.image.info(ADMIN, "0")


def test_one_simulator_per_directory_and_port(
    sim: Sim, settings: SimConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"pid {os.getpid()}\) uses"):
        Sim(settings).start()
    port = int(sim.endpoint.split(":")[2][:-5])
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1 port {port}"):
        Sim(SimConfig(dir=tmp_path / "other", port=port)).start()


class TestCommand:
    def start(self, *options: str | Path) -> "subprocess.Popen[str]":
        argv = [PROGRAM, "sim", *map(str, options)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_it_serves_until_told_to_stop(self, tmp_path: Path) -> None:
        ready = tmp_path / "ready.json"
        process = self.start("--dir", tmp_path / "s", "--port", "0", "--ready-file", ready)
        try:
            wait_until(lambda: ready.exists() or None, Deadline(TIMEOUT_S), what="the simulator")
            told = json.loads(ready.read_text())
            auth = tmp_path / "s" / "one_auth"
            assert (told["pid"], auth.stat().st_mode & 0o777) == (process.pid, 0o600)
            one = pyone.OneServer(told["endpoint"], session=auth.read_text().strip())
            assert one.system.version() == "7.5.80"
        finally:
            process.send_signal(signal.SIGTERM)
            out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out.strip(), err) == (0, told["endpoint"], "")
        assert not ready.exists()

    def test_a_taken_port_is_one_sentence(self, sim: Sim, tmp_path: Path) -> None:
        port = sim.endpoint.split(":")[2][:-5]
        process = self.start("--dir", tmp_path / "t", "--port", port)
        out, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, out) == (3, "")
        assert err.count("\n") == 1 and f"port {port}" in err

    @pytest.mark.parametrize(
        ("options", "status"), [(("--port", "70000"), 2), (("--remotes", "/none"), 3)]
    )
    def test_wrong_options(self, tmp_path: Path, options: tuple[str, ...], status: int) -> None:
        process = self.start("--dir", tmp_path / "t", *options)
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, err.count("\n")) == (status, 1)

    def test_another_password_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "one_auth").write_text("oneadmin:first\n")
        process = self.start("--dir", tmp_path, "--password", "second", "--port", "0")
        _, err = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 3
        assert "another password" in err
        assert "second" not in err
