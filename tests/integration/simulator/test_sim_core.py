"""The simulator asked by real clients: pyone, many at once, restarts, pools, the command."""

import os
import socket
import threading
import xmlrpc.client
from pathlib import Path
from typing import Any

import pyone
import pytest

from one_kvm_migrate.errors import ConfigError
from one_kvm_migrate.sim.service import Sim, SimConfig
from tests.integration.simulator.asker import (
    ADMIN,
    TIMEOUT_S,
    Asker,
    state,
)


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


def test_stopping_leaves_no_thread_and_frees_the_port(settings: SimConfig) -> None:
    before = set(threading.enumerate())
    sim = Sim(settings)
    sim.start()
    Asker(sim)("one.cluster.allocate", "c")
    endpoint = sim.endpoint
    sim.stop()
    sim.stop()
    assert set(threading.enumerate()) == before
    with pytest.raises(ConnectionRefusedError):
        xmlrpc.client.ServerProxy(endpoint).one.system.version(ADMIN)
    with pytest.raises(ConfigError, match="not started"):
        _ = sim.endpoint


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
