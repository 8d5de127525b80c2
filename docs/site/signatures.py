"""The signatures of what `@equation` decorates: a user calls it with the hyperparameters, not with (g, s, p, t)."""

from typing import Any

import griffe


class Lifted(griffe.Extension):
    """Leaves the hyperparameters, which are keyword-only, of lifted equations."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        """Drop the equation's own arguments, and its result."""
        if any(decorator.callable_path.split(".")[-1] in ("equation", "tree_equation") for decorator in func.decorators):
            keywords = [q for q in func.parameters if q.kind is griffe.ParameterKind.keyword_only]
            func.parameters = griffe.Parameters(*keywords)
            func.returns = "optax.GradientTransformationExtraArgs"
