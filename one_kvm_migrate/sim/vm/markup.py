"""Escaping for text that is composed in oned's layout."""

from xml.sax.saxutils import escape


def quoted(text: str) -> str:
    """*text* as an XML attribute value between single quotes."""
    return "'" + escape(text, {"'": "&apos;", '"': "&quot;"}) + "'"


def cdata(text: str) -> str:
    """*text* as character data; a ``]]>`` inside is split so that it stays data."""
    return "<![CDATA[" + text.replace("]]>", "]]]]><![CDATA[>") + "]]>"
