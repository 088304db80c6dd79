"""quorem describe."""

import argparse

from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.plan.sizes import describe, head_text


def run(options: argparse.Namespace) -> None:
    """Print parameters and bytes."""
    config = resolve(options.settings)
    plan = Plan.as_asked(config)
    found = describe(plan)
    print(f"{'part':<62}{'shape':>18}{'parameters':>16}{'MB':>12}")
    for part in found["parts"]:
        shape = " x ".join(f"{size:,}" for size in part.shape) if part.shape is not None else ""
        note = "" if part.trained else "  (not trained)"
        print(f"{part.name:<62}{shape:>18}{part.parameters:>16,}{part.bytes / 1e6:>12,.3f}{note}")
    trained = found["parameters"] * 4 / 1e6
    print(f"{'in all, trained':<80}{found['parameters']:>16,}{trained:>12,.3f}")
    print(f"{'with what is not trained':<96}{found['weight_bytes'] / 1e6:>12,.3f}")
    print(f"{'in training: gradients and the optimizer too':<96}{found['training_bytes'] / 1e6:>12,.3f}")
    length = config.data.max_length
    if (steps := config.train.max_steps) is not None:
        whole = f"{steps:,} steps of {config.train.batch_size} x {length} tokens (train.max_steps)"
        print(f"{whole:<80}{steps * config.train.batch_size * (length or 0):>16,}")
    table = found["table"]
    print(f"softmax of the generator: {head_text(plan.generator.head or {})}")
    print(f"rows of their own: {table['own_rows']:,} tokens; others to a row: about {table['ids_per_row']:,}")
    print(f"room for {table['room']:,} more tokens without another row")
    print(f"no two tokens share all they read: {table['uniqueness'] or 'NOT SO, hashed ids can meet'}")
    print(f"token table: {found['table_ratio']:,.1f} times smaller than a row for each of {plan.vocab_size:,} tokens")
