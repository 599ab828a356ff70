"""Blank or drawn: measured on real pixels."""

import json

from PIL import Image, ImageDraw

from one_kvm_migrate.proof.vnc import screen_facts


def screen(width: int = 720, height: int = 400) -> Image.Image:
    return Image.new("RGB", (width, height), "black")


def test_one_colour_is_blank() -> None:
    facts = screen_facts(screen())
    assert (facts.width, facts.height, facts.colours) == (720, 400, 1)
    assert facts.blank
    assert facts.drawn_share == 0


def test_a_lone_cursor_is_blank() -> None:
    image = screen()
    ImageDraw.Draw(image).rectangle((0, 14, 8, 15), fill="white")
    assert screen_facts(image).blank


def test_one_line_of_text_is_not() -> None:
    image = screen()
    ImageDraw.Draw(image).text((0, 0), "debian login: waiting for somebody", fill="white")
    facts = screen_facts(image)
    assert not facts.blank
    assert facts.colours >= 2


def test_a_million_colours_are_counted() -> None:
    image = Image.effect_noise((1200, 900), 90).convert("RGB")
    image.paste((1, 2, 3), (0, 0, 10, 10))
    facts = screen_facts(image)
    assert not facts.blank
    assert json.dumps(facts.drawn_share)
