"""TOML, YAML and JSON files of names and values: settings, and descriptions of classes."""

import json
import re
from typing import Any, ClassVar

DEEPEST = 20
SCALARS = {  # YAML 1.2's own: 2e-4 is a number, off a text, 1:30 no number
    "bool": r"true|True|TRUE|false|False|FALSE",
    "null": r"null|Null|NULL|~|",
    "int": r"[-+]?(0|[1-9][0-9]*)",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


def pairs(text: str, suffix: str) -> Any:
    """Names and values of the top of a file, a name that stands there twice twice; what is no mapping as it is.

    Raises:
        ValueError: it is no TOML, YAML or JSON (each library has errors of its own), or its YAML has aliases or is
            nested too deep, either of which can take hours to read.
    """
    match suffix.lower():
        case ".toml":
            import tomllib

            return list(tomllib.loads(text).items())
        case ".json":
            return json.loads(text, object_pairs_hook=lambda pairs: pairs)
        case ".yaml" | ".yml":
            return _yaml(text)
    raise ValueError("the name must end in .toml, .yaml, .yml or .json")


def _yaml(text: str) -> Any:
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases (*name) are not read here; write the value out")
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")

    class Loader(yaml.SafeLoader):
        """Knows the scalars of YAML 1.2."""

        yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}

    for name, pattern in SCALARS.items():
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{name}", re.compile(f"(?:{pattern})$"), None)
    node = yaml.compose(text, Loader)
    if not isinstance(node, yaml.MappingNode):
        return node and "something else"
    loader = Loader("")
    return [(str(key.value), loader.construct_object(value, deep=True)) for key, value in node.value]
