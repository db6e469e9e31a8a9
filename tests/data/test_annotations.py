"""The table of videos: what is read, what is refused, how splits are made."""

import pandas as pd
import pytest

from vtn.data import annotations


def table(labels, *, splits=None, groups=None):
    count = len(labels)
    return pd.DataFrame(
        {
            "video": [f"{number:04d}.mp4" for number in range(count)],
            "label": labels,
            "split": splits or [""] * count,
            "group": groups or [""] * count,
        }
    )


def split_of(frame, *, val=0.15, test=0.15, seed=0):
    return annotations.assign_splits(frame, val_share=val, test_share=test, seed=seed)


def test_labels_that_look_like_numbers_or_gaps_survive(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes('\ufeffvideo,label\na b.mp4,001\n"c,\'é.mp4",NA\n-d.mp4,null\n'.encode())
    frame = annotations.read(file)
    assert list(frame["label"]) == ["001", "NA", "null"]
    assert list(frame["video"]) == ["a b.mp4", "c,'é.mp4", "-d.mp4"]
    assert list(frame.columns) == list(annotations.COLUMNS)
    assert set(frame["split"]) == set(frame["group"]) == {""}


def test_parquet_reads_as_text_with_gaps_as_blanks(tmp_path):
    file = tmp_path / "a.parquet"
    pd.DataFrame({"video": ["a", "b"], "label": [1, 2], "split": ["train", None]}).to_parquet(file)
    frame = annotations.read(file)
    assert list(frame["label"]) == ["1", "2"]
    assert list(frame["split"]) == ["train", ""]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"video,labels\na,x\n", r"column 'label' is missing; rename 'labels'"),
        (b"video,label,Split\na,x,test\n", r"column 'split' is missing; rename 'Split'"),
        (b"video,label,GROUP \na,x,p\n", r"column 'group' is missing; rename 'GROUP '"),
        (b"video,label,splits\na,x,test\n", r"column 'split' is missing; rename 'splits'"),
        (b"video,label,label\na,x,y\n", r"column 'label' is there twice; keep one"),
        (b"video;label\na;x\n", "columns are parted by ';'; save them with commas"),
        (b"video\tlabel\na\tx\n", r"columns are parted by '\\t'; save them with commas"),
        (b"video,label\na.mp4,walk,\nb.mp4,run,\n", "rows have more cells than the first line; .* line ends"),
        (b"video,label\na,b.mp4,walk\n", "quote names that hold a comma"),
        (b"video,label\n", "list no video"),
        (b"", "cannot be read: No columns"),
        (b"video,label\n\xe9.mp4,x\n", "not UTF-8 .*save them as UTF-8"),
        (b"video,label\na,b\nd,e,f,g,h\n", "cannot be read: .*line 3"),
    ],
)
def test_an_unusable_csv_says_why(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        annotations.read(tmp_path / "a.csv")


def test_a_file_that_is_no_table_says_why(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"video,label\n")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read"):
        annotations.read(tmp_path / "a.parquet")
    (tmp_path / "a.xlsx").touch()
    with pytest.raises(ValueError, match=r"\.xlsx extension; save them as \.csv"):
        annotations.read(tmp_path / "a.xlsx")
    with pytest.raises(ValueError, match="not found"):
        annotations.read(tmp_path / "missing.csv")


def test_equal_tables_are_equal_bytes_and_come_back(tmp_path):
    frame = table(["x", "NA", "'q\"", "a,b\nc"], splits=["train", "val", "test", "train"])
    annotations.write(frame, tmp_path / "deep" / "a.csv")
    annotations.write(frame.iloc[::-1], tmp_path / "b.csv")
    content = (tmp_path / "deep" / "a.csv").read_bytes()
    assert content == (tmp_path / "b.csv").read_bytes()
    assert b"\r" not in content
    pd.testing.assert_frame_equal(annotations.read(tmp_path / "b.csv"), annotations.complete(frame))
    assert not list(tmp_path.rglob("*.partial"))


def test_check_reports_every_problem_at_once_with_videos():
    frame = table(
        ["x", "x", "", "y", "z"],
        splits=["train", "Train", "train", "test", "val"],
    )
    frame.loc[1, "video"] = "0000.mp4"
    with pytest.raises(ValueError, match=r"5 problem\(s\)") as caught:
        annotations.check(frame)
    message = str(caught.value)
    assert "listed more than once: 0000.mp4" in message
    assert "label: empty for 0002.mp4" in message
    assert "split: 'Train' for 0000.mp4 is none of train, val, test" in message
    assert "'y' has no training video, only 0003.mp4" in message
    assert "'z' has no training video, only 0004.mp4" in message


@pytest.mark.parametrize("column", ["video", "label"])
def test_check_refuses_names_that_would_break_a_line(column):
    frame = table(["x", "y"], splits=["train", "train"])
    frame.loc[1, column] = "a\rb"
    with pytest.raises(ValueError, match=rf"{column}: 'a\\rb' holds control characters; rename it"):
        annotations.check(frame)


def test_check_refuses_a_single_class_and_names_few_of_many_videos():
    with pytest.raises(ValueError, match="'x' is the only class"):
        annotations.check(table(["x"] * 3, splits=["train"] * 3))
    with pytest.raises(ValueError, match=r"0000\.mp4, 0001\.mp4, 0002\.mp4 and 7 more"):
        annotations.check(table([""] * 10, splits=["train"] * 10))


def test_class_names_are_the_sorted_training_labels():
    frame = table(["b", "a", "c", "b"], splits=["train", "train", "val", "train"])
    assert annotations.class_names(frame) == ["a", "b"]


def test_splits_are_stratified_and_follow_seed_and_videos_not_row_order():
    frame = table(["x"] * 100 + ["y"] * 40)
    done = split_of(frame)
    counts = done.groupby(["label", "split"]).size()
    assert counts["x", "test"] == counts["x", "val"] == 15
    assert counts["y", "test"] == counts["y", "val"] == 6
    shuffled = split_of(frame.sample(frac=1, random_state=1)).sort_values("video", ignore_index=True)
    pd.testing.assert_frame_equal(done, shuffled)
    assert not done.equals(split_of(frame, seed=1))


def test_one_more_video_moves_few_others():
    before = split_of(table(["x"] * 60 + ["y"] * 60))
    after = split_of(pd.concat([before.assign(split=""), table(["x"]).assign(video="new.mp4")]))
    changed = (after["split"][:120].to_numpy() != before["split"].to_numpy()).sum()
    assert changed <= 2


def test_small_classes_share_the_holdouts_between_them():
    done = split_of(table([str(number % 10) for number in range(30)]))
    sizes = done["split"].value_counts()
    assert (sizes["test"], sizes["val"]) == (4, 5)  # of 4.5 each
    held_out = done["label"][done["split"] != "train"]
    assert held_out.nunique() == 9  # no label is taken twice while others have given nothing


def test_groups_stay_whole_and_every_class_trains():
    people = [f"person {number % 9}" for number in range(90)]
    labels = [f"action {number // 9}" for number in range(90)]
    done = split_of(table(labels, groups=people))
    assert (done.groupby("group")["split"].nunique() == 1).all()
    assert done.groupby("split")["group"].nunique().to_dict() == {"test": 1, "train": 7, "val": 1}
    assert annotations.class_names(done) == sorted(set(labels))


@pytest.mark.parametrize("seed", range(5))
def test_no_class_loses_its_last_training_video(seed):
    labels = ["common"] * 20 + ["rare"] + ["pair"] * 2
    groups = ["g"] * 10 + [""] * 10 + ["g"] + [""] * 2
    done = split_of(table(labels, groups=groups), val=0.3, test=0.3, seed=seed)
    assert annotations.class_names(done) == ["common", "pair", "rare"]
    assert set(done["split"]) == set(annotations.SPLITS)


def test_a_split_is_left_empty_rather_than_a_class_without_training():
    done = split_of(table(["x", "y"]))
    assert list(done["split"]) == ["train", "train"]


def test_given_splits_stay_and_a_blank_row_follows_its_group():
    frame = table(
        ["x", "y"] * 10,
        splits=["test"] * 4 + ["val"] * 2 + ["train"] * 6 + [""] * 8,
        groups=["a"] * 4 + ["b"] * 2 + [""] * 6 + ["a", "b"] + [""] * 6,
    )
    done = split_of(frame)
    named = frame["split"] != ""
    assert list(done["split"][named]) == list(frame["split"][named])
    assert list(done["split"][12:14]) == ["test", "val"]
    assert set(done["split"][14:]) == {"train"}


def test_a_missing_split_is_carved_out_of_training():
    frame = table(["x", "y"] * 50, splits=["train"] * 80 + ["test"] * 20)
    done = split_of(frame, val=0.25)
    assert list(done["split"][80:]) == ["test"] * 20
    assert done["split"].value_counts().to_dict() == {"train": 60, "test": 20, "val": 20}
    without_test = frame.assign(split=frame["split"].replace("test", "val"))
    assert split_of(without_test, test=0.25)["split"].value_counts()["test"] == 20


def test_blank_rows_fill_missing_splits_before_named_training_rows_do():
    frame = table(["x", "y"] * 50, splits=["train"] * 60 + [""] * 40)
    done = split_of(frame, val=0.25, test=0.25)
    assert set(done["split"][:60]) == {"train"}
    assert done["split"][60:].value_counts().to_dict() == {"train": 20, "test": 10, "val": 10}


def test_unknown_splits_are_left_to_the_check():
    done = split_of(table(["x", "y"], splits=["Train", "Train"]))
    with pytest.raises(ValueError, match="'Train'"):
        annotations.check(done)


def test_a_share_of_zero_leaves_the_split_out():
    assert set(split_of(table(["x", "y"] * 10), val=0)["split"]) == {"train", "test"}
