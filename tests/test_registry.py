"""Registries: a name that means nothing, or two things, is an error with a hint."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from hf_distill.registry import Registry


class Shape:
    pass


@dataclass
class Circle(Shape):
    radius: float = field(metadata={"help": "distance from the middle"})


@pytest.fixture
def shapes() -> Registry[Shape]:
    registry: Registry[Shape] = Registry("shape", Shape)
    registry.register("circle")(Circle)
    return registry


def test_registering_does_not_wrap_the_class(shapes):
    class Square(Shape):
        pass

    assert shapes.register("square")(Square) is Square
    assert shapes.get("square") is Square


def test_a_second_class_cannot_take_a_name(shapes):
    with pytest.raises(ValueError, match=r"shape 'circle' is registered already, by .*Circle"):
        shapes.register("circle")(type("Other", (Shape,), {}))
    assert shapes.get("circle") is Circle


def test_a_class_of_another_kind_is_refused(shapes):
    with pytest.raises(TypeError, match=r"dict must derive from Shape to be a shape"):
        shapes.register("mapping")(dict)
    assert "mapping" not in shapes


@pytest.mark.parametrize("name", ["Circle", "two words", "two-shot", "", "3d"])
def test_a_name_that_a_recipe_could_not_spell_is_refused(shapes, name):
    with pytest.raises(ValueError, match="must be lower_snake_case"):
        shapes.register(name)


def test_a_typo_gets_the_nearest_name_and_the_list(shapes):
    with pytest.raises(ValueError, match=r"Unknown shape 'circel'. Did you mean 'circle'\? Known: circle\."):
        shapes.get("circel")


@pytest.mark.parametrize("name", [None, 3, ["circle"], {}])
def test_a_name_that_is_no_text_is_unknown_and_not_a_crash(shapes, name):
    with pytest.raises(ValueError, match="Unknown shape"):
        shapes.get(name)


def test_names_do_not_depend_on_the_order_of_imports(shapes):
    shapes.register("arc")(type("Arc", (Shape,), {}))
    assert shapes.names() == list(shapes) == ["arc", "circle"]


def test_a_class_tells_its_name(shapes):
    assert shapes.name_of(Circle) == "circle"
    with pytest.raises(ValueError, match="Shape is not a registered shape"):
        shapes.name_of(Shape)


def test_building_checks_the_fields_with_their_path(shapes):
    assert shapes.build({"name": "circle", "radius": 2}, path="a.b") == Circle(radius=2.0)
    with pytest.raises(ValueError, match=r"a\.b\.radus: unknown key. Did you mean `radius`\?"):
        shapes.build({"name": "circle", "radus": 2}, path="a.b")


def test_building_without_a_name_lists_the_names(shapes):
    with pytest.raises(ValueError, match=r"a\.b: a shape needs a `name`; known: circle"):
        shapes.build({"radius": 2}, path="a.b")


def test_building_leaves_the_specification_as_it_was(shapes):
    spec = {"name": "circle", "radius": 2.0}
    shapes.build(spec, path="")
    assert spec == {"name": "circle", "radius": 2.0}
