"""Search spaces: the language, its values, and drawing from them."""

from effnas.space.search_space import Choice, SearchSpace, Target
from effnas.space.stage_space import Option, StageSpace

__all__ = ["Choice", "Option", "SearchSpace", "StageSpace", "Target"]
