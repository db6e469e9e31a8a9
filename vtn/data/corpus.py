"""The decoded videos of one data set: their frames, their classes and who is in which split."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from vtn.data.annotations import SPLITS
from vtn.data.clips import Labelled
from vtn.data.frame_store import FrameStore
from vtn.sections import DecodeConfig

FRAMES = Path("data/frames")


@dataclass(frozen=True)
class Corpus:
    """A frame store with the labels of its videos; `classes` are those annotated for training, sorted."""

    store: FrameStore
    classes: tuple[str, ...]

    @classmethod
    def open(cls, directory: Path = FRAMES) -> "Corpus":
        """Open a decoded data set; ValueError where it is missing, damaged or has nothing to train on."""
        store = FrameStore.open(directory)
        training = store.manifest[store.manifest["split"] == "train"]
        corpus = cls(store, tuple(sorted(training["label"].unique())))
        usable = set(training[training["accepted"]]["label"])
        if lost := [name for name in corpus.classes if name not in usable]:
            raise ValueError(
                f"{directory}: every training video of {', '.join(map(repr, lost))} was rejected; "
                f"see {directory}/manifest.csv for the reasons, mend the videos or remove the class"
            )
        return corpus

    @property
    def fingerprint(self) -> str:
        """sha256 of frames, labels and splits: what training and evaluation depend on."""
        table = self.store.manifest[["video", "label", "split", "accepted"]].to_csv(index=False)
        return hashlib.sha256((self.store.fingerprint + table).encode()).hexdigest()

    def check_recipe(self, decode: DecodeConfig) -> None:
        """Raise ValueError where the frames were decoded otherwise than `decode` says."""
        wanted = decode.model_dump(mode="json")
        for key, value in self.store.recipe.items():
            if wanted[key] != value:
                raise ValueError(
                    f"decode.{key}: {wanted[key]} now, but {self.store.directory} was decoded with {value}; "
                    "run `dvc repro decode`"
                )

    def annotated(self, split: str) -> pd.DataFrame:
        """The manifest's rows of a split, rejected videos included."""
        assert split in SPLITS, split
        return self.store.manifest[self.store.manifest["split"] == split]

    def labelled(self, split: str) -> Labelled:
        """The usable videos of a split and their class numbers; ValueError where there are none."""
        rows = self.annotated(split)
        rows = rows[rows["accepted"]]
        if rows.empty:
            raise ValueError(
                f"no usable video in split {split!r}; raise dataset.{split}_share, or name the split of some "
                f"videos in the annotations{', or set evaluate.split: val' if split == 'test' else ''}"
            )
        numbers = {name: number for number, name in enumerate(self.classes)}
        return Labelled(tuple(rows["video"]), tuple(numbers[label] for label in rows["label"]))
