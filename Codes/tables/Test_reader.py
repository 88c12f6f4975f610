"""Tables are read whatever their form, and a broken file is named with its line or byte."""

import gzip
import hashlib
import json
import pickle
import zipfile

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from Codes.ground.errors import WorkbookError
from Codes.problems import data
from Codes.tables import reader
from Codes.tables.cell_values import Reading

CSV = b"when,size,kind,sold\n2024-01-01,1,a,true\n2024-01-02,2,b,false\n2024-01-03,,,true\n"


def write(folder, name, content):
    """A file of bytes in `folder`."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def refusal(path, sha256=None):
    """The one line with which the file is refused; it names the file."""
    with pytest.raises(WorkbookError) as error:
        reader.read(path, sha256)
    assert "\n" not in error.value.message
    assert error.value.message.startswith(str(path.parent))
    return error.value.message


def forms(folder):
    """The same table as a CSV, gzipped, in parts, and as Parquet written by pandas."""
    header, *rows = CSV.splitlines(keepends=True)
    plain = write(folder, "t.csv", CSV)
    write(folder, "parts/1.csv", header + rows[0])
    write(folder, "parts/2.csv.gz", gzip.compress(header + rows[1] + rows[2]))
    frame = reader.read(plain).to_pandas()
    frame.astype({"size": "float32"}).to_parquet(folder / "t.parquet")
    frame.to_parquet(folder / "u.parquet", compression="gzip", row_group_size=1)
    yield plain
    yield write(folder, "z.csv.gz", gzip.compress(CSV))
    yield write(folder, "bom.csv", b"\xef\xbb\xbf" + CSV)
    yield write(folder, "crlf.csv", CSV.replace(b"\n", b"\r\n"))
    yield write(folder, "t.parquet.gz", gzip.compress((folder / "t.parquet").read_bytes()))
    yield from (folder / "parts", folder / "t.parquet", folder / "u.parquet")


def test_the_same_content_has_the_same_types_and_digest_in_every_form(tmp_path):
    seen = {}
    for path in forms(tmp_path):
        frame = data._frame(reader.read(path), ["size"])  # pylint: disable=protected-access
        seen[path.name] = (str(frame.dtypes.to_dict()), data.digest(frame))
    assert len(set(seen.values())) == 1, seen


def test_a_missing_file_is_named(tmp_path):
    assert "there is no such file or folder" in refusal(tmp_path / "nowhere.csv")


@pytest.mark.parametrize("content", [b"", b"\n\n", b"  "])
def test_an_empty_file_is_refused(tmp_path, content):
    assert "the file is empty" in refusal(write(tmp_path, "t.csv", content))


def test_a_header_alone_is_refused(tmp_path):
    assert "no rows" in refusal(write(tmp_path, "t.csv", b"a,b\n"))


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "parts").mkdir()
    assert "holds no parts" in refusal(tmp_path / "parts")


def test_a_column_that_comes_twice_is_named(tmp_path):
    assert "column 'a' comes more than once" in refusal(write(tmp_path, "t.csv", b"a,b,a\n1,2,3\n"))


def test_a_part_with_other_columns_is_named(tmp_path):
    write(tmp_path, "parts/1.csv", b"a,b\n1,2\n")
    odd = write(tmp_path, "parts/2.csv", b"a,c\n1,2\n")
    with pytest.raises(WorkbookError, match="2.csv: other columns than 1.csv: b, c"):
        reader.read(odd.parent)


def test_parts_may_differ_in_what_is_missing_and_in_the_order_of_columns(tmp_path):
    write(tmp_path, "parts/1.csv", b"a,b\n,1\n")
    write(tmp_path, "parts/2.csv", b"b,a\n1.5,x\n")
    frame = reader.read(tmp_path / "parts").to_pandas()
    assert frame["a"].isna().tolist() == [True, False] and frame["b"].tolist() == [1, 1.5]


def test_parts_of_text_are_read_as_one_table_and_typed_parts_that_differ_are_named(tmp_path):
    write(tmp_path, "parts/1.csv", b"a\n1\n")
    write(tmp_path, "parts/2.csv", b"a\nx\n")
    assert reader.read(tmp_path / "parts")["a"].to_pylist() == ["1", "x"]
    for name, value in (("1", 1), ("2", "x")):
        pd.DataFrame({"a": [value]}).to_parquet(tmp_path / "parts" / f"{name}.parquet")
        (tmp_path / "parts" / f"{name}.csv").unlink()
    assert "column 'a': its parts are of different types: dict" in refusal(tmp_path / "parts")


def test_a_partitioned_table_of_two_writers_has_its_folders_as_columns(tmp_path):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"]})
    for year in (2013, 2014):
        (tmp_path / "t" / f"year={year}").mkdir(parents=True)
    frame[frame["a"] > 1].to_parquet(tmp_path / "t" / "year=2013" / "one.parquet")
    schema = pa.schema([("b", pa.large_string()), ("a", pa.int32())])
    pq.write_table(
        pa.Table.from_pandas(frame, schema), tmp_path / "t" / "year=2014" / "two.parquet"
    )
    found = reader.read(tmp_path / "t").to_pandas()
    assert found["year"].tolist() == [2013] * 2 + [2014] * 3
    assert set(found) == {"a", "b", "year"} and found["a"].tolist() == [2, 3, 1, 2, 3]


def test_a_folder_among_the_parts_that_names_no_column_is_refused(tmp_path):
    (tmp_path / "parts").mkdir()
    write(tmp_path / "parts", "2013/1.csv", CSV)
    with pytest.raises(WorkbookError, match="is called NAME=VALUE"):
        reader.read(tmp_path / "parts")


def test_a_bad_byte_is_named_with_its_line(tmp_path):
    path = write(tmp_path, "t.csv", b"a,b\n1,caf\xe9\n")
    assert "byte 9 (line 2) is not UTF-8" in refusal(path)


def test_utf_16_is_refused(tmp_path):
    assert "byte 0 (line 1)" in refusal(write(tmp_path, "t.csv", "a,b\n1,2\n".encode("utf-16")))


@pytest.mark.parametrize("row, fields", [(b"3", 1), (b"3,4,5", 3)])
def test_a_ragged_row_is_named_by_its_line(tmp_path, row, fields):
    path = write(tmp_path, "t.csv", b'a,b\n1,2\n\n"x\ny",3\n' + row + b"\n5,6\n")
    assert f"line 6: {fields} fields, the header has 2" in refusal(path)


@pytest.mark.parametrize("name", ["t.pkl", "t.pickle", "t.joblib", "t.csv", "t.parquet"])
def test_a_pickle_is_refused_whatever_its_name(tmp_path, name):
    assert "pickle can run code" in refusal(write(tmp_path, name, pickle.dumps({"a": 1})))


@pytest.mark.parametrize("name", ["t.feather", "t", "t.doc"])
def test_an_unknown_ending_is_refused_with_those_there_are(tmp_path, name):
    assert "ends in .csv, .tsv, .txt, .parquet or .xlsx" in refusal(write(tmp_path, name, CSV))


@pytest.mark.parametrize("name", ["t.parquet", "t.csv.gz", "t.csv.zip", "t.gz"])
def test_a_file_that_is_not_what_its_ending_says_is_refused(tmp_path, name):
    refusal(write(tmp_path, name, CSV))


def test_a_parquet_file_cut_short_is_refused(tmp_path):
    pd.DataFrame({"a": range(1000)}).to_parquet(tmp_path / "t.parquet")
    refusal(write(tmp_path, "u.parquet", (tmp_path / "t.parquet").read_bytes()[:-50]))


def test_nested_values_are_refused_by_column(tmp_path):
    pd.DataFrame({"a": [[1, 2], [3]]}).to_parquet(tmp_path / "t.parquet")
    assert "column 'a': values of type list" in refusal(tmp_path / "t.parquet")


def test_the_digest_of_a_file_is_held_against_the_problem(tmp_path):
    path = write(tmp_path, "t.csv", CSV)
    good = hashlib.sha256(CSV).hexdigest()
    assert reader.read(path, good).num_rows == 3
    path.write_bytes(CSV.replace(b"1,a", b"9,a"))
    assert f"the problem names {good}" in refusal(path, good)


EURO = "# made by hand\nname;price;share\n'a;b';1.234,5;0,5\ncafé;2.000;\n"
OPTIONS = {"sep": ";", "decimal": ",", "thousands": ".", "quotechar": "'", "skiprows": 1}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "utf-16"])
def test_a_table_is_read_by_the_options_of_its_source(encoding, tmp_path):
    path = write(tmp_path, "euro.txt", EURO.encode(encoding))
    found = reader.read(path, reading=Reading(**OPTIONS, encoding=encoding)).to_pydict()
    assert found == {
        "name": ["a;b", "café"],
        "price": [1234.5, 2000.0],
        "share": [0.5, None],
    }


def test_a_zipped_table_is_read_and_a_zip_of_two_is_refused(tmp_path):
    plain = reader.read(write(tmp_path, "t.csv", CSV))
    with zipfile.ZipFile(tmp_path / "t.zip", "w") as archive:
        archive.writestr("__MACOSX/._t.csv", b"")
        archive.writestr("inside/t.csv", CSV)
    assert reader.read(tmp_path / "t.zip").equals(plain)
    with zipfile.ZipFile(tmp_path / "t.zip", "a") as archive:
        archive.writestr("u.csv", CSV)
    assert "2 files are in it" in refusal(tmp_path / "t.zip")


def test_a_sheet_is_read_as_the_same_table_in_a_csv(tmp_path):
    frame = pd.read_csv(write(tmp_path, "t.csv", CSV), parse_dates=["when"])
    with pd.ExcelWriter(tmp_path / "t.xlsx") as book:
        pd.DataFrame({"note": ["see the other sheet"]}).to_excel(book, sheet_name="notes")
        frame.to_excel(book, sheet_name="sales", index=False)
    found = reader.read(tmp_path / "t.xlsx", reading=Reading(sheet_name="sales"))
    assert found.to_pydict() == reader.read(tmp_path / "t.csv").to_pydict()
    with pytest.raises(WorkbookError, match="no sheet 'sale'; there are notes, sales"):
        reader.read(tmp_path / "t.xlsx", reading=Reading(sheet_name="sale"))


@pytest.mark.parametrize("sep", [";", "\t", "|"])
def test_the_separator_that_a_table_has_is_proposed(sep, tmp_path):
    path = write(tmp_path, "t.csv", CSV.replace(b",", sep.encode()))
    assert f"with sep: {json.dumps(sep)} under `source` it has 4 columns" in refusal(path)
