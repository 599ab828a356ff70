"""OpenNebula's template language, as oned's scanner reads it."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from one_kvm_migrate.sim import doc
from one_kvm_migrate.sim.errors import Code, OnedError
from one_kvm_migrate.sim.template import Template, is_yes


def items(text: str) -> list[tuple[str, object]]:
    return list(Template.parse(text).items())


def test_plain_and_vector_attributes() -> None:
    text = 'name = vm\nMEMORY="512"\nDISK = [ image_id = 3,\n  DEV_PREFIX = "vd" ]\nDISK=[SIZE=1]'
    assert items(text) == [
        ("NAME", "vm"),
        ("MEMORY", "512"),
        ("DISK", {"IMAGE_ID": "3", "DEV_PREFIX": "vd"}),
        ("DISK", {"SIZE": "1"}),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('NAME="x" PATH= bad [', [("NAME", "x"), ("PATH", "bad")]),
        ("A=\nB=2", [("A", ""), ("B", "2")]),
        ("# a comment = 1\nA=1 # rest\nB=2\n", [("A", "1"), ("B", "2")]),
        ('A="two\nlines"', [("A", "two\nlines")]),
        (r'A="say \"hi\" [x], y=1 #z"', [("A", 'say "hi" [x], y=1 #z')]),
        ("A=[]", [("A", {})]),
        ("A=[B=1,B=2]", [("A", {"B": "1"})]),
        ("", []),
        ("\ufeffA=1", [("A", "1")]),
        ("A=ñ", [("A", "ñ")]),
        ('A="open', [("A", '"open')]),
    ],
)
def test_oddities(text: str, expected: list[tuple[str, object]]) -> None:
    assert items(text) == expected


@pytest.mark.parametrize(
    "text",
    ["A", "A=1 =2", "A=[B=1", "A=[B=1,]", "A=[B=[C=1]]", "A", "=1", "A=x]]>y", 'A="b c', "A=[B]"],
)
def test_wrong_syntax_is_refused(text: str) -> None:
    with pytest.raises(OnedError) as caught:
        Template.parse(text)
    assert caught.value.code == Code.INTERNAL
    assert caught.value.text.startswith("Parse error: ")


def test_a_syntax_error_names_the_place() -> None:
    with pytest.raises(OnedError, match=r"unexpected VARIABLE.* at line 2, columns 2:3"):
        Template.parse("A=1\nB C=2")


def test_xml_is_taken_whatever_its_root() -> None:
    parsed = Template.parse("<X><NAME>a</NAME><DISK><IMAGE_ID>1</IMAGE_ID></DISK><E/></X>")
    assert list(parsed.items()) == [("NAME", "a"), ("DISK", {"IMAGE_ID": "1"}), ("E", "")]


@pytest.mark.parametrize("text", ["<X>", "<!DOCTYPE x [<!ENTITY a 'b'>]><X>&a;</X>"])
def test_bad_xml_is_refused(text: str) -> None:
    with pytest.raises(OnedError):
        Template.parse(text)


def test_xml_form_is_sorted_and_in_cdata() -> None:
    parsed = Template.parse('Z=1\nA=[Y="<&>",X=2]\nA=[B=3]')
    assert doc.dumps(parsed.to_xml()) == (
        "<TEMPLATE><A><X><![CDATA[2]]></X><Y><![CDATA[<&>]]></Y></A><A><B><![CDATA[3]]></B></A>"
        "<Z><![CDATA[1]]></Z></TEMPLATE>"
    )


def test_merge_replaces_by_name_and_keeps_the_rest() -> None:
    mine = Template.parse("A=1\nD=[X=1]\nD=[X=2]\nB=2")
    theirs = Template.parse("D=[X=3]\nC=4")
    mine.merge(theirs)
    assert mine.vectors("D") == [{"X": "3"}]
    assert (mine.get("A"), mine.get("B"), mine.get("C")) == ("1", "2", "4")
    mine.vectors("D")[0]["X"] = "changed"
    assert theirs.vectors("D") == [{"X": "3"}]


def test_set_get_remove() -> None:
    template = Template.parse("A=1\nA=2\nV=[K=1]")
    assert template.get_all("A") == ["1", "2"]
    template.set("a", "3")
    assert template.get_all("A") == ["3"]
    assert template.remove("V") == [{"K": "1"}]
    assert template.vector("V") is None
    assert not template.has("V")
    assert template.get("V", "none") == "none"


@pytest.mark.parametrize(("text", "expected"), [("YES", True), ("yEs", True), ("true", False)])
def test_only_yes_is_true(text: str, expected: bool) -> None:
    assert is_yes(text) is expected


NAMES = st.text(string.ascii_uppercase + "_", min_size=1, max_size=8)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters='"\\'),
    max_size=20,
).filter(lambda text: "]]>" not in text)


@given(st.lists(st.tuples(NAMES, VALUES | st.dictionaries(NAMES, VALUES, min_size=1)), max_size=6))
def test_quoted_values_come_back(pairs: list[tuple[str, str | dict[str, str]]]) -> None:
    lines = []
    for name, value in pairs:
        if isinstance(value, dict):
            inner = ", ".join(f'{key}="{text}"' for key, text in value.items())
            lines.append(f"{name} = [ {inner} ]")
        else:
            lines.append(f'{name} = "{value}"')
    parsed = Template.parse("\n".join(lines))
    assert list(parsed.items()) == pairs


@given(st.text(max_size=200))
def test_any_text_gives_a_template_or_a_clear_refusal(text: str) -> None:
    try:
        Template.parse(text)
    except OnedError as exc:
        assert exc.text.startswith("Parse error: ")
