"""Images and networks of the simulator, with real files."""

import os
import subprocess
from pathlib import Path

import pytest

from one_kvm_migrate.sim.objects import datastores, vnets
from one_kvm_migrate.sim.service import Sim
from tests.integration.simulator.asker import (
    Asker,
    make_datastore,
    qcow2,
    state,
)


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

    def test_the_limit_is_for_all_that_the_file_system_holds(self, ask: Asker) -> None:
        ask.settle()
        used = int(ask.xml("one.datastore.info", 1).findtext("USED_MB") or "")
        ask("one.datastore.update", 1, f"LIMIT_MB={used + 2000}", 1)
        text = "NAME={}\nTYPE=DATABLOCK\nSIZE={}"
        ask("one.image.allocate", text.format("fits", 100), 1)
        assert ask.refusal("one.image.allocate", text.format("big", 4000), 1)[0] == 2048

    def test_a_limit_is_not_what_is_free(self, ask: Asker) -> None:
        """FREE_MB is what the driver measures; who asks must heed LIMIT_MB."""
        ask("one.datastore.update", 1, "LIMIT_MB=1", 1)
        datastores.monitor(ask.sim)
        assert int(ask.xml("one.datastore.info", 1).findtext("FREE_MB") or "") > 1

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

    def test_a_range_keeps_its_marks(self, ask: Asker) -> None:
        net = ask("one.vn.allocate", self.TEXT, -1)
        ask.settle()
        marks = {"OKM_RUN_ID": "7f-a", "OKM_STEP": "range:0", "NOTE": "a <b> & \u00e9"}
        words = ",".join(f'{key}="{value}"' for key, value in marks.items())
        given = f"AR=[TYPE=ETHER,MAC=08:00:27:00:00:01,SIZE=1,AR_ID=9,USED_LEASES=5,{words}]"
        ask("one.vn.add_ar", net, given)
        for method, params in (("one.vn.info", (net,)), ("one.vnpool.info", (-2, -1, -1))):
            found = ask.xml(method, *params).findall(".//AR[MAC='08:00:27:00:00:01']")
            assert [ar.findtext("AR_ID") for ar in found] == ["1"]
            assert {key: found[0].findtext(key) for key in marks} == marks
        assert [leaf.text for leaf in ask.xml("one.vn.info", net).iter("USED_LEASES")] == ["0"] * 3

    def test_a_range_in_use_is_not_removed(self, sim: Sim, ask: Asker) -> None:
        net = ask("one.vn.allocate", self.TEXT, -1)
        ask.settle()
        lease = vnets.lease(sim, net, 7)
        assert ask.refusal("one.vn.rm_ar", net, 0) == (
            8192, "[one.vn.rm_ar] Address Range has leases in use",
        )  # fmt: skip
        assert ask.refusal("one.vn.rm_ar", net, 1)[1].endswith("Address Range does not exist")
        ask("one.vn.rm_ar", net, 0, True)
        assert ask.xml("one.vn.info", net).findtext("USED_LEASES") == "0"
        vnets.release(sim, net, 7, lease["MAC"])
        assert ask("one.vn.delete", net) == net
