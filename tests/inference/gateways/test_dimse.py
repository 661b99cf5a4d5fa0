"""The C-STORE door: what it acknowledges, what it refuses and with which status."""

from __future__ import annotations

import resource
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGLSLossless, RLELossless
from pynetdicom import AE, _config
from pynetdicom.association import Association

from inference.domain.job import Priority
from inference.gateways.dimse import DimseServer, DimseSettings
from inference.gateways.dimse_guard import GuardLimits
from inference.jobs.intake import Intake, IntakeSettings
from inference.storage import jobs, studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.instances import CT_IMAGE, ct_dataset, part10, study_uid

VERIFICATION = "1.2.840.10008.1.1"
LIMITS = GuardLimits(handshake_s=2.0, max_waiting=64, max_waiting_per_ip=16)


@pytest.fixture
def server(intake: Intake) -> Iterator[DimseServer]:
    with DimseServer(intake, DimseSettings(port=0, guard=LIMITS, network_timeout_s=5)) as running:
        yield running


@contextmanager
def associated(
    server: DimseServer,
    *sop_classes: str,
    syntax: str | None = None,
    calling: str = "CT1",
    called: str = "CLINFER",
) -> Iterator[Association]:
    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for sop_class in sop_classes or (CT_IMAGE, VERIFICATION):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate("127.0.0.1", server.port, ae_title=called)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()


def test_a_stored_slice_is_there_when_the_answer_comes(
    server: DimseServer, database: Database, objects: ObjectStore
) -> None:
    dataset = ct_dataset(shape=(512, 512))
    with associated(server) as association:
        assert association.send_c_echo().Status == 0
        assert association.send_c_store(dataset, priority=1).Status == 0
        with database.read() as connection:
            instance = studies.get_instance(connection, dataset.SOPInstanceUID)
            (job,) = jobs.list_jobs(connection)
    assert job.priority is Priority.URGENT
    assert (instance.sender.name, instance.sender.address) == ("CT1", "127.0.0.1")
    stored = objects.path(instance.sha256).read_bytes()
    assert stored[:132] == bytes(128) + b"DICM"
    assert dataset.PixelData in stored
    assert list(objects.tmp.iterdir()) == []


def test_a_small_object_in_one_piece_with_its_command_is_stored_too(
    server: DimseServer, database: Database, objects: ObjectStore
) -> None:
    with associated(server) as association:
        for number in range(1, 6):
            dataset = ct_dataset(slice_number=number, shape=(2, 3))
            assert association.send_c_store(dataset).Status == 0
    with database.read() as connection:
        assert studies.get_study(connection, study_uid(1)).n_instances == 5
    assert list(objects.tmp.iterdir()) == []


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_objects_are_taken_as_they_are(
    server: DimseServer, database: Database, syntax: str
) -> None:
    dataset = ct_dataset(shape=(16, 16))
    dataset.compress(syntax)
    with associated(server, syntax=syntax) as association:
        assert association.send_c_store(dataset).Status == 0
    with database.read() as connection:
        instance = studies.get_instance(connection, dataset.SOPInstanceUID)
    assert instance.transfer_syntax_uid == syntax


def test_explicit_value_representations_are_preferred(server: DimseServer) -> None:
    entity = AE(ae_title="CT1")
    entity.add_requested_context(CT_IMAGE, ["1.2.840.10008.1.2", ExplicitVRLittleEndian])
    association = entity.associate("127.0.0.1", server.port, ae_title="CLINFER")
    (context,) = association.accepted_contexts
    association.release()
    assert context.transfer_syntax == [ExplicitVRLittleEndian]


