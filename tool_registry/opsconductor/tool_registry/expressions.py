"""Everything written as an expression in plans and tools: references in text, and conditions."""

from __future__ import annotations

from opsconductor.tool_registry.conditions import MAX_EXPRESSION as MAX_EXPRESSION
from opsconductor.tool_registry.conditions import check_expression as check_expression
from opsconductor.tool_registry.conditions import evaluate as evaluate
from opsconductor.tool_registry.conditions import evaluate_bool as evaluate_bool
from opsconductor.tool_registry.conditions import expression_references as expression_references
from opsconductor.tool_registry.references import MAX_TEXT as MAX_TEXT
from opsconductor.tool_registry.references import ExpressionError as ExpressionError
from opsconductor.tool_registry.references import Path as Path
from opsconductor.tool_registry.references import Reference as Reference
from opsconductor.tool_registry.references import interpolate as interpolate
from opsconductor.tool_registry.references import look_up as look_up
from opsconductor.tool_registry.references import output_paths as output_paths
from opsconductor.tool_registry.references import reference_text as reference_text
from opsconductor.tool_registry.references import references as references
