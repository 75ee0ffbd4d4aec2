"""`effnas space`: the choices of a space and what its networks cost."""

from __future__ import annotations

import json
from dataclasses import asdict

from effnas.cli.tables import console, counted, facts, networks, params_text, table
from effnas.config.catalog import find
from effnas.config.text import share_text
from effnas.space.search_space import SearchSpace
from effnas.space.summary import summarize
from effnas.trials.reward import METRICS, SYMBOLS


def show_space(name: str, *, samples: int, seed: int, as_json: bool) -> None:
    """Print a space.

    Raises:
        UserError: If it cannot be found or read, or nothing meets its constraints.
    """
    source = find("search_spaces", name)
    space = SearchSpace.read(source)
    summary = summarize(space, samples=samples, seed=seed)
    if as_json:
        description = {
            "name": space.name,
            "path": str(source.path),
            "id": space.id,
            "stem": space.stem,
            "stem_stride": space.stem_stride,
            "stages": [str(stage) for stage in space.stages],
            "head": space.head,
            "target": asdict(space.target),
            "constraints": [c.text for c in space.constraints],
            "choices": {choice.name: choice.options for choice in space.choices},
            "reference_architecture": str(space.reference),
            **asdict(summary),
        }
        print(json.dumps(description, indent=2))
        return
    screen = console()
    target = space.target
    classes = counted(target.num_classes or 1000, "class", "classes")
    classes += "" if target.num_classes else " (in a search, those of the data)"
    symbols = {name: f"{name} ({symbol})" for symbol, name in SYMBOLS.items()}
    own = sorted(space.quantity_names - METRICS.keys() - SYMBOLS.keys())
    of_first = [name for name in own if "." not in name or name.startswith("stage1.")]
    rows = [
        ("space", f"{space.name} ({source.origin}: {source.path}), id {space.id}"),
        ("size", f"{space.size:,} architectures ({space.size:.2e})"),
        ("target", f"{target.image_size} px, batch {target.batch_size}, {classes}"),
        ("constraints", "; ".join(c.text for c in space.constraints) or "none"),
        ("feasible", f"{share_text(summary.feasible_share, 1)} of {samples:,} drawn at random"),
        ("metrics", "of rewards, constraints and objectives: "
                    + ", ".join(symbols.get(name, name) for name in METRICS)),
        ("more", f"of constraints alone: {', '.join(of_first)}, and so on to "
                 f"stage{len(space.stages)}"),
        ("reference", f"{'' if summary.reference_inside else 'not '}inside the space"),
    ]  # fmt: skip
    screen.print(facts(rows))
    screen.print()
    stages = table("stage", "options", "block", left=["block"], spare=["options"])
    stages.add_row("", "", f"conv_k3_s{space.stem_stride}_c{space.stem} (stem)")
    for n, stage in enumerate(space.stages, start=1):
        stages.add_row(str(n), str(stage.size), str(stage))
    stages.add_row("", "", f"conv_k1_s1_c{space.head} (head)")
    screen.print(stages)
    screen.print()
    screen.print(networks([("reference", space.reference)]))
    screen.print()
    first = "feasible networks"
    counts = table(first, "minimum", "median", "maximum", "reference", left=[first])
    for quantity, (low, median, high) in summary.quantiles.items():
        figures = (low, median, high, summary.reference[quantity])
        counts.add_row(quantity, *(params_text(figure) for figure in figures))
    screen.print(counts)
