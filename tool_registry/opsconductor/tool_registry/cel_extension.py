"""Loads the CEL binding without its interactive shell, which costs half a second of start time."""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

_NAME = "cel.cel"


@functools.cache
def load_cel() -> ModuleType:
    """Returns the module with ``compile``: the extension by itself, else the whole package."""
    if _NAME in sys.modules:
        return sys.modules[_NAME]
    package = importlib.util.find_spec("cel")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for suffix in importlib.machinery.EXTENSION_SUFFIXES:
            file = Path(folder) / f"cel{suffix}"
            if file.is_file():
                return _loaded(file)
    import cel

    return cel


def _loaded(file: Path) -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(_NAME, str(file))
    spec = importlib.util.spec_from_file_location(_NAME, file, loader=loader)
    if spec is None:
        raise ImportError(f"cannot load {file}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    # Under its own name, a later ``import cel`` finds it and does not initialise it again.
    sys.modules[_NAME] = module
    return module
