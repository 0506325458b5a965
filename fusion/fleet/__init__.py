"""Many machines: shards of images → tables, PNGs, figures. The recipe is in `run`; `cluster` alone imports Ray."""
