"""`PlanningError`: figures that no plan can be made of."""


class PlanningError(ValueError):
    """A profile, table or number that cannot be planned with; the message names it and what would do."""
