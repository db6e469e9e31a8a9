"""A user's folder: layouts, names and refusals."""

import unicodedata

import pandas as pd
import pytest

from vtn.data.sources import prepare
from vtn.data.sources.folder import list_folder
from vtn.sections import DatasetConfig


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def annotate(folder, *rows, head="video,label"):
    (folder / "annotations.csv").write_text("\n".join([head, *rows]) + "\n")


def test_a_sub_folder_is_a_class_and_any_name_works(tmp_path):
    names = [
        "walk/-dash.mp4",
        "walk/.clip one.MP4",
        'walk/deep er/it\'s [1] ("x").webm',
        f"walk/{unicodedata.normalize('NFD', 'é')}.gif",
        f"walk/{unicodedata.normalize('NFC', 'é')}.gif",
        "höhe/a,b;c.3gp",
    ]
    put(
        tmp_path,
        *names,
        "walk/._clip.mp4",
        "walk/.DS_Store",
        "walk/notes.txt",
        ".git/x.mp4",
        "__MACOSX/y.mp4",
    )
    frame = list_folder(tmp_path)
    assert sorted(frame["video"]) == sorted(names)
    assert set(frame["label"]) == {"walk", "höhe"}


def test_videos_and_splits_survive_the_way_to_a_checked_table(tmp_path):
    put(tmp_path, *(f"{label}/{number}.mp4" for label in ("NA", "001") for number in range(10)))
    frame = prepare(DatasetConfig(name="folder", folder=tmp_path), seed=0, workers=0)
    assert set(frame["label"]) == {"NA", "001"}
    assert frame["split"].value_counts().to_dict() == {"train": 14, "test": 3, "val": 3}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_an_annotations_file_in_the_folder_wins_over_sub_folders(tmp_path, suffix):
    put(tmp_path, "walk/a.mp4", "b.bin")
    rows = pd.DataFrame({"video": ["./walk/a.mp4", "b.bin", "gone.mp4"], "label": ["x", "y", "y"]})
    if suffix == "csv":
        rows.to_csv(tmp_path / "annotations.csv", index=False)
    else:
        rows.to_parquet(tmp_path / "annotations.parquet")
    frame = list_folder(tmp_path)
    assert list(frame["video"]) == ["walk/a.mp4", "b.bin", "gone.mp4"]
    assert list(frame["label"]) == ["x", "y", "y"]


def test_an_annotated_accent_is_found_however_the_disk_spells_it(tmp_path):
    on_disk = unicodedata.normalize("NFD", "é.mp4")
    put(tmp_path, on_disk)
    annotate(tmp_path, "é.mp4,x")
    assert list(list_folder(tmp_path)["video"]) == [on_disk]


@pytest.mark.parametrize("name", ["/etc/a.mp4", "../a.mp4", "walk/../../a.mp4"])
def test_a_path_out_of_the_folder_is_refused(tmp_path, name):
    annotate(tmp_path, f"{name},x")
    with pytest.raises(ValueError, match="leaves the folder; write paths relative"):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no videos; arrange either one sub-folder a class"),
        (("README.md",), "holds no videos; arrange"),
        (("a.mp4", "b.mp4"), r"holds 2 videos but no labels; .*annotations\.csv"),
        (("walk/a.mp4", "b.mp4"), r"1 video\(s\) outside its class folders, for example 'b.mp4'"),
        (("walk/a.mp4", "run/x.txt"), "run holds no video; add some or remove it"),
        (("walk/a.mp4", "walk/b.mp4"), "one class only, 'walk'; add another"),
    ],
)
def test_a_folder_without_labelled_videos_says_what_to_do(tmp_path, names, message):
    put(tmp_path, *names)
    with pytest.raises(ValueError, match=f"dataset.folder: .*{message}"):
        list_folder(tmp_path)


def test_missing_folder_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"dataset\.folder: .*nowhere is not a folder"):
        list_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"dataset\.annotations: .*list\.csv not found"):
        list_folder(tmp_path, tmp_path / "list.csv")
    annotate(tmp_path, "a.mp4,x", "b.mp4,y")
    with pytest.raises(ValueError, match=r"holds none of the 2 videos .*'a\.mp4'"):
        list_folder(tmp_path)
    put(tmp_path, "annotations.parquet")
    with pytest.raises(ValueError, match=r"holds annotations\.csv and annotations\.parquet; keep one"):
        list_folder(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "walk").mkdir()
    try:
        (tmp_path / "walk" / "caf\udce9.mp4").touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(ValueError, match=r"caf\\xe9\.mp4' is not UTF-8; rename it"):
        list_folder(tmp_path)


