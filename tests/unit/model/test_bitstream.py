# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Images for FPGAs: what they say of themselves, and what damaged or hostile ones come to."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devagent.errors import BadBitstream
from devagent.model.bitstream import GBS_GUID, Header, Kind, read
from unit.model.images import INTERFACE, gbs, legacy, metadata, xclbin

IDS = st.binary(min_size=16, max_size=16).filter(any).map(bytes.hex)
RAW = st.binary(min_size=1, max_size=300)


@given(IDS, IDS, RAW)
def test_a_gbs_tells_its_ids_and_hands_over_only_its_raw_part(interface: str, function: str, raw: bytes) -> None:
    data = gbs(raw, metadata(interface, function))
    header = read(data)
    assert (header.kind, header.interface_id, header.function_id) == (Kind.GBS, interface, function)
    assert data[header.offset : header.offset + header.length] == raw


@given(IDS, RAW)
def test_the_older_form_of_a_gbs_has_its_interface_id_reversed(interface: str, raw: bytes) -> None:
    data = legacy(raw, interface)
    assert read(data) == Header(Kind.GBS, interface, None, 20, len(raw))
    assert data[20:] == raw


@given(IDS, IDS, RAW)
def test_an_xclbin_is_handed_over_whole(interface: str, function: str, raw: bytes) -> None:
    data = xclbin(interface, function, raw)
    assert read(data) == Header(Kind.XCLBIN, interface, function, 0, len(data))


def test_an_xclbin_without_ids_says_none() -> None:
    header = read(xclbin("0" * 32, "0" * 32))
    assert (header.interface_id, header.function_id) == (None, None)


@given(RAW)
def test_whatever_else_there_is_is_data_without_a_header(raw: bytes) -> None:
    assert read(b"\xff\xff" + raw) == Header(Kind.RAW, None, None, 0, len(raw) + 2)


@pytest.mark.parametrize(
    ("high", "low", "clock"), [(200, 100, (200, 100)), (0, 0, None), (312.5, 156.25, (313, 157)), (None, None, None)]
)
def test_a_gbs_asks_for_its_user_clock(high: float | None, low: float | None, clock: tuple[int, int] | None) -> None:
    told = metadata(values={"clock-frequency-high": high, "clock-frequency-low": low})
    assert read(gbs(told=told)).user_clock == clock


@pytest.mark.parametrize("clusters", [None, [], {}, [3], [{}]])
def test_a_gbs_need_not_tell_what_it_makes(clusters: Any) -> None:
    header = read(gbs(told=metadata(values={"accelerator-clusters": clusters})))
    assert (header.interface_id, header.function_id) == (INTERFACE, None)


def test_ids_may_be_written_in_any_case() -> None:
    told = metadata(values={"interface-uuid": INTERFACE.upper()})
    assert read(gbs(told=told)).interface_id == INTERFACE


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (GBS_GUID + b"\x10", "ends within its header"),
        (GBS_GUID + struct.pack("<I", 0) + b"{}", "0 bytes of metadata"),
        (GBS_GUID + struct.pack("<I", 0xFFFFFFFF) + b"{}", "4294967295 bytes of metadata"),
        (gbs(raw=b""), "before its data begins"),
        (gbs(told=b"[" * 60000), "no JSON"),
        (gbs(told=b"\xff\xfe"), "no JSON"),
        (gbs(told=b"9" * 5000), "no JSON"),
        (gbs(told=b"[1]"), "no afu-image"),
        (gbs(told=b'{"afu-image": 3}'), "no afu-image"),
        (gbs(told=metadata() | {"version": 2}), "version 2"),
        (gbs(told=metadata() | {"version": "x" * 500}), "version 'xxx"),
        (gbs(told=metadata(values={"magic-no": 1})), "magic-no"),
        (gbs(told=metadata(values={"interface-uuid": None})), "without an interface-uuid"),
        (gbs(told=metadata(values={"interface-uuid": "../../etc"})), "interface-uuid is no UUID"),
        (gbs(told=metadata(values={"interface-uuid": [1]})), "interface-uuid is no UUID"),
        (gbs(told=metadata(values={"accelerator-clusters": [{"accelerator-type-uuid": 7}]})), "is no UUID"),
        (gbs(told=metadata(values={"clock-frequency-high": "fast"})), "no frequency"),
        (gbs(told=metadata(values={"clock-frequency-high": -1})), "no frequency"),
        (gbs(told=metadata(values={"clock-frequency-low": float("nan")})), "no frequency"),
        (gbs(told=metadata(values={"clock-frequency-low": 10**400})), "no frequency"),
        (gbs(told=metadata(values={"clock-frequency-low": True})), "no frequency"),
        (legacy(raw=b""), "before its data begins"),
        (xclbin()[:300], "ends within its header"),
        (xclbin()[:-1], "says it has 560 bytes, but has 559"),
        (b"xclbin1\0" + bytes(600), "older kind"),
    ],
)
def test_a_damaged_image_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadBitstream, match=reason):
        read(data)


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [
        (304, 0, "says it has 0 bytes"),
        (304, 1 << 63, "bytes, but has"),
        (448, 0, "0 sections"),
        (448, 3, "3 sections"),
        (448, 0xFFFFFFFF, "sections, which"),
        (456 + 24, 1 << 63, "section 0 ends behind its end"),
        (456 + 32, (1 << 64) - 1, "section 0 ends behind its end"),
    ],
)
def test_an_xclbin_whose_numbers_are_wrong_never_reaches_a_driver(offset: int, value: int, reason: str) -> None:
    data = bytearray(xclbin())
    struct.pack_into("<I" if offset == 448 else "<Q", data, offset, value)
    with pytest.raises(BadBitstream, match=reason):
        read(bytes(data))


@given(st.sampled_from((gbs(), legacy(), xclbin())), st.integers(0, 600), st.binary(max_size=8), st.integers(0, 600))
def test_an_image_is_read_or_refused_however_it_is_damaged(image: bytes, place: int, bad: bytes, end: int) -> None:
    data = (image[:place] + bad + image[place + len(bad) :])[:end]
    try:
        header = read(data)
    except BadBitstream:
        return
    assert header.length > 0
    assert header.offset + header.length == len(data)
