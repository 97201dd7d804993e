"""CloudFormation templates as Python mappings."""

from __future__ import annotations

import re
from typing import Any

import yaml


def load_template(text: str) -> dict[str, Any]:
    """A template as a mapping, with the short forms of its functions written out (`!Ref X` is `{"Ref": "X"}`)."""
    template: dict[str, Any] = yaml.load(text, _TemplateLoader)
    return template


class _TemplateLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML with the tags of CloudFormation; parsed by libyaml if available, which is ten times faster."""


def _function(loader: yaml.Loader, tag: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if tag == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {tag if tag in ("Ref", "Condition") else f"Fn::{tag}": value}


_TemplateLoader.add_multi_constructor("!", _function)


def resolve(node: Any, parameters: dict[str, str]) -> Any:
    """A part of a template with parameters substituted in `Ref` and `Sub`; other functions are unchanged."""
    if isinstance(node, list):
        return [resolve(item, parameters) for item in node]
    if not isinstance(node, dict):
        return node
    match node:
        case {"Ref": name} if name in parameters:
            return parameters[name]
        case {"Fn::Sub": str(text)}:
            replaced = re.sub(r"\$\{(\w+)\}", lambda found: parameters.get(found[1], found[0]), text)
            return replaced if "${" not in replaced else {"Fn::Sub": replaced}
    return {key: resolve(value, parameters) for key, value in node.items()}
