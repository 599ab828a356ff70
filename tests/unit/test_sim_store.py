"""The simulator's state: numbers, transactions, records."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.doc import node
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.store import Obj, Record, Store
from one_kvm_migrate.sim.template import Template


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "oned.sqlite")
    yield opened
    opened.close()


def image(oid: int, name: str = "disk", uid: int = 0) -> Obj:
    head = (node("ID", oid), node("UID", uid), node("GID", 0), node("NAME", name))
    return Obj("image", oid, node("IMAGE", None, *head, node("VMS"), Template().to_xml()))


def test_objects_come_back_and_are_copies(store: Store) -> None:
    store.put(image(3, "a"))
    first = store.get("image", 3)
    first.set("NAME", "changed")
    assert store.get("image", 3).name == "a"
    store.put(first)
    assert store.get("image", 3).name == "changed"
    assert store.named("image", "changed", 0) is not None
    assert store.named("image", "changed", 7) is None


def test_a_missing_object_is_refused_as_oned_does(store: Store) -> None:
    with pytest.raises(OnedError) as caught:
        store.get("vm", 9)
    assert caught.value.code == Code.NO_EXISTS
    assert (caught.value.text, caught.value.object_id) == ("Error getting virtual machine [9].", 9)


def test_pools_are_newest_first(store: Store) -> None:
    for oid in (0, 2, 1):
        store.put(image(oid))
    assert [obj.oid for obj in store.all("image")] == [2, 1, 0]


def test_numbers_are_never_given_twice(store: Store) -> None:
    assert [store.new_id("vm") for _ in range(3)] == [0, 1, 2]
    assert store.new_id("group", 100) == 100
    store.put(image(store.new_id("image")))
    store.delete("image", 0)
    assert store.new_id("image") == 1


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    seen: list[str] = []
    with pytest.raises(ValueError), store.transaction():
        store.put(image(0))
        store.new_id("image")
        store.after_commit(lambda: seen.append("no"))
        raise ValueError
    assert store.find("image", 0) is None
    assert store.new_id("image") == 0
    assert seen == []


def test_work_after_commit_waits_for_the_outermost_transaction(store: Store) -> None:
    seen: list[str] = []
    with store.transaction():
        with store.transaction():
            store.after_commit(lambda: seen.append("done"))
        assert seen == []
    assert seen == ["done"]
    store.after_commit(lambda: seen.append("at once"))
    assert seen == ["done", "at once"]


def test_threads_do_not_lose_changes(store: Store) -> None:
    store.put(image(0))

    def add(start: int) -> None:
        for number in range(start, start + 20):
            with store.transaction():
                obj = store.get("image", 0)
                doc.add_id(obj.body, "VMS", number)
                store.put(obj)

    threads = [threading.Thread(target=add, args=(20 * place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert doc.ids(store.get("image", 0).body, "VMS") == list(range(80))


def test_state_survives_closing(tmp_path: Path) -> None:
    first = Store(tmp_path / "x")
    first.put(image(first.new_id("image"), "kept"))
    first.close()
    second = Store(tmp_path / "x")
    assert second.get("image", 0).name == "kept"
    assert second.new_id("image") == 1
    second.close()


def test_records_keep_the_last_ones(store: Store) -> None:
    for seq in range(5):
        store.add_record("hook", 1, Record(seq, 100 + seq, f"<R>{seq}</R>"), keep=3)
    store.add_record("hook", 2, Record(0, 7, "<R/>"), keep=3)
    assert [record.seq for _, record in store.records("hook", 1)] == [2, 3, 4]
    assert [oid for oid, _ in store.records("hook")] == [1, 1, 1, 2]


def test_cdata_stays_where_oned_writes_it(store: Store) -> None:
    obj = image(0)
    obj.body.append(doc.cdata("SOURCE", ""))
    store.put(obj)
    again = store.get("image", 0)
    again.set("SOURCE", "/a<b")
    assert "<SOURCE><![CDATA[/a<b]]></SOURCE>" in again.xml()
    again.set("SOURCE", "x]]>y")
    assert doc.parse(again.xml()).findtext("SOURCE") == "x]]>y"


def test_text_that_xml_cannot_hold_is_cleaned() -> None:
    assert doc.dumps(node("A", "a\x00b\x1b\ud800c")) == "<A>abc</A>"
