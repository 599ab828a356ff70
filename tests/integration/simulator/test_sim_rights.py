"""Who may do what in the simulator, and how much of it."""

from tests.integration.simulator.asker import (
    Asker,
)


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
