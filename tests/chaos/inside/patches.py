"""Changes modules of the product right after they are imported."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from chaos.inside import conditions, mistakes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    Patch = Callable[[ModuleType], None]

PATCHES: Mapping[str, Mapping[str, Patch]] = {**conditions.PATCHES, **mistakes.PATCHES}


class Patcher:
    """Finds modules as everyone else does, and runs the patches of those that have some."""

    def __init__(self, names: Sequence[str]) -> None:
        self._wanted: dict[str, list[Patch]] = {}
        for name in names:
            for module, patch in PATCHES[name].items():
                self._wanted.setdefault(module, []).append(patch)
        if "" in self._wanted:
            for patch in self._wanted.pop(""):
                patch(sys.modules["os"])

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        """Returns the module's own spec, with a loader that patches it afterwards."""
        patches = self._wanted.pop(name, None)
        if patches is None:
            return None
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for patch in patches:
                patch(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
