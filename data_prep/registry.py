"""The data sets: a record each, by name, from `data_sets.yaml`."""

from importlib import import_module
from pathlib import Path

import yaml

from speechbrain_music.data_prep.data_set import DataSet


def _read_records():
    """Name -> `DataSet`, with its entries of `references.bib` and its reader `read_<name>`."""
    folder = Path(__file__).parent
    declared = yaml.safe_load((folder / "data_sets.yaml").read_text(encoding="utf-8"))
    entries = (folder / "references.bib").read_text(encoding="utf-8").strip().split("\n\n")
    records = {}
    for name, fields in declared.items():
        module = import_module(f"speechbrain_music.data_prep.{fields.pop('module', name)}")
        cited = [next(e for e in entries if f"{{{key}," in e) for key in fields.pop("cite", ())]
        fields = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
        fields |= {"bibtex": "\n".join(cited), "read": getattr(module, f"read_{name}")}
        records[name] = DataSet(**fields)
    return records


DATA_SETS = _read_records()