def test_links_that_would_lose_videos_are_refused(tmp_path):
    put(tmp_path, "walk/a.mp4", "run/b.mp4", "elsewhere/c.mp4")
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("walk", "run"):
        (tmp_path / name).rename(folder / name)
    (folder / "run" / "c.mp4").symlink_to(tmp_path / "elsewhere" / "c.mp4")
    assert len(list_folder(folder)) == 3
    for link in (folder / "run" / "more", folder / "jump"):
        link.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=rf"{link.name} is a link to a folder, in which DVC would"):
            list_folder(folder)
        link.unlink()
    for link in (folder / "run" / "d.mp4", folder / "jump"):
        link.symlink_to(tmp_path / "absent")
        with pytest.raises(ValueError, match=rf"{link.name} is a link to nothing; mend or remove it"):
            list_folder(folder)
        link.unlink()
    (folder / ".#lock").symlink_to(tmp_path / "absent")
    assert len(list_folder(folder)) == 3


def test_too_few_videos_for_a_holdout_name_the_share(tmp_path):
    put(tmp_path, "walk/a.mp4", "run/b.mp4")
    with pytest.raises(ValueError, match=r"dataset\.val_share: 0\.15 cannot be met: .* name the split val"):
        prepare(DatasetConfig(name="folder", folder=tmp_path), seed=0, workers=0)
    annotate(tmp_path, "walk/a.mp4,x,train", "run/b.mp4,y,train", "c.mp4,x,val", head="video,label,split")
    remedy = r"set dataset\.test_share: 0 and evaluate\.split: val"
    with pytest.raises(ValueError, match=rf"test_share: 0\.15 cannot be met: .*{remedy}"):
        prepare(DatasetConfig(name="folder", folder=tmp_path), seed=0, workers=0)


def test_a_validation_share_of_zero_needs_named_validation_videos(tmp_path):
    put(tmp_path, *(f"{label}/{number}.mp4" for label in "xy" for number in range(9)))
    dataset = DatasetConfig(name="folder", folder=tmp_path, val_share=0)
    with pytest.raises(ValueError, match=r"val_share: 0, .*; raise dataset\.val_share, or name the split"):
        prepare(dataset, seed=0, workers=0)
    rows = [
        f"{label}/{number}.mp4,{label},{'' if number else 'val'}" for label in "xy" for number in range(9)
    ]
    annotate(tmp_path, *rows, head="video,label,split")
    assert set(prepare(dataset, seed=0, workers=0)["split"]) == {"train", "val", "test"}
    without_test = dataset.model_copy(update={"test_share": 0.0})  # for evaluate.split: val
    assert set(prepare(without_test, seed=0, workers=0)["split"]) == {"train", "val"}


def test_one_video_under_two_spellings_of_its_path_is_refused(tmp_path):
    put(tmp_path, "a.mp4", "b.mp4", "c.mp4", "d.mp4")
    rows = ["a.mp4,x,train", "./a.mp4,x,test", "b.mp4,y,train", "c.mp4,x,val"]
    annotate(tmp_path, *rows, head="video,label,split")
    with pytest.raises(ValueError, match=r"listed more than once: a\.mp4"):
        prepare(DatasetConfig(name="folder", folder=tmp_path), seed=0, workers=0)


def test_files_that_are_no_videos_are_counted_by_kind_and_hidden_ones_are_not(tmp_path, capsys):
    put(tmp_path, "walk/a.mp4", "run/b.mp4", "walk/.DS_Store", "run/.cache/x.json", "README.md")
    list_folder(tmp_path)
    assert capsys.readouterr().out == ""
    put(tmp_path, "walk/c.MXV", "walk/deep/d.mxv", "run/notes")
    list_folder(tmp_path)
    line = "left out 3 file(s) that are no videos: .mxv (2), no extension (1), for example 'run/notes'"
    assert capsys.readouterr().out == f"{tmp_path}: {line}\n"


def test_real_annotations_keep_their_people_apart(shared):
    frame = prepare(DatasetConfig(name="folder", folder=shared / "media/weizmann"), seed=0, workers=0)
    assert frame["split"].value_counts()["test"] == 30
    assert (frame.groupby("group")["split"].nunique() == 1).all()


def test_an_annotations_file_outside_the_folder_is_told_to_be_out_of_dvc_s_sight(tmp_path, capsys):
    videos, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    put(videos, "a.mp4")
    elsewhere.mkdir()
    annotate(elsewhere, "a.mp4,walk")
    list_folder(videos, elsewhere / "annotations.csv")
    assert "run `dvc repro --force download`" in capsys.readouterr().out
    annotate(videos, "a.mp4,walk")
    list_folder(videos)
    assert capsys.readouterr().out == ""