def test_equal_slices_from_five_associations_at_once_are_one(
    server: DimseServer, database: Database
) -> None:
    dataset = ct_dataset(shape=(64, 64))
    statuses: list[int] = []

    def send() -> None:
        with associated(server) as association:
            statuses.extend(association.send_c_store(dataset).Status for _ in range(2))

    threads = [threading.Thread(target=send) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == 10 * [0]
    with database.read() as connection:
        assert studies.get_study(connection, study_uid(1)).n_instances == 1
        assert len(jobs.list_jobs(connection)) == 1


def refused(server: DimseServer, dataset: Dataset) -> Dataset:
    """The answer to a bad object; a good one on the same association must still pass."""
    with associated(server) as association:
        answer = association.send_c_store(dataset)
        good = ct_dataset(study=77, slice_number=1)
        assert association.send_c_store(good).Status == 0
    assert len(answer.get("ErrorComment", "")) <= 64
    return answer


def test_conflicts_damage_and_identifiers_have_their_own_status(server: DimseServer) -> None:
    with associated(server) as association:
        association.send_c_store(ct_dataset(fill=1))
    assert refused(server, ct_dataset(fill=2)).Status == 0x0111
    assert refused(server, ct_dataset(slice_number=2, NumberOfFrames=7)).Status == 0xC000
    assert refused(server, ct_dataset(slice_number=3, StudyInstanceUID="")).Status == 0xA900


def test_command_and_data_set_must_be_the_same_object(
    server: DimseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's meta information, which becomes the command, says CT; its data set says MR."""
    dataset = ct_dataset()
    data = part10(dataset)
    head, body = data[:300], data[300:]
    path = tmp_path / "object"
    path.write_bytes(
        head + body.replace(CT_IMAGE.encode() + b"\0", CT_IMAGE[:-1].encode() + b"4\0")
    )
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    with associated(server, syntax=ExplicitVRLittleEndian) as association:
        answer = association.send_c_store(path)
    assert answer.Status == 0xA900
    assert "SOPClassUID" in answer.ErrorComment


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI:UserWarning")
@pytest.mark.parametrize("uid", ["../../../../canary", "1.2;touch canary", "1.2`id`"])
def test_a_path_as_uid_is_refused_and_the_association_goes_on(
    server: DimseServer, objects: ObjectStore, tmp_path: Path, uid: str
) -> None:
    answer = refused(server, ct_dataset(SOPInstanceUID=uid))
    assert answer.Status in (0x0117, 0xA900)
    assert not list(tmp_path.rglob("*canary*"))


@pytest.mark.parametrize(
    "sop_class",
    ["1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.66"],
)
def test_classes_with_foreign_content_are_not_even_negotiated(
    server: DimseServer, sop_class: str
) -> None:
    with associated(server, sop_class, VERIFICATION) as association:
        assert [context.abstract_syntax for context in association.rejected_contexts] == [sop_class]


def test_query_services_are_not_offered(server: DimseServer) -> None:
    with associated(server, "1.2.840.10008.5.1.4.1.2.2.1", VERIFICATION) as association:
        assert len(association.rejected_contexts) == 1


def test_a_wrong_called_title_and_an_unknown_caller_are_rejected(intake: Intake) -> None:
    settings = DimseSettings(port=0, calling_ae_titles=("CT1",), guard=LIMITS)
    with DimseServer(intake, settings) as server:
        with associated(server, called="OTHER") as association:
            assert association.is_rejected
        with associated(server, calling="CT2") as association:
            assert association.is_rejected
        with associated(server) as association:
            assert association.is_established


def test_without_space_the_answer_says_so_and_with_space_it_is_taken(
    database: Database, objects: ObjectStore
) -> None:
    intake = Intake(database=database, objects=objects)
    dataset = ct_dataset(shape=(300, 300))
    with (
        DimseServer(intake, DimseSettings(port=0, guard=LIMITS)) as server,
        associated(server) as association,
    ):
        objects.reserve_bytes = 10**18
        assert association.send_c_store(dataset).Status == 0xA700
        objects.reserve_bytes = 0
        assert association.send_c_store(dataset).Status == 0
    assert list(objects.tmp.iterdir()) == []


def test_over_the_size_cap_the_association_ends_and_nothing_stays(
    database: Database, objects: ObjectStore
) -> None:
    intake = Intake(
        database=database, objects=objects, settings=IntakeSettings(max_instance_bytes=200_000)
    )
    with DimseServer(intake, DimseSettings(port=0, guard=LIMITS)) as server:
        with associated(server) as association:
            answer = association.send_c_store(ct_dataset(shape=(600, 600)))
        assert answer.get("Status") != 0
        assert _eventually(lambda: list(objects.tmp.iterdir()) == [])
        with associated(server) as association:
            assert association.send_c_store(ct_dataset()).Status == 0


def test_a_connection_cut_in_the_middle_leaves_nothing(
    server: DimseServer, objects: ObjectStore, database: Database
) -> None:
    with associated(server) as association:
        dataset = part10(ct_dataset(shape=(800, 800)))
        sock = association.dul.socket.socket
        context = association.accepted_contexts[0].context_id
        command = _store_command(ct_dataset())
        sock.sendall(_p_data(context, 0x03, command))
        sock.sendall(_p_data(context, 0x00, dataset[132:100_000]))
        assert _eventually(lambda: len(list(objects.tmp.iterdir())) == 1)
        association.abort()
    assert _eventually(lambda: list(objects.tmp.iterdir()) == [])
    with database.read() as connection:
        assert studies.list_studies(connection) == ()


def _p_data(context: int, header: int, value: bytes) -> bytes:
    item = struct.pack(">LBB", len(value) + 2, context, header) + value
    return struct.pack(">BBL", 4, 0, len(item)) + item


def _store_command(dataset: Dataset) -> bytes:
    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    def uid(text: str) -> bytes:
        return text.encode() + (b"\0" if len(text) % 2 else b"")

    body = (
        element(0x0002, uid(CT_IMAGE))
        + element(0x0100, struct.pack("<H", 1))
        + element(0x0110, struct.pack("<H", 1))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", 1))
        + element(0x1000, uid(str(dataset.SOPInstanceUID)))
    )
    return element(0x0000, struct.pack("<L", len(body))) + body


def _eventually(condition: object, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    "first_bytes",
    [
        b"\x00\0\0\0\0\4abcd",
        b"\xff\0\0\0\0\4abcd",
        b"GET / HTTP/1.1\r\n\r\n",
        bytes.fromhex("160301020001"),
        struct.pack(">BBL", 4, 0, 100) + bytes(100),
        struct.pack(">BBL", 1, 0, 300 * 2**20) + bytes(1000),
    ],
)
def test_what_is_no_association_request_is_aborted_at_once(
    server: DimseServer, first_bytes: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        peer.sendall(first_bytes)
        assert peer.recv(10)[:1] == b"\x07"
        assert peer.recv(10) == b""
    with associated(server) as association:
        assert association.send_c_echo().Status == 0


def test_silent_and_dripping_peers_do_not_keep_others_out(server: DimseServer) -> None:
    """AC-06 at a tenth: 50 silent and 10 dripping connections from the same address."""
    peers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
    stop = threading.Event()
    request = struct.pack(">BBL", 1, 0, 200) + bytes(200)

    def drip() -> None:
        position = 0
        while not stop.wait(0.05) and position < len(request):
            for peer in peers[:10]:
                try:
                    peer.send(request[position : position + 1])
                except OSError:
                    continue
            position += 1

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        waits = []
        for _ in range(10):
            started = time.monotonic()
            with associated(server) as association:
                assert association.send_c_echo().Status == 0
            waits.append(time.monotonic() - started)
        assert max(waits) < 2.0
        assert _eventually(lambda: all(_is_closed(peer) for peer in peers[10:]), 6.0)
    finally:
        stop.set()
        thread.join()
        for peer in peers:
            peer.close()


def _is_closed(peer: socket.socket) -> bool:
    peer.settimeout(0.001)
    try:
        return peer.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_too_many_associations_of_one_address_are_told_to_come_later(intake: Intake) -> None:
    settings = DimseSettings(port=0, guard=LIMITS, max_associations_per_ip=2)
    with (
        DimseServer(intake, settings) as server,
        associated(server) as one,
        associated(server) as two,
    ):
        assert one.is_established
        assert two.is_established
        with associated(server) as third:
            assert third.is_rejected
            assert third.acceptor.primitive.result == 2  # transient
            assert third.acceptor.primitive.reason_str == "Local limit exceeded"
        assert one.send_c_echo().Status == 0


def test_a_large_object_does_not_pass_through_memory(server: DimseServer, tmp_path: Path) -> None:
    """AC-08 at a quarter: 64 MiB, counted on this process, which holds the sender's buffers too."""
    if not Path("/proc/self/status").exists():
        pytest.skip("resident memory is read from /proc")
    dataset = ct_dataset(shape=(4096, 8192))
    path = tmp_path / "large"
    path.write_bytes(part10(dataset))
    del dataset
    process = psutil.Process()
    peak, stop = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            peak.append(process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        with associated(server, syntax=ExplicitVRLittleEndian) as association:
            assert association.send_c_store(path).Status == 0
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = False
        stop.set()
        thread.join()
    assert max(peak) - peak[0] < 48 * 2**20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


def test_an_idle_association_is_closed(intake: Intake) -> None:
    settings = DimseSettings(port=0, guard=LIMITS, network_timeout_s=1)
    with DimseServer(intake, settings) as server, associated(server) as association:
        assert _eventually(lambda: not association.is_established, 6.0)
