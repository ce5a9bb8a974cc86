"""The tool registry: definitions read strictly, rendered without shells and judged for risk."""

from __future__ import annotations

from opsconductor.tool_registry.roots import tools_root as tools_root
